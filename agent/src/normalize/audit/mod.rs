//! Audit events as records: the actor, the act, its result.

pub mod address;

pub mod errno;

pub mod sessions;

pub mod syscall;

/// Carries login sessions from one event to the next.
#[derive(Debug, Default)]
pub struct Decoder {}
