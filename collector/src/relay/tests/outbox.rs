//! What is owed to home, from where on it is sent, and what home is shown before it.

use edgetrail_link::outbox::{CollectorPosition, Outbox};
use edgetrail_proto::chain::Hash;
use edgetrail_proto::identity::StreamId;

use super::*;

/// Four batches of one agent at a relay, and home's signer.
async fn four_batches(home: &Rig) -> (Bench, TestAgent, TestStream, ReceiptSigner) {
    let (agent, bench) = (home.join(1).await, Bench::open());
    let mut stream = agent.stream(1);
    bench.ledger.record_open(stream.info()).await.unwrap();
    bench.take(&mut stream, &["A", "B", "C", "D"]).await;
    (bench, agent, stream, home.pki.receipt_signer())
}

fn hash(bench: &Bench, stream: StreamId, k: u64) -> Hash {
    bench.ledger.batch_hash(stream, k).unwrap().unwrap()
}

fn position(stream: StreamId, head: Option<(u64, Hash)>) -> CollectorPosition {
    CollectorPosition { stream, recorded: true, head, bound: None, superseded: false, frozen: false, missing: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn home_is_owed_what_it_has_no_receipt_for_and_what_it_lacks_again() {
    let home = Rig::start().await;
    let (bench, agent, stream, signer) = four_batches(&home).await;
    let (outbox, id) = (bench.outbox(&agent), stream.open.stream);
    assert!(outbox.owes().unwrap());
    let receipt = signer.sign(id, 3, hash(&bench, id, 3), 7, 1);
    outbox.store_receipt(&receipt).unwrap();
    assert!(!outbox.owes().unwrap());
    // Of a range that the relay holds.
    outbox.reconcile(None, &[CollectorPosition { missing: vec![(1, 2)], ..position(id, Some((3, receipt.head))) }]).unwrap();
    assert!(outbox.owes().unwrap());
    // The bodies are gone: home has said where it stands, and nothing can be done.
    bench.progress.pass(bench.ledger.next_index()).unwrap();
    bench.release().await;
    assert!(!outbox.owes().unwrap());
    // It was restored: its head is below its own receipt, which it is to be shown.
    outbox.reconcile(None, &[position(id, Some((1, hash(&bench, id, 1))))]).unwrap();
    assert!(outbox.owes().unwrap());
    // It goes on behind that, and names what it lacks.
    outbox.reconcile(None, &[CollectorPosition { missing: vec![(2, 2)], ..position(id, Some((3, receipt.head))) }]).unwrap();
    assert!(!outbox.owes().unwrap());
    // After a restart of the relay home is asked once where it stands.
    let bench = Bench { progress: Arc::new(Progress::open(&Medium::real(), bench.dir.path()).unwrap()), ..bench };
    let outbox = bench.outbox(&agent);
    assert!(outbox.owes().unwrap());
    outbox.reconcile(None, &[CollectorPosition { missing: vec![(2, 2)], ..position(id, Some((3, receipt.head))) }]).unwrap();
    assert!(!outbox.owes().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_for_another_head_is_put_aside() {
    let home = Rig::start().await;
    let (bench, agent, stream, signer) = four_batches(&home).await;
    let outbox = bench.outbox(&agent);
    outbox.store_receipt(&signer.sign(stream.open.stream, 3, Hash([1; 32]), 7, 1)).unwrap();
    assert_eq!(bench.progress.standing(stream.open.stream).receipted, None);
    assert!(outbox.owes().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_begins_behind_homes_head_or_where_the_chains_part() {
    let home = Rig::start().await;
    let (bench, agent, stream, signer) = four_batches(&home).await;
    let (outbox, id) = (bench.outbox(&agent), stream.open.stream);
    let begins = |head| outbox.begins_at(&position(id, head)).unwrap();
    assert_eq!(begins(None), 0);
    assert_eq!(begins(Some((1, hash(&bench, id, 1)))), 2);
    // Another chain: the first that home has given no receipt for shows where they part.
    assert_eq!(begins(Some((2, Hash([1; 32])))), 0);
    outbox.store_receipt(&signer.sign(id, 0, hash(&bench, id, 0), 7, 1)).unwrap();
    assert_eq!(begins(Some((2, Hash([1; 32])))), 1);
    // Home has gone on without this relay.
    assert_eq!(begins(Some((9, Hash([1; 32])))), 1);
    outbox.store_receipt(&signer.sign(id, 3, hash(&bench, id, 3), 8, 1)).unwrap();
    assert_eq!(begins(Some((9, Hash([1; 32])))), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_hole_home_is_shown_its_own_receipt_or_what_the_relay_was_shown() {
    let home = Rig::start().await;
    let (bench, agent, stream, signer) = four_batches(&home).await;
    let (outbox, id) = (bench.outbox(&agent), stream.open.stream);
    assert!(outbox.next_run(id, 4).unwrap().is_none(), "nothing is held there, and nothing vouches");
    outbox.store_receipt(&signer.sign(id, 3, hash(&bench, id, 3), 8, 1)).unwrap();
    let run = outbox.next_run(id, 1).unwrap().unwrap();
    assert_eq!((run.evidence.0.k, run.evidence.2.k, run.first), (3, 3, Some(2)));
    // Where home names the hole as missing below its head, what lies before it vouches, not its own receipt.
    bench.progress.note(id, Some(3), &[(1, 1)], false).unwrap();
    assert!(outbox.next_run(id, 1).unwrap().is_none());
    bench.progress.note(id, Some(0), &[], false).unwrap();
    bench.progress.pass(bench.ledger.next_index()).unwrap();
    bench.release().await;
    let run = outbox.next_run(id, 1).unwrap().unwrap();
    assert_eq!((run.evidence.2.k, run.first), (3, Some(3)), "the newest segment stays");
}
