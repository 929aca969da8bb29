//! This kernel's own audit records: a real sshd login, sudo, a command.
//!
//! Needs root, auditctl, sshd and sudo; `tests/setup` installs them. Where they can't be had, the test must be switched off
//! by name: EDGETRAIL_SKIP_KERNEL=1. It never passes silently.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod machine;

use std::time::Duration;

use edgetrail_tests::deployment::{Deployment, Source};
use edgetrail_tests::wait;
use serde_json::Value;

use machine::{AuditOn, Login};

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
    let deployment = Deployment::with_source(Source::Audit);
    let login = Login::prepare(deployment.dir());
    login.ssh("127.0.0.2", "sudo -n /usr/bin/id --user");

    let events = |name: &str| -> Vec<Value> {
        let attribute = format!("AttributeKey=EventName,AttributeValue={name}");
        let answer = deployment.aws().json(&["cloudtrail", "lookup-events", "--lookup-attributes", &attribute]);
        let all = answer["Events"].as_array().cloned().unwrap_or_default();
        let records = all.iter().map(|event| serde_json::from_str::<Value>(event["CloudTrailEvent"].as_str().unwrap()).unwrap());
        records.filter(|record| record.to_string().contains(login.user())).collect()
    };
    let is_the_command = |record: &Value| record["requestParameters"].to_string().contains("/usr/bin/id");
    let commands = wait::until("the sudo command", Duration::from_secs(30), || {
        let commands: Vec<Value> = events("RunCommand").into_iter().filter(is_the_command).collect();
        (!commands.is_empty()).then_some(commands)
    });
    let logout = wait::until("the logout", Duration::from_secs(30), || {
        let ends = events("Logout");
        (!ends.is_empty()).then_some(ends)
    });
    let again: Vec<Value> = events("RunCommand").into_iter().filter(is_the_command).collect();
    assert_eq!((commands.len(), again.len()), (1, 1), "one act, one record: {again:#?}");
    let record = &commands[0];
    assert_eq!(record["userIdentity"]["type"], "AssumedRole", "{record:#}");
    assert_eq!(record["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"], login.user(), "{record:#}");
    let role = format!("assumed-role/root/{}", login.user());
    assert!(record["userIdentity"]["arn"].as_str().unwrap().ends_with(&role), "{record:#}");
    assert_eq!(record["sourceIPAddress"], "127.0.0.2", "{record:#}");
    assert_eq!(record["eventSource"], "sudo.linux");

    let logins = events("Login");
    assert_eq!(logins.len(), 1, "one login, one record: {logins:#?}");
    assert_eq!(logins[0]["eventType"], "AwsConsoleSignIn");
    assert_eq!(logins[0]["userIdentity"]["type"], "IAMUser");
    assert_eq!(logins[0]["sourceIPAddress"], "127.0.0.2");
    assert_eq!(logout.len(), 1);
}
