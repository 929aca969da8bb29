//! kill -9 of agent and collector under load, hundreds of times: every event whose answer the caller has is delivered
//! exactly once. The oracle reads log files and digests, never a database.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::process::{binary, text};
use edgetrail_tests::wait;

/// Enough that every step of a commit is hit. `EDGETRAIL_KILL_CYCLES` gives another number.
const CYCLES: u64 = 200;

/// A small generator with a printed seed: a failing schedule can be run again with `EDGETRAIL_SEED`.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn no_answered_event_is_lost_or_doubled_by_kills() {
    let seed = number("EDGETRAIL_SEED", u64::from(std::process::id()));
    let cycles = number("EDGETRAIL_KILL_CYCLES", CYCLES);
    eprintln!("EDGETRAIL_SEED={seed} EDGETRAIL_KILL_CYCLES={cycles}");
    let mut chance = Chance(seed);
    let mut deployment = Deployment::with_one_agent();
    let notes = deployment.dir().join("answered.txt");
    let mut generator = Command::new(binary("generator"))
        .args([deployment.socket().as_os_str(), notes.as_os_str(), "kill".as_ref()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let answered = || std::fs::read_to_string(&notes).unwrap_or_default().lines().count();

    let mut kills = (0, 0);
    while kills.0 + kills.1 < cycles {
        // The kill falls inside the load: something was answered since the last one, then a random instant.
        let before = answered();
        wait::until("events to be answered between two kills", Duration::from_secs(60), || {
            (answered() > before + 3).then_some(())
        });
        let instant = Instant::now() + Duration::from_micros(chance.below(40_000));
        while Instant::now() < instant {
            std::hint::spin_loop();
        }
        if chance.below(2) == 0 {
            deployment.kill_agent(0);
            deployment.start_agent(0);
            kills.0 += 1;
        } else {
            deployment.kill_collector();
            deployment.start_collector();
            kills.1 += 1;
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
        "{} kills of the agent, {} of the collector; {} answered, {} delivered; lost {}, twice {}",
        kills.0,
        kills.1,
        noted.len(),
        counts.len(),
        lost.len(),
        twice.len()
    );
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
