//! Whom ingest believes, and what is known of them: home's own authority and settings; at a relay, what home has told it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use edgetrail_link::receipt_keys::{ReceiptKey, ReceiptKeys};
use edgetrail_link::tls::{Admission, PeerId, PeerIdentity};
use edgetrail_proto::chain::{Binding, ReceiptSigner};
use edgetrail_proto::identity::{AgentId, AgentIdentity, RelayName};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::control::{Control, ControlError, Revoked, Standing};
use crate::pki::{ChainError, Pki, PkiError};

/// Asked for every session, and on blocking threads: calls may read a disk.
pub trait Trust: Send + Sync + std::fmt::Debug + 'static {
    /// Who a chain is of, judged as of `at` by the roots of now.
    fn peer_of(&self, chain: &[CertificateDer<'_>], at: SystemTime) -> Result<PeerIdentity, ChainError>;

    /// Which agent a chain was of, judged as of `at`, where a root that is retired since may have signed it: for opens.
    fn agent_once(&self, chain: &[CertificateDer<'_>], at: SystemTime) -> Result<AgentIdentity, ChainError>;

    /// Judges handshakes.
    fn admission(&self) -> Arc<dyn Admission>;

    /// Who may not connect, as it changes: live sessions of theirs end.
    fn revoked(&self) -> watch::Receiver<Revoked>;

    /// At a relay, agents that home says have forked and not joined again: live sessions of theirs end. Home finds forks in
    /// its own ledger.
    fn shut_out(&self) -> watch::Receiver<BTreeSet<AgentId>>;

    /// TLS of the port, as it is now and after each renewal.
    fn tls(&self) -> watch::Receiver<Arc<ServerConfig>>;

    /// All roots that are trusted now.
    fn roots(&self) -> Vec<CertificateDer<'static>>;

    /// The receipt keys of every collector of this home, as of now.
    fn receipt_keys(&self) -> ReceiptKeys;

    /// When the agent or relay joined last, Unix nanoseconds; `None` where nothing is known of it.
    fn joined_ns(&self, peer: &PeerId) -> Result<Option<u64>, ControlError>;

    /// Notes that it is there. An empty version leaves the one that is known.
    fn seen(&self, peer: &PeerId, version: &str, now_ns: u64) -> Result<(), ControlError>;

    /// Notes how a relay says that it stands.
    fn stands(&self, relay: &RelayName, standing: Standing) -> Result<(), ControlError>;

    /// Notes that a relay's connection began, or ended.
    fn connected(&self, relay: &RelayName, since_ns: Option<u64>) -> Result<(), ControlError>;

    /// Whether this agent may open a stream that is bound so. Never to everything: that is the internal stream's.
    fn may_bind(&self, agent: &AgentIdentity, binding: &Binding) -> Result<bool, ControlError>;

    /// Knows again a receipt key that this home's CA has signed. Whether it was unknown, and is this home's.
    fn take_back_receipt_key(&self, key: &ReceiptKey) -> Result<bool, PkiError>;

    /// A fresh receipt key, for a collector that was restored.
    fn renew_receipt_key(&self) -> Result<ReceiptSigner, PkiError>;
}

/// Home's.
#[derive(Debug)]
pub(super) struct HomeTrust {
    pub(super) control: Control,
    pub(super) pki: Pki,
}

impl Trust for HomeTrust {
    fn peer_of(&self, chain: &[CertificateDer<'_>], at: SystemTime) -> Result<PeerIdentity, ChainError> {
        self.pki.authority().peer_of(chain, at)
    }

    fn agent_once(&self, chain: &[CertificateDer<'_>], at: SystemTime) -> Result<AgentIdentity, ChainError> {
        self.pki.authority().agent_once(chain, at)
    }

    fn admission(&self) -> Arc<dyn Admission> {
        Arc::new(self.pki.revocations().clone())
    }

    fn revoked(&self) -> watch::Receiver<Revoked> {
        self.control.revoked()
    }

    fn shut_out(&self) -> watch::Receiver<BTreeSet<AgentId>> {
        // Nobody is told by others: the sender is gone.
        watch::channel(BTreeSet::new()).1
    }

    fn tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.pki.ingest_tls()
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.pki.roots()
    }

    fn receipt_keys(&self) -> ReceiptKeys {
        let (mut keys, roots) = (ReceiptKeys::default(), self.pki.roots());
        for key in self.pki.receipt_keys() {
            if let Err(error) = keys.add(key, &roots) {
                tracing::warn!(%error, "a receipt key of this home is not taken");
            }
        }
        keys
    }

    fn joined_ns(&self, peer: &PeerId) -> Result<Option<u64>, ControlError> {
        Ok(match peer {
            PeerId::Agent(agent) => self.control.agent(*agent)?.map(|agent| agent.joined_ns),
            PeerId::Relay(name) => self.control.relay(name)?.map(|relay| relay.joined_ns),
        })
    }

    fn seen(&self, peer: &PeerId, version: &str, now_ns: u64) -> Result<(), ControlError> {
        match peer {
            PeerId::Agent(agent) => self.control.seen(*agent, version, now_ns),
            PeerId::Relay(name) => self.control.relay_seen(name, version, now_ns),
        }
    }

    fn stands(&self, relay: &RelayName, standing: Standing) -> Result<(), ControlError> {
        self.control.relay_stands(relay, standing)
    }

    fn connected(&self, relay: &RelayName, since_ns: Option<u64>) -> Result<(), ControlError> {
        self.control.relay_connected(relay, since_ns)
    }

    /// An ordinary agent: the certificate's one account and region. A gateway: what its token lists.
    fn may_bind(&self, agent: &AgentIdentity, binding: &Binding) -> Result<bool, ControlError> {
        if binding.is_all() || binding.scopes().next().is_none() {
            return Ok(false);
        }
        Ok(match self.control.agent(agent.agent)?.filter(|agent| agent.gateway) {
            Some(gateway) => binding.scopes().all(|scope| gateway.scopes.contains(scope)),
            None => binding.single().is_some_and(|(account, region)| *account == agent.account && *region == agent.region),
        })
    }

    fn take_back_receipt_key(&self, key: &ReceiptKey) -> Result<bool, PkiError> {
        self.pki.take_back_receipt_key(key)
    }

    fn renew_receipt_key(&self) -> Result<ReceiptSigner, PkiError> {
        self.pki.renew_receipt_key()
    }
}
