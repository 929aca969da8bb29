//! Delivers the ledger as CloudTrail's log files, with signed digests and proofs, each exactly once.
//!
//! Each trail has two tasks. The *planner* reads the ledger from the trail's own cursor and decides, durably in
//! delivery.sqlite, which objects there will be: their ranges, keys, bytes, signatures. *Delivery* sends them in that
//! order to the trail's sink. A crash between any two steps repeats the step with the same key and the same bytes. A
//! slow or broken sink holds back its own trail alone; the ledger never waits for anything here, it only keeps what
//! is still needed ([`CONSUMER`]).
//!
//! ```text
//! ledger → planner: lanes of open files → plan (log files; at a window's end digests and proofs) → delivery → sink
//!            ▲                                │ one transaction, synced
//!            └── after a crash: again from where the window began, beyond what is planned
//! ```

mod bodies;
mod clock;
mod command;
mod delivery;
mod digest;
mod digest_key;
mod log_file;
mod planner;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod trail;
mod window;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgetrail_proto::proof::ProofReceiptKey;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::control::TrailConfig;
use crate::ledger::{Ledger, LedgerError};
use crate::sinks::{Sink, SinkError};
use bodies::Bodies;
use clock::SECOND;
use digest_key::DigestKeys;
use planner::{Planner, Step};
use store::Store;

pub use clock::Clock;
pub use digest_key::DigestKeyError;
pub use status::TrailStatus;
pub use store::{PublicDigestKey, StoreError};
pub use trail::{DIGEST_INTERVAL, LOG_BYTES, LOG_INTERVAL};

/// The name under which all trails together tell the ledger what they still need: for `LedgerOptions::consumers`.
pub const CONSUMER: &str = "trails";

/// First wait after a failed PUT.
const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// Wait before a planner that failed starts over from its store.
const PLANNER_RETRY: Duration = Duration::from_secs(2);

/// What trails need to run.
#[derive(Debug)]
pub struct TrailsOptions {
    /// The collector's state directory: delivery.sqlite and digest-keys/ lie in it.
    pub state_dir: PathBuf,
    pub trails: Vec<TrailConfig>,
    /// Of the ledger's receipts, with their certificates: they go into every proof.
    pub receipt_keys: Vec<ProofReceiptKey>,
    pub clock: Clock,
}

/// The handle: cheap to clone.
#[derive(Clone, Debug)]
pub struct Trails {
    shared: Arc<Shared>,
}

/// Owns the tasks. They end when the token that they were started with is cancelled.
#[derive(Debug)]
pub struct TrailsTasks(JoinSet<()>);

#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    #[error("the ledger could not be read")]
    Ledger(#[from] LedgerError),
    #[error("the plan could not be stored")]
    Store(#[from] StoreError),
    #[error("a digest could not be signed")]
    DigestKey(#[from] DigestKeyError),
    #[error("a worker thread ended early; please report this")]
    Worker(#[source] tokio::task::JoinError),
}

/// What the handle and all tasks have in common.
struct Shared {
    ledger: Ledger,
    store: Arc<Store>,
    keys: DigestKeys,
    receipt_keys: Vec<ProofReceiptKey>,
    clock: Clock,
    bodies: Bodies,
    backoff: Duration,
    /// Where a trail that is new begins: everything, for the first one of a collector.
    first_index: u64,
    /// By ARN; never changes after the start.
    trails: HashMap<String, TrailShared>,
    #[cfg(test)]
    sink: Option<Sink>,
}

/// What one trail's tasks and the handle tell each other.
#[derive(Debug)]
struct TrailShared {
    status: Mutex<TrailStatus>,
    /// The next ledger_index that the planner reads.
    position: watch::Sender<u64>,
    /// The least ledger_index that planning or delivery needs again.
    needed_from: Mutex<u64>,
    /// Something was planned.
    planned: Arc<Notify>,
    /// The time at which the planner last found nothing to do, Unix nanoseconds.
    #[cfg(test)]
    idle_since: watch::Sender<u64>,
}

impl Trails {
    /// Starts every trail's tasks.
    pub fn start(ledger: Ledger, options: TrailsOptions, stop: CancellationToken) -> Result<(Self, TrailsTasks), TrailError> {
        let shared = Shared::open(ledger, options)?;
        Self::start_shared(Arc::new(shared.0), shared.1, stop)
    }

    fn start_shared(
        shared: Arc<Shared>,
        trails: Vec<TrailConfig>,
        stop: CancellationToken,
    ) -> Result<(Self, TrailsTasks), TrailError> {
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_keys(shared.clone(), stop.clone()));
        for trail in trails.into_iter().map(Arc::new) {
            // Opened here once, so that what is wrong with the store is told before anything runs.
            let planner = Planner::open(shared.clone(), trail.clone())?;
            shared.recall_deliveries(&trail)?;
            shared.note_planned(&trail, &planner)?;
            tasks.spawn(plan(shared.clone(), trail.clone(), planner, stop.clone()));
            tasks.spawn(delivery::deliver(shared.clone(), trail, stop.clone()));
        }
        Ok((Self { shared }, TrailsTasks(tasks)))
    }

    /// By ARN.
    pub fn status(&self, trail_arn: &str) -> Option<TrailStatus> {
        let trail = self.shared.trails.get(trail_arn)?;
        Some(trail.status.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Returns once every trail has read `ledger_index`, and what it caused (StartLogging, StopLogging) is durable.
    pub async fn passed(&self, ledger_index: u64) {
        for trail in self.shared.trails.values() {
            let mut position = trail.position.subscribe();
            // The sender lives as long as `self.shared`.
            let _position = position.wait_for(|position| *position > ledger_index).await;
        }
    }

    /// Public digest keys whose validity overlaps `[start, end]`, Unix seconds, oldest first. Blocks on disk for a moment.
    pub fn public_keys(&self, region: Option<&str>, start: u64, end: u64) -> Result<Vec<PublicDigestKey>, StoreError> {
        self.shared.store.public_keys(region, start, end)
    }
}

impl TrailsTasks {
    /// Waits for all tasks to end; each does so within one step after the stop.
    pub async fn join(mut self) {
        while let Some(ended) = self.0.join_next().await {
            if let Err(error) = ended {
                error!(%error, "a trail's task ended by a panic");
            }
        }
    }
}

impl Shared {
    fn open(ledger: Ledger, options: TrailsOptions) -> Result<(Self, Vec<TrailConfig>), TrailError> {
        let TrailsOptions { state_dir, trails, receipt_keys, clock } = options;
        let store = Arc::new(Store::open(&state_dir.join("delivery.sqlite"))?);
        let first_index = if store.is_new()? { 0 } else { ledger.next_index() };
        let shared = Self {
            keys: DigestKeys::open(store.clone(), digest_key_folder(&state_dir))?,
            ledger,
            store,
            receipt_keys,
            clock,
            bodies: Bodies::default(),
            backoff: BACKOFF_MIN,
            first_index,
            trails: trails.iter().map(|trail| (trail.arn.clone(), TrailShared::new())).collect(),
            #[cfg(test)]
            sink: None,
        };
        Ok((shared, trails))
    }

    fn sink(&self, trail: &TrailConfig) -> Result<Sink, SinkError> {
        #[cfg(test)]
        if let Some(sink) = &self.sink {
            return Ok(sink.clone());
        }
        Sink::open(&trail.sink, &trail.bucket, trail.kms_key.as_deref())
    }

    fn progress(&self, arn: &str, change: impl FnOnce(&mut TrailStatus)) {
        if let Some(trail) = self.trails.get(arn) {
            change(&mut trail.status.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn planned(&self, arn: &str) -> Arc<Notify> {
        self.trails.get(arn).map(|trail| trail.planned.clone()).unwrap_or_default()
    }

    fn recall_deliveries(&self, trail: &TrailConfig) -> Result<(), TrailError> {
        let (log, digest) = (self.store.last_delivery(&trail.arn, false)?, self.store.last_delivery(&trail.arn, true)?);
        self.progress(&trail.arn, |status| {
            (status.latest_delivery_time, status.latest_delivery_attempt) = (log, log);
            (status.latest_digest_delivery_time, status.latest_digest_delivery_attempt) = (digest, digest);
        });
        Ok(())
    }

    /// Tells whoever waits how far a planner is.
    fn note_planned(&self, trail: &TrailConfig, planner: &Planner) -> Result<(), TrailError> {
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
    fn report_passed(&self) -> Result<(), TrailError> {
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
    fn new() -> Self {
        let (position, _) = watch::channel(0);
        Self {
            status: Mutex::default(),
            position,
            needed_from: Mutex::new(0),
            planned: Arc::default(),
            #[cfg(test)]
            idle_since: watch::Sender::default(),
        }
    }
}

/// Runs a planner until stopped. One that fails starts over from its store, as after a crash.
async fn plan(shared: Arc<Shared>, trail: Arc<TrailConfig>, planner: Planner, stop: CancellationToken) {
    let mut planner = Some(planner);
    while !stop.is_cancelled() {
        let (shared_, trail_, current) = (shared.clone(), trail.clone(), planner.take());
        let stepped = blocking(move || {
            let mut planner = match current {
                Some(planner) => planner,
                None => Planner::open(shared_.clone(), trail_.clone())?,
            };
            let before = (planner.position(), planner.needed_from());
            #[cfg(test)]
            let began = shared_.clock.now();
            let step = planner.step()?;
            if before != (planner.position(), planner.needed_from()) {
                shared_.note_planned(&trail_, &planner)?;
            } else {
                shared_.planned(&trail_.arn).notify_one();
            }
            #[cfg(test)]
            if matches!(step, Step::Idle { due, .. } if due.is_none_or(|due| due > began)) {
                shared_.trails[&trail_.arn].idle_since.send_replace(began);
            }
            Ok((planner, step))
        });
        match stepped.await {
            Ok((stepped, step)) => {
                planner = Some(stepped);
                if let Step::Idle { next_index, due } = step {
                    idle(&shared, next_index, due, &stop).await;
                }
            }
            Err(error) => {
                error!(trail = trail.name, error = chain(&error), "planning failed and starts over");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(PLANNER_RETRY) => {}
                }
            }
        }
    }
}

/// Waits until the ledger has something new or something is due.
async fn idle(shared: &Shared, next_index: u64, due: Option<u64>, stop: &CancellationToken) {
    let mut ledger = shared.ledger.watch();
    let due = async {
        match due {
            Some(due) => shared.clock.until(due).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = due => {}
        gone = async { ledger.wait_for(|next| *next >= next_index).await.is_err() } => {
            if gone {
                // The ledger has stopped: nothing comes any more, the end is near.
                stop.cancelled().await;
            }
        }
    }
}

/// Makes digest keys ahead of their days and erases them after.
async fn keep_keys(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let now = shared.clock.now() / SECOND;
        let shared_ = shared.clone();
        if let Err(error) = blocking(move || Ok(shared_.keys.keep(now)?)).await {
            error!(error = chain(&error), "digest keys could not be made or erased");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.keys.region_added.notified() => {}
            () = shared.clock.until(DigestKeys::next_keep(now) * SECOND) => info!("a digest key's day begins or nears"),
        }
    }
}

fn digest_key_folder(state_dir: &Path) -> PathBuf {
    state_dir.join("digest-keys")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, TrailError> + Send + 'static) -> Result<T, TrailError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|join| Err(TrailError::Worker(join)))
}

/// An error with its causes, for a log line and the status.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("ledger", &self.ledger).field("trails", &self.trails.keys()).finish_non_exhaustive()
    }
}
