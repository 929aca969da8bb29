//! Identity for life: joining, renewing under a live stream, revoking, replacing the root, certificates of another PKI.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod joining;
mod lifetime;
mod own_pki;
mod poster;
mod rotation;
