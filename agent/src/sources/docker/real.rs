//! Real containerd, of the system's package, with a state directory of its own: `tests/setup` installs it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::*;
use crate::normalize::names::Names;
use crate::normalize::{Host, Made, Normalizer, audit};
use crate::observation::{Outlet, intake};

const PATIENCE: Duration = Duration::from_secs(60);

struct Daemon {
    process: Child,
    dir: tempfile::TempDir,
}

impl Daemon {
    /// None where it is not to run: EDGETRAIL_SKIP_CONTAINERD=1. Without that, not being root is a failure.
    fn start() -> Option<Self> {
        if std::env::var_os("EDGETRAIL_SKIP_CONTAINERD").is_some_and(|value| value == "1") {
            eprintln!("SKIPPED: no real containerd is tried, because EDGETRAIL_SKIP_CONTAINERD=1");
            return None;
        }
        assert!(
            rustix::process::geteuid().is_root(),
            "a real containerd needs root: run as root, or set EDGETRAIL_SKIP_CONTAINERD=1"
        );
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
            place("root"),
            place("state"),
            place("c.sock")
        );
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        let mut daemon = Self { process: Self::spawn(dir.path()), dir };
        daemon.wait();
        Some(daemon)
    }

    fn spawn(dir: &Path) -> Child {
        let mut command = Command::new("containerd");
        command.arg("-c").arg(dir.join("config.toml")).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap_or_else(|error| panic!("containerd does not start ({error}): run `make setup`"))
    }

    fn wait(&mut self) {
        let begun = std::time::Instant::now();
        while !self.try_ctr(&["version"]).status.success() {
            assert!(begun.elapsed() < PATIENCE && self.process.try_wait().unwrap().is_none(), "containerd does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("c.sock")
    }

    fn try_ctr(&self, words: &[&str]) -> Output {
        Command::new("ctr").arg("-a").arg(self.socket()).args(["-n", "shop"]).args(words).output().unwrap()
    }

    fn ctr(&self, words: &[&str]) {
        let output = self.try_ctr(words);
        assert!(output.status.success(), "ctr {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn stop(&mut self) {
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // What a failed test left running outlives its daemon.
        let _gone = self.try_ctr(&["task", "rm", "-f", &format!("edgetrail-{}", std::process::id())]);
        self.stop();
    }
}

/// The records of what comes, until one of this name; cursors are committed.
async fn records_until(outlet: &mut Outlet, cursors: &mut Vec<Cursor>, name: &str) -> Vec<Value> {
    let mut normalizer = Normalizer::new(Host::for_tests(), audit::Decoder::default(), Names::default());
    let mut records: Vec<Value> = Vec::new();
    while records.last().is_none_or(|record| record["eventName"] != name) {
        let names: Vec<_> = records.iter().map(|record| record["eventName"].clone()).collect();
        let next = tokio::time::timeout(PATIENCE, outlet.recv()).await;
        for mut observation in next.unwrap_or_else(|_| panic!("no {name} after {names:?}")).unwrap() {
            *cursors = observation.cursor.take().into_iter().collect();
            for draft in normalizer.normalize(&observation) {
                let Made::Record(record) = draft.record else { panic!("not made here") };
                records.push(serde_json::from_slice(&record.to_json()).unwrap());
            }
        }
    }
    records
}

#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
#[tokio::test(flavor = "multi_thread")]
async fn real_containerds_events_are_recorded_and_an_interruption_is_a_gap() {
    let Some(daemon) = Daemon::start() else { return };
    let config = Config { containerd: vec![daemon.socket()], ..Config::default() };
    let (intake_of_first, mut outlet) = intake();
    let stop = CancellationToken::new();
    let mut cursors = Vec::new();
    let first = tokio::spawn(run(config.clone(), Vec::new(), Images::default(), intake_of_first, stop.clone()));
    // Subscribed: the first thing that is sent says from when on.
    let group = tokio::time::timeout(PATIENCE, outlet.recv()).await.unwrap().unwrap();
    assert!(matches!(group[0].payload, Payload::Nothing), "the first start is no interruption");
    let rootfs = daemon.dir.path().join("rootfs");
    std::fs::create_dir(&rootfs).unwrap();
    let rootfs = rootfs.display().to_string();
    daemon.ctr(&["namespaces", "create", "shop"]);
    daemon.ctr(&[
        "containers",
        "create",
        "--rootfs",
        "--env",
        "DB_PASSWORD=x",
        "--privileged",
        &rootfs,
        "web1",
        "/bin/serve",
        "--all",
    ]);
    daemon.ctr(&["containers", "delete", "web1"]);
    let records = records_until(&mut outlet, &mut cursors, "DeleteContainer").await;
    let names: Vec<&str> = records.iter().map(|record| record["eventName"].as_str().unwrap()).collect();
    assert_eq!(names, ["CreateNamespace", "CreateContainer", "DeleteContainer"]);
    let created = &records[1];
    assert_eq!(
        (&created["eventSource"], &created["requestParameters"]["namespace"]),
        (&json!("containerd.containerd"), &json!("shop"))
    );
    assert_eq!(created["requestParameters"]["inspect"]["command"], json!(["/bin/serve", "--all"]));
    assert!(created["requestParameters"]["inspect"]["capabilities"].as_array().unwrap().len() > 30, "{created:#}");
    assert!(created["resources"][0]["ARN"].as_str().unwrap().ends_with(":shop/container/web1"), "{created:#}");
    stop.cancel();
    while outlet.recv().await.is_some() {}
    first.await.unwrap().unwrap();
    // Nobody is subscribed: this is lost to everybody, and said.
    daemon.ctr(&["containers", "create", "--rootfs", &rootfs, "web2", "/bin/serve"]);
    let (intake, mut outlet) = intake();
    let stop = CancellationToken::new();
    let second = tokio::spawn(run(config, cursors.clone(), Images::default(), intake, stop.clone()));
    let records = records_until(&mut outlet, &mut cursors, "ReportGap").await;
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0]["requestParameters"]["count"], Value::Null);
    daemon.ctr(&["containers", "delete", "web2"]);
    records_until(&mut outlet, &mut cursors, "DeleteContainer").await;
    stop.cancel();
    while outlet.recv().await.is_some() {}
    second.await.unwrap().unwrap();
}

/// A root file system with `sleep` and the libraries that it needs.
fn rootfs(folder: &Path) {
    let listed = Command::new("ldd").arg("/bin/sleep").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain(["/bin/sleep"]) {
        let place = folder.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(file, place).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_in_a_real_container_is_told_under_dockers_names() {
    let Some(daemon) = Daemon::start() else { return };
    let config = Config { containerd: vec![daemon.socket()], inspect: false, ..Config::default() };
    let (intake, mut outlet) = intake();
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(config, Vec::new(), Images::default(), intake, stop.clone()));
    tokio::time::timeout(PATIENCE, outlet.recv()).await.unwrap().unwrap();
    let folder = daemon.dir.path().join("rootfs");
    rootfs(&folder);
    // Its name is one on this whole machine: runc keeps its state in one place.
    let id = format!("edgetrail-{}", std::process::id());
    daemon.ctr(&["run", "-d", "--null-io", "--rootfs", &folder.display().to_string(), &id, "/bin/sleep", "1000"]);
    daemon.ctr(&["task", "exec", "--exec-id", "e1", &id, "/bin/sleep", "0"]);
    let mut cursors = Vec::new();
    let mut records = records_until(&mut outlet, &mut cursors, "EndCommand").await;
    daemon.ctr(&["task", "pause", &id]);
    daemon.ctr(&["task", "resume", &id]);
    daemon.ctr(&["task", "kill", "-s", "9", &id]);
    records.extend(records_until(&mut outlet, &mut cursors, "DieContainer").await);
    daemon.ctr(&["task", "rm", "-f", &id]);
    daemon.ctr(&["containers", "rm", &id]);
    records.extend(records_until(&mut outlet, &mut cursors, "DeleteContainer").await);
    let names: Vec<&str> = records.iter().map(|record| record["eventName"].as_str().unwrap()).collect();
    let expected = [
        "CreateContainer",
        "CreateTask",
        "StartContainer",
        "PrepareCommand",
        "RunCommand",
        "EndCommand",
        "PauseContainer",
        "UnpauseContainer",
        "DieContainer",
        "DeleteTask",
        "DeleteContainer",
    ];
    assert_eq!(names, expected, "{records:#?}");
    assert_eq!(records[4]["requestParameters"]["exec"], "e1");
    assert_eq!(records[8]["requestParameters"]["exitStatus"], 137);
    assert_eq!(records[8]["userIdentity"]["invokedBy"], "containerd.containerd");
    stop.cancel();
    while outlet.recv().await.is_some() {}
    task.await.unwrap().unwrap();
}
