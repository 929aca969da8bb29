//! The durable, deduplicated store of batches: the one truth behind everything downstream.
//!
//! A batch is committed exactly once, by compare-and-set on (stream, k, previous head) in the transaction that names
//! its body. Bodies lie, compressed as received, in append-only segment files that are fsynced before that
//! transaction. A receipt exists only for what this made durable. The ledger knows none of its consumers: they read it
//! from cursors of their own and say how far they have passed.

mod entry;

pub use entry::{Entry, EntryRecord, Quarantine, StreamInfo};
