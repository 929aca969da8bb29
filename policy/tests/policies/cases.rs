//! `../cases.toml`: what a policy decides, and which page of IAM's documentation says so.

use edgetrail_policy::{Context, Decision, Policy, Request, decide};
use toml::{Table, Value};

const CASES: &str = include_str!("../cases.toml");
/// A case that names no resource or action is about this one.
const TRAIL: &str = "arn:aws:cloudtrail:dc-tokyo-1:111122223333:trail/main";
const ACTION: &str = "cloudtrail:GetTrail";

/// Titles of the documentation's pages that a case may refer to.
const PAGES: [&str; 17] = [
    "Version",
    "Id",
    "Statement",
    "Sid",
    "Effect",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
    "Condition operators",
    "Multiple keys or values",
    "Multivalued keys",
    "Variables and tags",
    "Evaluation logic",
    "Session policies",
    // The guide is silent, or this differs on purpose.
    "Edgetrail",
];

struct Case<'a> {
    table: &'a Table,
    name: &'a str,
}

impl Case<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.table.get(key).map(|value| value.as_str().unwrap_or_else(|| panic!("{}: `{key}` is text", self.name)))
    }

    fn texts(&self, key: &str) -> Vec<&str> {
        match self.table.get(key) {
            None => Vec::new(),
            Some(Value::Array(texts)) => texts.iter().map(|text| text.as_str().expect("text")).collect(),
            Some(one) => vec![one.as_str().expect("text")],
        }
    }

    fn context(&self) -> Context {
        let mut context = Context::default();
        for (key, values) in self.table.get("context").and_then(Value::as_table).into_iter().flatten() {
            match values {
                Value::Array(values) => context.set(key, values.iter().map(|value| value.as_str().expect("text"))),
                one => context.set(key, [one.as_str().expect("text")]),
            }
        }
        context
    }

    fn decide(&self, identity: &[Policy]) -> &'static str {
        let session = self.text("session").map(|statements| self.parse(&with_version(statements)));
        let context = self.context();
        let (action, resource) = (self.text("action").unwrap_or(ACTION), self.text("resource").unwrap_or(TRAIL));
        match decide(identity, session.as_ref(), &Request { action, resource, context: &context }) {
            Decision::Allowed { .. } => "allowed",
            Decision::Denied { .. } => "denied",
            Decision::NotAllowed => "not allowed",
        }
    }

    fn parse(&self, text: &str) -> Policy {
        Policy::parse(text).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// A case's `identity` and `session` are statements; one that is about the version writes the whole document.
fn with_version(statements: &str) -> String {
    if statements.contains("\"Statement\"") {
        return statements.to_owned();
    }
    format!(r#"{{"Version": "2012-10-17", "Statement": {statements}}}"#)
}

fn tables() -> Vec<Table> {
    let mut file: Table = CASES.parse().expect("cases.toml is TOML");
    let Some(Value::Array(cases)) = file.remove("case") else { panic!("cases.toml has no cases") };
    cases.into_iter().map(|case| case.as_table().expect("a case").clone()).collect()
}

fn each_case(mut check: impl FnMut(&Case<'_>)) {
    for table in &tables() {
        check(&Case { table, name: table["name"].as_str().expect("a case has a name") });
    }
}

#[test]
fn every_case_is_decided_as_the_documentation_says() {
    let mut wrong = Vec::new();
    each_case(|case| {
        let identity: Vec<Policy> =
            case.texts("identity").iter().map(|statements| case.parse(&with_version(statements))).collect();
        let Some(wanted) = case.text("decision") else { return };
        let decided = case.decide(&identity);
        if decided != wanted {
            wrong.push(format!("{}: {decided}, not {wanted}", case.name));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A condition decides whether a statement applies, whatever its effect.
#[test]
fn every_condition_holds_or_not_for_an_allow_and_a_deny_alike() {
    let mut wrong = Vec::new();
    each_case(|case| {
        let Some(condition) = case.text("condition") else { return };
        let holds = case.table["holds"].as_bool().expect("a condition holds or not");
        let with = |effect: &str| {
            let statement = format!(r#"{{"Effect": "{effect}", "Action": "*", "Resource": "*", "Condition": {condition}}}"#);
            case.parse(&with_version(&statement))
        };
        let everything = case.parse(&with_version(r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#));
        let allowed = case.decide(&[with("Allow")]);
        let denied = case.decide(&[everything, with("Deny")]);
        if (allowed, denied) != if holds { ("allowed", "denied") } else { ("not allowed", "allowed") } {
            wrong.push(format!("{}: {allowed} by the allow, {denied} by the deny", case.name));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_is_whole_and_says_where_each_case_comes_from() {
    let mut names = Vec::new();
    each_case(|case| {
        names.push(case.name.to_owned());
        assert!(PAGES.contains(&case.text("page").unwrap_or_default()), "{}: which page says so?", case.name);
        assert!(case.text("decision").is_some() != case.text("condition").is_some(), "{}: a decision or a condition", case.name);
        for key in case.table.keys() {
            let known =
                ["name", "page", "identity", "session", "action", "resource", "context", "decision", "condition", "holds"];
            assert!(known.contains(&key.as_str()), "{}: {key}", case.name);
        }
    });
    assert!(names.len() >= 120, "{} cases", names.len());
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "a name stands twice");
}

/// Every operator is in the table with a condition that holds and one that does not.
#[test]
fn every_operator_is_seen_to_hold_and_to_fail() {
    let mut seen = Vec::new();
    each_case(|case| {
        if let Some(condition) = case.text("condition") {
            let holds = case.table["holds"].as_bool().expect("a condition holds or not");
            seen.push((condition.to_owned(), holds));
        }
    });
    for operator in [
        "StringEquals",
        "StringNotEquals",
        "StringEqualsIgnoreCase",
        "StringNotEqualsIgnoreCase",
        "StringLike",
        "StringNotLike",
        "NumericEquals",
        "NumericNotEquals",
        "NumericLessThan",
        "NumericLessThanEquals",
        "NumericGreaterThan",
        "NumericGreaterThanEquals",
        "DateEquals",
        "DateNotEquals",
        "DateLessThan",
        "DateLessThanEquals",
        "DateGreaterThan",
        "DateGreaterThanEquals",
        "Bool",
        "IpAddress",
        "NotIpAddress",
        "ArnEquals",
        "ArnNotEquals",
        "ArnLike",
        "ArnNotLike",
        "Null",
        "ForAllValues:StringEquals",
        "ForAnyValue:StringEquals",
        "ForAllValues:StringNotEquals",
        "ForAnyValue:StringNotEquals",
        "StringEqualsIfExists",
    ] {
        for holds in [true, false] {
            let is_there = seen.iter().any(|(condition, held)| *held == holds && condition.contains(&format!("\"{operator}\"")));
            assert!(is_there, "no case where {operator} gives {holds}");
        }
    }
}
