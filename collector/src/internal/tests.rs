//! The internal stream over a real ledger: durable at the answer, unbroken over stops, visible over crashes.

use std::sync::Arc;

use edgetrail_disk::Medium;
use edgetrail_proto::chain::{Cause, ReceiptSigner, Verifier};

use super::*;
use crate::ledger::{Entry, LedgerOptions};

/// A collector's ledger and internal stream in a directory.
struct Bench {
    ledger: Ledger,
    internal: Internal,
    restored: Option<Restored>,
    stop: CancellationToken,
    ledger_stop: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
    ledger_tasks: tokio::task::JoinSet<()>,
}

impl Bench {
    async fn open(dir: &Path) -> Self {
        let signer = Arc::new(ReceiptSigner::from_seed(&[7; 32]));
        let (ledger, ledger_task) = Ledger::open(&dir.join("ledger"), LedgerOptions::new(signer)).unwrap();
        let authority = Authority::open(&dir.join("pki"), "edgetrail.internal".parse().unwrap()).unwrap();
        let home = Home {
            account: "111122223333".parse().unwrap(),
            region: "dc-local-1".parse().unwrap(),
            host: "collector".to_owned(),
        };
        let (stop, ledger_stop) = (CancellationToken::new(), CancellationToken::new());
        let mut ledger_tasks = tokio::task::JoinSet::new();
        let ledger_run = ledger_task.run(ledger_stop.clone());
        ledger_tasks.spawn(async move { ledger_run.await.unwrap() });
        let (internal, task) = Internal::open(dir, ledger.clone(), &authority, &home).await.unwrap();
        let restored = task.restored();
        let mut tasks = tokio::task::JoinSet::new();
        let run = task.run(stop.clone());
        tasks.spawn(async move { run.await.unwrap() });
        Self { ledger, internal, restored, stop, ledger_stop, tasks, ledger_tasks }
    }

    async fn close(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
        self.stop_ledger().await;
    }

    /// As a kill would: no close is sealed.
    async fn kill(mut self) {
        self.tasks.shutdown().await;
        self.stop_ledger().await;
    }

    async fn stop_ledger(&mut self) {
        self.ledger_stop.cancel();
        self.ledger_tasks.join_next().await.unwrap().unwrap();
    }
}

fn record(name: &str) -> Record {
    Record {
        event_name: name.to_owned(),
        event_source: "cloudtrail.amazonaws.com".to_owned(),
        aws_region: "dc-local-1".to_owned(),
        recipient_account_id: "111122223333".to_owned(),
        ..Record::default()
    }
}

/// Verifies every stream of the ledger as an auditor would and gives all entries.
fn verified(ledger: &Ledger) -> Vec<Arc<Entry>> {
    let entries = ledger.read(0, usize::MAX).unwrap();
    for state in ledger.internal_streams().unwrap() {
        let mut verifier = Verifier::begin(&state.info.open);
        for entry in entries.iter().filter(|entry| entry.stream_id() == state.info.stream) {
            let leaves: Vec<Hash> = entry.records.iter().map(|record| merkle::leaf_hash(&record.bytes)).collect();
            let head = verifier.accept(&entry.header, &entry.seal, &leaves).unwrap();
            assert!(head.counters.balance(head.next_seq));
        }
    }
    entries
}

fn causes(ledger: &Ledger) -> Vec<Cause> {
    ledger.internal_streams().unwrap().iter().map(|state| state.info.open.cause).collect()
}

#[tokio::test]
async fn a_record_is_in_the_ledger_when_the_call_returns() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path()).await;
    let index = bench.internal.record(record("StopLogging")).await.unwrap();
    let entries = bench.ledger.read(index, 1).unwrap();
    let facets = entries[0].records[0].facets.as_ref().unwrap();
    assert_eq!(facets.name, "StopLogging");
    assert!(facets.event_id.is_some_and(|id| id.get_version_num() == 8));
    assert!(entries[0].stream.internal);
    bench.close().await;
}

#[tokio::test]
async fn an_orderly_stop_closes_the_stream_and_the_next_start_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path()).await;
    bench.internal.record(record("A")).await.unwrap();
    bench.close().await;
    let bench = Bench::open(dir.path()).await;
    bench.internal.record(record("B")).await.unwrap();
    let entries = verified(&bench.ledger);
    assert_eq!(
        entries.iter().map(|entry| entry.header.kind).collect::<Vec<_>>(),
        [BatchKind::Records, BatchKind::Close, BatchKind::Records]
    );
    assert_eq!(causes(&bench.ledger), [Cause::Join, Cause::AfterClose]);
    bench.close().await;
}

#[tokio::test]
async fn after_a_kill_the_same_stream_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["A", "B", "C"] {
        let bench = Bench::open(dir.path()).await;
        bench.internal.record(record(name)).await.unwrap();
        bench.kill().await;
    }
    let bench = Bench::open(dir.path()).await;
    assert_eq!(verified(&bench.ledger).len(), 3);
    assert_eq!(causes(&bench.ledger), [Cause::Join]);
    bench.close().await;
}

#[tokio::test]
async fn a_lost_or_rolled_back_key_file_begins_a_successor_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("internal.key");
    let bench = Bench::open(dir.path()).await;
    bench.internal.record(record("A")).await.unwrap();
    let old = std::fs::read(&key).unwrap();
    bench.internal.record(record("B")).await.unwrap();
    bench.internal.record(record("C")).await.unwrap();
    bench.kill().await;

    std::fs::write(&key, old).unwrap();
    let bench = Bench::open(dir.path()).await;
    bench.internal.record(record("D")).await.unwrap();
    bench.kill().await;
    std::fs::remove_file(&key).unwrap();
    let bench = Bench::open(dir.path()).await;
    bench.internal.record(record("E")).await.unwrap();

    assert_eq!(verified(&bench.ledger).len(), 5);
    assert_eq!(causes(&bench.ledger), [Cause::Join, Cause::BufferOrKeyLost, Cause::BufferOrKeyLost]);
    bench.close().await;
}

#[tokio::test]
async fn a_second_collector_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path()).await;
    assert!(matches!(KeyFile::open(&Medium::real(), &dir.path().join("internal.key")), Err(KeyFileError::Locked { .. })));
    bench.close().await;
}

#[tokio::test]
async fn a_ledger_that_is_an_older_copy_is_noticed_before_anything_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path()).await;
    bench.internal.record(record("A")).await.unwrap();
    bench.kill().await;
    let older = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        let copied = std::process::Command::new("cp").arg("-a").arg(from.join("ledger")).arg(to).status().unwrap();
        assert!(copied.success());
    };
    copy(dir.path(), older.path());
    let bench = Bench::open(dir.path()).await;
    let stream = bench.ledger.internal_streams().unwrap()[0].info.stream;
    bench.internal.record(record("B")).await.unwrap();
    bench.internal.record(record("C")).await.unwrap();
    bench.kill().await;
    std::fs::remove_dir_all(dir.path().join("ledger")).unwrap();
    copy(older.path(), dir.path());

    let bench = Bench::open(dir.path()).await;
    assert_eq!(bench.restored, Some(Restored { stream, to: 2 }));
    assert_eq!(causes(&bench.ledger), [Cause::Join, Cause::Rollback]);
    bench.close().await;
}

/// A directory's ledger at one time, to be put back in place of a later one.
struct Older(tempfile::TempDir);

impl Older {
    fn of(dir: &Path) -> Self {
        let kept = tempfile::tempdir().unwrap();
        Self::copy(&dir.join("ledger"), kept.path());
        Self(kept)
    }

    fn put_back(&self, dir: &Path) {
        std::fs::remove_dir_all(dir.join("ledger")).unwrap();
        Self::copy(&self.0.path().join("ledger"), dir);
    }

    fn copy(from: &Path, to: &Path) {
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    }
}

#[tokio::test]
async fn an_older_copy_is_noticed_also_if_the_stream_was_closed_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path()).await;
    bench.internal.record(record("A")).await.unwrap();
    bench.close().await;
    let older = Older::of(dir.path());
    // Another stream has begun since, which the copy has never heard of.
    let bench = Bench::open(dir.path()).await;
    let stream = bench.ledger.internal_streams().unwrap()[1].info.stream;
    bench.internal.record(record("B")).await.unwrap();
    bench.internal.record(record("C")).await.unwrap();
    bench.kill().await;
    older.put_back(dir.path());

    let bench = Bench::open(dir.path()).await;
    assert_eq!(bench.restored, Some(Restored { stream, to: 1 }));
    let streams = bench.ledger.internal_streams().unwrap();
    let open = &streams[1].info.open;
    assert_eq!((open.cause, open.predecessor.map(|named| (named.stream, named.k))), (Cause::Rollback, Some((stream, 1))));
    assert_eq!(verified(&bench.ledger).len(), 2);
    bench.close().await;
    // Said once: what began then goes on.
    let bench = Bench::open(dir.path()).await;
    assert_eq!((bench.restored, causes(&bench.ledger)[2]), (None, Cause::AfterClose));
    bench.close().await;
}

#[tokio::test]
async fn an_older_copy_is_noticed_also_if_its_stream_was_open_and_is_not_the_slots() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path()).await;
    bench.internal.record(record("A")).await.unwrap();
    bench.kill().await;
    let older = Older::of(dir.path());
    Bench::open(dir.path()).await.close().await;
    let bench = Bench::open(dir.path()).await;
    let stream = bench.ledger.internal_streams().unwrap()[1].info.stream;
    bench.internal.record(record("B")).await.unwrap();
    bench.close().await;
    older.put_back(dir.path());

    let bench = Bench::open(dir.path()).await;
    assert_eq!(bench.restored, Some(Restored { stream, to: 1 }));
    assert_eq!(causes(&bench.ledger), [Cause::Join, Cause::Rollback]);
    bench.close().await;
}

#[tokio::test]
async fn a_ledger_that_is_gone_is_a_restored_one_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path()).await;
    let stream = bench.ledger.internal_streams().unwrap()[0].info.stream;
    bench.internal.record(record("A")).await.unwrap();
    bench.kill().await;
    std::fs::remove_dir_all(dir.path().join("ledger")).unwrap();
    let bench = Bench::open(dir.path()).await;
    assert_eq!(bench.restored, Some(Restored { stream, to: 0 }));
    assert_eq!(causes(&bench.ledger), [Cause::BufferOrKeyLost]);
    bench.close().await;
}
