//! Entries to records.

use edgetrail_proto::record::{EventType, Record};

use super::*;
use crate::normalize::{Act, Made, act};

fn entry(program: &str, message: &str, more: &[(&str, &str)]) -> Entry {
    let mut entry = Entry { realtime_us: 1_700_000_000_000_000, ..Entry::default() };
    for (name, value) in [("SYSLOG_IDENTIFIER", program), ("MESSAGE", message)].iter().chain(more) {
        entry.fields.insert((*name).to_owned(), value.as_bytes().to_vec());
    }
    entry
}

fn made(entry: &Entry) -> Option<(Record, Option<Act>)> {
    let draft = draft(&Host::for_tests(), &mut Names::default(), Uuid::nil(), 1_700_000_000_000_000_000, entry)?;
    let Made::Record(record) = draft.record else { panic!() };
    Some((*record, draft.act))
}

#[test]
fn sudo_is_the_humans_act_as_a_role() {
    let message = "alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/id";
    let (record, act) = made(&entry("sudo", message, &[("_UID", "0")])).unwrap();
    assert_eq!((&*record.event_source, &*record.event_name), ("sudo.linux", "RunCommand"));
    assert_eq!(record.user_identity.kind.as_deref(), Some("AssumedRole"));
    assert_eq!(record.user_identity.principal_id.as_deref(), Some("0:alice"));
    assert_eq!(act, Some(act::sudo_command("alice", "root", "/dev/pts/0", "id", 1_700_000_000_000_000_000)));
    let message = "eve : user NOT in sudoers ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh";
    let (record, _) = made(&entry("sudo", message, &[("_UID", "0")])).unwrap();
    assert_eq!(record.error_code.as_deref(), Some("AccessDenied"));
    assert_eq!(record.error_message.as_deref(), Some("user NOT in sudoers"));
}

#[test]
fn logins_carry_their_address_and_unknown_names_are_hidden() {
    let message = "Accepted publickey for root from 192.0.2.1 port 22 ssh2: ED25519 SHA256:abc";
    let (record, _) = made(&entry("sshd", message, &[("_UID", "0")])).unwrap();
    assert_eq!(record.event_type, EventType::AwsConsoleSignIn);
    assert_eq!(record.source_ip_address, "192.0.2.1");
    assert_eq!(record.user_identity.kind.as_deref(), Some("Root"));
    assert_eq!(record.request_parameters.unwrap()["keyFingerprint"], "ED25519 SHA256:abc");
    let (record, act) = made(&entry("sshd", "Invalid user no-such from 192.0.2.1 port 22", &[("_UID", "0")])).unwrap();
    assert_eq!(record.user_identity.user_name.as_deref(), Some("HIDDEN_DUE_TO_SECURITY_REASONS"));
    assert_eq!(act, Some(act::login_failure("", "192.0.2.1", 1_700_000_000_000_000_000)));
}

#[test]
fn an_account_made_through_sudo_is_the_humans_act() {
    let fields = [("_UID", "0"), ("_AUDIT_LOGINUID", "4242")];
    let message = "new user: name=bob, UID=1001, GID=1001, home=/home/bob, shell=/bin/sh, from=none";
    let (record, _) = made(&entry("useradd", message, &fields)).unwrap();
    assert_eq!(record.user_identity.principal_id.as_deref(), Some("0:4242"));
    assert_eq!(record.resources.unwrap()[0].arn.as_deref(), Some("arn:aws:host:dc-local-1:111122223333:web-1/user/bob"));
}

#[test]
fn units_are_systemds_own_acts() {
    let fields = [
        ("_PID", "1"),
        ("_UID", "0"),
        ("UNIT", "nginx.service"),
        ("MESSAGE_ID", "39f53479d3a045ac8e11786248231fbf"),
        ("JOB_RESULT", "done"),
    ];
    let (record, act) = made(&entry("systemd", "Started nginx.service.", &fields)).unwrap();
    assert_eq!((&*record.event_name, record.event_type), ("StartUnit", EventType::AwsServiceEvent));
    assert_eq!(act.unwrap().key, "nginx");
    let scope = [("_PID", "1"), ("_UID", "0"), ("UNIT", "session-1.scope"), ("MESSAGE_ID", "39f53479d3a045ac8e11786248231fbf")];
    assert!(made(&entry("systemd", "Started", &scope)).is_none());
}

#[test]
fn nobody_poses_as_sudo_by_its_name() {
    let message = "alice : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/true";
    assert!(made(&entry("sudo", message, &[("_UID", "1000"), ("_EXE", "/home/eve/sudo"), ("_COMM", "sudo")])).is_none());
    assert!(made(&entry("sudo", message, &[("_UID", "1000"), ("_EXE", "/usr/bin/logger")])).is_none());
    assert!(made(&entry("sudo", message, &[("_UID", "1000"), ("_EXE", "/usr/bin/sudo")])).is_some());
}
