//! What sudo tells its log server as records: the command that is about to run, its refusal, its end.

use std::collections::BTreeMap;

use edgetrail_proto::record::{EventCategory, Record, Resource};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::actor::{Actor, user_arn};
use super::names::Names;
use super::{Draft, Host, act, report};
use crate::observation::SourceName;
use crate::sources::sudo::{Event, Kind};

/// eventSource of every record made here, as of the other sources that see sudo.
const EVENT_SOURCE: &str = "sudo.linux";

/// sudo's keys that go into requestParameters under names of their own.
const PARAMETERS: &[(&str, &str)] = &[
    ("runuser", "user"),
    ("rungroup", "group"),
    ("runchroot", "chroot"),
    ("submitcwd", "cwd"),
    ("runcwd", "runCwd"),
    ("source", "rule"),
    ("submithost", "host"),
];

/// `source` is what read the event: the log server, or a file that sudo wrote.
pub(super) fn draft(host: &Host, names: &mut Names, source: SourceName, event_id: Uuid, time: u64, event: &Event) -> Draft {
    // Another host's users are not this one's.
    let elsewhere = event.remote.and_then(|_| event.text("submithost")).filter(|name| !name.contains(['/', '\n']));
    let place = Host { name: elsewhere.unwrap_or_else(|| host.name.clone()), ..host.clone() };
    let user = event.text("submituser").unwrap_or_default();
    let target = event.text("runuser").unwrap_or_default();
    let tty = event.text("ttyname").unwrap_or_default();
    let command = command(&event.info);
    let mut uid = |name: &str| if event.remote.is_some() { None } else { names.uid(name) };
    let is_run = matches!(event.kind, Kind::Accept | Kind::Exit { .. });
    let actor = match user.as_str() {
        "" => Actor::Unknown,
        user => {
            let effective = if is_run && !target.is_empty() { target.as_str() } else { user };
            let effective_uid = if is_run { event.number("runuid").or_else(|| uid(effective)) } else { uid(effective) };
            let login_uid = uid(user);
            Actor::NamedAs { login: user.to_owned(), login_uid, effective: effective.to_owned(), effective_uid }
        }
    };
    let mut record = report::blank(host, Some(source), event_id, time);
    record.user_identity = actor.identity(&place);
    record.event_source = EVENT_SOURCE.to_owned();
    record.user_agent = Some("sudo".to_owned());
    if let Some(remote) = event.remote {
        record.source_ip_address = remote.to_string();
    }
    record.request_parameters = Some(parameters(event, &command, act::terminal(&tty)));
    if !target.is_empty() {
        let arn = Some(user_arn(&place, &target));
        let account_id = Some(host.account.to_string());
        record.resources = Some(vec![Resource { account_id, kind: Some("Host::User".to_owned()), arn, ..Resource::default() }]);
    }
    outcome(&mut record, &event.kind);
    // Other sources see this host's commands alone; of their ends only sudo tells, to its log server and in its log.
    let act = match event.kind {
        _ if event.remote.is_some() => None,
        Kind::Accept => Some(act::sudo_command(&user, &target, &tty, &command, time)),
        Kind::Reject { .. } => Some(act::sudo_command(&user, "", &tty, &command, time)),
        Kind::Exit { .. } if !user.is_empty() => Some(act::sudo_end(&user, &target, &tty, &command, time)),
        Kind::Exit { .. } | Kind::Alert { .. } => None,
    };
    Draft { act, ..Draft::of(record) }
}

fn outcome(record: &mut Record, kind: &Kind) {
    match kind {
        Kind::Accept => {
            record.event_name = "RunCommand".to_owned();
            record.response_elements = Some(json!({"result": "success"}));
        }
        Kind::Reject { reason } => {
            record.event_name = "RunCommand".to_owned();
            record.error_code = Some("AccessDenied".to_owned());
            record.error_message = Some(reason.clone());
        }
        Kind::Alert { reason } => {
            record.event_name = "ReportAlert".to_owned();
            record.error_code = Some("Failed".to_owned());
            record.error_message = Some(reason.clone());
        }
        Kind::Exit { value, signal, error, dumped_core, run_time_ms } => {
            record.event_name = "EndCommand".to_owned();
            record.event_category = EventCategory::Data;
            record.management_event = Some(false);
            let mut response = Map::new();
            response.insert("exitValue".to_owned(), (*value).into());
            response.insert("runTimeMs".to_owned(), (*run_time_ms).into());
            if !signal.is_empty() {
                response.insert("signal".to_owned(), signal.clone().into());
                response.insert("dumpedCore".to_owned(), (*dumped_core).into());
            }
            record.response_elements = Some(Value::Object(response));
            if !error.is_empty() {
                record.error_code = Some("Failed".to_owned());
                record.error_message = Some(error.clone());
            }
        }
    }
}

/// The program with its arguments, as sudo logs it: the path that it found, then what was typed behind it.
pub(super) fn command(info: &BTreeMap<String, Value>) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let words = info.get("runargv").or_else(|| info.get("submitargv")).and_then(Value::as_array);
    let program = info.get("command").map(text).filter(|program| !program.is_empty());
    let mut words: Vec<String> = words.into_iter().flatten().map(text).collect();
    if let Some(program) = program {
        match words.first_mut() {
            Some(first) => *first = program,
            None => words.push(program),
        }
    }
    words.join(" ")
}

fn parameters(event: &Event, command: &str, tty: &str) -> Value {
    let mut parameters = Map::new();
    for (name, text) in [("command", command), ("tty", tty)] {
        if !text.is_empty() {
            parameters.insert(name.to_owned(), text.into());
        }
    }
    for (key, name) in PARAMETERS {
        if let Some(text) = event.text(key) {
            parameters.insert((*name).to_owned(), text.into());
        }
    }
    Value::Object(parameters)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::normalize::Made;

    fn made(kind: Kind, remote: Option<&str>) -> (Record, Option<super::super::Act>) {
        let info = json!({"submituser": "alice", "submithost": "db-7", "submitcwd": "/home/alice", "ttyname": "/dev/pts/0",
            "command": "/usr/bin/id", "runargv": ["id", "-u"], "runuser": "root", "runuid": 0, "source": "/etc/sudoers:20:5"});
        let info = serde_json::from_value(info).unwrap();
        let event = Event { kind, info, time: 1, remote: remote.map(|remote| remote.parse().unwrap()) };
        let mut names = Names::of_files(Path::new("/nonexistent"), Path::new("/nonexistent"));
        let draft = draft(&Host::for_tests(), &mut names, SourceName::Sudo, Uuid::nil(), 1, &event);
        let Made::Record(record) = draft.record else { panic!("not made here") };
        (*record, draft.act)
    }

    #[test]
    fn a_command_is_the_human_acting_as_root_and_the_act_that_other_sources_see() {
        let (record, act) = made(Kind::Accept, None);
        assert_eq!((record.event_name.as_str(), record.event_source.as_str()), ("RunCommand", "sudo.linux"));
        assert_eq!(record.user_identity.kind.as_deref(), Some("AssumedRole"));
        assert_eq!(record.user_identity.principal_id.as_deref(), Some("0:alice"));
        let parameters = record.request_parameters.unwrap();
        assert_eq!((parameters["command"].as_str(), parameters["tty"].as_str()), (Some("/usr/bin/id -u"), Some("pts/0")));
        assert_eq!(parameters["rule"], "/etc/sudoers:20:5");
        assert_eq!(act.unwrap(), act::sudo_command("alice", "root", "pts/0", "id -u", 1));
    }

    #[test]
    fn a_refusal_is_denied_and_acts_as_nobody_else() {
        let (record, act) = made(Kind::Reject { reason: "command not allowed".to_owned() }, None);
        assert_eq!(record.user_identity.kind.as_deref(), Some("IAMUser"));
        assert_eq!(
            (record.error_code.as_deref(), record.error_message.as_deref()),
            (Some("AccessDenied"), Some("command not allowed"))
        );
        assert_eq!(act.unwrap(), act::sudo_command("alice", "", "pts/0", "id -u", 1));
    }

    #[test]
    fn another_host_s_users_and_acts_are_its_own() {
        let (record, act) = made(Kind::Accept, Some("192.0.2.7"));
        assert_eq!(record.source_ip_address, "192.0.2.7");
        assert!(record.user_identity.arn.unwrap().ends_with(":db-7/assumed-role/root/alice"));
        assert_eq!(act, None);
        let exit = Kind::Exit { value: 1, signal: String::new(), error: String::new(), dumped_core: false, run_time_ms: 7 };
        let (record, act) = made(exit, None);
        assert_eq!((record.event_name.as_str(), record.event_category), ("EndCommand", EventCategory::Data));
        assert_eq!(act.unwrap(), act::sudo_end("alice", "root", "pts/0", "id -u", 1));
        assert_eq!(record.response_elements.unwrap(), json!({"exitValue": 1, "runTimeMs": 7}));
    }
}
