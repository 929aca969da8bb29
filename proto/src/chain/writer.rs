//! The one writer of the chain: agents and the collector's internal stream both seal through it.

use super::header::Counters;
use super::{BatchKind, Hash, Header, Open, Ratchet, Seal};
use crate::identity::StreamId;
use crate::limits::BATCH_RECORDS_MAX;
use crate::merkle;

/// What a batch is sealed over. Counters are those up to its own last record, cumulative since the stream began.
#[derive(Clone, Debug)]
pub struct SealInput<'a> {
    pub kind: BatchKind,
    /// Leaf hashes of the records, in order; empty for a heartbeat or close.
    pub leaves: &'a [Hash],
    pub boot_id: [u8; 16],
    pub t_sealed: u64,
    pub t_min: u64,
    pub t_max: u64,
    pub counters: Counters,
    pub last_receipt: Hash,
}

/// A header, the hash that is the stream's new head, and the seal on it.
#[derive(Clone, Debug)]
pub struct SealedBatch {
    pub header: Header,
    pub hash: Hash,
    pub seal: Seal,
}

/// A stream's writing end: the head, and the ratchet that seals the next batch.
#[derive(Debug, Clone)]
pub struct Writer {
    head: Hash,
    next_seq: u64,
    ratchet: Ratchet,
}

impl Writer {
    /// The writer of a stream that was just opened; `ratchet` holds seed_0.
    pub fn begin(open: &Open, ratchet: Ratchet) -> Self {
        Self { head: open.hash(), next_seq: 0, ratchet }
    }

    /// The writer of a stream whose last batch has `head`; `ratchet` holds seed_{next_k}.
    pub fn resume(head: Hash, next_seq: u64, ratchet: Ratchet) -> Self {
        Self { head, next_seq, ratchet }
    }

    pub fn stream(&self) -> StreamId {
        self.ratchet.stream()
    }

    /// k of the batch that [`Writer::seal`] makes next.
    pub fn next_k(&self) -> u64 {
        self.ratchet.k()
    }

    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    pub fn head(&self) -> Hash {
        self.head
    }

    pub fn ratchet(&self) -> &Ratchet {
        &self.ratchet
    }

    /// Seals the next batch: at most [`BATCH_RECORDS_MAX`] records, at least one, and none for the other kinds, or no
    /// verifier takes it.
    ///
    /// Returns it with the writer that follows. `self` stays as it was, so that a failed
    /// commit leaves the caller where it stood; it must then seal the same input again or stop: a key seals one head.
    pub fn seal(&self, input: &SealInput<'_>) -> (SealedBatch, Writer) {
        debug_assert!(input.leaves.len() <= BATCH_RECORDS_MAX, "the buffer seals before a batch is over its limit");
        debug_assert_eq!(input.kind == BatchKind::Records, !input.leaves.is_empty(), "only batches of records have records");
        let count = u32::try_from(input.leaves.len()).unwrap_or(u32::MAX);
        let next = self.ratchet.next();
        let header = Header {
            stream: self.ratchet.stream(),
            k: self.ratchet.k(),
            kind: input.kind,
            first_seq: self.next_seq,
            count,
            root: merkle::root(input.leaves),
            previous: self.head,
            next_key: next.public_key(),
            boot_id: input.boot_id,
            t_sealed: input.t_sealed,
            t_min: input.t_min,
            t_max: input.t_max,
            counters: input.counters,
            last_receipt: input.last_receipt,
        };
        let hash = header.hash();
        let seal = self.ratchet.seal(&hash);
        let writer = Writer { head: hash, next_seq: self.next_seq.saturating_add(u64::from(count)), ratchet: next };
        (SealedBatch { header, hash, seal }, writer)
    }
}
