//! Selectors take what CloudTrail's own texts say, and are refused where it would refuse them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::HashSet;

use edgetrail_proto::facets::Facets;
use edgetrail_proto::selector::{Field, SelectorError, Selectors};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
    refusal: Vec<Refused>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    what: String,
    source: String,
    selectors: String,
    event: String,
    selected: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    what: String,
    source: String,
    selectors: String,
    error: String,
}

const OPERATORS: [&str; 6] = ["Equals", "StartsWith", "EndsWith", "NotEquals", "NotStartsWith", "NotEndsWith"];

fn cases() -> Cases {
    toml::from_str(include_str!("selectors.toml")).unwrap()
}

fn selectors(json: &str) -> Selectors {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// A record with the members of the case.
fn facets(event: &str) -> Facets {
    let mut record = json!({
        "eventVersion": "1.11",
        "eventTime": "2026-05-01T20:56:00Z",
        "eventSource": "sudo.linux",
        "eventName": "RunCommand",
        "awsRegion": "dc-tokyo-1",
        "recipientAccountId": "111122223333",
        "eventType": "AwsApiCall",
        "eventCategory": "Management",
    });
    let members: serde_json::Map<String, Value> = serde_json::from_str(event).unwrap();
    if let Value::Object(record) = &mut record {
        record.extend(members);
        record.retain(|_, value| !value.is_null());
    }
    Facets::parse(record.to_string().as_bytes()).unwrap()
}

#[test]
fn each_event_is_selected_as_cloudtrails_texts_say() {
    for case in cases().case {
        assert!(!case.source.is_empty(), "{} has no source", case.what);
        let selectors = selectors(&case.selectors);
        assert_eq!(selectors.validate(), Ok(()), "{}", case.what);
        assert_eq!(selectors.selects(&facets(&case.event)), case.selected, "{}: {} {}", case.what, case.selectors, case.event);
    }
}

#[test]
fn what_cloudtrail_refuses_is_refused_with_its_reason() {
    for refused in cases().refusal {
        assert!(!refused.source.is_empty(), "{} has no source", refused.what);
        let error = selectors(&refused.selectors).validate().unwrap_err();
        let variant = format!("{error:?}");
        let variant = variant.split(['(', ' ']).next().unwrap_or_default();
        assert_eq!(variant, refused.error, "{}: {error}", refused.what);
    }
}

#[test]
fn every_field_and_operator_has_a_case() {
    let cases = cases();
    let texts: Vec<&str> = cases.case.iter().map(|case| case.selectors.as_str()).collect();
    for field in Field::ALL {
        assert!(texts.iter().any(|text| text.contains(&format!(r#""Field": "{field}""#))), "{field}");
    }
    for operator in OPERATORS {
        for field in ["eventSource", "eventName", "eventType", "userIdentity.arn", "resources.ARN", "vpcEndpointId"] {
            let condition = format!(r#""Field": "{field}", "{operator}""#);
            let both: HashSet<bool> =
                cases.case.iter().filter(|case| case.selectors.contains(&condition)).map(|case| case.selected).collect();
            assert_eq!(both.len(), 2, "{field} {operator} needs a case that is taken and one that is not");
        }
    }
    assert!(cases.case.len() >= 80 && cases.refusal.len() >= 25, "{} {}", cases.case.len(), cases.refusal.len());
}

#[test]
fn limits_are_exact() {
    let management = r#"{"Field":"eventCategory","Equals":["Management"]}"#;
    let named = |name: &str, value: &str, count: usize| {
        let values = vec![value; count];
        let conditions = format!(r#"[{management},{{"Field":"eventName","Equals":{}}}]"#, json!(values));
        selectors(&format!(r#"{{"AdvancedEventSelectors":[{{"Name":"{name}","FieldSelectors":{conditions}}}]}}"#)).validate()
    };
    assert_eq!(named(&"é".repeat(1000), "x", 1), Ok(()));
    assert!(matches!(named(&"é".repeat(1001), "x", 1), Err(SelectorError::Name(_))));
    assert_eq!(named("", &"é".repeat(2048), 1), Ok(()));
    assert!(matches!(named("", &"é".repeat(2049), 1), Err(SelectorError::Value { .. })));
    assert_eq!(named("", "x", 499), Ok(()), "with the category, 500 values");
    assert_eq!(named("", "x", 500), Err(SelectorError::TooManyValues(501)));

    let of = |value: &str, counts: &[usize]| {
        let selector = |count: &usize| json!({"DataResources": [{"Type": "AWS::S3::Object", "Values": vec![value; *count]}]});
        let all: Vec<Value> = counts.iter().map(selector).collect();
        selectors(&json!({ "EventSelectors": all }).to_string()).validate()
    };
    assert_eq!(of("arn:aws:s3:::b/", &[250]), Ok(()));
    assert_eq!(of("arn:aws:s3:::b/", &[125, 126]), Err(SelectorError::TooManyResources(251)), "over all selectors");
    assert_eq!(of("arn:aws:s3", &[251]), Ok(()), "what means all does not count");
    assert_eq!(of(&format!("arn:{}", "x".repeat(2044)), &[1]), Ok(()));
    assert!(matches!(of(&format!("arn:{}", "x".repeat(2045)), &[1]), Err(SelectorError::ResourceValue(_))));
    assert_eq!(of("arn:aws:s3:::b/", &[1; 5]), Ok(()));
}

#[test]
fn errors_show_no_more_than_a_line_of_what_was_given() {
    let long = format!("\n\u{1b}{}", "x".repeat(100_000));
    for json in [
        json!({"EventSelectors": [{"DataResources": [{"Type": long}]}]}),
        json!({"EventSelectors": [{"DataResources": [{"Type": "AWS::S3::Object", "Values": [long]}]}]}),
        json!({"EventSelectors": [{"ExcludeManagementEventSources": [long]}]}),
        json!({"AdvancedEventSelectors": [{"Name": long, "FieldSelectors": []}]}),
    ] {
        let error = selectors(&json.to_string()).validate().unwrap_err().to_string();
        assert!(error.len() < 500 && !error.contains(char::is_control), "{error}");
    }
}

#[test]
fn what_selectors_want_at_all_is_known() {
    let advanced = |conditions: &[(&str, &str)]| {
        let condition = |(field, value): &(&str, &str)| json!({"Field": field, "Equals": [value]});
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        json!({"AdvancedEventSelectors": [{"FieldSelectors": conditions}]})
    };
    let objects = json!([{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]);
    let basic = |kind: &str, management: bool, data: &Value| json!({"EventSelectors": [{"ReadWriteType": kind, "IncludeManagementEvents": management, "DataResources": data}]});
    for (json, management, writes, data) in [
        (basic("All", true, &json!([])), true, true, false),
        (basic("ReadOnly", true, &objects), true, false, true),
        (basic("WriteOnly", false, &objects), false, false, true),
        (advanced(&[("eventCategory", "Management")]), true, true, false),
        (advanced(&[("eventCategory", "Management"), ("readOnly", "true")]), true, false, false),
        (advanced(&[("eventCategory", "Management"), ("readOnly", "false")]), true, true, false),
        (advanced(&[("eventCategory", "Data"), ("resources.type", "Host::File")]), false, false, true),
    ] {
        let selectors = selectors(&json.to_string());
        assert_eq!(
            (selectors.wants_management(), selectors.wants_management_writes(), selectors.wants_data()),
            (management, writes, data),
            "{json}"
        );
    }
}
