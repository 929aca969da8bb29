//! The writer without its thread: what it does of commands and time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;

use super::*;
use crate::buffer::scribe::Step;
use crate::buffer::tests::{addition, observed, opener, own, walk};
use crate::report::tests::host;

const START: u64 = 1_800_000_000_000_000_000;

struct Rig {
    writer: Writer,
    /// Wall time, Unix nanoseconds.
    clock: Arc<AtomicU64>,
    _commands: SyncSender<Command>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        crate::buffer::prepare(&Medium::real(), dir.path()).unwrap();
        let place = Place {
            medium: Medium::real(),
            dir: dir.path().to_owned(),
            opener: Arc::new(opener(dir.path(), "web-1")),
            reporter: Reporter::new(host()),
            published: Arc::new(Published::new()),
        };
        let clock = Arc::new(AtomicU64::new(START));
        let read = Arc::clone(&clock);
        let (commands, receiver) = sync_channel(COMMANDS_MAX);
        let writer = Writer::open(Arc::new(move || read.load(Ordering::Relaxed)), place, Limits::default(), receiver).unwrap();
        Self { writer, clock, _commands: commands, _dir: dir }
    }

    fn append(&mut self, record: &str) {
        self.writer.take(Command::Append(addition(&[record])));
    }

    /// A commit that goes wrong there.
    fn commit_failing(&mut self, record: &str, step: Step) {
        self.append(record);
        let (sender, _answer) = tokio::sync::oneshot::channel();
        let caller = Caller {
            answer: crate::observation::Answer(sender),
            outcome: Outcome::Committed { event_ids: Vec::new() },
            // Sealed at once: the key file is written in the same step.
            after: AnswerAfter::Receipt,
        };
        self.writer.staged.as_mut().unwrap().addition.caller(caller);
        self.writer.scribe.as_mut().unwrap().desk.fault = Some(step);
        self.writer.commit();
        assert!(self.writer.scribe.is_none(), "the files are let go of");
    }

    /// Opens the files again, commits and seals what is staged; gives the records of events, in order.
    fn recover(&mut self) -> Vec<String> {
        self.writer.reopen();
        self.writer.commit();
        self.writer.seal();
        observed(&walk(self.writer.scribe.as_ref().unwrap()))
    }
}

#[test]
fn what_comes_while_a_commit_is_in_doubt_stands_once_whatever_became_of_that_commit() {
    for step in [Step::BeforeCommit, Step::AfterCommit, Step::AfterSlot, Step::AfterErase] {
        let mut rig = Rig::new();
        rig.commit_failing("a", step);
        rig.append("b");
        rig.append("c");
        assert_eq!(rig.recover(), ["a", "b", "c"], "{step:?}");
        let cursor = crate::buffer::tests::cursor(rig.writer.scribe.as_ref().unwrap());
        assert_eq!(cursor, "c", "{step:?}");
    }
}

#[test]
fn a_second_commit_that_fails_leaves_what_came_between_in_order() {
    let mut rig = Rig::new();
    rig.commit_failing("a", Step::AfterCommit);
    rig.append("b");
    rig.writer.reopen();
    rig.commit_failing("c", Step::BeforeCommit);
    rig.append("d");
    assert_eq!(rig.recover(), ["a", "b", "c", "d"]);
}

#[test]
fn a_clock_that_is_set_on_a_busy_host_is_noted_within_the_interval() {
    let mut rig = Rig::new();
    let hour = 3_600_000_000_000;
    rig.clock.fetch_add(hour, Ordering::Relaxed);
    // Never idle for as long as a heartbeat takes: each look comes amid traffic.
    for record in ["a", "b", "c"] {
        rig.append(record);
        rig.writer.flush();
        rig.writer.seal();
        rig.writer.act();
    }
    assert!(own(&walk(rig.writer.scribe.as_ref().unwrap())[0]).is_empty(), "looked at before its time");
    rig.writer.looked_at = Instant::now().checked_sub(CLOCK_INTERVAL).unwrap();
    rig.append("d");
    rig.writer.act();
    rig.writer.commit();
    rig.writer.seal();
    let noted = own(&walk(rig.writer.scribe.as_ref().unwrap())[0]);
    assert!(noted.len() == 1 && noted[0].contains(r#""cause":"clock-step","count":0,"#), "{noted:?}");
}
