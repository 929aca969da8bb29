//! One connection per agent: a new one ends the older ones, and nothing more of theirs is read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use edgetrail_proto::identity::AgentId;
use tokio_util::sync::CancellationToken;

/// Who is attached now.
#[derive(Clone, Debug, Default)]
pub(super) struct Fence(Arc<Mutex<Attached>>);

#[derive(Debug, Default)]
struct Attached {
    entries: u64,
    agents: HashMap<AgentId, (u64, CancellationToken)>,
}

/// A session's place; left when dropped.
#[derive(Debug)]
pub(super) struct Place {
    fence: Fence,
    agent: AgentId,
    entry: u64,
    ended: CancellationToken,
}

impl Fence {
    /// Takes the agent's place and ends who held it.
    pub(super) fn enter(&self, agent: AgentId) -> Place {
        let mut attached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attached.entries += 1;
        let (entry, ended) = (attached.entries, CancellationToken::new());
        if let Some((_, former)) = attached.agents.insert(agent, (entry, ended.clone())) {
            former.cancel();
        }
        Place { fence: self.clone(), agent, entry, ended }
    }
}

impl Place {
    /// Returns once a newer connection of the agent has taken the place.
    pub(super) async fn taken(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut attached = self.fence.0.lock().unwrap_or_else(PoisonError::into_inner);
        if attached.agents.get(&self.agent).is_some_and(|(entry, _)| *entry == self.entry) {
            attached.agents.remove(&self.agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_connection_ends_the_older_and_leaves_cleanly() {
        let (fence, agent) = (Fence::default(), AgentId::from_bytes([1; 16]));
        let first = fence.enter(agent);
        let second = fence.enter(agent);
        first.taken().await;
        drop(first);
        assert!(fence.0.lock().unwrap().agents.contains_key(&agent), "the older one leaves the newer one's place alone");
        assert!(!second.ended.is_cancelled());
        drop(second);
        assert!(fence.0.lock().unwrap().agents.is_empty());
    }
}
