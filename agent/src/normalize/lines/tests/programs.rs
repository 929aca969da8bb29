//! Programs' own logs through the mappings that ship.

use serde_json::json;

use super::*;

#[test]
fn every_member_that_no_field_of_the_record_took_is_kept() {
    let line = r#"{"event":"x","action":"y","operation":"z","user":{"name":"a","roles":["admin"]},"error":{"message":"m","code":5},"username":"other"}"#;
    let record = made("json", line);
    assert_eq!((record.event_name.as_str(), user(&record)), ("X", "a"));
    let parameters = record.request_parameters.unwrap();
    assert_eq!((&parameters["action"], &parameters["operation"]), (&json!("y"), &json!("z")));
    assert_eq!((&parameters["user"], &parameters["username"]), (&json!({"roles": ["admin"]}), &json!("other")));
    assert_eq!(parameters.get("event"), None);
    let record = made("logfmt", "event=x action=y user=a username=b path=/p");
    let parameters = record.request_parameters.unwrap();
    assert_eq!(parameters, json!({"action": "y", "username": "b", "path": "/p"}));
}

#[test]
fn what_failed_is_told_as_such_whatever_its_program_calls_it() {
    for (line, code) in [
        (r#"{"event":"x","event.outcome":"failure"}"#, "Failed"),
        (r#"{"event":{"action":"x","outcome":"failure"}}"#, "Failed"),
        (r#"{"event":"x","result":"denied"}"#, "AccessDenied"),
        (r#"{"event":"x","status":403}"#, "AccessDenied"),
        (r#"{"event":"x","status":"500"}"#, "InternalServerError"),
        (r#"{"event":"x","success":false}"#, "Failed"),
        (r#"{"event":"x","error":{"code":"NoSuchThing","message":"m"}}"#, "NoSuchThing"),
        (r#"{"event":"x","error":"it broke"}"#, "Failed"),
        (r#"{"event":"x","status":"ok","result":"success"}"#, ""),
        (r#"{"event":"x","status":"running"}"#, ""),
        (r#"{"event":"x","success":true,"status":201}"#, ""),
        (r#"{"event":"x","outcome":"allowed"}"#, ""),
    ] {
        assert_eq!(error(&made("json", line)), code, "{line}");
    }
    for (line, code) in [
        ("event=x result=denied", "AccessDenied"),
        ("event=x status=403", "AccessDenied"),
        ("event=x outcome=failure", "Failed"),
        ("event=x err=\"it broke\"", "Failed"),
        ("event=x status=200", ""),
    ] {
        assert_eq!(error(&made("logfmt", line)), code, "{line}");
    }
}

fn vault(path: &str, operation: &str, mount: &str, kind: &str) -> Record {
    let line = format!(
        r#"{{"time":"2024-01-01T00:00:00Z","type":"response","auth":{{}},"request":{{"id":"r","operation":"{operation}","path":"{path}","mount_point":"{mount}","mount_type":"{kind}"}},"response":{{}}}}"#
    );
    made("vault", &line)
}

#[test]
fn vaults_mounts_may_stand_in_folders() {
    let record = vault("auth/team/userpass/login/bob", "update", "auth/team/userpass/", "userpass");
    assert_eq!((record.event_name.as_str(), user(&record)), ("Login", "bob"));
    assert_eq!(vault("team/pki/issue/web", "update", "team/pki/", "pki").event_name, "IssueCredentials");
    assert_eq!(vault("team/db/creds/ro", "read", "team/db/", "database").event_name, "IssueCredentials");
    assert_eq!(vault("pki/issue/web", "update", "pki/", "pki").event_name, "IssueCredentials");
    assert_eq!(vault("auth/token/create", "update", "auth/token/", "token").event_name, "CreateToken");
    assert_eq!(vault("sys/mounts/x", "update", "sys/", "system").event_name, "EnableSecretsEngine");
    assert_eq!(vault("team/kv/data/a", "read", "team/kv/", "kv").event_name, "ReadSecret");
}

#[test]
fn names_of_secrets_are_no_acts() {
    for (path, operation, name) in [
        ("secret/config/app", "update", "WriteSecret"),
        ("secret/creds/db", "read", "ReadSecret"),
        ("secret/keys/a", "create", "WriteSecret"),
        ("secret/encrypt/a", "read", "ReadSecret"),
        ("secret/data/roles/a", "update", "WriteSecret"),
    ] {
        assert_eq!(vault(path, operation, "secret/", "kv").event_name, name, "{path}");
    }
    assert_eq!(vault("secret/destroy/a", "update", "secret/", "kv").event_name, "DestroySecret");
    assert_eq!(vault("db/config/app", "update", "db/", "database").event_name, "ConfigureSecretsEngine");
}

#[test]
fn a_login_that_vault_refused_is_denied_whatever_it_says() {
    let line = |error: &str| {
        format!(
            r#"{{"time":"2024-01-01T00:00:00Z","type":"response","auth":{{}},"request":{{"id":"r","operation":"update","path":"auth/approle/login","mount_point":"auth/approle/"}},"error":"{error}"}}"#
        )
    };
    assert_eq!(error(&made("vault", &line("invalid role or secret ID"))), "AccessDenied");
    assert_eq!(error(&made("vault", &line("1 error occurred: internal error"))), "InternalError");
}

#[test]
fn podman_calls_its_acts_otherwise_than_docker() {
    let line = |status: &str| {
        format!(
            r#"{{"status":"{status}","Action":"{status}","Type":"container","Actor":{{"ID":"c1","Attributes":{{"name":"web","image":"i"}}}},"time":1700000000}}"#
        )
    };
    for (status, name, is_data, kind) in [
        ("exec", "RunCommand", false, "Unknown"),
        ("exec_died", "EndCommand", true, "AWSService"),
        ("init", "InitContainer", true, "AWSService"),
        ("cleanup", "CleanupContainer", true, "AWSService"),
        ("mount", "MountContainer", true, "AWSService"),
        ("unmount", "UnmountContainer", true, "AWSService"),
        ("sync", "SyncContainer", true, "AWSService"),
        ("died", "DiedContainer", false, "AWSService"),
        ("create", "CreateContainer", false, "Unknown"),
        ("remove", "RemoveContainer", false, "Unknown"),
    ] {
        let record = made("podman", &line(status));
        let is_told_data = record.event_category == EventCategory::Data;
        let told = (record.event_name.as_str(), is_told_data, record.user_identity.kind.as_deref().unwrap_or_default());
        assert_eq!(told, (name, is_data, kind), "{status}");
        assert_eq!(record.event_source, "podman.podman");
    }
}

#[test]
fn dockers_events_have_names() {
    let line = |action: &str| {
        format!(
            r#"{{"status":"{action}","Action":"{action}","Type":"container","Actor":{{"ID":"c1","Attributes":{{"name":"web","image":"i"}}}},"time":1700000000}}"#
        )
    };
    for (action, name, kind) in [
        ("create", "CreateContainer", "Unknown"),
        ("start", "StartContainer", "Unknown"),
        ("kill", "KillContainer", "Unknown"),
        ("die", "DieContainer", "AWSService"),
        ("exec_create: sh", "PrepareCommand", "Unknown"),
        ("exec_start: sh", "RunCommand", "Unknown"),
        ("exec_die", "EndCommand", "AWSService"),
        ("archive-path", "CopyFromContainer", "Unknown"),
        ("extract-to-dir", "CopyToContainer", "Unknown"),
    ] {
        let record = made("docker", &line(action));
        let told = (record.event_name.as_str(), record.user_identity.kind.as_deref().unwrap_or_default());
        assert_eq!(told, (name, kind), "{action}");
    }
}

#[test]
fn giteas_administration_is_kept_under_its_new_paths_and_a_login_is_one() {
    let line = |request: &str, status: u16| {
        format!(r#"192.0.2.9:5 - root [10/Oct/2023:13:55:36 +0000] "{request} HTTP/1.1" {status} 0 "" "curl""#)
    };
    let record = made("gitea", &line("POST /-/admin/users/new", 303));
    assert_eq!((record.event_name.as_str(), &record.event_category), ("UseAdministration", &EventCategory::Management));
    let record = made("gitea", &line("POST /user/login", 303));
    assert_eq!((record.event_name.as_str(), &record.event_type), ("Login", &EventType::AwsConsoleSignIn));
}

#[test]
fn keycloaks_other_lines_are_messages_and_its_values_may_hold_spaces() {
    let ordinary = "2023-01-01 12:00:00,123 INFO  [io.quarkus] (main) Keycloak 22.0.1 on JVM started in 7s";
    let record = made("keycloak", ordinary);
    assert_eq!((record.event_name.as_str(), &record.event_category), (LOG_MESSAGE, &EventCategory::Data));
    let line = |rest: &str| format!("2023-01-01 12:00:00,123 WARN  [org.keycloak.events] (executor-thread-1) {rest}");
    let refused = made(
        "keycloak",
        &line(r#"type="LOGIN_ERROR", realmId="m", userId="null", ipAddress="192.0.2.9", error="user_not_found", username="eve""#),
    );
    assert_eq!((user(&refused), refused.user_identity.principal_id.as_deref()), ("eve", Some("keycloak.keycloak:eve")));
    let spaced = made(
        "keycloak",
        &line(
            "type=LOGIN, realmId=m, clientId=c, userId=u-1, ipAddress=192.0.2.9, username=eve smith, auth_method=openid-connect",
        ),
    );
    assert_eq!(user(&spaced), "eve smith");
}

#[test]
fn grafanas_and_minios_details_are_right() {
    let line = r#"logger=context userId=0 orgId=0 uname= t=2022-03-20T12:19:07.8Z level=info msg="Request Completed" method=POST path=/login status=401 remote_addr=192.0.2.7"#;
    let record = made("grafana", line);
    assert_eq!((record.event_name.as_str(), user(&record), error(&record)), ("Login", "", "AccessDenied"));
    let read = r#"{"timestamp":"2023-03-20T12:19:07.8Z","user":{"userId":1,"name":"admin"},"action":"retrieve","resources":[{"id":2,"type":"dashboard"}],"result":{"statusCode":"200"}}"#;
    assert_eq!(made("grafana", read).read_only, Some(true));
    let gone = line.replace("status=401", "status=-1");
    assert_ne!(error(&made("grafana", &gone)), "-1");
    let minio =
        r#"{"time":"2023-01-01T12:00:00Z","trigger":"internal-scanner","api":{"name":"ILMExpiry","bucket":"b","object":"o"}}"#;
    let record = made("minio", minio);
    assert_eq!(
        (record.user_identity.kind.as_deref(), record.user_identity.invoked_by.as_deref()),
        (Some("AWSService"), Some("s3.minio"))
    );
}

#[test]
fn a_response_that_came_too_late_names_the_record_of_its_request() {
    use crate::normalize::{Made, Normalizer, audit, names::Names};
    use crate::observation::{Observation, Payload};
    use crate::sources::file::{Format as FileFormat, Line};
    let mapping = Mapping::open("vault", AccessShape::default()).unwrap();
    let entry = |kind: &str, id: usize| {
        let text = format!(
            r#"{{"time":"2024-01-01T00:00:00Z","type":"{kind}","request":{{"id":"r{id}","operation":"read","path":"secret/a"}}}}"#
        );
        let line = Line { bytes: text.into(), format: FileFormat::Mapped(mapping.clone()), path: "/var/log/vault.log".into() };
        Observation {
            source: SourceName::File,
            position: format!("1.1.1:{kind}{id}"),
            time: NOW,
            payload: Payload::Line(line),
            cursor: None,
            answer: None,
        }
    };
    let mut normalizer = Normalizer::new(Host::for_tests(), audit::Decoder::default(), Names::default());
    // More in flight than may wait: the first is told without its response.
    let mut told: Vec<_> = (0..300).flat_map(|id| normalizer.normalize(&entry("request", id))).collect();
    assert_eq!(told.len(), 300 - 256);
    let cursor = normalizer.take_state().into_iter().find(|(source, _)| *source == SourceName::Vault).unwrap().1;
    let requests = vault::Requests::restore(Some(&cursor));
    let mut normalizer = Normalizer::new(Host::for_tests(), audit::Decoder::default(), Names::default()).with_requests(requests);
    let record = |draft: crate::normalize::Draft| match draft.record {
        Made::Record(record) => *record,
        other => panic!("not made here: {other:?}"),
    };
    let first = record(told.remove(0));
    let mut related = |id| {
        let late = record(normalizer.normalize(&entry("response", id)).remove(0));
        late.additional_event_data.unwrap()["edgetrail"].get("relatedEventID").cloned()
    };
    assert_eq!(related(0), Some(first.event_id.to_string().into()));
    assert_eq!((related(299), related(0)), (None, None));
}
