//! What is refused, with the right reason, and without a trace in the ledger.

use std::time::{Duration, SystemTime};

use edgetrail_link::body::Encoding;
use edgetrail_link::wire::{RefusalReason, Resume, from_agent, from_collector};
use edgetrail_proto::chain::{Binding, Cause, Header, Predecessor};
use edgetrail_proto::identity::AgentId;
use edgetrail_proto::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};

use super::rig::{ACCOUNT, Conversation, REGION, Rig, flip, issue, record, record_in};
use crate::ledger::Quarantine;
use crate::pki::Pki;

/// Sends one batch on a fresh stream and gives the reason it is refused for; the ledger stays empty.
async fn refused(change: impl FnOnce(&mut edgetrail_link::wire::Batch)) -> RefusalReason {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let mut stream = agent.stream(1);
    let mut conversation = rig.opened(&agent, &stream).await;
    let mut batch = stream.batch(&["One", "Two"]);
    change(&mut batch);
    conversation.batch(batch).await;
    let reason = conversation.refusal().await.reason();
    assert_eq!(rig.ledger.next_index(), 0, "nothing is committed");
    reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_a_seal_or_a_body_that_was_touched_is_refused_as_chain() {
    // t_sealed, a counter, the root, the next key, the last receipt's hash.
    for at in [19 + 16 + 8 + 1 + 8 + 4, 150, 170, 200, 263] {
        let reason = refused(|batch| batch.header = flip(&batch.header, at)).await;
        assert_eq!(reason, RefusalReason::Chain, "header byte {at}");
    }
    assert_eq!(refused(|batch| batch.seal = flip(&batch.seal, 10)).await, RefusalReason::Chain);
    assert_eq!(refused(|batch| batch.seal = batch.seal.slice(..63)).await, RefusalReason::Chain);
    let touched = refused(|batch| {
        batch.encoding = Encoding::Identity.to_wire();
        let mut body = Vec::new();
        ["One", "Twx"].iter().for_each(|name| edgetrail_link::body::frame(&mut body, record(name).as_bytes()));
        batch.body = body.into();
    });
    assert_eq!(touched.await, RefusalReason::Chain);
    let cut = refused(|batch| batch.body = batch.body.slice(..batch.body.len() - 1));
    assert_eq!(cut.await, RefusalReason::Chain);
    let missing = refused(|batch| (batch.body, batch.body_bytes, batch.encoding) = (bytes::Bytes::new(), 0, 0));
    assert_eq!(missing.await, RefusalReason::Chain);
    assert_eq!(refused(|batch| batch.header = batch.header.slice(..100)).await, RefusalReason::Chain);
    assert_eq!(refused(|batch| batch.encoding = 77).await, RefusalReason::Chain);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_refused_before_it_is_unpacked() {
    let bomb = zstd::bulk::compress(&vec![0; 256 << 20], 19).unwrap();
    let announced = refused(|batch| (batch.body, batch.body_bytes) = (bomb.clone().into(), 256 << 20));
    assert_eq!(announced.await, RefusalReason::Chain);
    let disguised = refused(|batch| (batch.body, batch.encoding) = (bomb.into(), Encoding::Zstd.to_wire()));
    assert_eq!(disguised.await, RefusalReason::Chain);
    let flat = vec![0; BATCH_BYTES_MAX + BATCH_RECORDS_MAX * 4 + 1];
    let long = refused(|batch| (batch.body, batch.encoding) = (flat.into(), Encoding::Identity.to_wire()));
    assert_eq!(long.await, RefusalReason::Chain);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_out_of_order_is_told_where_to_go_on() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let mut stream = agent.stream(1);
    let mut conversation = rig.opened(&agent, &stream).await;
    let first = stream.batch(&["One"]);
    let second = stream.batch(&["Two"]);
    conversation.batch(second.clone()).await;
    let expect = conversation.hear().await;
    assert!(matches!(&expect, Some(from_collector::Message::Expect(expect)) if expect.head.is_none()), "{expect:?}");
    assert!(conversation.hear().await.is_none(), "the session ends");
    assert_eq!(rig.ledger.next_index(), 0);

    let mut conversation = rig.resumed(&agent).await;
    for batch in [&first, &second, &first, &second] {
        conversation.batch(batch.clone()).await;
    }
    let mut highest = None;
    while highest < Some(1) {
        highest = highest.max(Some(conversation.receipt().await.k));
    }
    assert_eq!(rig.ledger.next_index(), 2, "duplicates are committed once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_branch_freezes_the_agent_until_it_joins_again() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let mut stream = agent.stream(1);
    let mut conversation = rig.opened(&agent, &stream).await;
    let mut clone = stream.clone();
    conversation.batch(stream.batch(&["One"])).await;
    assert_eq!(conversation.receipt().await.k, 0);

    // Another batch under the same k, rightly sealed: two hosts have the seed.
    let branch = clone.batch(&["Other"]);
    let mut tampered = branch.clone();
    tampered.seal = flip(&tampered.seal, 3);
    conversation.batch(tampered).await;
    assert_eq!(conversation.refusal().await.reason(), RefusalReason::Chain, "a flipped bit accuses nobody");
    let mut conversation = rig.resumed(&agent).await;
    conversation.batch(branch).await;
    let refusal = conversation.refusal().await;
    assert_eq!((refusal.reason(), refusal.stream.as_ref()), (RefusalReason::Fork, [1; 16].as_slice()));
    assert_eq!(rig.ledger.next_index(), 1);

    let mut conversation = rig.attach(&agent).await.unwrap();
    conversation.say(from_agent::Message::Resume(Resume::default())).await;
    assert_eq!(conversation.refusal().await.reason(), RefusalReason::Fork, "both branches are frozen, and hear it at once");

    let rejoined = rig.join(1).await;
    let successor = |agent: &super::rig::TestAgent| {
        agent.stream_with(2, |open| {
            open.cause = Cause::Fork;
            open.t_opened = 2000;
            let (k, hash) = (0, stream.writer.head());
            open.predecessor = Some(Predecessor { stream: stream.open.stream, k, hash });
        })
    };
    let mut fresh = successor(&rejoined);
    let mut conversation = rig.opened(&rejoined, &fresh).await;
    conversation.batch(fresh.batch(&["Three"])).await;
    assert_eq!(conversation.receipt().await.k, 0);
    assert_eq!(rig.records().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_is_not_the_peers_own_is_refused_as_identity() {
    let rig = Rig::start().await;
    let (agent, other) = (rig.join(1).await, rig.join(2).await);
    let mut openings = vec![
        ("another agent's", other.stream(9).opening()),
        ("an id of nobody", agent.stream_with(9, |open| open.agent = AgentId::from_bytes([7; 16])).opening()),
        (
            "another account",
            agent
                .stream_with(9, |open| {
                    open.binding = Binding::one("999999999999".parse().unwrap(), REGION.parse().unwrap(), "host").unwrap();
                })
                .opening(),
        ),
        ("everything", agent.stream_with(9, |open| open.binding = Binding::all("host").unwrap()).opening()),
    ];
    let scopes = [ACCOUNT, "999999999999"].map(|account| (account.parse().unwrap(), REGION.parse().unwrap()));
    let wide = Binding::set(scopes, "host").unwrap();
    openings.push(("more than its own", agent.stream_with(9, |open| open.binding = wide).opening()));
    let good = agent.stream(9).opening();
    let mut unsigned = good.clone();
    unsigned.signature = flip(&unsigned.signature, 20);
    openings.push(("a bad signature", unsigned));
    let mut unbound = good.clone();
    unbound.binding = b"111122223333/dc-local-1\nother\n".as_slice().into();
    openings.push(("another binding", unbound));
    let mut swapped = good.clone();
    swapped.certificate_chain = other.stream(9).opening().certificate_chain;
    openings.push(("another certificate", swapped));
    let mut bare = good.clone();
    bare.certificate_chain.clear();
    openings.push(("no certificate", bare));
    let mut huge = good.clone();
    huge.certificate_chain = vec![vec![0; 1 << 20].into(); 3];
    openings.push(("huge certificates", huge));
    for (what, opening) in openings {
        let mut conversation = rig.resumed(&agent).await;
        conversation.say(from_agent::Message::Opening(opening)).await;
        assert_eq!(conversation.refusal().await.reason(), RefusalReason::Identity, "{what}");
        assert!(rig.ledger.streams().unwrap().is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_or_a_resume_of_another_agents_stream_is_refused_as_identity() {
    let rig = Rig::start().await;
    let (agent, other) = (rig.join(1).await, rig.join(2).await);
    let mut stream = agent.stream(1);
    drop(rig.opened(&agent, &stream).await);
    let mut conversation = rig.resumed(&other).await;
    conversation.batch(stream.batch(&["Stolen"])).await;
    assert_eq!(conversation.refusal().await.reason(), RefusalReason::Identity);

    let mut conversation = rig.attach(&other).await.unwrap();
    let held = edgetrail_link::wire::HeldStream { opening: Some(stream.opening()), ..Default::default() };
    conversation.say(from_agent::Message::Resume(Resume { streams: vec![held], ..Default::default() })).await;
    assert_eq!(conversation.refusal().await.reason(), RefusalReason::Identity);
    assert_eq!(rig.ledger.next_index(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_certificate_there_is_no_connection() {
    let rig = Rig::start().await;
    let directory = tempfile::tempdir().unwrap();
    let domain: edgetrail_proto::identity::TrustDomain = "edgetrail.internal".parse().unwrap();
    let foreign_pki = Pki::open(directory.path(), domain.clone(), &[], rig.control.revoked()).unwrap();
    let now = SystemTime::now();
    let day = Duration::from_secs(24 * 3600);
    let expired = rig.issue_at(1, now - 2 * day);
    let not_yet = rig.issue_at(1, now + day);
    let foreign = issue(&foreign_pki, 1, now);
    let revoked = rig.join(3).await;
    rig.control.revoke_agent(revoked.agent, 1).unwrap();
    for (what, agent) in [("expired", &expired), ("not yet valid", &not_yet), ("foreign", &foreign), ("revoked", &revoked)] {
        assert!(rig.attach(agent).await.is_err(), "{what}");
    }
    let mut anonymous = (*rig.credentials(&expired)).clone();
    anonymous.tls = edgetrail_link::tls::client_config(&rig.pki.roots(), None).unwrap();
    assert!(Conversation::begin(&rig.endpoint, &anonymous).await.is_err(), "no certificate");

    // A server certificate is no agent's, though the same CA gave it.
    let server = rig.pki.authority().issue_server(&[], now).unwrap();
    anonymous.tls = edgetrail_link::tls::client_config(&rig.pki.roots(), Some(server)).unwrap();
    assert!(Conversation::begin(&rig.endpoint, &anonymous).await.is_err(), "a server's certificate");
    assert!(rig.attach(&rig.join(1).await).await.is_ok(), "a joined agent gets in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_before_the_last_join_is_refused_as_identity() {
    let rig = Rig::start().await;
    let clone = rig.issue_at(1, SystemTime::now() - Duration::from_secs(60));
    rig.join(1).await;
    let mut conversation = rig.attach(&clone).await.unwrap();
    conversation.say(from_agent::Message::Resume(Resume::default())).await;
    assert_eq!(conversation.refusal().await.reason(), RefusalReason::Identity);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_protocol_does_not_allow_ends_the_session() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let mut stream = agent.stream(1);
    let mut unresumed = rig.attach(&agent).await.unwrap();
    unresumed.say(from_agent::Message::Opening(stream.opening())).await;
    assert_eq!(unresumed.refusal().await.reason(), RefusalReason::Protocol);
    let mut twice = rig.resumed(&agent).await;
    twice.say(from_agent::Message::Resume(Resume::default())).await;
    assert_eq!(twice.refusal().await.reason(), RefusalReason::Protocol);
    let mut unopened = rig.resumed(&agent).await;
    unopened.batch(stream.batch(&["One"])).await;
    assert_eq!(unopened.refusal().await.reason(), RefusalReason::Protocol);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_connection_and_a_revocation_end_the_older_one() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let mut first = rig.resumed(&agent).await;
    let mut second = rig.resumed(&agent).await;
    assert_eq!(first.ended().await, tonic::Code::Aborted);
    rig.control.revoke_agent(agent.agent, 1).unwrap();
    assert_eq!(second.ended().await, tonic::Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_batch_is_not_refused_for_its_content() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let mut stream = agent.stream(1);
    let mut conversation = rig.opened(&agent, &stream).await;
    let records = [record("Good"), "not json".to_owned(), record_in("999999999999", "Elsewhere"), String::new()];
    let batch = stream.batch_of(&records);
    let header = Header::decode(&batch.header).unwrap();
    conversation.batch(batch).await;
    let receipt = conversation.receipt().await;
    assert_eq!((receipt.k, receipt.head), (0, header.hash()));
    let stored = rig.records();
    assert!(stored[0].facets.is_ok());
    assert!(matches!(stored[1].facets, Err(Quarantine::NotJson(_))));
    assert!(matches!(stored[2].facets, Err(Quarantine::OutsideBinding { .. })));
    assert!(stored[3].facets.is_err());
    assert!(stored.iter().zip(&records).all(|(stored, sent)| stored.bytes == sent.as_bytes()), "bytes are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_quarantined_and_who_is_refused_becomes_an_event() {
    let rig = Rig::recording().await;
    let agent = rig.join(1).await;
    let mut stream = agent.stream(1);
    let mut conversation = rig.opened(&agent, &stream).await;
    conversation.batch(stream.batch_of(&["not json".to_owned(), "nor this".to_owned()])).await;
    conversation.receipt().await;
    let mut touched = stream.batch(&["One"]);
    touched.seal = flip(&touched.seal, 0);
    conversation.batch(touched).await;
    conversation.refusal().await;
    let events = || -> Vec<_> {
        let records = rig.records().into_iter().filter_map(|record| record.facets.ok());
        records.map(|facets| (facets.name, facets.source)).collect()
    };
    let mut ledger = rig.ledger.watch();
    let both = async {
        while events().len() < 2 {
            ledger.changed().await.unwrap();
        }
    };
    tokio::time::timeout(super::rig::PATIENCE, both).await.expect("two events");
    let source = crate::ingest::EVENT_SOURCE.to_owned();
    assert_eq!(events(), ["QuarantineRecords", "RefuseAgent"].map(|name| (name.to_owned(), source.clone())));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_attaches_as_the_collector_itself() {
    let rig = Rig::recording().await;
    let internal = rig.ledger.streams().unwrap().remove(0).info.agent;
    let impostor = rig.join_as(internal).await;
    let mut conversation = rig.attach(&impostor).await.unwrap();
    conversation.say(from_agent::Message::Resume(Resume::default())).await;
    assert_eq!(conversation.refusal().await.reason(), RefusalReason::Identity);
}
