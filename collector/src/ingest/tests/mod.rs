//! Ingest's promises, over real mutual TLS on loopback: what is refused, with what reason, and that nothing of it is
//! committed; what is accepted, exactly once, whatever the connection does.

mod missing;
mod outbox;
mod paced;
mod refusals;
mod relays;
pub(crate) mod rig;
mod silence;
mod uplinks;
