//! Entries as records, and gateways' requests among them.

use super::*;
use crate::sources::lines::shape::{AccessShape, RouteShape};
use crate::sources::otlp::Encoding;

fn made(record: Value, resource: Value) -> Record {
    made_with(AccessShape::default(), record, resource)
}

fn made_with(access: AccessShape, record: Value, resource: Value) -> Record {
    let bytes = |value: Value| value.to_string().into_bytes().into();
    let log =
        Log { encoding: Encoding::Json, resource: bytes(resource), scope: bytes(json!({"name": "lib"})), record: bytes(record) };
    let gateway = Mapping::open("access", access).unwrap();
    super::record(&Host::for_tests(), Uuid::nil(), 7, &log.entry().unwrap(), &log, Some(&gateway))
}

fn attributes(pairs: Value) -> Value {
    let pairs = pairs.as_object().unwrap().iter();
    pairs
        .map(|(key, value)| {
            let kind = if value.is_string() { "stringValue" } else { "intValue" };
            json!({"key": key, "value": {kind: value}})
        })
        .collect()
}

#[test]
fn an_audit_record_of_the_draft_says_who_what_and_how_it_ended() {
    let attributes = attributes(json!({"audit.record.id": "r-1", "audit.actor.id": "alice", "audit.actor.type": "user",
        "audit.action": "DELETE_USER", "audit.outcome": "failure", "audit.target.id": "bob", "audit.target.type": "user",
        "client.address": "192.0.2.7"}));
    let record = made(
        json!({"timeUnixNano": "1544712660300000000", "attributes": attributes, "traceId": "5B8EFFF798038103D269B633813FC60C",
            "spanId": "EEE19B7EC3C1B174", "flags": 1}),
        json!({"attributes": [{"key": "service.name", "value": {"stringValue": "my shop"}}]}),
    );
    assert_eq!((record.event_source.as_str(), record.event_name.as_str()), ("my-shop.otlp", "DeleteUser"));
    assert_eq!(record.event_time, "2018-12-13T14:51:00Z");
    assert_eq!(record.user_identity.user_name.as_deref(), Some("alice"));
    assert_eq!(record.error_code.as_deref(), Some("Failed"));
    assert_eq!(record.source_ip_address, "192.0.2.7");
    let resource = &record.resources.unwrap()[0];
    assert_eq!(
        (resource.kind.as_deref(), resource.arn.as_deref()),
        (Some("Otlp::User"), Some("arn:aws:otlp:dc-local-1:111122223333:my shop/user/bob"))
    );
    let data = record.additional_event_data.unwrap();
    assert_eq!(data["trace_id"], "5b8efff798038103d269b633813fc60c");
    assert_eq!((&data["span_id"], &data["trace_flags"]), (&json!("eee19b7ec3c1b174"), &json!("01")));
    assert_eq!(data["edgetrail"]["clientID"], "r-1");
}

#[test]
fn a_plain_message_is_kept_whole_and_its_user_unknown() {
    let record = made(json!({"body": {"stringValue": "Example log record"}, "severityNumber": 10}), json!({}));
    assert_eq!((record.event_source.as_str(), record.event_name.as_str()), ("lib.otlp", "LogMessage"));
    assert_eq!(record.user_identity.kind.as_deref(), Some("Unknown"));
    assert_eq!(record.request_parameters.unwrap()["body"], "Example log record");
    assert_eq!(record.event_time, "1970-01-01T00:00:00Z");
    assert_eq!(record.additional_event_data.unwrap()["otlp"]["severityNumber"], 10);
}

#[test]
fn requests_are_named_by_method_and_route_and_nobody_poses_as_the_agent() {
    let request = json!({"http.request.method": "GET", "http.route": "/orders/{id}", "http.response.status_code": 403});
    let service = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "agent.edgetrail"}}]});
    let record = made(json!({"attributes": attributes(request)}), service);
    assert_eq!(record.event_name, "GetOrdersId");
    assert_eq!(record.event_source, "agent.edgetrail.otlp");
    assert_eq!((record.error_code.as_deref(), record.read_only), (Some("AccessDenied"), Some(true)));
    for (name, pascal_case) in [("browser.page_view", "BrowserPageView"), ("CreateInvoice", "CreateInvoice"), ("LOGIN", "Login")]
    {
        assert_eq!(pascal(name), pascal_case);
    }
}

#[test]
fn what_envoys_logger_sends_as_text_is_read_as_what_it_is() {
    let request = json!({"http.request.method": "DELETE", "url.path": "/v1/orders/7?force=1", "http.response.status_code": "403",
        "client.address": "10.0.0.5:4711", "user.name": "-", "user_agent.original": "curl/8", "error.type": "-"});
    let record = made(json!({"timeUnixNano": "7", "attributes": attributes(request)}), json!({}));
    assert_eq!(record.user_identity.kind.as_deref(), Some("Unknown"));
    assert_eq!((record.source_ip_address.as_str(), record.error_code.as_deref()), ("10.0.0.5", Some("AccessDenied")));
    assert_eq!((record.event_name.as_str(), record.read_only), ("DeleteResource", Some(false)));
    let parameters = record.request_parameters.unwrap();
    assert_eq!((&parameters["path"], &parameters["query"]["force"]), (&json!("/v1/orders/7"), &json!("1")));
    assert_eq!(parameters["attributes"]["user.name"], "-");
}

#[test]
fn a_request_in_the_body_is_one_as_text_and_as_members() {
    let text = r#"[2024-01-01T00:00:00.000Z] "GET /a HTTP/1.1" 404 NR 0 0 1 - "192.0.2.7" "curl/8" "id-1" "shop.example" "-""#;
    let members = json!({"kvlistValue": {"values": attributes(json!({"method": "GET", "path": "/a", "response_code": "404",
        "downstream_remote_address": "192.0.2.7:5", "authority": "shop.example", "response_flags": "NR"}))}});
    let logger = json!({"attributes": attributes(json!({"log_name": "otel", "cluster_name": "edge"}))});
    for body in [json!({"stringValue": text}), members] {
        let record = made(json!({"timeUnixNano": "7", "body": body}), logger.clone());
        let told = (record.event_name.as_str(), record.error_code.as_deref(), record.source_ip_address.as_str());
        assert_eq!(told, ("GetResource", Some("NotFound"), "192.0.2.7"), "{body}");
        assert_eq!(record.event_source, "envoy.http");
        assert_eq!(record.read_only, Some(true));
    }
}

#[test]
fn an_access_section_names_routes_and_callers_of_requests() {
    let route = RouteShape {
        method: Some("POST".to_owned()),
        path: "/v1/orders/{id}/pay".to_owned(),
        name: Some("PayOrder".to_owned()),
        category: Some("Data".to_owned()),
        kind: None,
        read_only: None,
    };
    let access = AccessShape {
        service: Some("orders.example".to_owned()),
        identity: Some(vec!["header:x-user".to_owned()]),
        routes: vec![route],
        ..AccessShape::default()
    };
    let request = json!({"method": "POST", "path": "/v1/orders/7/pay", "response_code": "200", "x-user": "carol",
        "downstream_remote_address": "192.0.2.7:5"});
    let record = made_with(access, json!({"attributes": attributes(request)}), json!({}));
    assert_eq!((record.event_source.as_str(), record.event_name.as_str()), ("orders.example", "PayOrder"));
    assert_eq!(record.user_identity.user_name.as_deref(), Some("carol"));
    assert_eq!(record.management_event, Some(false));
    assert_eq!(record.request_parameters.unwrap()["pathParameters"]["id"], "7");
}

#[test]
fn the_names_before_todays_mean_the_same() {
    let request = json!({"http.method": "POST", "http.target": "/a", "http.status_code": 401, "net.peer.ip": "192.0.2.7",
        "http.user_agent": "curl/8"});
    let record = made(json!({"attributes": attributes(request)}), json!({}));
    assert_eq!((record.event_name.as_str(), record.error_code.as_deref()), ("PostResource", Some("AccessDenied")));
    assert_eq!((record.source_ip_address.as_str(), record.user_agent.as_deref()), ("192.0.2.7", Some("curl/8")));
}

#[test]
fn a_method_of_a_program_s_own_makes_no_request() {
    let body = json!({"kvlistValue": {"values": attributes(json!({"method": "GetUser", "path": "/x", "status": "200"}))}});
    assert_eq!(made(json!({"body": body}), json!({})).event_name, "LogMessage");
}

#[test]
fn every_value_of_an_attribute_that_is_there_twice_is_kept() {
    let attributes = json!([{"key": "k", "value": {"stringValue": "a"}}, {"key": "k", "value": {"intValue": 2}}]);
    let record = made(json!({"eventName": "x", "attributes": attributes}), json!({}));
    assert_eq!(record.request_parameters.unwrap()["attributes"]["k"], json!(["a", 2]));
}

#[test]
fn large_context_leaves_its_hash_and_the_rest_stays() {
    let resource = json!({"attributes": [{"key": "x", "value": {"stringValue": "y".repeat(100_000)}}]});
    let mut record = made(json!({"eventName": "a.b", "body": {"stringValue": "z".repeat(200_000)}}), resource);
    assert!(record.to_fitted_json().len() < 4096);
    assert_eq!(record.event_name, "AB");
    assert_eq!(record.additional_event_data.unwrap()["otlp"]["resource"]["edgetrailBytes"], 100_008);
}
