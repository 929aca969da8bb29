//! A clone behind relays: wherever the two parties are attached, home finds the fork, keeps both branches, and everybody
//! hears of it; the rightful one joins again and goes on through its relay.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::process::{binary, succeed, text};
use edgetrail_tests::wait;
use serde_json::Value;

use crate::regions::{post, posted};
use crate::station::{Station, await_session, send};

const PATIENCE: Duration = Duration::from_secs(120);

/// The one fork that home lists.
fn listed(home: &Deployment) -> Option<Value> {
    let output = succeed(home.collector_command().args(["evidence", "list", "-o", "json"]));
    let forks: Value = serde_json::from_slice(&output.stdout).unwrap();
    forks[0].is_object().then(|| forks[0].clone())
}

/// The exported evidence, and what `edgetrail-verify fork` says of it.
fn exported(home: &Deployment) -> (Value, String) {
    let fork = listed(home).unwrap();
    let id = fork["stream"].as_str().or(fork["agent"].as_str()).unwrap();
    let file = home.dir().join("fork.json");
    succeed(home.collector_command().args(["evidence", "export", id, "-o"]).arg(&file));
    let roots = home.collector_state().join("pki/roots.pem");
    let verified = Command::new(binary("edgetrail-verify")).arg("fork").arg(&file).arg("--ca").arg(roots).output().unwrap();
    (serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap(), text(&verified))
}

/// Ids of posted events among the records that are kept as evidence.
fn kept(evidence: &Value) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for batch in evidence["later"].as_array().unwrap() {
        for record in batch["records"].as_array().cloned().unwrap_or_default() {
            let bytes = BASE64.decode(record.as_str().unwrap()).unwrap();
            let record: Value = serde_json::from_slice(&bytes).unwrap();
            ids.extend(record["requestParameters"]["generated"].as_str().map(str::to_owned));
        }
    }
    ids
}

/// Everything with these prefixes is delivered or kept as evidence.
fn await_accounted(home: &Deployment, prefixes: &[&str], each: usize) {
    wait::until("both branches at home", PATIENCE, || {
        listed(home)?;
        let mut ids = kept(&exported(home).0);
        ids.extend(posted(home).into_keys());
        let count = |prefix: &&str| ids.iter().filter(|id| id.starts_with(*prefix)).count();
        prefixes.iter().all(|prefix| count(prefix) == each).then_some(())
    });
}

fn await_told(home: &Deployment, agent: usize) {
    wait::until(&format!("FORK at agent {agent}"), PATIENCE, || home.agent_printed(agent).contains("two branches").then_some(()));
}

fn await_nothing_owed(relay: &Station) {
    wait::until(&format!("nothing owed by {}", relay.name), PATIENCE, || {
        let output = succeed(relay.command().args(["relay", "status", "-o", "json"]));
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        (status["owing"]["batches"] == 0 && status["connectedSince"].is_string()).then_some(())
    });
}

fn judge(home: &Deployment) {
    let page = exported(home).1;
    assert!(page.contains("PROVEN: ") || page.contains("is the collector's word"), "{page}");
    home.wait_until_all_digested();
    assert!(posted(home).values().all(|times| *times == 1), "each once");
    let audit = home.verify(&["-o", "json"]);
    let report: Value = serde_json::from_slice(&audit.stdout).unwrap_or_else(|_| panic!("{}", text(&audit)));
    // Where the other branch came home first, what the rightful agent's new stream follows is in the evidence, and the auditor
    // is sent there.
    let findings = report["report"]["findings"].as_array().unwrap();
    let altered = findings.iter().filter(|finding| finding["verdict"] == "integrity" && finding["check"] != "stream-previous");
    assert_eq!(altered.count(), 0, "{findings:#?}");
    assert!(findings.iter().all(|finding| finding["check"] != "receipt-unknown"), "{findings:#?}");
}

#[test]
fn a_clone_at_another_relay_is_found_at_home_and_the_rightful_agent_goes_on_through_its_own() {
    let mut home = Deployment::with_one_agent();
    let (near, far) = (Station::set_up(&home, "near"), Station::set_up(&home, "far"));
    send(&mut home, 0, &[near.endpoint()]);
    await_session(&home, 0, &near.endpoint());
    post(home.socket(), "before", 0..5);
    wait::until("what came before", PATIENCE, || (posted(&home).len() == 5).then_some(()));
    home.kill_agent(0);
    let clone = home.clone_agent(0);
    home.start_agent(0);
    await_session(&home, 0, &near.endpoint());
    home.start_agent(clone);
    send(&mut home, clone, &[far.endpoint()]);
    // Several batches each, of different lengths: neither chain ends where the other does.
    for round in 0..3 {
        post(home.socket_of(0), "right", round * 2..round * 2 + 2);
    }
    post(home.socket_of(clone), "clone", 0..6);
    await_told(&home, 0);
    await_told(&home, clone);
    await_accounted(&home, &["before"], 5);
    home.kill_agent(clone);
    home.rejoin_agent(0);
    post(home.socket_of(0), "after", 0..5);
    wait::until("what came after", PATIENCE, || {
        (posted(&home).keys().filter(|id| id.starts_with("after")).count() == 5).then_some(())
    });
    await_session(&home, 0, &near.endpoint());
    await_accounted(&home, &["right"], 6);
    await_nothing_owed(&near);
    await_nothing_owed(&far);
    judge(&home);
}

#[test]
fn a_fork_that_a_relay_finds_while_home_is_away_is_proven_at_home() {
    let mut home = Deployment::with_one_agent();
    let relay = Station::set_up(&home, "finder");
    send(&mut home, 0, &[relay.endpoint()]);
    await_session(&home, 0, &relay.endpoint());
    post(home.socket(), "before", 0..5);
    wait::until("what came before", PATIENCE, || (posted(&home).len() == 5).then_some(()));
    home.kill_agent(0);
    home.kill_collector();
    let clone = home.clone_agent(0);
    home.start_agent(0);
    post(home.socket_of(0), "right", 0..5);
    wait::until("the relay's receipts", PATIENCE, || (home.status(0)["buffer"]["records"] == 0).then_some(()));
    home.start_agent(clone);
    await_told(&home, clone);
    let fork = succeed(relay.command().args(["evidence", "list", "-o", "json"]));
    assert!(serde_json::from_slice::<Value>(&fork.stdout).unwrap()[0].is_object(), "the relay keeps it");

    home.start_collector();
    wait::until("the fork at home", PATIENCE, || listed(&home));
    await_told(&home, 0);
    let noticed = wait::until("the relay's word of it", PATIENCE, || {
        let records = delivered::records(&home.trail()).into_iter().map(|(_, record)| record);
        records
            .into_iter()
            .find(|record| record["requestParameters"]["noticedBy"] == "finder" && record["eventName"] == "DetectFork")
    });
    assert_eq!(noticed["requestParameters"]["agent"], listed(&home).unwrap()["agent"], "{noticed:#}");
    home.kill_agent(clone);
    // Joins again at the relay: home decides, the relay hears of it.
    home.rejoin_agent_at(0, Some(&relay.url()));
    post(home.socket_of(0), "after", 0..5);
    wait::until("what came after", PATIENCE, || {
        (posted(&home).keys().filter(|id| id.starts_with("after")).count() == 5).then_some(())
    });
    await_session(&home, 0, &relay.endpoint());
    await_accounted(&home, &["right"], 5);
    await_nothing_owed(&relay);
    judge(&home);
}
