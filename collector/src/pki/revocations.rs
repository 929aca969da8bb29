//! Which agents may not connect any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use edgetrail_link::tls::Admission;
use edgetrail_proto::identity::{AgentId, AgentIdentity, TrustDomain};
use tokio::sync::watch;

/// The set of revoked agents: asked at every handshake, watched by every live stream. A cheap handle.
#[derive(Clone, Debug)]
pub struct Revocations {
    trust_domain: TrustDomain,
    revoked: Arc<watch::Sender<BTreeSet<AgentId>>>,
}

impl Revocations {
    pub(super) fn new(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, revoked: Arc::new(watch::Sender::new(BTreeSet::new())) }
    }

    /// Takes over what the control store says now.
    pub fn replace(&self, revoked: BTreeSet<AgentId>) {
        self.revoked.send_if_modified(|current| {
            let changed = *current != revoked;
            *current = revoked;
            changed
        });
    }

    pub fn contains(&self, agent: AgentId) -> bool {
        self.revoked.borrow().contains(&agent)
    }

    /// Returns once the agent is revoked.
    pub async fn revoked(&self, agent: AgentId) {
        if self.revoked.subscribe().wait_for(|revoked| revoked.contains(&agent)).await.is_err() {
            // The sender lives in this very handle: unreachable, and waiting is the harmless answer.
            std::future::pending::<()>().await;
        }
    }
}

impl Admission for Revocations {
    fn admits(&self, identity: &AgentIdentity) -> bool {
        identity.trust_domain == self.trust_domain && !self.contains(identity.agent)
    }
}
