//! The durable, deduplicated store of batches: the one truth behind everything downstream.
//!
//! A batch is committed exactly once, by compare-and-set on (stream, k, previous head) in the transaction that names
//! its body. Bodies lie, compressed as received, in append-only segment files that are fsynced before that
//! transaction. A receipt exists only for what this made durable. The ledger knows none of its consumers: they read it
//! from cursors of their own and say how far they have passed.
//!
//! ```text
//! ledger/ledger.sqlite            streams and heads, batch index with headers and seals (kept for ever), forks' evidence
//! ledger/segments/NNNNNNNN.seg    bodies; released when every consumer has passed them and retention allows
//! ```

mod anchors;
mod commit;
mod entry;
mod evidence;
mod forks;
mod held;
mod named;
mod open;
mod opens;
mod read;
mod segments;
mod signers;
mod store;
mod tail;
mod take_up;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edgetrail_disk::Medium;
use edgetrail_disk::database::DatabaseError;
use edgetrail_proto::chain::{Hash, Head, Receipt, ReceiptSigner};
use edgetrail_proto::identity::{AgentId, StreamId};
use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use anchors::waiting_in;
pub use commit::{Act, Bringer, CommitError, Committed, Incoming, Opened};
pub use edgetrail_link::body::Encoding;
pub use entry::{COLLECTOR_SOURCE, Entry, EntryRecord, Quarantine, StreamInfo};
pub use evidence::{Fork, Forks};
pub use forks::EvidenceBound;
pub use held::{HeldBatch, HeldBranch, HeldOpen, HeldStreams};
pub use open::LedgerTask;
pub use read::IndexEntry;
pub use take_up::{Evidence, Missing, Role, TakenUp, Waiting, Why};

use signers::Signers;
use tail::Tail;
use writer::Request;

/// A stream's state is kept by this many; beyond, the rows are read again. About 2 KiB each.
const INFOS_MAX: usize = 8192;

/// Segments are looked through for release at most this often.
const RELEASE_INTERVAL: Duration = Duration::from_secs(60);

/// Unix nanoseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A crash that a test makes happen.
pub(crate) type Failpoint = Box<dyn Fn(Step) -> Result<(), LedgerError> + Send>;

/// How far a group commit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Written,
    Synced,
    Committed,
}

pub struct LedgerOptions {
    /// The disk that the ledger lies on.
    pub medium: Medium,
    pub signer: Arc<ReceiptSigner>,
    /// SHA-256 of the receipt keys that this collector signed with before.
    pub former_keys: Vec<Hash>,
    pub role: Role,
    /// Who must have passed a segment before it is released.
    pub consumers: Vec<String>,
    /// A segment stays at least this long after its last commit.
    pub retention: Duration,
    /// Recent entries held in memory, in bytes.
    pub tail_bytes: usize,
    /// Batches waiting for the writer, in bytes.
    pub queue_bytes: usize,
    pub segment_bytes: u64,
    /// What is kept of one agent's forks.
    pub evidence: EvidenceBound,
    pub clock: Clock,
    pub(crate) failpoint: Option<Failpoint>,
}

/// The handle: cheap to clone. Reading calls block on disk; committing ones are asynchronous.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    /// One permit per KiB that waits for the writer.
    queue: Arc<Semaphore>,
    queue_permits: u32,
}

/// A batch that waits for its commit. Dropping it takes nothing back.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Committed, CommitError>>);

/// A stream as the ledger knows it.
#[derive(Clone, Debug)]
pub struct StreamState {
    pub info: Arc<StreamInfo>,
    pub head: Head,
    pub superseded_by: Option<StreamId>,
    /// Of a superseded stream: the last k it may still bring; `None`: not even batch 0.
    pub bound: Option<u64>,
    /// Unix nanoseconds: since when nothing of its agent is taken, until it joins again.
    pub frozen_at: Option<u64>,
}

impl StreamState {
    pub fn is_frozen(&self) -> bool {
        self.frozen_at.is_some()
    }
}

/// What the handles and the writer have in common.
struct Shared {
    medium: Medium,
    segments_dir: PathBuf,
    signers: Signers,
    /// Reads only; the writer has a connection of its own.
    reader: Mutex<Connection>,
    tail: Mutex<Tail>,
    infos: Mutex<HashMap<StreamId, Arc<StreamInfo>>>,
    next_index: watch::Sender<u64>,
    consumers: Mutex<Consumers>,
    retention: Duration,
    clock: Clock,
}

/// The next index that each consumer needs.
struct Consumers {
    next: HashMap<String, u64>,
    asked: Instant,
}

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(
        "the ledger's database can't be read or written: check the disk's free space and health; restore a damaged one from a copy"
    )]
    Sqlite(#[from] rusqlite::Error),
    #[error("{} can't be read or written: check its permissions and the disk", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// What is on disk is unknown now: the process must end and recover.
    #[error("{} could not be synced to disk; the collector stops and recovers at the next start", path.display())]
    Sync { path: PathBuf, source: std::io::Error },
    #[error("{what} in {}: restore the ledger directory from a copy, or move it away to start a new ledger", path.display())]
    Damaged { what: &'static str, path: PathBuf },
    #[error("the {what} in row {row} of the ledger's database is damaged: restore the ledger directory from a copy")]
    DamagedRow { what: &'static str, row: i64 },
    #[error(
        "the bodies at ledger index {index} are gone: released, as every consumer had passed them; else restore the ledger from a copy"
    )]
    Released { index: u64 },
    #[error("a body of {bytes} bytes does not fit a frame")]
    TooLong { bytes: usize },
    #[error("the ledger's database can't be opened")]
    Database(#[source] DatabaseError),
    #[error("the group of commits failed: {reason}")]
    Refused { reason: String },
    #[error("the ledger has stopped")]
    Stopped,
}

impl From<DatabaseError> for LedgerError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Sqlite(error) => Self::Sqlite(error),
            error => Self::Database(error),
        }
    }
}

impl LedgerError {
    /// Whether the writer may go on and the sender come back: false when it is unknown what is on disk.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Sqlite(error) => !matches!(
                error.sqlite_error_code(),
                Some(
                    rusqlite::ErrorCode::SystemIoFailure
                        | rusqlite::ErrorCode::DatabaseCorrupt
                        | rusqlite::ErrorCode::NotADatabase
                )
            ),
            Self::Io { .. } | Self::Released { .. } | Self::TooLong { .. } | Self::Refused { .. } | Self::DamagedRow { .. } => {
                true
            }
            Self::Sync { .. } | Self::Damaged { .. } | Self::Database(_) | Self::Stopped => false,
        }
    }

    /// Whether one row can't be read and the rest of the database can: whoever asks for it is refused, and nobody else.
    pub fn is_of_one_row(&self) -> bool {
        match self {
            Self::DamagedRow { .. } => true,
            // What stands in a column is not what belongs there.
            Self::Sqlite(error) => matches!(
                error,
                rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::InvalidColumnType(..)
            ),
            Self::Io { .. }
            | Self::Released { .. }
            | Self::TooLong { .. }
            | Self::Refused { .. }
            | Self::Sync { .. }
            | Self::Damaged { .. }
            | Self::Database(_)
            | Self::Stopped => false,
        }
    }
}

impl Ledger {
    /// Opens or creates the ledger in `dir`, cuts off what no commit names, verifies every head, starts the writer.
    pub fn open(dir: &Path, options: LedgerOptions) -> Result<(Ledger, LedgerTask), LedgerError> {
        open::open(dir, options)
    }

    /// Whether no batch waits for its commit: for simulations, whose time passes only then.
    pub fn is_idle(&self) -> bool {
        self.queue.available_permits() == self.queue_permits as usize && self.requests.capacity() == self.requests.max_capacity()
    }

    pub fn stream(&self, id: StreamId) -> Result<Option<StreamState>, LedgerError> {
        Ok(store::stream(&self.shared.reader(), id)?.map(|row| self.shared.known(row.state)))
    }

    /// Oldest first; the latest is the one that nothing supersedes.
    pub fn streams_of(&self, agent: AgentId) -> Result<Vec<StreamState>, LedgerError> {
        let rows = store::streams_of(&self.shared.reader(), agent)?;
        Ok(rows.into_iter().map(|row| self.shared.known(row.state)).collect())
    }

    /// The agent's current stream: the one that nothing supersedes.
    pub fn latest(&self, agent: AgentId) -> Result<Option<StreamState>, LedgerError> {
        Ok(store::latest(&self.shared.reader(), agent)?.map(|row| self.shared.known(row.state)))
    }

    /// The agent's streams of cause 5 that are not frozen: the newest `limit`, newest first.
    pub fn restored(&self, agent: AgentId, limit: usize) -> Result<Vec<StreamState>, LedgerError> {
        let rows = store::restored(&self.shared.reader(), agent, limit)?;
        Ok(rows.into_iter().map(|row| self.shared.known(row.state)).collect())
    }

    /// The collector's own streams, oldest first.
    pub fn internal_streams(&self) -> Result<Vec<StreamState>, LedgerError> {
        let rows = store::internal_streams(&self.shared.reader())?;
        Ok(rows.into_iter().map(|row| self.shared.known(row.state)).collect())
    }

    /// Every stream on record, oldest first.
    pub fn streams(&self) -> Result<Vec<StreamState>, LedgerError> {
        let rows = store::streams(&self.shared.reader())?;
        Ok(rows.into_iter().map(|row| self.shared.known(row.state)).collect())
    }

    /// Records an open and supersedes what it follows, in one transaction. The same open twice is nothing.
    ///
    /// That the open, its signature, certificate and binding belong together is the caller's to have verified.
    pub async fn record_open(&self, info: StreamInfo) -> Result<Opened, CommitError> {
        self.record_open_by(info, Bringer::Agent, 0).await
    }

    /// As [`Ledger::record_open`]; a second successor that a relay brings is a fork. An agent that has joined again since it
    /// was frozen, at `joined_at` (Unix nanoseconds), brings what it opened meanwhile: it is recorded as superseded.
    pub async fn record_open_by(&self, info: StreamInfo, bringer: Bringer, joined_at: u64) -> Result<Opened, CommitError> {
        let (answer, answered) = oneshot::channel();
        self.submit(Request::Open { info: Arc::new(info), bringer, joined_at, answer }, answered).await
    }

    /// Goes on with a stream behind batches that are not here, or says why not yet. docs/protocol.md §9.
    ///
    /// What was given up is to be reported: [`Ledger::unreported`] names it until then.
    pub async fn take_up(&self, evidence: Evidence) -> Result<TakenUp, CommitError> {
        let (answer, answered) = oneshot::channel();
        self.submit(Request::TakeUp { evidence: Box::new(evidence), answer }, answered).await
    }

    /// Gives up whatever only the collector with this receipt key (its SHA-256) could still bring: streams that wait for
    /// it go on, and its receipts anchor from now on.
    pub async fn forget(&self, signer: Hash) -> Result<Vec<Missing>, CommitError> {
        let (answer, answered) = oneshot::channel();
        self.submit(Request::Forget { signer, answer }, answered).await
    }

    /// Batches beyond the stream's head, up to `to`, will hardly come: whether that is news. They are taken if they come.
    pub async fn lose(&self, stream: StreamId, to: u64, why: Why) -> Result<bool, CommitError> {
        let (answer, answered) = oneshot::channel();
        self.submit(Request::Lose { stream, to, why, answer }, answered).await
    }

    /// Batches that were given up and are not reported yet, oldest first, at most `limit`.
    pub fn unreported(&self, limit: u32) -> Result<Vec<Missing>, LedgerError> {
        anchors::unreported(&self.shared.reader(), limit)
    }

    /// The gap that reports a loss is in the ledger.
    pub async fn reported(&self, loss: i64) -> Result<(), CommitError> {
        let (answer, answered) = oneshot::channel();
        self.submit(Request::Reported { loss, answer }, answered).await
    }

    /// Keeps a receipt of another collector, which the caller has verified: durable no later than whatever is put to the
    /// ledger after it.
    pub async fn know(&self, receipt: Receipt) -> Result<(), CommitError> {
        let sent = self.requests.send(Request::Know { receipt: Box::new(receipt) }).await;
        sent.map_err(|_closed| CommitError::Unavailable(LedgerError::Stopped))
    }

    /// The receipt of another collector that has this message hash, if it was kept.
    pub fn known_receipt(&self, message: &Hash) -> Result<Option<Receipt>, LedgerError> {
        named::get(&self.shared.reader(), message)
    }

    /// Streams that stand still until another collector brings what it vouched for.
    pub fn waiting(&self) -> Result<Vec<Waiting>, LedgerError> {
        anchors::waiting(&self.shared.reader())
    }

    /// Ranges of k below the stream's head that are not here. No receipt for a later batch stands for these.
    pub fn missing(&self, stream: StreamId) -> Result<Vec<(u64, u64)>, LedgerError> {
        let reader = self.shared.reader();
        store::stream(&reader, stream)?.map_or(Ok(Vec::new()), |row| anchors::missing(&reader, row.id))
    }

    /// The evidence on which the stream was taken up, in the order of k.
    pub fn anchors(&self, stream: StreamId) -> Result<Vec<Evidence>, LedgerError> {
        let reader = self.shared.reader();
        store::stream(&reader, stream)?.map_or(Ok(Vec::new()), |row| anchors::all(&reader, row.id))
    }

    /// SHA-256 of the receipt key that signs now.
    pub fn signs_as(&self) -> Hash {
        Hash::of(&self.shared.signers.current().public_key().0)
    }

    /// Receipts under this key are this ledger's own, though it knows of them no more.
    pub fn signed_as(&self, key: Hash) {
        self.shared.signers.adopt(key);
    }

    /// Signs with another key from now on; receipts under the former one stay this ledger's own.
    pub fn sign_with(&self, signer: Arc<ReceiptSigner>) {
        self.shared.signers.replace(signer);
    }

    /// Commits the next batch of a stream. That its chain verifies is the caller's to have checked.
    pub async fn commit(&self, batch: Incoming) -> Result<Committed, CommitError> {
        self.put(batch).await?.committed().await
    }

    /// Puts a batch before the writer without waiting for the commit: batches put one after the other are committed in
    /// that order, so that a stream may have several in flight. Waits while the queue is full.
    pub async fn put(&self, batch: Incoming) -> Result<Pending, CommitError> {
        let stopped = || CommitError::Unavailable(LedgerError::Stopped);
        let kib = (batch.body.len() + batch.records.iter().map(|record| record.bytes.len()).sum::<usize>()) / 1024 + 1;
        let permits = u32::try_from(kib).unwrap_or(u32::MAX).min(self.queue_permits);
        let permit = self.queue.clone().acquire_many_owned(permits).await.map_err(|_closed| stopped())?;
        let (answer, answered) = oneshot::channel();
        let request = Request::Commit { batch: Box::new(batch), answer, permit };
        self.requests.send(request).await.map_err(|_closed| stopped())?;
        Ok(Pending(answered))
    }

    /// Freezes every stream of an agent, for a fork that no batch shows, and keeps what shows it. docs/protocol.md §9.
    pub async fn freeze(&self, act: Act) -> Result<(), CommitError> {
        let (answer, answered) = oneshot::channel();
        self.submit(Request::Freeze { act: Box::new(act), answer }, answered).await
    }

    /// Agents of which a fork was found, with the time of the last one; the newest `limit`.
    pub fn frozen(&self, limit: u32) -> Result<Vec<(AgentId, u64)>, LedgerError> {
        store::frozen(&self.shared.reader(), limit)
    }

    /// The receipt for what was committed: the same bytes whenever it is made again.
    pub fn sign(&self, committed: &Committed) -> Receipt {
        let Committed { stream, k, hash, index, t_received } = *committed;
        self.shared.signers.current().sign(stream, k, hash, index, t_received)
    }

    /// The receipt for batch k, if it is in the ledger.
    pub fn receipt(&self, stream: StreamId, k: u64) -> Result<Option<Receipt>, LedgerError> {
        Ok(self.committed(stream, k)?.map(|committed| self.sign(&committed)))
    }

    /// H_k, if batch k is in the ledger.
    pub fn batch_hash(&self, stream: StreamId, k: u64) -> Result<Option<Hash>, LedgerError> {
        Ok(self.committed(stream, k)?.map(|committed| committed.hash))
    }

    pub fn committed(&self, stream: StreamId, k: u64) -> Result<Option<Committed>, LedgerError> {
        let reader = self.shared.reader();
        match store::stream(&reader, stream)? {
            Some(row) => store::committed(&reader, row.id, stream, k),
            None => Ok(None),
        }
    }

    /// The disk that the ledger lies on.
    pub(crate) fn medium(&self) -> &Medium {
        &self.shared.medium
    }

    /// The index that the next batch will get: everything below is durable and readable.
    pub fn next_index(&self) -> u64 {
        *self.shared.next_index.borrow()
    }

    /// Changes after each fsync; the value is [`Ledger::next_index`].
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.next_index.subscribe()
    }

    /// A consumer durably needs nothing before `index` any more. One that is not in the options is ignored.
    pub fn passed(&self, consumer: &str, index: u64) {
        let mut consumers = self.shared.consumers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = consumers.next.get_mut(consumer) {
            *next = index.max(*next);
        }
        if consumers.asked.elapsed() >= RELEASE_INTERVAL {
            consumers.asked = Instant::now();
            self.ask_release(&consumers);
        }
    }

    fn ask_release(&self, consumers: &Consumers) {
        let below = consumers.next.values().copied().min().unwrap_or(0);
        let retention = u64::try_from(self.shared.retention.as_nanos()).unwrap_or(u64::MAX);
        let received_before = (self.shared.clock)().saturating_sub(retention);
        // A full queue is no loss: the next report asks again.
        let _asked = self.requests.try_send(Request::Release { below, received_before });
    }

    #[cfg(test)]
    pub(crate) fn release_now(&self, consumer: &str, index: u64) {
        self.passed(consumer, index);
        self.ask_release(&self.shared.consumers.lock().unwrap_or_else(PoisonError::into_inner));
    }

    async fn submit<T>(&self, request: Request, answered: oneshot::Receiver<Result<T, CommitError>>) -> Result<T, CommitError> {
        let stopped = || CommitError::Unavailable(LedgerError::Stopped);
        self.requests.send(request).await.map_err(|_closed| stopped())?;
        answered.await.map_err(|_dropped| stopped())?
    }
}

impl Pending {
    /// Returns once the batch is durable, or why nothing was committed.
    pub async fn committed(self) -> Result<Committed, CommitError> {
        self.0.await.map_err(|_dropped| CommitError::Unavailable(LedgerError::Stopped))?
    }
}

impl LedgerOptions {
    /// What a collector runs with.
    pub fn new(signer: Arc<ReceiptSigner>) -> Self {
        Self {
            medium: Medium::real(),
            signer,
            former_keys: Vec::new(),
            role: Role::Home,
            consumers: Vec::new(),
            retention: Duration::from_secs(7 * 24 * 3600),
            tail_bytes: 64 * 1024 * 1024,
            queue_bytes: 64 * 1024 * 1024,
            segment_bytes: segments::SEGMENT_BYTES,
            evidence: EvidenceBound::default(),
            clock: Arc::new(wall_clock),
            failpoint: None,
        }
    }
}

impl Shared {
    /// Makes a committed group visible: entries first, so that whoever is woken finds them.
    fn publish(&self, entries: Vec<Arc<Entry>>, next_index: u64) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        entries.into_iter().for_each(|entry| tail.push(entry));
        drop(tail);
        self.next_index.send_if_modified(|next| std::mem::replace(next, next_index) != next_index);
    }

    /// One `StreamInfo` for all entries of a stream, however often its row is read.
    fn info(&self, info: Arc<StreamInfo>) -> Arc<StreamInfo> {
        let mut infos = self.infos.lock().unwrap_or_else(PoisonError::into_inner);
        if infos.len() >= INFOS_MAX && !infos.contains_key(&info.stream) {
            infos.clear();
        }
        infos.entry(info.stream).or_insert(info).clone()
    }

    fn known(&self, state: StreamState) -> StreamState {
        StreamState { info: self.info(state.info), ..state }
    }

    fn reader(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("next_index", &self.next_index()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for LedgerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerOptions")
            .field("consumers", &self.consumers)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

fn wall_clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
