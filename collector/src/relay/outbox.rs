//! What a relay holds of one agent, as the uplink to home sees it.
//!
//! A relay's copy of a stream may have holes: where the agent was with another collector meanwhile. Behind each hole lies
//! the evidence on which the relay took the stream up, and that is what home is shown. Bodies, headers and seals go on as
//! they came.

use std::sync::Arc;

use bytes::Bytes;
use edgetrail_disk::crash_point;
use edgetrail_link::outbox::{
    CollectorPosition, HeldStream, Opening, Outbox, OutboxError, OutgoingBatch, OutgoingBody, Reconciled, Run,
};
use edgetrail_proto::chain::{Hash, Header, Receipt, Seal};
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::limits::STREAMS_NAMED_MAX;
use tokio::sync::watch;

use super::progress::Progress;
use crate::ledger::{Evidence, HeldBatch, Ledger, StreamState};

/// Batches without home's receipt that are named of a stream, the oldest; its head is named besides.
const NAMED_MAX: u32 = 256;

/// A header names a receipt that its agent had when it sealed: one of so many batches before, at most.
const NAMED_WITHIN: u64 = 256;

/// One agent's streams in the relay's ledger.
#[derive(Debug)]
pub(super) struct AgentOutbox {
    agent: AgentId,
    ledger: Ledger,
    progress: Arc<Progress>,
    changes: watch::Sender<u64>,
}

impl AgentOutbox {
    pub(super) fn new(agent: AgentId, ledger: Ledger, progress: Arc<Progress>) -> Self {
        Self { agent, ledger, progress, changes: watch::Sender::new(0) }
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
        Ok(false)
    }

    fn owes_of(&self, state: &StreamState) -> Result<bool, OutboxError> {
        let stream = state.info.stream;
        let standing = self.progress.standing(stream);
        if standing.frozen {
            return Ok(false);
        }
        if standing.receipted.is_none_or(|receipted| state.head.k.is_some_and(|head| head > receipted))
            && self.ledger.next_held(stream, standing.receipted).map_err(failed)?.is_some()
        {
            return Ok(true);
        }
        for (from, to) in standing.missing {
            if self.ledger.next_held(stream, from.checked_sub(1)).map_err(failed)?.is_some_and(|held| held <= to) {
                return Ok(true);
            }
        }
        Ok(false)
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

    /// The receipt that the header names, where it is this relay's own or one that the stream was taken up on.
    fn named_receipts(&self, header: &Header) -> Result<Vec<Bytes>, OutboxError> {
        if header.last_receipt == Hash::ZERO {
            return Ok(Vec::new());
        }
        let stream = header.stream;
        for k in (header.k.saturating_sub(NAMED_WITHIN)..header.k).rev() {
            if let Some(committed) = self.ledger.committed(stream, k).map_err(failed)? {
                let receipt = self.ledger.sign(&committed);
                if receipt.message_hash() == header.last_receipt {
                    return Ok(vec![receipt.encode().into()]);
                }
                continue;
            }
            let anchor = self.ledger.anchor(stream, k).map_err(failed)?;
            if let Some(Evidence { receipt, .. }) = anchor.filter(|anchor| anchor.receipt.message_hash() == header.last_receipt) {
                return Ok(vec![receipt.encode().into()]);
            }
        }
        Ok(Vec::new())
    }
}

impl Outbox for AgentOutbox {
    fn held(&self) -> Result<Vec<HeldStream>, OutboxError> {
        let states = self.ledger.streams_of(self.agent).map_err(failed)?;
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
                self.progress.note(position.stream, &position.missing, position.frozen).map_err(failed)?;
            }
        }
        Ok(Reconciled::Continue)
    }

    fn forked(&self, stream: StreamId) -> Result<Reconciled, OutboxError> {
        tracing::error!(
            agent = %self.agent, %stream,
            "home holds two branches of this agent's streams: what this relay holds of it waits until the agent has joined again"
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
        // Home is shown the batch that contradicts its own: it keeps both.
        let other = self.hash(position.stream, k)?.is_some_and(|hash| hash != head);
        Ok(if other { k } else { k.saturating_add(1) })
    }

    fn next_run(&self, stream: StreamId, k: u64) -> Result<Option<Run>, OutboxError> {
        let first = self.ledger.next_held(stream, Some(k)).map_err(failed)?;
        // Home gave its receipt for the hole, and has forgotten: nothing vouches better. Where it names the hole as missing,
        // what it lacks is vouched for by what lies before it.
        let known_missing = self.progress.standing(stream).missing.iter().any(|(from, to)| (*from..=*to).contains(&k));
        if !known_missing && let Some(receipt) = self.progress.receipt(stream).map_err(failed)?.filter(|receipt| receipt.k >= k) {
            let evidence = self.receipted(receipt)?;
            return Ok(evidence.map(|evidence| Run { first, evidence: Box::new(evidence) }));
        }
        let Some(before) = first.and_then(|first| first.checked_sub(1)) else { return Ok(None) };
        let anchor = self.ledger.anchor(stream, before).map_err(failed)?;
        Ok(anchor.map(|Evidence { header, seal, receipt, .. }| Run { first, evidence: Box::new((header, seal, receipt)) }))
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(error: E) -> OutboxError {
    OutboxError::Store(Box::new(error))
}
