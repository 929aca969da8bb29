//! Awaiting a condition, with a bound and a last word on failure.

use std::time::{Duration, Instant};

/// Polls `condition` until it gives a value; on timeout panics with what it was waiting for.
///
/// The bound is generous: it tells a hang from slowness on a busy machine, it measures nothing.
pub fn until<T>(what: &str, bound: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < bound, "waited {bound:?} in vain for: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
