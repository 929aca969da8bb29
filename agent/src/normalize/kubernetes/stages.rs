//! The stages of a request joined: one act, one record.
//!
//! A request is announced (`RequestReceived`), of long-running ones the start is told (`ResponseStarted`), and it ends.
//! The first of start and end makes the record, for then is known what came of it. An announcement waits for them, in a
//! state that is committed with the cursor; one that nothing followed becomes the record itself.
//!
//! Pure: `now` is an argument, in Unix nanoseconds. Bounded: where there is no more room, an announcement becomes a
//! record early, which makes two records of one act, never none.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::started::{Key, Started};
use crate::sources::kubernetes::{Request, Stage, request};

/// What was announced and what has its record.
#[derive(Debug, Default)]
pub(super) struct Stages {
    /// Oldest first.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Those that run on.
    started: Started,
    recorded: HashMap<Key, Recorded>,
    /// Keys of `recorded`, oldest first.
    order: VecDeque<Key>,
    is_changed: bool,
}

/// An announced request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    key: Key,
    /// When it came here.
    since: u64,
    event: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Recorded {
    stage: Stage,
    code: u16,
    event_id: Uuid,
}

/// What is to be done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It makes the record of its request.
    Record,
    /// Its request has a record, of this eventID, which does not say what this event says.
    Related(Uuid),
    /// It says nothing beyond the record that there is, or that will be.
    Step,
}

/// An announcement waits this long, nanoseconds. Source: the API server's `--request-timeout`, 60 s: what ends, ends by then.
pub(super) const WAIT_NS: u64 = 60_000_000_000;

/// Most announcements that wait, and their bytes in all: an API server has at most 600 requests in flight
/// (`--max-requests-inflight`, `--max-mutating-requests-inflight`).
const WAITING_MAX: usize = 1024;
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// Larger announcements do not wait: they are recorded at once.
const ANNOUNCEMENT_BYTES_MAX: usize = 16 * 1024;

/// Requests whose record is remembered.
const RECORDED_MAX: usize = 4096;

impl Stages {
    /// Goes on from what [`Stages::save`] gave.
    pub(super) fn restore(saved: &[u8], started: Started) -> Self {
        let mut stages = Self { started, ..Self::default() };
        let waiting: Vec<(u64, String)> = serde_json::from_slice(saved).unwrap_or_default();
        for (since, event) in waiting {
            if let Some((request, _)) = request(event.as_bytes()) {
                stages.wait(&request, event.as_bytes(), since);
            }
        }
        stages.is_changed = false;
        stages
    }

    /// The announcements that wait, where they changed since this was last called.
    pub(super) fn save(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        let waiting: Vec<_> = self.waiting.iter().map(|it| (it.since, String::from_utf8_lossy(&it.event))).collect();
        serde_json::to_vec(&waiting).ok()
    }

    /// Those that run on, by parts, where they changed.
    pub(super) fn save_started(&mut self) -> Vec<(usize, Vec<u8>)> {
        self.started.save()
    }

    /// Decides on an event of `request`. `code` is its status, 0 where it has none; `event_id` what its record would have.
    pub(super) fn judge(&mut self, request: &Request, stage: Stage, code: u16, event: &[u8], event_id: Uuid, now: u64) -> Fate {
        let key = key_of(request);
        let started = self.started.get(&key);
        let started = started.map(|start| Recorded { stage: Stage::Started, code: start.code, event_id: start.event_id });
        let recorded = started.or_else(|| self.recorded.get(&key).copied());
        let fate = match (stage, recorded.map(|recorded| recorded.stage)) {
            (Stage::Received, Some(_)) => Fate::Step,
            (Stage::Received, None) if event.len() <= ANNOUNCEMENT_BYTES_MAX => {
                self.wait(request, event, now);
                return Fate::Step;
            }
            // The end of what has started says no more, unless it ended otherwise.
            (Stage::Complete, Some(Stage::Started)) if recorded.is_some_and(|recorded| recorded.code == code) => Fate::Step,
            (Stage::Started, Some(Stage::Complete | Stage::Panic)) => Fate::Step,
            // The same once more is a retry: the same record, under the same eventID.
            (stage, Some(other)) if stage == other => Fate::Record,
            (_, Some(_)) => recorded.map_or(Fate::Record, |recorded| Fate::Related(recorded.event_id)),
            (_, None) => Fate::Record,
        };
        if matches!(stage, Stage::Complete | Stage::Panic) {
            self.started.end(&key);
        }
        if fate == Fate::Record {
            self.settle(key);
            match stage {
                Stage::Started => self.started.start(key, code, event_id),
                _ => self.remember(key, Recorded { stage, code, event_id }),
            }
        }
        fate
    }

    /// Announcements that nothing followed, or for which there is no more room, in order. Their requests have records now.
    pub(super) fn due(&mut self, now: u64) -> Vec<Vec<u8>> {
        let is_due = |it: &Waiting| it.since.saturating_add(WAIT_NS) <= now || it.since > now.saturating_add(WAIT_NS);
        let mut due = Vec::new();
        loop {
            let is_over = self.waiting.len() > WAITING_MAX || self.waiting_bytes > WAITING_BYTES_MAX;
            match self.waiting.pop_front_if(|it| is_over || is_due(it)) {
                Some(waiting) => due.push(self.let_go(waiting)),
                None => return due,
            }
        }
    }

    /// Every announcement, as nothing more will come.
    pub(super) fn drain(&mut self) -> Vec<Vec<u8>> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|waiting| self.let_go(waiting)).collect()
    }

    /// When the oldest announcement has waited long enough.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.waiting.front().map(|it| it.since.saturating_add(WAIT_NS))
    }

    /// An announcement's record was made.
    pub(super) fn announced(&mut self, request: &Request, event_id: Uuid) {
        self.remember(key_of(request), Recorded { stage: Stage::Received, code: 0, event_id });
    }

    fn wait(&mut self, request: &Request, event: &[u8], since: u64) {
        let key = key_of(request);
        if self.waiting.iter().any(|it| it.key == key) {
            return;
        }
        self.waiting_bytes += event.len();
        self.waiting.push_back(Waiting { key, since, event: event.to_vec() });
        self.is_changed = true;
    }

    fn settle(&mut self, key: Key) {
        if let Some(at) = self.waiting.iter().position(|it| it.key == key)
            && let Some(waiting) = self.waiting.remove(at)
        {
            self.let_go(waiting);
        }
    }

    fn let_go(&mut self, waiting: Waiting) -> Vec<u8> {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.event.len());
        self.is_changed = true;
        waiting.event
    }

    fn remember(&mut self, key: Key, recorded: Recorded) {
        if self.recorded.insert(key, recorded).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > RECORDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.recorded.remove(&oldest);
        }
    }
}

/// No two requests have one, whatever auditIDs their clients choose; the same over a restart.
fn key_of(request: &Request) -> Key {
    let mut hasher = Sha256::new();
    hasher.update((request.audit_id.len() as u64).to_be_bytes());
    hasher.update(&request.audit_id);
    hasher.update(&request.received);
    let hash: [u8; 32] = hasher.finalize().into();
    let mut key = Key::default();
    for (to, from) in key.iter_mut().zip(hash) {
        *to = from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u32, stage: Stage) -> Vec<u8> {
        let stage = stage.as_str();
        format!(r#"{{"auditID":"{id}","stage":"{stage}","requestReceivedTimestamp":"t","verb":"get"}}"#).into_bytes()
    }

    fn judge(stages: &mut Stages, id: u32, stage: Stage, code: u16, now: u64) -> Fate {
        let event = event(id, stage);
        let (request, _) = request(&event).unwrap();
        stages.judge(&request, stage, code, &event, Uuid::from_u128(u128::from(id)), now)
    }

    #[test]
    fn the_end_makes_the_record_and_the_announcement_is_part_of_it() {
        let mut stages = Stages::default();
        assert_eq!(judge(&mut stages, 1, Stage::Received, 0, 5), Fate::Step);
        assert_eq!(judge(&mut stages, 1, Stage::Complete, 200, 6), Fate::Record);
        assert_eq!(judge(&mut stages, 1, Stage::Received, 0, 7), Fate::Step, "that came late");
        assert_eq!(judge(&mut stages, 1, Stage::Complete, 200, 8), Fate::Record, "a retry is the same record again");
        assert!(stages.drain().is_empty());
    }

    #[test]
    fn a_long_request_is_recorded_when_it_starts_and_once_more_only_if_it_ends_otherwise() {
        let mut stages = Stages::default();
        for id in [1, 2] {
            judge(&mut stages, id, Stage::Received, 0, 0);
            assert_eq!(judge(&mut stages, id, Stage::Started, 200, 0), Fate::Record);
        }
        assert_eq!(judge(&mut stages, 1, Stage::Complete, 200, 0), Fate::Step);
        assert_eq!(judge(&mut stages, 2, Stage::Panic, 500, 0), Fate::Related(Uuid::from_u128(2)));
        assert_eq!(stages.deadline(), None);
    }

    #[test]
    fn what_nothing_follows_is_recorded_after_the_wait_and_survives_a_restart() {
        let mut stages = Stages::default();
        judge(&mut stages, 1, Stage::Received, 0, 10);
        assert!(stages.due(9 + WAIT_NS).is_empty());
        let saved = stages.save().unwrap();
        assert_eq!(stages.save(), None, "unchanged");
        let mut stages = Stages::restore(&saved, Started::default());
        assert_eq!(stages.deadline(), Some(10 + WAIT_NS));
        let due = stages.due(10 + WAIT_NS);
        assert_eq!(due, [event(1, Stage::Received)]);
        stages.announced(&request(&due[0]).unwrap().0, Uuid::from_u128(1));
        assert_eq!(judge(&mut stages, 1, Stage::Complete, 403, 0), Fate::Related(Uuid::from_u128(1)));
        assert_eq!(stages.save().unwrap(), b"[]");
    }

    #[test]
    fn beyond_the_bounds_the_oldest_is_recorded_early() {
        let mut stages = Stages::default();
        let mut early = 0;
        for id in 0..2 * u32::try_from(WAITING_MAX).unwrap() {
            judge(&mut stages, id, Stage::Received, 0, 0);
            early += stages.due(0).len();
        }
        assert_eq!(early, WAITING_MAX);
        assert!(stages.recorded.len() <= RECORDED_MAX && stages.waiting.len() == WAITING_MAX);
        let large = [event(9999, Stage::Received), vec![b' '; ANNOUNCEMENT_BYTES_MAX]].concat();
        let request = request(&large).unwrap().0;
        assert_eq!(stages.judge(&request, Stage::Received, 0, &large, Uuid::nil(), 0), Fate::Record);
    }
}
