//! kill -9 of agent and collector under load, hundreds of times, at random instants and at every named crash point: every event whose answer the caller has is delivered
//! exactly once. The oracle reads log files and digests, never a database.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use edgetrail_disk::CRASH_POINTS;
use edgetrail_tests::chance::{Chance, number};
use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::process::{binary, text};
use edgetrail_tests::wait;

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
    let notes = deployment.dir().join("answered.txt");
    let mut generator = Command::new(binary("generator"))
        .args([deployment.socket().as_os_str(), notes.as_os_str(), "kill".as_ref()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let answered = || std::fs::read_to_string(&notes).unwrap_or_default().lines().count();

    let mut points = CRASH_POINTS.iter().cycle().skip(usize::try_from(chance.below(64)).unwrap());
    let mut kills = Kills::default();
    while kills.all() < cycles {
        // The kill falls inside the load: something was answered since the last one, then a random instant.
        let before = answered();
        wait::until("events to be answered between two kills", Duration::from_secs(60), || {
            (answered() > before + 3).then_some(())
        });
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
    drop(generator.stdin.take());
    assert!(generator.wait().unwrap().success());
    let noted = std::fs::read_to_string(&notes).unwrap();
    let noted: Vec<&str> = noted.lines().collect();
    assert!(!noted.is_empty());

    let mut counts = BTreeMap::new();
    wait::until("all answered events in log files", Duration::from_secs(120), || {
        counts = generated(&deployment);
        noted.iter().all(|id| counts.contains_key(*id)).then_some(())
    });
    deployment.wait_until_all_digested();
    let counts = generated(&deployment);
    let lost: Vec<&&str> = noted.iter().filter(|id| !counts.contains_key(**id)).collect();
    let twice: Vec<(&String, &u32)> = counts.iter().filter(|(_, count)| **count > 1).collect();
    eprintln!(
        "{} kills of the agent, {} of the collector at random instants, {} at crash points {:?}",
        kills.agent,
        kills.collector,
        kills.points.values().sum::<u64>(),
        kills.points
    );
    eprintln!("{} answered, {} delivered; lost {}, twice {}", noted.len(), counts.len(), lost.len(), twice.len());
    if cycles >= CYCLES {
        let missed: Vec<_> = CRASH_POINTS.iter().filter(|point| !kills.points.contains_key(**point)).collect();
        assert!(missed.is_empty(), "never killed at {missed:?}");
    }
    assert!(lost.is_empty() && twice.is_empty(), "lost {lost:?}, twice {twice:?}, EDGETRAIL_SEED={seed}");
    let coverage = delivered::digest_coverage(&deployment.trail());
    assert!(coverage.values().all(|times| *times == 1), "each log file is in exactly one digest");

    let audit = deployment.verify(&["-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&audit.stdout).unwrap_or_else(|_| panic!("{}", text(&audit)));
    assert_eq!(report["integrity"], true, "{report:#}");
}

/// How often each generated id stands in log files.
fn generated(deployment: &Deployment) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for (_, record) in delivered::records(&deployment.trail()) {
        if let Some(id) = record["requestParameters"]["generated"].as_str() {
            *counts.entry(id.to_owned()).or_default() += 1;
        }
    }
    counts
}
