//! Which receipts are this ledger's own: the key that signs now, and those that signed before.
//!
//! A restored ledger counts from an index that it has given out before, so it goes on under a new key: no two receipts
//! under one key ever share an index.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use edgetrail_proto::chain::{Hash, ReceiptSigner};

#[derive(Debug)]
pub(super) struct Signers(RwLock<Keys>);

struct Keys {
    current: Arc<ReceiptSigner>,
    /// SHA-256 of every public key that ever signed here, the current one among them.
    own: HashSet<Hash>,
}

impl Signers {
    pub(super) fn new(current: Arc<ReceiptSigner>, former: impl IntoIterator<Item = Hash>) -> Self {
        let mut own: HashSet<Hash> = former.into_iter().collect();
        own.insert(key_id(&current));
        Self(RwLock::new(Keys { current, own }))
    }

    pub(super) fn current(&self) -> Arc<ReceiptSigner> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).current)
    }

    pub(super) fn is_own(&self, key: &Hash) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).own.contains(key)
    }

    /// One that has signed here before this ledger went back to an older copy.
    pub(super) fn adopt(&self, key: Hash) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).own.insert(key);
    }

    pub(super) fn replace(&self, signer: Arc<ReceiptSigner>) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.own.insert(key_id(&signer));
        keys.current = signer;
    }
}

/// As a receipt names its key.
fn key_id(signer: &ReceiptSigner) -> Hash {
    Hash::of(&signer.public_key().0)
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("own", &self.own).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_key_stays_ones_own() {
        let signer = |seed| Arc::new(ReceiptSigner::from_seed(&[seed; 32]));
        let signers = Signers::new(signer(1), [key_id(&signer(0))]);
        signers.replace(signer(2));
        assert_eq!(signers.current().public_key(), signer(2).public_key());
        assert!([0, 1, 2].iter().all(|&seed| signers.is_own(&key_id(&signer(seed)))));
        assert!(!signers.is_own(&key_id(&signer(3))));
    }
}
