//! The key that signs receipts: an Ed25519 seed in `receipt.key`, with the CA's statement on it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::tls;
use edgetrail_proto::chain::{PublicKey, ReceiptSigner, Seed};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::authority::{Authority, IssueError};
use super::files::{self, FileError};

const FILE: &str = "receipt.key";

/// Receipts are checked long after: the key's validity ends with the CA's.
pub(super) const LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// The statement begins this long before it is made: a step back of the collector's clock makes no receipt void.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(24 * 3600);

/// Former keys that are kept: one for each time that the collector was restored.
const FORMER_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum ReceiptKeyError {
    #[error("the receipt key's file is not usable")]
    File(#[source] FileError),
    #[error("{} is damaged; restore it, or remove it: a new key is made and agents take it up by themselves", path.display())]
    Damaged { path: PathBuf },
    #[error("no random bytes are to be had: {0}")]
    Random(getrandom::Error),
    #[error("the CA can't sign the receipt key")]
    Statement(#[source] IssueError),
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    seed: String,
    not_before: u64,
    not_after: u64,
    ca_signature: String,
    /// Keys that signed before, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<StoredFormer>,
}

/// A key whose seed is gone; its receipts are checked for as long as they are kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredFormer {
    public_key: String,
    not_before: u64,
    not_after: u64,
}

pub(super) struct ReceiptKeyFile {
    path: PathBuf,
    seed: Seed,
    statement: ReceiptKey,
    former: Vec<StoredFormer>,
}

impl std::fmt::Debug for ReceiptKeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiptKeyFile").field("public_key", &self.statement.public_key).finish_non_exhaustive()
    }
}

impl ReceiptKeyFile {
    pub(super) fn open(directory: &Path, authority: &Authority) -> Result<Self, ReceiptKeyError> {
        let path = directory.join(FILE);
        match files::read(&path).map_err(ReceiptKeyError::File)? {
            Some(bytes) => {
                let parsed = Self::parse(&path, &Zeroizing::new(bytes)).ok_or(ReceiptKeyError::Damaged { path: path.clone() })?;
                parsed.signed_anew(authority)
            }
            None => Self::create(path, authority, Vec::new()),
        }
    }

    /// As it lies there, for who reads beside a running collector: nothing is made or written.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, ReceiptKeyError> {
        let path = directory.join(FILE);
        let Some(bytes) = files::read(&path).map_err(ReceiptKeyError::File)? else { return Ok(None) };
        let parsed = Self::parse(&path, &Zeroizing::new(bytes));
        parsed.map(Some).ok_or(ReceiptKeyError::Damaged { path })
    }

    pub(super) fn signer(&self) -> ReceiptSigner {
        ReceiptSigner::from_seed(&self.seed.0)
    }

    pub(super) fn statement(&self) -> &ReceiptKey {
        &self.statement
    }

    /// SHA-256, validity of every key that signed before this one, as statements still to be signed.
    pub(super) fn former(&self) -> Vec<ReceiptKey> {
        let former = self.former.iter().filter_map(|former| {
            let mut public_key = [0; 32];
            hex::decode_to_slice(&former.public_key, &mut public_key).ok()?;
            let StoredFormer { not_before, not_after, .. } = *former;
            Some(ReceiptKey { public_key: PublicKey(public_key), not_before, not_after, ca_signature: Vec::new() })
        });
        former.collect()
    }

    /// A fresh key in the place of this one, whose seed is erased and whose statement stays.
    pub(super) fn renew(&self, authority: &Authority) -> Result<Self, ReceiptKeyError> {
        let ReceiptKey { public_key, not_before, not_after, .. } = &self.statement;
        let mut former = self.former.clone();
        let (not_before, not_after) = (*not_before, *not_after);
        former.push(StoredFormer { public_key: hex::encode(public_key.0), not_before, not_after });
        former.drain(..former.len().saturating_sub(FORMER_MAX));
        Self::create(self.path.clone(), authority, former)
    }

    /// One that signed here before everything went back to an older copy: known again, once this returns.
    pub(super) fn take_back(&mut self, key: &ReceiptKey) -> Result<(), ReceiptKeyError> {
        let ReceiptKey { public_key, not_before, not_after, .. } = key;
        let before = self.former.clone();
        let (not_before, not_after) = (*not_before, *not_after);
        self.former.push(StoredFormer { public_key: hex::encode(public_key.0), not_before, not_after });
        self.former.drain(..self.former.len().saturating_sub(FORMER_MAX));
        self.store().inspect_err(|_| self.former = before)
    }

    fn create(path: PathBuf, authority: &Authority, former: Vec<StoredFormer>) -> Result<Self, ReceiptKeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(ReceiptKeyError::Random)?;
        let public_key = ReceiptSigner::from_seed(&seed).public_key();
        let now = SystemTime::now();
        let (not_before, not_after) = (unix_ns(now - CLOCK_TOLERANCE), unix_ns(now + LIFE));
        let statement = authority.sign_receipt_key(public_key, not_before, not_after).map_err(ReceiptKeyError::Statement)?;
        let created = Self { path, seed: Seed(seed), statement, former };
        created.store()?;
        Ok(created)
    }

    /// A statement by a root that was replaced since is made anew.
    fn signed_anew(mut self, authority: &Authority) -> Result<Self, ReceiptKeyError> {
        let ReceiptKey { public_key, not_before, not_after, .. } = self.statement;
        let message = ReceiptKey::message(&public_key, not_before, not_after);
        if !tls::signed_by(&authority.certificate(), &message, &self.statement.ca_signature) {
            let statement = authority.sign_receipt_key(public_key, not_before, not_after);
            self.statement = statement.map_err(ReceiptKeyError::Statement)?;
            self.store()?;
        }
        Ok(self)
    }

    fn store(&self) -> Result<(), ReceiptKeyError> {
        let path = &self.path;
        let statement = &self.statement;
        let stored = Stored {
            seed: hex::encode(self.seed.0.as_slice()),
            not_before: statement.not_before,
            not_after: statement.not_after,
            ca_signature: BASE64.encode(&statement.ca_signature),
            former: self.former.clone(),
        };
        let unwritable = |source: serde_json::Error| FileError::Write { path: path.to_owned(), source: source.into() };
        let bytes = serde_json::to_vec(&stored).map_err(unwritable).map_err(ReceiptKeyError::File)?;
        files::write(path, &Zeroizing::new(bytes)).map_err(ReceiptKeyError::File)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let mut seed = Zeroizing::new([0; 32]);
        hex::decode_to_slice(&stored.seed, seed.as_mut_slice()).ok()?;
        let public_key: PublicKey = ReceiptSigner::from_seed(&seed).public_key();
        let ca_signature = BASE64.decode(&stored.ca_signature).ok()?;
        let statement = ReceiptKey { public_key, not_before: stored.not_before, not_after: stored.not_after, ca_signature };
        Some(Self { path: path.to_owned(), seed: Seed(seed), statement, former: stored.former })
    }
}

fn unix_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
