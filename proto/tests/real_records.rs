//! Real CloudTrail records: read and written back, nothing that they say is lost, and their facets are found.
//!
//! The records lie beside the repository, in `../shared/data/cloudtrail`; without them these tests say so and pass.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod tree;

use std::path::{Path, PathBuf};

use edgetrail_proto::facets::{Category, Facets, FacetsError};
use edgetrail_proto::limits::STRING_FIELD_BYTES_MAX;
use edgetrail_proto::record::Record;
use serde_json::Value;
use serde_json::value::RawValue;
use tree::Tree;

fn folder() -> Option<PathBuf> {
    // The workspace's parent; a linked worktree lies one level deeper.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let found =
        workspace.ancestors().skip(1).take(2).map(|above| above.join("shared/data/cloudtrail")).find(|path| path.is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: no ../shared/data/cloudtrail beside the repository: real records are not tried");
    }
    found
}

/// Every record's own text, with the file that it stands in.
fn real_records(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut records = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("json" | "jsonl" | "log") => {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let mut documents = serde_json::Deserializer::from_str(&text).into_iter::<&RawValue>();
                    while let Some(Ok(document)) = documents.next() {
                        find_records(document.get(), &mut |record| records.push((path.clone(), record.to_owned())));
                    }
                }
                _ => {}
            }
        }
    }
    records
}

/// An object with an eventName and an eventVersion is a record, wherever it stands.
fn find_records(json: &str, found: &mut impl FnMut(&str)) {
    if let Ok(members) = serde_json::from_str::<std::collections::BTreeMap<String, &RawValue>>(json) {
        if members.contains_key("eventVersion") && members.contains_key("eventSource") {
            found(json);
        } else {
            members.values().for_each(|member| find_records(member.get(), found));
        }
    } else if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json) {
        items.iter().for_each(|item| find_records(item.get(), found));
    }
}

#[test]
fn every_real_record_comes_back_with_all_it_said() {
    let Some(folder) = folder() else { return };
    let records = real_records(&folder);
    assert!(records.len() > 1500, "only {} records were found", records.len());
    let mut compact_and_ordered = 0;
    for (path, text) in &records {
        let record = Record::from_json(text.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let written = String::from_utf8(record.to_json()).unwrap();
        assert_eq!(Tree::of(&written), Tree::of(text), "{}", path.display());
        compact_and_ordered += usize::from(written == *text);
    }
    println!("{} records, {compact_and_ordered} of them byte for byte", records.len());
}

#[test]
fn real_records_within_the_limits_are_not_touched_by_fitting() {
    let Some(folder) = folder() else { return };
    let mut over = 0;
    for (path, text) in real_records(&folder) {
        let mut record = Record::from_json(text.as_bytes()).unwrap();
        let before = record.to_json();
        let strings = [&record.user_agent, &record.error_code, &record.error_message, &record.request_id];
        let within = strings.into_iter().flatten().all(|text| text.len() <= STRING_FIELD_BYTES_MAX);
        record.fit();
        assert_eq!(record.to_json() == before, within, "{}", path.display());
        over += usize::from(!within);
    }
    println!("{over} records have a string over its limit");
}

#[test]
fn facets_of_real_records_are_what_their_trees_say() {
    let Some(folder) = folder() else { return };
    let mut found = 0;
    for (path, text) in real_records(&folder) {
        let tree: Value = serde_json::from_str(&text).unwrap();
        let place = path.display();
        match Facets::parse(text.as_bytes()) {
            Ok(facets) => {
                let said = |name: &str| tree[name].as_str().unwrap_or_default().to_owned();
                assert_eq!(
                    (facets.source, facets.name, facets.region),
                    (said("eventSource"), said("eventName"), said("awsRegion")),
                    "{place}"
                );
                assert_eq!(edgetrail_proto::record::format_time(facets.time * 1_000_000_000), said("eventTime"), "{place}");
                assert_eq!(facets.error.as_deref(), tree["errorCode"].as_str(), "{place}");
                assert_eq!(
                    facets.read_only,
                    tree["readOnly"].as_bool().or(tree["readOnly"].as_str().and_then(|text| text.parse().ok())),
                    "{place}"
                );
                assert_eq!(facets.resources.len(), tree["resources"].as_array().map_or(0, Vec::len), "{place}");
                if tree["userIdentity"]["type"] == "Root" {
                    assert_eq!(facets.user.as_deref(), Some("root"), "{place}");
                }
                assert!(tree["eventCategory"].is_null() || facets.category == Category::from(said("eventCategory")), "{place}");
                found += 1;
            }
            Err(FacetsError::Missing(member)) => assert!(
                tree[member].as_str().is_none_or(|text| edgetrail_proto::record::parse_time(text).is_none()),
                "{place}: {member} is there"
            ),
            Err(error) => panic!("{place}: {error}"),
        }
    }
    println!("facets of {found} records");
    assert!(found > 1300, "only {found} records have facets");
}
