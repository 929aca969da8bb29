//! Kubernetes audit events of other projects, judged event by event: accepted, and user, verb and object as the event says.
//!
//! The data lies beside the workspace and is skipped, loudly, where it is not. What is expected is worked out here from
//! the event's own members, apart from the code that is judged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use edgetrail_agent::normalize::audit::Decoder;
use edgetrail_agent::normalize::names::Names;
use edgetrail_agent::normalize::{Host, Made, Normalizer};
use edgetrail_agent::sources::kubernetes;
use edgetrail_proto::identity::AgentId;
use serde_json::Value;

fn data() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let root = std::env::var_os("EDGETRAIL_SHARED_DATA").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let path = root.join("kubernetes_audit");
    if !path.is_dir() {
        eprintln!("SKIPPED: {} is not there; set EDGETRAIL_SHARED_DATA", path.display());
        return None;
    }
    Some(path)
}

/// Every event of the folders, by folder.
fn corpora(root: &Path) -> BTreeMap<String, Vec<String>> {
    let mut corpora: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name == "expected.json" || !["json", "jsonl", "log"].iter().any(|end| name.ends_with(&format!(".{end}"))) {
                continue;
            }
            let corpus = path.strip_prefix(root).unwrap().components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            for value in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
                let value = value.unwrap();
                // Rule tests wrap the event.
                let event = value.get("event").unwrap_or(&value);
                corpora.entry(corpus.clone()).or_default().push(event.to_string());
            }
        }
    }
    corpora
}

fn normalizer() -> Normalizer {
    let host = Host {
        agent: AgentId::from_bytes([7; 16]),
        name: "web-1".to_owned(),
        account: "111122223333".parse().unwrap(),
        region: "dc-local-1".parse().unwrap(),
        partition: "aws".to_owned(),
        keep_raw: false,
    };
    Normalizer::new(host, Decoder::restore(None), Names::of_files(Path::new("/nonexistent"), Path::new("/nonexistent")))
}

fn records(normalizer: &mut Normalizer, event: &str) -> Vec<Value> {
    let observation = kubernetes::observation(event.as_bytes().to_vec().into(), 0);
    let mut drafts = normalizer.normalize(&observation);
    // Each event by itself: an announcement makes its record, too.
    drafts.extend(normalizer.drain());
    let json = |made: Made| match made {
        Made::Record(mut record) => record.to_fitted_json(),
        Made::Written(bytes) | Made::Foreign(bytes) => bytes,
    };
    drafts.into_iter().map(|draft| serde_json::from_slice(&json(draft.record)).unwrap()).collect()
}

#[derive(Default)]
struct Score {
    events: usize,
    accepted: usize,
    user: usize,
    verb: usize,
    object: usize,
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn is_user_right(event: &Value, record: &Value) -> bool {
    let user = text(event, "/user/username");
    let identity = &record["userIdentity"];
    let found = [text(identity, "/sessionContext/sessionIssuer/userName"), text(identity, "/userName")];
    let found = found.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    let role = text(event, "/impersonatedUser/username");
    user == found
        && (role.is_empty() || text(identity, "/arn").contains(role))
        && (!user.is_empty() || identity["type"] == "Unknown")
}

fn is_object_right(event: &Value, record: &Value) -> bool {
    let reference = &event["objectRef"];
    let Some(resource) = reference["resource"].as_str() else { return record.get("resources").is_none() };
    let arn = text(record, "/resources/0/ARN");
    let name =
        [text(reference, "/name"), text(event, "/responseObject/metadata/name"), text(event, "/requestObject/metadata/name")];
    // A name in an object is its own only where it is made; a list's or review's object is another.
    let name = if event["verb"] == "create" { &name[..] } else { &name[..1] };
    let name = name.iter().find(|name| !name.is_empty()).copied().unwrap_or("*");
    let namespace = if resource == "namespaces" { "" } else { text(reference, "/namespace") };
    let path = arn.split_once(":web-1/").map(|(_, path)| path).unwrap_or_default();
    let is_resource = path.split(['/', '.']).next() == Some(resource);
    is_resource && path.ends_with(&format!("/{name}")) && (namespace.is_empty() || path.contains(&format!("/{namespace}/")))
}

#[test]
fn every_event_of_other_projects_is_accepted_with_its_user_verb_and_object() {
    let Some(root) = data() else { return };
    let mut total = Score::default();
    println!("{:<20}{:>8}{:>10}{:>8}{:>8}{:>8}", "kubernetes audit", "events", "accepted", "user", "verb", "object");
    for (corpus, events) in corpora(&root) {
        let mut score = Score::default();
        for text in &events {
            let event: Value = serde_json::from_str(text).unwrap();
            let [record] = <[Value; 1]>::try_from(records(&mut normalizer(), text)).unwrap();
            score.events += 1;
            score.accepted += usize::from(record["eventSource"] == "kube-apiserver.kubernetes");
            score.user += usize::from(is_user_right(&event, &record));
            score.verb += usize::from(record["requestParameters"]["verb"] == event["verb"]);
            score.object += usize::from(is_object_right(&event, &record));
        }
        let Score { events, accepted, user, verb, object } = score;
        println!("{corpus:<20}{events:>8}{accepted:>10}{user:>8}{verb:>8}{object:>8}");
        total = Score {
            events: total.events + events,
            accepted: total.accepted + accepted,
            user: total.user + user,
            verb: total.verb + verb,
            object: total.object + object,
        };
    }
    let Score { events, accepted, user, verb, object } = total;
    println!("{:<20}{events:>8}{accepted:>10}{user:>8}{verb:>8}{object:>8}", "all");
    assert_eq!([accepted, user, verb, object], [events; 4]);
}

/// Announcement and end share an auditID: a request is one record.
#[test]
fn a_cluster_s_log_makes_one_record_a_request() {
    let Some(root) = data() else { return };
    let log = std::fs::read_to_string(root.join("cluster-log/k8s.log")).unwrap();
    let mut normalizer = normalizer();
    let mut made: Vec<String> = Vec::new();
    let mut expected = BTreeMap::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        *expected.entry(event["auditID"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        let observation = kubernetes::observation(line.as_bytes().to_vec().into(), 0);
        made.extend(normalizer.normalize(&observation).into_iter().map(|draft| request_id(draft.record)));
    }
    let ended = made.len();
    made.extend(normalizer.drain().into_iter().map(|draft| request_id(draft.record)));
    println!("{} lines, {} requests: {ended} ended, {} announced alone", log.lines().count(), expected.len(), made.len() - ended);
    made.sort();
    assert_eq!(made, expected.into_keys().collect::<Vec<_>>());
}

fn request_id(made: Made) -> String {
    match made {
        Made::Record(record) => record.request_id.unwrap(),
        Made::Written(_) | Made::Foreign(_) => panic!("not made here"),
    }
}

/// Every event cut at every byte: refused or recorded, and never a panic.
#[test]
fn a_cut_event_is_kept_as_it_is() {
    let Some(root) = data() else { return };
    let mut normalizer = normalizer();
    for events in corpora(&root).into_values() {
        // Of a long log one of each shape is enough: of the first, and every hundredth.
        for event in events.iter().step_by(1 + events.len() / 12) {
            for end in 0..event.len() {
                let cut = event.as_bytes()[..end].to_vec();
                drop(kubernetes::events(&cut.clone().into()));
                let observation = kubernetes::observation(cut.into(), 0);
                assert_eq!(normalizer.normalize(&observation).len(), 1);
            }
        }
    }
}
