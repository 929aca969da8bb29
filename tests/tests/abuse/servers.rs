//! 12, 13: a collector and an object store that mean harm.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use edgetrail_link::tls::{self, Incoming};
use edgetrail_link::wire::ingest_server::{Ingest, IngestServer};
use edgetrail_link::wire::{self, from_agent, from_collector};
use edgetrail_proto::chain::{Hash, ReceiptSigner};
use edgetrail_proto::identity::StreamId;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::{delivered, wait};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::abused::Abused;
use crate::host::Host;
use crate::rogue::now_ns;

/// What the false collector does, one after the other.
const TRICKS: usize = 6;

#[derive(Clone, Default)]
struct FalseCollector(Arc<AtomicUsize>);

fn say(message: from_collector::Message) -> Result<wire::FromCollector, Status> {
    Ok(wire::FromCollector { message: Some(message) })
}

#[tonic::async_trait]
impl Ingest for FalseCollector {
    type FollowStream = tokio_stream::Empty<Result<wire::HomeState, Status>>;

    async fn follow(&self, _: Request<wire::FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        Err(Status::unimplemented("agents do not follow"))
    }

    async fn report(&self, _: Request<wire::RelayReport>) -> Result<Response<wire::RelayReported>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type AttachStream = Pin<Box<dyn Stream<Item = Result<wire::FromCollector, Status>> + Send>>;

    async fn attach(&self, request: Request<Streaming<wire::FromAgent>>) -> Result<Response<Self::AttachStream>, Status> {
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|message| message.message);
        let Some(from_agent::Message::Resume(resume)) = first else { return Err(Status::aborted("no resume")) };
        let named = resume.streams.last().map(|held| {
            let batch = held.unreceipted.first().cloned().unwrap_or_default();
            let open = held.opening.as_ref().map(|opening| opening.open.to_vec()).unwrap_or_default();
            // A stream's id stands behind the open's domain.
            let stream: [u8; 16] = open.get(18..34).and_then(|id| id.try_into().ok()).unwrap_or_default();
            (StreamId::from_bytes(stream), batch)
        });
        let (stream, batch) = named.unwrap_or((StreamId::from_bytes([0; 16]), wire::NamedBatch::default()));
        let forged = move |index| {
            let signer = ReceiptSigner::from_seed(&[66; 32]);
            let hash = Hash::from_slice(&batch.hash).unwrap_or(Hash::ZERO);
            signer.sign(stream, u64::MAX / 2, hash, index, now_ns()).encode()
        };
        let resumed = || wire::Resumed { window: 16, ..wire::Resumed::default() };
        let trick = self.0.fetch_add(1, Ordering::Relaxed) % TRICKS;
        let answers: Self::AttachStream = match trick {
            0 => Box::pin(tokio_stream::once(Err(Status::internal("x".repeat(6000))))),
            1 => {
                let forged = (0..u64::MAX).map(move |index| say(from_collector::Message::Receipt(forged(index).into())));
                Box::pin(tokio_stream::once(say(from_collector::Message::Resumed(resumed()))).chain(tokio_stream::iter(forged)))
            }
            2 => {
                let keys = vec![wire::ReceiptKey { public_key: vec![1; 32].into(), ..Default::default() }; 5000];
                Box::pin(tokio_stream::once(say(from_collector::Message::Resumed(wire::Resumed {
                    receipt_keys: keys,
                    ..resumed()
                }))))
            }
            3 => Box::pin(tokio_stream::iter((0..u64::MAX).map(move |_| say(from_collector::Message::Resumed(resumed()))))),
            4 => {
                let refusal = wire::Refusal { message: "y".repeat(3 << 20), ..Default::default() };
                Box::pin(tokio_stream::once(say(from_collector::Message::Refusal(refusal))))
            }
            _ => {
                let position = wire::StreamPosition {
                    stream: stream.as_bytes().to_vec().into(),
                    recorded: true,
                    receipt: forged(0).into(),
                    ..Default::default()
                };
                Box::pin(tokio_stream::once(say(from_collector::Message::Resumed(wire::Resumed {
                    streams: vec![position],
                    ..resumed()
                }))))
            }
        };
        Ok(Response::new(answers))
    }
}

/// A server identity under the deployment's root, as whoever took the root's key can make it.
pub(crate) fn stolen_identity(deployment: &Deployment) -> tls::Identity {
    let pki = deployment.collector_state().join("pki");
    let root_key = KeyPair::from_pem(&std::fs::read_to_string(pki.join("ca.key")).unwrap()).unwrap();
    let root = tls::read_certificates(&pki.join("ca.pem")).unwrap().remove(0);
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &Issuer::from_ca_cert_der(&root, root_key).unwrap()).unwrap();
    tls::Identity { chain: vec![leaf.der().clone()], key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) }
}

/// There is no configuration that a collector could push.
#[test]
fn t12_a_false_collector_gets_no_batch_released_and_no_memory() {
    let abused = Abused::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (tricks, listener) = (FalseCollector::default(), runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap());
    let port = listener.local_addr().unwrap().port();
    let config = tls::api_config(stolen_identity(&abused.deployment)).unwrap();
    let (_config, watched) = tokio::sync::watch::channel(config);
    let server = tonic::transport::Server::builder().add_service(IngestServer::new(tricks.clone()));
    runtime.spawn(server.serve_with_incoming(Incoming::new(listener, watched)));
    // Plain text: no agent speaks to this. An older TLS: see `old_tls`.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain_port = plain.local_addr().unwrap().port();
    let heard = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&heard);
    std::thread::spawn(move || {
        for mut stream in plain.incoming().flatten() {
            let mut first = [0; 3];
            if stream.read_exact(&mut first).is_ok() && first[0] != 0x16 {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            drop(stream.write_all(b"HTTP/2.0 200 OK\r\n\r\n"));
        }
    });
    // Three, since each waits longer from trick to trick.
    let mut hosts = [(); 3].map(|()| Host::join(&abused.deployment, port));
    for host in &hosts {
        post_one(&host.socket(), &json!({ "eventSource": "tests.example", "eventName": "Withheld" }));
    }
    let processes: Vec<u32> = hosts.iter().map(Host::id).chain([abused.deployment.collector_id()]).collect();
    abused.withstands_of(&processes, || {
        let began = tricks.0.load(Ordering::Relaxed);
        wait::until("every trick", Duration::from_secs(60), || {
            (tricks.0.load(Ordering::Relaxed) >= began + TRICKS).then_some(())
        });
    });
    let printed: String = hosts.iter().map(Host::printed).collect();
    assert!(printed.contains("can't be trusted"), "a forged receipt is named: {printed}");
    assert!(printed.lines().all(|line| line.len() < 16 * 1024), "what a collector says fills no log");
    let host = &mut hosts[0];
    host.stop();
    host.start(plain_port);
    wait::until("the attempt on plain text", Duration::from_secs(30), || {
        host.printed().contains("can't be reached").then_some(())
    });
    assert_eq!(heard.load(Ordering::Relaxed), 0, "the agent begins with TLS and nothing else");
    // With the true collector, everything arrives.
    for host in &mut hosts {
        host.stop();
        host.start(abused.deployment.ingest_port());
    }
    wait::until("the withheld events", Duration::from_secs(30), || {
        let records = delivered::records(&abused.deployment.trail());
        (records.iter().filter(|(_, record)| record["eventName"] == "Withheld").count() == 3).then_some(())
    });
}

/// Answers each request with the next trick.
fn false_store(listener: TcpListener, canary: u16, tricks: Arc<AtomicUsize>) {
    for mut stream in listener.incoming().flatten() {
        let trick = tricks.fetch_add(1, Ordering::Relaxed) % 5;
        std::thread::spawn(move || answer(&mut stream, trick, canary));
    }
}

fn answer(stream: &mut TcpStream, trick: usize, canary: u16) {
    let _read = stream.read(&mut [0; 1 << 16]);
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{canary}/latest/meta-data/\r\nContent-Length: 0\r\n\r\n"
    );
    let head: &[u8] = match trick {
        0 => b"HTTP/1.1 500 Oops\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n",
        1 => redirect.as_bytes(),
        2 => b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n",
        3 => b"HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 1000000\r\n\r\n",
        _ => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\n<x/>",
    };
    let _sent = stream.write_all(head);
    // Endless, or a byte at a time.
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    for _ in 0..4000 {
        let sent = match trick {
            0 => stream.write_all(&chunk),
            3 => {
                std::thread::sleep(Duration::from_millis(100));
                stream.write_all(b"y")
            }
            _ => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Webhooks, witnesses and OTLP are not built yet. The canary stands for 169.254.169.254: no redirect is followed.
#[test]
fn t13_a_false_object_store_gets_nothing_but_the_objects() {
    let mut abused = Abused::start();
    let (store, canary) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (store_port, canary_port) = (store.local_addr().unwrap().port(), canary.local_addr().unwrap().port());
    let (tricks, fetched) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, asked) = (Arc::clone(&tricks), Arc::clone(&fetched));
    std::thread::spawn(move || false_store(store, canary_port, counted));
    std::thread::spawn(move || {
        for _ in canary.incoming() {
            asked.fetch_add(1, Ordering::Relaxed);
        }
    });
    let config = abused.deployment.dir().join("collector.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let sink = format!(
        "[trail.sink]\nkind = \"s3\"\nendpoint = \"http://127.0.0.1:{store_port}\"\nregion = \"us-east-1\"\naccess_key_id = \"test\"\nsecret_access_key = \"test\"\n"
    );
    std::fs::write(&config, text.split("[trail.sink]").next().unwrap().to_owned() + &sink).unwrap();
    abused.deployment.kill_collector();
    abused.deployment.start_collector();
    abused.withstands(|| {
        let began = tricks.load(Ordering::Relaxed);
        wait::until("every trick", Duration::from_secs(60), || (tricks.load(Ordering::Relaxed) >= began + 5).then_some(()));
        std::thread::sleep(Duration::from_secs(1));
    });
    assert_eq!(fetched.load(Ordering::Relaxed), 0, "a redirect was followed");
}
