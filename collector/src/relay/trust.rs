//! Whom a relay's ingest believes: what home has told it last.
//!
//! A relay issues nothing, and takes batches from agents alone: another relay gets no connection. A gateway's scopes are
//! home's knowledge; it brings its streams to home.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgetrail_link::receipt_keys::{ReceiptKey, ReceiptKeys};
use edgetrail_link::tls::{self, Admission, PeerError, PeerId, PeerIdentity, TlsError};
use edgetrail_proto::chain::{Binding, ReceiptSigner};
use edgetrail_proto::identity::{AgentId, AgentIdentity, RelayName};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, ServerConfig};
use tokio::sync::watch;

use super::identity::RelayPapers;
use crate::control::{ControlError, Revoked, Standing};
use crate::ingest::Trust;
use crate::pki::{ChainError, PkiError};

/// A cheap handle.
#[derive(Clone, Debug)]
pub struct RelayTrust {
    door: Arc<Door>,
    ingest_tls: Arc<watch::Sender<Arc<ServerConfig>>>,
    api_tls: Arc<watch::Sender<Arc<ServerConfig>>>,
}

/// Judges handshakes by what home has told at the time.
#[derive(Debug)]
struct Door {
    told: RwLock<Told>,
    revoked: watch::Sender<Revoked>,
    shut_out: watch::Sender<BTreeSet<AgentId>>,
}

/// As of one message of home's.
#[derive(Clone, Debug)]
struct Told {
    papers: Arc<RelayPapers>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl RelayTrust {
    pub fn new(papers: Arc<RelayPapers>) -> Result<Self, TlsError> {
        let verifier = tls::agent_chain_verifier(&papers.roots)?;
        let (identity, revoked) = (papers.server(), watch::Sender::new(revoked(&papers)));
        let shut_out = watch::Sender::new(shut_out(&papers));
        let door = Arc::new(Door { told: RwLock::new(Told { papers, verifier }), revoked, shut_out });
        let ingest = tls::ingest_config(identity.clone(), Arc::<Door>::clone(&door))?;
        let (ingest_tls, api_tls) = (watch::Sender::new(ingest), watch::Sender::new(tls::api_config(identity)?));
        Ok(Self { door, ingest_tls: Arc::new(ingest_tls), api_tls: Arc::new(api_tls) })
    }

    /// What home says now. What was in use stays in use where this can't be used.
    pub fn take_up(&self, papers: Arc<RelayPapers>) -> Result<(), TlsError> {
        let verifier = tls::agent_chain_verifier(&papers.roots)?;
        let ingest = tls::ingest_config(papers.server(), Arc::<Door>::clone(&self.door))?;
        let (api, revoked, shut_out) = (tls::api_config(papers.server())?, revoked(&papers), shut_out(&papers));
        *self.door.told.write().unwrap_or_else(PoisonError::into_inner) = Told { papers, verifier };
        self.ingest_tls.send_replace(ingest);
        self.api_tls.send_replace(api);
        self.door.revoked.send_replace(revoked);
        self.door.shut_out.send_replace(shut_out);
        Ok(())
    }

    /// TLS of the port for joining, as it is now and after each renewal.
    pub fn api_tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.api_tls.subscribe()
    }
}

impl Door {
    fn told(&self) -> Told {
        self.told.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn peer_of(&self, chain: &[CertificateDer<'_>], at: SystemTime) -> Result<PeerIdentity, ChainError> {
        let Told { papers, verifier } = self.told();
        let (leaf, intermediates) = chain.split_first().ok_or(ChainError::Empty)?;
        let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
        verifier.verify_client_cert(leaf, intermediates, at).map_err(ChainError::Chain)?;
        let identity = tls::peer_identity_of(leaf).map_err(ChainError::Peer)?;
        let (expected, found) = (&papers.identity.trust_domain, identity.trust_domain());
        if expected != found {
            return Err(ChainError::TrustDomain { expected: expected.clone(), found: found.clone() });
        }
        Ok(identity)
    }
}

impl Admission for Door {
    fn identify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<PeerIdentity, rustls::Error> {
        self.peer_of(chain, UNIX_EPOCH + Duration::from_secs(now.as_secs())).map_err(|error| match error {
            ChainError::Chain(error) => error,
            other => CertificateError::Other(rustls::OtherError(Arc::new(other))).into(),
        })
    }

    fn admits(&self, identity: &PeerIdentity) -> bool {
        matches!(identity, PeerIdentity::Agent(_)) && !self.revoked.borrow().contains(&identity.id())
    }
}

impl Trust for RelayTrust {
    fn peer_of(&self, chain: &[CertificateDer<'_>], at: SystemTime) -> Result<PeerIdentity, ChainError> {
        self.door.peer_of(chain, at)
    }

    fn agent_once(&self, chain: &[CertificateDer<'_>], at: SystemTime) -> Result<AgentIdentity, ChainError> {
        match self.door.peer_of(chain, at)? {
            PeerIdentity::Agent(identity) => Ok(identity),
            PeerIdentity::Relay(relay) => Err(ChainError::Peer(PeerError::Relay(relay.name))),
        }
    }

    fn admission(&self) -> Arc<dyn Admission> {
        Arc::<Door>::clone(&self.door)
    }

    fn revoked(&self) -> watch::Receiver<Revoked> {
        self.door.revoked.subscribe()
    }

    fn shut_out(&self) -> watch::Receiver<BTreeSet<AgentId>> {
        self.door.shut_out.subscribe()
    }

    fn tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.ingest_tls.subscribe()
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.door.told().papers.roots.clone()
    }

    fn receipt_keys(&self) -> ReceiptKeys {
        self.door.told().papers.receipt_keys.clone()
    }

    /// Of an agent that forked, what home says; of any other, nothing is known: a certificate that renews another is no join.
    fn joined_ns(&self, peer: &PeerId) -> Result<Option<u64>, ControlError> {
        let PeerId::Agent(agent) = peer else { return Ok(None) };
        let told = self.door.told();
        let forked = told.papers.forked.iter().find(|forked| forked.agent == *agent);
        Ok(Some(forked.map_or(0, |forked| forked.joined_ns)))
    }

    fn seen(&self, _peer: &PeerId, _version: &str, _now_ns: u64) -> Result<(), ControlError> {
        Ok(())
    }

    /// No relay reports to a relay.
    fn stands(&self, _relay: &RelayName, _standing: Standing) -> Result<(), ControlError> {
        Ok(())
    }

    fn connected(&self, _relay: &RelayName, _since_ns: Option<u64>) -> Result<(), ControlError> {
        Ok(())
    }

    fn may_bind(&self, agent: &AgentIdentity, binding: &Binding) -> Result<bool, ControlError> {
        let bound = binding.single().is_some_and(|(account, region)| *account == agent.account && *region == agent.region);
        Ok(bound && !binding.is_all())
    }

    /// What keys its home has, home says.
    fn take_back_receipt_key(&self, _key: &ReceiptKey) -> Result<bool, PkiError> {
        Ok(false)
    }

    /// A relay takes up behind any receipt of its home, and so never finds that it was restored.
    fn renew_receipt_key(&self) -> Result<ReceiptSigner, PkiError> {
        Ok(self.door.told().papers.signer())
    }
}

fn shut_out(papers: &RelayPapers) -> BTreeSet<AgentId> {
    papers.forked.iter().filter(|forked| !forked.is_over()).map(|forked| forked.agent).collect()
}

fn revoked(papers: &RelayPapers) -> Revoked {
    Revoked { agents: papers.revoked.iter().copied().collect(), ..Revoked::default() }
}
