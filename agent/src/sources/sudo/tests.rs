//! Conversations with sudo over a real socket, with the test as its pipeline.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::message::{Accept, ClientHello, ClientMessage, Exit, Info, Reject, ServerMessage, Value};
use super::*;
use crate::observation::{self, Outcome, Outlet};

struct Served {
    stream: tokio::io::DuplexStream,
    outlet: Outlet,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
fn served(io: Io) -> Served {
    let (stream, theirs) = tokio::io::duplex(64 * 1024);
    let (intake, outlet) = observation::intake();
    let stop = CancellationToken::new();
    let host = Host { intake, tls: None, io, stop: stop.clone() };
    let task = tokio::spawn(async move { host.converse(theirs, None).await });
    Served { stream, outlet, stop, task }
}

fn accept(expects_io: bool) -> Client {
    let info = |key: &str, value: Value| Info { key: key.to_owned(), value: Some(value) };
    let info = vec![
        info("submituser", Value::Text("alice".to_owned())),
        info("runuid", Value::Number(0)),
        info("submitenv", Value::Texts(message::Texts { list: vec!["SECRET=x".to_owned()] })),
    ];
    Client::Accept(Accept { submit_time: Some(Time { seconds: 1_700_000_000, nanoseconds: 5 }), info, expects_io })
}

impl Served {
    async fn say(&mut self, kind: Client) {
        let bytes = ClientMessage { kind: Some(kind) }.encode_to_vec();
        self.stream.write_all(&u32::try_from(bytes.len()).unwrap().to_be_bytes()).await.unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn heard(&mut self) -> Server {
        let length = self.stream.read_u32().await.unwrap();
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut bytes).await.unwrap();
        ServerMessage::decode(bytes.as_slice()).unwrap().kind.unwrap()
    }

    /// The next observation's payload, answered so.
    async fn recorded(&mut self, outcome: Outcome) -> Payload {
        let [observation] = <[_; 1]>::try_from(self.outlet.recv().await.unwrap()).unwrap();
        observation.answer.unwrap().0.send(outcome).unwrap();
        observation.payload
    }

    async fn greeted(&mut self) {
        self.say(Client::Hello(ClientHello { client_id: "sudo 1.9".to_owned() })).await;
        assert!(matches!(self.recorded(committed()).await, Payload::Nothing));
        assert!(matches!(self.heard().await, Server::Hello(hello) if hello.subcommands && !hello.server_id.is_empty()));
    }
}

fn committed() -> Outcome {
    Outcome::Committed { event_ids: vec![] }
}

fn full() -> Outcome {
    Outcome::Unavailable { retry_after_s: 0 }
}

#[tokio::test]
async fn a_command_is_recorded_when_it_is_accepted_and_its_end_besides() {
    let mut served = served(Io::Refuse);
    served.greeted().await;
    served.say(accept(false)).await;
    let Payload::Sudo(event) = served.recorded(committed()).await else { panic!("not sudo's") };
    assert_eq!((event.kind, event.time), (Kind::Accept, 1_700_000_000_000_000_005));
    assert_eq!(event.info["submituser"], "alice");
    assert!(!event.info.contains_key("submitenv"), "an environment is full of secrets");
    served
        .say(Client::Exit(Exit { exit_value: 3, run_time: Some(Time { seconds: 2, nanoseconds: 0 }), ..Exit::default() }))
        .await;
    let Payload::Sudo(event) = served.recorded(committed()).await else { panic!("not sudo's") };
    assert!(matches!(event.kind, Kind::Exit { value: 3, run_time_ms: 2000, .. }));
    assert_eq!(event.info["submituser"], "alice");
    assert!(matches!(served.heard().await, Server::CommitPoint(_)));
    served.task.await.unwrap();
}

#[tokio::test]
async fn without_room_sudo_gets_no_hello_and_a_command_that_is_not_recorded_is_aborted() {
    let mut first = served(Io::Refuse);
    first.say(Client::Hello(ClientHello::default())).await;
    first.recorded(full()).await;
    assert!(matches!(first.heard().await, Server::Error(_)));
    let mut second = served(Io::Refuse);
    second.greeted().await;
    second.say(accept(false)).await;
    second.recorded(full()).await;
    assert!(matches!(second.heard().await, Server::Abort(_)));
    // What sudo does not wait for is tried until it is done.
    let mut third = served(Io::Refuse);
    third.greeted().await;
    third.say(Client::Reject(Reject { reason: "command not allowed".to_owned(), ..Reject::default() })).await;
    for outcome in [full(), full(), committed()] {
        assert!(matches!(third.recorded(outcome).await, Payload::Sudo(Event { kind: Kind::Reject { .. }, .. })));
    }
    third.stop.cancel();
    third.task.await.unwrap();
}

#[tokio::test]
async fn io_logs_are_refused_or_thrown_away_and_never_claimed_to_be_kept() {
    let mut refused = served(Io::Refuse);
    refused.greeted().await;
    refused.say(accept(true)).await;
    assert!(matches!(refused.heard().await, Server::Error(why) if why.contains("log_output")));
    let mut discarded = served(Io::Discard);
    discarded.greeted().await;
    discarded.say(accept(true)).await;
    discarded.recorded(committed()).await;
    assert!(matches!(discarded.heard().await, Server::LogId(_)));
    // {1: {1: 1 s, 2: 600,000,000 ns}, 2: "x"}, twice.
    let piece = Bytes::from_static(&[0x0a, 0x08, 0x08, 0x01, 0x10, 0x80, 0x8c, 0x8d, 0x9e, 0x02, 0x12, 0x01, b'x']);
    discarded.say(Client::TerminalOutput(piece.clone())).await;
    discarded.say(Client::StandardInput(piece)).await;
    discarded.say(Client::Exit(Exit::default())).await;
    discarded.recorded(committed()).await;
    let Server::CommitPoint(time) = discarded.heard().await else { panic!("no commit point") };
    assert_eq!(time, Time { seconds: 3, nanoseconds: 200_000_000 });
}

#[test]
fn a_message_cut_anywhere_is_none_or_less() {
    let bytes = ClientMessage { kind: Some(accept(true)) }.encode_to_vec();
    assert!(event(&bytes).is_some());
    for end in 0..bytes.len() {
        drop(event(&bytes[..end]));
    }
}

/// sudo runs nothing without an answer: half a message gets none, and makes no record.
#[tokio::test]
async fn a_conversation_cut_at_any_byte_of_a_command_records_and_promises_nothing() {
    let message = ClientMessage { kind: Some(accept(false)) }.encode_to_vec();
    let frame = [&u32::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat();
    for end in 0..frame.len() {
        let mut served = served(Io::Refuse);
        served.greeted().await;
        served.stream.write_all(&frame[..end]).await.unwrap();
        served.stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        served.stream.read_to_end(&mut answer).await.unwrap();
        served.task.await.unwrap();
        assert!(served.outlet.recv().await.is_none(), "{end} of {}", frame.len());
        let answer = answer.get(4..).map(|answer| ServerMessage::decode(answer).unwrap().kind.unwrap());
        assert!(matches!(answer, None | Some(Server::Error(_))), "{end} of {}: {answer:?}", frame.len());
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        drop(event(&bytes));
    }
}

#[tokio::test]
async fn what_is_not_sudo_s_protocol_ends_the_conversation() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 2, 0xff, 0xff], &[0, 0, 0, 0]] {
        let Served { mut stream, task, .. } = served(Io::Refuse);
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        task.await.unwrap();
    }
}
