//! Every fixture cut at every byte: what is whole before the cut comes out once and unaltered, and what is cut waits, is
//! refused or is told as what it is. Nowhere does half a record become another record.
//!
//! `files` drives the source of files over each cut, `streams` what takes messages out of connections, `bodies` what is
//! posted or read as a whole. sudo's conversation, whose door asks the kernel who is there, is cut in `sources::sudo`.
//!
//! Fixtures of other projects lie beside the workspace in `../shared/data` (or `EDGETRAIL_SHARED_DATA`); without them
//! only the own ones are cut, and it is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bodies;
mod files;
mod fixtures;
mod streams;
