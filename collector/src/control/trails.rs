//! Trails as they are configured. What they have delivered is the delivery store's.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Control, ControlError};
use crate::sinks::SinkConfig;

/// A named configuration that delivers a selection of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailConfig {
    pub name: String,
    pub arn: String,
    pub home_region: String,
    pub account: String,
    pub bucket: String,
    pub prefix: Option<String>,
    /// Unix nanoseconds. Part of every log file's name, so it never changes.
    pub created_ns: u64,
    pub multi_region: bool,
    /// Whether digests are made.
    pub validation: bool,
    pub kms_key: Option<String>,
    /// A log file is closed after this long, or at `log_bytes` uncompressed.
    pub log_interval: Duration,
    pub log_bytes: u64,
    pub digest_interval: Duration,
    pub sink: SinkConfig,
}

impl Control {
    /// In the order of creation.
    pub fn trails(&self) -> Result<Vec<TrailConfig>, ControlError> {
        let connection = self.lock();
        let mut select = connection.prepare_cached("SELECT config FROM trails ORDER BY rowid")?;
        let rows = select.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|config| read_config(&config?)).collect()
    }

    pub fn trail(&self, name_or_arn: &str) -> Result<Option<TrailConfig>, ControlError> {
        let connection = self.lock();
        let mut select = connection.prepare_cached("SELECT config FROM trails WHERE arn = ?1 OR name = ?1 LIMIT 1")?;
        let config = select.query_row([name_or_arn], |row| row.get::<_, String>(0)).optional()?;
        config.map(|config| read_config(&config)).transpose()
    }

    /// Creates the trail or changes it. A trail keeps the creation time it has; what was written is returned.
    pub fn put_trail(&self, mut trail: TrailConfig) -> Result<TrailConfig, ControlError> {
        if let Some(known) = self.trail(&trail.arn)? {
            trail.created_ns = known.created_ns;
        }
        let config = serde_json::to_string(&trail).map_err(|_| ControlError::Damaged { what: "trail" })?;
        self.lock().execute(
            "INSERT INTO trails (arn, name, config) VALUES (?1, ?2, ?3)
             ON CONFLICT (arn) DO UPDATE SET name = excluded.name, config = excluded.config",
            params![trail.arn, trail.name, config],
        )?;
        Ok(trail)
    }
}

fn read_config(text: &str) -> Result<TrailConfig, ControlError> {
    serde_json::from_str(text).map_err(|_| ControlError::Damaged { what: "trail" })
}
