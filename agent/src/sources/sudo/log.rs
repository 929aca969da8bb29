//! sudo's own log in JSON (`log_format=json`), entry by entry, as the events that its log server is told.
//!
//! An entry is a member of the log's one object: `"accept": {…}`, `"reject"`, `"alert"`, `"exit"`. The end of a command names
//! only the command's uuid; [`Commands`] remembers who that was.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::event::{ENVIRONMENT, Event, Kind, LIST_MAX};
use crate::sources::event::{check_depth, utf8};

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The same of a command's acceptance and end; empty where it has none.
    uuid: String,
    event: Event,
}

/// Accepted commands whose end may come.
#[derive(Debug, Default)]
pub struct Commands {
    /// Oldest first.
    accepted: VecDeque<Entry>,
}

/// The members of an entry that are no keys of sudo's event.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    uuid: String,
    submit_time: Option<Time>,
    server_time: Option<Time>,
    alert_time: Option<Time>,
    exit_time: Option<Time>,
    run_time: Option<Time>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    exit_value: i32,
    #[serde(default)]
    signal: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    dumped_core: bool,
    #[serde(flatten)]
    info: Map<String, Value>,
}

#[derive(Clone, Copy, Deserialize)]
struct Time {
    #[serde(default)]
    seconds: u64,
    #[serde(default)]
    nanoseconds: u64,
}

/// Commands that run at once and whose ends are told with their names; of more, the oldest are forgotten.
const COMMANDS_MAX: usize = 256;

/// Levels of an entry.
const DEPTH_MAX: usize = 8;

impl Time {
    const fn unix_ns(self) -> u64 {
        self.seconds.saturating_mul(1_000_000_000).saturating_add(self.nanoseconds)
    }
}

impl Entry {
    /// What it says by itself.
    pub fn into_event(self) -> Event {
        self.event
    }
}

/// The entry of these bytes. None where there is only what stands around entries; an error says what is wrong.
pub fn entry(bytes: &[u8]) -> Result<Option<Entry>, String> {
    let text = utf8(bytes).map_err(|error| error.to_string())?;
    // What is left of the log's end, or its beginning.
    let text = text.trim_start_matches(|c: char| matches!(c, '{' | '}' | ',') || c.is_ascii_whitespace());
    let text = text.trim_end_matches(|c: char| c == ',' || c.is_ascii_whitespace());
    if text.is_empty() {
        return Ok(None);
    }
    let object = format!("{{{text}}}");
    check_depth(&object, DEPTH_MAX).map_err(|error| error.to_string())?;
    let members: BTreeMap<String, Body> = serde_json::from_str(&object).map_err(|error| error.to_string())?;
    let mut members = members.into_iter();
    let (Some((name, body)), None) = (members.next(), members.next()) else {
        return Err("it is not one entry of sudo's log".to_owned());
    };
    let Body { uuid, submit_time, server_time, alert_time, exit_time, run_time, info, .. } = &body;
    let time = match name.as_str() {
        "exit" => exit_time.or(*server_time),
        "alert" => alert_time.or(*server_time),
        _ => submit_time.or(*server_time),
    };
    let run_time_ms = run_time.map_or(0, Time::unix_ns) / 1_000_000;
    let (uuid, info) = (uuid.clone(), kept(info));
    let kind = match name.as_str() {
        "accept" => Kind::Accept,
        "reject" => Kind::Reject { reason: body.reason },
        "alert" => Kind::Alert { reason: body.reason },
        "exit" => Kind::Exit {
            value: body.exit_value,
            signal: body.signal,
            error: body.error,
            dumped_core: body.dumped_core,
            run_time_ms,
        },
        other => return Err(format!("sudo's log has no entries `{other}`")),
    };
    Ok(Some(Entry { uuid, event: Event { kind, info, time: time.map_or(0, Time::unix_ns), remote: None } }))
}

/// sudo's keys: texts, numbers and lists of these.
fn kept(info: &Map<String, Value>) -> BTreeMap<String, Value> {
    let is_kept = |(name, value): &(&String, &Value)| !ENVIRONMENT.contains(&name.as_str()) && !value.is_object();
    let plain = |value: &Value| match value {
        Value::Array(list) => {
            list.iter().filter(|value| !value.is_array() && !value.is_object()).take(LIST_MAX).cloned().collect()
        }
        value => value.clone(),
    };
    info.iter().filter(is_kept).take(LIST_MAX).map(|(name, value)| (name.clone(), plain(value))).collect()
}

impl Commands {
    /// The event of an entry; of a command's end, with what its acceptance said.
    pub fn event(&mut self, entry: Entry) -> Event {
        let Entry { uuid, mut event } = entry;
        match event.kind {
            Kind::Accept if !uuid.is_empty() => {
                if self.accepted.len() >= COMMANDS_MAX {
                    self.accepted.pop_front();
                }
                self.accepted.push_back(Entry { uuid, event: event.clone() });
            }
            Kind::Exit { .. } => {
                if let Some(index) = self.accepted.iter().position(|accepted| accepted.uuid == uuid) {
                    event.info = self.accepted.remove(index).map(|accepted| accepted.event.info).unwrap_or_default();
                }
            }
            Kind::Accept | Kind::Reject { .. } | Kind::Alert { .. } => {}
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As sudo 1.9.13 wrote it, shortened.
    const ACCEPT: &str = r#"}
   "accept": {
        "uuid": "7cbfee37c6-1499-4998-3d64-e45619135d",
        "server_time": {
            "seconds": 1795499386,
            "nanoseconds": 892029410,
            "iso8601": "20261124054946Z"
        },
        "submit_time": {
            "seconds": 1795499386,
            "nanoseconds": 891213007
        },
        "submituser": "alice",
        "command": "/usr/bin/id",
        "runuser": "root",
        "submitcwd": "/home/alice",
        "runuid": 0,
        "runargv": [
            "id",
            "-u"
        ],
        "runenv": [
            "SECRET=x"
        ]
    },"#;

    #[test]
    fn an_acceptance_and_its_end_are_the_log_servers_events() {
        let mut commands = Commands::default();
        let accepted = commands.event(entry(ACCEPT.as_bytes()).unwrap().unwrap());
        assert_eq!((&accepted.kind, accepted.time), (&Kind::Accept, 1_795_499_386_891_213_007));
        assert_eq!((accepted.text("submituser").as_deref(), accepted.number("runuid")), (Some("alice"), Some(0)));
        assert!(!accepted.info.contains_key("runenv") && !accepted.info.contains_key("submit_time"));
        let exit = r#"    "exit": { "uuid": "7cbfee37c6-1499-4998-3d64-e45619135d", "exit_time": {"seconds": 1795499387},
            "run_time": {"seconds": 0, "nanoseconds": 11866351}, "exit_value": 3 }"#;
        let ended = commands.event(entry(exit.as_bytes()).unwrap().unwrap());
        let Kind::Exit { value: 3, run_time_ms: 11, .. } = ended.kind else { panic!("{ended:?}") };
        assert_eq!((ended.text("submituser").as_deref(), ended.time), (Some("alice"), 1_795_499_387_000_000_000));
        let unknown = commands.event(entry(exit.as_bytes()).unwrap().unwrap());
        assert_eq!(unknown.text("submituser"), None, "its acceptance was told of once");
    }

    #[test]
    fn what_stands_around_entries_is_nothing_and_other_text_is_named() {
        for nothing in ["", "{", "}\n", "\n}\n", "    "] {
            assert_eq!(entry(nothing.as_bytes()).unwrap(), None, "{nothing:?}");
        }
        for wrong in ["\"accept\": {", "\"other\": {}", "\"accept\": 7", "\"accept\": {}, \"exit\": {}", "rubbish"] {
            assert!(entry(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_entry_cut_anywhere_is_named_or_nothing() {
        for end in 0..ACCEPT.len() {
            let _either = entry(&ACCEPT.as_bytes()[..end]);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "\\PC{0,60}|[{}\\[\\]\":,a0 ]{0,60}") {
            let _either = entry(&bytes);
            let _either = entry(text.as_bytes());
        }
    }
}
