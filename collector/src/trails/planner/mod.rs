//! Reads the ledger for one trail and plans its log files, digests and proofs.
//!
//! Per account and region (a *lane*) the selected records go, in ledger order, into an open log file. Files are closed
//! by age and size; a digest's window closes all of them at once, at a cut in the ledger. Closing is planning: one
//! transaction holds the files' ranges, keys and hashes, the signed digests, the proofs and the trail's new state.
//! Nothing is sent before it, and everything that is sent comes from it.
//!
//! Recovery is the same path: after a crash the trail reads the ledger again from where the current window began,
//! leaves out of its files what lies below each lane's planned range, and is where it was.
//!
//! Blocking: runs on a thread that may wait for disks.

mod closing;

use std::collections::HashMap;
use std::sync::Arc;

use edgetrail_proto::identity::{AccountId, Region};
use tracing::warn;

use super::TrailError;
use super::clock::SECOND;
use super::command::{Command, commands};
use super::log_file::LogFile;
use super::plan::{LaneState, Plan, PlannedObject, TrailState};
use super::shared::Shared;
use super::window::{Fate, Window};
use crate::control::TrailConfig;
use crate::ledger::{Entry, StreamInfo};

/// Record bytes read from the ledger at once.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// Compressed bytes of all open files of a trail; beyond, all are closed. Some hundred busy lanes at a time.
const OPEN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// While logging is stopped, how many batches are read before that is made durable.
const STOPPED_STRIDE: u64 = 1024;

pub(super) struct Planner {
    shared: Arc<Shared>,
    trail: Arc<TrailConfig>,
    state: TrailState,
    lanes: Vec<Lane>,
    places: HashMap<(String, String), usize>,
    /// The next ledger_index to read.
    position: u64,
    /// Below this, what is read was planned before the last crash: no cut before it is passed.
    replay_to: u64,
    window: Window,
    /// When the oldest open file is to be closed, Unix nanoseconds.
    files_due: Option<u64>,
}

/// One account and region.
struct Lane {
    state: LaneState,
    open: Option<LogFile>,
    /// Planned since the last digest.
    undigested: Vec<PlannedObject>,
}

/// How a step ended.
#[derive(Debug)]
pub(super) enum Step {
    /// There may be more to read.
    Read,
    /// Nothing to do before the ledger has this index or it is this time.
    Idle { next_index: u64, due: Option<u64> },
}

impl Planner {
    /// Goes on from what was planned last; a trail that is new begins to log.
    pub(super) fn open(shared: Arc<Shared>, trail: Arc<TrailConfig>) -> Result<Self, TrailError> {
        let state = match shared.store.trail(&trail.arn)? {
            Some(state) => state,
            None => {
                let now = shared.clock.now();
                let state = TrailState {
                    logging: true,
                    from_index: shared.first_index,
                    window_start: now / SECOND,
                    counter: 0,
                    started: Some(now),
                    stopped: None,
                };
                shared.store.commit(&trail.arn, Plan { state: Some(state.clone()), ..Plan::default() })?;
                state
            }
        };
        let mut lanes = Vec::new();
        for lane in shared.store.lanes(&trail.arn)? {
            let undigested = if lane.active { shared.store.undigested(lane.id)? } else { Vec::new() };
            if lane.active && trail.validation {
                shared.keys.add_region(&lane.region);
            }
            lanes.push(Lane { state: lane, open: None, undigested });
        }
        let place = |(index, lane): (usize, &Lane)| ((lane.state.account.clone(), lane.state.region.clone()), index);
        let places = lanes.iter().enumerate().map(place).collect();
        let replay_to = lanes.iter().filter(|lane| lane.state.active).map(|lane| lane.state.planned_to).max().unwrap_or(0);
        let position = state.from_index;
        let window = Window::default();
        let mut planner = Self { shared, trail, state, lanes, places, position, replay_to, window, files_due: None };
        planner.note_home()?;
        Ok(planner)
    }

    pub(super) fn state(&self) -> &TrailState {
        &self.state
    }

    /// The next ledger_index to read: every effect of what lies below is durable, or comes back on the same path.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The least ledger_index that planning needs again after a crash.
    pub(super) fn needed_from(&self) -> u64 {
        self.state.from_index
    }

    /// Takes what the ledger has, and closes what is due.
    pub(super) fn step(&mut self) -> Result<Step, TrailError> {
        let entries = self.shared.ledger.read(self.position, READ_BYTES)?;
        for entry in &entries {
            self.take(entry)?;
        }
        let now = self.shared.clock.now();
        if self.position >= self.replay_to {
            if self.state.logging && self.trail.validation && (now / SECOND >= self.window_due() || self.window.is_full()) {
                self.close_window(now)?;
            } else if self.files_due.is_some_and(|due| now >= due) {
                self.close_files(now)?;
            }
        }
        if !entries.is_empty() {
            return Ok(Step::Read);
        }
        let window_due = (self.state.logging && self.trail.validation).then(|| self.window_due() * SECOND);
        let due = [self.files_due, window_due].into_iter().flatten().min();
        Ok(Step::Idle { next_index: self.position + 1, due })
    }

    fn take(&mut self, entry: &Entry) -> Result<(), TrailError> {
        let mut commands = commands(entry, &self.trail).into_iter().peekable();
        if !self.state.logging && commands.next_if_eq(&Command::Start).is_some() {
            // Included on start.
            self.start_logging(entry.index)?;
        }
        if self.state.logging {
            self.deliver(entry)?;
        }
        self.position = entry.index + 1;
        for command in commands {
            match (command, self.state.logging) {
                (Command::Stop, true) => self.stop_logging()?,
                (Command::Start, false) => self.start_logging(self.position)?,
                (Command::Stop | Command::Start, _) => {}
            }
        }
        if !self.state.logging && self.position >= self.state.from_index + STOPPED_STRIDE {
            self.state.from_index = self.position;
            self.commit(Plan::default())?;
        }
        Ok(())
    }

    /// Gives each record of a batch to its lane.
    fn deliver(&mut self, entry: &Entry) -> Result<(), TrailError> {
        self.note_binding(&entry.stream)?;
        let mut fates = Vec::with_capacity(entry.records.len());
        let mut added: HashMap<usize, u64> = HashMap::new();
        for record in &entry.records {
            let fate = match &record.facets {
                Err(_) => Fate::Quarantined,
                Ok(facets) if !self.trail.selects(facets) => Fate::Unselected,
                Ok(facets) => match self.lane(&facets.account, &facets.region)? {
                    Some(lane) => {
                        *added.entry(lane).or_default() += record.bytes.len() as u64 + 1;
                        Fate::Lane(u32::try_from(lane).unwrap_or(u32::MAX))
                    }
                    None => Fate::Quarantined,
                },
            };
            fates.push(fate);
        }
        self.make_room(entry.index, &added)?;
        for (record, fate) in entry.records.iter().zip(&fates) {
            let (Fate::Lane(lane), Ok(facets)) = (*fate, &record.facets) else { continue };
            let lane = &mut self.lanes[lane as usize];
            if entry.index >= lane.state.planned_to {
                let file = lane.open.get_or_insert_with(|| LogFile::new(entry.index));
                file.append(&record.bytes, facets.time);
            }
        }
        if self.files_due.is_none() && self.lanes.iter().any(|lane| lane.open.is_some()) {
            let interval = u64::try_from(self.trail.log_interval.as_nanos()).unwrap_or(u64::MAX);
            self.files_due = Some(self.shared.clock.now().saturating_add(interval));
        }
        if self.trail.validation {
            self.window.take(entry, &fates);
        }
        Ok(())
    }

    /// Closes files that a batch would take over the limit. A batch is never divided between two files.
    fn make_room(&mut self, index: u64, added: &HashMap<usize, u64>) -> Result<(), TrailError> {
        let held: u64 = self.lanes.iter().filter_map(|lane| lane.open.as_ref()).map(LogFile::held_bytes).sum();
        let full = |(lane, bytes): (&usize, &u64)| {
            let open = self.lanes[*lane].open.as_ref();
            open.is_some_and(|file| file.bytes() + bytes > self.trail.log_bytes).then_some(*lane)
        };
        let lanes: Vec<usize> =
            if held > OPEN_BYTES_MAX { (0..self.lanes.len()).collect() } else { added.iter().filter_map(full).collect() };
        if lanes.is_empty() {
            return Ok(());
        }
        let mut plan = Plan::default();
        let mut bodies = Vec::new();
        for lane in lanes {
            self.plan_file(lane, index, self.shared.clock.now(), &mut plan, &mut bodies);
        }
        self.commit_files(plan, bodies)
    }

    /// The trail's own account and region have digests from the start, so that a trail with nothing to deliver differs
    /// from one whose digests were taken away.
    fn note_home(&mut self) -> Result<(), TrailError> {
        if self.state.logging {
            let trail = self.trail.clone();
            self.lane(&trail.account, &trail.home_region)?;
        }
        Ok(())
    }

    /// An agent's account and region are seen when its stream is, if only by a heartbeat: the digests then show it.
    fn note_binding(&mut self, stream: &StreamInfo) -> Result<(), TrailError> {
        if let Some((account, region)) = stream.binding.single()
            && (self.trail.multi_region || region.as_str() == self.trail.home_region)
        {
            self.lane(account.as_str(), region.as_str())?;
        }
        Ok(())
    }

    /// The lane of an account and region; `None` for what is neither, and would make a key that readers refuse. Only a
    /// stream that is bound to everything can bring it.
    fn lane(&mut self, account: &str, region: &str) -> Result<Option<usize>, TrailError> {
        let place = (account.to_owned(), region.to_owned());
        let index = match self.places.get(&place) {
            Some(index) => *index,
            None if account.parse::<AccountId>().is_err() || region.parse::<Region>().is_err() => {
                warn!(trail = self.trail.name, account, region, "a record names no account and region and is not delivered");
                return Ok(None);
            }
            None => {
                let id = self.shared.store.lane(&self.trail.arn, account, region)?;
                let (account, region) = place.clone();
                let state = LaneState { id, account, region, active: false, planned_to: 0, previous: None };
                self.lanes.push(Lane { state, open: None, undigested: Vec::new() });
                self.places.insert(place, self.lanes.len() - 1);
                self.lanes.len() - 1
            }
        };
        let lane = &mut self.lanes[index];
        if !lane.state.active {
            lane.state.active = true;
            lane.state.previous = None;
            if self.trail.validation {
                self.shared.keys.add_region(region);
            }
        }
        Ok(Some(index))
    }
}
