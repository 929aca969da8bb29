//! A trail as it is configured.

use std::time::Duration;

use edgetrail_proto::facets::{Category, Facets};
use edgetrail_proto::keys::TrailPaths;

use crate::sinks::SinkConfig;

/// Uncompressed size at which a log file is closed, in bytes. Source: DESIGN §7, 15 MiB.
pub const LOG_BYTES: u64 = 15 * 1024 * 1024;

/// Age at which a log file is closed. Source: DESIGN §7, CloudTrail's own cadence.
pub const LOG_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Length of a digest's window. Source: DESIGN §7, CloudTrail's own cadence.
pub const DIGEST_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// A named configuration that delivers a selection of the ledger to a sink, with digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail {
    pub name: String,
    pub arn: String,
    pub account: String,
    pub home_region: String,
    pub bucket: String,
    pub prefix: Option<String>,
    /// Unix nanoseconds. With the ARN it makes the trail's part of every log file's name.
    pub created: u64,
    /// Whether records of other regions than home's are delivered.
    pub multi_region: bool,
    /// Whether digests and proofs are made.
    pub validation: bool,
    pub kms_key: Option<String>,
    pub log_interval: Duration,
    pub log_bytes: u64,
    /// Whole seconds.
    pub digest_interval: Duration,
    pub sink: SinkConfig,
}

impl Trail {
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
