//! Who may connect: the built-in CA, join tokens, certificates, receipt keys.
//!
//! The [`Authority`] is created at first start and lives in `pki/`: `ca.key`, `ca.pem`. It signs three things and
//! nothing else: agents' certificates (24 h, exactly one SPIFFE id, client authentication only), this collector's own
//! server certificates (kept in memory, renewed by [`Pki::run`]), and statements on receipt keys. Who is revoked is
//! asked at every handshake and told to every live stream.
//!
//! What lies on disk may be replaced while the collector runs: the root ([`rotation`]), and with a PKI of the operator's
//! own the server's certificate and key and the foreign roots. [`Pki::run`] notices within [`LOOK_INTERVAL`].

mod authority;
mod enrollment;
pub(crate) mod files;
mod foreign;
mod guesses;
mod receipt_key;
mod relays;
mod revocations;
mod root;
pub mod rotation;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use edgetrail_link::receipt_keys::{ReceiptKey, ReceiptKeys};
use edgetrail_link::tls::{self, CaPin, FileError as PemError, Identity, TlsError};
use edgetrail_proto::chain::{Hash, ReceiptSigner};
use edgetrail_proto::identity::TrustDomain;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use authority::{AGENT_CERTIFICATE_LIFE, Authority, AuthorityError, AuthorityOptions, ChainError, IssueError, issued_at};
pub use enrollment::{EnrollmentOptions, EnrollmentService, RENEWAL_GRACE};
pub use files::FileError;
pub use foreign::{ForeignOptions, MappedAgent};
pub use revocations::Revocations;

use self::receipt_key::ReceiptKeyFile;
use crate::control::{Relay, Revoked};

/// Name of the CA's certificate in the PKI directory: what clients of the API take as their CA bundle.
pub const CA_FILE: &str = "ca.pem";

/// The SPIFFE trust domain where none is configured.
pub const TRUST_DOMAIN_DEFAULT: &str = "edgetrail.internal";

/// Files that were replaced on disk are noticed within this time.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(2);

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
    #[error("the server's certificate or key can't be used; correct `pki.certificate` and `pki.key` or their files")]
    Pem(#[source] PemError),
    #[error("{} holds a leaf alone: append its intermediates and its root, which joining agents pin", path.display())]
    ShortChain { path: PathBuf },
}

/// What a PKI is made of.
#[derive(Clone, Debug)]
pub struct PkiOptions {
    pub authority: AuthorityOptions,
    /// Further DNS names and addresses under which agents and clients reach this collector, besides localhost.
    pub server_names: Vec<String>,
    /// Instead of certificates of the built-in CA.
    pub server: Option<ServerFiles>,
}

/// The server's identity from a PKI of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// PEM: leaf first, up to and with the root.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The collector's PKI. A cheap handle.
#[derive(Clone, Debug)]
pub struct Pki(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    options: PkiOptions,
    authority: Arc<Authority>,
    receipt_key: RwLock<ReceiptKeyFile>,
    /// Of the other collectors of this home: relays.
    others: RwLock<Vec<ReceiptKey>>,
    reloading: Mutex<()>,
    revocations: Revocations,
    stands: RwLock<Arc<Stand>>,
    ingest_tls: watch::Sender<Arc<ServerConfig>>,
    api_tls: watch::Sender<Arc<ServerConfig>>,
}

/// What is told to agents, as of one reading of the files.
#[derive(Debug)]
struct Stand {
    roots: Vec<CertificateDer<'static>>,
    pin: CaPin,
    receipt_keys: Vec<ReceiptKey>,
}

impl Pki {
    /// Opens the PKI of a collector, or creates it, with the built-in CA alone. `revoked` is the control store's.
    pub fn open(
        directory: &Path,
        trust_domain: TrustDomain,
        server_names: &[String],
        revoked: watch::Receiver<Revoked>,
    ) -> Result<Self, PkiError> {
        let (certificate_life, foreign) = (AGENT_CERTIFICATE_LIFE, ForeignOptions::default());
        let authority = AuthorityOptions { trust_domain, certificate_life, foreign };
        Self::open_with(directory, PkiOptions { authority, server_names: server_names.to_vec(), server: None }, revoked)
    }

    pub fn open_with(directory: &Path, options: PkiOptions, revoked: watch::Receiver<Revoked>) -> Result<Self, PkiError> {
        let authority = Authority::open_with(directory, options.authority.clone()).map_err(PkiError::Authority)?;
        let authority = Arc::new(authority);
        let receipt_key = ReceiptKeyFile::open(directory, &authority).map_err(PkiError::ReceiptKey)?;
        let revocations = Revocations::new(Arc::clone(&authority), revoked);
        let (ingest, api, stand) = configure(&authority, &receipt_key, &[], &revocations, &options)?;
        Ok(Self(Arc::new(Inner {
            directory: directory.to_owned(),
            options,
            authority,
            receipt_key: RwLock::new(receipt_key),
            others: RwLock::default(),
            reloading: Mutex::default(),
            revocations,
            stands: RwLock::new(Arc::new(stand)),
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
        self.stand().pin
    }

    /// Where the CA's certificate lies.
    pub fn ca_file(&self) -> PathBuf {
        self.0.directory.join(CA_FILE)
    }

    /// What an agent trusts: all roots of the built-in CA, and the foreign one that the server's certificate leads to.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.stand().roots.clone()
    }

    /// Signs the ledger's receipts.
    pub fn receipt_signer(&self) -> ReceiptSigner {
        self.receipt_key().signer()
    }

    /// SHA-256 of the public keys that signed receipts here before, and of the one that does now.
    pub fn own_receipt_keys(&self) -> Vec<Hash> {
        let key = self.receipt_key();
        let keys = key.former().into_iter().chain([key.statement().clone()]);
        keys.map(|key| Hash::of(&key.public_key.0)).collect()
    }

    /// A fresh receipt key, for a collector that was restored: its ledger's indexes repeat. The former one's receipts
    /// stay good, its seed is erased; agents learn the new key at their next resume.
    pub fn renew_receipt_key(&self) -> Result<ReceiptSigner, PkiError> {
        let renewed = self.receipt_key().renew(&self.0.authority).map_err(PkiError::ReceiptKey)?;
        let signer = renewed.signer();
        *self.0.receipt_key.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        self.reload()?;
        Ok(signer)
    }

    /// Knows again a receipt key that this home's CA has signed and of which nothing is known here: the collector went back to
    /// an older copy of itself. `false` where it is known, or no root of this home has signed it.
    pub fn take_back_receipt_key(&self, key: &ReceiptKey) -> Result<bool, PkiError> {
        let is_known = self.receipt_keys().iter().any(|known| known.public_key == key.public_key);
        if is_known || ReceiptKeys::default().add(key.clone(), &self.roots()).is_err() {
            return Ok(false);
        }
        let mut file = self.0.receipt_key.write().unwrap_or_else(PoisonError::into_inner);
        file.take_back(key).map_err(PkiError::ReceiptKey)?;
        drop(file);
        self.reload()?;
        Ok(true)
    }

    /// Trusts the receipt keys of these relays, and of no others, whatever became of the relays since.
    pub fn trust_relays(&self, relays: &watch::Receiver<Vec<Relay>>) -> Result<(), PkiError> {
        self.trust_these(|| relays.borrow().iter().flat_map(|relay| relay.receipt_keys.iter().cloned()).collect())
    }

    /// Whether agents or clients reach this collector itself under this name.
    fn is_own_name(&self, name: &str) -> bool {
        let server = self.0.options.server.as_ref().and_then(|files| read_server(files).ok());
        let certified = server.and_then(|identity| tls::names_of(identity.chain.first()?).ok()).unwrap_or_default();
        self.0.options.server_names.iter().any(|own| own.eq_ignore_ascii_case(name))
            || certified.iter().any(|own| own.strip_prefix("dns:").is_some_and(|own| own.eq_ignore_ascii_case(name)))
    }

    /// Tells agents from now on of the receipt keys of this home's other collectors. Each is signed anew by every root
    /// that is trusted; who they are is the caller's to know.
    pub fn trust_receipt_keys(&self, keys: Vec<ReceiptKey>) -> Result<(), PkiError> {
        self.trust_these(|| keys)
    }

    /// The keys are asked for when it is this call's turn: what another call put down meanwhile is not undone.
    fn trust_these(&self, keys: impl FnOnce() -> Vec<ReceiptKey>) -> Result<(), PkiError> {
        // Held to the end: who finds the keys there already must find them in effect.
        let reloading = self.0.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = keys();
        {
            let mut others = self.0.others.write().unwrap_or_else(PoisonError::into_inner);
            if *others == keys {
                return Ok(());
            }
            *others = keys;
        }
        self.reload_one(&reloading)
    }

    fn receipt_key(&self) -> std::sync::RwLockReadGuard<'_, ReceiptKeyFile> {
        self.0.receipt_key.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The statements on all receipt keys of this home, by every root that is trusted now.
    pub fn receipt_keys(&self) -> Vec<ReceiptKey> {
        self.stand().receipt_keys.clone()
    }

    /// TLS of the ingest port, as it is now and after each renewal.
    pub fn ingest_tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.0.ingest_tls.subscribe()
    }

    /// TLS of the API port, as it is now and after each renewal.
    pub fn api_tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.0.api_tls.subscribe()
    }

    fn stand(&self) -> Arc<Stand> {
        Arc::clone(&self.0.stands.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Renews the server certificates at half of their life and takes up what is replaced on disk, until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut seen = self.fingerprint();
        let mut due = Instant::now() + authority::SERVER_CERTIFICATE_LIFE / 2;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            let found = self.fingerprint();
            if found == seen && Instant::now() < due {
                continue;
            }
            // Whatever is found is tried once: a file that is half-written is found again when it is whole.
            let replaced = std::mem::replace(&mut seen, found) != seen;
            due = Instant::now() + authority::SERVER_CERTIFICATE_LIFE / 2;
            if let Err(error) = self.reload() {
                let cause = std::error::Error::source(&error).map(|cause| match cause.source() {
                    Some(inner) => format!("{cause}: {inner}"),
                    None => cause.to_string(),
                });
                tracing::error!(%error, cause, "certificates and roots stay as they were");
                due = Instant::now() + RENEWAL_RETRY;
            } else {
                seen = self.fingerprint();
                tracing::info!(replaced, roots = self.stand().roots.len(), "certificates and roots taken up");
            }
        }
    }

    /// Reads everything anew. What was in use stays in use where anything of it can't be used.
    fn reload(&self) -> Result<(), PkiError> {
        self.reload_one(&self.0.reloading.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One at a time: an older state must not replace a newer one.
    fn reload_one(&self, _reloading: &MutexGuard<'_, ()>) -> Result<(), PkiError> {
        let inner = &self.0;
        inner.authority.reload().map_err(PkiError::Authority)?;
        let (ingest, api, stand) = {
            let others = inner.others.read().unwrap_or_else(PoisonError::into_inner);
            configure(&inner.authority, &self.receipt_key(), &others, &inner.revocations, &inner.options)?
        };
        *inner.stands.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(stand);
        inner.ingest_tls.send_replace(ingest);
        inner.api_tls.send_replace(api);
        Ok(())
    }

    fn fingerprint(&self) -> Hash {
        let inner = &self.0;
        let own = rotation::files(&inner.directory);
        let server = inner.options.server.iter().flat_map(|files| [&files.certificate, &files.key]);
        let foreign = inner.options.authority.foreign.roots.iter();
        foreign::fingerprint(own.iter().chain(server).chain(foreign).map(PathBuf::as_path))
    }
}

/// TLS of both ports, and what agents are told.
fn configure(
    authority: &Authority,
    receipt_key: &ReceiptKeyFile,
    others: &[ReceiptKey],
    revocations: &Revocations,
    options: &PkiOptions,
) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>, Stand), PkiError> {
    let issue = |error| PkiError::Authority(AuthorityError::Issue(error));
    let issued = || authority.issue_server(&options.server_names, SystemTime::now()).map_err(issue);
    let mut roots = authority.roots();
    let mut pin = CaPin::of(&authority.certificate());
    let (ingest, api) = match &options.server {
        None => (issued()?, issued()?),
        Some(files) => {
            let identity = read_server(files)?;
            if let Some(root) = identity.chain.last() {
                pin = CaPin::of(root);
                roots.push(root.clone());
            }
            (identity.clone(), identity)
        }
    };
    let ingest = tls::ingest_config(ingest, Arc::new(revocations.clone())).map_err(PkiError::Tls)?;
    let api = tls::api_config(api).map_err(PkiError::Tls)?;
    let mut receipt_keys = authority.sign_receipt_key_by_all(receipt_key.statement()).map_err(issue)?;
    for key in receipt_key.former().iter().chain(others) {
        receipt_keys.extend(authority.sign_receipt_key_by_all(key).map_err(issue)?);
    }
    Ok((ingest, api, Stand { roots, pin, receipt_keys }))
}

fn read_server(files: &ServerFiles) -> Result<Identity, PkiError> {
    let chain = tls::read_certificates(&files.certificate).map_err(PkiError::Pem)?;
    if chain.len() < 2 {
        return Err(PkiError::ShortChain { path: files.certificate.clone() });
    }
    let key = tls::read_key(&files.key).map_err(PkiError::Pem)?;
    Ok(Identity { chain, key })
}

/// What receipts are signed and checked with, read beside a running collector: the key that signs now, and every root's
/// statement on it and on those before it. `None` where no collector has run.
pub fn receipt_keys_of(
    directory: &Path,
    options: AuthorityOptions,
) -> Result<Option<(ReceiptSigner, Vec<ReceiptKey>)>, PkiError> {
    let Some(key) = ReceiptKeyFile::read(directory).map_err(PkiError::ReceiptKey)? else { return Ok(None) };
    let authority = Authority::open_with(directory, options).map_err(PkiError::Authority)?;
    let mut stated = Vec::new();
    for statement in key.former().iter().chain([key.statement()]) {
        let by_all = authority.sign_receipt_key_by_all(statement);
        stated.extend(by_all.map_err(|error| PkiError::ReceiptKey(receipt_key::ReceiptKeyError::Statement(error)))?);
    }
    Ok(Some((key.signer(), stated)))
}

/// What `join` pins, of a collector that need not run: the built-in root, or the one that ends the server's own chain.
pub fn pin_of(directory: &Path, server: Option<&ServerFiles>) -> Result<CaPin, PkiError> {
    let path = server.map_or_else(|| directory.join(CA_FILE), |files| files.certificate.clone());
    let certificates = tls::read_certificates(&path).map_err(PkiError::Pem)?;
    let root = if server.is_some() { certificates.last() } else { certificates.first() };
    root.map(CaPin::of).ok_or(PkiError::ShortChain { path })
}
