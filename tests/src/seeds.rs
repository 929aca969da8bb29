//! Which seeds a test runs, and that a failure names the one it fell to.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// A number from the environment; what is not one is a test that was asked for wrongly.
pub fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: give a number")))
}

/// The seeds to run: `EDGETRAIL_SEED` alone, or as many as `EDGETRAIL_SEEDS` or `short` says, from
/// `EDGETRAIL_SEED_FROM` on.
pub fn chosen(short: u64) -> Range<u64> {
    if let Some(seed) = variable("EDGETRAIL_SEED") {
        return seed..seed + 1;
    }
    let from = variable("EDGETRAIL_SEED_FROM").unwrap_or(0);
    from..from + variable("EDGETRAIL_SEEDS").unwrap_or(short)
}

/// Runs `test` for each seed on `threads` threads; ends at the first that fails, and names it.
pub fn each(name: &str, seeds: Range<u64>, threads: usize, test: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        let run = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    return;
                }
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
                    next.store(seeds.end, Ordering::Relaxed);
                    eprintln!("{name} failed: run it again with EDGETRAIL_SEED={seed}");
                    resume_unwind(panic);
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                resume_unwind(panic);
            }
        }
    });
    eprintln!(
        "{name}: {} seeds from {} in {:.1} s, no violation",
        seeds.end - seeds.start,
        seeds.start,
        started.elapsed().as_secs_f64()
    );
}
