//! What each event costs in proto, on one core: `cargo bench -p edgetrail-proto`. Figures stand in docs/performance.md.

use std::collections::HashMap;

use divan::{Bencher, counter::BytesCount, counter::ItemsCount};
use edgetrail_proto::chain::{
    BatchKind, Cause, Counters, Hash, Open, Ratchet, ReceiptSigner, SealInput, Seed, Verifier, Writer, event_id,
};
use edgetrail_proto::facets::Facets;
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::merkle;
use edgetrail_proto::record::{Record, Resource, SessionAttributes, SessionContext, SessionIssuer, UserIdentity, format_time};
use edgetrail_proto::selector::{AdvancedSelector, Field, FieldSelector, Key, Selectors, keys_of};
use serde_json::{Map, json};

/// Records in a batch, as under load.
const BATCH: usize = 256;

fn main() {
    divan::main();
}

/// A `sudo` of about 1,000 bytes.
fn record(i: u64) -> Record {
    let text = |text: &str| Some(text.to_owned());
    Record {
        user_identity: UserIdentity {
            kind: text("AssumedRole"),
            principal_id: text("0:alice"),
            arn: text("arn:aws:host:dc-tokyo-1:111122223333:web-1/assumed-role/root/alice"),
            account_id: text("111122223333"),
            session_context: Some(SessionContext {
                session_issuer: Some(SessionIssuer {
                    kind: text("IAMUser"),
                    principal_id: text("1000"),
                    arn: text("arn:aws:host:dc-tokyo-1:111122223333:web-1/user/alice"),
                    account_id: text("111122223333"),
                    user_name: text("alice"),
                    ..SessionIssuer::default()
                }),
                attributes: Some(SessionAttributes {
                    creation_date: text("2024-05-01T20:56:00Z"),
                    mfa_authenticated: text("false"),
                    ..SessionAttributes::default()
                }),
                ..SessionContext::default()
            }),
            ..UserIdentity::default()
        },
        event_time: format_time(1_714_596_960_000_000_000 + i * 1_000_000),
        event_source: "sudo.linux".to_owned(),
        event_name: "RunCommand".to_owned(),
        aws_region: "dc-tokyo-1".to_owned(),
        source_ip_address: "203.0.113.7".to_owned(),
        user_agent: text("/usr/bin/sudo"),
        request_parameters: Some(json!({"command": "/usr/bin/systemctl restart nginx", "cwd": "/home/alice", "tty": "pts/0"})),
        response_elements: Some(json!({"exitCode": 0})),
        additional_event_data: Some(Map::from_iter([(
            "edgetrail".to_owned(),
            json!({"agent": "0190b2a4-0000-7000-8000-000000000001", "host": "web-1", "source": "audit"}),
        )])),
        event_id: event_id(AgentId::from_bytes([1; 16]), "audit", "1714596960.123:4711", 0),
        read_only: Some(false),
        resources: Some(vec![Resource {
            account_id: text("111122223333"),
            kind: text("Host::Process"),
            arn: text("arn:aws:host:dc-tokyo-1:111122223333:web-1/process/4711"),
            ..Resource::default()
        }]),
        management_event: Some(true),
        recipient_account_id: "111122223333".to_owned(),
        ..Record::default()
    }
}

fn batch() -> Vec<Vec<u8>> {
    (0..BATCH as u64).map(|i| record(i).to_json()).collect()
}

/// Records of exactly 1 KiB: hashing looks at no more than their length.
fn kib_batch() -> Vec<Vec<u8>> {
    (0..BATCH).map(|i| vec![u8::try_from(i % 251).unwrap_or(0); 1024]).collect()
}

fn stream() -> (Open, Ratchet) {
    let ratchet = Ratchet::new(StreamId::from_bytes([1; 16]), 0, Seed([7; 32].into()));
    let open = Open {
        stream: ratchet.stream(),
        agent: AgentId::from_bytes([2; 16]),
        first_key: ratchet.public_key(),
        predecessor: None,
        cause: Cause::Join,
        t_opened: 1,
        binding: Hash::ZERO,
        certificate: Hash::ZERO,
    };
    (open, ratchet)
}

fn input(leaves: &[Hash]) -> SealInput<'_> {
    SealInput {
        kind: BatchKind::Records,
        leaves,
        boot_id: [0; 16],
        t_sealed: 0,
        t_min: 0,
        t_max: 0,
        counters: Counters::default(),
        last_receipt: Hash::ZERO,
    }
}

/// Agent: a finished record to its bytes.
#[divan::bench]
fn record_to_json(bencher: Bencher) {
    let record = record(0);
    bencher.counter(BytesCount::new(record.to_json().len())).bench(|| record.to_json());
}

/// Agent: the same with the limits looked at.
#[divan::bench]
fn record_to_fitted_json(bencher: Bencher) {
    bencher.with_inputs(|| record(0)).bench_refs(Record::to_fitted_json);
}

/// Look-up and tests only: the whole record back from its bytes.
#[divan::bench]
fn record_from_json(bencher: Bencher) {
    let json = record(0).to_json();
    bencher.counter(BytesCount::new(json.len())).bench(|| Record::from_json(&json));
}

/// Collector: what is indexed of a record.
#[divan::bench]
fn facets_parse(bencher: Bencher) {
    let json = record(0).to_json();
    bencher.counter(BytesCount::new(json.len())).bench(|| Facets::parse(&json));
}

/// Both ends: leaf hashes and root of a batch.
#[divan::bench]
fn leaves_and_root_of_256(bencher: Bencher) {
    let records = batch();
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let leaves: Vec<Hash> = records.iter().map(|record| merkle::leaf_hash(record)).collect();
        merkle::root(&leaves)
    });
}

/// Agent, once a batch: root, ratchet, seal.
#[divan::bench]
fn seal_of_256(bencher: Bencher) {
    let leaves: Vec<Hash> = batch().iter().map(|record| merkle::leaf_hash(record)).collect();
    let (open, ratchet) = stream();
    let writer = Writer::begin(&open, ratchet);
    bencher.counter(ItemsCount::new(BATCH)).bench(|| writer.seal(&input(&leaves)));
}

/// Collector, once a batch: header, seal, root, leaf hashes given.
#[divan::bench]
fn verify_of_256(bencher: Bencher) {
    let leaves: Vec<Hash> = batch().iter().map(|record| merkle::leaf_hash(record)).collect();
    let (open, ratchet) = stream();
    let (sealed, _) = Writer::begin(&open, ratchet).seal(&input(&leaves));
    let verifier = Verifier::begin(&open);
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let mut verifier = verifier.clone();
        verifier.accept(&sealed.header, &sealed.seal, &leaves).is_ok()
    });
}

/// Agent, everything under a hash for a batch of 256 records of 1 KiB: leaf hashes, root, ratchet, seal; and its receipt
/// verified and hashed for the next header. One receipt a batch is the most there is.
#[divan::bench]
fn agents_side_of_256_kib(bencher: Bencher) {
    let records = kib_batch();
    let (open, ratchet) = stream();
    let writer = Writer::begin(&open, ratchet);
    let signer = ReceiptSigner::from_seed(&[7; 32]);
    let key = signer.public_key();
    let receipt = signer.sign(open.stream, 0, Hash::ZERO, 0, 0);
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let leaves: Vec<Hash> = records.iter().map(|record| merkle::leaf_hash(record)).collect();
        let sealed = writer.seal(&input(&leaves));
        (sealed, receipt.verify(&key).is_ok(), receipt.message_hash())
    });
}

/// Collector, the same batch: leaf hashes, root, header and seal checked, a receipt signed.
#[divan::bench]
fn collectors_side_of_256_kib(bencher: Bencher) {
    let records = kib_batch();
    let leaves: Vec<Hash> = records.iter().map(|record| merkle::leaf_hash(record)).collect();
    let (open, ratchet) = stream();
    let (sealed, _) = Writer::begin(&open, ratchet).seal(&input(&leaves));
    let verifier = Verifier::begin(&open);
    let signer = ReceiptSigner::from_seed(&[7; 32]);
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let leaves: Vec<Hash> = records.iter().map(|record| merkle::leaf_hash(record)).collect();
        let accepted = verifier.clone().accept(&sealed.header, &sealed.seal, &leaves).is_ok();
        (accepted, signer.sign(open.stream, 0, sealed.hash, 0, 0))
    });
}

/// Agent and trails: the default selection.
#[divan::bench]
fn selectors_of_a_new_trail(bencher: Bencher) {
    let selectors = Selectors::default();
    let facets = Facets::parse(&record(0).to_json()).unwrap_or_default();
    bencher.bench(|| selectors.selects(&facets));
}

/// Trails: which of 1,000 selectors of one event name each a record concerns.
#[divan::bench]
fn routing_among_1000_selectors(bencher: Bencher) {
    let mut by_key: HashMap<Key<'static>, Vec<usize>> = HashMap::new();
    for i in 0..1000 {
        let on = |field, value: &str| FieldSelector { equals: vec![value.to_owned()], ..FieldSelector::on(field) };
        let conditions = vec![on(Field::EventCategory, "Management"), on(Field::EventName, &format!("Event{i}"))];
        let selectors = Selectors::Advanced(vec![AdvancedSelector { name: None, field_selectors: conditions }]);
        selectors.keys().into_iter().for_each(|key| by_key.entry(key).or_default().push(i));
    }
    let facets = Facets::parse(&record(0).to_json()).unwrap_or_default();
    bencher.bench(|| keys_of(&facets).filter_map(|key| by_key.get(&key)).map(Vec::len).sum::<usize>());
}
