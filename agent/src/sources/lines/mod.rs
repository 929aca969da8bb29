//! Lines of logs: what a line is, read into fields.
//!
//! The layer below the records: it knows formats and no meaning. Every parser here takes arbitrary bytes, allocates no
//! more than a small multiple of them and says what is wrong where it can't read; what a field means is said by a
//! [`Mapping`], data that normalize applies.

pub mod access;

pub mod address;

pub mod cri;

pub mod envelope;

pub mod fields;

pub mod framing;

pub mod logfmt;

pub mod mapping;

pub mod postgresql;

pub mod shape;

pub mod syslog;

pub mod template;

pub mod time;

pub use mapping::{Mapping, MappingError};

/// Largest line of these formats, in bytes. Source: a Vault entry or SQL statement may be long, a record is cut at 256 KiB.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
