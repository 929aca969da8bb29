//! An agent from which nothing comes is named in time, once, and once more when it is back.

use std::time::Duration;

use edgetrail_link::uplink::Endpoint;
use edgetrail_link::wire::{self, from_agent, from_collector};
use edgetrail_proto::limits::SILENCE_MAX;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rig::{Conversation, PATIENCE, Rig};

fn noticed(rig: &Rig, name: &str) -> usize {
    let name = format!("\"eventName\":\"{name}\"");
    let is_it = |bytes: &[u8]| bytes.windows(name.len()).any(|at| at == name.as_bytes());
    rig.records().iter().filter(|record| is_it(&record.bytes)).count()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{what} in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stands_still_is_named_in_time_and_named_again_when_it_is_back() {
    let rig = Rig::recording().await;
    let agent = rig.join(1).await;
    let mut stream = agent.stream(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
    let (paused, behind) = (CancellationToken::new(), rig.endpoint.port);
    let mut passing = tokio::task::JoinSet::new();
    let stands_still = paused.clone();
    passing.spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => {}
            // Both ends stay open, and nothing comes: as of a host that stands still.
            () = stands_still.cancelled() => std::future::pending().await,
        }
    });
    let mut itself = Conversation::begin(&through, &rig.credentials(&agent)).await.unwrap();
    itself.say(from_agent::Message::Resume(wire::Resume::default())).await;
    assert!(matches!(itself.hear().await, Some(from_collector::Message::Resumed(_))));
    itself.say(from_agent::Message::Opening(stream.opening())).await;
    assert!(matches!(itself.hear().await, Some(from_collector::Message::Opened(_))));
    itself.batch(stream.batch(&["A"])).await;
    itself.receipt().await;
    paused.cancel();
    let since = Instant::now();
    until("the silence", || noticed(&rig, "SilentStream") > 0).await;
    assert!(since.elapsed() <= SILENCE_MAX, "{:?}", since.elapsed());
    let mut again = rig.resumed(&agent).await;
    until("the return", || noticed(&rig, "HearStream") > 0).await;
    again.batch(stream.batch(&["B"])).await;
    again.receipt().await;
    // A connection that comes right back is no silence.
    drop(again);
    let mut again = rig.resumed(&agent).await;
    again.batch(stream.batch(&["C"])).await;
    again.receipt().await;
    assert_eq!((noticed(&rig, "SilentStream"), noticed(&rig, "HearStream")), (1, 1));
}
