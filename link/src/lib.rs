//! The wire between agents, relays and collectors: what carries sealed batches one way and receipts the other.
//!
//! [`wire`] holds the generated messages, [`body`] the encoding of a batch's records, [`transport`] what lies below
//! TLS, [`tls`] mutual TLS and who the
//! peer is, [`allowance`] how often an address may come, [`outbox`] what a sender must be able to say of its store, [`uplink`] the sending end: resume, window,
//! receipts. The receiving end's judgement is the collector's ingest.

pub mod wire;

pub mod body;

pub mod allowance;

pub mod transport;

pub mod tls;

pub mod receipt_keys;

pub mod renewal;

pub mod outbox;

pub mod uplink;
