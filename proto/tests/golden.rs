//! The chain's bytes against golden vectors that a second implementation made (tests/chain, in Python, written from the
//! protocol's text alone): every byte is reproduced, and every encoding is taken apart again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use edgetrail_proto::chain::{
    BatchKind, Binding, Cause, Counters, Hash, Header, KEY_SLOT_BYTES, KeySlot, Open, Predecessor, PublicKey, Ratchet, Receipt,
    ReceiptSigner, Seal, SealInput, Seed, Verifier, Writer, event_id, receipt_key_statement, verify_seal,
};
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::merkle;
use serde_json::Value;

fn vectors(name: &str) -> Value {
    let path = format!("{}/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn hash(value: &Value) -> Hash {
    Hash(array(value))
}

fn stream(value: &Value) -> StreamId {
    StreamId::from_bytes(array(value))
}

fn ratchet(stream: StreamId, k: u64, seed: &Value) -> Ratchet {
    Ratchet::new(stream, k, Seed(array(seed).into()))
}

fn header(fields: &Value) -> Header {
    Header {
        stream: stream(&fields["stream_id"]),
        k: number(&fields["k"]),
        kind: [BatchKind::Records, BatchKind::Heartbeat, BatchKind::Close][usize::try_from(number(&fields["kind"])).unwrap()],
        first_seq: number(&fields["first_seq"]),
        count: number(&fields["count"]).try_into().unwrap(),
        root: hash(&fields["root"]),
        previous: hash(&fields["previous"]),
        next_key: PublicKey(array(&fields["next_pk"])),
        boot_id: array(&fields["boot_id"]),
        t_sealed: number(&fields["t_sealed"]),
        t_min: number(&fields["t_min"]),
        t_max: number(&fields["t_max"]),
        counters: Counters {
            observed: number(&fields["observed"]),
            refused: number(&fields["refused"]),
            own: number(&fields["own"]),
            lost_agent: number(&fields["lost_agent"]),
            lost_source: number(&fields["lost_source"]),
        },
        last_receipt: hash(&fields["last_receipt"]),
    }
}

#[test]
fn bindings() {
    for case in list(&vectors("binding")) {
        let host = case["host"].as_str().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let scopes = list(&case["scopes"]);
        let binding = if scopes[0][0] == "*" {
            Binding::all(host).unwrap()
        } else {
            Binding::set(scopes.iter().map(|s| (text(&s[0]).parse().unwrap(), text(&s[1]).parse().unwrap())), host).unwrap()
        };
        assert_eq!(hex::encode(binding.to_bytes()), text(&case["bytes"]));
        assert_eq!(binding.hash(), hash(&case["hash"]));
        assert_eq!(Binding::parse(&bytes(&case["bytes"])).unwrap(), binding);
    }
}

#[test]
fn opens() {
    for case in list(&vectors("open")) {
        let fields = &case["fields"];
        let predecessor =
            Predecessor { stream: stream(&fields["prev_stream"]), k: number(&fields["prev_k"]), hash: hash(&fields["prev_h"]) };
        let open = Open {
            stream: stream(&fields["stream_id"]),
            agent: AgentId::from_bytes(array(&fields["agent_id"])),
            first_key: PublicKey(array(&fields["pk_0"])),
            predecessor: (number(&fields["cause"]) != 0).then_some(predecessor),
            cause: Cause::try_from(u8::try_from(number(&fields["cause"])).unwrap()).unwrap(),
            t_opened: number(&fields["t_opened"]),
            binding: hash(&fields["binding_hash"]),
            certificate: hash(&fields["certificate_hash"]),
        };
        assert_eq!(open.encode().to_vec(), bytes(&case["bytes"]));
        assert_eq!(open.hash(), hash(&case["hash"]));
        assert_eq!(Open::decode(&bytes(&case["bytes"])).unwrap(), open);
    }
}

#[test]
fn headers() {
    for case in list(&vectors("header")) {
        let header = header(&case["fields"]);
        assert_eq!(header.encode().to_vec(), bytes(&case["bytes"]));
        assert_eq!(header.hash(), hash(&case["hash"]));
        assert_eq!(Header::decode(&bytes(&case["bytes"])).unwrap(), header);
    }
}

#[test]
fn merkle_roots() {
    let vectors = vectors("merkle");
    let leaves: Vec<Hash> = list(&vectors["leaves"]).iter().map(hash).collect();
    for (i, leaf) in leaves.iter().enumerate() {
        assert_eq!(merkle::leaf_hash(format!("record {i}").as_bytes()), *leaf);
    }
    for (n, root) in list(&vectors["roots"]).iter().enumerate() {
        assert_eq!(merkle::root(&leaves[..n]), hash(root), "{n} leaves");
    }
}

#[test]
fn keys_and_seals() {
    let vectors = vectors("ratchet");
    let stream = stream(&vectors["stream_id"]);
    for step in list(&vectors["steps"]) {
        let state = ratchet(stream, number(&step["k"]), &step["seed"]);
        let (head, seal) = (hash(&step["head"]), Seal(array(&step["seal"])));
        assert_eq!(state.public_key(), PublicKey(array(&step["pk"])));
        assert_eq!(state.seal(&head), seal);
        assert!(verify_seal(&state.public_key(), &head, &seal));
        assert_eq!(state.next().seed().0.to_vec(), bytes(&step["next_seed"]));
    }
}

#[test]
fn receipts() {
    let vectors = vectors("receipt");
    let signer = ReceiptSigner::from_seed(&array(&vectors["key_seed"]));
    assert_eq!(signer.public_key(), PublicKey(array(&vectors["public_key"])));
    let statement = &vectors["key_statement"];
    let made = receipt_key_statement(&signer.public_key(), number(&statement["not_before"]), number(&statement["not_after"]));
    assert_eq!(made.to_vec(), bytes(&statement["bytes"]));
    for case in list(&vectors["receipts"]) {
        let fields = &case["fields"];
        let receipt = signer.sign(
            stream(&fields["stream_id"]),
            number(&fields["k"]),
            hash(&fields["head"]),
            number(&fields["ledger_index"]),
            number(&fields["t_received"]),
        );
        assert_eq!(receipt.message().to_vec(), bytes(&case["message"]));
        assert_eq!(receipt.message_hash(), hash(&case["message_hash"]));
        assert_eq!(receipt.encode(), bytes(&case["bytes"]));
        let decoded = Receipt::decode(&bytes(&case["bytes"])).unwrap();
        assert_eq!(decoded, receipt);
        decoded.verify(&signer.public_key()).unwrap();
    }
}

#[test]
fn event_ids() {
    for case in list(&vectors("event_id")) {
        let id = event_id(
            AgentId::from_bytes(array(&case["agent_id"])),
            case["source"].as_str().unwrap(),
            case["position"].as_str().unwrap(),
            number(&case["index"]).try_into().unwrap(),
        );
        assert_eq!(id.as_bytes().to_vec(), bytes(&case["event_id"]));
        assert_eq!(id.get_version_num(), 8);
    }
}

#[test]
fn key_slots() {
    for case in list(&vectors("slot")) {
        let fields = &case["fields"];
        let slot = KeySlot {
            generation: number(&fields["generation"]),
            stream: stream(&fields["stream_id"]),
            next_k: number(&fields["next_k"]),
            head: hash(&fields["head"]),
            seed: Seed(array(&fields["seed"]).into()),
        };
        let mut expected = bytes(&case["bytes"]);
        expected.resize(KEY_SLOT_BYTES, 0);
        assert_eq!(slot.encode().to_vec(), expected);
        let decoded = KeySlot::decode(&expected).unwrap();
        assert_eq!(decoded.encode().to_vec(), expected);
    }
}

#[test]
fn a_whole_stream_is_written_and_accepted() {
    let vectors = vectors("stream");
    let open = Open::decode(&bytes(&vectors["open"])).unwrap();
    assert_eq!(Binding::parse(&bytes(&vectors["binding"])).unwrap().hash(), open.binding);
    let mut writer = Writer::begin(&open, ratchet(open.stream, 0, &vectors["batches"][0]["seed"]));
    let mut verifier = Verifier::begin(&open);
    let mut earlier = Counters::default();
    for batch in list(&vectors["batches"]) {
        let told = header(&batch["fields"]);
        let records = list(&batch["records"]).iter().map(|record| record.as_str().unwrap().as_bytes());
        let leaves: Vec<Hash> = records.map(merkle::leaf_hash).collect();
        let (sealed, next) = writer.seal(&SealInput {
            kind: told.kind,
            leaves: &leaves,
            boot_id: told.boot_id,
            t_sealed: told.t_sealed,
            t_min: told.t_min,
            t_max: told.t_max,
            counters: told.counters,
            last_receipt: told.last_receipt,
        });
        assert_eq!(sealed.header.encode().to_vec(), bytes(&batch["header"]));
        assert_eq!(sealed.hash, hash(&batch["hash"]));
        assert_eq!(sealed.seal, Seal(array(&batch["seal"])));
        let head = verifier.accept(&sealed.header, &sealed.seal, &leaves).unwrap();
        assert!(head.counters.balance(head.next_seq) && head.counters.follow(&earlier));
        (writer, earlier) = (next, head.counters);
    }
    assert!(verifier.head().closed);
    let key = PublicKey(array(&vectors["receipt_key"]));
    for receipt in list(&vectors["receipts"]) {
        Receipt::decode(&bytes(receipt)).unwrap().verify(&key).unwrap();
    }
}
