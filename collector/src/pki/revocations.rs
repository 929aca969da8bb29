//! Which agents may not connect any more, and who may.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use edgetrail_link::tls::Admission;
use edgetrail_proto::identity::{AgentId, AgentIdentity};
use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

use super::{Authority, ChainError};

/// The set of revoked agents, as the control store knows it: asked at every handshake, watched by every live stream.
#[derive(Clone, Debug)]
pub struct Revocations {
    authority: Arc<Authority>,
    revoked: watch::Receiver<BTreeSet<AgentId>>,
}

impl Revocations {
    pub(super) fn new(authority: Arc<Authority>, revoked: watch::Receiver<BTreeSet<AgentId>>) -> Self {
        Self { authority, revoked }
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
    fn identify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<AgentIdentity, rustls::Error> {
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        self.authority.agent_of(chain, now).map_err(|error| match error {
            ChainError::Chain(error) => error,
            other => CertificateError::Other(rustls::OtherError(Arc::new(other))).into(),
        })
    }

    fn admits(&self, identity: &AgentIdentity) -> bool {
        !self.contains(identity.agent)
    }
}
