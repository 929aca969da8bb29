//! A host: its state directory, its buffer while it runs, its uplink while it syncs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use edgetrail_agent::buffer::{self, Addition, Buffer, BufferTask, Caller, Counted, Limits, Opener, Shelf};
use edgetrail_agent::clock::{Clock, unix_ns};
use edgetrail_agent::normalize;
use edgetrail_agent::observation::{Answer, Outcome};
use edgetrail_agent::report::Reporter;
use edgetrail_agent::sources::api::AnswerAfter;
use edgetrail_disk::Medium;
use edgetrail_link::outbox::Outbox;
use edgetrail_link::uplink::{RETURN_AFTER, Uplink, UplinkOptions};
use edgetrail_proto::chain::Binding;
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_simulation::enrolled::{ACCOUNT, REGION, copy, record};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::collector::Collector;
use crate::steps::Step;

/// Longer than any sync takes: a stream that is stuck fails its schedule.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long one that is refused may try.
const TRY: Duration = Duration::from_secs(3);

const KEY_FILE: &str = "ratchet.key";

const BUFFER_FILES: [&str; 3] = ["buffer.sqlite", "buffer.sqlite-wal", "buffer.sqlite-shm"];

pub(crate) struct Host {
    directory: tempfile::TempDir,
    kept: Option<Image>,
    agent: AgentId,
    prefix: String,
    next: u64,
    /// How far the host's clock stands ahead of the true one, nanoseconds.
    ahead: Arc<AtomicI64>,
    /// Starts that no orderly stop came before.
    unclean: u64,
    running: Option<Running>,
}

/// A copy of the state directory.
struct Image {
    directory: tempfile::TempDir,
    /// Taken behind an orderly stop.
    closed: bool,
    /// What agent and collector knew of by then.
    streams: BTreeSet<StreamId>,
}

/// What a host that was put back to an image has to go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restored {
    /// The image ends in an orderly stop: nothing in it says that anything came after.
    pub(crate) closed: bool,
    /// The collector has heard of a stream that the image does not know.
    pub(crate) known_beyond: bool,
}

struct Running {
    buffer: Buffer,
    task: BufferTask,
    shelf: Arc<Shelf>,
}

impl Host {
    pub(crate) async fn join(collector: &Collector, prefix: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let agent = AgentId::from_bytes([7; 16]);
        collector.join(directory.path(), agent).await;
        buffer::prepare(&Medium::real(), directory.path()).unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        Self { directory, kept: None, agent, prefix: prefix.to_owned(), next: 0, ahead, unclean: 0, running: None }.started()
    }

    fn started(mut self) -> Self {
        self.start();
        self
    }

    fn start(&mut self) {
        let (account, region) = (ACCOUNT.parse().unwrap(), REGION.parse().unwrap());
        let host = normalize::Host {
            agent: self.agent,
            name: "host".to_owned(),
            account,
            region,
            partition: "aws".to_owned(),
            keep_raw: false,
        };
        let binding = Binding::one(host.account, host.region.clone(), "host").unwrap();
        let opener = Opener::new(self.agent, binding, self.path()).unwrap();
        // Free space is the machine's, not the schedule's.
        let limits = Limits { seal_interval: Duration::from_millis(5), min_free_bytes: 0, ..Limits::default() };
        let opened = Buffer::open_by(self.clock(), &Medium::real(), self.path(), opener, Reporter::new(host), limits);
        let (buffer, task, shelf) = opened.expect("nothing refuses to start");
        self.running = Some(Running { buffer, task, shelf: Arc::new(shelf) });
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn agent(&self) -> AgentId {
        self.agent
    }

    /// How often it was started behind a kill, a lost disk or an image: each is a gap.
    pub(crate) fn unclean_starts(&self) -> u64 {
        self.unclean
    }

    fn clock(&self) -> Clock {
        let ahead = Arc::clone(&self.ahead);
        Arc::new(move || unix_ns().saturating_add_signed(ahead.load(Ordering::Relaxed)))
    }

    /// Whole seconds by the host's clock, as its records give them.
    pub(crate) fn now_s(&self) -> u64 {
        self.clock()() / 1_000_000_000
    }

    /// Commits events; gives their names once the commit has returned.
    pub(crate) async fn commit(&mut self, count: u64) -> Vec<String> {
        let names: Vec<String> = (self.next..self.next + count).map(|number| format!("{}{number}", self.prefix)).collect();
        self.next += count;
        let mut addition = Addition::default();
        names.iter().for_each(|name| addition.record(record(name).as_bytes(), Counted::Observed));
        let (answer, answered) = oneshot::channel();
        let outcome = Outcome::Committed { event_ids: Vec::new() };
        addition.caller(Caller { answer: Answer(answer), outcome, after: AnswerAfter::Commit });
        self.running.as_ref().unwrap().buffer.append(addition).unwrap();
        assert!(matches!(answered.await.unwrap(), Outcome::Committed { .. }));
        names
    }

    /// Connects until `due` is in the ledger and everything sealed has its receipt.
    pub(crate) async fn sync(&mut self, collector: &Collector, due: &BTreeSet<String>, log: &[Step]) {
        let shelf = Arc::clone(&self.running.as_ref().unwrap().shelf);
        let done = self.uplink(collector, PATIENCE, |collector| {
            let held = shelf.held().unwrap_or_default();
            let receipted = held.iter().all(|stream| stream.unreceipted.is_empty());
            // One that has nothing to send has been heard too.
            let known = held.last().is_some_and(|last| collector.ledger().stream(last.stream).is_ok_and(|state| state.is_some()));
            // What a start reports of itself is sealed a moment later, and is to arrive too.
            let nothing_left = || buffer::status(self.path()).is_ok_and(|status| status.records == 0);
            receipted && known && nothing_left() && due.is_subset(&collector.names())
        });
        if let Err(trouble) = done.await {
            let names = collector.names();
            let absent: Vec<&String> = due.difference(&names).collect();
            let held = shelf.held().unwrap();
            let held: Vec<String> = held.iter().map(|held| format!("{} {:?}", held.stream, held.unreceipted.len())).collect();
            let known = collector.known(self.agent);
            panic!("stuck: {absent:?} are not in the ledger, after {log:?}; held {held:#?}, known {known:#?}; {trouble}");
        }
    }

    /// Commits one event and shows it, until it is in the ledger or the agent is frozen; whatever else comes of it.
    pub(crate) async fn act(&mut self, collector: &Collector) -> Vec<String> {
        let names = self.commit(1).await;
        let agent = self.agent;
        let done = |collector: &Collector| {
            let states = collector.ledger().streams_of(agent).unwrap();
            states.iter().any(|state| state.is_frozen()) || names.iter().all(|name| collector.names().contains(name))
        };
        drop(self.uplink(collector, TRY, done).await);
        names
    }

    /// Connects for long enough to hear that it is frozen.
    pub(crate) async fn hear_of_fork(&mut self, collector: &Collector) {
        drop(self.uplink(collector, TRY, |_| false).await);
    }

    /// Connects for a while, whatever comes of it.
    pub(crate) async fn try_sync(&mut self, collector: &Collector) {
        let host_agent = self.agent;
        let frozen =
            |collector: &Collector| collector.ledger().streams_of(host_agent).unwrap().iter().any(|state| state.is_frozen());
        drop(self.uplink(collector, TRY, frozen).await);
    }

    async fn uplink(&self, collector: &Collector, patience: Duration, done: impl Fn(&Collector) -> bool) -> Result<(), String> {
        let (sender, credentials) = watch::channel(collector.credentials(self.path()));
        let outbox: Arc<dyn Outbox> = Arc::clone(&self.running.as_ref().unwrap().shelf) as Arc<dyn Outbox>;
        let options = UplinkOptions {
            endpoints: vec![collector.endpoint()],
            return_after: RETURN_AFTER,
            credentials,
            agent_version: "1".to_owned(),
        };
        let (uplink, status) = Uplink::new(outbox, options);
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(uplink.run(stop.clone()));
        let until = Instant::now() + patience;
        // Twice in a row: what was open at the first look may be sealed at the second.
        let mut agreed = 0;
        while agreed < 2 && Instant::now() < until {
            agreed = if done(collector) { agreed + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        let trouble = format!("{:?}", *status.borrow());
        stop.cancel();
        running.join_next().await.unwrap().unwrap();
        drop(sender);
        if agreed == 2 { Ok(()) } else { Err(trouble) }
    }

    /// As a kill does: nothing is closed.
    fn stop(&mut self) {
        let Running { buffer, task, shelf } = self.running.take().unwrap();
        drop((buffer, shelf));
        task.end().unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.stop();
        self.unclean += 1;
        self.start();
    }

    fn close_and_stop(&mut self) {
        self.running.as_ref().unwrap().buffer.close().unwrap();
        self.stop();
    }

    pub(crate) fn close(&mut self) {
        self.close_and_stop();
        self.start();
    }

    pub(crate) fn end(mut self) {
        self.stop();
    }

    /// While the host is down its clock is set.
    pub(crate) fn set_clock(&mut self, by: Duration, back: bool) {
        self.stop();
        let by = i64::try_from(by.as_nanos()).unwrap();
        self.ahead.fetch_add(if back { -by } else { by }, Ordering::Relaxed);
        self.unclean += 1;
        self.start();
    }

    /// Keeps a copy of the state directory, as an image would: of a host that was cut off, or behind an orderly stop.
    pub(crate) fn keep(&mut self, closed: bool, collector: &Collector) {
        let held = self.running.as_ref().unwrap().shelf.held().unwrap();
        let known = collector.ledger().streams_of(self.agent).unwrap();
        let streams = held.iter().map(|held| held.stream).chain(known.iter().map(|state| state.info.stream)).collect();
        if closed {
            self.close_and_stop();
        } else {
            self.stop();
            self.unclean += 1;
        }
        let kept = tempfile::tempdir().unwrap();
        copy(self.path(), kept.path());
        self.kept = Some(Image { directory: kept, closed, streams });
        self.start();
    }

    /// There is no image any more: one of before a join anew is refused, whoever shows it.
    pub(crate) fn forget_image(&mut self) {
        self.kept = None;
    }

    /// Goes back to the copy, if there is one.
    pub(crate) fn restore(&mut self, collector: &Collector) -> Option<Restored> {
        let image = self.kept.as_ref()?;
        let back = tempfile::tempdir().unwrap();
        copy(image.directory.path(), back.path());
        let known = collector.ledger().streams_of(self.agent).unwrap();
        let known_beyond = known.iter().any(|state| !image.streams.contains(&state.info.stream));
        let restored = Restored { closed: image.closed, known_beyond };
        self.stop();
        self.directory = back;
        self.unclean += u64::from(!restored.closed);
        self.start();
        Some(restored)
    }

    /// The database goes back to the copy, the key file does not: what a damaged log does silently. Whether the key file
    /// was further on.
    pub(crate) fn lose_tail(&mut self) -> Option<bool> {
        let kept = self.kept.as_ref()?.directory.path().to_owned();
        self.stop();
        for file in BUFFER_FILES {
            drop(std::fs::remove_file(self.path().join(file)));
            drop(std::fs::copy(kept.join(file), self.path().join(file)));
        }
        let ahead = key_position(self.path()) != key_position(&kept);
        self.unclean += 1;
        self.start();
        Some(ahead)
    }

    pub(crate) fn lose_buffer(&mut self) {
        self.stop();
        for file in BUFFER_FILES {
            drop(std::fs::remove_file(self.path().join(file)));
        }
        self.start();
    }

    pub(crate) fn lose_key_file(&mut self) {
        self.stop();
        std::fs::remove_file(self.path().join(KEY_FILE)).unwrap();
        self.unclean += 1;
        self.start();
    }

    /// A second host with this one's state.
    pub(crate) fn clone_state(&mut self, prefix: &str) -> Host {
        self.stop();
        let directory = tempfile::tempdir().unwrap();
        copy(self.path(), directory.path());
        self.unclean += 1;
        self.start();
        let ahead = Arc::new(AtomicI64::new(self.ahead.load(Ordering::Relaxed)));
        Self { directory, kept: None, agent: self.agent, prefix: prefix.to_owned(), next: 0, ahead, unclean: 1, running: None }
            .started()
    }
}

/// Stream and next k of the slot that counts. docs/protocol.md §3.5.
fn key_position(directory: &Path) -> (Vec<u8>, u64) {
    let file = std::fs::read(directory.join(KEY_FILE)).unwrap();
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    let slots = file.chunks_exact(4096).map(|slot| (number(&slot[..8]), slot[8..24].to_vec(), number(&slot[24..32])));
    let (_, stream, next_k) = slots.max().unwrap();
    (stream, next_k)
}
