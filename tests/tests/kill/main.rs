//! kill -9 of agent and collector under load, hundreds of times, at random instants and at every named crash point: every event whose answer the caller has is delivered
//! exactly once. The oracle reads log files and digests, never a database.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod refused;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use edgetrail_disk::CRASH_POINTS;
use edgetrail_tests::chance::{Chance, number};
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::load::Load;

/// Enough that every step of a commit is hit. `EDGETRAIL_KILL_CYCLES` gives another number.
const CYCLES: u64 = 200;

#[derive(Debug, Default)]
struct Kills {
    agent: u64,
    collector: u64,
    points: BTreeMap<&'static str, u64>,
}

impl Kills {
    fn all(&self) -> u64 {
        self.agent + self.collector + self.points.values().sum::<u64>()
    }
}

#[test]
fn no_answered_event_is_lost_or_doubled_by_kills() {
    let (mut chance, seed) = Chance::from_environment();
    let cycles = number("EDGETRAIL_KILL_CYCLES", CYCLES);
    let mut deployment = Deployment::with_one_agent();
    let load = Load::start(&deployment);

    // A relay has tests of its own.
    let reached = || CRASH_POINTS.iter().filter(|point| !point.starts_with("relay/"));
    let mut points = reached().cycle().skip(usize::try_from(chance.below(64)).unwrap());
    let mut kills = Kills::default();
    while kills.all() < cycles {
        // The kill falls inside the load: something was answered since the last one, then a random instant.
        load.wait_for(4);
        let instant = Instant::now() + Duration::from_micros(chance.below(40_000));
        while Instant::now() < instant {
            std::hint::spin_loop();
        }
        // Every third life that follows is one that ends at a named point, perhaps while it recovers.
        let point = (chance.below(3) == 0).then(|| *points.next().unwrap());
        let agent = match point {
            Some(point) if point.starts_with("key-file/") => chance.below(2) == 0,
            Some(point) => point.starts_with("agent/"),
            None => chance.below(2) == 0,
        };
        let armed = point.map(|point| format!("{point}:{}", 1 + chance.below(3)));
        if agent {
            deployment.kill_agent(0);
            armed.iter().for_each(|point| deployment.crash_agent(0, point));
            deployment.start_agent(0);
            kills.agent += 1;
        } else {
            deployment.kill_collector();
            armed.iter().for_each(|point| deployment.crash_collector(point));
            deployment.start_collector();
            kills.collector += 1;
        }
        if let Some(point) = point {
            *kills.points.entry(point).or_default() += 1;
        }
    }
    let outcome = load.finish(&deployment);
    eprintln!(
        "{} kills of the agent, {} of the collector at random instants, {} at crash points {:?}",
        kills.agent,
        kills.collector,
        kills.points.values().sum::<u64>(),
        kills.points
    );
    outcome.judge(seed);
    if cycles >= CYCLES {
        let missed: Vec<_> = reached().filter(|point| !kills.points.contains_key(**point)).collect();
        assert!(missed.is_empty(), "never killed at {missed:?}");
    }
}
