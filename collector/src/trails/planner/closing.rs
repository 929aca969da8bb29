//! Closing is planning: open files and windows become durable plans, each in one transaction.

use edgetrail_proto::keys::unique16;

use super::super::TrailError;
use super::super::clock::{DAY_S, SECOND};
use super::super::digest::seal_window;
use super::super::log_file::ClosedFile;
use super::super::plan::{LaneState, NO_DIGEST, ObjectKind, Plan, PlannedObject};
use super::super::window::{Scope, Window};
use super::Planner;
use crate::sinks::ObjectMeta;

/// A window that is closed later than this after its nominal end was not awaited: it ends now. Seconds.
const LATE_S: u64 = 5;

impl Planner {
    /// Closes all open files, because the oldest is old enough.
    pub(super) fn close_files(&mut self, now: u64) -> Result<(), TrailError> {
        let mut plan = Plan::default();
        let mut bodies = Vec::new();
        self.plan_files(now, &mut plan, &mut bodies);
        if !self.trail.validation {
            // Nothing but open files needs the ledger again.
            self.state.from_index = self.position;
        }
        self.commit_files(plan, bodies)
    }

    fn plan_files(&mut self, now: u64, plan: &mut Plan, bodies: &mut Vec<ClosedFile>) {
        for lane in 0..self.lanes.len() {
            self.plan_file(lane, self.position, now, plan, bodies);
        }
        self.files_due = None;
    }

    /// Plans a lane's open file, if there is one, for the ledger up to `to`.
    pub(super) fn plan_file(&mut self, lane: usize, to: u64, now: u64, plan: &mut Plan, bodies: &mut Vec<ClosedFile>) {
        let lane = &mut self.lanes[lane];
        let Some(open) = lane.open.take() else { return };
        let from_index = open.from;
        let closed = open.close();
        let unique = unique16(&self.trail.arn, self.trail.created_ns, self.state.counter);
        self.state.counter += 1;
        lane.state.planned_to = to;
        plan.lanes.push(lane.state.clone());
        plan.objects.push(PlannedObject {
            id: 0,
            lane: lane.state.id,
            kind: ObjectKind::Log,
            bucket: self.trail.bucket.clone(),
            key: self.trail.paths().log_file_key(&lane.state.account, &lane.state.region, now, &unique),
            from_index,
            to_index: to,
            planned: now,
            sha256: closed.sha256,
            records: closed.records,
            oldest: closed.oldest,
            newest: closed.newest,
            window_end: (!self.trail.validation).then_some(NO_DIGEST),
            meta: ObjectMeta::gzipped_json(),
            body: None,
        });
        bodies.push(closed);
    }

    pub(super) fn commit_files(&mut self, plan: Plan, bodies: Vec<ClosedFile>) -> Result<(), TrailError> {
        let objects = self.commit(plan)?;
        for (object, closed) in objects.into_iter().zip(bodies) {
            self.shared.bodies.keep(object.id, closed.body);
            let lane = self.lanes.iter_mut().find(|lane| lane.state.id == object.lane);
            if let Some(lane) = lane.filter(|_| self.trail.validation) {
                lane.undigested.push(object);
            }
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, plan: Plan) -> Result<Vec<PlannedObject>, TrailError> {
        let plan = Plan { state: Some(self.state.clone()), ..plan };
        let objects = self.shared.store.commit(&self.trail.arn, plan)?;
        self.shared.progress(&self.trail.arn, |progress| progress.planned(self.state.clone()));
        Ok(objects)
    }

    /// When the window should end, Unix seconds.
    pub(super) fn window_due(&self) -> u64 {
        self.state.window_start + self.trail.digest_interval_s()
    }

    /// digestEndTime of a window that is closed now.
    ///
    /// The nominal end, if it was awaited. After downtime, and wherever the nominal end lies in a day that is over, it is
    /// now: nothing is signed for a past day, so a day's key can be erased at its midnight. A window that is cut short
    /// ends now, but at least one second after it began: no two digests share an end.
    fn window_end(&self, now: u64) -> u64 {
        let (now, nominal) = (now / SECOND, self.window_due());
        let awaited = now >= nominal && now - nominal <= LATE_S && now / DAY_S == nominal / DAY_S;
        if awaited { nominal } else { now.max(self.state.window_start + 1) }
    }

    /// Ends the window at the present cut: plans all open files, then one digest with its proof for every lane.
    pub(super) fn close_window(&mut self, now: u64) -> Result<(), TrailError> {
        let mut plan = Plan::default();
        let mut bodies = Vec::new();
        self.plan_files(now, &mut plan, &mut bodies);
        let (start, end, from, to) = (self.state.window_start, self.window_end(now), self.state.from_index, self.position);
        let mut digests = Vec::new();
        let mut digested = Vec::new();
        for (index, lane) in self.lanes.iter_mut().enumerate().filter(|(_, lane)| lane.state.active) {
            let mut files = std::mem::take(&mut lane.undigested);
            files.extend(plan.objects.iter().filter(|object| object.lane == lane.state.id).cloned());
            let LaneState { account, region, .. } = &lane.state;
            let scope = Scope { lane: u32::try_from(index).unwrap_or(u32::MAX), account, region, start, end, from, to };
            let proof = self.window.proof(&scope, &self.shared.ledger, &self.shared.receipt_keys.now())?;
            let key = self.shared.keys.key(region, end)?;
            let sealed = seal_window(&self.trail, &lane.state, &files, &proof, &key, end, now)?;
            lane.state.previous = Some(sealed.previous);
            plan.lanes.push(lane.state.clone());
            digests.extend([sealed.proof, sealed.digest]);
            digested.push(lane.state.id);
        }
        plan.objects.extend(digests);
        plan.digested = Some((digested, end));
        self.state.window_start = end;
        self.state.from_index = to;
        self.window = Window::default();
        // Digests go behind the files in one transaction: from its commit on, a crash recovers to exactly these bytes.
        let objects = self.commit(plan)?;
        for (object, closed) in objects.into_iter().zip(bodies) {
            self.shared.bodies.keep(object.id, closed.body);
        }
        Ok(())
    }

    /// The record of StopLogging is read: it is in the last files, which the final digest lists.
    pub(super) fn stop_logging(&mut self) -> Result<(), TrailError> {
        let now = self.shared.clock.now();
        self.state.logging = false;
        self.state.stopped = Some(now);
        if self.trail.validation { self.close_window(now) } else { self.close_files(now) }
    }

    /// The record of StartLogging stands at `index`: it is the first that is delivered, into a new chain of digests.
    pub(super) fn start_logging(&mut self, index: u64) -> Result<(), TrailError> {
        let now = self.shared.clock.now();
        self.state.logging = true;
        self.state.started = Some(now);
        self.state.from_index = index;
        // Not before the last chain's end: no two digests share an end.
        self.state.window_start = self.state.window_start.max(now / SECOND);
        let mut plan = Plan::default();
        for lane in self.lanes.iter_mut().filter(|lane| lane.state.active) {
            lane.state.active = false;
            lane.state.previous = None;
            plan.lanes.push(lane.state.clone());
        }
        self.commit(plan)?;
        self.note_home()
    }
}
