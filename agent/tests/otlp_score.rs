//! OpenTelemetry's own example requests: every record is found, with its resource, attributes and body.
//!
//! The data lies beside the workspace and is skipped, loudly, where it is not. What is expected is read from the requests
//! here, apart from the code that is judged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use edgetrail_agent::normalize::audit::Decoder;
use edgetrail_agent::normalize::names::Names;
use edgetrail_agent::normalize::{Host, Made, Normalizer};
use edgetrail_agent::sources::otlp::{Encoding, observations};
use edgetrail_proto::identity::AgentId;
use serde_json::{Map, Value};

/// The requests: name and text.
fn requests() -> Vec<(String, String)> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let root = std::env::var_os("EDGETRAIL_SHARED_DATA").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let folder = root.join("otlp_logs/proto-examples");
    if !folder.is_dir() {
        eprintln!("SKIPPED: {} is not there; set EDGETRAIL_SHARED_DATA", folder.display());
        return Vec::new();
    }
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let jsons = paths.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut requests: Vec<_> = jsons.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect();
    requests.sort();
    requests
}

fn records(body: &[u8]) -> Vec<Value> {
    let host = Host {
        agent: AgentId::from_bytes([7; 16]),
        name: "web-1".to_owned(),
        account: "111122223333".parse().unwrap(),
        region: "dc-local-1".parse().unwrap(),
        partition: "aws".to_owned(),
        keep_raw: false,
    };
    let names = Names::of_files(Path::new("/nonexistent"), Path::new("/nonexistent"));
    let mut normalizer = Normalizer::new(host, Decoder::restore(None), names);
    let observations = observations(&body.to_vec().into(), Encoding::Json, 0).unwrap_or_default();
    let drafts = observations.iter().flat_map(|observation| normalizer.normalize(observation));
    let json = |made: Made| match made {
        Made::Record(mut record) => record.to_fitted_json(),
        Made::Written(bytes) | Made::Foreign(bytes) => bytes,
    };
    drafts.map(|draft| serde_json::from_slice(&json(draft.record)).unwrap()).collect()
}

/// The value within an AnyValue of a request.
fn plain(any: &Value) -> Value {
    let (kind, held) = any.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "intValue" => held.as_str().unwrap().parse::<i64>().unwrap().into(),
        "arrayValue" => held["values"].as_array().unwrap().iter().map(plain).collect(),
        "kvlistValue" => Value::Object(attributes(&held["values"])),
        _ => held.clone(),
    }
}

fn attributes(list: &Value) -> Map<String, Value> {
    let items = list.as_array().into_iter().flatten();
    items.map(|item| (item["key"].as_str().unwrap().to_owned(), plain(&item["value"]))).collect()
}

#[test]
fn every_record_of_the_examples_is_found_with_its_resource_attributes_and_body() {
    let mut score = [0; 5];
    for (name, text) in requests() {
        let request: Value = serde_json::from_str(&text).unwrap();
        let mut found = records(text.as_bytes()).into_iter();
        for resource_logs in request["resourceLogs"].as_array().unwrap() {
            for scope_logs in resource_logs["scopeLogs"].as_array().unwrap() {
                for expected in scope_logs["logRecords"].as_array().unwrap() {
                    let record = found.next().unwrap_or_default();
                    let otlp = &record["additionalEventData"]["otlp"];
                    let checks = [
                        record["eventSource"] == "my.service",
                        otlp["resource"] == Value::Object(attributes(&resource_logs["resource"]["attributes"]))
                            && otlp["scope"]["attributes"] == Value::Object(attributes(&scope_logs["scope"]["attributes"])),
                        record["requestParameters"]["attributes"] == Value::Object(attributes(&expected["attributes"])),
                        record["requestParameters"]["body"] == plain(&expected["body"]),
                    ];
                    score[0] += 1;
                    for (right, count) in checks.iter().zip(&mut score[1..]) {
                        *count += i32::from(*right);
                    }
                }
            }
        }
        assert!(found.next().is_none(), "{name}: more records than were sent");
    }
    let [records, accepted, resource, attributes, body] = score;
    println!("otlp: {records} records, {accepted} accepted, {resource} resources, {attributes} attributes, {body} bodies right");
    assert_eq!(score, [records; 5]);
}

/// Every request cut at every byte: refused or recorded, and never a panic.
#[test]
fn a_cut_request_is_refused() {
    for (_, text) in requests() {
        for end in 0..text.trim_end().len() {
            assert!(records(&text.as_bytes()[..end]).is_empty(), "cut at {end}");
        }
    }
}
