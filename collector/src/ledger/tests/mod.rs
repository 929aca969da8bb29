//! The ledger's promises: exactly once, in order, across crashes; one branch per stream; the order of opens.

mod branches;
mod commits;
mod crashes;
mod openings;
mod take_ups;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use edgetrail_proto::chain::{
    BatchKind, Binding, Cause, Counters, Hash, Open, Predecessor, Ratchet, ReceiptSigner, SealInput, Seed, Writer,
};
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::merkle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::*;

/// A ledger that a test stops and opens again.
struct Bench {
    ledger: Ledger,
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<Result<(), LedgerError>>,
}

impl Bench {
    fn open(dir: &Path) -> Self {
        Self::open_with(dir, |_options| {})
    }

    fn open_with(dir: &Path, change: impl FnOnce(&mut LedgerOptions)) -> Self {
        let mut options = LedgerOptions::new(Arc::new(ReceiptSigner::from_seed(&[7; 32])));
        change(&mut options);
        let (ledger, task) = Ledger::open(dir, options).unwrap();
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(task.run(stop.clone()));
        Self { ledger, stop, tasks }
    }

    async fn close(mut self) -> Result<(), LedgerError> {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap()
    }
}

/// An agent's writing end of one stream.
#[derive(Clone)]
struct TestStream {
    info: Arc<dyn Fn() -> StreamInfo + Send + Sync>,
    open: Open,
    writer: Writer,
    t_sealed: u64,
}

fn agent(number: u8) -> AgentId {
    AgentId::from_bytes([number; 16])
}

fn stream_id(number: u8) -> StreamId {
    StreamId::from_bytes([number; 16])
}

impl TestStream {
    fn new(agent_number: u8, stream: u8) -> Self {
        Self::with(agent_number, stream, |_open| {})
    }

    fn with(agent_number: u8, stream: u8, change: impl FnOnce(&mut Open)) -> Self {
        let ratchet = Ratchet::new(stream_id(stream), 0, Seed(Zeroizing::new([stream; 32])));
        let binding = Binding::one("111122223333".parse().unwrap(), "dc-local-1".parse().unwrap(), "host").unwrap();
        let mut open = Open {
            stream: stream_id(stream),
            agent: agent(agent_number),
            first_key: ratchet.public_key(),
            predecessor: None,
            cause: Cause::Join,
            t_opened: 1000,
            binding: binding.hash(),
            certificate: Hash([1; 32]),
        };
        change(&mut open);
        let writer = Writer::begin(&open, ratchet);
        let opened = open.clone();
        let info = move || StreamInfo {
            stream: opened.stream,
            agent: opened.agent,
            open_bytes: Bytes::copy_from_slice(&opened.encode()),
            open: opened.clone(),
            open_signature: Bytes::from_static(b"signature"),
            certificate_chain: vec![Bytes::from_static(b"leaf"), Bytes::from_static(b"ca")],
            binding: binding.clone(),
            internal: false,
        };
        let t_sealed = open.t_opened + 1;
        Self { info: Arc::new(info), open, writer, t_sealed }
    }

    /// A successor of `former` as its agent would open it.
    fn after(former: &TestStream, stream: u8, cause: Cause, t_opened: u64) -> Self {
        let k = former.writer.next_k().checked_sub(1).unwrap_or(Predecessor::NO_BATCH);
        let predecessor = Predecessor { stream: former.open.stream, k, hash: former.writer.head() };
        Self::with(former.open.agent.as_bytes()[0], stream, |open| {
            open.predecessor = Some(predecessor);
            open.cause = cause;
            open.t_opened = t_opened;
        })
    }

    fn seal(&mut self, records: &[&str]) -> Incoming {
        self.seal_as(if records.is_empty() { BatchKind::Heartbeat } else { BatchKind::Records }, records)
    }

    fn seal_as(&mut self, kind: BatchKind, records: &[&str]) -> Incoming {
        let records: Vec<Bytes> = records.iter().map(|text| Bytes::from(record(text))).collect();
        let leaves: Vec<Hash> = records.iter().map(|record| merkle::leaf_hash(record)).collect();
        let count = self.writer.next_seq() + leaves.len() as u64;
        let (sealed, writer) = self.writer.seal(&SealInput {
            kind,
            leaves: &leaves,
            boot_id: [3; 16],
            t_sealed: self.t_sealed,
            t_min: 0,
            t_max: 0,
            counters: Counters { observed: count, ..Counters::default() },
            last_receipt: Hash::ZERO,
        });
        self.writer = writer;
        self.t_sealed += 1;
        let mut body = Vec::new();
        records.iter().for_each(|record| edgetrail_link::body::frame(&mut body, record));
        let binding = (self.info)().binding;
        Incoming {
            bringer: Bringer::Agent,
            header: sealed.header,
            hash: sealed.hash,
            seal: sealed.seal,
            encoding: Encoding::Identity,
            body_bytes: u32::try_from(body.len()).unwrap(),
            body: body.into(),
            records: records.into_iter().zip(leaves).map(|(bytes, leaf)| EntryRecord::judge(bytes, leaf, &binding)).collect(),
        }
    }
}

fn record(name: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.11","userIdentity":{{"type":"Root"}},"eventTime":"2026-01-02T03:04:05Z","eventSource":"sudo.linux","eventName":"{name}","awsRegion":"dc-local-1","eventCategory":"Management","eventType":"AwsApiCall","recipientAccountId":"111122223333"}}"#
    )
}

/// Every record's eventName in the ledger, in order, read in small steps.
fn names(ledger: &Ledger) -> Vec<String> {
    let mut names = Vec::new();
    let mut from = 0;
    loop {
        let entries = ledger.read(from, 1).unwrap();
        let Some(last) = entries.last() else { return names };
        from = last.index + 1;
        for entry in &entries {
            names.extend(entry.records.iter().map(|record| record.facets.as_ref().unwrap().name.clone()));
        }
    }
}

/// A clock that a test turns.
fn clock(time: &Arc<AtomicU64>) -> Clock {
    let time = time.clone();
    Arc::new(move || time.load(Ordering::SeqCst))
}
