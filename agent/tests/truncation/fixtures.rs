//! What is cut: logs as lists of entries, each with its end.

use std::path::{Path, PathBuf};

/// A log of some format. Where an entry ends is said here, apart from the code that is judged.
pub(crate) struct Log {
    pub(crate) name: String,
    /// As `sources.file.format` names it.
    pub(crate) format: &'static str,
    /// Each with the line feed that ends it.
    pub(crate) entries: Vec<String>,
}

impl Log {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.entries.concat().into_bytes()
    }

    /// The entries that are whole in the first `length` bytes, without their ends.
    pub(crate) fn whole(&self, length: usize) -> Vec<&str> {
        let mut end = 0;
        let is_before = |entry: &&String| {
            end += entry.len();
            end <= length
        };
        self.entries.iter().take_while(is_before).map(|entry| entry.trim_end_matches('\n')).collect()
    }
}

const VAULT: [&str; 2] = [
    r#"{"time":"2024-03-01T10:00:00Z","type":"request","auth":{"display_name":"root","policies":["root"]},"request":{"id":"r1","operation":"update","path":"secret/data/é","remote_address":"192.0.2.1"}}"#,
    r#"{"time":"2024-03-01T10:00:00Z","type":"response","auth":{"display_name":"root"},"request":{"id":"r1","operation":"update","path":"secret/data/é","remote_address":"192.0.2.1"},"response":{}}"#,
];

const CSV: [&str; 2] = [
    "2024-03-01 10:00:00.123 UTC,\"alice\",\"app\",42,\"192.0.2.7:5\",65e1.1,3,\"CREATE TABLE\",2024-03-01 09:59:44 UTC,4/12,7,LOG,00000,\"AUDIT: SESSION,1,1,DDL,CREATE TABLE,TABLE,public.t,\"\"create table t\n(id int);\"\",<none>\",,,,,,,,,\"psql\",\"client backend\",,0",
    "2024-03-01 10:00:01.123 UTC,\"alice\",\"app\",42,\"192.0.2.7:5\",65e1.1,4,\"DROP TABLE\",2024-03-01 09:59:44 UTC,4/12,7,LOG,00000,\"AUDIT: SESSION,2,1,DDL,DROP TABLE,TABLE,public.t,drop table t,<none>\",,,,,,,,,\"psql\",\"client backend\",,0",
];

const JSON_OF_POSTGRESQL: [&str; 2] = [
    r#"{"timestamp":"2024-03-01 10:00:00.123 UTC","user":"alice","dbname":"app","pid":42,"remote_host":"::1","remote_port":5,"error_severity":"LOG","message":"AUDIT: SESSION,2,1,READ,SELECT,,,\"select 1\",none"}"#,
    r#"{"timestamp":"2024-03-01 10:00:01.123 UTC","user":"alice","dbname":"app","pid":42,"remote_host":"::1","remote_port":5,"error_severity":"LOG","message":"AUDIT: SESSION,3,1,DDL,DROP TABLE,TABLE,public.t,drop table t,none"}"#,
];

const APACHE: [&str; 2] = [
    r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326 "http://a.example/" "Mozilla/4.08 \"x\"""#,
    r#"2001:db8::7 - - [10/Oct/2000:13:55:36 +0000] "GET /é HTTP/2.0" 304 0 "-" "a""#,
];

const HAPROXY: [&str; 2] = [
    r#"10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in~ static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu|curl 8} {} "GET /index.html HTTP/1.1""#,
    "10.0.1.2:33312 [06/Feb/2009:12:12:51.443] fnt bck/srv1 0/0/5007 212 -- 0/0/0/0/3 0/0",
];

const ENVOY: [&str; 2] = [
    r#"[2016-04-15T20:17:00.310Z] "POST /api/v1/locations HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "nsq2http" "cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2" "locations" "tcp://10.0.2.1:80""#,
    r#"{"start_time":"2025-12-31T16:37:40.479Z","method":"GET","x-envoy-origin-path":"/admin","response_code":404,"user-agent":"zgrab","downstream_remote_address":"10.0.0.12:59292"}"#,
];

const TRAEFIK: [&str; 2] = [
    r#"192.168.0.2 - bob [26/Jan/2018:10:15:00 +0000] "GET /api HTTP/1.1" 200 414 "-" "curl" 12 "api@docker" "http://172.17.0.3:80" 42ms"#,
    r#"{"ClientHost":"10.0.0.9","ClientUsername":"bob","DownstreamStatus":404,"Duration":250000,"RequestMethod":"GET","RequestPath":"/x?y=1","StartUTC":"2020-10-10T10:10:10.5Z"}"#,
];

const CADDY: [&str; 1] = [
    r#"{"level":"info","ts":1646861401.5,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"127.0.0.1","client_ip":"192.0.2.1","proto":"HTTP/2.0","method":"GET","host":"localhost","uri":"/a?b=1","headers":{"User-Agent":["curl/7"]}},"user_id":"alice","duration":0.1,"size":10900,"status":200}"#,
];

/// As a runtime writes them, the second in two parts.
const CONTAINER: [&str; 3] = [
    r#"2025-12-31T17:37:40.493035218+01:00 stdout F 192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] "GET / HTTP/2.0" 304 0 "-" "a""#,
    "2025-12-31T17:37:41.5+01:00 stdout P 192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] \"GET /lo\n2025-12-31T17:37:41.6+01:00 stdout F ng HTTP/2.0\" 304 0 \"-\" \"a\"",
    r#"{"log":"192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] \"GET / HTTP/2.0\" 304 0 \"-\" \"a\"\n","stream":"stdout","time":"2021-08-24T09:52:13.2Z"}"#,
];

pub(crate) const ENGINE: [&str; 2] = [
    r#"{"status":"start","id":"c1","from":"i","Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{"image":"i","name":"é"}},"scope":"local","time":1700000000,"timeNano":1700000000000000001}"#,
    r#"{"status":"exec_start: sh","Type":"container","Action":"exec_start: sh","Actor":{"ID":"c1","Attributes":{"name":"w"}},"time":1700000001}"#,
];

const KUBERNETES: [&str; 2] = [
    r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/d/pods/p","verb":"delete","user":{"username":"é"},"objectRef":{"resource":"pods","namespace":"d","name":"p","apiVersion":"v1"},"responseStatus":{"code":200},"stageTimestamp":"2024-03-01T10:00:00Z"}"#,
    r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a2","stage":"ResponseComplete","requestURI":"/version","verb":"get","user":{"username":"u"},"responseStatus":{"code":200},"stageTimestamp":"2024-03-01T10:00:00Z"}"#,
];

const AUTH: [&str; 3] = [
    "Mar 11 22:55:30 web-1 sshd[3]: Accepted publickey for alice from 192.0.2.7 port 5 ssh2: ED25519 SHA256:abc",
    "2024-03-01T10:00:00.123456+00:00 web-1 sudo:   alice : TTY=pts/0 ; PWD=/root ; USER=root ; COMMAND=/bin/ls é",
    "<86>1 2024-03-01T10:00:00Z web-1 sshd 7 - - Accepted password for bob from 192.0.2.8 port 6 ssh2",
];

/// As sudo writes its log: one object over lines.
const SUDO: [&str; 2] = [
    "{\n    \"accept\": {\n        \"uuid\": \"u-1\",\n        \"submit_time\": {\n            \"seconds\": 1700000000,\n            \"nanoseconds\": 5\n        },\n        \"submituser\": \"alice\",\n        \"command\": \"/bin/ls\",\n        \"runuser\": \"root\"\n    },",
    "    \"exit\": {\n        \"uuid\": \"u-1\",\n        \"exit_value\": 3\n    }",
];

pub(crate) const EVENTS: [&str; 2] = [
    r#"{"eventSource":"billing.example","eventName":"CreateInvoice","requestParameters":{"customer":"é"}}"#,
    r#"{"eventSource":"billing.example","eventName":"DeleteInvoice"}"#,
];

pub(crate) const CLOUDTRAIL: [&str; 2] = [
    r#"{"eventVersion":"1.11","eventTime":"2024-03-01T10:00:00Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","awsRegion":"dc-local-1","eventID":"7b5e1c1e-0000-4000-8000-000000000001","recipientAccountId":"111122223333","userIdentity":{"type":"Root"}}"#,
    r#"{"eventVersion":"1.11","eventTime":"2024-03-01T10:00:01Z","eventSource":"s3.amazonaws.com","eventName":"PutObject","awsRegion":"dc-local-1","eventID":"7b5e1c1e-0000-4000-8000-000000000002","recipientAccountId":"111122223333","userIdentity":{"type":"Root","userName":"é"}}"#,
];

pub(crate) const SYSLOG: [&str; 4] = [
    "<86>1 2024-03-01T10:00:00Z web-1 sshd 7 - [x@1 a=\"b\\\"]\"] Accepted password for bob from 192.0.2.8 port 6 ssh2",
    "<34>Mar 11 22:55:30 web-1 sshd[3]: Accepted publickey for alice from 192.0.2.7 port 5 ssh2",
    "<189>2948: host: *Mar 11 22:55:30.1 UTC: %SYS-5-CONFIG_I: Configured from console by vty0 (192.0.2.9)",
    "<13>é",
];

/// Of every format, logs of this project's own.
pub(crate) fn own() -> Vec<Log> {
    let log = |name: &str, format, entries: &[&str]| Log {
        name: name.to_owned(),
        format,
        entries: entries.iter().map(|entry| format!("{entry}\n")).collect(),
    };
    vec![
        log("events", "events", &EVENTS),
        log("cloudtrail", "cloudtrail", &CLOUDTRAIL),
        log("kubernetes", "kubernetes", &KUBERNETES),
        log("auth", "syslog", &AUTH),
        log("sudo", "sudo", &SUDO),
        log("vault", "vault", &VAULT),
        log("openbao", "openbao", &VAULT),
        log("pgaudit csv", "postgresql", &CSV),
        log("pgaudit json", "postgresql", &JSON_OF_POSTGRESQL),
        log("apache", "apache", &APACHE),
        log("nginx", "nginx", &APACHE),
        log("haproxy", "haproxy", &HAPROXY),
        log("envoy", "envoy", &ENVOY),
        log("traefik", "traefik", &TRAEFIK),
        log("caddy", "caddy", &CADDY),
        log("containers", "access", &CONTAINER),
        log("docker", "docker", &ENGINE),
        log("podman", "podman", &ENGINE),
        log("json", "json", &EVENTS),
        log("logfmt", "logfmt", &["level=info msg=\"a b\" user=é", "level=warn msg=c"]),
    ]
}

/// Bytes of a fixture of others that are cut: its first entries, at least one.
const SHARED_BYTES_MAX: usize = 1500;

/// Logs of other projects, line by line.
pub(crate) fn shared() -> Vec<Log> {
    let mut logs = Vec::new();
    for (folder, end, format) in [
        ("access_logs", "log", "access"),
        ("containers", "log", "access"),
        ("vault_audit", "log", "vault"),
        ("kubernetes_audit/cluster-log", "log", "kubernetes"),
        ("cloudtrail/streamalert", "jsonl", "cloudtrail"),
        ("auth/crowdsec-hub", "log", "syslog"),
    ] {
        for path in folder_of(folder).map(|folder| files_below(&folder, end)).unwrap_or_default() {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut length = 0;
            let is_first = |line: &&str| {
                length += line.len();
                length <= SHARED_BYTES_MAX.max(line.len())
            };
            let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n') && !line.trim().is_empty());
            let entries: Vec<String> = lines.take_while(is_first).map(|line| line.replace("\r\n", "\n")).collect();
            if !entries.is_empty() {
                logs.push(Log { name: path.display().to_string(), format, entries });
            }
        }
    }
    logs
}

/// A folder of other projects' data; says so where it is not there.
pub(crate) fn folder_of(name: &str) -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let root = std::env::var_os("EDGETRAIL_SHARED_DATA").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let folder = root.join(name);
    if !folder.is_dir() {
        eprintln!("SKIPPED: {} is not there; set EDGETRAIL_SHARED_DATA", folder.display());
        return None;
    }
    Some(folder)
}

pub(crate) fn files_below(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files_below(&path, end));
        } else if path.extension().is_some_and(|extension| extension == end) {
            found.push(path);
        }
    }
    found.sort();
    found
}
