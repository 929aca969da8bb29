//! One statement: what it is about, and whether it applies to a request. It applies where all of its elements match.
//!
//! Invariant: a `NotResource` with a variable that has no value matches nothing, so that an allow for everything but
//! one's own can't become an allow for everything.
//!
//! Source: IAM User Guide, "IAM JSON policy elements reference".

use crate::PolicyError;
use crate::action::ActionPattern;
use crate::condition::Condition;
use crate::place::{Node, Place, nearest};
use crate::request::Known;
use crate::resource::ArnPattern;

const MEMBERS: [&str; 7] = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub sid: Option<String>,
    pub effect: Effect,
    actions: Actions,
    resources: Resources,
    conditions: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Actions {
    These(Vec<ActionPattern>),
    AllBut(Vec<ActionPattern>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Resources {
    These(Vec<ArnPattern>),
    AllBut(Vec<ArnPattern>),
}

impl Statement {
    pub(crate) fn parse(node: Node, place: &Place, variables: bool) -> Result<Self, PolicyError> {
        let (mut sid, mut effect, mut actions, mut resources, mut conditions) = (None, None, None, None, Vec::new());
        for (name, node) in node.object(place)? {
            let place = place.member(&name);
            match name.as_str() {
                "Sid" => sid = Some(sid_of(node.text(&place)?, &place)?).filter(|sid| !sid.is_empty()),
                "Effect" => effect = Some(Effect::parse(&node.text(&place)?, &place)?),
                "Action" => once(&mut actions, Actions::These(actions_of(node, &place)?), &place, "`NotAction`")?,
                "NotAction" => once(&mut actions, Actions::AllBut(actions_of(node, &place)?), &place, "`Action`")?,
                "Resource" => once(&mut resources, Resources::These(arns_of(node, &place, variables)?), &place, "`NotResource`")?,
                "NotResource" => {
                    once(&mut resources, Resources::AllBut(arns_of(node, &place, variables)?), &place, "`Resource`")?
                }
                "Condition" => conditions = Condition::parse_all(node, &place, variables)?,
                "Principal" | "NotPrincipal" => {
                    return Err(place.error(
                        "stands in policies of resources alone: leave it out, this policy is for whom it is attached to",
                    ));
                }
                _ => return Err(place.error(format!("no such member of a statement; {}", nearest(&name, &MEMBERS)))),
            }
        }
        let missing = |what: &str| place.error(format!("has no {what}: write one"));
        Ok(Self {
            sid,
            effect: effect.ok_or_else(|| missing("`Effect`"))?,
            actions: actions.ok_or_else(|| missing("`Action` or `NotAction`"))?,
            resources: resources.ok_or_else(|| missing("`Resource` or `NotResource`"))?,
            conditions,
        })
    }

    /// Whether it is about an action, in lower case, on a resource. Means nothing once the steps left are exhausted.
    pub(crate) fn applies(&self, lower_action: &str, resource: &str, known: &Known<'_>) -> bool {
        self.actions.match_one(lower_action, known)
            && self.resources.match_one(resource, known)
            && self.conditions.iter().all(|condition| condition.holds(known))
    }
}

impl Effect {
    fn parse(text: &str, place: &Place) -> Result<Self, PolicyError> {
        match text {
            "Allow" => Ok(Self::Allow),
            "Deny" => Ok(Self::Deny),
            other => Err(place.error(format!("no such effect; {}", nearest(other, &["Allow", "Deny"])))),
        }
    }
}

impl Actions {
    fn match_one(&self, lower_action: &str, known: &Known<'_>) -> bool {
        match self {
            Self::These(patterns) => patterns.iter().any(|pattern| pattern.matches(lower_action, known)),
            Self::AllBut(patterns) => !patterns.iter().any(|pattern| pattern.matches(lower_action, known)),
        }
    }
}

impl Resources {
    fn match_one(&self, resource: &str, known: &Known<'_>) -> bool {
        match self {
            Self::These(arns) => arns.iter().any(|arn| arn.matches(resource, known)),
            Self::AllBut(arns) => arns.iter().all(|arn| arn.resolves(known) && !arn.matches(resource, known)),
        }
    }
}

fn once<T>(slot: &mut Option<T>, value: T, place: &Place, other: &str) -> Result<(), PolicyError> {
    if slot.replace(value).is_some() {
        return Err(place.error(format!("stands beside {other}: keep one of the two, or divide the statement")));
    }
    Ok(())
}

/// Source: IAM, a statement's id in an identity policy: letters and digits.
fn sid_of(text: String, place: &Place) -> Result<String, PolicyError> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(text);
    }
    Err(place.error("has characters other than letters and digits: leave those out"))
}

fn actions_of(node: Node, place: &Place) -> Result<Vec<ActionPattern>, PolicyError> {
    each(node, place, ActionPattern::parse)
}

fn arns_of(node: Node, place: &Place, variables: bool) -> Result<Vec<ArnPattern>, PolicyError> {
    each(node, place, |text| ArnPattern::parse(text, variables))
}

fn each<T>(node: Node, place: &Place, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, PolicyError> {
    let mut values = Vec::new();
    for (place, node) in node.one_or_list(place)? {
        values.push(read(&node.text(&place)?).map_err(|problem| place.error(problem))?);
    }
    Ok(values)
}
