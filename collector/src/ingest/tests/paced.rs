//! What one agent brings too much of comes slowly, and nobody else waits for it.

use edgetrail_link::wire::from_agent;
use edgetrail_proto::chain::{Cause, Predecessor};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::rig::{PATIENCE, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_opens_comes_slowly_and_another_agent_goes_on() {
    let rig = Rig::start().await;
    let (busy, other) = (rig.join(1).await, rig.join(2).await);
    let mut openings = vec![busy.stream(1)];
    for number in 2..200 {
        let former = openings.last().unwrap();
        let predecessor = Predecessor { stream: former.open.stream, k: Predecessor::NO_BATCH, hash: former.writer.head() };
        openings.push(busy.stream_with(number, |open| {
            (open.cause, open.t_opened) = (Cause::BufferOrKeyLost, 1000 + u64::from(number));
            open.predecessor = Some(predecessor);
        }));
    }
    let mut flooding = rig.resumed(&busy).await;
    let began = Instant::now();
    let mut floods = JoinSet::new();
    floods.spawn(async move {
        for stream in &openings {
            flooding.say(from_agent::Message::Opening(stream.opening())).await;
        }
        flooding
    });
    let mut stream = other.stream(250);
    let mut itself = rig.opened(&other, &stream).await;
    for k in 0..20 {
        itself.batch(stream.batch(&["A"])).await;
        assert_eq!(itself.receipt().await.k, k);
    }
    let recorded = || rig.ledger.streams_of(busy.agent).unwrap().len();
    let all_at_once = async {
        while recorded() < 32 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_at_once).await.expect("some at once");
    // From then on one a second, however many wait.
    tokio::time::sleep_until(Instant::now() + std::time::Duration::from_secs(2)).await;
    let recorded = recorded();
    let allowed = 33 + usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(recorded > 32 && recorded <= allowed, "{recorded} of at most {allowed}");
}
