//! A text of a policy with its wildcards and variables: compiled once, filled in for each request.
//!
//! Invariants: a variable's value stands for itself, so a `*` in a tag is a star and no wildcard; a variable without a
//! value makes the text match nothing, and never becomes an empty string: `b/${aws:PrincipalTag/team}/*` must not turn
//! into `b//*` for somebody without a team. An empty value counts as none, and one of several values as none, too.
//!
//! Source: IAM User Guide, "IAM policy elements: Variables and tags".

use crate::pattern::{self, Token};
use crate::request::Known;

/// What may stand in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grammar {
    /// `*` and `?` are wildcards.
    pub wildcards: bool,
    /// `${…}` is read: from version 2012-10-17 on.
    pub variables: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Token(Token),
    /// A context key in lower case, and what stands for it where the request has none.
    Variable {
        key: String,
        default: Option<String>,
    },
}

/// A compiled text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Template {
    Fixed(Box<[Token]>),
    Filled(Box<[Piece]>),
}

impl Template {
    /// The error says what is wrong and the way out, for the text's place.
    pub(crate) fn parse(text: &str, grammar: Grammar) -> Result<Self, String> {
        Ok(Self::of(pieces(text, grammar)?))
    }

    pub(crate) fn of(pieces: Vec<Piece>) -> Self {
        let tokens: Option<Box<[Token]>> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Token(token) => Some(*token),
                Piece::Variable { .. } => None,
            })
            .collect();
        tokens.map_or_else(|| Self::Filled(pieces.into()), Self::Fixed)
    }

    /// Whether every variable has a value.
    pub(crate) fn resolves(&self, known: &Known<'_>) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Filled(pieces) => pieces.iter().all(|piece| match piece {
                Piece::Token(_) => true,
                Piece::Variable { key, default } => filling(key, default.as_deref(), known).is_some(),
            }),
        }
    }

    /// Whether the whole of `value` matches; never, where a variable has no value.
    pub(crate) fn matches(&self, value: &str, known: &Known<'_>) -> bool {
        match self {
            Self::Fixed(tokens) => pattern::matches(tokens, value, &known.steps_left),
            Self::Filled(pieces) => {
                filled(pieces, value.len(), known).is_some_and(|tokens| pattern::matches(&tokens, value, &known.steps_left))
            }
        }
    }

    /// Whether it equals `value` but for the case of letters. For texts without wildcards.
    pub(crate) fn equals_ignoring_case(&self, value: &str, known: &Known<'_>) -> bool {
        known.spend(value.len());
        let tokens = match self {
            Self::Fixed(tokens) => tokens.iter().copied().map(Piece::Token).collect::<Vec<_>>(),
            Self::Filled(pieces) => pieces.to_vec(),
        };
        // Lower case may be longer than what it stands for, at most threefold.
        filled(&tokens, 3 * value.len(), known).is_some_and(|tokens| {
            let text: String =
                tokens.iter().filter_map(|token| if let Token::Char(one) = token { Some(*one) } else { None }).collect();
            text.to_lowercase() == value.to_lowercase()
        })
    }

    /// The text itself where nothing needs to be filled in or matched.
    pub(crate) fn literal(&self) -> Option<String> {
        let Self::Fixed(tokens) = self else { return None };
        tokens.iter().map(|token| if let Token::Char(one) = token { Some(*one) } else { None }).collect()
    }
}

/// The tokens with values in place of variables; none without a value, or where there would be more characters than
/// `bytes`: no value of that length could match, and what is built stays in proportion to what is compared.
fn filled(pieces: &[Piece], bytes: usize, known: &Known<'_>) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut left = bytes;
    for piece in pieces {
        match piece {
            Piece::Token(Token::Any) => tokens.push(Token::Any),
            Piece::Token(token) => {
                left = left.checked_sub(1)?;
                tokens.push(*token);
            }
            Piece::Variable { key, default } => {
                for character in filling(key, default.as_deref(), known)?.chars() {
                    left = left.checked_sub(1)?;
                    tokens.push(Token::Char(character));
                }
            }
        }
    }
    known.spend(tokens.len());
    Some(tokens)
}

fn filling<'a>(key: &str, default: Option<&'a str>, known: &Known<'a>) -> Option<&'a str> {
    match known.get(key) {
        [value] if !value.is_empty() => Some(value),
        [] => default,
        [value] if value.is_empty() => default,
        // Which of several is meant, nobody knows.
        _ => None,
    }
}

/// The text in pieces.
pub(crate) fn pieces(text: &str, grammar: Grammar) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix("${") {
            if !grammar.variables {
                return Err(
                    "has a variable, which this version of the language does not read: write \"Version\": \"2012-10-17\"".into(),
                );
            }
            let (piece, end) = variable(behind)?;
            pieces.push(piece);
            rest = end;
        } else {
            pieces.push(Piece::Token(if grammar.wildcards { Token::of(character) } else { Token::Char(character) }));
            rest = rest.get(character.len_utf8()..).unwrap_or_default();
        }
    }
    Ok(pieces)
}

/// A variable from behind its `${`, and what follows its `}`.
fn variable(text: &str) -> Result<(Piece, &str), String> {
    for escaped in ['*', '?', '$'] {
        if let Some(behind) = text.strip_prefix(escaped).and_then(|rest| rest.strip_prefix('}')) {
            return Ok((Piece::Token(Token::Char(escaped)), behind));
        }
    }
    let unclosed = || "has a `${` that no `}` ends: close it, or write `${$}` for a dollar sign".to_owned();
    let end = text.find(['}', ',']).ok_or_else(unclosed)?;
    let (key, behind) = text.split_at(end);
    let key = key.trim();
    if !is_key(key) {
        let shown: String = key.chars().take(64).collect();
        return Err(format!("has a variable `{shown}`, which is no condition key: write one such as `${{aws:username}}`"));
    }
    let key = key.to_lowercase();
    if let Some(behind) = behind.strip_prefix('}') {
        return Ok((Piece::Variable { key, default: None }, behind));
    }
    let quoted = || "has a variable whose default is not in single quotes: write `${aws:PrincipalTag/team, 'none'}`".to_owned();
    let default = behind.strip_prefix(',').unwrap_or(behind).trim_start().strip_prefix('\'').ok_or_else(quoted)?;
    let (default, behind) = default.split_once('\'').ok_or_else(quoted)?;
    let behind = behind.trim_start().strip_prefix('}').ok_or_else(quoted)?;
    if default.is_empty() {
        return Err("has a variable whose default is empty: name a value that nothing else has".into());
    }
    Ok((Piece::Variable { key, default: Some(default.to_owned()) }, behind))
}

/// `vendor:Name` or `vendor:Name/tag key`.
pub(crate) fn is_key(text: &str) -> bool {
    let Some((vendor, name)) = text.split_once(':') else { return false };
    let (name, tag) = name.split_once('/').map_or((name, None), |(name, tag)| (name, Some(tag)));
    let is_word =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    // An identity provider's keys have its address before them: `id.example.com/realms/x:sub`.
    vendor.split('/').all(is_word)
        && is_word(name)
        && tag.is_none_or(|tag| !tag.is_empty() && !tag.contains(['{', '}', '$', '*', '?']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Context;

    const PATTERN: Grammar = Grammar { wildcards: true, variables: true };
    const TEXT: Grammar = Grammar { wildcards: false, variables: true };

    fn context() -> Context {
        let mut context = Context::default();
        context.set("aws:username", ["alice"]);
        context.set("aws:PrincipalTag/Star", ["*"]);
        context.set("aws:PrincipalTag/Empty", [""]);
        context.set("aws:TagKeys", ["a", "b"]);
        context
    }

    fn matches(text: &str, value: &str) -> bool {
        Template::parse(text, PATTERN).unwrap().matches(value, &Known::new(&context()))
    }

    #[test]
    fn a_variable_without_a_single_value_matches_nothing_and_is_never_empty() {
        for text in
            ["b/${aws:userid}/x", "b/${aws:PrincipalTag/Empty}/x", "b/${aws:TagKeys}/x", "b${aws:userid}/x", "${aws:userid}*"]
        {
            assert!(!Template::parse(text, PATTERN).unwrap().resolves(&Known::new(&context())), "{text}");
            for value in ["b//x", "b/x", "", "b/a/x", text] {
                assert!(!matches(text, value), "{text} on {value}");
            }
        }
    }

    #[test]
    fn a_value_stands_for_itself() {
        assert!(matches("b/${aws:PrincipalTag/Star}/x", "b/*/x"));
        assert!(!matches("b/${aws:PrincipalTag/Star}/x", "b/other/x"));
        assert!(matches("b/${AWS:UserName}/*", "b/alice/file"));
    }

    #[test]
    fn escapes_are_the_characters_themselves() {
        assert!(matches("a${*}b${?}c${$}d", "a*b?c$d"));
        assert!(!matches("a${*}b", "axb"));
        assert!(matches("${$}{aws:username}", "${aws:username}"));
        assert!(matches("costs $5", "costs $5"));
    }

    #[test]
    fn a_default_stands_in_for_what_is_not_there() {
        assert!(matches("${aws:PrincipalTag/team, 'company-wide'}/*", "company-wide/x"));
        assert!(matches("${aws:username,'nobody'}", "alice"));
        assert!(!matches("${aws:username, 'nobody'}", "nobody"));
        assert!(!matches("${aws:TagKeys, 'none'}", "none"), "of several values none is meant, and no default stands in");
    }

    #[test]
    fn what_is_no_variable_is_refused_with_the_way_out() {
        for (text, wanted) in [
            ("${aws:username", "no `}` ends"),
            ("${username}", "no condition key"),
            ("${}", "no condition key"),
            ("${aws:username, nobody}", "single quotes"),
            ("${aws:username, 'nobody}", "single quotes"),
            ("${aws:username, ''}", "default is empty"),
            ("${aws:${aws:username}}", "no condition key"),
        ] {
            let error = Template::parse(text, PATTERN).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let old = Grammar { wildcards: true, variables: false };
        assert!(Template::parse("${aws:username}", old).unwrap_err().contains("2012-10-17"));
    }

    #[test]
    fn wildcards_are_letters_where_none_are_read() {
        let template = Template::parse("a*", TEXT).unwrap();
        assert!(template.matches("a*", &Known::new(&context())) && !template.matches("ab", &Known::new(&context())));
        assert_eq!(template.literal().as_deref(), Some("a*"));
    }

    #[test]
    fn case_is_ignored_in_text_and_values() {
        let template = Template::parse("Straße-${aws:username}", TEXT).unwrap();
        assert!(template.equals_ignoring_case("STRAßE-ALICE", &Known::new(&context())));
        assert!(!template.equals_ignoring_case("STRASSE-ALICE", &Known::new(&context())));
    }
}
