//! The chain's rules under random schedules: the real buffer, uplink, ingest and ledger, and whatever can happen to their
//! files between two starts. docs/protocol.md §8, §9.
//!
//! A schedule is a function of its seed: `EDGETRAIL_SEED` repeats one, `EDGETRAIL_SEEDS` sets how many are tried,
//! `EDGETRAIL_AT_ONCE` how many beside one another. The oracle holds after every schedule; what a step destroyed is known
//! to it, and must be covered by the gap that is for such a loss: see [`oracle`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod collector;
mod gaps;
mod host;
mod oracle;
mod steps;

use std::time::Duration;

use std::sync::atomic::{AtomicU64, Ordering};

use edgetrail_tests::chance::{Chance, number};

use collector::Collector;
use edgetrail_proto::chain::Cause;
use host::Host;
use oracle::Expected;
use steps::{Step, listed, schedule};

/// Schedules that run beside one another: each mostly waits for its timers.
const AT_ONCE: u64 = 12;

/// Turns that a clone and its original may take until they are found out.
const TURNS: usize = 8;

/// Schedules where nothing says how many: some fifteen seconds.
const SEEDS: u64 = 8;

async fn run(seed: u64) {
    let mut chance = Chance::new(seed);
    let steps = schedule(&mut chance);
    follow(seed, chance, steps).await;
}

/// One host and its collector through these steps; `chance` says how much, and whose turn it is.
async fn follow(seed: u64, mut chance: Chance, steps: Vec<Step>) {
    let mut collector = Collector::start().await;
    let mut host = Host::join(&collector, "a").await;
    let mut expected = Expected::default();
    let mut log = Vec::new();
    for step in steps {
        log.push(step);
        match step {
            Step::Commit => {
                let at = host.now_s();
                let names = host.commit(1 + chance.below(4)).await;
                expected.committed(names, at);
            }
            Step::Sync => {
                host.sync(&collector, &expected.due(), &log).await;
                expected.receipted(&collector);
            }
            Step::Kill => host.kill(),
            Step::Close => host.close(),
            Step::Keep | Step::KeepClosed => {
                host.keep(step == Step::KeepClosed, &collector);
                expected.kept();
            }
            Step::Restore => {
                if let Some(restored) = host.restore(&collector) {
                    expected.restored(restored);
                }
            }
            Step::LoseBuffer => {
                host.lose_buffer();
                expected.buffer_lost();
            }
            Step::LoseKeyFile => host.lose_key_file(),
            Step::LoseTail => {
                if let Some(ahead) = host.lose_tail() {
                    expected.tail_lost(ahead);
                }
            }
            Step::RestartCollector => collector.restart().await,
            Step::KeepCollector => collector.keep().await,
            Step::RestoreCollector => {
                expected.seen_in(&collector);
                if collector.restore().await {
                    expected.collector_restored(&collector);
                }
            }
            Step::ClockForward(by) => {
                expected.clock_set(false, host.unclean_starts());
                host.set_clock(Duration::from_secs(by), false);
            }
            Step::ClockBack(by) => {
                expected.clock_set(true, host.unclean_starts());
                host.set_clock(Duration::from_secs(by), true);
            }
            // Each takes seconds: once is enough for a schedule.
            Step::Clone if expected.forked() => {}
            Step::Clone => cloned(&mut host, &mut collector, &mut expected, &mut chance, &log).await,
        }
    }
    host.sync(&collector, &expected.due(), &log).await;
    expected.receipted(&collector);
    let schedule = format!("EDGETRAIL_SEED={seed} {log:?}");
    expected.check(&collector, &host, &schedule);
    if !expected.forked() {
        assert!(!collector.is_frozen(&host), "one party alone is accused: {schedule}");
    }
    host.end();
}

/// A clone acts and its original does, in any order, until the agent is frozen; then the clone is found, and the
/// original joins again with a token: everything that it committed arrives.
async fn cloned(host: &mut Host, collector: &mut Collector, expected: &mut Expected, chance: &mut Chance, log: &[Step]) {
    let mut clone = host.clone_state("clone");
    expected.cloned();
    let mut turns = String::new();
    let mut turn = |chance: &mut Chance| {
        // Whoever is alone is no clone: neither acts three times in a row.
        let last: Vec<char> = turns.chars().rev().take(2).collect();
        let original = match last[..] {
            [one, other] if one == other => one == 'c',
            _ => chance.below(2) == 0,
        };
        turns.push(if original { 'o' } else { 'c' });
        (original, turns.clone())
    };
    for _ in 0..TURNS {
        if collector.is_frozen(host) {
            break;
        }
        let (original, _) = turn(chance);
        if original {
            let at = host.now_s();
            let names = host.act(collector).await;
            expected.committed(names, at);
        } else {
            clone.act(collector).await;
        }
    }
    let (_, turns) = turn(chance);
    assert!(
        collector.is_frozen(host),
        "a clone went unnoticed, turns {turns}, after {log:?}: {:#?}",
        collector.known(host.agent())
    );
    let at = host.now_s();
    expected.committed(host.commit(1).await, at);
    clone.end();
    host.hear_of_fork(collector).await;
    // Images of before are refused from here on, as the clone is.
    host.forget_image();
    collector.forget_copy();
    collector.join(host.path(), host.agent()).await;
    host.kill();
    host.sync(collector, &expected.due(), log).await;
    expected.receipted(collector);
    assert!(collector.causes(host).contains(&Cause::Fork), "it went on without saying why, turns {turns}, after {log:?}");
}

/// Says which schedule failed where several run, and lets no more begin.
struct Told<'a> {
    seed: u64,
    next: &'a AtomicU64,
    end: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.next.store(self.end, Ordering::Relaxed);
            eprintln!("violated: EDGETRAIL_SEED={}", self.seed);
        }
    }
}

#[test]
fn whatever_happens_to_one_host_and_its_collector_is_kept_once_or_reported() {
    let (_, chosen) = Chance::from_environment();
    let first = number("EDGETRAIL_SEED_FROM", chosen);
    let count = if std::env::var_os("EDGETRAIL_SEED").is_some() { 1 } else { number("EDGETRAIL_SEEDS", SEEDS) };
    let (next, end) = (AtomicU64::new(first), first.saturating_add(count));
    let take = || next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seed| (seed < end).then_some(seed + 1)).ok();
    // A schedule mostly waits for its timers: several at once.
    std::thread::scope(|scope| {
        for _ in 0..number("EDGETRAIL_AT_ONCE", AT_ONCE).clamp(1, count.max(1)) {
            scope.spawn(|| {
                while let Some(seed) = take() {
                    eprintln!("EDGETRAIL_SEED={seed}");
                    let _told = Told { seed, next: &next, end };
                    // One runtime for each schedule: a panic's tasks end with it.
                    tokio::runtime::Builder::new_multi_thread()
                        .worker_threads(2)
                        .enable_all()
                        .build()
                        .unwrap()
                        .block_on(run(seed));
                }
            });
        }
    });
}

/// Each failed once: docs/reliability.md says what was wrong.
const FOUND: [&str; 6] = [
    "Commit,Commit,LoseKeyFile,Keep,LoseKeyFile,Kill,Sync,Kill,Restore,Commit,Kill,LoseBuffer,RestoreCollector,Commit",
    "Clone",
    "ClockForward(86400),Commit,Clone",
    "Sync,Kill,Sync,Commit,KeepCollector,RestartCollector,Keep,Commit,LoseBuffer,LoseBuffer,Sync,Restore,Kill,Commit",
    "Commit,Sync,Close,Keep,LoseBuffer,Sync,Restore",
    "KeepCollector,Commit,Sync,RestoreCollector,Commit,Sync,RestoreCollector,Commit",
];

#[tokio::test(flavor = "multi_thread")]
async fn schedules_that_failed_once_are_kept_or_reported() {
    for steps in FOUND {
        eprintln!("EDGETRAIL_SEED=1 EDGETRAIL_SCHEDULE={steps}");
        Box::pin(follow(1, Chance::new(1), listed(steps))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_acts_beside_the_original_is_a_fork_and_the_one_that_joins_again_goes_on() {
    let mut collector = Collector::start().await;
    let mut host = Host::join(&collector, "a").await;
    let mut expected = Expected::default();
    expected.committed(host.commit(3).await, host.now_s());
    host.sync(&collector, &expected.due(), &[]).await;
    let mut clone = host.clone_state("b");
    expected.committed(host.commit(2).await, host.now_s());
    host.sync(&collector, &expected.due(), &[]).await;
    expected.receipted(&collector);
    // The clone looks like an image that was restored, and so does the original to which this is news.
    expected.cloned();
    clone.commit(1).await;
    clone.sync(&collector, &Default::default(), &[]).await;
    expected.committed(host.commit(1).await, host.now_s());
    host.sync(&collector, &expected.due(), &[]).await;
    expected.receipted(&collector);
    assert_eq!(collector.causes(&host), [Cause::Join, Cause::Rollback, Cause::RestoredBehindLater]);
    assert!(!collector.is_frozen(&host), "nobody has acted twice");
    // Told that another one went on in its place, an image that was really replaced would stay silent.
    clone.commit(1).await;
    clone.try_sync(&collector).await;
    assert!(collector.is_frozen(&host), "both have acted");
    expected.committed(host.commit(1).await, host.now_s());
    host.try_sync(&collector).await;
    assert_eq!(collector.causes(&host).len(), 3, "nothing is opened by itself");
    clone.end();
    // The operator finds the clone, and lets the original join again.
    collector.join(host.path(), host.agent()).await;
    host.kill();
    host.sync(&collector, &expected.due(), &[]).await;
    expected.receipted(&collector);
    expected.check(&collector, &host, "fork");
    assert!(collector.causes(&host).contains(&Cause::Fork));
    host.end();
    collector.restart().await;
}
