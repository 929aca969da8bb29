//! Real lines of other projects' tests, scored: what was read of each against what is expected.
//!
//! Reads `../shared/data` beside the workspace (or `EDGETRAIL_SHARED_DATA`); without it, says so and skips. Each test
//! prints its table and holds the level that issue 4 asks for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use edgetrail_agent::normalize::{Host, Made, Normalizer, audit, names};
use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::file::{Format, Line};
use edgetrail_agent::sources::lines::Mapping;
use edgetrail_agent::sources::lines::shape::AccessShape;
use edgetrail_proto::identity::AgentId;
use edgetrail_proto::record::Record;
use serde_json::Value;

const NOW: u64 = 1_764_000_000_000_000_000;

fn folder(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let root = std::env::var_os("EDGETRAIL_SHARED_DATA").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: {} is not there; set EDGETRAIL_SHARED_DATA", folder.display());
    None
}

fn normalizer() -> Normalizer {
    let host = Host {
        agent: AgentId::from_bytes([7; 16]),
        name: "web-1".to_owned(),
        account: "111122223333".parse().unwrap(),
        region: "dc-local-1".parse().unwrap(),
        partition: "aws".to_owned(),
        keep_raw: true,
    };
    let names = names::Names::of_files(Path::new("/nonexistent"), Path::new("/nonexistent"));
    Normalizer::new(host, audit::Decoder::restore(None), names)
}

fn format(mapping: &str) -> Format {
    match mapping {
        "cloudtrail" => Format::CloudTrail,
        name => Format::Mapped(Mapping::open(name, AccessShape::default()).unwrap()),
    }
}

fn observation(format: &Format, index: usize, line: &[u8]) -> Observation {
    let line = Line { bytes: bytes::Bytes::copy_from_slice(line), format: format.clone(), path: "/var/log/x.log".into() };
    let position = format!("1.2.3:{index}");
    Observation { source: SourceName::File, position, time: NOW, payload: Payload::Line(line), cursor: None, answer: None }
}

/// The records of each line, then of what still waited.
fn records(mapping: &str, text: &str) -> (Vec<Vec<Record>>, Vec<Record>) {
    let (mut normalizer, format) = (normalizer(), format(mapping));
    let record = |made: Made| match made {
        Made::Record(record) => *record,
        Made::Written(bytes) | Made::Foreign(bytes) => Record::from_json(&bytes).unwrap(),
    };
    let mut of_lines = Vec::new();
    for (index, line) in text.lines().filter(|line| !line.trim().is_empty()).enumerate() {
        let drafts = normalizer.normalize(&observation(&format, index, line.as_bytes()));
        of_lines.push(drafts.into_iter().map(|draft| record(draft.record)).collect());
    }
    let rest = normalizer.drain().into_iter().map(|draft| record(draft.record)).collect();
    (of_lines, rest)
}

/// Counts marks, and shows those that are missed.
#[derive(Default)]
struct Score {
    rows: BTreeMap<String, (usize, usize)>,
}

impl Score {
    fn mark(&mut self, row: &str, what: &str, expected: &str, ours: &str) {
        let (hit, all) = self.rows.entry(row.to_owned()).or_default();
        *all += 1;
        if expected == ours {
            *hit += 1;
        } else {
            eprintln!("  {row}: {what}: expected {expected:?}, ours {ours:?}");
        }
    }

    fn print(&self, title: &str, least: f64) {
        let (hit, all) = self.rows.values().fold((0, 0), |(hit, all), (h, a)| (hit + h, all + a));
        for (row, (hit, all)) in &self.rows {
            println!("{title:14} {row:34} {hit:5} of {all:5}");
        }
        let share = hit as f64 / all.max(1) as f64;
        println!("{title:14} {:34} {hit:5} of {all:5} = {:.2} %", "together", 100.0 * share);
        assert!(share >= least, "{title}: {share} is less than {least}");
    }
}

fn parameter(record: &Record, name: &str) -> String {
    let value = record.request_parameters.as_ref().and_then(|parameters| parameters.get(name));
    value.and_then(Value::as_str).unwrap_or("").to_owned()
}

fn status(record: &Record) -> String {
    record.response_elements.as_ref().map_or_else(String::new, |response| response["status"].to_string())
}

/// The path of a peer's `request`, which has the query too and of an absolute target all but the scheme.
fn path_of(request: &str) -> String {
    let path = request.split('?').next().unwrap_or("");
    match path.strip_prefix("//") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        None => path.to_owned(),
    }
}

#[test]
fn access_logs_are_read_as_their_peers_tests_expect() {
    let Some(root) = folder("access_logs") else { return };
    let mut score = Score::default();
    for (folder, mapping) in [
        ("apache2-logs", "apache"),
        ("nginx_http-logs", "nginx"),
        ("nginx-http-malformed", "nginx"),
        ("nginx_req_limit_exceeded", "nginx"),
        ("traefik_clf", "traefik"),
    ] {
        let at = root.join("crowdsec-hub").join(folder);
        let log =
            std::fs::read_dir(&at).unwrap().flatten().find(|entry| entry.path().extension().is_some_and(|end| end == "log"));
        let text = std::fs::read_to_string(log.unwrap().path()).unwrap();
        let expected: BTreeMap<String, Value> =
            serde_json::from_str(&std::fs::read_to_string(at.join("expected.json")).unwrap()).unwrap();
        let (made, _) = records(mapping, &text);
        for (index, one) in expected {
            let record = &made[index.parse::<usize>().unwrap()][0];
            let (meta, parsed) = (&one["meta"], &one["parsed"]);
            let text = |value: &Value| value.as_str().filter(|text| *text != "-").unwrap_or("").to_owned();
            let mut mark =
                |what: &str, expected: String, ours: &str| score.mark(folder, &format!("line {index} {what}"), &expected, ours);
            mark("parsed", "yes".to_owned(), if record.event_name == "UnparsedObservation" { "no" } else { "yes" });
            mark("address", text(&meta["source_ip"]), &record.source_ip_address);
            if !text(&parsed["verb"]).is_empty() {
                mark("method", text(&parsed["verb"]), &parameter(record, "method"));
                mark("path", path_of(&text(&parsed["request"])), &parameter(record, "path"));
            }
            for (key, name) in [("status", "status"), ("http_status", "status")] {
                let expected = if key == "status" { text(&parsed["status"]) } else { text(&meta["http_status"]) };
                if !expected.is_empty() {
                    mark(name, expected, &status(record));
                }
            }
            if parsed["http_user_agent"].is_string() {
                mark("agent", text(&parsed["http_user_agent"]), record.user_agent.as_deref().unwrap_or(""));
            }
            let user =
                [&meta["user"], &parsed["remote_user"], &meta["username"]].into_iter().map(&text).find(|user| !user.is_empty());
            mark("user", user.unwrap_or_default(), record.user_identity.user_name.as_deref().unwrap_or(""));
        }
    }
    for (folder, mapping) in [
        ("envoy-http-bad-user-agent", "envoy"),
        ("envoy-http-crawl-non_statics", "envoy"),
        ("nginx-http-path-traversal", "nginx"),
    ] {
        let text = std::fs::read_to_string(root.join("crowdsec-hub").join(folder).join(format!("{folder}.log"))).unwrap();
        for (line, made) in text.lines().zip(records(mapping, &text).0) {
            let record = &made[0];
            let inner = line.find('{').and_then(|at| serde_json::from_str::<Value>(&line[at..]).ok());
            let (address, path, code) = match &inner {
                Some(inner) => (
                    inner["downstream_remote_address"].as_str().unwrap().rsplit_once(':').unwrap().0.to_owned(),
                    inner["x-envoy-origin-path"].as_str().unwrap().to_owned(),
                    inner["response_code"].to_string(),
                ),
                None => {
                    let words: Vec<&str> = line.split(' ').collect();
                    (words[0].to_owned(), words[6].to_owned(), words[8].to_owned())
                }
            };
            score.mark(folder, "address", &address, &record.source_ip_address);
            score.mark(folder, "path", &path, &parameter(record, "path"));
            score.mark(folder, "status", &code, &status(record));
        }
    }
    let text = std::fs::read_to_string(root.join("nginx-raw/raw.log")).unwrap();
    for (line, made) in text.lines().zip(records("nginx", &text).0) {
        let record = &made[0];
        let quoted: Vec<&str> = line.split('"').collect();
        let request: Vec<&str> = quoted[1].split(' ').collect();
        let numbers: Vec<&str> = quoted[2].split_whitespace().collect();
        let bytes = record.response_elements.as_ref().map_or_else(String::new, |response| response["bytes"].to_string());
        for (what, expected, ours) in [
            ("address", line.split(' ').next().unwrap(), record.source_ip_address.clone()),
            ("method", request[0], parameter(record, "method")),
            ("path", request[1].split('?').next().unwrap(), parameter(record, "path")),
            ("status", numbers[0], status(record)),
            ("bytes", numbers[1], bytes),
            ("agent", quoted[5], record.user_agent.clone().unwrap_or_else(|| "-".to_owned())),
            (
                "referrer",
                quoted[3],
                Some(parameter(record, "referer")).filter(|it| !it.is_empty()).unwrap_or_else(|| "-".to_owned()),
            ),
        ] {
            score.mark("nginx-raw", what, expected, &ours);
        }
    }
    score.print("access logs", 0.99);
}

#[test]
fn containers_lines_come_out_of_their_envelopes() {
    let Some(root) = folder("containers/crowdsec-hub/docker-logs") else { return };
    let mut score = Score::default();
    let text = std::fs::read_to_string(root.join("docker-logs.log")).unwrap();
    let expected: BTreeMap<String, Value> =
        serde_json::from_str(&std::fs::read_to_string(root.join("expected.json")).unwrap()).unwrap();
    let (made, _) = records("access", &text);
    for (index, one) in expected {
        let message = one["parsed"]["message"].as_str().unwrap();
        let record = &made[index.parse::<usize>().unwrap()][0];
        score.mark("docker-logs", "address", message.split(' ').next().unwrap(), &record.source_ip_address);
        score.mark("docker-logs", "path", message.split(' ').nth(6).unwrap(), &parameter(record, "path"));
        score.mark(
            "docker-logs",
            "id",
            message.trim_end().rsplit(' ').next().unwrap(),
            record.request_id.as_deref().unwrap_or(""),
        );
    }
    score.print("containers", 1.0);
}

#[test]
fn vaults_pairs_are_one_act_each_with_its_actor() {
    let Some(root) = folder("vault_audit/audit-log") else { return };
    let text = std::fs::read_to_string(root.join("vault-audit.log")).unwrap();
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let id = |entry: &Value| entry["request"]["id"].as_str().unwrap().to_owned();
    let (made, rest) = records("vault", &text);
    let all: Vec<Record> = made.into_iter().flatten().chain(rest).collect();
    let mut score = Score::default();
    let distinct: BTreeSet<String> = entries.iter().map(&id).collect();
    score.mark("records", "one act a pair", &distinct.len().to_string(), &all.len().to_string());
    for wanted in &distinct {
        // The last entry of a pair is its response.
        let entry = entries.iter().rfind(|entry| id(entry) == *wanted).unwrap();
        let found: Vec<&Record> = all.iter().filter(|record| record.request_id.as_deref() == Some(wanted)).collect();
        score.mark("pairs", wanted, "1", &found.len().to_string());
        let Some(record) = found.first() else { continue };
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let who = [&entry["response"]["auth"]["display_name"], &entry["auth"]["display_name"]].map(text);
        let expected = if record.event_name == "Login" && !who[0].is_empty() { &who[0] } else { &who[1] };
        score.mark("actor", wanted, expected, record.user_identity.user_name.as_deref().unwrap_or(""));
        score.mark("path", wanted, &text(&entry["request"]["path"]), &parameter(record, "path"));
        score.mark("operation", wanted, &text(&entry["request"]["operation"]), &parameter(record, "operation"));
        score.mark("address", wanted, &text(&entry["request"]["remote_address"]), &record.source_ip_address);
        let failed = entry["error"].as_str().is_some_and(|error| !error.is_empty());
        score.mark("failure", wanted, &failed.to_string(), &record.error_code.is_some().to_string());
    }
    score.print("vault", 1.0);
}

/// Every fixture, every line of it cut at every byte: records or a reason, never a panic.
#[test]
fn every_fixture_cut_at_every_byte_never_panics() {
    for (path, mappings) in [
        ("access_logs/crowdsec-hub", &["access", "syslog", "json", "logfmt"][..]),
        ("containers/crowdsec-hub", &["access", "docker"]),
        ("vault_audit/audit-log", &["vault"]),
    ] {
        let Some(root) = folder(path) else { return };
        let mut files = vec![root];
        let mut logs = Vec::new();
        while let Some(at) = files.pop() {
            if at.is_dir() {
                files.extend(std::fs::read_dir(&at).unwrap().flatten().map(|entry| entry.path()));
            } else if at.extension().is_some_and(|end| end == "log") {
                logs.push(at);
            }
        }
        for log in logs {
            let bytes = std::fs::read(&log).unwrap();
            // Of many lines alike, a few.
            for line in bytes.split(|byte| *byte == b'\n').step_by(if bytes.len() > 100_000 { 97 } else { 1 }) {
                for mapping in mappings {
                    let (mut normalizer, format) = (normalizer(), format(mapping));
                    for end in 0..=line.len() {
                        let _made = normalizer.normalize(&observation(&format, end, &line[..end]));
                    }
                }
            }
        }
    }
}

/// Every record of every CloudTrail file comes out with the bytes that it had.
#[test]
fn cloudtrail_files_keep_every_byte() {
    use edgetrail_agent::sources::cloudtrail::document;
    let Some(root) = folder("cloudtrail") else { return };
    let mut score = Score::default();
    let mut folders = vec![root.clone()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let is_input =
                [".json", ".json.gz", ".log", ".jsonl"].iter().any(|end| name.ends_with(end)) && !name.contains("expected.json");
            if !is_input {
                continue;
            }
            let row = path.strip_prefix(&root).unwrap().components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
            let bytes = document::expanded(std::fs::read(&path).unwrap()).unwrap();
            let records = document::records(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut normalizer = normalizer();
            for (index, record) in records.iter().enumerate() {
                let made = normalizer.normalize(&observation(&Format::CloudTrail, index, record));
                let ours = match made.into_iter().next().map(|draft| draft.record) {
                    Some(Made::Foreign(bytes)) => String::from_utf8(bytes).unwrap(),
                    other => format!("{other:?}"),
                };
                // Where it stands in the file, the very bytes.
                let is_there = memchr::memmem::find(&bytes, ours.as_bytes()).is_some();
                score.mark(
                    &row,
                    &format!("{name} {index}"),
                    std::str::from_utf8(record).unwrap(),
                    if is_there { &ours } else { "" },
                );
            }
            if let Some(expected) = expected_count(&path) {
                score.mark(&row, &format!("{name} count"), &expected.to_string(), &records.len().to_string());
            }
        }
    }
    score.print("cloudtrail", 1.0);
}

/// How many records a file has, counted by another reader: its JSON as a tree.
fn expected_count(path: &Path) -> Option<usize> {
    let text = std::fs::read_to_string(path).ok()?;
    if let Ok(Value::Object(whole)) = serde_json::from_str::<Value>(&text) {
        return Some(whole.get("Records").and_then(Value::as_array).map_or(1, Vec::len));
    }
    if let Ok(Value::Array(all)) = serde_json::from_str::<Value>(&text) {
        return Some(all.len());
    }
    Some(text.lines().filter(|line| !line.trim().is_empty()).count())
}
