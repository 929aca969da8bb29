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
    assert!(matches!(bench.ledger.record_open_by((other.info)(), Bringer::Relay).await, Err(CommitError::Fork { .. })));
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
