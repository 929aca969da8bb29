//! The webhook over a real socket, with the test as its pipeline.

use super::*;
use crate::observation::{self, Outcome, Outlet};
use crate::sources::listener::tests::{loopback, post};

struct Served {
    address: SocketAddr,
    outlet: Outlet,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), SourceError>>,
}

#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
async fn served() -> Served {
    let source = KubernetesSource::open(&Config { listen: loopback(), ..Config::default() }).await.unwrap();
    let address = source.listener.addresses()[0];
    let (intake, outlet) = observation::intake();
    let stop = CancellationToken::new();
    let task = tokio::spawn(source.run(intake, stop.clone()));
    Served { address, outlet, stop, task }
}

const LIST: &str = r#"{"kind":"EventList","items":[{"auditID":"a","stage":"ResponseComplete","verb":"get","requestReceivedTimestamp":"2026-01-01T00:00:00Z"},7]}"#;

async fn answered(outcomes: [Outcome; 2]) -> (Vec<String>, StatusCode, http::HeaderMap) {
    let mut served = served().await;
    let pipeline = async {
        let group = served.outlet.recv().await.unwrap();
        let mut positions = Vec::new();
        for (observation, outcome) in group.into_iter().zip(outcomes) {
            positions.push(observation.position);
            observation.answer.unwrap().0.send(outcome).unwrap();
        }
        positions
    };
    let (positions, (status, headers, _)) = tokio::join!(pipeline, post(served.address, "/audit", &[], LIST.into(), false));
    served.stop.cancel();
    served.task.await.unwrap().unwrap();
    (positions, status, headers)
}

#[tokio::test]
async fn a_batch_is_answered_after_the_commit_of_all_of_it() {
    let committed = || Outcome::Committed { event_ids: vec![] };
    let (positions, status, _) = answered([committed(), Outcome::Refused]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(positions[0], "a/ResponseComplete/2026-01-01T00:00:00Z");
    assert!(positions[1].starts_with("sha256:"), "what is no event is taken too: {positions:?}");
    let (_, status, headers) = answered([committed(), Outcome::Unavailable { retry_after_s: 9 }]).await;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (StatusCode::SERVICE_UNAVAILABLE, "9"));
}

#[tokio::test]
async fn what_holds_no_events_is_refused_and_said() {
    let served = served().await;
    for (body, status) in [("", StatusCode::BAD_REQUEST), ("{", StatusCode::BAD_REQUEST), ("[]", StatusCode::BAD_REQUEST)] {
        assert_eq!(post(served.address, "/", &[], body.into(), true).await.0, status);
    }
    let empty = r#"{"kind":"EventList","items":[]}"#;
    assert_eq!(post(served.address, "/", &[], empty.into(), false).await.0, StatusCode::OK);
}
