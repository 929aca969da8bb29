//! What an auditor reads out of a bucket that somebody else may write to: gzip, digests, proofs, object keys, key lists.
#![no_main]

use edgetrail_proto::digest::Digest;
use edgetrail_proto::keys::ObjectKey;
use edgetrail_proto::proof::Proof;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(proof) = Proof::from_json(bytes) {
        for batch in &proof.batches {
            drop(batch.marked_leaves());
        }
    }
    drop(Digest::from_json(bytes));
    drop(edgetrail_verify::gzip::unpack(bytes));
    drop(edgetrail_verify::keys::Keys::parse(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(ObjectKey::parse(text));
    }
});
