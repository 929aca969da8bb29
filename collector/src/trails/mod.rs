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
mod plan;
mod planner;
mod shared;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod trail;
mod window;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use edgetrail_proto::proof::ProofReceiptKey;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::control::TrailConfig;
use crate::ledger::{Ledger, LedgerError};
use clock::SECOND;
use digest_key::DigestKeys;
use planner::{Planner, Step};
use shared::Shared;

pub use clock::Clock;
pub use digest_key::DigestKeyError;
pub use plan::PublicDigestKey;
pub use status::TrailStatus;
pub use store::StoreError;
pub use trail::{DIGEST_INTERVAL, LOG_BYTES, LOG_INTERVAL};

/// The name under which all trails together tell the ledger what they still need: for `LedgerOptions::consumers`.
pub const CONSUMER: &str = "trails";

/// Wait before a planner that failed starts over from its store.
const PLANNER_RETRY: Duration = Duration::from_secs(2);

/// What trails need to run.
#[derive(Debug)]
pub struct TrailsOptions {
    /// The collector's state directory: delivery.sqlite and digest-keys/ lie in it.
    pub state_dir: PathBuf,
    pub trails: Vec<TrailConfig>,
    /// Of the ledger's receipts, with their certificates: they go into every proof.
    pub receipt_keys: ReceiptKeySource,
    pub clock: Clock,
}

/// Gives the receipt keys of every collector of this home as of now: a restored collector goes on under another one.
#[derive(Clone)]
pub struct ReceiptKeySource(Arc<dyn Fn() -> Vec<ProofReceiptKey> + Send + Sync>);

impl ReceiptKeySource {
    pub fn new(keys: impl Fn() -> Vec<ProofReceiptKey> + Send + Sync + 'static) -> Self {
        Self(Arc::new(keys))
    }

    fn now(&self) -> Vec<ProofReceiptKey> {
        (self.0)()
    }
}

impl std::fmt::Debug for ReceiptKeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReceiptKeySource")
    }
}

/// The handle: cheap to clone.
#[derive(Clone, Debug)]
pub struct Trails {
    shared: Arc<Shared>,
}

/// Owns the tasks. They end when the token that they were started with is cancelled.
#[derive(Debug)]
pub struct TrailsTasks {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

/// A task ended without being told to: delivery would stand still unseen, so the collector must end.
#[derive(Debug, thiserror::Error)]
#[error("a task of the trails ended early; please report this")]
pub struct TrailsEnded(#[source] Option<tokio::task::JoinError>);

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
            tasks.spawn(run_planner(shared.clone(), trail.clone(), planner, stop.clone()));
            tasks.spawn(delivery::deliver(shared.clone(), trail, stop.clone()));
        }
        Ok((Self { shared }, TrailsTasks { tasks, stop }))
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
    /// Waits for all tasks to end; each does so within one step after the stop. Returns at once if one ends before.
    pub async fn join(mut self) -> Result<(), TrailsEnded> {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(panicked) = ended {
                return Err(TrailsEnded(Some(panicked)));
            }
            if !self.stop.is_cancelled() {
                return Err(TrailsEnded(None));
            }
        }
        Ok(())
    }
}

/// Runs a planner until stopped. One that fails starts over from its store, as after a crash.
async fn run_planner(shared: Arc<Shared>, trail: Arc<TrailConfig>, planner: Planner, stop: CancellationToken) {
    let mut planner = Some(planner);
    while !stop.is_cancelled() {
        let (shared_, trail_, current) = (shared.clone(), trail.clone(), planner.take());
        let stepped = blocking(move || {
            let mut planner = match current {
                Some(planner) => planner,
                None => Planner::open(shared_.clone(), trail_.clone())?,
            };
            let before = (planner.position(), planner.needed_from());
            let step = planner.step()?;
            if before != (planner.position(), planner.needed_from()) {
                #[cfg(test)]
                shared_.trails[&trail_.arn].rests_until.send_replace(None);
                shared_.note_planned(&trail_, &planner)?;
            } else {
                shared_.planned(&trail_.arn).notify_one();
            }
            #[cfg(test)]
            if let Step::Idle { due, .. } = step {
                shared_.trails[&trail_.arn].rests_until.send_replace(Some(due.unwrap_or(u64::MAX)));
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
