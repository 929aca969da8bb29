//! What a relay may bring, and what home does with it. docs/protocol.md §9.

use edgetrail_link::wire::ingest_client::IngestClient;
use edgetrail_link::wire::{self, RefusalReason, from_agent, from_collector};
use edgetrail_proto::chain::{Cause, Hash, Predecessor, ReceiptSigner, SealedBatch};
use edgetrail_proto::identity::AgentId;
use tonic::Code;

use super::rig::{PATIENCE, Rig, TestRelay, TestStream, now_ns};

/// The relay's receipt for a batch, with its header: what an agent that held it goes elsewhere with.
fn evidence(relay: &TestRelay, stream: &TestStream, sealed: &SealedBatch) -> from_agent::Message {
    let receipt = relay.signer.sign(stream.open.stream, sealed.header.k, sealed.hash, 7, now_ns());
    from_agent::Message::TakeUp(wire::TakeUp {
        evidence: Some(wire::LastReceipted {
            header: sealed.header.encode().to_vec().into(),
            seal: sealed.seal.0.to_vec().into(),
            receipt: receipt.encode().into(),
        }),
    })
}

async fn open(conversation: &mut super::rig::Conversation, stream: &TestStream) {
    conversation.say(from_agent::Message::Opening(stream.opening())).await;
    let answer = conversation.hear().await;
    assert!(matches!(answer, Some(from_collector::Message::Opened(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_brings_the_streams_of_several_agents_over_one_connection() {
    let rig = Rig::recording().await;
    let relay = rig.relay("tokyo", 9).await;
    let channel = rig.connect(&relay).await.unwrap();
    let (one, two) = (rig.join(1).await, rig.join(2).await);
    let (mut first, mut second) = (one.stream(1), two.stream(2));
    let (mut of_one, _) = rig.brought(&channel, one.agent, &[]).await;
    let (mut of_two, _) = rig.brought(&channel, two.agent, &[]).await;
    open(&mut of_one, &first).await;
    open(&mut of_two, &second).await;
    of_one.batch(first.batch(&["A"])).await;
    of_two.batch(second.batch(&["B"])).await;
    assert_eq!((of_one.receipt().await.stream, of_two.receipt().await.stream), (first.open.stream, second.open.stream));
    // Beside its own connection, which goes on behind what the relay brought.
    let mut itself = rig.resumed(&one).await;
    itself.batch(first.batch(&["C"])).await;
    assert_eq!(itself.receipt().await.k, 1);
    assert!(rig.control.relay(&"tokyo".parse().unwrap()).unwrap().unwrap().last_seen_ns.is_some());

    // An agent's stream comes in its own session alone.
    of_two.say(from_agent::Message::Opening(one.stream(3).opening())).await;
    assert_eq!(of_two.refusal().await.reason(), RefusalReason::Identity);
    // A newer session for the same agent ends the older one, and no other.
    let (_newer, resumed) = rig.brought(&channel, one.agent, &[&first]).await;
    assert_eq!(resumed.streams[0].head.as_ref().map(|head| head.k), Some(1));
    assert_eq!(of_one.ended().await, Code::Aborted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_names_the_agent_if_a_relay_sends_it_and_else_not() {
    let rig = Rig::start().await;
    let (relay, agent) = (rig.relay("tokyo", 9).await, rig.join(1).await);
    let channel = rig.connect(&relay).await.unwrap();
    for agent_id in [vec![], vec![1; 15], vec![0; 16]] {
        let mut nameless = super::rig::Conversation::over(channel.clone()).await.unwrap();
        nameless.say(from_agent::Message::Resume(wire::Resume { agent_id: agent_id.into(), ..Default::default() })).await;
        assert_eq!(nameless.refusal().await.reason(), RefusalReason::Protocol);
    }
    let mut named = rig.attach(&agent).await.unwrap();
    let agent_id = agent.agent.as_bytes().to_vec().into();
    named.say(from_agent::Message::Resume(wire::Resume { agent_id, ..Default::default() })).await;
    assert_eq!(named.refusal().await.reason(), RefusalReason::Protocol);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_waits_for_its_relay_and_goes_on_once_the_relay_has_brought_it() {
    let rig = Rig::recording().await;
    let (relay, agent) = (rig.relay("tokyo", 9).await, rig.join(1).await);
    let mut stream = agent.stream(1);
    let mut at_relay = stream.clone();
    let (sealed, _) = stream.seal(&[super::rig::record("A")]);
    let mut itself = rig.opened(&agent, &stream).await;
    itself.say(evidence(&relay, &stream, &sealed)).await;
    let Some(from_collector::Message::Wait(wait)) = itself.hear().await else { panic!("home does not wait") };
    assert_eq!((wait.missing_from, wait.missing_to), (0, 0));
    assert_eq!(rig.ledger.waiting().unwrap().len(), 1);

    let channel = rig.connect(&relay).await.unwrap();
    let (mut brought, _) = rig.brought(&channel, agent.agent, &[&stream]).await;
    brought.batch(at_relay.batch(&["A"])).await;
    assert_eq!(brought.receipt().await.k, 0);
    itself.say(evidence(&relay, &stream, &sealed)).await;
    assert!(matches!(itself.hear().await, Some(from_collector::Message::TakenUp(_))));
    itself.batch(stream.batch(&["B"])).await;
    assert_eq!(itself.receipt().await.k, 1);
    assert!(rig.ledger.waiting().unwrap().is_empty() && rig.ledger.unreported(10).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_forgotten_relay_vouched_for_is_reported_and_taken_late() {
    let rig = Rig::recording().await;
    let (relay, agent) = (rig.relay("tokyo", 9).await, rig.join(1).await);
    let mut stream = agent.stream(1);
    let mut at_relay = stream.clone();
    let (sealed, _) = stream.seal(&[super::rig::record("A")]);
    let mut itself = rig.opened(&agent, &stream).await;
    itself.say(evidence(&relay, &stream, &sealed)).await;
    assert!(matches!(itself.hear().await, Some(from_collector::Message::Wait(_))));

    let mut grown = rig.ledger.watch();
    rig.control.forget_relay(&"tokyo".parse().unwrap(), now_ns()).unwrap();
    let is_gap = |rig: &Rig| rig.records().iter().any(|record| record.facets.as_ref().is_ok_and(|facets| facets.is_gap()));
    let reported = async {
        while !is_gap(&rig) {
            grown.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, reported).await.expect("the gap in time");
    assert!(rig.ledger.waiting().unwrap().is_empty());
    itself.batch(stream.batch(&["B"])).await;
    assert_eq!(itself.receipt().await.k, 1);

    // Its disk was found again.
    let channel = rig.connect(&relay).await.unwrap();
    let (mut brought, resumed) = rig.brought(&channel, agent.agent, &[&stream]).await;
    assert_eq!(resumed.streams[0].missing, [wire::BatchRange { from: 0, to: 0 }]);
    brought.batch(at_relay.batch(&["A"])).await;
    assert_eq!(brought.receipt().await.k, 0);
    assert!(rig.ledger.missing(stream.open.stream).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_successor_that_a_relay_brings_is_a_fork() {
    let rig = Rig::recording().await;
    let (relay, agent) = (rig.relay("tokyo", 9).await, rig.join(1).await);
    let mut stream = agent.stream(1);
    let mut itself = rig.opened(&agent, &stream).await;
    itself.batch(stream.batch(&["A"])).await;
    itself.receipt().await;
    let successor = |number, t_opened| {
        agent.stream_with(number, |open| {
            open.cause = Cause::BufferOrKeyLost;
            open.t_opened = t_opened;
            open.predecessor = Some(Predecessor { stream: stream.open.stream, k: 0, hash: stream.writer.head() });
        })
    };
    drop(rig.opened(&agent, &successor(2, 2000)).await);
    let channel = rig.connect(&relay).await.unwrap();
    let (mut brought, _) = rig.brought(&channel, agent.agent, &[]).await;
    brought.say(from_agent::Message::Opening(successor(3, 3000).opening())).await;
    assert_eq!(brought.refusal().await.reason(), RefusalReason::Fork);
    assert!(rig.ledger.stream(stream.open.stream).unwrap().unwrap().is_frozen());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_forges_no_fork_and_brings_nothing_of_the_collectors_own() {
    let rig = Rig::recording().await;
    let (relay, agent) = (rig.relay("tokyo", 9).await, rig.join(1).await);
    let channel = rig.connect(&relay).await.unwrap();
    let internal = rig.ledger.internal_streams().unwrap().pop().unwrap().info.agent;
    let mut own = super::rig::Conversation::over(channel.clone()).await.unwrap();
    own.say(from_agent::Message::Resume(wire::Resume { agent_id: internal.as_bytes().to_vec().into(), ..Default::default() }))
        .await;
    assert_eq!(own.refusal().await.reason(), RefusalReason::Identity);

    let mut stream = agent.stream(1);
    let mut itself = rig.opened(&agent, &stream).await;
    itself.batch(stream.batch(&["A"])).await;
    itself.receipt().await;
    // The open is the agent's; the keys are the relay's own.
    let mut forged = agent.stream(7);
    drop(forged.batch(&[]));
    let mut batch = forged.batch(&["X"]);
    let mut header = batch.header.to_vec();
    let mut named = stream.batch(&["B"]).header.to_vec();
    let id = named.windows(16).position(|window| window == stream.open.stream.as_bytes()).unwrap();
    header[id..id + 16].copy_from_slice(&named[id..id + 16]);
    named.clear();
    batch.header = header.into();
    itself.batch(agent_again(&agent, 1, 2)).await;
    itself.receipt().await;
    let (mut brought, _) = rig.brought(&channel, agent.agent, &[&stream]).await;
    brought.batch(batch).await;
    assert_eq!(brought.refusal().await.reason(), RefusalReason::Chain);
    assert!(!rig.ledger.stream(stream.open.stream).unwrap().unwrap().is_frozen());
}

/// Batch `k` of the stream, as its agent seals it.
fn agent_again(agent: &super::rig::TestAgent, number: u8, batches: u8) -> wire::Batch {
    let mut again = agent.stream(number);
    let names = ["A", "B"];
    let sealed = (0..usize::from(batches)).map(|k| again.batch(&[names[k]]));
    sealed.last().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_relay_is_cut_and_what_a_relay_must_know_is_told_as_it_changes() {
    let rig = Rig::start().await;
    let (relay, agent) = (rig.relay("tokyo", 9).await, rig.join(1).await);
    let channel = rig.connect(&relay).await.unwrap();
    let mut states = IngestClient::new(channel.clone()).follow(wire::FollowRequest::default()).await.unwrap().into_inner();
    let first = states.message().await.unwrap().unwrap();
    assert_eq!((first.receipt_keys.len(), first.roots.len(), first.revoked_agents.len()), (2, 1, 0));
    let (mut brought, _) = rig.brought(&channel, agent.agent, &[]).await;
    rig.control.revoke_agent(agent.agent, 1).unwrap();
    let told = tokio::time::timeout(PATIENCE, states.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(told.revoked_agents, [agent.agent.as_bytes().to_vec()]);
    // What it brought to the relay before is not the relay's fault.
    open(&mut brought, &agent.stream(1)).await;

    rig.control.revoke_relay(&"tokyo".parse().unwrap(), 1).unwrap();
    assert_eq!(brought.ended().await, Code::PermissionDenied);
    assert_eq!(states.message().await.unwrap_err().code(), Code::PermissionDenied);
    let again = match rig.connect(&relay).await {
        Ok(channel) => super::rig::Conversation::over(channel).await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(again.is_err(), "no handshake any more");
    let itself = rig.join_as(AgentId::from_bytes([2; 16])).await;
    let tls = rig.credentials(&itself);
    let refused = edgetrail_link::uplink::channel(&rig.endpoint, tls.tls.clone()).await.unwrap();
    let refused = IngestClient::new(refused).follow(wire::FollowRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied, "agents do not follow");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipts_that_headers_name_are_kept_if_a_collector_of_this_home_gave_them() {
    let rig = Rig::start().await;
    let (relay, agent) = (rig.relay("tokyo", 9).await, rig.join(1).await);
    let channel = rig.connect(&relay).await.unwrap();
    let (mut brought, _) = rig.brought(&channel, agent.agent, &[]).await;
    let mut stream = agent.stream(1);
    open(&mut brought, &stream).await;
    brought.batch(stream.batch(&["A"])).await;
    let by_relay = |k| relay.signer.sign(stream.open.stream, k, Hash::ZERO, 7, now_ns());
    let (named, other) = (by_relay(0), by_relay(1));
    let forged = ReceiptSigner::from_seed(&[1; 32]).sign(stream.open.stream, 0, Hash::ZERO, 7, now_ns());
    stream.last_receipt = named.message_hash();
    let shown = [&forged, &other, &named].map(|receipt| receipt.encode().into()).to_vec();
    brought.batch(wire::Batch { named_receipts: shown, ..stream.batch(&["B"]) }).await;
    while brought.receipt().await.k < 1 {}
    assert_eq!(rig.ledger.known_receipt(&named.message_hash()).unwrap(), Some(named));
    assert!([forged, other].iter().all(|receipt| rig.ledger.known_receipt(&receipt.message_hash()).unwrap().is_none()));
}
