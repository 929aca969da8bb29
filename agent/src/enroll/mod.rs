//! Joins a collector with a token and renews the certificate.
//!
//! Joining makes a fresh key, whose private half never leaves the host, and pins the collector's CA by its hash; joining
//! again keeps the agent's id. What came back lies in the state directory, swapped in as a whole:
//!
//! ```text
//! agent.key          ECDSA P-256, PKCS#8 PEM      agent.pem           certificate chain, leaf first
//! roots.pem          what the collector is trusted by     receipt-keys.json   whose receipts release batches
//! identity.json      agent id, account, region, host, partition, endpoints, scopes
//! ```
//! Where a PKI of the operator's own gives the certificate, nobody joins: [`Supplied`].
//!
//! A certificate lives 24 h and is renewed at half of that by the key it binds, also after it has expired: buffering
//! never waits for it.

mod files;
mod identity;
mod join;
mod renewal;
mod supplied;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgetrail_link::receipt_keys::{ReceiptKey, ReceiptKeyError, ReceiptKeys};
use edgetrail_link::tls::{self, FileError, PeerError, TlsError};
use edgetrail_link::uplink::{ConnectError, Credentials};
use edgetrail_proto::chain::{Binding, BindingError};
use rustls_pki_types::CertificateDer;

pub use identity::{Identity, Scope};
pub use join::{Join, JoinUrl, JoinUrlError, join};
pub use renewal::Renewal;
pub use supplied::Supplied;

use self::identity::StoredReceiptKey;

pub const KEY_FILE: &str = "agent.key";
pub const CERTIFICATE_FILE: &str = "agent.pem";
pub const ROOTS_FILE: &str = "roots.pem";
pub const RECEIPT_KEYS_FILE: &str = "receipt-keys.json";
pub const IDENTITY_FILE: &str = "identity.json";

/// What a join left in the state directory.
#[derive(Clone, Debug)]
pub struct Enrollment {
    pub directory: PathBuf,
    pub identity: Identity,
    pub tls: tls::Identity,
    pub roots: Vec<CertificateDer<'static>>,
    pub receipt_keys: ReceiptKeys,
}

#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    #[error("{} can't be read or written", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not what a join wrote; join again", path.display())]
    Malformed { path: PathBuf },
    #[error("a file of `[identity]` can't be used")]
    Supplied(#[source] FileError),
    #[error(
        "the key of `[identity]` is not ECDSA P-256, in PKCS#8 or with its public part in SEC 1: opens are signed with it; make one with `openssl ecparam -name prime256v1 -genkey -noout`"
    )]
    SuppliedKey,
    #[error("certificate and key of `[identity]` do not belong together; if they are being replaced, both are read again")]
    SuppliedPair,
    #[error("the certificate of `[identity]` has neither one URI (a SPIFFE id) nor a DNS name among its alternative names")]
    SuppliedName,
    #[error("certificate or key can't be read; join again")]
    Pem(#[source] FileError),
    #[error("TLS can't be set up")]
    Tls(#[source] TlsError),
    #[error("the key can't be made or used: {0}")]
    Key(rcgen::Error),
    #[error("the collector can't be reached; check the URL, the port and the CA pin")]
    Connect(#[source] ConnectError),
    #[error("the collector refused: {message}")]
    Refused { message: String },
    #[error("the collector's answer is not usable: {0}")]
    Answer(&'static str),
    #[error("the certificate that the collector gave can't be read")]
    Certificate(#[source] PeerError),
    #[error("a receipt key that the collector gave can't be trusted")]
    ReceiptKey(#[source] ReceiptKeyError),
    #[error("the identity binds to nothing that a stream could begin with; join again")]
    Binding(#[source] BindingError),
}

impl Enrollment {
    /// `None` where nobody has joined yet.
    pub fn load(directory: &Path) -> Result<Option<Self>, EnrollError> {
        files::finish_interrupted(directory)?;
        let identity_path = directory.join(IDENTITY_FILE);
        let Some(identity) = files::read(&identity_path)? else { return Ok(None) };
        let identity: Identity = serde_json::from_slice(&identity).map_err(|_| EnrollError::Malformed { path: identity_path })?;
        let roots = tls::read_certificates(&directory.join(ROOTS_FILE)).map_err(EnrollError::Pem)?;
        let chain = tls::read_certificates(&directory.join(CERTIFICATE_FILE)).map_err(EnrollError::Pem)?;
        let key = tls::read_key(&directory.join(KEY_FILE)).map_err(EnrollError::Pem)?;
        let keys_path = directory.join(RECEIPT_KEYS_FILE);
        let malformed = || EnrollError::Malformed { path: keys_path.clone() };
        let stored = files::read(&keys_path)?.ok_or_else(malformed)?;
        let stored: Vec<StoredReceiptKey> = serde_json::from_slice(&stored).map_err(|_| malformed())?;
        let mut receipt_keys = ReceiptKeys::default();
        for key in stored {
            receipt_keys.add(ReceiptKey::try_from(key).map_err(|()| malformed())?, &roots).map_err(EnrollError::ReceiptKey)?;
        }
        let tls = tls::Identity { chain, key };
        Ok(Some(Self { directory: directory.to_owned(), identity, tls, roots, receipt_keys }))
    }

    /// What the uplink shows and trusts.
    pub fn credentials(&self) -> Result<Arc<Credentials>, EnrollError> {
        let tls = tls::client_config(&self.roots, Some(self.tls.clone())).map_err(EnrollError::Tls)?;
        let (chain, roots) = (self.tls.chain.clone(), self.roots.clone());
        Ok(Arc::new(Credentials { tls, chain, roots, receipt_keys: self.receipt_keys.clone() }))
    }

    /// What the agent's streams are bound to.
    pub fn binding(&self) -> Result<Binding, EnrollError> {
        let scopes = self.identity.scopes.iter().map(|scope| (scope.account, scope.region.clone()));
        Binding::set(scopes, &self.identity.host).map_err(EnrollError::Binding)
    }

    /// When the certificate begins and ends, Unix seconds.
    pub fn validity(&self) -> Result<(i64, i64), EnrollError> {
        let leaf = self.tls.chain.first().ok_or(EnrollError::Answer("no certificate"))?;
        tls::validity_of(leaf).map_err(EnrollError::Certificate)
    }
}
