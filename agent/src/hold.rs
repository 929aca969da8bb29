//! One act, one record: a lower source waits for a higher one that makes the same record.
//!
//! Pure: `now` is an argument, the state is a value that the buffer stores with the commit. What is held is not
//! committed, and its source's cursor has not moved: a crash reads it again and decides the same.
//!
//! A lower source's parcel whose act a running higher source also reports is held for at most [`HOLD_NS_MAX`]. If the
//! higher report comes meanwhile, the two are merged: the higher record is kept, with what only the lower one knows
//! beside it. If it came before, the lower one is refused, or kept with `relatedEventID` where it adds facts. If
//! nothing comes, the lower one is released as it is; a higher one that comes later still is kept with
//! `relatedEventID`, for it knows more. Order within a source is kept: what follows a held parcel waits.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::normalize::{Act, Draft, Made, act};
use crate::observation::SourceName;

/// What one observation made, on its way to the commit. `rest` travels with it: cursor, answer, counters.
#[derive(Debug)]
pub struct Parcel<T> {
    pub source: SourceName,
    pub drafts: Vec<Draft>,
    pub rest: T,
}

/// A parcel that is to be committed now.
#[derive(Debug)]
pub struct Released<T> {
    pub source: SourceName,
    pub drafts: Vec<Draft>,
    /// Drafts turned away because a higher source recorded the act: counted observed and refused.
    pub refused: u64,
    pub rest: T,
}

/// Holds parcels of lower sources for at most [`HOLD_NS_MAX`]; keeps the order within each source.
#[derive(Debug)]
pub struct Hold<T> {
    running: Vec<SourceName>,
    held: VecDeque<Held<T>>,
    /// Acts of the last [`REMEMBER_NS`], oldest first.
    recorded: VecDeque<Recorded>,
    is_changed: bool,
}

#[derive(Debug)]
struct Held<T> {
    parcel: Parcel<T>,
    refused: u64,
    /// When it came, by the caller's clock.
    since: u64,
}

/// An act that a record of `source` reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recorded {
    class: String,
    key: String,
    /// Unix nanoseconds.
    time: u64,
    source: SourceRank,
    event_id: Uuid,
    /// The lower sources whose report was matched to it already, one bit each: the next alike of one of them is another act.
    matched: u32,
}

/// A source's place in the order, as it is stored.
type SourceRank = u8;

/// Longest time an observation is held, nanoseconds. Source: ARCHITECTURE, one act, one record.
pub const HOLD_NS_MAX: u64 = 500_000_000;

/// Match keys are remembered this long, nanoseconds. Source: ARCHITECTURE, one act, one record.
pub const REMEMBER_NS: u64 = 60_000_000_000;

/// Two reports of one act lie at most this far apart, nanoseconds: pam waits up to 3 s after a refusal before it returns.
const APART_NS_MAX: u64 = 5_000_000_000;

/// A higher report that comes when the lower one is recorded is of the same act only where the two say nearly the same
/// time, nanoseconds: an act alike may follow, whose own lower report is still to come.
const LATE_APART_NS_MAX: u64 = 1_000_000_000;

/// Most acts remembered and parcels held: beyond, the oldest is forgotten or released, which makes two records of one
/// act, never none.
const RECORDED_MAX: usize = 4096;
const HELD_MAX: usize = 4096;

impl<T> Hold<T> {
    /// `running` are the sources that are on; `state` is what [`Hold::state`] last gave to the buffer.
    pub fn new(running: Vec<SourceName>, state: Option<&[u8]>) -> Self {
        let recorded = state.and_then(|state| serde_json::from_slice(state).ok()).unwrap_or_default();
        Self { running, held: VecDeque::new(), recorded, is_changed: false }
    }

    /// Takes a parcel; gives what is to be committed now, in order. `now` in Unix nanoseconds.
    pub fn offer(&mut self, now: u64, mut parcel: Parcel<T>) -> Vec<Released<T>> {
        self.forget(now);
        let mut refused = 0;
        for mut draft in std::mem::take(&mut parcel.drafts) {
            match self.judge(parcel.source, &mut draft) {
                Judgement::Keep => parcel.drafts.push(draft),
                Judgement::Refuse => refused += 1,
            }
        }
        let waits = self.must_wait(&parcel) || self.held.iter().any(|held| held.parcel.source == parcel.source);
        let mut out = self.due(now);
        if waits && self.held.len() < HELD_MAX {
            self.held.push_back(Held { parcel, refused, since: now });
            // What the higher record settled may have freed what waited behind it.
            out.extend(self.settled());
            return out;
        }
        out.extend(self.settled());
        out.push(self.release(Held { parcel, refused, since: now }));
        out
    }

    /// What has waited long enough.
    pub fn due(&mut self, now: u64) -> Vec<Released<T>> {
        let mut out = Vec::new();
        // A clock that steps back must not hold anything for ever.
        while let Some(held) = self
            .held
            .pop_front_if(|held| now.saturating_sub(held.since) >= HOLD_NS_MAX || held.since > now.saturating_add(HOLD_NS_MAX))
        {
            out.push(self.release(held));
        }
        out.extend(self.settled());
        out
    }

    /// When [`Hold::due`] has something to give next, Unix nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        self.held.front().map(|held| held.since.saturating_add(HOLD_NS_MAX))
    }

    /// Everything held, at an orderly stop.
    pub fn drain(&mut self) -> Vec<Released<T>> {
        let held: Vec<_> = self.held.drain(..).collect();
        held.into_iter().map(|held| self.release(held)).collect()
    }

    /// The match keys of the last 60 s, to be stored with the commit of what was released; `None` if unchanged since the last call.
    pub fn state(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.is_changed).then(|| serde_json::to_vec(&self.recorded).unwrap_or_default())
    }

    /// Whether a running higher source may still report one of these acts.
    fn must_wait(&self, parcel: &Parcel<T>) -> bool {
        let has_higher = self.running.iter().any(|source| *source < parcel.source);
        has_higher && parcel.drafts.iter().any(|draft| draft.act.as_ref().is_some_and(|act| !is_related(draft, act)))
    }

    /// What waits no more: its acts were merged away, and nothing of its source stands before it.
    fn settled(&mut self) -> Vec<Released<T>> {
        let mut out = Vec::new();
        let mut blocked: Vec<SourceName> = Vec::new();
        let mut index = 0;
        while let Some(held) = self.held.get(index) {
            let source = held.parcel.source;
            if blocked.contains(&source) || self.must_wait(&held.parcel) {
                blocked.push(source);
                index += 1;
            } else if let Some(held) = self.held.remove(index) {
                out.push(self.release(held));
            }
        }
        out
    }

    /// What becomes of a draft, seen what is held and what was recorded.
    fn judge(&mut self, source: SourceName, draft: &mut Draft) -> Judgement {
        let Some(act) = draft.act.clone() else { return Judgement::Keep };
        // The higher report of something that is held: merged, the lower ones are refused. One of each source is of this act.
        let (mut matched, mut merged) = (0, Vec::new());
        for held in self.held.iter_mut().filter(|held| held.parcel.source > source) {
            if matched & bit(held.parcel.source) != 0 {
                continue;
            }
            let same = held.parcel.drafts.iter().position(|lower| lower.act.as_ref().is_some_and(|lower| is_same(lower, &act)));
            if let Some(index) = same {
                held.refused += 1;
                matched |= bit(held.parcel.source);
                let lower = held.parcel.drafts.remove(index);
                merge(draft, &lower);
                merged.extend(event_id(&lower));
            }
        }
        if matched != 0 {
            // Remembered when a third source's report was merged into it: it is no record any more.
            self.recorded.retain(|recorded| !merged.contains(&recorded.event_id));
            self.record(source, draft, &act, matched);
            return Judgement::Keep;
        }
        if self.is_late(source, draft, &act) {
            return Judgement::Keep;
        }
        self.judge_lower(source, draft, &act)
    }

    /// The higher report of an act that a lower one's record, which waited in vain, stands for: related to it.
    fn is_late(&mut self, source: SourceName, draft: &mut Draft, act: &Act) -> bool {
        let is_it = |recorded: &&mut Recorded| {
            recorded.matched & bit(source) == 0
                && recorded.source > rank(source)
                && recorded.class == act.class
                && recorded.key == act.key
                && recorded.time.abs_diff(act.time) <= LATE_APART_NS_MAX
        };
        let nearest = self.recorded.iter_mut().filter(is_it).min_by_key(|recorded| recorded.time.abs_diff(act.time));
        let Some(lower) = nearest else { return false };
        lower.matched |= bit(source);
        self.is_changed = true;
        relate(draft, lower.event_id);
        true
    }

    /// The lower report of something that is recorded.
    fn judge_lower(&mut self, source: SourceName, draft: &mut Draft, act: &Act) -> Judgement {
        let higher = self.recorded.iter_mut().find(|recorded| {
            recorded.matched & bit(source) == 0
                && recorded.source < rank(source)
                && recorded.class == act.class
                && recorded.key == act.key
                && recorded.time.abs_diff(act.time) <= APART_NS_MAX
        });
        let Some(higher) = higher else { return Judgement::Keep };
        higher.matched |= bit(source);
        let related = higher.event_id;
        self.is_changed = true;
        if adds_facts(draft) {
            relate(draft, related);
            Judgement::Keep
        } else {
            Judgement::Refuse
        }
    }

    fn release(&mut self, held: Held<T>) -> Released<T> {
        let Held { parcel: Parcel { source, mut drafts, rest }, mut refused, .. } = held;
        // While it was held, a higher one that was held itself may have been recorded.
        drafts.retain_mut(|draft| {
            let Some(act) = draft.act.clone().filter(|act| !is_related(draft, act)) else { return true };
            let is_kept = self.judge_lower(source, draft, &act) == Judgement::Keep;
            if is_kept && !is_related(draft, &act) {
                self.record(source, draft, &act, 0);
            }
            refused += u64::from(!is_kept);
            is_kept
        });
        Released { source, drafts, refused, rest }
    }

    fn record(&mut self, source: SourceName, draft: &Draft, act: &Act, matched: u32) {
        let Made::Record(record) = &draft.record else { return };
        if self.recorded.iter().any(|recorded| recorded.event_id == record.event_id) {
            return;
        }
        if self.recorded.len() >= RECORDED_MAX {
            self.recorded.pop_front();
        }
        let (class, key, time) = (act.class.to_owned(), act.key.clone(), act.time);
        self.recorded.push_back(Recorded { class, key, time, source: rank(source), event_id: record.event_id, matched });
        self.is_changed = true;
    }

    fn forget(&mut self, now: u64) {
        while self.recorded.pop_front_if(|recorded| now.saturating_sub(recorded.time) > REMEMBER_NS).is_some() {
            self.is_changed = true;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Keep,
    Refuse,
}

/// Highest first, as sources are ordered.
const fn rank(source: SourceName) -> SourceRank {
    source as SourceRank
}

/// A source in a set of them.
const fn bit(source: SourceName) -> u32 {
    1 << rank(source)
}

fn is_same(one: &Act, other: &Act) -> bool {
    one.class == other.class && one.key == other.key && one.time.abs_diff(other.time) <= APART_NS_MAX
}

/// Facts that the kernel's record of the same act never has: kept for them, the lower record stays.
const FACTS: &[&str] = &["keyFingerprint", "authenticationMethod", "group"];

/// The same of a change of user: pkexec and doas tell what they ran.
const SWITCH_FACTS: &[&str] = &["command", "cwd"];

fn adds_facts(draft: &Draft) -> bool {
    facts(draft).next().is_some()
}

fn facts(draft: &Draft) -> impl Iterator<Item = (&String, &Value)> {
    let parameters = match &draft.record {
        Made::Record(record) => record.request_parameters.as_ref().and_then(Value::as_object),
        Made::Written(_) | Made::Foreign(_) => None,
    };
    let is_switch = draft.act.as_ref().is_some_and(|act| act.class == act::class::SWITCH_USER);
    let is_fact = move |name: &str| FACTS.contains(&name) || (is_switch && SWITCH_FACTS.contains(&name));
    parameters.into_iter().flatten().filter(move |(name, _)| is_fact(name))
}

fn event_id(draft: &Draft) -> Option<Uuid> {
    match &draft.record {
        Made::Record(record) => Some(record.event_id),
        Made::Written(_) | Made::Foreign(_) => None,
    }
}

/// Adds to the higher record what only the lower one knows.
fn merge(higher: &mut Draft, lower: &Draft) {
    let facts: Vec<(String, Value)> = facts(lower).map(|(name, value)| (name.clone(), value.clone())).collect();
    let Made::Record(record) = &mut higher.record else { return };
    if let Some(parameters) = record.request_parameters.get_or_insert_with(|| Value::Object(Map::new())).as_object_mut() {
        for (name, value) in facts {
            parameters.entry(name).or_insert(value);
        }
    }
    if parameters_are_empty(record.request_parameters.as_ref()) {
        record.request_parameters = None;
    }
}

fn parameters_are_empty(parameters: Option<&Value>) -> bool {
    parameters.and_then(Value::as_object).is_some_and(Map::is_empty)
}

/// `additionalEventData.edgetrail.relatedEventID`.
fn relate(draft: &mut Draft, related: Uuid) {
    if let Some(mark) = mark(draft) {
        mark.insert(RELATED.to_owned(), related.to_string().into());
    }
}

const RELATED: &str = "relatedEventID";

fn mark(draft: &mut Draft) -> Option<&mut Map<String, Value>> {
    let Made::Record(record) = &mut draft.record else { return None };
    record
        .additional_event_data
        .get_or_insert_default()
        .entry("edgetrail")
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut()
}

/// Whether a draft was kept beside a higher record: it waits for nothing, and nothing is matched to it.
fn is_related(draft: &Draft, _act: &Act) -> bool {
    let Made::Record(record) = &draft.record else { return false };
    record.additional_event_data.as_ref().and_then(|data| data.get("edgetrail")).is_some_and(|mark| mark.get(RELATED).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalize::{Host, report};

    const MS: u64 = 1_000_000;
    const START: u64 = 1_700_000_000_000_000_000;

    fn draft(id: u128, key: &str, time: u64, fact: bool) -> Draft {
        let mut record = report::blank(&Host::for_tests(), None, Uuid::from_u128(id), time);
        if fact {
            record.request_parameters = Some(serde_json::json!({"keyFingerprint": "SHA256:x"}));
        }
        let act = Act { class: "login", key: key.to_owned(), time };
        Draft { record: Made::Record(Box::new(record)), act: Some(act) }
    }

    fn parcel(source: SourceName, drafts: Vec<Draft>, rest: u32) -> Parcel<u32> {
        Parcel { source, drafts, rest }
    }

    fn hold() -> Hold<u32> {
        Hold::new(vec![SourceName::Audit, SourceName::Journal], None)
    }

    fn shown(released: &[Released<u32>]) -> Vec<(u32, usize, u64)> {
        released.iter().map(|it| (it.rest, it.drafts.len(), it.refused)).collect()
    }

    #[test]
    fn the_higher_report_of_a_held_act_takes_its_facts_and_its_place() {
        let mut hold = hold();
        assert!(hold.offer(START, parcel(SourceName::Journal, vec![draft(1, "a", START, true)], 1)).is_empty());
        let released = hold.offer(START + MS, parcel(SourceName::Audit, vec![draft(2, "a", START + MS, false)], 2));
        assert_eq!(shown(&released), [(1, 0, 1), (2, 1, 0)]);
        let Made::Record(record) = &released[1].drafts[0].record else { panic!() };
        assert_eq!(record.request_parameters.as_ref().unwrap()["keyFingerprint"], "SHA256:x");
    }

    #[test]
    fn the_lower_report_of_a_recorded_act_is_refused_or_related() {
        let mut hold = hold();
        assert_eq!(shown(&hold.offer(START, parcel(SourceName::Audit, vec![draft(1, "a", START, false)], 1))), [(1, 1, 0)]);
        assert_eq!(
            shown(&hold.offer(START + MS, parcel(SourceName::Journal, vec![draft(2, "a", START, false)], 2))),
            [(2, 0, 1)]
        );
        hold.offer(START, parcel(SourceName::Audit, vec![draft(3, "b", START, false)], 3));
        let released = hold.offer(START + MS, parcel(SourceName::Journal, vec![draft(4, "b", START, true)], 4));
        assert_eq!(shown(&released), [(4, 1, 0)]);
        let Made::Record(record) = &released[0].drafts[0].record else { panic!() };
        let related = &record.additional_event_data.as_ref().unwrap()["edgetrail"]["relatedEventID"];
        assert_eq!(*related, Uuid::from_u128(3).to_string());
    }

    /// The kernel sees that pkexec changed the user, its message says for what.
    #[test]
    fn what_a_change_of_user_ran_is_a_fact_of_it() {
        let ran = |id, command: Option<&str>| {
            let mut draft = draft(id, "", START, false);
            draft.act = Some(act::switch_user("alice", "root", START));
            if let Made::Record(record) = &mut draft.record {
                record.request_parameters = command.map(|command| serde_json::json!({"command": command}));
            }
            draft
        };
        let mut hold = hold();
        hold.offer(START, parcel(SourceName::Journal, vec![ran(1, Some("/usr/bin/id"))], 1));
        let released = hold.offer(START + MS, parcel(SourceName::Audit, vec![ran(2, None)], 2));
        assert_eq!(shown(&released), [(1, 0, 1), (2, 1, 0)]);
        let Made::Record(record) = &released[1].drafts[0].record else { panic!() };
        assert_eq!(record.request_parameters.as_ref().unwrap()["command"], "/usr/bin/id");
    }

    #[test]
    fn an_act_that_no_higher_source_reports_is_released_in_time_and_in_order() {
        let mut hold = hold();
        assert!(hold.offer(START, parcel(SourceName::Journal, vec![draft(1, "a", START, false)], 1)).is_empty());
        let plain = parcel(SourceName::Journal, vec![], 2);
        assert!(hold.offer(START + MS, plain).is_empty(), "what follows waits too");
        assert_eq!(hold.deadline(), Some(START + HOLD_NS_MAX));
        assert!(hold.due(START + HOLD_NS_MAX - 1).is_empty());
        assert_eq!(shown(&hold.due(START + HOLD_NS_MAX)), [(1, 1, 0), (2, 0, 0)]);
        assert_eq!(hold.deadline(), None);
    }

    #[test]
    fn a_higher_report_that_comes_too_late_is_related_to_the_record() {
        let mut hold = hold();
        hold.offer(START, parcel(SourceName::Journal, vec![draft(1, "a", START, false)], 1));
        assert_eq!(shown(&hold.due(START + HOLD_NS_MAX)), [(1, 1, 0)]);
        let late = |id| parcel(SourceName::Audit, vec![draft(id, "a", START + MS, false)], 2);
        let related = |released: &[Released<u32>]| {
            let Made::Record(record) = &released[0].drafts[0].record else { panic!() };
            record.additional_event_data.as_ref().unwrap()["edgetrail"].get("relatedEventID").cloned()
        };
        let released = hold.offer(START + 2 * HOLD_NS_MAX, late(2));
        assert_eq!(related(&released), Some(Uuid::from_u128(1).to_string().into()));
        // Another act alike is its own; and so is one of another second.
        assert_eq!(related(&hold.offer(START + 2 * HOLD_NS_MAX, late(3))), None);
        hold.offer(START, parcel(SourceName::Journal, vec![draft(4, "b", START, false)], 4));
        hold.due(START + 4 * HOLD_NS_MAX);
        let next = parcel(SourceName::Audit, vec![draft(5, "b", START + 1001 * MS, false)], 5);
        assert_eq!(related(&hold.offer(START + 4 * HOLD_NS_MAX, next)), None);
    }

    #[test]
    fn two_acts_alike_match_one_by_one() {
        let mut hold = hold();
        hold.offer(START, parcel(SourceName::Audit, vec![draft(1, "a", START, false)], 1));
        assert_eq!(shown(&hold.offer(START, parcel(SourceName::Journal, vec![draft(2, "a", START, false)], 2))), [(2, 0, 1)]);
        assert!(
            hold.offer(START, parcel(SourceName::Journal, vec![draft(3, "a", START, false)], 3)).is_empty(),
            "the second waits for its own"
        );
    }

    #[test]
    fn a_restart_decides_the_same_and_a_minute_forgets() {
        let mut before = hold();
        before.offer(START, parcel(SourceName::Audit, vec![draft(1, "a", START, false)], 1));
        let state = before.state().unwrap();
        assert_eq!(before.state(), None);
        let lower = || parcel(SourceName::Journal, vec![draft(2, "a", START, false)], 2);
        let mut after: Hold<u32> = Hold::new(vec![SourceName::Audit, SourceName::Journal], Some(&state));
        assert_eq!(shown(&after.offer(START + MS, lower())), [(2, 0, 1)]);
        let mut late: Hold<u32> = Hold::new(vec![SourceName::Audit, SourceName::Journal], Some(&state));
        assert!(late.offer(START + REMEMBER_NS + 1, lower()).is_empty());
        assert_eq!(shown(&late.drain()), [(2, 1, 0)]);
    }

    /// audit, sudo's log server and the journal all see a sudo.
    #[test]
    fn three_sources_of_one_act_make_one_record_in_any_order() {
        let sources = [SourceName::Audit, SourceName::Sudo, SourceName::Journal];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut hold: Hold<u32> = Hold::new(sources.to_vec(), None);
            let mut kept = Vec::new();
            for (id, index) in (1u32..).zip(order) {
                let draft = draft(u128::from(id), "a", START, false);
                kept.extend(hold.offer(START, parcel(sources[index], vec![draft], id)));
            }
            kept.extend(hold.due(START + HOLD_NS_MAX));
            let stored: Vec<_> = kept.iter().filter(|released| !released.drafts.is_empty()).map(|it| it.source).collect();
            assert_eq!(stored, [SourceName::Audit], "{order:?}");
            assert_eq!(kept.iter().map(|released| released.refused).sum::<u64>(), 2, "{order:?}");
        }
        // The kernel's record does not come: the next higher one stands.
        for order in [[1, 2], [2, 1]] {
            let mut hold: Hold<u32> = Hold::new(sources.to_vec(), None);
            let mut kept = Vec::new();
            for (id, index) in (1u32..).zip(order) {
                let draft = draft(u128::from(id), "a", START, false);
                kept.extend(hold.offer(START, parcel(sources[index], vec![draft], id)));
            }
            kept.extend(hold.due(START + HOLD_NS_MAX));
            let stored: Vec<_> = kept.iter().filter(|released| !released.drafts.is_empty()).map(|it| it.source).collect();
            assert_eq!(stored, [SourceName::Sudo], "{order:?}");
        }
    }

    #[test]
    fn without_a_higher_source_nothing_waits() {
        let mut hold: Hold<u32> = Hold::new(vec![SourceName::Journal, SourceName::Api], None);
        assert_eq!(shown(&hold.offer(START, parcel(SourceName::Journal, vec![draft(1, "a", START, false)], 1))), [(1, 1, 0)]);
        // An orderly stop leaves nothing behind.
        assert!(hold.drain().is_empty());
    }
}
