//! Checks what was delivered from the objects and the public keys alone, with none of the code that made them: JSON as
//! values, the signed text put together here, RSA by ring.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::super::PublicDigestKey;
use crate::sinks::{Double, Object};

/// The records of all log files, in the order of delivery, by account and region.
pub(super) type Delivered = BTreeMap<(String, String), Vec<String>>;

/// One lane's digests in order, each already checked by itself and against the one before.
pub(super) struct Chain {
    pub(super) digests: Vec<Value>,
}

pub(super) fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut gzip = flate2::bufread::GzDecoder::new(bytes);
    gzip.read_to_end(&mut plain).unwrap();
    assert!(gzip.into_inner().is_empty(), "one gzip member and nothing behind it");
    plain
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn object(sink: &Double, value: &Value) -> Object {
    let key = value.as_str().unwrap();
    sink.get(key).unwrap_or_else(|| panic!("{key} is missing"))
}

/// Records by account and region, from the bytes of the log files; none may be there twice.
pub(super) fn delivered(sink: &Double) -> Delivered {
    let mut delivered = Delivered::new();
    let mut seen = BTreeSet::new();
    for key in sink.order() {
        let parts: Vec<&str> = key.split('/').collect();
        let Some(kind) = parts.iter().position(|part| *part == "CloudTrail") else { continue };
        let object = sink.get(&key).unwrap();
        assert_eq!(object.meta.content_encoding.as_deref(), Some("gzip"));
        let text = String::from_utf8(gunzip(&object.bytes)).unwrap();
        let file: BTreeMap<String, Vec<Box<serde_json::value::RawValue>>> = serde_json::from_str(&text).unwrap();
        for record in &file["Records"] {
            assert!(seen.insert(record.get().to_owned()), "delivered twice: {record}");
            let lane = (parts[kind - 1].to_owned(), parts[kind + 1].to_owned());
            delivered.entry(lane).or_default().push(record.get().to_owned());
        }
    }
    delivered
}

/// Every lane's chains of digests, oldest first, checked as an auditor would; a stop begins a new chain.
pub(super) fn chains(sink: &Double, keys: &[PublicDigestKey]) -> BTreeMap<(String, String), Vec<Chain>> {
    let mut lanes: BTreeMap<(String, String), Vec<Chain>> = BTreeMap::new();
    for key in sink.order().into_iter().filter(|key| key.contains("/CloudTrail-Digest/")) {
        let digest = sink.get(&key).unwrap();
        let json = gunzip(&digest.bytes);
        let value: Value = serde_json::from_slice(&json).unwrap();
        let signature = &digest.meta.metadata["signature"];
        assert_eq!(digest.meta.metadata["signature-algorithm"], "SHA256withRSA");
        check_digest(&value, &json, &key, signature, keys);
        check_files(sink, &value);

        let lane = lanes.entry((value["awsAccountId"].as_str().unwrap().to_owned(), region_of(&key))).or_default();
        if value["previousDigestSignature"].is_null() {
            assert!(value["previousDigestS3Object"].is_null() && value["previousDigestHashValue"].is_null());
            lane.push(Chain { digests: vec![value] });
            continue;
        }
        let chain = lane.last_mut().expect("a chain begins with a starting digest");
        let before = chain.digests.last().unwrap();
        let before_object = object(sink, &before["digestS3Object"]);
        assert_eq!(value["digestStartTime"], before["digestEndTime"], "windows leave nothing out");
        assert_eq!(value["previousDigestS3Object"], before["digestS3Object"]);
        assert_eq!(value["previousDigestS3Bucket"], before["digestS3Bucket"]);
        assert_eq!(value["previousDigestHashAlgorithm"], "SHA-256");
        assert_eq!(value["previousDigestHashValue"].as_str().unwrap(), sha256(&gunzip(&before_object.bytes)));
        assert_eq!(value["previousDigestSignature"].as_str().unwrap(), before_object.meta.metadata["signature"]);
        chain.digests.push(value);
    }
    check_every_file_once(sink, &lanes);
    lanes
}

fn check_digest(value: &Value, json: &[u8], key: &str, signature: &str, keys: &[PublicDigestKey]) {
    assert_eq!(value["digestS3Object"], key);
    let end = value["digestEndTime"].as_str().unwrap();
    assert!(key.ends_with(&format!("{}.json.gz", end.replace(['-', ':'], ""))), "{key} of {end}");
    let fingerprint = value["digestPublicKeyFingerprint"].as_str().unwrap();
    let public = keys.iter().find(|key| key.fingerprint == fingerprint).expect("the key is published");
    assert!(key.contains(&format!("/CloudTrail-Digest/{}/", public.region)), "signed by the source region's key");
    let end_s = edgetrail_proto::record::parse_time(end).unwrap() / 1_000_000_000;
    assert!((public.not_before..public.not_after).contains(&end_s), "the key's day holds {end}");
    assert_eq!((public.not_before % 86_400, public.not_after - public.not_before), (0, 86_400));

    let previous = value["previousDigestSignature"].as_str().unwrap_or("null");
    let bucket = value["digestS3Bucket"].as_str().unwrap();
    let signed = format!("{end}\n{bucket}/{key}\n{}\n{previous}", sha256(json));
    let verified = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public.der_pkcs1)
        .verify(signed.as_bytes(), &hex::decode(signature).unwrap());
    assert!(verified.is_ok(), "signature of {key}");
}

/// Log files and proof that a digest names: there, and of the hash that it says; the files were there before it.
fn check_files(sink: &Double, value: &Value) {
    let order = sink.order();
    let place = |key: &Value| order.iter().position(|stored| stored == key.as_str().unwrap()).unwrap();
    let proof = &value["edgetrailProof"];
    for file in value["logFiles"].as_array().unwrap().iter().chain([proof]) {
        assert_eq!(sha256(&gunzip(&object(sink, &file["s3Object"]).bytes)), file["hashValue"].as_str().unwrap());
        assert!(place(&file["s3Object"]) < place(&value["digestS3Object"]), "a digest comes behind what it lists");
    }
}

fn check_every_file_once(sink: &Double, lanes: &BTreeMap<(String, String), Vec<Chain>>) {
    let mut listed = BTreeSet::new();
    let mut ends = BTreeSet::new();
    for (lane, chains) in lanes {
        for digest in chains.iter().flat_map(|chain| &chain.digests) {
            assert!(ends.insert((lane, digest["digestEndTime"].as_str().unwrap())), "two digests share an end");
            for file in digest["logFiles"].as_array().unwrap() {
                assert!(listed.insert(file["s3Object"].as_str().unwrap().to_owned()), "listed twice");
            }
        }
    }
    let stored = sink.order().into_iter().filter(|key| key.contains("/CloudTrail/")).collect::<BTreeSet<_>>();
    assert!(listed.is_subset(&stored));
}

fn region_of(key: &str) -> String {
    let mut parts = key.split('/').skip_while(|part| *part != "CloudTrail-Digest");
    parts.nth(1).unwrap().to_owned()
}
