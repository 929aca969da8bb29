//! Keys that are used once, ratcheted forward and erased: docs/protocol.md §3.4.
//!
//! Whoever takes a host at time T finds seed_k and nothing that leads back to seed_{k-1}: what was sealed before T can
//! no longer be sealed otherwise.

use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Hash;
use crate::identity::StreamId;

/// An Ed25519 public key (RFC 8032), raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

/// An Ed25519 signature on a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal(pub [u8; 64]);

/// seed_k: zeroed when dropped, never shown.
#[derive(Clone)]
pub struct Seed(pub Zeroizing<[u8; 32]>);

/// seed_k of one stream, and what follows from it.
#[derive(Clone)]
pub struct Ratchet {
    stream: StreamId,
    k: u64,
    seed: Seed,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(hidden)")
    }
}

impl std::fmt::Debug for Ratchet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ratchet").field("stream", &self.stream).field("k", &self.k).finish_non_exhaustive()
    }
}

impl Ratchet {
    /// `seed` is seed_k: 32 fresh random bytes for k = 0.
    pub fn new(stream: StreamId, k: u64, seed: Seed) -> Self {
        Self { stream, k, seed }
    }

    pub fn stream(&self) -> StreamId {
        self.stream
    }

    pub fn k(&self) -> u64 {
        self.k
    }

    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// pk_k: checks the seal that this state makes.
    pub fn public_key(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.key_pair().public_key().as_ref());
        PublicKey(key)
    }

    /// The state for k + 1. The caller drops this one, which erases its seed.
    #[must_use]
    pub fn next(&self) -> Self {
        let mut mac = keyed(&self.seed);
        mac.update(b"edgetrail/ratchet/v1\n");
        mac.update(self.stream.as_bytes());
        mac.update(&self.k.to_be_bytes());
        let seed = Seed(Zeroizing::new(mac.finalize().into_bytes().into()));
        // No stream reaches the end of a u64; a damaged count must not panic.
        Self { stream: self.stream, k: self.k.saturating_add(1), seed }
    }

    /// seal_k. One seal per key, ever: the caller seals one head and moves on to [`Ratchet::next`].
    pub fn seal(&self, head: &Hash) -> Seal {
        let mut seal = [0; 64];
        seal.copy_from_slice(self.key_pair().sign(&seal_message(head)).as_ref());
        Seal(seal)
    }

    fn key_pair(&self) -> Ed25519KeyPair {
        let mut mac = keyed(&self.seed);
        mac.update(b"edgetrail/sign/v1\n");
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(mac.finalize().into_bytes().into());
        #[expect(clippy::expect_used, reason = "ring refuses an Ed25519 seed only for its length, which is 32 by type")]
        Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).expect("an Ed25519 seed is any 32 bytes")
    }
}

/// Whether `seal` is seal_k on `head` under pk_k.
pub fn verify_seal(key: &PublicKey, head: &Hash, seal: &Seal) -> bool {
    UnparsedPublicKey::new(&ED25519, key.0).verify(&seal_message(head), &seal.0).is_ok()
}

fn seal_message(head: &Hash) -> [u8; 50] {
    let mut message = [0; 50];
    message[..18].copy_from_slice(b"edgetrail/seal/v1\n");
    message[18..].copy_from_slice(&head.0);
    message
}

fn keyed(seed: &Seed) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length, RFC 2104 §2")]
    Hmac::<Sha256>::new_from_slice(seed.0.as_slice()).expect("HMAC takes any key")
}
