//! Who a certificate says its holder is, and whether that one may connect.

use std::sync::Arc;

use edgetrail_proto::identity::{AgentIdentity, IdentityError};
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

/// An agent whose certificate passed the handshake.
#[derive(Clone, Debug)]
pub struct Peer {
    pub identity: AgentIdentity,
    /// Leaf first, DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// When the leaf stops being valid, Unix seconds.
    pub not_after: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("the certificate is not X.509")]
    Malformed,
    #[error("the certificate carries {0} URI names; exactly one SPIFFE id is needed")]
    Uris(usize),
    #[error("the certificate's URI is no agent's id")]
    Identity(#[source] IdentityError),
}

/// Who may connect: asked at every handshake, so that rotation, revocation and tables count from the next one on.
pub trait Admission: Send + Sync + std::fmt::Debug {
    /// Judges the chain (signatures, validity, client authentication) and says who its holder is.
    fn identify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<AgentIdentity, rustls::Error>;

    /// Whether that one may connect now.
    fn admits(&self, identity: &AgentIdentity) -> bool;
}

/// The one SPIFFE URI among the subject's alternative names. The common name is never looked at.
pub fn identity_of(leaf: &CertificateDer<'_>) -> Result<AgentIdentity, PeerError> {
    let (uris, _) = subject_names(leaf)?;
    match &uris[..] {
        [uri] => uri.parse().map_err(PeerError::Identity),
        _ => Err(PeerError::Uris(uris.len())),
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

impl Peer {
    /// Reads a chain that a handshake has verified, of an agent whose SPIFFE id says who it is.
    pub fn from_chain(chain: Vec<CertificateDer<'static>>) -> Result<Self, PeerError> {
        let leaf = chain.first().ok_or(PeerError::Malformed)?;
        let identity = identity_of(leaf)?;
        Self::identified(chain, identity)
    }

    /// The holder of a chain that was found to be this agent.
    pub fn identified(chain: Vec<CertificateDer<'static>>, identity: AgentIdentity) -> Result<Self, PeerError> {
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
