//! What `make run` starts: collector and agent on this machine, loopback only, and what it prints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edgetrail_tests::aws::Client;
use edgetrail_tests::delivered;
use edgetrail_tests::port::free_port;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::process::{Process, binary};
use edgetrail_tests::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

struct Quickstart {
    process: Process,
    dir: PathBuf,
}

impl Quickstart {
    fn start(dir: &Path, ports: (u16, u16), log: &str) -> Self {
        let mut command = Command::new(binary("edgetrail-collector"));
        command.arg("quickstart").arg("--dir").arg(dir.join("state"));
        command.args(["--api-port", &ports.0.to_string(), "--ingest-port", &ports.1.to_string()]);
        let process = Process::start("quickstart", &mut command, &dir.join(log));
        let mut started = Self { process, dir: dir.join("state") };
        wait::until("the welcome", Duration::from_secs(60), || {
            assert!(started.process.running(), "quickstart ended: {}", started.process.printed());
            started.process.printed().contains("Ctrl-C stops both").then_some(())
        });
        started
    }

    /// What `source env.sh` would set.
    fn environment(&self) -> BTreeMap<String, String> {
        let script = std::fs::read_to_string(self.dir.join("env.sh")).unwrap();
        let exports = script.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        exports.map(|(name, value)| (name.to_owned(), value.trim_matches(['\'', '"']).to_owned())).collect()
    }

    fn lookup(&self, name: &str) -> Vec<Value> {
        let mut environment = self.environment();
        let mut take = |name: &str| environment.remove(name).unwrap_or_else(|| panic!("env.sh sets no {name}"));
        let client = Client {
            endpoint: take("AWS_ENDPOINT_URL"),
            s3_endpoint: None,
            region: take("AWS_DEFAULT_REGION"),
            access_key: take("AWS_ACCESS_KEY_ID"),
            secret: take("AWS_SECRET_ACCESS_KEY"),
            ca_bundle: Some(take("AWS_CA_BUNDLE").into()),
        };
        let attribute = format!("AttributeKey=EventName,AttributeValue={name}");
        let answer = client.json(&["cloudtrail", "lookup-events", "--lookup-attributes", &attribute]);
        answer["Events"].as_array().cloned().unwrap_or_default()
    }

    fn post(&self, name: &str) {
        let socket = PathBuf::from(&self.environment()["EDGETRAIL_SOCKET"]);
        post_one(&socket, &json!({"eventSource": "demo.example", "eventName": name}));
    }
}

/// Local addresses of all TCP sockets that listen in a process, as /proc/net writes them.
fn listening(pid: u32) -> Vec<String> {
    let mut inodes = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        inodes.extend(target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')).map(str::to_owned));
    }
    const LISTEN: &str = "0A";
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1)).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let ours =
        rows.filter(|row| row.get(3) == Some(&LISTEN) && row.get(9).is_some_and(|inode| inodes.iter().any(|own| own == inode)));
    ours.map(|row| row[1].to_owned()).collect()
}

#[test]
fn it_says_what_is_captured_listens_on_loopback_alone_and_goes_on_with_the_same_trail() {
    let dir = tempfile::Builder::new().prefix("edgetrail-").tempdir().unwrap();
    let ports = (free_port(), free_port());
    let first = Quickstart::start(dir.path(), ports, "first.log");
    let welcome = first.process.printed();
    for source in ["audit", "journal", "file", "api"] {
        let line = welcome
            .lines()
            .find(|line| line.trim_start().starts_with(source))
            .unwrap_or_else(|| panic!("no {source} in {welcome}"));
        let (state, reason) = line.trim_start()[source.len()..].trim_start().split_once(' ').unwrap();
        assert!(state == "on" || state == "off" && !reason.trim().is_empty(), "{line}");
    }
    for said in [
        "aws cloudtrail lookup-events",
        "aws cloudtrail validate-logs",
        "curl --unix-socket",
        "edgetrail-verify trail",
        "AWSLogs",
    ] {
        assert!(welcome.contains(said), "no `{said}` in {welcome}");
    }
    let listens = listening(first.process.id());
    assert_eq!(listens.len(), 2, "{listens:?}");
    // 127.0.0.1 in the kernel's byte order.
    assert!(listens.iter().all(|address| address.starts_with("0100007F:")), "{listens:?}");

    first.post("BeforeTheStop");
    wait::until("the event to be looked up", Duration::from_secs(30), || {
        (!first.lookup("BeforeTheStop").is_empty()).then_some(())
    });
    let status = first.process.stop_by(Signal::INT);
    assert!(status.success(), "Ctrl-C: {status}");

    let second = Quickstart::start(dir.path(), ports, "second.log");
    assert_eq!(second.lookup("BeforeTheStop").len(), 1, "the trail of the first run is gone");
    second.post("AfterTheStop");
    wait::until("both events in log files", Duration::from_secs(60), || {
        let records = delivered::records(&second.dir.join("trail"));
        let demo = records.iter().filter(|(_, record)| record["eventSource"] == "demo.example").count();
        (demo == 2).then_some(())
    });
}
