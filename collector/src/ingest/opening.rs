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

use crate::control::Agent;
use crate::ledger::StreamInfo;
use crate::pki::{Authority, ChainError};

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
    #[error("the open's certificate can't be read")]
    Certificate,
    #[error("the open is agent {found}'s, the connection is agent {expected}'s")]
    OtherAgent { expected: AgentId, found: AgentId },
    #[error("the open's certificate was given to {found}, the connection's to {expected}")]
    OtherIdentity { expected: Box<AgentIdentity>, found: Box<AgentIdentity> },
    #[error("the open binds the stream beyond what agent {agent} may bring; join again with a token that lists it")]
    BeyondScopes { agent: AgentId },
}

/// Checks an open whole and gives what the ledger records. `agent` is what the agent's token bound it to.
pub(super) fn verify(
    opening: &wire::Opening,
    expected: &AgentIdentity,
    agent: Option<&Agent>,
    authority: &Authority,
) -> Result<StreamInfo, OpeningError> {
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
    let identity = authority.agent_once(&chain, issued).map_err(OpeningError::Chain)?;
    if !chain.first().is_some_and(|leaf| tls::signed_by(leaf, &opening.open, &opening.signature)) {
        return Err(OpeningError::Signature);
    }

    if open.agent != expected.agent {
        return Err(OpeningError::OtherAgent { expected: expected.agent, found: open.agent });
    }
    if identity != *expected {
        let (expected, found) = (Box::new(expected.clone()), Box::new(identity));
        return Err(OpeningError::OtherIdentity { expected, found });
    }
    if !within_scopes(&binding, &identity, agent) {
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

/// An ordinary agent: the certificate's one account and region. A gateway: what its token lists.
fn within_scopes(binding: &Binding, identity: &AgentIdentity, agent: Option<&Agent>) -> bool {
    if binding.is_all() || binding.scopes().next().is_none() {
        return false;
    }
    match agent.filter(|agent| agent.gateway) {
        Some(gateway) => binding.scopes().all(|scope| gateway.scopes.contains(scope)),
        None => binding.single().is_some_and(|(account, region)| *account == identity.account && *region == identity.region),
    }
}

fn issued(leaf: Option<&CertificateDer<'_>>) -> Result<SystemTime, OpeningError> {
    let leaf = leaf.ok_or(OpeningError::Certificate)?;
    let (not_before, _) = tls::validity_of(leaf).map_err(|_| OpeningError::Certificate)?;
    let seconds = u64::try_from(not_before).map_err(|_| OpeningError::Certificate)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(OpeningError::Certificate)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ingest::batch::Received;

    proptest! {
        /// Whatever an attached agent sends, reading it ends in a value or an error.
        #[test]
        fn arbitrary_openings_and_batches_never_panic(
            open in prop::collection::vec(any::<u8>(), 0..300),
            other in prop::collection::vec(any::<u8>(), 0..300),
            number in any::<u32>(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let authority = Authority::open(directory.path(), "edgetrail.internal".parse().unwrap()).unwrap();
            let identity = "spiffe://edgetrail.internal/account/111122223333/region/r/agent/0190b2a4-0000-7000-8000-000000000001";
            let identity = identity.parse().unwrap();
            let certificate_chain = vec![other.clone().into(), open.clone().into()];
            let (binding, signature) = (other.clone().into(), other.clone().into());
            let opening = wire::Opening { open: open.clone().into(), binding, signature, certificate_chain };
            prop_assert!(verify(&opening, &identity, None, &authority).is_err());
            let (header, seal, body) = (open.into(), other.clone().into(), other.into());
            let encoding = i32::try_from(number % 5).unwrap();
            let batch = wire::Batch { header, seal, encoding, body, body_bytes: number, caller_waits: false, named_receipts: Vec::new() };
            prop_assert!(Received::read(batch).is_err());
        }
    }
}
