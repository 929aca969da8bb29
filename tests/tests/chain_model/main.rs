//! The chain's rules under random schedules: the real buffer, uplink, ingest and ledger, and whatever can happen to their
//! files between two starts. docs/protocol.md §8, §9.
//!
//! A schedule is a function of its seed: `EDGETRAIL_SEED` repeats one, `EDGETRAIL_SEEDS` sets how many are tried. The
//! oracle holds after every schedule; what a step destroyed is known to it, and must be covered by a gap.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod collector;
mod host;
mod oracle;

use std::sync::atomic::{AtomicU64, Ordering};

use edgetrail_tests::chance::{Chance, number};

use collector::Collector;
use edgetrail_proto::chain::Cause;
use host::Host;
use oracle::Expected;

/// Steps of one schedule.
const STEPS: u64 = 14;

/// Schedules that run beside one another.
const AT_ONCE: u64 = 4;

/// Schedules where nothing says how many: some fifteen seconds.
const SEEDS: u64 = 8;

/// What may happen between two commits.
#[derive(Clone, Copy, Debug)]
enum Step {
    Commit,
    Sync,
    Kill,
    Close,
    Keep,
    Restore,
    LoseBuffer,
    LoseKeyFile,
    LoseTail,
    RestartCollector,
    KeepCollector,
    RestoreCollector,
}

impl Step {
    fn draw(chance: &mut Chance) -> Self {
        match chance.below(24) {
            0..=7 => Self::Commit,
            8..=12 => Self::Sync,
            13 | 14 => Self::Kill,
            15 => Self::Close,
            16 => Self::Keep,
            17 => Self::Restore,
            18 => Self::LoseBuffer,
            19 => Self::LoseKeyFile,
            20 => Self::LoseTail,
            21 => Self::RestartCollector,
            22 => Self::KeepCollector,
            _ => Self::RestoreCollector,
        }
    }
}

async fn run(seed: u64) {
    let mut chance = Chance::new(seed);
    let mut collector = Collector::start().await;
    let mut host = Host::join(&collector, "a").await;
    let mut expected = Expected::default();
    let mut log = Vec::new();
    for _ in 0..STEPS {
        let step = Step::draw(&mut chance);
        log.push(step);
        match step {
            Step::Commit => {
                let names = host.commit(1 + chance.below(4)).await;
                expected.committed(names);
            }
            Step::Sync => {
                host.sync(&collector, &expected.due(), &log).await;
                expected.receipted();
            }
            Step::Kill => host.kill(),
            Step::Close => host.close(),
            Step::Keep => {
                host.keep();
                expected.kept();
            }
            Step::Restore if host.restore() => expected.restored(),
            Step::LoseBuffer => {
                host.lose_buffer();
                expected.host_lost();
            }
            Step::LoseKeyFile => host.lose_key_file(),
            Step::LoseTail if host.lose_tail() => expected.restored(),
            Step::RestartCollector => collector.restart().await,
            Step::KeepCollector => {
                collector.keep().await;
                expected.collector_kept(&collector);
            }
            Step::RestoreCollector if collector.restore().await => expected.collector_restored(&collector),
            Step::Restore | Step::LoseTail | Step::RestoreCollector => {}
        }
    }
    host.sync(&collector, &expected.due(), &log).await;
    expected.receipted();
    expected.check(&collector, &format!("EDGETRAIL_SEED={seed} {log:?}"));
    assert!(!collector.is_frozen(&host), "one party alone is accused: EDGETRAIL_SEED={seed} {log:?}");
    host.end();
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
        for _ in 0..AT_ONCE.min(count) {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_acts_beside_the_original_is_a_fork_and_the_one_that_joins_again_goes_on() {
    let mut collector = Collector::start().await;
    let mut host = Host::join(&collector, "a").await;
    let mut expected = Expected::default();
    expected.committed(host.commit(3).await);
    host.sync(&collector, &expected.due(), &[]).await;
    let mut clone = host.clone_state("b");
    expected.committed(host.commit(2).await);
    host.sync(&collector, &expected.due(), &[]).await;
    expected.receipted();
    // The clone looks like an image that was restored, and so does the original to which this is news.
    expected.may_repeat();
    clone.commit(1).await;
    clone.sync(&collector, &Default::default(), &[]).await;
    expected.committed(host.commit(1).await);
    host.sync(&collector, &expected.due(), &[]).await;
    expected.receipted();
    assert_eq!(collector.causes(&host), [Cause::Join, Cause::Rollback, Cause::RestoredBehindLater]);
    assert!(!collector.is_frozen(&host), "nobody has acted twice");
    // Told that another one went on in its place, an image that was really replaced would stay silent.
    clone.commit(1).await;
    clone.try_sync(&collector).await;
    assert!(collector.is_frozen(&host), "both have acted");
    expected.committed(host.commit(1).await);
    host.try_sync(&collector).await;
    assert_eq!(collector.causes(&host).len(), 3, "nothing is opened by itself");
    clone.end();
    // The operator finds the clone, and lets the original join again.
    collector.join(host.path(), host.agent()).await;
    host.kill();
    host.sync(&collector, &expected.due(), &[]).await;
    expected.receipted();
    expected.check(&collector, "fork");
    assert!(collector.causes(&host).contains(&Cause::Fork));
    host.end();
    collector.restart().await;
}
