//! Promises that hold for every policy: over random ones, of few words, so that statements often apply.

use edgetrail_policy::{Context, Decision, Managed, Policy, Request, decide};
use proptest::prelude::*;
use proptest::sample::select;

const ACTIONS: [&str; 3] = ["cloudtrail:GetTrail", "cloudtrail:StopLogging", "s3:GetObject"];
const RESOURCES: [&str; 3] = ["*", "arn:aws:cloudtrail:r:1:trail/a", "arn:aws:s3:::logs/alice/x"];

/// What a request is made of.
type Asked = (&'static str, &'static str, Context);

fn asked() -> impl Strategy<Value = Asked> {
    let values = prop_oneof![
        Just(vec![]),
        Just(vec!["alice"]),
        Just(vec![""]),
        Just(vec!["bob", "alice"]),
        Just(vec!["7"]),
        Just(vec!["10.0.0.1"])
    ];
    (select(&ACTIONS[..]), select(&RESOURCES[..]), values.clone(), values).prop_map(|(action, resource, user, tags)| {
        let mut context = Context::default();
        context.set("aws:username", user);
        context.set("aws:TagKeys", tags);
        (action, resource, context)
    })
}

fn condition() -> impl Strategy<Value = String> {
    let operator = select(vec![
        "StringEquals",
        "StringNotEquals",
        "StringLike",
        "StringNotLikeIfExists",
        "ForAllValues:StringEquals",
        "ForAnyValue:StringNotEquals",
        "StringEqualsIgnoreCaseIfExists",
        "ForAnyValue:StringLikeIfExists",
    ]);
    let value = select(vec!["alice", "a*", "*", "", "${aws:username}", "${aws:userid}", "${aws:userid, 'alice'}"]);
    let text = (operator, select(vec!["aws:username", "aws:TagKeys"]), value)
        .prop_map(|(operator, key, value)| format!(r#", "Condition": {{"{operator}": {{"{key}": "{value}"}}}}"#));
    let other = select(vec![
        r#", "Condition": {"NumericLessThan": {"aws:username": 10}}"#,
        r#", "Condition": {"NotIpAddress": {"aws:username": "10.0.0.0/8"}}"#,
        r#", "Condition": {"Null": {"aws:username": true}}"#,
        "",
    ]);
    prop_oneof![text, other.prop_map(str::to_owned)]
}

fn statement(effect: &'static str) -> impl Strategy<Value = String> {
    let action = select(vec![
        r#""Action": "*""#,
        r#""Action": ["cloudtrail:Get*", "s3:GetObject"]"#,
        r#""NotAction": "cloudtrail:Get*""#,
        r#""Action": "CLOUDTRAIL:STOPLOGGING""#,
    ]);
    let resource = select(vec![
        r#""Resource": "*""#,
        r#""Resource": "arn:aws:s3:::logs/${aws:username}/*""#,
        r#""NotResource": "arn:aws:s3:::logs/${aws:username}/*""#,
        r#""Resource": "arn:aws:cloudtrail:*""#,
    ]);
    (action, resource, condition())
        .prop_map(move |(action, resource, condition)| format!(r#"{{"Effect": "{effect}", {action}, {resource}{condition}}}"#))
}

fn statements() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(prop_oneof![statement("Allow"), statement("Deny")], 1..6)
}

fn policy(statements: &[String]) -> Policy {
    let text = format!(r#"{{"Version": "2012-10-17", "Statement": [{}]}}"#, statements.join(", "));
    Policy::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn kind(identity: &[Policy], session: Option<&Policy>, (action, resource, context): &Asked) -> &'static str {
    match decide(identity, session, &Request { action, resource, context }) {
        Decision::Allowed { .. } => "allowed",
        Decision::Denied { .. } => "denied",
        Decision::NotAllowed => "not allowed",
    }
}

/// A policy and a context of allowed lengths that compare thousands of millions of characters.
#[test]
fn a_decision_that_takes_too_long_allows_nothing_and_ends() {
    let mut context = Context::default();
    context.set("aws:PrincipalTag/a", [format!("{}b", "a".repeat(1_000))]);
    context.set("aws:PrincipalTag/b", (0..6).map(|_| "a".repeat(2_000)));
    let values = vec![r#""*${aws:PrincipalTag/a}*""#; 200].join(", ");
    let dear = |effect: &str, operator: &str| {
        let condition = format!(r#"{{"{operator}": {{"aws:PrincipalTag/b": [{values}]}}}}"#);
        policy(&[format!(r#"{{"Effect": "{effect}", "Action": "*", "Resource": "*", "Condition": {condition}}}"#)])
    };
    let everything = policy(&[r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#.to_owned()]);
    let asked = ("s3:GetObject", "*", context);
    let (allow, deny) = (dear("Allow", "ForAllValues:StringNotLike"), dear("Deny", "ForAllValues:StringNotLike"));
    for (identity, session) in [
        (vec![allow.clone()], None),
        (vec![everything.clone(), allow.clone()], None),
        (vec![everything.clone(), deny.clone()], None),
        (vec![everything.clone()], Some(&allow)),
        (vec![everything.clone()], Some(&deny)),
    ] {
        assert_eq!(kind(&identity, session, &asked), "not allowed", "{identity:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn adding_a_deny_never_allows(statements in statements(), deny in statement("Deny"), at in any::<prop::sample::Index>(), asked in asked()) {
        let before = kind(&[policy(&statements)], None, &asked);
        let mut more = statements.clone();
        more.insert(at.index(statements.len() + 1), deny.clone());
        for identity in [vec![policy(&more)], vec![policy(&statements), policy(&[deny])]] {
            let after = kind(&identity, None, &asked);
            prop_assert!(after == before || after == "denied", "{before} became {after}");
        }
    }

    #[test]
    fn adding_an_allow_never_overrides_a_deny(statements in statements(), allow in statement("Allow"), at in any::<prop::sample::Index>(), asked in asked()) {
        let before = kind(&[policy(&statements)], None, &asked);
        let mut more = statements.clone();
        more.insert(at.index(statements.len() + 1), allow.clone());
        for identity in [vec![policy(&more)], vec![policy(&statements), policy(&[allow])]] {
            let after = kind(&identity, None, &asked);
            prop_assert!(after == before || (before, after) == ("not allowed", "allowed"), "{before} became {after}");
        }
    }

    #[test]
    fn the_order_of_statements_and_policies_does_not_matter(
        (statements, shuffled) in statements().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        asked in asked(),
    ) {
        let before = kind(&[policy(&statements)], None, &asked);
        prop_assert_eq!(before, kind(&[policy(&shuffled)], None, &asked));
        let apart: Vec<Policy> = shuffled.iter().map(|statement| policy(std::slice::from_ref(statement))).collect();
        prop_assert_eq!(before, kind(&apart, None, &asked));
    }

    #[test]
    fn a_session_allows_nothing_that_its_principal_may_not(identity in statements(), session in statements(), asked in asked()) {
        let (identity, session) = (policy(&identity), policy(&session));
        let alone = kind(std::slice::from_ref(&identity), None, &asked);
        let by_session = kind(std::slice::from_ref(&session), None, &asked);
        let both = kind(std::slice::from_ref(&identity), Some(&session), &asked);
        prop_assert_eq!(both == "allowed", alone == "allowed" && by_session == "allowed");
        prop_assert_eq!(both == "denied", alone == "denied" || by_session == "denied");
    }

    #[test]
    fn an_operation_is_decided_without_regard_to_case(statements in statements(), asked in asked()) {
        let upper = asked.0.to_uppercase();
        let request = Request { action: &upper, resource: asked.1, context: &asked.2 };
        let other = decide(&[policy(&statements)], None, &request).is_allowed();
        prop_assert_eq!(kind(&[policy(&statements)], None, &asked) == "allowed", other);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        // Almost never a policy: only that it returns is promised here.
        if let Ok(policy) = Policy::parse(&text) {
            let context = Context::default();
            let decision = decide([], Some(&policy), &Request { action: "s3:X", resource: "*", context: &context });
            prop_assert!(!decision.is_allowed());
        }
    }

    /// A policy with one piece put elsewhere or replaced is refused with its place, or is another policy.
    #[test]
    fn no_damaged_policy_makes_the_parser_panic(
        statements in statements(),
        from in any::<prop::sample::Index>(),
        length in 0..12_usize,
        instead in prop_oneof![Just(String::new()), "[\\[\\]{}\":,$*?'a-z0-9 ]{0,6}", any::<String>()],
    ) {
        let text = format!(r#"{{"Version": "2012-10-17", "Statement": [{}]}}"#, statements.join(", "));
        let characters: Vec<char> = text.chars().collect();
        let from = from.index(characters.len());
        let damaged: String = characters[..from].iter().copied().chain(instead.chars()).chain(characters[(from + length).min(characters.len())..].iter().copied()).collect();
        if let Err(error) = Policy::parse(&damaged) {
            prop_assert!(!error.to_string().is_empty() && error.to_string().len() < 2_000);
        }
    }

    #[test]
    fn nothing_is_allowed_beyond_a_bound(resource in "[a-z]{2049,2100}", action in "s3:[A-Z]{126,140}") {
        let mut context = Context::default();
        context.set("aws:PrincipalAccount", ["1"]);
        context.set("aws:ResourceAccount", ["1"]);
        let everything = Managed::Administrator.policy();
        for (action, resource) in [("s3:X", resource.as_str()), (action.as_str(), "*")] {
            prop_assert_eq!(decide([everything], None, &Request { action, resource, context: &context }), Decision::NotAllowed);
        }
        let within = decide([everything], None, &Request { action: "s3:X", resource: "*", context: &context });
        prop_assert!(within.is_allowed());
    }
}
