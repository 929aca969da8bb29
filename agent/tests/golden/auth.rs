//! Lines of auth.log: who, from where, and how it ended, against what crowdsec's parsers and plaso find in them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::{Score, files, folder, made, read};

/// The clock of the reading: 2026-11-23T23:00:00Z.
const NOW: u64 = 1_795_474_800_000_000_000;

/// What a peer found in one line, or in one event of a scenario.
struct Expected {
    place: String,
    user: Option<String>,
    address: Option<String>,
    kind: String,
}

impl Expected {
    fn of(place: String, meta: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let user = ["target_user", "user", "username"].into_iter().find_map(&meta);
        let (address, kind) = (meta("source_ip"), meta("log_type")?);
        Some(Self { place, user, address, kind })
    }

    fn is_refusal(&self) -> bool {
        !self.kind.contains("success")
    }

    /// Three marks: actor, address, result.
    fn judge(&self, record: Option<&Value>, score: &mut Score) {
        let shown = || format!("{} {}: {record:?}", self.place, self.kind);
        if let Some(user) = &self.user {
            score.mark(record.is_some_and(|record| is_of(record, user)), || format!("actor {user} {}", shown()));
        }
        if let Some(address) = &self.address {
            score.mark(record.is_some_and(|record| record["sourceIPAddress"] == **address), || {
                format!("address {address} {}", shown())
            });
        }
        let is_refused = |record: &Value| record.get("errorCode").is_some_and(Value::is_string);
        score.mark(record.is_some_and(|record| is_refused(record) == self.is_refusal()), || format!("result {}", shown()));
    }
}

fn is_of(record: &Value, user: &str) -> bool {
    let identity = &record["userIdentity"];
    let issuer = &identity["sessionContext"]["sessionIssuer"]["userName"];
    [&identity["userName"], issuer, &record["requestParameters"]["user"]].into_iter().any(|name| name == user)
}

#[test]
fn lines_say_who_from_where_and_how_it_ended() {
    let Some(hub) = folder("auth/crowdsec-hub") else { return };
    let mut all = Score::default();
    for test in files(&hub, "").into_iter().filter(|test| test.is_dir()) {
        let Some(log) = files(&test, ".log").into_iter().next() else { continue };
        let lines = made::of_syslog(read(log).as_bytes(), NOW);
        let mut score = Score::default();
        for (line, expected) in by_line(&test) {
            expected.judge(lines.get(line).and_then(|records| records.first()), &mut score);
        }
        for expected in by_scenario(&test) {
            // A scenario's event names no line: the first that is of the same peer.
            let is_same = |record: &&Value| {
                expected.address.as_ref().is_none_or(|address| record["sourceIPAddress"] == **address)
                    && expected.user.as_ref().is_none_or(|user| is_of(record, user))
            };
            expected.judge(lines.iter().flatten().find(is_same), &mut score);
        }
        score.show(&format!("auth {}", test.file_name().unwrap().to_string_lossy()));
        (all.equal, all.all) = (all.equal + score.equal, all.all + score.all);
    }
    all.hold("auth lines: actor, address, result", 98);
}

fn by_line(test: &Path) -> Vec<(usize, Expected)> {
    let path = test.join("expected.json");
    if !path.is_file() {
        return Vec::new();
    }
    let expected: BTreeMap<usize, Value> = serde_json::from_str(&read(&path)).unwrap();
    let of = |(line, event): (usize, Value)| {
        let meta = |key: &str| event["meta"][key].as_str().map(str::to_owned);
        Some((line, Expected::of(format!("{} line {line}", test.display()), meta)?))
    };
    expected.into_iter().filter_map(of).collect()
}

/// `results[0].Overflow.Alert.Events[N].GetMeta("KEY") == "VALUE"`.
fn by_scenario(test: &Path) -> Vec<Expected> {
    let path = test.join("scenario.assert");
    if !path.is_file() {
        return Vec::new();
    }
    let mut events = BTreeMap::<String, BTreeMap<String, String>>::new();
    for line in read(&path).lines() {
        let Some((event, rest)) = line.split_once(".GetMeta(\"") else { continue };
        let Some((key, value)) = rest.split_once("\") == \"") else { continue };
        let value = value.trim_end_matches('"').to_owned();
        events.entry(event.to_owned()).or_default().insert(key.to_owned(), value);
    }
    let of = |(event, metas): (String, BTreeMap<String, String>)| Expected::of(event, |key| metas.get(key).cloned());
    events.into_iter().filter_map(of).collect()
}

/// plaso's readme counts the messages of each of its files: lines that begin one.
#[test]
fn every_message_of_plaso_s_files_is_read() {
    use edgetrail_agent::sources::file::syslog::SyslogLine;
    let Some(folder) = folder("auth/plaso") else { return };
    let readme = read(folder.join("README.md"));
    for file in files(&folder, "").into_iter().filter(|file| !file.ends_with("LICENSE") && !file.ends_with("README.md")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let counted = readme
            .split([',', ';', '.', '\n'])
            .chain(readme.split([',', ':', ';', '\n']))
            .find_map(|part| part.trim().trim_start_matches("events: ").strip_prefix(&*name)?.trim().parse::<usize>().ok());
        let zone = jiff::tz::TimeZone::UTC;
        let text = read(&file);
        let lines: Vec<_> = text.lines().filter_map(|line| SyslogLine::parse(line, NOW, &zone)).collect();
        let headed = lines.iter().filter(|line| line.time.is_some()).count();
        println!("plaso {name}: {headed} messages read, {counted:?} are expected");
        // Of the SysklogdFileFormat file one line continues the message before it.
        assert_eq!(Some(headed), counted, "{name}");
    }
}

/// Each file cut at every byte: nothing panics, and what is left of it is read.
#[test]
fn files_cut_anywhere_never_panic() {
    let Some(hub) = folder("auth/crowdsec-hub") else { return };
    let logs = files(&hub, "").into_iter().filter(|test| test.is_dir()).flat_map(|test| files(&test, ".log"));
    for log in logs.take(4) {
        let bytes = std::fs::read(log).unwrap();
        let bytes = bytes.get(..bytes.len().min(600)).unwrap();
        for end in 0..bytes.len() {
            drop(made::of_syslog(&bytes[..end], NOW));
        }
    }
}
