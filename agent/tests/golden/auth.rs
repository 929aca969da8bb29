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

/// Every file of the hosts' own messages.
fn logs() -> Vec<Vec<u8>> {
    let mut logs = Vec::new();
    for folder in ["auth/crowdsec-hub", "auth/plaso", "auth/lnav"].into_iter().filter_map(folder) {
        for entry in files(&folder, "") {
            let within = if entry.is_dir() { files(&entry, ".log") } else { vec![entry] };
            let is_log = |file: &std::path::PathBuf| !file.ends_with("LICENSE") && !file.ends_with("README.md");
            logs.extend(within.into_iter().filter(is_log).map(|file| std::fs::read(file).unwrap()));
        }
    }
    logs
}

/// Each line of each file cut at every byte, behind the lines before it: nothing panics, and what is left of it is read.
#[test]
fn files_cut_anywhere_never_panic() {
    let logs = logs();
    for log in &logs {
        let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').collect();
        let cut = lines.iter().flat_map(|line| (0..line.len()).map(|end| line.get(..end).unwrap_or_default()));
        let cut: Vec<u8> = cut.flat_map(|line| line.iter().copied().chain([b'\n'])).collect();
        drop(made::of_syslog(&cut, NOW));
        for end in 0..log.len().min(200) {
            drop(made::of_syslog(log.get(..end).unwrap_or_default(), NOW));
        }
    }
}

/// The same messages as a journal holds them: each field cut at every byte, and each missing.
#[test]
fn entries_cut_anywhere_never_panic() {
    use edgetrail_agent::sources::file::syslog::SyslogLine;
    let zone = jiff::tz::TimeZone::UTC;
    for log in logs() {
        let text = String::from_utf8_lossy(&log).into_owned();
        for line in text.lines().filter_map(|line| SyslogLine::parse(line, NOW, &zone)) {
            let pid = line.pid.unwrap_or(7).to_string();
            let whole = [
                ("SYSLOG_IDENTIFIER", line.program),
                ("MESSAGE", line.message),
                ("_UID", "0"),
                ("_PID", &*pid),
                ("_AUDIT_SESSION", "12"),
                ("_AUDIT_LOGINUID", "1000"),
                ("_BOOT_ID", "0dc874d3fbd44bdbb6fbcfaa27481492"),
            ];
            let cuts = (0..whole.len()).flat_map(|field| (0..=whole[field].1.len()).map(move |end| (field, end)));
            made::of_journal(cuts.map(|(field, end)| {
                let value = |(index, (name, value)): (usize, &(&'static str, &str))| {
                    let end = if index == field { end } else { value.len() };
                    (*name, value.as_bytes()[..end].to_vec())
                };
                // The last cut of each is none: it is left out instead.
                let is_kept = |(index, (_, value)): &(usize, &(&'static str, &str))| *index != field || end < value.len();
                whole.iter().enumerate().filter(is_kept).map(value).collect()
            }));
        }
    }
}

/// journald's own export of a host: its entries make what they make in the order in which they stand.
#[test]
fn a_journal_s_export_is_read() {
    let Some(lnav) = folder("auth/lnav") else { return };
    let text = read(lnav.join("logfile_journald.json"));
    let entries: Vec<BTreeMap<String, Value>> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!entries.is_empty());
    for entry in &entries {
        let whole: Vec<(&str, &str)> = entry.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect();
        let fields = |end: usize| whole.iter().map(|(name, value)| (*name, value.bytes().take(end).collect())).collect();
        // Its programs administer nothing.
        let longest = whole.iter().map(|(_, value)| value.len()).max().unwrap();
        let made = made::of_journal((0..=longest).map(fields));
        assert!(made.iter().all(Vec::is_empty), "{made:?}");
    }
}
