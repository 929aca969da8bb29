//! A simulated host on which an agent runs: buffer and uplink, and a caller that commits records.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use edgetrail_agent::buffer::{self, Addition, Buffer, BufferTask, Caller, Counted, Limits, Opener, Shelf};
use edgetrail_agent::normalize;
use edgetrail_agent::observation::{Answer, Outcome};
use edgetrail_agent::report::Reporter;
use edgetrail_agent::sources::api::AnswerAfter;
use edgetrail_disk::Medium;
use edgetrail_link::outbox::Outbox;
use edgetrail_link::uplink::{Credentials, Endpoint, Status, Uplink, UplinkOptions};
use edgetrail_power::rng::Rng;
use edgetrail_proto::chain::Binding;
use edgetrail_proto::identity::AgentId;
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::WallClock;
use crate::collector::PORT;
use crate::enrolled::{ACCOUNT, REGION, record};
use crate::image::{Image, agent, copied};
use crate::network::Network;
use crate::repeat::{Sent, Watched};
use crate::run::Broken;

/// Real time in which a commit is sealed on a machine that is not stuck.
const SEALED_MAX: Duration = Duration::from_secs(10);

/// Longest pause between two commits, simulated milliseconds.
const PAUSE_MAX_MS: usize = 2_500;

/// What outlives a crash, and what the oracle is told.
pub(crate) struct Site {
    directory: Mutex<TempDir>,
    kept: Mutex<Option<TempDir>>,
    pub(crate) agent: AgentId,
    pub(crate) clock: WallClock,
    number: usize,
    seed: u64,
    broken: Option<Broken>,
    /// In order of preference.
    collectors: Vec<String>,
    credentials: Arc<Credentials>,
    /// Starts so far: each commits by chance of its own.
    starts: AtomicU64,
    next: AtomicU64,
    /// Numbers of the records whose commit returned.
    answered: Mutex<BTreeSet<u64>>,
    quiet: AtomicBool,
    closing: AtomicBool,
    /// How often a close was begun.
    closes: AtomicU64,
    sent: Arc<Sent>,
    repeat: Notify,
    running: Mutex<Option<(Arc<Shelf>, watch::Receiver<Status>)>>,
}

/// The buffer while the host runs. Dropped by a crash: nothing is closed, its thread ends as a kill would end it.
struct Running {
    site: Arc<Site>,
    buffer: Buffer,
    shelf: Arc<Shelf>,
    task: Option<BufferTask>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.site.running.lock().unwrap().take());
        self.task.take().map(BufferTask::end).transpose().expect("the buffer's thread does not panic");
    }
}

impl Site {
    pub(crate) fn new(
        image: &Image,
        number: usize,
        seed: u64,
        broken: Option<Broken>,
        collectors: Vec<String>,
        credentials: impl Fn(&Path) -> Arc<Credentials>,
    ) -> Arc<Self> {
        let directory = image.host(number);
        Arc::new(Self {
            credentials: credentials(directory.path()),
            directory: Mutex::new(directory),
            kept: Mutex::default(),
            agent: agent(number),
            clock: WallClock::default(),
            number,
            seed,
            broken,
            collectors,
            starts: AtomicU64::new(0),
            next: AtomicU64::new(0),
            answered: Mutex::default(),
            quiet: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            closes: AtomicU64::new(0),
            sent: Arc::default(),
            repeat: Notify::new(),
            running: Mutex::default(),
        })
    }

    pub(crate) fn name(number: usize) -> String {
        format!("host-{number}")
    }

    /// The host's software: until it crashes.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        self.closing.store(false, Ordering::Relaxed);
        let host = normalize::Host {
            agent: self.agent,
            name: "host".to_owned(),
            account: ACCOUNT.parse()?,
            region: REGION.parse()?,
            partition: "aws".to_owned(),
            keep_raw: false,
        };
        let directory = self.path();
        let opener = Opener::new(self.agent, Binding::one(host.account, host.region.clone(), "host")?, &directory)?;
        // Free space is the machine's, not the schedule's; a seal follows its commit at once.
        let limits = Limits { seal_interval: Duration::ZERO, min_free_bytes: 0, reserve_bytes: 0, ..Limits::default() };
        let (clock, medium, reporter) = (self.clock.reader(), Medium::real(), Reporter::new(host));
        let (buffer, task, shelf) = Buffer::open_by(clock, &medium, &directory, opener, reporter, limits)?;
        let shelf = Arc::new(shelf);
        let running = Running { site: Arc::clone(&self), buffer, shelf: Arc::clone(&shelf), task: Some(task) };
        let endpoints: Vec<_> = self.collectors.iter().map(|host| Endpoint { host: host.clone(), port: PORT }).collect();
        let first = endpoints[0].clone();
        let watched = Arc::new(Watched { shelf: Arc::clone(&shelf) as Arc<dyn Outbox>, sent: Arc::clone(&self.sent) });
        let (_renew, credentials) = watch::channel(Arc::clone(&self.credentials));
        let options =
            UplinkOptions { endpoints, return_after: Duration::from_secs(10), credentials, agent_version: "1".to_owned() };
        let (uplink, status) = Uplink::new(Arc::clone(&watched) as Arc<dyn Outbox>, options);
        *self.running.lock().unwrap() = Some((shelf, status));
        let mut rng = Rng::new(self.seed ^ (start << 32) ^ ((self.number as u64 + 1) << 48));
        tokio::select! {
            () = uplink.over(Arc::new(Network)).run(CancellationToken::new()) => Err("the uplink ended by itself".into()),
            done = self.commits(&running, &mut rng) => done,
            () = self.repeats(&watched, &first, start) => Ok(()),
        }
    }

    async fn commits(&self, running: &Running, rng: &mut Rng) -> turmoil::Result {
        loop {
            tokio::time::sleep(Duration::from_millis(1 + rng.below(PAUSE_MAX_MS) as u64)).await;
            if self.closing.load(Ordering::Relaxed) {
                self.closes.fetch_add(1, Ordering::Relaxed);
                let buffer = running.buffer.clone();
                tokio::task::spawn_blocking(move || buffer.close()).await??;
                // Nothing is committed behind a close: the uplink brings what there is until the host ends.
                return std::future::pending().await;
            }
            if self.quiet.load(Ordering::Relaxed) {
                continue;
            }
            let count = 1 + rng.below(4) as u64;
            let first = self.next.fetch_add(count, Ordering::Relaxed);
            // Some crash before the seal: their records are sealed at the next start.
            let commit = Commit {
                site: Arc::clone(&running.site),
                buffer: running.buffer.clone(),
                shelf: Arc::clone(&running.shelf),
                numbers: first..first + count,
                await_seal: !rng.one_in(8),
            };
            // The simulated clock stands until it returns.
            if self.broken == Some(Broken::AnsweredBeforeCommit) && rng.one_in(20) {
                self.answered.lock().unwrap().extend(commit.numbers);
                continue;
            }
            tokio::task::spawn_blocking(move || commit.run()).await??;
            if self.broken == Some(Broken::CommittedTwice) && rng.one_in(20) {
                self.next.fetch_sub(count, Ordering::Relaxed);
            }
        }
    }

    /// Sends again what was sent, whenever the schedule says so.
    async fn repeats(&self, watched: &Watched, endpoint: &Endpoint, start: u64) {
        let mut rng = Rng::new(!self.seed ^ (start << 32) ^ ((self.number as u64 + 1) << 48));
        loop {
            self.repeat.notified().await;
            watched.repeat(endpoint, &self.credentials, &mut rng).await;
        }
    }

    pub(crate) fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Streams that the host may have: one, and one more behind each close.
    pub(crate) fn streams_max(&self) -> usize {
        1 + usize::try_from(self.closes.load(Ordering::Relaxed)).unwrap()
    }

    pub(crate) fn repeated(&self) -> usize {
        self.sent.repeated()
    }

    pub(crate) fn repeat(&self) {
        self.repeat.notify_one();
    }

    fn path(&self) -> PathBuf {
        self.directory.lock().unwrap().path().to_owned()
    }

    /// Keeps the disk as it is; the host does not run.
    pub(crate) fn keep(&self) {
        *self.kept.lock().unwrap() = Some(copied(&self.path()));
    }

    /// Puts the kept disk in the host's place; the host does not run.
    pub(crate) fn revert(&self) {
        *self.directory.lock().unwrap() = self.kept.lock().unwrap().take().expect("a disk was kept");
    }

    /// The agent stops in order, and ends when the schedule says so.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn fall_quiet(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self) -> BTreeSet<u64> {
        self.answered.lock().unwrap().clone()
    }

    /// Whether everything that was committed has its receipt. The thread that seals has a pace of its own: what it has not
    /// come to yet counts too.
    pub(crate) fn is_receipted(&self) -> bool {
        let running = self.running.lock().unwrap();
        let held = running.as_ref().and_then(|(shelf, _)| shelf.held().ok());
        held.is_some_and(|held| held.iter().all(|stream| stream.unreceipted.is_empty()))
            && buffer::status(&self.path()).is_ok_and(|status| status.records == 0)
    }

    pub(crate) fn trouble(&self) -> String {
        self.running.lock().unwrap().as_ref().map_or("not running".to_owned(), |(_, status)| format!("{:?}", *status.borrow()))
    }

    /// The name of a record's event, and its number again.
    pub(crate) fn event_name(&self, number: u64) -> String {
        format!("H{}N{number}", self.number)
    }

    pub(crate) fn number_of(&self, event_name: &str) -> Option<u64> {
        event_name.strip_prefix(&format!("H{}N", self.number))?.parse().ok()
    }
}

/// One addition of a caller that waits for its commit.
struct Commit {
    site: Arc<Site>,
    buffer: Buffer,
    shelf: Arc<Shelf>,
    numbers: std::ops::Range<u64>,
    await_seal: bool,
}

impl Commit {
    fn run(self) -> Result<(), String> {
        let mut changes = self.shelf.changes();
        changes.mark_unchanged();
        let mut addition = Addition::default();
        for number in self.numbers.clone() {
            addition.record(record(&self.site.event_name(number)).as_bytes(), Counted::Observed);
        }
        let (answer, answered) = oneshot::channel();
        let outcome = Outcome::Committed { event_ids: Vec::new() };
        addition.caller(Caller { answer: Answer(answer), outcome, after: AnswerAfter::Commit });
        self.buffer.append(addition).map_err(|error| error.to_string())?;
        match answered.blocking_recv() {
            Ok(Outcome::Committed { .. }) => self.site.answered.lock().unwrap().extend(self.numbers),
            other => return Err(format!("a commit was not answered: {other:?}")),
        }
        let until = Instant::now() + SEALED_MAX;
        while self.await_seal && !changes.has_changed().unwrap_or(true) {
            if Instant::now() > until {
                return Err("a commit was not sealed".to_owned());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }
}
