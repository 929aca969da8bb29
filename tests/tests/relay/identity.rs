//! Identity for life through a relay: joining, renewing, being revoked, a root that is replaced. Home decides, the relay
//! that an agent is attached to lives by it.

use std::process::Command;
use std::time::{Duration, Instant};

use edgetrail_tests::deployment::{Deployment, HOME};
use edgetrail_tests::load::Load;
use edgetrail_tests::process::{succeed, text};
use edgetrail_tests::wait;
use serde_json::Value;

use crate::regions::{post, posted};
use crate::station::{Station, await_session};

/// Seconds. Half of it is room enough for a renewal on a busy machine.
const LIFE_S: u64 = 12;

/// Source: the promise, a revocation takes effect on live streams.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

const SHORT_LIVED: &str = "[pki]\ncertificate_life = \"12s\"\naccelerated = true\n";

fn json(command: &mut Command) -> Value {
    let output = succeed(command);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

fn agent_id(home: &Deployment, agent: usize) -> String {
    let identity = std::fs::read(home.agent_state(agent).join("identity.json")).unwrap();
    let identity: Value = serde_json::from_slice(&identity).unwrap();
    identity["agentId"].as_str().unwrap().to_owned()
}

#[test]
fn an_agent_that_joins_through_a_relay_sends_there_first_and_to_home_when_it_is_gone() {
    let mut home = Deployment::with_collector_settings(&[], "");
    let mut relay = Station::set_up(&home, "door");
    let agent = home.join_agent_at(HOME, &relay.url());
    await_session(&home, agent, &relay.endpoint());
    post(home.socket_of(agent), "through", 0..10);
    wait::until("what came through the relay", Duration::from_secs(60), || (posted(&home).len() == 10).then_some(()));
    relay.kill();
    await_session(&home, agent, &format!("127.0.0.1:{}", home.ingest_port()));
    post(home.socket_of(agent), "direct", 0..10);
    wait::until("what came without it", Duration::from_secs(60), || (posted(&home).len() == 20).then_some(()));
    assert!(posted(&home).values().all(|times| *times == 1), "each once");
}

#[test]
fn certificates_of_agent_and_relay_are_renewed_through_three_lives_in_one_session() {
    let mut home = Deployment::with_collector_settings(&[], SHORT_LIVED);
    let relay = Station::set_up(&home, "renewing");
    let agent = home.join_agent_at(HOME, &relay.url());
    await_session(&home, agent, &relay.endpoint());
    let load = Load::start(&home);
    let began = Instant::now();
    wait::until("three lives of a certificate", Duration::from_secs(LIFE_S * 8), || {
        (began.elapsed() > Duration::from_secs(LIFE_S * 3)).then_some(())
    });
    load.finish(&home).judge(0);
    let (agent_log, relay_log) = (home.agent_printed(agent), relay.printed());
    assert_eq!(agent_log.matches("resumed").count(), 1, "one session:\n{agent_log}");
    assert!(relay_log.matches("the session goes on").count() >= 3, "{relay_log}");
    assert!(relay_log.matches("certificate renewed\n").count() >= 3, "the relay's own too: {relay_log}");
}

#[test]
fn an_agent_revoked_at_home_is_cut_off_at_a_live_relay_in_five_seconds() {
    let mut home = Deployment::with_collector_settings(&[], "");
    let mut relay = Station::set_up(&home, "cutting");
    let (revoked, other) = (home.join_agent_at(HOME, &relay.url()), home.join_agent_at(HOME, &relay.url()));
    for agent in [revoked, other] {
        await_session(&home, agent, &relay.endpoint());
    }
    post(home.socket_of(revoked), "before", 0..5);
    wait::until("what came before", Duration::from_secs(60), || (posted(&home).len() == 5).then_some(()));
    let id = agent_id(&home, revoked);
    let asked = Instant::now();
    succeed(home.collector_command().args(["agents", "revoke", &id]));
    wait::until("the session's end", Duration::from_secs(30), || {
        let printed = relay.printed();
        printed.lines().any(|line| line.contains("revoked") && line.contains(&format!("agent={id}"))).then_some(())
    });
    let took = asked.elapsed();
    eprintln!("revoked at the relay in {took:?}, the command included");
    assert!(took <= REVOKED_WITHIN, "{took:?}");
    // Nobody lets it in any more, the relay neither that has been started anew and can't ask home.
    home.kill_collector();
    relay.kill();
    relay.start();
    wait::until("the other's session", Duration::from_secs(60), || home.status(other)["uplink"]["connected"].as_str().map(drop));
    wait::until("the refused handshake", Duration::from_secs(60), || {
        home.status(revoked)["uplink"]["trouble"].as_str().map(str::to_owned)
    });
    assert!(!home.status(revoked)["uplink"]["connected"].is_string());
    home.start_collector();
    post(home.socket_of(other), "after", 0..5);
    wait::until("the other's events", Duration::from_secs(60), || (posted(&home).len() == 10).then_some(()));
}

#[test]
fn the_root_is_replaced_under_a_relay_and_its_agents_and_nobody_joins_anew() {
    let mut home = Deployment::with_collector_settings(&[], SHORT_LIVED);
    let mut relay = Station::set_up(&home, "rooted");
    let agent = home.join_agent_at(HOME, &relay.url());
    await_session(&home, agent, &relay.endpoint());
    let load = Load::start(&home);
    load.wait_for(20);
    succeed(home.collector_command().args(["ca", "rotate"]));
    let refused = home.collector_command().args(["ca", "retire"]).output().unwrap();
    assert!(!refused.status.success() && text(&refused).contains("1 relays"), "{}", text(&refused));
    wait::until("agent and relay to learn the new root", Duration::from_secs(90), || {
        let shown = json(home.collector_command().args(["ca", "show", "-o", "json"]));
        let learnt = |member: &str| shown[member].as_array().is_some_and(Vec::is_empty);
        (learnt("agentsThatNeedTheFormer") && learnt("relaysThatNeedTheFormer")).then_some(())
    });
    succeed(home.collector_command().args(["ca", "retire"]));
    wait::until("home to take it up", Duration::from_secs(20), || home.collector_printed().contains("roots=1").then_some(()));
    load.wait_for(100);
    assert_eq!(home.agent_printed(agent).matches("resumed").count(), 1, "one session through all of it");
    // Everybody shakes hands anew, under the new root alone: the agent with the relay, the relay with home.
    wait::until("the relay's certificates of the new root alone", Duration::from_secs(60), || {
        let papers: Value = serde_json::from_slice(&std::fs::read(relay.state().join("relay.json")).unwrap()).unwrap();
        let (roots, server) = (papers["roots"].as_array().unwrap(), papers["serverChain"].as_array().unwrap());
        (roots.len() == 1 && server.last() == roots.first()).then_some(())
    });
    relay.kill();
    relay.start();
    await_session(&home, agent, &relay.endpoint());
    load.wait_for(20);
    load.finish_with(&home, &home.collector_state().join("pki/roots.pem")).judge(0);
}
