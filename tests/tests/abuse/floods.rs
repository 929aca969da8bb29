//! 4, 5, 15: slow peers, HTTP/2 floods, and an agent at a hundred times its rate.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgetrail_link::wire::{self, from_agent};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::abused::Abused;
use crate::rogue::{Rogue, block_on, record};

/// Unfinished handshakes at a time: what this machine's descriptors allow beside the other tests.
const SLOW_PEERS: usize = 800;

#[test]
fn t04_slow_peers_hold_up_nobody() {
    let abused = Abused::start();
    let port = abused.deployment.ingest_port();
    abused.withstands(|| {
        block_on(async {
            // From eight addresses of their own, as far as loopback has others.
            let mut slow = Vec::new();
            for number in 0..SLOW_PEERS {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((Ipv4Addr::new(127, 0, 1, u8::try_from(number % 8).unwrap() + 1), 0).into()).unwrap();
                let connected =
                    tokio::time::timeout(Duration::from_secs(5), socket.connect(SocketAddr::from(([127, 0, 0, 1], port))));
                slow.extend(connected.await.into_iter().flatten());
            }
            assert!(slow.len() > SLOW_PEERS / 2, "{} connected", slow.len());
            let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc];
            let began = Instant::now();
            for byte in hello {
                for stream in &mut slow {
                    // Whoever was let go is told so here.
                    drop(stream.write_all(&[byte]).await);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            // Somebody new comes in meanwhile, is slow after its handshake, and another one comes in.
            let arrived = Instant::now();
            let rogue = Rogue::join(&abused.deployment).await;
            let silent = rogue.attach().await.unwrap();
            let mut stream = Rogue::join(&abused.deployment).await;
            let mut own = stream.stream();
            let mut conversation = stream.opened(&own).await;
            conversation.batch(own.batch(&["CameThrough"])).await;
            conversation.receipted().await;
            eprintln!(
                "{} slow peers for {:?}; two agents joined and sent in {:?}",
                slow.len(),
                began.elapsed(),
                arrived.elapsed()
            );
            assert!(arrived.elapsed() < Duration::from_secs(10));
            // Half-closed: the session ends in order.
            let (to_collector, _) = tokio::sync::mpsc::channel(1);
            conversation.to_collector = to_collector;
            assert!(conversation.hear().await.is_none());
            drop((silent, slow));
            stream.endpoint.port = port;
        });
    });
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK, literals without indexing: the request of an attach.
fn attach_headers() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let literal = |name: &str, value: &str| {
        let part = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [&[0u8][..], &part(name), &part(value)].concat()
    };
    block.extend(literal(":path", "/edgetrail.v1.Ingest/Attach"));
    block.extend(literal(":authority", "127.0.0.1"));
    block.extend(literal("content-type", "application/grpc"));
    block.extend(literal("te", "trailers"));
    block
}

/// A flood: what comes before it, and what is repeated.
struct Flood {
    name: &'static str,
    before: Vec<u8>,
    repeated: Box<dyn Fn(u32) -> Vec<u8>>,
}

fn floods() -> Vec<Flood> {
    let open = || [PREFACE.to_vec(), frame(4, 0, 0, &[])].concat();
    let headers = attach_headers();
    let reset = headers.clone();
    let many = headers.clone();
    let zero_window = [PREFACE.to_vec(), frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]), frame(1, 4, 1, &headers)].concat();
    let stream = |number: u32| number * 2 + 1;
    vec![
        Flood {
            name: "rapid reset",
            before: open(),
            repeated: Box::new(move |n| [frame(1, 4, stream(n), &reset), frame(3, 0, stream(n), &[0, 0, 0, 8])].concat()),
        },
        Flood { name: "streams", before: open(), repeated: Box::new(move |n| frame(1, 4, stream(n), &many)) },
        Flood {
            name: "continuation",
            before: [open(), frame(1, 0, 1, &headers)].concat(),
            repeated: Box::new(|_| frame(9, 0, 1, &[0, 1, b'x', 1, b'y'].repeat(200))),
        },
        Flood { name: "ping", before: open(), repeated: Box::new(|_| frame(6, 0, 0, &[0; 8])) },
        Flood {
            name: "settings",
            before: open(),
            repeated: Box::new(|n| frame(4, 0, 0, &[[0, 3].to_vec(), n.to_be_bytes().to_vec()].concat())),
        },
        Flood { name: "window update", before: open(), repeated: Box::new(|_| frame(8, 0, 0, &[0, 0, 0, 1])) },
        Flood {
            name: "empty data",
            before: [open(), frame(1, 4, 1, &headers)].concat(),
            repeated: Box::new(|_| frame(0, 0, 1, &[])),
        },
        Flood { name: "zero window", before: zero_window, repeated: Box::new(|_| frame(6, 0, 0, &[0; 8])) },
    ]
}

/// How a flood ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The collector closed the connection.
    Closed,
    /// The collector reads no more for now: what was sent lies in the kernels' buffers.
    Slowed,
    /// Everything was taken.
    Taken,
}

/// Frames that were sent until the collector did something about it.
fn flood(rogue: &Rogue, flood: &Flood, time: Duration) -> (u32, Ended) {
    let tls = Arc::clone(&rogue.enrollment.credentials().unwrap().tls);
    let tcp = TcpStream::connect(("127.0.0.1", rogue.endpoint.port)).unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut sink = tcp.try_clone().unwrap();
    let connection = ClientConnection::new(tls, ServerName::try_from("127.0.0.1").unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, tcp);
    stream.write_all(&flood.before).unwrap();
    stream.flush().unwrap();
    stream.sock.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    // Answers are read and thrown away: the collector must not be slowed by us.
    let (began, mut sent, mut how) = (Instant::now(), 0, Ended::Taken);
    sink.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    std::thread::scope(|scope| {
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let ended = Arc::clone(&done);
        scope.spawn(move || {
            let mut buffer = [0; 1 << 16];
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                if matches!(sink.read(&mut buffer), Ok(0)) {
                    break;
                }
            }
        });
        while began.elapsed() < time {
            let burst: Vec<u8> = (0..200).flat_map(|n| (flood.repeated)(sent + n)).collect();
            match stream.write_all(&burst).and_then(|()| stream.flush()) {
                Ok(()) => sent += 200,
                Err(error) => {
                    let slowed = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                    how = if slowed { Ended::Slowed } else { Ended::Closed };
                    break;
                }
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    (sent, how)
}

#[test]
fn t05_http2_floods_are_slowed_or_cut_and_move_nobody() {
    let abused = Abused::start();
    abused.withstands(|| {
        let rogue = block_on(Rogue::join(&abused.deployment));
        for one in floods() {
            let (frames, how) = flood(&rogue, &one, Duration::from_secs(3));
            eprintln!("{}: {frames} frames sent, then {how:?}", one.name);
            assert_ne!(how, Ended::Taken, "{}", one.name);
        }
        // After all that, the same agent is let in and works.
        block_on(async {
            let mut stream = rogue.stream();
            let mut conversation = rogue.opened(&stream).await;
            conversation.batch(stream.batch(&["AfterFloods"])).await;
            conversation.receipted().await;
        });
    });
}

/// Insights are not built yet: of names, only the indexes are put under pressure.
#[test]
fn t15_an_agent_over_its_rate_is_slowed_not_dropped() {
    let rate: u32 = 1024 * 1024;
    let abused = Abused::with_collector_settings("[limits]\nagent_rate = \"1MiB\"\n");
    abused.withstands(|| {
        block_on(async {
            let rogue = Rogue::join(&abused.deployment).await;
            let mut stream = rogue.stream();
            let mut conversation = rogue.opened(&stream).await;
            let (began, mut bytes, mut sent) = (Instant::now(), 0u64, 0);
            while began.elapsed() < Duration::from_secs(5) {
                // Every record under a name of its own.
                let records: Vec<String> = (0..500).map(|n| record("111122223333", &format!("Name{sent}x{n}"))).collect();
                let mut batch = stream.batch_of(&records);
                batch.caller_waits = true;
                let size = u64::from(batch.body_bytes);
                conversation.say(from_agent::Message::Batch(batch)).await;
                conversation.receipted().await;
                (bytes, sent) = (bytes + size, sent + 1);
            }
            let took = began.elapsed().as_secs_f64();
            let pace = bytes as f64 / took / f64::from(rate);
            eprintln!("{sent} batches, {bytes} bytes in {took:.1} s: {pace:.2} of the rate, in one session");
            // One second's worth is free at once, and the last batch is let through.
            assert!(pace <= 1.0 + 1.5 / took + 0.2, "{pace}");
            // Identities by the dozen: each costs a hash, two at a time.
            let token = crate::rogue::token(&abused.deployment, &["--uses", "40"]);
            let directory = tempfile::tempdir().unwrap();
            let joins = (0..20).map(|n| directory.path().join(n.to_string()));
            let mut joined = 0;
            for state in joins {
                joined += u32::from(crate::rogue::join_with(&token, &state, "many").await.is_ok());
            }
            assert_eq!(joined, 20);
            drop(wire::Resume::default());
        });
    });
}
