//! What is wrong is refused where it is wrong, with what to do next; and everything else goes on.
//!
//! Over the real binaries: bodies, lines, configuration, ports, permissions, disks, buckets, certificates.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bucket;
mod certificate;
mod disk;
mod lines;
mod posted;
mod start;
