//! The digest file: which log files were delivered in a window, chained to the digest before it.
//!
//! Field names and the text that is signed are CloudTrail's: `aws cloudtrail validate-logs` checks both. A digest is
//! serialised once; those bytes are hashed, signed and compressed.

use serde::{Deserialize, Serialize};

/// digestSignatureAlgorithm: RSASSA-PKCS1-v1_5 with a 2,048-bit key.
pub const SIGNATURE_ALGORITHM: &str = "SHA256withRSA";

/// Every hashAlgorithm.
pub const HASH_ALGORITHM: &str = "SHA-256";

/// Metadata of a digest object (`x-amz-meta-…` on S3): the signature in lower-case hex.
pub const METADATA_SIGNATURE: &str = "signature";
/// Metadata of a digest object: [`SIGNATURE_ALGORITHM`].
pub const METADATA_SIGNATURE_ALGORITHM: &str = "signature-algorithm";

/// One digest. `None` is written as `null`, except for the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    pub aws_account_id: String,
    /// `YYYY-MM-DDTHH:MM:SSZ`; the digestEndTime of the one before.
    pub digest_start_time: String,
    pub digest_end_time: String,
    /// This object's own place.
    #[serde(rename = "digestS3Bucket")]
    pub digest_s3_bucket: String,
    #[serde(rename = "digestS3Object")]
    pub digest_s3_object: String,
    /// Lower-case hex MD5 of the public key's PKCS#1 DER: a label, not a protection.
    pub digest_public_key_fingerprint: String,
    pub digest_signature_algorithm: String,
    /// Over all listed log files; `None` where there is none.
    pub newest_event_time: Option<String>,
    pub oldest_event_time: Option<String>,
    /// All of `previous…` are `None` in a starting digest.
    #[serde(rename = "previousDigestS3Bucket")]
    pub previous_digest_s3_bucket: Option<String>,
    #[serde(rename = "previousDigestS3Object")]
    pub previous_digest_s3_object: Option<String>,
    /// Hex SHA-256 of the previous digest's uncompressed bytes.
    pub previous_digest_hash_value: Option<String>,
    pub previous_digest_hash_algorithm: Option<String>,
    pub previous_digest_signature: Option<String>,
    pub log_files: Vec<DigestLogFile>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub edgetrail_proof: Option<ProofRef>,
}

/// One log file that was delivered in the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DigestLogFile {
    #[serde(rename = "s3Bucket")]
    pub s3_bucket: String,
    #[serde(rename = "s3Object")]
    pub s3_object: String,
    /// Hex SHA-256 of the uncompressed bytes.
    pub hash_value: String,
    pub hash_algorithm: String,
    pub newest_event_time: String,
    pub oldest_event_time: String,
}

/// The proof file of the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProofRef {
    #[serde(rename = "s3Bucket")]
    pub s3_bucket: String,
    #[serde(rename = "s3Object")]
    pub s3_object: String,
    /// Hex SHA-256 of the uncompressed bytes.
    pub hash_value: String,
    pub hash_algorithm: String,
}

/// Why bytes are no digest.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    #[error("the digest is not JSON of a digest's form")]
    Form(#[source] serde_json::Error),
    #[error("the digest is not a JSON object")]
    NotObject,
}

impl Digest {
    /// The bytes that are hashed, signed and compressed.
    pub fn to_json(&self) -> Vec<u8> {
        // Proof: strings and lists of strings in memory always serialise.
        #[expect(clippy::expect_used, reason = "see the proof above")]
        serde_json::to_vec(self).expect("a digest is JSON")
    }

    /// Reads a digest; members that it does not know are passed over, as CloudTrail's readers do.
    pub fn from_json(json: &[u8]) -> Result<Self, DigestError> {
        // serde would take the fields from an array, too; no other reader of digests does.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(DigestError::NotObject);
        }
        serde_json::from_slice(json).map_err(DigestError::Form)
    }
}

/// What a digest's signature covers: four lines, no newline at the end.
///
/// `sha256_hex_of_digest_bytes` is of the uncompressed bytes, lower case; the previous signature's place holds `null`
/// in a starting digest.
pub fn string_to_sign(
    digest_end_time: &str,
    bucket: &str,
    key: &str,
    sha256_hex_of_digest_bytes: &str,
    previous_signature: Option<&str>,
) -> String {
    let previous = previous_signature.unwrap_or("null");
    format!("{digest_end_time}\n{bucket}/{key}\n{sha256_hex_of_digest_bytes}\n{previous}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starting() -> Digest {
        Digest {
            aws_account_id: "111122223333".to_owned(),
            digest_start_time: "2024-05-01T00:00:00Z".to_owned(),
            digest_end_time: "2024-05-01T01:00:00Z".to_owned(),
            digest_s3_bucket: "b".to_owned(),
            digest_s3_object: "k".to_owned(),
            digest_public_key_fingerprint: "00".repeat(16),
            digest_signature_algorithm: SIGNATURE_ALGORITHM.to_owned(),
            newest_event_time: None,
            oldest_event_time: None,
            previous_digest_s3_bucket: None,
            previous_digest_s3_object: None,
            previous_digest_hash_value: None,
            previous_digest_hash_algorithm: None,
            previous_digest_signature: None,
            log_files: Vec::new(),
            edgetrail_proof: None,
        }
    }

    #[test]
    fn an_empty_starting_digest_has_cloudtrails_members() {
        let json = String::from_utf8(starting().to_json()).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"awsAccountId":"111122223333","digestStartTime":"2024-05-01T00:00:00Z","digestEndTime":"2024-05-01T01:00:00Z","#,
                r#""digestS3Bucket":"b","digestS3Object":"k","digestPublicKeyFingerprint":"00000000000000000000000000000000","#,
                r#""digestSignatureAlgorithm":"SHA256withRSA","newestEventTime":null,"oldestEventTime":null,"#,
                r#""previousDigestS3Bucket":null,"previousDigestS3Object":null,"previousDigestHashValue":null,"#,
                r#""previousDigestHashAlgorithm":null,"previousDigestSignature":null,"logFiles":[]}"#
            )
        );
        assert_eq!(Digest::from_json(json.as_bytes()).unwrap(), starting());
    }

    #[test]
    fn the_string_to_sign_has_four_lines() {
        assert_eq!(string_to_sign("T", "b", "k/e", "00", None), "T\nb/k/e\n00\nnull");
        assert_eq!(string_to_sign("T", "b", "k", "00", Some("ab")), "T\nb/k\n00\nab");
    }
}
