//! Brings on what the relay holds: one connection to home, a session for each agent that is owed something.
//!
//! A session lasts while its agent sends, and a little longer. One that home lets wait, or that fails, ends and begins
//! again after a while: it holds up no other agent. At most [`SESSIONS_MAX`] run at a time; where more agents have
//! something to bring, each in turn. Everything before the cursor is home's, and may be released by the ledger.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use edgetrail_link::outbox::{Outbox, OutboxError};
use edgetrail_link::transport::Dial;
use edgetrail_link::uplink::{Credentials, Endpoint, Line, Sent, SessionError};
use edgetrail_proto::identity::AgentId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::outbox::AgentOutbox;
use super::progress::{Progress, ProgressError};
use crate::ledger::{Ledger, LedgerError};

/// The name under which the forwarder tells the ledger what it has passed.
pub const CONSUMER: &str = "relay";

/// Sessions at a time. Source: home takes so many requests on one connection, and each holds some batches in memory.
const SESSIONS_MAX: usize = 64;

/// A session whose agent sends nothing more ends after this.
const LINGER: Duration = Duration::from_secs(5);

/// A session that was told to end may bring on what it has begun for this long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(60);

/// What waits, or failed, is tried again after this; doubled with each failure up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Home is asked again this long after it let a stream wait.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The cursor is moved this often.
const PASS_INTERVAL: Duration = Duration::from_secs(2);

/// Rows of the ledger's index that are read at once.
const ROWS: u32 = 256;

/// A stop leaves sessions this long. Source: less than a stage's share of a stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);

const VERSION: &str = concat!("relay ", env!("CARGO_PKG_VERSION"));

#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("the relay's ledger can't be read")]
    Ledger(#[source] LedgerError),
    #[error("home's receipts can't be kept")]
    Progress(#[source] ProgressError),
    #[error("what the relay holds can't be read")]
    Outbox(#[source] OutboxError),
    #[error("a call to the relay's store ended in a panic")]
    Panicked,
}

/// What a forwarder is made of.
pub struct ForwarderOptions {
    pub dial: Arc<dyn Dial>,
    /// Home's ingest.
    pub home: Endpoint,
    /// Replaced as a whole at renewal.
    pub credentials: watch::Receiver<Arc<Credentials>>,
}

impl std::fmt::Debug for ForwarderOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForwarderOptions").field("home", &self.home).finish_non_exhaustive()
    }
}

/// How the relay stands with home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Home answered last.
    pub reached: bool,
    /// Agents with something to bring.
    pub owing: usize,
    /// Streams that home takes nothing of before another relay brings what is missing.
    pub waiting: usize,
}

/// The forwarder; [`Forwarder::run`] is its one task.
#[derive(Debug)]
pub struct Forwarder {
    ledger: Ledger,
    progress: Arc<Progress>,
    options: ForwarderOptions,
    agents: HashMap<AgentId, Agent>,
    /// Agents to be brought next, each once.
    queue: VecDeque<AgentId>,
    queued: HashSet<AgentId>,
    standing: watch::Sender<Standing>,
}

/// An agent of which the relay holds something.
#[derive(Debug)]
struct Agent {
    outbox: Arc<AgentOutbox>,
    /// Ends its session, while one runs.
    turn: Option<CancellationToken>,
    failures: u32,
    waiting: usize,
    /// Not tried again before this.
    rests: Option<Instant>,
}

/// How a session went.
type Ended = (AgentId, Result<Sent, (SessionError, bool)>, bool);

impl Forwarder {
    pub fn new(ledger: Ledger, progress: Arc<Progress>, options: ForwarderOptions) -> (Self, watch::Receiver<Standing>) {
        let (standing, receiver) = watch::channel(Standing::default());
        let (agents, queue, queued) = (HashMap::new(), VecDeque::new(), HashSet::new());
        (Self { ledger, progress, options, agents, queue, queued, standing }, receiver)
    }

    /// Until stopped. What home does not take now stays where it is.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ForwardError> {
        let (mut committed, mut doubts) = (self.ledger.watch(), self.progress.doubts());
        let mut seen = self.begin().await?;
        let mut sessions: JoinSet<Ended> = JoinSet::new();
        let mut line: Option<Line> = None;
        let (mut failures, mut connect_at) = (0_u32, Instant::now());
        let mut pass = tokio::time::interval(PASS_INTERVAL);
        pass.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.wake_rested();
            if line.is_none() && !self.queue.is_empty() && connect_at <= Instant::now() {
                let credentials = Arc::clone(&self.options.credentials.borrow_and_update());
                let connected = tokio::select! {
                    connected = Line::connect(Arc::clone(&self.options.dial), self.options.home.clone(), credentials) => connected,
                    () = stop.cancelled() => break,
                };
                match connected {
                    Ok(connected) => {
                        tracing::info!(home = %self.options.home, "connected to home");
                        (line, failures) = (Some(connected), 0);
                    }
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::warn!(%error, cause, "home can't be reached; what agents send is kept");
                        connect_at = Instant::now() + again(failures);
                        failures = failures.saturating_add(1);
                        self.standing.send_modify(|standing| standing.reached = false);
                    }
                }
            }
            if let Some(line) = &line {
                while sessions.len() < SESSIONS_MAX
                    && let Some(agent) = self.next()
                {
                    sessions.spawn(self.session(agent, line.clone()));
                }
                // Each in turn: who has had a session longest ends it once it is through with what it has.
                if !self.queue.is_empty() {
                    self.agents.values().filter_map(|agent| agent.turn.as_ref()).for_each(CancellationToken::cancel);
                }
            }
            self.say();
            let due = self.next_due(line.is_none().then_some(connect_at));
            tokio::select! {
                () = stop.cancelled() => break,
                changed = committed.changed() => {
                    if changed.is_err() {
                        // The ledger has ended: the process does too, and says so by itself.
                        stop.cancelled().await;
                        break;
                    }
                    let next = *committed.borrow_and_update();
                    seen = self.notice(seen, next).await?;
                }
                Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                    let (agent, ended, cut) = ended.map_err(|_| ForwardError::Panicked)?;
                    if !self.ended(agent, ended, cut).await? {
                        line = None;
                        connect_at = Instant::now() + again(failures);
                        failures = failures.saturating_add(1);
                    }
                }
                Ok(()) = self.options.credentials.changed() => line = None,
                Ok(()) = doubts.changed() => self.enqueue_owing().await?,
                _ = pass.tick() => self.pass().await?,
                () = until(due) => {}
            }
        }
        self.agents.values().filter_map(|agent| agent.turn.as_ref()).for_each(CancellationToken::cancel);
        let ended = tokio::time::timeout(STOP_TIME_MAX, async { while sessions.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::info!("stopped with batches that home has no receipt for; they go on at the next start");
        }
        self.pass().await
    }

    /// Finds who is owed to home since before the start.
    async fn begin(&mut self) -> Result<u64, ForwardError> {
        let seen = self.ledger.next_index();
        let ledger = self.ledger.clone();
        let streams = blocking(move || ledger.streams().map_err(ForwardError::Ledger)).await?;
        for state in streams {
            self.agent(state.info.agent);
        }
        self.enqueue_owing().await?;
        self.pass().await?;
        Ok(seen)
    }

    /// Whoever is owed something and has neither a session nor a turn yet.
    async fn enqueue_owing(&mut self) -> Result<(), ForwardError> {
        let outboxes: Vec<_> = self.agents.iter().map(|(id, agent)| (*id, Arc::clone(&agent.outbox))).collect();
        let owing = blocking(move || {
            let mut owing = Vec::new();
            for (agent, outbox) in outboxes {
                if outbox.owes().map_err(ForwardError::Outbox)? {
                    owing.push(agent);
                }
            }
            Ok(owing)
        });
        for id in owing.await? {
            let agent = self.agent(id);
            if agent.turn.is_none() && agent.rests.is_none() {
                self.enqueue(id);
            }
        }
        Ok(())
    }

    fn agent(&mut self, id: AgentId) -> &mut Agent {
        let (ledger, progress) = (&self.ledger, &self.progress);
        self.agents.entry(id).or_insert_with(|| Agent {
            outbox: Arc::new(AgentOutbox::new(id, ledger.clone(), Arc::clone(progress))),
            turn: None,
            failures: 0,
            waiting: 0,
            rests: None,
        })
    }

    fn enqueue(&mut self, agent: AgentId) {
        if self.queued.insert(agent) {
            self.queue.push_back(agent);
        }
    }

    /// The next agent that has no session and does not rest.
    fn next(&mut self) -> Option<AgentId> {
        let agent = self.queue.pop_front()?;
        self.queued.remove(&agent);
        Some(agent)
    }

    /// Whose batches were committed since.
    async fn notice(&mut self, mut from: u64, to: u64) -> Result<u64, ForwardError> {
        while from < to {
            let ledger = self.ledger.clone();
            let rows = blocking(move || ledger.index(from, to, ROWS).map_err(ForwardError::Ledger)).await?;
            let Some(last) = rows.last() else { break };
            from = last.index.saturating_add(1);
            let agents: HashSet<AgentId> = rows.iter().map(|row| row.stream.agent).collect();
            for id in agents {
                let agent = self.agent(id);
                agent.outbox.changed();
                if agent.turn.is_none() && agent.rests.is_none() {
                    self.enqueue(id);
                }
            }
        }
        Ok(from)
    }

    fn session(&mut self, id: AgentId, line: Line) -> impl Future<Output = Ended> + Send + 'static {
        let agent = self.agent(id);
        let turn = agent.turn.insert(CancellationToken::new()).clone();
        let outbox = Arc::clone(&agent.outbox);
        async move {
            let mut changes = outbox.changes();
            let outbox: Arc<dyn Outbox> = outbox;
            let stop = CancellationToken::new();
            let lingers = async { while let Ok(Ok(())) = tokio::time::timeout(LINGER, changes.changed()).await {} };
            let over = async {
                tokio::select! {
                    () = lingers => {}
                    () = turn.cancelled() => {}
                }
                stop.cancel();
                tokio::time::sleep(DRAIN_TIME_MAX).await;
            };
            tokio::select! {
                ended = line.send(&outbox, VERSION, &stop) => (id, ended, false),
                () = over => (id, Ok(Sent { progress: false, waiting: Vec::new(), again: true }), true),
            }
        }
    }

    /// Looks at what a session has left. False where the connection is to be made anew.
    async fn ended(&mut self, id: AgentId, ended: Result<Sent, (SessionError, bool)>, cut: bool) -> Result<bool, ForwardError> {
        let (mut connected, mut rest) = (true, None);
        let agent = self.agent(id);
        agent.turn = None;
        match ended {
            Ok(sent) => {
                agent.waiting = sent.waiting.len();
                if sent.progress || cut {
                    agent.failures = 0;
                } else if agent.waiting > 0 {
                    rest = Some(ASK_AGAIN);
                } else {
                    rest = Some(again(agent.failures));
                    agent.failures = agent.failures.saturating_add(1);
                }
            }
            Err((error, progress)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(agent = %id, %error, cause, "a session with home ended");
                connected = !matches!(error, SessionError::Ended(_) | SessionError::Closed | SessionError::Unanswered);
                agent.failures = if progress { 0 } else { agent.failures.saturating_add(1) };
                rest = Some(if matches!(error, SessionError::Forked { .. }) { AGAIN_MAX } else { again(agent.failures) });
            }
        }
        let outbox = Arc::clone(&agent.outbox);
        let owes = blocking(move || outbox.owes().map_err(ForwardError::Outbox)).await?;
        let agent = self.agent(id);
        match rest {
            _ if !owes => {
                (agent.failures, agent.waiting, agent.rests) = (0, 0, None);
            }
            Some(rest) => agent.rests = Some(Instant::now() + rest),
            None => self.enqueue(id),
        }
        if connected {
            self.standing.send_modify(|standing| standing.reached = true);
        }
        Ok(connected)
    }

    fn wake_rested(&mut self) {
        let now = Instant::now();
        let mut rested = Vec::new();
        for (id, agent) in &mut self.agents {
            if agent.rests.is_some_and(|rests| rests <= now) {
                agent.rests = None;
                rested.push(*id);
            }
        }
        for agent in rested {
            self.enqueue(agent);
        }
    }

    fn next_due(&self, connect_at: Option<Instant>) -> Option<Instant> {
        let rested = self.agents.values().filter_map(|agent| agent.rests).min();
        [rested, connect_at.filter(|_| !self.queue.is_empty())].into_iter().flatten().min()
    }

    /// Moves the cursor over everything that home has given its receipt for, and tells the ledger.
    async fn pass(&self) -> Result<(), ForwardError> {
        let (ledger, progress) = (self.ledger.clone(), Arc::clone(&self.progress));
        let from = progress.passed();
        let passed = blocking(move || {
            let mut next = from;
            'reading: loop {
                let rows = ledger.index(next, ledger.next_index(), ROWS).map_err(ForwardError::Ledger)?;
                if rows.is_empty() {
                    break;
                }
                for row in rows {
                    let (stream, k) = (row.header.stream, row.header.k);
                    // What home keeps as evidence of a fork gets no receipt, and is not needed here any more.
                    let is_homes = progress.standing(stream).covers(k)
                        || progress.is_kept(stream, row.header.hash()).map_err(ForwardError::Progress)?;
                    if !is_homes {
                        break 'reading;
                    }
                    next = row.index.saturating_add(1);
                }
            }
            if next > from {
                progress.pass(next).map_err(ForwardError::Progress)?;
            }
            Ok(next)
        });
        self.ledger.passed(CONSUMER, passed.await?);
        Ok(())
    }

    fn say(&self) {
        let owing = self.agents.values().filter(|agent| agent.turn.is_some() || agent.rests.is_some()).count() + self.queue.len();
        let waiting = self.agents.values().map(|agent| agent.waiting).sum();
        self.standing.send_if_modified(|standing| {
            let changed = (standing.owing, standing.waiting) != (owing, waiting);
            (standing.owing, standing.waiting) = (owing, waiting);
            changed
        });
    }
}

fn again(failures: u32) -> Duration {
    AGAIN.saturating_mul(1 << failures.min(5)).min(AGAIN_MAX)
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Work that blocks on disk, off the runtime.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T, ForwardError> + Send + 'static) -> Result<T, ForwardError> {
    tokio::task::spawn_blocking(call).await.map_err(|_| ForwardError::Panicked)?
}
