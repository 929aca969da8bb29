//! A home that is an older copy of itself: relays bring again what it has forgotten, and what nobody can bring is named.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::process::{succeed, text};
use edgetrail_tests::wait;
use serde_json::Value;

use crate::regions::{post, posted};
use crate::station::{Station, await_session, send};

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).unwrap();
    }
    succeed(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// State and trail of home, which does not run.
fn keep(home: &Deployment) {
    for part in ["collector", "trail"] {
        copy(&home.dir().join(part), &home.dir().join(format!("{part}.kept")));
    }
}

fn restore(home: &Deployment) {
    for part in ["collector", "trail"] {
        copy(&home.dir().join(format!("{part}.kept")), &home.dir().join(part));
    }
}

fn await_posted(home: &Deployment, prefix: &str, count: usize) {
    wait::until(&format!("{count} events {prefix}"), Duration::from_secs(120), || {
        (posted(home).keys().filter(|id| id.starts_with(prefix)).count() == count).then_some(())
    });
}

fn verify(home: &Deployment) {
    home.wait_until_all_digested();
    assert!(posted(home).values().all(|times| *times == 1), "each once");
    let audit = home.verify(&["-o", "json"]);
    let report: Value = serde_json::from_slice(&audit.stdout).unwrap_or_else(|_| panic!("{}", text(&audit)));
    assert_eq!(report["integrity"], true, "{report:#}");
}

#[test]
fn a_relay_brings_again_what_a_restored_home_has_forgotten_though_its_agent_is_gone() {
    let mut home = Deployment::with_one_agent();
    let relay = Station::set_up(&home, "memory");
    send(&mut home, 0, &[relay.endpoint()]);
    await_session(&home, 0, &relay.endpoint());
    post(home.socket(), "early", 0..5);
    await_posted(&home, "early", 5);
    home.kill_collector();
    keep(&home);
    home.start_collector();
    post(home.socket(), "late", 0..5);
    await_posted(&home, "late", 5);
    // Nobody is left who would come by with anything new: the relay has home's receipt for all of it.
    home.kill_agent(0);
    home.kill_collector();
    restore(&home);
    home.start_collector();
    await_posted(&home, "late", 5);
    let printed = home.collector_printed();
    assert!(printed.contains("new receipt key"), "indexes are not given out twice under one key:\n{printed}");
    // And the stream goes on where it was.
    home.start_agent(0);
    post(home.socket(), "after", 0..5);
    await_posted(&home, "after", 5);
    verify(&home);
}

#[test]
fn a_restored_home_names_exactly_what_was_lost_with_a_relay() {
    let mut home = Deployment::with_one_agent();
    let mut relay = Station::set_up(&home, "gone");
    send(&mut home, 0, &[relay.endpoint()]);
    await_session(&home, 0, &relay.endpoint());
    post(home.socket(), "early", 0..5);
    await_posted(&home, "early", 5);
    home.kill_collector();
    keep(&home);
    home.start_collector();
    post(home.socket(), "lost", 0..5);
    await_posted(&home, "lost", 5);
    wait::until("the relay's receipts", Duration::from_secs(60), || (home.status(0)["buffer"]["records"] == 0).then_some(()));
    home.kill_agent(0);
    home.kill_collector();
    relay.lose();
    restore(&home);
    home.start_collector();
    let ingest = format!("127.0.0.1:{}", home.ingest_port());
    std::fs::write(home.dir().join("agent-0/agent.d/uplink.toml"), format!("[uplink]\ncollectors = [\"{ingest}\"]\n")).unwrap();
    home.start_agent(0);
    post(home.socket(), "after", 0..5);
    let listed = |home: &Deployment| -> Value {
        let output = succeed(home.collector_command().args(["relay", "list", "-o", "json"]));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let waiting = wait::until("the stream to wait", Duration::from_secs(60), || {
        let relay = listed(&home)[0].clone();
        relay["waiting"].as_array().filter(|waiting| !waiting.is_empty()).map(|waiting| waiting[0].clone())
    });
    succeed(home.collector_command().args(["relay", "forget", relay.name]));
    await_posted(&home, "after", 5);
    let gap = wait::until("the gap", Duration::from_secs(60), || {
        let records = edgetrail_tests::delivered::records(&home.trail()).into_iter().map(|(_, record)| record);
        records.into_iter().find(|record| record["requestParameters"]["cause"] == "collector-lost")
    });
    let (said, missing) = (&gap["requestParameters"], &waiting);
    assert_eq!((&said["stream"], &said["fromBatch"]), (&missing["stream"], &missing["fromBatch"]), "{gap:#}");
    assert_eq!((&said["toBatch"], &said["count"], &said["exact"]), (&missing["toBatch"], &5.into(), &true.into()), "{gap:#}");
    verify(&home);
}
