//! The names of condition operators, taken apart: `ForAnyValue:StringNotLikeIfExists`.
//!
//! Source: IAM User Guide, "IAM JSON policy elements: Condition operators" and "Set operators for multivalued keys".

use crate::place::nearest;

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operator {
    pub set: Set,
    pub test: Test,
    /// Holds where the positive test does not: NOR over a policy's values, and true without the key.
    pub negated: bool,
    /// Holds without the key.
    pub if_exists: bool,
}

/// Over which of a key's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// For keys with one value. Of several, a positive test needs one that matches, a negated one that none does.
    Single,
    /// Every value of the request; true for none.
    ForAll,
    /// One value of the request; false for none.
    ForAny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    StringEquals,
    StringEqualsIgnoreCase,
    StringLike,
    Number(Comparison),
    Date(Comparison),
    Bool,
    IpAddress,
    /// `ArnEquals` and `ArnLike` are the same: six parts, each a glob.
    Arn,
    Null,
}

/// How the request's value must lie to the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const NAMES: [(&str, Test, bool); 26] = [
    ("StringEquals", Test::StringEquals, false),
    ("StringNotEquals", Test::StringEquals, true),
    ("StringEqualsIgnoreCase", Test::StringEqualsIgnoreCase, false),
    ("StringNotEqualsIgnoreCase", Test::StringEqualsIgnoreCase, true),
    ("StringLike", Test::StringLike, false),
    ("StringNotLike", Test::StringLike, true),
    ("NumericEquals", Test::Number(Comparison::Equal), false),
    ("NumericNotEquals", Test::Number(Comparison::Equal), true),
    ("NumericLessThan", Test::Number(Comparison::Less), false),
    ("NumericLessThanEquals", Test::Number(Comparison::LessOrEqual), false),
    ("NumericGreaterThan", Test::Number(Comparison::Greater), false),
    ("NumericGreaterThanEquals", Test::Number(Comparison::GreaterOrEqual), false),
    ("DateEquals", Test::Date(Comparison::Equal), false),
    ("DateNotEquals", Test::Date(Comparison::Equal), true),
    ("DateLessThan", Test::Date(Comparison::Less), false),
    ("DateLessThanEquals", Test::Date(Comparison::LessOrEqual), false),
    ("DateGreaterThan", Test::Date(Comparison::Greater), false),
    ("DateGreaterThanEquals", Test::Date(Comparison::GreaterOrEqual), false),
    ("Bool", Test::Bool, false),
    ("IpAddress", Test::IpAddress, false),
    ("NotIpAddress", Test::IpAddress, true),
    ("ArnEquals", Test::Arn, false),
    ("ArnNotEquals", Test::Arn, true),
    ("ArnLike", Test::Arn, false),
    ("ArnNotLike", Test::Arn, true),
    ("Null", Test::Null, false),
];

impl Operator {
    /// The error says what is wrong and the way out.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let (set, rest) = match name.split_once(':') {
            None => (Set::Single, name),
            Some(("ForAllValues", rest)) => (Set::ForAll, rest),
            Some(("ForAnyValue", rest)) => (Set::ForAny, rest),
            Some((other, _)) => {
                return Err(format!("no such set operator; {}", nearest(other, &["ForAllValues", "ForAnyValue"])));
            }
        };
        let (rest, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |rest| (rest, true));
        let Some((_, test, negated)) = NAMES.iter().find(|(known, ..)| *known == rest) else {
            // A hint that turned the meaning round would be worse than none.
            let is_negated = |name: &str| name.contains("Not");
            let known: Vec<&str> =
                NAMES.iter().map(|(known, ..)| *known).filter(|known| is_negated(known) == is_negated(rest)).collect();
            return Err(format!("no such operator; {}", nearest(rest, &known)));
        };
        if *test == Test::Null && (if_exists || set != Set::Single) {
            return Err(
                "`Null` asks itself whether the key is there: write it without a set operator and without `IfExists`".into()
            );
        }
        Ok(Self { set, test: *test, negated: *negated, if_exists })
    }
}

impl Comparison {
    pub(crate) fn holds<T: Ord>(self, request: &T, policy: &T) -> bool {
        match self {
            Self::Equal => request == policy,
            Self::Less => request < policy,
            Self::LessOrEqual => request <= policy,
            Self::Greater => request > policy,
            Self::GreaterOrEqual => request >= policy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart_whole() {
        let wanted = Operator { set: Set::ForAny, test: Test::StringLike, negated: true, if_exists: true };
        assert_eq!(Operator::parse("ForAnyValue:StringNotLikeIfExists"), Ok(wanted));
        for (name, ..) in NAMES {
            let operator = Operator::parse(name).unwrap();
            assert_eq!((operator.set, operator.if_exists), (Set::Single, false), "{name}");
        }
    }

    #[test]
    fn what_is_near_an_operator_is_none() {
        for (name, wanted) in [
            ("StringLke", "did you mean `StringLike`?"),
            ("stringequals", "did you mean `StringEquals`?"),
            ("NotStringEquals", "there are StringNotEquals"),
            ("ForAllValue:StringLike", "did you mean `ForAllValues`?"),
            ("IfExists", "there are"),
            ("StringLikeIfExistsIfExists", "no such operator"),
            ("NullIfExists", "`Null` asks itself"),
            ("ForAnyValue:Null", "`Null` asks itself"),
            ("BinaryEquals", "no such operator"),
            ("", "no such operator"),
        ] {
            let error = Operator::parse(name).unwrap_err();
            assert!(error.contains(wanted), "{name}: {error}");
        }
    }
}
