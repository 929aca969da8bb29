//! The eventID: the same observation read twice gets the same id: docs/protocol.md §2.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::identity::AgentId;

/// UUID (version 8) from agent, source and position; `index` numbers the records made of one observation.
///
/// `source` and `position` are UTF-8; what exceeds u16::MAX bytes is cut there, which no position reaches.
pub fn event_id(agent: AgentId, source: &str, position: &str, index: u32) -> Uuid {
    let mut hasher = Sha256::new();
    hasher.update(b"edgetrail/event/v1\n");
    hasher.update(agent.as_bytes());
    for text in [source, position] {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        hasher.update(length.to_be_bytes());
        hasher.update(&text.as_bytes()[..usize::from(length)]);
    }
    hasher.update(index.to_be_bytes());
    let digest = hasher.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
