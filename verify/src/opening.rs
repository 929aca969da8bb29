//! Whether a stream's open was made by the agent it names: signature, certificate, binding.
//!
//! The certificate chain is judged as of its own issue, as the collector judges it: a host that was off for longer than its
//! certificate lives opens its next stream before it can renew, and a clock that is wrong makes nobody's signature false.
//! When the open says it was made is compared with the certificate apart, and is a matter of times alone.

use edgetrail_proto::chain::{Binding, Hash, Open};
use edgetrail_proto::evidence::EvidenceOpen;
use edgetrail_proto::identity::{AgentId, AgentIdentity};
use edgetrail_proto::limits::{RENEWAL_GRACE, SEAL_TIME_TOLERANCE};
use edgetrail_proto::proof::{Base64, ProofStream};
use edgetrail_proto::record::format_time;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::report::Check;
use crate::stream::nanoseconds;

/// Longest certificate chain that is followed.
const CHAIN_LENGTH_MAX: usize = 8;

/// What a proof file holds of a stream's open.
#[derive(Debug)]
pub struct Statement<'a> {
    pub open: &'a [u8],
    pub binding: &'a [u8],
    pub signature: &'a [u8],
    /// Leaf first, DER.
    pub certificate_chain: Vec<&'a [u8]>,
}

impl<'a> From<&'a ProofStream> for Statement<'a> {
    fn from(stated: &'a ProofStream) -> Self {
        let ProofStream { open, binding, signature, certificate_chain, .. } = stated;
        Self::of(open, binding, signature, certificate_chain)
    }
}

impl<'a> From<&'a EvidenceOpen> for Statement<'a> {
    fn from(stated: &'a EvidenceOpen) -> Self {
        let EvidenceOpen { open, binding, signature, certificate_chain } = stated;
        Self::of(open, binding, signature, certificate_chain)
    }
}

impl<'a> Statement<'a> {
    fn of(open: &'a Base64, binding: &'a Base64, signature: &'a Base64, chain: &'a [Base64]) -> Self {
        let certificate_chain = chain.iter().map(|der| der.0.as_slice()).collect();
        Self { open: &open.0, binding: &binding.0, signature: &signature.0, certificate_chain }
    }
}

/// An open that was checked, but for what the caller passed no roots for.
#[derive(Clone, Debug)]
pub struct Opened {
    pub open: Open,
    pub binding: Binding,
    /// What is to be said of when it was opened, beside its certificate's time: an [`Check::OpenTime`] or a note.
    pub dated: Option<(Check, String)>,
}

/// The first check that the statement fails, with what is wrong.
pub type Broken = (Check, String);

/// Checks a statement. Without `roots` the certificate chain is followed to its own end only.
pub fn check(statement: &Statement<'_>, roots: &[Vec<u8>]) -> Result<Opened, Broken> {
    let open = Open::decode(statement.open).map_err(|error| (Check::OpenFormat, error.to_string()))?;
    let binding = Binding::parse(statement.binding).map_err(|error| (Check::OpenFormat, error.to_string()))?;
    if binding.hash() != open.binding {
        return Err((Check::OpenBinding, "the binding is not the one that the open names".to_owned()));
    }
    let leaf_der = statement.certificate_chain.first().ok_or((Check::OpenCertificate, "there is no certificate".to_owned()))?;
    if Hash::of(leaf_der) != open.certificate {
        return Err((Check::OpenCertificate, "the certificate is not the one that the open names".to_owned()));
    }
    let leaf = certificate(leaf_der)?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, leaf.public_key().subject_public_key.data.as_ref());
    if key.verify(statement.open, statement.signature).is_err() {
        return Err((Check::OpenSignature, "the certificate's key did not make the signature".to_owned()));
    }
    if !names(&leaf, open.agent) {
        return Err((Check::OpenCertificate, format!("the certificate names another agent than the open's, {}", open.agent)));
    }
    follow_chain(&statement.certificate_chain, roots)?;
    let dated = dated(open.t_opened, Valid::of(&leaf));
    Ok(Opened { open, binding, dated })
}

/// Compares the host's clock with its certificate's time. Before it, or behind the grace in which the agent may renew, the
/// clock is wrong or somebody dated the open so; within the grace the host was only away.
fn dated(t_opened: u64, valid: Valid) -> Option<(Check, String)> {
    let (since, until) = (valid.since_ns(), valid.until_ns());
    let detail = || format!("opened {}, certificate of {} to {}", format_time(t_opened), format_time(since), format_time(until));
    let early = t_opened.saturating_add(nanoseconds(SEAL_TIME_TOLERANCE)) < since;
    if early || t_opened > until.saturating_add(nanoseconds(RENEWAL_GRACE)) {
        return Some((Check::OpenTime, detail()));
    }
    (t_opened > until).then(|| (Check::OpenExpired, detail()))
}

/// When a certificate, or all of several, are valid: Unix seconds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Valid {
    since: i64,
    until: i64,
}

impl Valid {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self { since: validity.not_before.timestamp(), until: validity.not_after.timestamp() }
    }

    /// The time in which both are valid, if there is one.
    fn and(self, other: Self) -> Option<Self> {
        let both = Self { since: self.since.max(other.since), until: self.until.min(other.until) };
        (both.since <= both.until).then_some(both)
    }

    fn since_ns(self) -> u64 {
        u64::try_from(self.since).unwrap_or(0).saturating_mul(1_000_000_000)
    }

    /// The end of its last second.
    fn until_ns(self) -> u64 {
        u64::try_from(self.until.saturating_add(1)).unwrap_or(0).saturating_mul(1_000_000_000)
    }
}

/// Whether a certificate is for this agent: by its SPIFFE id, the one URI among its alternative names; or, where a PKI of
/// the operator's own issued it, by the id that follows from its URI or a DNS name. The common name is never looked at.
fn names(leaf: &X509Certificate<'_>, agent: AgentId) -> bool {
    let general_names = leaf.subject_alternative_name().ok().flatten().map(|extension| &extension.value.general_names);
    let (mut uris, mut names) = (Vec::new(), Vec::new());
    for name in general_names.into_iter().flatten() {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            GeneralName::DNSName(name) => names.push(format!("dns:{name}")),
            _ => {}
        }
    }
    // Several URIs are no SPIFFE id.
    if let [uri] = uris[..] {
        if let Ok(identity) = uri.parse::<AgentIdentity>() {
            return identity.agent == agent;
        }
        names.push(uri.to_owned());
    }
    names.iter().any(|name| AgentId::of_name(name) == agent)
}

/// Whether the certificate may sign others: whoever has a machine's key has a chain to a root, too.
fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    let constraints = certificate.basic_constraints().ok().flatten();
    constraints.is_some_and(|constraints| constraints.value.ca)
        && certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

/// Each certificate is signed by the next, an authority's, and the last one is, or is signed by, a root; there was a time
/// when all of them were valid, the first moment of which is the chain's issue.
fn follow_chain(chain: &[&[u8]], roots: &[Vec<u8>]) -> Result<(), Broken> {
    let broken = |detail: String| Err((Check::OpenCertificate, detail));
    if chain.len() > CHAIN_LENGTH_MAX {
        return broken(format!("the chain has {} certificates, more than {CHAIN_LENGTH_MAX}", chain.len()));
    }
    let certificates = chain.iter().map(|der| certificate(der)).collect::<Result<Vec<_>, _>>()?;
    let mut together = Valid { since: i64::MIN, until: i64::MAX };
    for (index, one) in certificates.iter().enumerate() {
        let Some(valid) = together.and(Valid::of(one)) else {
            return broken(format!("certificate {index} was never valid at the same time as those before it"));
        };
        together = valid;
        if index > 0 && !is_authority(one) {
            return broken(format!("certificate {index} is no authority's: it can't vouch for the one before it"));
        }
        if let Some(next) = certificates.get(index + 1)
            && (one.issuer() != next.subject() || one.verify_signature(Some(next.public_key())).is_err())
        {
            return broken(format!("certificate {index} is not signed by the one after it"));
        }
    }
    if roots.is_empty() {
        return Ok(());
    }
    let last_der = chain.last().copied().unwrap_or_default();
    let Some(last) = certificates.last() else { return broken("there is no certificate".to_owned()) };
    for root_der in roots {
        let root = certificate(root_der)?;
        let leads_to = root_der == last_der
            || (is_authority(&root) && last.issuer() == root.subject() && last.verify_signature(Some(root.public_key())).is_ok());
        if leads_to && together.and(Valid::of(&root)).is_some() {
            return Ok(());
        }
    }
    broken("the chain leads to none of the roots given".to_owned())
}

fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, Broken> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err((Check::OpenCertificate, "a certificate can't be read".to_owned())),
    }
}

/// Whether one of the roots signed `message` with ECDSA P-256 SHA-256.
pub fn signed_by_a_root(message: &[u8], signature: &[u8], roots: &[Vec<u8>]) -> bool {
    roots.iter().any(|der| {
        certificate(der).is_ok_and(|root| {
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, root.public_key().subject_public_key.data.as_ref());
            key.verify(message, signature).is_ok()
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_statement_panics(open: Vec<u8>, binding: Vec<u8>, signature: Vec<u8>, chain: Vec<Vec<u8>>, roots: Vec<Vec<u8>>) {
            let certificate_chain = chain.iter().map(Vec::as_slice).collect();
            let statement = Statement { open: &open, binding: &binding, signature: &signature, certificate_chain };
            prop_assert!(check(&statement, &roots).is_err());
            prop_assert!(!signed_by_a_root(&open, &signature, &roots));
        }
    }
}
