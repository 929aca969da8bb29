//! A planted secret survives nowhere; ordinary words stay.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::normalize::{Host, report};

const SECRET: &str = "Zq7xWv93kLmN";

fn redactor() -> Redactor {
    Redactor::new(Config::default()).unwrap()
}

fn text(text: &str) -> String {
    let mut text = text.to_owned();
    redactor().text(&mut text);
    text
}

/// Command lines and messages in which `{}` is a secret.
const POSITIONS: &[&str] = &[
    "mysql -u root -p{} db",
    "mysqldump -p'{}' db",
    "/usr/bin/mysql --password={} -e x",
    "sshpass -p {} ssh host",
    "sshpass -p{} ssh host",
    "curl -u alice:{} https://x",
    "curl --user alice:{} https://x",
    "curl -ualice:{} https://x",
    "curl -H 'Authorization: Bearer {}' https://x",
    "curl -H \"Authorization: Basic {}\" https://x",
    "curl -H 'X-Api-Key: {}' https://x",
    "tool --token {} run",
    "tool --api-key={}",
    "tool --client-secret \"{}\" go",
    "PGPASSWORD={} psql",
    "env DB_PASSWORD={} ./run",
    "export AWS_SECRET_ACCESS_KEY={}",
    "aws_secret_access_key = {}",
    "git clone https://bob:{}@example.com/r.git",
    "postgres://u:{}@db/x?sslmode=no",
    "https://x/?access_token={}&a=b",
    "{\"password\":\"{}\",\"a\":1}",
    "{\"X-Api-Key\":[\"a\",\"{}\"],\"a\":1}",
    "{\"credentials\":{\"user\":\"u\",\"p\":\"{}\"}}",
    "{\\\"password\\\":\\\"{}\\\"}",
    "password: {}",
    "docker login -u a -p {} registry",
    "redis-cli -a {} ping",
    "useradd -p {} bob",
    "openssl pkcs12 -passin pass:{} -in f",
    "sudo mysql -p{}",
    "x && mysql -p{}",
    "ldapsearch -x -w {} -D cn=a",
    "bash -c \"mysql -p{} db\"",
    "tool -password {}",
    "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\n{}",
    "ghp_abcdefghijklmnopqrstuvwxyz{}",
    "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.{}",
    "aws configure set aws_secret_access_key {}",
    "GET /v1/x?access_token={}&page=2 HTTP/1.1",
    "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=A&X-Amz-Signature={}",
    "https://a.blob.core.windows.net/c/b?sv=1&sig={}&se=2",
    "https://hooks.example/?api_key={}",
    "wget --header='Authorization: Bearer {}' https://x",
    "ALTER ROLE alice WITH PASSWORD '{}'",
    "create user bob identified by '{}';",
    "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----",
    "htpasswd -b /etc/nginx/users alice {}",
    "htpasswd -bc /etc/nginx/users alice {}",
    "htpasswd -Bb /etc/nginx/users alice {}",
    "htpasswd -nb alice {}",
    "MYSQL_PWD={} mysql",
    "SSHPASS={} sshpass -e ssh host",
    "DB_PASS={} ./run",
    "env SMTP_PASS={} ./run",
    "tool --pass {} run",
    "tool --db-pass={}",
    "curl -H 'Authorization: Splunk {}' https://x",
    "curl -H \"Authorization: OAuth {}\" https://x",
    "curl -H 'Authorization: SSWS {}' https://x",
    "curl -H 'Authorization: GenieKey {}' https://x",
    "Authorization: Digest username=\"a\", realm=\"b\", response=\"{}\"",
    "{\"Authorization\":\"Splunk {}\"}",
    "mysqladmin -u root password {}",
    "mysqladmin password '{}'",
    "mysqlcheck -p{} db",
    "mysqlshow -p{} db",
    "az login -u alice -p {}",
    "curl --oauth2-bearer {} https://x",
    "sqlplus alice/{}@db",
    "sqlplus -S alice/{}@//db:1521/x",
    "ALTER ROLE alice PASSWORD $${}$$",
    "ALTER ROLE alice PASSWORD $tag${}$tag$;",
    "ALTER ROLE alice PASSWORD 'it''{}'",
    "CREATE USER bob IDENTIFIED BY 'it\\'{}'",
    "EXECUTE 'ALTER ROLE alice PASSWORD ''{}'''",
    "mysql -e 'ALTER USER alice IDENTIFIED BY '\\''{}'\\'''",
    "psql -c \"ALTER ROLE alice PASSWORD \\$\\${}\\$\\$\"",
];

#[test]
fn a_planted_secret_survives_in_no_position() {
    for position in POSITIONS {
        let line = position.replace("{}", SECRET);
        let masked = text(&line);
        assert!(!masked.contains(SECRET), "{line} -> {masked}");
        assert!(suspects::any(line.as_bytes(), &[]), "the quick look must see: {line}");
        // The same as a command line in parts; a configuration file's line is none.
        let words: Vec<Value> = line.split(' ').map(|word| word.trim_matches(['"', '\'']).into()).collect();
        let mut value = json!({"argv": words});
        redactor().value(&mut value, 0);
        assert!(
            position.contains(['\'', '"', '$'])
                || position.contains([' ', '\n']) && (position.contains(" = ") || position.contains('\n'))
                || !value.to_string().contains(SECRET),
            "{value}"
        );
    }
}

#[test]
fn ordinary_text_is_left_alone() {
    for line in [
        "ls -p /tmp",
        "cp -p a b",
        "mkdir -p /var/lib/x",
        "ssh -p 2222 host",
        "grep -u password /etc/pam.d/common-password",
        "passwd alice",
        "tar -xpf a.tar",
        "systemctl restart secrets-store",
        "cat /etc/passwd",
        "vi /etc/ssh/sshd_config",
        "docker run -p 80:80 nginx",
        "arn:aws:secretsmanager:eu-west-1:111122223333:secret:db-x1",
        "https://example.com:8443/path?page=2",
        "mysql -u root db",
        "user@host:path",
        "Accepted password for alice from 192.0.2.1 port 22 ssh2",
        "pam_unix(sudo:auth): authentication failure; logname=a uid=1",
        "password changed for alice",
        "TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/bin/ls",
        "tokenize --input a.txt",
        "keyboard layout = de",
        "monkey=banana",
        "nextToken=abc",
        "accessKeyId=AKIAIOSFODNN7EXAMPLE",
        "compass=north",
        "basic usage",
        "a bearer of news",
        "Server listening on 0.0.0.0 port 22.",
        "git clone https://example.com/r.git",
        "author: bob",
        "find / -perm -p",
        "SET password_encryption = 'scram-sha-256'",
        "git config user.name 'Ann Lee'",
        "kill -s sigterm 7",
        "identified as a threat",
        "tool --pass-through x",
        "pass 3 tests",
        "bypass=1",
        "compass: north",
        "trespass = no",
        "tests pass: all",
        "SELECT $1, $2 FROM password_policy",
        "htpasswd /etc/nginx/users alice",
        "htpasswd -D /etc/nginx/users alice",
        "mysqladmin -u root status",
        "az vm create -n web-1 -g rg",
        "sqlplus /nolog",
        "sqlplus / as sysdba",
        "sqlplus @/opt/run.sql",
        "curl -b -o x https://x",
    ] {
        assert_eq!(text(line), line);
    }
}

#[test]
fn parameters_are_masked_by_name_and_shape_is_kept() {
    let mut value = json!({"password": "x", "credentials": {"user": "u", "n": 7, "on": true}, "name": "alice",
        "env": [{"name": "DB_PASSWORD", "value": "x"}, {"name": "HOME", "value": "/root"}], "argv": ["sshpass", "-p", "x", "ssh"]});
    redactor().value(&mut value, 0);
    let m = text::MASK;
    assert_eq!(
        value,
        json!({"password": m, "credentials": {"user": m, "n": m, "on": true}, "name": "alice",
            "env": [{"name": "DB_PASSWORD", "value": m}, {"name": "HOME", "value": "/root"}], "argv": ["sshpass", "-p", m, "ssh"]})
    );
}

#[test]
fn written_records_change_only_where_a_secret_is() {
    let clean = br#"{"eventName":"A","requestParameters":{"b":1,"a":"monkey"},"custom":1}"#.to_vec();
    let mut made = Made::Written(clean.clone());
    redactor().redact(&mut made);
    assert!(matches!(made, Made::Written(bytes) if bytes == clean));
    let mut made =
        Made::Written(br#"{"eventName":"A","requestParameters":{"b":"--token abcdef"},"custom":{"apiKey":"k"}}"#.to_vec());
    redactor().redact(&mut made);
    let Made::Written(bytes) = made else { panic!() };
    let m = text::MASK;
    let expected = format!(r#"{{"eventName":"A","requestParameters":{{"b":"--token {m}"}},"custom":{{"apiKey":"{m}"}}}}"#);
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    let foreign = br#"{"requestParameters":{"password":"x"}}"#.to_vec();
    let mut made = Made::Foreign(foreign.clone());
    redactor().redact(&mut made);
    assert!(matches!(made, Made::Foreign(bytes) if bytes == foreign));
}

/// The leaks that logs are known for, through their mappings, with the line itself kept: neither has the secret.
#[test]
fn what_lines_leak_is_masked_in_parameters_and_raw() {
    use crate::normalize::{Normalizer, audit, names};
    use crate::observation::{Observation, Payload, SourceName};
    use crate::sources::file::{Format, Line};
    use crate::sources::lines::{Mapping, shape::AccessShape};

    for (mapping, line) in [
        (
            "nginx",
            r#"203.0.113.9 - - [10/Oct/2023:13:55:36 +0000] "GET /cb?access_token={}&x=1 HTTP/1.1" 200 17 "https://h/?token={}" "curl""#,
        ),
        ("nginx", r#"203.0.113.9 - - [10/Oct/2023:13:55:36 +0000] "GET http://u:{}@h/ HTTP/1.1" 400 17 "-" "-""#),
        (
            "traefik",
            r#"{"ClientHost":"1.2.3.4","RequestMethod":"GET","RequestPath":"/x","DownstreamStatus":200,"request_Authorization":"Bearer {}","request_Cookie":"sid={}"}"#,
        ),
        (
            "caddy",
            r#"{"ts":1,"logger":"http.log.access","request":{"method":"GET","uri":"/x?password={}","headers":{"X-Api-Key":["{}"]}},"status":200}"#,
        ),
        (
            "postgresql",
            r#"2024-03-01 10:00:00 UTC,"a","d",4,"h",s,3,"ALTER ROLE",t,v,7,LOG,00000,"AUDIT: SESSION,1,1,ROLE,ALTER ROLE,,,""ALTER ROLE x PASSWORD '{}'"",<none>",,,,,,,,,"psql""#,
        ),
        (
            "docker",
            r#"{"Type":"container","Action":"create","timeNano":7,"Actor":{"ID":"c","Attributes":{"name":"w"}},"inspect":{"environment":["DB_PASSWORD={}"],"command":["mysql","-p{}"]}}"#,
        ),
        ("syslog", "<13>Oct 11 22:14:15 web app[7]: password={} for alice"),
        ("keycloak", r#"2023-01-01 12:00:00,123 WARN [org.keycloak.events] (x) type="LOGIN", realmId="m", client_secret="{}""#),
        ("json", r#"{"event":"x","service":"s","password":"{}","note":"curl -u a:{} h"}"#),
    ] {
        let host = Host { keep_raw: true, ..Host::for_tests() };
        let mut normalizer = Normalizer::new(host, audit::Decoder::restore(None), names::Names::default());
        let format = Format::Mapped(Mapping::open(mapping, AccessShape::default()).unwrap());
        let bytes = line.replace("{}", SECRET).into_bytes().into();
        let payload = Payload::Line(Line { bytes, format, path: "/x".into() });
        let observation =
            Observation { source: SourceName::File, position: "p".to_owned(), time: 0, payload, cursor: None, answer: None };
        for draft in normalizer.normalize(&observation) {
            let mut made = draft.record;
            redactor().redact(&mut made);
            let Made::Record(record) = made else { panic!("{line}") };
            assert_ne!(record.event_name, "UnparsedObservation", "{line}");
            let text = String::from_utf8(record.to_json()).unwrap();
            assert!(!text.contains(SECRET), "{mapping}: {text}");
        }
    }
}

#[test]
fn unparsed_text_is_masked_too() {
    let unparsed =
        crate::observation::Unparsed { bytes: format!("password={SECRET} and more").into_bytes(), reason: "no JSON".to_owned() };
    let record = report::unparsed(&Host::for_tests(), crate::observation::SourceName::File, uuid::Uuid::nil(), 0, &unparsed);
    let mut made = Made::Record(Box::new(record));
    redactor().redact(&mut made);
    let Made::Record(record) = made else { panic!() };
    assert!(!String::from_utf8(record.to_json()).unwrap().contains(SECRET));
}

#[test]
fn configured_names_are_masked_and_allowed_ones_kept() {
    let config = Config { keys: vec!["launch_code".to_owned()], allow: vec!["sessionToken".to_owned()], ..Config::default() };
    let redactor = Redactor::new(config).unwrap();
    let mut made = Made::Written(br#"{"requestParameters":{"launchCode":"x","sessionToken":"y"}}"#.to_vec());
    redactor.redact(&mut made);
    let Made::Written(bytes) = made else { panic!() };
    let bytes = String::from_utf8(bytes).unwrap();
    assert!(bytes.contains(r#""sessionToken":"y""#) && !bytes.contains(r#""x""#), "{bytes}");
    assert!(Redactor::new(Config { keys: vec![String::new()], ..Config::default() }).is_err());
}

proptest! {
    #[test]
    fn no_planted_secret_survives_whatever_stands_around(
        index in 0..POSITIONS.len(), secret in "[A-Za-z0-9+/_.!%-]{12,24}", before in "[a-z0-9 /.]{0,20}", after in "[a-z0-9 /.]{0,20}",
    ) {
        prop_assume!(!secret.starts_with('-') && secret.bytes().any(|b| b.is_ascii_digit()) && secret.bytes().any(|b| b.is_ascii_uppercase()));
        let position = POSITIONS[index];
        // Inside a key or a header a secret has its alphabet.
        let secret: String = secret.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { 'x' }).collect();
        let line = format!("{before} ; {} {after}", position.replace("{}", &secret));
        let masked = text(&line);
        prop_assert!(!masked.contains(&secret), "{} -> {}", line, masked);
    }

    #[test]
    fn arbitrary_text_never_panics_and_is_stable(line in "\\PC{0,60}|[-p=:\"'\\\\ @/a-zA-Z{}\n]{0,60}") {
        let once = text(&line);
        prop_assert_eq!(text(&once), once);
    }
}
