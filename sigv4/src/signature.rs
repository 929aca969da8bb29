//! The signature itself: the derived key, the string to sign, the comparison in constant time.

use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::SigV4Error;
use super::canonical::canonical_request;
use super::claim::{Claim, Payload};

impl Claim {
    /// Whether the holder of `secret` signed exactly this head and body, now. The head must be the one parsed.
    pub fn verify(&self, head: &Parts, body: &[u8], secret: &str, now: u64) -> Result<(), SigV4Error> {
        self.check_time(now)?;
        let payload_hash = match &self.payload {
            Payload::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Payload::Hashed { stated } => {
                let actual = hex::encode(Sha256::digest(body));
                // The caller's own statement must be of this body; a hash in capitals is another text under the signature.
                if stated.as_ref().is_some_and(|stated| *stated != actual) {
                    return Err(SigV4Error::PayloadMismatch);
                }
                actual
            }
        };
        let canonical = canonical_request(self, head, &payload_hash)?;
        let expected = hmac(&*self.signing_key(secret), self.string_to_sign(&canonical).as_bytes());
        if bool::from(expected.ct_eq(&self.signature)) { Ok(()) } else { Err(SigV4Error::Mismatch) }
    }

    fn string_to_sign(&self, canonical: &[u8]) -> String {
        let Self { amz_date, scope, .. } = self;
        let hash = hex::encode(Sha256::digest(canonical));
        format!("AWS4-HMAC-SHA256\n{amz_date}\n{}/{}/{}/aws4_request\n{hash}", scope.date, scope.region, scope.service)
    }

    fn signing_key(&self, secret: &str) -> Zeroizing<[u8; 32]> {
        let seed = Zeroizing::new(format!("AWS4{secret}"));
        let mut key = Zeroizing::new(hmac(seed.as_bytes(), self.scope.date.as_bytes()));
        for part in [self.scope.region.as_str(), self.scope.service.as_str(), "aws4_request"] {
            key = Zeroizing::new(hmac(&*key, part.as_bytes()));
        }
        key
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104 §2)")]
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}
