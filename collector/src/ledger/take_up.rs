//! Going on behind batches that this ledger does not hold. docs/protocol.md §9.
//!
//! Whoever sends a stream may show the header of a batch with a receipt for it by another collector of this home, or by
//! this one before it was restored. A relay goes on behind that batch at once. Home goes on only where nobody can bring
//! what is missing any more: behind its own receipt, or behind one of a relay that was forgotten; else the stream waits.
//! What is missing below such an anchor is on record, range by range, is reported once, and is taken, once, if it comes.

use std::sync::Arc;

use edgetrail_proto::chain::{Hash, Head, Header, PublicKey, Receipt, Seal, verify_seal};
use edgetrail_proto::identity::StreamId;

use super::commit::head_after;
use super::store::StreamRow;
use super::writer::Writer;
use super::{CommitError, Committed, Entry, Incoming, LedgerError, StreamInfo, anchors, forks, store};

/// What this ledger does with a stream of which it lacks batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The truth of all its agents and relays: never commits above a hole unless nobody can fill it.
    Home,
    /// A copy on the way to home: begins where its evidence says.
    Relay,
}

/// A batch's header with a receipt for it, by a key that the caller trusts and has verified it under.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub header: Header,
    /// H_k, of `header`.
    pub hash: Hash,
    pub seal: Seal,
    pub receipt: Receipt,
}

/// What becomes of a stream for which evidence was shown.
#[derive(Clone, Debug)]
pub enum TakenUp {
    /// It goes on behind `head`: this ledger was there already, or is now, over `missing`.
    GoesOn { head: Box<Head>, missing: Option<Missing> },
    /// Another collector may still bring what is missing.
    Waits(Waiting),
}

/// A stream that stands still, until somebody brings batches or their collector is forgotten.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub info: Arc<StreamInfo>,
    pub head: Box<Head>,
    /// First and last missing batch.
    pub from: u64,
    pub to: u64,
    /// SHA-256 of the receipt key that vouches for them.
    pub signer: Hash,
    /// Nobody asked for this stream and batch before: say it once.
    pub is_new: bool,
}

/// Batches that were given up, or never came.
#[derive(Clone, Debug)]
pub struct Missing {
    /// Of the report: it is made once.
    pub id: i64,
    /// Whose they are.
    pub stream: StreamId,
    /// That stream, or the one that names it where this ledger has never heard of it.
    pub info: Arc<StreamInfo>,
    pub from: u64,
    pub to: u64,
    /// Their records, where both headers around them are known.
    pub records: Option<u64>,
    pub why: Why,
    /// Unix nanoseconds: the last commit before them, as far as this ledger knows, and when they were given up.
    pub since: u64,
    pub until: u64,
}

/// Why batches are missing for good, as far as anybody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A collector gave its receipt for them and has lost them: this one, or a forgotten relay. Names its key.
    CollectorLost { signer: Hash },
    /// The open of this stream names them, and its agent does not hold them.
    NotReceived { named_by: StreamId },
}

impl Evidence {
    /// `None` where the receipt is not for this header. That it is a trusted key's is the caller's to have checked.
    pub fn new(header: Header, seal: Seal, receipt: Receipt) -> Option<Self> {
        let hash = header.hash();
        let fits = receipt.head == hash && receipt.stream == header.stream && receipt.k == header.k && header.k != u64::MAX;
        fits.then_some(Self { header, hash, seal, receipt })
    }
}

/// A batch beside one that comes late, as far as this ledger knows it.
struct Neighbour {
    hash: Hash,
    previous: Hash,
    next_key: PublicKey,
    next_seq: u64,
}

impl Writer {
    pub(super) fn take_up(&mut self, evidence: &Evidence) -> Result<Result<TakenUp, CommitError>, LedgerError> {
        let (stream, k) = (evidence.header.stream, evidence.header.k);
        let Some(row) = store::stream(&self.connection, stream)? else {
            return Ok(Err(CommitError::Unknown { stream }));
        };
        if row.state.is_frozen() {
            return Ok(Err(CommitError::Frozen { agent: row.state.info.agent }));
        }
        if row.state.head.k.is_some_and(|head| k <= head) {
            return self.below_head(&row, evidence);
        }
        // Beyond a superseded stream's bound what was sealed after its successor's open is another party's.
        let beyond = row.superseded_at.filter(|_| row.state.bound.is_none_or(|bound| k > bound));
        if beyond.is_some_and(|superseded_at| evidence.header.t_sealed > superseded_at) {
            return self.other_branch(&row, evidence);
        }
        let signer = evidence.receipt.key;
        let given_up =
            self.role == Role::Relay || self.shared.signers.is_own(&signer) || anchors::is_forgotten(&self.connection, &signer)?;
        let from = row.state.head.k.map_or(0, |head| head.saturating_add(1));
        if !given_up {
            let now = self.now();
            let is_new = anchors::wait(&self.connection, row.id, evidence, now)?;
            let info = self.shared.info(row.state.info);
            let head = Box::new(row.state.head);
            return Ok(Ok(TakenUp::Waits(Waiting { info, head, from, to: k, signer, is_new })));
        }
        self.go_on_behind(row, evidence).map(Ok)
    }

    /// Anchors the stream's head at the evidence. What lies below is missing from here on.
    fn go_on_behind(&mut self, row: StreamRow, evidence: &Evidence) -> Result<TakenUp, LedgerError> {
        let now = self.now();
        let before = &row.state.head;
        let after = Head::after(&evidence.header, evidence.hash);
        if !store::advance(&self.connection, row.id, before, &after)? {
            // Nobody else writes: the head that was read is the head.
            return Err(LedgerError::Refused { reason: "the head moved within a transaction".to_owned() });
        }
        anchors::put(&self.connection, row.id, evidence)?;
        anchors::stop_waiting(&self.connection, row.id, evidence.header.k)?;
        let missing = match self.role {
            Role::Relay => None,
            Role::Home => {
                let from = before.k.map_or(0, |head| head.saturating_add(1));
                let since = match before.k {
                    Some(k) => store::committed(&self.connection, row.id, before.stream, k)?.map_or(0, |it| it.t_received),
                    None => row.state.info.open.t_opened,
                };
                let mut missing = Missing {
                    id: 0,
                    stream: evidence.header.stream,
                    info: self.shared.info(row.state.info.clone()),
                    from,
                    to: evidence.header.k,
                    records: after.next_seq.checked_sub(before.next_seq),
                    why: Why::CollectorLost { signer: evidence.receipt.key },
                    since,
                    until: now,
                };
                missing.id = anchors::lose(&self.connection, row.id, &missing)?;
                Some(missing)
            }
        };
        Ok(TakenUp::GoesOn { head: Box::new(after), missing })
    }

    /// Evidence for a batch at or below the head: held, missing (then it is an anchor for what comes late), or another branch.
    fn below_head(&mut self, row: &StreamRow, evidence: &Evidence) -> Result<Result<TakenUp, CommitError>, LedgerError> {
        let k = evidence.header.k;
        let held = match store::committed(&self.connection, row.id, evidence.header.stream, k)? {
            Some(committed) => Some(committed.hash),
            None => anchors::at(&self.connection, row.id, k)?.map(|anchor| anchor.hash),
        };
        let above = match held {
            Some(_) => None,
            None => self.neighbour(row, k.checked_add(1))?.map(|above| above.previous),
        };
        if held.or(above).is_some_and(|hash| hash != evidence.hash) {
            return self.other_branch(row, evidence);
        }
        if held.is_none() {
            anchors::put(&self.connection, row.id, evidence)?;
        }
        Ok(Ok(TakenUp::GoesOn { head: Box::new(row.state.head.clone()), missing: None }))
    }

    /// A collector of this home holds what this ledger's chain does not: two parties have acted.
    fn other_branch(&mut self, row: &StreamRow, evidence: &Evidence) -> Result<Result<TakenUp, CommitError>, LedgerError> {
        let now = self.now();
        forks::keep_header(&self.connection, row.state.info.agent, evidence, now)?;
        store::freeze_agent(&self.connection, row.state.info.agent, now)?;
        Ok(Err(CommitError::Fork { stream: evidence.header.stream, k: evidence.header.k }))
    }

    /// A batch below the head that is not in the ledger: taken if a held neighbour or an anchor vouches for it.
    pub(super) fn commit_late(
        &mut self,
        row: &StreamRow,
        incoming: Incoming,
        entries: &mut Vec<Arc<Entry>>,
    ) -> Result<Result<Committed, CommitError>, LedgerError> {
        let (k, header) = (incoming.header.k, &incoming.header);
        let below = match k.checked_sub(1) {
            Some(before) => self.neighbour(row, Some(before))?,
            None => {
                let open = &row.state.info.open;
                let hash = open.hash();
                Some(Neighbour { hash, previous: Hash::ZERO, next_key: open.first_key, next_seq: 0 })
            }
        };
        let follows = below.is_some_and(|below| {
            below.hash == header.previous
                && below.next_seq == header.first_seq
                && verify_seal(&below.next_key, &incoming.hash, &incoming.seal)
        });
        let anchor = anchors::at(&self.connection, row.id, k)?.map(|anchor| anchor.hash);
        let named = match anchor {
            Some(hash) => Some(hash),
            None => self.neighbour(row, k.checked_add(1))?.map(|above| above.previous),
        };
        match named {
            Some(hash) if hash == incoming.hash => {}
            // Sealed by the stream's own key, and not the batch that the chain goes on from.
            Some(_) if follows => return self.fork(row, &incoming),
            None if follows => {}
            Some(_) | None => return Ok(Err(CommitError::Expect { head: Box::new(row.state.head.clone()) })),
        }
        anchors::found(&self.connection, row.id, k)?;
        tracing::info!(stream = %header.stream, k, "a missing batch came late");
        self.append(row, incoming, entries).map(Ok)
    }

    /// A batch that this ledger holds, or knows by its header alone.
    fn neighbour(&self, row: &StreamRow, k: Option<u64>) -> Result<Option<Neighbour>, LedgerError> {
        let Some(k) = k else { return Ok(None) };
        let header = match store::committed(&self.connection, row.id, row.state.info.stream, k)? {
            Some(committed) => store::batches(&self.connection, committed.index, 1)?.pop().map(|row| row.header),
            None => anchors::at(&self.connection, row.id, k)?.map(|anchor| anchor.header),
        };
        Ok(header.map(|header| {
            let Head { hash, next_key, next_seq, .. } = Head::after(&header, header.hash());
            Neighbour { hash, previous: header.previous, next_key, next_seq }
        }))
    }

    /// Batches beyond a stream's head up to `to` will hardly come: put on record once, to be reported.
    pub(super) fn lose_beyond(&mut self, stream: StreamId, to: u64, why: Why) -> Result<Option<Missing>, LedgerError> {
        let Some(row) = store::stream(&self.connection, stream)? else { return self.lose_unknown(stream, to, why) };
        let from = row.state.head.k.map_or(0, |head| head.saturating_add(1));
        if from > to || to == u64::MAX || anchors::is_lost_to(&self.connection, row.id, to)? {
            return Ok(None);
        }
        let since = match row.state.head.k {
            Some(k) => store::committed(&self.connection, row.id, stream, k)?.map_or(0, |committed| committed.t_received),
            None => row.state.info.open.t_opened,
        };
        let until = self.now();
        let info = self.shared.info(row.state.info);
        let mut missing = Missing { id: 0, stream, info, from, to, records: None, why, since, until };
        missing.id = anchors::insert_loss(&self.connection, row.id, &missing)?;
        Ok(Some(missing))
    }

    /// The same of a stream whose open never came: its successor's stands for what is known of it.
    fn lose_unknown(&mut self, stream: StreamId, to: u64, why: Why) -> Result<Option<Missing>, LedgerError> {
        let Why::NotReceived { named_by } = why else { return Ok(None) };
        let Some(row) = store::stream(&self.connection, named_by)? else { return Ok(None) };
        if to == u64::MAX || anchors::is_unknown_lost(&self.connection, stream)? {
            return Ok(None);
        }
        let (since, until) = (row.state.info.open.t_opened, self.now());
        let info = self.shared.info(row.state.info);
        let mut missing = Missing { id: 0, stream, info, from: 0, to, records: None, why, since, until };
        missing.id = anchors::insert_loss(&self.connection, row.id, &missing)?;
        Ok(Some(missing))
    }

    /// From here on this collector's receipts anchor: every stream that waits for it goes on.
    pub(super) fn forget(&mut self, signer: Hash) -> Result<Vec<Missing>, LedgerError> {
        anchors::put_forgotten(&self.connection, &signer)?;
        let mut given_up = Vec::new();
        for (stream, evidence) in anchors::waiting_for(&self.connection, &signer)? {
            let Some(row) = store::stream_at(&self.connection, stream)? else { continue };
            if row.state.is_frozen() || row.state.head.k.is_some_and(|head| evidence.header.k <= head) {
                anchors::stop_waiting(&self.connection, stream, evidence.header.k)?;
                continue;
            }
            if let TakenUp::GoesOn { missing, .. } = self.go_on_behind(row, &evidence)? {
                given_up.extend(missing);
            }
        }
        Ok(given_up)
    }

    /// Commits a batch that was judged to have its place, and moves the head if it is the next one.
    pub(super) fn append(
        &mut self,
        row: &StreamRow,
        incoming: Incoming,
        entries: &mut Vec<Arc<Entry>>,
    ) -> Result<Committed, LedgerError> {
        let (stream, k) = (incoming.header.stream, incoming.header.k);
        let committed = Committed { stream, k, hash: incoming.hash, index: self.next_index, t_received: self.now() };
        if row.state.head.k.is_none_or(|head| k > head) {
            let after = head_after(&incoming);
            if !store::advance(&self.connection, row.id, &row.state.head, &after)? {
                return Err(LedgerError::Refused { reason: "the head moved within a transaction".to_owned() });
            }
            anchors::stop_waiting(&self.connection, row.id, k)?;
        }
        let position = self.segments.append(committed.index, &incoming.body)?;
        store::insert_batch(&self.connection, row.id, &committed, &incoming, position)?;
        self.next_index += 1;
        entries.push(Arc::new(Entry {
            index: committed.index,
            t_received: committed.t_received,
            stream: self.shared.info(row.state.info.clone()),
            header: incoming.header,
            hash: incoming.hash,
            seal: incoming.seal,
            records: incoming.records,
        }));
        Ok(committed)
    }
}
