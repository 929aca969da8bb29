//! The keys that digests are signed with: RSA-2048, per region, one for each UTC day.
//!
//! A key is valid in [00:00Z, 24:00Z) of its day and signs only digests that end in it. Private halves lie outside
//! SQLite, whose log and free pages would keep old images: one file each, made ahead of its day, overwritten and
//! removed once the day is over. No digest ends in a day that is over (see `Planner::window_end`), so that whoever takes
//! the collector today can't sign for yesterday. Public halves stay in delivery.sqlite for ever.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use md5::Digest as _;
use ring::rand::SystemRandom;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::pkcs8::EncodePrivateKey as _;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::clock::DAY_S;
use super::plan::PublicDigestKey;
use super::store::{Store, StoreError};

/// The next day's key is made this long before midnight, in seconds.
const AHEAD_S: u64 = 3600;

/// Source: CloudTrail's digest keys; `validate-logs` takes any, tools expect this.
const KEY_BITS: usize = 2048;

/// All regions' keys.
#[derive(Debug)]
pub(super) struct DigestKeys {
    store: Arc<Store>,
    folder: PathBuf,
    loaded: Mutex<HashMap<(String, u64), Arc<DigestKey>>>,
    regions: Mutex<BTreeSet<String>>,
    pub(super) region_added: Notify,
}

/// One region's key of one day.
pub(super) struct DigestKey {
    pair: RsaKeyPair,
    pub(super) public: PublicDigestKey,
}

#[derive(Debug, thiserror::Error)]
pub enum DigestKeyError {
    #[error("digest key file {} can't be read or written: check the state directory", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("an RSA key could not be made")]
    Generate(#[source] rsa::Error),
    #[error("an RSA key could not be used: {0}")]
    Use(&'static str),
    #[error("the digest key's public half could not be stored")]
    Store(#[from] StoreError),
}

impl DigestKeys {
    pub(super) fn open(store: Arc<Store>, folder: PathBuf) -> Result<Self, DigestKeyError> {
        let made = fs::create_dir_all(&folder).and_then(|()| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
        });
        made.map_err(|source| DigestKeyError::File { path: folder.clone(), source })?;
        let (loaded, regions) = (Mutex::default(), Mutex::default());
        Ok(Self { store, folder, loaded, regions, region_added: Notify::new() })
    }

    /// From now on the region's keys are made ahead of their days.
    pub(super) fn add_region(&self, region: &str) {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        if !regions.contains(region) {
            regions.insert(region.to_owned());
            self.region_added.notify_one();
        }
    }

    /// The key of the day that holds `time`, Unix seconds. Makes it if it was not made ahead: a second or two.
    pub(super) fn key(&self, region: &str, time: u64) -> Result<Arc<DigestKey>, DigestKeyError> {
        let day = time / DAY_S;
        // Held while a key is made: two trails that ask at once get one key.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (region.to_owned(), day);
        if let Some(key) = loaded.get(&place) {
            return Ok(key.clone());
        }
        let path = self.path(region, day);
        let key = match fs::read(&path).map(Zeroizing::new) {
            Ok(der) => DigestKey::from_pkcs8(&der, region, day)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let der = generate()?;
                let key = DigestKey::from_pkcs8(&der, region, day)?;
                write_private(&path, &der).map_err(|source| DigestKeyError::File { path, source })?;
                key
            }
            Err(source) => return Err(DigestKeyError::File { path, source }),
        };
        // The public half is durable before anything is signed. A crash before this line leaves a private file whose
        // public half the next start stores by this same line.
        self.store.insert_key(&key.public)?;
        let key = Arc::new(key);
        loaded.insert(place, key.clone());
        Ok(key)
    }

    /// Makes what is needed today and soon, erases what is over. `now` in Unix seconds.
    pub(super) fn keep(&self, now: u64) -> Result<(), DigestKeyError> {
        let regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for region in &regions {
            self.key(region, now)?;
            if now % DAY_S >= DAY_S - AHEAD_S {
                self.key(region, now + AHEAD_S)?;
            }
        }
        self.erase_before(now / DAY_S)
    }

    /// When [`DigestKeys::keep`] has something to do next, Unix seconds.
    pub(super) fn next_keep(now: u64) -> u64 {
        let (day, second) = (now / DAY_S, now % DAY_S);
        if second < DAY_S - AHEAD_S { day * DAY_S + DAY_S - AHEAD_S } else { (day + 1) * DAY_S }
    }

    fn erase_before(&self, today: u64) -> Result<(), DigestKeyError> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, day), _| *day >= today);
        let error = |source| DigestKeyError::File { path: self.folder.clone(), source };
        for entry in fs::read_dir(&self.folder).map_err(error)? {
            let path = entry.map_err(error)?.path();
            let day = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.rsplit('.').next()?.parse().ok());
            if day.is_some_and(|day: u64| day < today) {
                erase(&path).map_err(|source| DigestKeyError::File { path, source })?;
            }
        }
        Ok(())
    }

    /// `REGION.DAY.pkcs8`; a region is a DNS label and holds no dot.
    fn path(&self, region: &str, day: u64) -> PathBuf {
        self.folder.join(format!("{region}.{day}.pkcs8"))
    }
}

impl DigestKey {
    fn from_pkcs8(der: &[u8], region: &str, day: u64) -> Result<Self, DigestKeyError> {
        let pair = RsaKeyPair::from_pkcs8(der)
            .map_err(|_rejected| DigestKeyError::Use("its file is damaged: remove it, another key is made"))?;
        let der_pkcs1 = pair.public_key().as_ref().to_vec();
        let public = PublicDigestKey {
            region: region.to_owned(),
            fingerprint: hex::encode(md5::Md5::digest(&der_pkcs1)),
            der_pkcs1,
            not_before: day * DAY_S,
            not_after: (day + 1) * DAY_S,
        };
        Ok(Self { pair, public })
    }

    /// RSASSA-PKCS1-v1_5 over SHA-256, lower-case hex.
    pub(super) fn sign(&self, text: &[u8]) -> Result<String, DigestKeyError> {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature)
            .map_err(|_unspecified| DigestKeyError::Use("signing failed"))?;
        Ok(hex::encode(signature))
    }
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DigestKey").field("public", &self.public).finish_non_exhaustive()
    }
}

fn generate() -> Result<Zeroizing<Vec<u8>>, DigestKeyError> {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, KEY_BITS).map_err(DigestKeyError::Generate)?;
    let der = key.to_pkcs8_der().map_err(|_encoding| DigestKeyError::Use("it can't be encoded"))?;
    Ok(Zeroizing::new(der.as_bytes().to_vec()))
}

fn write_private(path: &Path, der: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(der)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_folder_of(path)
}

/// Zeros first, so that the blocks hold no key when they are given to another file.
fn erase(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    file.write_all(&vec![0; length])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    fn keys(dir: &Path) -> DigestKeys {
        let store = Arc::new(Store::open(&dir.join("delivery.sqlite")).unwrap());
        DigestKeys::open(store, dir.join("digest-keys")).unwrap()
    }

    #[test]
    fn a_key_is_made_ahead_and_erased_when_its_day_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys(dir.path());
        keys.add_region("r-1");
        let files = || fs::read_dir(dir.path().join("digest-keys")).unwrap().count();
        let day = 20_000;
        let midnight = (day + 1) * DAY_S;

        keys.keep(day * DAY_S + 10).unwrap();
        assert_eq!(files(), 1);
        assert_eq!(DigestKeys::next_keep(day * DAY_S + 10), midnight - AHEAD_S);
        keys.keep(midnight - AHEAD_S).unwrap();
        assert_eq!(files(), 2, "tomorrow's is there before midnight");
        let tomorrows = keys.key("r-1", midnight).unwrap();
        keys.keep(midnight).unwrap();
        assert_eq!(files(), 1, "yesterday's is erased");
        assert_eq!(keys.key("r-1", midnight + 5).unwrap().public, tomorrows.public);
        assert_eq!(keys.store.public_keys(None, 0, u64::MAX).unwrap().len(), 2, "public halves stay");
        assert_eq!(keys.store.public_keys(Some("r-1"), midnight, midnight).unwrap(), std::slice::from_ref(&tomorrows.public));
    }

    #[test]
    fn a_key_survives_a_restart_and_its_signature_verifies_as_pkcs1() {
        let dir = tempfile::tempdir().unwrap();
        let before = keys(dir.path()).key("r-1", 5).unwrap();
        let after = keys(dir.path()).key("r-1", 6).unwrap();
        assert_eq!(before.public, after.public);

        // ring takes a PKCS#1 RSAPublicKey, and nothing else, for RSA.
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &after.public.der_pkcs1);
        public.verify(b"text", &hex::decode(after.sign(b"text").unwrap()).unwrap()).unwrap();
    }
}
