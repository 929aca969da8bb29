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
    let mut second = successor(3, 3000);
    let Some(from_collector::Message::Kept(kept)) = brought.hear().await else { panic!("it is not kept") };
    assert_eq!(kept.hash, second.open.hash().0.to_vec());
    assert!(rig.ledger.stream(stream.open.stream).unwrap().unwrap().is_frozen());
    // What its agent has sealed in it has a relay's receipt: it is kept beside the open.
    let sealed = second.batch(&["B"]);
    let hash = Hash::of(&sealed.header);
    brought.batch(sealed).await;
    let Some(from_collector::Message::Kept(kept)) = brought.hear().await else { panic!("its batch is not kept") };
    assert_eq!((kept.hash, kept.k), (hash.0.to_vec().into(), Some(0)));
    assert!(rig.ledger.keeps(second.open.stream, hash).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_a_relay_brings_is_a_fork_and_all_of_it_is_kept_also_of_a_frozen_agent() {
    let rig = Rig::recording().await;
    let (relay, agent) = (rig.relay("tokyo", 9).await, rig.join(1).await);
    let mut stream = agent.stream(1);
    let mut itself = rig.opened(&agent, &stream).await;
    itself.batch(stream.batch(&["A"])).await;
    let mut clone = stream.clone();
    itself.batch(stream.batch(&["B"])).await;
    itself.batch(stream.batch(&["C"])).await;
    while itself.receipt().await.k < 2 {}
    let channel = rig.connect(&relay).await.unwrap();
    let (mut brought, resumed) = rig.brought(&channel, agent.agent, &[&stream]).await;
    assert!(!resumed.streams[0].frozen);
    let branch = ["X", "Y", "Z"].map(|name| clone.batch(&[name]));
    let hashes = branch.clone().map(|batch| Hash::of(&batch.header));
    // One after the other without waiting: the second follows a batch that no ledger holds.
    for batch in branch {
        brought.batch(batch).await;
    }
    for hash in hashes {
        let Some(from_collector::Message::Kept(kept)) = brought.hear().await else { panic!("{hash} is not kept") };
        assert_eq!(kept.hash, hash.0.to_vec());
        assert!(rig.ledger.keeps(stream.open.stream, hash).unwrap());
    }
    // Its agent hears FORK; a relay goes on, with what the agent has sealed meanwhile.
    let mut again = rig.attach(&agent).await.unwrap();
    again.say(from_agent::Message::Resume(wire::Resume::default())).await;
    assert_eq!(again.refusal().await.reason(), RefusalReason::Fork);
    let (mut brought, resumed) = rig.brought(&channel, agent.agent, &[&stream]).await;
    assert!(resumed.streams[0].frozen);
    brought.batch(stream.batch(&["D"])).await;
    assert!(matches!(brought.hear().await, Some(from_collector::Message::Kept(_))));
    // It joins again while the relay's session goes on: what it opens then is no evidence.
    let rejoined = rig.join(1).await;
    let next = rejoined.stream_with(2, |open| {
        open.cause = Cause::Fork;
        open.t_opened = now_ns();
        open.predecessor = Some(Predecessor { stream: stream.open.stream, k: 2, hash: stream.writer.head() });
    });
    open(&mut brought, &next).await;
    let noticed =
        |rig: &Rig| rig.records().iter().filter(|record| record.bytes.windows(10).any(|at| at == b"DetectFork")).count();
    assert_eq!(noticed(&rig), 1, "one event for the fork");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_reports_is_recorded_under_its_own_name_and_bounded() {
    let rig = Rig::recording().await;
    let (relay, agent) = (rig.relay("tokyo", 9).await, rig.join(1).await);
    let mut home = IngestClient::new(rig.connect(&relay).await.unwrap());
    let notice = wire::RelayNotice {
        id: vec![1; 16].into(),
        name: "RefuseAgent".to_owned(),
        agent_id: agent.agent.as_bytes().to_vec().into(),
        count: 3,
        address: "192.0.2.1".to_owned(),
        reason: "a reason\u{1b}[2J".to_owned(),
        details: r#"{"noticedBy":"osaka","agent":"another","k":7}"#.to_owned(),
        noticed: 1_700_000_000_000_000_000,
    };
    let standing = Some(wire::RelayStanding { owing: 2, waiting: 1, last_receipt: 5 });
    home.report(wire::RelayReport { standing, notices: vec![notice.clone()] }).await.unwrap();
    let records = rig.records();
    let record = records.iter().find(|record| record.bytes.windows(11).any(|at| at == b"RefuseAgent")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record.bytes).unwrap();
    let said = &record["requestParameters"];
    assert_eq!((&said["noticedBy"], &said["agent"]), (&"tokyo".into(), &agent.agent.to_string().into()), "{record:#}");
    assert_eq!((&said["reason"], &said["k"], &said["count"]), (&"a reason[2J".into(), &7.into(), &3.into()));
    let listed = rig.control.relay(&"tokyo".parse().unwrap()).unwrap().unwrap();
    assert_eq!(listed.standing.map(|standing| (standing.owing, standing.last_receipt_ns)), Some((2, Some(5))));

    for bad in [
        wire::RelayNotice { name: "StopLogging".to_owned(), ..notice.clone() },
        wire::RelayNotice { id: vec![1; 15].into(), ..notice.clone() },
        wire::RelayNotice { details: "[]".to_owned(), ..notice.clone() },
        wire::RelayNotice { agent_id: vec![].into(), ..notice.clone() },
    ] {
        let refused = home.report(wire::RelayReport { standing: None, notices: vec![bad] }).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
    let many = wire::RelayReport { standing: None, notices: vec![notice; 65] };
    assert_eq!(home.report(many).await.unwrap_err().code(), Code::InvalidArgument);
    let tls = rig.credentials(&agent);
    let channel = edgetrail_link::uplink::channel(&rig.endpoint, tls.tls.clone()).await.unwrap();
    let refused = IngestClient::new(channel).report(wire::RelayReport::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied, "agents report nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_shown_its_own_receipt_for_what_it_lacks_signs_under_a_new_key() {
    let rig = Rig::recording().await;
    let (relay, agent) = (rig.relay("tokyo", 9).await, rig.join(1).await);
    let mut client = IngestClient::new(rig.connect(&relay).await.unwrap());
    let mut stream = agent.stream(1);
    let mut itself = rig.opened(&agent, &stream).await;
    itself.batch(stream.batch(&["A"])).await;
    let held = itself.receipt().await;
    let before = rig.ledger.signs_as();
    let follow = |receipt: Vec<u8>| wire::FollowRequest { receipt: receipt.into(), ..Default::default() };
    let mut states = client.follow(follow(held.encode())).await.unwrap().into_inner();
    assert_eq!(states.message().await.unwrap().unwrap().signs_as, before.0.to_vec(), "what it holds shows nothing");
    let beyond = rig.pki.receipt_signer().sign(stream.open.stream, 1, Hash::ZERO, 90, now_ns());
    let mut states = client.follow(follow(beyond.encode())).await.unwrap().into_inner();
    let told = states.message().await.unwrap().unwrap();
    assert_ne!(rig.ledger.signs_as(), before);
    assert_eq!(told.signs_as, rig.ledger.signs_as().0.to_vec());
    let forged = ReceiptSigner::from_seed(&[1; 32]).sign(stream.open.stream, 1, Hash::ZERO, 90, now_ns());
    client.follow(follow(forged.encode())).await.unwrap();
    assert_eq!(told.signs_as, rig.ledger.signs_as().0.to_vec(), "only an own receipt shows it");
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
