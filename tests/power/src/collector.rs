//! A collector that never loses anything: docs/protocol.md §8 and §9 over maps in memory, checking each chain as ingest does.

use std::collections::BTreeMap;

use edgetrail_agent::buffer::Shelf;
use edgetrail_link::body::unframe;
use edgetrail_link::outbox::{CollectorPosition, HeldStream, Outbox, OutboxError, Reconciled};
use edgetrail_proto::chain::{Cause, Hash, Open, Predecessor, PublicKey, Receipt, ReceiptSigner, Verifier};
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::merkle;

use crate::rng::Rng;

/// Rounds of resuming that an agent may need.
const ROUNDS_MAX: usize = 8;

#[derive(Debug)]
pub struct Collector {
    signer: ReceiptSigner,
    streams: BTreeMap<StreamId, Stream>,
    latest: Option<StreamId>,
    next_index: u64,
    /// Every record, in the order committed.
    pub records: Vec<String>,
    pub opens: Vec<Open>,
    /// What a buffer names may be damaged: elsewhere, another head for a batch that is held is a second branch.
    pub expects_damage: bool,
}

#[derive(Debug)]
struct Stream {
    verifier: Verifier,
    heads: Vec<Hash>,
    superseded: bool,
    bound: Option<u64>,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            signer: ReceiptSigner::from_seed(&[9; 32]),
            streams: BTreeMap::new(),
            latest: None,
            next_index: 0,
            records: Vec::new(),
            opens: Vec::new(),
            expects_damage: false,
        }
    }
}

impl Collector {
    pub fn key(&self) -> PublicKey {
        self.signer.public_key()
    }

    /// Records the opens, gives receipts for what is held, compares positions; as often as the agent opens a successor.
    pub fn resume(&mut self, shelf: &Shelf) -> Result<(), OutboxError> {
        for _ in 0..ROUNDS_MAX {
            let held = shelf.held()?;
            for stream in &held {
                self.record(stream);
                let known = stream.unreceipted.iter().rev().find(|(k, hash)| self.head_at(stream.stream, *k) == Some(*hash));
                if let Some(&(k, _)) = known {
                    shelf.store_receipt(&self.receipt(stream.stream, k))?;
                }
            }
            let positions: Vec<CollectorPosition> = self.streams.iter().map(|(id, stream)| stream.position(*id)).collect();
            if shelf.reconcile(self.latest, &positions)? == Reconciled::Continue {
                return Ok(());
            }
        }
        panic!("an agent resumed {ROUNDS_MAX} times and was not done");
    }

    /// Takes every batch that lies ready, in order; gives receipts for some. At a hole the buffer says so.
    pub fn take(&mut self, shelf: &Shelf, rng: &mut Rng) -> Result<(), OutboxError> {
        for held in shelf.held()? {
            for &(k, hash) in &held.unreceipted {
                let known = self.head_at(held.stream, k);
                assert!(
                    self.expects_damage || known.is_none_or(|known| known == hash),
                    "two branches of one stream at batch {k}"
                );
            }
            loop {
                let stream = self.streams.get_mut(&held.stream).expect("its open was recorded on resuming");
                let k = stream.heads.len() as u64;
                if stream.superseded && stream.bound.is_none_or(|bound| k > bound) {
                    break;
                }
                let Some(batch) = shelf.batch(held.stream, k)? else { break };
                let records: Vec<Vec<u8>> = unframe(batch.body.plain().unwrap()).map(|record| record.unwrap().to_vec()).collect();
                let leaves: Vec<Hash> = records.iter().map(|record| merkle::leaf_hash(record)).collect();
                let head = stream.verifier.accept(&batch.header, &batch.seal, &leaves).expect("the chain verifies");
                assert!(head.counters.balance(head.next_seq), "counters balance at batch {k}: {:?}", head.counters);
                stream.heads.push(head.hash);
                self.records.extend(records.into_iter().map(|record| String::from_utf8(record).unwrap()));
                self.next_index += 1;
                if rng.one_in(2) {
                    shelf.store_receipt(&self.receipt(held.stream, k))?;
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, held: &HeldStream) {
        if self.streams.contains_key(&held.stream) {
            return;
        }
        let open = Open::decode(&held.opening.open).unwrap();
        if let Some((bound, superseded)) = self.superseded_already(&open) {
            self.opens.push(open.clone());
            let stream = Stream { verifier: Verifier::begin(&open), heads: Vec::new(), superseded, bound };
            self.streams.insert(held.stream, stream);
            return;
        }
        if let Some(former) = self.latest {
            let stream = self.streams.get_mut(&former).unwrap();
            let named = open.predecessor.filter(|predecessor| predecessor.stream == former).map(|predecessor| predecessor.k);
            let head = (stream.heads.len() as u64).checked_sub(1);
            stream.superseded = true;
            stream.bound = named.filter(|&k| k != Predecessor::NO_BATCH).max(head);
        }
        self.latest = Some(held.stream);
        self.opens.push(open.clone());
        let stream = Stream { verifier: Verifier::begin(&open), heads: Vec::new(), superseded: false, bound: None };
        self.streams.insert(held.stream, stream);
    }

    /// An open that comes after a later one: its bound, by what names it. A repair brings such.
    fn superseded_already(&self, open: &Open) -> Option<(Option<u64>, bool)> {
        let named = self.opens.iter().filter_map(|later| later.predecessor).find(|named| named.stream == open.stream);
        let is_late = self.opens.iter().any(|other| other.t_opened > open.t_opened);
        let bound = named.map(|named| named.k).filter(|&k| k != Predecessor::NO_BATCH);
        (named.is_some() || is_late).then_some((bound, true))
    }

    fn head_at(&self, stream: StreamId, k: u64) -> Option<Hash> {
        self.streams.get(&stream)?.heads.get(usize::try_from(k).ok()?).copied()
    }

    fn receipt(&self, stream: StreamId, k: u64) -> Receipt {
        let hash = self.head_at(stream, k).unwrap();
        self.signer.sign(stream, k, hash, self.next_index, 1_900_000_000_000_000_000)
    }

    /// Resumes and takes until nothing is left, as an uplink does: damage in the buffer makes it resume again.
    pub fn drain(&mut self, shelf: &Shelf, rng: &mut Rng) -> Result<(), OutboxError> {
        let mut last = Ok(());
        for round in 0..ROUNDS_MAX {
            last = self.resume(shelf).and_then(|()| self.take(shelf, rng));
            match &last {
                Ok(()) if shelf.held().is_ok_and(|held| held.iter().all(|stream| self.has_all(stream))) => return Ok(()),
                Err(OutboxError::Store(_)) if round > 0 => std::thread::sleep(std::time::Duration::from_millis(700)),
                Ok(()) | Err(_) => {}
            }
        }
        last
    }

    /// Gives a receipt for the head of every stream that the agent holds.
    pub fn confirm(&self, shelf: &Shelf) -> Result<(), OutboxError> {
        for held in shelf.held()? {
            if let Some((k, _)) = held.unreceipted.last().filter(|(k, hash)| self.head_at(held.stream, *k) == Some(*hash)) {
                shelf.store_receipt(&self.receipt(held.stream, *k))?;
            }
        }
        Ok(())
    }

    fn has_all(&self, held: &HeldStream) -> bool {
        held.unreceipted.iter().all(|&(k, hash)| self.head_at(held.stream, k) == Some(hash))
    }

    /// How many events the agent says are missing, for one of `causes`; `None` where a gap has no bound.
    pub fn declared(&self, causes: &[&str]) -> Option<u64> {
        let gaps = self.records.iter().filter(|record| is_own(record) && record.contains("ReportGap"));
        let damaged = gaps.filter(|gap| causes.iter().any(|cause| gap.contains(cause)));
        damaged.map(|gap| gap.split(r#""count":"#).nth(1)?.split([',', '}']).next()?.parse::<u64>().ok()).sum()
    }

    pub fn rehomed(&self) -> bool {
        self.records.iter().any(|record| is_own(record) && record.contains("ReportRehomed"))
    }

    /// Records of events, without the agent's own.
    pub fn events(&self) -> Vec<&str> {
        self.records.iter().map(String::as_str).filter(|record| !is_own(record)).collect()
    }

    /// The agent's reports of gaps of one cause.
    pub fn gaps(&self, cause: &str) -> usize {
        self.records.iter().filter(|record| is_own(record) && record.contains(cause)).count()
    }
}

/// Whether a stream began as it may where every disk honours fsync: at first, after a close, or in the place of an open
/// whose key was not durable yet. Anything else says that something sealed was lost.
pub fn is_unbroken(open: &Open) -> bool {
    match open.cause {
        Cause::Join | Cause::AfterClose => true,
        Cause::BufferOrKeyLost => open.predecessor.is_some_and(|predecessor| predecessor.k == Predecessor::NO_BATCH),
        _ => false,
    }
}

fn is_own(record: &str) -> bool {
    record.contains("agent.edgetrail")
}

impl Stream {
    fn position(&self, stream: StreamId) -> CollectorPosition {
        let k = self.heads.len().checked_sub(1);
        CollectorPosition {
            stream,
            recorded: true,
            head: k.map(|k| (k as u64, self.heads[k])),
            bound: self.bound,
            superseded: self.superseded,
            frozen: false,
            missing: Vec::new(),
        }
    }
}
