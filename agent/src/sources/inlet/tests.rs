//! Real sockets, with the test as the pipeline.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};

use super::*;
use crate::observation::{Outlet, intake};
use crate::sources::lines::shape::AccessShape;
use crate::sources::listener::tests::{Authority, connected};
use crate::sources::listener::{Tls, TlsFiles};

const PATIENCE: Duration = Duration::from_secs(60);

fn inlet(source: SourceName, waits: bool) -> Inlet {
    let name = if source == SourceName::Vault { "vault" } else { "syslog" };
    Inlet::new(source, Mapping::open(name, AccessShape::default()).unwrap(), waits)
}

async fn texts(outlet: &mut Outlet, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let group = tokio::time::timeout(PATIENCE, outlet.recv()).await.unwrap_or_else(|_| panic!("only {texts:?}")).unwrap();
        for observation in group {
            texts.push(match observation.payload {
                Payload::Line(line) => String::from_utf8(line.bytes.to_vec()).unwrap(),
                Payload::Loss(loss) => format!("LOST {}", loss.count.unwrap()),
                other => panic!("{other:?}"),
            });
        }
    }
    texts.sort();
    texts
}

#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
#[tokio::test]
async fn messages_come_over_udp_tcp_and_unix_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let (stream, datagram) = (directory.path().join("s"), directory.path().join("d"));
    let udp = Door::udp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let tcp = Door::Tcp(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (to_udp, to_tcp) = (udp.address().unwrap(), tcp.address().unwrap());
    let doors = vec![udp, tcp, Door::stream(&stream, 0o600).unwrap(), Door::datagram(&datagram, 0o600).unwrap()];
    let doors = Doors { doors, connections_max: 4, frames: Frames::syslog };
    let (intake, mut outlet) = intake();
    let stop = CancellationToken::new();
    let task = tokio::spawn(crate::sources::syslog::serve(doors, inlet(SourceName::Syslog, true), intake.prompt(), stop.clone()));
    UdpSocket::bind("127.0.0.1:0").await.unwrap().send_to(b"<1>udp", to_udp).await.unwrap();
    TcpStream::connect(to_tcp).await.unwrap().write_all(b"9 <1>tcp-a\n<1>tcp-b\n<1>tcp-c").await.unwrap();
    UnixStream::connect(&stream).await.unwrap().write_all(b"<1>unix\n").await.unwrap();
    tokio::net::UnixDatagram::unbound().unwrap().send_to(b"<1>datagram\0", &datagram).await.unwrap();
    assert_eq!(texts(&mut outlet, 6).await, ["<1>datagram", "<1>tcp-a", "<1>tcp-b", "<1>tcp-c", "<1>udp", "<1>unix"]);
    stop.cancel();
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    assert!(!stream.exists() && !datagram.exists());
}

#[test]
fn an_entry_of_vaults_that_is_written_again_is_the_same_event_and_an_equal_message_of_syslog_another() {
    let positions = |source: SourceName| {
        let inlet = inlet(source, false);
        let peer: Arc<str> = "unix".into();
        let mut number = 0;
        for text in ["{\"a\":1}", "{\"a\":2}", "{\"a\":1}"] {
            inlet.offer(Frame::Whole(text.into()), &peer);
        }
        let taken = inlet.take(&Uuid::nil(), &mut number);
        taken.into_iter().map(|observation| observation.position).collect::<Vec<_>>()
    };
    let vault = positions(SourceName::Vault);
    assert!(vault[0] == vault[2] && vault[0] != vault[1], "{vault:?}");
    let syslog = positions(SourceName::Syslog);
    assert!(syslog[0] != syslog[2], "{syslog:?}");
}

/// The pipeline stands still; Vault must not.
#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
#[tokio::test]
async fn vaults_writer_never_waits_and_what_found_no_room_is_counted_exactly() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("v");
    let doors = Doors { doors: vec![Door::stream(&path, 0o600).unwrap()], connections_max: 4, frames: Frames::lines };
    let (intake, mut outlet) = intake();
    let stop = CancellationToken::new();
    let task = tokio::spawn(crate::sources::syslog::serve(doors, inlet(SourceName::Vault, false), intake.prompt(), stop.clone()));
    let mut vault = UnixStream::connect(&path).await.unwrap();
    let entries = 20_000usize;
    let all = (0..entries).map(|number| format!("{{\"n\":{number}}}\n")).collect::<String>();
    // Far more than queue, channel and socket hold together, and nobody takes any of it.
    tokio::time::timeout(PATIENCE, vault.write_all(all.as_bytes())).await.expect("Vault was stalled").unwrap();
    drop(vault);
    let (mut whole, mut lost) = (0u64, 0u64);
    while whole + lost < entries as u64 {
        let group =
            tokio::time::timeout(PATIENCE, outlet.recv()).await.unwrap_or_else(|_| panic!("{whole} and {lost} lost")).unwrap();
        for observation in group {
            match observation.payload {
                Payload::Line(_) => whole += 1,
                Payload::Loss(loss) => {
                    assert!(loss.exact);
                    lost += loss.count.unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(whole + lost, entries as u64);
    assert!(lost > 0, "the queue of the test is small");
    stop.cancel();
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
}

/// A sender without a certificate, and one with a stranger's, are heard of nowhere; one of the CA's is named.
#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
#[tokio::test]
async fn over_tls_only_those_are_heard_whose_certificate_the_client_ca_signed_and_they_are_named() {
    let (server, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = server.issue_to("logs");
    let (certificate, key) = (file("server.pem", &certificate), file("server.key", &key));
    for client_ca in [Some(file("clients.pem", &clients.pem)), None] {
        let is_mutual = client_ca.is_some();
        let files = TlsFiles { certificate: certificate.clone(), key: key.clone(), client_ca, must_show: true };
        let tls = Arc::new(Tls::of(files).unwrap());
        let door = Door::Tls(TcpListener::bind("127.0.0.1:0").await.unwrap(), tls);
        let address = door.address().unwrap();
        let doors = Doors { doors: vec![door], connections_max: 4, frames: Frames::syslog };
        let (intake, mut outlet) = intake();
        let stop = CancellationToken::new();
        let inlet = inlet(SourceName::Syslog, true);
        let task = tokio::spawn(crate::sources::syslog::serve(doors, inlet, intake.prompt(), stop.clone()));
        let own =
            [("none", None), ("stranger", Some(strangers.issue_to("mallory"))), ("client", Some(clients.issue_to("web-1")))];
        for (name, own) in own {
            // With TLS 1.3 a client learns of the refusal when it reads.
            let Ok(mut stream) = connected(address, &server, own).await else { continue };
            let said = format!("<13>{name}\n<13>{name} again\n");
            let sent = stream.write_all(said.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok();
            let ended =
                tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("the end of a connection");
            assert!(name != "client" || sent, "{ended:?}");
        }
        let expected = if is_mutual { 2 } else { 6 };
        let mut heard = Vec::new();
        while heard.len() < expected {
            let group = tokio::time::timeout(PATIENCE, outlet.recv()).await.unwrap_or_else(|_| panic!("only {heard:?}")).unwrap();
            heard.extend(group.into_iter().map(|observation| match observation.payload {
                Payload::Line(line) => (String::from_utf8(line.bytes.to_vec()).unwrap(), line.path.to_string()),
                other => panic!("{other:?}"),
            }));
        }
        stop.cancel();
        while let Some(group) = outlet.recv().await {
            assert!(group.is_empty(), "{group:?}");
        }
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        for (text, path) in &heard {
            let (peer, subject) = peer(path);
            assert!(peer.starts_with("tls://127.0.0.1:"), "{path}");
            // Nobody is asked who he is where nobody is asked for a certificate.
            assert_eq!(subject, is_mutual.then_some("CN=web-1"), "{path}");
            assert!(!is_mutual || text.starts_with("<13>client"), "{text}");
        }
    }
}
