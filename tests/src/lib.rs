//! What the whole-process tests share: deployments of the real binaries, a caller of the agent's socket, the real AWS
//! CLI, and an oracle that reads only what was delivered: log files and digests, never a database.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod aws;
pub mod chance;
pub mod delivered;
pub mod deployment;
pub mod load;
pub mod port;
pub mod posting;
pub mod process;
pub mod rng;
pub mod s3;
pub mod seeds;
pub mod skip;
pub mod wait;
