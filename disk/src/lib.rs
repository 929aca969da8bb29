//! The one place where bytes become durable.
//!
//! Everything that must outlive a power cut is written through a [`Medium`]: the real one is the host's file system
//! ([`Medium::real`]); tests put a simulated disk in its place, on which every write, sync and change of a directory
//! is counted and can be lost. What stands on it:
//! - [`database`]: SQLite as every store opens it (WAL, `synchronous=FULL`, no memory map, a version without known races);
//! - [`KeyFile`]: the two slots of a ratchet, outside SQLite;
//! - [`Handle`]: plain files, for the ledger's segments.
//!
//! What it must never do: answer before a sync that failed, retry a sync, or delete what it could not read.

mod crash_point;
pub mod database;
mod key_file;
mod medium;
mod real;

pub use crash_point::{CRASH_POINTS, crash_point};
pub use key_file::{KeyFile, KeyFileError};
pub use medium::{Access, Handle, Medium, Volume};
