//! What time it is, for everything in a trail that is due at some time. Tests hold the hands.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds in a second.
pub(super) const SECOND: u64 = 1_000_000_000;

/// Seconds in a UTC day: digest keys are valid for one.
pub(super) const DAY_S: u64 = 86_400;

/// Longest sleep before the wall clock is read again: it may be stepped meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A source of Unix nanoseconds.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    #[cfg(test)]
    Manual(tokio::sync::watch::Sender<u64>),
}

impl Clock {
    /// Unix nanoseconds.
    pub fn now(&self) -> u64 {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
            }
            #[cfg(test)]
            Self::Manual(time) => *time.borrow(),
        }
    }

    /// Returns once it is `time` or later.
    pub async fn until(&self, time: u64) {
        match self {
            Self::System => loop {
                let missing = time.saturating_sub(self.now());
                if missing == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_nanos(missing).min(LOOK_AGAIN)).await;
            },
            #[cfg(test)]
            Self::Manual(now) => {
                let mut now = now.subscribe();
                if now.wait_for(|now| *now >= time).await.is_err() {
                    std::future::pending().await
                }
            }
        }
    }
}
