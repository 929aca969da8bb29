//! Whatever the moment of a crash: what was answered is there once, and what is there is whole.

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

const STREAMS: usize = 3;

/// What happens next to the ledger.
#[derive(Clone, Debug)]
enum Action {
    /// The next batch of a stream, with so many records.
    Next {
        stream: usize,
        records: usize,
    },
    /// The last batch again: its receipt was lost.
    Again {
        stream: usize,
    },
    /// A batch is left out.
    Skip {
        stream: usize,
    },
    /// The next batch, while the process dies at a step of its commit; then a restart.
    Crash {
        stream: usize,
        step: Step,
    },
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let stream = 0..STREAMS;
    prop_oneof![
        4 => (stream.clone(), 0..4usize).prop_map(|(stream, records)| Action::Next { stream, records }),
        1 => stream.clone().prop_map(|stream| Action::Again { stream }),
        1 => stream.clone().prop_map(|stream| Action::Skip { stream }),
        2 => (stream, prop_oneof![Just(Step::Written), Just(Step::Synced), Just(Step::Committed)])
            .prop_map(|(stream, step)| Action::Crash { stream, step }),
        1 => Just(Action::Restart),
    ]
}

/// The ledger as it should be: what each batch held, in order.
#[derive(Default)]
struct Model {
    batches: Vec<(StreamId, u64, Vec<String>)>,
}

/// Where the next commit dies.
type Doom = Arc<Mutex<Option<Step>>>;

fn open(dir: &Path, doom: &Doom) -> Bench {
    let doom = doom.clone();
    Bench::open_with(dir, |options| {
        // Small, so that segments follow each other and most reads go to disk.
        options.segment_bytes = 2000;
        options.tail_bytes = 4000;
        options.failpoint = Some(Box::new(move |step| {
            if *doom.lock().unwrap() == Some(step) {
                let (path, source) = ("doom".into(), std::io::Error::other("the process dies here"));
                return Err(LedgerError::Sync { path, source });
            }
            Ok(())
        }));
    })
}

async fn run(actions: Vec<Action>) {
    let dir = tempfile::tempdir().unwrap();
    let doom = Doom::default();
    let mut bench = open(dir.path(), &doom);
    let mut streams: Vec<TestStream> = (1..=3).map(|number| TestStream::new(number, number)).collect();
    for stream in &streams {
        bench.ledger.record_open((stream.info)()).await.unwrap();
    }
    let mut last: Vec<Option<(TestStream, Vec<String>)>> = vec![None; STREAMS];
    let mut model = Model::default();
    let mut number = 0;
    let mut fresh = |count: usize| -> Vec<String> {
        (0..count)
            .map(|_| {
                number += 1;
                format!("E{number}")
            })
            .collect()
    };

    for action in actions {
        match action {
            Action::Next { stream, records } => {
                let records = fresh(records);
                let before = streams[stream].clone();
                let texts: Vec<&str> = records.iter().map(String::as_str).collect();
                let batch = streams[stream].seal(&texts);
                model.batches.push((batch.header.stream, batch.header.k, records.clone()));
                let committed = bench.ledger.commit(batch).await.unwrap();
                assert_eq!(committed.index + 1, model.batches.len() as u64);
                last[stream] = Some((before, records));
            }
            Action::Again { stream } => {
                let Some((before, records)) = &last[stream] else { continue };
                let texts: Vec<&str> = records.iter().map(String::as_str).collect();
                let again = bench.ledger.commit(before.clone().seal(&texts)).await;
                assert!(matches!(again, Err(CommitError::Duplicate(_))), "{again:?}");
            }
            Action::Skip { stream } => {
                let mut ahead = streams[stream].clone();
                drop(ahead.seal(&[]));
                let skipped = bench.ledger.commit(ahead.seal(&[])).await;
                assert!(matches!(skipped, Err(CommitError::Expect { .. })), "{skipped:?}");
            }
            Action::Crash { stream, step } => {
                *doom.lock().unwrap() = Some(step);
                let records = fresh(2);
                let texts: Vec<&str> = records.iter().map(String::as_str).collect();
                let before = streams[stream].clone();
                let batch = streams[stream].seal(&texts);
                let (id, k) = (batch.header.stream, batch.header.k);
                let answer = bench.ledger.commit(batch).await;
                assert!(matches!(answer, Err(CommitError::Unavailable(_))), "a dying ledger promises nothing: {answer:?}");
                assert!(bench.close().await.is_err());
                *doom.lock().unwrap() = None;
                bench = open(dir.path(), &doom);
                if step == Step::Committed {
                    model.batches.push((id, k, records.clone()));
                    last[stream] = Some((before, records));
                } else {
                    // The agent has no receipt and brings the same batch again.
                    streams[stream] = before.clone();
                    bench.ledger.commit(streams[stream].seal(&texts)).await.unwrap();
                    model.batches.push((id, k, records.clone()));
                    last[stream] = Some((before, records));
                }
            }
            Action::Restart => {
                bench.close().await.unwrap();
                bench = open(dir.path(), &doom);
            }
        }
        check(&bench.ledger, &model);
    }
    bench.close().await.unwrap();
}

/// Index by index: stream, k, records, receipts that verify.
fn check(ledger: &Ledger, model: &Model) {
    assert_eq!(ledger.next_index(), model.batches.len() as u64);
    let mut from = 0;
    let mut batches = model.batches.iter();
    let key = ReceiptSigner::from_seed(&[7; 32]).public_key();
    while from < ledger.next_index() {
        for entry in ledger.read(from, 600).unwrap() {
            let (stream, k, names) = batches.next().unwrap();
            assert_eq!((entry.index, entry.header.stream, entry.header.k), (from, *stream, *k));
            let found: Vec<&str> = entry.records.iter().map(|record| record.facets.as_ref().unwrap().name.as_str()).collect();
            assert_eq!(found, *names);
            let receipt = ledger.receipt(*stream, *k).unwrap().unwrap();
            receipt.verify(&key).unwrap();
            assert_eq!((receipt.ledger_index, receipt.t_received, receipt.head), (entry.index, entry.t_received, entry.hash));
            from += 1;
        }
    }
    assert!(batches.next().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_answered_batch_is_there_once_and_in_order(actions in proptest::collection::vec(action(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(actions));
    }
}

/// A ledger with three batches, closed.
async fn closed(dir: &Path) {
    let bench = Bench::open(dir);
    let mut stream = TestStream::new(1, 1);
    bench.ledger.record_open((stream.info)()).await.unwrap();
    for name in ["A", "B", "C"] {
        bench.ledger.commit(stream.seal(&[name])).await.unwrap();
    }
    bench.close().await.unwrap();
}

fn segment(dir: &Path) -> PathBuf {
    dir.join("segments/00000001.seg")
}

#[tokio::test]
async fn what_no_commit_names_is_cut_off_at_start() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path()).await;
    let length = std::fs::metadata(segment(dir.path())).unwrap().len();
    let mut bytes = std::fs::read(segment(dir.path())).unwrap();
    bytes.extend_from_slice(&[0xab; 100]);
    std::fs::write(segment(dir.path()), bytes).unwrap();
    std::fs::write(dir.path().join("segments/00000002.seg"), b"begun").unwrap();

    let bench = Bench::open(dir.path());
    assert_eq!(std::fs::metadata(segment(dir.path())).unwrap().len(), length);
    assert!(!dir.path().join("segments/00000002.seg").exists());
    assert_eq!(names(&bench.ledger), ["A", "B", "C"]);
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_refused_group_leaves_nothing_and_its_batches_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(Mutex::new(false));
    let fails = full.clone();
    let bench = Bench::open_with(dir.path(), |options| {
        options.failpoint = Some(Box::new(move |step| match step {
            Step::Written if *fails.lock().unwrap() => {
                Err(LedgerError::Io { path: "full".into(), source: std::io::ErrorKind::StorageFull.into() })
            }
            _ => Ok(()),
        }));
    });
    let mut stream = TestStream::new(1, 1);
    bench.ledger.record_open((stream.info)()).await.unwrap();
    bench.ledger.commit(stream.seal(&["A"])).await.unwrap();
    let length = || std::fs::metadata(segment(dir.path())).unwrap().len();
    let (before, kept) = (length(), stream.clone());
    *full.lock().unwrap() = true;
    let refused = bench.ledger.commit(stream.seal(&["B"])).await;
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    assert_eq!(length(), before);
    *full.lock().unwrap() = false;
    bench.ledger.commit(kept.clone().seal(&["B"])).await.unwrap();
    assert_eq!(names(&bench.ledger), ["A", "B"]);
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_segment_shorter_than_its_commits_or_altered_is_named() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path()).await;
    let whole = std::fs::read(segment(dir.path())).unwrap();
    let opened = || Ledger::open(dir.path(), LedgerOptions::new(Arc::new(ReceiptSigner::from_seed(&[7; 32]))));

    std::fs::write(segment(dir.path()), &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(opened(), Err(LedgerError::Damaged { .. })));
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(segment(dir.path()), &flipped).unwrap();
    assert!(matches!(opened(), Err(LedgerError::Damaged { .. })));

    let mut flipped = whole;
    flipped[40] ^= 1;
    std::fs::write(segment(dir.path()), &flipped).unwrap();
    let bench = Bench::open(dir.path());
    assert!(matches!(bench.ledger.read(0, usize::MAX), Err(LedgerError::Damaged { .. })));
    bench.close().await.unwrap();
}

#[tokio::test]
async fn a_head_that_is_not_its_last_batch_keeps_the_ledger_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path()).await;
    let database = Connection::open(dir.path().join("ledger.sqlite")).unwrap();
    database.execute("DELETE FROM batches WHERE ledger_index = 2", []).unwrap();
    drop(database);
    let opened = Ledger::open(dir.path(), LedgerOptions::new(Arc::new(ReceiptSigner::from_seed(&[7; 32]))));
    assert!(matches!(opened, Err(LedgerError::Damaged { .. })));
}

#[tokio::test]
async fn commit_time_never_goes_backwards() {
    let dir = tempfile::tempdir().unwrap();
    let time = Arc::new(AtomicU64::new(5000));
    let mut stream = TestStream::new(1, 1);
    let mut received = Vec::new();
    for (now, name) in [(5000, "A"), (4000, "B"), (6000, "C"), (3000, "D")] {
        time.store(now, Ordering::SeqCst);
        let bench = Bench::open_with(dir.path(), |options| options.clock = clock(&time));
        bench.ledger.record_open((stream.info)()).await.unwrap();
        received.push(bench.ledger.commit(stream.seal(&[name])).await.unwrap().t_received);
        bench.close().await.unwrap();
    }
    assert_eq!(received, [5000, 5000, 6000, 6000]);
}

#[tokio::test]
async fn bodies_go_when_every_consumer_has_passed_and_headers_stay() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open_with(dir.path(), |options| {
        (options.segment_bytes, options.tail_bytes) = (500, 0);
        options.retention = Duration::ZERO;
        options.consumers = vec!["trails".to_owned(), "history".to_owned()];
    });
    let mut stream = TestStream::new(1, 1);
    bench.ledger.record_open((stream.info)()).await.unwrap();
    for _ in 0..6 {
        bench.ledger.commit(stream.seal(&["A"])).await.unwrap();
    }
    bench.ledger.release_now("trails", 6);
    released(&bench, &mut stream).await;
    assert_eq!(names(&bench.ledger).len(), 6, "one consumer has not passed");
    bench.ledger.release_now("history", 3);
    released(&bench, &mut stream).await;
    assert!(matches!(bench.ledger.read(0, 1), Err(LedgerError::Released { index: 0 })));
    assert_eq!(bench.ledger.read(3, 1).unwrap()[0].index, 3);
    assert_eq!(bench.ledger.index(0, 10, 100).unwrap().len(), 10);
    bench.close().await.unwrap();
}

/// Returns once the writer has done what it was asked to release. It takes a release and the commit after it as one group
/// and answers before it releases; a second commit's answer comes when that group is over.
async fn released(bench: &Bench, stream: &mut TestStream) {
    for _ in 0..2 {
        bench.ledger.commit(stream.seal(&[])).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_row_refuses_its_own_agent_and_nobody_else() {
    // What stands in a column can't be read, or is not of its type.
    for damage in ["UPDATE streams SET open = X'00'", "UPDATE streams SET next_key = X'00'"] {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path());
        let (mut damaged, mut whole) = (TestStream::new(1, 1), TestStream::new(2, 2));
        bench.ledger.record_open((damaged.info)()).await.unwrap();
        bench.ledger.record_open((whole.info)()).await.unwrap();
        bench.ledger.commit(damaged.seal(&["A"])).await.unwrap();
        let other = Connection::open(dir.path().join("ledger.sqlite")).unwrap();
        other.execute(&format!("{damage} WHERE agent = ?1"), [agent(1).as_bytes()]).unwrap();
        for round in 0..3 {
            // Together, so that they may share a transaction.
            let (refused, taken) = (bench.ledger.put(damaged.clone().seal(&["X"])), bench.ledger.put(whole.seal(&["B"])));
            let (refused, taken) = (refused.await.unwrap(), taken.await.unwrap());
            let refused = refused.committed().await;
            assert!(matches!(&refused, Err(CommitError::Unavailable(error)) if error.is_of_one_row()), "{refused:?}");
            assert_eq!(taken.committed().await.unwrap().k, round);
            assert!(bench.ledger.receipt(stream_id(2), round).unwrap().is_some());
        }
        assert!(bench.ledger.stream(stream_id(1)).is_err_and(|error| error.is_of_one_row()));
        bench.close().await.unwrap();
    }
}
