//! What a proof file proves: each stream's chain from its open, every seal, receipt and leaf, window after window.
//!
//! State goes from one window to the next, so that a stream is one unbroken chain however many digests it crosses.

use std::collections::{BTreeMap, HashMap};

use edgetrail_proto::chain::{BatchKind, Hash, Head, Header, Predecessor, Receipt, Seal, Verifier};
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::limits::{HEARTBEAT_INTERVAL, SEAL_TIME_TOLERANCE, SILENCE_MAX};
use edgetrail_proto::proof::{Mark, Proof, ProofBatch, ProofTakeUp};
use edgetrail_proto::record::format_time;

use crate::digests::ChainId;
use crate::opening::{self, Opened, Statement};
use crate::receipt_keys::ReceiptKeys;
use crate::report::{Check, Report};
use crate::store::Place;

/// All streams of one digest chain, as far as its proofs have shown them.
#[derive(Debug, Default)]
pub struct Streams {
    streams: BTreeMap<StreamId, Stream>,
    /// The ledger index behind the last window.
    ledger_next: Option<u64>,
}

#[derive(Debug)]
struct Stream {
    opened: Opened,
    verifier: Verifier,
    internal: bool,
    last_kind: Option<BatchKind>,
    last_sealed: u64,
    last_received: u64,
    /// Messages of receipts that the collector may have given, by their hash: when it received the batch.
    receipts: HashMap<Hash, u64>,
    /// After a break nothing of the stream can be judged; it is named once.
    broken: bool,
    /// Its earlier batches were not to be shown here: the next proof may say where it goes on.
    may_be_taken_up: bool,
}

/// A leaf that a proof says was delivered in this window's files.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    pub leaf: Hash,
    pub stream: StreamId,
    pub seq: u64,
}

impl Streams {
    /// Checks one proof and gives the leaves that must be the window's records, in order.
    pub fn check(
        &mut self,
        place: &Place,
        chain: &ChainId,
        proof: &Proof,
        roots: &[Vec<u8>],
        report: &mut Report,
    ) -> Vec<Delivered> {
        self.check_window(place, proof, report);
        let keys = ReceiptKeys::of(proof, roots);
        self.open_streams(place, chain, proof, roots, &keys, report);
        let mut delivered = Vec::new();
        let mut last_of_window = BTreeMap::new();
        let mut index_before: Option<u64> = None;
        for batch in &proof.batches {
            let in_window = (proof.ledger_from..proof.ledger_to).contains(&batch.ledger_index);
            if !in_window || index_before.is_some_and(|before| before >= batch.ledger_index) {
                report.find(Check::LedgerOrder, place, format_args!("batch at ledger index {}", batch.ledger_index));
            }
            index_before = Some(batch.ledger_index);
            report.seen.batches += 1;
            let Some(header) = self.follow(place, batch, &keys, report) else { continue };
            last_of_window.insert(header.stream, (header.k, header.hash(), batch.ledger_index, batch.t_received));
            delivered.extend(check_leaves(place, batch, &header, report));
        }
        check_receipts(place, proof, &keys, &last_of_window, report);
        delivered
    }

    /// A chain of digests begins anew behind a stop: what the ledger took in meanwhile is in no proof, and every stream
    /// is taken up where the next one says.
    pub fn begin_anew(&mut self) {
        self.ledger_next = None;
        self.streams.values_mut().for_each(|stream| stream.may_be_taken_up = true);
    }

    /// What can be said only at the end: streams that were superseded without a close, or that fell silent.
    pub fn finish(&self, chain: &ChainId, end: u64, report: &mut Report) {
        report.seen.streams += self.streams.len() as u64;
        let successor_of: HashMap<StreamId, &Predecessor> =
            self.streams.values().filter_map(|stream| stream.opened.open.predecessor.as_ref()).map(|p| (p.stream, p)).collect();
        for (id, stream) in &self.streams {
            let closed = stream.last_kind == Some(BatchKind::Close);
            let place = format!("stream {id} of host {}, {chain}", stream.opened.binding.host());
            match successor_of.get(id) {
                Some(predecessor) if !closed => {
                    let seen = stream.verifier.head().k.map_or("none".to_owned(), |k| k.to_string());
                    let k = predecessor.k;
                    report.find(
                        Check::StreamUnclosed,
                        place,
                        format_args!("its last batch here is {seen}, its successor names {k}"),
                    );
                }
                None if !closed && !stream.broken => check_silence(&place, stream.last_sealed, end, report),
                _ => {}
            }
        }
    }

    fn check_window(&mut self, place: &Place, proof: &Proof, report: &mut Report) {
        if let Some(due) = self.ledger_next
            && due != proof.ledger_from
        {
            report.find(
                Check::ProofWindow,
                place,
                format_args!("ledger index {due} was due, it begins at {}", proof.ledger_from),
            );
        }
        self.ledger_next = Some(proof.ledger_to);
    }

    fn open_streams(
        &mut self,
        place: &Place,
        chain: &ChainId,
        proof: &Proof,
        roots: &[Vec<u8>],
        keys: &ReceiptKeys,
        report: &mut Report,
    ) {
        for stated in &proof.streams {
            let certificates: Vec<Vec<u8>> = stated.certificate_chain.iter().map(|der| der.0.clone()).collect();
            let statement = Statement {
                open: &stated.open.0,
                binding: &stated.binding.0,
                signature: &stated.signature.0,
                certificate_chain: &certificates,
            };
            let opened = match opening::check(&statement, roots) {
                Ok(opened) => opened,
                Err((check, detail)) => {
                    report.find(check, format_args!("stream {} in {place}", stated.stream_id), detail);
                    continue;
                }
            };
            if !opened.binding.allows(&chain.account, &chain.region) {
                let host = opened.binding.host();
                report.find(
                    Check::OpenBinding,
                    format_args!("stream {} in {place}", stated.stream_id),
                    format_args!("host {host}"),
                );
            }
            let stream = self.streams.entry(opened.open.stream).or_insert_with(|| Stream {
                verifier: Verifier::begin(&opened.open),
                internal: stated.internal,
                last_kind: None,
                last_sealed: opened.open.t_opened,
                last_received: 0,
                receipts: HashMap::new(),
                broken: false,
                may_be_taken_up: true,
                opened,
            });
            if std::mem::take(&mut stream.may_be_taken_up)
                && let Some(stated) = &stated.take_up
            {
                stream.take_up(stated, keys);
            }
        }
    }

    /// Follows a stream by one batch. `None` when the batch can't be judged.
    fn follow(&mut self, place: &Place, batch: &ProofBatch, keys: &ReceiptKeys, report: &mut Report) -> Option<Header> {
        let at = format!("ledger index {} in {place}", batch.ledger_index);
        let header = match Header::decode(&batch.header.0) {
            Ok(header) => header,
            Err(error) => {
                report.find(Check::StreamChain, at, error);
                return None;
            }
        };
        let Ok(seal) = <[u8; 64]>::try_from(batch.seal.0.as_slice()).map(Seal) else {
            report.find(Check::StreamChain, at, "its seal is not 64 bytes long");
            return None;
        };
        let Some(stream) = self.streams.get_mut(&header.stream) else {
            report.find(Check::StreamChain, at, format_args!("stream {} was never opened", header.stream));
            return None;
        };
        if stream.broken {
            return Some(header);
        }
        if stream.last_kind.is_none() && header.k > 0 {
            let detail = format!("the first batch here is {} of stream {}", header.k, header.stream);
            report.find(Check::StreamStart, &at, detail);
            stream.broken = true;
            return Some(header);
        }
        match stream.verifier.check_header(&header, &seal) {
            Ok(head) => {
                let records = head.next_seq;
                if !header.counters.balance(records) {
                    report.find(Check::StreamCounters, &at, format_args!("{:?} over {records} records", header.counters));
                }
                stream.check_times(&at, &header, batch.t_received, report);
                for key in keys.hashes() {
                    let receipt = Receipt {
                        key: *key,
                        stream: header.stream,
                        k: header.k,
                        head: head.hash,
                        ledger_index: batch.ledger_index,
                        t_received: batch.t_received,
                        signature: Seal([0; 64]),
                    };
                    stream.receipts.insert(receipt.message_hash(), batch.t_received);
                }
                stream.last_kind = Some(header.kind);
                stream.last_sealed = header.t_sealed;
                stream.last_received = batch.t_received;
                stream.verifier = Verifier::resume(head);
            }
            Err(error) => {
                report.find(Check::StreamChain, at, format_args!("stream {}: {error}", header.stream));
                stream.broken = true;
            }
        }
        Some(header)
    }
}

impl Stream {
    /// Goes on behind a batch that a receipt names. Evidence that does not hold is passed over: the break it was to
    /// bridge is then found as such.
    fn take_up(&mut self, stated: &ProofTakeUp, keys: &ReceiptKeys) {
        let (Ok(header), Ok(receipt)) = (Header::decode(&stated.header.0), Receipt::decode(&stated.receipt.0)) else { return };
        let hash = header.hash();
        let trusted = keys.vouch_for(&receipt);
        let names_it = (receipt.stream, receipt.k, receipt.head) == (header.stream, header.k, hash);
        let behind = self.verifier.head().k.is_none_or(|k| k <= header.k);
        if !trusted || !names_it || header.stream != self.opened.open.stream || !behind {
            return;
        }
        self.verifier = Verifier::resume(Head::after(&header, hash));
        (self.last_kind, self.last_sealed) = (Some(header.kind), header.t_sealed);
        self.last_received = receipt.t_received;
        self.receipts.insert(receipt.message_hash(), receipt.t_received);
    }

    /// Batch k was sealed between the receipt it hashes and its own arrival; and never longer after the one before
    /// than a heartbeat takes.
    fn check_times(&self, at: &str, header: &Header, t_received: u64, report: &mut Report) {
        let tolerance = nanoseconds(SEAL_TIME_TOLERANCE);
        let earliest = self.receipts.get(&header.last_receipt).map_or(0, |received| received.saturating_sub(tolerance));
        if header.t_sealed < earliest || header.t_sealed > t_received.saturating_add(tolerance) {
            let (sealed, received) = (format_time(header.t_sealed), format_time(t_received));
            report.find(Check::SealTime, at, format_args!("sealed {sealed}, received {received}"));
        }
        if !self.internal || self.last_kind.is_some() {
            check_silence(at, self.last_sealed, header.t_sealed, report);
        }
    }
}

fn check_silence(at: &str, from: u64, to: u64, report: &mut Report) {
    let allowed = nanoseconds(HEARTBEAT_INTERVAL) + nanoseconds(SILENCE_MAX);
    if to.saturating_sub(from) > allowed {
        report.find(Check::StreamSilent, at, format_args!("no batch from {} to {}", format_time(from), format_time(to)));
    }
}

/// Every stream's last batch of the window has a receipt that verifies and says what the proof says.
fn check_receipts(
    place: &Place,
    proof: &Proof,
    keys: &ReceiptKeys,
    last_of_window: &BTreeMap<StreamId, (u64, Hash, u64, u64)>,
    report: &mut Report,
) {
    let mut covered = BTreeMap::new();
    for bytes in &proof.receipts {
        let receipt = match Receipt::decode(&bytes.0) {
            Ok(receipt) => receipt,
            Err(error) => {
                report.find(Check::ReceiptInvalid, place, error);
                continue;
            }
        };
        let verified = keys.vouch_for(&receipt);
        if !verified {
            report.find(
                Check::ReceiptInvalid,
                place,
                format_args!(
                    "no key that a root vouches for at its time made it: batch {} of stream {}",
                    receipt.k, receipt.stream
                ),
            );
            continue;
        }
        covered.insert(receipt.stream, (receipt.k, receipt.head, receipt.ledger_index, receipt.t_received));
    }
    for (stream, last) in last_of_window {
        match covered.get(stream) {
            None => report.find(Check::ReceiptMissing, place, format_args!("stream {stream}, batch {}", last.0)),
            Some(receipt) if receipt != last => {
                report.find(
                    Check::ReceiptInvalid,
                    place,
                    format_args!("stream {stream}: it is not for batch {} as committed", last.0),
                );
            }
            Some(_) => {}
        }
    }
}

/// The batch's leaves hash to its root; gives those that were delivered here.
fn check_leaves(place: &Place, batch: &ProofBatch, header: &Header, report: &mut Report) -> Vec<Delivered> {
    let at = || format!("batch {} of stream {} in {place}", header.k, header.stream);
    // Reading the proof has refused leaves and marks that do not agree: what is left is leaves, or none.
    let Ok(Some(leaves)) = batch.marked_leaves() else { return Vec::new() };
    let hashes: Vec<Hash> = leaves.iter().map(|(hash, _)| *hash).collect();
    if let Err(error) = Verifier::check_leaves(header, &hashes) {
        report.find(Check::LeavesRoot, at(), error);
        return Vec::new();
    }
    let quarantined = leaves.iter().filter(|(_, mark)| *mark == Mark::Quarantined).count();
    if quarantined > 0 {
        report.find(Check::Quarantined, at(), format_args!("{quarantined} records"));
    }
    let numbered = leaves.into_iter().zip(header.first_seq..);
    let delivered = |((leaf, mark), seq)| (mark == Mark::Delivered).then_some(Delivered { leaf, stream: header.stream, seq });
    numbered.filter_map(delivered).collect()
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
