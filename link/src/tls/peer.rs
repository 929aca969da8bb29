//! Who a certificate says its holder is, and whether that one may connect.

use std::sync::Arc;

use edgetrail_proto::identity::{AgentId, AgentIdentity, IdentityError, RelayIdentity, RelayName, TrustDomain};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates in a chain: leaf, root, and room for a foreign PKI's intermediates.
pub const CHAIN_LENGTH_MAX: usize = 8;

/// An agent or a relay whose certificate passed the handshake.
#[derive(Clone, Debug)]
pub struct Peer {
    pub identity: PeerIdentity,
    /// Leaf first, DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// When the leaf stops being valid, Unix seconds.
    pub not_after: i64,
}

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerIdentity {
    Agent(AgentIdentity),
    Relay(RelayIdentity),
}

/// The same without what may change from certificate to certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerId {
    Agent(AgentId),
    Relay(RelayName),
}

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("the certificate is not X.509")]
    Malformed,
    #[error("the certificate carries {0} URI names; exactly one SPIFFE id is needed")]
    Uris(usize),
    #[error("the certificate's URI is no agent's id")]
    Identity(#[source] IdentityError),
    #[error("the certificate is relay {0}'s, not an agent's")]
    Relay(RelayName),
}

/// Who may connect: asked at every handshake, so that rotation, revocation and tables count from the next one on.
pub trait Admission: Send + Sync + std::fmt::Debug {
    /// Judges the chain (signatures, validity, client authentication) and says who its holder is.
    fn identify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<PeerIdentity, rustls::Error>;

    /// Whether that one may connect now.
    fn admits(&self, identity: &PeerIdentity) -> bool;
}

/// The agent in the one SPIFFE URI among the subject's alternative names. The common name is never looked at.
pub fn identity_of(leaf: &CertificateDer<'_>) -> Result<AgentIdentity, PeerError> {
    match peer_identity_of(leaf)? {
        PeerIdentity::Agent(identity) => Ok(identity),
        PeerIdentity::Relay(identity) => Err(PeerError::Relay(identity.name)),
    }
}

/// The agent or relay in that URI.
pub fn peer_identity_of(leaf: &CertificateDer<'_>) -> Result<PeerIdentity, PeerError> {
    let (uris, _) = subject_names(leaf)?;
    let [uri] = &uris[..] else { return Err(PeerError::Uris(uris.len())) };
    match uri.parse::<RelayIdentity>() {
        Ok(relay) => Ok(PeerIdentity::Relay(relay)),
        Err(_) => uri.parse().map(PeerIdentity::Agent).map_err(PeerError::Identity),
    }
}

/// Under what names a table may list a certificate: its SPIFFE id, if it carries exactly one URI, then each DNS name as
/// `dns:NAME`. The common name is never looked at.
pub fn names_of(leaf: &CertificateDer<'_>) -> Result<Vec<String>, PeerError> {
    let (mut uris, dns) = subject_names(leaf)?;
    if uris.len() != 1 {
        uris.clear();
    }
    uris.extend(dns.into_iter().map(|name| format!("dns:{name}")));
    Ok(uris)
}

/// URIs and DNS names among the subject's alternative names.
fn subject_names(leaf: &CertificateDer<'_>) -> Result<(Vec<String>, Vec<String>), PeerError> {
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| PeerError::Malformed)?;
    if !rest.is_empty() {
        return Err(PeerError::Malformed);
    }
    let names = certificate.subject_alternative_name().map_err(|_| PeerError::Malformed)?;
    let (mut uris, mut dns) = (Vec::new(), Vec::new());
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            _ => {}
        }
    }
    Ok((uris, dns))
}

/// notBefore and notAfter of a certificate, Unix seconds.
pub fn validity_of(certificate: &CertificateDer<'_>) -> Result<(i64, i64), PeerError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| PeerError::Malformed)?;
    let validity = certificate.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// The certificate's serial number, big-endian.
pub fn serial_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, PeerError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| PeerError::Malformed)?;
    Ok(certificate.raw_serial().to_vec())
}

/// The certificate's SubjectPublicKeyInfo, DER.
pub fn public_key_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, PeerError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| PeerError::Malformed)?;
    Ok(certificate.public_key().raw.to_vec())
}

/// Whether the certificate's key made this signature: ECDSA P-256 SHA-256, ASN.1. Says nothing of the certificate.
pub fn signed_by(certificate: &CertificateDer<'_>, message: &[u8], signature: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(message, signature).is_ok()
}

impl PeerIdentity {
    pub fn id(&self) -> PeerId {
        match self {
            Self::Agent(identity) => PeerId::Agent(identity.agent),
            Self::Relay(identity) => PeerId::Relay(identity.name.clone()),
        }
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Agent(identity) => &identity.trust_domain,
            Self::Relay(identity) => &identity.trust_domain,
        }
    }
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(agent) => write!(f, "agent {agent}"),
            Self::Relay(name) => write!(f, "relay {name}"),
        }
    }
}

impl Peer {
    /// Reads a chain that a handshake has verified, of somebody whose SPIFFE id says who it is.
    pub fn from_chain(chain: Vec<CertificateDer<'static>>) -> Result<Self, PeerError> {
        let leaf = chain.first().ok_or(PeerError::Malformed)?;
        let identity = peer_identity_of(leaf)?;
        Self::identified(chain, identity)
    }

    /// The holder of a chain that was found to be this one's.
    pub fn identified(chain: Vec<CertificateDer<'static>>, identity: PeerIdentity) -> Result<Self, PeerError> {
        let (_, not_after) = validity_of(chain.first().ok_or(PeerError::Malformed)?)?;
        Ok(Self { identity, chain, not_after })
    }
}

/// Chain, identity and admission in one: a refusal is a TLS alert, not an open connection.
#[derive(Debug)]
pub(super) struct AdmittingVerifier {
    admission: Arc<dyn Admission>,
    provider: Arc<CryptoProvider>,
}

impl AdmittingVerifier {
    pub(super) fn new(admission: Arc<dyn Admission>, provider: Arc<CryptoProvider>) -> Self {
        Self { admission, provider }
    }
}

impl ClientCertVerifier for AdmittingVerifier {
    /// No hint: which roots are trusted changes while the configuration stays.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if intermediates.len() >= CHAIN_LENGTH_MAX {
            return Err(CertificateError::BadEncoding.into());
        }
        let mut chain = vec![end_entity.clone()];
        chain.extend_from_slice(intermediates);
        let identity = self.admission.identify(&chain, now)?;
        if self.admission.admits(&identity) { Ok(ClientCertVerified::assertion()) } else { Err(CertificateError::Revoked.into()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
