//! Edgetrail's collector: verifies every chain, commits each batch exactly once, delivers, answers, proves.
//!
//! In the order of the journey: [`ingest`] judges what agents send, the [`ledger`] commits it and answers with
//! receipts, [`trails`] deliver it with signed digests to [`sinks`], [`history`] answers look-ups. [`api`] speaks
//! CloudTrail, [`pki`] says who may connect, [`control`] keeps what operators set, [`internal`] records the
//! collector's own actions in the ledger. In another role, a [`relay`] brings what it takes in on to its home. [`run`] wires them; the ledger knows none of its consumers.

pub mod config;

pub mod control;

pub mod pki;

pub mod ledger;

pub mod internal;

pub mod ingest;

pub mod sinks;

pub mod trails;

pub mod history;

pub mod api;

pub mod relay;

pub mod run;

pub mod commands;

#[cfg(fuzzing)]
pub mod fuzzing;
