//! Records of exchanges that no proxy need have seen.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::sources::proxy::Exchange;
use crate::sources::proxy::config::AnswerAfter;
use crate::sources::proxy::exchange::Caller;
use crate::sources::proxy::service::Service;

fn exchange(end: End) -> Exchange {
    let asked = Asked {
        method: "DELETE".to_owned(),
        path: "/v1/orders/7".to_owned(),
        query: Some("force=1".to_owned()),
        protocol: "HTTP/1.1",
        host: Some("shop.example".to_owned()),
        request_id: Some("asked".to_owned()),
        ..Asked::default()
    };
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    Exchange {
        service: Arc::new(Service::for_tests()),
        position: "run/1".to_owned(),
        time: 1_700_000_000_000_000_000,
        duration_us: 1500,
        asked,
        caller: Caller { address, peer: address, port: 4711, is_trusted: false, tls: None },
        bearer: None,
        body: None,
        end,
        answer_after: AnswerAfter::Forward,
        _room: None,
    }
}

fn made(end: End) -> Value {
    let mut record = record(&Host::for_tests(), Uuid::nil(), &exchange(end));
    serde_json::from_slice(&record.to_fitted_json()).unwrap()
}

#[test]
fn an_answered_request_is_told_as_an_access_log_tells_it() {
    let record =
        made(End::Answered(Answered { status: 204, bytes: Some(0), request_id: Some("r-9".to_owned()), ..Answered::default() }));
    assert_eq!((&record["eventSource"], &record["eventName"]), (&json!("orders.example"), &json!("DeleteResource")));
    assert_eq!((&record["eventTime"], &record["sourceIPAddress"]), (&json!("2023-11-14T22:13:20Z"), &json!("192.0.2.7")));
    assert_eq!(record["responseElements"], json!({"status": 204, "bytes": 0, "durationMs": 1.5}));
    assert_eq!((&record["requestID"], &record["errorCode"]), (&json!("r-9"), &Value::Null));
    assert_eq!(record["requestParameters"]["query"], json!({"force": "1"}));
    assert_eq!((&record["readOnly"], &record["eventType"]), (&json!(false), &json!("AwsApiCall")));
}

#[test]
fn every_other_end_is_an_error_that_says_whose() {
    let failed = made(End::Failed { status: 502, reason: "refused".to_owned() });
    assert_eq!((&failed["errorCode"], &failed["errorMessage"]), (&json!("BadGateway"), &json!("refused")));
    assert_eq!(failed["responseElements"], json!({"status": 502, "answeredBy": "proxy", "durationMs": 1.5}));
    let refused = made(End::Refused { status: 400, reason: "two hosts".to_owned() });
    assert_eq!((&refused["errorCode"], &refused["requestID"]), (&json!("BadRequest"), &json!("asked")));
    let gone = made(End::Abandoned);
    assert_eq!((&gone["errorCode"], &gone["responseElements"]), (&json!("ClientClosedRequest"), &json!({"durationMs": 1.5})));
    for (code, name) in [(7, "AccessDenied"), (5, "NotFound"), (16, "AccessDenied"), (99, "Grpc99")] {
        let grpc = Some((code, Some("no".to_owned())));
        let record = made(End::Answered(Answered { status: 200, grpc, ..Answered::default() }));
        assert_eq!((&record["errorCode"], &record["errorMessage"]), (&json!(name), &json!("no")), "{code}");
    }
}
