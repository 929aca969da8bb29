//! Mutual TLS, and who the peer is.
//!
//! TLS 1.3 only, one provider (ring). A server that wants agents refuses the handshake without a valid certificate of
//! its CA; who an agent is comes from the one SPIFFE URI in that certificate, never from its common name and never
//! from what it sends. A joining agent trusts no root yet: it pins the CA's hash and still checks chain and name.

mod connection;
mod crowd;
mod files;
mod frames;
mod incoming;
mod peer;
mod pin;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use connection::{Connection, ConnectionInfo, LastSign};
pub use crowd::{CONNECTIONS_MAX, CONNECTIONS_OF_AGENT_MAX, CrowdLimits, HANDSHAKES_MAX, HANDSHAKES_OF_ADDRESS_MAX};
pub use files::{FileError, as_pkcs8, read_certificates, read_key};
pub use frames::{AGENT_FRAMES, CLIENT_FRAMES, FrameAllowance, Metered};
pub use incoming::{HANDSHAKE_TIME_MAX, Incoming};
pub use peer::{
    Admission, CHAIN_LENGTH_MAX, Peer, PeerError, PeerId, PeerIdentity, identity_of, names_of, peer_identity_of, public_key_of,
    serial_of, signed_by, validity_of,
};
pub use pin::{CaPin, PinError};

/// HTTP/2's protocol name, RFC 9113 §3.1: gRPC needs it.
pub const ALPN_H2: &[u8] = b"h2";

/// HTTP/1.1's protocol name, RFC 7301 §6: for the API port, whose clients speak either.
pub const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// A certificate chain, leaf first, with the leaf's key.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no root certificate is given; join again or restore the roots file")]
    NoRoots,
    #[error("a root certificate is not usable")]
    Root(#[source] rustls::Error),
    #[error("certificate and key do not make a TLS identity")]
    Identity(#[source] rustls::Error),
    #[error("client certificates can't be verified against these roots")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// An agent's side of the ingest connection: it trusts `roots` alone and shows `identity`.
pub fn client_config(roots: &[CertificateDer<'static>], identity: Option<Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Identity)?
        .with_root_certificates(root_store(roots)?);
    finish_client(match identity {
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key).map_err(TlsError::Identity)?,
        None => builder.with_no_client_auth(),
    })
}

/// A joining agent's side: it trusts the one CA whose certificate has the pinned hash.
pub fn pinned_client_config(pin: CaPin) -> Result<Arc<ClientConfig>, TlsError> {
    finish_client(
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Identity)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pin::PinnedVerifier::new(pin, provider())))
            .with_no_client_auth(),
    )
}

/// Ingest's side: whoever has no certificate that identifies an agent, or is not admitted, gets no connection.
pub fn ingest_config(identity: Identity, admission: Arc<dyn Admission>) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = Arc::new(peer::AdmittingVerifier::new(admission, provider()));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Identity)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    // A resumed session would skip the certificate check: revocation must count at every handshake.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Judges an agent's chain at a given time, outside a handshake: for the chain that an open carries.
pub fn agent_chain_verifier(roots: &[CertificateDer<'static>]) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(root_store(roots)?), provider()).build().map_err(TlsError::Verifier)
}

/// The API port's side: server-authenticated, HTTP/1.1 and HTTP/2, TLS 1.2 too since CloudTrail's clients may need it.
pub fn api_config(identity: Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Identity)?
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

fn finish_client(mut config: ClientConfig) -> Result<Arc<ClientConfig>, TlsError> {
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(Arc::new(config))
}

pub(crate) fn root_store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let mut store = RootCertStore::empty();
    roots.iter().try_for_each(|root| store.add(root.clone())).map_err(TlsError::Root)?;
    Ok(store)
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
