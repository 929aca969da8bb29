//! Who may connect: the built-in CA, join tokens, certificates, receipt keys.
//!
//! The [`Authority`] is created at first start and lives in `pki/`: `ca.key`, `ca.pem`. It signs three things and
//! nothing else: agents' certificates (24 h, exactly one SPIFFE id, client authentication only), this collector's own
//! server certificates (kept in memory, renewed by [`Pki::run`]), and statements on receipt keys. Who is revoked is
//! asked at every handshake and told to every live stream.

mod authority;
mod enrollment;
mod files;
mod receipt_key;
mod revocations;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::tls::{self, CaPin, TlsError};
use edgetrail_proto::chain::ReceiptSigner;
use edgetrail_proto::identity::{AgentId, TrustDomain};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use authority::{AGENT_CERTIFICATE_LIFE, Authority, AuthorityError, ChainError, IssueError, issued_at};
pub use enrollment::{EnrollmentOptions, EnrollmentService, RENEWAL_GRACE};
pub use files::FileError;
pub use revocations::Revocations;

use self::receipt_key::ReceiptKeyFile;

/// Name of the CA's certificate in the PKI directory: what clients of the API take as their CA bundle.
pub const CA_FILE: &str = "ca.pem";

/// The SPIFFE trust domain where none is configured.
pub const TRUST_DOMAIN_DEFAULT: &str = "edgetrail.internal";

/// A failed renewal is tried again after this; the old certificate is good for days more.
const RENEWAL_RETRY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("the certificate authority can't be opened")]
    Authority(#[source] AuthorityError),
    #[error("the receipt key can't be opened")]
    ReceiptKey(#[source] receipt_key::ReceiptKeyError),
    #[error("TLS can't be configured")]
    Tls(#[source] TlsError),
}

/// The collector's PKI. A cheap handle.
#[derive(Clone, Debug)]
pub struct Pki(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    authority: Arc<Authority>,
    receipt_key: ReceiptKeyFile,
    revocations: Revocations,
    server_names: Vec<String>,
    ingest_tls: watch::Sender<Arc<ServerConfig>>,
    api_tls: watch::Sender<Arc<ServerConfig>>,
}

impl Pki {
    /// Opens the PKI of a collector, or creates it. `server_names` are further DNS names and addresses under which
    /// agents and clients reach this collector, besides localhost; `revoked` is the control store's.
    pub fn open(
        directory: &Path,
        trust_domain: TrustDomain,
        server_names: &[String],
        revoked: watch::Receiver<BTreeSet<AgentId>>,
    ) -> Result<Self, PkiError> {
        let authority = Arc::new(Authority::open(directory, trust_domain).map_err(PkiError::Authority)?);
        let receipt_key = ReceiptKeyFile::open(directory, &authority).map_err(PkiError::ReceiptKey)?;
        let revocations = Revocations::new(authority.trust_domain().clone(), revoked);
        let (ingest, api) = server_configs(&authority, &revocations, server_names)?;
        Ok(Self(Arc::new(Inner {
            directory: directory.to_owned(),
            authority,
            receipt_key,
            revocations,
            server_names: server_names.to_vec(),
            ingest_tls: watch::Sender::new(ingest),
            api_tls: watch::Sender::new(api),
        })))
    }

    pub fn authority(&self) -> &Arc<Authority> {
        &self.0.authority
    }

    pub fn revocations(&self) -> &Revocations {
        &self.0.revocations
    }

    /// What `token create` prints and `join` pins.
    pub fn ca_pin(&self) -> CaPin {
        CaPin::of(self.0.authority.certificate())
    }

    /// Where the CA's certificate lies.
    pub fn ca_file(&self) -> PathBuf {
        self.0.directory.join(CA_FILE)
    }

    /// All roots that are trusted now.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        vec![self.0.authority.certificate().clone()]
    }

    /// Signs the ledger's receipts.
    pub fn receipt_signer(&self) -> ReceiptSigner {
        self.0.receipt_key.signer()
    }

    /// The CA's statements on all receipt keys of this home.
    pub fn receipt_keys(&self) -> Vec<ReceiptKey> {
        vec![self.0.receipt_key.statement().clone()]
    }

    /// TLS of the ingest port, as it is now and after each renewal.
    pub fn ingest_tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.0.ingest_tls.subscribe()
    }

    /// TLS of the API port, as it is now and after each renewal.
    pub fn api_tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.0.api_tls.subscribe()
    }

    /// Renews the server certificates at half of their life, until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut wait = authority::SERVER_CERTIFICATE_LIFE / 2;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = match server_configs(&self.0.authority, &self.0.revocations, &self.0.server_names) {
                Ok((ingest, api)) => {
                    self.0.ingest_tls.send_replace(ingest);
                    self.0.api_tls.send_replace(api);
                    tracing::info!("server certificates renewed");
                    authority::SERVER_CERTIFICATE_LIFE / 2
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "server certificates could not be renewed");
                    RENEWAL_RETRY
                }
            };
        }
    }
}

fn server_configs(
    authority: &Authority,
    revocations: &Revocations,
    names: &[String],
) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>), PkiError> {
    let issued = || authority.issue_server(names, SystemTime::now()).map_err(AuthorityError::Issue).map_err(PkiError::Authority);
    let roots = [authority.certificate().clone()];
    let ingest = tls::ingest_config(issued()?, &roots, Arc::new(revocations.clone())).map_err(PkiError::Tls)?;
    let api = tls::api_config(issued()?).map_err(PkiError::Tls)?;
    Ok((ingest, api))
}
