//! Whatever the network does, and whoever crashes: nothing is lost, nothing stands twice, nobody is accused. By seed.

use std::sync::Mutex;
use std::time::Duration;

use edgetrail_power::seeds;
use edgetrail_simulation::run;

/// Seeds where nothing says how many.
const SEEDS: u64 = 100;

/// Seeds at a time: most of a run is SQLite's and cryptography's work on one core.
const THREADS: usize = 2;

#[test]
fn what_was_committed_is_in_the_ledger_once_and_in_order_whatever_the_network_does() {
    let slowest = Mutex::new((Duration::ZERO, 0));
    seeds::each("simulation", seeds::chosen(SEEDS), THREADS, |seed| {
        let began = std::time::Instant::now();
        let ran = run(seed);
        eprintln!(
            "EDGETRAIL_SEED={seed}: {} acts, {} starts, {} records, {} messages repeated, recovered in {:?}; took {:?}",
            ran.acts,
            ran.starts,
            ran.records,
            ran.repeated,
            ran.recovered,
            began.elapsed()
        );
        let mut slowest = slowest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *slowest = (*slowest).max((ran.recovered, seed));
    });
    let (recovered, seed) = slowest.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    eprintln!("slowest recovery: {recovered:?} of simulated time, EDGETRAIL_SEED={seed}");
}
