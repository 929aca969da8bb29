//! The one judge of the chain: ingest and the auditor's tool both check a stream through it.
//!
//! It judges only what the chain covers: order, count, Merkle root, previous head, seal. It never looks into a record,
//! and it refuses nothing for what an agent says of itself: whether counters balance is [`Counters::balance`]'s to
//! tell, for a verdict, not for a refusal.

use super::{BatchKind, Counters, Hash, Header, Open, PublicKey, Seal, verify_seal};
use crate::identity::StreamId;
use crate::limits::BATCH_RECORDS_MAX;
use crate::merkle;

/// A stream's last batch as somebody knows it, and what checks the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub stream: StreamId,
    /// `None` before batch 0.
    pub k: Option<u64>,
    pub hash: Hash,
    pub next_key: PublicKey,
    pub next_seq: u64,
    pub counters: Counters,
    pub closed: bool,
}

/// Checks one batch after another of one stream.
#[derive(Clone, Debug)]
pub struct Verifier {
    head: Head,
}

/// The sender's chain is broken: replay, reordering, tampering or a fault of its writer. Nothing of the batch is committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("the batch belongs to stream {found}, not {expected}")]
    Stream { expected: StreamId, found: StreamId },
    #[error("batch {found} came where batch {expected} was due")]
    Order { expected: u64, found: u64 },
    #[error("batch {k} does not name the head before it: it says {found}, the head is {expected}")]
    Previous { k: u64, expected: Hash, found: Hash },
    #[error("batch {k} follows the stream's close")]
    AfterClose { k: u64 },
    #[error("batch {k} begins at seq {found}, {expected} was due")]
    Sequence { k: u64, expected: u64, found: u64 },
    #[error("batch {k} names {header} records and carries {carried}")]
    Count { k: u64, header: u32, carried: usize },
    #[error("batch {k} of kind {kind:?} may not have {count} records")]
    Kind { k: u64, kind: BatchKind, count: u32 },
    #[error("batch {k}'s records do not hash to its Merkle root")]
    Root { k: u64 },
    #[error("batch {k}'s seal does not verify")]
    Seal { k: u64 },
}

impl Verifier {
    /// Starts before batch 0 of a stream.
    pub fn begin(open: &Open) -> Self {
        Self::resume(Head {
            stream: open.stream,
            k: None,
            hash: open.hash(),
            next_key: open.first_key,
            next_seq: 0,
            counters: Counters::default(),
            closed: false,
        })
    }

    /// Goes on behind a head that was checked before.
    pub fn resume(head: Head) -> Self {
        Self { head }
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// k of the batch that is due. 2^64 − 1 is never due: it stands for "no batch" in an open.
    pub fn next_k(&self) -> u64 {
        self.head.k.map_or(0, |k| k.saturating_add(1))
    }

    /// Checks everything of the next batch but its records' hashes; gives the head after it.
    pub fn check_header(&self, header: &Header, seal: &Seal) -> Result<Head, ChainError> {
        let (expected, k) = (self.next_k(), header.k);
        if header.stream != self.head.stream {
            return Err(ChainError::Stream { expected: self.head.stream, found: header.stream });
        }
        if k != expected || k == u64::MAX {
            return Err(ChainError::Order { expected, found: k });
        }
        if header.previous != self.head.hash {
            return Err(ChainError::Previous { k, expected: self.head.hash, found: header.previous });
        }
        if self.head.closed {
            return Err(ChainError::AfterClose { k });
        }
        if header.first_seq != self.head.next_seq {
            return Err(ChainError::Sequence { k, expected: self.head.next_seq, found: header.first_seq });
        }
        let count_allowed = match header.kind {
            BatchKind::Records => (1..=BATCH_RECORDS_MAX).contains(&(header.count as usize)),
            BatchKind::Heartbeat | BatchKind::Close => header.count == 0,
        };
        if !count_allowed {
            return Err(ChainError::Kind { k, kind: header.kind, count: header.count });
        }
        let hash = header.hash();
        if !verify_seal(&self.head.next_key, &hash, seal) {
            return Err(ChainError::Seal { k });
        }
        Ok(Head::after(header, hash))
    }

    /// Checks that `leaves` are the batch's records.
    pub fn check_leaves(header: &Header, leaves: &[Hash]) -> Result<(), ChainError> {
        let k = header.k;
        if leaves.len() != header.count as usize {
            return Err(ChainError::Count { k, header: header.count, carried: leaves.len() });
        }
        if merkle::root(leaves) != header.root {
            return Err(ChainError::Root { k });
        }
        Ok(())
    }

    /// Checks the next batch whole and moves on to its head.
    pub fn accept(&mut self, header: &Header, seal: &Seal, leaves: &[Hash]) -> Result<&Head, ChainError> {
        let head = self.check_header(header, seal)?;
        Self::check_leaves(header, leaves)?;
        self.head = head;
        Ok(&self.head)
    }
}

impl Head {
    /// The head that a batch makes; `hash` is its H_k. For a batch that was checked, or is anchored otherwise: by a
    /// receipt, or by its place in a ledger.
    pub fn after(header: &Header, hash: Hash) -> Self {
        Self {
            stream: header.stream,
            k: Some(header.k),
            hash,
            next_key: header.next_key,
            next_seq: header.first_seq.saturating_add(u64::from(header.count)),
            counters: header.counters,
            closed: header.kind == BatchKind::Close,
        }
    }
}

impl Counters {
    /// Whether these can follow `earlier` ones of the same stream: they only ever grow.
    pub fn follow(&self, earlier: &Self) -> bool {
        let all = |it: &Self| [it.observed, it.refused, it.own, it.lost_agent, it.lost_source];
        all(self).iter().zip(all(earlier)).all(|(later, earlier)| *later >= earlier)
    }

    /// CHAIN §5: `observed = refused + lost_agent + (records − own)`, with `records` = first_seq + count at that head.
    pub fn balance(&self, records: u64) -> bool {
        let kept = u128::from(records).checked_sub(u128::from(self.own));
        kept.is_some_and(|kept| u128::from(self.observed) == u128::from(self.refused) + u128::from(self.lost_agent) + kept)
    }
}
