//! What GetTrailStatus tells of a trail.

use super::plan::TrailState;

/// Times are Unix nanoseconds; errors are short codes, S3's own where it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrailStatus {
    pub is_logging: bool,
    pub start_logging_time: Option<u64>,
    pub stop_logging_time: Option<u64>,
    /// When a log file or proof was last delivered.
    pub latest_delivery_time: Option<u64>,
    pub latest_delivery_attempt: Option<u64>,
    pub latest_delivery_error: Option<String>,
    pub latest_digest_delivery_time: Option<u64>,
    pub latest_digest_delivery_attempt: Option<u64>,
    pub latest_digest_delivery_error: Option<String>,
    /// Since when delivery has been failing, and what to do about it.
    pub failing_since: Option<u64>,
    pub failing_because: Option<String>,
}

impl TrailStatus {
    pub(super) fn planned(&mut self, state: TrailState) {
        self.is_logging = state.logging;
        self.start_logging_time = state.started;
        self.stop_logging_time = state.stopped;
    }

    pub(super) fn delivered(&mut self, digest: bool, now: u64) {
        let (time, attempt, error) = self.delivery(digest);
        (*time, *attempt, *error) = (Some(now), Some(now), None);
        (self.failing_since, self.failing_because) = (None, None);
    }

    pub(super) fn failed(&mut self, digest: bool, now: u64, code: &str, because: &str) {
        let (_, attempt, error) = self.delivery(digest);
        (*attempt, *error) = (Some(now), Some(code.to_owned()));
        self.failing_since = self.failing_since.or(Some(now));
        self.failing_because = Some(because.to_owned());
    }

    fn delivery(&mut self, digest: bool) -> (&mut Option<u64>, &mut Option<u64>, &mut Option<String>) {
        if digest {
            let time = &mut self.latest_digest_delivery_time;
            (time, &mut self.latest_digest_delivery_attempt, &mut self.latest_digest_delivery_error)
        } else {
            (&mut self.latest_delivery_time, &mut self.latest_delivery_attempt, &mut self.latest_delivery_error)
        }
    }
}
