//! A stand-in for an engine: a Unix socket that answers as Docker's API does. No engine runs where these tests do.

use std::path::Path;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::observation::{Outlet, intake};

const PATIENCE: Duration = Duration::from_secs(60);

/// Events that the stand-in keeps, with their times; those that are asked to go on wait for more.
#[derive(Clone, Default)]
struct Engine(Arc<Mutex<Vec<(u64, String)>>>);

fn event(number: u64, action: &str) -> (u64, String) {
    let time = 1_700_000_000_000_000_000 + number * 10_000_000_000;
    let text = json!({"Type": "container", "Action": action, "Actor": {"ID": "c1", "Attributes": {"image": "nginx", "name": "web"}},
        "scope": "local", "time": time / 1_000_000_000, "timeNano": time});
    (time, text.to_string())
}

impl Engine {
    #[expect(clippy::disallowed_methods, reason = "the test's stand-in ends with its runtime")]
    fn listen(&self, path: &Path) -> tokio::task::JoinHandle<()> {
        let listener = UnixListener::bind(path).unwrap();
        let engine = self.clone();
        tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                serving.spawn(engine.clone().answer(stream));
            }
        })
    }

    async fn answer(self, mut stream: UnixStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        if head.contains("/containers/c1/json") {
            let body = json!({"Config": {"Cmd": ["nginx"], "Env": ["DB_PASSWORD=x"]}, "HostConfig": {"Privileged": true, "Binds": ["/:/host"]}, "Mounts": []}).to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _sent = stream.write_all(answer.as_bytes()).await;
            return;
        }
        if head.contains("/containers/json?all=1") {
            let body = json!([{"Id": "c0", "Image": "redis:7"}]).to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _sent = stream.write_all(answer.as_bytes()).await;
            return;
        }
        let since =
            head.split("since=").nth(1).unwrap().split(['&', ' ']).next().unwrap().replace('.', "").parse::<u64>().unwrap();
        let is_bounded = head.contains("until=");
        let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let mut sent = 0;
        loop {
            let all: Vec<(u64, String)> = self.0.lock().unwrap().clone();
            for (time, text) in all.iter().skip(sent) {
                if *time >= since && stream.write_all(format!("{:x}\r\n{text}\n\r\n", text.len() + 1).as_bytes()).await.is_err() {
                    return;
                }
            }
            sent = all.len().max(sent);
            if is_bounded {
                let _sent = stream.write_all(b"0\r\n\r\n").await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// One run of the source; gives what it sent until `count` events and gaps came, and its last cursor.
#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
async fn gathered(socket: &Path, cursor: Option<Vec<u8>>, count: usize) -> (Vec<String>, Vec<u8>) {
    let (intake, mut outlet): (Intake, Outlet) = intake();
    let stop = CancellationToken::new();
    let config = Config { sockets: vec![socket.to_owned()], ..Config::default() };
    let key = socket.to_string_lossy().into_owned();
    let cursors = cursor.into_iter().map(|value| Cursor { key: key.clone(), value }).collect();
    let task = tokio::spawn(run(config, cursors, Images::default(), intake, stop.clone()));
    let (mut texts, mut last) = (Vec::new(), Vec::new());
    while texts.len() < count {
        let group = tokio::time::timeout(PATIENCE, outlet.recv()).await.unwrap_or_else(|_| panic!("only {texts:?}")).unwrap();
        for observation in group {
            last = observation.cursor.unwrap().value;
            match observation.payload {
                Payload::Line(line) => {
                    let event: Value = serde_json::from_slice(&line.bytes).unwrap();
                    let privileged = event["inspect"]["privileged"].as_bool().unwrap_or(false);
                    texts.push(format!("{}{}", event["Action"].as_str().unwrap(), if privileged { " privileged" } else { "" }));
                }
                Payload::Loss(loss) => texts.push(format!("LOSS {}", loss.count.is_none())),
                _ => {}
            }
        }
    }
    stop.cancel();
    while outlet.recv().await.is_some() {}
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
    (texts, last)
}

#[tokio::test]
async fn events_are_told_once_across_restarts_and_a_cut_replay_is_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let engine = Engine::default();
    engine.0.lock().unwrap().extend([event(1, "create"), event(2, "start")]);
    let listening = engine.listen(&socket);
    let begun = serde_json::to_vec(&json!({"time": event(0, "").0, "hashes": []})).unwrap();
    let (texts, cursor) = gathered(&socket, Some(begun), 2).await;
    assert_eq!(texts, ["create privileged", "start privileged"]);
    // While the agent is away, more happens; what is known is not told again.
    engine.0.lock().unwrap().extend([event(3, "exec_create: sh"), event(4, "die")]);
    let (texts, cursor) = gathered(&socket, Some(cursor), 2).await;
    assert_eq!(texts, ["exec_create: sh", "die"]);
    // The engine restarts and has forgotten what was.
    *engine.0.lock().unwrap() = vec![event(9, "destroy")];
    let (texts, _) = gathered(&socket, Some(cursor), 2).await;
    assert_eq!(texts, ["LOSS true", "destroy"]);
    listening.abort();
}

#[test]
fn a_replay_of_what_is_known_has_the_same_positions() {
    let mut seen = Seen::restore(None);
    seen.begin(7);
    let position = seen.take(b"{}", 9).unwrap();
    assert_eq!(seen.take(b"{}\n", 9), None);
    assert!(seen.is_last(b"{}") && Seen::restore(Some(&seen.encode())).is_last(b"{}"));
    assert_eq!(Seen::restore(None).take(b"{}", 9), Some(position));
    assert!(Seen::restore(Some(b"broken")).is_new());
}

#[tokio::test]
async fn containers_that_were_there_before_are_known_with_their_images() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("d.sock");
    let _engine = Engine::default().listen(&socket);
    assert_eq!(Client::new(&socket).containers().await.unwrap(), [("c0".to_owned(), "redis:7".to_owned())]);
}
