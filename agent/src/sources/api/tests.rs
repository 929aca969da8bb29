//! The source over a real socket, with the test as its pipeline.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::observation::{self, Outcome, Outlet, Payload};

const ONE: &str = r#"{"eventSource":"a.b","eventName":"C"}"#;

/// Of one account and region.
pub(super) fn binding() -> Binding {
    Binding::one("111122223333".parse().unwrap(), "dc-local-1".parse().unwrap(), "web-1").unwrap()
}

struct Served {
    path: PathBuf,
    outlet: Outlet,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), SourceError>>,
    _dir: tempfile::TempDir,
}

#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
async fn served() -> Served {
    let dir = tempfile::tempdir().unwrap();
    let source = ApiSource::open(&Config::default(), dir.path(), &binding()).await.unwrap();
    let (intake, outlet) = observation::intake();
    let stop = CancellationToken::new();
    let task = tokio::spawn(source.run(intake, stop.clone()));
    Served { path: dir.path().join("api.sock"), outlet, stop, task, _dir: dir }
}

async fn request(path: &Path, head: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let text = format!("{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}

async fn answered(served: &mut Served, head: &str, body: &str, outcome: Outcome) -> (Vec<String>, String) {
    let pipeline = async {
        let group = served.outlet.recv().await.unwrap();
        let mut positions = Vec::new();
        for observation in group {
            positions.push(observation.position);
            observation.answer.unwrap().0.send(outcome.clone()).unwrap();
        }
        positions
    };
    tokio::join!(pipeline, request(&served.path, head, body))
}

#[tokio::test]
async fn a_caller_is_answered_after_the_commit_with_its_event_ids() {
    let mut served = served().await;
    let id = uuid::Uuid::from_u128(7);
    let pipeline = async {
        let group = served.outlet.recv().await.unwrap();
        let [observation] = <[_; 1]>::try_from(group).unwrap();
        let Payload::Post(post) = &observation.payload else { panic!("not a post") };
        let Sender::Process(peer) = &post.sender else { panic!("not a process") };
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(post.event, ONE.as_bytes());
        // Nothing is answered before the pipeline says so.
        tokio::task::yield_now().await;
        observation.answer.unwrap().0.send(Outcome::Committed { event_ids: vec![id] }).unwrap();
    };
    let ((), reply) = tokio::join!(pipeline, request(&served.path, "POST /v1/events HTTP/1.1", ONE));
    assert!(reply.starts_with("HTTP/1.1 200 OK"), "{reply}");
    assert!(reply.contains(r#""committed":1"#) && reply.contains(&id.to_string()), "{reply}");
    served.stop.cancel();
    served.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_clients_own_id_makes_the_position() {
    let mut served = served().await;
    let uid = rustix::process::getuid().as_raw();
    let committed = Outcome::Committed { event_ids: vec![] };
    let head = "POST /v1/events HTTP/1.1\r\nIdempotency-Key: k";
    let (positions, _) = answered(&mut served, head, ONE, committed.clone()).await;
    assert_eq!(positions, [format!("{uid}:k")]);
    let (positions, _) = answered(&mut served, head, &format!("[{ONE},{ONE}]"), committed.clone()).await;
    assert_eq!(positions, [format!("{uid}:k/0"), format!("{uid}:k/1")]);
    let own = r#"{"eventSource":"a.b","eventName":"C","id":"mine"}"#;
    let (positions, _) = answered(&mut served, "POST /v1/events HTTP/1.1", own, committed).await;
    assert_eq!(positions, [format!("{uid}:mine")]);
}

#[tokio::test]
async fn a_full_buffer_is_a_503_with_a_hint() {
    let mut served = served().await;
    let outcome = Outcome::Unavailable { retry_after_s: 9 };
    let (_, reply) = answered(&mut served, "POST /v1/events HTTP/1.1", ONE, outcome).await;
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    assert!(reply.contains("retry-after: 9"), "{reply}");
}

#[tokio::test]
async fn what_is_wrong_is_a_4xx_that_names_the_place() {
    let served = served().await;
    for (head, body, status, part) in [
        ("GET /v1/events HTTP/1.1", "", "405", "use POST"),
        ("POST / HTTP/1.1", "", "404", "POST /v1/events"),
        ("POST /v1/events HTTP/1.1", "", "400", "empty"),
        ("POST /v1/events HTTP/1.1", "{", "400", r#""offset":1"#),
        ("POST /v1/events HTTP/1.1", r#"[{"eventSource":"a"}]"#, "400", r#""at":"$[0].eventName""#),
        ("POST /v1/events HTTP/1.1\r\ncontent-encoding: gzip", ONE, "415", "plain JSON"),
        ("POST /v1/events HTTP/1.1\r\nidempotency-key: ", ONE, "400", "Idempotency-Key"),
    ] {
        let reply = request(&served.path, head, body).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")) && reply.contains(part), "{head}: {reply}");
    }
    let large = "x".repeat(BODY_BYTES_MAX + 1);
    let mut stream = UnixStream::connect(&served.path).await.unwrap();
    let head = format!("POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", large.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"HTTP/1.1 413");
}

#[expect(clippy::disallowed_methods, reason = "the task ends with the test")]
#[tokio::test]
async fn over_the_network_a_token_says_who_posts() {
    use crate::sources::listener::tests::{loopback, post};
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("tokens");
    std::fs::write(&token_file, "shop 0123456789abcdef\n").unwrap();
    let config = Config { listen: loopback(), token_file: Some(token_file), ..Config::default() };
    let source = ApiSource::open(&config, dir.path(), &binding()).await.unwrap();
    let address = source.network.as_ref().unwrap().listener.addresses()[0];
    let (intake, mut outlet) = observation::intake();
    let stop = CancellationToken::new();
    let _ends = stop.clone().drop_guard();
    drop(tokio::spawn(source.run(intake, stop)));
    assert_eq!(post(address, "/v1/events", &[], ONE.into(), false).await.0, StatusCode::UNAUTHORIZED);
    let pipeline = async {
        let [observation] = <[_; 1]>::try_from(outlet.recv().await.unwrap()).unwrap();
        let Payload::Post(sent) = &observation.payload else { panic!("not a post") };
        assert!(matches!(&sent.sender, Sender::Network(remote) if &*remote.name == "shop"), "{sent:?}");
        assert_eq!(sent.trace.as_ref().unwrap().trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(observation.position, "token shop:k");
        observation.answer.unwrap().0.send(Outcome::Committed { event_ids: vec![] }).unwrap();
    };
    let headers = [
        ("authorization", "Bearer 0123456789abcdef"),
        ("idempotency-key", "k"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let ((), (status, _, _)) = tokio::join!(pipeline, post(address, "/v1/events", &headers, ONE.into(), true));
    assert_eq!(status, StatusCode::OK);
}

#[test]
fn without_tokens_nothing_is_taken_over_the_network() {
    let open = Config { listen: vec!["127.0.0.1:1".parse().unwrap()], ..Config::default() };
    assert!(open.trouble().unwrap().contains("token_file"));
    assert_eq!(Config { token_file: Some("t".into()), ..open }.trouble(), None);
    assert_eq!(Config::default().trouble(), None);
}
