//! Who may do what: the product's own policies over every operation, what is hidden from other accounts, what is refused.

use std::time::Duration;

use edgetrail_policy::Managed;
use edgetrail_proto::identity::AccountId;
use serde_json::{Value, json};

use super::bench::{ACCOUNT, Bench, REGION, TRAIL_ARN, now_ns, record};
use super::raw::Signed;
use crate::api::operations::{OPERATIONS, On};
use crate::control::{AccessKey, Attached};
use crate::history::{Attribute, Query};

/// An account that has a trail here, and one that nobody has ever heard of.
const PRESENT: &str = ACCOUNT;
const ABSENT: &str = "999900001111";

/// What the narrower policies allow of CloudTrail's operations; the widest allows every one.
const SET_UP: [&str; 18] = [
    "DescribeTrails",
    "GetChannel",
    "GetDashboard",
    "GetEventConfiguration",
    "GetEventDataStore",
    "GetEventSelectors",
    "GetImport",
    "GetInsightSelectors",
    "GetResourcePolicy",
    "GetTrail",
    "GetTrailStatus",
    "ListChannels",
    "ListDashboards",
    "ListEventDataStores",
    "ListImportFailures",
    "ListImports",
    "ListTags",
    "ListTrails",
];
const RECORDS: [&str; 10] = [
    "CancelQuery",
    "DescribeQuery",
    "GenerateQuery",
    "GetQueryResults",
    "ListInsightsData",
    "ListInsightsMetricData",
    "ListQueries",
    "LookupEvents",
    "SearchSampleQueries",
    "StartQuery",
];
const EVIDENCE: [&str; 1] = ["ListPublicKeys"];

fn key(bench: &Bench, account: &str, name: &str, attached: &[Attached]) -> AccessKey {
    let account: AccountId = account.parse().unwrap();
    bench.control.create_access_key(account, name, Some(attached), now_ns()).unwrap()
}

fn document(text: Value) -> Attached {
    Attached::document("own", &text.to_string()).unwrap()
}

fn everything() -> Attached {
    document(json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow", "Action": "*", "Resource": "*" } }))
}

fn target(name: &str) -> String {
    format!("CloudTrail_20131101.{name}")
}

fn is_denied(answer: &Value) -> bool {
    answer["__type"] == "AccessDeniedException"
}

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_of_the_product_allows_its_operations_and_no_other() {
    let bench = Bench::start().await;
    for managed in Managed::ALL {
        let key = key(&bench, ACCOUNT, managed.name(), &[Attached::managed(managed)]);
        let mut allowed = Vec::new();
        // Stopping last, so that nothing else finds it stopped.
        for operation in OPERATIONS.iter().filter(|operation| operation.name != "StopLogging") {
            let body = match operation.on {
                On::Account => json!({}),
                On::Trail(member) => json!({ member: "default" }),
                On::Resource(member) => json!({ member: TRAIL_ARN }),
            };
            let (status, answer) = Signed::by(&key).call(&bench, &target(operation.name), &body.to_string()).await;
            if is_denied(&answer) {
                let named = format!("is not authorized to perform: cloudtrail:{} on resource: ", operation.name);
                assert!(status == 400 && answer["message"].as_str().is_some_and(|text| text.contains(&named)), "{answer}");
            } else {
                allowed.push(operation.name);
            }
        }
        let expected = |name: &&str| match managed {
            Managed::Viewer => SET_UP.contains(name),
            Managed::Investigator => SET_UP.contains(name) || RECORDS.contains(name),
            Managed::Auditor => SET_UP.contains(name) || RECORDS.contains(name) || EVIDENCE.contains(name),
            Managed::Administrator => true,
        };
        let expected: Vec<&str> =
            OPERATIONS.iter().map(|operation| operation.name).filter(|name| *name != "StopLogging").filter(expected).collect();
        assert_eq!(allowed, expected, "{managed:?}");
        let (_, stopped) = Signed::by(&key).call(&bench, &target("StopLogging"), r#"{"Name":"default"}"#).await;
        assert_eq!(is_denied(&stopped), managed != Managed::Administrator, "{managed:?}: {stopped}");

        for (path, action) in [("/", "ListAllMyBuckets"), ("/edgetrail?list-type=2", "ListBucket"), ("/edgetrail/x", "GetObject")]
        {
            let (status, body) = Signed::by(&key).get(&bench, "localhost", path).await;
            let denied = status == 403 && body.contains("<Code>AccessDenied</Code>") && body.contains(&format!("s3:{action} "));
            assert_eq!(denied, managed < Managed::Auditor, "{managed:?} {path}: {body}");
        }
    }
    bench.stop().await;
}

/// Whatever a caller's policies allow: an answer about an account that is here differs in nothing from one about an account
/// that is not.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_tell_whether_another_account_exists() {
    let bench = Bench::start().await;
    bench.commit(record(1, "RunCommand", "alice", Duration::from_secs(5))).await;
    let other = "444455556666";
    let keys = [
        bench.foreign_key.clone(),
        key(&bench, other, "wide", &[everything()]),
        key(&bench, other, "narrow", &[Attached::managed(Managed::Viewer)]),
        key(&bench, other, "nothing", &[]),
    ];
    for key in &keys {
        let mut compared = 0;
        for operation in &OPERATIONS {
            let body = |account: &str| {
                let arn = TRAIL_ARN.replace(ACCOUNT, account);
                match operation.on {
                    // A caller finds its own calls, of which there are more each time.
                    On::Account if operation.name == "LookupEvents" => {
                        json!({ "LookupAttributes": [{ "AttributeKey": "EventName", "AttributeValue": "RunCommand" }] })
                    }
                    On::Account => json!({ "trailNameList": [arn] }),
                    On::Trail(member) => json!({ member: arn }),
                    On::Resource(member) if member.ends_with("List") => json!({ member: [arn] }),
                    On::Resource(member) => json!({ member: arn }),
                }
            };
            let mut answers = Vec::new();
            for account in [PRESENT, ABSENT] {
                let asked = body(account).to_string();
                let (status, answer) = Signed::by(key).call(&bench, &target(operation.name), &asked).await;
                answers.push((status, answer.to_string().replace(account, "ACCOUNT")));
            }
            assert_eq!(answers[0], answers[1], "{} by {}", operation.name, key.name);
            compared += 1;
        }
        assert_eq!(compared, 60);

        for path in [
            "/BUCKET",
            "/BUCKET?location",
            "/BUCKET?list-type=2&prefix=AWSLogs%2FACCOUNT%2F",
            "/BUCKET?list-type=2&prefix=AWSLogs%2F&delimiter=%2F",
            "/BUCKET/AWSLogs/ACCOUNT/CloudTrail/dc-local-1/x.json.gz",
        ] {
            let mut answers = Vec::new();
            for account in [PRESENT, ABSENT] {
                let path = path.replace("BUCKET", "edgetrail").replace("ACCOUNT", account);
                let (status, answer) = Signed::by(key).get(&bench, "localhost", &path).await;
                answers.push((status, without_request_id(&answer).replace(account, "ACCOUNT")));
            }
            assert_eq!(answers[0], answers[1], "{path} by {}", key.name);
        }
        // What is listed of its own is no other account's.
        let (_, listed) =
            Signed::by(key).get(&bench, "localhost", "/edgetrail?list-type=2&prefix=AWSLogs%2F444455556666%2F").await;
        assert!(!listed.contains(ACCOUNT), "{listed}");
        let (_, found) = Signed::by(key).call(&bench, &target("LookupEvents"), "{}").await;
        let mut events = found["Events"].as_array().into_iter().flatten();
        assert!(events.all(|event| event["EventName"] != "RunCommand"), "{found}");
    }
    bench.stop().await;
}

fn without_request_id(xml: &str) -> String {
    let (before, rest) = xml.split_once("<RequestId>").unwrap_or((xml, ""));
    format!("{before}{}", rest.split_once("</RequestId>").map_or("", |(_, after)| after))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_reads_its_own_log_files_and_their_owner_reads_all() {
    let bench = Bench::start().await;
    let mut theirs = record(1, "RunCommand", "eve", Duration::from_secs(5));
    theirs.recipient_account_id = "444455556666".to_owned();
    bench.internal.record(theirs).await.unwrap();
    bench.commit(record(2, "RunCommand", "alice", Duration::from_secs(5))).await;
    let eve = Signed::by(&bench.foreign_key);
    let delivered = async {
        loop {
            let (status, listed) =
                eve.get(&bench, "localhost", "/edgetrail?list-type=2&prefix=AWSLogs%2F444455556666%2FCloudTrail%2F").await;
            assert_eq!(status, 200, "{listed}");
            let key = listed.split_once("<Key>").and_then(|(_, rest)| rest.split_once("</Key>")).map(|(key, _)| key.to_owned());
            match key {
                Some(key) => return key,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let key = tokio::time::timeout(Duration::from_secs(30), delivered).await.expect("a log file of the other account");
    // Its digests and proofs tell of no other account.
    let (_, listed) = eve.get(&bench, "localhost", "/edgetrail?list-type=2&prefix=AWSLogs%2F444455556666%2F").await;
    for key in listed.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
        if key.contains("/CloudTrail/") {
            continue;
        }
        let object = std::fs::read(bench.dir.path().join("trail/edgetrail").join(key)).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&object[..]), &mut text).unwrap();
        assert!(!text.contains(ACCOUNT), "{key}: {text}");
    }
    for (signed, path, expected) in [
        (&eve, format!("/edgetrail/{key}"), 200),
        (&eve, "/edgetrail?list-type=2".to_owned(), 403),
        (&eve, "/edgetrail?list-type=2&prefix=AWSLogs%2F".to_owned(), 403),
        (&eve, format!("/edgetrail?list-type=2&prefix=AWSLogs%2F{ACCOUNT}%2F"), 403),
        (&Signed::by(&bench.key), format!("/edgetrail/{key}"), 200),
        (&Signed::by(&bench.key), "/edgetrail?list-type=2".to_owned(), 200),
    ] {
        let (status, body) = signed.get(&bench, "localhost", &path).await;
        assert_eq!(status, expected, "{path}: {body}");
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_principal_may_do_changes_with_its_next_call_and_a_deny_wins() {
    let bench = Bench::start().await;
    let account: AccountId = ACCOUNT.parse().unwrap();
    let key = key(&bench, ACCOUNT, "ops", &[]);
    let allowed = async |name: &str, body: &str| !is_denied(&Signed::by(&key).call(&bench, &target(name), body).await.1);
    assert!(!allowed("ListTrails", "{}").await, "without a policy nothing is allowed");
    let statement = |effect: &str, action: &str, condition: Value| json!({ "Effect": effect, "Action": action, "Resource": "*", "Condition": condition });
    let policy = |statements: &[Value]| document(json!({ "Version": "2012-10-17", "Statement": statements }));
    let here = json!({ "IpAddress": { "aws:SourceIp": "127.0.0.0/8" }, "Bool": { "aws:SecureTransport": "true" } });
    let elsewhere = json!({ "IpAddress": { "aws:SourceIp": "192.0.2.0/24" } });
    let put = |attached: &[Attached]| bench.control.put_principal(&account, "ops", attached, now_ns()).unwrap();

    put(&[policy(&[statement("Allow", "cloudtrail:List*", here.clone())])]);
    assert!(allowed("ListTrails", "{}").await && !allowed("GetTrail", r#"{"Name":"default"}"#).await);
    put(&[policy(&[statement("Allow", "cloudtrail:List*", elsewhere)])]);
    assert!(!allowed("ListTrails", "{}").await);
    put(&[Attached::managed(Managed::Administrator), policy(&[statement("Deny", "cloudtrail:GetTrail", here)])]);
    assert!(allowed("ListTrails", "{}").await && !allowed("GetTrail", r#"{"Name":"default"}"#).await, "a deny wins");
    let region = json!({ "StringEquals": { "aws:RequestedRegion": REGION } });
    put(&[policy(&[statement("Allow", "cloudtrail:*", region)])]);
    assert!(allowed("GetTrail", r#"{"Name":"default"}"#).await);
    let one = json!({ "Effect": "Allow", "Action": "cloudtrail:GetTrail", "Resource": TRAIL_ARN });
    put(&[policy(&[one])]);
    assert!(allowed("GetTrail", r#"{"Name":"default"}"#).await, "a name is the trail's ARN");
    assert!(!allowed("GetTrail", r#"{"Name":"other"}"#).await);

    // The denied attempt is recorded as its caller's.
    let query = || Query::new(ACCOUNT, REGION, vec![(Attribute::Username, "ops".to_owned())]);
    let recorded = async {
        loop {
            let found = bench.history.lookup(query()).await.unwrap().events;
            let denied = found.into_iter().find(|event| String::from_utf8_lossy(&event.record).contains("AccessDeniedException"));
            match denied {
                Some(event) => return event,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let event = tokio::time::timeout(Duration::from_secs(10), recorded).await.expect("the denied call is recorded");
    let record: Value = serde_json::from_slice(&event.record).unwrap();
    assert_eq!(record["userIdentity"]["userName"], "ops", "{record}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_limited_and_counted_and_never_delay_who_can_prove_itself() {
    let bench = Bench::start().await;
    let (mut told, mut throttled) = (0, 0);
    for _ in 0..40 {
        let (_, answer) = Signed::wrongly(&bench.key).call(&bench, &target("ListTrails"), "{}").await;
        match answer["__type"].as_str() {
            Some("InvalidSignatureException") => told += 1,
            Some("ThrottlingException") => throttled += 1,
            _ => panic!("{answer}"),
        }
    }
    assert!(told >= 20 && throttled > 0, "{told} told, {throttled} throttled");
    let (status, body) = Signed::wrongly(&bench.key).get(&bench, "localhost", "/edgetrail").await;
    assert!(status == 503 && body.contains("<Code>SlowDown</Code>"), "{status} {body}");
    let (status, answer) = Signed::by(&bench.key).call(&bench, &target("ListTrails"), "{}").await;
    assert_eq!(status, 200, "the key's holder goes on: {answer}");
    bench.stop().await;
}
