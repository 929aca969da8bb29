//! docs/protocol.md §9, order of opens.

use super::*;

/// The stream that nothing supersedes.
fn current(ledger: &Ledger) -> Vec<StreamId> {
    let streams = ledger.streams_of(agent(1)).unwrap();
    streams.iter().filter(|state| state.superseded_by.is_none()).map(|state| state.info.stream).collect()
}

#[tokio::test]
async fn an_open_supersedes_the_former_stream_and_twice_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let mut first = TestStream::new(1, 1);
    for _ in 0..2 {
        assert!(!bench.ledger.record_open((first.info)()).await.unwrap().superseded);
    }
    bench.ledger.commit(first.seal(&["A"])).await.unwrap();
    let second = TestStream::after(&first, 2, Cause::AfterClose, 2000);
    assert!(!bench.ledger.record_open((second.info)()).await.unwrap().superseded);
    assert!(bench.ledger.record_open((first.info)()).await.unwrap().superseded);
    assert_eq!(current(&bench.ledger), [stream_id(2)]);
    assert_eq!(bench.ledger.stream(stream_id(1)).unwrap().unwrap().bound, Some(0));
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_predecessor_that_never_sealed_takes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let mut first = TestStream::new(1, 1);
    bench.ledger.record_open((first.info)()).await.unwrap();
    let second = TestStream::after(&first, 2, Cause::BufferOrKeyLost, 2000);
    bench.ledger.record_open((second.info)()).await.unwrap();
    let state = bench.ledger.stream(stream_id(1)).unwrap().unwrap();
    assert_eq!((state.bound, state.superseded_by), (None, Some(stream_id(2))));
    assert!(matches!(bench.ledger.commit(first.seal(&["A"])).await, Err(CommitError::Expect { .. })));
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_predecessor_that_comes_late_is_recorded_as_superseded_up_to_what_was_named() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let mut first = TestStream::new(1, 1);
    let opened = (first.info)();
    let batches = [first.seal(&["A"]), first.seal(&["B"])];
    let second = TestStream::after(&first, 2, Cause::AfterClose, 2000);
    bench.ledger.record_open((second.info)()).await.unwrap();
    assert!(bench.ledger.record_open(opened).await.unwrap().superseded);
    for batch in batches {
        bench.ledger.commit(batch).await.unwrap();
    }
    assert_eq!(current(&bench.ledger), [stream_id(2)]);
    assert!(matches!(bench.ledger.commit(first.seal(&["C"])).await, Err(CommitError::Expect { .. })));
    bench.close().await.unwrap();
}

#[tokio::test]
async fn one_opened_before_the_current_stream_is_recorded_as_superseded() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    bench.ledger.record_open((TestStream::with(1, 1, |open| open.t_opened = 3000).info)()).await.unwrap();
    let older = TestStream::with(1, 2, |open| open.t_opened = 2000);
    assert!(bench.ledger.record_open((older.info)()).await.unwrap().superseded);
    assert_eq!(current(&bench.ledger), [stream_id(1)]);
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_second_successor_is_told_the_latest_stream_and_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let mut first = TestStream::new(1, 1);
    bench.ledger.record_open((first.info)()).await.unwrap();
    bench.ledger.commit(first.seal(&["A"])).await.unwrap();
    let second = TestStream::after(&first, 2, Cause::AfterClose, 2000);
    bench.ledger.record_open((second.info)()).await.unwrap();

    let restored = TestStream::after(&first, 3, Cause::Rollback, 3000);
    match bench.ledger.record_open((restored.info)()).await {
        Err(CommitError::Behind { latest }) => assert_eq!(latest, stream_id(2)),
        other => panic!("{other:?}"),
    }
    assert!(bench.ledger.stream(stream_id(3)).unwrap().is_none());
    let behind = TestStream::after(&second, 4, Cause::RestoredBehindLater, 3001);
    bench.ledger.record_open((behind.info)()).await.unwrap();
    assert_eq!(current(&bench.ledger), [stream_id(4)]);
    bench.close().await.unwrap();
}

#[tokio::test]
async fn an_open_without_its_predecessor_follows_by_the_agents_id() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let mut first = TestStream::new(1, 1);
    bench.ledger.record_open((first.info)()).await.unwrap();
    bench.ledger.commit(first.seal(&["A"])).await.unwrap();
    let amnesiac = TestStream::with(1, 2, |open| (open.cause, open.t_opened) = (Cause::BufferOrKeyLost, 2000));
    assert!(!bench.ledger.record_open((amnesiac.info)()).await.unwrap().superseded);
    assert_eq!(bench.ledger.stream(stream_id(1)).unwrap().unwrap().bound, Some(0));
    assert_eq!(current(&bench.ledger), [stream_id(2)]);
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_second_successor_that_a_relay_brings_is_a_fork() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let first = TestStream::new(1, 1);
    bench.ledger.record_open((first.info)()).await.unwrap();
    bench.ledger.record_open((TestStream::after(&first, 2, Cause::AfterClose, 2000).info)()).await.unwrap();
    let other = TestStream::after(&first, 3, Cause::AfterClose, 2001);
    assert!(matches!(bench.ledger.record_open_by((other.info)(), Bringer::Relay, 0).await, Err(CommitError::Fork { .. })));
    assert!(bench.ledger.streams_of(agent(1)).unwrap().iter().all(|state| state.is_frozen()));
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_stream_that_was_followed_by_the_agents_id_alone_may_still_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let first = TestStream::new(1, 1);
    bench.ledger.record_open((first.info)()).await.unwrap();
    // Its buffer lost, the agent names nothing; told of the first stream, it opens a successor of it besides.
    let linked = TestStream::with(1, 2, |open| open.t_opened = 2000);
    bench.ledger.record_open((linked.info)()).await.unwrap();
    let named = TestStream::after(&first, 3, Cause::RestoredBehindLater, 2001);
    assert!(!bench.ledger.record_open((named.info)()).await.unwrap().superseded);
    assert_eq!(current(&bench.ledger), [stream_id(3)]);
    bench.close().await.unwrap();
}

#[tokio::test]
async fn an_open_that_names_the_current_stream_follows_it_whatever_the_hosts_clock_says() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let mut first = TestStream::with(1, 1, |open| open.t_opened = 3000);
    bench.ledger.record_open((first.info)()).await.unwrap();
    bench.ledger.commit(first.seal(&["A"])).await.unwrap();
    // The clock went back between the two, and once more.
    let mut second = TestStream::after(&first, 2, Cause::AfterClose, 2000);
    assert!(!bench.ledger.record_open((second.info)()).await.unwrap().superseded);
    bench.ledger.commit(second.seal(&["B"])).await.unwrap();
    let mut third = TestStream::after(&second, 3, Cause::AfterClose, 1000);
    assert!(!bench.ledger.record_open((third.info)()).await.unwrap().superseded);
    bench.ledger.commit(third.seal(&["C"])).await.unwrap();
    assert_eq!(current(&bench.ledger), [stream_id(3)]);
    assert_eq!(bench.ledger.stream(stream_id(2)).unwrap().unwrap().bound, Some(0));
    // Told of it, a host that lost everything names it too.
    let told = TestStream::after(&third, 4, Cause::RestoredBehindLater, 500);
    assert!(!bench.ledger.record_open((told.info)()).await.unwrap().superseded);
    assert_eq!(names(&bench.ledger), ["A", "B", "C"]);
    bench.close().await.unwrap();
}

/// A ledger whose clock says 9000, with a stream opened at 3000 and two batches that its agent has not brought yet: sealed
/// at 3002 and 3003. Its successor names the first batch alone, as an older disk would, and was opened at 2000: the clock went
/// back.
async fn opened_by_a_clock_that_went_back(dir: &Path) -> (Bench, TestStream) {
    let time = Arc::new(AtomicU64::new(9000));
    let bench = Bench::open_with(dir, |options| options.clock = clock(&time));
    let mut first = TestStream::with(1, 1, |open| open.t_opened = 3000);
    bench.ledger.record_open((first.info)()).await.unwrap();
    bench.ledger.commit(first.seal(&["A"])).await.unwrap();
    let successor = TestStream::after(&first, 2, Cause::Rollback, 2000);
    assert!(!bench.ledger.record_open((successor.info)()).await.unwrap().superseded);
    (bench, first)
}

#[tokio::test]
async fn an_honest_agent_whose_clock_went_back_is_not_accused_of_what_it_sealed_before() {
    let dir = tempfile::tempdir().unwrap();
    let (bench, mut first) = opened_by_a_clock_that_went_back(dir.path()).await;
    for name in ["B", "C"] {
        bench.ledger.commit(Incoming { bringer: Bringer::Relay, ..first.seal(&[name]) }).await.unwrap();
    }
    assert_eq!(names(&bench.ledger), ["A", "B", "C"]);
    assert!(!bench.ledger.stream(stream_id(1)).unwrap().unwrap().is_frozen());
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_clone_that_goes_on_beside_an_agent_whose_clock_went_back_is_a_fork() {
    for bringer in [Bringer::Agent, Bringer::Relay] {
        let dir = tempfile::tempdir().unwrap();
        let (bench, mut clone) = opened_by_a_clock_that_went_back(dir.path()).await;
        clone.t_sealed = 9001;
        let batch = Incoming { bringer, ..clone.seal(&["X"]) };
        assert!(matches!(bench.ledger.commit(batch).await, Err(CommitError::Fork { k: 1, .. })));
        bench.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_successor_opened_before_the_batch_that_it_names_counts_from_when_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let time = Arc::new(AtomicU64::new(9000));
    let bench = Bench::open_with(dir.path(), |options| options.clock = clock(&time));
    let mut first = TestStream::new(1, 1);
    first.t_sealed = 5000;
    bench.ledger.record_open((first.info)()).await.unwrap();
    bench.ledger.commit(first.seal(&["A"])).await.unwrap();
    let successor = TestStream::after(&first, 2, Cause::Rollback, 2000);
    bench.ledger.record_open((successor.info)()).await.unwrap();
    bench.ledger.commit(Incoming { bringer: Bringer::Relay, ..first.seal(&["tail"]) }).await.unwrap();
    bench.close().await.unwrap();
}

#[tokio::test]
async fn an_opens_cost_does_not_grow_with_the_agents_streams() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let mut last = TestStream::new(1, 1);
    bench.ledger.record_open((last.info)()).await.unwrap();
    for number in 2..200 {
        let next = TestStream::after(&last, number, Cause::BufferOrKeyLost, 1000 + u64::from(number));
        bench.ledger.record_open((next.info)()).await.unwrap();
        last = next;
    }
    let reader = Connection::open(dir.path().join("ledger.sqlite")).unwrap();
    let next = TestStream::after(&last, 200, Cause::BufferOrKeyLost, 2000);
    let about: Vec<StreamId> =
        store::streams_about(&reader, &next.open).unwrap().into_iter().map(|row| row.state.info.stream).collect();
    assert_eq!(about, [stream_id(199)]);
    let again =
        TestStream::with(1, 201, |open| open.predecessor = Some(Predecessor { stream: stream_id(7), k: 0, hash: Hash::ZERO }));
    let about: Vec<StreamId> =
        store::streams_about(&reader, &again.open).unwrap().into_iter().map(|row| row.state.info.stream).collect();
    assert_eq!(about, [stream_id(7), stream_id(8), stream_id(199)], "the one it names, that one's successor, the current one");
    assert_eq!(bench.ledger.latest(agent(1)).unwrap().map(|state| state.info.stream), Some(stream_id(199)));
    bench.close().await.unwrap();
}
