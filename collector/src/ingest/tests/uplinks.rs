//! The real uplink against the real ingest: everything once, in order, whatever the connection does.

use std::sync::Arc;
use std::time::Duration;

use edgetrail_link::uplink::{Credentials, Endpoint, Status, Uplink, UplinkOptions};
use edgetrail_proto::chain::{Cause, Predecessor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::outbox::MemoryOutbox;
use super::rig::{PATIENCE, Rig, TestAgent};

struct Running {
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _credentials: watch::Sender<Arc<Credentials>>,
}

impl Running {
    fn start(rig: &Rig, agent: &TestAgent, outbox: &Arc<MemoryOutbox>, endpoints: Vec<Endpoint>) -> Self {
        let (sender, credentials) = watch::channel(rig.credentials(agent));
        let options =
            UplinkOptions { endpoints, return_after: Duration::from_millis(300), credentials, agent_version: "1".to_owned() };
        let (uplink, status) = Uplink::new(outbox.clone(), options);
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let stopped = stop.clone();
        tasks.spawn(async move { uplink.run(stopped).await });
        Self { status, stop, tasks, _credentials: sender }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.tasks.join_next()).await.expect("it stops").unwrap().unwrap();
    }
}

/// Waits until everything has its receipt.
async fn receipted(outbox: &MemoryOutbox, status: &watch::Receiver<Status>) {
    let mut status = status.clone();
    let all = async {
        while outbox.unreceipted() > 0 {
            status.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("no receipts: {:?}", status.borrow()));
}

fn names(batch: usize, records: usize) -> Vec<String> {
    (0..records).map(|record| format!("B{batch}R{record}")).collect()
}

fn committed(rig: &Rig) -> Vec<String> {
    rig.records().iter().map(|record| record.facets.as_ref().unwrap().name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_before_and_during_a_session_arrives_once_in_order() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let outbox = MemoryOutbox::new(agent.stream(1));
    (0..40).for_each(|batch| outbox.seal(&names(batch, 3)));
    let running = Running::start(&rig, &agent, &outbox, vec![rig.endpoint.clone()]);
    receipted(&outbox, &running.status).await;
    (40..60).for_each(|batch| outbox.seal(&names(batch, 2)));
    receipted(&outbox, &running.status).await;
    let sent: Vec<String> = (0..60).flat_map(|batch| names(batch, if batch < 40 { 3 } else { 2 })).collect();
    assert_eq!(committed(&rig), sent);
    let receipts = outbox.receipts();
    assert!(receipts.len() < 30, "receipts are cumulative: {} for 60 batches", receipts.len());
    let mut status = running.status.clone();
    let rested = tokio::time::timeout(PATIENCE, status.wait_for(|status| status.in_flight == 0)).await.unwrap().unwrap().clone();
    assert_eq!((rested.last_receipt.unwrap().k, rested.connected), (59, Some(rig.endpoint.clone())));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_opened_during_a_session_follows_on_the_same_connection() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let outbox = MemoryOutbox::new(agent.stream(1));
    let running = Running::start(&rig, &agent, &outbox, vec![rig.endpoint.clone()]);
    outbox.seal(&names(0, 1));
    receipted(&outbox, &running.status).await;
    outbox.seal(&names(1, 1));
    let former = outbox.current();
    outbox.open(agent.stream_with(2, |open| {
        open.cause = Cause::BufferOrKeyLost;
        open.t_opened = 2000;
        open.predecessor = Some(Predecessor { stream: former.open.stream, k: 1, hash: former.writer.head() });
    }));
    outbox.seal(&names(2, 1));
    receipted(&outbox, &running.status).await;
    assert_eq!(committed(&rig), ["B0R0", "B1R0", "B2R0"]);
    let streams = rig.ledger.streams_of(agent.agent).unwrap();
    assert_eq!(streams[0].superseded_by, Some(streams[1].info.stream));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_sends_what_is_sealed_and_waits_for_its_receipt() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let outbox = MemoryOutbox::new(agent.stream(1));
    let mut running = Running::start(&rig, &agent, &outbox, vec![rig.endpoint.clone()]);
    let connected = running.status.wait_for(|status| status.connected.is_some());
    tokio::time::timeout(PATIENCE, connected).await.unwrap().unwrap();
    (0..5).for_each(|batch| outbox.seal(&names(batch, 1)));
    running.stop().await;
    assert_eq!(outbox.unreceipted(), 0);
    assert_eq!(committed(&rig).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_told_to_the_store_and_shown() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let stream = agent.stream(1);
    let mut clone = stream.clone();
    let outbox = MemoryOutbox::new(stream.clone());
    let mut conversation = rig.opened(&agent, &stream).await;
    conversation.batch(clone.batch(&["Clone"])).await;
    conversation.receipt().await;
    // The collector's head is not this store's; one that would not look sends its own next batch.
    outbox.seal(&names(0, 1));
    outbox.seal(&names(1, 1));
    let mut branch = stream.clone();
    let own = branch.batch(&["B0R0"]);
    let mut conversation = rig.resumed(&agent).await;
    conversation.batch(own).await;
    conversation.refusal().await;
    let mut running = Running::start(&rig, &agent, &outbox, vec![rig.endpoint.clone()]);
    let forked = running.status.wait_for(|status| status.forked);
    tokio::time::timeout(PATIENCE, forked).await.unwrap().unwrap();
    assert_eq!(outbox.forks(), [stream.open.stream]);
    assert_eq!(committed(&rig), ["Clone"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_endpoint_is_tried_when_the_preferred_one_is_down() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let outbox = MemoryOutbox::new(agent.stream(1));
    outbox.seal(&names(0, 1));
    // A port that was free a moment ago: nobody listens.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let dead = Endpoint { host: "127.0.0.1".to_owned(), port };
    let running = Running::start(&rig, &agent, &outbox, vec![dead, rig.endpoint.clone()]);
    receipted(&outbox, &running.status).await;
    assert_eq!(running.status.borrow().connected, Some(rig.endpoint.clone()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preferred_endpoint_is_returned_to_once_it_is_reachable_again() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let outbox = MemoryOutbox::new(agent.stream(1));
    outbox.seal(&names(0, 1));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let preferred = Endpoint { host: "127.0.0.1".to_owned(), port: address.port() };
    let mut running = Running::start(&rig, &agent, &outbox, vec![preferred.clone(), rig.endpoint.clone()]);
    receipted(&outbox, &running.status).await;
    let status = running.status.borrow().clone();
    assert_eq!(status.connected, Some(rig.endpoint.clone()));
    assert_eq!(status.passed_over.first().map(|passed| &passed.endpoint), Some(&preferred), "{status:?}");

    // The preferred one stands before the same collector: what was sent by the other way is known there.
    let listener = TcpListener::bind(address).await.unwrap();
    let behind = (rig.endpoint.host.clone(), rig.endpoint.port);
    let mut passing = JoinSet::new();
    passing.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (agent_side, _) = listener.accept().await.unwrap();
            let collector_side = TcpStream::connect((behind.0.as_str(), behind.1)).await.unwrap();
            connections.spawn(pass(agent_side, collector_side, usize::MAX));
        }
    });
    let returned = running.status.wait_for(|status| status.connected.as_ref() == Some(&preferred));
    let returned = tokio::time::timeout(PATIENCE, returned).await.expect("it returns").unwrap().clone();
    assert!(returned.passed_over.is_empty() && returned.connected_since.is_some());
    outbox.seal(&names(1, 1));
    receipted(&outbox, &running.status).await;
    assert_eq!(committed(&rig), ["B0R0", "B1R0"]);
    running.stop().await;
}

/// Passes on `budget` bytes, both ways together, then cuts.
async fn pass(agent_side: TcpStream, collector_side: TcpStream, budget: usize) {
    let (mut from_agent, mut to_agent) = agent_side.into_split();
    let (mut from_collector, mut to_collector) = collector_side.into_split();
    let (mut up, mut down) = ([0; 256], [0; 256]);
    let mut left = budget;
    while left > 0 {
        let written = tokio::select! {
            read = from_agent.read(&mut up) => {
                let Some(read) = read.ok().filter(|read| *read > 0) else { return };
                let passed = read.min(left);
                left -= passed;
                to_collector.write_all(&up[..passed]).await
            }
            read = from_collector.read(&mut down) => {
                let Some(read) = read.ok().filter(|read| *read > 0) else { return };
                let passed = read.min(left);
                left -= passed;
                to_agent.write_all(&down[..passed]).await
            }
        };
        if written.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_anywhere_loses_and_doubles_nothing() {
    let rig = Rig::start().await;
    let agent = rig.join(1).await;
    let outbox = MemoryOutbox::new(agent.stream(1));
    (0..10).for_each(|batch| outbox.seal(&names(batch, 2)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
    // Each connection gets a little further than the one before: through the handshake, the resume, the open, into
    // batches and receipts. Some 4 KiB until the resume, 3 until the first batch, 700 bytes a batch, 300 a receipt.
    let (mut budget, mut cuts) = (500, 0);
    while outbox.unreceipted() > 0 {
        let running = Running::start(&rig, &agent, &outbox, vec![through.clone()]);
        let (agent_side, _) = listener.accept().await.unwrap();
        let collector_side = TcpStream::connect((rig.endpoint.host.as_str(), rig.endpoint.port)).await.unwrap();
        tokio::select! {
            () = pass(agent_side, collector_side, budget) => cuts += 1,
            () = receipted(&outbox, &running.status) => {}
        }
        running.stop().await;
        budget += 180;
    }
    assert!(cuts > 20, "{cuts}");
    let sent: Vec<String> = (0..10).flat_map(|batch| names(batch, 2)).collect();
    assert_eq!(committed(&rig), sent);
}
