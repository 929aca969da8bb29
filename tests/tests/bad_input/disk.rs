//! A full disk under the agent: nothing that was answered is lost, what is refused is told when to come back.
//!
//! Needs root, to mount one; skipped only by EDGETRAIL_SKIP_MOUNT=1.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::posting::{Answer, Caller};
use edgetrail_tests::process::succeed;
use edgetrail_tests::skip;
use edgetrail_tests::wait;
use serde_json::{Value, json};

/// A file system of 2 MB; unmounted when dropped.
struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    fn mount(dir: &Path) -> Self {
        succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(dir));
        Self { dir: dir.to_owned() }
    }

    /// Takes everything that is left.
    fn fill(&self) -> PathBuf {
        let ballast = self.dir.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        let full = std::io::copy(&mut std::io::repeat(b'x'), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        match Command::new("umount").arg("--lazy").arg(&self.dir).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("{} remains mounted: {other:?}", self.dir.display()),
        }
    }
}

/// Posts one event with this id and some bulk.
fn post(caller: &mut Caller, id: usize) -> Answer {
    let bulk: String = (0..4096).map(|at| char::from(b'a' + u8::try_from((id * 31 + at * at) % 26).unwrap())).collect();
    let event =
        json!({"eventSource": "disk.example", "eventName": "Fill", "id": format!("{id}"), "requestParameters": {"bulk": bulk}});
    caller.post(event.to_string().as_bytes()).unwrap()
}

fn event_ids(answer: &Answer) -> Vec<String> {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    body["eventIDs"].as_array().unwrap().iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[test]
fn a_full_disk_refuses_with_a_time_and_loses_nothing_that_was_answered() {
    if skip::unless_root("EDGETRAIL_SKIP_MOUNT", "a file system of 2 MB that fills up") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(dir.path());
    let settings =
        format!("[agent]\nstate_dir = \"{}\"\n[buffer]\nmin_free_bytes = \"256KiB\"\n", dir.path().join("state").display());
    let mut deployment = Deployment::with_settings(&settings);
    let mut caller = Caller::connect(deployment.socket()).unwrap();
    let mut answered = BTreeSet::new();
    answered.extend(event_ids(&post(&mut caller, 0)));

    // Nothing leaves the buffer from here on.
    deployment.kill_collector();
    let mut id = 1;
    let refused = loop {
        assert!(id < 5_000, "2 MB hold no 20 MB");
        let answer = post(&mut caller, id);
        id += 1;
        match answer.status {
            200 => answered.extend(event_ids(&answer)),
            _ => break answer,
        }
    };
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.retry_after_s.is_some(), "503 tells when to come back");
    eprintln!("{} events were taken before the disk was full", answered.len());
    assert!(answered.len() > 20, "2 MB hold more than {} events", answered.len());

    // Not even the reserve is left.
    let ballast = disk.fill();
    let answer = post(&mut caller, id);
    assert_eq!((answer.status, answer.retry_after_s.is_some()), (503, true), "{}", answer.body);
    let printed = deployment.agent_printed(0);
    assert!(printed.contains("free space on its disk"), "the log says what to do");

    fs::remove_file(ballast).unwrap();
    deployment.start_collector();
    let taken = wait::until("room again", Duration::from_secs(60), || {
        Some(post(&mut caller, 1_000_000)).filter(|answer| answer.status == 200)
    });
    answered.extend(event_ids(&taken));

    deployment.stop_agents_and_logging();
    let mut delivered: Vec<String> = delivered::records(&deployment.trail())
        .into_iter()
        .filter(|(_, record)| record["eventName"] == "Fill")
        .map(|(_, record)| record["eventID"].as_str().unwrap().to_owned())
        .collect();
    delivered.sort();
    let once: BTreeSet<String> = delivered.iter().cloned().collect();
    assert_eq!(delivered.len(), once.len(), "each is delivered once");
    let missing: Vec<&String> = answered.difference(&once).collect();
    assert!(missing.is_empty(), "answered and not delivered: {missing:?}");
}
