//! What we read of audit records against what other projects read of theirs, field by field. Why fields differ stands
//! beside [`DIFFERENT`] and in docs/events.md.

use std::collections::BTreeMap;

use edgetrail_agent::normalize::audit::address::Address;
use edgetrail_agent::normalize::audit::errno;
use edgetrail_agent::normalize::audit::kernel::{self, Call};
use edgetrail_agent::normalize::audit::view::{Texts, View};
use edgetrail_agent::sources::audit::fields::{Field, Fields};
use edgetrail_agent::sources::audit::{Assembler, Event, Origin, RecordType, Stamped, kinds};
use serde_json::Value;

use crate::{Score, beside, files, folder, read};

/// Expected members that we do not make, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("category", "their grouping of record types; ours is eventName and eventCategory"),
    ("summary", "what it was all about: compared with our records in events.rs"),
    ("ecs", "Elastic's categories"),
    ("network.direction", "derived from the call by them; our eventName says it"),
];

/// A member of go-libaudit's `data`: its spelling of what our fields hold.
fn as_go_libaudit(record: &Stamped, fields: &Fields<'_>, key: &str) -> Option<String> {
    let part = |of: &str, index: usize| -> Option<String> {
        let context = fields.raw(of)?;
        let mut parts = context.splitn(4, ':').map(str::to_owned).collect::<Vec<_>>();
        // The level may be followed by a category.
        if let Some((level, category)) =
            parts.get(3).and_then(|level| level.split_once(':')).map(|(l, c)| (l.to_owned(), c.to_owned()))
        {
            parts.truncate(3);
            parts.extend([level, category]);
        }
        parts.get(index).cloned()
    };
    let context = |of: &str, member: &str| match member {
        "user" => part(of, 0),
        "role" => part(of, 1),
        "domain" => part(of, 2),
        "level" => part(of, 3),
        "category" => part(of, 4),
        _ => None,
    };
    if let Some(member) = key.strip_prefix("subj_") {
        return context("subj", member);
    }
    if let Some(member) = key.strip_prefix("obj_") {
        return context("obj", member);
    }
    match key {
        "result" => match fields.succeeded() {
            Some(true) => Some("success".to_owned()),
            Some(false) => Some("fail".to_owned()),
            None if fields.words().contains(&"denied") => Some("fail".to_owned()),
            None => None,
        },
        "arch" => Some(Call::of(fields).arch.into_owned()),
        "syscall" => Some(Call::of(fields).name.into_owned()),
        "exit" => match u32::try_from(Call::of(fields).exit.unsigned_abs()) {
            Ok(number) if Call::of(fields).exit < 0 => errno::name(number).map(str::to_owned),
            _ => fields.raw("exit").map(str::to_owned),
        },
        "auid" | "ses" | "old-auid" | "old_auid" | "new_auid" => {
            let ours = match key {
                "old_auid" => "old-auid",
                "new_auid" => "auid",
                key => key,
            };
            let raw = fields.raw(ours)?;
            Some(if raw == "4294967295" && key != "old_auid" { "unset".to_owned() } else { raw.to_owned() })
        }
        "seresult" => fields.words().iter().find(|word| matches!(**word, "denied" | "granted")).map(|word| (*word).to_owned()),
        "seperms" => {
            let words = fields.words().iter().skip_while(|word| **word != "{").skip(1).take_while(|word| **word != "}");
            Some(words.copied().collect::<Vec<_>>().join(","))
        }
        "proctitle" => fields.get(key).map(|title| title.replace('\0', " ")),
        _ if record.record.is(kinds::EXECVE) && key.starts_with('a') && key != "argc" => {
            fields.field(key).map(|field| if field.quoted { field.raw.to_string() } else { hex_or_raw(field) })
        }
        _ => fields.field(key).map(|field| field.decoded().into_owned()),
    }
}

fn hex_or_raw(field: &Field<'_>) -> String {
    edgetrail_agent::sources::audit::fields::decode_hex(&field.raw).unwrap_or_else(|| field.raw.to_string())
}

#[test]
fn records_decode_as_go_libaudit_decodes_them() {
    let Some(folder) = folder("linux_audit/go-libaudit-records") else { return };
    let mut all = Score::default();
    for file in files(&folder, ".log.golden") {
        let (name, mut score) = (file.file_name().unwrap().to_string_lossy().into_owned(), Score::default());
        let log = read(beside(&file, ".golden", ""));
        let golden: Vec<Value> = serde_json::from_str(&read(&file)).unwrap();
        let records: Vec<Stamped> = log.lines().filter_map(|line| Stamped::from_line(line.as_bytes()).ok()).collect();
        for expected in &golden {
            let is_it = |record: &&Stamped| {
                expected["sequence"] == record.stamp.serial
                    && expected["record_type"].as_str() == Some(&record.record.kind.to_string().to_lowercase())
            };
            let place = format!("{name} {} {}", expected["sequence"], expected["record_type"]);
            // Several records of an event may be of one type: each is compared once, in its order.
            let before = golden.iter().take_while(|other| !std::ptr::eq(*other, expected));
            let before = before
                .filter(|other| other["sequence"] == expected["sequence"] && other["record_type"] == expected["record_type"]);
            let record = records.iter().filter(is_it).nth(before.count());
            score.mark(record.is_some(), || place.clone());
            let Some(record) = record else { continue };
            let text = record.record.text();
            let fields = Fields::parse(&text);
            for (key, value) in expected["data"].as_object().into_iter().flatten() {
                let value = value.as_str().unwrap();
                score.compare(&place, key, value, as_go_libaudit(record, &fields, key));
            }
        }
        score.show(&name);
        (all.equal, all.all) = (all.equal + score.equal, all.all + score.all);
    }
    all.hold("go-libaudit, single records", 99);
}

/// Leaves of a JSON value by their dotted path; lists of texts stay whole.
fn leaves(path: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(&path, value, out);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                leaves(&format!("{path}.{index}"), item, out);
            }
        }
        leaf => drop(out.insert(path.to_owned(), leaf.clone())),
    }
}

/// A member of go-libaudit's coalesced event, from our view of the same records.
fn of_event(event: &Event, view: &View<'_>, path: &str) -> Option<String> {
    let primary = view.primary()?;
    let syscall = view.first(kinds::SYSCALL);
    let address = view.first(kinds::SOCKADDR).and_then(|fields| Address::parse(fields.raw("saddr")?));
    let inet = address.as_ref().and_then(|address| match address {
        Address::Inet { ip, port } => Some((ip.to_string(), *port)),
        Address::Inet6 { ip, port } => Some((ip.to_string(), *port)),
        _ => None,
    });
    let unset = |raw: String| if raw == "4294967295" { "unset".to_owned() } else { raw };
    let raw = |key: &str| view.records.iter().find_map(|(_, fields)| fields.raw(key)).map(str::to_owned);
    let stamped = Stamped { stamp: event.stamp, node: event.node.clone(), record: event.records.first()?.clone() };
    let file_paths: Vec<&Fields<'_>> = view.all(1302).collect();
    // Theirs is the first that exists.
    let file = file_paths.iter().find(|path| path.raw("inode").is_some()).or(file_paths.first());
    if let Some(id) = path.strip_prefix("user.ids.") {
        return raw(id).map(unset);
    }
    if let Some(member) = path.strip_prefix("user.selinux.") {
        let fields = view.records.iter().find(|(_, fields)| fields.raw("subj").is_some()).map(|(_, fields)| fields)?;
        return as_go_libaudit(&stamped, fields, &format!("subj_{member}"));
    }
    if let Some(member) = path.strip_prefix("file.selinux.") {
        return as_go_libaudit(&stamped, file?, &format!("obj_{member}"));
    }
    if let Some(rest) = path.strip_prefix("paths.") {
        let (index, key) = rest.split_once('.')?;
        let fields = file_paths.get(index.parse::<usize>().ok()?)?;
        return as_go_libaudit(&stamped, fields, key);
    }
    match path {
        "sequence" => Some(event.stamp.serial.to_string()),
        "record_type" => Some(view.kind_name().to_lowercase()),
        "result" => view.succeeded().map(|ok| if ok { "success" } else { "fail" }.to_owned()),
        "session" => raw("ses").map(unset),
        "tags" => raw("key").map(|key| serde_json::json!([key.strip_prefix("key=").unwrap_or(&key)]).to_string()),
        "process.pid" | "process.ppid" => raw(path.strip_prefix("process.")?),
        "process.name" => view.get("comm").map(|comm| comm.into_owned()),
        "process.exe" => view.get("exe").map(|exe| exe.into_owned()),
        "process.cwd" => view.get("cwd").map(|cwd| cwd.into_owned()),
        "process.title" => view.get("proctitle").map(|title| title.replace('\0', " ")),
        "process.args" => Some(serde_json::json!(kernel::arguments(view).0).to_string()),
        "file.path" => file?.get("name").map(|name| name.into_owned()),
        "file.inode" => file?.raw("inode").map(str::to_owned),
        "file.device" => file?.raw("rdev").map(str::to_owned),
        "file.uid" => file?.raw("ouid").map(str::to_owned),
        "file.gid" => file?.raw("ogid").map(str::to_owned),
        "file.mode" => file?.raw("mode").map(|mode| format!("0{}", &mode[mode.len().saturating_sub(3)..])),
        "source.ip" | "destination.ip" => inet.map(|(ip, _)| ip).or_else(|| raw("addr")).or_else(|| raw("laddr")),
        "source.port" | "destination.port" => inet.map(|(_, port)| port.to_string()).or_else(|| raw("rport")),
        "data.socket_addr" => inet.map(|(ip, _)| ip),
        "data.socket_port" => inet.map(|(_, port)| port.to_string()),
        "data.socket_family" => address.map(|address| address.family()),
        "data.old-ses" => raw("old-ses"),
        "data.arch" | "data.syscall" | "data.exit" => as_go_libaudit(&stamped, syscall?, path.strip_prefix("data.")?),
        _ => {
            let key = path.strip_prefix("data.")?;
            let fields = std::iter::once(primary).chain(syscall).chain(view.records.iter().map(|(_, fields)| fields));
            fields.into_iter().find_map(|fields| fields.field(key).map(|field| unset(field.decoded().into_owned())))
        }
    }
}

#[test]
fn events_decode_as_go_libaudit_coalesces_them() {
    let Some(folder) = folder("linux_audit/go-libaudit-events") else { return };
    let mut score = Score::default();
    let mut skipped = BTreeMap::<&str, usize>::new();
    for file in files(&folder, ".json.golden") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let groups = yaml_groups(&read(beside(&file, ".json.golden", ".yaml")));
        let golden: Vec<Value> = serde_json::from_str(&read(&file)).unwrap();
        for expected in &golden {
            let test = expected["test_name"].as_str().unwrap();
            let events = assemble(groups.get(test).unwrap_or_else(|| panic!("no records of {test}")), Origin::Log);
            assert_eq!(events.len(), 1, "{test} is one event");
            let texts = Texts::of(&events[0]);
            let view = View::of(&texts);
            let mut wanted = BTreeMap::new();
            leaves("", &expected["event"], &mut wanted);
            for (path, value) in wanted {
                if let Some((reason, _)) = DIFFERENT.iter().find(|(prefix, _)| path.starts_with(prefix)) {
                    *skipped.entry(reason).or_default() += 1;
                    continue;
                }
                if path == "@timestamp" {
                    continue;
                }
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                score.compare(&format!("{name} {test}"), &path, &value, of_event(&events[0], &view, &path));
            }
        }
    }
    println!("go-libaudit-events: not compared, by design: {skipped:?}");
    score.hold("go-libaudit, fields of whole events", 98);
}

/// Groups of the YAML files: `  NAME: |` and lines below it.
pub(crate) fn yaml_groups(yaml: &str) -> BTreeMap<String, String> {
    let (mut groups, mut name) = (BTreeMap::<String, String>::new(), String::new());
    for line in yaml.lines() {
        if let Some(record) = line.strip_prefix("    ") {
            let group = groups.entry(name.clone()).or_default();
            group.push_str(record);
            group.push('\n');
        } else if let Some((title, _)) =
            line.strip_prefix("  ").filter(|line| !line.starts_with('#')).and_then(|line| line.rsplit_once(':'))
        {
            name = title.trim_matches(['"', '\'']).to_owned();
        }
    }
    groups
}

fn assemble(log: &str, origin: Origin) -> Vec<Event> {
    let (mut assembler, mut events) = (Assembler::new(origin), Vec::new());
    for line in log.lines().filter(|line| !line.is_empty()) {
        assembler.push(Stamped::from_line(line.as_bytes()).unwrap(), 0, &mut events);
    }
    assembler.expire(u64::MAX, &mut events);
    events
}

#[test]
fn streams_join_to_the_same_events_in_either_order() {
    let Some(folder) = folder("linux_audit/go-libaudit-stream") else { return };
    let sorted = |name: &str| {
        let mut events = assemble(&read(folder.join(name)), Origin::Log);
        events.sort_by_key(|event| event.stamp.serial);
        events
    };
    let (normal, shuffled) = (sorted("normal.log"), sorted("out_of_order.log"));
    let lines = read(folder.join("normal.log")).lines().filter(|line| !line.is_empty() && !line.starts_with("type=EOE")).count();
    assert_eq!(normal.iter().map(|event| event.records.len()).sum::<usize>(), lines, "no record is lost");
    let serials = |events: &[Event]| events.iter().map(|event| (event.stamp.serial, event.records.len())).collect::<Vec<_>>();
    assert_eq!(serials(&normal), serials(&shuffled));
    let distinct: std::collections::BTreeSet<u32> = normal.iter().map(|event| event.stamp.serial).collect();
    assert_eq!(distinct.len(), normal.len(), "one event a serial");
    println!("go-libaudit-stream: decoded {0} of {0} events equal, in order and out of order", normal.len());
}

#[test]
fn fields_are_those_that_crowdsec_reads() {
    let Some(folder) = folder("linux_audit/crowdsec-hub") else { return };
    let mut score = Score::default();
    let log = read(folder.join("auditd-logs/auditd-logs.log"));
    let golden: BTreeMap<usize, Value> = serde_json::from_str(&read(folder.join("auditd-logs/expected.json"))).unwrap();
    for (index, line) in log.lines().enumerate() {
        let Some(expected) = golden.get(&index) else { continue };
        let record = Stamped::from_line(line.as_bytes()).unwrap();
        let text = record.record.text();
        let fields = Fields::parse(&text);
        for (key, value) in expected["unmarshaled"].as_object().into_iter().flatten() {
            let ours = match key.strip_prefix("auditd.").unwrap() {
                "type" => Some(record.record.kind.to_string()),
                "msg" => Some(format!("audit({}):", record.stamp)),
                key => fields.raw(key).map(str::to_owned),
            };
            score.compare(&format!("line {index}"), key, value.as_str().unwrap(), ours);
        }
    }
    // `results[0].Overflow.Alert.Events[N].GetMeta("KEY") == "VALUE"`: one event a SYSCALL record that its scenario took.
    let log = read(folder.join("auditd-postexploit-rm/auditd-postexploit-rm.log"));
    let events = assemble(&log, Origin::Log);
    let asserts = read(folder.join("auditd-postexploit-rm/scenario.assert"));
    let metas = asserts.lines().filter_map(|line| line.strip_prefix("results[0].Overflow.Alert.Events[")).filter_map(|line| {
        let (index, rest) = line.split_once("].GetMeta(\"")?;
        let (key, rest) = rest.split_once("\") == \"")?;
        Some((index.parse::<usize>().ok()?, key, rest.strip_suffix('"')?))
    });
    let metas: Vec<_> = metas.collect();
    let serial_of = |index: usize| {
        metas.iter().find(|(at, key, _)| *at == index && *key == "auditd_eventid").and_then(|(_, _, id)| id.parse::<u32>().ok())
    };
    for (index, key, value) in &metas {
        let event = events.iter().find(|event| Some(event.stamp.serial) == serial_of(*index));
        let ours = match *key {
            "auditd_eventid" => event.map(|event| event.stamp.serial.to_string()),
            "datasource_path" | "datasource_type" | "log_type" => continue,
            "timestamp" => event.map(|event| edgetrail_proto::record::format_time(event.stamp.nanoseconds())),
            key => event.and_then(|event| event.record(kinds::SYSCALL)).and_then(|record| {
                let text = record.text();
                Fields::parse(&text).get(key).map(|value| value.into_owned())
            }),
        };
        score.compare(&format!("rm event {index}"), key, value, ours);
    }
    score.hold("crowdsec-hub, auditd", 98);
}

#[test]
fn plaso_s_malformed_lines_are_refused_and_the_others_read() {
    let Some(folder) = folder("linux_audit/plaso") else { return };
    let log = read(folder.join("selinux.log"));
    let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
    let read: Vec<Stamped> = lines.iter().filter_map(|line| Stamped::from_line(line.as_bytes()).ok()).collect();
    println!("plaso: {} of 7 events read, {} of 4 lines refused", read.len(), lines.len() - read.len());
    assert_eq!((read.len(), lines.len() - read.len()), (7, 4));
    assert!(read.iter().any(|record| record.record.kind == RecordType::Number(1323)));
}
