//! The certificate authority: who is vouched for, and what is issued. ECDSA P-256, created at first start.
//!
//! What signs may change while the collector runs (see [`super::rotation`]): every call works on the roots as they are
//! then. A chain is an agent's if it leads to a root that is trusted now and carries one SPIFFE id of this trust domain,
//! or if it leads to a foreign root and the table names its holder; a foreign root vouches for nobody else.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::tls::{self, Identity, PeerError, PeerIdentity, TlsError};
use edgetrail_proto::chain::PublicKey;
use edgetrail_proto::identity::{AgentIdentity, RelayIdentity, TrustDomain};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SigningKey,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use super::files::FileError;
use super::foreign::{Foreign, ForeignError, ForeignOptions, UnknownName};
use super::root::Root;
use super::rotation::Roots;

/// An agent's certificate where none is configured: short, so that revocation has little to wait for.
pub const AGENT_CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A server certificate lives in memory only; a week bridges any clock step or stalled renewal.
pub(super) const SERVER_CERTIFICATE_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Certificates begin this long ago, or a quarter of their life where that is less: clocks differ, and a refused join is
/// hard to understand.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Largest certificate request: a P-256 key and a name take 300 bytes.
const REQUEST_BYTES_MAX: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("a file of the certificate authority is not usable")]
    File(#[source] FileError),
    #[error("{} is damaged; restore it from a backup, or remove the directory and join every agent again", path.display())]
    Damaged { path: PathBuf },
    #[error("{} is there without its key; restore the key, or remove both and join every agent again", path.display())]
    NoKey { path: PathBuf },
    #[error("the certificate authority can't be created")]
    Create(#[source] rcgen::Error),
    #[error("the certificate authority can't be used for TLS")]
    Tls(#[source] TlsError),
    #[error("the foreign PKI can't be used; correct `[pki]` or its files")]
    Foreign(#[source] ForeignError),
    #[error("a certificate can't be issued")]
    Issue(#[source] IssueError),
}

/// Why there is no certificate for this request.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("a certificate request of {bytes} bytes; at most {REQUEST_BYTES_MAX} are read")]
    TooLong { bytes: usize },
    #[error("the certificate request is malformed, or not signed by its own key")]
    Request(#[source] rcgen::Error),
    #[error("the certificate request's key is not ECDSA P-256")]
    Algorithm,
    #[error("`{0}` can't be a server's name")]
    Name(String),
    #[error("the certificate can't be made")]
    Certificate(#[source] rcgen::Error),
}

/// Why a chain is not an agent's.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("the certificate chain is empty")]
    Empty,
    #[error("the certificate leads to no root that is trusted, or is not valid at this time")]
    Chain(#[source] rustls::Error),
    #[error("the certificate names no agent")]
    Peer(#[source] PeerError),
    #[error("the certificate is of trust domain {found}, not {expected}")]
    TrustDomain { expected: TrustDomain, found: TrustDomain },
    #[error("the certificate's holder is unknown")]
    Unknown(#[source] UnknownName),
}

/// A checked request: the key that asks, proven to be held.
#[derive(Debug)]
pub struct Request(rcgen::PublicKey);

/// What an authority is made of.
#[derive(Clone, Debug)]
pub struct AuthorityOptions {
    pub trust_domain: TrustDomain,
    /// Of agents' certificates.
    pub certificate_life: Duration,
    pub foreign: ForeignOptions,
}

pub struct Authority {
    directory: PathBuf,
    options: AuthorityOptions,
    held: RwLock<Arc<Held>>,
}

/// What signs and what is trusted, as of one reading of the files.
struct Held {
    roots: Roots,
    /// Whom the roots of now vouch for; and with the retired ones, whom they once did.
    now: Arc<dyn ClientCertVerifier>,
    once: Arc<dyn ClientCertVerifier>,
    foreign: Option<Foreign>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the authority in this directory, or creates it there, without a foreign PKI.
    pub fn open(directory: &Path, trust_domain: TrustDomain) -> Result<Self, AuthorityError> {
        let (certificate_life, foreign) = (AGENT_CERTIFICATE_LIFE, ForeignOptions::default());
        Self::open_with(directory, AuthorityOptions { trust_domain, certificate_life, foreign })
    }

    pub fn open_with(directory: &Path, options: AuthorityOptions) -> Result<Self, AuthorityError> {
        let held = RwLock::new(Arc::new(Held::read(directory, &options)?));
        Ok(Self { directory: directory.to_owned(), options, held })
    }

    /// Reads all files anew. What was read before stays where this fails.
    pub(super) fn reload(&self) -> Result<(), AuthorityError> {
        let read = Arc::new(Held::read(&self.directory, &self.options)?);
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.options.trust_domain
    }

    /// How long an agent's certificate is valid.
    pub fn certificate_life(&self) -> Duration {
        self.options.certificate_life
    }

    /// The root that servers' certificates lead to, self-signed.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.held().roots.serving.certificate.clone()
    }

    /// All roots of this authority that are trusted now.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.held().roots.trusted()
    }

    /// Reads a PKCS#10 request. Nothing of it counts but its key: names and extensions are the authority's to set.
    pub fn check_request(&self, der: &[u8]) -> Result<Request, IssueError> {
        if der.len() > REQUEST_BYTES_MAX {
            return Err(IssueError::TooLong { bytes: der.len() });
        }
        let request = CertificateSigningRequestParams::from_der(&der.into()).map_err(IssueError::Request)?;
        if request.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(IssueError::Algorithm);
        }
        Ok(Request(request.public_key))
    }

    /// An agent's chain, leaf first.
    pub fn issue_agent(
        &self,
        request: &Request,
        identity: &AgentIdentity,
        now: SystemTime,
    ) -> Result<Vec<CertificateDer<'static>>, IssueError> {
        let held = self.held();
        let root = held.roots.next.as_ref().unwrap_or(&held.roots.serving);
        let uri = identity.to_string();
        let mut params = leaf_params(&identity.agent.to_string(), now, self.options.certificate_life);
        params.subject_alt_names = vec![SanType::URI(uri.clone().try_into().map_err(|_| IssueError::Name(uri))?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&request.0, &root.issuer).map_err(IssueError::Certificate)?;
        Ok(vec![leaf.der().clone(), root.certificate.clone()])
    }

    /// A relay's chains for one key, each leaf first: what it shows home, and what it shows agents. While the root is being
    /// replaced they come from different ones, as agents' and servers' do.
    pub fn issue_relay(
        &self,
        request: &Request,
        identity: &RelayIdentity,
        names: &[String],
        now: SystemTime,
    ) -> Result<(Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>), IssueError> {
        let held = self.held();
        let issue = |root: &Root, names: Vec<SanType>, usage| {
            let mut params = leaf_params(identity.name.as_str(), now, self.options.certificate_life);
            params.subject_alt_names = names;
            params.extended_key_usages = vec![usage];
            let leaf = params.signed_by(&request.0, &root.issuer).map_err(IssueError::Certificate)?;
            Ok(vec![leaf.der().clone(), root.certificate.clone()])
        };
        let uri = identity.to_string();
        let uri = vec![SanType::URI(uri.clone().try_into().map_err(|_| IssueError::Name(uri))?)];
        let names = names.iter().map(|name| server_name(name)).collect::<Result<_, _>>()?;
        let (serving, next) = (&held.roots.serving, held.roots.next.as_ref().unwrap_or(&held.roots.serving));
        Ok((issue(next, uri, ExtendedKeyUsagePurpose::ClientAuth)?, issue(serving, names, ExtendedKeyUsagePurpose::ServerAuth)?))
    }

    /// A server identity with a fresh key. The chain ends in the root itself, which a joining agent's pin needs to see.
    pub fn issue_server(&self, names: &[String], now: SystemTime) -> Result<Identity, IssueError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(IssueError::Certificate)?;
        let mut params = leaf_params("edgetrail-collector", now, SERVER_CERTIFICATE_LIFE);
        let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        for name in local.iter().chain(names) {
            let name = server_name(name)?;
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let held = self.held();
        let leaf = params.signed_by(&key, &held.roots.serving.issuer).map_err(IssueError::Certificate)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(Identity { chain: vec![leaf.der().clone(), held.roots.serving.certificate.clone()], key })
    }

    /// The statement that a receipt key is this collector's, by the root that every agent trusts.
    pub fn sign_receipt_key(&self, public_key: PublicKey, not_before: u64, not_after: u64) -> Result<ReceiptKey, IssueError> {
        self.held().roots.serving.sign_receipt_key(public_key, not_before, not_after)
    }

    /// The same by each root that is trusted now: an agent takes up the one whose root it knows.
    pub fn sign_receipt_key_by_all(&self, key: &ReceiptKey) -> Result<Vec<ReceiptKey>, IssueError> {
        let held = self.held();
        let roots = [Some(&held.roots.serving), held.roots.next.as_ref()].into_iter().flatten();
        roots.map(|root| root.sign_receipt_key(key.public_key, key.not_before, key.not_after)).collect()
    }

    /// Who a chain is of, agent or relay, judged as of `at`.
    pub fn peer_of(&self, chain: &[CertificateDer<'_>], at: SystemTime) -> Result<PeerIdentity, ChainError> {
        let held = self.held();
        held.identify(&held.now, &self.options.trust_domain, chain, at)
    }

    /// Which agent a chain is of, judged as of `at`.
    pub fn agent_of(&self, chain: &[CertificateDer<'_>], at: SystemTime) -> Result<AgentIdentity, ChainError> {
        agent(self.peer_of(chain, at)?)
    }

    /// The same, where a root that is retired since may have signed it: for opens of before, that come over a
    /// connection which [`Authority::agent_of`] has judged.
    pub fn agent_once(&self, chain: &[CertificateDer<'_>], at: SystemTime) -> Result<AgentIdentity, ChainError> {
        let held = self.held();
        agent(held.identify(&held.once, &self.options.trust_domain, chain, at)?)
    }
}

impl Held {
    fn read(directory: &Path, options: &AuthorityOptions) -> Result<Self, AuthorityError> {
        let roots = Roots::open(directory)?;
        let now = tls::agent_chain_verifier(&roots.trusted()).map_err(AuthorityError::Tls)?;
        let once = tls::agent_chain_verifier(&roots.all()).map_err(AuthorityError::Tls)?;
        let foreign = Foreign::open(&options.foreign, &options.trust_domain).map_err(AuthorityError::Foreign)?;
        Ok(Self { roots, now, once, foreign })
    }

    fn identify(
        &self,
        own: &Arc<dyn ClientCertVerifier>,
        trust_domain: &TrustDomain,
        chain: &[CertificateDer<'_>],
        at: SystemTime,
    ) -> Result<PeerIdentity, ChainError> {
        let (leaf, intermediates) = chain.split_first().ok_or(ChainError::Empty)?;
        let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
        if let Err(error) = own.verify_client_cert(leaf, intermediates, at) {
            return match &self.foreign {
                Some(foreign) if foreign.verify(leaf, intermediates, at).is_ok() => {
                    foreign.identity(leaf).map(PeerIdentity::Agent).map_err(ChainError::Unknown)
                }
                _ => Err(ChainError::Chain(error)),
            };
        }
        let identity = tls::peer_identity_of(leaf).map_err(ChainError::Peer)?;
        if identity.trust_domain() != trust_domain {
            let found = identity.trust_domain().clone();
            return Err(ChainError::TrustDomain { expected: trust_domain.clone(), found });
        }
        Ok(identity)
    }
}

fn agent(identity: PeerIdentity) -> Result<AgentIdentity, ChainError> {
    match identity {
        PeerIdentity::Agent(identity) => Ok(identity),
        PeerIdentity::Relay(relay) => Err(ChainError::Peer(PeerError::Relay(relay.name))),
    }
}

impl Root {
    fn sign_receipt_key(&self, public_key: PublicKey, not_before: u64, not_after: u64) -> Result<ReceiptKey, IssueError> {
        let message = ReceiptKey::message(&public_key, not_before, not_after);
        let ca_signature = self.issuer.key().sign(&message).map_err(IssueError::Certificate)?;
        Ok(ReceiptKey { public_key, not_before, not_after, ca_signature })
    }
}

impl Request {
    /// SubjectPublicKeyInfo, DER: compares with a certificate's.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

fn server_name(name: &str) -> Result<SanType, IssueError> {
    Ok(match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into().map_err(|_| IssueError::Name(name.to_owned()))?),
    })
}

/// When a certificate of this authority was issued, Unix seconds.
pub fn issued_at(certificate: &CertificateDer<'_>) -> Result<u64, PeerError> {
    let (not_before, not_after) = tls::validity_of(certificate)?;
    let total = u64::try_from(not_after.saturating_sub(not_before)).map_err(|_| PeerError::Malformed)?;
    // A quarter of the life is a fifth of the whole.
    let tolerance = CLOCK_TOLERANCE.as_secs().min(total / 5);
    Ok(u64::try_from(not_before).map_err(|_| PeerError::Malformed)?.saturating_add(tolerance))
}

pub(super) fn leaf_params(common_name: &str, now: SystemTime, life: Duration) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // Whole seconds, as certificates carry them: what is issued now is not issued before what happened now.
    let now = Duration::from_secs(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let tolerance = CLOCK_TOLERANCE.min(Duration::from_secs(life.as_secs() / 4));
    let mut params = CertificateParams::default();
    params.not_before = epoch + now.saturating_sub(tolerance);
    params.not_after = epoch + (now + life);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}
