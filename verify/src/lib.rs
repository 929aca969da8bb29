//! The auditor's tool: verifies a trail from its objects and public keys alone.
//!
//! [`store`] reads objects, [`keys`] what the auditor brings, [`digests`] and [`logs`] check what CloudTrail's own format
//! promises, [`opening`], [`receipt_keys`] and [`streams`] follow each record back to the host that sealed it, [`trail`] walks it
//! all, [`lanes`] judges what only all accounts and regions together tell, [`account`] counts hour by hour, and [`report`] says
//! two things: whether anything was altered, and whether anything is missing. [`trace`] takes one record back to its host,
//! [`fork`] checks exported evidence, [`page`] is what a human reads. It shares no code with the collector but `proto`.

pub mod store;

pub mod keys;

pub mod gzip;

pub mod digests;

pub mod logs;

pub mod opening;

pub mod receipt_keys;

pub mod receipts;

pub mod stream;

pub mod streams;

pub mod account;

pub mod lanes;

pub mod trail;

pub mod report;

pub mod steps;

pub mod trace;

pub mod fork;

pub mod advice;

pub mod table;

pub mod page;
