//! Bearer tokens of a file: one a line, a name before it where callers are to be told apart. Several, so that a new one
//! can be handed out before the old one goes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

/// Why a file of tokens can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("token_file {} can't be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("token_file {} holds no token of at least {TOKEN_BYTES_MIN} bytes: write `NAME TOKEN` on a line, such as `openssl rand -hex 32` makes", path.display())]
    Empty { path: PathBuf },
}

/// The tokens that admit, by their hashes: comparing these tells nothing about the tokens.
#[derive(Debug)]
pub(crate) struct Token {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    admitted: Vec<Admitted>,
    modified: Option<SystemTime>,
    looked: Instant,
}

/// Whom a token admits.
#[derive(Clone, Debug)]
struct Admitted {
    hash: [u8; 32],
    name: Arc<str>,
}

/// Who shows a token that has no name of its own.
pub(crate) const UNNAMED: &str = "token";

/// Shorter lines are no tokens: they could be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// A changed file is taken up after at most this long.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl Token {
    pub(crate) fn open(path: &Path) -> Result<Self, TokenError> {
        let admitted = read(path)?;
        let known = Known { admitted, modified: modified(path), looked: Instant::now() };
        Ok(Self { path: path.to_owned(), known: Mutex::new(known) })
    }

    /// The name of the token that the request's head carries; `None` where it carries no right one.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = shown.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(token.trim()).into();
        self.admitted(|admitted| admitted.iter().find(|it| it.hash == hash).map(|it| Arc::clone(&it.name)))
    }

    fn admitted<T>(&self, ask: impl Fn(&[Admitted]) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.elapsed() >= LOOK_INTERVAL {
            known.looked = Instant::now();
            let now = modified(&self.path);
            if now != known.modified {
                match read(&self.path) {
                    Ok(admitted) => (known.admitted, known.modified) = (admitted, now),
                    // The tokens that were right stay right until the file is.
                    Err(error) => tracing::warn!(%error, "changed tokens can't be taken up"),
                }
            }
        }
        ask(&known.admitted)
    }
}

fn read(path: &Path) -> Result<Vec<Admitted>, TokenError> {
    let text = std::fs::read_to_string(path).map_err(|cause| TokenError::Unreadable { path: path.to_owned(), cause })?;
    let admitted = |line: &str| {
        let (name, token) = line.split_once(char::is_whitespace).unwrap_or((UNNAMED, line));
        let token = token.trim();
        (token.len() >= TOKEN_BYTES_MIN).then(|| Admitted { hash: Sha256::digest(token).into(), name: name.into() })
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let admitted: Vec<_> = lines.filter_map(admitted).collect();
    if admitted.is_empty() { Err(TokenError::Empty { path: path.to_owned() }) } else { Ok(admitted) }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn each_line_admits_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(&path, "# two\n0123456789abcdef\n shop  fedcba9876543210 \nshort\nname short\n").unwrap();
        let token = Token::open(&path).unwrap();
        assert_eq!(token.admits(&with("Bearer 0123456789abcdef")).as_deref(), Some(UNNAMED));
        assert_eq!(token.admits(&with("bearer fedcba9876543210")).as_deref(), Some("shop"));
        for wrong in ["Bearer short", "Bearer 0123456789abcde", "Basic 0123456789abcdef", "0123456789abcdef", "Bearer "] {
            assert_eq!(token.admits(&with(wrong)), None, "{wrong}");
        }
        assert_eq!(token.admits(&HeaderMap::new()), None);
        std::fs::write(&path, "short\n").unwrap();
        assert!(matches!(Token::open(&path), Err(TokenError::Empty { .. })));
    }
}
