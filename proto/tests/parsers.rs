//! Every parser of outside bytes: whatever it is given it answers, and what it takes it writes back unchanged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod tree;

use edgetrail_proto::chain::{Binding, Hash, Header, KeySlot, Open, Receipt};
use edgetrail_proto::digest::Digest;
use edgetrail_proto::facets::{Facets, FacetsError};
use edgetrail_proto::identity::AgentIdentity;
use edgetrail_proto::keys::ObjectKey;
use edgetrail_proto::limits::JSON_DEPTH_MAX;
use edgetrail_proto::proof::Proof;
use edgetrail_proto::record::{Record, parse_time};
use edgetrail_proto::selector::Selectors;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use tree::Tree;

fn parse_all(bytes: &[u8]) {
    answered(Header::decode(bytes));
    answered(Open::decode(bytes));
    answered(Receipt::decode(bytes));
    answered(KeySlot::decode(bytes));
    answered(Binding::parse(bytes));
    answered(Record::from_json(bytes));
    answered(Facets::parse(bytes));
    answered(Digest::from_json(bytes));
    answered(Proof::from_json(bytes));
    answered(serde_json::from_slice::<Selectors>(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        answered(text.parse::<AgentIdentity>());
        answered(ObjectKey::parse(text));
        answered(Hash::from_hex(text));
        answered(parse_time(text));
    }
}

/// The answer itself does not matter, that there is one does.
fn answered<T>(_: T) {}

/// A text of the right length that begins as the format does.
fn tagged(tag: &'static [u8], length: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), length - tag.len()).prop_map(move |rest| [tag, &rest].concat())
}

/// JSON of a few levels, some of its members named as a record's are.
fn json_value() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "eventVersion",
            "userIdentity",
            "type",
            "arn",
            "sessionContext",
            "sessionIssuer",
            "attributes",
            "userName",
            "eventTime",
            "eventSource",
            "awsRegion",
            "requestParameters",
            "additionalEventData",
            "eventID",
            "readOnly",
            "resources",
            "ARN",
            "managementEvent",
            "recipientAccountId",
            "sharedEventID",
            "eventCategory",
            "insightDetails",
            "logFiles",
            "streams",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("2024-05-01T20:56:00Z")),
        Just(json!("111122223333")),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((name.clone(), inner), 0..10).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..4200)) {
        parse_all(&bytes);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        parse_all(text.as_bytes());
    }

    #[test]
    fn a_spoilt_record_never_panics(at in 0_usize..4000, byte in any::<u8>(), cut in 0_usize..4000) {
        let record = Record { request_parameters: Some(json!({"a": [1, {"b": "\u{1F600}\n"}]})), ..Record::default() };
        let mut bytes = record.to_json();
        let at = at % bytes.len();
        bytes[at] = byte;
        parse_all(&bytes);
        bytes.truncate(cut % bytes.len());
        parse_all(&bytes);
    }

    #[test]
    fn headers_that_decode_encode_to_the_same(bytes in tagged(b"edgetrail/batch/v1\n", 264)) {
        if let Ok(header) = Header::decode(&bytes) {
            prop_assert_eq!(header.encode().to_vec(), bytes);
        }
    }

    #[test]
    fn opens_that_decode_encode_to_the_same(mut bytes in tagged(b"edgetrail/open/v1\n", 211), cause in 0_u8..7, alone in any::<bool>()) {
        if alone {
            bytes[82..98].fill(0);
        }
        bytes[138] = cause;
        if let Ok(open) = Open::decode(&bytes) {
            prop_assert_eq!(open.encode().to_vec(), bytes);
        } else {
            prop_assert!(alone || cause == 6);
        }
    }

    #[test]
    fn receipts_that_decode_encode_to_the_same(bytes in tagged(b"edgetrail/receipt/v1\n", 189)) {
        prop_assert_eq!(Receipt::decode(&bytes).unwrap().encode(), bytes);
    }

    #[test]
    fn slots_that_are_damaged_are_none(at in 0_usize..4096, bit in 0_u8..8, generation in any::<u64>(), next_k in any::<u64>()) {
        let slot = KeySlot {
            generation,
            stream: edgetrail_proto::identity::StreamId::from_bytes([3; 16]),
            next_k,
            head: Hash([4; 32]),
            seed: edgetrail_proto::chain::Seed([5; 32].into()),
        };
        let mut bytes = slot.encode().to_vec();
        prop_assert_eq!(KeySlot::decode(&bytes).unwrap().encode().to_vec(), bytes.clone());
        bytes[at] ^= 1 << bit;
        prop_assert!(KeySlot::decode(&bytes).is_none());
    }

    #[test]
    fn bindings_that_parse_have_one_text(scopes in vec("[0-9]{12}/[a-c1-]{1,3}\n|\\*/\\*\n", 0..4), host in "[a-z/]{0,4}\n?") {
        let text = scopes.concat() + &host;
        if let Ok(binding) = Binding::parse(text.as_bytes()) {
            prop_assert_eq!(binding.to_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn spiffe_ids_that_parse_round_trip(text in "spiffe://[a-z.]{0,4}/account/[0-9]{11,13}/region/[a-z1-]{0,3}/agent/0190b2a4-0000-7000-8000-00000000000[0-9a-g]") {
        if let Ok(identity) = text.parse::<AgentIdentity>() {
            prop_assert_eq!(identity.to_string(), text);
        }
    }

    #[test]
    fn any_object_is_a_record_and_comes_back_the_same(value in json_value()) {
        let text = value.to_string();
        match Record::from_json(text.as_bytes()) {
            Ok(record) => {
                let written = record.to_json();
                prop_assert_eq!(Tree::of(std::str::from_utf8(&written).unwrap()), Tree::of(&text));
                prop_assert_eq!(Record::from_json(&written).unwrap().to_json(), written);
            }
            Err(_) => prop_assert!(!value.is_object()),
        }
    }

    #[test]
    fn facets_and_record_agree_on_what_they_read(value in json_value()) {
        let text = value.to_string();
        match (Facets::parse(text.as_bytes()), Record::from_json(text.as_bytes())) {
            (Ok(facets), Ok(record)) => {
                prop_assert_eq!(facets.region, record.aws_region);
                prop_assert_eq!(facets.source.is_empty(), record.event_source.is_empty() && value["insightDetails"]["eventSource"].as_str().unwrap_or("").is_empty());
            }
            (Err(FacetsError::Missing(_)), Ok(_)) | (Err(_), Err(_)) => {}
            (facets, record) => prop_assert!(false, "{facets:?} {record:?}"),
        }
    }

    #[test]
    fn depth_is_limited_whatever_it_is_made_of(depth in 1_usize..200, pattern in vec(any::<bool>(), 200)) {
        let (mut open, mut close) = (String::from("{\"requestParameters\":"), String::from("}"));
        for is_array in pattern.iter().take(depth) {
            open.push_str(if *is_array { "[" } else { "{\"]\\\"\":" });
            close.insert(0, if *is_array { ']' } else { '}' });
        }
        let text = format!("{open}1{close}");
        let too_deep = depth + 1 > JSON_DEPTH_MAX;
        prop_assert_eq!(Record::from_json(text.as_bytes()).is_err(), too_deep);
        prop_assert_eq!(Facets::parse(text.as_bytes()) == Err(FacetsError::TooDeep), too_deep);
    }
}
