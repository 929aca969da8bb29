//! What goes on to home, what is released behind it, and what becomes of both when home takes something otherwise.

use edgetrail_link::wire;
use edgetrail_link::wire::ingest_client::IngestClient;
use edgetrail_proto::chain::{Cause, Predecessor};

use super::*;
use crate::ledger::EvidenceBound;

/// An agent's stream that home holds up to batch 2, and a copy as of batch 0.
async fn held_by_home(home: &Rig, agent: &TestAgent, number: u8) -> (TestStream, TestStream) {
    let mut stream = agent.stream(number);
    let mut itself = home.opened(agent, &stream).await;
    itself.batch(stream.batch(&["A"])).await;
    let copy = stream.clone();
    itself.batch(stream.batch(&["B"])).await;
    itself.batch(stream.batch(&["C"])).await;
    while itself.receipt().await.k < 2 {}
    (stream, copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_fork_is_longer_than_what_home_keeps_holds_up_nobodys_release() {
    let home = Rig::keeping(EvidenceBound { batches: 2, ..EvidenceBound::default() }).await;
    let (relay, forked, honest) = (home.relay("tokyo", SEED).await, home.join(1).await, home.join(2).await);
    held_by_home(&home, &forked, 1).await;
    let bench = Bench::open();
    let (mut branch, mut stream) = (forked.stream(1), honest.stream(2));
    bench.ledger.record_open(branch.info()).await.unwrap();
    bench.ledger.record_open(stream.info()).await.unwrap();
    bench.take(&mut branch, &["A"]).await;
    for name in ["W", "X", "Y", "Z"] {
        bench.take(&mut branch, &[name]).await;
        bench.take(&mut stream, &[name]).await;
    }
    let forwarding = bench.forward(&home, &relay);
    until("everything to be home's", || bench.progress.passed() == bench.ledger.next_index()).await;
    bench.release().await;
    let state = home.ledger.stream(branch.open.stream).unwrap().unwrap();
    assert!(state.is_frozen());
    let kept = (1..=4).filter(|k| {
        let hash = bench.ledger.batch_hash(branch.open.stream, *k).unwrap().unwrap();
        home.ledger.keeps(branch.open.stream, hash).unwrap()
    });
    assert_eq!(kept.count(), 2, "no more than the bound");
    assert_eq!(home.ledger.stream(stream.open.stream).unwrap().unwrap().head.k, Some(3));
    assert!(!bench.outbox(&forked).owes().unwrap() && !bench.outbox(&honest).owes().unwrap());
    forwarding.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opens_of_a_fork_beyond_what_home_keeps_hold_up_nobodys_release() {
    let home = Rig::keeping(EvidenceBound { opens: 1, ..EvidenceBound::default() }).await;
    let (relay, forked, honest) = (home.relay("tokyo", SEED).await, home.join(1).await, home.join(2).await);
    let (first, _) = held_by_home(&home, &forked, 1).await;
    let successor = |former: &TestStream, number, t_opened| {
        let k = former.writer.next_k().checked_sub(1).unwrap();
        let predecessor = Predecessor { stream: former.open.stream, k, hash: former.writer.head() };
        forked.stream_with(number, |open| {
            (open.cause, open.t_opened, open.predecessor) = (Cause::BufferOrKeyLost, t_opened, Some(predecessor));
        })
    };
    drop(home.opened(&forked, &successor(&first, 2, 2000)).await);
    // At the relay another successor of the first stream, and one behind that.
    let bench = Bench::open();
    let (mut second, mut stream) = (successor(&first, 3, 3000), honest.stream(9));
    bench.ledger.record_open(second.info()).await.unwrap();
    bench.take(&mut second, &["X"]).await;
    let mut third = successor(&second, 4, 4000);
    bench.ledger.record_open(third.info()).await.unwrap();
    bench.take(&mut third, &["Y"]).await;
    bench.ledger.record_open(stream.info()).await.unwrap();
    bench.take(&mut stream, &["D"]).await;
    let forwarding = bench.forward(&home, &relay);
    until("everything to be home's", || bench.progress.passed() == bench.ledger.next_index()).await;
    assert!(home.ledger.has_opens_beyond(forked.agent).unwrap());
    assert_eq!(home.ledger.stream(stream.open.stream).unwrap().unwrap().head.k, Some(0));
    forwarding.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_home_goes_on_behind_its_own_receipt_though_every_body_is_released() {
    let home = Rig::recording().await;
    let (relay, agent, other) = (home.relay("tokyo", SEED).await, home.join(1).await, home.join(2).await);
    let bench = Bench::open();
    assert!(!bench.progress.hear_of(home.ledger.signs_as()).unwrap());
    let (mut stream, mut last) = (agent.stream(1), other.stream(2));
    bench.ledger.record_open(stream.info()).await.unwrap();
    bench.ledger.record_open(last.info()).await.unwrap();
    let forwarding = bench.forward(&home, &relay);
    bench.take(&mut stream, &["A"]).await;
    until("the early batch", || bench.progress.standing(stream.open.stream).receipted == Some(0)).await;
    let copy = home.copied();
    bench.take(&mut stream, &["B", "C", "D"]).await;
    // The newest segment is never released: it is another agent's.
    bench.take(&mut last, &["E"]).await;
    until("everything to be home's", || bench.progress.passed() == bench.ledger.next_index()).await;
    bench.release().await;
    forwarding.stop().await;
    assert_eq!(bench.ledger.next_held(stream.open.stream, None).unwrap(), None, "no body is here");
    drop(home);

    // The agent does not come by this relay any more. Home hears from it that it was restored, as it does from every follower.
    let home = Rig::recording_in(copy).await;
    let newest = bench.progress.newest_receipt().unwrap().unwrap();
    let follow = wire::FollowRequest { receipt: newest.encode().into(), ..Default::default() };
    let mut states = IngestClient::new(home.connect(&relay).await.unwrap()).follow(follow).await.unwrap().into_inner();
    states.message().await.unwrap().unwrap();
    assert!(bench.progress.hear_of(home.ledger.signs_as()).unwrap(), "home has a new key");
    let forwarding = bench.forward(&home, &relay);
    until("home to go on", || home.ledger.stream(stream.open.stream).unwrap().unwrap().head.k == Some(3)).await;
    let is_gap = |home: &Rig| {
        let gap = home.records().into_iter().find(|record| record.facets.as_ref().is_ok_and(|facets| facets.is_gap()));
        gap.map(|record| record.bytes)
    };
    until("the gap", || is_gap(&home).is_some()).await;
    let gap: serde_json::Value = serde_json::from_slice(&is_gap(&home).unwrap()).unwrap();
    let said = &gap["requestParameters"];
    assert_eq!((&said["cause"], &said["count"], &said["exact"]), (&"collector-lost".into(), &3.into(), &true.into()), "{gap:#}");
    assert_eq!((&said["fromBatch"], &said["toBatch"]), (&1.into(), &3.into()), "{gap:#}");
    assert!(home.ledger.waiting().unwrap().is_empty(), "nobody has to forget the relay");
    // It was said; nothing is left to do, and nobody is asked again and again.
    let mut standing = forwarding.standing.clone();
    let done = standing.wait_for(|standing| standing.reached && standing.owing == 0);
    tokio::time::timeout(PATIENCE, done).await.expect("it rests").unwrap();
    assert!(!bench.outbox(&agent).owes().unwrap());
    // The agent goes on with home, behind what was named.
    let mut itself = home.resumed(&agent).await;
    itself.batch(stream.batch(&["F"])).await;
    assert_eq!(itself.receipt().await.k, 4);
    forwarding.stop().await;
}
