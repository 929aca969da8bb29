//! Trails as they are configured. What they have delivered is the delivery store's.

use std::time::Duration;

use edgetrail_cloudtrail::{BucketName, Cadence, Coverage, Prefix, Tags, TrailArn, TrailDefinition};
use edgetrail_proto::selector::Selectors;
use rusqlite::{OptionalExtension, TransactionBehavior, params};
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
    #[serde(default)]
    pub tags: Tags,
}

impl TrailConfig {
    /// As the API's operations know it.
    pub fn definition(&self) -> Result<TrailDefinition, ControlError> {
        let damaged = |_| ControlError::Damaged { what: "trail" };
        Ok(TrailDefinition {
            arn: TrailArn::parse(&self.arn).map_err(damaged)?,
            created_ns: self.created_ns,
            bucket: BucketName::parse(&self.bucket).map_err(damaged)?,
            prefix: self.prefix.as_deref().map(Prefix::parse).transpose().map_err(damaged)?.flatten(),
            kms_key: self.kms_key.clone(),
            coverage: Coverage::Everything,
            multi_region: self.multi_region,
            include_global: true,
            recursive: true,
            validation: self.validation,
            topic: None,
            log_group: None,
            selectors: Selectors::default(),
            custom_selectors: false,
            insights: Vec::new(),
            tags: self.tags.clone(),
            cadence: Cadence {
                log_interval: self.log_interval,
                log_bytes: self.log_bytes,
                digest_interval: self.digest_interval,
            },
            retention: None,
        })
    }
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

    /// Creates the trail or changes it. A trail keeps the creation time and the tags it has; what was written is returned.
    pub fn put_trail(&self, mut trail: TrailConfig) -> Result<TrailConfig, ControlError> {
        if let Some(known) = self.trail(&trail.arn)? {
            (trail.created_ns, trail.tags) = (known.created_ns, known.tags);
        }
        let config = serde_json::to_string(&trail).map_err(|_| ControlError::Damaged { what: "trail" })?;
        self.lock().execute(
            "INSERT INTO trails (arn, name, config) VALUES (?1, ?2, ?3)
             ON CONFLICT (arn) DO UPDATE SET name = excluded.name, config = excluded.config",
            params![trail.arn, trail.name, config],
        )?;
        Ok(trail)
    }

    /// Gives a trail the tags that `change` makes of those it has, unless that refuses; `None` where there is no such trail.
    pub fn retag<E>(
        &self,
        arn: &str,
        change: impl FnOnce(&TrailConfig) -> Result<Tags, E>,
    ) -> Result<Option<Result<(), E>>, ControlError> {
        let mut connection = self.lock();
        // Of two that change tags at once, the second one sees what the first one has made.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let config = transaction.query_row("SELECT config FROM trails WHERE arn = ?1", [arn], |row| row.get::<_, String>(0));
        let Some(config) = config.optional()? else { return Ok(None) };
        let mut trail = read_config(&config)?;
        match change(&trail) {
            Ok(tags) => trail.tags = tags,
            Err(refused) => return Ok(Some(Err(refused))),
        }
        let config = serde_json::to_string(&trail).map_err(|_| ControlError::Damaged { what: "trail" })?;
        transaction.execute("UPDATE trails SET config = ?2 WHERE arn = ?1", [arn, &config])?;
        transaction.commit()?;
        Ok(Some(Ok(())))
    }
}

fn read_config(text: &str) -> Result<TrailConfig, ControlError> {
    serde_json::from_str(text).map_err(|_| ControlError::Damaged { what: "trail" })
}
