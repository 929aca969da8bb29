//! The same acts, whichever way their records came: from the kernel, from a log that is followed or read as a whole, from
//! a log of many hosts.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::observation::{Payload, intake};
use crate::sources::audit::log;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/audit").join(name).with_extension("log");
    std::fs::read_to_string(path).unwrap()
}

fn without_steps(records: Vec<Value>) -> Vec<Value> {
    records.into_iter().filter(|record| !is_step(record)).collect()
}

/// The acts of a text as `edgetrail-agent parse` tells them.
fn parsed(text: &str) -> Vec<Value> {
    let mut events = Vec::new();
    log::parse(text.as_bytes(), |observation| {
        let Payload::Audit(event) = observation.payload else { panic!("{observation:?}") };
        events.push(event);
    })
    .unwrap();
    without_steps(decode_events(&events))
}

/// And as the follower of a log that is being written does.
async fn followed(text: &str) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    std::fs::write(&path, "").unwrap();
    let (intake, mut outlet) = intake();
    let stop = CancellationToken::new();
    // A cursor at the file's start: what is written before the follower stands is its too.
    let metadata = std::fs::metadata(&path).unwrap();
    use std::os::unix::fs::MetadataExt;
    let place = serde_json::json!({"device": metadata.dev(), "inode": metadata.ino(), "generation": 0, "offset": 0});
    let cursor = Cursor { key: log::key(&path), value: serde_json::to_vec(&place).unwrap() };
    let mut following = tokio::task::JoinSet::new();
    following.spawn(log::run(path.clone(), Some(cursor), intake, stop.clone()));
    std::fs::write(&path, format!("{text}type=USER_AVC msg=audit(2000000000.001:1): pid=1\n")).unwrap();
    let (mut events, mut is_last) = (Vec::new(), false);
    // The last line says that all was read; what is still being joined then comes within a second.
    while let Ok(Some(group)) =
        tokio::time::timeout(std::time::Duration::from_secs(if is_last { 2 } else { 60 }), outlet.recv()).await
    {
        for observation in group {
            match observation.payload {
                Payload::Audit(event) if event.stamp.seconds == 2_000_000_000 => is_last = true,
                Payload::Audit(event) => events.push(event),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(is_last, "the log was read to its end");
    stop.cancel();
    following.join_next().await.unwrap().unwrap().unwrap();
    without_steps(decode_events(&events))
}

/// In a log, the record of a session's beginning is joined last: it must take nothing from the session.
#[tokio::test]
async fn a_session_has_its_address_and_terminal_whichever_way_it_came() {
    let login = fixture("login");
    let live = records("login");
    let told = |records: &[Value]| -> Vec<String> {
        let of = |record: &Value| {
            let login = &record["additionalEventData"]["edgetrail"]["login"];
            format!("{} {} {} {}", record["eventName"], record["sourceIPAddress"], login["program"], login["tty"])
        };
        records.iter().map(of).collect()
    };
    let without_marks: String =
        login.lines().filter(|line| !line.starts_with("type=EOE")).map(|line| format!("{line}\n")).collect();
    // Many other events as soon as the session began: they push out what was still being joined.
    let (mut busy, mut serial) = (String::new(), 1000u32);
    for line in without_marks.lines() {
        busy.push_str(line);
        busy.push('\n');
        let is_login = line.starts_with("type=USER_START") && line.contains("/usr/sbin/sshd");
        for _ in 0..if is_login { 40 } else { 0 } {
            serial += 1;
            let stamp = format!("audit(1795454108.020:{serial})");
            busy.push_str(&format!("type=SYSCALL msg={stamp}: arch=c000003e syscall=87 success=yes exit=0 ppid=1 pid=3 auid=4294967295 uid=0 ses=4294967295 comm=\"rm\" exe=\"/usr/bin/rm\" key=(null)\ntype=PROCTITLE msg={stamp}: proctitle=\"rm\"\n"));
        }
    }
    let acts = |records: Vec<Value>| -> Vec<Value> {
        records.into_iter().filter(|record| record["eventName"] != "DeleteFile").collect()
    };
    for (way, records) in [
        ("parse", parsed(&login)),
        ("parse without end marks", parsed(&without_marks)),
        ("parse of a busy log", acts(parsed(&busy))),
        ("log", followed(&without_marks).await),
        ("busy log", acts(followed(&busy).await)),
    ] {
        let sorted = |mut texts: Vec<String>| {
            texts.sort();
            texts
        };
        assert_eq!(sorted(told(&records)), sorted(told(&live)), "{way}");
        assert_eq!(sorted(story(&records)), sorted(story(&live)), "{way}");
    }
}

/// Two hosts' events have the same stamps, sessions and processes.
#[test]
fn nodes_of_an_aggregated_log_share_nothing() {
    let of = |node: &str, address: &str, user: &str| -> String {
        let login = fixture("login").replace("127.0.0.1", address).replace("hcalice", user);
        login.lines().map(|line| format!("node={node} {line}\n")).collect()
    };
    let (one, other, here) =
        (of("db-1", "192.0.2.1", "anna"), of("db-2", "192.0.2.2", "otto"), of("web-1", "192.0.2.3", "hcalice"));
    // Line by line, as an aggregating auditd writes them.
    let lines = one.lines().zip(other.lines()).zip(here.lines());
    let mixed: String = lines.map(|((one, other), here)| format!("{one}\n{other}\n{here}\n")).collect();
    let records = parsed(&mixed);
    let node = |record: &Value| record["additionalEventData"]["edgetrail"]["loggedBy"].as_str().unwrap_or("-").to_owned();
    for (name, address, user) in [("db-1", "192.0.2.1", "anna"), ("db-2", "192.0.2.2", "otto"), ("-", "192.0.2.3", "hcalice")] {
        let acts: Vec<&Value> = records.iter().filter(|record| node(record) == name).collect();
        assert_eq!(acts.len(), live_count(), "{name}: {acts:#?}");
        for act in acts {
            assert_eq!(act["sourceIPAddress"], address, "{act:#}");
            if act["eventName"] == "Login" {
                assert_eq!(act["userIdentity"]["userName"], user);
            }
        }
    }
    // The names of this host's users are not those of another's.
    let command = records.iter().find(|record| node(record) == "db-1" && record["eventName"] == "RunCommand").unwrap();
    assert_eq!(command["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"], "1001");
}

fn live_count() -> usize {
    records("login").len()
}

#[test]
fn the_sessions_of_nodes_outlive_a_restart_of_the_agent() {
    let line = |text: &str| {
        let (mut assembler, mut events) = (Assembler::new(Origin::Log), Vec::new());
        assembler.push(Stamped::from_line(text.as_bytes()).unwrap(), 0, &mut events);
        assembler.expire(u64::MAX, &mut events);
        events.remove(0)
    };
    let (host, mut names) = (Host::for_tests(), Names::of_nobody());
    let mut before = Decoder::default();
    let start = "node=db-1 type=USER_START msg=audit(100.001:1): pid=5 uid=0 auid=1000 ses=3 msg='op=PAM:session_open acct=\"anna\" exe=\"/usr/sbin/sshd\" hostname=x addr=192.0.2.1 terminal=ssh res=success'";
    before.decode(&host, &mut names, &line(start), Uuid::nil());
    let cursor = before.take_cursor().unwrap();
    assert!(before.take_cursor().is_none());
    let mut after = Decoder::restore(Some(&cursor));
    let command = "node=db-1 type=USER_CMD msg=audit(101.001:2): pid=6 uid=1000 auid=1000 ses=3 msg='cwd=\"/\" cmd=\"id\" terminal=? res=failed'";
    let draft = after.decode(&host, &mut names, &line(command), Uuid::nil()).unwrap();
    let Made::Record(record) = draft.record else { panic!() };
    assert_eq!(record.source_ip_address, "192.0.2.1");
    assert!(draft.act.is_none(), "no other source of this host reports it");
}
