//! The collector's ledger and internal stream on a disk that loses power: what has an answer is there once, in order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use edgetrail_collector::internal::{Home, Internal, InternalError};
use edgetrail_collector::ledger::{
    Bringer, CommitError, Committed, Encoding, Entry, EntryRecord, Incoming, Ledger, LedgerError, LedgerOptions, StreamInfo,
};
use edgetrail_collector::pki::Authority;
use edgetrail_power::collector::is_unbroken;
use edgetrail_power::damage::{DAMAGES, damage};
use edgetrail_power::rng::Rng;
use edgetrail_power::{Disk, FAULTS, seeds};
use edgetrail_proto::chain::{
    BatchKind, Binding, Cause, Counters, Hash, Open, Ratchet, ReceiptSigner, SealInput, SealedBatch, Seed, Verifier, Writer,
};
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::merkle;
use edgetrail_proto::record::Record;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

const STREAMS: u8 = 3;

/// An agent as a sender of one stream: keeps every batch.
struct Sender {
    open: Open,
    writer: Writer,
    batches: Vec<(SealedBatch, Vec<Bytes>)>,
}

fn binding() -> Binding {
    Binding::one("111122223333".parse().unwrap(), "dc-local-1".parse().unwrap(), "host").unwrap()
}

fn event(name: &str) -> Bytes {
    format!(r#"{{"eventVersion":"1.11","userIdentity":{{"type":"Root"}},"eventTime":"2026-01-02T03:04:05Z","eventSource":"sudo.linux","eventName":"{name}","awsRegion":"dc-local-1","eventCategory":"Management","eventType":"AwsApiCall","recipientAccountId":"111122223333"}}"#).into()
}

impl Sender {
    fn new(number: u8) -> Self {
        let stream = StreamId::from_bytes([number; 16]);
        let ratchet = Ratchet::new(stream, 0, Seed(Zeroizing::new([number; 32])));
        let open = Open {
            stream,
            agent: AgentId::from_bytes([number; 16]),
            first_key: ratchet.public_key(),
            predecessor: None,
            cause: Cause::Join,
            t_opened: 1000,
            binding: binding().hash(),
            certificate: Hash([1; 32]),
        };
        Self { writer: Writer::begin(&open, ratchet), open, batches: Vec::new() }
    }

    fn info(&self) -> StreamInfo {
        StreamInfo {
            stream: self.open.stream,
            agent: self.open.agent,
            open_bytes: Bytes::copy_from_slice(&self.open.encode()),
            open: self.open.clone(),
            open_signature: Bytes::from_static(b"signature"),
            certificate_chain: vec![Bytes::from_static(b"leaf")],
            binding: binding(),
            internal: false,
        }
    }

    fn seal(&mut self, count: usize) {
        let k = self.batches.len();
        let records: Vec<Bytes> = (0..count).map(|n| event(&format!("Event{k}x{n}"))).collect();
        let leaves: Vec<Hash> = records.iter().map(|record| merkle::leaf_hash(record)).collect();
        let (sealed, writer) = self.writer.seal(&SealInput {
            kind: if records.is_empty() { BatchKind::Heartbeat } else { BatchKind::Records },
            leaves: &leaves,
            boot_id: [3; 16],
            t_sealed: 2000,
            t_min: 0,
            t_max: 0,
            counters: Counters { observed: self.writer.next_seq() + leaves.len() as u64, ..Counters::default() },
            last_receipt: Hash::ZERO,
        });
        self.writer = writer;
        self.batches.push((sealed, records));
    }

    fn incoming(&self, k: usize) -> Incoming {
        let (sealed, records) = &self.batches[k];
        let mut body = Vec::new();
        records.iter().for_each(|record| edgetrail_link::body::frame(&mut body, record));
        let judged = |record: &Bytes| EntryRecord::judge(record.clone(), merkle::leaf_hash(record), &binding());
        Incoming {
            header: sealed.header.clone(),
            hash: sealed.hash,
            seal: sealed.seal,
            bringer: Bringer::Agent,
            encoding: Encoding::Identity,
            body_bytes: u32::try_from(body.len()).unwrap(),
            body: body.into(),
            records: records.iter().map(judged).collect(),
        }
    }
}

/// A collector over its restarts.
struct House {
    disk: Disk,
    rng: Rng,
    senders: Vec<Sender>,
    /// What was answered: batches of agents, and eventIDs of the internal stream with their ledger_index.
    committed: Vec<Committed>,
    recorded: Vec<(String, u64)>,
    asked: usize,
}

/// A running collector's store.
struct Process {
    ledger: Ledger,
    internal: Internal,
    stop: CancellationToken,
    ledger_stop: CancellationToken,
    tasks: JoinSet<Result<(), InternalError>>,
    ledger_tasks: JoinSet<Result<(), LedgerError>>,
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<(tempfile::TempDir, Authority)> = OnceLock::new();
    let made = || {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(&dir.path().join("pki"), "edgetrail.internal".parse().unwrap()).unwrap();
        (dir, authority)
    };
    &AUTHORITY.get_or_init(made).1
}

impl Process {
    async fn start(disk: &Disk, dir: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let mut options = LedgerOptions::new(Arc::new(ReceiptSigner::from_seed(&[7; 32])));
        options.medium = disk.medium();
        // Small, so that segments follow each other and most reads go to disk.
        (options.segment_bytes, options.tail_bytes) = (4000, 4000);
        let (ledger, task) = Ledger::open(&dir.join("ledger"), options)?;
        let (stop, ledger_stop) = (CancellationToken::new(), CancellationToken::new());
        let (mut tasks, mut ledger_tasks) = (JoinSet::new(), JoinSet::new());
        ledger_tasks.spawn(task.run(ledger_stop.clone()));
        let home = Home {
            account: "111122223333".parse().unwrap(),
            region: "dc-local-1".parse().unwrap(),
            host: "collector".to_owned(),
        };
        match Internal::open(dir, ledger.clone(), authority(), &home).await {
            Ok((internal, task)) => {
                tasks.spawn(task.run(stop.clone()));
                Ok(Self { ledger, internal, stop, ledger_stop, tasks, ledger_tasks })
            }
            Err(error) => {
                drop(ledger);
                ledger_stop.cancel();
                let _ended = ledger_tasks.join_next().await;
                Err(error.into())
            }
        }
    }

    /// Whether everything ended in order.
    async fn stop(mut self, orderly: bool) -> bool {
        let closed = if orderly {
            self.stop.cancel();
            matches!(self.tasks.join_next().await, Some(Ok(Ok(()))))
        } else {
            self.tasks.shutdown().await;
            false
        };
        drop((self.internal, self.ledger));
        self.ledger_stop.cancel();
        let ended = self.ledger_tasks.join_next().await;
        closed && matches!(ended, Some(Ok(Ok(()))))
    }
}

impl House {
    fn new(seed: u64) -> Self {
        let senders = (1..=STREAMS).map(Sender::new).collect();
        Self { disk: Disk::new(seed), rng: Rng::new(seed), senders, committed: Vec::new(), recorded: Vec::new(), asked: 0 }
    }

    async fn run(&mut self, steps: usize, orderly: bool) {
        let process = match Process::start(&self.disk, &self.disk.path("collector")).await {
            Ok(process) => process,
            Err(error) => {
                assert!(!self.disk.is_powered(), "with power on the collector starts: {error:?}");
                return;
            }
        };
        for sender in &self.senders {
            let _cut = process.ledger.record_open(sender.info()).await.is_err();
        }
        for _ in 0..steps {
            if !self.disk.is_powered() {
                break;
            }
            self.step(&process).await;
        }
        process.stop(orderly && self.disk.is_powered()).await;
    }

    async fn step(&mut self, process: &Process) {
        if self.rng.one_in(6) {
            self.asked += 1;
            let name = format!("Internal{}", self.asked);
            let record = Record {
                event_name: name.clone(),
                event_source: "cloudtrail.amazonaws.com".to_owned(),
                aws_region: "dc-local-1".to_owned(),
                recipient_account_id: "111122223333".to_owned(),
                ..Record::default()
            };
            if let Ok(index) = process.internal.record(record).await {
                self.recorded.push((name, index));
            }
            return;
        }
        // A group of several streams: one transaction.
        let mut pending = Vec::new();
        for number in 0..self.senders.len() {
            if self.rng.one_in(2) {
                continue;
            }
            let sender = &mut self.senders[number];
            let Ok(Some(state)) = process.ledger.stream(sender.open.stream) else { continue };
            let next = state.head.k.map_or(0, |k| k + 1) as usize;
            if next == sender.batches.len() {
                sender.seal(self.rng.below(4) * self.rng.below(8));
            }
            // The last one again, now and then: its receipt was lost.
            let k = if next > 0 && self.rng.one_in(8) { next - 1 } else { next };
            if let Ok(waiting) = process.ledger.put(sender.incoming(k)).await {
                pending.push(waiting);
            }
        }
        for waiting in pending {
            match waiting.committed().await {
                Ok(committed) | Err(CommitError::Duplicate(committed)) => self.committed.push(committed),
                Err(CommitError::Unavailable(_)) => {}
                Err(error) => panic!("a batch in its place is taken: {error:?}"),
            }
        }
    }

    /// Starts once more, with power, and looks at everything.
    async fn end(&mut self) -> Vec<Open> {
        let process = Process::start(&self.disk, &self.disk.path("collector")).await.unwrap();
        let ledger = &process.ledger;
        for committed in &self.committed {
            let found = ledger.committed(committed.stream, committed.k).unwrap();
            assert_eq!(found.as_ref(), Some(committed), "an answered batch is there as it was answered");
        }
        let entries = all(ledger);
        assert_eq!(entries.len() as u64, ledger.next_index());
        assert!(entries.iter().enumerate().all(|(at, entry)| entry.index == at as u64), "each index once, in order");
        for (name, index) in &self.recorded {
            let there: Vec<u64> = entries.iter().filter(|entry| names(entry).contains(name)).map(|entry| entry.index).collect();
            assert_eq!(there, [*index], "what the internal stream answered is there once");
        }
        let mut opens = Vec::new();
        for state in ledger.streams().unwrap() {
            let mut verifier = Verifier::begin(&state.info.open);
            for entry in entries.iter().filter(|entry| entry.stream.stream == state.info.stream) {
                let leaves: Vec<Hash> = entry.records.iter().map(|record| merkle::leaf_hash(&record.bytes)).collect();
                verifier.accept(&entry.header, &entry.seal, &leaves).expect("every chain verifies");
            }
            assert_eq!(verifier.head().hash, state.head.hash, "the head is the last batch");
            if state.info.internal {
                opens.push(state.info.open.clone());
            }
        }
        assert!(process.stop(true).await);
        opens
    }
}

fn all(ledger: &Ledger) -> Vec<Arc<Entry>> {
    let mut entries: Vec<Arc<Entry>> = Vec::new();
    loop {
        let next = ledger.read(entries.last().map_or(0, |entry| entry.index + 1), 1).unwrap();
        if next.is_empty() {
            return entries;
        }
        entries.extend(next);
    }
}

fn names(entry: &Entry) -> Vec<String> {
    entry.records.iter().filter_map(|record| record.facets.as_ref().ok()).map(|facets| facets.name.to_string()).collect()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

/// The internal stream goes on, or says that its open was not durable yet.
fn assert_unbroken(opens: &[Open]) {
    assert!(opens.iter().all(is_unbroken), "nothing sealed was lost: {opens:?}");
}

#[test]
fn what_was_answered_outlives_power_cuts_at_random_calls() {
    seeds::each("ledger, random power cuts", seeds::chosen(400), 2, |seed| {
        block_on(async {
            let mut house = House::new(seed);
            for _ in 0..1 + house.rng.below(4) {
                let calls = 1 + house.rng.below(200) as u64;
                house.disk.cut_after(calls);
                let (steps, orderly) = (3 + house.rng.below(20), house.rng.one_in(3));
                house.run(steps, orderly).await;
                house.disk.reboot();
            }
            assert_unbroken(&house.end().await);
        });
    });
}

#[test]
fn what_was_answered_outlives_a_power_cut_at_every_call() {
    const SEED: u64 = 5;
    let batches = usize::try_from(seeds::variable("EDGETRAIL_WALK_BATCHES").unwrap_or(8)).unwrap();
    let calls = block_on(async {
        let mut house = House::new(SEED);
        house.run(batches, true).await;
        let calls = house.disk.calls();
        assert_unbroken(&house.end().await);
        calls
    });
    let walk = seeds::variable("EDGETRAIL_SEED").map_or(1..calls + 1, |call| call..call + 1);
    seeds::each("ledger, a power cut at every call", walk, 2, |call| {
        block_on(async {
            let mut house = House::new(SEED);
            house.disk.cut_after(call);
            house.run(batches, true).await;
            house.disk.reboot();
            assert_unbroken(&house.end().await);
        });
    });
}

#[test]
fn what_was_answered_outlives_a_failing_call_a_restart_and_a_power_cut() {
    seeds::each("ledger, one failing call", seeds::chosen(60), 2, |case| {
        let fault = FAULTS[usize::try_from(case / 2 % 4).unwrap()];
        let call = 1 + case * 5 % 300 + case / 60;
        block_on(async {
            let mut house = House::new(case);
            house.disk.fail_after(call, fault);
            // The process may go on, or end by itself; the next one builds on what the page cache shows.
            for _ in 0..3 {
                match Process::start(&house.disk, &house.disk.path("collector")).await {
                    Ok(process) => {
                        for sender in &house.senders {
                            let _failed = process.ledger.record_open(sender.info()).await.is_err();
                        }
                        for _ in 0..8 {
                            let ahead = house.disk.has_fault_ahead();
                            house.step(&process).await;
                            if ahead && !house.disk.has_fault_ahead() && case.is_multiple_of(2) {
                                house.disk.kill();
                                break;
                            }
                        }
                        process.stop(false).await;
                    }
                    Err(error) => assert!(!house.disk.has_fault_ahead(), "{error:?}"),
                }
            }
            house.disk.reboot();
            assert_unbroken(&house.end().await);
        });
    });
}

/// What an operator is told of a ledger that can't be used must say what to do.
fn assert_helpful(error: &dyn std::error::Error, case: &str) {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    assert!(["restore", "move it away", "check", "start"].iter().any(|word| text.contains(word)), "{case}: {text}");
}

/// Each answered batch is there as it was, or reading it is an error, or the stream's head lies before it: then the
/// agent, which holds the receipt, says so at its next resume.
fn assert_not_silent(house: &House, ledger: &Ledger, case: &str) {
    for committed in &house.committed {
        match (ledger.committed(committed.stream, committed.k), ledger.stream(committed.stream)) {
            (Ok(Some(found)), _) => assert_eq!(&found, committed, "{case}"),
            (Ok(None), Ok(state)) => {
                let head = state.and_then(|state| state.head.k);
                assert!(head.is_none_or(|head| head < committed.k), "{case}: {committed:?} is gone below its head");
            }
            (Err(error), _) | (_, Err(error)) => assert_helpful(&error, case),
        }
    }
    let mut index = 0;
    while index < ledger.next_index() {
        match ledger.read(index, 1) {
            Err(error) => assert_helpful(&error, case),
            Ok(entries) => {
                let entry = entries.first().unwrap_or_else(|| panic!("{case}: index {index} is skipped"));
                assert_eq!(entry.index, index, "{case}");
                let sender = house.senders.iter().find(|sender| sender.open.stream == entry.stream.stream);
                if let Some((sealed, records)) = sender.map(|sender| &sender.batches[entry.header.k as usize]) {
                    let bytes: Vec<&Bytes> = entry.records.iter().map(|record| &record.bytes).collect();
                    assert_eq!((entry.hash, bytes), (sealed.hash, records.iter().collect()), "{case}: altered");
                    assert_eq!(entry.header.hash(), entry.hash, "{case}: altered");
                }
            }
        }
        index += 1;
    }
}

fn damaged_ledger(seed: u64) {
    block_on(async {
        let mut house = House::new(seed);
        let dir = house.disk.path("collector");
        let (first, second) = (house.rng.below(12), 2 + house.rng.below(12));
        house.run(first, false).await;
        let files = ["ledger/ledger.sqlite", "ledger/ledger.sqlite-wal", "internal.key", "segment"];
        let name = match files[house.rng.below(files.len())] {
            "segment" => format!("ledger/segments/{:08}.seg", 1 + house.rng.below(3)),
            name => name.to_owned(),
        };
        let file = dir.join(name);
        let stale = house.disk.content(&file);
        let process = Process::start(&house.disk, &dir).await.unwrap();
        for sender in &house.senders {
            process.ledger.record_open(sender.info()).await.unwrap();
        }
        for _ in 0..second {
            house.step(&process).await;
        }
        house.disk.kill();
        process.stop(false).await;
        let kind = DAMAGES[seed as usize % DAMAGES.len()];
        let case = format!("{}: {}", file.display(), damage(&house.disk, &file, kind, stale, &mut house.rng));
        match Process::start(&house.disk, &dir).await {
            Err(error) => assert_helpful(&*error, &case),
            Ok(process) => {
                assert_not_silent(&house, &process.ledger, &case);
                process.stop(false).await;
            }
        }
    });
}

#[test]
fn a_damaged_ledger_is_never_silently_wrong() {
    seeds::each("ledger, damaged files", seeds::chosen(140), 2, damaged_ledger);
}
