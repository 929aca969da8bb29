//! The tables of docs/events.md, written from the code's own. `EDGETRAIL_BLESS=1 cargo nextest run -p edgetrail-agent
//! -E 'test(events_page)'` writes them into the page; without it the test compares.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::audit::catalogue::{ACCOUNTS, ADDRESS_CALLS, CALLS, OTHER_CALL, PEOPLE, Row, STEPS};
use super::audit::deed::Kind;
use super::audit::records::{BY_FIELD, OTHERS, RECORDS};
use super::journal;
use crate::sources::audit::kinds;
use crate::sources::lines::Mapping;
use crate::sources::lines::shape::AccessShape;

/// What makes an event.
#[derive(Default)]
struct Made {
    kind: Option<Kind>,
    calls: Vec<String>,
    records: Vec<String>,
}

fn code(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn rows(rows: &[Row]) -> String {
    let mut text = "| eventName | eventSource | made of | steps of it | act |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for Row { names, source, made_of, steps, act } in rows {
        writeln!(text, "| {} | {source} | {made_of} | {steps} | {act} |", code(names)).unwrap();
    }
    text
}

/// Type names from first to last, those without a name left out.
fn types(first: u16, last: u16) -> Vec<String> {
    (first..=last).filter_map(kinds::name).map(str::to_owned).collect()
}

fn by_name() -> BTreeMap<&'static str, Made> {
    let mut all = BTreeMap::<&str, Made>::new();
    for (calls, name, kind) in CALLS {
        let made = all.entry(name).or_default();
        made.kind = Some(*kind);
        made.calls.extend(calls.split(' ').map(str::to_owned));
    }
    for (call, network, local) in ADDRESS_CALLS {
        for (name, to) in [(network, "with an IP address"), (local, "within the host")] {
            let made = all.entry(name).or_default();
            made.kind = Some(Kind::Data);
            made.calls.push(format!("{call} {to}"));
        }
    }
    for (name, kind, call) in [
        (OTHER_CALL.0, OTHER_CALL.1, "any other"),
        ("CreateFile", Kind::Data, "open … that creates"),
        ("ModifyFile", Kind::Data, "open … for writing"),
        ("ReadFile", Kind::DataRead, "open … for reading"),
    ] {
        let made = all.entry(name).or_default();
        made.kind = Some(kind);
        made.calls.push(call.to_owned());
    }
    for (first, last, name, kind) in RECORDS {
        let made = all.entry(name).or_default();
        made.kind = made.kind.or(Some(*kind));
        made.records.extend(types(*first, *last));
    }
    for (record, name, kind) in BY_FIELD {
        let made = all.entry(name).or_default();
        made.kind = made.kind.or(Some(*kind));
        made.records.push((*record).to_owned());
    }
    for ((name, kind), of) in OTHERS.iter().zip(["any other of user space", "any other of the kernel"]) {
        let made = all.entry(name).or_default();
        made.kind = made.kind.or(Some(*kind));
        made.records.push(of.to_owned());
    }
    all
}

fn table(is_data: bool) -> String {
    let mut text = "| eventName | class | system calls | record types |\n| --- | --- | --- | --- |\n".to_owned();
    for (name, Made { kind, calls, records }) in by_name() {
        let class = match kind {
            Some(Kind::Data) => "Data",
            Some(Kind::DataRead) => "Data, readOnly",
            Some(Kind::Service) => "Management, AwsServiceEvent",
            _ => "Management",
        };
        if class.starts_with("Data") == is_data {
            writeln!(text, "| `{name}` | {class} | {} | {} |", calls.join(", "), records.join(", ")).unwrap();
        }
    }
    text
}

fn steps() -> String {
    let mut text = "| eventName | made of |\n| --- | --- |\n".to_owned();
    for (name, of) in STEPS {
        writeln!(text, "| `{name}` | {of} |").unwrap();
    }
    text
}

fn messages() -> String {
    let mut text = "| eventName | eventSource | made of | act |\n| --- | --- | --- | --- |\n".to_owned();
    for journal::catalogue::Row { names, source, made_of, act } in journal::catalogue::ROWS {
        writeln!(text, "| {} | {source} | {made_of} | {act} |", code(names)).unwrap();
    }
    text
}

fn lines() -> String {
    let mut text = "| mapping | eventSource | eventName |\n| --- | --- | --- |\n".to_owned();
    for name in Mapping::shipped() {
        let (source, names) = Mapping::open(name, AccessShape::default()).unwrap().documented();
        if !names.is_empty() {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            writeln!(text, "| {name} | {source} | {} |", code(&names)).unwrap();
        }
    }
    text
}

/// The page with each generated part between its marks.
fn written(page: &str) -> String {
    let parts = [
        ("audit people", rows(PEOPLE)),
        ("audit accounts", rows(ACCOUNTS)),
        ("audit management", table(false)),
        ("audit data", table(true)),
        ("audit steps", steps()),
        ("messages", messages()),
        ("lines", lines()),
    ];
    let mut page = page.to_owned();
    for (part, text) in parts {
        let (from, to) = (format!("<!-- from the code: {part} -->\n"), "<!-- end -->");
        let (before, rest) = page.split_once(&from).unwrap_or_else(|| panic!("docs/events.md has no part `{part}`"));
        let (_, after) = rest.split_once(to).unwrap_or_else(|| panic!("part `{part}` has no end"));
        page = format!("{before}{from}\n{text}\n{to}{after}");
    }
    page
}

#[test]
fn the_page_is_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let written = written(&page);
    if std::env::var_os("EDGETRAIL_BLESS").is_some() {
        std::fs::write(&path, written).unwrap();
        return;
    }
    let differs = page.lines().zip(written.lines()).find(|(page, code)| page != code);
    assert!(page == written, "docs/events.md differs from the code at {differs:?}: run this test with EDGETRAIL_BLESS=1");
}
