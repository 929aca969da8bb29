//! Who may call PutAuditEvents: a file of keys, whose secrets lie in files of their own.
//!
//! A line is `KEYID PRINCIPAL SECRETFILE`; the secret's path may be relative to the list's folder. A secret that others
//! than its owner and group can get at is refused, and so is a list that others may write to. Changed files are taken
//! up within seconds; until a changed file is right, the keys that were right stay so.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use zeroize::Zeroizing;

use crate::sources::secret::{self, SecretError};

/// Why a file of access keys can't be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::sources::api) enum KeyError {
    #[error("access_keys: {0}")]
    Secret(SecretError),
    #[error("access_keys: line {line} of {} is not `KEYID PRINCIPAL SECRETFILE`: {why}", path.display())]
    Line { path: PathBuf, line: usize, why: &'static str },
    #[error("access_keys: {} holds no key: write `KEYID PRINCIPAL SECRETFILE` on a line", path.display())]
    Empty { path: PathBuf },
}

/// The keys that admit.
#[derive(Debug)]
pub(in crate::sources::api) struct AccessKeys {
    path: PathBuf,
    known: Mutex<Known>,
}

/// One of them.
#[derive(Clone)]
pub(in crate::sources::api) struct AccessKey {
    pub(super) principal: Arc<str>,
    pub(super) secret: Arc<Zeroizing<String>>,
}

#[derive(Debug)]
struct Known {
    keys: HashMap<String, AccessKey>,
    /// Every file that was read, with its time.
    files: Vec<(PathBuf, Option<SystemTime>)>,
    looked: Instant,
}

/// Length of a key's id, in bytes. Source: IAM, AccessKeyId.
const KEY_ID_BYTES: std::ops::RangeInclusive<usize> = 16..=128;

/// Longest principal, in bytes: it is part of a position.
const PRINCIPAL_BYTES_MAX: usize = 256;

/// Changed files are taken up after at most this long.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey").field("principal", &self.principal).finish_non_exhaustive()
    }
}

impl AccessKeys {
    pub(in crate::sources::api) fn open(path: &Path) -> Result<Self, KeyError> {
        Ok(Self { path: path.to_owned(), known: Mutex::new(Known::read(path)?) })
    }

    pub(super) fn find(&self, id: &str) -> Option<AccessKey> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.elapsed() >= LOOK_INTERVAL {
            known.looked = Instant::now();
            if known.files.iter().any(|(path, before)| modified(path) != *before) {
                match Known::read(&self.path) {
                    Ok(read) => *known = read,
                    Err(error) => tracing::warn!(%error, "changed access keys can't be taken up"),
                }
            }
        }
        known.keys.get(id).cloned()
    }
}

impl Known {
    fn read(path: &Path) -> Result<Self, KeyError> {
        let text = secret::list(path).map_err(KeyError::Secret)?;
        let mut files = vec![(path.to_owned(), modified(path))];
        let mut keys = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why| KeyError::Line { path: path.to_owned(), line: index + 1, why };
            let words: Vec<&str> = line.split_whitespace().collect();
            let [id, principal, secret] = words[..] else { return Err(wrong("give three words")) };
            if !KEY_ID_BYTES.contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(wrong("a key's id is 16 to 128 letters and digits"));
            }
            if principal.len() > PRINCIPAL_BYTES_MAX {
                return Err(wrong("the principal is longer than 256 bytes"));
            }
            let place = path.parent().unwrap_or(Path::new("")).join(secret);
            files.push((place.clone(), modified(&place)));
            let key =
                AccessKey { principal: principal.into(), secret: Arc::new(secret::secret(&place).map_err(KeyError::Secret)?) };
            if keys.insert(id.to_owned(), key).is_some() {
                return Err(wrong("the key's id stands twice"));
            }
        }
        if keys.is_empty() {
            return Err(KeyError::Empty { path: path.to_owned() });
        }
        Ok(Self { keys, files, looked: Instant::now() })
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ID: &str = "AKIAGATEWAY000000001";

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_found_with_its_principal_and_its_secret_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("keys");
        write(&dir.path().join("shop.secret"), "a secret of the shop\n", 0o640);
        write(&list, &format!("# the shop\n{ID} shop shop.secret\n"), 0o644);
        let keys = AccessKeys::open(&list).unwrap();
        let key = keys.find(ID).unwrap();
        assert_eq!((&*key.principal, key.secret.as_str()), ("shop", "a secret of the shop"));
        assert!(keys.find("AKIAGATEWAY000000002").is_none());
        assert!(!format!("{keys:?}").contains("a secret"));
    }

    #[test]
    fn what_others_can_get_at_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let (list, secret) = (dir.path().join("keys"), dir.path().join("secret"));
        write(&list, &format!("{ID} shop secret\n"), 0o644);
        for mode in [0o644, 0o660, 0o604] {
            write(&secret, "a secret of the shop", mode);
            assert!(AccessKeys::open(&list).unwrap_err().to_string().contains("chmod 600"), "{mode:o}");
        }
        write(&secret, "a secret of the shop", 0o600);
        write(&list, &format!("{ID} shop secret\n"), 0o664);
        assert!(matches!(AccessKeys::open(&list), Err(KeyError::Secret(SecretError::Open { .. }))));
        for (text, part) in [
            ("", "holds no key"),
            ("one two\n", "three words"),
            ("short shop secret\n", "16 to 128"),
            (&format!("{ID} a secret\n{ID} b secret\n"), "twice"),
        ] {
            write(&list, text, 0o600);
            let error = AccessKeys::open(&list).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        write(&list, &format!("{ID} shop secret\n"), 0o600);
        write(&secret, "short", 0o600);
        assert!(matches!(AccessKeys::open(&list), Err(KeyError::Secret(SecretError::Short { .. }))));
    }
}
