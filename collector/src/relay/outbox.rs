//! What a relay holds of one agent, as the uplink to home sees it.
//!
//! A relay's copy of a stream may have holes: where the agent was with another collector meanwhile. Behind each hole lies
//! the evidence on which the relay took the stream up, and that is what home is shown. Bodies, headers and seals go on as
//! they came.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use edgetrail_disk::crash_point;
use edgetrail_link::outbox::{
    Branch, BranchAct, CollectorPosition, HeldStream, Opening, Outbox, OutboxError, OutgoingBatch, OutgoingBody, Reconciled, Run,
};
use edgetrail_proto::chain::{Hash, Header, Open, Receipt, Seal};
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::limits::STREAMS_NAMED_MAX;
use tokio::sync::watch;

use super::progress::Progress;
use crate::ledger::{Evidence, HeldBatch, HeldBranch, HeldOpen, Ledger, StreamState};

/// Batches without home's receipt that are named of a stream, the oldest; its head is named besides.
const NAMED_MAX: u32 = 256;

/// A header names a receipt that its agent had when it sealed: one of so many batches before, at most.
const NAMED_WITHIN: u64 = 256;

/// Earlier streams that are looked through for it, and batches of each.
const NAMED_STREAMS_MAX: usize = 8;
const NAMED_OF_EARLIER: u64 = 32;

/// One agent's streams in the relay's ledger.
#[derive(Debug)]
pub(super) struct AgentOutbox {
    agent: AgentId,
    ledger: Ledger,
    progress: Arc<Progress>,
    changes: watch::Sender<u64>,
    /// What home has kept of the agent's forks up to here is not looked at again.
    looked: Mutex<Looked>,
}

/// Of each stream the last batch before which home has kept all that is held.
#[derive(Debug, Default)]
struct Looked {
    /// Home keeps nothing any more once it was found to be an older copy of itself.
    doubts: u64,
    streams: HashMap<StreamId, u64>,
}

/// Something of a fork that is to be brought home.
enum Due {
    /// Committed here, and refused there.
    Committed {
        stream: StreamId,
        k: u64,
        hash: Hash,
    },
    Open {
        stream: StreamId,
        hash: Hash,
        kept: HeldOpen,
    },
    /// Kept here as evidence.
    Refused {
        stream: StreamId,
        hash: Hash,
    },
}

impl AgentOutbox {
    pub(super) fn new(agent: AgentId, ledger: Ledger, progress: Arc<Progress>) -> Self {
        Self { agent, ledger, progress, changes: watch::Sender::new(0), looked: Mutex::default() }
    }

    /// A batch of the agent was committed.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Whether there is anything that home takes and has given no receipt for. Blocks on disk.
    pub(super) fn owes(&self) -> Result<bool, OutboxError> {
        for state in self.ledger.streams_of(self.agent).map_err(failed)? {
            if self.owes_of(&state)? {
                return Ok(true);
            }
        }
        Ok(self.due_of_branches()?.is_some())
    }

    fn owes_of(&self, state: &StreamState) -> Result<bool, OutboxError> {
        let stream = state.info.stream;
        let standing = self.progress.standing(stream);
        if standing.frozen || self.is_branch(state)? {
            return Ok(false);
        }
        if standing.receipted.is_none_or(|receipted| state.head.k.is_some_and(|head| head > receipted))
            && self.ledger.next_held(stream, standing.receipted).map_err(failed)?.is_some()
        {
            return Ok(true);
        }
        // Home lacks what its own receipt covers, though the bodies may be gone from here: it was restored, or has not said yet
        // where it stands since. Shown its receipt, it goes on behind that, and names what is missing.
        let stands = standing.head.flatten().map_or(0, |head| head.saturating_add(1));
        let is_behind = standing.receipted.is_some_and(|receipted| stands <= receipted);
        if !standing.missing.is_empty() && (standing.head.is_none() || is_behind) {
            return Ok(true);
        }
        for (from, to) in standing.missing {
            if self.ledger.next_held(stream, from.checked_sub(1)).map_err(failed)?.is_some_and(|held| held <= to) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether home keeps the stream's open as evidence of a fork: its batches are evidence too.
    fn is_branch(&self, state: &StreamState) -> Result<bool, OutboxError> {
        self.progress.is_kept(state.info.stream, state.info.open.hash()).map_err(failed)
    }

    /// What home has not kept yet of the agent's forks: what it takes nothing more of, then what this relay has refused.
    fn due_of_branches(&self) -> Result<Option<Due>, OutboxError> {
        let is_kept = |stream, hash| self.progress.is_kept(stream, hash).map_err(failed);
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let doubts = *self.progress.doubts().borrow();
        if looked.doubts != doubts {
            *looked = Looked { doubts, streams: HashMap::new() };
        }
        let states = self.ledger.streams_of(self.agent).map_err(failed)?;
        for state in &states {
            let stream = state.info.stream;
            let standing = self.progress.standing(stream);
            let is_branch = self.is_branch(state)?;
            if !standing.frozen && !is_branch {
                continue;
            }
            // Home's receipts are for its own chain.
            let mut after = standing.receipted.filter(|_| !is_branch).max(looked.streams.get(&stream).copied());
            while let Some(k) = self.ledger.next_held(stream, after).map_err(failed)? {
                let hash = self.ledger.batch_hash(stream, k).map_err(failed)?;
                if let Some(hash) = hash
                    && !is_kept(stream, hash)?
                {
                    return Ok(Some(Due::Committed { stream, k, hash }));
                }
                looked.streams.insert(stream, k);
                after = Some(k);
            }
        }
        for kept in self.ledger.branch_opens(self.agent).map_err(failed)? {
            let Ok(open) = Open::decode(&kept.open) else { continue };
            if !is_kept(open.stream, open.hash())? {
                return Ok(Some(Due::Open { stream: open.stream, hash: open.hash(), kept }));
            }
        }
        for (stream, k, hash) in self.ledger.branch_hashes(self.agent).map_err(failed)? {
            // It shows a fork against what home holds: not before home holds that.
            let standing = self.progress.standing(stream);
            let is_judged = standing.frozen
                || standing.receipted.is_some_and(|receipted| receipted >= k)
                || states.iter().all(|state| state.info.stream != stream);
            if is_judged && !is_kept(stream, hash)? {
                return Ok(Some(Due::Refused { stream, hash }));
            }
        }
        Ok(None)
    }

    fn held_stream(&self, state: &StreamState) -> Result<HeldStream, OutboxError> {
        let (info, stream) = (&state.info, state.info.stream);
        let receipt = self.progress.receipt(stream).map_err(failed)?;
        let from = receipt.as_ref().map_or(0, |receipt| receipt.k.saturating_add(1));
        let mut unreceipted = self.ledger.hashes(stream, from, NAMED_MAX).map_err(failed)?;
        if let Some(head) = state.head.k
            && unreceipted.last().is_some_and(|(k, _)| *k < head)
        {
            unreceipted.push((head, state.head.hash));
        }
        Ok(HeldStream {
            stream,
            opening: Opening {
                open: info.open_bytes.to_vec(),
                binding: info.binding.to_bytes(),
                signature: info.open_signature.to_vec(),
                certificate_chain: info.certificate_chain.iter().map(|certificate| certificate.to_vec()).collect(),
            },
            last_receipted: match receipt {
                Some(receipt) => self.receipted(receipt)?,
                None => None,
            },
            unreceipted,
            closed: state.head.closed,
        })
    }

    /// A receipt of home's with the header that it is for.
    fn receipted(&self, receipt: Receipt) -> Result<Option<(Header, Seal, Receipt)>, OutboxError> {
        let (stream, k) = (receipt.stream, receipt.k);
        if let Some((header, seal, _)) = self.ledger.header(stream, k).map_err(failed)? {
            return Ok(Some((header, seal, receipt)));
        }
        let anchor = self.ledger.anchor(stream, k).map_err(failed)?;
        Ok(anchor.map(|anchor| (anchor.header, anchor.seal, receipt)))
    }

    /// H_k, of a batch or of the evidence on which the stream was taken up.
    fn hash(&self, stream: StreamId, k: u64) -> Result<Option<Hash>, OutboxError> {
        if let Some(hash) = self.ledger.batch_hash(stream, k).map_err(failed)? {
            return Ok(Some(hash));
        }
        Ok(self.ledger.anchor(stream, k).map_err(failed)?.map(|anchor| anchor.hash))
    }

    /// The receipt that the header names, where this relay gave it or was shown it.
    fn named_receipts(&self, header: &Header) -> Result<Vec<Bytes>, OutboxError> {
        if header.last_receipt == Hash::ZERO {
            return Ok(Vec::new());
        }
        if let Some(known) = self.ledger.known_receipt(&header.last_receipt).map_err(failed)? {
            return Ok(vec![known.encode().into()]);
        }
        if let Some(receipt) = self.named_before(header.stream, header.k, NAMED_WITHIN, header.last_receipt)? {
            return Ok(vec![receipt]);
        }
        if header.k >= NAMED_WITHIN {
            return Ok(Vec::new());
        }
        // The first batches of a stream name a receipt of one before: most often for one of its last batches.
        let earlier = self.ledger.streams_of(self.agent).map_err(failed)?;
        for state in earlier.iter().rev().filter(|state| state.info.stream != header.stream).take(NAMED_STREAMS_MAX) {
            let beyond = state.head.k.map_or(0, |head| head.saturating_add(1));
            if let Some(receipt) = self.named_before(state.info.stream, beyond, NAMED_OF_EARLIER, header.last_receipt)? {
                return Ok(vec![receipt]);
            }
        }
        Ok(Vec::new())
    }

    /// The receipt with this message hash among those for so many batches of a stream before k.
    fn named_before(&self, stream: StreamId, k: u64, within: u64, message: Hash) -> Result<Option<Bytes>, OutboxError> {
        for k in (k.saturating_sub(within)..k).rev() {
            if let Some(committed) = self.ledger.committed(stream, k).map_err(failed)? {
                let receipt = self.ledger.sign(&committed);
                if receipt.message_hash() == message {
                    return Ok(Some(receipt.encode().into()));
                }
                continue;
            }
            let anchor = self.ledger.anchor(stream, k).map_err(failed)?;
            if let Some(Evidence { receipt, .. }) = anchor.filter(|anchor| anchor.receipt.message_hash() == message) {
                return Ok(Some(receipt.encode().into()));
            }
        }
        Ok(None)
    }
}

impl Outbox for AgentOutbox {
    fn held(&self) -> Result<Vec<HeldStream>, OutboxError> {
        let mut states = Vec::new();
        for state in self.ledger.streams_of(self.agent).map_err(failed)? {
            if !self.is_branch(&state)? {
                states.push(state);
            }
        }
        // Of more than a resume may name, what home is owed comes first, then the newest.
        let mut named = Vec::with_capacity(states.len());
        let spare = states.len().saturating_sub(STREAMS_NAMED_MAX);
        let mut dropped = 0;
        for state in &states {
            if dropped < spare && !self.owes_of(state)? {
                dropped += 1;
                continue;
            }
            named.push(self.held_stream(state)?);
        }
        named.truncate(STREAMS_NAMED_MAX);
        Ok(named)
    }

    fn batch(&self, stream: StreamId, k: u64) -> Result<Option<OutgoingBatch>, OutboxError> {
        let Some(HeldBatch { header, seal, encoding, body, body_bytes }) = self.ledger.held(stream, k).map_err(failed)? else {
            return Ok(None);
        };
        let named_receipts = self.named_receipts(&header)?;
        let body = OutgoingBody::Encoded { encoding, body, bytes: body_bytes };
        Ok(Some(OutgoingBatch { header, seal, body, caller_waits: false, named_receipts }))
    }

    fn store_receipt(&self, receipt: &Receipt) -> Result<(), OutboxError> {
        // A receipt releases only what is in the relay's own chain.
        if self.hash(receipt.stream, receipt.k)? != Some(receipt.head) {
            tracing::warn!(stream = %receipt.stream, k = receipt.k, "home's receipt for a head that is not in this chain was put aside");
            return Ok(());
        }
        crash_point("relay/forwarded");
        self.progress.store(receipt).map_err(failed)?;
        // From here on a crash recovers to a relay that may release what the receipt covers.
        crash_point("relay/receipt-stored");
        Ok(())
    }

    fn reconcile(&self, _latest: Option<StreamId>, positions: &[CollectorPosition]) -> Result<Reconciled, OutboxError> {
        for position in positions {
            if self.ledger.stream(position.stream).map_err(failed)?.is_some() {
                let CollectorPosition { stream, head, missing, frozen, .. } = position;
                self.progress.note(*stream, head.map(|(k, _)| k), missing, *frozen).map_err(failed)?;
            }
        }
        Ok(Reconciled::Continue)
    }

    fn forked(&self, stream: StreamId) -> Result<Reconciled, OutboxError> {
        tracing::error!(
            agent = %self.agent, %stream,
            "home takes nothing of this agent now: two branches of its streams exist"
        );
        Ok(Reconciled::Continue)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn relayed(&self) -> Option<AgentId> {
        Some(self.agent)
    }

    fn begins_at(&self, position: &CollectorPosition) -> Result<u64, OutboxError> {
        let Some((k, head)) = position.head else { return Ok(0) };
        let next = k.saturating_add(1);
        if self.hash(position.stream, k)? == Some(head) {
            return Ok(next);
        }
        // Home's chain is another one, or has gone on without this relay. What it has given no receipt for is shown from the
        // first on: the same batch twice is once, another one is a fork that shows where the two chains part.
        let receipted = self.progress.standing(position.stream).receipted;
        let first = self.ledger.next_held(position.stream, receipted).map_err(failed)?;
        Ok(first.filter(|first| *first <= k).unwrap_or(next))
    }

    fn next_run(&self, stream: StreamId, k: u64) -> Result<Option<Run>, OutboxError> {
        let first = self.ledger.next_held(stream, Some(k)).map_err(failed)?;
        // Home gave its receipt for the hole, and has forgotten: nothing vouches better. Where it names the hole as missing,
        // what it lacks is vouched for by what lies before it.
        let standing = self.progress.standing(stream);
        let is_below = standing.head.flatten().is_some_and(|head| k <= head);
        let known_missing = is_below && standing.missing.iter().any(|(from, to)| (*from..=*to).contains(&k));
        if !known_missing && let Some(receipt) = self.progress.receipt(stream).map_err(failed)?.filter(|receipt| receipt.k >= k) {
            let evidence = self.receipted(receipt)?;
            return Ok(evidence.map(|evidence| Run { first, evidence: Box::new(evidence) }));
        }
        let Some(before) = first.and_then(|first| first.checked_sub(1)) else { return Ok(None) };
        let anchor = self.ledger.anchor(stream, before).map_err(failed)?;
        Ok(anchor.map(|Evidence { header, seal, receipt, .. }| Run { first, evidence: Box::new((header, seal, receipt)) }))
    }

    fn next_of_branches(&self) -> Result<Option<Branch>, OutboxError> {
        let Some(due) = self.due_of_branches()? else { return Ok(None) };
        let sealed = |held: HeldBatch| {
            let HeldBatch { header, seal, encoding, body, body_bytes } = held;
            let body = OutgoingBody::Encoded { encoding, body, bytes: body_bytes };
            let batch = OutgoingBatch { header, seal, body, caller_waits: false, named_receipts: Vec::new() };
            BranchAct::Sealed(Box::new(batch))
        };
        let refused = !matches!(due, Due::Committed { .. });
        let (stream, hash, act) = match due {
            Due::Committed { stream, k, hash } => (stream, hash, self.ledger.held(stream, k).map_err(failed)?.map(sealed)),
            Due::Open { stream, hash, kept } => {
                let HeldOpen { open, open_signature, certificate_chain, binding } = kept;
                let opening = Opening { open, binding, signature: open_signature, certificate_chain };
                (stream, hash, Some(BranchAct::Opened(opening)))
            }
            Due::Refused { stream, hash } => {
                let act = match self.ledger.branch(stream, hash).map_err(failed)? {
                    Some(HeldBranch::Batch(held)) => Some(sealed(*held)),
                    Some(HeldBranch::Header(evidence)) => {
                        let Evidence { header, seal, receipt, .. } = *evidence;
                        Some(BranchAct::Showed(Box::new((header, seal, receipt))))
                    }
                    None => None,
                };
                (stream, hash, act)
            }
        };
        Ok(act.map(|act| Branch { stream, hash, act, refused }))
    }

    fn kept(&self, stream: StreamId, hash: Hash) -> Result<(), OutboxError> {
        self.progress.keep(stream, hash).map_err(failed)
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(error: E) -> OutboxError {
    OutboxError::Store(Box::new(error))
}
