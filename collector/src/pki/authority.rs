//! The built-in certificate authority: ECDSA P-256, created at first start, its key never leaves `ca.key`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::tls::{self, Identity, PeerError, TlsError};
use edgetrail_proto::chain::PublicKey;
use edgetrail_proto::identity::{AgentIdentity, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SigningKey,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use super::CA_FILE;
use super::files::{self, FileError};

/// An agent's certificate: short, so that revocation has little to wait for.
pub const AGENT_CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A server certificate lives in memory only; a week bridges any clock step or stalled renewal.
pub(super) const SERVER_CERTIFICATE_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The CA's own: replacing it means joining every agent again.
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// Certificates begin this long ago: clocks differ, and a refused join is hard to understand.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Largest certificate request: a P-256 key and a name take 300 bytes.
const REQUEST_BYTES_MAX: usize = 4096;

const KEY_FILE: &str = "ca.key";

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("a file of the certificate authority is not usable")]
    File(#[source] FileError),
    #[error("{} is damaged; restore it from a backup, or remove the directory and join every agent again", path.display())]
    Damaged { path: PathBuf },
    #[error("{} is there without {KEY_FILE}; restore the key, or remove both and join every agent again", path.display())]
    NoKey { path: PathBuf },
    #[error("the certificate authority can't be created")]
    Create(#[source] rcgen::Error),
    #[error("the certificate authority can't be used for TLS")]
    Tls(#[source] TlsError),
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

/// Why a chain is not one that this authority gave to an agent.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("the certificate chain is empty")]
    Empty,
    #[error("the certificate does not chain to this collector's authority")]
    Chain(#[source] rustls::Error),
    #[error("the certificate names no agent")]
    Peer(#[source] PeerError),
    #[error("the certificate is of trust domain {found}, not {expected}")]
    TrustDomain { expected: TrustDomain, found: TrustDomain },
}

/// A checked request: the key that asks, proven to be held.
#[derive(Debug)]
pub struct Request(rcgen::PublicKey);

pub struct Authority {
    trust_domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    agents: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the authority in this directory, or creates it there.
    pub fn open(directory: &Path, trust_domain: TrustDomain) -> Result<Self, AuthorityError> {
        files::create_directory(directory).map_err(AuthorityError::File)?;
        let (key_path, certificate_path) = (directory.join(KEY_FILE), directory.join(CA_FILE));
        let key = files::read(&key_path).map_err(AuthorityError::File)?;
        let certificate = files::read(&certificate_path).map_err(AuthorityError::File)?;
        let key = match key {
            Some(pem) => {
                let pem = String::from_utf8(pem).map_err(|_| AuthorityError::Damaged { path: key_path.clone() })?;
                KeyPair::from_pem(&pem).map_err(|_| AuthorityError::Damaged { path: key_path })?
            }
            None if certificate.is_some() => return Err(AuthorityError::NoKey { path: certificate_path }),
            None => {
                let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Create)?;
                files::write(&key_path, key.serialize_pem().as_bytes()).map_err(AuthorityError::File)?;
                // From here on a crash recovers to this key: the certificate is made from it at the next start.
                key
            }
        };
        let certificate = match certificate {
            Some(pem) => CertificateDer::from_pem_slice(&pem).map_err(|_| AuthorityError::Damaged { path: certificate_path })?,
            None => {
                let made = ca_params(&key, SystemTime::now()).self_signed(&key).map_err(AuthorityError::Create)?;
                files::write(&certificate_path, made.pem().as_bytes()).map_err(AuthorityError::File)?;
                made.der().clone()
            }
        };
        let damaged = || AuthorityError::Damaged { path: directory.join(CA_FILE) };
        // The certificate must be this key's, or nothing that is issued would verify.
        let proof = key.sign(b"edgetrail").map_err(AuthorityError::Create)?;
        if !tls::signed_by(&certificate, b"edgetrail", &proof) {
            return Err(damaged());
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| damaged())?;
        let agents = tls::agent_chain_verifier(std::slice::from_ref(&certificate)).map_err(AuthorityError::Tls)?;
        Ok(Self { trust_domain, issuer, certificate, agents })
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The root, self-signed.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
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
        let uri = identity.to_string();
        let mut params = leaf_params(&identity.agent.to_string(), now, AGENT_CERTIFICATE_LIFE);
        params.subject_alt_names = vec![SanType::URI(uri.clone().try_into().map_err(|_| IssueError::Name(uri))?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&request.0, &self.issuer).map_err(IssueError::Certificate)?;
        Ok(vec![leaf.der().clone(), self.certificate.clone()])
    }

    /// A server identity with a fresh key. The chain ends in the root itself, which a joining agent's pin needs to see.
    pub fn issue_server(&self, names: &[String], now: SystemTime) -> Result<Identity, IssueError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(IssueError::Certificate)?;
        let mut params = leaf_params("edgetrail-collector", now, SERVER_CERTIFICATE_LIFE);
        let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        for name in local.iter().chain(names) {
            let name = match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.clone().try_into().map_err(|_| IssueError::Name(name.clone()))?),
            };
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).map_err(IssueError::Certificate)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(Identity { chain: vec![leaf.der().clone(), self.certificate.clone()], key })
    }

    /// The statement that a receipt key is this collector's.
    pub fn sign_receipt_key(&self, public_key: PublicKey, not_before: u64, not_after: u64) -> Result<ReceiptKey, IssueError> {
        let message = ReceiptKey::message(&public_key, not_before, not_after);
        let ca_signature = self.issuer.key().sign(&message).map_err(IssueError::Certificate)?;
        Ok(ReceiptKey { public_key, not_before, not_after, ca_signature })
    }

    /// Who a chain is of, judged as of `at`: chain, client authentication, one SPIFFE id of this trust domain.
    pub fn agent_of(&self, chain: &[CertificateDer<'_>], at: SystemTime) -> Result<AgentIdentity, ChainError> {
        let (leaf, intermediates) = chain.split_first().ok_or(ChainError::Empty)?;
        let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
        self.agents.verify_client_cert(leaf, intermediates, at).map_err(ChainError::Chain)?;
        let identity = tls::identity_of(leaf).map_err(ChainError::Peer)?;
        if identity.trust_domain != self.trust_domain {
            return Err(ChainError::TrustDomain { expected: self.trust_domain.clone(), found: identity.trust_domain });
        }
        Ok(identity)
    }
}

impl Request {
    /// SubjectPublicKeyInfo, DER: compares with a certificate's.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

/// When a certificate of this authority was issued, Unix seconds.
pub fn issued_at(certificate: &CertificateDer<'_>) -> Result<u64, PeerError> {
    let (not_before, _) = tls::validity_of(certificate)?;
    Ok(u64::try_from(not_before).map_err(|_| PeerError::Malformed)?.saturating_add(CLOCK_TOLERANCE.as_secs()))
}

fn ca_params(key: &KeyPair, now: SystemTime) -> CertificateParams {
    // A name of its own for each CA: clients that trust several look a root up by name.
    let id = edgetrail_proto::chain::Hash::of(key.der_bytes()).to_hex();
    let mut params = leaf_params(&format!("Edgetrail CA {}", id.get(..12).unwrap_or(&id)), now, CA_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn leaf_params(common_name: &str, now: SystemTime, life: Duration) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut params = CertificateParams::default();
    params.not_before = epoch + now.saturating_sub(CLOCK_TOLERANCE);
    params.not_after = epoch + (now + life);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(directory: &Path) -> Authority {
        Authority::open(directory, "edgetrail.internal".parse().unwrap()).unwrap()
    }

    fn identity() -> AgentIdentity {
        "spiffe://edgetrail.internal/account/111122223333/region/dc-local-1/agent/0190b2a4-0000-7000-8000-000000000001"
            .parse()
            .unwrap()
    }

    fn request(params: CertificateParams) -> Vec<u8> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_authority_is_the_same_after_a_restart_and_after_losing_only_its_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let first = authority(directory.path()).certificate().clone();
        assert_eq!(authority(directory.path()).certificate(), &first);
        std::fs::remove_file(directory.path().join(CA_FILE)).unwrap();
        let remade = authority(directory.path());
        let chain = [remade.issue_server(&[], SystemTime::now()).unwrap().chain[1].clone()];
        assert_eq!(&chain[0], remade.certificate());
        std::fs::remove_file(directory.path().join(KEY_FILE)).unwrap();
        let refused = Authority::open(directory.path(), "edgetrail.internal".parse().unwrap());
        assert!(matches!(refused, Err(AuthorityError::NoKey { .. })));
    }

    #[test]
    fn key_files_are_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let pki = directory.path().join("pki");
        authority(&pki);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&pki), mode(&pki.join(KEY_FILE))), (0o700, 0o600));
    }

    #[test]
    fn an_agents_certificate_says_what_the_authority_says_not_what_was_asked() {
        let directory = tempfile::tempdir().unwrap();
        let authority = authority(directory.path());
        let mut asked = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        asked.subject_alt_names.push(SanType::URI("spiffe://edgetrail.internal/account/999999999999".try_into().unwrap()));
        asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = authority.check_request(&request(asked)).unwrap();
        let now = SystemTime::now();
        let chain = authority.issue_agent(&request, &identity(), now).unwrap();
        assert_eq!(authority.agent_of(&chain, now).unwrap(), identity());
        let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        assert!(!leaf.is_ca());
        assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
        assert!(authority.agent_of(&chain, now + AGENT_CERTIFICATE_LIFE + CLOCK_TOLERANCE).is_err(), "expired");
    }

    #[test]
    fn chains_of_another_authority_and_of_a_server_name_no_agent() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours, theirs) = (authority(here.path()), authority(there.path()));
        let now = SystemTime::now();
        let foreign =
            theirs.issue_agent(&theirs.check_request(&request(CertificateParams::default())).unwrap(), &identity(), now);
        assert!(matches!(ours.agent_of(&foreign.unwrap(), now), Err(ChainError::Chain(_))));
        let server = ours.issue_server(&["collector.example".to_owned()], now).unwrap();
        assert!(ours.agent_of(&server.chain, now).is_err());
        assert!(ours.agent_of(&[], now).is_err());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_requests_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600), at in 0..300usize) {
            let directory = tempfile::tempdir().unwrap();
            let authority = authority(directory.path());
            proptest::prop_assert!(authority.check_request(&bytes).is_err());
            let mut real = request(CertificateParams::default());
            let at = at % real.len();
            real[at] ^= 0x55;
            // A flipped bit may survive only outside what is signed; it must never panic.
            drop(authority.check_request(&real));
        }
    }
}
