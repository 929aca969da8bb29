//! What the tree says of itself: links lead somewhere, sections that comments name exist, every module says what it is.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use edgetrail_proto::record::GapCause;

/// Folders that hold nothing of ours, or nothing but generated files.
const PASSED_OVER: [&str; 4] = ["target", ".git", ".venv", ".edgetrail"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All files whose name ends so, below the workspace's root.
fn files(ending: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !PASSED_OVER.contains(&name) && !path.is_symlink() {
                folders.push(path);
            } else if path.is_file() && name.ends_with(ending) {
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} below {}", root().display());
    found
}

/// What stands between `before` and the first of `after`, wherever it occurs.
fn between<'a>(text: &'a str, before: &str, after: &'a [char]) -> Vec<&'a str> {
    text.split(before).skip(1).filter_map(|rest| rest.split(after).next()).collect()
}

/// The numbers of a text's headings: `3.5` of `### 3.5 The key file`.
fn numbered(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .filter_map(|heading| heading.split([' ', ':']).next())
        .map(|number| number.trim_end_matches('.').to_owned())
        .collect()
}

#[test]
fn relative_links_lead_to_files() {
    let mut broken = Vec::new();
    for (path, text) in files(".md") {
        for target in between(&text, "](", &[')']) {
            let file = target.split('#').next().unwrap_or_default();
            if !target.contains("://") && !file.is_empty() && !path.parent().unwrap().join(file).exists() {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn named_sections_exist() {
    let protocol = numbered(&std::fs::read_to_string(root().join("docs/protocol.md")).unwrap());
    let architecture = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut broken = Vec::new();
    for (path, text) in [".rs", ".md", ".toml", ".proto", ".py"].into_iter().flat_map(files) {
        let ends: &[char] = &[' ', ',', ';', ':', ')', '\n', '`', '|', '"'];
        for section in between(&text, concat!("docs/protocol.md", " §"), ends) {
            if !protocol.contains(section.trim_end_matches('.')) {
                broken.push(format!("{}: section {section}", path.display()));
            }
        }
        for promise in between(&text, concat!("ARCHITECTURE", ", G"), &[' ', ',', ')', '.', '\n']) {
            if !architecture.contains(&format!("| G{promise} |")) {
                broken.push(format!("{}: G{promise}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_module_says_what_it_is() {
    let silent: Vec<_> = files(".rs").into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path).collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

/// The rows of the table of causes: the name, and who makes it.
fn documented_causes() -> Vec<(String, String)> {
    let events = std::fs::read_to_string(root().join("docs/events.md")).unwrap();
    let (_, table) = events.split_once("\n## Gaps\n").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (cause, rest) = row.split_once('`').unwrap();
        (cause.to_owned(), rest.trim_end_matches(" |").rsplit("| ").next().unwrap().to_owned())
    })
    .collect()
}

#[test]
fn every_cause_of_a_gap_is_documented_and_made_where_the_table_says() {
    let documented = documented_causes();
    let names: Vec<_> = documented.iter().map(|(cause, _)| cause.as_str()).collect();
    assert_eq!(names, GapCause::ALL.map(GapCause::as_str));
    for (cause, (_, maker)) in GapCause::ALL.into_iter().zip(&documented) {
        let source = root().join(maker).join("src");
        let made = format!("GapCause::{cause:?}");
        let is_made = |(path, text): &(PathBuf, String)| path.starts_with(&source) && !is_test(path) && text.contains(&made);
        assert!(files(".rs").iter().any(is_made), "{maker} never makes {cause}");
    }
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| ["tests", "tests.rs"].iter().any(|name| part.as_os_str() == *name))
}
