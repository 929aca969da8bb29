//! The uplink's view: what may leave, what a receipt releases, what a collector's word makes of it.

use std::time::{Duration, Instant};

use edgetrail_link::outbox::{CollectorPosition, Outbox, OutboxError, Reconciled};
use edgetrail_proto::chain::{Hash, Receipt, ReceiptSigner};
use edgetrail_proto::identity::StreamId;
use tokio::sync::oneshot;

use super::super::{Buffer, BufferTask, Caller, Limits, Shelf};
use super::*;
use crate::observation::{Answer, Outcome};
use crate::sources::api::AnswerAfter;

/// More than any seal takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Running {
    dir: tempfile::TempDir,
    buffer: Buffer,
    task: BufferTask,
    shelf: Shelf,
}

fn run() -> Running {
    run_within(Limits::default())
}

fn run_within(limits: Limits) -> Running {
    let dir = tempfile::tempdir().unwrap();
    super::super::prepare(&Medium::real(), dir.path()).unwrap();
    let (buffer, task, shelf) =
        Buffer::open(&Medium::real(), dir.path(), opener(dir.path(), "web-1"), Reporter::new(host()), limits).unwrap();
    Running { dir, buffer, task, shelf }
}

fn caller(after: AnswerAfter) -> (Caller, oneshot::Receiver<Outcome>) {
    let (sender, receiver) = oneshot::channel();
    (Caller { answer: Answer(sender), outcome: Outcome::Committed { event_ids: Vec::new() }, after }, receiver)
}

/// Waits until it holds, looking whenever the writer published something.
fn until(shelf: &Shelf, or: &str, holds: impl Fn() -> bool) {
    let mut changes = shelf.changes();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let seen =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, changes.wait_for(|_| holds())).await.map(|seen| seen.is_ok()) });
    assert_eq!(seen, Ok(true), "{or}");
}

impl Running {
    /// Commits and seals at once.
    fn sealed(&self, record: &str) -> (StreamId, u64, oneshot::Receiver<Outcome>) {
        let mut addition = addition(&[record]);
        let (caller, answer) = caller(AnswerAfter::Receipt);
        addition.caller(caller);
        let mut changes = self.shelf.changes();
        changes.borrow_and_update();
        self.buffer.append(addition).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while !changes.has_changed().unwrap() {
            assert!(Instant::now() < until, "the batch was not sealed");
            std::thread::yield_now();
        }
        let held = self.shelf.held().unwrap();
        let last = held.last().unwrap();
        (last.stream, last.unreceipted.last().unwrap().0, answer)
    }

    fn receipt(&self, stream: StreamId, k: u64) -> Receipt {
        let batch = self.shelf.batch(stream, k).unwrap().unwrap();
        ReceiptSigner::from_seed(&[9; 32]).sign(stream, k, batch.header.hash(), k, 5)
    }

    fn close(self) {
        self.buffer.close().unwrap();
        self.task.end().unwrap();
    }
}

#[test]
fn a_push_caller_is_answered_at_once_after_the_commit() {
    let running = run();
    let mut addition = addition(&["a"]);
    let (caller, answer) = caller(AnswerAfter::Commit);
    addition.caller(caller);
    let began = Instant::now();
    running.buffer.append(addition).unwrap();
    assert_eq!(answer.blocking_recv(), Ok(Outcome::Committed { event_ids: Vec::new() }));
    assert!(began.elapsed() < Duration::from_secs(5));
    let db = store::open_reader(&Medium::real(), running.dir.path()).unwrap();
    assert_eq!(store::depth(&db).unwrap().0, 1);
    running.close();
}

#[test]
fn a_lone_record_of_a_pull_source_is_committed_without_another_one() {
    let running = run();
    let db = store::open_reader(&Medium::real(), running.dir.path()).unwrap();
    running.buffer.append(addition(&["a"])).unwrap();
    until(&running.shelf, "never committed", || store::depth(&db).unwrap().0 > 0);
    running.close();
}

#[test]
fn a_receipt_releases_what_it_covers_and_answers_who_waited() {
    let running = run();
    let (stream, first, mut first_answer) = running.sealed("a");
    let (_, second, second_answer) = running.sealed("b");
    assert_eq!((first, second), (0, 1));
    // Whoever came with the first commit was looked at before the second.
    assert!(first_answer.try_recv().is_err(), "answered without a receipt");
    let receipt = running.receipt(stream, 1);
    running.shelf.store_receipt(&receipt).unwrap();
    assert!(first_answer.blocking_recv().is_ok() && second_answer.blocking_recv().is_ok());
    let held = running.shelf.held().unwrap();
    assert!(held[0].unreceipted.is_empty());
    assert_eq!(held[0].last_receipted.as_ref().map(|(header, _, stored)| (header.k, stored.clone())), Some((1, receipt.clone())));
    assert!(running.shelf.batch(stream, 0).unwrap().is_none());
    // The next header hashes it.
    let (_, third, _) = running.sealed("c");
    assert_eq!(running.shelf.batch(stream, third).unwrap().unwrap().header.last_receipt, receipt.message_hash());
    running.close();
}

#[test]
fn an_idle_stream_seals_heartbeats() {
    // A stream that beats a thousand times as seldom is not waited for.
    let heartbeat_interval = Duration::from_millis(200);
    assert!(heartbeat_interval * 1000 > PATIENCE);
    let running = run_within(Limits { heartbeat_interval, ..Limits::default() });
    let (stream, k, _answer) = running.sealed("a");
    until(&running.shelf, "silent", || running.shelf.batch(stream, k + 2).unwrap().is_some());
    let heartbeat = running.shelf.batch(stream, k + 2).unwrap().unwrap().header;
    assert_eq!((heartbeat.kind, heartbeat.count), (BatchKind::Heartbeat, 0));
    running.close();
}

#[test]
fn a_receipt_for_another_head_changes_nothing() {
    let running = run();
    let (stream, k, _answer) = running.sealed("a");
    let forged = ReceiptSigner::from_seed(&[9; 32]).sign(stream, k, Hash([3; 32]), 0, 5);
    running.shelf.store_receipt(&forged).unwrap();
    assert!(running.shelf.batch(stream, k).unwrap().is_some());
    assert!(running.shelf.held().unwrap()[0].last_receipted.is_none());
    running.close();
}

#[test]
fn a_close_ends_the_stream_and_is_held_until_its_receipt() {
    let running = run();
    let (stream, _, _answer) = running.sealed("a");
    let Running { dir, buffer, task, shelf: _shelf } = running;
    buffer.close().unwrap();
    task.end().unwrap();
    let (buffer, task, shelf) =
        Buffer::open(&Medium::real(), dir.path(), opener(dir.path(), "web-1"), Reporter::new(host()), Limits::default()).unwrap();
    let held = shelf.held().unwrap();
    assert_eq!(held.len(), 2);
    assert!(held[0].stream == stream && held[0].closed && held[0].unreceipted.len() == 2);
    buffer.close().unwrap();
    task.end().unwrap();
}

#[test]
fn a_gap_of_the_start_is_sealed_within_the_seal_interval() {
    let running = run();
    let (stream, _, _answer) = running.sealed("a");
    let Running { dir, buffer, task, shelf } = running;
    drop((buffer, shelf));
    // Without a close: the next start finds no orderly stop.
    task.end().unwrap();
    let (buffer, task, shelf) =
        Buffer::open(&Medium::real(), dir.path(), opener(dir.path(), "web-1"), Reporter::new(host()), Limits::default()).unwrap();
    until(&shelf, "the gap was not sealed", || shelf.batch(stream, 1).unwrap().is_some());
    buffer.close().unwrap();
    task.end().unwrap();
}

fn position(stream: StreamId, head: Option<(u64, Hash)>) -> CollectorPosition {
    CollectorPosition { stream, recorded: true, head, bound: None, superseded: false, frozen: false, missing: Vec::new() }
}

#[test]
fn a_head_of_this_chain_goes_on() {
    let running = run();
    let (stream, k, _answer) = running.sealed("a");
    let head = running.shelf.held().unwrap()[0].unreceipted[0];
    assert_eq!(head.0, k);
    let done = running.shelf.reconcile(Some(stream), &[position(stream, Some(head))]).unwrap();
    assert_eq!(done, Reconciled::Continue);
    running.close();
}

#[test]
fn a_head_that_this_chain_lacks_opens_a_successor_with_rehomed_records() {
    let running = run();
    let (stream, _, _answer) = running.sealed("a");
    let (_, _, _answer) = running.sealed("b");
    let receipt = running.receipt(stream, 0);
    running.shelf.store_receipt(&receipt).unwrap();
    let head = (7, Hash([7; 32]));
    assert_eq!(running.shelf.reconcile(Some(stream), &[position(stream, Some(head))]).unwrap(), Reconciled::Successor);
    let held = running.shelf.held().unwrap();
    assert!(held[0].unreceipted.is_empty());
    let open = Open::decode(&held[1].opening.open).unwrap();
    assert_eq!(open.cause, Cause::Rollback);
    assert_eq!(open.predecessor.map(|p| (p.stream, p.k, p.hash)), Some((stream, 7, head.1)));
    let body = running.shelf.batch(held[1].stream, 0).unwrap().unwrap().body;
    let records: Vec<_> = edgetrail_link::body::unframe(body.plain().unwrap()).map(|record| record.unwrap().to_vec()).collect();
    assert!(String::from_utf8_lossy(&records[0]).contains("ReportRehomed"));
    assert_eq!(records[1], b"b");
    running.close();
}

#[test]
fn a_later_stream_that_is_not_known_here_is_succeeded_with_cause_5() {
    let running = run();
    let (stream, k, _answer) = running.sealed("a");
    let head = running.shelf.held().unwrap()[0].unreceipted[0];
    assert_eq!(head.0, k);
    let later = StreamId::from_bytes([0x33; 16]);
    let mut old = position(stream, Some(head));
    (old.superseded, old.bound) = (true, Some(k));
    let later_head = (4, Hash([4; 32]));
    let done = running.shelf.reconcile(Some(later), &[old, position(later, Some(later_head))]).unwrap();
    assert_eq!(done, Reconciled::Successor);
    let open = Open::decode(&running.shelf.held().unwrap()[1].opening.open).unwrap();
    assert_eq!(open.cause, Cause::RestoredBehindLater);
    assert_eq!(open.predecessor.map(|p| (p.stream, p.k)), Some((later, 4)));
    running.close();
}

/// The last record of the newest stream's first batch.
fn last_rehomed(shelf: &Shelf) -> Vec<u8> {
    let batch = shelf.batch(shelf.held().unwrap().last().unwrap().stream, 0).unwrap().unwrap();
    edgetrail_link::body::unframe(batch.body.plain().unwrap()).last().unwrap().unwrap().to_vec()
}

/// Its open came to a collector that had a later stream already, so it takes nothing of it: `bound` is absent.
#[test]
fn what_a_collector_takes_nothing_of_any_more_is_rehomed() {
    let running = run();
    let (stream, _, _answer) = running.sealed("a");
    let late = CollectorPosition { superseded: true, ..position(stream, None) };
    assert_eq!(running.shelf.reconcile(Some(stream), &[late]).unwrap(), Reconciled::Successor);
    assert!(running.shelf.held().unwrap()[0].unreceipted.is_empty(), "it waits for ever");
    assert_eq!(last_rehomed(&running.shelf), b"a");
    running.close();
}

/// A restored collector knows the successor, which names more than it holds: up to there the old stream is sent still.
#[test]
fn what_was_rehomed_from_beyond_a_bound_is_not_rehomed_again_while_the_rest_waits_to_be_sent() {
    let running = run();
    let (stream, first, _answer) = running.sealed("a");
    let (_, _, _second) = running.sealed("b");
    let later = StreamId::from_bytes([0x33; 16]);
    let old = CollectorPosition { superseded: true, bound: Some(first), ..position(stream, None) };
    let positions = [old, position(later, Some((4, Hash([4; 32]))))];
    assert_eq!(running.shelf.reconcile(Some(later), &positions).unwrap(), Reconciled::Successor);
    assert_eq!(last_rehomed(&running.shelf), b"b");
    // The next session, before anything was taken.
    assert_eq!(running.shelf.reconcile(Some(later), &positions).unwrap(), Reconciled::Continue, "one successor after another");
    let waits: Vec<u64> = running.shelf.held().unwrap()[0].unreceipted.iter().map(|(k, _)| *k).collect();
    assert_eq!(waits.last(), Some(&first), "what the bound covers goes out under the old stream");
    running.close();
}

/// Sealed after the later stream began, as an image that was kept unsealed is, it would pass for a second branch.
#[test]
fn what_a_restored_host_has_in_streams_that_nobody_heard_of_goes_out_behind_the_later_one() {
    let running = run();
    let (stream, _, _answer) = running.sealed("a");
    let (later, head) = (StreamId::from_bytes([0x33; 16]), (4, Hash([4; 32])));
    let unheard = CollectorPosition { recorded: false, ..position(stream, None) };
    let done = running.shelf.reconcile(Some(later), &[unheard, position(later, Some(head))]).unwrap();
    assert_eq!(done, Reconciled::Successor);
    // A batch of it would be a fork, and its open a second successor, which sends the agent back for ever.
    assert!(running.shelf.held().unwrap().iter().all(|held| held.stream != stream), "it is still shown");
    assert_eq!(last_rehomed(&running.shelf), b"a");
    running.close();
}

#[test]
fn a_damaged_batch_is_named_then_dissolved_only_if_the_collector_lacks_it() {
    let running = run();
    let (stream, _, _answer) = running.sealed("a");
    let (_, _, _answer) = running.sealed("b");
    let (_, _, _answer) = running.sealed("c");
    let second = running.shelf.batch(stream, 1).unwrap().unwrap();
    let db = rusqlite::Connection::open(running.dir.path().join(super::super::BUFFER_FILE)).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    db.execute(
        "UPDATE body SET records = x'0000000178' WHERE id = (SELECT body FROM chunk WHERE first_seq = ?1)",
        [i64::try_from(second.header.first_seq).unwrap()],
    )
    .unwrap();
    assert!(matches!(running.shelf.batch(stream, 1), Err(OutboxError::Damaged { k: 1, .. })));
    let first = running.shelf.held().unwrap()[0].unreceipted[0];
    assert_eq!(running.shelf.reconcile(Some(stream), &[position(stream, Some(first))]).unwrap(), Reconciled::Successor);
    let held = running.shelf.held().unwrap();
    assert_eq!(held[0].unreceipted, [first]);
    let open = Open::decode(&held[1].opening.open).unwrap();
    assert_eq!((open.cause, open.predecessor.map(|p| p.k)), (Cause::BufferOrKeyLost, Some(2)));
    let batch = running.shelf.batch(held[1].stream, 0).unwrap().unwrap();
    let records: Vec<String> = edgetrail_link::body::unframe(batch.body.plain().unwrap())
        .map(|record| String::from_utf8_lossy(record.unwrap()).into_owned())
        .collect();
    assert!(records[0].contains("ReportRehomed") && records[1].contains(r#""count":1"#), "{records:?}");
    assert_eq!(records[2], "c");
    assert!(batch.header.counters.balance(end_seq(&batch.header)));
    running.close();
}
