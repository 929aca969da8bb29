//! Which agents may not connect any more.

use std::collections::BTreeSet;

use edgetrail_link::tls::Admission;
use edgetrail_proto::identity::{AgentId, AgentIdentity, TrustDomain};
use tokio::sync::watch;

/// The set of revoked agents, as the control store knows it: asked at every handshake, watched by every live stream.
#[derive(Clone, Debug)]
pub struct Revocations {
    trust_domain: TrustDomain,
    revoked: watch::Receiver<BTreeSet<AgentId>>,
}

impl Revocations {
    pub(super) fn new(trust_domain: TrustDomain, revoked: watch::Receiver<BTreeSet<AgentId>>) -> Self {
        Self { trust_domain, revoked }
    }

    pub fn contains(&self, agent: AgentId) -> bool {
        self.revoked.borrow().contains(&agent)
    }

    /// Returns once the agent is revoked.
    pub async fn revoked(&self, agent: AgentId) {
        if self.revoked.clone().wait_for(|revoked| revoked.contains(&agent)).await.is_err() {
            // The control store is gone: the collector stops, and says so to every stream by itself.
            std::future::pending::<()>().await;
        }
    }
}

impl Admission for Revocations {
    fn admits(&self, identity: &AgentIdentity) -> bool {
        identity.trust_domain == self.trust_domain && !self.contains(identity.agent)
    }
}
