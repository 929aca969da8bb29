//! A host's wall clock that can be set.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine's clock and what it was set by, nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct WallClock(Arc<AtomicI64>);

impl WallClock {
    pub(crate) fn set_by(&self, seconds: i64) {
        self.0.fetch_add(seconds.saturating_mul(1_000_000_000), Ordering::Relaxed);
    }

    pub(crate) fn reader(&self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        let step = Arc::clone(&self.0);
        Arc::new(move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::try_from(now.as_nanos()).unwrap().saturating_add_signed(step.load(Ordering::Relaxed))
        })
    }
}
