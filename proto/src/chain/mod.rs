//! The chain: what makes a stream of batches impossible to alter unseen.
//!
//! In the order of a stream's life: an [`Open`] names who begins it, a [`Writer`] makes [`Header`]s that each hash
//! the one before, a [`Ratchet`] seals each head under a key used once and erased, a collector's [`Verifier`] checks
//! all of it and answers with a [`Receipt`]. [`KeySlot`] is what of the ratchet survives a crash.
//!
//! All integers are big-endian and of fixed width; no protobuf and no re-serialised JSON is ever under a hash.

mod binding;
mod event_id;
mod hash;
mod header;
mod open;
mod ratchet;
mod receipt;
mod slot;
mod verifier;
mod writer;

pub use binding::{Binding, BindingError};
pub use event_id::event_id;
pub use hash::Hash;
pub use header::{BatchKind, Counters, HEADER_BYTES, Header, HeaderError};
pub use open::{Cause, OPEN_BYTES, Open, OpenError, Predecessor};
pub use ratchet::{PublicKey, Ratchet, Seal, Seed, verify_seal};
pub use receipt::{
    RECEIPT_KEY_STATEMENT_BYTES, RECEIPT_MESSAGE_BYTES, Receipt, ReceiptError, ReceiptSigner, receipt_key_statement,
};
pub use slot::{KEY_SLOT_BYTES, KeySlot};
pub use verifier::{ChainError, Head, Verifier};
pub use writer::{SealInput, SealedBatch, Writer};
