//! The host's clocks: wall time for records, and a second one that tells when the first was set.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Unix nanoseconds. 0 before 1970, the year 2554 after it.
pub fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Wall time, Unix nanoseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A step of the wall clock smaller than this is a daemon's slewing or this thread's waiting, nanoseconds.
pub const STEP_NS_MIN: u64 = 2_000_000_000;

/// Notices when the wall clock is set.
#[derive(Debug)]
pub struct StepWatch {
    /// Wall time minus time since boot (suspend included), nanoseconds.
    offset: i128,
}

impl StepWatch {
    pub fn new(now: u64) -> Self {
        Self { offset: offset(now) }
    }

    /// By how many nanoseconds the wall clock was set since the last call, if it was.
    pub fn step(&mut self, now: u64) -> Option<i128> {
        let offset = offset(now);
        let step = offset - self.offset;
        self.offset = offset;
        (step.unsigned_abs() >= u128::from(STEP_NS_MIN)).then_some(step)
    }
}

fn offset(now: u64) -> i128 {
    let boot = clock_gettime(ClockId::Boottime);
    i128::from(now) - (i128::from(boot.tv_sec) * 1_000_000_000 + i128::from(boot.tv_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_noticed_once_and_slewing_is_not() {
        let now = unix_ns();
        let mut watch = StepWatch { offset: offset(now) };
        assert_eq!(watch.step(now + 1_000_000_000), None);
        let ahead = watch.step(now + 4_000_000_000).unwrap();
        assert!((2_000_000_000..=3_000_000_000).contains(&ahead), "{ahead}");
        assert_eq!(watch.step(now + 4_000_000_000), None);
        assert!(watch.step(now).is_some_and(|back| back < -3_000_000_000));
    }
}
