//! Which agents may not connect any more, and who may.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use edgetrail_link::tls::{Admission, PeerId, PeerIdentity};
use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;

use super::{Authority, ChainError};
use crate::control::Revoked;

/// Who is revoked, as the control store knows it: asked at every handshake, watched by every live stream.
#[derive(Clone, Debug)]
pub struct Revocations {
    authority: Arc<Authority>,
    revoked: watch::Receiver<Revoked>,
}

impl Revocations {
    pub(super) fn new(authority: Arc<Authority>, revoked: watch::Receiver<Revoked>) -> Self {
        Self { authority, revoked }
    }

    pub fn contains(&self, peer: &PeerId) -> bool {
        self.revoked.borrow().contains(peer)
    }
}

impl Admission for Revocations {
    fn identify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<PeerIdentity, rustls::Error> {
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        self.authority.peer_of(chain, now).map_err(|error| match error {
            ChainError::Chain(error) => error,
            other => CertificateError::Other(rustls::OtherError(Arc::new(other))).into(),
        })
    }

    fn admits(&self, identity: &PeerIdentity) -> bool {
        !self.contains(&identity.id())
    }
}
