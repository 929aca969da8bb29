//! One digest at a time: whole, where it says it lies, signed by a key of its day, chained to the one before.

use edgetrail_proto::chain::Hash;
use edgetrail_proto::digest::{Digest, METADATA_SIGNATURE, SIGNATURE_ALGORITHM, string_to_sign};
use edgetrail_proto::keys::{Name, ObjectKey};
use edgetrail_proto::record::{format_time, parse_time};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use crate::gzip::unpack;
use crate::keys::Keys;
use crate::report::{Check, Report};
use crate::store::{Object, Place};

/// The digests of one account, region and trail.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainId {
    pub account: String,
    pub region: String,
    pub trail: String,
    pub home_region: String,
}

/// A digest that could be read, with what the next one must name of it.
#[derive(Debug)]
pub struct Loaded {
    pub place: Place,
    pub digest: Digest,
    /// Unix nanoseconds.
    pub start: u64,
    pub end: u64,
    /// Of the uncompressed bytes.
    pub sha256: Hash,
    /// As the object's metadata has it.
    pub signature: Option<String>,
}

impl ChainId {
    /// The chain that a digest's or proof's key belongs to.
    pub fn of_key(key: &ObjectKey) -> Option<Self> {
        let Name::Trail { trail, home_region } = &key.name else { return None };
        let (account, region) = (key.account.clone(), key.region.clone());
        Some(Self { account, region, trail: trail.clone(), home_region: home_region.clone() })
    }
}

impl std::fmt::Display for ChainId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "trail {} of {}, account {}, region {}", self.trail, self.home_region, self.account, self.region)
    }
}

/// Checks a digest by itself. `None` when nothing of it can be relied on.
pub fn load(place: &Place, object: &Object, keys: &Keys, report: &mut Report) -> Option<Loaded> {
    let unpacked = match unpack(&object.bytes) {
        Ok(unpacked) => unpacked,
        Err(error) => {
            report.find(Check::DigestFormat, place, error);
            return None;
        }
    };
    if unpacked.trailing > 0 {
        report.find(Check::DigestTrailing, place, format_args!("{} bytes", unpacked.trailing));
    }
    let digest = match Digest::from_json(&unpacked.bytes) {
        Ok(digest) => digest,
        Err(error) => {
            report.find(Check::DigestFormat, place, error);
            return None;
        }
    };
    let (Some(start), Some(end)) = (parse_time(&digest.digest_start_time), parse_time(&digest.digest_end_time)) else {
        report.find(Check::DigestFormat, place, "its start or end is no time");
        return None;
    };
    check_place(place, &digest, end, report);
    let sha256 = Hash::of(&unpacked.bytes);
    let signature = object.metadata.get(METADATA_SIGNATURE).cloned();
    check_signature(place, &digest, end, &sha256, signature.as_deref(), keys, report);
    Some(Loaded { place: place.clone(), digest, start, end, sha256, signature })
}

/// The digest's own words, its key and its place must agree: otherwise one digest could stand for another.
fn check_place(place: &Place, digest: &Digest, end: u64, report: &mut Report) {
    let own = Place { bucket: digest.digest_s3_bucket.clone(), key: digest.digest_s3_object.clone() };
    if own != *place {
        report.find(Check::DigestMoved, place, format_args!("it says {own}"));
        return;
    }
    let agrees = ObjectKey::parse(&place.key).is_some_and(|key| key.account == digest.aws_account_id && key.time == end);
    if !agrees {
        report.find(Check::DigestMoved, place, "its account or end time is not that of its key");
    }
}

fn check_signature(
    place: &Place,
    digest: &Digest,
    end: u64,
    sha256: &Hash,
    signature: Option<&str>,
    keys: &Keys,
    report: &mut Report,
) {
    let Some(key) = keys.digest.get(&digest.digest_public_key_fingerprint) else {
        report.find(Check::DigestKeyUnknown, place, format_args!("fingerprint {}", digest.digest_public_key_fingerprint));
        return;
    };
    if !(key.not_before..key.not_after).contains(&end) {
        let (from, to) = (format_time(key.not_before), format_time(key.not_after));
        report.find(Check::DigestKeyNotValid, place, format_args!("key valid from {from} to {to}"));
    }
    let Some(signature) = signature.and_then(|hex| hex::decode(hex).ok()) else {
        report.find(Check::DigestSignature, place, "its metadata has no signature");
        return;
    };
    if digest.digest_signature_algorithm != SIGNATURE_ALGORITHM {
        report.find(Check::DigestSignature, place, format_args!("algorithm {}", digest.digest_signature_algorithm));
        return;
    }
    let signed = string_to_sign(
        &digest.digest_end_time,
        &place.bucket,
        &place.key,
        &sha256.to_hex(),
        digest.previous_digest_signature.as_deref(),
    );
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key.der);
    if public.verify(signed.as_bytes(), &signature).is_err() {
        report.find(Check::DigestSignature, place, "");
    }
}

impl Loaded {
    /// Whether it names none before it.
    pub fn begins_anew(&self) -> bool {
        self.digest.previous_digest_s3_bucket.is_none() || self.digest.previous_digest_s3_object.is_none()
    }
}

/// What a digest says of the one before, against the one before.
pub fn check_link(previous: &Loaded, next: &Loaded, report: &mut Report) {
    let named = (&next.digest.previous_digest_s3_bucket, &next.digest.previous_digest_s3_object);
    let (Some(bucket), Some(key)) = named else { return };
    let named = Place { bucket: bucket.clone(), key: key.clone() };
    if named != previous.place {
        report.find(Check::DigestMissing, &named, format_args!("named by {}", next.place));
        report.find(Check::DigestGap, &next.place, missing_time(previous.end, next.start));
        return;
    }
    if next.digest.previous_digest_hash_value.as_deref() != Some(previous.sha256.to_hex().as_str()) {
        report.find(Check::PreviousHash, &next.place, format_args!("of {named}"));
    }
    if next.digest.previous_digest_signature != previous.signature {
        report.find(Check::PreviousSignature, &next.place, format_args!("of {named}"));
    }
    if previous.end != next.start {
        report.find(Check::DigestGap, &next.place, missing_time(previous.end, next.start));
    }
}

/// Names what is missing between two times.
pub fn missing_time(from: u64, to: u64) -> String {
    format!("nothing covers {} to {}", format_time(from), format_time(to))
}
