//! What happens to an observation between its source and the buffer: normalize, hold, select, redact, write.
//!
//! One thread of its own, so that nothing here ever holds up a connection. An observation's records, its cursor and its
//! caller go into one addition together. When the buffer has no room, push callers are told to come back, and what pull
//! sources sent waits here, bounded. The kernel's audit can't wait as long: what comes beyond the bound is shed into a
//! counted gap. Gaps still go through.
//!
//! From the stop on nobody waits here: what of a pull source finds no room is left where it lies, behind the cursor that
//! is committed, and everything behind it too, so that the source sees the stop and the next start reads it again.

mod shedding;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use edgetrail_proto::chain::event_id;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use self::shedding::Shedding;
use crate::buffer::{Addition, Buffer, BufferError, Caller, Counted, RETRY_AFTER_S, Room};
use crate::clock::unix_ns;
use crate::hold::{Hold, Parcel, Released};
use crate::normalize::{Made, Normalizer};
use crate::observation::{Answer, Cursor, GROUP_MAX, Group, Observation, Outcome, Outlet, Payload, SourceName};
use crate::redact::Redactor;
use crate::select::Selection;
use crate::sources::api::AnswerAfter;

/// Observations of pull sources that wait for room: then they are read no more and wait themselves.
const PULLED_MAX: usize = 2 * GROUP_MAX;

/// Observations of the kernel's audit that wait for room besides: what comes then is shed.
const KERNEL_MAX: usize = 2 * GROUP_MAX;

/// Records that a slow `tap` may fall behind before it misses some.
const TAP_RECORDS_MAX: usize = 256;

/// Everything that an observation passes through.
#[derive(Debug)]
pub struct Pipeline {
    normalizer: Normalizer,
    hold: Hold<Rest>,
    selection: Selection,
    redactor: Redactor,
    buffer: Buffer,
    answering: Answering,
    tap: Tap,
    shedding: Shedding,
    leaving: Leaving,
}

/// How far the stop has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Leaving {
    #[default]
    NotYet,
    /// Pull sources are taken in as long as there is room at once.
    Told,
    /// Something of a pull source found none: nothing more of any is taken, or a cursor would pass it.
    Left,
}

/// When the callers of each source are answered; after the commit where nothing is said.
pub type Answering = BTreeMap<SourceName, AnswerAfter>;

/// Records as they are handed to the buffer, for whoever watches.
pub type Tap = broadcast::Sender<Arc<[u8]>>;

/// Observations that wait for room.
#[derive(Debug, Default)]
struct Waiting {
    /// The kernel's, which a higher source's are: first when there is room again.
    kernel: VecDeque<Observation>,
    pulled: VecDeque<Observation>,
}

/// What of an observation travels with its drafts.
#[derive(Debug)]
struct Rest {
    position: String,
    cursor: Option<Cursor>,
    answer: Option<Answer>,
    /// Where an observation says itself when its caller is answered.
    after: Option<AnswerAfter>,
    fate: Fate,
}

impl Rest {
    /// Of records whose observations were committed before.
    const fn alone() -> Self {
        Self { position: String::new(), cursor: None, answer: None, after: None, fate: Fate::Stored }
    }
}

/// What becomes of an observation's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Those that selection keeps are stored.
    Stored,
    /// The agent's own: they skip selection.
    Own(Counted),
    /// Those that selection keeps are counted, for there is no room for them.
    Shed,
}

/// The pipeline's thread.
#[derive(Debug)]
pub struct PipelineTask(JoinHandle<Result<(), BufferError>>);

/// A tap that nobody watches yet.
pub fn tap() -> Tap {
    broadcast::Sender::new(TAP_RECORDS_MAX)
}

impl Pipeline {
    pub fn new(
        normalizer: Normalizer,
        running: Vec<SourceName>,
        selection: Selection,
        redactor: Redactor,
        buffer: Buffer,
        answering: Answering,
        tap: Tap,
    ) -> Result<Self, BufferError> {
        let state = buffer.hold()?;
        let hold = Hold::new(running, state.as_deref());
        let (shedding, leaving) = (Shedding::default(), Leaving::default());
        Ok(Self { normalizer, hold, selection, redactor, buffer, answering, tap, shedding, leaving })
    }

    /// Runs on a thread of its own until every intake is gone; `runtime` drives its timers. `stop` is the sources': from
    /// then on none of them is made to wait.
    pub fn start(self, outlet: Outlet, runtime: Handle, stop: CancellationToken) -> std::io::Result<PipelineTask> {
        let thread = std::thread::Builder::new().name("pipeline".to_owned()).stack_size(1024 * 1024);
        thread.spawn(move || self.run(outlet, &runtime, &stop)).map(PipelineTask)
    }

    fn run(mut self, mut outlet: Outlet, runtime: &Handle, stop: &CancellationToken) -> Result<(), BufferError> {
        let mut room = self.buffer.room();
        let mut waiting = Waiting::default();
        loop {
            let deadline =
                [self.hold.deadline(), self.shedding.deadline(), self.normalizer.deadline()].into_iter().flatten().min();
            let stop = (self.leaving == Leaving::NotYet).then_some(stop);
            let event = runtime.block_on(next(&mut outlet, &mut room, deadline, stop, &waiting));
            let mut addition = Addition::default();
            match event {
                Event::Stop => {
                    self.leaving = Leaving::Told;
                    if *room.borrow() != Room::Open {
                        self.leave(&mut waiting);
                    }
                }
                Event::Group(Group::Pull(_)) if self.leaving == Leaving::Left => {}
                Event::Group(Group::Pull(group) | Group::Prompt(group)) if *room.borrow() == Room::Open && waiting.is_empty() => {
                    for observation in group {
                        self.take(observation, &mut addition)?;
                    }
                }
                Event::Group(Group::Pull(group)) => {
                    for observation in group {
                        self.take_pulled(observation, &mut waiting, &mut addition)?;
                    }
                }
                Event::Group(Group::Prompt(group)) => {
                    for observation in group {
                        self.take_prompt(observation, &mut waiting, &mut addition)?;
                    }
                }
                Event::Room => {}
                Event::Due => {
                    for released in self.hold.due(unix_ns()) {
                        self.add(released, &mut addition)?;
                    }
                    for draft in self.normalizer.due(unix_ns()) {
                        self.add(
                            Released { source: SourceName::Kubernetes, drafts: vec![draft], refused: 0, rest: Rest::alone() },
                            &mut addition,
                        )?;
                    }
                }
                Event::Ended => {
                    if *room.borrow() != Room::Open {
                        self.leave(&mut waiting);
                    }
                    while let Some(observation) = waiting.pop() {
                        self.take(observation, &mut addition)?;
                    }
                    for released in self.hold.drain() {
                        self.add(released, &mut addition)?;
                    }
                    self.report_shed(&mut addition, true)?;
                    return self.send(addition);
                }
            }
            while *room.borrow() == Room::Open && !addition.is_full() {
                let Some(observation) = waiting.pop() else { break };
                self.take(observation, &mut addition)?;
            }
            let over = *room.borrow() == Room::Open && waiting.is_empty();
            self.report_shed(&mut addition, over)?;
            self.send(addition)?;
        }
    }

    fn take(&mut self, observation: Observation, addition: &mut Addition) -> Result<(), BufferError> {
        let fate = match &observation.payload {
            Payload::Loss(loss) => Fate::Own(Counted::Gap { lost_agent: 0, lost_source: loss.count.unwrap_or(0) }),
            _ => Fate::Stored,
        };
        self.take_as(fate, observation, addition)
    }

    fn take_as(&mut self, fate: Fate, observation: Observation, addition: &mut Addition) -> Result<(), BufferError> {
        let drafts = self.normalizer.normalize(&observation);
        // With the records of the same observation: audit's are never held, so that state and record stand or fall together.
        for (source, cursor) in self.normalizer.take_cursors() {
            addition.cursor(source, cursor);
        }
        let Observation { source, position, cursor, answer, payload, .. } = observation;
        let after = match &payload {
            Payload::Exchange(exchange) => Some(exchange.recorded_after()),
            _ => None,
        };
        let parcel = Parcel { source, drafts, rest: Rest { position, cursor, answer, after, fate } };
        for released in self.hold.offer(unix_ns(), parcel) {
            self.add(released, addition)?;
        }
        Ok(())
    }

    /// Without room a pull source's gap goes through on the reserve, unless something of it waits; everything else waits.
    fn take_pulled(
        &mut self,
        observation: Observation,
        waiting: &mut Waiting,
        addition: &mut Addition,
    ) -> Result<(), BufferError> {
        let behind = waiting.pulled.iter().any(|other| other.source == observation.source);
        if matches!(observation.payload, Payload::Loss(_)) && !behind && self.leaving != Leaving::Left {
            return self.take(observation, addition);
        }
        if self.leaving != Leaving::NotYet {
            self.leave(waiting);
            return Ok(());
        }
        waiting.pulled.push_back(observation);
        Ok(())
    }

    /// Pull sources find again what lies behind their cursors, gaps too: nothing of theirs is kept beyond the stop.
    fn leave(&mut self, waiting: &mut Waiting) {
        self.leaving = Leaving::Left;
        waiting.pulled.clear();
    }

    /// Without room a caller is told to come back, and the kernel's audit waits as far as there is place; beyond that it is
    /// shed, but for its gaps. A cursor never passes what still waits: a crash then finds a hole in the serials.
    fn take_prompt(
        &mut self,
        mut observation: Observation,
        waiting: &mut Waiting,
        addition: &mut Addition,
    ) -> Result<(), BufferError> {
        if let Some(Answer(answer)) = observation.answer.take() {
            // A caller that has gone away needs no answer.
            drop(answer.send(Outcome::Unavailable { retry_after_s: RETRY_AFTER_S }));
            return Ok(());
        }
        let is_gap = matches!(observation.payload, Payload::Loss(_));
        if !self.shedding.has_begun() {
            if is_gap && waiting.kernel.is_empty() {
                return self.take(observation, addition);
            }
            if waiting.kernel.len() < KERNEL_MAX {
                waiting.kernel.push_back(observation);
                return Ok(());
            }
            self.shedding.begin(observation.source, unix_ns());
        }
        self.shedding.keep_cursor(observation.source, observation.cursor.take());
        if is_gap { self.take(observation, addition) } else { self.take_as(Fate::Shed, observation, addition) }
    }

    /// Says what was shed: on a timer while it goes on, and when it is `over`, with the cursor behind all of it.
    fn report_shed(&mut self, addition: &mut Addition, over: bool) -> Result<(), BufferError> {
        for (gap, count) in self.shedding.report(unix_ns(), over) {
            self.take_as(Fate::Own(Counted::Shed { count }), gap, addition)?;
        }
        Ok(())
    }

    fn add(&mut self, released: Released<Rest>, addition: &mut Addition) -> Result<(), BufferError> {
        let Released { source, drafts, refused, rest } = released;
        let mut kept = 0;
        let count = u32::try_from(drafts.len()).unwrap_or(u32::MAX);
        addition.refuse(refused);
        for draft in drafts {
            let mut made = draft.record;
            if !matches!(rest.fate, Fate::Own(_)) {
                if !self.selection.keeps(&made) {
                    addition.refuse(1);
                    continue;
                }
                if rest.fate == Fate::Shed {
                    self.shedding.count(source);
                    continue;
                }
                self.redactor.redact(&mut made);
            }
            let bytes = match made {
                Made::Record(mut record) => record.to_fitted_json(),
                Made::Written(bytes) | Made::Foreign(bytes) => bytes,
            };
            let counted = if let Fate::Own(counted) = rest.fate { counted } else { Counted::Observed };
            addition.record(&bytes, counted);
            kept += 1;
            if self.tap.receiver_count() > 0 {
                // Nobody is waited for: a tap that is behind misses records and is told how many.
                drop(self.tap.send(bytes.into()));
            }
        }
        if let Some(cursor) = rest.cursor {
            addition.cursor(source, cursor);
        }
        if let Some(answer) = rest.answer {
            let agent = self.normalizer.host().agent;
            let event_ids = (0..count).map(|index| event_id(agent, source.as_str(), &rest.position, index)).collect();
            let outcome = if kept == 0 && count > 0 { Outcome::Refused } else { Outcome::Committed { event_ids } };
            let after = rest.after.or_else(|| self.answering.get(&source).copied()).unwrap_or_default();
            addition.caller(Caller { answer, outcome, after });
        }
        if addition.is_full() {
            self.send(std::mem::take(addition))?;
        }
        Ok(())
    }

    fn send(&mut self, mut addition: Addition) -> Result<(), BufferError> {
        if let Some(state) = self.hold.state() {
            addition.hold(state);
        }
        // From here on a crash recovers to observations that made no record yet, whose callers this commit answers.
        for (source, cursor) in self.normalizer.take_state() {
            addition.cursor(source, cursor);
        }
        if addition.is_empty() { Ok(()) } else { self.buffer.append(addition) }
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.kernel.is_empty() && self.pulled.is_empty()
    }

    fn pop(&mut self) -> Option<Observation> {
        self.kernel.pop_front().or_else(|| self.pulled.pop_front())
    }
}

impl PipelineTask {
    /// Waits for the thread; call it off the runtime.
    pub fn join(self) -> Result<(), BufferError> {
        self.0.join().unwrap_or(Err(BufferError::Stopped))
    }

    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

enum Event {
    Group(Group),
    /// The sources are told to end.
    Stop,
    /// There may be room again.
    Room,
    /// Something was held long enough.
    Due,
    /// Every source has let go of its intake.
    Ended,
}

/// `stop`: until it was seen.
async fn next(
    outlet: &mut Outlet,
    room: &mut watch::Receiver<Room>,
    deadline: Option<u64>,
    stop: Option<&CancellationToken>,
    waiting: &Waiting,
) -> Event {
    let stopped = async {
        match stop {
            Some(stop) => stop.cancelled().await,
            None => std::future::pending().await,
        }
    };
    let due = async {
        match deadline {
            Some(at) => tokio::time::sleep(Duration::from_nanos(at.saturating_sub(unix_ns()))).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = stopped => Event::Stop,
        () = due => Event::Due,
        group = outlet.next(stop.is_none() || waiting.pulled.len() < PULLED_MAX) => group.map_or(Event::Ended, Event::Group),
        changed = room.changed() => match changed {
            Ok(()) => Event::Room,
            // The writer is gone: what is sent next says so.
            Err(_) => outlet.next(true).await.map_or(Event::Ended, Event::Group),
        },
    }
}

#[cfg(test)]
mod tests;
