//! Audit events as records: the actor, the act, its result.

/// Carries login sessions from one event to the next.
#[derive(Debug, Default)]
pub struct Decoder {}
