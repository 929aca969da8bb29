//! The internal stream: the collector's own actions, in the ledger through the same chain writer.
//!
//! Every record is sealed at once and is durable when [`Internal::record`] returns. The stream is bound to all accounts
//! and regions. Silence shows as with any agent: a heartbeat every minute, a close at an orderly stop. A batch that the
//! ledger can't commit now is put again as it is: a key seals one head, ever.

mod opening;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgetrail_disk::{KeyFile, crash_point};
use edgetrail_link::body;
use edgetrail_proto::chain::{BatchKind, Binding, BindingError, Counters, Hash, SealInput, Writer, event_id};
use edgetrail_proto::identity::{AccountId, AgentId, Region, StreamId};
use edgetrail_proto::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, HEARTBEAT_INTERVAL};
use edgetrail_proto::merkle;
use edgetrail_proto::record::{Record, format_time};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ledger::{Bringer, CommitError, Committed, Encoding, EntryRecord, Incoming, Ledger, LedgerError};
use crate::pki::{Authority, IssueError};
pub use edgetrail_disk::KeyFileError;
pub use opening::{Home, Restored};

/// The name of the source in the internal stream's eventIDs.
pub(crate) const SOURCE: &str = "collector";

/// Callers waiting for their record's commit. Each holds at most one record.
const WAITING_MAX: usize = 256;

/// A batch that the ledger refused is put again after this.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The handle: cheap to clone.
#[derive(Clone, Debug)]
pub struct Internal {
    agent: AgentId,
    home: Arc<(AccountId, Region)>,
    requests: mpsc::Sender<Request>,
}

/// The stream's one writer.
#[derive(Debug)]
pub struct InternalTask {
    stream: StreamId,
    ledger: Ledger,
    requests: mpsc::Receiver<Request>,
    writer: Writer,
    binding: Binding,
    /// `None` only while a blocking task writes it.
    key_file: Option<KeyFile>,
    last_receipt: Hash,
    /// Those of the head.
    counters: Counters,
    restored: Option<Restored>,
    boot_id: [u8; 16],
}

#[derive(Debug)]
struct Request {
    bytes: Bytes,
    /// `Some` for a gap: the events that it counts.
    lost: Option<u64>,
    answer: oneshot::Sender<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum InternalError {
    #[error("the internal stream's key file can't be used")]
    KeyFile(#[from] KeyFileError),
    #[error("the ledger can't be read")]
    Ledger(#[from] LedgerError),
    #[error("the ledger does not take the internal stream")]
    Commit(#[from] CommitError),
    #[error("the host's name can't stand in a binding")]
    Host(#[source] BindingError),
    #[error("the internal stream's certificate can't be issued")]
    Certificate(#[source] IssueError),
    #[error("the key of the internal stream's certificate can't be made")]
    Key(#[source] rcgen::Error),
    /// The cause stands in the text: its type is no `std::error::Error` here.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    #[error("the internal stream has stopped")]
    Stopped,
}

impl Internal {
    /// Opens the stream, or goes on with the former one; `dir` is the collector's state directory.
    pub async fn open(
        dir: &Path,
        ledger: Ledger,
        authority: &Authority,
        home: &Home,
    ) -> Result<(Self, InternalTask), InternalError> {
        let opened = opening::resume_or_open(&dir.join("internal.key"), &ledger, authority, home).await?;
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let task = InternalTask {
            stream: opened.stream,
            ledger,
            requests: waiting,
            writer: opened.writer,
            binding: opened.binding,
            key_file: Some(opened.key_file),
            last_receipt: opened.last_receipt,
            counters: opened.counters,
            restored: opened.restored,
            boot_id: boot_id(),
        };
        let home = Arc::new((home.account, home.region.clone()));
        Ok((Self { agent: opened.agent, home, requests }, task))
    }

    /// The collector's agent id, in the internal stream's open.
    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// The collector's own account and region.
    pub fn home(&self) -> &(AccountId, Region) {
        &self.home
    }

    /// Commits a record and returns the ledger_index of its batch. Fills eventID and eventTime where they are empty.
    pub async fn record(&self, record: Record) -> Result<u64, InternalError> {
        self.put(record, None).await
    }

    /// As [`Internal::record`], for a gap over `lost` events: it counts as the collector's own, not as observed.
    pub async fn gap(&self, record: Record, lost: u64) -> Result<u64, InternalError> {
        self.put(record, Some(lost)).await
    }

    async fn put(&self, mut record: Record, lost: Option<u64>) -> Result<u64, InternalError> {
        if record.event_id.is_nil() {
            record.event_id = event_id(self.agent, SOURCE, &Uuid::new_v4().to_string(), 0);
        }
        if record.event_time.is_empty() {
            record.event_time = format_time(unix_ns());
        }
        let (answer, answered) = oneshot::channel();
        let request = Request { bytes: record.to_fitted_json().into(), lost, answer };
        self.requests.send(request).await.map_err(|_closed| InternalError::Stopped)?;
        answered.await.map_err(|_dropped| InternalError::Stopped)
    }
}

impl InternalTask {
    /// That the ledger is an older copy than the one which this stream was written to.
    pub fn restored(&self) -> Option<Restored> {
        self.restored
    }

    /// Seals what is asked for and heartbeats, until stopped; then a close.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), InternalError> {
        let mut waiting = Vec::new();
        let mut heartbeat = Instant::now() + HEARTBEAT_INTERVAL;
        let mut next: Option<Request> = None;
        loop {
            if next.is_none() {
                tokio::select! {
                    biased;
                    request = self.requests.recv() => match request {
                        Some(request) => next = Some(request),
                        None => return self.close().await,
                    },
                    () = stop.cancelled() => {
                        // Who asked before the stop is answered; the channel takes no more.
                        self.requests.close();
                        continue;
                    }
                    () = tokio::time::sleep_until(heartbeat) => {}
                }
            }
            // What waits together is sealed together, as far as one batch may hold it.
            let mut bytes = 0;
            while let Some(request) = next.take().or_else(|| self.requests.try_recv().ok()) {
                if !waiting.is_empty() && (waiting.len() == BATCH_RECORDS_MAX || bytes + request.bytes.len() > BATCH_BYTES_MAX) {
                    next = Some(request);
                    break;
                }
                bytes += request.bytes.len();
                waiting.push(request);
            }
            let records: Vec<Bytes> = waiting.iter().map(|request| request.bytes.clone()).collect();
            let kind = if records.is_empty() { BatchKind::Heartbeat } else { BatchKind::Records };
            for lost in waiting.iter().filter_map(|request| request.lost) {
                self.counters.own = self.counters.own.saturating_add(1);
                self.counters.lost_source = self.counters.lost_source.saturating_add(lost);
            }
            let Committed { index, .. } = self.seal(kind, &records, &stop).await?;
            heartbeat = Instant::now() + HEARTBEAT_INTERVAL;
            for request in waiting.drain(..) {
                // A caller that went away does not undo its record.
                let _gone = request.answer.send(index).is_err();
            }
        }
    }

    async fn close(mut self) -> Result<(), InternalError> {
        let stopped = CancellationToken::new();
        stopped.cancel();
        self.seal(BatchKind::Close, &[], &stopped).await?;
        Ok(())
    }

    /// Seals one batch and commits it. A ledger that is out of order for a while is waited for, until `stop`.
    async fn seal(&mut self, kind: BatchKind, records: &[Bytes], stop: &CancellationToken) -> Result<Committed, InternalError> {
        let leaves: Vec<Hash> = records.iter().map(|record| merkle::leaf_hash(record)).collect();
        let now = unix_ns();
        let committed_at = if records.is_empty() { 0 } else { now };
        // Nothing is selected away: what is not the collector's own was observed.
        self.counters.observed = self.writer.next_seq().saturating_add(leaves.len() as u64).saturating_sub(self.counters.own);
        let (sealed, writer) = self.writer.seal(&SealInput {
            kind,
            leaves: &leaves,
            boot_id: self.boot_id,
            t_sealed: now,
            t_min: committed_at,
            t_max: committed_at,
            counters: self.counters,
            last_receipt: self.last_receipt,
        });
        let mut framed = Vec::new();
        records.iter().for_each(|record| body::frame(&mut framed, record));
        let framed = Bytes::from(framed);
        let committed = loop {
            let batch = Incoming {
                bringer: Bringer::Agent,
                header: sealed.header.clone(),
                hash: sealed.hash,
                seal: sealed.seal,
                encoding: Encoding::Identity,
                body_bytes: u32::try_from(framed.len()).unwrap_or(u32::MAX),
                body: framed.clone(),
                records: (records.iter().zip(&leaves))
                    .map(|(record, leaf)| EntryRecord::judge(record.clone(), *leaf, &self.binding))
                    .collect(),
            };
            match self.ledger.commit(batch).await {
                Ok(committed) | Err(CommitError::Duplicate(committed)) => break committed,
                Err(CommitError::Unavailable(error))
                    if error.is_retryable() && !error.is_of_one_row() && !stop.is_cancelled() =>
                {
                    tracing::warn!(stream = %self.stream, error = &error as &dyn std::error::Error, "internal stream waits for the ledger");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        // From here on a crash recovers to this batch: the slot of its own k leads to the next one's.
        crash_point("collector/internal-committed");
        self.writer = writer;
        self.last_receipt = self.ledger.sign(&committed).message_hash();
        if let Some(mut key_file) = self.key_file.take() {
            let state = self.writer.clone();
            let advanced = tokio::task::spawn_blocking(move || key_file.advance(&state).map(|()| key_file)).await;
            self.key_file = Some(advanced.map_err(|_panicked| InternalError::Stopped)??);
        }
        Ok(committed)
    }
}

/// The kernel's id of this boot; zeros where there is none.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Uuid::try_parse(text.trim()).map_or([0; 16], Uuid::into_bytes)
}

fn unix_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
