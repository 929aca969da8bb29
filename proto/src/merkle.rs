//! The Merkle tree hash of RFC 6962 §2.1 over records: what a batch header commits to.
//!
//! A leaf is hashed under 0x00 and a node under 0x01, so that no record can pass for a node. The tree of no records
//! is the hash of the empty string.

use sha2::{Digest, Sha256};

use crate::chain::Hash;

/// SHA-256(0x00 ‖ record): RFC 6962 §2.1's leaf hash.
pub fn leaf_hash(record: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0x00]);
    hasher.update(record);
    Hash(hasher.finalize().into())
}

/// MTH over leaf hashes, in order.
///
/// Works bottom-up over one level at a time: a lone last node rises unchanged, which gives the same tree as the
/// RFC's split at the largest power of two.
pub fn root(leaves: &[Hash]) -> Hash {
    if leaves.is_empty() {
        return Hash(Sha256::digest(b"").into());
    }
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        let mut next = 0;
        for pair in 0..level.len().div_ceil(2) {
            level[next] = match level.get(pair * 2 + 1) {
                Some(right) => node_hash(&level[pair * 2], right),
                None => level[pair * 2],
            };
            next += 1;
        }
        level.truncate(next);
    }
    level[0]
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0x01]);
    hasher.update(left.0);
    hasher.update(right.0);
    Hash(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 §2.1, word for word.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => Hash(Sha256::digest(b"").into()),
            1 => leaves[0],
            n => {
                let split = n.next_power_of_two() / 2;
                node_hash(&by_definition(&leaves[..split]), &by_definition(&leaves[split..]))
            }
        }
    }

    #[test]
    fn the_levelwise_tree_is_the_rfcs_tree() {
        let leaves: Vec<Hash> = (0..300u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        for n in 0..=leaves.len() {
            assert_eq!(root(&leaves[..n]), by_definition(&leaves[..n]), "{n} leaves");
        }
    }
}
