//! A collector's signed statement that it has durably committed a stream up to a head: docs/protocol.md §4.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::header::{In, Out};
use super::{Hash, PublicKey, Seal};
use crate::identity::StreamId;

const DOMAIN: &[u8; 21] = b"edgetrail/receipt/v1\n";

const KEY_DOMAIN: &[u8; 25] = b"edgetrail/receipt-key/v1\n";

/// Bytes of what a CA signs of a receipt key.
pub const RECEIPT_KEY_STATEMENT_BYTES: usize = 25 + 32 + 8 + 8;

/// Bytes of a receipt's message, without the signature.
pub const RECEIPT_MESSAGE_BYTES: usize = 21 + 32 + 16 + 8 + 32 + 8 + 8;

/// Cumulative: everything of the stream up to and with batch k is in the signer's ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// SHA-256 of the receipt public key.
    pub key: Hash,
    pub stream: StreamId,
    pub k: u64,
    /// H_k.
    pub head: Hash,
    /// Where batch k stands in the signer's ledger: +1 per batch, from 0.
    pub ledger_index: u64,
    /// Commit time of k there, Unix nanoseconds.
    pub t_received: u64,
    pub signature: Seal,
}

/// Why bytes are no receipt, or none of the key's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error("a receipt is {} bytes long, this one {bytes}", RECEIPT_MESSAGE_BYTES + 64)]
    Length { bytes: usize },
    #[error("the bytes do not begin as a receipt of version 1")]
    Domain,
    #[error("the receipt's signature does not verify under key {key}")]
    Signature { key: Hash },
}

/// A collector's receipt key.
pub struct ReceiptSigner {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl std::fmt::Debug for ReceiptSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiptSigner").field("public", &self.public).finish_non_exhaustive()
    }
}

/// What a CA signs to vouch for a receipt key from `not_before` to `not_after`, Unix nanoseconds.
pub fn receipt_key_statement(key: &PublicKey, not_before: u64, not_after: u64) -> [u8; RECEIPT_KEY_STATEMENT_BYTES] {
    let mut out = Out::<RECEIPT_KEY_STATEMENT_BYTES>::new();
    out.put(KEY_DOMAIN);
    out.put(&key.0);
    out.put(&not_before.to_be_bytes());
    out.put(&not_after.to_be_bytes());
    out.finish()
}

impl ReceiptSigner {
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        #[expect(clippy::expect_used, reason = "ring refuses an Ed25519 seed only for its length, which is 32 by type")]
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("an Ed25519 seed is any 32 bytes");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Self { pair, public: PublicKey(public) }
    }

    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// A receipt for batch `k`, whose hash is `head`, committed at `t_received` (Unix nanoseconds). The same input gives the same
    /// bytes: Ed25519 has no nonce of its own.
    pub fn sign(&self, stream: StreamId, k: u64, head: Hash, ledger_index: u64, t_received: u64) -> Receipt {
        let unsigned =
            Receipt { key: Hash::of(&self.public.0), stream, k, head, ledger_index, t_received, signature: Seal([0; 64]) };
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(&unsigned.message()).as_ref());
        Receipt { signature: Seal(signature), ..unsigned }
    }
}

impl Receipt {
    /// What is signed, and hashed into the next header.
    pub fn message(&self) -> [u8; RECEIPT_MESSAGE_BYTES] {
        let mut out = Out::<RECEIPT_MESSAGE_BYTES>::new();
        out.put(DOMAIN);
        out.put(&self.key.0);
        out.put(self.stream.as_bytes());
        out.put(&self.k.to_be_bytes());
        out.put(&self.head.0);
        out.put(&self.ledger_index.to_be_bytes());
        out.put(&self.t_received.to_be_bytes());
        out.finish()
    }

    /// What the next header carries as `last_receipt`.
    pub fn message_hash(&self) -> Hash {
        Hash::of(&self.message())
    }

    /// Message and signature.
    pub fn encode(&self) -> Vec<u8> {
        [self.message().as_slice(), &self.signature.0].concat()
    }

    /// Reads a receipt without trusting it: call [`Receipt::verify`] before use.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let length = bytes.len();
        let mut bytes = In::new::<{ RECEIPT_MESSAGE_BYTES + 64 }>(bytes).ok_or(ReceiptError::Length { bytes: length })?;
        if &bytes.take::<21>() != DOMAIN {
            return Err(ReceiptError::Domain);
        }
        Ok(Self {
            key: Hash(bytes.take()),
            stream: StreamId::from_bytes(bytes.take()),
            k: bytes.u64(),
            head: Hash(bytes.take()),
            ledger_index: bytes.u64(),
            t_received: bytes.u64(),
            signature: Seal(bytes.take()),
        })
    }

    /// Checks the key's hash and the signature. Whether the key is trusted and was valid at `t_received` is the caller's to know.
    pub fn verify(&self, key: &PublicKey) -> Result<(), ReceiptError> {
        let signed = UnparsedPublicKey::new(&ED25519, key.0).verify(&self.message(), &self.signature.0).is_ok();
        if signed && Hash::of(&key.0) == self.key { Ok(()) } else { Err(ReceiptError::Signature { key: self.key }) }
    }
}
