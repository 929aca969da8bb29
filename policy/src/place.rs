//! A place in a document, its JSON with every member kept, and the ways to take it apart.
//!
//! Promise: nothing is dropped on the way. A member that is there twice, or that nobody asked for, is an error with its
//! place. JSON parsers commonly keep the last of two equal keys, so a reader and the evaluator would see two policies.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::{DEPTH_MAX, PolicyError};

/// JSON as it was written: members in order, equal keys kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    /// A number, in decimal digits.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// Where a node lies: `Statement[2].Condition`. Empty for the document itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place(String);

impl Place {
    pub(crate) fn member(&self, name: &str) -> Self {
        let shown: String = name.chars().take(128).collect::<String>().escape_debug().collect();
        Self(if self.0.is_empty() { shown } else { format!("{}.{shown}", self.0) })
    }

    pub(crate) fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub(crate) fn error(&self, problem: impl Into<String>) -> PolicyError {
        let place = if self.0.is_empty() { "the policy".to_owned() } else { self.0.clone() };
        PolicyError::At { place, problem: problem.into() }
    }
}

impl Node {
    /// The text's one JSON value.
    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let node = Inside { depth: 0 }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(node)
    }

    /// Members, each name once.
    pub(crate) fn object(self, place: &Place) -> Result<Vec<(String, Self)>, PolicyError> {
        let Self::Object(members) = self else {
            return Err(place.error(format!("is {}, but an object is wanted: {{…}}", self.kind())));
        };
        for (at, (name, _)) in members.iter().enumerate() {
            if members.iter().take(at).any(|(former, _)| former == name) {
                return Err(place.member(name).error("stands here twice, and only one would count: merge the two"));
            }
        }
        Ok(members)
    }

    /// Text. Numbers and truth values are not text here: an identifier without quotes is a slip.
    pub(crate) fn text(self, place: &Place) -> Result<String, PolicyError> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(place.error(format!("is {}, but text is wanted: \"…\"", other.kind()))),
        }
    }

    /// A value of a condition: text, or a number or truth value that stands without quotes.
    pub(crate) fn scalar(self, place: &Place) -> Result<String, PolicyError> {
        match self {
            Self::Text(text) | Self::Number(text) => Ok(text),
            Self::Bool(value) => Ok(value.to_string()),
            other => Err(place.error(format!("is {}, but a single value is wanted: \"…\"", other.kind()))),
        }
    }

    /// One or several, with the place of each; none is an error.
    pub(crate) fn one_or_list(self, place: &Place) -> Result<Vec<(Place, Self)>, PolicyError> {
        match self {
            Self::List(nodes) if nodes.is_empty() => {
                Err(place.error("is an empty list and would match nothing: name a value, or leave the member out"))
            }
            Self::List(nodes) => Ok(nodes.into_iter().enumerate().map(|(index, node)| (place.item(index), node)).collect()),
            one => Ok(vec![(place.clone(), one)]),
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

/// The nearest of the known names as a hint, or all of them where none is near.
pub(crate) fn nearest(name: &str, known: &[&str]) -> String {
    let name: String = name.chars().take(64).collect();
    let best = known.iter().map(|other| (edits(&name, other), *other)).min();
    match best {
        Some((edits, other)) if edits <= 1 + other.len() / 4 => format!("did you mean `{other}`?"),
        _ => format!("there are {}", known.join(", ")),
    }
}

/// Levenshtein's distance, letters' case aside.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, from) in one.to_lowercase().chars().enumerate() {
        let mut next = vec![at + 1];
        let steps = row.iter().zip(row.iter().skip(1)).zip(&other);
        for ((diagonal, above), to) in steps {
            let left = next.last().copied().unwrap_or_default();
            next.push((diagonal + usize::from(from != *to)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// Reads a node that lies `depth` deep.
#[derive(Clone, Copy)]
struct Inside {
    depth: usize,
}

impl Inside {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!("nested more than {DEPTH_MAX} deep, which no policy needs")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Inside {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Node, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inside {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a policy in JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let inside = self.deeper()?;
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element_seed(inside)? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let inside = self.deeper()?;
        let mut members = Vec::new();
        while let Some(name) = entries.next_key::<String>()? {
            members.push((name, entries.next_value_seed(inside)?));
        }
        Ok(Node::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_answered_with_the_nearest_name() {
        assert_eq!(nearest("StringLke", &["StringEquals", "StringLike"]), "did you mean `StringLike`?");
        assert_eq!(nearest("effect", &["Effect", "Action"]), "did you mean `Effect`?");
        assert_eq!(nearest("Zzzzzzzz", &["Effect", "Action"]), "there are Effect, Action");
    }

    #[test]
    fn the_distance_is_that_of_levenshtein() {
        for (one, other, wanted) in [("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("same", "SAME", 0)] {
            assert_eq!(edits(one, other), wanted, "{one} {other}");
        }
    }

    #[test]
    fn what_nests_too_deep_is_refused_where_it_begins() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Node::parse(&nested(DEPTH_MAX)).is_ok());
        let error = Node::parse(&nested(DEPTH_MAX + 1)).unwrap_err();
        assert!(error.to_string().contains("more than 8 deep"), "{error}");
        assert!(Node::parse(&nested(100_000)).is_err());
    }

    #[test]
    fn a_number_keeps_its_digits() {
        for (json, digits) in [("18446744073709551615", "18446744073709551615"), ("-3", "-3"), ("1e3", "1000"), ("0.5", "0.5")] {
            assert_eq!(Node::parse(json).unwrap(), Node::Number(digits.to_owned()));
        }
    }
}
