//! The one thread that writes the ledger: all that waits goes into one fsync and one transaction.
//!
//! ```text
//! take what waits → judge each inside the transaction → append bodies → fdatasync → COMMIT (WAL, FULL) → tail → answers
//! ```
//!
//! An fsync that fails leaves unknown what is on disk: the thread ends, the process with it, and the next start
//! recovers. A full disk or a failed statement refuses the group and the ledger goes on.

use std::path::PathBuf;
use std::sync::Arc;

use edgetrail_disk::crash_point;
use edgetrail_proto::chain::{Hash, Open, Receipt};
use edgetrail_proto::identity::StreamId;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::commit::{Act, Judgement, judge_batch};
use super::forks::{Beyond, EvidenceBound};
use super::opens::{OpenJudgement, judge_open, superseded_at};
use super::segments::{self, Segments};
use super::store::StreamRow;
use super::take_up::{Evidence, Missing, Role, TakenUp, Why};
use super::{
    Bringer, Clock, CommitError, Committed, Entry, Failpoint, Incoming, LedgerError, Opened, Shared, Step, StreamInfo, anchors,
    forks, named, store,
};

/// Most requests that share one transaction. Bodies are bounded by the queue's bytes.
const GROUP_MAX: usize = 512;

/// What waits for the writer. The permit counts its bytes against the queue until it is answered.
pub(super) enum Request {
    Commit { batch: Box<Incoming>, answer: oneshot::Sender<Result<Committed, CommitError>>, permit: OwnedSemaphorePermit },
    Open { info: Arc<StreamInfo>, bringer: Bringer, joined_at: u64, answer: oneshot::Sender<Result<Opened, CommitError>> },
    TakeUp { evidence: Box<Evidence>, answer: oneshot::Sender<Result<TakenUp, CommitError>> },
    Forget { signer: Hash, answer: oneshot::Sender<Result<Vec<Missing>, CommitError>> },
    Lose { stream: StreamId, to: u64, why: Why, answer: oneshot::Sender<Result<bool, CommitError>> },
    Know { receipt: Box<Receipt> },
    Reported { loss: i64, answer: oneshot::Sender<Result<(), CommitError>> },
    Freeze { act: Box<Act>, answer: oneshot::Sender<Result<(), CommitError>> },
    Release { below: u64, received_before: u64 },
    Stop,
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) segments: Segments,
    pub(super) segments_dir: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) role: Role,
    pub(super) next_index: u64,
    pub(super) last_received: u64,
    pub(super) evidence: EvidenceBound,
    pub(super) clock: Clock,
    pub(super) failpoint: Option<Failpoint>,
}

/// An answer that is given once the transaction is durable.
enum Answer {
    Committed(oneshot::Sender<Result<Committed, CommitError>>, Result<Committed, CommitError>),
    Opened(oneshot::Sender<Result<Opened, CommitError>>, Result<Opened, CommitError>),
    TakenUp(oneshot::Sender<Result<TakenUp, CommitError>>, Result<TakenUp, CommitError>),
    Forgotten(oneshot::Sender<Result<Vec<Missing>, CommitError>>, Result<Vec<Missing>, CommitError>),
    Lost(oneshot::Sender<Result<bool, CommitError>>, Result<bool, CommitError>),
    Done(oneshot::Sender<Result<(), CommitError>>, Result<(), CommitError>),
}

impl Writer {
    /// Until stopped, or an error after which nothing may be written.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) -> Result<(), LedgerError> {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while requests.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            let stop = group.iter().any(|request| matches!(request, Request::Stop));
            self.commit_group(group.drain(..))?;
            if stop {
                break;
            }
        }
        Ok(())
    }

    fn commit_group(&mut self, group: impl Iterator<Item = Request>) -> Result<(), LedgerError> {
        let mark = self.segments.mark();
        let first_index = self.next_index;
        let mut answers = Vec::new();
        let mut entries = Vec::new();
        let mut permits = Vec::new();
        let mut releases = Vec::new();
        let mut failed = self.connection.execute_batch("BEGIN IMMEDIATE").err().map(LedgerError::from);
        for request in group {
            match request {
                Request::Commit { batch, answer, permit } => {
                    permits.push(permit);
                    let result = self.judge(&mut failed, |writer| writer.commit(*batch, &mut entries));
                    answers.push(Answer::Committed(answer, result));
                }
                Request::Open { info, bringer, joined_at, answer } => {
                    let result = self.judge(&mut failed, |writer| writer.open(&info, bringer, joined_at));
                    answers.push(Answer::Opened(answer, result));
                }
                Request::Freeze { act, answer } => {
                    let result = self.judge(&mut failed, |writer| writer.freeze(&act).map(Ok));
                    answers.push(Answer::Done(answer, result));
                }
                Request::TakeUp { evidence, answer } => {
                    let result = self.judge(&mut failed, |writer| writer.take_up(&evidence));
                    answers.push(Answer::TakenUp(answer, result));
                }
                Request::Forget { signer, answer } => {
                    let result = self.judge(&mut failed, |writer| writer.forget(signer).map(Ok));
                    answers.push(Answer::Forgotten(answer, result));
                }
                Request::Lose { stream, to, why, answer } => {
                    let result = self.judge(&mut failed, |writer| Ok(Ok(writer.lose_beyond(stream, to, why)?.is_some())));
                    answers.push(Answer::Lost(answer, result));
                }
                Request::Reported { loss, answer } => {
                    let result = self.judge(&mut failed, |writer| Ok(Ok(anchors::reported(&writer.connection, loss)?)));
                    answers.push(Answer::Done(answer, result));
                }
                // Nobody waits for the answer; a group that fails takes what follows with it.
                Request::Know { receipt } => {
                    drop(self.judge(&mut failed, |writer| Ok(Ok(named::put(&writer.connection, &receipt)?))));
                }
                Request::Release { below, received_before } => releases.push((below, received_before)),
                Request::Stop => {}
            }
        }
        if failed.is_none() {
            failed = self.make_durable().err();
        }
        if let Some(error) = failed {
            if !error.is_retryable() {
                return Err(error);
            }
            tracing::error!(error = &error as &dyn std::error::Error, "ledger refused a group of commits");
            // Nothing of the group is in the ledger: the senders keep their batches and come back.
            if !self.connection.is_autocommit() {
                self.connection.execute_batch("ROLLBACK")?;
            }
            self.segments.rewind(mark)?;
            self.next_index = first_index;
            for answer in answers {
                answer.refuse(&error);
            }
            return Ok(());
        }
        // From here on a crash recovers to a ledger that has the whole group: consumers and senders may know.
        self.shared.publish(entries, self.next_index);
        for answer in answers {
            answer.give();
        }
        drop(permits);
        for (below, received_before) in releases {
            self.release(below, received_before)?;
        }
        Ok(())
    }

    /// Runs one request inside the transaction; after a failure the rest of the group is not tried. A row that can't be read
    /// fails its own request alone, as long as that has written nothing.
    fn judge<T>(
        &mut self,
        failed: &mut Option<LedgerError>,
        request: impl FnOnce(&mut Self) -> Result<Result<T, CommitError>, LedgerError>,
    ) -> Result<T, CommitError> {
        if failed.is_none() {
            let before = self.connection.total_changes();
            match request(self) {
                Ok(result) => return result,
                Err(error) if error.is_of_one_row() && self.connection.total_changes() == before => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the ledger refuses whoever needs a damaged row");
                    return Err(CommitError::Unavailable(error));
                }
                Err(error) => *failed = Some(error),
            }
        }
        // Replaced by `Answer::refuse` with the group's error.
        Err(CommitError::Unavailable(LedgerError::Stopped))
    }

    fn commit(
        &mut self,
        incoming: Incoming,
        entries: &mut Vec<Arc<Entry>>,
    ) -> Result<Result<Committed, CommitError>, LedgerError> {
        let (stream, k) = (incoming.header.stream, incoming.header.k);
        let Some(row) = store::stream(&self.connection, stream)? else {
            return Ok(Err(CommitError::Unknown { stream }));
        };
        match judge_batch(&row.state, row.superseded_at, &incoming.header, incoming.bringer) {
            Judgement::Frozen => self.refuse_frozen(&row, &incoming),
            Judgement::Closed => Ok(Err(CommitError::Closed { stream })),
            Judgement::Expect => Ok(Err(CommitError::Expect { head: Box::new(row.state.head) })),
            Judgement::Fork => self.fork(&row, &incoming),
            Judgement::Past => match store::committed(&self.connection, row.id, stream, k)? {
                Some(committed) if committed.hash == incoming.hash => Ok(Err(CommitError::Duplicate(committed))),
                Some(_) => self.fork(&row, &incoming),
                None => self.commit_late(&row, incoming, entries),
            },
            Judgement::Next => self.append(&row, incoming, entries).map(Ok),
        }
    }

    /// Keeps the later branch and freezes its agent.
    pub(super) fn fork(&mut self, row: &StreamRow, incoming: &Incoming) -> Result<Result<Committed, CommitError>, LedgerError> {
        let now = self.now();
        forks::keep_batch(&self.connection, row.state.info.agent, incoming, now, self.evidence)?;
        store::freeze_agent(&self.connection, row.state.info.agent, now)?;
        Ok(Err(CommitError::Fork { stream: incoming.header.stream, k: incoming.header.k }))
    }

    /// Nothing of a frozen agent is committed; what is not in the ledger is kept beside it.
    fn refuse_frozen(&mut self, row: &StreamRow, incoming: &Incoming) -> Result<Result<Committed, CommitError>, LedgerError> {
        let agent = row.state.info.agent;
        let committed = store::committed(&self.connection, row.id, incoming.header.stream, incoming.header.k)?;
        if committed.is_none_or(|committed| committed.hash != incoming.hash) {
            let now = self.now();
            forks::keep_batch(&self.connection, agent, incoming, now, self.evidence)?;
        }
        Ok(Err(CommitError::Frozen { agent }))
    }

    /// Freezes an agent for what it did after it was told that it is not the one that goes on.
    fn freeze(&mut self, act: &Act) -> Result<(), LedgerError> {
        match act {
            Act::Open(info) => self.freeze_by(info),
            Act::Batch { agent, batch } => {
                let now = self.now();
                forks::keep_batch(&self.connection, *agent, batch, now, self.evidence)?;
                store::freeze_agent(&self.connection, *agent, now)
            }
            Act::Beyond { agent } => {
                let now = self.now();
                forks::count_beyond(&self.connection, *agent, Beyond { batches: 1, opens: 0 }, now)
            }
            Act::Told { agent, at } => store::freeze_agent(&self.connection, *agent, *at),
        }
    }

    /// Freezes the agent of an open that should not be: what it says is kept.
    fn freeze_by(&mut self, info: &StreamInfo) -> Result<(), LedgerError> {
        let now = self.now();
        forks::keep_open(&self.connection, info, now, self.evidence)?;
        store::freeze_agent(&self.connection, info.agent, now)
    }

    fn open(&mut self, info: &StreamInfo, bringer: Bringer, joined_at: u64) -> Result<Result<Opened, CommitError>, LedgerError> {
        if let Some(known) = store::stream(&self.connection, info.stream)? {
            // The same open twice is nothing; another one under the same id is a second branch from the start.
            if known.state.info.open_bytes == info.open_bytes {
                return Ok(Ok(Opened { superseded: known.state.superseded_by.is_some() }));
            }
            self.freeze_by(info)?;
            return Ok(Err(CommitError::Fork { stream: info.stream, k: 0 }));
        }
        let streams: Vec<_> = store::streams_about(&self.connection, &info.open)?.into_iter().map(|row| row.state).collect();
        match judge_open(&info.open, &streams, joined_at) {
            OpenJudgement::Frozen => {
                let now = self.now();
                forks::keep_open(&self.connection, info, now, self.evidence)?;
                Ok(Err(CommitError::Frozen { agent: info.agent }))
            }
            // Nobody to be told where to go on: the relay's agent has batches with a final receipt behind this open.
            OpenJudgement::Behind { .. } if bringer == Bringer::Relay => {
                self.freeze_by(info)?;
                Ok(Err(CommitError::Fork { stream: info.stream, k: 0 }))
            }
            OpenJudgement::Behind { latest } => Ok(Err(CommitError::Behind { latest })),
            OpenJudgement::Late { by, bound } => {
                let later = streams.iter().find(|state| state.info.stream == by).map_or(0, |state| state.info.open.t_opened);
                let at = superseded_at(later, info.open.t_opened, self.now());
                store::insert_stream(&self.connection, info, Some((by, at, bound)))?;
                Ok(Ok(Opened { superseded: true }))
            }
            OpenJudgement::Current { supersedes } => {
                store::insert_stream(&self.connection, info, None)?;
                for former in supersedes {
                    let known = self.known_of(&info.open, former.stream)?;
                    let at = superseded_at(info.open.t_opened, known, self.now());
                    store::supersede(&self.connection, former.stream, former.bound, info.stream, at)?;
                }
                Ok(Ok(Opened { superseded: false }))
            }
        }
    }

    /// The host's time of the last thing of `former` that the open's agent knew: zero where the open does not name it.
    fn known_of(&self, open: &Open, former: StreamId) -> Result<u64, LedgerError> {
        let Some(named) = open.predecessor.filter(|named| named.stream == former) else { return Ok(0) };
        let Some(row) = store::stream(&self.connection, former)? else { return Ok(0) };
        let sealed = match store::committed(&self.connection, row.id, former, named.k)?.filter(|held| held.hash == named.hash) {
            Some(held) => store::batches(&self.connection, held.index, 1)?.pop().map_or(0, |batch| batch.header.t_sealed),
            None => 0,
        };
        Ok(sealed.max(row.state.info.open.t_opened))
    }

    /// Bodies first: a row must never name a frame that a crash could take away.
    fn make_durable(&mut self) -> Result<(), LedgerError> {
        crash_point("collector/ledger-written");
        self.reach(Step::Written)?;
        self.segments.sync()?;
        // From here on a crash leaves frames that no row names: recovery cuts them off.
        crash_point("collector/ledger-synced");
        self.reach(Step::Synced)?;
        self.connection.execute_batch("COMMIT")?;
        crash_point("collector/ledger-committed");
        self.reach(Step::Committed)
    }

    /// Removes segments that every consumer has passed. File first: a row whose file is gone is met again and forgotten.
    fn release(&mut self, below: u64, received_before: u64) -> Result<(), LedgerError> {
        for segment in store::releasable(&self.connection, below, received_before)? {
            segments::remove(&self.shared.medium, &self.segments_dir, segment)?;
            store::forget_segment(&self.connection, segment)?;
            tracing::info!(segment, "released a segment that every consumer has passed");
        }
        Ok(())
    }

    /// Commit time: the clock's, but never before an earlier commit's.
    pub(super) fn now(&mut self) -> u64 {
        self.last_received = self.last_received.max((self.clock)());
        self.last_received
    }

    fn reach(&self, step: Step) -> Result<(), LedgerError> {
        self.failpoint.as_ref().map_or(Ok(()), |failpoint| failpoint(step))
    }
}

impl Answer {
    /// A caller that went away is no concern: what it asked for is durable.
    fn give(self) {
        match self {
            Self::Committed(answer, result) => drop(answer.send(result)),
            Self::Opened(answer, result) => drop(answer.send(result)),
            Self::TakenUp(answer, result) => drop(answer.send(result)),
            Self::Forgotten(answer, result) => drop(answer.send(result)),
            Self::Lost(answer, result) => drop(answer.send(result)),
            Self::Done(answer, result) => drop(answer.send(result)),
        }
    }

    fn refuse(self, error: &LedgerError) {
        let unavailable = CommitError::Unavailable(LedgerError::Refused { reason: error.to_string() });
        match self {
            Self::Committed(answer, _) => drop(answer.send(Err(unavailable))),
            Self::Opened(answer, _) => drop(answer.send(Err(unavailable))),
            Self::TakenUp(answer, _) => drop(answer.send(Err(unavailable))),
            Self::Forgotten(answer, _) => drop(answer.send(Err(unavailable))),
            Self::Lost(answer, _) => drop(answer.send(Err(unavailable))),
            Self::Done(answer, _) => drop(answer.send(Err(unavailable))),
        }
    }
}
