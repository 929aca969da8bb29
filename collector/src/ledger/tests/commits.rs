//! Commits in the ordinary course: order, shared transactions, reading back.

use super::*;

#[tokio::test]
async fn what_is_committed_is_read_in_order_from_memory_and_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let mut stream = TestStream::new(1, 1);
    bench.ledger.record_open((stream.info)()).await.unwrap();
    for (index, batch) in [stream.seal(&["A", "B"]), stream.seal(&[]), stream.seal(&["C"])].into_iter().enumerate() {
        assert_eq!(bench.ledger.commit(batch).await.unwrap().index, index as u64);
    }
    assert_eq!(names(&bench.ledger), ["A", "B", "C"]);
    let receipt = bench.ledger.receipt(stream_id(1), 2).unwrap().unwrap();
    bench.close().await.unwrap();

    let bench = Bench::open(dir.path());
    assert_eq!(bench.ledger.next_index(), 3);
    assert_eq!(names(&bench.ledger), ["A", "B", "C"]);
    assert_eq!(bench.ledger.receipt(stream_id(1), 2).unwrap().unwrap(), receipt, "a receipt is the same whenever it is made");
    assert_eq!(bench.ledger.commit(stream.seal(&["D"])).await.unwrap().index, 3);
    assert_eq!(names(&bench.ledger), ["A", "B", "C", "D"]);
    bench.close().await.unwrap();
}

#[tokio::test]
async fn batches_put_together_share_a_transaction_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let commits = Arc::new(AtomicU64::new(0));
    let counted = commits.clone();
    let bench = Bench::open_with(dir.path(), |options| {
        options.failpoint = Some(Box::new(move |step| {
            counted.fetch_add(u64::from(step == Step::Committed), Ordering::SeqCst);
            Ok(())
        }));
    });
    let mut streams: Vec<TestStream> = (1..=8).map(|number| TestStream::new(number, number)).collect();
    for stream in &streams {
        bench.ledger.record_open((stream.info)()).await.unwrap();
    }
    commits.store(0, Ordering::SeqCst);
    let batches: Vec<Incoming> =
        (0..16).flat_map(|_| streams.iter_mut().map(|stream| stream.seal(&["A"])).collect::<Vec<_>>()).collect();
    let mut pending = Vec::new();
    for batch in batches {
        pending.push(bench.ledger.put(batch).await.unwrap());
    }
    for (index, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.committed().await.unwrap().index, index as u64);
    }
    assert!(commits.load(Ordering::SeqCst) <= 16, "{} transactions for 128 batches", commits.load(Ordering::SeqCst));
    bench.close().await.unwrap();
}
