//! An identity from a PKI of the operator's own: certificate, key and roots as files, which somebody else renews.
//!
//! What they hold is checked and then swapped into the state directory as a join's would be, so that everything after
//! knows one form only. The agent's id follows from the certificate's name: its SPIFFE id, else its first DNS name. The
//! files are looked at every [`LOOK_INTERVAL`]; what can't be used replaces nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use edgetrail_link::receipt_keys::{ReceiptKey, ReceiptKeys};
use edgetrail_link::tls;
use edgetrail_proto::chain::Hash;
use edgetrail_proto::identity::{AccountId, AgentId, Region};
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::PrivateKeyDer;

use super::identity::StoredReceiptKey;
use super::join::{Received, pem};
use super::{
    CERTIFICATE_FILE, EnrollError, Enrollment, IDENTITY_FILE, Identity, KEY_FILE, RECEIPT_KEYS_FILE, ROOTS_FILE, Scope, files,
};

/// Files that were replaced are noticed within this time.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Where the identity comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supplied {
    /// PEM, leaf first, with its intermediates. The key is ECDSA P-256.
    pub certificate: PathBuf,
    /// PEM, PKCS#8 or SEC 1.
    pub key: PathBuf,
    /// PEM: what the collector's certificate leads to, and the collector's own `ca.pem`, which vouches for receipt keys.
    pub roots: Vec<PathBuf>,
    /// As the collector's table says it of this certificate.
    pub account: AccountId,
    pub region: Region,
    pub partition: String,
}

impl Supplied {
    /// Takes the files up into the state directory.
    pub fn take_up(&self, directory: &Path, host: &str) -> Result<Enrollment, EnrollError> {
        files::create_directory(directory)?;
        files::finish_interrupted(directory)?;
        let chain = tls::read_certificates(&self.certificate).map_err(EnrollError::Supplied)?;
        let key = tls::read_key(&self.key).map_err(EnrollError::Supplied)?;
        let mut roots = Vec::new();
        for path in &self.roots {
            roots.extend(tls::read_certificates(path).map_err(EnrollError::Supplied)?);
        }
        let leaf = chain.first().ok_or(EnrollError::Answer("no certificate"))?;
        let key = match key {
            PrivateKeyDer::Sec1(key) => tls::as_pkcs8(&key).into(),
            key => key,
        };
        let pair = KeyPair::try_from(&key).map_err(|_| EnrollError::SuppliedKey)?;
        if pair.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(EnrollError::SuppliedKey);
        }
        if tls::public_key_of(leaf).map_err(EnrollError::Certificate)? != pair.subject_public_key_info() {
            return Err(EnrollError::SuppliedPair);
        }
        let names = tls::names_of(leaf).map_err(EnrollError::Certificate)?;
        let name = names.first().ok_or(EnrollError::SuppliedName)?;
        let identity = Identity {
            agent_id: AgentId::of_name(name),
            account: self.account,
            region: self.region.clone(),
            host: host.to_owned(),
            partition: self.partition.clone(),
            endpoints: Vec::new(),
            scopes: vec![Scope { account: self.account, region: self.region.clone() }],
            gateway: false,
            url: String::new(),
        };
        // Keys that a collector made known stay known while a root vouches for them.
        let mut receipt_keys = ReceiptKeys::default();
        let stored = files::read(&directory.join(RECEIPT_KEYS_FILE))?.unwrap_or_default();
        let stored: Vec<StoredReceiptKey> = serde_json::from_slice(&stored).unwrap_or_default();
        for key in stored.into_iter().filter_map(|key| ReceiptKey::try_from(key).ok()) {
            if let Err(error) = receipt_keys.add(key, &roots) {
                tracing::debug!(%error, "a receipt key is forgotten");
            }
        }
        let unwritable = |_| EnrollError::Answer("the identity can't be written");
        let swapped = [
            (KEY_FILE, pair.serialize_pem().into_bytes()),
            (CERTIFICATE_FILE, pem(&chain)),
            (ROOTS_FILE, pem(&roots)),
            (RECEIPT_KEYS_FILE, Received::receipt_keys_file(&receipt_keys)?),
            (IDENTITY_FILE, serde_json::to_vec_pretty(&identity).map_err(unwritable)?),
        ];
        files::swap(directory, &swapped)?;
        Enrollment::load(directory)?.ok_or(EnrollError::Answer("the identity is gone"))
    }

    /// Changes when a file is replaced.
    pub(super) fn fingerprint(&self) -> Hash {
        let mut all = Vec::new();
        for path in [&self.certificate, &self.key].into_iter().chain(&self.roots) {
            // A file that is not there for a moment counts as a change, and so does its return.
            all.extend_from_slice(&std::fs::read(path).map(|bytes| Hash::of(&bytes)).unwrap_or(Hash::ZERO).0);
        }
        Hash::of(&all)
    }
}
