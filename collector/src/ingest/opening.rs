//! An open: who begins a stream, and whether that one may.
//!
//! The certificate that signed an open may have expired since: an agent that was cut off opens streams and brings them
//! later. The connection itself is judged by the certificate of today; the open's chain is judged as of when it was
//! issued.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgetrail_link::tls;
use edgetrail_link::wire;
use edgetrail_proto::chain::{Binding, BindingError, Hash, Open, OpenError};
use edgetrail_proto::identity::{AgentId, AgentIdentity};
use rustls::pki_types::CertificateDer;

use super::party::Party;
use super::trust::Trust;
use crate::control::ControlError;
use crate::ledger::StreamInfo;
use crate::pki::ChainError;

/// Bytes of one certificate; those of this CA take 600.
pub(super) const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// An ASN.1 ECDSA P-256 signature takes at most 72 bytes.
const SIGNATURE_BYTES_MAX: usize = 128;

/// Why a stream may not begin so.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpeningError {
    #[error("the open can't be read")]
    Open(#[source] OpenError),
    #[error("the open's binding can't be read")]
    Binding(#[source] BindingError),
    #[error("the open's certificates or signature are longer than allowed")]
    TooLong,
    #[error("the open names another binding than the one beside it")]
    OtherBinding,
    #[error("the open names another certificate than the one beside it")]
    OtherCertificate,
    #[error("the open is not signed by its certificate's key")]
    Signature,
    #[error("the open's certificate is not of this collector's authority")]
    Chain(#[source] ChainError),
    #[error("the collector's settings can't be read")]
    Control(#[source] ControlError),
    #[error("the open's certificate can't be read")]
    Certificate,
    #[error("the open is agent {found}'s, the session is for agent {expected}")]
    OtherAgent { expected: AgentId, found: AgentId },
    #[error("the open's certificate was given to {found}, the connection's to {expected}")]
    OtherIdentity { expected: Box<AgentIdentity>, found: Box<AgentIdentity> },
    #[error("the open binds the stream beyond what agent {agent} may bring; join again with a token that lists it")]
    BeyondScopes { agent: AgentId },
}

/// Checks an open whole and gives what the ledger records. Whoever brings it: it proves itself whose it is.
pub(super) fn verify(opening: &wire::Opening, party: &Party, trust: &dyn Trust) -> Result<StreamInfo, OpeningError> {
    let certificates = &opening.certificate_chain;
    let too_long = opening.signature.len() > SIGNATURE_BYTES_MAX
        || certificates.len() > tls::CHAIN_LENGTH_MAX
        || certificates.iter().any(|certificate| certificate.len() > CERTIFICATE_BYTES_MAX);
    if too_long {
        return Err(OpeningError::TooLong);
    }
    let open = Open::decode(&opening.open).map_err(OpeningError::Open)?;
    let binding = Binding::parse(&opening.binding).map_err(OpeningError::Binding)?;
    if binding.hash() != open.binding {
        return Err(OpeningError::OtherBinding);
    }
    let leaf = certificates.first().ok_or(OpeningError::Certificate)?;
    if Hash::of(leaf) != open.certificate {
        return Err(OpeningError::OtherCertificate);
    }
    let chain: Vec<CertificateDer<'_>> =
        certificates.iter().map(|certificate| CertificateDer::from(certificate.as_ref())).collect();
    let issued = issued(chain.first())?;
    let identity = trust.agent_once(&chain, issued).map_err(OpeningError::Chain)?;
    if !chain.first().is_some_and(|leaf| tls::signed_by(leaf, &opening.open, &opening.signature)) {
        return Err(OpeningError::Signature);
    }

    if open.agent != party.agent() || identity.agent != open.agent {
        let found = if open.agent == party.agent() { identity.agent } else { open.agent };
        return Err(OpeningError::OtherAgent { expected: party.agent(), found });
    }
    if let Some(expected) = party.identity().filter(|expected| **expected != identity) {
        let (expected, found) = (Box::new(expected.clone()), Box::new(identity));
        return Err(OpeningError::OtherIdentity { expected, found });
    }
    if !trust.may_bind(&identity, &binding).map_err(OpeningError::Control)? {
        return Err(OpeningError::BeyondScopes { agent: open.agent });
    }
    Ok(StreamInfo {
        stream: open.stream,
        agent: open.agent,
        open,
        open_bytes: opening.open.clone(),
        open_signature: opening.signature.clone(),
        certificate_chain: certificates.clone(),
        binding,
        internal: false,
    })
}

fn issued(leaf: Option<&CertificateDer<'_>>) -> Result<SystemTime, OpeningError> {
    let leaf = leaf.ok_or(OpeningError::Certificate)?;
    let (not_before, _) = tls::validity_of(leaf).map_err(|_| OpeningError::Certificate)?;
    let seconds = u64::try_from(not_before).map_err(|_| OpeningError::Certificate)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(OpeningError::Certificate)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use edgetrail_link::tls::PeerIdentity;
    use proptest::prelude::*;

    use super::*;
    use crate::control::Control;
    use crate::ingest::batch::Received;
    use crate::ingest::trust::HomeTrust;
    use crate::ledger::Bringer;
    use crate::pki::Pki;

    static HOME: LazyLock<HomeTrust> = LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        let control = Control::open(directory.path()).unwrap();
        let pki = Pki::open(&directory.path().join("pki"), "edgetrail.internal".parse().unwrap(), &[], control.revoked());
        HomeTrust { control, pki: pki.unwrap() }
    });

    proptest! {
        /// Whatever an attached agent sends, reading it ends in a value or an error.
        #[test]
        fn arbitrary_openings_and_batches_never_panic(
            open in prop::collection::vec(any::<u8>(), 0..300),
            other in prop::collection::vec(any::<u8>(), 0..300),
            number in any::<u32>(),
        ) {
            let identity = "spiffe://edgetrail.internal/account/111122223333/region/r/agent/0190b2a4-0000-7000-8000-000000000001";
            let party = Party::of(&PeerIdentity::Agent(identity.parse().unwrap()));
            let certificate_chain = vec![other.clone().into(), open.clone().into()];
            let (binding, signature) = (other.clone().into(), other.clone().into());
            let opening = wire::Opening { open: open.clone().into(), binding, signature, certificate_chain, fork: false };
            prop_assert!(verify(&opening, &party, &*HOME).is_err());
            let (header, seal, body) = (open.into(), other.clone().into(), other.into());
            let encoding = i32::try_from(number % 5).unwrap();
            let batch = wire::Batch { header, seal, encoding, body, body_bytes: number, ..wire::Batch::default() };
            prop_assert!(Received::read(batch, Bringer::Relay).is_err());
        }
    }
}
