//! Messages of syslog and PostgreSQL's log: from where, by what, when.

use super::*;

const NOVEMBER_2026: u64 = 1_795_000_000_000_000_000;

fn message_from(line: &str, path: Option<&str>, time: u64) -> Record {
    let host = Host::for_tests();
    let place = Place { host: &host, source: SourceName::Syslog, path, event_id: Uuid::nil(), time };
    record(&place, &Mapping::open("syslog", AccessShape::default()).unwrap(), line.as_bytes()).unwrap()
}

#[test]
fn a_message_is_of_the_host_that_it_names_else_of_the_peer_that_sent_it() {
    for (line, address, source) in [
        ("<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!", "10.0.0.99", "unknown.syslog"),
        ("<166>Oct 11 2023 22:14:15 fw : %ASA-6-302013: Built", "fw", "unknown.syslog"),
        ("<166>Oct 11 2023 22:14:15: %ASA-6-302013: Built", "192.0.2.50", "unknown.syslog"),
        ("<189>date=2024-01-01 time=10:00:00 devname=\"f1\" type=\"event\"", "192.0.2.50", "unknown.syslog"),
        ("<189>29: *Mar  1 18:48:50.483 UTC: %SYS-5-CONFIG_I: Configured from console", "192.0.2.50", "unknown.syslog"),
        ("<34>Oct 11 22:14:15 mymachine su: 'su root' failed", "mymachine", "su.syslog"),
        ("just text", "192.0.2.50", "unknown.syslog"),
    ] {
        let record = message_from(line, Some("udp://192.0.2.50:51400"), NOW);
        assert_eq!((record.source_ip_address.as_str(), record.event_source.as_str()), (address, source), "{line}");
    }
    let record = message_from("just text", Some("tls://[2001:db8::7]:6514"), NOW);
    assert_eq!(record.source_ip_address, "2001:db8::7");
    let record = message_from("just text", Some("/run/edgetrail/syslog.sock"), NOW);
    assert_eq!(record.source_ip_address, "web-1", "from this host");
}

#[test]
fn ciscos_sequence_number_is_no_program_and_its_time_is_read() {
    let line = "<189>29: *Mar  1 18:48:50.483 UTC: %SYS-5-CONFIG_I: Configured from console by vty0";
    let record = message_from(line, None, NOVEMBER_2026);
    assert_eq!(record.event_time, "2026-03-01T18:48:50Z");
    assert!(record.request_parameters.unwrap()["message"].as_str().unwrap().starts_with("%SYS-5-CONFIG_I: Configured"));
}

#[test]
fn a_time_without_a_year_is_the_last_one_that_lies_at_most_a_day_ahead() {
    assert!(message_from("<13>Feb  5 10:00:00 h a[1]: x", None, NOVEMBER_2026).event_time.starts_with("2026-02-"));
    let record = message_from("<13>Nov  1 10:00:00 2024 h a[1]: x", None, NOVEMBER_2026);
    assert!(record.event_time.starts_with("2024-1"), "{}", record.event_time);
    assert_eq!((record.source_ip_address.as_str(), record.event_source.as_str()), ("h", "a.syslog"));
}

#[test]
fn a_refusal_at_start_up_and_other_entries_say_who_and_from_where() {
    let line = |state: &str, message: &str| {
        format!(
            r#"2024-03-01 10:00:00.123 UTC,"alice","app",42,"192.0.2.7:51234",65e1.1,3,"startup",2024-03-01 09:59:44 UTC,4/12,7,FATAL,{state},"{message}",,,,,,,,,"psql","client backend",,0"#
        )
    };
    for (state, text, code) in [
        ("3D000", "database \"\"app\"\" does not exist", "DatabaseNotFound"),
        ("53300", "sorry, too many clients already", "TooManyConnections"),
    ] {
        let record = made("postgresql", &line(state, text));
        let told = (record.event_name.as_str(), error(&record), record.source_ip_address.as_str(), user(&record));
        assert_eq!(told, ("Login", code, "192.0.2.7", "alice"), "{state}");
        assert_eq!(record.event_category, EventCategory::Management);
    }
    let other = made("postgresql", &line("57P01", "terminating connection due to administrator command"));
    assert_eq!((other.event_name.as_str(), other.source_ip_address.as_str()), (LOG_MESSAGE, "192.0.2.7"));
    let rds =
        "2024-03-01 10:00:00 UTC:192.0.2.7(51234):alice@app:[4242]:FATAL:  password authentication failed for user \"alice\"";
    let record = made("postgresql", rds);
    let told = (record.event_name.as_str(), error(&record), record.source_ip_address.as_str(), user(&record));
    assert_eq!(told, ("Login", "AccessDenied", "192.0.2.7", "alice"));
    let rds = "2024-03-01 10:00:00 UTC:ip-10-0-0-7.ec2.internal(51234):alice@app:[4242]:LOG:  AUDIT: SESSION,1,1,DDL,DROP TABLE,TABLE,public.t,drop table t,<none>";
    assert_eq!(made("postgresql", rds).event_name, "DropTable");
}

/// Of formats without a corpus beside the tests.
#[test]
fn an_entry_cut_at_every_byte_makes_a_record_or_says_why() {
    let csv = r#"2024-03-01 10:00:00.123 UTC,"alice","app",42,"::1:51234",65e1.1,3,"DROP TABLE",2024-03-01 09:59:44 UTC,4/12,7,LOG,00000,"AUDIT: SESSION,1,1,DDL,DROP TABLE,TABLE,public.t,""drop table é;"",<not logged>",,,,,,,,,"psql","client backend",,0"#;
    let rds = "2024-03-01 10:00:00 UTC:192.0.2.7(51234):alice@app:[4242]:FATAL:  password authentication failed for user \"é\"";
    let json = r#"{"timestamp":"2024-03-01 10:00:00.123 UTC","user":"é","remote_host":"::1","remote_port":5,"error_severity":"LOG","message":"AUDIT: SESSION,2,1,READ,SELECT,,,select 1,none"}"#;
    let docker = r#"{"status":"exec_start: sh","Action":"exec_start: sh","Type":"container","Actor":{"ID":"c1","Attributes":{"name":"é"}},"time":1700000000}"#;
    let cisco = "<189>29: R1: *Mar  1 18:48:50.483 UTC: %SYS-5-CONFIG_I: Configured from é";
    let keycloak =
        "2023-01-01 12:00:00,123 WARN  [org.keycloak.events] (x) type=LOGIN, realmId=m, userId=null, username=é smith, a=b";
    let haproxy = "Connect from [2001:db8::1]:51234 to 10.0.0.9:80 (é/HTTP)";
    let host = Host::for_tests();
    let place = Place { host: &host, source: SourceName::Syslog, path: Some("tcp://[::1]:5"), event_id: Uuid::nil(), time: NOW };
    for mapping in Mapping::shipped() {
        let mapping = Mapping::open(mapping, AccessShape::default()).unwrap();
        for line in [csv, rds, json, docker, cisco, keycloak, haproxy] {
            for end in 0..=line.len() {
                if let Err(reason) = record(&place, &mapping, &line.as_bytes()[..end]) {
                    assert!(!reason.is_empty());
                }
            }
        }
    }
}

#[test]
fn whom_a_sender_s_certificate_names_is_in_the_record() {
    let host = Host::for_tests();
    let mapping = Mapping::open("syslog", AccessShape::default()).unwrap();
    for (path, peer, subject) in [
        ("tls://192.0.2.7:5 CN=web 1,O=Shop", "tls://192.0.2.7:5", Some("CN=web 1,O=Shop")),
        ("tls://[2001:db8::1]:5", "tls://[2001:db8::1]:5", None),
        ("tcp://192.0.2.7:5", "tcp://192.0.2.7:5", None),
    ] {
        let place = Place { host: &host, source: SourceName::Syslog, path: Some(path), event_id: Uuid::nil(), time: NOW };
        let record = record(&place, &mapping, b"<34>shop: hello").unwrap();
        let address = if peer.contains("db8") { "2001:db8::1" } else { "192.0.2.7" };
        assert_eq!(record.source_ip_address, address, "{path}");
        let mark = &record.additional_event_data.unwrap()["edgetrail"];
        assert_eq!(mark["peer"], peer);
        let told = mark.get("caller").map(|caller| caller["certificate"]["subject"].as_str().unwrap());
        assert_eq!(told, subject);
    }
}
