//! What an event costs from its line to its commit, on this machine: `cargo bench -p edgetrail-agent`.
//!
//! Commits are real: SQLite, key file, fsync. Divan's time is the wall's, so a commit's fsyncs are in it.

use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use edgetrail_agent::buffer::{Addition, Buffer, BufferTask, Counted, Limits, Opener, Shelf, prepare};
use edgetrail_agent::enroll::{CERTIFICATE_FILE, KEY_FILE};
use edgetrail_agent::normalize::names::Names;
use edgetrail_agent::normalize::{Host, Made, Normalizer, audit::Decoder};
use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::report::Reporter;
use edgetrail_agent::sources::file::{Format, Line};
use edgetrail_proto::chain::Binding;

/// Events in one round: a full batch.
const EVENTS: usize = 1024;

fn main() {
    divan::main();
}

#[expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to say")]
fn host() -> Host {
    Host {
        agent: "0190b2a4-0000-7000-8000-000000000001".parse().unwrap(),
        name: "web-1".to_owned(),
        account: "123456789012".parse().unwrap(),
        region: "dc-tokyo-1".parse().unwrap(),
        partition: "aws".to_owned(),
        keep_raw: false,
    }
}

/// Lines that become records of about 830 bytes.
fn observations() -> Vec<Observation> {
    let text = r#"{"eventSource":"orders.example","eventName":"CreateOrder","userAgent":"orders/1.4","requestParameters":{"order":"7f1c2b","items":[{"sku":"A-1","count":2},{"sku":"B-9","count":1}],"address":"somewhere 12"},"responseElements":{"state":"accepted"},"requestID":"c0ffee-1"}"#;
    let path: std::sync::Arc<str> = "/var/log/orders.jsonl".into();
    let line =
        || Line { bytes: bytes::Bytes::from_static(text.as_bytes()), format: Format::Events, path: std::sync::Arc::clone(&path) };
    (0..EVENTS)
        .map(|i| Observation {
            source: SourceName::File,
            position: format!("1:1:{i}"),
            time: 1_800_000_000_000_000_000,
            payload: Payload::Line(line()),
            cursor: None,
            answer: None,
        })
        .collect()
}

fn records() -> Vec<Vec<u8>> {
    let mut normalizer = Normalizer::new(host(), Decoder::default(), Names::default());
    let drafts = observations().into_iter().flat_map(|observation| normalizer.normalize(&observation));
    drafts
        .map(|draft| match draft.record {
            Made::Record(record) => record.to_json(),
            Made::Written(bytes) | Made::Foreign(bytes) => bytes,
        })
        .collect()
}

fn addition(records: &[Vec<u8>]) -> Addition {
    let mut addition = Addition::default();
    records.iter().for_each(|record| addition.record(record, Counted::Observed));
    addition
}

#[expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to say")]
fn buffer(dir: &Path) -> (Buffer, BufferTask, Shelf) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["web-1".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(dir.join(KEY_FILE), key.serialize_pem()).unwrap();
    std::fs::write(dir.join(CERTIFICATE_FILE), certificate.pem()).unwrap();
    prepare(&edgetrail_disk::Medium::real(), dir).unwrap();
    let host = host();
    let binding = Binding::one(host.account, host.region.clone(), &host.name).unwrap();
    let opener = Opener::new(host.agent, binding, dir).unwrap();
    Buffer::open(&edgetrail_disk::Medium::real(), dir, opener, Reporter::new(host), Limits::default()).unwrap()
}

/// A line to a record's bytes.
#[divan::bench]
fn normalize(bencher: Bencher<'_, '_>) {
    let observations = observations();
    let mut normalizer = Normalizer::new(host(), Decoder::default(), Names::default());
    bencher
        .counter(ItemsCount::new(EVENTS))
        .bench_local(|| observations.iter().map(|observation| normalizer.normalize(observation).len()).sum::<usize>());
}

/// Framing and leaf hash.
#[divan::bench]
fn add(bencher: Bencher<'_, '_>) {
    let records = records();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| addition(&records));
}

/// Commit, seal, key file: a full batch at a time, until it is durable.
#[divan::bench(sample_count = 40, sample_size = 8)]
#[expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to say")]
fn commit(bencher: Bencher<'_, '_>) {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, task, shelf) = buffer(dir.path());
    let records = records();
    bencher.counter(ItemsCount::new(EVENTS)).with_inputs(|| addition(&records)).bench_local_values(|addition| {
        buffer.append(addition).unwrap();
    });
    buffer.close().unwrap();
    drop((buffer, shelf));
    task.end().unwrap();
}
