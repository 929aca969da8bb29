//! The writer's thread: groups additions into commits, seals on time, answers callers.
//!
//! Everything that changes the buffer goes through one bounded channel to this thread. A commit waits for others at
//! most [`COMMIT_WAIT`], and not at all for a push caller with nobody behind it. Idle, the thread wakes for a heartbeat
//! and nothing else. After an error it opens the buffer anew and goes on from what the files say; meanwhile there is no
//! room: push callers are told to come back, pull sources wait.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edgetrail_disk::Medium;
use edgetrail_link::outbox::{CollectorPosition, Reconciled};
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_proto::chain::Receipt;
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::limits::{COMMIT_INTERVAL, HEARTBEAT_INTERVAL, SEAL_INTERVAL};
use tokio::sync::watch;

use super::addition::{Addition, Caller, Counted};
use super::ballast::Ballast;
use super::open::Opener;
use super::outbox::Shelf;
use super::repair::{self, Repaired, Slice};
use super::scribe::{Opening, Place, Published, Scribe};
use super::space::Space;
use super::{BufferError, store};
use crate::clock::{Clock, StepWatch, unix_ns};
use crate::observation::{Cursor, GapCause, Loss, Outcome};
use crate::report::Reporter;
use crate::sources::api::AnswerAfter;

/// How long a commit waits for more. The rest of [`COMMIT_INTERVAL`] is for the fsync: about 4 ms on the slowest disk
/// that was measured, a few times that under load.
const COMMIT_WAIT: Duration = Duration::from_millis(70);

const _: () = assert!(COMMIT_WAIT.as_millis() < COMMIT_INTERVAL.as_millis(), "a commit ends within the interval");

/// Additions under way to the thread: with full ones, 4 MiB.
const COMMANDS_MAX: usize = 4;

/// How long after an error the buffer is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// What could not be committed is tried again after this.
const REFUSED_AFTER: Duration = Duration::from_millis(500);

/// What callers are told to wait when there is no room, seconds.
pub(crate) const RETRY_AFTER_S: u64 = 5;

/// How often a close is tried: the first failure may spend the ballast, the second may be of the commit that it was for.
const CLOSES_MAX: u32 = 3;

/// How much the rows take is looked at this often at most; what the disk has left, at each commit.
const SPACE_INTERVAL: Duration = Duration::from_secs(2);

/// While there is traffic the wall clock is looked at this often.
const CLOCK_INTERVAL: Duration = Duration::from_secs(10);

/// How much the buffer may take, and how long it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows may take this much, bytes.
    pub max_bytes: u64,
    /// Of these, kept for gaps: what is lost while the buffer is full must still be said.
    pub reserve_bytes: u64,
    /// The file system keeps this much free, bytes.
    pub min_free_bytes: u64,
    /// Nothing more is taken while a record has waited this long for its receipt; `None`: however long.
    pub max_age: Option<Duration>,
    /// A batch is sealed this long after its first commit, at most [`SEAL_INTERVAL`].
    pub seal_interval: Duration,
    /// An idle stream seals a heartbeat this often: [`HEARTBEAT_INTERVAL`] for whoever reads the chain.
    pub heartbeat_interval: Duration,
}

/// Whether observations can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Open,
    /// A limit is reached or the disk fails: push sources are refused for now, pull sources wait.
    Full,
}

/// The pipeline's end of the buffer.
#[derive(Clone, Debug)]
pub struct Buffer {
    commands: SyncSender<Command>,
    room: watch::Receiver<Room>,
    medium: Medium,
    dir: PathBuf,
}

/// The writer's thread: joined when the agent stops.
#[derive(Debug)]
pub struct BufferTask {
    thread: JoinHandle<()>,
    commands: SyncSender<Command>,
}

/// What the thread is asked.
#[derive(Debug)]
pub(super) enum Command {
    Append(Addition),
    Receipt {
        receipt: Receipt,
        reply: Reply<bool>,
    },
    Reconcile {
        latest: Option<StreamId>,
        positions: Vec<CollectorPosition>,
        reply: Reply<Reconciled>,
    },
    ReceiptKey {
        key: ReceiptKey,
        reply: Reply<()>,
    },
    Damaged {
        stream: StreamId,
        k: u64,
        reply: Reply<()>,
    },
    /// A reader found the content of the file damaged that is the `file`-th in the database's place.
    Condemn {
        file: u64,
        what: String,
        reply: Reply<()>,
    },
    Forked {
        stream: StreamId,
        reply: Reply<Reconciled>,
    },
    /// A repair: a place before all streams, what goes there, and that a stream of it is whole.
    BeginBefore {
        reply: Reply<i64>,
    },
    TakeIn {
        slice: Box<Slice>,
        reply: Reply<()>,
    },
    Close {
        reply: Reply<()>,
    },
    End,
}

type Reply<T> = SyncSender<Result<T, BufferError>>;

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A busy host makes some 10 GiB a day uncompressed; 2 GiB is hours there and weeks on a quiet one.
            max_bytes: 2 * 1024 * 1024 * 1024,
            reserve_bytes: 4 * 1024 * 1024,
            min_free_bytes: 256 * 1024 * 1024,
            max_age: None,
            seal_interval: SEAL_INTERVAL,
            heartbeat_interval: HEARTBEAT_INTERVAL,
        }
    }
}

impl Buffer {
    /// Opens the buffer in `dir` and starts its thread: on return every record left from before is sealed.
    pub fn open(
        medium: &Medium,
        dir: &Path,
        opener: Opener,
        reporter: Reporter,
        limits: Limits,
    ) -> Result<(Self, BufferTask, Shelf), BufferError> {
        Self::open_by(Arc::new(unix_ns), medium, dir, opener, reporter, limits)
    }

    /// As [`Buffer::open`], by another wall clock than the host's.
    pub fn open_by(
        clock: Clock,
        medium: &Medium,
        dir: &Path,
        opener: Opener,
        reporter: Reporter,
        limits: Limits,
    ) -> Result<(Self, BufferTask, Shelf), BufferError> {
        let published = Arc::new(Published::new());
        let place = Place {
            medium: medium.clone(),
            dir: dir.to_owned(),
            opener: Arc::new(opener),
            reporter,
            published: Arc::clone(&published),
        };
        let (commands, receiver) = sync_channel(COMMANDS_MAX);
        let writer = Writer::open(clock, place, limits, receiver)?;
        let room = writer.room.subscribe();
        let shelf = Shelf::open(medium, dir, commands.clone(), published)?;
        let thread = std::thread::Builder::new()
            .name("buffer".to_owned())
            .stack_size(512 * 1024)
            .spawn(move || writer.run())
            .map_err(store::StoreError::File)?;
        let task = BufferTask { thread, commands: commands.clone() };
        Ok((Self { commands, room, medium: medium.clone(), dir: dir.to_owned() }, task, shelf))
    }

    /// Hands an addition on; waits while the thread is behind.
    pub fn append(&self, addition: Addition) -> Result<(), BufferError> {
        self.commands.send(Command::Append(addition)).map_err(|_| BufferError::Stopped)
    }

    /// Commits what was appended, seals it and seals a close. Receipts are taken until [`BufferTask::end`].
    pub fn close(&self) -> Result<(), BufferError> {
        let (reply, closed) = sync_channel(1);
        self.commands.send(Command::Close { reply }).map_err(|_| BufferError::Stopped)?;
        closed.recv().map_err(|_| BufferError::Stopped)?
    }

    /// Brings back what files that were put aside still hold, beside all else; call it off the runtime.
    pub fn repair(&self) -> Result<Vec<Repaired>, BufferError> {
        repair::repair_into(&self.medium, &self.dir, &mut Running { commands: self.commands.clone() })
    }

    pub fn room(&self) -> watch::Receiver<Room> {
        self.room.clone()
    }

    /// Where a source goes on, one cursor a key.
    pub fn cursors(&self, source: crate::observation::SourceName) -> Result<Vec<Cursor>, BufferError> {
        let db = store::open_reader(&self.medium, &self.dir)?;
        Ok(store::cursors(&db, source.as_str())?.into_iter().map(|(key, value)| Cursor { key, value }).collect())
    }

    /// What [`Addition::hold`] last stored.
    pub fn hold(&self) -> Result<Option<Vec<u8>>, BufferError> {
        Ok(store::hold(&store::open_reader(&self.medium, &self.dir)?)?)
    }
}

/// The writer, for a repair.
struct Running {
    commands: SyncSender<Command>,
}

impl Running {
    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, BufferError> {
        let (reply, answer) = sync_channel(1);
        self.commands.send(command(reply)).map_err(|_| BufferError::Stopped)?;
        answer.recv().map_err(|_| BufferError::Stopped)?
    }
}

impl repair::Recipient for Running {
    fn begin(&mut self) -> Result<i64, BufferError> {
        self.ask(|reply| Command::BeginBefore { reply })
    }

    fn take(&mut self, slice: Slice) -> Result<(), BufferError> {
        self.ask(|reply| Command::TakeIn { slice: Box::new(slice), reply })
    }
}

impl BufferTask {
    /// Ends the thread and waits for it; call it off the runtime.
    pub fn end(self) -> Result<(), BufferError> {
        // A thread that has ended by itself has panicked: the join says so.
        drop(self.commands.send(Command::End));
        self.thread.join().map_err(|_| BufferError::Stopped)
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// The thread's state.
struct Writer {
    place: Place,
    limits: Limits,
    commands: Receiver<Command>,
    room: watch::Sender<Room>,
    /// `None` after an error, until it could be opened again.
    scribe: Option<Scribe>,
    staged: Option<Staged>,
    doubt: Option<Doubt>,
    /// Callers that wait for the receipt of a batch.
    waiting: Vec<(StreamId, u64, Caller)>,
    unsealed_since: Option<Instant>,
    sealed_at: Instant,
    retry_at: Instant,
    /// It was the database's content that failed: it is put aside when the buffer is opened again.
    condemned: bool,
    ballast: Ballast,
    space_at: Option<Instant>,
    steps: StepWatch,
    /// When the clock was looked at last.
    looked_at: Instant,
    clock: Clock,
    closed: bool,
}

struct Staged {
    addition: Addition,
    since: Instant,
}

/// What a commit that failed was of. It may be durable all the same: only the opened database tells. What comes meanwhile
/// is staged apart, since no answer to that question is about it.
struct Doubt {
    staged: Staged,
    /// The commit count before.
    before: u64,
}

impl Writer {
    fn open(clock: Clock, place: Place, limits: Limits, commands: Receiver<Command>) -> Result<Self, BufferError> {
        let (scribe, _) = Scribe::open(&place, Opening::Start, clock())?;
        let ballast = Ballast::new(&place.medium, &place.dir, limits.reserve_bytes);
        let now = Instant::now();
        let mut writer = Self {
            place,
            limits,
            commands,
            room: watch::Sender::new(Room::Open),
            scribe: Some(scribe),
            staged: None,
            doubt: None,
            waiting: Vec::new(),
            unsealed_since: None,
            sealed_at: now,
            retry_at: now,
            condemned: false,
            ballast,
            space_at: None,
            steps: StepWatch::new(clock()),
            looked_at: now,
            clock,
            closed: false,
        };
        // The start itself may have committed a gap.
        writer.settle();
        writer.measure(true);
        Ok(writer)
    }

    fn run(mut self) {
        loop {
            let wait = self.deadline().saturating_duration_since(Instant::now());
            match self.commands.recv_timeout(wait) {
                Ok(Command::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(command) => self.take(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // A push caller with others right behind it shares the commit with them.
            while self.staged.as_ref().is_some_and(|staged| !staged.addition.is_full()) {
                match self.commands.try_recv() {
                    Ok(Command::End) => return,
                    Ok(command) => self.take(command),
                    Err(_) => break,
                }
            }
            self.act();
        }
    }

    fn now(&self) -> u64 {
        (self.clock)()
    }

    /// When something is due that no command brings.
    fn deadline(&self) -> Instant {
        if self.closed {
            return Instant::now() + self.limits.heartbeat_interval;
        }
        if self.scribe.is_none() {
            return self.retry_at;
        }
        let commit = self.staged.as_ref().map(|staged| if staged.urgent() { staged.since } else { staged.since + COMMIT_WAIT });
        let seal = self.unsealed_since.map(|since| since + self.limits.seal_interval);
        [commit, seal, Some(self.sealed_at + self.limits.heartbeat_interval)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.sealed_at)
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Append(_) if self.closed => tracing::error!("records came after the close and are dropped"),
            Command::Append(addition) => match &mut self.staged {
                Some(staged) => staged.addition.absorb(addition),
                None => self.staged = Some(Staged { addition, since: Instant::now() }),
            },
            Command::Receipt { receipt, reply } => {
                let stored = self.with(|scribe| scribe.receipt(&receipt));
                if matches!(stored, Ok(true)) {
                    self.answer_up_to(receipt.stream, receipt.k);
                }
                self.measure(false);
                self.shrink();
                // A caller that has gone away has its answer from the database at its next resume.
                drop(reply.send(stored));
            }
            // After the close only receipts are of use.
            Command::Reconcile { reply, .. } if self.closed => drop(reply.send(Ok(Reconciled::Continue))),
            Command::Reconcile { latest, positions, reply } => {
                self.flush();
                let now = self.now();
                let done = self.with(|scribe| scribe.reconcile(latest, &positions, now));
                if matches!(done, Ok(Reconciled::Successor)) {
                    self.settle();
                    self.follow_successor();
                }
                drop(reply.send(done));
            }
            Command::ReceiptKey { key, reply } => drop(reply.send(self.with(|scribe| scribe.keep_receipt_key(&key)))),
            Command::Damaged { stream, k, reply } => drop(reply.send(self.with(|scribe| scribe.damaged(stream, k)))),
            Command::Condemn { file, what, reply } => drop(reply.send(self.condemn(file, &what))),
            Command::Forked { reply, .. } if self.closed => drop(reply.send(Ok(Reconciled::Continue))),
            Command::Forked { stream, reply } => {
                self.flush();
                let now = self.now();
                let done = self.with(|scribe| scribe.forked(stream, now));
                if matches!(done, Ok(Reconciled::Successor)) {
                    self.settle();
                    self.follow_successor();
                }
                drop(reply.send(done));
            }
            Command::BeginBefore { reply } => {
                drop(reply.send(self.with(|scribe| Ok(store::begin_before(&scribe.desk.store.db)?))));
            }
            Command::TakeIn { reply, .. } if self.closed => drop(reply.send(Err(BufferError::Stopped))),
            Command::TakeIn { slice, reply } => drop(reply.send(self.take_in(&slice))),
            Command::Close { reply } => drop(reply.send(self.close())),
            // Taken where commands are received.
            Command::End => {}
        }
    }

    /// Does what is due.
    fn act(&mut self) {
        if self.closed {
            return;
        }
        let now = Instant::now();
        if self.scribe.is_none() && now >= self.retry_at {
            self.reopen();
        }
        let due = |staged: &Staged| staged.urgent() || staged.addition.is_full() || now >= staged.since + COMMIT_WAIT;
        if self.scribe.is_some() && self.staged.as_ref().is_some_and(due) {
            self.flush();
        }
        // Whatever the traffic; an idle clock is looked at before the heartbeat.
        if self.scribe.is_some() && now >= self.looked_at + CLOCK_INTERVAL {
            self.watch_clock();
        }
        if self.unsealed_since.is_some_and(|since| now >= since + self.limits.seal_interval) {
            self.seal();
        } else if self.scribe.is_some() && now >= self.sealed_at + self.limits.heartbeat_interval {
            self.watch_clock();
            self.seal();
            self.measure(true);
            self.shrink();
            // The cache of a busy hour goes back to the system.
            let shrunk = self.scribe.as_ref().map(|scribe| scribe.desk.store.db.execute_batch("PRAGMA shrink_memory"));
            if let Some(Err(error)) = shrunk {
                tracing::debug!(error = &error as &dyn std::error::Error, "the cache could not be shrunk");
            }
        }
    }

    /// Makes what is staged durable and answers its callers.
    fn flush(&mut self) {
        // What the ballast left is for receipts: they make the room that records need.
        if self.staged.is_some() && self.ballast.is_spent() {
            self.measure(true);
        }
        match &mut self.staged {
            Some(staged) if self.ballast.is_spent() => staged.refuse(),
            _ => self.commit(),
        }
    }

    /// The same, whatever room that takes.
    fn commit(&mut self) {
        let Some(mut staged) = self.staged.take() else { return };
        let Some(scribe) = &mut self.scribe else {
            staged.refuse();
            self.staged = Some(staged);
            return;
        };
        let before = scribe.desk.state.commits;
        let waits = staged.addition.callers.iter().any(|caller| caller.after == AnswerAfter::Receipt);
        match scribe.commit(&staged.addition, waits, (self.clock)()) {
            Ok(()) => {
                // From here on a crash keeps every record of the addition: callers may be answered.
                let (stream, last) = (scribe.line.stream, scribe.line.writer.next_k().saturating_sub(1));
                for caller in staged.addition.callers {
                    match (&caller.after, &caller.outcome) {
                        (AnswerAfter::Receipt, Outcome::Committed { .. }) => self.waiting.push((stream, last, caller)),
                        _ => caller.tell_done(),
                    }
                }
                self.settle();
                self.measure(false);
            }
            Err(error) => {
                staged.refuse();
                self.doubt = Some(Doubt { staged, before });
                self.fail(&error);
            }
        }
    }

    fn seal(&mut self) {
        let now = self.now();
        if self.with(|scribe| scribe.seal_open(now)).is_ok() {
            self.settle();
        }
    }

    /// Knows again whether something waits to be sealed, and since when.
    fn settle(&mut self) {
        if self.scribe.as_ref().is_some_and(|scribe| !scribe.line.unsealed.is_empty()) {
            self.unsealed_since.get_or_insert_with(Instant::now);
        } else {
            (self.unsealed_since, self.sealed_at) = (None, Instant::now());
        }
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Scribe) -> Result<T, BufferError>) -> Result<T, BufferError> {
        let Some(scribe) = &mut self.scribe else { return Err(BufferError::Stopped) };
        let done = work(scribe);
        if let Err(error) = &done {
            self.fail(error);
        }
        done
    }

    /// Lets go of the files; they are opened again, and memory believed no more.
    fn fail(&mut self, error: &BufferError) {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "the buffer failed: capture waits until it can be opened again; see that its directory has free space and can be written"
        );
        self.scribe = None;
        self.condemned |= error.is_damage();
        self.unsealed_since = None;
        let room_made = error.is_disk_full() && self.ballast.drop_it();
        self.retry_at = if room_made { Instant::now() } else { Instant::now() + REOPEN_AFTER };
        self.room.send_replace(Room::Full);
    }

    /// Puts the file aside, unless that was done already.
    fn condemn(&mut self, file: u64, what: &str) -> Result<(), BufferError> {
        if self.closed || self.place.published.position().file != file {
            return Ok(());
        }
        self.flush();
        tracing::error!(error = what, "the buffer can't be read any more");
        self.scribe = None;
        self.condemned = true;
        self.reopen();
        if self.scribe.is_some() { Ok(()) } else { Err(BufferError::Stopped) }
    }

    fn reopen(&mut self) {
        let why = if self.condemned { Opening::Condemned } else { Opening::Again };
        match Scribe::open(&self.place, why, self.now()) {
            Ok((scribe, commits)) => {
                tracing::info!("the buffer is open again");
                self.condemned = false;
                self.resolve(commits);
                self.scribe = Some(scribe);
                self.settle();
                self.follow_successor();
                self.measure(true);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Stages a commit that failed again, before what came since, unless the database holds it.
    fn resolve(&mut self, commits: u64) {
        let Some(Doubt { mut staged, before }) = self.doubt.take() else { return };
        if commits > before {
            return;
        }
        if let Some(later) = self.staged.take() {
            staged.addition.absorb(later.addition);
        }
        self.staged = Some(staged);
    }

    /// What a repair brings waits as everything does while the buffer is full.
    fn take_in(&mut self, slice: &Slice) -> Result<(), BufferError> {
        self.measure(true);
        if *self.room.borrow() == Room::Full {
            return Err(BufferError::NoRoom);
        }
        self.with(|scribe| repair::take_in(&scribe.desk.store, slice))?;
        if slice.is_last() {
            self.place.published.older_came();
        }
        Ok(())
    }

    fn answer_up_to(&mut self, stream: StreamId, k: u64) {
        for (_, _, caller) in self.waiting.extract_if(.., |(of, at, _)| *of == stream && *at <= k) {
            caller.tell_done();
        }
    }

    /// Records that moved are sealed in the successor: their callers wait for its head.
    fn follow_successor(&mut self) {
        let Some(scribe) = &self.scribe else { return };
        let (stream, last) = (scribe.line.stream, scribe.line.writer.next_k().saturating_sub(1));
        for waiting in self.waiting.iter_mut().filter(|(of, ..)| *of != stream) {
            (waiting.0, waiting.1) = (stream, last);
        }
    }

    /// Compares what rows take and what the disk has left with the limits.
    fn measure(&mut self, now: bool) {
        let mut space = Space::of(&self.place.medium, &self.place.dir);
        let is_tight = space.is_tight(self.limits.min_free_bytes);
        let is_recent = self.space_at.is_some_and(|at| at.elapsed() < SPACE_INTERVAL);
        if !now && !is_tight && is_recent && *self.room.borrow() == Room::Open {
            return;
        }
        self.space_at = Some(Instant::now());
        let Some(scribe) = &self.scribe else { return };
        let used = scribe.desk.store.used_bytes().unwrap_or(0);
        if is_tight {
            if let Err(error) = scribe.desk.store.fold_log() {
                tracing::warn!(%error, "the disk is nearly full, and the buffer's log could not be folded in");
            }
            space = Space::of(&self.place.medium, &self.place.dir);
        }
        let reusable = scribe.desk.store.reusable_bytes().unwrap_or(0);
        self.ballast.lay(space.free, self.limits.min_free_bytes);
        let oldest = store::oldest(&scribe.desk.store.db).unwrap_or(None);
        let age = Duration::from_nanos(oldest.map_or(0, |oldest| self.now().saturating_sub(oldest)));
        let full = used >= self.limits.max_bytes.saturating_sub(self.limits.reserve_bytes)
            || space.is_full(reusable, self.limits.min_free_bytes)
            || self.ballast.is_spent()
            || self.limits.max_age.is_some_and(|max| age > max);
        let free = space.free;
        let room = if full { Room::Full } else { Room::Open };
        if self.room.send_replace(room) != room {
            match room {
                Room::Full => tracing::error!(
                    used,
                    free,
                    age_s = age.as_secs(),
                    "the buffer is full: restore the uplink, free space on its disk, or raise buffer.max_bytes or max_age"
                ),
                Room::Open => tracing::info!(used, free, "the buffer has room again"),
            }
        }
    }

    /// Gives room that a backlog took back to the disk, a bounded piece at a time.
    fn shrink(&mut self) {
        let Some(scribe) = &self.scribe else { return };
        if let Err(error) = scribe.desk.store.shrink(self.ballast.is_spent()) {
            self.fail(&error.into());
        }
    }

    /// A clock that was set is noted in the stream: order is by seq, but times before and after don't compare.
    fn watch_clock(&mut self) {
        self.looked_at = Instant::now();
        let now = self.now();
        let Some(step) = self.steps.step(now) else { return };
        let loss = Loss {
            cause: GapCause::ClockStep,
            count: Some(0),
            exact: true,
            evidence: format!("the host's clock was set by {} ms", step / 1_000_000),
            from: u64::try_from(i128::from(now) - step).unwrap_or(0),
            to: now,
        };
        let mut addition = Addition::default();
        addition.record(&self.place.reporter.gap(&loss, now), Counted::Gap { lost_agent: 0, lost_source: 0 });
        self.take(Command::Append(addition));
        self.flush();
    }

    /// The orderly end: nothing is committed or sealed after it. No receipt will need the room that the ballast left, and
    /// a disk that was full a moment ago gives the ballast's: what is staged and the close take it.
    fn close(&mut self) -> Result<(), BufferError> {
        self.watch_clock();
        let mut closed = Err(BufferError::Stopped);
        for _ in 0..CLOSES_MAX {
            if self.scribe.is_none() {
                self.reopen();
            }
            self.commit();
            if self.staged.is_some() {
                continue;
            }
            let now = self.now();
            closed = self.with(|scribe| scribe.close(now));
            if closed.is_ok() {
                self.closed = true;
                break;
            }
        }
        // Where the disk took nothing, the next start finds no orderly stop and says so.
        closed
    }
}

impl Staged {
    /// Tells who waits to come back; the records stay.
    fn refuse(&mut self) {
        for caller in self.addition.callers.drain(..) {
            caller.tell(Outcome::Unavailable { retry_after_s: RETRY_AFTER_S });
        }
        self.since = Instant::now() + REFUSED_AFTER;
    }

    /// Somebody waits, and nobody is behind: every command that was ready has been taken.
    fn urgent(&self) -> bool {
        !self.addition.callers.is_empty()
    }
}

#[cfg(test)]
mod tests;
