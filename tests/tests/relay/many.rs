//! More agents that are owed to home than a relay has sessions: each has its turn.

use std::time::Duration;

use edgetrail_tests::deployment::{Deployment, HOME};
use edgetrail_tests::wait;

use crate::regions::{post, posted};
use crate::station::Station;

/// A relay runs 64 sessions at a time.
const AGENTS: usize = 70;

#[test]
fn what_more_agents_are_owed_than_there_are_sessions_all_comes_home() {
    let mut home = Deployment::with_collector_settings(&[], "");
    let relay = Station::set_up(&home, "crowded");
    for _ in 0..AGENTS {
        home.join_agent_at(HOME, &relay.url());
    }
    home.kill_collector();
    for agent in 0..AGENTS {
        post(home.socket_of(agent), &format!("of-{agent}"), 0..2);
    }
    wait::until("the relay's receipts", Duration::from_secs(120), || {
        (0..AGENTS).all(|agent| home.status(agent)["buffer"]["records"] == 0).then_some(())
    });
    home.start_collector();
    wait::until("everybody's events", Duration::from_secs(180), || (posted(&home).len() == 2 * AGENTS).then_some(()));
    assert!(posted(&home).values().all(|times| *times == 1), "each once");
    assert!(!relay.printed().contains("a session with home ended: "), "{}", relay.printed());
}
