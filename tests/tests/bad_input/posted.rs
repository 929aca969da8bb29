//! Bodies and requests that are none: each is answered with the place and the way out, and the agent lives.

use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::posting::{Answer, Caller, post_one};
use serde_json::{Value, json};

/// Largest event and body. Source: docs/sources.md.
const EVENT_BYTES_MAX: usize = 960 * 1024;
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

struct Refused {
    body: Vec<u8>,
    status: u16,
    /// JSON path of the fault.
    at: &'static str,
    /// What the message must say.
    says: &'static str,
}

fn refused(body: impl Into<Vec<u8>>, status: u16, at: &'static str, says: &'static str) -> Refused {
    Refused { body: body.into(), status, at, says }
}

fn good() -> Value {
    json!({"eventSource": "billing.example", "eventName": "CreateInvoice"})
}

fn with(name: &str, value: Value) -> String {
    let mut event = good();
    event[name] = value;
    event.to_string()
}

#[test]
fn a_bad_body_is_refused_by_its_place_and_the_agent_lives() {
    let deployment = Deployment::with_one_agent();
    let mut caller = Caller::connect(deployment.socket()).unwrap();
    let depth = 100_000;
    let deep =
        format!(r#"{{"eventSource":"a.b","eventName":"C","requestParameters":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let cases = [
        refused("", 400, "$", "send one event"),
        refused("{", 400, "$", "EOF"),
        refused("nonsense", 400, "$", "JSON"),
        refused(good().to_string().replace('}', ""), 400, "$", "EOF"),
        refused(b"{\"eventSource\":\"\xff\"}".to_vec(), 400, "$", "UTF-8"),
        refused(deep, 400, "$", "nested deeper than"),
        refused("3", 400, "$", "object"),
        refused(r#"{"eventName":"C"}"#, 400, "$.eventSource", "eventSource"),
        refused(with("eventName", json!(3)), 400, "$.eventName", "string"),
        refused(with("eventSource", json!("agent.edgetrail")), 400, "$.eventSource", "edgetrail"),
        refused(with("eventTime", json!("yesterday")), 400, "$.eventTime", "2"),
        refused(with("readOnly", json!("yes")), 400, "$.readOnly", "true"),
        refused(json!([good(), {"eventSource": "a.b", "eventName": {}}]).to_string(), 400, "$[1].eventName", "string"),
        refused(with("x", json!("y".repeat(EVENT_BYTES_MAX))), 413, "$[0]", "hash"),
        refused(json!(vec![good(); 1025]).to_string(), 413, "$", "several requests"),
    ];
    for case in cases {
        let shown = String::from_utf8_lossy(&case.body[..case.body.len().min(80)]).into_owned();
        let answer = caller.post(&case.body).unwrap();
        assert_eq!(answer.status, case.status, "{shown}: {}", answer.body);
        let error = &serde_json::from_str::<Value>(&answer.body).unwrap()["error"];
        assert_eq!(error["at"], case.at, "{shown}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(case.says), "{shown}: `{}` is not in: {message}", case.says);
    }
    post_one(deployment.socket(), &good());
}

#[test]
fn a_bad_request_is_refused_and_the_agent_lives() {
    let deployment = Deployment::with_one_agent();
    let request = |head: &str, body: &str| format!("{head}\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let length = |length: usize| format!("POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{{");
    let event = good().to_string();
    let huge = format!("POST /v1/events HTTP/1.1\r\nHost: x\r\nX: {}", "h".repeat(BODY_BYTES_MAX));
    let cases = [
        (request("GET /v1/events HTTP/1.1", ""), 405, "use POST /v1/events"),
        (request("POST /v2/events HTTP/1.1", &event), 404, "POST /v1/events"),
        (request("POST /v1/events HTTP/1.1\r\nContent-Encoding: gzip", &event), 415, "without Content-Encoding"),
        (request("POST /v1/events HTTP/1.1\r\nIdempotency-Key: ", &event), 400, "Idempotency-Key"),
        (length(BODY_BYTES_MAX + 1), 413, "several requests"),
        (length(100), 400, "send again"),
        // What is not understood as HTTP is answered by the status line alone.
        (huge, 431, ""),
        ("nonsense\r\n\r\n".to_owned(), 400, ""),
        ("POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n".to_owned(), 400, ""),
    ];
    for (request, status, says) in cases {
        let shown = &request[..request.len().min(80)];
        let answer = exchange(&deployment, &request);
        assert_eq!(answer.status, status, "{shown}: {}", answer.body);
        assert!(answer.body.contains(says), "{shown}: `{says}` is not in: {}", answer.body);
    }
    post_one(deployment.socket(), &good());
}

/// On a connection of its own: some of these end it.
fn exchange(deployment: &Deployment, request: &str) -> Answer {
    let mut caller = Caller::connect(deployment.socket()).unwrap();
    let ends_early = request.contains("Content-Length: 100");
    let answer = if ends_early { caller.exchange_last(request.as_bytes()) } else { caller.exchange(request.as_bytes()) };
    answer.unwrap_or_else(|error| panic!("{error}: {}", &request[..request.len().min(80)]))
}
