//! Agents, relays and their home on a simulated network, by seed.
//!
//! What runs is the product's: the agent's buffer as outbox, the uplink and its order of preference, mutual TLS, ingest, the
//! ledger, a relay's forwarder and what it hears from home. What is simulated
//! is what lies between hosts, and time: turmoil carries the bytes, delays, cuts and drops them, and ends and restarts
//! whole hosts, whose state directories stay and whose memory is gone.
//!
//! ```text
//! seed → schedule (faults, when, how long) ┐
//! seed → delays of messages                ├→ run → everything is healed → recovered in bounded time → oracle
//! seed → what each host commits, and when  │
//! seed → which collectors each host names  ┘
//! ```
//! **What a seed fixes**: the schedule of faults and clock steps, the delays that are drawn, what each host commits and the
//! pauses between. **What it does not**: keys and jitter, which come from the system's generator, and which of two tasks
//! that are ready goes first. Work that blocks (SQLite, fsync) takes no simulated time: the runtime's clock stands while
//! `spawn_blocking` works, and no step is made while the ledger has a batch to commit. A seed that fails thus fails again
//! often, not always: repeat it.
//!
//! **The oracle** is strict, since no disk is destroyed: at home, one stream a host, whole, in order, verified as auditors do;
//! a receipt for everything, and nothing that a relay still owes; nobody accused. [`Broken`] breaks one promise at a time, and the oracle must say so.
//!
//! `EDGETRAIL_SEED` replays one seed, `EDGETRAIL_SEEDS` and `EDGETRAIL_SEED_FROM` choose others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod clock;
mod collector;
pub mod enrolled;
mod host;
mod image;
mod network;
mod oracle;
mod relay;
mod repeat;
mod run;
mod schedule;
mod shelter;
pub mod stages;

pub use run::{Broken, Ran, run, run_broken};
