//! Batches that are missing: who waits, who goes on, what is reported, what comes late. docs/protocol.md §9.

use super::*;

fn receipt_by(seed: u8, batch: &Incoming) -> Evidence {
    let signer = ReceiptSigner::from_seed(&[seed; 32]);
    let receipt = signer.sign(batch.header.stream, batch.header.k, batch.hash, 100, 9000);
    Evidence::new(batch.header.clone(), batch.seal, receipt).unwrap()
}

fn key_of(seed: u8) -> Hash {
    Hash::of(&ReceiptSigner::from_seed(&[seed; 32]).public_key().0)
}

/// A stream of six batches, of which the ledger holds the first two.
async fn two_of_six(bench: &Bench) -> (TestStream, Vec<TestStream>) {
    let mut stream = TestStream::new(1, 1);
    bench.ledger.record_open((stream.info)()).await.unwrap();
    let mut before = Vec::new();
    for name in ["A", "B", "C", "D", "E", "F"] {
        before.push(stream.clone());
        let batch = stream.seal(&[name]);
        if batch.header.k < 2 {
            bench.ledger.commit(batch).await.unwrap();
        }
    }
    (stream, before)
}

fn batch(before: &[TestStream], k: usize) -> Incoming {
    before[k].clone().seal(&[["A", "B", "C", "D", "E", "F"][k]])
}

/// The ledger's own key is seed 7, see [`Bench::open_with`].
const OWN: u8 = 7;
const RELAY: u8 = 8;

#[tokio::test]
async fn home_waits_for_a_relay_and_goes_on_once_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let (_, before) = two_of_six(&bench).await;
    let evidence = receipt_by(RELAY, &batch(&before, 3));
    for is_new in [true, false] {
        match bench.ledger.take_up(evidence.clone()).await.unwrap() {
            TakenUp::Waits(waiting) => {
                assert_eq!((waiting.from, waiting.to, waiting.is_new), (2, 3, is_new));
                assert_eq!((waiting.signer, waiting.head.k), (key_of(RELAY), Some(1)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(bench.ledger.commit(batch(&before, 4)).await, Err(CommitError::Expect { .. })), "above a hole");
    assert_eq!(bench.ledger.waiting().unwrap().len(), 1);
    let beside = waiting_in(&Medium::real(), dir.path()).unwrap();
    assert_eq!(beside.iter().map(|it| (it.from, it.to)).collect::<Vec<_>>(), [(2, 3)], "as the command reads it");
    assert!(bench.ledger.unreported(9).unwrap().is_empty());

    let given_up = bench.ledger.forget(key_of(RELAY)).await.unwrap();
    assert_eq!(given_up.iter().map(|it| (it.from, it.to, it.records)).collect::<Vec<_>>(), [(2, 3, Some(2))]);
    assert!(bench.ledger.waiting().unwrap().is_empty());
    bench.ledger.commit(batch(&before, 4)).await.unwrap();
    assert_eq!(names(&bench.ledger), ["A", "B", "E"]);
    assert_eq!(bench.ledger.missing(stream_id(1)).unwrap(), [(2, 3)]);

    let [loss] = bench.ledger.unreported(9).unwrap().try_into().unwrap();
    assert_eq!((loss.from, loss.to, loss.why), (2, 3, Why::CollectorLost { signer: key_of(RELAY) }));
    bench.ledger.reported(loss.id).await.unwrap();
    assert!(bench.ledger.unreported(9).unwrap().is_empty());

    // From now on its receipts anchor at once.
    let taken = bench.ledger.take_up(receipt_by(RELAY, &batch(&before, 5))).await.unwrap();
    assert!(matches!(taken, TakenUp::GoesOn { missing: Some(Missing { from: 5, to: 5, .. }), .. }), "{taken:?}");
    bench.close().await.unwrap();
    let bench = Bench::open(dir.path());
    assert_eq!(bench.ledger.stream(stream_id(1)).unwrap().unwrap().head.k, Some(5), "an anchored head survives a start");
    assert_eq!(bench.ledger.missing(stream_id(1)).unwrap(), [(2, 3), (5, 5)]);
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_restored_home_goes_on_behind_its_own_receipt_with_the_counters_of_that_header() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let (_, before) = two_of_six(&bench).await;
    let anchor = batch(&before, 4);
    match bench.ledger.take_up(receipt_by(OWN, &anchor)).await.unwrap() {
        TakenUp::GoesOn { head, missing } => {
            assert_eq!((head.k, head.hash, head.counters, head.next_seq), (Some(4), anchor.hash, anchor.header.counters, 5));
            assert_eq!(missing.map(|it| (it.from, it.to, it.records)), Some((2, 4, Some(3))));
        }
        other => panic!("{other:?}"),
    }
    bench.ledger.commit(batch(&before, 5)).await.unwrap();
    assert_eq!(names(&bench.ledger), ["A", "B", "F"]);
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_key_that_signed_before_a_restore_is_still_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    bench.ledger.sign_with(Arc::new(ReceiptSigner::from_seed(&[9; 32])));
    let (_, before) = two_of_six(&bench).await;
    assert_eq!(bench.ledger.receipt(stream_id(1), 1).unwrap().unwrap().key, key_of(9));
    let taken = bench.ledger.take_up(receipt_by(OWN, &batch(&before, 3))).await.unwrap();
    assert!(matches!(taken, TakenUp::GoesOn { missing: Some(_), .. }));
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_relay_takes_up_at_once_and_gives_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(dir.path(), |options| options.role = Role::Relay);
    let (_, before) = two_of_six(&bench).await;
    let taken = bench.ledger.take_up(receipt_by(OWN, &batch(&before, 3))).await.unwrap();
    assert!(matches!(taken, TakenUp::GoesOn { missing: None, .. }));
    bench.ledger.commit(batch(&before, 4)).await.unwrap();
    assert!(bench.ledger.unreported(9).unwrap().is_empty());
    let anchors = bench.ledger.anchors(stream_id(1)).unwrap();
    assert_eq!(anchors.iter().map(|anchor| anchor.header.k).collect::<Vec<_>>(), [3], "forwarded to home");
    bench.close().await.unwrap();
}

#[tokio::test]
async fn what_was_given_up_is_taken_late_and_once_in_either_direction() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let (_, before) = two_of_six(&bench).await;
    bench.ledger.take_up(receipt_by(OWN, &batch(&before, 5))).await.unwrap();
    // Batches 2 to 5 are missing: 5 is the anchor, 4 is named by it, 2 follows what is held; 3 hangs in the air.
    assert!(matches!(bench.ledger.commit(batch(&before, 3)).await, Err(CommitError::Expect { .. })));
    for k in [5, 2, 4] {
        bench.ledger.commit(batch(&before, k)).await.unwrap();
    }
    assert_eq!(bench.ledger.missing(stream_id(1)).unwrap(), [(3, 3)]);
    bench.ledger.commit(batch(&before, 3)).await.unwrap();
    assert!(matches!(bench.ledger.commit(batch(&before, 3)).await, Err(CommitError::Duplicate(_))));
    assert!(bench.ledger.missing(stream_id(1)).unwrap().is_empty());
    let mut all = names(&bench.ledger);
    all.sort_unstable();
    assert_eq!(all, ["A", "B", "C", "D", "E", "F"]);
    assert_eq!(bench.ledger.stream(stream_id(1)).unwrap().unwrap().head.k, Some(5), "the head stays");
    bench.close().await.unwrap();
}

#[tokio::test]
async fn behind_a_head_that_a_trusted_receipt_names_a_missing_run_comes_late() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let (_, before) = two_of_six(&bench).await;
    bench.ledger.take_up(receipt_by(OWN, &batch(&before, 5))).await.unwrap();
    // A relay's copy begins at batch 4: what it shows is the receipt for 3.
    let shown = bench.ledger.take_up(receipt_by(RELAY, &batch(&before, 3))).await.unwrap();
    assert!(matches!(shown, TakenUp::GoesOn { missing: None, .. }));
    bench.ledger.commit(batch(&before, 4)).await.unwrap();
    assert_eq!(bench.ledger.missing(stream_id(1)).unwrap(), [(2, 3), (5, 5)]);
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_late_batch_of_another_branch_is_a_fork() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let (_, before) = two_of_six(&bench).await;
    bench.ledger.take_up(receipt_by(OWN, &batch(&before, 2))).await.unwrap();
    let other = before[2].clone().seal(&["X"]);
    assert!(matches!(bench.ledger.commit(other).await, Err(CommitError::Fork { k: 2, .. })));
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_receipt_for_another_head_than_the_ledgers_is_a_fork() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let (_, before) = two_of_six(&bench).await;
    let other = before[1].clone().seal(&["X"]);
    assert!(matches!(bench.ledger.take_up(receipt_by(RELAY, &other)).await, Err(CommitError::Fork { k: 1, .. })));
    assert!(bench.ledger.streams_of(agent(1)).unwrap().iter().all(|state| state.is_frozen()));
    bench.close().await.unwrap();
}
