//! Who a certificate says its holder is, and whether that one may connect.

use std::sync::Arc;

use edgetrail_proto::identity::{AgentIdentity, IdentityError};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

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

/// Who, of those with a valid certificate, may connect: revocation and the trust domain are asked at every handshake.
pub trait Admission: Send + Sync + std::fmt::Debug {
    fn admits(&self, identity: &AgentIdentity) -> bool;
}

/// The one SPIFFE URI among the subject's alternative names. The common name is never looked at.
pub fn identity_of(leaf: &CertificateDer<'_>) -> Result<AgentIdentity, PeerError> {
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| PeerError::Malformed)?;
    if !rest.is_empty() {
        return Err(PeerError::Malformed);
    }
    let names = certificate.subject_alternative_name().map_err(|_| PeerError::Malformed)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    match uris[..] {
        [uri] => uri.parse().map_err(PeerError::Identity),
        _ => Err(PeerError::Uris(uris.len())),
    }
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
    /// Reads a chain that a handshake has verified.
    pub fn from_chain(chain: Vec<CertificateDer<'static>>) -> Result<Self, PeerError> {
        let leaf = chain.first().ok_or(PeerError::Malformed)?;
        let (identity, (_, not_after)) = (identity_of(leaf)?, validity_of(leaf)?);
        Ok(Self { identity, chain, not_after })
    }
}

/// The chain's verifier, and then admission: a refusal is a TLS alert, not an open connection.
#[derive(Debug)]
pub(super) struct AdmittingVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    admission: Arc<dyn Admission>,
}

impl AdmittingVerifier {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, admission: Arc<dyn Admission>) -> Self {
        Self { chain, admission }
    }
}

impl ClientCertVerifier for AdmittingVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let identity = identity_of(end_entity)
            .map_err(|error| CertificateError::Other(rustls::OtherError(Arc::new(error))))
            .map_err(rustls::Error::InvalidCertificate)?;
        if self.admission.admits(&identity) { Ok(verified) } else { Err(CertificateError::Revoked.into()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
