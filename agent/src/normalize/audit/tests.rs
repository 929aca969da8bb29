//! Real records of Linux 6.18 with Debian 12's sshd, sudo, su and shadow, captured from the multicast group
//! (`testdata/audit`), as records.

use std::path::Path;

use serde_json::Value;

use super::*;
use crate::normalize::Made;
use crate::sources::audit::{Assembler, Origin, Stamped};

mod distributions;

mod ways_in;

/// `testdata/audit/NAME.log` as the acts it tells, with names from a passwd file of the captured host.
fn records(name: &str) -> Vec<Value> {
    all_records(name).into_iter().filter(|record| !is_step(record)).collect()
}

/// The same with the steps to them.
fn all_records(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/audit").join(name).with_extension("log");
    decode(&std::fs::read_to_string(path).unwrap())
}

fn is_step(record: &Value) -> bool {
    record["additionalEventData"]["edgetrail"]["step"] == true
}

fn decode(log: &str) -> Vec<Value> {
    decode_events(&events(log))
}

fn events(log: &str) -> Vec<Event> {
    let (mut assembler, mut events) = (Assembler::new(Origin::Kernel), Vec::new());
    for line in log.lines() {
        let stamped = Stamped::from_line(line.as_bytes()).unwrap();
        let now = stamped.stamp.unix_milliseconds();
        assembler.expire(now, &mut events);
        assembler.push(stamped, now, &mut events);
    }
    assembler.expire(u64::MAX, &mut events);
    events
}

fn decode_events(events: &[Event]) -> Vec<Value> {
    decode_by(Decoder::default(), events)
}

fn decode_by(mut decoder: Decoder, events: &[Event]) -> Vec<Value> {
    let etc = tempfile::tempdir().unwrap();
    std::fs::write(
        etc.path().join("passwd"),
        "root:x:0:0::/root:/bin/sh\nnobody:x:65534:1::/:\nhcalice:x:1001:1001::/:\nhcbob:x:1002:1002::/:\n",
    )
    .unwrap();
    std::fs::write(etc.path().join("group"), "hcgrp:x:1003:\n").unwrap();
    let (host, mut names) = (Host::for_tests(), Names::of_files(etc.path(), Path::new("/nonexistent")));
    let drafts = events.iter().filter_map(|event| decoder.decode(&host, &mut names, event, Uuid::nil()));
    drafts
        .map(|draft| match draft.record {
            Made::Record(record) => serde_json::from_slice(&record.to_json()).unwrap(),
            Made::Written(_) | Made::Foreign(_) => panic!("the audit source makes records"),
        })
        .collect()
}

/// Where selection turns Data events away, each is still there to be counted, and every other record is as it was.
#[test]
fn without_data_the_other_records_are_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/audit");
    let (mut data, mut others) = (0, 0);
    for log in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(events) = std::fs::read_to_string(&log).map(|log| events(&log)) else { continue };
        let (all, fewer) = (decode_events(&events), decode_by(Decoder::default().without_data(), &events));
        assert_eq!(all.len(), fewer.len(), "{}", log.display());
        for (whole, told) in all.iter().zip(&fewer) {
            assert_eq!(whole["eventCategory"], told["eventCategory"], "{whole}");
            if whole["eventCategory"] == "Data" {
                data += 1;
            } else {
                assert_eq!(whole, told);
                others += 1;
            }
        }
    }
    assert!(data > 0 && others > 0, "{data} Data events, {others} others");
}

/// `eventName userIdentity.type principalId sourceIPAddress errorCode`, one line a record.
fn story(records: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    records
        .iter()
        .map(|record| {
            let who = &record["userIdentity"];
            let parts =
                [&record["eventName"], &who["type"], &who["principalId"], &record["sourceIPAddress"], &record["errorCode"]];
            parts.map(text).join(" ")
        })
        .collect()
}

#[test]
fn a_login_and_its_sudo_commands_are_one_record_each() {
    let records = records("login");
    assert_eq!(
        story(&records),
        [
            "Login IAMUser 1001 127.0.0.1 -",
            "RunCommand AssumedRole 0:hcalice 127.0.0.1 -",
            "RunCommand AssumedRole 65534:hcalice 127.0.0.1 -",
            "Logout IAMUser 1001 127.0.0.1 -",
            "Login IAMUser 1001 127.0.0.1 -",
            "RunCommand AssumedRole 0:hcalice 127.0.0.1 -",
            "Logout IAMUser 1001 127.0.0.1 -",
        ]
    );
    let sudo = &records[1];
    assert_eq!(sudo["eventSource"], "sudo.linux");
    assert_eq!(sudo["requestParameters"]["command"], "id -u");
    assert_eq!(sudo["userIdentity"]["arn"], "arn:aws:host:dc-local-1:111122223333:web-1/assumed-role/root/hcalice");
    assert_eq!(sudo["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"], "hcalice");
    assert_eq!(
        (&records[0]["eventType"], &records[0]["responseElements"]["Login"]),
        (&"AwsConsoleSignIn".into(), &"Success".into())
    );
    assert_eq!(records[5]["requestParameters"]["tty"], "pts/0");
}

#[test]
fn an_act_tells_of_its_login() {
    let records = records("login");
    let login = &records[5]["additionalEventData"]["edgetrail"]["login"];
    assert_eq!((&login["tty"], &login["program"]), (&"pts/0".into(), &"sshd".into()));
    assert!(login["since"].as_str().is_some_and(|since| since.ends_with('Z')));
}

#[test]
fn how_a_user_logged_in_is_learned_from_whoever_says_it() {
    let line = |serial: u32, kind: &str, text: &str| format!("type={kind} msg=audit(100.001:{serial}): {text}\n");
    let (auth, open) = (
        "pid=9 uid=0 auid=4294967295 ses=4294967295 msg='op=PAM:authentication grantors=pam_unix acct=\"hcalice\" exe=\"/usr/sbin/sshd\" hostname=192.0.2.1 addr=192.0.2.1 terminal=ssh res=success'",
        "pid=9 uid=0 auid=1001 ses=3 msg='op=PAM:session_open acct=\"hcalice\" exe=\"/usr/sbin/sshd\" hostname=192.0.2.1 addr=192.0.2.1 terminal=ssh res=success'",
    );
    let told = decode(&(line(1, "USER_AUTH", auth) + &line(2, "USER_START", open)));
    let login = told.iter().find(|record| record["eventName"] == "Login").unwrap();
    assert_eq!(login["additionalEventData"]["edgetrail"]["login"]["method"], "password");
    let mut decoder = Decoder::default();
    decoder.here.sessions.update(3, 1001, 100, |session| session.address = Some("192.0.2.1".into()));
    decoder.logged_in("hcalice", Some(1001), "192.0.2.1", "publickey", 100);
    assert_eq!(decoder.here.sessions.get(3).unwrap().method.as_deref(), Some("publickey"));
}

#[test]
fn files_capabilities_and_refusals_are_told() {
    let mount = "type=SYSCALL msg=audit(100.001:7): arch=c000003e syscall=90 success=yes exit=0 a0=1 a1=1ff a2=0 a3=0 items=1 ppid=1 pid=9 auid=1001 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=3 comm=\"chmod\" exe=\"/bin/chmod\" key=\"x\"\ntype=CWD msg=audit(100.001:7): cwd=\"/etc\"\ntype=PATH msg=audit(100.001:7): item=0 name=\"sudoers\" inode=42 dev=08:01 mode=0100440 ouid=1002 ogid=0 rdev=00:00 nametype=NORMAL cap_fp=0 cap_fi=0 cap_fe=0 cap_fver=0\ntype=EOE msg=audit(100.001:7): \n";
    let told = decode(mount);
    let file = &told[0]["requestParameters"]["files"][0];
    assert_eq!((&file["inode"], &file["mode"], &file["owner"]), (&42.into(), &"0100440".into(), &"hcbob".into()));
    assert_eq!(told[0]["requestParameters"]["paths"][0], "/etc/sudoers");
    let avc = "type=AVC msg=audit(100.001:8): avc:  denied  { sys_admin } for  pid=9 comm=\"x\" capability=21  scontext=a:b:c:s0 tcontext=a:b:c:s0 tclass=capability permissive=0\n";
    let told = decode(avc);
    assert_eq!((&told[0]["eventName"], &told[0]["errorCode"]), (&"DenyAccess".into(), &"AccessDenied".into()));
    assert_eq!(told[0]["requestParameters"]["capabilities"]["requested"][0], "CAP_SYS_ADMIN");
    for (text, name, code) in [
        (
            "apparmor=\"DENIED\" operation=\"open\" profile=\"/usr/bin/x\" name=\"/etc/shadow\" pid=9 comm=\"x\" requested_mask=\"r\" denied_mask=\"r\" fsuid=0 ouid=0",
            "DenyAccess",
            "AccessDenied",
        ),
        (
            "apparmor=\"ALLOWED\" operation=\"open\" profile=\"/usr/bin/x\" name=\"/etc/shadow\" pid=9 comm=\"x\"",
            "ReportAccess",
            "-",
        ),
        (
            "apparmor=\"STATUS\" operation=\"profile_load\" profile=\"unconfined\" name=\"x\" pid=9 comm=\"apparmor_parser\"",
            "LoadSecurityPolicy",
            "-",
        ),
    ] {
        let told = decode(&format!("type=AVC msg=audit(100.001:9): {text}\n"));
        assert_eq!((told[0]["eventName"].as_str(), told[0]["errorCode"].as_str().unwrap_or("-")), (Some(name), code), "{text}");
    }
}

#[test]
fn steps_of_an_act_are_data_events() {
    let all = all_records("login");
    let steps: Vec<&Value> = all.iter().filter(|record| is_step(record)).collect();
    assert!(steps.iter().all(|step| step["eventCategory"] == "Data" && step["managementEvent"] == false));
    for name in ["SetLoginUser", "CheckAccount", "AcquireCredentials", "RefreshCredentials", "StartSession"] {
        assert!(steps.iter().any(|step| step["eventName"] == name), "{name}");
    }
}

#[test]
fn each_refused_login_is_one_record() {
    assert_eq!(
        story(&records("refused")),
        [
            "Login Unknown - 127.0.0.1 AccessDenied",
            "Login IAMUser 1001 127.0.0.1 AccessDenied",
            "Login IAMUser 1001 127.0.0.1 AccessDenied",
            "Login IAMUser 1001 127.0.0.1 -",
            "Logout IAMUser 1001 127.0.0.1 -",
        ]
    );
}

#[test]
fn su_and_refused_commands_are_told_with_their_human() {
    assert_eq!(
        story(&records("su")),
        [
            "SwitchUser AWSService 0 web-1 -",
            "Login IAMUser 1001 127.0.0.1 -",
            "SwitchUser IAMUser 1001 127.0.0.1 AccessDenied",
            "RunCommand AssumedRole 0:hcalice 127.0.0.1 -",
            "Logout IAMUser 1001 127.0.0.1 -",
            "Login IAMUser 1001 127.0.0.1 -",
            "RunCommand IAMUser 1001 127.0.0.1 AccessDenied",
            "RunCommand IAMUser 1001 127.0.0.1 AccessDenied",
            "Logout IAMUser 1001 127.0.0.1 -",
        ]
    );
}

#[test]
fn each_change_of_an_account_is_one_record() {
    let records = records("accounts");
    let name = |record: &Value| {
        record["requestParameters"]["userName"]
            .as_str()
            .or(record["requestParameters"]["groupName"].as_str())
            .unwrap_or("-")
            .to_owned()
    };
    let told: Vec<String> =
        records.iter().map(|record| format!("{} {}", record["eventName"].as_str().unwrap(), name(record))).collect();
    assert_eq!(
        told,
        [
            "CreateGroup hcbob",
            "CreateUser hcbob",
            "AddUserToGroup hcbob",
            "ModifyUser hcbob",
            "ChangePassword hcbob",
            "ModifyUser hcbob",
            "CreateGroup hcgrp",
            "AddUserToGroup hcbob",
            "ModifyGroup hcgrp",
            "DeleteGroup hcgrp",
            "DeleteUser hcbob",
            "DeleteGroup hcbob",
            "CreateUser hcalice",
        ]
    );
    assert_eq!(records[12]["errorCode"], "Failed");
    assert_eq!(records[1]["resources"][0]["ARN"], "arn:aws:host:dc-local-1:111122223333:web-1/user/hcbob");
}

#[test]
fn what_rules_select_is_told_with_session_and_role() {
    let records = records("rules");
    let story = story(&records);
    for expected in [
        "ModifyAuditRule AWSService 0 web-1 -",
        "ExecuteProgram IAMUser 1001 127.0.0.1 -",
        "RunCommand AssumedRole 0:hcalice 127.0.0.1 -",
        "CreateFile AssumedRole 0:hcalice 127.0.0.1 -",
        "ChangeFileMode AssumedRole 0:hcalice 127.0.0.1 -",
        "MountFileSystem AssumedRole 0:hcalice 127.0.0.1 -",
        "UnmountFileSystem AssumedRole 0:hcalice 127.0.0.1 -",
        "DeleteFile AssumedRole 0:hcalice 127.0.0.1 -",
        "ConnectNetwork IAMUser 1001 127.0.0.1 ECONNREFUSED",
        "ChangeAuditConfiguration AWSService 0 web-1 -",
    ] {
        assert!(story.iter().any(|line| line == expected), "{expected} is not in {story:#?}");
    }
    let long = records.iter().find(|record| record["requestParameters"]["arguments"][0] == "/bin/true").unwrap();
    assert_eq!(long["requestParameters"]["arguments"][1], "x".repeat(9000), "chunks of a long argument are joined");
    assert_eq!(
        (&long["requestParameters"]["arguments"][2], &long["requestParameters"]["arguments"][3]),
        (&"a b".into(), &"".into())
    );
    let deleted = records.iter().find(|record| record["eventName"] == "DeleteFile").unwrap();
    assert_eq!(deleted["resources"][0]["ARN"], "arn:aws:host:dc-local-1:111122223333:web-1/file/tmp/hc/watched");
    assert_eq!((&deleted["eventCategory"], &deleted["managementEvent"]), (&"Data".into(), &false.into()));
}

/// Every fixture, each event cut at each of its bytes: nothing panics, and what is whole before the cut is read.
#[test]
fn fixtures_cut_anywhere_never_panic() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/audit");
    let (host, mut names) = (Host::for_tests(), Names::of_files(Path::new("/nonexistent"), Path::new("/nonexistent")));
    for entry in std::fs::read_dir(directory).unwrap() {
        let log = std::fs::read(entry.unwrap().path()).unwrap();
        let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let serial = |line: &&[u8]| Stamped::from_line(line).unwrap().stamp.serial;
        // An event's lines stand together; what stands between events is a matter of the assembler alone.
        for event in lines.chunk_by(|one, other| serial(one) == serial(other)) {
            let whole = event.join(&b'\n');
            for end in 0..=whole.len() {
                // Deep in an argument of thousands of bytes one cut is like the other.
                if end > 3000 && end + 300 < whole.len() && end % 97 != 0 {
                    continue;
                }
                let (mut assembler, mut events) = (Assembler::new(Origin::Log), Vec::new());
                let read = whole[..end].split(|byte| *byte == b'\n').filter_map(|line| Stamped::from_line(line).ok());
                read.for_each(|stamped| assembler.push(stamped, 0, &mut events));
                assembler.expire(u64::MAX, &mut events);
                let whole_lines = whole[..end].iter().filter(|byte| **byte == b'\n').count();
                let records: usize = events.iter().map(|event| event.records.len()).sum();
                let ended = event[..whole_lines].iter().filter(|line| line.starts_with(b"type=EOE")).count();
                assert!(records + ended >= whole_lines, "what is whole is read");
                for event in &events {
                    let _ = Decoder::default().decode(&host, &mut names, event, Uuid::nil());
                }
            }
        }
    }
}

/// Real lines with bytes changed, cut, doubled and swapped: whatever comes of them, nothing panics.
#[test]
fn damaged_lines_never_panic() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/audit");
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    let (host, mut names) = (Host::for_tests(), Names::of_files(Path::new("/nonexistent"), Path::new("/nonexistent")));
    for name in ["login", "refused", "su", "accounts", "rhel", "rules"] {
        let log = std::fs::read(directory.join(name).with_extension("log")).unwrap();
        for _ in 0..20 {
            let (mut assembler, mut decoder, mut events) = (Assembler::new(Origin::Log), Decoder::default(), Vec::new());
            for line in log.split(|b| *b == b'\n') {
                let mut line: Vec<u8> = line.iter().copied().take(2000).collect();
                for _ in 0..random(4) {
                    let at = random(line.len());
                    match random(4) {
                        0 => line.truncate(at),
                        1 if at < line.len() => line[at] = u8::try_from(random(256)).unwrap(),
                        2 => line.extend_from_within(at..),
                        _ if at < line.len() => drop(line.remove(at)),
                        _ => {}
                    }
                }
                if let Ok(stamped) = Stamped::from_line(&line) {
                    assembler.push(stamped, 0, &mut events);
                }
            }
            assembler.expire(u64::MAX, &mut events);
            for event in &events {
                let _ = decoder.decode(&host, &mut names, event, Uuid::nil());
            }
        }
    }
}
