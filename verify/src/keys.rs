//! The public keys that everything is checked against. They come from the auditor, never from the trail.
//!
//! Two shapes are read: what `aws cloudtrail list-public-keys` prints, and what a collector serves and writes, which has
//! the CA's roots besides.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgetrail_proto::record::parse_time;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::Value;

const NS_PER_S: u64 = 1_000_000_000;

/// A digest key as `ListPublicKeys` gives it.
#[derive(Clone, Debug)]
pub struct DigestKey {
    /// DER, PKCS#1 RSAPublicKey.
    pub der: Vec<u8>,
    /// Unix nanoseconds; the first moment at which it is valid and the first at which it no longer is.
    pub not_before: u64,
    pub not_after: u64,
}

/// All keys, by fingerprint, and the roots that agents' certificates must lead to.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    pub digest: HashMap<String, DigestKey>,
    /// DER.
    pub roots: Vec<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("the keys are not JSON: save the output of `aws cloudtrail list-public-keys`, or the collector's /v1/keys")]
    Json(#[source] serde_json::Error),
    #[error("key {index} of the list has no readable `{member}`")]
    Key { index: usize, member: &'static str },
    #[error("the list holds no key: ask for a time range that has digests")]
    None,
    #[error("`roots` must be a list of base64 DER certificates")]
    Roots,
    #[error("there is no PEM certificate in it")]
    Pem,
}

#[derive(Deserialize)]
struct KeysFile {
    #[serde(rename = "PublicKeyList", default)]
    keys: Vec<Value>,
    #[serde(rename = "Roots", default)]
    roots: Vec<String>,
}

impl Keys {
    pub fn parse(json: &[u8]) -> Result<Self, KeysError> {
        let file: KeysFile = serde_json::from_slice(json).map_err(KeysError::Json)?;
        if file.keys.is_empty() {
            return Err(KeysError::None);
        }
        let mut digest = HashMap::new();
        for (index, key) in file.keys.iter().enumerate() {
            let missing = |member| KeysError::Key { index, member };
            let text = |member| key[member].as_str().ok_or_else(|| missing(member));
            let der = STANDARD.decode(text("Value")?).map_err(|_| missing("Value"))?;
            let not_before = time(&key["ValidityStartTime"]).ok_or_else(|| missing("ValidityStartTime"))?;
            let not_after = time(&key["ValidityEndTime"]).ok_or_else(|| missing("ValidityEndTime"))?;
            digest.insert(text("Fingerprint")?.to_owned(), DigestKey { der, not_before, not_after });
        }
        let roots =
            file.roots.iter().map(|root| STANDARD.decode(root)).collect::<Result<_, _>>().map_err(|_| KeysError::Roots)?;
        Ok(Self { digest, roots })
    }

    /// Adds the certificates of a PEM file to the roots.
    pub fn add_roots_pem(&mut self, pem: &[u8]) -> Result<(), KeysError> {
        let certificates: Vec<CertificateDer<'_>> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| KeysError::Pem)?;
        if certificates.is_empty() {
            return Err(KeysError::Pem);
        }
        self.roots.extend(certificates.iter().map(|certificate| certificate.to_vec()));
        Ok(())
    }
}

/// Epoch seconds, as the API gives them, or the CLI's ISO 8601 with an offset.
fn time(value: &Value) -> Option<u64> {
    if let Some(seconds) = value.as_f64() {
        let nanoseconds = seconds * 1e9;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range on this line")]
        return (0.0..1.8e19).contains(&nanoseconds).then_some(nanoseconds as u64);
    }
    let text = value.as_str()?;
    let timestamp: Option<jiff::Timestamp> = text.parse().ok();
    match timestamp {
        Some(timestamp) => u64::try_from(timestamp.as_second()).ok()?.checked_mul(NS_PER_S),
        None => parse_time(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clis_and_the_apis_times_are_the_same() {
        let one = time(&serde_json::json!(1_700_000_000));
        assert_eq!(one, Some(1_700_000_000 * NS_PER_S));
        assert_eq!(time(&serde_json::json!(1_700_000_000.0)), one);
        assert_eq!(time(&serde_json::json!("2023-11-14T22:13:20+00:00")), one);
        assert_eq!(time(&serde_json::json!("2023-11-14T23:13:20+01:00")), one);
        assert_eq!(time(&serde_json::json!(-1)), None);
        assert_eq!(time(&serde_json::json!("yesterday")), None);
    }

    #[test]
    fn a_list_without_keys_is_refused() {
        assert!(matches!(Keys::parse(b"{\"PublicKeyList\":[]}"), Err(KeysError::None)));
        assert!(matches!(Keys::parse(b"{}"), Err(KeysError::None)));
        assert!(matches!(Keys::parse(b"{"), Err(KeysError::Json(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_keys_file_panics(bytes: Vec<u8>, text in ".*") {
            drop(Keys::parse(&bytes));
            drop(Keys::parse(text.as_bytes()));
            drop(Keys::default().add_roots_pem(&bytes));
        }
    }
}
