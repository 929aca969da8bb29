//! One trail, end to end, over the real binaries and the real AWS CLI.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod auditor;
mod fail_over;
mod journey;
mod operators;
mod quickstart;
mod receipts;
mod receivers;
mod repair;
mod silence;
mod sources;
mod tampered;
mod two_by_two;
