//! The Enrollment service: a token becomes a certificate, a certificate its successor.
//!
//! Served on the API port, to agents that have no valid certificate yet or no longer. Joining takes a token and gives
//! the account and region that the token names, whatever is asked. Renewing takes a signature by the key that the
//! certificate binds, also after it has expired, for [`RENEWAL_GRACE`]; a certificate of before the agent's last join
//! renews nothing, so a clone left behind by a re-join dies out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::tls::{ConnectionInfo, PeerIdentity};
use edgetrail_link::wire::enrollment_server::{Enrollment, EnrollmentServer};
use edgetrail_link::wire::{
    Credentials, JoinRelayRequest, JoinRelayResponse, JoinRequest, JoinResponse, RenewRelayRequest, RenewRelayResponse,
    RenewRequest, RenewResponse, Scope,
};
use edgetrail_link::{renewal, tls};
use edgetrail_proto::identity::{AgentId, AgentIdentity, RelayName};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::authority::{self, ChainError, IssueError, issued_at};
use super::guesses::Guesses;
use super::{Authority, Pki, PkiError};
use crate::control::{Agent, Control, ControlError, Grant};

/// After its end, a certificate may still be renewed for this long: an agent that was cut off comes back by itself.
pub use edgetrail_proto::limits::RENEWAL_GRACE;

/// Largest request, in bytes: a CSR, a certificate and a token take 2 KiB.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Requests worked on at a time: a token costs an Argon2 hash, some 15 ms, one at a time.
const AT_A_TIME: usize = 2;

/// Requests that may wait for that; further ones are to come again.
const WAITING_MAX: usize = 256;

/// Longest host name and version that are kept. Source: RFC 1035 §2.3.4 for the name.
const HOST_BYTES_MAX: usize = 255;
pub(super) const VERSION_BYTES_MAX: usize = 64;

/// What a joined agent is told besides its certificate.
#[derive(Clone, Debug)]
pub struct EnrollmentOptions {
    /// ARN partition.
    pub partition: String,
    /// `host:port` of ingest, in order of preference. `:port`: on the host that the agent joined; empty: there, port 7443.
    pub ingest_endpoints: Vec<String>,
}

/// The gRPC service. A cheap handle.
#[derive(Clone, Debug)]
pub struct EnrollmentService(Arc<Inner>);

pub(super) struct Inner {
    pub(super) pki: Pki,
    pub(super) authority: Arc<Authority>,
    pub(super) control: Control,
    pub(super) options: EnrollmentOptions,
    guesses: Guesses,
    waiting: Semaphore,
    room: Semaphore,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrollmentService").field("options", &self.options).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum EnrollmentError {
    #[error("the request's {0} is not what the protocol asks for")]
    Malformed(&'static str),
    #[error("too many wrong tokens came from {address}; wait {} s", wait.as_secs())]
    Guessing { address: IpAddr, wait: Duration },
    #[error("the token is refused")]
    Control(#[source] ControlError),
    #[error("agent {agent} is known under another account or region; join without its former identity")]
    OtherScopes { agent: AgentId },
    #[error("a certificate is not issued")]
    Issue(#[source] IssueError),
    #[error("the certificate to be renewed is not of this collector")]
    Chain(#[source] ChainError),
    #[error("the certificate expired longer than the grace period ago; join again with a token")]
    GraceOver,
    #[error("the request is not signed by the certificate's key")]
    Signature,
    #[error("agent {agent} is revoked, or has joined anew since; join again with a token")]
    Superseded { agent: AgentId },
    #[error("relay {name} is revoked, or has joined anew since; join again with a token")]
    SupersededRelay { name: RelayName },
    #[error("relay {name} was forgotten: it joins again with a new receipt key")]
    ForgottenKey { name: RelayName },
    #[error("relay {name} has had too many receipt keys; join under another name")]
    TooManyKeys { name: RelayName },
    #[error("the receipt key is another collector's")]
    KeyTaken,
    #[error("`{name}` is another collector's name")]
    NameTaken { name: String },
    #[error("the receipt key can't be taken up")]
    Pki(#[source] Box<PkiError>),
}

impl EnrollmentService {
    pub fn new(pki: &Pki, control: Control, options: EnrollmentOptions) -> Self {
        Self(Arc::new(Inner {
            pki: pki.clone(),
            authority: Arc::clone(pki.authority()),
            control,
            options,
            guesses: Guesses::default(),
            waiting: Semaphore::new(WAITING_MAX),
            room: Semaphore::new(AT_A_TIME),
        }))
    }

    /// To be routed by the path prefix `/edgetrail.v1.Enrollment/`.
    pub fn server(self) -> EnrollmentServer<Self> {
        EnrollmentServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// Off the runtime and few at a time; more wait, and a client that gives up waits no longer.
    async fn work<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Inner) -> Result<T, EnrollmentError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let inner = Arc::clone(&self.0);
        let _waiting = self.0.waiting.try_acquire().map_err(|_| Status::unavailable("too many agents enroll now; come again"))?;
        let _room = self.0.room.acquire().await.map_err(|_| Status::unavailable("the collector stops"))?;
        let done = tokio::task::spawn_blocking(move || call(&inner)).await;
        let done = done.map_err(|_| Status::internal("the request could not be worked on"))?;
        done.map(Response::new).map_err(|error| error.answer())
    }

    /// A request that holds a token: an address that gave wrong ones waits.
    async fn with_token<Q: Send + 'static, T: Send + 'static>(
        &self,
        request: Request<Q>,
        call: impl FnOnce(&Inner, &Q) -> Result<T, EnrollmentError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let address = request.extensions().get::<ConnectionInfo>().map(|info| info.address.ip());
        let request = request.into_inner();
        if let Some(address) = address
            && let Some(wait) = self.0.guesses.wait(address, Instant::now())
        {
            return Err(EnrollmentError::Guessing { address, wait }.answer());
        }
        self.work(move |inner| {
            let joined = call(inner, &request);
            if let (Err(EnrollmentError::Control(ControlError::Token)), Some(address)) = (&joined, address)
                && inner.guesses.wrong(address, Instant::now())
            {
                tracing::warn!(%address, "an address gives wrong tokens: it is made to wait from now on");
            }
            joined
        })
        .await
    }
}

#[tonic::async_trait]
impl Enrollment for EnrollmentService {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        self.with_token(request, |inner, request| inner.join(request, SystemTime::now())).await
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let request = request.into_inner();
        self.work(move |inner| inner.renew(&request, SystemTime::now())).await
    }

    async fn join_relay(&self, request: Request<JoinRelayRequest>) -> Result<Response<JoinRelayResponse>, Status> {
        self.with_token(request, |inner, request| inner.join_relay(request, SystemTime::now())).await
    }

    async fn renew_relay(&self, request: Request<RenewRelayRequest>) -> Result<Response<RenewRelayResponse>, Status> {
        let request = request.into_inner();
        self.work(move |inner| inner.renew_relay(&request, SystemTime::now())).await
    }
}

impl Inner {
    fn join(&self, request: &JoinRequest, now: SystemTime) -> Result<JoinResponse, EnrollmentError> {
        // Everything that can be wrong with the request is found before a use of the token is spent.
        let agent = request.agent_id.as_ref().try_into().map(AgentId::from_bytes);
        let agent = agent.map_err(|_| EnrollmentError::Malformed("agent id"))?;
        let host_named = (1..=HOST_BYTES_MAX).contains(&request.host.len());
        if agent.as_bytes() == &[0; 16] || !host_named || request.host.contains(|c: char| c == '/' || c.is_control()) {
            return Err(EnrollmentError::Malformed("agent id or host name"));
        }
        let csr = self.authority.check_request(&request.csr).map_err(EnrollmentError::Issue)?;
        let known = self.control.agent(agent).map_err(EnrollmentError::Control)?;
        let Grant { scopes, gateway } =
            self.control.redeem_token(&request.token, unix_ns(now)).map_err(EnrollmentError::Control)?;
        // Whoever holds a token may not take over an agent of another account.
        if known.is_some_and(|known| known.scopes != scopes || known.gateway != gateway) {
            return Err(EnrollmentError::OtherScopes { agent });
        }
        let (account, region) = scopes.first().cloned().ok_or(EnrollmentError::Malformed("token: it names no account"))?;
        let identity = AgentIdentity { trust_domain: self.authority.trust_domain().clone(), account, region, agent };
        let chain = self.authority.issue_agent(&csr, &identity, now).map_err(EnrollmentError::Issue)?;
        let joined = Agent {
            id: agent,
            host: request.host.clone(),
            version: request.version.chars().filter(|c| !c.is_control()).take(VERSION_BYTES_MAX).collect(),
            scopes: scopes.clone(),
            gateway,
            certificate_serial: chain.first().map(serial_of).unwrap_or_default(),
            certificate_expires_ns: unix_ns(now + self.authority.certificate_life()),
            joined_ns: unix_ns(now),
            revoked_ns: None,
            last_seen_ns: None,
        };
        self.control.upsert_agent(&joined).map_err(EnrollmentError::Control)?;
        tracing::info!(%agent, host = joined.host, gateway, "agent joined");
        let scopes = scopes.iter().map(|(account, region)| Scope { account: account.to_string(), region: region.to_string() });
        Ok(JoinResponse {
            credentials: Some(self.credentials(&chain)),
            scopes: scopes.collect(),
            gateway,
            partition: self.options.partition.clone(),
            ingest_endpoints: self.options.ingest_endpoints.clone(),
        })
    }

    fn renew(&self, request: &RenewRequest, now: SystemTime) -> Result<RenewResponse, EnrollmentError> {
        let message = renewal::message(&request.csr, &request.certificate, request.time);
        let renewal = self.check_renewal(&request.csr, &request.certificate, &message, &request.signature, now)?;
        let PeerIdentity::Agent(identity) = renewal.identity else {
            return Err(EnrollmentError::Malformed("certificate: it is no agent's"));
        };
        let agent = identity.agent;
        let known = self.control.agent(agent).map_err(EnrollmentError::Control)?;
        let current = known.is_some_and(|known| known.revoked_ns.is_none() && renewal.issued >= known.joined_ns / 1_000_000_000);
        if !current {
            return Err(EnrollmentError::Superseded { agent });
        }
        let chain = self.authority.issue_agent(&renewal.request, &identity, now).map_err(EnrollmentError::Issue)?;
        let serial = chain.first().map(serial_of).unwrap_or_default();
        let expires = unix_ns(now + self.authority.certificate_life());
        self.control.renewed(agent, &serial, expires).map_err(EnrollmentError::Control)?;
        tracing::info!(%agent, "certificate renewed");
        Ok(RenewResponse { credentials: Some(self.credentials(&chain)) })
    }

    /// Checks that the holder of a certificate asks for its successor, for the same key. Whether it may have one is not
    /// asked yet.
    pub(super) fn check_renewal(
        &self,
        csr: &[u8],
        certificate: &[u8],
        message: &[u8],
        signature: &[u8],
        now: SystemTime,
    ) -> Result<Renewal, EnrollmentError> {
        if certificate.len() > REQUEST_BYTES_MAX || signature.len() > 128 {
            return Err(EnrollmentError::Malformed("certificate or signature"));
        }
        let leaf = CertificateDer::from(certificate);
        let malformed = |_| EnrollmentError::Malformed("certificate");
        let issued = issued_at(&leaf).map_err(malformed)?;
        // The chain is judged as of its issue: that it may have expired is what renewal is for.
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(issued)).ok_or(EnrollmentError::Malformed("certificate"))?;
        let identity = self.authority.peer_of(std::slice::from_ref(&leaf), at).map_err(EnrollmentError::Chain)?;
        if !tls::signed_by(&leaf, message, signature) {
            return Err(EnrollmentError::Signature);
        }
        let request = self.authority.check_request(csr).map_err(EnrollmentError::Issue)?;
        if request.public_key() != tls::public_key_of(&leaf).map_err(malformed)? {
            return Err(EnrollmentError::Signature);
        }
        let (_, not_after) = tls::validity_of(&leaf).map_err(malformed)?;
        let grace_end = u64::try_from(not_after).unwrap_or(0).saturating_add(RENEWAL_GRACE.as_secs());
        if unix_ns(now) / 1_000_000_000 > grace_end {
            return Err(EnrollmentError::GraceOver);
        }
        Ok(Renewal { request, identity, issued })
    }

    pub(super) fn credentials(&self, chain: &[CertificateDer<'_>]) -> Credentials {
        Credentials {
            certificate_chain: chain.iter().map(|certificate| Bytes::copy_from_slice(certificate)).collect(),
            roots: self.pki.roots().iter().map(|root| Bytes::copy_from_slice(root)).collect(),
            receipt_keys: self.pki.receipt_keys().iter().map(ReceiptKey::to_wire).collect(),
        }
    }
}

/// Who renews, under what key.
pub(super) struct Renewal {
    pub(super) request: authority::Request,
    pub(super) identity: PeerIdentity,
    /// Of the certificate that is renewed, Unix seconds.
    pub(super) issued: u64,
}

impl EnrollmentError {
    /// What the agent is told; the collector's own troubles are logged here and not told.
    fn answer(&self) -> Status {
        let cause = std::error::Error::source(self).map(ToString::to_string);
        if let Self::Guessing { .. } = self {
            // Said once, when the allowance was used up: a guesser does not fill the log.
            tracing::debug!(error = %self, "enrollment refused");
            return Status::resource_exhausted(self.to_string());
        }
        tracing::warn!(error = %self, cause, "enrollment refused");
        let text = cause.map_or_else(|| self.to_string(), |cause| format!("{self}: {cause}"));
        match self {
            Self::Malformed(_) | Self::Issue(IssueError::TooLong { .. } | IssueError::Request(_) | IssueError::Algorithm) => {
                Status::invalid_argument(text)
            }
            Self::Control(ControlError::Token) => Status::permission_denied(text),
            Self::OtherScopes { .. }
            | Self::Chain(_)
            | Self::GraceOver
            | Self::Signature
            | Self::Superseded { .. }
            | Self::SupersededRelay { .. }
            | Self::ForgottenKey { .. }
            | Self::TooManyKeys { .. }
            | Self::KeyTaken
            | Self::NameTaken { .. } => Status::permission_denied(text),
            Self::Guessing { .. } => Status::resource_exhausted(text),
            Self::Control(_) | Self::Issue(_) | Self::Pki(_) => {
                Status::internal("the collector can't enroll now; its log says why")
            }
        }
    }
}

pub(super) fn serial_of(leaf: &CertificateDer<'static>) -> String {
    tls::serial_of(leaf).map(hex::encode).unwrap_or_default()
}

pub(super) fn unix_ns(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
