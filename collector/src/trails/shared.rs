//! What a trail's two tasks, the key keeper and the handle tell each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::bodies::Bodies;
use super::clock::Clock;
use super::digest_key::DigestKeys;
use super::planner::Planner;
use super::status::TrailStatus;
use super::store::Store;
use super::{CONSUMER, ReceiptKeySource, TrailError, TrailsOptions};
use crate::control::TrailConfig;
use crate::ledger::Ledger;
use crate::sinks::{Sink, SinkError};

/// First wait after a failed PUT.
const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// What the handle and all tasks have in common.
pub(super) struct Shared {
    pub(super) ledger: Ledger,
    pub(super) store: Arc<Store>,
    pub(super) keys: DigestKeys,
    pub(super) receipt_keys: ReceiptKeySource,
    pub(super) clock: Clock,
    pub(super) bodies: Bodies,
    pub(super) backoff: Duration,
    /// Where a trail that is new begins: everything, for the first one of a collector.
    pub(super) first_index: u64,
    /// By ARN; never changes after the start.
    pub(super) trails: HashMap<String, TrailShared>,
    #[cfg(test)]
    pub(super) sinks: HashMap<String, Sink>,
}

/// What one trail's tasks and the handle tell each other.
#[derive(Debug)]
pub(super) struct TrailShared {
    pub(super) status: Mutex<TrailStatus>,
    /// The next ledger_index that the planner reads.
    pub(super) position: watch::Sender<u64>,
    /// The least ledger_index that planning or delivery needs again.
    pub(super) needed_from: Mutex<u64>,
    /// Something was planned.
    pub(super) planned: Arc<Notify>,
    /// Until when the planner has nothing to do, Unix nanoseconds, unless the ledger grows; `None` while it works.
    #[cfg(test)]
    pub(super) rests_until: watch::Sender<Option<u64>>,
}

impl Shared {
    pub(super) fn open(ledger: Ledger, options: TrailsOptions) -> Result<(Self, Vec<TrailConfig>), TrailError> {
        let TrailsOptions { state_dir, trails, receipt_keys, clock } = options;
        let store = Arc::new(Store::open(&state_dir.join("delivery.sqlite"))?);
        let first_index = if store.is_new()? { 0 } else { ledger.next_index() };
        let shared = Self {
            keys: DigestKeys::open(store.clone(), state_dir.join("digest-keys"))?,
            ledger,
            store,
            receipt_keys,
            clock,
            bodies: Bodies::default(),
            backoff: BACKOFF_MIN,
            first_index,
            trails: trails.iter().map(|trail| (trail.arn.clone(), TrailShared::new())).collect(),
            #[cfg(test)]
            sinks: HashMap::new(),
        };
        Ok((shared, trails))
    }

    pub(super) fn sink(&self, trail: &TrailConfig) -> Result<Sink, SinkError> {
        #[cfg(test)]
        if let Some(sink) = self.sinks.get(&trail.arn) {
            return Ok(sink.clone());
        }
        Sink::open(&trail.sink, &trail.bucket, trail.kms_key.as_deref())
    }

    pub(super) fn progress(&self, arn: &str, change: impl FnOnce(&mut TrailStatus)) {
        if let Some(trail) = self.trails.get(arn) {
            change(&mut trail.status.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    pub(super) fn planned(&self, arn: &str) -> Arc<Notify> {
        self.trails.get(arn).map(|trail| trail.planned.clone()).unwrap_or_default()
    }

    pub(super) fn recall_deliveries(&self, trail: &TrailConfig) -> Result<(), TrailError> {
        let (log, digest) = (self.store.last_delivery(&trail.arn, false)?, self.store.last_delivery(&trail.arn, true)?);
        self.progress(&trail.arn, |status| {
            (status.latest_delivery_time, status.latest_delivery_attempt) = (log, log);
            (status.latest_digest_delivery_time, status.latest_digest_delivery_attempt) = (digest, digest);
        });
        Ok(())
    }

    /// Tells whoever waits how far a planner is.
    pub(super) fn note_planned(&self, trail: &TrailConfig, planner: &Planner) -> Result<(), TrailError> {
        let Some(shared) = self.trails.get(&trail.arn) else { return Ok(()) };
        let state = planner.state().clone();
        self.progress(&trail.arn, |status| status.planned(state));
        *shared.needed_from.lock().unwrap_or_else(PoisonError::into_inner) = planner.needed_from();
        shared.planned.notify_one();
        self.report_passed()?;
        shared.position.send_replace(planner.position());
        Ok(())
    }

    /// Tells the ledger the least index that any trail still needs, to plan or to send.
    pub(super) fn report_passed(&self) -> Result<(), TrailError> {
        let mut passed = u64::MAX;
        for (arn, trail) in &self.trails {
            let planning = *trail.needed_from.lock().unwrap_or_else(PoisonError::into_inner);
            let sending = self.store.needed_from(arn)?.unwrap_or(u64::MAX);
            passed = passed.min(planning).min(sending);
        }
        self.ledger.passed(CONSUMER, passed);
        Ok(())
    }
}

impl TrailShared {
    pub(super) fn new() -> Self {
        let (position, _) = watch::channel(0);
        Self {
            status: Mutex::default(),
            position,
            needed_from: Mutex::new(0),
            planned: Arc::default(),
            #[cfg(test)]
            rests_until: watch::Sender::default(),
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("ledger", &self.ledger).field("trails", &self.trails.keys()).finish_non_exhaustive()
    }
}
