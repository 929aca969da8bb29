//! This kernel's own audit records: real sshd logins, sudo, commands, users; from the kernel to the delivered trail.
//!
//! Needs root, auditctl, sshd, sudo and journald; `tests/setup` installs them. Where they can't be had, the tests must be
//! switched off by name: EDGETRAIL_SKIP_KERNEL=1. They never pass silently.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod acts;
mod administration;
mod flood;
mod journald;
mod machine;
mod modes;
mod own_files;
mod source;

use serde_json::Value;

use acts::{Acts, login_user, named};
use journald::Journald;
use machine::{AuditOn, Login};

const AUDIT: &str = "[sources.audit]\nenabled = true\n";

fn skipped() -> bool {
    let skip = std::env::var_os("EDGETRAIL_SKIP_KERNEL").is_some_and(|value| value == "1");
    if skip {
        eprintln!("SKIPPED: kernel audit is not tested, because EDGETRAIL_SKIP_KERNEL=1");
    } else {
        assert!(rustix::process::geteuid().is_root(), "kernel audit needs root: run as root, or set EDGETRAIL_SKIP_KERNEL=1");
    }
    skip
}

#[test]
fn a_login_and_sudo_are_one_assumed_role_record_with_the_logins_address() {
    if skipped() {
        return;
    }
    let _audit = AuditOn::now();
    let acts = Acts::captured_by(AUDIT);
    let login = Login::prepare(acts.dir());
    login.ssh("127.0.0.2", "sudo -n /usr/bin/id --user");
    acts.wait_for("Logout", login.user());

    let records = acts.delivered(login.user());
    let command = one_command(&records, "/usr/bin/id");
    assert_acts_as_root(command, login.user(), "127.0.0.2");
    assert_eq!(command["eventSource"], "sudo.linux");
    assert_one_login_session(&records, "127.0.0.2");
}

/// What root does to blind the agent is the last thing that it sees.
#[test]
fn deleting_the_audit_rules_under_a_capturing_agent_is_a_record() {
    if skipped() {
        return;
    }
    let audit = AuditOn::now();
    let acts = Acts::captured_by(AUDIT);
    audit.watch("sethostname", "auid=4294967294");
    acts.wait_for("ModifyAuditRule", "add_rule");
    audit.forget_rules();
    acts.wait_for("ModifyAuditRule", "remove_rule");
}

#[test]
fn data_events_are_refused_and_counted_unless_they_are_selected() {
    if skipped() {
        return;
    }
    let audit = AuditOn::now();
    for selected in [false, true] {
        let acts = Acts::captured_by(&format!("{AUDIT}[select]\ndata = {selected}\n"));
        let login = Login::prepare(acts.dir());
        audit.watch("execve", &format!("auid={}", login.uid()));
        login.ssh("127.0.0.2", "/usr/bin/id --user; /usr/bin/id --group");
        acts.wait_for("Logout", login.user());

        let refused = acts.refused();
        let records = acts.delivered(login.user());
        let programs: Vec<&Value> = named(&records, "ExecuteProgram").collect();
        if selected {
            // The login shell runs two programs; what sshd and PAM run besides is the machine's own matter.
            for argument in ["--user", "--group"] {
                let runs = |program: &&&Value| program["requestParameters"]["arguments"].to_string().contains(argument);
                let runs: Vec<&&Value> =
                    programs.iter().filter(runs).filter(|program| program["userAgent"] == "/usr/bin/id").collect();
                assert_eq!(runs.len(), 1, "one execve, one record: {programs:#?}");
                assert_eq!(runs[0]["eventCategory"], "Data");
                assert_eq!(login_user(runs[0]), login.user());
                assert_eq!(runs[0]["sourceIPAddress"], "127.0.0.2");
            }
        } else {
            assert_eq!(programs.len(), 0, "{programs:#?}");
            assert!(refused >= 2, "at least the two programs are counted as refused, not {refused}");
        }
        audit.forget_rules();
    }
}

#[test]
fn a_user_made_and_deleted_by_sudo_is_one_record_each_of_the_human() {
    if skipped() {
        return;
    }
    let _audit = AuditOn::now();
    let acts = Acts::captured_by(AUDIT);
    let login = Login::prepare(acts.dir());
    let made = format!("{}made", login.user());
    login.ssh("127.0.0.2", &format!("sudo -n /usr/sbin/useradd --no-create-home {made} && sudo -n /usr/sbin/userdel {made}"));
    acts.wait_for("Logout", login.user());

    let records = acts.delivered(login.user());
    for (name, program) in [("CreateUser", "useradd.linux"), ("DeleteUser", "userdel.linux")] {
        let found: Vec<&Value> = named(&records, name).filter(|record| login_user(record) == login.user()).collect();
        assert_eq!(found.len(), 1, "one act, one record: {found:#?}");
        assert_acts_as_root(found[0], login.user(), "127.0.0.2");
        assert_eq!(found[0]["eventSource"], program);
        assert_eq!(found[0]["requestParameters"]["userName"], made, "{:#}", found[0]);
    }
    one_command(&records, "useradd");
    one_command(&records, "userdel");
}

#[test]
fn an_act_that_kernel_and_journal_both_tell_is_one_record() {
    if skipped() {
        return;
    }
    let _audit = AuditOn::now();
    let machine = tempfile::tempdir().unwrap();
    let journald = Journald::start(machine.path());
    let journal = format!("[sources.journal]\nenabled = true\ndirectories = [\"{}\"]\n", journald.files().display());
    let acts = Acts::captured_by(&format!("{AUDIT}{journal}"));
    let login = Login::prepare_in(acts.dir(), Some(&journald));
    let made = format!("{}made", login.user());
    login.ssh("127.0.0.2", &format!("sudo -n /usr/sbin/useradd --no-create-home {made} && sudo -n /usr/sbin/userdel {made}"));
    acts.wait_for("Logout", login.user());
    let told = journald.messages();
    for program in ["sshd", "sudo", "useradd", "userdel"] {
        assert!(told.iter().any(|(identifier, _)| identifier == program), "the journal has nothing of {program}: {told:#?}");
    }

    let records = acts.delivered(login.user());
    assert_one_login_session(&records, "127.0.0.2");
    for name in ["CreateUser", "DeleteUser"] {
        let found: Vec<&Value> = named(&records, name).collect();
        let here: Vec<&&Value> = found.iter().filter(|record| record["requestParameters"]["userName"] == made).collect();
        assert_eq!(here.len(), 1, "one act, one record: {found:#?}");
        assert_acts_as_root(here[0], login.user(), "127.0.0.2");
    }
    one_command(&records, "useradd");
    one_command(&records, "userdel");
}

/// What an administrator does most, told by kernel and journal alike: each act is one record of the human.
#[test]
fn the_ten_commonest_acts_are_one_record_each() {
    if skipped() {
        return;
    }
    let _audit = AuditOn::now();
    let machine = tempfile::tempdir().unwrap();
    let journald = Journald::start(machine.path());
    let journal = format!("[sources.journal]\nenabled = true\ndirectories = [\"{}\"]\n", journald.files().display());
    let acts = Acts::captured_by(&format!("{AUDIT}{journal}"));
    let login = Login::prepare_in(acts.dir(), Some(&journald));
    let (made, group) = (format!("{}made", login.user()), format!("{}g", login.user()));
    let script = [
        format!("sudo -n /usr/sbin/useradd --no-create-home {made}"),
        format!("sudo -n /usr/sbin/usermod --append --groups adm {made}"),
        format!("echo {made}:x7-Quite.long | sudo -n /usr/sbin/chpasswd"),
        format!("sudo -n /usr/sbin/groupadd {group}"),
        format!("sudo -n /usr/bin/gpasswd --add {made} {group}"),
        format!("sudo -n /usr/bin/su --shell /bin/true {made}"),
        format!("sudo -n /usr/sbin/groupdel {group}"),
        format!("sudo -n /usr/sbin/userdel {made}"),
    ];
    // A moment between them, as a human takes.
    login.ssh("127.0.0.2", &script.join(" && sleep 0.3 && "));
    acts.wait_for("Logout", login.user());

    let all = acts.delivered(login.user());
    let records: Vec<&Value> = all.iter().filter(|record| !is_related(record)).collect();
    let count = |name: &str, subject: &str| {
        let is_it = |record: &&&Value| record["eventName"] == name && record["requestParameters"].to_string().contains(subject);
        records.iter().filter(is_it).filter(|record| login_user(record) == login.user()).count()
    };
    let mut told = Vec::new();
    for (name, subject, times) in [
        ("Login", "", 1),
        ("CreateUser", &*made, 1),
        ("ChangePassword", &made, 1),
        ("CreateGroup", &group, 1),
        ("DeleteGroup", &group, 1),
        ("SwitchUser", &made, 1),
        ("DeleteUser", &made, 1),
        ("RunCommand", "", script.len()),
        ("Logout", "", 1),
    ] {
        let found = count(name, subject);
        println!("{name:<16} {found} of {times}");
        if found != times {
            told.push((name, found, times));
        }
    }
    // The two ways into a group: usermod's and gpasswd's.
    let into = count("AddUserToGroup", &made) + count("ModifyUser", &made);
    println!("{:<16} {into} of 2", "into a group");
    if into != 2 {
        told.push(("AddUserToGroup", into, 2));
    }
    let shown: Vec<_> = records
        .iter()
        .map(|record| (&record["eventName"], &record["additionalEventData"]["edgetrail"]["source"], &record["requestParameters"]))
        .collect();
    assert!(told.is_empty(), "{told:?} in {shown:#?}");
}

/// The one record of a command given to sudo.
fn one_command<'a>(records: &'a [Value], program: &str) -> &'a Value {
    let is_it = |record: &&Value| record["requestParameters"].to_string().contains(program);
    let commands: Vec<&Value> = named(records, "RunCommand").filter(is_it).collect();
    assert_eq!(commands.len(), 1, "one act, one record: {commands:#?}");
    commands[0]
}

fn assert_acts_as_root(record: &Value, user: &str, address: &str) {
    assert_eq!(record["userIdentity"]["type"], "AssumedRole", "{record:#}");
    assert_eq!(login_user(record), user, "{record:#}");
    let arn = record["userIdentity"]["arn"].as_str().unwrap();
    assert!(arn.ends_with(&format!("assumed-role/root/{user}")), "{record:#}");
    assert_eq!(record["sourceIPAddress"], address, "{record:#}");
}

/// Kept beside the record of its act for what it alone knows, as a login's key is.
fn is_related(record: &Value) -> bool {
    record.pointer("/additionalEventData/edgetrail/relatedEventID").is_some()
}

/// One Login and one Logout, whatever else a lower source knew of them beside.
fn assert_one_login_session(records: &[Value], address: &str) {
    for name in ["Login", "Logout"] {
        let found: Vec<&Value> = named(records, name).filter(|record| !is_related(record)).collect();
        assert_eq!(found.len(), 1, "one {name}, one record: {found:#?}");
        assert_eq!(found[0]["eventType"], "AwsConsoleSignIn");
        assert_eq!(found[0]["userIdentity"]["type"], "IAMUser", "{:#}", found[0]);
        assert_eq!(found[0]["sourceIPAddress"], address, "{:#}", found[0]);
    }
}
