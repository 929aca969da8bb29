//! Digest files on the way in: is every log file that they list here, and as it was delivered?
//!
//! A file that is missing or changed is a gap: its events are not to be had as they were. A digest's signature is checked
//! with the operator's copy of the public keys; it lies beside the digest (`NAME.meta.json`), or in the digest after it.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgetrail_proto::digest::{Digest, string_to_sign};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::document;
use super::place::{Content, Place};

/// Public keys, DER as PKCS#1.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Vec<Vec<u8>>);

/// What is wrong, with its place: one gap each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The same at every reading.
    pub(super) place: String,
    pub(super) evidence: String,
}

impl Keys {
    /// Of what `aws cloudtrail list-public-keys` prints.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let whole: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let list = whole.get("PublicKeyList").and_then(Value::as_array).cloned().unwrap_or_default();
        let key = |entry: &Value| STANDARD.decode(entry.get("Value")?.as_str()?).ok();
        let keys: Vec<Vec<u8>> = list.iter().filter_map(key).collect();
        match keys.is_empty() {
            true => Err(format!("{}: no key: save what `aws cloudtrail list-public-keys` prints", path.display())),
            false => Ok(Self(keys)),
        }
    }

    /// `None` where there is no key to check with.
    fn vouches(&self, text: &str, signature: &[u8]) -> Option<bool> {
        let by =
            |key: &Vec<u8>| UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(text.as_bytes(), signature).is_ok();
        (!self.0.is_empty()).then(|| self.0.iter().any(by))
    }
}

/// What a check came to.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) findings: Vec<Finding>,
    /// An object that is not here, or not whole: it may still come.
    pub(super) missing: Option<String>,
}

/// Checks a digest's bytes (uncompressed) against what lies at `place`. `is_oldest`: of its lane, no older one was ever
/// here. An error says that this could not be asked.
pub(super) fn check(place: &dyn Place, path: &Path, bytes: &[u8], keys: &Keys, is_oldest: bool) -> io::Result<Checked> {
    let name = path.to_string_lossy().into_owned();
    let finding = |what: &str, evidence: String| Finding { place: format!("{name}#{what}"), evidence };
    let digest = match Digest::from_json(bytes) {
        Ok(digest) => digest,
        Err(error) => {
            let findings = vec![finding("form", format!("{name} is no digest: {error}"))];
            return Ok(Checked { findings, missing: None });
        }
    };
    let mut findings = Vec::new();
    let mut missing = None;
    for file in &digest.log_files {
        let actual = match place.object(&file.s3_object)? {
            Content::Gone => {
                missing.get_or_insert_with(|| file.s3_object.clone());
                findings.push(finding(
                    &file.s3_object,
                    format!("{} is listed in {name} and not here: its events are missing", file.s3_object),
                ));
                continue;
            }
            Content::TooLarge => None,
            Content::Bytes(bytes) => document::expanded(bytes).ok().map(|bytes| hash(&bytes)),
        };
        if actual.as_deref() != Some(file.hash_value.as_str()) {
            let actual = actual.unwrap_or_else(|| {
                // Its writer may be at it.
                missing.get_or_insert_with(|| file.s3_object.clone());
                "not to be had".to_owned()
            });
            let evidence = format!(
                "{} was changed since its delivery: its hash is {actual}, {name} says {}",
                file.s3_object, file.hash_value
            );
            findings.push(finding(&file.s3_object, evidence));
        }
    }
    if let (Some(key), Some(expected)) = (&digest.previous_digest_s3_object, &digest.previous_digest_hash_value) {
        let content = place.object(key)?;
        let is_gone = matches!(content, Content::Gone);
        let before = match content {
            Content::Bytes(bytes) => document::expanded(bytes).ok(),
            Content::Gone | Content::TooLarge => None,
        };
        match before {
            None => {
                missing.get_or_insert_with(|| key.clone());
                // Where nothing is older, the copy begins here.
                if !is_gone {
                    findings.push(finding("previous", format!("{key}, the digest before {name}, can't be read")));
                } else if !is_oldest {
                    let evidence = format!("{key}, the digest before {name}, is not here: what it lists may be missing");
                    findings.push(finding("previous", evidence));
                }
            }
            Some(before) if hash(&before) != *expected => {
                findings.push(finding("previous", format!("{key} was changed since its delivery: {name} says another hash")));
            }
            Some(before) => {
                let signature = digest.previous_digest_signature.as_deref().and_then(|text| hex::decode(text).ok());
                if let (Ok(previous), Some(signature)) = (Digest::from_json(&before), signature)
                    && signed(&previous, &before, &signature, keys) == Some(false)
                {
                    findings.push(finding("previous signature", format!("{key}: no known key made its signature")));
                }
            }
        }
    }
    if let Some(signature) = place.signature(path)?
        && signed(&digest, bytes, &signature, keys) == Some(false)
    {
        findings.push(finding("signature", format!("{name}: no known key made its signature")));
    }
    Ok(Checked { findings, missing })
}

fn signed(digest: &Digest, bytes: &[u8], signature: &[u8], keys: &Keys) -> Option<bool> {
    let previous = digest.previous_digest_signature.as_deref();
    let text =
        string_to_sign(&digest.digest_end_time, &digest.digest_s3_bucket, &digest.digest_s3_object, &hash(bytes), previous);
    keys.vouches(&text, signature)
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
