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

    /// Whether `observed = refused + lost_agent + (records − own)`, with `records` = first_seq + count at that head.
    pub fn balance(&self, records: u64) -> bool {
        let kept = u128::from(records).checked_sub(u128::from(self.own));
        kept.is_some_and(|kept| u128::from(self.observed) == u128::from(self.refused) + u128::from(self.lost_agent) + kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Cause, Ratchet, Seed};
    use crate::identity::AgentId;

    /// A stream of which every header can be bent and then sealed by the right key: nothing but the one check under
    /// test stands between it and the ledger.
    struct Forger {
        verifier: Verifier,
        ratchet: Ratchet,
    }

    impl Forger {
        fn new() -> Self {
            let ratchet = Ratchet::new(StreamId::from_bytes([1; 16]), 0, Seed([7; 32].into()));
            let open = Open {
                stream: ratchet.stream(),
                agent: AgentId::from_bytes([2; 16]),
                first_key: ratchet.public_key(),
                predecessor: None,
                cause: Cause::Join,
                t_opened: 1,
                binding: Hash::ZERO,
                certificate: Hash::ZERO,
            };
            Self { verifier: Verifier::begin(&open), ratchet }
        }

        /// The header that is due, over these records.
        fn due(&self, kind: BatchKind, leaves: &[Hash]) -> Header {
            let head = self.verifier.head();
            Header {
                stream: head.stream,
                k: self.verifier.next_k(),
                kind,
                first_seq: head.next_seq,
                count: leaves.len().try_into().unwrap(),
                root: merkle::root(leaves),
                previous: head.hash,
                next_key: self.ratchet.next().public_key(),
                boot_id: [0; 16],
                t_sealed: 2,
                t_min: 0,
                t_max: 0,
                counters: Counters::default(),
                last_receipt: Hash::ZERO,
            }
        }

        fn offer(&mut self, header: &Header, leaves: &[Hash]) -> Result<(), ChainError> {
            let seal = self.ratchet.seal(&header.hash());
            self.verifier.accept(header, &seal, leaves)?;
            self.ratchet = self.ratchet.next();
            Ok(())
        }

        /// Offers the header that is due, bent; afterwards the straight one is still taken.
        fn refusal(&mut self, kind: BatchKind, leaves: &[Hash], bend: impl FnOnce(&mut Header)) -> ChainError {
            let mut bent = self.due(kind, leaves);
            bend(&mut bent);
            let error = self.offer(&bent, leaves).unwrap_err();
            let heartbeat = self.due(BatchKind::Heartbeat, &[]);
            self.offer(&heartbeat, &[]).unwrap();
            error
        }
    }

    fn leaves(n: usize) -> Vec<Hash> {
        (0..n).map(|i| merkle::leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn a_straight_stream_is_accepted() {
        let mut forger = Forger::new();
        for (kind, n) in [(BatchKind::Records, 1024), (BatchKind::Heartbeat, 0), (BatchKind::Records, 1), (BatchKind::Close, 0)] {
            let header = forger.due(kind, &leaves(n));
            forger.offer(&header, &leaves(n)).unwrap();
        }
        let head = forger.verifier.head();
        assert_eq!((head.k, head.next_seq, head.closed), (Some(3), 1025, true));
    }

    #[test]
    fn a_batch_of_another_stream_is_refused() {
        let error = Forger::new().refusal(BatchKind::Records, &leaves(2), |it| it.stream = StreamId::from_bytes([9; 16]));
        assert!(matches!(error, ChainError::Stream { .. }), "{error}");
    }

    #[test]
    fn a_batch_out_of_order_is_refused() {
        for k in [1, 7, u64::MAX] {
            let error = Forger::new().refusal(BatchKind::Records, &leaves(2), |it| it.k = k);
            assert_eq!(error, ChainError::Order { expected: 0, found: k });
        }
    }

    #[test]
    fn the_last_k_is_no_batch_and_nothing_overflows_there() {
        let mut forger = Forger::new();
        for before in [u64::MAX - 1, u64::MAX] {
            forger.verifier = Verifier::resume(Head { k: Some(before), ..forger.verifier.head().clone() });
            let header = forger.due(BatchKind::Heartbeat, &[]);
            assert!(matches!(forger.offer(&header, &[]), Err(ChainError::Order { .. })));
        }
    }

    #[test]
    fn a_batch_behind_another_head_is_refused() {
        let error = Forger::new().refusal(BatchKind::Records, &leaves(2), |it| it.previous = Hash::ZERO);
        assert!(matches!(error, ChainError::Previous { k: 0, found: Hash::ZERO, .. }), "{error}");
    }

    #[test]
    fn nothing_follows_a_close() {
        let mut forger = Forger::new();
        let close = forger.due(BatchKind::Close, &[]);
        forger.offer(&close, &[]).unwrap();
        let after = forger.due(BatchKind::Heartbeat, &[]);
        assert_eq!(forger.offer(&after, &[]), Err(ChainError::AfterClose { k: 1 }));
    }

    #[test]
    fn skipped_or_repeated_seqs_are_refused() {
        let mut forger = Forger::new();
        let first = forger.due(BatchKind::Records, &leaves(3));
        forger.offer(&first, &leaves(3)).unwrap();
        for found in [2, 4, u64::MAX] {
            let k = forger.verifier.next_k();
            let error = forger.refusal(BatchKind::Records, &leaves(2), |it| it.first_seq = found);
            assert_eq!(error, ChainError::Sequence { k, expected: 3, found });
        }
    }

    #[test]
    fn a_count_that_its_kind_does_not_allow_is_refused() {
        for (kind, n) in [(BatchKind::Records, 0), (BatchKind::Records, 1025), (BatchKind::Heartbeat, 1), (BatchKind::Close, 1)] {
            let error = Forger::new().refusal(kind, &leaves(n), |_| ());
            assert_eq!(error, ChainError::Kind { k: 0, kind, count: n.try_into().unwrap() });
        }
    }

    #[test]
    fn a_count_of_more_or_fewer_records_is_refused() {
        for count in [1, 3] {
            let error = Forger::new().refusal(BatchKind::Records, &leaves(2), |it| it.count = count);
            assert_eq!(error, ChainError::Count { k: 0, header: count, carried: 2 });
        }
    }

    #[test]
    fn other_records_are_refused() {
        let error = Forger::new().refusal(BatchKind::Records, &leaves(2), |it| it.root = merkle::root(&leaves(3)));
        assert_eq!(error, ChainError::Root { k: 0 });
    }

    #[test]
    fn a_seal_by_another_key_is_refused() {
        let mut forger = Forger::new();
        let header = forger.due(BatchKind::Records, &leaves(1));
        let later = forger.ratchet.next().seal(&header.hash());
        assert_eq!(forger.verifier.accept(&header, &later, &leaves(1)), Err(ChainError::Seal { k: 0 }));
        let mut flipped = forger.ratchet.seal(&header.hash());
        flipped.0[10] ^= 1;
        assert_eq!(forger.verifier.accept(&header, &flipped, &leaves(1)), Err(ChainError::Seal { k: 0 }));
        forger.offer(&header, &leaves(1)).unwrap();
    }

    #[test]
    fn every_field_of_a_header_is_under_its_seal() {
        let mut forger = Forger::new();
        let header = forger.due(BatchKind::Records, &leaves(1));
        let seal = forger.ratchet.seal(&header.hash());
        for at in 0..crate::chain::HEADER_BYTES {
            let mut bytes = header.encode();
            bytes[at] ^= 1;
            let Ok(bent) = Header::decode(&bytes) else { continue };
            assert!(forger.verifier.accept(&bent, &seal, &leaves(1)).is_err(), "byte {at}");
        }
        forger.offer(&header, &leaves(1)).unwrap();
    }

    #[test]
    fn counters_balance_and_only_grow() {
        let counters = Counters { observed: 10, refused: 3, own: 2, lost_agent: 1, lost_source: 99 };
        assert!(counters.balance(8));
        assert!(!counters.balance(7) && !counters.balance(9));
        assert!(!Counters { own: 9, ..counters }.balance(8), "more own records than records");
        let most = Counters { refused: u64::MAX, lost_agent: u64::MAX, ..counters };
        assert!(!most.balance(8) && !most.balance(u64::MAX), "sums beyond a u64 are no panic");
        assert!(counters.follow(&counters));
        for bend in [
            |it: &mut Counters| it.observed += 1,
            |it: &mut Counters| it.refused += 1,
            |it: &mut Counters| it.own += 1,
            |it: &mut Counters| it.lost_agent += 1,
            |it: &mut Counters| it.lost_source += 1,
        ] {
            let mut grown = counters;
            bend(&mut grown);
            assert!(grown.follow(&counters) && !counters.follow(&grown));
        }
    }
}
