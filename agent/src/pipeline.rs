//! What happens to an observation between its source and the buffer: normalize, hold, select, redact, write.
//!
//! One thread of its own, so that nothing here ever holds up a connection. An observation's records, its cursor and its
//! caller go into one addition together. When the buffer has no room, push callers are told to come back, and what pull
//! sources sent waits here, bounded; gaps still go through.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use edgetrail_proto::chain::event_id;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};

use crate::buffer::{Addition, Buffer, BufferError, Caller, Counted, RETRY_AFTER_S, Room};
use crate::clock::unix_ns;
use crate::hold::{Hold, Parcel, Released};
use crate::normalize::{Made, Normalizer};
use crate::observation::{Answer, Cursor, GROUP_MAX, Observation, Outcome, Outlet, Payload, SourceName};
use crate::redact::Redactor;
use crate::select::Selection;
use crate::sources::api::AnswerAfter;

/// Observations of pull sources that wait for room: then the intake is read no more and the sources wait themselves.
const WAITING_MAX: usize = 2 * GROUP_MAX;

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
    answer_after: AnswerAfter,
    tap: Tap,
}

/// Records as they are handed to the buffer, for whoever watches.
pub type Tap = broadcast::Sender<Arc<[u8]>>;

/// What of an observation travels with its drafts.
#[derive(Debug)]
struct Rest {
    position: String,
    cursor: Option<Cursor>,
    answer: Option<Answer>,
    /// The agent's own record: skips selection.
    own: Option<Counted>,
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
        answer_after: AnswerAfter,
        tap: Tap,
    ) -> Result<Self, BufferError> {
        let state = buffer.hold()?;
        let hold = Hold::new(running, state.as_deref());
        Ok(Self { normalizer, hold, selection, redactor, buffer, answer_after, tap })
    }

    /// Runs on a thread of its own until every intake is gone; `runtime` drives its timers.
    pub fn start(self, outlet: Outlet, runtime: Handle) -> std::io::Result<PipelineTask> {
        let thread = std::thread::Builder::new().name("pipeline".to_owned()).stack_size(1024 * 1024);
        thread.spawn(move || self.run(outlet, &runtime)).map(PipelineTask)
    }

    fn run(mut self, mut outlet: Outlet, runtime: &Handle) -> Result<(), BufferError> {
        let mut room = self.buffer.room();
        let mut waiting: VecDeque<Observation> = VecDeque::new();
        loop {
            let event = runtime.block_on(next(&mut outlet, &mut room, self.hold.deadline(), &waiting));
            let mut addition = Addition::default();
            match event {
                Event::Group(group) if *room.borrow() == Room::Open && waiting.is_empty() => {
                    for observation in group {
                        self.take(observation, &mut addition)?;
                    }
                }
                Event::Group(group) => {
                    for observation in group {
                        self.take_without_room(observation, &mut waiting, &mut addition)?;
                    }
                }
                Event::Room => {}
                Event::Due => {
                    for released in self.hold.due(unix_ns()) {
                        self.add(released, &mut addition)?;
                    }
                }
                Event::Ended => {
                    while let Some(observation) = waiting.pop_front() {
                        self.take(observation, &mut addition)?;
                    }
                    for released in self.hold.drain() {
                        self.add(released, &mut addition)?;
                    }
                    return self.send(addition);
                }
            }
            while *room.borrow() == Room::Open && !addition.is_full() {
                let Some(observation) = waiting.pop_front() else { break };
                self.take(observation, &mut addition)?;
            }
            self.send(addition)?;
        }
    }

    fn take(&mut self, observation: Observation, addition: &mut Addition) -> Result<(), BufferError> {
        let drafts = self.normalizer.normalize(&observation);
        // With the records of the same observation: audit's are never held, so that state and record stand or fall together.
        for cursor in self.normalizer.take_cursors() {
            addition.cursor(SourceName::Audit, cursor);
        }
        let own = match &observation.payload {
            Payload::Loss(loss) => Some(Counted::Gap { lost_agent: 0, lost_source: loss.count.unwrap_or(0) }),
            _ => None,
        };
        let Observation { source, position, cursor, answer, .. } = observation;
        let parcel = Parcel { source, drafts, rest: Rest { position, cursor, answer, own } };
        for released in self.hold.offer(unix_ns(), parcel) {
            self.add(released, addition)?;
        }
        Ok(())
    }

    /// Gaps of a source that has nothing waiting go through on the reserve; callers are told to come back; the rest waits.
    fn take_without_room(
        &mut self,
        observation: Observation,
        waiting: &mut VecDeque<Observation>,
        addition: &mut Addition,
    ) -> Result<(), BufferError> {
        let behind = waiting.iter().any(|other| other.source == observation.source);
        match observation {
            Observation { answer: Some(Answer(answer)), .. } => {
                // A caller that has gone away needs no answer.
                drop(answer.send(Outcome::Unavailable { retry_after_s: RETRY_AFTER_S }));
            }
            gap @ Observation { payload: Payload::Loss(_), .. } if !behind => self.take(gap, addition)?,
            other => waiting.push_back(other),
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
            if rest.own.is_none() {
                if !self.selection.keeps(&made) {
                    addition.refuse(1);
                    continue;
                }
                self.redactor.redact(&mut made);
            }
            let bytes = match made {
                Made::Record(mut record) => record.to_fitted_json(),
                Made::Written(bytes) | Made::Foreign(bytes) => bytes,
            };
            addition.record(&bytes, rest.own.unwrap_or(Counted::Observed));
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
            addition.caller(Caller { answer, outcome, after: self.answer_after });
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
        if addition.is_empty() { Ok(()) } else { self.buffer.append(addition) }
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
    Group(Vec<Observation>),
    /// There may be room again.
    Room,
    /// Something was held long enough.
    Due,
    /// Every source has let go of its intake.
    Ended,
}

async fn next(
    outlet: &mut Outlet,
    room: &mut watch::Receiver<Room>,
    deadline: Option<u64>,
    waiting: &VecDeque<Observation>,
) -> Event {
    let due = async {
        match deadline {
            Some(at) => tokio::time::sleep(Duration::from_nanos(at.saturating_sub(unix_ns()))).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = due => Event::Due,
        group = outlet.recv(), if waiting.len() < WAITING_MAX => group.map_or(Event::Ended, Event::Group),
        changed = room.changed() => match changed {
            Ok(()) => Event::Room,
            // The writer is gone: what is sent next says so.
            Err(_) => outlet.recv().await.map_or(Event::Ended, Event::Group),
        },
    }
}

#[cfg(test)]
mod tests;
