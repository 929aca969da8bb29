//! The keys that a proof's receipts are signed with: vouched for by a trusted root, and valid when they signed.

use std::collections::HashMap;

use edgetrail_proto::chain::{Hash, PublicKey, Receipt, receipt_key_statement};
use edgetrail_proto::proof::{Proof, ProofReceiptKey};

use crate::opening;

/// By the key's hash, as receipts name it.
#[derive(Debug, Default)]
pub struct ReceiptKeys(HashMap<Hash, ReceiptKey>);

#[derive(Debug)]
struct ReceiptKey {
    key: PublicKey,
    /// Unix nanoseconds; the first moment at which it is valid and the first at which it no longer is.
    not_before: u64,
    not_after: u64,
}

impl ReceiptKeys {
    /// A proof's keys; where roots are given, those only that one of them vouches for. What another key signed verifies under none.
    pub fn of(proof: &Proof, roots: &[Vec<u8>]) -> Self {
        Self::stated(&proof.receipt_keys, roots)
    }

    /// The same of keys that stand elsewhere.
    pub fn stated(stated: &[ProofReceiptKey], roots: &[Vec<u8>]) -> Self {
        let mut keys = HashMap::new();
        for stated in stated {
            let Ok(key) = <[u8; 32]>::try_from(stated.public_key.0.as_slice()).map(PublicKey) else { continue };
            let (not_before, not_after) = (stated.not_before, stated.not_after);
            let statement = receipt_key_statement(&key, not_before, not_after);
            if roots.is_empty() || opening::signed_by_a_root(&statement, &stated.ca_signature.0, roots) {
                keys.insert(Hash::of(&key.0), ReceiptKey { key, not_before, not_after });
            }
        }
        Self(keys)
    }

    /// Whether the receipt is signed by one of these, valid at the time that it states.
    pub fn vouch_for(&self, receipt: &Receipt) -> bool {
        self.0.get(&receipt.key).is_some_and(|known| {
            (known.not_before..known.not_after).contains(&receipt.t_received) && receipt.verify(&known.key).is_ok()
        })
    }

    pub fn hashes(&self) -> impl Iterator<Item = &Hash> {
        self.0.keys()
    }
}
