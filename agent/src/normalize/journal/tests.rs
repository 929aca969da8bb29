//! Entries to records.

use edgetrail_proto::record::{EventType, Record};

use super::*;
use crate::normalize::{Act, Made, Normalizer, act, audit};
use crate::observation::{Observation, Payload, SourceName};
use crate::sources::file::{Format, Line};
use crate::sources::lines::{Mapping, shape::AccessShape};

fn entry(program: &str, message: &str, more: &[(&str, &str)]) -> Entry {
    let mut entry = Entry { realtime_us: 1_700_000_000_000_000, ..Entry::default() };
    for (name, value) in [("SYSLOG_IDENTIFIER", program), ("MESSAGE", message)].iter().chain(more) {
        entry.fields.insert((*name).to_owned(), value.as_bytes().to_vec());
    }
    entry
}

fn made(entry: &Entry) -> Option<(Record, Option<Act>)> {
    let (event_id, time) = (Uuid::nil(), 1_700_000_000_000_000_000);
    let message = Message { carrier: Carrier::Journal, event_id, time, entry };
    let draft = draft(&Host::for_tests(), &mut Names::default(), &mut Memory::default(), &message)?;
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

#[test]
fn a_script_of_the_system_can_not_pose_as_a_program() {
    let message = "Accepted password for root from 192.0.2.1 port 22 ssh2";
    for exe in ["/usr/bin/python3.12", "/usr/bin/systemd-cat", "/usr/bin/echo", "/usr/bin/busybox"] {
        assert!(made(&entry("sshd", message, &[("_UID", "1000"), ("_EXE", exe), ("_COMM", "sshd")])).is_none(), "{exe}");
    }
    let switch = "pam_unix(su-l:session): session opened for user root(uid=0) by alice(uid=1000)";
    assert!(made(&entry("su-l", switch, &[("_UID", "1000"), ("_EXE", "/usr/bin/su"), ("_COMM", "su")])).is_some());
}

/// A host that knows root, alice and bob, named `name`.
fn normalizer(name: &str) -> Normalizer {
    let etc = tempfile::tempdir().unwrap();
    std::fs::write(
        etc.path().join("passwd"),
        "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n",
    )
    .unwrap();
    let mut names = Names::of_files(etc.path(), Path::new("/nonexistent"));
    // Read before the directory goes.
    for (uid, name) in [(0, "root"), (1000, "alice"), (1001, "bob")] {
        assert_eq!((names.uid(name), names.user(uid).as_deref()), (Some(uid), Some(name)));
    }
    Normalizer::new(Host { name: name.to_owned(), ..Host::for_tests() }, audit::Decoder::restore(None), names)
}

fn of(normalizer: &mut Normalizer, source: SourceName, payload: Payload) -> Vec<(Record, Option<Act>)> {
    let time = 1_700_000_000_000_000_000;
    let observation = Observation { source, position: "p".to_owned(), time, payload, cursor: None, answer: None };
    let made = |draft: Draft| match draft.record {
        Made::Record(record) => (*record, draft.act),
        Made::Written(_) | Made::Foreign(_) => panic!("not made here"),
    };
    normalizer.normalize(&observation).into_iter().map(made).collect()
}

/// What a file of syslog's makes.
fn of_file(normalizer: &mut Normalizer, line: &str) -> Vec<(Record, Option<Act>)> {
    let bytes = line.as_bytes().to_vec().into();
    of(normalizer, SourceName::File, Payload::Line(Line { bytes, format: Format::Syslog, path: "/var/log/auth.log".into() }))
}

/// What a message to the syslog source makes.
fn of_socket(normalizer: &mut Normalizer, peer: &str, line: &str) -> (Record, Option<Act>) {
    let format = Format::Mapped(Mapping::open("syslog", AccessShape::default()).unwrap());
    let line = Line { bytes: line.as_bytes().to_vec().into(), format, path: peer.into() };
    of(normalizer, SourceName::Syslog, Payload::Line(line)).pop().unwrap()
}

/// What an entry of the journal makes.
fn of_journal(normalizer: &mut Normalizer, program: &str, message: &str, more: &[(&str, &str)]) -> Vec<(Record, Option<Act>)> {
    let fields: Vec<_> = more.iter().copied().chain([("_UID", "0")]).collect();
    of(normalizer, SourceName::Journal, Payload::Journal(entry(program, message, &fields)))
}

fn mark<'a>(record: &'a Record, key: &str) -> Option<&'a str> {
    record.additional_event_data.as_ref()?.get("edgetrail")?.get(key)?.as_str()
}

const ACCEPTED: &str = "sshd[7]: Accepted password for alice from 192.0.2.1 port 22 ssh2";

#[test]
fn a_host_is_itself_by_its_short_and_its_whole_name() {
    for (host, said) in [
        ("web-1.example.com", "web-1"),
        ("web-1.example.com", "WEB-1.Example.com"),
        ("web-1", "web-1.example.com"),
        ("Web-1", "web-1"),
    ] {
        let (record, act) = of_file(&mut normalizer(host), &format!("Mar  1 10:00:00 {said} {ACCEPTED}")).pop().unwrap();
        assert_eq!(record.user_identity.principal_id.as_deref(), Some("1000"), "{host} {said}");
        assert!(act.is_some() && mark(&record, "loggedBy").is_none(), "{host} {said}");
    }
    for (host, said) in [
        ("web-1.example.com", "web-1.example.org"),
        ("web-1", "web-10"),
        ("10.0.0.5", "10"),
        ("10", "10.0.0.5"),
        ("web-1", "db-7"),
    ] {
        let (record, act) = of_file(&mut normalizer(host), &format!("Mar  1 10:00:00 {said} {ACCEPTED}")).pop().unwrap();
        assert!(act.is_none() && record.user_identity.principal_id.is_none(), "{host} {said}");
        assert_eq!(mark(&record, "loggedBy"), Some(said));
    }
}

#[test]
fn another_host_s_line_has_that_host_s_identity() {
    let mut loghost = normalizer("loghost");
    let line = "Mar  1 10:00:00 db-7 sudo: alice : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/usr/bin/id";
    let (record, act) = of_file(&mut loghost, line).pop().unwrap();
    assert_eq!(record.user_identity.arn.as_deref(), Some("arn:aws:host:dc-local-1:111122223333:db-7/assumed-role/root/alice"));
    assert_eq!(record.source_ip_address, "db-7");
    assert_eq!(record.resources.unwrap()[0].arn.as_deref(), Some("arn:aws:host:dc-local-1:111122223333:db-7/user/root"));
    assert_eq!(act, None);
    // Its uids are named by nobody here.
    let line = "Mar  1 10:00:00 db-7 su: pam_unix(su:session): session opened for user root(uid=0) by (uid=1000)";
    let (record, _) = of_file(&mut loghost, line).pop().unwrap();
    assert!(record.user_identity.arn.unwrap().ends_with(":db-7/assumed-role/root/1000"));
}

#[test]
fn nobody_on_the_network_poses_as_this_host() {
    let mut web = normalizer("web-1");
    let line = format!("<86>Jan  1 00:00:00 web-1 {ACCEPTED}");
    let (record, act) = of_socket(&mut web, "udp://198.51.100.7:4711", &line);
    assert_eq!((record.event_name.as_str(), act), ("Login", None));
    assert_eq!(mark(&record, "peer"), Some("udp://198.51.100.7:4711"));
    assert_eq!(mark(&record, "loggedBy"), Some("web-1"));
    let identity = record.user_identity;
    assert!(identity.arn.unwrap().ends_with(":198.51.100.7/user/alice"), "this host's name is not for others to use");
    assert_eq!(identity.principal_id, None);
    // Another one's name is what it says of itself.
    let line = format!("<86>Jan  1 00:00:00 db-7 {ACCEPTED}");
    let (record, act) = of_socket(&mut web, "tls://[2001:db8::7]:4711", &line);
    assert!(record.user_identity.arn.unwrap().ends_with(":db-7/user/alice") && act.is_none());
    let line = format!("<86>1 2024-03-01T10:00:00Z - sshd 7 - - {}", ACCEPTED.split_once(": ").unwrap().1);
    let (record, act) = of_socket(&mut web, "tcp://[2001:db8::7]:4711", &line);
    assert!(record.user_identity.arn.unwrap().ends_with(":2001:db8::7/user/alice") && act.is_none());
    // The host's own socket is the host's own, as its files are; the C library writes no host there.
    for line in [line.clone(), format!("<86>Jan  1 00:00:00 web-1 {ACCEPTED}"), format!("<86>Jan  1 00:00:00 {ACCEPTED}")] {
        let (record, act) = of_socket(&mut web, "unix", &line);
        assert_eq!(record.user_identity.principal_id.as_deref(), Some("1000"), "{line}");
        assert!(act.is_some(), "{line}");
        assert_eq!(mark(&record, "peer"), Some("unix"));
    }
    let (record, _) = of_file(&mut web, &format!("Mar  1 10:00:00 web-1 {ACCEPTED}")).pop().unwrap();
    assert_eq!(mark(&record, "file"), Some("/var/log/auth.log"));
}

#[test]
fn who_switches_is_known_by_uid_where_pam_knows_no_name() {
    let mut web = normalizer("web-1");
    let message = "pam_unix(su:session): session opened for user bob(uid=1001) by (uid=1000)";
    let (record, act) = of_journal(&mut web, "su", message, &[]).pop().unwrap();
    assert_eq!(record.user_identity.principal_id.as_deref(), Some("1001:alice"));
    assert_eq!(act, Some(act::switch_user("alice", "bob", 1_700_000_000_000_000_000)));
    // A refusal is of whoever asked.
    let message = "pam_unix(polkit-1:auth): authentication failure; logname= uid=1000 euid=0 tty= ruser=alice rhost=  user=root";
    let (record, act) = of_journal(&mut web, "polkit-agent-helper-1", message, &[]).pop().unwrap();
    assert_eq!(record.user_identity.user_name.as_deref(), Some("alice"));
    assert_eq!(record.request_parameters.unwrap()["user"], "root");
    assert_eq!(act, Some(act::authentication_failure("polkit-1", "root", 1_700_000_000_000_000_000)));
}

#[test]
fn a_group_is_a_fact_of_sudo_s_and_an_alert_no_command() {
    let message = "alice : TTY=pts/0 ; PWD=/ ; USER=root ; GROUP=adm ; COMMAND=/bin/ls";
    let (record, _) = made(&entry("sudo", message, &[("_UID", "0")])).unwrap();
    assert_eq!(record.request_parameters.unwrap()["group"], "adm");
    let message = "bob : problem with defaults entries ; TTY=pts/0 ; PWD=/ ; USER=root ;";
    let (record, act) = made(&entry("sudo", message, &[("_UID", "0")])).unwrap();
    assert_eq!((&*record.event_name, record.error_code.as_deref(), act), ("ReportAlert", Some("Failed"), None));
    assert_eq!(record.error_message.as_deref(), Some("problem with defaults entries"));
}

#[test]
fn a_long_command_s_parts_belong_together_and_forge_nothing() {
    let mut web = normalizer("web-1");
    let command = format!("/usr/bin/printf {}", "word ".repeat(200));
    let (first, rest) = command.split_at(800);
    let message = format!("alice : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND={first}");
    let (first, act) = of_journal(&mut web, "sudo", &message, &[("_PID", "7")]).pop().unwrap();
    assert_eq!(
        act,
        Some(act::sudo_command("alice", "root", "pts/0", &command, 1_700_000_000_000_000_000)),
        "the kernel's is whole"
    );
    let message = format!("alice : (command continued) {rest} ; COMMAND=/bin/true");
    let (record, act) = of_journal(&mut web, "sudo", &message, &[("_PID", "7")]).pop().unwrap();
    assert_eq!((&*record.event_name, act, record.error_code.as_deref()), ("ContinueCommand", None, None));
    assert_eq!(mark(&record, "relatedEventID"), Some(&*first.event_id.to_string()));
    let (record, _) = of_journal(&mut web, "sudo", &message, &[("_PID", "8")]).pop().unwrap();
    assert_eq!(mark(&record, "relatedEventID"), None);
}

/// Names of the records that are no steps.
fn acts(made: &[(Record, Option<Act>)]) -> Vec<&str> {
    made.iter().filter(|(record, _)| record.management_event == Some(true)).map(|(record, _)| &*record.event_name).collect()
}

#[test]
fn one_refused_attempt_is_one_record() {
    let opener = "Invalid user eve from 192.0.2.1 port 22";
    let failed = "Failed password for invalid user eve from 192.0.2.1 port 22 ssh2";
    let closed = "Connection closed by invalid user eve 192.0.2.1 port 22 [preauth]";
    let wrong = "Failed password for bob from 192.0.2.1 port 22 ssh2";
    let reset = "Connection reset by authenticating user bob 192.0.2.1 port 22 [preauth]";
    let many = "error: maximum authentication attempts exceeded for bob from 192.0.2.1 port 22 ssh2 [preauth]";
    let too_many = "Disconnecting authenticating user bob 192.0.2.1 port 22: Too many authentication failures [preauth]";
    let listed = "User bob from 192.0.2.1 not allowed because not listed in AllowUsers";
    let none = "Failed none for invalid user bob from 192.0.2.1 port 22 ssh2";
    for (messages, count) in [
        (&[opener, failed, closed][..], 1),
        (&[opener, closed], 1),
        (&[opener, failed, failed, closed], 2),
        (&[wrong, reset], 1),
        (&[reset], 1),
        (&[closed], 1),
        (&[wrong, wrong, wrong, many], 3),
        (&[wrong, many, too_many], 1),
        (&[many, too_many], 1),
        (&[listed, none, reset], 1),
        // The next connection of a process number is another.
        (&[opener, closed, opener, closed], 2),
    ] {
        for pid in ["_PID", "SYSLOG_PID"] {
            let mut web = normalizer("web-1");
            let made: Vec<_> = messages.iter().flat_map(|message| of_journal(&mut web, "sshd", message, &[(pid, "7")])).collect();
            assert_eq!(made.len(), messages.len());
            assert_eq!(acts(&made).len(), count, "{messages:?}");
        }
        // Without the process's number nothing tells them from others.
        let mut web = normalizer("web-1");
        let made: Vec<_> = messages.iter().flat_map(|message| of_journal(&mut web, "sshd", message, &[])).collect();
        assert_eq!(acts(&made).len(), messages.len());
    }
    // Others' processes have the same numbers.
    let mut web = normalizer("web-1");
    let mut made = of_file(&mut web, &format!("Mar  1 10:00:00 web-1 sshd[7]: {wrong}"));
    made.extend(of_file(&mut web, &format!("Mar  1 10:00:01 db-7 sshd[7]: {reset}")));
    made.extend(of_file(&mut web, &format!("Mar  1 10:00:02 web-1 sshd[7]: {reset}")));
    assert_eq!(acts(&made).len(), 2);
}

#[test]
fn graphical_logins_come_under_names_of_their_own() {
    let message = "pam_unix(gdm-password:session): session opened for user alice(uid=1000) by (uid=0)";
    let (record, act) = made(&entry("gdm-password]", message, &[("_UID", "0")])).unwrap();
    assert_eq!((&*record.event_name, &*record.event_source), ("Login", "gdm-password.linux"));
    assert!(act.is_some());
    // Whatever program it is: PAM names its service.
    let message = "pam_unix(sddm:auth): authentication failure; logname= uid=0 euid=0 tty=:0 ruser= rhost=  user=alice";
    assert_eq!(made(&entry("sddm-helper", message, &[("_UID", "0")])).unwrap().0.event_name, "Authenticate");
    assert!(made(&entry("sddm-helper", message, &[("_UID", "1000"), ("_EXE", "/usr/bin/logger")])).is_none());
    assert!(made(&entry("nginx", "worker started", &[("_UID", "0")])).is_none());
}

#[test]
fn pkexec_and_doas_are_the_kernel_s_switch_of_user() {
    let time = 1_700_000_000_000_000_000;
    let message = "alice: Executing command [USER=root] [TTY=/dev/pts/0] [CWD=/] [COMMAND=/usr/bin/id]";
    let (record, act) = made(&entry("pkexec", message, &[("_UID", "0")])).unwrap();
    assert_eq!((&*record.event_name, act), ("RunCommand", Some(act::switch_user("alice", "root", time))));
    let (_, act) = made(&entry("doas", "alice ran command id -u as root from /home/alice", &[("_UID", "0")])).unwrap();
    assert_eq!(act, Some(act::switch_user("alice", "root", time)));
}

#[test]
fn what_is_done_in_a_session_has_the_address_of_its_login() {
    let sudo = "alice : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/usr/bin/id";
    let in_session = [("_BOOT_ID", "b1"), ("_AUDIT_SESSION", "5"), ("_AUDIT_LOGINUID", "1000"), ("_PID", "90")];
    let login = "Accepted publickey for alice from 192.0.2.1 port 22 ssh2: ED25519 SHA256:abc";
    let logind = "New session 5 of user alice.";
    let by_logind = [("_BOOT_ID", "b1"), ("_PID", "1"), ("SESSION_ID", "5"), ("LEADER", "70"), ("USER_ID", "alice")];
    let opened = "pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)";
    let by_sshd = [("_BOOT_ID", "b1"), ("_PID", "70"), ("_AUDIT_SESSION", "5")];
    for (program, message, fields) in [("systemd-logind", logind, &by_logind[..]), ("sshd", opened, &by_sshd[..])] {
        let mut web = normalizer("web-1");
        of_journal(&mut web, "sshd", login, &[("_BOOT_ID", "b1"), ("_PID", "70")]);
        of_journal(&mut web, program, message, fields);
        let (record, _) = of_journal(&mut web, "sudo", sudo, &in_session).pop().unwrap();
        assert_eq!(record.source_ip_address, "192.0.2.1", "{message}");
        assert_eq!(record.request_parameters.as_ref().unwrap()["session"], 5);
        // A restart of the agent knows it still, the next boot does not.
        let cursors = web.take_cursors();
        assert!(web.take_cursors().is_empty(), "unchanged since");
        let saved = cursors.iter().map(|(_, cursor)| cursor).find(|cursor| cursor.key == sessions::KEY);
        let mut again = normalizer("web-1").with_journal(Sessions::restore(saved));
        let (record, _) = of_journal(&mut again, "sudo", sudo, &in_session).pop().unwrap();
        assert_eq!(record.source_ip_address, "192.0.2.1");
        let in_other = [("_BOOT_ID", "b2"), ("_AUDIT_SESSION", "5"), ("_AUDIT_LOGINUID", "1000")];
        let (record, _) = of_journal(&mut again, "sudo", sudo, &in_other).pop().unwrap();
        assert_eq!(record.source_ip_address, "web-1");
    }
    // Another session's act, and one outside of any.
    let mut web = normalizer("web-1");
    of_journal(&mut web, "sshd", login, &[("_BOOT_ID", "b1"), ("_PID", "70")]);
    of_journal(&mut web, "systemd-logind", logind, &by_logind);
    for session in [&[("_BOOT_ID", "b1"), ("_AUDIT_SESSION", "6")][..], &[("_BOOT_ID", "b1")]] {
        assert_eq!(of_journal(&mut web, "sudo", sudo, session).pop().unwrap().0.source_ip_address, "web-1");
    }
}

#[test]
fn a_repetition_is_counted() {
    let mut web = normalizer("web-1");
    let failed = "sshd[7]: Failed password for bob from 192.0.2.1 port 22 ssh2";
    of_file(&mut web, &format!("Mar  1 10:00:00 web-1 {failed}"));
    of_file(&mut web, "Mar  1 10:00:00 db-7 cron[1]: (root) CMD (true)");
    let (record, _) = of_file(&mut web, "Mar  1 10:00:09 web-1 last message repeated 12 times").pop().unwrap();
    assert_eq!((&*record.event_name, record.error_code.as_deref()), ("Login", Some("AccessDenied")));
    assert_eq!(record.request_parameters.unwrap()["times"], 12);
    assert_eq!(record.event_time, "2023-03-01T10:00:09Z");
    // Of what is no act, or was not seen, it says nothing.
    of_file(&mut web, "Mar  1 10:00:10 web-1 nginx[3]: hello");
    assert!(of_file(&mut web, "Mar  1 10:00:11 web-1 last message repeated 2 times").is_empty());
    assert!(of_file(&mut normalizer("web-1"), "Mar  1 10:00:11 web-1 last message repeated 2 times").is_empty());
}
