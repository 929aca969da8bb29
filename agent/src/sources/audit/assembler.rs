//! Joins the records of one serial to an event.
//!
//! An event is complete with its end mark (EOE; in audit.log, which mostly has none, PROCTITLE), with its only record
//! where the type stands alone, or when nothing more came for [`JOIN_MAX`]. Bounded in events, bytes and bytes of one
//! event: what must give way is emitted incomplete, never dropped; what one event has too much is counted in it. Pure:
//! the caller says what time it is.
//!
//! sudo names the command before the user it runs as: its event is held back, at most [`AWAIT_MAX`], until the record
//! that names that user arrives, which then stands in [`Event::related`]. useradd reports a new user by its id before the
//! user's file has it: that event is held back until the file does ([`Assembler::named`]), at most for as long.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fields::Fields;
use super::kinds;
use super::record::{RawRecord, Stamp, Stamped};

/// The records of one audit event, joined by their node, stamp and serial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub stamp: Stamp,
    /// The host that the log names for it.
    pub node: Option<Arc<str>>,
    pub records: Vec<RawRecord>,
    /// Records of other events that say more of the same act.
    pub related: Vec<RawRecord>,
    /// False where records of a system call were still missing when it had to go.
    pub complete: bool,
    /// Records beyond [`EVENT_BYTES_MAX`] that are not in `records`.
    pub cut: Cut,
    /// 0, or how many parts of this serial went out before it.
    pub part: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    pub records: u64,
    pub bytes: u64,
}

/// Where the records come from; it decides what ends an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Kernel,
    /// auditd does not write every EOE.
    Log,
}

#[derive(Debug)]
pub struct Assembler {
    origin: Origin,
    /// Oldest first.
    pending: VecDeque<Pending>,
    bytes: usize,
    /// Events that went out before their end mark, with the parts they had: a late record becomes another part.
    emitted: VecDeque<Emitted>,
}

#[derive(Debug)]
struct Emitted {
    node: Option<Arc<str>>,
    serial: u32,
    parts: u32,
}

#[derive(Debug)]
struct Pending {
    event: Event,
    bytes: usize,
    /// Milliseconds of the caller's clock.
    deadline: u64,
    /// What an event waits for that is whole.
    awaits: Option<Awaited>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The next record of this process, which names the target user.
    Target(u32),
    /// The users' file, which is to have this id.
    Name(u32),
}

/// Longest wait for the rest of an event, milliseconds. The kernel writes an event's records in one go at the system
/// call's end; only what is written in the middle of one (LOGIN, AVC) can lie open, for as long as the call takes.
pub const JOIN_MAX: u64 = 500;

/// Longest wait for what an event awaits that is whole, milliseconds. sudo goes on within a few, useradd writes its file
/// within some tens; the journal's report of the same act waits no longer than 500 for this one.
const AWAIT_MAX: u64 = 250;

/// auditd may write an event's lines in another order: behind its end mark a log's event is given this long, milliseconds.
const LOG_SETTLE: u64 = 50;

/// Most events of a log being joined: its lines are out of order by a few events at most.
const LOG_PENDING_MAX: usize = 32;

/// Most events being joined. A host with this many system calls audited at one instant has more than 500 CPUs.
const PENDING_MAX: usize = 512;

/// Most bytes being joined.
const PENDING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes of one event: four times the largest record that is made of it.
pub const EVENT_BYTES_MAX: usize = 4 * edgetrail_proto::limits::RECORD_BYTES_MAX;

/// Serials remembered after they went out without an end mark.
const EMITTED_MAX: usize = 256;

impl Event {
    /// Its name within the source, the same however it was read.
    pub fn position(&self) -> String {
        let stamp = match &self.node {
            Some(node) => format!("{node} {}", self.stamp),
            None => self.stamp.to_string(),
        };
        match self.part {
            0 => stamp,
            part => format!("{stamp}/{part}"),
        }
    }

    /// The first record of a type.
    pub fn record(&self, kind: u16) -> Option<&RawRecord> {
        self.records.iter().find(|record| record.is(kind))
    }
}

impl Assembler {
    pub fn new(origin: Origin) -> Self {
        Self { origin, pending: VecDeque::new(), bytes: 0, emitted: VecDeque::new() }
    }

    /// Takes a record in; `out` gets what became complete, or had to give way.
    pub fn push(&mut self, stamped: Stamped, now: u64, out: &mut Vec<Event>) {
        if !stamped.record.joins() {
            self.single(Event::of(stamped), now, out);
        } else if stamped.record.is(kinds::EOE) {
            self.end(&stamped, now, out);
        } else {
            self.join(stamped, now, out);
        }
        self.make_room(out);
    }

    /// When [`Self::expire`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }

    /// Emits what waited long enough.
    pub fn expire(&mut self, now: u64, out: &mut Vec<Event>) {
        while let Some(at) = self.pending.iter().position(|pending| pending.deadline <= now) {
            self.emit(at, out);
        }
    }

    /// Ids of new users that the users' file is to have before their events go out.
    pub fn unnamed(&self) -> impl Iterator<Item = u32> {
        self.pending.iter().filter_map(|pending| match pending.awaits {
            Some(Awaited::Name(id)) => Some(id),
            Some(Awaited::Target(_)) | None => None,
        })
    }

    /// Emits what waited for the name of this id: it can be found now.
    pub fn named(&mut self, id: u32, out: &mut Vec<Event>) {
        while let Some(at) = self.pending.iter().position(|pending| pending.awaits == Some(Awaited::Name(id))) {
            self.emit(at, out);
        }
    }

    /// What is half-joined, for the cursor: all of it as records, oldest first.
    pub fn half_joined(&self) -> impl Iterator<Item = (&Event, &RawRecord)> {
        self.pending.iter().flat_map(|pending| pending.event.records.iter().map(|record| (&pending.event, record)))
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// A record that stands alone; it may be what a sudo event waits for, or such an event itself.
    fn single(&mut self, event: Event, now: u64, out: &mut Vec<Event>) {
        let Some(record) = event.records.first() else { return };
        if record.is(kinds::CRED_REFR) || record.is(kinds::USER_START) || record.is(kinds::USER_END) {
            let text = record.text();
            let target = Fields::parse(&text).number::<u32>("pid").map(Awaited::Target);
            let is_awaited =
                |pending: &Pending| pending.awaits.is_some() && pending.awaits == target && pending.event.node == event.node;
            if let Some(at) = self.pending.iter().position(is_awaited) {
                if let Some(pending) = self.pending.get_mut(at) {
                    pending.event.related.push(record.clone());
                }
                self.emit(at, out);
            }
        } else if let Some(awaited) = awaited(record) {
            let bytes = record.text.len();
            self.bytes = self.bytes.saturating_add(bytes);
            self.pending.push_back(Pending { event, bytes, deadline: now.saturating_add(AWAIT_MAX), awaits: Some(awaited) });
            return;
        }
        out.push(event);
    }

    fn join(&mut self, stamped: Stamped, now: u64, out: &mut Vec<Event>) {
        let at = self.find(&stamped);
        let Stamped { stamp, node, record } = stamped;
        let ends = self.origin == Origin::Log && record.is(kinds::PROCTITLE);
        let at = match at {
            Some(at) => at,
            None => {
                let part = self.parts_before(node.as_ref(), stamp.serial);
                let event = Event { part, node, ..Event::empty(stamp) };
                self.pending.push_back(Pending { event, bytes: 0, deadline: now.saturating_add(JOIN_MAX), awaits: None });
                self.pending.len().saturating_sub(1)
            }
        };
        if let Some(pending) = self.pending.get_mut(at) {
            let bytes = record.text.len();
            if pending.bytes.saturating_add(bytes) > EVENT_BYTES_MAX {
                pending.event.cut.records += 1;
                pending.event.cut.bytes = pending.event.cut.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
            } else {
                pending.bytes += bytes;
                self.bytes = self.bytes.saturating_add(bytes);
                pending.event.records.push(record);
            }
        }
        if ends {
            self.finish(at, now, out);
        }
    }

    fn end(&mut self, mark: &Stamped, now: u64, out: &mut Vec<Event>) {
        // An end mark of an event that is out already says nothing new.
        if let Some(at) = self.find(mark) {
            self.finish(at, now, out);
        }
    }

    fn find(&self, of: &Stamped) -> Option<usize> {
        self.pending.iter().rposition(|pending| pending.event.stamp == of.stamp && pending.event.node == of.node)
    }

    fn finish(&mut self, at: usize, now: u64, out: &mut Vec<Event>) {
        if self.origin == Origin::Log {
            if let Some(pending) = self.pending.get_mut(at) {
                pending.deadline = pending.deadline.min(now.saturating_add(LOG_SETTLE));
            }
        } else if let Some(pending) = self.pending.remove(at) {
            self.bytes = self.bytes.saturating_sub(pending.bytes);
            out.push(Event { complete: true, ..pending.event });
        }
    }

    /// Sends an event out before its end mark. It lacks something only if it is a system call's and the kernel's own
    /// stream, which always has the mark, did not show it.
    fn emit(&mut self, at: usize, out: &mut Vec<Event>) {
        let Some(Pending { mut event, bytes, awaits, .. }) = self.pending.remove(at) else { return };
        self.bytes = self.bytes.saturating_sub(bytes);
        event.complete = self.origin == Origin::Log || event.record(kinds::SYSCALL).is_none();
        if awaits.is_none() {
            if self.emitted.len() >= EMITTED_MAX {
                self.emitted.pop_front();
            }
            let (node, serial, parts) = (event.node.clone(), event.stamp.serial, event.part.saturating_add(1));
            self.emitted.push_back(Emitted { node, serial, parts });
        }
        out.push(event);
    }

    fn parts_before(&self, node: Option<&Arc<str>>, serial: u32) -> u32 {
        let is_it = |emitted: &&Emitted| emitted.serial == serial && emitted.node.as_ref() == node;
        self.emitted.iter().rev().find(is_it).map_or(0, |emitted| emitted.parts)
    }

    fn make_room(&mut self, out: &mut Vec<Event>) {
        let most = if self.origin == Origin::Log { LOG_PENDING_MAX } else { PENDING_MAX };
        while self.pending.len() > most || self.bytes > PENDING_BYTES_MAX {
            self.emit(0, out);
        }
    }
}

impl Event {
    fn empty(stamp: Stamp) -> Self {
        Self { stamp, node: None, records: Vec::new(), related: Vec::new(), complete: true, cut: Cut::default(), part: 0 }
    }

    fn of(stamped: Stamped) -> Self {
        Self { node: stamped.node, records: vec![stamped.record], ..Self::empty(stamped.stamp) }
    }
}

/// What a record that stands alone still waits for: a successful sudo command's target user, a new user's name.
fn awaited(record: &RawRecord) -> Option<Awaited> {
    if !record.is(kinds::USER_CMD) && !record.is(kinds::ADD_USER) {
        return None;
    }
    let text = record.text();
    let fields = Fields::parse(&text);
    if fields.succeeded() != Some(true) {
        return None;
    }
    match record.is(kinds::USER_CMD) {
        true => fields.number("pid").map(Awaited::Target),
        false => match fields.field("acct") {
            Some(_) => None,
            None => fields.number("id").map(Awaited::Name),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamped(kind: u16, serial: u32, text: &str) -> Stamped {
        Stamped::from_kernel(kind, format!("audit(100.{:03}:{serial}): {text}", serial % 1000).as_bytes()).unwrap()
    }

    fn serials(out: &[Event]) -> Vec<u32> {
        out.iter().map(|event| event.stamp.serial).collect()
    }

    #[test]
    fn interleaved_events_are_joined_by_serial() {
        let (mut assembler, mut out) = (Assembler::new(Origin::Kernel), Vec::new());
        for (kind, serial) in [(kinds::SYSCALL, 1), (kinds::SYSCALL, 2), (kinds::CWD, 1), (kinds::EOE, 2), (kinds::EOE, 1)] {
            assembler.push(stamped(kind, serial, "pid=1"), 0, &mut out);
        }
        assert_eq!(serials(&out), [2, 1]);
        assert!(out.iter().all(|event| event.complete && event.part == 0));
        assert_eq!(out[1].records.len(), 2);
        assert!(assembler.is_empty());
    }

    #[test]
    fn an_event_without_end_goes_out_incomplete_and_its_rest_as_another_part() {
        let (mut assembler, mut out) = (Assembler::new(Origin::Kernel), Vec::new());
        assembler.push(stamped(kinds::SYSCALL, 1, "pid=1"), 0, &mut out);
        assembler.expire(JOIN_MAX - 1, &mut out);
        assert!(out.is_empty());
        assembler.expire(JOIN_MAX, &mut out);
        assert!(!out[0].complete);
        assembler.push(stamped(kinds::CWD, 1, "cwd=\"/\""), JOIN_MAX, &mut out);
        assembler.push(stamped(kinds::EOE, 1, ""), JOIN_MAX, &mut out);
        assert_eq!((out[0].position().as_str(), out[1].position().as_str()), ("100.001:1", "100.001:1/1"));
    }

    #[test]
    fn sudo_waits_for_the_user_it_runs_as() {
        let (mut assembler, mut out) = (Assembler::new(Origin::Kernel), Vec::new());
        assembler.push(stamped(kinds::USER_CMD, 1, "pid=9 msg='cmd=\"id\" res=success'"), 0, &mut out);
        assembler.push(stamped(kinds::CRED_REFR, 2, "pid=8 msg='acct=\"bob\" res=success'"), 0, &mut out);
        assembler.push(stamped(kinds::CRED_REFR, 3, "pid=9 msg='acct=\"root\" res=success'"), 0, &mut out);
        assert_eq!(serials(&out), [2, 1, 3]);
        assert!(out[1].related[0].text().contains("root"));
        assembler.push(stamped(kinds::USER_CMD, 4, "pid=9 msg='cmd=\"id\" res=failed'"), 0, &mut out);
        assert_eq!(serials(&out), [2, 1, 3, 4], "a refused command runs as nobody");
    }

    #[test]
    fn a_new_user_waits_for_its_name_no_longer_than_it_takes() {
        let (mut assembler, mut out) = (Assembler::new(Origin::Kernel), Vec::new());
        assembler.push(stamped(kinds::ADD_USER, 1, "pid=9 msg='op=adding user id=1002 res=success'"), 0, &mut out);
        assembler.push(stamped(kinds::ADD_USER, 2, "pid=9 msg='op=adding user acct=\"bob\" res=success'"), 0, &mut out);
        assert_eq!((serials(&out), assembler.unnamed().collect()), (vec![2], vec![1002]));
        assembler.named(7, &mut out);
        assert_eq!(serials(&out), [2]);
        assembler.named(1002, &mut out);
        assert_eq!((serials(&out), assembler.unnamed().count()), (vec![2, 1], 0));
        assembler.push(stamped(kinds::ADD_USER, 3, "pid=9 msg='op=adding user id=1003 res=success'"), 0, &mut out);
        assembler.expire(AWAIT_MAX, &mut out);
        assert_eq!(serials(&out), [2, 1, 3], "a directory server's user is in no file");
    }

    #[test]
    fn a_log_without_end_marks_is_joined_too() {
        let (mut assembler, mut out) = (Assembler::new(Origin::Log), Vec::new());
        assembler.push(stamped(kinds::SYSCALL, 1, "pid=1"), 0, &mut out);
        assembler.push(stamped(kinds::PROCTITLE, 1, "proctitle=\"a\""), 0, &mut out);
        assembler.push(stamped(kinds::CWD, 1, "cwd=\"/\""), 1, &mut out);
        assembler.expire(LOG_SETTLE, &mut out);
        assert_eq!((serials(&out), out[0].records.len()), (vec![1], 3), "a line behind the last is joined still");
        assembler.push(stamped(kinds::SYSCALL, 2, "pid=1"), 0, &mut out);
        assembler.expire(JOIN_MAX, &mut out);
        assert_eq!(serials(&out), [1, 2]);
    }

    #[test]
    fn equal_stamps_of_two_nodes_are_two_events() {
        let (mut assembler, mut out) = (Assembler::new(Origin::Log), Vec::new());
        for (node, kind) in [("a", "SYSCALL"), ("b", "SYSCALL"), ("a", "CWD"), ("b", "CWD")] {
            let line = format!("node={node} type={kind} msg=audit(1.002:3): pid=1");
            assembler.push(Stamped::from_line(line.as_bytes()).unwrap(), 0, &mut out);
        }
        assembler.expire(JOIN_MAX, &mut out);
        let told: Vec<_> = out.iter().map(|event| (event.position(), event.records.len())).collect();
        assert_eq!(told, [("a 1.002:3".to_owned(), 2), ("b 1.002:3".to_owned(), 2)]);
        // Another node's process of that number is not the one that is awaited.
        out.clear();
        for (node, kind, serial) in [("a", "USER_CMD", 4), ("b", "CRED_REFR", 5), ("a", "CRED_REFR", 6)] {
            let line = format!("node={node} type={kind} msg=audit(1.002:{serial}): pid=9 msg='acct=\"x\" res=success'");
            assembler.push(Stamped::from_line(line.as_bytes()).unwrap(), 0, &mut out);
        }
        assert_eq!(serials(&out), [5, 4, 6]);
    }

    #[test]
    fn one_event_can_not_take_all_memory() {
        let (mut assembler, mut out) = (Assembler::new(Origin::Kernel), Vec::new());
        let text = "x".repeat(EVENT_BYTES_MAX / 2 - 100);
        for _ in 0..5 {
            assembler.push(stamped(kinds::EXECVE, 1, &text), 0, &mut out);
        }
        assembler.push(stamped(kinds::EOE, 1, ""), 0, &mut out);
        assert_eq!((out[0].records.len(), out[0].cut.records), (2, 3));
    }

    proptest! {
        /// Whatever arrives in whatever order: every record is in exactly one event or counted as cut.
        #[test]
        fn no_record_is_lost_or_doubled(steps in proptest::collection::vec((0u16..6, 1u32..40, 0u64..700), 1..600)) {
            let kinds = [kinds::SYSCALL, kinds::CWD, kinds::PROCTITLE, kinds::EOE, kinds::USER_CMD, kinds::CRED_REFR];
            let (mut assembler, mut out, mut now, mut sent) = (Assembler::new(Origin::Kernel), Vec::new(), 0, 0);
            for (kind, serial, wait) in steps {
                now += wait;
                let kind = kinds[usize::from(kind)];
                sent += usize::from(kind != kinds::EOE);
                assembler.push(stamped(kind, serial, "pid=1 msg='res=success'"), now, &mut out);
                assembler.expire(now, &mut out);
            }
            assembler.expire(u64::MAX, &mut out);
            prop_assert!(assembler.is_empty());
            prop_assert_eq!(out.iter().map(|event| event.records.len()).sum::<usize>(), sent);
        }
    }
}
