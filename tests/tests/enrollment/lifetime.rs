//! A certificate's life under a live stream: renewed in it, expired while away, revoked.

use std::time::{Duration, Instant};

use edgetrail_tests::deployment::{Deployment, HOME};
use edgetrail_tests::posting::post_one;
use edgetrail_tests::process::{succeed, text};
use edgetrail_tests::wait;
use serde_json::json;

use crate::poster::Poster;

/// Seconds. Half of it is room enough for a renewal on a busy machine.
const LIFE_S: u64 = 8;

/// Source: the promise, a revocation takes effect on live streams.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

fn short_lived(agents: usize) -> Deployment {
    let settings = format!("[pki]\ncertificate_life = \"{LIFE_S}s\"\naccelerated = true\n");
    Deployment::with_collector_settings(&vec![HOME; agents], &settings)
}

#[test]
fn a_session_outlives_its_certificate_three_times_without_connecting_anew() {
    let deployment = short_lived(1);
    let poster = Poster::start(deployment.socket(), "Outlive");
    let began = Instant::now();
    wait::until("three lives of a certificate", Duration::from_secs(LIFE_S * 8), || {
        (began.elapsed() > Duration::from_secs(LIFE_S * 3)).then_some(())
    });
    let count = poster.all_delivered(&deployment.trail());
    let (agent, collector) = (deployment.agent_printed(0), deployment.collector_printed());
    let renewed = collector.matches("the session goes on").count();
    assert_eq!(agent.matches("resumed").count(), 1, "one session:\n{agent}");
    assert_eq!(collector.matches("agent attached").count(), 1, "{collector}");
    assert!(renewed >= 3, "renewed {renewed} times");
    eprintln!("{count} events in one session under {} certificates of {LIFE_S} s", renewed + 1);
}

#[test]
fn an_agent_that_was_away_for_longer_than_its_certificate_lives_comes_back_by_its_key() {
    let mut deployment = short_lived(1);
    let poster = Poster::start(deployment.socket(), "BeforeLeaving");
    wait::until("a first session", Duration::from_secs(20), || deployment.status(0)["uplink"]["connected"].as_str().map(drop));
    poster.all_delivered(&deployment.trail());
    deployment.kill_agent(0);
    let certificate = std::fs::read_to_string(deployment.agent_state(0).join("agent.pem")).unwrap();
    let away = Instant::now();
    wait::until("the certificate to expire", Duration::from_secs(60), || {
        (away.elapsed() > Duration::from_secs(LIFE_S + 2)).then_some(())
    });
    deployment.start_agent(0);
    Poster::start(deployment.socket(), "AfterReturning").all_delivered(&deployment.trail());
    assert_ne!(std::fs::read_to_string(deployment.agent_state(0).join("agent.pem")).unwrap(), certificate);
    let agents = succeed(deployment.collector_command().args(["agents", "list", "-o", "json"]));
    let agents: serde_json::Value = serde_json::from_slice(&agents.stdout).unwrap();
    assert_eq!(agents.as_array().unwrap().len(), 1, "the same agent");
}

/// The stream that a start opens is signed with the certificate that lies there, before any renewal: the collector takes
/// it, and so must whoever verifies.
#[test]
fn an_honest_host_that_starts_with_an_expired_certificate_is_no_broken_one_to_the_auditor() {
    let mut deployment = short_lived(1);
    post_one(deployment.socket(), &json!({"eventSource": "shop.example", "eventName": "BeforeLeaving", "id": "1"}));
    deployment.wait_until_all_digested();
    deployment.stop_agent(0);
    let left = Instant::now();
    wait::until("the certificate to expire", Duration::from_secs(60), || {
        (left.elapsed() > Duration::from_secs(LIFE_S + 2)).then_some(())
    });
    deployment.start_agent(0);
    Poster::start(deployment.socket(), "AfterReturning").all_delivered(&deployment.trail());
    deployment.wait_until_all_digested();
    deployment.stop_agents_and_logging();

    let output = deployment.verify(&["-o", "json"]);
    let said: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    assert_eq!((&said["integrity"], &said["times"]), (&json!(true), &json!(true)), "{said:#}");
    let findings = said["report"]["findings"].as_array().unwrap();
    let told: Vec<_> = findings.iter().filter(|finding| finding["check"] == "open-expired").collect();
    assert_eq!(told.len(), 1, "the stream of the second start: {findings:#?}");
    assert!(told[0]["stream"].is_string() && told[0]["verdict"] == "note", "{told:#?}");
}

#[test]
fn a_revocation_ends_the_live_stream_in_five_seconds_and_only_that_one() {
    let deployment = Deployment::with_collector_settings(&[HOME, HOME], "");
    let (revoked, other) = (Poster::start(deployment.socket_of(0), "Revoked"), Poster::start(deployment.socket_of(1), "Other"));
    wait::until("both sessions", Duration::from_secs(20), || {
        let connected = |agent| deployment.status(agent)["uplink"]["connected"].is_string();
        (connected(0) && connected(1)).then_some(())
    });
    let identity = std::fs::read(deployment.agent_state(0).join("identity.json")).unwrap();
    let identity: serde_json::Value = serde_json::from_slice(&identity).unwrap();
    let agent = identity["agentId"].as_str().unwrap();
    let asked = Instant::now();
    succeed(deployment.collector_command().args(["agents", "revoke", agent]));
    let ended = format!("agent={agent}");
    wait::until("the session's end", Duration::from_secs(20), || {
        let printed = deployment.collector_printed();
        printed.lines().any(|line| line.contains("revoked") && line.contains(&ended)).then_some(())
    });
    let took = asked.elapsed();
    eprintln!("revoked in {took:?}, the command included");
    assert!(took <= REVOKED_WITHIN, "{took:?}");
    // It is let in no more, and goes on capturing; the other one has noticed nothing.
    wait::until("the refused handshake", Duration::from_secs(20), || {
        deployment.status(0)["uplink"]["trouble"].as_str().map(str::to_owned)
    });
    assert!(!deployment.status(0)["uplink"]["connected"].is_string());
    other.all_delivered(&deployment.trail());
    assert_eq!(deployment.agent_printed(1).matches("resumed").count(), 1);
    drop(revoked);
}
