//! Which operation a method and path are: a tree by segments, walked without allocating for one.
//!
//! Concrete segments go before templated ones, as OpenAPI says; among templated ones, those with text around their
//! parameter (`{id}:activate`, `report.{format}`) go before those without. A tree's node is visited at most once for a
//! path, so a request costs no more than the document is large, and usually its own number of segments.

use std::borrow::Cow;
use std::collections::HashMap;

use super::DocumentError;
use crate::sources::lines::template::pascal;
use crate::sources::percent;

/// The operations of one document.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    nodes: Vec<Node>,
    operations: Vec<Operation>,
}

/// What a document calls a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// eventName: the operationId in PascalCase, else made of method and path.
    pub name: String,
    pub id: Option<String>,
    /// The path as the document writes it.
    pub path: String,
    /// Names of the path's parameters, in their order.
    parameters: Vec<String>,
}

/// An operation with the values of its path's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched<'a> {
    pub operation: &'a Operation,
    /// Names and values, decoded.
    pub parameters: Vec<(&'a str, String)>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, usize>,
    patterns: Vec<(Pattern, usize)>,
    any: Option<usize>,
    /// By method, in capitals.
    methods: Vec<(Box<str>, usize)>,
}

/// A segment with text around its parameters: text, parameter, text, parameter, text …, any of the texts may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern(Vec<Box<str>>);

/// A segment of a template.
enum Segment {
    Literal(String),
    Pattern(Pattern),
    Any,
}

/// Operations of one document, each counted once for every base path.
pub(super) const OPERATIONS_MAX: usize = 50_000;

/// Segments of a path: a longer one is no operation's.
const SEGMENTS_MAX: usize = 64;

/// Nodes of the tree.
const NODES_MAX: usize = 200_000;

/// Longest eventName, characters.
const NAME_CHARS_MAX: usize = 128;

impl Routes {
    /// How many operations it knows.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Adds an operation. One that is there under the same method and path stays: the document says which first.
    pub(super) fn add(&mut self, method: &'static str, base: &str, path: &str, id: Option<&str>) -> Result<(), DocumentError> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let whole = format!("{base}{path}");
        let segments: Vec<&str> = whole.trim_start_matches('/').split('/').collect();
        if segments.len() > SEGMENTS_MAX {
            return Ok(());
        }
        if self.operations.len() >= OPERATIONS_MAX || self.nodes.len() + segments.len() > NODES_MAX {
            return Err(DocumentError::TooMany);
        }
        let mut parameters = Vec::new();
        let mut at = self.root();
        for segment in segments {
            at = self.step(at, read_segment(segment, &mut parameters));
        }
        let operation = self.operations.len();
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        if node.methods.iter().all(|(known, _)| known.as_ref() != method) {
            node.methods.push((method.into(), operation));
            let name = id.map(pascal).filter(|name| !name.is_empty()).unwrap_or_else(|| name_of(method, path));
            let name = name.chars().take(NAME_CHARS_MAX).collect();
            self.operations.push(Operation { name, id: id.map(str::to_owned), path: path.to_owned(), parameters });
        }
        Ok(())
    }

    /// The operation of a request; `path` without its query. HEAD is GET's where it has none of its own.
    pub fn find<'a>(&'a self, method: &str, path: &str) -> Option<Matched<'a>> {
        let inside = path.strip_prefix('/')?;
        if inside.split('/').count() > SEGMENTS_MAX {
            return None;
        }
        let mut values = Vec::with_capacity(8);
        let found = self.descend(0, Some(inside), method, &mut values).or_else(|| {
            values.clear();
            if method == "HEAD" { self.descend(0, Some(inside), "GET", &mut values) } else { None }
        });
        let operation = self.operations.get(found?)?;
        let named = operation.parameters.iter().zip(values);
        let parameters = named.map(|(name, value)| (name.as_str(), percent::decoded(value).into_owned())).collect();
        Some(Matched { operation, parameters })
    }

    fn root(&mut self) -> usize {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        0
    }

    /// The node behind a segment, made where it is not there.
    fn step(&mut self, at: usize, segment: Segment) -> usize {
        let next = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        let found = match segment {
            Segment::Literal(text) => *node.literals.entry(text.into_boxed_str()).or_insert(next),
            Segment::Any => *node.any.get_or_insert(next),
            Segment::Pattern(pattern) => match node.patterns.iter().find(|(known, _)| *known == pattern) {
                Some((_, found)) => *found,
                None => {
                    node.patterns.push((pattern, next));
                    // More text around a parameter is more concrete.
                    node.patterns.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.text_bytes()));
                    next
                }
            },
        };
        if found == next {
            self.nodes.push(Node::default());
        }
        found
    }

    /// At most [`SEGMENTS_MAX`] deep.
    fn descend<'p>(&self, at: usize, rest: Option<&'p str>, method: &str, values: &mut Vec<&'p str>) -> Option<usize> {
        let node = self.nodes.get(at)?;
        let Some(rest) = rest else {
            return node.methods.iter().find(|(known, _)| known.as_ref() == method).map(|(_, operation)| *operation);
        };
        let (segment, behind) = rest.split_once('/').map_or((rest, None), |(segment, behind)| (segment, Some(behind)));
        let plain: Cow<'_, str> = percent::decoded(segment);
        if let Some(next) = node.literals.get(plain.as_ref())
            && let Some(found) = self.descend(*next, behind, method, values)
        {
            return Some(found);
        }
        let before = values.len();
        for (pattern, next) in &node.patterns {
            if pattern.matches(segment, values)
                && let Some(found) = self.descend(*next, behind, method, values)
            {
                return Some(found);
            }
            values.truncate(before);
        }
        let next = node.any.filter(|_| !segment.is_empty())?;
        values.push(segment);
        let found = self.descend(next, behind, method, values);
        if found.is_none() {
            values.truncate(before);
        }
        found
    }
}

impl Pattern {
    fn text_bytes(&self) -> usize {
        self.0.iter().map(|text| text.len()).sum()
    }

    /// Takes each parameter as short as the text behind it lets it be, the last one whole.
    fn matches<'p>(&self, segment: &'p str, values: &mut Vec<&'p str>) -> bool {
        let Some((first, texts)) = self.0.split_first() else { return false };
        let Some(mut rest) = segment.strip_prefix(first.as_ref()) else { return false };
        let last = texts.len().saturating_sub(1);
        for (index, text) in texts.iter().enumerate() {
            let end = if index == last { rest.strip_suffix(text.as_ref()).map(str::len) } else { later(rest, text) };
            let Some((value, behind)) = end.filter(|end| *end > 0).and_then(|end| rest.split_at_checked(end)) else {
                return false;
            };
            values.push(value);
            rest = behind.strip_prefix(text.as_ref()).unwrap_or_default();
        }
        true
    }
}

/// Where `text` begins behind at least one character.
fn later(rest: &str, text: &str) -> Option<usize> {
    let first = rest.chars().next()?.len_utf8();
    rest.get(first..)?.find(text).map(|at| at + first)
}

/// A template's segment; its parameters' names are added.
fn read_segment(text: &str, parameters: &mut Vec<String>) -> Segment {
    let mut texts = Vec::new();
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, (name, behind))) =
        rest.split_once('{').and_then(|(before, after)| Some((before, after.split_once('}')?)))
    {
        plain.push_str(before);
        texts.push(std::mem::take(&mut plain).into_boxed_str());
        parameters.push(name.to_owned());
        rest = behind;
    }
    plain.push_str(rest);
    if texts.is_empty() {
        return Segment::Literal(percent::decoded(&plain).into_owned());
    }
    texts.push(plain.into_boxed_str());
    if texts.len() == 2 && texts.iter().all(|text| text.is_empty()) { Segment::Any } else { Segment::Pattern(Pattern(texts)) }
}

/// `GetOrdersItems` of `GET /orders/{id}/items`: as a route of an access log without a name.
fn name_of(method: &str, path: &str) -> String {
    let mut name = pascal(&method.to_lowercase());
    for segment in path.split('/').filter(|segment| !segment.contains('{')) {
        name.push_str(&pascal(segment));
    }
    name
}
