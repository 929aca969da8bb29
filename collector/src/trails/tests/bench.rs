//! A real ledger fed by sealed streams, trails over it, a sink and a clock that obey.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use edgetrail_link::body;
use edgetrail_proto::chain::{
    BatchKind, Binding, Cause, Counters, Hash, Header, Open, Ratchet, Receipt, ReceiptSigner, SealInput, Seed, Writer,
};
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::merkle::{leaf_hash, root};
use edgetrail_proto::proof::{Mark, Proof, ProofReceiptKey};
use edgetrail_proto::record::format_time;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::super::clock::{Clock, SECOND};
use super::super::shared::Shared;
use super::super::{CONSUMER, Trails, TrailsOptions, TrailsTasks};
use crate::control::TrailConfig;
use crate::ledger::{Bringer, Encoding, EntryRecord, Incoming, Ledger, LedgerError, LedgerOptions, StreamInfo};
use crate::sinks::{Double, Sink, SinkConfig};
use crate::trails::ReceiptKeySource;

pub(super) const ACCOUNTS: [&str; 2] = ["111122223333", "444455556666"];
pub(super) const REGIONS: [&str; 2] = ["dc-local-1", "dc-tokyo-1"];

/// 2026-01-02T10:00:00Z.
pub(super) const START: u64 = 1_767_348_000;

/// Longest wait for something that must happen; nothing is ever slept for.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Bench {
    pub(super) dir: tempfile::TempDir,
    pub(super) sink: Double,
    pub(super) ledger: Ledger,
    pub(super) trail: TrailConfig,
    /// A second trail beside it, with a sink of its own.
    pub(super) other: Option<(TrailConfig, Double)>,
    /// Unix nanoseconds.
    clock: watch::Sender<u64>,
    running: Option<Running>,
    ledger_stop: CancellationToken,
    _ledger_tasks: JoinSet<Result<(), LedgerError>>,
    streams: BTreeMap<u8, Stream>,
    records: u64,
}

struct Running {
    trails: Trails,
    tasks: TrailsTasks,
    stop: CancellationToken,
    shared: Weak<Shared>,
}

/// An agent's writing end.
struct Stream {
    info: Arc<StreamInfo>,
    writer: Writer,
}

pub(super) fn trail(dir: &Path) -> TrailConfig {
    TrailConfig {
        name: "default".into(),
        arn: format!("arn:aws:cloudtrail:{}:{}:trail/default", REGIONS[0], ACCOUNTS[0]),
        account: ACCOUNTS[0].into(),
        home_region: REGIONS[0].into(),
        bucket: "edgetrail".into(),
        prefix: None,
        created_ns: START * SECOND,
        multi_region: true,
        validation: true,
        kms_key: None,
        log_interval: Duration::from_secs(10),
        log_bytes: 15 * 1024 * 1024,
        digest_interval: Duration::from_secs(60),
        sink: SinkConfig::Directory { path: dir.join("trail") },
        tags: Default::default(),
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(|_trail| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut TrailConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut trail = trail(dir.path());
        change(&mut trail);
        let (clock, _) = watch::channel(START * SECOND);
        let mut options = LedgerOptions::new(Arc::new(ReceiptSigner::from_seed(&[7; 32])));
        options.consumers = vec![CONSUMER.to_owned()];
        let time = clock.clone();
        options.clock = Arc::new(move || *time.borrow());
        let (ledger, task) = Ledger::open(&dir.path().join("ledger"), options).unwrap();
        let ledger_stop = CancellationToken::new();
        let mut ledger_tasks = JoinSet::new();
        ledger_tasks.spawn(task.run(ledger_stop.clone()));
        Self {
            dir,
            sink: Double::default(),
            ledger,
            trail,
            other: None,
            clock,
            running: None,
            ledger_stop,
            _ledger_tasks: ledger_tasks,
            streams: BTreeMap::new(),
            records: 0,
        }
    }

    /// Starts the trail over what is on disk, delivering to the double.
    pub(super) fn start(&mut self) {
        let sink = Sink::Double(self.sink.clone());
        self.start_with(Some(sink));
    }

    /// `None`: the sink that the trail is configured with.
    pub(super) fn start_with(&mut self, sink: Option<Sink>) {
        let options = TrailsOptions {
            state_dir: self.dir.path().to_owned(),
            trails: [self.trail.clone()].into_iter().chain(self.other.as_ref().map(|(trail, _)| trail.clone())).collect(),
            receipt_keys: ReceiptKeySource::new(|| {
                vec![ProofReceiptKey {
                    public_key: ReceiptSigner::from_seed(&[7; 32]).public_key().0.to_vec().into(),
                    not_before: 0,
                    not_after: u64::MAX,
                    ca_signature: vec![1, 2, 3].into(),
                }]
            }),
            clock: Clock::Manual(self.clock.clone()),
        };
        let (mut shared, trails) = Shared::open(self.ledger.clone(), options).unwrap();
        shared.sinks.extend(sink.map(|sink| (self.trail.arn.clone(), sink)));
        let other = self.other.iter().map(|(trail, sink)| (trail.arn.clone(), Sink::Double(sink.clone())));
        shared.sinks.extend(other);
        shared.backoff = Duration::from_millis(2);
        let shared = Arc::new(shared);
        let weak = Arc::downgrade(&shared);
        let stop = CancellationToken::new();
        let (trails, tasks) = Trails::start_shared(shared, trails, stop.clone()).unwrap();
        self.running = Some(Running { trails, tasks, stop, shared: weak });
    }

    /// Drops every task where it stands, then waits until nothing of it is left in memory.
    pub(super) async fn crash(&mut self) {
        let Running { trails, tasks, stop, shared } = self.running.take().unwrap();
        drop((trails, tasks, stop));
        eventually("the crashed trails are gone", || shared.strong_count() == 0).await;
    }

    pub(super) fn trails(&self) -> &Trails {
        &self.running.as_ref().unwrap().trails
    }

    pub(super) fn now(&self) -> u64 {
        *self.clock.borrow() / SECOND
    }

    pub(super) fn advance(&self, seconds: u64) {
        self.clock.send_modify(|now| *now += seconds * SECOND);
    }

    /// Waits until the trail has read all that is in the ledger.
    pub(super) async fn caught_up(&self) {
        let next = self.ledger.next_index();
        if next > 0 {
            tokio::time::timeout(PATIENCE, self.trails().passed(next - 1)).await.expect("the trail reads the ledger");
        }
    }

    /// Waits until the planner has nothing left to do at this time.
    pub(super) async fn planned(&self) {
        let now = *self.clock.borrow();
        let mut planner = self.trails().shared.trails[&self.trail.arn].rests_until.subscribe();
        let idle = planner.wait_for(|until| until.is_some_and(|until| until > now));
        assert!(tokio::time::timeout(PATIENCE, idle).await.is_ok(), "the planner never rests");
    }

    /// Keys of everything planned that was not forgotten, in plan order.
    pub(super) fn planned_objects(&self) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.dir.path().join("delivery.sqlite")).unwrap();
        let mut select = connection.prepare("SELECT key FROM objects ORDER BY id").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// The proof that a digest names shows this many records delivered; gives the number of its batches.
    pub(super) fn check_proof(&self, digest: &serde_json::Value, records: usize) -> usize {
        let key = digest["edgetrailProof"]["s3Object"].as_str().unwrap();
        let proof = Proof::from_json(&super::auditor::gunzip(&self.sink.get(key).unwrap().bytes)).unwrap();
        let mut delivered = 0;
        for batch in &proof.batches {
            let header = Header::decode(&batch.header.0).unwrap();
            assert!((proof.ledger_from..proof.ledger_to).contains(&batch.ledger_index));
            let Some(leaves) = batch.marked_leaves().unwrap() else { continue };
            delivered += leaves.iter().filter(|(_, mark)| *mark == Mark::Delivered).count();
            let hashes: Vec<Hash> = leaves.into_iter().map(|(hash, _)| hash).collect();
            assert_eq!(root(&hashes), header.root);
        }
        assert_eq!(delivered, records);
        for stream in &proof.streams {
            let mut last = proof.batches.iter().map(|batch| Header::decode(&batch.header.0).unwrap());
            let last = last.rfind(|header| header.stream.to_string() == stream.stream_id).unwrap();
            let mut receipts = proof.receipts.iter().map(|receipt| Receipt::decode(&receipt.0).unwrap());
            let receipt = receipts.rfind(|receipt| receipt.stream == last.stream).unwrap();
            assert_eq!((receipt.k, receipt.head), (last.k, last.hash()));
            receipt.verify(&ReceiptSigner::from_seed(&[7; 32]).public_key()).unwrap();
        }
        proof.batches.len()
    }

    /// Waits until the sink has this many objects whose key contains `kind`.
    pub(super) async fn delivered(&self, kind: &str, count: usize) {
        eventually(&format!("{count} objects of {kind}"), || self.keys(kind).len() >= count).await;
    }

    pub(super) fn keys(&self, kind: &str) -> Vec<String> {
        self.sink.order().into_iter().filter(|key| key.contains(&format!("/{kind}/"))).collect()
    }

    /// A record in the name of an account and region. Every one is different.
    pub(super) fn record(&mut self, account: &str, region: &str) -> String {
        let time = format_time(*self.clock.borrow());
        let number = self.records;
        self.records += 1;
        record(account, region, "sudo.linux", "RunCommand", &time, number, "null")
    }

    /// Commits a batch of an agent that is bound to `account` and `region`.
    pub(super) async fn commit(&mut self, agent: u8, account: &str, region: &str, count: usize) -> Vec<String> {
        let records: Vec<String> = (0..count).map(|_| self.record(account, region)).collect();
        let binding = Binding::one(account.parse().unwrap(), region.parse().unwrap(), "host").unwrap();
        self.commit_as(agent, binding, false, &records).await;
        records
    }

    pub(super) async fn commit_records(&mut self, agent: u8, account: &str, region: &str, records: &[String]) {
        let binding = Binding::one(account.parse().unwrap(), region.parse().unwrap(), "host").unwrap();
        self.commit_as(agent, binding, false, records).await;
    }

    /// Commits a record of a call to this trail, as the collector does, and returns its ledger_index.
    pub(super) async fn call(&mut self, name: &str) -> u64 {
        let call = self.call_of(name, "null");
        self.commit_own(&[call]).await
    }

    /// A record of a call to this trail.
    pub(super) fn call_of(&mut self, name: &str, error: &str) -> String {
        let time = format_time(*self.clock.borrow());
        let parameters = format!("{{\"name\":\"{}\"}},\"errorCode\":{error}", self.trail.arn);
        self.records += 1;
        record(ACCOUNTS[0], REGIONS[0], "cloudtrail.amazonaws.com", name, &time, self.records, &parameters)
    }

    pub(super) async fn commit_own(&mut self, records: &[String]) -> u64 {
        self.commit_as(200, Binding::all("collector").unwrap(), true, records).await
    }

    pub(super) async fn commit_as(&mut self, agent: u8, binding: Binding, internal: bool, records: &[String]) -> u64 {
        if !self.streams.contains_key(&agent) {
            let stream = Stream::open(agent, binding, internal);
            self.ledger.record_open(copy(&stream.info)).await.unwrap();
            self.streams.insert(agent, stream);
        }
        let stream = self.streams.get_mut(&agent).unwrap();
        let batch = stream.seal(records, *self.clock.borrow());
        self.ledger.commit(batch).await.unwrap().index
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.ledger_stop.cancel();
    }
}

impl Stream {
    fn open(agent: u8, binding: Binding, internal: bool) -> Self {
        let stream = StreamId::from_bytes([agent; 16]);
        let ratchet = Ratchet::new(stream, 0, Seed(Zeroizing::new([agent; 32])));
        let open = Open {
            stream,
            agent: AgentId::from_bytes([agent; 16]),
            first_key: ratchet.public_key(),
            predecessor: None,
            cause: Cause::Join,
            t_opened: 1,
            binding: binding.hash(),
            certificate: Hash::of(b"leaf"),
        };
        let info = StreamInfo {
            stream,
            agent: open.agent,
            open_bytes: Bytes::copy_from_slice(&open.encode()),
            open: open.clone(),
            open_signature: Bytes::from_static(b"signature"),
            certificate_chain: vec![Bytes::from_static(b"leaf"), Bytes::from_static(b"ca")],
            binding,
            internal,
        };
        Self { info: Arc::new(info), writer: Writer::begin(&open, ratchet) }
    }

    fn seal(&mut self, records: &[String], now: u64) -> Incoming {
        let records: Vec<Bytes> = records.iter().map(|record| Bytes::from(record.clone())).collect();
        let leaves: Vec<Hash> = records.iter().map(|record| leaf_hash(record)).collect();
        let observed = self.writer.next_seq() + leaves.len() as u64;
        let (sealed, writer) = self.writer.seal(&SealInput {
            kind: if records.is_empty() { BatchKind::Heartbeat } else { BatchKind::Records },
            leaves: &leaves,
            boot_id: [3; 16],
            t_sealed: now,
            t_min: 0,
            t_max: 0,
            counters: Counters { observed, ..Counters::default() },
            last_receipt: Hash::ZERO,
        });
        self.writer = writer;
        let mut framed = Vec::new();
        records.iter().for_each(|record| body::frame(&mut framed, record));
        Incoming {
            bringer: Bringer::Agent,
            header: sealed.header,
            hash: sealed.hash,
            seal: sealed.seal,
            encoding: Encoding::Identity,
            body_bytes: u32::try_from(framed.len()).unwrap(),
            body: framed.into(),
            records: (records.into_iter().zip(leaves))
                .map(|(bytes, leaf)| EntryRecord::judge(bytes, leaf, &self.info.binding))
                .collect(),
        }
    }
}

fn record(account: &str, region: &str, source: &str, name: &str, time: &str, number: u64, parameters: &str) -> String {
    format!(
        "{{\"eventVersion\":\"1.11\",\"userIdentity\":{{\"type\":\"Root\"}},\"eventTime\":\"{time}\",\"eventSource\":\"{source}\",\
         \"eventName\":\"{name}\",\"awsRegion\":\"{region}\",\"requestParameters\":{parameters},\"requestID\":\"{number}\",\
         \"eventType\":\"AwsApiCall\",\"managementEvent\":true,\"recipientAccountId\":\"{account}\",\
         \"eventCategory\":\"Management\"}}"
    )
}

fn copy(info: &StreamInfo) -> StreamInfo {
    StreamInfo {
        stream: info.stream,
        agent: info.agent,
        open: info.open.clone(),
        open_bytes: info.open_bytes.clone(),
        open_signature: info.open_signature.clone(),
        certificate_chain: info.certificate_chain.clone(),
        binding: info.binding.clone(),
        internal: info.internal,
    }
}

/// Looks until it holds; the wait between two looks is not what makes it hold.
pub(super) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let looked = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looked).await.is_ok(), "never came: {what}");
}
