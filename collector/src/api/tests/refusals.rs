//! What no SDK sends: raw requests, silence, too much.

use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpSocket;

use super::bench::{Bench, REGION};
use super::raw::{Signed, connect, raw};
use crate::control::TrailConfig;
use crate::history::{Attribute, Query};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused_in_its_protocol() {
    let bench = Bench::start().await;
    for (target, body, code) in [
        ("CloudTrail_20131101.DropTables", "{}", "UnknownOperationException"),
        ("", "{}", "UnknownOperationException"),
        ("CloudTrail_20131101.CreateTrail", "{}", "UnsupportedOperationException"),
        ("CloudTrail_20131101.GetTrail", "[]", "SerializationException"),
        ("CloudTrail_20131101.GetTrail", "{", "SerializationException"),
        ("CloudTrail_20131101.GetTrail", r#"{"Name":7}"#, "SerializationException"),
        ("CloudTrail_20131101.GetTrail", r#"{"Name":null}"#, "InvalidTrailNameException"),
        ("CloudTrail_20131101.LookupEvents", r#"{"StartTime":"yesterday"}"#, "SerializationException"),
    ] {
        let (status, answer) = Signed::by(&bench.key).call(&bench, target, body).await;
        assert_eq!((status, &answer["__type"]), (400, &code.into()), "{target} {body}: {answer}");
    }
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let (_, answer) = Signed::by(&bench.key).call(&bench, "CloudTrail_20131101.GetTrail", &format!(r#"{{"Name":{deep}}}"#)).await;
    assert_eq!(answer["__type"], "SerializationException");
    let (status, answer) = Signed::by(&bench.key).call(&bench, "CloudTrail_20131101.GetTrail", &" ".repeat(300_000)).await;
    assert_eq!((status, &answer["__type"]), (413, &"RequestEntityTooLargeException".into()));
    let (_, answer) =
        Signed::by(&bench.key).ago(Duration::from_secs(20 * 60)).call(&bench, "CloudTrail_20131101.ListTrails", "").await;
    assert_eq!(answer["__type"], "RequestExpired");
    let (status, answer) = Signed::by(&bench.key).call(&bench, "CloudTrail_20131101.ListTrails", "").await;
    assert_eq!(status, 200, "{answer}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_whose_settings_are_damaged_hides_no_other() {
    let bench = Bench::start().await;
    let good = bench.control.trail("default").unwrap().unwrap();
    let old = TrailConfig { name: "old one".to_owned(), arn: good.arn.replace("default", "old one"), ..good.clone() };
    bench.control.put_trail(old).unwrap();
    let (status, answer) = Signed::by(&bench.key).call(&bench, "CloudTrail_20131101.ListTrails", "{}").await;
    assert_eq!(status, 200, "{answer}");
    let listed: Vec<&Value> = answer["Trails"].as_array().unwrap().iter().map(|trail| &trail["TrailARN"]).collect();
    assert_eq!(listed, [&Value::from(good.arn)]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_request_is_refused_in_the_protocol_it_speaks() {
    let bench = Bench::start().await;
    let ending = "\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let (status, body) = raw(&bench, format!("GET /healthz HTTP/1.1{ending}").as_bytes()).await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    let (status, body) = raw(&bench, format!("GET /edgetrail/key HTTP/1.1{ending}").as_bytes()).await;
    assert!(status == 403 && body.contains("<Code>AccessDenied</Code>"), "{body}");
    let (status, body) = raw(&bench, format!("POST / HTTP/1.1{ending}").as_bytes()).await;
    assert!(status == 403 && body.contains("<Code>MissingAuthenticationToken</Code>"), "{body}");
    let request = format!("POST / HTTP/1.1\r\nx-amz-target: CloudTrail_20131101.StopLogging{ending}");
    let (status, body) = raw(&bench, request.as_bytes()).await;
    assert!(status == 400 && body.contains(r#""__type":"MissingAuthenticationToken""#), "{body}");
    let (status, _) = raw(&bench, b"nonsense\r\n\r\n").await;
    assert_eq!(status, 400);

    // Refused calls are recorded as nobody's, in the home account and region.
    let query = || Query::new(super::bench::ACCOUNT, REGION, vec![(Attribute::EventName, "StopLogging".to_owned())]);
    let recorded = async {
        loop {
            if let Some(event) = bench.history.lookup(query()).await.unwrap().events.pop() {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let event = tokio::time::timeout(Duration::from_secs(10), recorded).await.unwrap();
    let record: Value = serde_json::from_slice(&event.record).unwrap();
    assert_eq!(record["errorCode"], "MissingAuthenticationToken");
    assert_eq!(record["userIdentity"]["type"], "Unknown");
    bench.stop().await;
}

/// `bucket.host`, as SDKs address a bucket by default.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_found_in_the_host() {
    let bench = Bench::start().await;
    for (host, path, expected) in [
        ("edgetrail.localhost", "/?location", "<LocationConstraint"),
        ("edgetrail.localhost", "/absent", "<Code>NoSuchKey</Code>"),
        ("localhost", "/edgetrail?location", "<LocationConstraint"),
        ("elsewhere.localhost", "/?location", "<ListAllMyBucketsResult"),
    ] {
        let (_, body) = Signed::by(&bench.key).get(&bench, host, path).await;
        assert!(body.contains(expected), "{host}{path}: {body}");
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_peers_hold_nobody_up() {
    let bench = Bench::start().await;
    let mut silent = Vec::new();
    // More than one address may have unfinished: those beyond are reset, and the others wait in silence.
    for _ in 0..100 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(bench.address).await.unwrap());
    }
    let half_open = connect(&bench).await;
    let (status, _) = Signed::by(&bench.key).call(&bench, "CloudTrail_20131101.ListTrails", "").await;
    assert_eq!(status, 200);
    drop(half_open);
    bench.stop().await;
}
