//! A disk that loses power, and what the buffer and the ledger keep on it.
//!
//! [`Disk`] is a whole disk in memory, under plain files and under SQLite alike. A write is pending until its file is
//! synced, a name until its directory is. When the power fails, at the call that a test names, each pending write is
//! kept, dropped, torn at sectors or put in another order, by seed. Calls can also fail: EIO, ENOSPC, a short write; a
//! sync that fails leaves what it should have written in the page cache alone, as Linux does.
//!
//! `EDGETRAIL_SEEDS` sets how many seeds a test runs, `EDGETRAIL_SEED` replays one; a failure names its seed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod agent;
pub mod collector;
pub mod damage;
mod disk;
mod file;
pub mod promise;
#[allow(unsafe_code, reason = "SQLite calls a VFS over C")]
mod vfs;

pub use disk::{Disk, FAULTS, Fault};
pub use edgetrail_tests::{rng, seeds};
