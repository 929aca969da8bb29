//! A host: its state directory, its buffer while it runs, its uplink while it syncs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgetrail_agent::buffer::{self, Addition, Buffer, BufferTask, Caller, Counted, Limits, Opener, Shelf};
use edgetrail_agent::normalize;
use edgetrail_agent::observation::{Answer, Outcome};
use edgetrail_agent::report::Reporter;
use edgetrail_agent::sources::api::AnswerAfter;
use edgetrail_disk::Medium;
use edgetrail_link::outbox::Outbox;
use edgetrail_link::uplink::{RETURN_AFTER, Uplink, UplinkOptions};
use edgetrail_proto::chain::Binding;
use edgetrail_proto::identity::AgentId;
use edgetrail_simulation::enrolled::{ACCOUNT, REGION, copy, record};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::collector::Collector;

/// Longer than any sync takes: a stream that is stuck fails its schedule.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long one that is refused may try.
const TRY: Duration = Duration::from_secs(3);

const BUFFER_FILES: [&str; 3] = ["buffer.sqlite", "buffer.sqlite-wal", "buffer.sqlite-shm"];

pub(crate) struct Host {
    directory: tempfile::TempDir,
    kept: Option<tempfile::TempDir>,
    agent: AgentId,
    prefix: String,
    next: u64,
    running: Option<Running>,
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
        Self { directory, kept: None, agent, prefix: prefix.to_owned(), next: 0, running: None }.started()
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
        let opened = Buffer::open(&Medium::real(), self.path(), opener, Reporter::new(host), limits);
        let (buffer, task, shelf) = opened.expect("nothing refuses to start");
        self.running = Some(Running { buffer, task, shelf: Arc::new(shelf) });
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn agent(&self) -> AgentId {
        self.agent
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
    pub(crate) async fn sync(&mut self, collector: &Collector, due: &BTreeSet<String>, log: &[crate::Step]) {
        let shelf = Arc::clone(&self.running.as_ref().unwrap().shelf);
        let done = self.uplink(collector, PATIENCE, |collector| {
            let receipted = shelf.held().is_ok_and(|held| held.iter().all(|stream| stream.unreceipted.is_empty()));
            receipted && due.is_subset(&collector.names())
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
        self.start();
    }

    pub(crate) fn close(&mut self) {
        self.running.as_ref().unwrap().buffer.close().unwrap();
        self.kill();
    }

    pub(crate) fn end(mut self) {
        self.stop();
    }

    /// Keeps a copy of the state directory, as an image would.
    pub(crate) fn keep(&mut self) {
        self.stop();
        let kept = tempfile::tempdir().unwrap();
        copy(self.path(), kept.path());
        self.kept = Some(kept);
        self.start();
    }

    /// Goes back to the copy, if there is one.
    pub(crate) fn restore(&mut self) -> bool {
        let Some(kept) = &self.kept else { return false };
        let back = tempfile::tempdir().unwrap();
        copy(kept.path(), back.path());
        self.stop();
        self.directory = back;
        self.start();
        true
    }

    /// The database goes back to the copy, the key file does not: what a damaged log does silently.
    pub(crate) fn lose_tail(&mut self) -> bool {
        let Some(kept) = self.kept.as_ref().map(|kept| kept.path().to_owned()) else { return false };
        self.stop();
        for file in BUFFER_FILES {
            drop(std::fs::remove_file(self.path().join(file)));
            drop(std::fs::copy(kept.join(file), self.path().join(file)));
        }
        self.start();
        true
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
        std::fs::remove_file(self.path().join("ratchet.key")).unwrap();
        self.start();
    }

    /// A second host with this one's state.
    pub(crate) fn clone_state(&mut self, prefix: &str) -> Host {
        self.stop();
        let directory = tempfile::tempdir().unwrap();
        copy(self.path(), directory.path());
        self.start();
        Self { directory, kept: None, agent: self.agent, prefix: prefix.to_owned(), next: 0, running: None }.started()
    }
}
