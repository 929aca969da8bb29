//! Which receipt keys are trusted: those that the CA has signed, each for its time.
//!
//! A statement is checked once, when it is taken up; a receipt counts only under a key that is held here and was valid
//! at the receipt's own time.

use std::collections::HashMap;

use edgetrail_proto::chain::{Hash, PublicKey, Receipt, ReceiptError, receipt_key_statement};
use rustls::pki_types::CertificateDer;

use crate::tls::signed_by;
use crate::wire;

/// Most keys that a home's collectors have together: one a collector, two while it rotates.
pub const RECEIPT_KEYS_MAX: usize = 1024;

/// The CA's statement that a key signs receipts from one time to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptKey {
    pub public_key: PublicKey,
    /// Unix nanoseconds.
    pub not_before: u64,
    pub not_after: u64,
    /// ECDSA P-256 SHA-256 (ASN.1) over [`ReceiptKey::message`].
    pub ca_signature: Vec<u8>,
}

/// The keys that a sender trusts.
#[derive(Clone, Debug, Default)]
pub struct ReceiptKeys(HashMap<Hash, ReceiptKey>);

#[derive(Debug, thiserror::Error)]
pub enum ReceiptKeyError {
    #[error("a receipt key is 32 bytes long, this one {bytes}")]
    Length { bytes: usize },
    #[error("no trusted root has signed the receipt key")]
    Signature,
    #[error("more than {RECEIPT_KEYS_MAX} receipt keys are offered")]
    TooMany,
    #[error("the receipt's key {0} is not trusted; if the collector was re-installed, join again")]
    Unknown(Hash),
    #[error("the receipt's time lies outside the validity of its key {0}")]
    OutsideValidity(Hash),
    #[error("the receipt does not hold")]
    Receipt(#[source] ReceiptError),
}

impl ReceiptKey {
    /// What the CA signs: `"edgetrail/receipt-key/v1\n" ‖ public_key ‖ not_before u64 ‖ not_after u64`.
    pub fn message(public_key: &PublicKey, not_before: u64, not_after: u64) -> Vec<u8> {
        receipt_key_statement(public_key, not_before, not_after).to_vec()
    }

    pub fn from_wire(key: &wire::ReceiptKey) -> Result<Self, ReceiptKeyError> {
        let length = ReceiptKeyError::Length { bytes: key.public_key.len() };
        let public_key = PublicKey(key.public_key.as_ref().try_into().map_err(|_| length)?);
        Ok(Self { public_key, not_before: key.not_before, not_after: key.not_after, ca_signature: key.ca_signature.to_vec() })
    }

    pub fn to_wire(&self) -> wire::ReceiptKey {
        wire::ReceiptKey {
            public_key: self.public_key.0.to_vec().into(),
            not_before: self.not_before,
            not_after: self.not_after,
            ca_signature: self.ca_signature.clone().into(),
        }
    }

    fn is_signed_by(&self, root: &CertificateDer<'_>) -> bool {
        signed_by(root, &Self::message(&self.public_key, self.not_before, self.not_after), &self.ca_signature)
    }
}

impl ReceiptKeys {
    /// Takes a key up if one of `roots` has signed it.
    pub fn add(&mut self, key: ReceiptKey, roots: &[CertificateDer<'_>]) -> Result<(), ReceiptKeyError> {
        let id = Hash::of(&key.public_key.0);
        if self.0.get(&id) == Some(&key) {
            return Ok(());
        }
        if self.0.len() >= RECEIPT_KEYS_MAX {
            return Err(ReceiptKeyError::TooMany);
        }
        if !roots.iter().any(|root| key.is_signed_by(root)) {
            return Err(ReceiptKeyError::Signature);
        }
        self.0.insert(id, key);
        Ok(())
    }

    /// Whether this key is trusted already, by whichever root.
    pub fn holds(&self, public_key: &PublicKey) -> bool {
        self.0.contains_key(&Hash::of(&public_key.0))
    }

    /// By the SHA-256 of its public key, as a receipt names it.
    pub fn named(&self, key: &Hash) -> Option<&ReceiptKey> {
        self.0.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = &ReceiptKey> {
        self.0.values()
    }

    /// Reads a receipt that may be trusted: signed by a key held here, at a time when the key was valid.
    pub fn verify(&self, encoded: &[u8]) -> Result<Receipt, ReceiptKeyError> {
        let receipt = Receipt::decode(encoded).map_err(ReceiptKeyError::Receipt)?;
        let key = self.0.get(&receipt.key).ok_or(ReceiptKeyError::Unknown(receipt.key))?;
        if !(key.not_before..=key.not_after).contains(&receipt.t_received) {
            return Err(ReceiptKeyError::OutsideValidity(receipt.key));
        }
        receipt.verify(&key.public_key).map_err(ReceiptKeyError::Receipt)?;
        Ok(receipt)
    }
}

#[cfg(test)]
mod tests {
    use edgetrail_proto::chain::ReceiptSigner;
    use edgetrail_proto::identity::StreamId;
    use rcgen::{CertificateParams, KeyPair, SigningKey};

    use super::*;

    struct Ca {
        key: KeyPair,
        root: CertificateDer<'static>,
    }

    fn ca() -> Ca {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let root = CertificateParams::default().self_signed(&key).unwrap().der().clone();
        Ca { key, root }
    }

    fn statement(ca: &Ca, signer: &ReceiptSigner, not_before: u64, not_after: u64) -> ReceiptKey {
        let public_key = signer.public_key();
        let ca_signature = ca.key.sign(&ReceiptKey::message(&public_key, not_before, not_after)).unwrap();
        ReceiptKey { public_key, not_before, not_after, ca_signature }
    }

    #[test]
    fn a_receipt_counts_only_under_a_key_that_the_ca_signed_for_its_time() {
        let (ours, theirs) = (ca(), ca());
        let (signer, stranger) = (ReceiptSigner::from_seed(&[1; 32]), ReceiptSigner::from_seed(&[2; 32]));
        let mut keys = ReceiptKeys::default();
        let roots = [ours.root.clone()];
        keys.add(statement(&ours, &signer, 100, 200), &roots).unwrap();
        let foreign = keys.add(statement(&theirs, &stranger, 100, 200), &roots);
        assert!(matches!(foreign, Err(ReceiptKeyError::Signature)));
        let stretched = ReceiptKey { not_after: 300, ..statement(&ours, &signer, 100, 200) };
        assert!(matches!(keys.add(stretched, &roots), Err(ReceiptKeyError::Signature)));

        let receipt = |signer: &ReceiptSigner, at| signer.sign(StreamId::from_bytes([1; 16]), 7, Hash::ZERO, 3, at).encode();
        assert_eq!(keys.verify(&receipt(&signer, 150)).unwrap().k, 7);
        assert!(matches!(keys.verify(&receipt(&signer, 201)), Err(ReceiptKeyError::OutsideValidity(_))));
        assert!(matches!(keys.verify(&receipt(&stranger, 150)), Err(ReceiptKeyError::Unknown(_))));
        // Behind the tag: the key's hash, then what the signature stands for, then the signature.
        for (at, of_key) in receipt(&signer, 150).iter().enumerate().skip(21).map(|(at, _)| (at, at < 53)) {
            let mut touched = receipt(&signer, 150);
            touched[at] ^= 1;
            match keys.verify(&touched) {
                Err(ReceiptKeyError::Unknown(_)) if of_key => {}
                // A time that is touched may lie outside the key's before its signature is looked at.
                Err(ReceiptKeyError::Receipt(_) | ReceiptKeyError::OutsideValidity(_)) if !of_key => {}
                other => panic!("byte {at}: {other:?}"),
            }
        }
        assert!(keys.verify(&receipt(&signer, 150)[1..]).is_err());
    }
}
