//! What a digest's window saw of the ledger, and the proof file made of it. docs/protocol.md §6.
//!
//! A proof of account A and region R holds, for every stream bound to A and R that committed a batch in the window,
//! the open and the header and seal of every batch. Leaf hashes stand with a batch that has a record in the window's
//! files of A and R, and with every batch of a stream that is bound to A and R alone. A stream bound to more (a
//! gateway's, the collector's own) thus shows its unbroken chain in each of its accounts and regions, and its leaves
//! only where they prove something.
//!
//! A stream that began before the window stands with the header and receipt of its last batch before it (docs/protocol.md §6,
//! Take-up), so that its chain can be followed in an account and region that were seen later, after a stop, or by
//! somebody who has this window alone.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use edgetrail_proto::chain::{HEADER_BYTES, Hash, Header, Seal};
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::proof::{Base64, Mark, PROOF_VERSION, Proof, ProofBatch, ProofReceiptKey, ProofStream, ProofTakeUp};
use edgetrail_proto::record::format_time;

use super::clock::SECOND;
use crate::ledger::{Entry, Evidence, Ledger, LedgerError, StreamInfo};

/// A window is closed early when it holds this much, in bytes: about 1.8 million records. At 15,000 records/s a digest
/// every two minutes, still chained; nothing is unbounded.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What became of a record in a trail: the index of its lane, or why it is in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lane(u32),
    Unselected,
    Quarantined,
}

/// The batches of the ledger since the last digest.
#[derive(Debug, Default)]
pub(super) struct Window {
    batches: Vec<WindowBatch>,
    held_bytes: usize,
}

#[derive(Debug)]
struct WindowBatch {
    index: u64,
    t_received: u64,
    stream: Arc<StreamInfo>,
    header: Header,
    seal: Seal,
    leaves: Vec<(Hash, Fate)>,
}

/// Whose proof, of when.
pub(super) struct Scope<'a> {
    pub(super) lane: u32,
    pub(super) account: &'a str,
    pub(super) region: &'a str,
    /// digestStartTime and digestEndTime, Unix seconds.
    pub(super) start: u64,
    pub(super) end: u64,
    /// The range of the ledger, half-open.
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Window {
    pub(super) fn take(&mut self, entry: &Entry, fates: &[Fate]) {
        let leaves: Vec<_> = entry.records.iter().zip(fates).map(|(record, fate)| (record.leaf, *fate)).collect();
        self.held_bytes += size_of::<WindowBatch>() + leaves.len() * size_of::<(Hash, Fate)>();
        self.batches.push(WindowBatch {
            index: entry.index,
            t_received: entry.t_received,
            stream: entry.stream.clone(),
            header: entry.header.clone(),
            seal: entry.seal,
            leaves,
        });
    }

    pub(super) fn is_full(&self) -> bool {
        self.held_bytes >= HELD_BYTES_MAX
    }

    fn in_scope(&self, scope: &Scope<'_>) -> impl Iterator<Item = &WindowBatch> {
        self.batches.iter().filter(|batch| batch.stream.binding.allows(scope.account, scope.region))
    }

    /// The proof of one lane. Receipts are signed anew: the same bytes every time.
    pub(super) fn proof(&self, scope: &Scope<'_>, ledger: &Ledger, keys: &[ProofReceiptKey]) -> Result<Proof, LedgerError> {
        let mut streams = Vec::new();
        let mut first: HashMap<StreamId, u64> = HashMap::new();
        let mut last: HashMap<StreamId, u64> = HashMap::new();
        let mut batches = Vec::new();
        for batch in self.in_scope(scope) {
            let (stream, k) = (batch.stream.stream, batch.header.k);
            // A batch of a lost range that came later stands behind greater ones.
            let greatest = last.get(&stream).map_or(k, |last| k.max(*last));
            if last.insert(stream, greatest).is_none() {
                first.insert(stream, k);
                streams.push(&batch.stream);
            }
            batches.push(batch.prove(scope.lane));
        }
        let mut receipts = Vec::new();
        // Other collectors' that headers name: a verifier knows from them when a batch was sealed at the earliest.
        let mut named: Vec<Hash> = self.in_scope(scope).map(|batch| batch.header.last_receipt).collect();
        named.sort_by_key(|message| message.0);
        named.dedup();
        for message in named.iter().filter(|message| **message != Hash::ZERO) {
            if let Some(receipt) = ledger.known_receipt(message)? {
                receipts.push(Base64(receipt.encode()));
            }
        }
        for stream in &streams {
            if let Some(receipt) = ledger.receipt(stream.stream, last[&stream.stream])? {
                receipts.push(Base64(receipt.encode()));
            }
        }
        let streams = streams.into_iter().map(|stream| {
            let shown = first[&stream.stream]..=last[&stream.stream];
            prove_stream(stream, shown, ledger)
        });
        Ok(Proof {
            version: PROOF_VERSION.to_owned(),
            aws_account_id: scope.account.to_owned(),
            aws_region: scope.region.to_owned(),
            digest_start_time: format_time(scope.start * SECOND),
            digest_end_time: format_time(scope.end * SECOND),
            ledger_from: scope.from,
            ledger_to: scope.to,
            streams: streams.collect::<Result<_, _>>()?,
            receipt_keys: keys.to_vec(),
            batches,
            receipts,
        })
    }
}

impl WindowBatch {
    fn prove(&self, lane: u32) -> ProofBatch {
        let header: [u8; HEADER_BYTES] = self.header.encode();
        let mut proof = ProofBatch {
            ledger_index: self.index,
            t_received: self.t_received,
            header: Base64(header.to_vec()),
            seal: Base64(self.seal.0.to_vec()),
            leaves: None,
            marks: None,
        };
        let bound_here_alone = self.stream.binding.single().is_some() && !self.leaves.is_empty();
        if bound_here_alone || self.leaves.iter().any(|(_, fate)| *fate == Fate::Lane(lane)) {
            let marked: Vec<(Hash, Mark)> = self.leaves.iter().map(|(hash, fate)| (*hash, fate.mark(lane))).collect();
            proof.set_leaves(&marked);
        }
        proof
    }
}

impl Fate {
    fn mark(self, lane: u32) -> Mark {
        match self {
            Self::Lane(of) if of == lane => Mark::Delivered,
            Self::Lane(_) => Mark::Elsewhere,
            Self::Unselected => Mark::Unselected,
            Self::Quarantined => Mark::Quarantined,
        }
    }
}

/// `shown`: from the stream's first batch in the window to its last.
fn prove_stream(stream: &StreamInfo, shown: RangeInclusive<u64>, ledger: &Ledger) -> Result<ProofStream, LedgerError> {
    let first_k = *shown.start();
    // Evidence names the batch before the one that goes on behind it.
    let bridges = |evidence: &Evidence| shown.contains(&evidence.header.k.saturating_add(1));
    let resumed = ledger.anchors(stream.stream)?.into_iter().filter(bridges).map(|evidence| ProofTakeUp {
        header: Base64(evidence.header.encode().to_vec()),
        receipt: Base64(evidence.receipt.encode()),
    });
    Ok(ProofStream {
        stream_id: stream.stream.to_string(),
        open: Base64(stream.open_bytes.to_vec()),
        binding: Base64(stream.binding.to_bytes()),
        signature: Base64(stream.open_signature.to_vec()),
        certificate_chain: stream.certificate_chain.iter().map(|der| Base64(der.to_vec())).collect(),
        internal: stream.internal,
        take_up: match first_k.checked_sub(1) {
            Some(k) => take_up(stream, k, ledger)?,
            None => None,
        },
        resumed: resumed.collect(),
    })
}

/// Batch k as something to go on from: an account and region that were first seen after the stream began, and a trail
/// that was stopped meanwhile, have not shown it in an earlier proof.
fn take_up(stream: &StreamInfo, k: u64, ledger: &Ledger) -> Result<Option<ProofTakeUp>, LedgerError> {
    let Some(committed) = ledger.committed(stream.stream, k)? else { return Ok(None) };
    let rows = ledger.index(committed.index, committed.index + 1, 1)?;
    let receipt = Base64(ledger.sign(&committed).encode());
    Ok(rows.first().map(|row| ProofTakeUp { header: Base64(row.header.encode().to_vec()), receipt }))
}
