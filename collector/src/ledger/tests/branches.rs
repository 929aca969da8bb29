//! docs/protocol.md §9: duplicates, holes, closes, forks.

use super::*;

/// A ledger with one stream of three batches, and copies of the batches.
async fn three_batches(dir: &Path) -> (Bench, TestStream, Vec<TestStream>) {
    let bench = Bench::open(dir);
    let mut stream = TestStream::new(1, 1);
    bench.ledger.record_open((stream.info)()).await.unwrap();
    let mut before = Vec::new();
    for name in ["A", "B", "C"] {
        before.push(stream.clone());
        bench.ledger.commit(stream.seal(&[name])).await.unwrap();
    }
    (bench, stream, before)
}

#[tokio::test]
async fn the_same_batch_twice_is_one_and_gets_the_same_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let (bench, _, before) = three_batches(dir.path()).await;
    let receipt = bench.ledger.receipt(stream_id(1), 1).unwrap().unwrap();
    match bench.ledger.commit(before[1].clone().seal(&["B"])).await {
        Err(CommitError::Duplicate(committed)) => assert_eq!(bench.ledger.sign(&committed), receipt),
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&bench.ledger), ["A", "B", "C"]);
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_hole_or_another_chain_is_told_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let (bench, mut stream, _) = three_batches(dir.path()).await;
    let head = bench.ledger.stream(stream_id(1)).unwrap().unwrap().head;
    drop(stream.seal(&["lost"]));
    let mut other = TestStream::new(1, 1);
    (0..3).for_each(|_| drop(other.seal(&["X"])));
    for batch in [stream.seal(&["D"]), other.seal(&["D"])] {
        match bench.ledger.commit(batch).await {
            Err(CommitError::Expect { head: told }) => assert_eq!(*told, head),
            other => panic!("{other:?}"),
        }
    }
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_second_branch_freezes_every_stream_of_the_agent_and_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (bench, mut stream, before) = three_batches(dir.path()).await;
    let fork = before[2].clone().seal(&["forged"]);
    let (fork_hash, fork_body) = (fork.hash, fork.body.clone());
    assert!(matches!(bench.ledger.commit(fork).await, Err(CommitError::Fork { k: 2, .. })));
    assert!(matches!(bench.ledger.commit(stream.seal(&["D"])).await, Err(CommitError::Frozen { .. })));
    assert!(bench.ledger.streams_of(agent(1)).unwrap().iter().all(|state| state.is_frozen()));
    assert_eq!(names(&bench.ledger), ["A", "B", "C"]);

    let successor = TestStream::after(&stream, 2, Cause::AfterClose, 5000);
    assert!(matches!(bench.ledger.record_open((successor.info)()).await, Err(CommitError::Frozen { .. })));
    bench.close().await.unwrap();
    let evidence = Connection::open(dir.path().join("ledger.sqlite")).unwrap();
    let kept: ([u8; 32], Vec<u8>) = evidence
        .query_row("SELECT branch, body FROM evidence_batches WHERE k = 2", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(kept, (fork_hash.0, fork_body.to_vec()));

    let bench = Bench::open(dir.path());
    // Opened by the rightful party meanwhile, and brought by it once it has joined again: it takes nothing.
    let frozen_at = bench.ledger.latest(agent(1)).unwrap().unwrap().frozen_at.unwrap();
    let meanwhile = |joined_at| bench.ledger.record_open_by((successor.info)(), Bringer::Agent, joined_at);
    assert!(matches!(meanwhile(frozen_at).await, Err(CommitError::Frozen { .. })), "joined before it was frozen");
    assert!(meanwhile(frozen_at + 1).await.unwrap().superseded);
    assert_eq!(bench.ledger.stream(stream_id(2)).unwrap().unwrap().bound, None);

    // A certificate that no branch has: the rightful one has joined again.
    let mut rejoined = TestStream::with(1, 3, |open| {
        open.cause = Cause::Fork;
        open.t_opened = 6000;
        open.certificate = Hash([2; 32]);
    });
    assert!(!bench.ledger.record_open((rejoined.info)()).await.unwrap().superseded);
    bench.ledger.commit(rejoined.seal(&["E"])).await.unwrap();
    assert!(matches!(bench.ledger.commit(stream.seal(&["F"])).await, Err(CommitError::Frozen { .. })));
    bench.close().await.unwrap();
}

#[tokio::test]
async fn nothing_follows_a_close_and_nothing_comes_without_an_open() {
    let dir = tempfile::tempdir().unwrap();
    let (bench, mut stream, _) = three_batches(dir.path()).await;
    bench.ledger.commit(stream.seal_as(BatchKind::Close, &[])).await.unwrap();
    assert!(matches!(bench.ledger.commit(stream.seal(&["D"])).await, Err(CommitError::Closed { .. })));
    let mut unknown = TestStream::new(2, 2);
    assert!(matches!(bench.ledger.commit(unknown.seal(&["A"])).await, Err(CommitError::Unknown { .. })));
    bench.close().await.unwrap();
}

#[tokio::test]
async fn beyond_a_bound_what_was_sealed_before_is_tail_and_what_was_sealed_after_is_a_fork() {
    let dir = tempfile::tempdir().unwrap();
    let (bench, stream, _) = three_batches(dir.path()).await;
    let mut stream = stream;
    // The successor names batch 3, which the ledger does not hold yet.
    let third = stream.seal(&["D"]);
    let successor = TestStream::after(&stream, 2, Cause::BufferOrKeyLost, 5000);
    bench.ledger.record_open((successor.info)()).await.unwrap();
    assert_eq!(bench.ledger.stream(stream_id(1)).unwrap().unwrap().bound, Some(3));
    bench.ledger.commit(third).await.unwrap();
    let mut clone = stream.clone();
    // Sealed before the successor was opened: the agent brings its records rehomed, a relay has the only copy.
    let tail = stream.clone().seal(&["tail"]);
    assert!(matches!(bench.ledger.commit(tail).await, Err(CommitError::Expect { .. })));
    bench.ledger.commit(Incoming { bringer: Bringer::Relay, ..stream.seal(&["tail"]) }).await.unwrap();
    assert_eq!(bench.ledger.stream(stream_id(1)).unwrap().unwrap().bound, Some(4));
    drop(clone.seal(&["tail"]));
    clone.t_sealed = 5001;
    assert!(matches!(bench.ledger.commit(clone.seal(&["E"])).await, Err(CommitError::Fork { k: 5, .. })));
    bench.close().await.unwrap();
}

#[tokio::test]
async fn beyond_the_bound_a_branch_is_counted_and_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let small = EvidenceBound { batches: 2, opens: 1, ..EvidenceBound::default() };
    let bench = Bench::open_with(dir.path(), |options| options.evidence = small);
    let mut stream = TestStream::new(1, 1);
    bench.ledger.record_open((stream.info)()).await.unwrap();
    let mut branch = stream.clone();
    bench.ledger.commit(stream.seal(&["A"])).await.unwrap();
    let batches: Vec<Incoming> = ["W", "X", "Y", "Z"].into_iter().map(|name| branch.seal(&[name])).collect();
    let hashes: Vec<Hash> = batches.iter().map(|batch| batch.hash).collect();
    for batch in batches {
        let refused = bench.ledger.commit(batch).await;
        assert!(matches!(refused, Err(CommitError::Fork { .. } | CommitError::Frozen { .. })), "{refused:?}");
    }
    let kept: Vec<bool> = hashes.iter().map(|hash| bench.ledger.keeps(stream_id(1), *hash).unwrap()).collect();
    assert_eq!(kept, [true, true, false, false]);
    assert!(!bench.ledger.has_opens_beyond(agent(1)).unwrap());
    for number in [7, 8, 8] {
        let open = TestStream::after(&stream, number, Cause::AfterClose, 5000);
        assert!(matches!(bench.ledger.record_open((open.info)()).await, Err(CommitError::Frozen { .. })));
    }
    assert!(bench.ledger.has_opens_beyond(agent(1)).unwrap());
    let forks = Forks::open(&Medium::real(), dir.path()).unwrap();
    let fork = &forks.list().unwrap()[0];
    assert_eq!((fork.batches, fork.opens, fork.beyond), (2, 1, 4));
    bench.close().await.unwrap();
}
