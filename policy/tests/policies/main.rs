//! Promises of the policy language: tables of cases and of bad documents, the managed policies, random policies.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cases;

mod documents;

mod managed;

mod properties;
