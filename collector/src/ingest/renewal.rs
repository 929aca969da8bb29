//! A session goes on under a renewed certificate.
//!
//! The handshake has proven that the peer holds the key of the certificate that it showed. Another certificate for the
//! same key and the same agent, valid now, proves no less: it moves the session's end and nothing else. Everything else
//! (another key, another agent, an older certificate) is refused, and the session ends.

use std::sync::Arc;
use std::time::SystemTime;

use edgetrail_link::tls::{self, Peer};
use edgetrail_link::wire;
use rustls::pki_types::CertificateDer;

use super::opening::CERTIFICATE_BYTES_MAX;
use super::trust::Trust;
use crate::pki::ChainError;

/// Why a session does not go on under this certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenewalError {
    #[error("the certificates are more or longer than allowed")]
    TooLong,
    #[error("the certificate is not valid here and now")]
    Chain(#[source] ChainError),
    #[error("the certificate is for another agent or key: make a new connection with it")]
    Other,
    #[error("the certificate ends before the one it renews")]
    Older,
}

/// The peer under its renewed certificate.
pub(super) fn verify(renewed: &wire::Renewed, peer: &Peer, trust: &dyn Trust) -> Result<Arc<Peer>, RenewalError> {
    let certificates = &renewed.certificate_chain;
    if certificates.len() > tls::CHAIN_LENGTH_MAX || certificates.iter().any(|der| der.len() > CERTIFICATE_BYTES_MAX) {
        return Err(RenewalError::TooLong);
    }
    let chain: Vec<CertificateDer<'static>> = certificates.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let identity = trust.peer_of(&chain, SystemTime::now()).map_err(RenewalError::Chain)?;
    let key = |chain: &[CertificateDer<'_>]| chain.first().and_then(|leaf| tls::public_key_of(leaf).ok());
    let (Some(shown), Some(held)) = (key(&chain), key(&peer.chain)) else { return Err(RenewalError::Other) };
    if identity != peer.identity || shown != held {
        return Err(RenewalError::Other);
    }
    let not_after = chain.first().and_then(|leaf| tls::validity_of(leaf).ok()).map_or(0, |(_, not_after)| not_after);
    if not_after < peer.not_after {
        return Err(RenewalError::Older);
    }
    Ok(Arc::new(Peer { identity, chain, not_after }))
}
