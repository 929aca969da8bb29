//! Relays between agents and home, as real processes: what they take in is delivered by home exactly once, whoever is killed,
//! and what is lost with a relay is named.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod forks;
mod identity;
mod kill;
mod lost;
mod many;
mod regions;
mod restored;
mod standing;
mod station;
