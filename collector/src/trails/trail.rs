//! What a trail's configuration means for what it delivers.

use std::time::Duration;

use edgetrail_proto::facets::{Category, Facets};
use edgetrail_proto::keys::TrailPaths;

use crate::control::TrailConfig;

/// Uncompressed size at which a log file is closed, in bytes. Source: CloudTrail's own files.
pub const LOG_BYTES: u64 = 15 * 1024 * 1024;

/// Age at which a log file is closed. Source: CloudTrail's own cadence.
pub const LOG_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Length of a digest's window. Source: CloudTrail's own cadence.
pub const DIGEST_INTERVAL: Duration = Duration::from_secs(60 * 60);

impl TrailConfig {
    pub(super) fn paths(&self) -> TrailPaths {
        TrailPaths { prefix: self.prefix.clone(), org: None }
    }

    /// Whether a good record is delivered. What reached the ledger was selected by an agent already: a trail without
    /// selectors of its own takes it all but insights, which have files of their own kind. Gaps go to every trail.
    pub(super) fn selects(&self, facets: &Facets) -> bool {
        let here = self.multi_region || facets.region == self.home_region;
        here && (facets.is_gap() || facets.category != Category::Insight)
    }

    pub(super) fn digest_interval_s(&self) -> u64 {
        self.digest_interval.as_secs().max(1)
    }
}
