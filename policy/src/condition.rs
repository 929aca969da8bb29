//! One condition: an operator, a key, the policy's values; and whether it holds for a request.
//!
//! Several operators and keys must all hold. A policy's values are alternatives; for a negated operator, none may match.
//! Without the key a positive test fails and a negated one holds, unless `IfExists`, `Null` or a set operator says
//! otherwise. `IfExists` does not change `ForAnyValue`: the set operator is evaluated first, and none of no values is
//! there. A request's value that can't be read as what the operator compares equals nothing.
//!
//! A variable without a value is no alternative; where a condition would hold by not matching (negated, `ForAllValues`),
//! it does not hold at all.
//!
//! Source: IAM User Guide, "Condition operators", "Conditions with multiple context keys or values".

use std::net::IpAddr;

use jiff::Timestamp;

use crate::PolicyError;
use crate::network::Network;
use crate::operator::{Comparison, Operator, Set, Test};
use crate::place::{Node, Place};
use crate::request::Known;
use crate::resource::ArnPattern;
use crate::template::{Grammar, Template, is_key};
use crate::value::{Decimal, instant};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    operator: Operator,
    /// In lower case.
    key: String,
    values: Values,
}

/// The policy's values, as the operator reads them. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Values {
    Text(Vec<Template>),
    TextIgnoringCase(Vec<Template>),
    Arns(Vec<ArnPattern>),
    Numbers(Comparison, Vec<Decimal>),
    Instants(Comparison, Vec<Timestamp>),
    Networks(Vec<Network>),
    /// Whether the key must be missing.
    Missing(Vec<bool>),
}

impl Condition {
    /// All conditions of a `Condition` element.
    pub(crate) fn parse_all(node: Node, place: &Place, variables: bool) -> Result<Vec<Self>, PolicyError> {
        let mut conditions = Vec::new();
        for (name, keys) in some(node.object(place)?, place)? {
            let place = place.member(&name);
            let operator = Operator::parse(&name).map_err(|problem| place.error(problem))?;
            let mut seen: Vec<String> = Vec::new();
            for (key, values) in some(keys.object(&place)?, &place)? {
                let place = place.member(&key);
                if !is_key(&key) {
                    return Err(
                        place.error("is no condition key: write the service before it, such as `aws:username` or `s3:prefix`")
                    );
                }
                let key = key.to_lowercase();
                if seen.contains(&key) {
                    return Err(place.error("stands here twice, since keys have no case: merge the two"));
                }
                seen.push(key.clone());
                conditions.push(Self { operator, key, values: Values::parse(operator.test, values, &place, variables)? });
            }
        }
        Ok(conditions)
    }

    pub(crate) fn holds(&self, known: &Known<'_>) -> bool {
        let given = known.get(&self.key);
        if let Values::Missing(wanted) = &self.values {
            return wanted.contains(&given.is_empty());
        }
        let Operator { set, negated, if_exists, .. } = self.operator;
        if given.is_empty() && if_exists && set != Set::ForAny {
            return true;
        }
        if (negated || set == Set::ForAll) && !self.values.resolve(known) {
            return false;
        }
        let holds_for = |value: &String| self.values.match_one(value, known) != negated;
        // What is empty is as no value to a set operator.
        let mut given_some = given.iter().filter(|value| !value.is_empty());
        match (set, negated) {
            (Set::Single, false) => given.iter().any(holds_for),
            (Set::Single, true) => given.iter().all(holds_for),
            (Set::ForAll, _) => given_some.all(holds_for),
            (Set::ForAny, _) => given_some.any(holds_for),
        }
    }
}

impl Values {
    fn parse(test: Test, node: Node, place: &Place, variables: bool) -> Result<Self, PolicyError> {
        let mut texts = Vec::new();
        for (place, node) in node.one_or_list(place)? {
            texts.push((node.scalar(&place)?, place));
        }
        let text = |wildcards| move |text: &str| Template::parse(text, Grammar { wildcards, variables });
        Ok(match test {
            Test::StringEquals => Self::Text(each(texts, text(false))?),
            Test::StringEqualsIgnoreCase => Self::TextIgnoringCase(each(texts, text(false))?),
            Test::StringLike => Self::Text(each(texts, text(true))?),
            Test::Bool => Self::TextIgnoringCase(each(texts, |value| {
                let template = Template::parse(value, Grammar { wildcards: false, variables })?;
                match template.literal() {
                    Some(literal) if truth(&literal).is_none() => {
                        Err("is no truth value: write \"true\" or \"false\"".to_owned())
                    }
                    _ => Ok(template),
                }
            })?),
            Test::Arn => Self::Arns(each(texts, |value| ArnPattern::parse(value, variables))?),
            Test::Number(comparison) => Self::Numbers(
                comparison,
                each(texts, |value| {
                    Decimal::parse(value).ok_or_else(|| "is no number: write digits, such as \"100\" or \"0.5\"".to_owned())
                })?,
            ),
            Test::Date(comparison) => Self::Instants(
                comparison,
                each(texts, |value| {
                    instant(value)
                        .ok_or_else(|| "is no date: write it as 2026-01-31T12:00:00Z, 2026-01-31 or Unix seconds".to_owned())
                })?,
            ),
            Test::IpAddress => Self::Networks(each(texts, |value| {
                Network::parse(value)
                    .ok_or_else(|| "is no address or network: write 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32".to_owned())
            })?),
            Test::Null => Self::Missing(each(texts, |value| {
                truth(value).ok_or_else(|| {
                    "is no truth value: write \"true\" where the key must be missing, \"false\" where it must be there".to_owned()
                })
            })?),
        })
    }

    /// Whether every variable has a value.
    fn resolve(&self, known: &Known<'_>) -> bool {
        match self {
            Self::Text(templates) | Self::TextIgnoringCase(templates) => {
                templates.iter().all(|template| template.resolves(known))
            }
            Self::Arns(arns) => arns.iter().all(|arn| arn.resolves(known)),
            Self::Numbers(..) | Self::Instants(..) | Self::Networks(_) | Self::Missing(_) => true,
        }
    }

    /// Whether one of them matches a value of the request, negation aside.
    fn match_one(&self, value: &str, known: &Known<'_>) -> bool {
        match self {
            Self::Text(templates) => templates.iter().any(|template| template.matches(value, known)),
            Self::TextIgnoringCase(templates) => templates.iter().any(|template| template.equals_ignoring_case(value, known)),
            Self::Arns(arns) => arns.iter().any(|arn| arn.matches(value, known)),
            Self::Numbers(comparison, numbers) => {
                Decimal::parse(value).is_some_and(|given| numbers.iter().any(|number| comparison.holds(&given, number)))
            }
            Self::Instants(comparison, instants) => {
                instant(value).is_some_and(|given| instants.iter().any(|instant| comparison.holds(&given, instant)))
            }
            Self::Networks(networks) => {
                value.parse::<IpAddr>().is_ok_and(|given| networks.iter().any(|network| network.contains(given)))
            }
            Self::Missing(_) => false,
        }
    }
}

fn some(members: Vec<(String, Node)>, place: &Place) -> Result<Vec<(String, Node)>, PolicyError> {
    if members.is_empty() {
        return Err(place.error("is empty and would hold for everything: write a condition, or leave the member out"));
    }
    Ok(members)
}

fn each<T>(texts: Vec<(String, Place)>, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, PolicyError> {
    texts.iter().map(|(text, place)| read(text).map_err(|problem| place.error(problem))).collect()
}

fn truth(text: &str) -> Option<bool> {
    [true, false].into_iter().find(|value| text.eq_ignore_ascii_case(&value.to_string()))
}
