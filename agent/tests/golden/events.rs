//! What an audit event was all about, against go-libaudit's summary of it: actor, action, object, how, result, session,
//! arguments. Judged on the records that the product makes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fields::yaml_groups;
use crate::{Score, beside, files, folder, made, read};

/// Their verbs and the eventNames that say the same.
const ACTIONS: &[(&str, &[&str])] = &[
    ("accepted-connection-from", &["AcceptNetwork", "AcceptSocket"]),
    ("acquired-credentials", &["AcquireCredentials", "Login"]),
    ("added-group-account-to", &["CreateGroup", "ModifyGroup"]),
    ("added-user-account", &["CreateUser", "ModifyUser"]),
    ("assigned-user-role-to", &["AssignRole"]),
    ("authenticated", &["Authenticate", "Login", "SwitchUser"]),
    ("authenticated-to-group", &["Authenticate", "ModifyGroup"]),
    ("booted-system", &["StartHost"]),
    ("bound-socket", &["BindNetwork", "BindSocket"]),
    ("changed-audit-configuration", &["ChangeAuditConfiguration", "ModifyAuditRule"]),
    ("changed-auditd-configuration", &["ConfigureAuditDaemon"]),
    ("changed-configuration", &["ModifyConfiguration", "ChangeSecurityConfiguration"]),
    ("changed-file-attributes-of", &["ChangeFileAttributes"]),
    ("changed-file-ownership-of", &["ChangeFileOwner"]),
    ("changed-file-permissions-of", &["ChangeFileMode"]),
    ("changed-group", &["ModifyGroup", "SwitchGroup"]),
    ("changed-identity-of", &["ChangeCredentials"]),
    ("changed-login-id-to", &["SetLoginUser"]),
    ("changed-password", &["ChangePassword", "ModifyUser"]),
    ("changed-promiscuous-mode-on-device", &["SetPromiscuousMode"]),
    ("changed-role-to", &["SwitchRole"]),
    ("changed-system-name", &["SetHostName"]),
    ("changed-system-time", &["SetTime", "AdjustTime"]),
    ("changed-to-runlevel", &["ChangeRunLevel"]),
    ("changed-timestamp-of", &["ChangeFileAttributes"]),
    ("checked-metadata-of", &["ListFile"]),
    ("checked-filesystem-metadata-of", &["ListFile"]),
    ("connected-to", &["ConnectNetwork", "ConnectSocket"]),
    ("crashed-program", &["ReportCrash"]),
    ("created-directory", &["CreateDirectory"]),
    ("deleted", &["DeleteFile", "DeleteDirectory"]),
    ("deleted-group-account-from", &["DeleteGroup", "ModifyGroup"]),
    ("deleted-user-account", &["DeleteUser"]),
    ("disposed-credentials", &["ReleaseCredentials"]),
    ("ended-session", &["EndSession", "Logout"]),
    ("entered-namespace", &["EnterNamespace"]),
    ("error", &["Authenticate", "ReportUserEvent"]),
    ("executed", &["ExecuteProgram"]),
    ("killed-pid", &["SendSignal"]),
    ("linked", &["CreateLink"]),
    ("listen-for-connections", &["ListenNetwork"]),
    ("loaded-firewall-rule-to", &["ModifyFirewall"]),
    ("loaded-kernel-module", &["LoadKernelModule"]),
    ("loaded-selinux-policy", &["LoadSecurityPolicy"]),
    ("locked-account", &["LockUser"]),
    ("logged-in", &["Login", "ConfirmLogin"]),
    ("logged-out", &["Logout", "ConfirmLogout"]),
    ("make-device", &["CreateDevice"]),
    ("modified-group-account", &["ModifyGroup"]),
    ("modified-user-account", &["ModifyUser"]),
    ("mounted", &["MountFileSystem"]),
    ("negotiated-crypto-key", &["UseCryptoKey"]),
    ("opened-file", &["ReadFile", "ModifyFile", "CreateFile"]),
    ("ran-command", &["RunCommand"]),
    ("read-file", &["ReadFile"]),
    ("received-from", &["ReceiveNetwork", "ReceiveSocket"]),
    ("refreshed-credentials", &["RefreshCredentials"]),
    ("renamed", &["RenameFile"]),
    ("reconfigured-auditd", &["ConfigureAuditDaemon"]),
    ("resumed-audit-logging", &["StartAuditDaemon"]),
    ("rotated-audit-logs", &["RotateAuditLog"]),
    ("sent-to", &["SendNetwork", "SendSocket"]),
    ("shutdown-audit", &["StopAuditDaemon"]),
    ("shutdown-system", &["StopHost"]),
    ("started-audit", &["StartAuditDaemon"]),
    ("started-crypto-session", &["NegotiateCryptoSession"]),
    ("started-service", &["StartUnit"]),
    ("started-session", &["StartSession", "Login", "SwitchUser"]),
    ("stopped-service", &["StopUnit"]),
    ("symlinked", &["CreateLink"]),
    ("traced", &["TraceProcess"]),
    ("typed", &["RecordTerminalInput"]),
    ("unloaded-kernel-module-of", &["UnloadKernelModule"]),
    ("unlocked-account", &["UnlockUser"]),
    ("unmounted", &["UnmountFileSystem"]),
    ("used-suspcious-link", &["DenyAccess"]),
    ("violated-apparmor-policy", &["DenyAccess"]),
    ("violated-seccomp-policy", &["ReportSeccomp"]),
    ("violated-selinux-policy", &["DenyAccess"]),
    ("was-authorized", &["CheckAccount", "ModifyGroup"]),
    ("wrote-to-file", &["ModifyFile"]),
];

#[test]
fn events_are_about_what_go_libaudit_says() {
    let Some(folder) = folder("linux_audit/go-libaudit-events") else { return };
    let mut kinds = BTreeMap::<&str, Score>::new();
    for file in files(&folder, ".json.golden") {
        let groups = yaml_groups(&read(beside(&file, ".json.golden", ".yaml")));
        let golden: Vec<Value> = serde_json::from_str(&read(&file)).unwrap();
        for expected in &golden {
            let test = expected["test_name"].as_str().unwrap();
            let records = made::of_audit(groups.get(test).unwrap_or_else(|| panic!("no records of {test}")).as_bytes());
            let mut mark = |kind, is_right, missed: &dyn std::fmt::Debug| {
                kinds.entry(kind).or_default().mark(is_right, || format!("{test}: {kind} {missed:?} in {records:#?}"));
            };
            judge(&expected["event"], if records.len() == 1 { &records[0] } else { &Value::Null }, &mut mark);
        }
    }
    let mut all = Score::default();
    for (kind, score) in &kinds {
        score.show(&format!("go-libaudit, events: {kind}"));
        (all.equal, all.all) = (all.equal + score.equal, all.all + score.all);
    }
    all.hold("go-libaudit, events", 98);
}

fn judge(event: &Value, record: &Value, mark: &mut impl FnMut(&'static str, bool, &dyn std::fmt::Debug)) {
    let (summary, parameters) = (&event["summary"], &record["requestParameters"]);
    let mut words = Vec::new();
    texts(parameters, &mut words);
    texts(&record["resources"], &mut words);
    words.push(record["sourceIPAddress"].as_str().unwrap_or_default().to_owned());
    let says = |text: &str| words.iter().any(|word| word == text || word.strip_suffix(".service") == Some(text));
    for which in ["primary", "secondary"] {
        if let Some(who) = summary["actor"][which].as_str() {
            mark("actor", is_actor(record, who), &who);
        }
        if let Some(what) = summary["object"][which].as_str() {
            mark("object", says(what), &what);
        }
    }
    if let Some(action) = summary["action"].as_str() {
        let names = ACTIONS.iter().find(|(known, _)| *known == action).map_or(&[][..], |(_, names)| *names);
        mark("action", names.iter().any(|name| record["eventName"] == **name), &action);
    }
    if let Some(how) = summary["how"].as_str() {
        mark("how", record["userAgent"] == how || says(how), &how);
    }
    if let Some(result) = event["result"].as_str() {
        let is_refused = record["errorCode"].is_string();
        mark("result", record.is_object() && is_refused == (result != "success"), &result);
    }
    if let Some(session) = event["session"].as_str() {
        let ours = parameters["session"].as_u64().map_or("unset".to_owned(), |session| session.to_string());
        mark("session", record.is_object() && ours == session, &session);
    }
    if let Some(call) = event["data"]["syscall"].as_str() {
        mark("call", parameters["systemCall"] == call, &call);
    }
    if let Some(arguments) = event["process"]["args"].as_array() {
        // What they take from the title where there is no EXECVE is the program's own word.
        mark("argv", parameters["arguments"].as_array() == Some(arguments) || arguments.is_empty(), &arguments);
    }
}

/// Whether an id or name of theirs is one of those that our record gives the actor; nobody is nobody.
fn is_actor(record: &Value, who: &str) -> bool {
    let identity = &record["userIdentity"];
    let issuer = &identity["sessionContext"]["sessionIssuer"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let principal = text(&identity["principalId"]);
    let ids: Vec<&str> = principal.split(':').collect();
    if who == "unset" {
        // Nobody had logged in: a service, nobody known, or whoever is only trying to.
        let kind = text(&identity["type"]);
        return matches!(&*kind, "AWSService" | "Unknown") || (record["eventType"] == "AwsConsoleSignIn" && issuer.is_null());
    }
    let names = [&identity["userName"], &issuer["userName"], &issuer["principalId"], &record["requestParameters"]["user"]];
    ids.contains(&who) || names.into_iter().any(|name| name == who)
}

fn texts(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.values().for_each(|value| texts(value, out)),
        Value::Array(items) => items.iter().for_each(|value| texts(value, out)),
        Value::String(text) => out.push(text.clone()),
        Value::Number(number) => out.push(number.to_string()),
        Value::Null | Value::Bool(_) => {}
    }
}
