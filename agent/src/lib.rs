//! Edgetrail's agent: captures who did what on a host, keeps it durably, streams it sealed.
//!
//! The journey of an event is the order of the modules: a source reads an [`observation`], [`normalize`] makes it a
//! record, [`hold`] lets one act be one record, [`select`] and [`redact`] decide what of it is kept, [`buffer`] commits,
//! chains and seals it, [`uplink`] sends it and stores the receipt. [`run`] wires the stages; none of them knows `run`.

pub mod config;

pub mod clock;

pub mod observation;

pub mod sources;

pub mod normalize;

pub mod report;

pub mod hold;

pub mod select;

pub mod redact;

pub mod buffer;

pub mod pipeline;

pub mod uplink;

pub mod enroll;

pub mod control;

pub mod run;

pub mod commands;
