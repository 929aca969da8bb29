//! A PKI of the operator's own beside the built-in authority: roots that vouch for agents, and whom they may vouch for.
//!
//! Files are read again when they change: a root that is replaced on disk counts within seconds. A foreign root names
//! nobody by itself. Who a certificate is for comes from the table in collector.toml, by its one SPIFFE id or else its
//! DNS names, each written as `spiffe://…` or `dns:NAME`; an id of this collector's own trust domain is never taken from
//! a foreign certificate. The common name is never looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgetrail_link::tls::{self, FileError, TlsError};
use edgetrail_proto::chain::Hash;
use edgetrail_proto::identity::{AccountId, AgentId, AgentIdentity, Region, TrustDomain};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

/// Whom the foreign roots may vouch for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForeignOptions {
    /// PEM files.
    pub roots: Vec<PathBuf>,
    pub agents: Vec<MappedAgent>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedAgent {
    /// `spiffe://…` or `dns:NAME`, as the certificate says it.
    pub name: String,
    pub account: AccountId,
    pub region: Region,
    /// [`AgentId::of_name`]: a verifier can follow an open back to its certificate without the table.
    pub agent: AgentId,
}

#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    #[error("a file of foreign roots can't be used")]
    File(#[source] FileError),
    #[error("the foreign roots can't be used")]
    Tls(#[source] TlsError),
}

/// What of a foreign certificate no table names.
#[derive(Debug, thiserror::Error)]
#[error("the certificate names {found}, which `[[pki.agents]]` does not list")]
pub struct UnknownName {
    found: String,
}

/// The roots as they were read, and the table.
#[derive(Debug)]
pub(super) struct Foreign {
    verifier: Arc<dyn ClientCertVerifier>,
    names: BTreeMap<String, AgentIdentity>,
}

impl Foreign {
    /// `None` where no foreign PKI is configured.
    pub(super) fn open(options: &ForeignOptions, trust_domain: &TrustDomain) -> Result<Option<Self>, ForeignError> {
        if options.roots.is_empty() {
            return Ok(None);
        }
        let mut roots = Vec::new();
        for path in &options.roots {
            roots.extend(tls::read_certificates(path).map_err(ForeignError::File)?);
        }
        let verifier = tls::agent_chain_verifier(&roots).map_err(ForeignError::Tls)?;
        let names = options.agents.iter().map(|mapped| {
            let MappedAgent { name, account, region, agent } = mapped.clone();
            (name, AgentIdentity { trust_domain: trust_domain.clone(), account, region, agent })
        });
        Ok(Some(Self { verifier, names: names.collect() }))
    }

    /// Whether a foreign root vouches for the chain at this time.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<(), rustls::Error> {
        self.verifier.verify_client_cert(leaf, rest, at).map(drop)
    }

    /// Who the table says the certificate is for.
    pub(super) fn identity(&self, leaf: &CertificateDer<'_>) -> Result<AgentIdentity, UnknownName> {
        let names = tls::names_of(leaf).unwrap_or_default();
        let known = names.iter().find_map(|name| self.names.get(name)).cloned();
        known.ok_or_else(|| UnknownName { found: if names.is_empty() { "nobody".to_owned() } else { names.join(", ") } })
    }
}

/// A fingerprint of files' contents: what is compared to notice that one was replaced. A file that is not there counts.
pub(super) fn fingerprint<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Hash {
    let mut all = Vec::new();
    for path in paths {
        let contents = std::fs::read(path).map(|bytes| Hash::of(&bytes).0.to_vec()).unwrap_or_default();
        all.extend_from_slice(path.as_os_str().as_encoded_bytes());
        all.push(0);
        all.extend_from_slice(&contents);
    }
    Hash::of(&all)
}
