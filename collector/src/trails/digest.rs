//! One lane's digest with its proof, made and signed when the window ends.
//!
//! Serialised once: the bytes that are hashed, signed, stored and sent are the same. The signature travels only in the
//! object's metadata, and again inside the next digest.

use edgetrail_proto::chain::Hash;
use edgetrail_proto::digest::{
    Digest, DigestLogFile, HASH_ALGORITHM, METADATA_SIGNATURE, METADATA_SIGNATURE_ALGORITHM, ProofRef, SIGNATURE_ALGORITHM,
    string_to_sign,
};
use edgetrail_proto::proof::Proof;
use edgetrail_proto::record::format_time;

use super::clock::SECOND;
use super::digest_key::{DigestKey, DigestKeyError};
use super::log_file::compress;
use super::plan::{LaneState, ObjectKind, PlannedObject, PreviousDigest};
use crate::control::TrailConfig;
use crate::sinks::ObjectMeta;

/// What goes out when a window ends, the proof first.
pub(super) struct SealedWindow {
    pub(super) proof: PlannedObject,
    pub(super) digest: PlannedObject,
    /// What the next digest says of this one.
    pub(super) previous: PreviousDigest,
}

/// `files` are all log files planned in the window, in plan order; `end` is digestEndTime, Unix seconds.
pub(super) fn seal_window(
    trail: &TrailConfig,
    lane: &LaneState,
    files: &[PlannedObject],
    proof: &Proof,
    key: &DigestKey,
    end: u64,
    now: u64,
) -> Result<SealedWindow, DigestKeyError> {
    let LaneState { account, region, .. } = lane;
    let (paths, end_ns) = (trail.paths(), end * SECOND);
    let proof_json = proof.to_json();
    let object = |kind, key: String, json: &[u8], meta| PlannedObject {
        id: 0,
        lane: lane.id,
        kind,
        bucket: trail.bucket.clone(),
        key,
        from_index: proof.ledger_from,
        to_index: proof.ledger_to,
        planned: now,
        sha256: Hash::of(json),
        records: 0,
        oldest: 0,
        newest: 0,
        window_end: Some(end),
        meta,
        body: Some(compress(json)),
    };
    let proof_key = paths.proof_key(account, region, &trail.name, &trail.home_region, end_ns);
    let proof_object = object(ObjectKind::Proof, proof_key, &proof_json, ObjectMeta::gzipped_json());

    let digest_key = paths.digest_key(account, region, &trail.name, &trail.home_region, end_ns);
    let previous = lane.previous.as_ref();
    let digest = Digest {
        aws_account_id: account.clone(),
        digest_start_time: proof.digest_start_time.clone(),
        digest_end_time: proof.digest_end_time.clone(),
        digest_s3_bucket: trail.bucket.clone(),
        digest_s3_object: digest_key.clone(),
        digest_public_key_fingerprint: key.public.fingerprint.clone(),
        digest_signature_algorithm: SIGNATURE_ALGORITHM.to_owned(),
        newest_event_time: files.iter().map(|file| file.newest).max().map(|time| format_time(time * SECOND)),
        oldest_event_time: files.iter().map(|file| file.oldest).min().map(|time| format_time(time * SECOND)),
        previous_digest_s3_bucket: previous.map(|previous| previous.bucket.clone()),
        previous_digest_s3_object: previous.map(|previous| previous.key.clone()),
        previous_digest_hash_value: previous.map(|previous| previous.sha256.clone()),
        previous_digest_hash_algorithm: previous.map(|_| HASH_ALGORITHM.to_owned()),
        previous_digest_signature: previous.map(|previous| previous.signature.clone()),
        log_files: files.iter().map(list_file).collect(),
        edgetrail_proof: Some(ProofRef {
            s3_bucket: trail.bucket.clone(),
            s3_object: proof_object.key.clone(),
            hash_value: proof_object.sha256.to_hex(),
            hash_algorithm: HASH_ALGORITHM.to_owned(),
        }),
    };
    let json = digest.to_json();
    let sha256 = Hash::of(&json).to_hex();
    let previous_signature = previous.map(|previous| previous.signature.as_str());
    let text = string_to_sign(&digest.digest_end_time, &trail.bucket, &digest_key, &sha256, previous_signature);
    let signature = key.sign(text.as_bytes())?;

    let mut meta = ObjectMeta::gzipped_json();
    meta.metadata.insert(METADATA_SIGNATURE.to_owned(), signature.clone());
    meta.metadata.insert(METADATA_SIGNATURE_ALGORITHM.to_owned(), SIGNATURE_ALGORITHM.to_owned());
    let previous = PreviousDigest { bucket: trail.bucket.clone(), key: digest_key.clone(), sha256, signature };
    let digest = object(ObjectKind::Digest, digest_key, &json, meta);
    Ok(SealedWindow { proof: proof_object, digest, previous })
}

fn list_file(file: &PlannedObject) -> DigestLogFile {
    DigestLogFile {
        s3_bucket: file.bucket.clone(),
        s3_object: file.key.clone(),
        hash_value: file.sha256.to_hex(),
        hash_algorithm: HASH_ALGORITHM.to_owned(),
        newest_event_time: format_time(file.newest * SECOND),
        oldest_event_time: format_time(file.oldest * SECOND),
    }
}
