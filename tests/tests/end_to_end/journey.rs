//! An event's whole way: socket, buffer, wire, ledger, history, log file, digest, proof, auditor.

use std::time::{Duration, Instant};

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::wait;
use serde_json::{Value, json};

/// Source: the promise, event to history (ARCHITECTURE, G5).
const FRESH: Duration = Duration::from_secs(2);

fn lookup(deployment: &Deployment, attribute: &str, value: &str) -> Vec<Value> {
    let attribute = format!("AttributeKey={attribute},AttributeValue={value}");
    let answer = deployment.aws().json(&["cloudtrail", "lookup-events", "--lookup-attributes", &attribute]);
    answer["Events"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_posted_event_is_looked_up_within_two_seconds_and_delivered_with_a_valid_digest() {
    let deployment = Deployment::with_one_agent();
    // The promise is on the event, and the CLI takes its own time to start: as long as the slowest call of this run.
    let mut slowest_call = Duration::ZERO;
    let mut timed_lookup = || {
        let started = Instant::now();
        let events = lookup(&deployment, "EventName", "RefundOrder");
        slowest_call = slowest_call.max(started.elapsed());
        events
    };
    assert!(timed_lookup().is_empty());

    let event = json!({"eventSource": "shop.example", "eventName": "RefundOrder", "id": "refund-1", "requestParameters": {"order": "o-1"}});
    let posted = Instant::now();
    let answer: Value = serde_json::from_str(&post_one(deployment.socket(), &event).body).unwrap();
    let ids = answer.to_string();
    let events = wait::until("the event to be looked up", Duration::from_secs(30), || {
        let events = timed_lookup();
        (!events.is_empty()).then_some(events)
    });
    let took = posted.elapsed();
    eprintln!("posted and looked up in {took:?}, CLI included, whose slowest call took {slowest_call:?}");
    // The call that was under way when the event became visible may have missed it; the next one found it.
    assert!(took < FRESH + slowest_call * 2, "looked up {took:?} after it was posted");
    assert_eq!(events.len(), 1);
    let id = events[0]["EventId"].as_str().unwrap();
    assert!(ids.contains(id), "answered {ids}, looked up {id}");

    // The same client id again is the same event: history shows one.
    post_one(deployment.socket(), &event);
    assert_eq!(lookup(&deployment, "EventId", id).len(), 1);

    let record: Value = serde_json::from_str(events[0]["CloudTrailEvent"].as_str().unwrap()).unwrap();
    assert_eq!(record["requestParameters"]["order"], "o-1");
    assert_eq!(record["eventVersion"], "1.11");
    assert_eq!(record["recipientAccountId"], deployment.account());

    let in_file = wait::until("the event's log file", Duration::from_secs(60), || {
        delivered::records(&deployment.trail()).into_iter().find(|(_, record)| record["eventID"] == id)
    });
    assert_eq!(in_file.1, record, "history and log file hold the same record");
    deployment.wait_for_digests(1);
    deployment.wait_until_digested(&in_file.0);
    let audit = deployment.verify(&[]);
    assert!(audit.status.success(), "{}", edgetrail_tests::process::text(&audit));
    deployment.check_proofs_by_second_implementation();
}

#[test]
fn every_attribute_finds_its_event_and_conditions_are_anded() {
    let deployment = Deployment::with_one_agent();
    let resource = json!([{"type": "Shop::Order", "ARN": "arn:aws:shop:dc-local-1:111122223333:order/77"}]);
    for (number, name) in ["CreateOrder", "RefundOrder", "GetOrder"].iter().enumerate() {
        let event = json!({"eventSource": "shop.example", "eventName": name, "id": format!("a-{number}"), "readOnly": *name == "GetOrder",
            "resources": if *name == "CreateOrder" { resource.clone() } else { json!([]) }});
        post_one(deployment.socket(), &event);
    }
    wait::until("all three in the history", Duration::from_secs(30), || {
        (lookup(&deployment, "EventSource", "shop.example").len() == 3).then_some(())
    });
    let created = lookup(&deployment, "EventName", "CreateOrder");
    let id = created[0]["EventId"].as_str().unwrap();
    assert_eq!(lookup(&deployment, "EventId", id).len(), 1);
    assert_eq!(lookup(&deployment, "ResourceType", "Shop::Order").len(), 1);
    assert_eq!(lookup(&deployment, "ResourceName", "arn:aws:shop:dc-local-1:111122223333:order/77").len(), 1);
    assert!(lookup(&deployment, "ReadOnly", "true").iter().any(|event| event["EventName"] == "GetOrder"));
    assert_eq!(lookup(&deployment, "AccessKeyId", "AKIAIOSFODNN7EXAMPLE").len(), 0);
    let own_key = deployment.aws().access_key;
    wait::until("the collector's record of a look-up", Duration::from_secs(30), || {
        let own = lookup(&deployment, "AccessKeyId", &own_key);
        own.iter().any(|event| event["EventName"] == "LookupEvents").then_some(())
    });
    // The key's name is the user.
    let by_user = lookup(&deployment, "Username", "tests");
    assert!(by_user.iter().any(|event| event["EventName"] == "LookupEvents" && event["AccessKeyId"] == own_key));

    let both = ["cloudtrail", "lookup-events", "--lookup-attributes", "AttributeKey=EventSource,AttributeValue=shop.example"];
    let and = |name: &str| {
        let second = format!("AttributeKey=EventName,AttributeValue={name}");
        deployment.aws().json(&[&both[..], &[&second]].concat())["Events"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((and("GetOrder"), and("NoSuchEvent")), (1, 0));

    let pages = deployment.aws().json(&["cloudtrail", "lookup-events", "--page-size", "1", "--lookup-attributes", both[3]]);
    let times: Vec<f64> = pages["Events"].as_array().unwrap().iter().filter_map(|event| event["EventTime"].as_f64()).collect();
    assert_eq!(times.len(), 3);
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first: {times:?}");
}

#[test]
fn a_stopped_deployment_goes_on_with_the_same_trail() {
    let mut deployment = Deployment::with_one_agent();
    let event = |id: &str| json!({"eventSource": "shop.example", "eventName": "CreateOrder", "id": id});
    post_one(deployment.socket(), &event("before"));
    deployment.stop();
    deployment.start();
    post_one(deployment.socket(), &event("after"));
    wait::until("both events in log files", Duration::from_secs(90), || {
        let records = delivered::records(&deployment.trail());
        (records.iter().filter(|(_, record)| record["eventName"] == "CreateOrder").count() == 2).then_some(())
    });
    deployment.wait_until_all_digested();
    let audit = deployment.verify(&["-o", "json"]);
    let report: Value = serde_json::from_slice(&audit.stdout).unwrap();
    assert_eq!(report["integrity"], true, "{report:#}");
    // An orderly stop seals a close: nothing is missing, and no stream is left open.
    assert_eq!(report["completeness"], true, "{report:#}");
}
