//! What a proof file proves: each stream's chain from its open, every seal, receipt and leaf, window after window.
//!
//! State goes from one window to the next, so that a stream is one unbroken chain however many digests it crosses.

use std::collections::{BTreeMap, HashMap};

use edgetrail_proto::chain::{Hash, Header, Predecessor, Receipt, Seal, Verifier};
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::proof::{Mark, Proof, ProofBatch, ProofTakeUp};

use crate::digests::ChainId;
use crate::opening;
use crate::receipt_keys::ReceiptKeys;
use crate::receipts::{self, Receipts};
use crate::report::{Check, Report};
use crate::store::Place;
use crate::stream::{Hole, Lost, Stream};

/// All streams of one digest chain, as far as its proofs have shown them.
#[derive(Debug, Default)]
pub struct Streams {
    streams: BTreeMap<StreamId, Stream>,
    /// The ledger index behind the last window.
    ledger_next: Option<u64>,
}

/// A leaf that a proof says was delivered in this window's files.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    pub leaf: Hash,
    pub stream: StreamId,
    pub k: u64,
    pub seq: u64,
}

/// A proof with what it is checked against.
pub(crate) struct Shown<'a> {
    pub(crate) place: &'a Place,
    pub(crate) chain: &'a ChainId,
    pub(crate) proof: &'a Proof,
    pub(crate) roots: &'a [Vec<u8>],
}

impl Streams {
    /// Checks one proof and gives the leaves that must be the window's records, in order.
    pub(crate) fn check(&mut self, shown: &Shown<'_>, receipts: &mut Receipts, report: &mut Report) -> Vec<Delivered> {
        let Shown { place, proof, roots, .. } = shown;
        self.check_window(place, proof, report);
        let keys = ReceiptKeys::of(proof, roots);
        receipts.learn(proof, &keys);
        self.open_streams(shown, &keys, receipts, report);
        let resumed = resumed_of(proof);
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
            let at = format!("ledger index {} in {place}", batch.ledger_index);
            let Some((header, seal)) = decode(batch, &at, report) else { continue };
            let (id, hash) = (header.stream, header.hash());
            let Some(stream) = self.streams.get_mut(&id) else {
                report.find_in(id, Check::StreamChain, at, format_args!("stream {id} was never opened"));
                continue;
            };
            let evidence = resumed.get(&id).map_or(&[][..], Vec::as_slice);
            stream.jump(&header, evidence, &keys, receipts, &at);
            step(stream, &header, &seal, batch.t_received, receipts, &at, report);
            for key in keys.hashes() {
                receipts.know(receipt_for(*key, &header, hash, batch).message_hash(), batch.t_received);
            }
            let last: &mut receipts::Last =
                last_of_window.entry(id).or_insert((header.k, hash, batch.ledger_index, batch.t_received));
            // A batch of a lost range that came later stands behind greater ones.
            if header.k >= last.0 {
                *last = (header.k, hash, batch.ledger_index, batch.t_received);
            }
            delivered.extend(check_leaves(place, batch, &header, report));
        }
        receipts::check(place, proof, &keys, &last_of_window, report);
        delivered
    }

    /// A chain of digests begins anew behind a stop: what the ledger took in meanwhile is in no proof, and every stream
    /// is taken up where the next one says.
    pub fn begin_anew(&mut self) {
        self.ledger_next = None;
        self.streams.values_mut().for_each(|stream| stream.may_be_taken_up = true);
    }

    /// What can be said only at the end: streams that were superseded without a close, or that fell silent. Gives the
    /// batches that are missing: whether their loss was reported, another account's files may say.
    pub(crate) fn finish(mut self, chain: &ChainId, end: u64, report: &mut Report) -> Vec<(StreamId, Hole)> {
        report.seen.streams += self.streams.len() as u64;
        let opens = self.streams.values().map(|stream| &stream.opened.open);
        let successor_of: HashMap<StreamId, Predecessor> =
            opens.filter_map(|open| open.predecessor).map(|before| (before.stream, before)).collect();
        let mut holes = Vec::new();
        for (id, stream) in &mut self.streams {
            let place = format!("stream {id} of host {}, {chain}", stream.opened.binding.host());
            match successor_of.get(id) {
                Some(named) => check_succession(stream, named, &place, report),
                None if !stream.account.closed && !stream.broken => {
                    stream.check_silence(Check::HeadStale, stream.account.last_sealed, end, &place, report);
                }
                None => {}
            }
            stream.account.missing = stream.holes.iter().map(|hole| hole.missing.clone()).collect();
            holes.extend(stream.holes.drain(..).map(|hole| (*id, hole)));
        }
        for (id, stream) in self.streams {
            report.accounts.take(id, stream.account);
        }
        holes
    }

    /// The hour's account of a stream, to note what its records say.
    pub(crate) fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.get_mut(&id)
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

    fn open_streams(&mut self, shown: &Shown<'_>, keys: &ReceiptKeys, receipts: &mut Receipts, report: &mut Report) {
        let Shown { place, chain, proof, roots } = shown;
        for stated in &proof.streams {
            let opened = match opening::check(&stated.into(), roots) {
                Ok(opened) => opened,
                Err((check, detail)) => {
                    report.find(check, format_args!("stream {} in {place}", stated.stream_id), detail);
                    continue;
                }
            };
            let id = opened.open.stream;
            if !opened.binding.allows(&chain.account, &chain.region) {
                let detail = format_args!("host {}", opened.binding.host());
                report.find_in(id, Check::OpenBinding, format_args!("stream {} in {place}", stated.stream_id), detail);
            }
            // Each window states it again: said once.
            if let Some((check, detail)) = opened.dated.as_ref().filter(|_| !self.streams.contains_key(&id)) {
                report.find_in(id, *check, format_args!("stream {} in {place}", stated.stream_id), detail);
            }
            let stream = self.streams.entry(id).or_insert_with(|| Stream::begin(opened));
            if std::mem::take(&mut stream.may_be_taken_up)
                && let Some(stated) = &stated.take_up
            {
                stream.take_up(stated, keys, receipts);
            }
        }
    }
}

/// Follows a stream by one batch; what breaks it is named once.
fn step(
    stream: &mut Stream,
    header: &Header,
    seal: &Seal,
    t_received: u64,
    receipts: &mut Receipts,
    at: &str,
    report: &mut Report,
) {
    if stream.broken {
        return;
    }
    let (check, detail) = match stream.fill(header, seal) {
        Some(Ok(())) => return,
        Some(Err(detail)) => (Check::StreamChain, format!("stream {}: {detail}", header.stream)),
        None => match stream.follow(header, seal, t_received, receipts, at, report) {
            Ok(()) => return,
            Err(Lost::Start) => (Check::StreamStart, format!("the first batch here is {} of stream {}", header.k, header.stream)),
            Err(Lost::Chain(detail)) => (Check::StreamChain, format!("stream {}: {detail}", header.stream)),
        },
    };
    stream.broken = true;
    stream.account.hour(header.t_sealed).holes.push(format!("{}: {detail}", check.says()));
    report.find_in(header.stream, check, at, detail);
}

/// A stream that was superseded ended in a close, or where its successor says.
fn check_succession(stream: &mut Stream, named: &Predecessor, place: &str, report: &mut Report) {
    let (id, last) = (stream.opened.open.stream, stream.verifier.head().k);
    if named.k != Predecessor::NO_BATCH && last.is_none_or(|last| last < named.k) && !stream.broken {
        let seen = last.map_or("none".to_owned(), |k| k.to_string());
        let detail = format!("its last batch here is {seen}, its successor names {}", named.k);
        let at = stream.account.last_sealed;
        stream.account.hour(at).holes.push(format!("{}: {detail}", Check::StreamTail.says()));
        report.find_in(id, Check::StreamTail, place, detail);
    }
    let hash = if named.k == Predecessor::NO_BATCH { Some(stream.opened.open.hash()) } else { stream.hash_of(named.k) };
    if hash.is_some_and(|hash| hash != named.hash) {
        report.find_in(id, Check::StreamPrevious, place, format_args!("batch {}", named.k));
    }
    if !stream.account.closed {
        let seen = last.map_or("none".to_owned(), |k| k.to_string());
        report.find_in(id, Check::StreamUnclosed, place, format_args!("its last batch here is {seen}"));
    }
}

/// Evidence for each stream that goes on behind a lost range.
fn resumed_of(proof: &Proof) -> HashMap<StreamId, Vec<ProofTakeUp>> {
    let mut resumed = HashMap::<StreamId, Vec<ProofTakeUp>>::new();
    for stated in &proof.streams {
        if let Ok(id) = stated.stream_id.parse() {
            resumed.entry(id).or_default().extend(stated.resumed.iter().chain(&stated.take_up).cloned());
        }
    }
    resumed
}

fn decode(batch: &ProofBatch, at: &str, report: &mut Report) -> Option<(Header, Seal)> {
    let header = match Header::decode(&batch.header.0) {
        Ok(header) => header,
        Err(error) => {
            report.find(Check::StreamChain, at, error);
            return None;
        }
    };
    let Ok(seal) = <[u8; 64]>::try_from(batch.seal.0.as_slice()).map(Seal) else {
        report.find_in(header.stream, Check::StreamChain, at, "its seal is not 64 bytes long");
        return None;
    };
    Some((header, seal))
}

/// What the collector may have given for a batch: all but the signature, which its hash leaves out.
fn receipt_for(key: Hash, header: &Header, head: Hash, batch: &ProofBatch) -> Receipt {
    let (ledger_index, t_received) = (batch.ledger_index, batch.t_received);
    Receipt { key, stream: header.stream, k: header.k, head, ledger_index, t_received, signature: Seal([0; 64]) }
}

/// The batch's leaves hash to its root; gives those that were delivered here.
fn check_leaves(place: &Place, batch: &ProofBatch, header: &Header, report: &mut Report) -> Vec<Delivered> {
    let at = || format!("batch {} of stream {} in {place}", header.k, header.stream);
    // Reading the proof has refused leaves and marks that do not agree: what is left is leaves, or none.
    let Ok(Some(leaves)) = batch.marked_leaves() else { return Vec::new() };
    let hashes: Vec<Hash> = leaves.iter().map(|(hash, _)| *hash).collect();
    if let Err(error) = Verifier::check_leaves(header, &hashes) {
        report.find_in(header.stream, Check::LeavesRoot, at(), error);
        return Vec::new();
    }
    let quarantined = leaves.iter().filter(|(_, mark)| *mark == Mark::Quarantined).count();
    if quarantined > 0 {
        report.find_in(header.stream, Check::Quarantined, at(), format_args!("{quarantined} records"));
    }
    let (stream, k) = (header.stream, header.k);
    let numbered = leaves.into_iter().zip(header.first_seq..);
    let delivered = |((leaf, mark), seq)| (mark == Mark::Delivered).then_some(Delivered { leaf, stream, k, seq });
    numbered.filter_map(delivered).collect()
}
