//! A relay whose disk is gone with what home had not got yet: the agent's later events wait, until home is told to forget it;
//! then they are delivered, and a gap names the batches that are lost.

use std::time::Duration;

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::process::{succeed, text};
use edgetrail_tests::wait;
use serde_json::Value;

use crate::regions::{post, posted};
use crate::station::{Station, await_session, send};

#[test]
fn behind_a_lost_relay_events_wait_until_it_is_forgotten_and_a_gap_names_the_hole() {
    let mut home = Deployment::with_one_agent();
    let mut relay = Station::set_up(&home, "lost");
    send(&mut home, 0, &[relay.endpoint()]);
    await_session(&home, 0, &relay.endpoint());
    post(home.socket(), "early", 0..5);
    wait::until("what came through the relay", Duration::from_secs(60), || (posted(&home).len() == 5).then_some(()));

    // Home is away: the relay alone has what follows, and its receipt was final.
    home.kill_collector();
    post(home.socket(), "lost", 0..5);
    wait::until("the relay's receipts", Duration::from_secs(60), || (home.status(0)["buffer"]["records"] == 0).then_some(()));
    relay.lose();
    home.start_collector();
    let ingest = format!("127.0.0.1:{}", home.ingest_port());
    send(&mut home, 0, &[ingest]);
    post(home.socket(), "late", 0..5);
    let listed = || -> Value {
        let output = succeed(home.collector_command().args(["relay", "list", "-o", "json"]));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let waiting = wait::until("the stream to wait", Duration::from_secs(60), || {
        let relay = listed()[0].clone();
        (relay["waiting"].as_array().is_some_and(|waiting| !waiting.is_empty())).then(|| relay["waiting"][0].clone())
    });
    assert!(posted(&home).keys().all(|id| id.starts_with("early")), "nothing behind the hole is delivered");

    succeed(home.collector_command().args(["relay", "forget", relay.name]));
    wait::until("what waited", Duration::from_secs(60), || {
        (posted(&home).keys().filter(|id| id.starts_with("late")).count() == 5).then_some(())
    });
    let gap = wait::until("the gap", Duration::from_secs(60), || {
        let records = delivered::records(&home.trail()).into_iter().map(|(_, record)| record);
        records.into_iter().find(|record| record["eventName"] == "ReportGap" && record.to_string().contains("collector-lost"))
    });
    assert!(gap.to_string().contains(waiting["stream"].as_str().unwrap()), "{gap}");
    assert_eq!(posted(&home).keys().filter(|id| id.starts_with("lost")).count(), 0, "nobody has them any more");
}

#[test]
fn a_forgotten_relay_that_comes_back_brings_what_was_given_up_once() {
    let mut home = Deployment::with_one_agent();
    let mut relay = Station::set_up(&home, "late");
    send(&mut home, 0, &[relay.endpoint()]);
    await_session(&home, 0, &relay.endpoint());
    post(home.socket(), "early", 0..5);
    wait::until("what came through the relay", Duration::from_secs(60), || (posted(&home).len() == 5).then_some(()));
    home.kill_collector();
    post(home.socket(), "held", 0..5);
    wait::until("the relay's receipts", Duration::from_secs(60), || (home.status(0)["buffer"]["records"] == 0).then_some(()));
    relay.kill();
    home.start_collector();
    let ingest = format!("127.0.0.1:{}", home.ingest_port());
    send(&mut home, 0, &[ingest]);
    post(home.socket(), "after", 0..5);
    wait::until("the stream to wait", Duration::from_secs(60), || {
        let output = succeed(home.collector_command().args(["relay", "list", "-o", "json"]));
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        (listed[0]["waiting"].as_array().is_some_and(|waiting| !waiting.is_empty())).then_some(())
    });
    succeed(home.collector_command().args(["relay", "forget", relay.name]));
    let of = |prefix: &str| posted(&home).keys().filter(|id| id.starts_with(prefix)).count();
    wait::until("what waited", Duration::from_secs(60), || (of("after") == 5).then_some(()));
    assert_eq!(of("held"), 0);

    relay.start();
    wait::until("what was given up", Duration::from_secs(90), || (of("held") == 5).then_some(()));
    home.wait_until_all_digested();
    assert!(posted(&home).values().all(|times| *times == 1), "each once");
    let audit = home.verify(&["-o", "json"]);
    let report: Value = serde_json::from_slice(&audit.stdout).unwrap_or_else(|_| panic!("{}", text(&audit)));
    assert_eq!(report["integrity"], true, "{report:#}");
}
