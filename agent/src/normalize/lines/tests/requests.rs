//! Requests of access logs and gateways: who, from where, what came of it.

use super::*;

const AT: &str = "06/Feb/2009:12:14:14.655";

fn haproxy(client: &str) -> String {
    format!(r#"{client} [{AT}] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 "GET /index.html HTTP/1.1""#)
}

fn address(mapping: &str, line: &str) -> String {
    made(mapping, line).source_ip_address
}

#[test]
fn an_address_loses_its_port_however_it_was_written() {
    for (client, expected) in [
        ("10.0.1.2:33313", "10.0.1.2"),
        ("::ffff:10.0.1.2:33313", "10.0.1.2"),
        ("2001:db8::1:33317", "2001:db8::1"),
        ("::1:33317", "::1"),
        ("[2001:db8::1]:33317", "2001:db8::1"),
    ] {
        assert_eq!(address("haproxy", &haproxy(client)), expected, "{client}");
    }
    let csv = r#"2024-03-01 10:00:00.123 UTC,"alice","app",42,"::1:51234",65e1.1,3,"auth",2024-03-01 09:59:44 UTC,4/12,7,FATAL,28P01,"no",,,,,,,,,"psql","client backend",,0"#;
    assert_eq!(address("postgresql", csv), "::1");
    for (remote, expected) in [("[2001:db8::1]", "2001:db8::1"), ("1.2.3.4:55", "1.2.3.4"), ("192.0.2.9", "192.0.2.9")] {
        let line =
            format!(r#"{{"time":"2023-01-01T12:00:00Z","api":{{"name":"PutObject","statusCode":200}},"remotehost":"{remote}"}}"#);
        assert_eq!(address("minio", &line), expected);
    }
}

#[test]
fn connections_without_a_request_are_told_as_such_with_their_address() {
    let istio = r#"[2024-01-01T00:00:00.000Z] "- - -" 0 - - - "-" 100 200 5 - "-" "-" "-" "-" "10.0.0.9:5432" outbound|5432||db 10.0.0.1:40000 10.0.0.9:5432 10.0.0.7:51234 - -"#;
    let json = r#"{"start_time":"2024-01-01T00:00:00.000Z","method":null,"path":null,"protocol":null,"response_code":0,"response_flags":"UF","downstream_remote_address":"10.0.0.7:51234","bytes_sent":1,"upstream_cluster":"db"}"#;
    let nginx =
        r#"{"time_iso8601":"2024-01-01T00:00:00+00:00","remote_addr":"10.0.0.7","request":"","status":400,"body_bytes_sent":0}"#;
    let own = "Connect from 10.0.0.7:51234 to 10.0.0.9:80 (http-in/HTTP)";
    for (mapping, line) in [("envoy", istio), ("envoy", json), ("nginx", nginx), ("haproxy", own)] {
        let record = made(mapping, line);
        assert_eq!((record.event_name.as_str(), record.source_ip_address.as_str()), ("OpenConnection", "10.0.0.7"), "{line}");
    }
    let scan =
        r#"{"time_iso8601":"2024-01-01T00:00:00+00:00","remote_addr":"10.0.0.7","request":"\\x16\\x03\\x01","status":400}"#;
    assert_eq!(made("nginx", scan).event_name, "SendMalformedRequest");
}

#[test]
fn nginx_names_the_user_that_it_refused() {
    let line = r#"2021/12/01 13:53:33 [error] 31#31: *46 user "bob": password mismatch, client: 192.0.2.7, server: s, request: "GET /a HTTP/1.1", host: "h""#;
    let record = made("nginx", line);
    assert_eq!((record.event_name.as_str(), user(&record), error(&record)), ("Authenticate", "bob", "AccessDenied"));
    let missing = line.replace("user \"bob\": password mismatch", "user \"eve\" was not found in \"/etc/nginx/htpasswd\"");
    assert_eq!(user(&made("nginx", &missing)), "eve");
}

fn with(access: AccessShape, line: &str) -> Record {
    made_with(&Mapping::open("access", access).unwrap(), line)
}

/// `{"sub":"u-7"}` in a token.
const TOKEN: &str = "Bearer e30.eyJzdWIiOiJ1LTcifQ.sig";

#[test]
fn a_token_names_somebody_only_where_that_is_configured_and_it_was_not_refused() {
    let line = |status: u16| {
        format!(
            r#"{{"time":"2024-01-01T00:00:00Z","method":"GET","path":"/a","status":{status},"remote_addr":"192.0.2.7","headers":{{"authorization":"{TOKEN}"}}}}"#
        )
    };
    assert_eq!(user(&with(AccessShape::default(), &line(200))), "");
    let configured = || AccessShape { identity: Some(vec!["jwt:sub".to_owned()]), ..AccessShape::default() };
    assert_eq!(user(&with(configured(), &line(200))), "u-7");
    assert_eq!(user(&with(configured(), &line(401))), "");
}

#[test]
fn of_the_addresses_that_a_header_lists_the_last_that_is_no_proxy_counts() {
    let line = |list: &str| {
        format!(
            r#"{{"time":"2024-01-01T00:00:00Z","method":"GET","path":"/a","status":200,"remote_addr":"10.0.0.1","http_x_forwarded_for":"{list}"}}"#
        )
    };
    let access = |proxies: Option<&[&str]>| AccessShape {
        address_header: Some("X-Forwarded-For".to_owned()),
        trusted_proxies: proxies.map(|list| list.iter().map(|it| (*it).to_owned()).collect()),
        ..AccessShape::default()
    };
    let told = |proxies, list: &str| with(access(proxies), &line(list)).source_ip_address;
    // What stands before it the client may have written itself.
    assert_eq!(told(None, "1.1.1.1, 203.0.113.7"), "203.0.113.7");
    assert_eq!(told(None, "1.1.1.1, 203.0.113.7, 10.0.0.2"), "203.0.113.7");
    assert_eq!(told(Some(&["198.51.100.0/24", "10.0.0.0/8"]), "1.1.1.1, 203.0.113.7, 198.51.100.9:443"), "203.0.113.7");
    assert_eq!(told(Some(&["2001:db8::/32"]), "192.0.2.1, 2001:db8::5"), "192.0.2.1");
    assert_eq!(told(None, "10.0.0.5"), "10.0.0.5");
}

#[test]
fn what_an_access_section_says_wrong_is_told_when_it_is_read() {
    let error = |text: &str| {
        let text = format!("format = \"access\"\n[access]\n{text}");
        Mapping::parse("own.toml", &text, AccessShape::default()).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(error(r#"identity = ["cert", "user"]"#).contains("cert"));
    assert!(error(r#"identity = ["headr:x"]"#).contains("headr:x"));
    assert!(error(r#"identity = ["header:"]"#).contains("header:"));
    assert!(error(r#"category = "data""#).contains("data"));
    assert!(error(r#"trusted_proxies = ["10.0.0.0/33"]"#).contains("10.0.0.0/33"));
    assert!(error("[[access.route]]\npath = \"/a\"\ncategory = \"management\"").contains("management"));
    assert_eq!(error(r#"identity = ["user", "certificate", "header:x-user", "jwt", "jwt:email"]"#), "");
    let record = |text: &str| Mapping::parse("own.toml", &format!("format = \"json\"\n[record]\n{text}"), AccessShape::default());
    assert!(
        record("category = \"data\"").is_err() && record("type = \"Login\"").is_err() && record("read_only = \"yes\"").is_err()
    );
    assert!(record("category = \"{c}\"\ntype = \"AwsApiCall\"\nread_only = \"true\"").is_ok());
}

#[test]
fn json_requests_are_read_under_the_names_that_servers_use() {
    let record = made(
        "access",
        r#"{"time":"2024-01-01T00:00:00Z","method":"GET","path":"/a","status":200,"user":{"id":7,"name":"bob"},"remote_addr":"192.0.2.7"}"#,
    );
    assert_eq!(user(&record), "bob");
    let nginx = r#"{"time_iso8601":"2024-01-01T00:00:00+00:00","remote_addr":"192.0.2.7","request_method":"GET","request_uri":"/a?b=1","status":200,"request_time":"0.5","request_id":"R7","request_length":"12"}"#;
    let record = made("nginx", nginx);
    assert_eq!(record.request_id.as_deref(), Some("R7"));
    assert_eq!(record.request_parameters.unwrap().get("headers"), None);
    assert_eq!(record.response_elements.unwrap()["durationMs"], 500.0);
    let haproxy = r#"{"time":"2024-01-01T00:00:00Z","client_ip":"192.0.2.7","http_method":"GET","http_uri":"/a/b","status_code":200,"termination_state":"--"}"#;
    let record = made("haproxy", haproxy);
    assert_eq!((record.error_message, record.error_code), (None, None));
    assert_eq!(record.request_parameters.unwrap()["path"], "/a/b");
    let ecs = r#"{"@timestamp":"2024-01-01T00:00:00Z","http":{"request":{"method":"get"},"response":{"status_code":200}},"url":{"path":"/a","query":"x=1"},"source":{"ip":"192.0.2.7"}}"#;
    assert_eq!(made("access", ecs).request_parameters.unwrap()["query"]["x"], "1");
    let envoy = r#"{"start_time":"2024-01-01T00:00:00.000Z","method":"GET","path":"/a","response_code":200,"downstream_remote_address_without_port":"192.0.2.7"}"#;
    assert_eq!(made("envoy", envoy).source_ip_address, "192.0.2.7");
}

#[test]
fn caddys_other_loggers_are_no_requests() {
    let error = r#"{"level":"error","ts":1700000000.5,"logger":"http.log.error","msg":"dial tcp: refused","request":{"remote_ip":"192.0.2.7","method":"GET","host":"h","uri":"/a"},"status":502}"#;
    let record = made("caddy", error);
    assert_eq!((record.event_name.as_str(), &record.event_type), ("ReportError", &EventType::AwsServiceEvent));
    let own =
        r#"{"level":"info","ts":1700000000.5,"logger":"tls.obtain","msg":"certificate obtained successfully","identifier":"h"}"#;
    let record = made("caddy", own);
    assert_eq!((record.event_name.as_str(), &record.event_category), (LOG_MESSAGE, &EventCategory::Data));
    assert_eq!(record.request_parameters.unwrap()["msg"], "certificate obtained successfully");
    let record = made("haproxy", "Proxy http-in started.");
    assert_eq!((record.event_name.as_str(), &record.event_category), (LOG_MESSAGE, &EventCategory::Data));
    let record = made("haproxy", "Server app/web1 is DOWN, reason: Layer4 timeout, check duration: 2001ms.");
    assert_eq!((record.event_name.as_str(), &record.event_category), (LOG_MESSAGE, &EventCategory::Data));
}

#[test]
fn what_servers_escape_is_read_and_a_method_may_be_in_lower_case() {
    let line = |user: &str, request: &str| {
        format!(r#"203.0.113.9 - {user} [10/Oct/2023:13:55:36 +0000] "{request}" 200 17 "-" "curl/8""#)
    };
    assert_eq!(user(&made("apache", &line(r"DOMAIN\\bob", "GET /a HTTP/1.1"))), r"DOMAIN\bob");
    assert_eq!(user(&made("nginx", &line(r"a\x22b", "GET /a HTTP/1.1"))), "a\"b");
    let record = made("nginx", &line("-", "get /a HTTP/1.1"));
    assert_eq!((record.event_name.as_str(), record.read_only), ("GetResource", Some(true)));
}

#[test]
fn one_byte_that_is_no_utf8_costs_only_itself() {
    let host = Host::for_tests();
    let place = Place { host: &host, source: SourceName::File, path: None, event_id: Uuid::nil(), time: NOW };
    for mapping in ["nginx", "syslog"] {
        let mut line = match mapping {
            "nginx" => COMBINED.as_bytes().to_vec(),
            _ => b"<38>Oct 11 22:14:15 fw su[7]: alice failed".to_vec(),
        };
        let at = line.windows(5).position(|part| part == b"alice").unwrap();
        line[at + 1] = 0xff;
        let mapping = Mapping::open(mapping, AccessShape::default()).unwrap();
        let record = record(&place, &mapping, &line).unwrap();
        assert!(record.event_name != "UnparsedObservation");
    }
    let mapping = Mapping::open("json", AccessShape::default()).unwrap();
    assert!(record(&place, &mapping, b"{\"event\":\"a\xff\"}").is_ok());
}
