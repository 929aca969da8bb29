//! Batches that the collector lacks and the agent holds no more: whose receipt it is decides. docs/protocol.md §9.

use std::sync::Arc;

use edgetrail_link::outbox::Outbox;
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::uplink::{Credentials, RETURN_AFTER, Status, Uplink, UplinkOptions};
use edgetrail_link::wire::{self, from_agent, from_collector};
use edgetrail_proto::chain::{Cause, Hash, Predecessor, ReceiptSigner};
use edgetrail_proto::merkle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::outbox::MemoryOutbox;
use super::rig::{PATIENCE, Rig, TestAgent};
use crate::ledger::{TakenUp, Why};

fn name(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}

fn names(rig: &Rig) -> Vec<String> {
    rig.records().iter().map(|record| record.facets.as_ref().unwrap().name.clone()).collect()
}

/// Stores a receipt for the newest batch, as if a collector held everything until here.
fn receipted_by(signer: &ReceiptSigner, outbox: &MemoryOutbox) {
    let held = outbox.held().unwrap().pop().unwrap();
    let (k, hash) = *held.unreceipted.last().unwrap();
    let now = super::rig::now_ns();
    outbox.store_receipt(&signer.sign(held.stream, k, hash, 1000 + k, now)).unwrap();
}

fn run(rig: &Rig, credentials: Arc<Credentials>, outbox: &Arc<MemoryOutbox>) -> (watch::Receiver<Status>, JoinSet<()>) {
    let (sender, credentials) = watch::channel(credentials);
    let options = UplinkOptions {
        endpoints: vec![rig.endpoint.clone()],
        return_after: RETURN_AFTER,
        credentials,
        agent_version: "1".to_owned(),
    };
    let (uplink, status) = Uplink::new(outbox.clone(), options);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _sender = sender;
        uplink.run(CancellationToken::new()).await;
    });
    (status, tasks)
}

async fn until(rig: &Rig, what: impl Fn(&Rig) -> bool) {
    let mut grown = rig.ledger.watch();
    let all = async {
        while !what(rig) {
            grown.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{:?}", names(rig)));
}

fn gap(rig: &Rig) -> serde_json::Value {
    let gaps: Vec<serde_json::Value> = (rig.records().iter())
        .filter(|record| record.facets.as_ref().is_ok_and(|facets| facets.is_gap()))
        .map(|record| serde_json::from_slice(&record.bytes).unwrap())
        .collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    gaps[0]["requestParameters"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_collector_goes_on_behind_its_own_receipt_under_a_new_key_and_reports_the_hole() {
    let rig = Rig::recording().await;
    let agent = rig.join(1).await;
    let outbox = MemoryOutbox::new(agent.stream(1));
    let before = rig.ledger.signs_as();
    ["A", "B", "C"].iter().for_each(|record| outbox.seal(&name(record)));
    receipted_by(&rig.pki.receipt_signer(), &outbox);
    outbox.seal(&name("D"));
    let (_status, _tasks) = run(&rig, rig.credentials(&agent), &outbox);
    until(&rig, |rig| names(rig).contains(&"D".to_owned()) && names(rig).contains(&"ReportGap".to_owned())).await;

    let gap = gap(&rig);
    assert_eq!(
        (gap["cause"].as_str(), gap["count"].as_u64(), gap["exact"].as_bool()),
        (Some("collector-lost"), Some(3), Some(true))
    );
    assert_eq!((gap["fromBatch"].as_u64(), gap["toBatch"].as_u64()), (Some(0), Some(2)));
    assert_ne!(rig.ledger.signs_as(), before, "an index never comes twice under one key");
    assert_eq!(rig.pki.own_receipt_keys(), [before, rig.ledger.signs_as()]);
    // The former key's receipts stay good for agents that come later.
    assert_eq!(rig.credentials(&agent).receipt_keys.iter().count(), 2);
    let internal = rig.ledger.internal_streams().unwrap().pop().unwrap().head;
    assert!(internal.counters.balance(internal.next_seq), "{:?}", internal.counters);
    assert_eq!((internal.counters.own, internal.counters.lost_source), (1, 3));
}

/// As one that was restored twice from one backup: it signed with that key in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_has_forgotten_a_key_of_its_own_believes_its_cas_statement_on_it() {
    let rig = Rig::recording().await;
    let agent = rig.join(1).await;
    let outbox = MemoryOutbox::new(agent.stream(1));
    let before = rig.ledger.signs_as();
    let forgotten = ReceiptSigner::from_seed(&[9; 32]);
    ["A", "B"].iter().for_each(|record| outbox.seal(&name(record)));
    receipted_by(&forgotten, &outbox);
    outbox.seal(&name("C"));
    let mut credentials = (*rig.credentials(&agent)).clone();
    let statement = rig.pki.authority().sign_receipt_key(forgotten.public_key(), 0, u64::MAX).unwrap();
    let forged = ReceiptKey { not_before: 1, ..statement.clone() };
    assert!(!rig.pki.take_back_receipt_key(&forged).unwrap(), "nobody has signed this");
    credentials.receipt_keys.add(statement, &credentials.roots).unwrap();
    let (_status, _tasks) = run(&rig, Arc::new(credentials), &outbox);
    until(&rig, |rig| names(rig).contains(&"C".to_owned()) && names(rig).contains(&"ReportGap".to_owned())).await;

    let gap = gap(&rig);
    assert_eq!(
        (gap["cause"].as_str(), gap["fromBatch"].as_u64(), gap["toBatch"].as_u64()),
        (Some("collector-lost"), Some(0), Some(1))
    );
    let key = Hash::of(&forgotten.public_key().0);
    assert_ne!(rig.ledger.signs_as(), before, "an index never comes twice under one key");
    assert_eq!(rig.pki.own_receipt_keys(), [key, before, rig.ledger.signs_as()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_waits_for_the_relay_that_vouched_while_others_go_on_until_it_is_forgotten() {
    let rig = Rig::recording().await;
    let agent = rig.join(1).await;
    let relay = ReceiptSigner::from_seed(&[9; 32]);
    let statement = rig.pki.authority().sign_receipt_key(relay.public_key(), 0, u64::MAX).unwrap();
    rig.pki.trust_receipt_keys(vec![statement]).unwrap();
    let first = agent.stream(1);
    let outbox = MemoryOutbox::new(first.clone());
    ["A", "B"].iter().for_each(|record| outbox.seal(&name(record)));
    receipted_by(&relay, &outbox);
    outbox.seal(&name("C"));
    let former = outbox.current();
    outbox.open(agent.stream_with(2, |open| {
        open.cause = Cause::BufferOrKeyLost;
        open.t_opened = 2000;
        open.predecessor = Some(Predecessor { stream: former.open.stream, k: 2, hash: former.writer.head() });
    }));
    outbox.seal(&name("D"));
    let (status, _tasks) = run(&rig, rig.credentials(&agent), &outbox);
    until(&rig, |rig| names(rig).contains(&"D".to_owned()) && names(rig).contains(&"AwaitBatches".to_owned())).await;
    let waiting = status.clone().wait_for(|status| !status.waiting.is_empty()).await.unwrap().waiting.clone();
    assert_eq!((waiting[0].stream, waiting[0].from, waiting[0].to), (first.open.stream, 0, 1));
    assert!(!names(&rig).contains(&"C".to_owned()), "nothing above the hole");

    let key = Hash::of(&relay.public_key().0);
    assert_eq!(rig.ledger.forget(key).await.unwrap()[0].why, Why::CollectorLost { signer: key });
    until(&rig, |rig| names(rig).contains(&"C".to_owned())).await;
    let mut status = status.clone();
    tokio::time::timeout(PATIENCE, status.wait_for(|status| status.waiting.is_empty())).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_by_a_stranger_or_for_another_batch_takes_nothing_up() {
    let rig = Rig::start().await;
    let agent: TestAgent = rig.join(1).await;
    let mut stream = agent.stream(1);
    let (first, _) = stream.seal(&[]);
    let (second, _) = stream.seal(&[]);
    let evidence = |signer: &ReceiptSigner, k, hash| wire::LastReceipted {
        header: first.header.encode().to_vec().into(),
        seal: first.seal.0.to_vec().into(),
        receipt: signer.sign(stream.open.stream, k, hash, 0, super::rig::now_ns()).encode().into(),
    };
    for evidence in [
        evidence(&ReceiptSigner::from_seed(&[9; 32]), 0, first.hash),
        evidence(&rig.pki.receipt_signer(), 1, second.hash),
        evidence(&rig.pki.receipt_signer(), 0, merkle::leaf_hash(b"other")),
    ] {
        let mut conversation = rig.opened(&agent, &stream).await;
        conversation.say(from_agent::Message::TakeUp(wire::TakeUp { evidence: Some(evidence) })).await;
        assert_eq!(conversation.refusal().await.reason(), wire::RefusalReason::Chain);
    }
    let mut conversation = rig.opened(&agent, &stream).await;
    let good = evidence(&rig.pki.receipt_signer(), 0, first.hash);
    conversation.say(from_agent::Message::TakeUp(wire::TakeUp { evidence: Some(good) })).await;
    assert!(matches!(conversation.hear().await, Some(from_collector::Message::TakenUp(_))));
    let head = rig.ledger.stream(stream.open.stream).unwrap().unwrap().head;
    assert_eq!((head.k, head.hash), (Some(0), first.hash));
    assert!(matches!(
        rig.ledger
            .take_up(
                crate::ledger::Evidence::new(
                    first.header.clone(),
                    first.seal,
                    rig.pki.receipt_signer().sign(stream.open.stream, 0, first.hash, 0, 0)
                )
                .unwrap()
            )
            .await
            .unwrap(),
        TakenUp::GoesOn { missing: None, .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_batch_that_nobody_holds_is_reported_by_its_exact_range() {
    let rig = Rig::recording().await;
    let agent = rig.join(1).await;
    let mut first = agent.stream(1);
    let mut conversation = rig.opened(&agent, &first).await;
    conversation.batch(first.batch(&["A"])).await;
    conversation.receipt().await;
    // Three more were sealed; then the buffer was lost, and the key file remained.
    (0..3).for_each(|_| drop(first.seal(&[])));
    let second = agent.stream_with(2, |open| {
        open.cause = Cause::BufferOrKeyLost;
        open.t_opened = 2000;
        open.predecessor = Some(Predecessor { stream: first.open.stream, k: 3, hash: first.writer.head() });
    });
    drop(rig.opened(&agent, &second).await);
    until(&rig, |rig| names(rig).contains(&"ReportGap".to_owned())).await;
    let gap = gap(&rig);
    assert_eq!((gap["cause"].as_str(), gap["count"].as_u64()), (Some("not-received"), None));
    assert_eq!((gap["fromBatch"].as_u64(), gap["toBatch"].as_u64()), (Some(1), Some(3)));
    // Somebody had them after all.
    let mut again = agent.stream(1);
    drop(again.batch(&["A"]));
    let mut conversation = rig.resumed(&agent).await;
    conversation.batch(again.batch(&[])).await;
    assert_eq!(conversation.receipt().await.k, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_stream_that_nobody_ever_brought_is_reported_whole_and_once() {
    let rig = Rig::recording().await;
    let agent = rig.join(1).await;
    // Four batches were sealed and never sent; then the buffer was lost, and the key file remained.
    let mut never_sent = agent.stream(1);
    (0..4).for_each(|_| drop(never_sent.seal(&[])));
    let second = agent.stream_with(2, |open| {
        open.cause = Cause::BufferOrKeyLost;
        open.t_opened = 2000;
        open.predecessor = Some(Predecessor { stream: never_sent.open.stream, k: 3, hash: never_sent.writer.head() });
    });
    drop(rig.opened(&agent, &second).await);
    until(&rig, |rig| names(rig).contains(&"ReportGap".to_owned())).await;
    let reported = gap(&rig);
    assert_eq!((reported["cause"].as_str(), reported["count"].as_u64()), (Some("not-received"), None));
    assert_eq!((reported["fromBatch"].as_u64(), reported["toBatch"].as_u64()), (Some(0), Some(3)));
    assert_eq!(reported["stream"].as_str(), Some(never_sent.open.stream.to_string().as_str()));
    drop(rig.opened(&agent, &second).await);
    assert!(rig.ledger.unreported(9).unwrap().is_empty());
    assert_eq!(names(&rig).iter().filter(|name| *name == "ReportGap").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_behind_a_fork_is_kept_whole() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let mut stream = agent.stream(1);
    let mut clone = stream.clone();
    let mut conversation = rig.opened(&agent, &stream).await;
    conversation.batch(stream.batch(&["A"])).await;
    conversation.receipt().await;
    for name in ["X", "Y", "Z"] {
        conversation.batch(clone.batch(&[name])).await;
    }
    assert_eq!(conversation.refusal().await.reason(), wire::RefusalReason::Fork);
    let forks = crate::ledger::Forks::open(&edgetrail_disk::Medium::real(), &rig.directory().join("ledger")).unwrap();
    let [fork] = forks.list().unwrap().try_into().unwrap();
    assert_eq!((fork.branches, fork.batches, fork.k), (1, 3, Some(0)));
    let evidence = forks.export(agent.agent, |committed| Some(rig.ledger.sign(committed))).unwrap().unwrap();
    assert_eq!((evidence.committed.len(), evidence.later.len(), evidence.opens.len()), (1, 3, 1));
    let receipt = edgetrail_proto::chain::Receipt::decode(&evidence.receipts[0].0).unwrap();
    assert_eq!((evidence.receipts.len(), receipt.k), (1, 0), "what was committed stands with its receipt");
    let record = String::from_utf8(evidence.later[2].records.as_ref().unwrap()[0].0.clone()).unwrap();
    assert!(record.contains("\"Z\""), "{record}");
}
