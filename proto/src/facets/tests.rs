//! What is indexed of a record, and that odd members change nothing else.

use serde_json::{Value, json};

use super::*;

fn record(members: Value) -> Value {
    let mut record = json!({
        "eventTime": "2024-05-01T20:56:00Z",
        "eventSource": "sudo.linux",
        "eventName": "RunCommand",
        "awsRegion": "dc-tokyo-1",
        "recipientAccountId": "111122223333",
    });
    if let (Value::Object(record), Value::Object(members)) = (&mut record, members) {
        record.extend(members);
    }
    record
}

fn facets(members: Value) -> Facets {
    Facets::parse(record(members).to_string().as_bytes()).unwrap()
}

fn user(identity: Value) -> Option<String> {
    facets(json!({ "userIdentity": identity })).user
}

#[test]
fn every_facet_is_found() {
    let facets = facets(json!({
        "eventID": "0190b2a4-0000-8000-8000-000000000001",
        "eventCategory": "Data",
        "eventType": "AwsConsoleSignIn",
        "readOnly": true,
        "errorCode": "AccessDenied",
        "userIdentity": {"type": "IAMUser", "userName": "alice", "arn": "arn:u", "accessKeyId": "AKIA", "invokedBy": "cron.linux"},
        "resources": [{"type": "Host::File", "ARN": "arn:f"}, {"ARNPrefix": "arn:p"}, "odd"],
        "vpcEndpointId": "vpce-1",
        "sessionCredentialFromConsole": "true",
    }));
    assert_eq!(
        facets,
        Facets {
            event_id: Some("0190b2a4-0000-8000-8000-000000000001".parse().unwrap()),
            time: 1_714_596_960,
            category: Category::Data,
            read_only: Some(true),
            account: "111122223333".to_owned(),
            region: "dc-tokyo-1".to_owned(),
            source: "sudo.linux".to_owned(),
            name: "RunCommand".to_owned(),
            user: Some("alice".to_owned()),
            user_arn: Some("arn:u".to_owned()),
            invoked_by: Some("cron.linux".to_owned()),
            access_key: Some("AKIA".to_owned()),
            error: Some("AccessDenied".to_owned()),
            event_type: EventType::AwsConsoleSignIn,
            resources: vec![
                ("Host::File".to_owned(), "arn:f".to_owned()),
                (String::new(), "arn:p".to_owned()),
                (String::new(), String::new())
            ],
            vpc_endpoint: Some("vpce-1".to_owned()),
            session_from_console: true,
        }
    );
}

#[test]
fn the_user_is_the_human() {
    let role = |arn: &str| {
        json!({"type": "AssumedRole", "principalId": "0:bob", "arn": arn,
            "sessionContext": {"sessionIssuer": {"type": "IAMUser", "userName": "alice"}}})
    };
    assert_eq!(user(role("arn:aws:host:r:111122223333:h/assumed-role/root/alice")).as_deref(), Some("alice"));
    assert_eq!(user(role("arn:aws:sts::111122223333:assumed-role/Admin/carol")).as_deref(), Some("carol"));
    assert_eq!(user(json!({"type": "AssumedRole", "principalId": "AROA:dave"})).as_deref(), Some("dave"));
    assert_eq!(user(json!({"type": "Root", "userName": "an alias"})).as_deref(), Some("root"));
    assert_eq!(user(json!({"type": "WebIdentityUser", "userName": "erin"})).as_deref(), Some("erin"));
    assert_eq!(user(json!({"type": "AWSService", "invokedBy": "cron.linux"})), None);
    assert_eq!(user(json!({"type": "IAMUser", "userName": ""})), None);
    assert_eq!(user(json!("odd")), None);
}

#[test]
fn members_of_another_type_count_as_absent() {
    let facets = facets(json!({
        "eventSource": 7, "eventName": null, "errorCode": {"a": [1]}, "readOnly": "maybe", "resources": {"x": 1},
        "userIdentity": [1, {"type": "Root"}], "eventID": 1.5, "eventType": true, "insightDetails": "x",
    }));
    let plain =
        Facets { time: 1_714_596_960, account: "111122223333".to_owned(), region: "dc-tokyo-1".to_owned(), ..Facets::default() };
    assert_eq!(facets, plain);
}

#[test]
fn an_insights_event_is_found_under_what_it_is_about() {
    let json = r#"{"eventTime":"2024-05-01T20:56:00Z","awsRegion":"r","recipientAccountId":"111122223333","eventCategory":"Insight",
        "insightDetails":{"eventSource":"autoscaling.amazonaws.com","eventName":"CompleteLifecycleAction"}}"#;
    let facets = Facets::parse(json.as_bytes()).unwrap();
    assert_eq!((facets.category, facets.source.as_str()), (Category::Insight, "autoscaling.amazonaws.com"));
    assert_eq!(facets.name, "CompleteLifecycleAction");
}

#[test]
fn an_audit_event_of_an_integration_is_found_under_what_it_says_of_itself() {
    let json = r#"{"eventTime":"2024-05-01T20:56:00Z","awsRegion":"r","recipientAccountId":"111122223333",
        "eventCategory":"ActivityAuditLog","eventType":"ActivityLog","metadata":{"channelARN":"arn:c"},
        "eventData":{"version":"1","userIdentity":{"type":"User","principalId":"carol"},"eventSource":"shop.example",
            "eventName":"CancelOrder","errorCode":"AccessDenied"}}"#;
    let facets = Facets::parse(json.as_bytes()).unwrap();
    assert_eq!((facets.source.as_str(), facets.name.as_str()), ("shop.example", "CancelOrder"));
    assert_eq!((facets.user.as_deref(), facets.error.as_deref()), (Some("carol"), Some("AccessDenied")));
}

#[test]
fn the_category_of_old_records_follows_from_management_event() {
    assert_eq!(facets(json!({"managementEvent": false})).category, Category::Data);
    assert_eq!(facets(json!({})).category, Category::Management);
}

#[test]
fn a_record_without_place_or_time_is_refused() {
    for member in ["eventTime", "awsRegion", "recipientAccountId"] {
        for value in [Value::Null, json!(7)] {
            let json = record(json!({ member: value })).to_string();
            assert_eq!(Facets::parse(json.as_bytes()), Err(FacetsError::Missing(member)));
        }
    }
    let json = record(json!({"eventTime": "yesterday"})).to_string();
    assert_eq!(Facets::parse(json.as_bytes()), Err(FacetsError::Missing("eventTime")));
}

#[test]
fn what_says_a_thing_twice_or_is_no_object_is_refused() {
    let twice = record(json!({})).to_string().replacen('{', r#"{"eventName":"Other","#, 1);
    let array = r#"["2024-05-01T20:56:00Z",null,null,"r","111122223333"]"#;
    let trailing = format!("{} {{}}", record(json!({})));
    for json in [twice.as_str(), array, &trailing, "", "null", "{"] {
        assert!(matches!(Facets::parse(json.as_bytes()), Err(FacetsError::NotJson(_))), "{json}");
    }
}

#[test]
fn only_the_agents_own_report_is_a_gap() {
    assert!(facets(json!({"eventSource": "agent.edgetrail", "eventName": "ReportGap"})).is_gap());
    assert!(!facets(json!({"eventName": "ReportGap"})).is_gap());
}
