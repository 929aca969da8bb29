//! Agents and a collector on a simulated network, by seed.
//!
//! What runs is the product's: the agent's buffer as outbox, the uplink, mutual TLS, ingest, the ledger. What is simulated
//! is what lies between hosts, and time: turmoil carries the bytes, delays, cuts and drops them, and ends and restarts
//! whole hosts, whose state directories stay and whose memory is gone.
//!
//! ```text
//! seed → schedule (faults, when, how long) ┐
//! seed → delays of messages                ├→ run → everything is healed → recovered in bounded time → oracle
//! seed → what each host commits, and when  ┘
//! ```
//! **What a seed fixes**: the schedule of faults, clock steps and commits, in simulated time. **What it does not**: keys
//! and jitter, which come from the system's generator, and so the exact interleaving. Work that blocks (SQLite, fsync)
//! takes no simulated time: the runtime's clock stands while `spawn_blocking` works, and no step is made while the ledger
//! has a batch to commit. A failing seed thus fails again nearly always, not always.
//!
//! `EDGETRAIL_SEED` replays one seed, `EDGETRAIL_SEEDS` and `EDGETRAIL_SEED_FROM` choose others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod clock;
mod collector;
mod host;
mod image;
mod network;
mod oracle;
mod run;
mod schedule;

pub use run::{Ran, run};
