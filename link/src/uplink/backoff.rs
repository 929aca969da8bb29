//! How long to wait before the next attempt.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

/// The first wait is at most this long.
const FIRST: Duration = Duration::from_millis(250);

/// No wait is longer: a collector that comes back is found within half a minute.
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles with each failure, with full jitter, so that a fleet does not return in one instant.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Goes straight to the longest waits: trying again soon won't help.
    pub(super) fn rest(&mut self) {
        self.failures = 16;
    }

    pub(super) fn next_wait(&mut self) -> Duration {
        let most = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Half of it at least: an immediate retry would find the same trouble.
        jittered(most / 2)
    }
}

/// `least` to twice as much.
pub(super) fn jittered(least: Duration) -> Duration {
    let mut random = [0; 4];
    if SystemRandom::new().fill(&mut random).is_err() {
        return least.saturating_mul(2);
    }
    let fraction = f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX);
    least.mul_f64(1.0 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::default();
        assert!(backoff.next_wait() <= FIRST);
        for _ in 0..40 {
            assert!(backoff.next_wait() <= LONGEST);
        }
        assert!(backoff.next_wait() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
