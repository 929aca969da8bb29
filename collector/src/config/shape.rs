//! The configuration's sections as they are written, with their defaults.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use edgetrail_proto::identity::{AccountId, Region, TrustDomain};
use edgetrail_settings::{Parsed, Size, Span};
use serde::Deserialize;

use super::{BUCKET, DEFAULT_TRAIL, DIGEST_INTERVAL, LOG_BYTES, LOG_INTERVAL, PARTITION, STATE_DIR};
use crate::sinks::SinkConfig;

/// `[collector]`. Account and region have no default.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Collector {
    pub(super) state_dir: PathBuf,
    pub(super) account: Option<Parsed<AccountId>>,
    pub(super) region: Option<Parsed<Region>>,
    pub(super) partition: String,
    pub(super) trust_domain: Option<Parsed<TrustDomain>>,
    pub(super) host: Option<String>,
}

/// `[ingest]` and `[api]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listener {
    listen: Option<Parsed<SocketAddr>>,
    pub(super) names: Vec<String>,
}

/// `[ledger]` and `[history]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Kept {
    pub(super) retention: Option<Span>,
}

/// `[trail]`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Trail {
    pub(super) name: String,
    pub(super) bucket: String,
    pub(super) prefix: Option<String>,
    pub(super) kms_key: Option<String>,
    pub(super) log_interval: Span,
    pub(super) log_bytes: Size,
    pub(super) digest_interval: Span,
    pub(super) accelerated: bool,
    pub(super) sink: Option<SinkConfig>,
}

impl Listener {
    /// Every address, where none is given.
    pub(super) fn address(&self, port: u16) -> SocketAddr {
        self.listen.as_ref().map_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), |listen| listen.0)
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            state_dir: STATE_DIR.into(),
            account: None,
            region: None,
            partition: PARTITION.to_owned(),
            trust_domain: None,
            host: None,
        }
    }
}

impl Default for Trail {
    fn default() -> Self {
        Self {
            name: DEFAULT_TRAIL.to_owned(),
            bucket: BUCKET.to_owned(),
            prefix: None,
            kms_key: None,
            log_interval: Span(LOG_INTERVAL),
            log_bytes: Size(LOG_BYTES),
            digest_interval: Span(DIGEST_INTERVAL),
            accelerated: false,
            sink: None,
        }
    }
}
