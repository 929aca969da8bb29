//! One session per peer and agent: a new one ends the older ones, and nothing more of theirs is read. An agent and each of
//! the relays that bring its streams stand beside each other: the ledger takes each batch once, whoever is first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use edgetrail_link::tls::PeerId;
use edgetrail_proto::identity::AgentId;
use tokio_util::sync::CancellationToken;

/// Who is attached now.
#[derive(Clone, Debug, Default)]
pub(super) struct Fence(Arc<Mutex<Attached>>);

#[derive(Debug, Default)]
struct Attached {
    entries: u64,
    places: HashMap<Key, (u64, CancellationToken)>,
}

/// Who brings, and whose streams.
type Key = (PeerId, AgentId);

/// A session's place; left when dropped.
#[derive(Debug)]
pub(super) struct Place {
    fence: Fence,
    key: Key,
    entry: u64,
}

impl Fence {
    /// Takes the place and ends who held it. `ended` is cancelled once a newer one has taken it.
    pub(super) fn enter(&self, peer: PeerId, agent: AgentId, ended: CancellationToken) -> Place {
        let mut attached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attached.entries += 1;
        let (entry, key) = (attached.entries, (peer, agent));
        if let Some((_, former)) = attached.places.insert(key.clone(), (entry, ended)) {
            former.cancel();
        }
        Place { fence: self.clone(), key, entry }
    }
}

impl Fence {
    /// Whether the agent itself is attached.
    pub(super) fn holds(&self, agent: AgentId) -> bool {
        let attached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attached.places.contains_key(&(PeerId::Agent(agent), agent))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut attached = self.fence.0.lock().unwrap_or_else(PoisonError::into_inner);
        if attached.places.get(&self.key).is_some_and(|(entry, _)| *entry == self.entry) {
            attached.places.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_session_ends_the_older_of_the_same_peer_and_leaves_cleanly() {
        let (fence, agent) = (Fence::default(), AgentId::from_bytes([1; 16]));
        let enter = |peer: &PeerId| {
            let ended = CancellationToken::new();
            (fence.enter(peer.clone(), agent, ended.clone()), ended)
        };
        let (itself, relay) = (PeerId::Agent(agent), PeerId::Relay("tokyo".parse().unwrap()));
        let (first, first_ended) = enter(&itself);
        let (second, second_ended) = enter(&itself);
        let (brought, brought_ended) = enter(&relay);
        assert!(first_ended.is_cancelled());
        drop(first);
        let held = |peer: PeerId| fence.0.lock().unwrap().places.contains_key(&(peer, agent));
        assert!(held(itself), "the older one leaves the newer one's place alone");
        assert!(!second_ended.is_cancelled() && !brought_ended.is_cancelled(), "a relay stands beside its agent");
        drop((second, brought));
        assert!(fence.0.lock().unwrap().places.is_empty());
    }
}
