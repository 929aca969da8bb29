//! ARNs as policies write them: six parts, each a glob with variables, compared part by part.
//!
//! Case-sensitive; `/` is a character like any other, and the last part may hold colons. One deliberate difference: a
//! wildcard of one part never reaches into another. In IAM, `arn:aws:s3:*:111122223333:x` may also match an ARN of
//! another account whose name holds `:111122223333:x`; here a name that somebody else chose must not stand for an
//! account. Patterns whose meaning would change by that (fewer than six parts, unless the last is `*` alone) are refused.
//!
//! Source: IAM User Guide, "IAM JSON policy elements: Resource", "Amazon Resource Name (ARN) condition operators".

use crate::pattern::Token;
use crate::request::Known;
use crate::template::{Grammar, Piece, Template, pieces};

/// Parts of an ARN: `arn`, partition, service, region, account, resource.
const PARTS: usize = 6;

/// A compiled ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArnPattern {
    /// `*`: anything, and the resource of operations that know none.
    Any,
    /// The first parts of an ARN. Whatever is not there may be anything: `arn:aws:cloudtrail:*`.
    Parts(Vec<Template>),
}

impl ArnPattern {
    /// The error says what is wrong and the way out.
    pub(crate) fn parse(text: &str, variables: bool) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if !text.starts_with("arn:") {
            return Err(
                "is neither an ARN nor `*`: write one that begins with `arn:`, such as `arn:aws:cloudtrail:*:*:trail/*`".into()
            );
        }
        let mut parts: Vec<Vec<Piece>> = vec![Vec::new()];
        for piece in pieces(text, Grammar { wildcards: true, variables })? {
            // Only a colon that the policy itself writes divides: a variable's value never does.
            if piece == Piece::Token(Token::Char(':')) && parts.len() < PARTS {
                parts.push(Vec::new());
            } else if let Some(part) = parts.last_mut() {
                part.push(piece);
            }
        }
        if parts.len() == PARTS {
            if parts.last().is_none_or(Vec::is_empty) {
                return Err("ends behind its account: name the resource, or write `*` for it".into());
            }
        } else if parts.pop().is_none_or(|last| last != [Piece::Token(Token::Any)]) {
            return Err("has fewer than an ARN's six parts: write all of `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`, each may be `*`".into());
        }
        Ok(Self::Parts(parts.into_iter().map(Template::of).collect()))
    }

    /// Whether every variable has a value.
    pub(crate) fn resolves(&self, known: &Known<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Parts(parts) => parts.iter().all(|part| part.resolves(known)),
        }
    }

    pub(crate) fn matches(&self, arn: &str, known: &Known<'_>) -> bool {
        let Self::Parts(parts) = self else { return true };
        let given: Vec<&str> = arn.splitn(PARTS, ':').collect();
        given.len() == PARTS && parts.iter().zip(given).all(|(part, given)| part.matches(given, known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Context;

    const TRAIL: &str = "arn:aws:cloudtrail:dc-tokyo-1:111122223333:trail/main";

    fn matches(pattern: &str, arn: &str) -> bool {
        let mut context = Context::default();
        context.set("aws:username", ["x:y"]);
        ArnPattern::parse(pattern, true).unwrap().matches(arn, &Known::new(&context))
    }

    #[test]
    fn parts_are_compared_one_by_one() {
        for (pattern, wanted) in [
            ("*", true),
            (TRAIL, true),
            ("arn:*", true),
            ("arn:aws:*", true),
            ("arn:aws:cloudtrail:*", true),
            ("arn:aws:cloudtrail:*:111122223333:trail/*", true),
            ("arn:*:*:*:*:*", true),
            ("arn:aws:cloudtrail:*:*:trail/mai?", true),
            ("arn:aws:cloudtrail:*:*:trail/Main", false),
            ("arn:aws:s3:*", false),
            ("arn:aws:cloudtrail:dc-tokyo-1:444455556666:*", false),
        ] {
            assert_eq!(matches(pattern, TRAIL), wanted, "{pattern}");
        }
        assert!(!matches("arn:*", "*"), "an operation without a resource is named by `*` alone");
        assert!(!matches("arn:aws:*", "arn:aws:s3"));
    }

    #[test]
    fn a_name_with_colons_cannot_stand_for_an_account() {
        let theirs = "arn:aws:logs:r:444455556666:x:111122223333:trail/main";
        assert!(!matches("arn:aws:logs:*:111122223333:trail/main", theirs));
        assert!(matches("arn:aws:logs:*:444455556666:x:*", theirs));
        assert!(!matches("arn:aws:s3:::${aws:username}:z", "arn:aws:s3::x:y:z"), "a value's colon divides nothing");
        assert!(matches("arn:aws:s3:::${aws:username}:z", "arn:aws:s3:::x:y:z"));
    }

    #[test]
    fn what_could_match_otherwise_than_it_reads_is_refused() {
        for text in [
            "",
            "trail/main",
            "arn:aws:cloudtrail",
            "arn:aws:cloudtrail:dc-*",
            "arn:aws:s3:*:bucket*",
            "arn:aws:cloudtrail:r:1:",
            "s3:*",
            "**",
        ] {
            assert!(ArnPattern::parse(text, true).is_err(), "{text}");
        }
    }
}
