//! Lines through their mappings, as records.

use edgetrail_proto::record::{EventCategory, EventType, Record};

mod messages;

mod programs;

mod requests;

use super::*;
use crate::sources::lines::shape::{AccessShape, RouteShape};

const NOW: u64 = 1_700_000_000_000_000_000;

fn made_with(mapping: &Mapping, line: &str) -> Record {
    let host = Host::for_tests();
    let place = Place { host: &host, source: SourceName::File, path: Some("/var/log/x"), event_id: Uuid::nil(), time: NOW };
    record(&place, mapping, line.as_bytes()).unwrap_or_else(|reason| panic!("{reason}: {line}"))
}

fn made(mapping: &str, line: &str) -> Record {
    made_with(&Mapping::open(mapping, AccessShape::default()).unwrap(), line)
}

fn user(record: &Record) -> &str {
    record.user_identity.user_name.as_deref().unwrap_or("")
}

fn error(record: &Record) -> &str {
    record.error_code.as_deref().unwrap_or("")
}

const COMBINED: &str = r#"203.0.113.9 - alice [10/Oct/2023:13:55:36 +0000] "POST /v1/invoices/I-7/pay?dry=1&token=s3cr3t HTTP/1.1" 403 17 "-" "curl/8""#;

#[test]
fn a_route_names_its_request_and_a_query_stands_by_name() {
    let route = RouteShape {
        method: Some("POST".to_owned()),
        path: "/v1/invoices/{id}/pay".to_owned(),
        name: Some("PayInvoice".to_owned()),
        category: None,
        kind: None,
        read_only: None,
    };
    let access = AccessShape { service: Some("billing.example".to_owned()), routes: vec![route], ..AccessShape::default() };
    let record = made_with(&Mapping::open("nginx", access).unwrap(), COMBINED);
    assert_eq!((record.event_source.as_str(), record.event_name.as_str()), ("billing.example", "PayInvoice"));
    assert_eq!((user(&record), error(&record), record.read_only), ("alice", "AccessDenied", Some(false)));
    assert_eq!((record.source_ip_address.as_str(), record.event_time.as_str()), ("203.0.113.9", "2023-10-10T13:55:36Z"));
    let parameters = record.request_parameters.unwrap();
    assert_eq!(parameters["query"], serde_json::json!({"dry": "1", "token": "s3cr3t"}));
    assert_eq!(parameters["pathParameters"]["id"], "I-7");
    assert_eq!(record.response_elements.unwrap()["status"], 403);
    let record = made("nginx", COMBINED);
    assert_eq!((record.event_source.as_str(), record.event_name.as_str()), ("nginx.http", "PostResource"));
}

#[test]
fn container_and_syslog_envelopes_come_off() {
    let inner = COMBINED.replace('"', "\\\"");
    let docker = format!(r#"{{"log":"{inner}\n","stream":"stdout","time":"2023-10-10T13:55:37Z"}}"#);
    let cri = format!("2023-10-10T13:55:37.1+00:00 stdout F {COMBINED}");
    let syslog = format!("<190>Oct 10 13:55:37 web nginx: {COMBINED}");
    for line in [docker, cri, syslog] {
        assert_eq!(user(&made("access", &line)), "alice", "{line}");
    }
}

#[test]
fn vaults_entries_have_their_acts_actors_and_errors() {
    let line = r#"{"time":"2020-04-30T14:27:10.66Z","type":"response","auth":{"accessor":"hmac-sha256:a","display_name":"ldap-alice","policies":["default"],"entity_id":"e-1"},"request":{"id":"r-1","operation":"update","path":"sys/policies/acl/admins","data":{"policy":"hmac-sha256:9"},"remote_address":"10.10.42.222"},"response":{},"error":"1 error occurred:\n\t* permission denied\n\n"}"#;
    let record = made("vault", line);
    assert_eq!((record.event_source.as_str(), record.event_name.as_str()), ("vault.hashicorp", "WritePolicy"));
    assert_eq!((user(&record), error(&record)), ("ldap-alice", "AccessDenied"));
    assert_eq!(record.user_identity.principal_id.as_deref(), Some("e-1"));
    assert_eq!((record.source_ip_address.as_str(), record.request_id.as_deref()), ("10.10.42.222", Some("r-1")));
    let login = r#"{"time":"2020-04-30T14:27:10Z","type":"response","auth":{},"request":{"id":"r","operation":"update","path":"auth/userpass/login/bob"},"error":"invalid username or password"}"#;
    let record = made("openbao", login);
    assert_eq!((record.event_name.as_str(), user(&record), error(&record)), ("Login", "bob", "AccessDenied"));
    assert_eq!((record.event_source.as_str(), &record.event_type), ("openbao.openbao", &EventType::AwsConsoleSignIn));
}

#[test]
fn gitlabs_grafanas_keycloaks_minios_and_giteas_logs_have_mappings() {
    for (mapping, line, source, name, who, code) in [
        (
            "gitlab",
            r#"{"severity":"INFO","time":"2018-10-17T17:38:22.523Z","author_id":3,"entity_id":2,"entity_type":"Project","change":"visibility","from":"Private","to":"Public","author_name":"John Doe4","target_id":2,"target_type":"Project","target_details":"namespace2/project2"}"#,
            "gitlab.gitlab",
            "ChangeVisibility",
            "John Doe4",
            "",
        ),
        (
            "gitlab",
            r#"{"severity":"INFO","time":"2018-10-17T17:38:22.830Z","author_id":5,"entity_id":3,"entity_type":"User","event_name":"user_created","author_name":"Administrator","ip_address":"192.0.2.1","entity_path":"eve"}"#,
            "gitlab.gitlab",
            "UserCreated",
            "Administrator",
            "",
        ),
        (
            "gitlab",
            r#"{"time":"2018-10-17T17:38:22.830Z","author_id":-1,"author_name":"eve","entity_type":"User","failed_login":"STANDARD","ip_address":"192.0.2.1"}"#,
            "gitlab.gitlab",
            "Login",
            "eve",
            "AccessDenied",
        ),
        (
            "grafana",
            r#"{"timestamp":"2023-03-20T12:19:07.8Z","user":{"userId":1,"orgId":1,"name":"admin"},"action":"create","resources":[{"id":2,"type":"dashboard"}],"requestUri":"/api/dashboards/db","result":{"statusType":"failure","statusCode":"403"},"ipAddress":"127.0.0.1:5","userAgent":"x"}"#,
            "grafana.grafana",
            "CreateDashboard",
            "admin",
            "AccessDenied",
        ),
        (
            "grafana",
            r#"logger=context userId=1 orgId=1 uname=admin t=2022-03-20T12:19:07.8Z level=info msg="Request Completed" method=DELETE path=/api/org/users/3 status=200 remote_addr=[::1] time_ms=2"#,
            "grafana.grafana",
            "DeleteResource",
            "admin",
            "",
        ),
        (
            "keycloak",
            r#"2023-01-01 12:00:00,123 WARN  [org.keycloak.events] (executor-thread-1) type="LOGIN_ERROR", realmId="m", clientId="c", userId="null", ipAddress="192.0.2.9", error="invalid_user_credentials", username="eve""#,
            "keycloak.keycloak",
            "Login",
            "eve",
            "AccessDenied",
        ),
        (
            "keycloak",
            r#"2023-01-01 12:00:00,123 DEBUG [org.keycloak.events] (default task-1) operationType=CREATE, realmId=m, clientId=c, userId=u-1, ipAddress=192.0.2.9, resourceType=USER, resourcePath=users/7"#,
            "keycloak.keycloak",
            "CreateUser",
            "u-1",
            "",
        ),
        (
            "keycloak",
            r#"{"timestamp":"2023-01-01T12:00:00Z","loggerName":"org.keycloak.events","level":"WARN","message":"type=\"UPDATE_PASSWORD_ERROR\", realmId=\"m\", userId=\"u\", ipAddress=\"192.0.2.9\", error=\"invalid_password\""}"#,
            "keycloak.keycloak",
            "UpdatePassword",
            "u",
            "InvalidPassword",
        ),
        (
            "minio",
            r#"{"version":"1","time":"2023-01-01T12:00:00Z","trigger":"incoming","api":{"name":"PutObject","bucket":"b","object":"o","status":"Forbidden","statusCode":403},"remotehost":"192.0.2.9","requestID":"R","userAgent":"mc","accessKey":"AK"}"#,
            "s3.minio",
            "PutObject",
            "AK",
            "AccessDenied",
        ),
        (
            "gitea",
            r#"192.0.2.9:5123 - root [10/Oct/2023:13:55:36 +0000] "DELETE /api/v1/repos/o/r HTTP/1.1" 204 0 "" "curl""#,
            "gitea.gitea",
            "DeleteRepository",
            "root",
            "",
        ),
    ] {
        let record = made(mapping, line);
        let found = (record.event_source.as_str(), record.event_name.as_str(), user(&record), error(&record));
        assert_eq!(found, (source, name, who, code), "{line}");
    }
}

#[test]
fn postgresqls_statements_logins_and_refusals_are_told() {
    let line = |severity: &str, state: &str, command: &str, message: &str| {
        format!(
            r#"2024-03-01 10:00:00.123 UTC,"alice","app",42,"192.0.2.7:51234",65e1.1,3,"{command}",2024-03-01 09:59:44 UTC,4/12,7,{severity},{state},"{}",,,,,,,,,"psql","client backend",,0"#,
            message.replace('"', "\"\"")
        )
    };
    let ddl = made(
        "postgresql",
        &line(
            "LOG",
            "00000",
            "DROP TABLE",
            r#"AUDIT: SESSION,1,1,DDL,DROP TABLE,TABLE,public.t,"drop table t, u;",<not logged>"#,
        ),
    );
    assert_eq!((ddl.event_name.as_str(), user(&ddl), &ddl.event_category), ("DropTable", "alice", &EventCategory::Management));
    assert_eq!((ddl.source_ip_address.as_str(), ddl.user_agent.as_deref()), ("192.0.2.7", Some("psql")));
    assert_eq!(ddl.request_parameters.unwrap()["statement"], "drop table t, u;");
    let read =
        made("postgresql", &line("LOG", "00000", "SELECT", "AUDIT: OBJECT,2,1,READ,SELECT,TABLE,public.t,select 1,<none>"));
    assert_eq!((read.event_name.as_str(), &read.event_category, read.read_only), ("Select", &EventCategory::Data, Some(true)));
    let login =
        made("postgresql", &line("FATAL", "28P01", "authentication", r#"password authentication failed for user "alice""#));
    assert_eq!((login.event_name.as_str(), error(&login)), ("Login", "AccessDenied"));
    let refused = made("postgresql", &line("ERROR", "42501", "GRANT", "permission denied for table t"));
    assert_eq!((refused.event_name.as_str(), error(&refused)), ("Grant", "AccessDenied"));
    let other = made("postgresql", &line("LOG", "00000", "", "checkpoint starting: time"));
    assert_eq!((other.event_name.as_str(), &other.event_category), (LOG_MESSAGE, &EventCategory::Data));
}

#[test]
fn syslog_is_told_and_an_own_mapping_makes_events_of_it() {
    let record = made("syslog", "<38>Oct 11 22:14:15 fw sshd[7]: Accepted publickey for alice");
    assert_eq!((record.event_source.as_str(), record.event_name.as_str()), ("sshd.syslog", LOG_MESSAGE));
    assert_eq!((&record.event_category, record.source_ip_address.as_str()), (&EventCategory::Management, "fw"));
    let text = "format = \"syslog\"\n[record]\nsource = \"asa.cisco\"\n[[event]]\nwhen = { message = \"*Login denied*\" }\nname = \"Login\"\nerror_code = \"AccessDenied\"\n";
    let own = Mapping::parse("asa.toml", text, AccessShape::default()).unwrap();
    let record = made_with(&own, "<166>Oct 11 2023 22:14:15 fw : %ASA-6-605004: Login denied from 192.0.2.1");
    assert_eq!(
        (record.event_source.as_str(), record.event_name.as_str(), error(&record)),
        ("asa.cisco", "Login", "AccessDenied")
    );
}

#[test]
fn an_own_pattern_names_its_fields() {
    let text = "format = \"regex\"\npattern = '^(?P<at>\\S+) (?P<who>\\w+) (?P<what>\\w+) (?P<rest>.*)$'\n[record]\nsource = \"door.example\"\nname = \"{what:pascal}Door\"\ntime = \"{at}\"\nparameters = { place = \"{rest}\" }\nidentity = { name = \"{who}\" }\n";
    let mapping = Mapping::parse("door.toml", text, AccessShape::default()).unwrap();
    let record = made_with(&mapping, "2024-01-01T00:00:00Z alice open north gate");
    assert_eq!(
        (record.event_name.as_str(), user(&record), record.event_time.as_str()),
        ("OpenDoor", "alice", "2024-01-01T00:00:00Z")
    );
    assert_eq!(record.request_parameters.unwrap()["place"], "north gate");
    let host = Host::for_tests();
    let place = Place { host: &host, source: SourceName::File, path: None, event_id: Uuid::nil(), time: NOW };
    assert!(super::record(&place, &mapping, b"nothing").is_err() && super::record(&place, &mapping, b"\xff").is_err());
}

#[test]
fn json_without_a_mapping_of_its_own_keeps_every_member() {
    let record = made(
        "json",
        r#"{"time":1700000000,"service":"Billing API","event":"invoice.paid","user":{"id":7,"name":"alice"},"invoice":"I-7"}"#,
    );
    assert_eq!(
        (record.event_source.as_str(), record.event_name.as_str(), user(&record)),
        ("billing-api", "InvoicePaid", "alice")
    );
    assert_eq!(record.request_parameters.unwrap()["invoice"], "I-7");
    let record = made("json", r#"{"x":1}"#);
    assert_eq!(record.event_name, LOG_MESSAGE);
}

#[test]
fn an_audit_log_on_standard_output_is_read_out_of_what_its_runtime_put_around_it() {
    use crate::normalize::{Made, Normalizer, audit, names::Names};
    use crate::observation::{Observation, Payload};
    use crate::sources::file::{Format as FileFormat, Line};
    let event = r#"{"kind":"Event","auditID":"a","stage":"ResponseComplete","verb":"delete","requestURI":"/x","requestReceivedTimestamp":"t"}"#;
    let (before, behind) = event.split_at(30);
    let lines = [
        event.to_owned(),
        format!("2023-11-14T22:13:20Z stdout F {event}"),
        format!("2023-11-14T22:13:20Z stdout P {before}\n2023-11-14T22:13:20Z stdout F {behind}"),
        format!(r#"{{"log":{},"stream":"stdout","time":"2023-11-14T22:13:20Z"}}"#, Value::from(format!("{event}\n"))),
    ];
    let ids: Vec<Uuid> = lines
        .iter()
        .map(|line| {
            let line = Line { bytes: line.clone().into(), format: FileFormat::Kubernetes, path: "/var/log/x".into() };
            let (position, payload) = ("1.1.1:0".to_owned(), Payload::Line(line));
            let observation = Observation { source: SourceName::File, position, time: NOW, payload, cursor: None, answer: None };
            let mut normalizer = Normalizer::new(Host::for_tests(), audit::Decoder::default(), Names::default());
            match &normalizer.normalize(&observation)[0].record {
                Made::Record(record) if record.event_name == "DeletePath" => record.event_id,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "one event, one id");
}

/// Nobody's line speaks for Edgetrail itself.
#[test]
fn no_line_names_edgetrail_as_its_source() {
    let record = made("json", r#"{"service":"agent.edgetrail","event":"ReportGap"}"#);
    assert_ne!(record.event_source, "agent.edgetrail");
}

#[test]
fn a_line_that_a_runtime_cut_makes_one_record_and_what_stood_between_its_own() {
    use crate::normalize::{Made, Normalizer, audit, names::Names};
    use crate::observation::{Observation, Payload};
    use crate::sources::file::{Format as FileFormat, Line};
    let mapping = Mapping::open("json", AccessShape::default()).unwrap();
    let bytes = b"2023-11-14T22:13:20Z stdout P {\"event\":\"invoice.paid\",\n2023-11-14T22:13:20Z stderr F {\"event\":\"disk.full\"}\n2023-11-14T22:13:20Z stdout F \"invoice\":\"I-7\"}";
    let line =
        Line { bytes: bytes.to_vec().into(), format: FileFormat::Mapped(mapping), path: "/var/log/containers/x.log".into() };
    let observation = Observation {
        source: SourceName::File,
        position: "1.1.1:0".to_owned(),
        time: NOW,
        payload: Payload::Line(line),
        cursor: None,
        answer: None,
    };
    let drafts = Normalizer::new(Host::for_tests(), audit::Decoder::default(), Names::default()).normalize(&observation);
    let names = drafts.iter().map(|draft| match &draft.record {
        Made::Record(record) => (record.event_name.clone(), record.event_id),
        other => panic!("not made here: {other:?}"),
    });
    let (names, ids): (Vec<String>, Vec<Uuid>) = names.unzip();
    assert_eq!(names, ["DiskFull", "InvoicePaid"]);
    assert_ne!(ids[0], ids[1]);
}
