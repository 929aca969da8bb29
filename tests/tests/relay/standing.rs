//! How a relay stands with home, as either side shows it.

use std::process::Command;
use std::time::Duration;

use edgetrail_tests::deployment::{Deployment, HOME};
use edgetrail_tests::process::{succeed, text};
use edgetrail_tests::wait;
use serde_json::Value;

use crate::regions::{post, posted};
use crate::station::{Station, await_session};

const PATIENCE: Duration = Duration::from_secs(60);

fn json(command: &mut Command) -> Value {
    let output = succeed(command);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

#[test]
fn both_sides_show_since_when_they_talk_and_what_is_owed() {
    let mut home = Deployment::with_collector_settings(&[], "");
    let relay = Station::set_up(&home, "shown");
    let agent = home.join_agent_at(HOME, &relay.url());
    await_session(&home, agent, &relay.endpoint());
    post(home.socket_of(agent), "first", 0..3);
    wait::until("the first at home", PATIENCE, || (posted(&home).len() == 3).then_some(()));
    let listed = |home: &Deployment| json(home.collector_command().args(["relay", "list", "-o", "json"]))[0].clone();
    let status = || json(relay.command().args(["relay", "status", "-o", "json"]));
    let before = wait::until("the relay's standing at home", PATIENCE, || {
        let listed = listed(&home);
        let settled = listed["owing"] == 0 && listed["lastReceipt"].is_string() && listed["connectedSince"].is_string();
        settled.then_some(listed)
    });
    wait::until("nothing owed", PATIENCE, || {
        let status = status();
        (status["owing"]["batches"] == 0 && status["connectedSince"].is_string()).then_some(())
    });

    home.kill_collector();
    post(home.socket_of(agent), "second", 0..3);
    let status = wait::until("what is owed", PATIENCE, || {
        let status = status();
        (status["connectedSince"].is_null() && status["owing"]["batches"].as_u64() >= Some(1)).then_some(status)
    });
    assert_eq!(status["owing"]["agents"].as_array().unwrap().len(), 1, "{status:#}");
    let check = relay.command().args(["check", "-o", "json"]).output().unwrap();
    assert!(check.status.success(), "{}", text(&check));
    let found = String::from_utf8_lossy(&check.stdout).into_owned();
    let finding = found.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|line| line["what"] == "home");
    let finding = finding.unwrap_or_else(|| panic!("{found}"));
    assert_eq!(finding["verdict"], "warning", "{finding:#}");
    assert!(finding["text"].as_str().unwrap().contains("owing"), "{finding:#}");
    assert!(text(&succeed(relay.command().args(["relay", "status"]))).contains("not connected"));

    home.start_collector();
    wait::until("the second at home", PATIENCE, || (posted(&home).len() == 6).then_some(()));
    wait::until("the new standing", PATIENCE, || {
        let after = listed(&home);
        let moved = |member: &str| after[member].as_str() > before[member].as_str();
        (moved("connectedSince") && moved("lastReceipt") && after["owing"] == 0).then_some(())
    });
    let page = text(&succeed(home.collector_command().args(["relay", "list"])));
    assert!(page.contains("AGENTS OWING") && page.contains("shown"), "{page}");
}
