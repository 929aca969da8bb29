//! Bearer tokens of a file: one a line, so that a new one can be handed out before the old one goes.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

/// Why a file of tokens can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("token_file {} can't be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("token_file {} holds no token of at least {TOKEN_BYTES_MIN} bytes: write one a line, such as `openssl rand -hex 32` makes", path.display())]
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
    hashes: Vec<[u8; 32]>,
    modified: Option<SystemTime>,
    looked: Instant,
}

/// Shorter lines are no tokens: they could be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// A changed file is taken up after at most this long.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl Token {
    pub(crate) fn open(path: &Path) -> Result<Self, TokenError> {
        let hashes = read(path)?;
        let known = Known { hashes, modified: modified(path), looked: Instant::now() };
        Ok(Self { path: path.to_owned(), known: Mutex::new(known) })
    }

    /// Whether the request's head carries one of the tokens.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(shown) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return false };
        let Some((scheme, token)) = shown.split_once(' ') else { return false };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return false;
        }
        let hash: [u8; 32] = Sha256::digest(token.trim()).into();
        self.hashes().contains(&hash)
    }

    fn hashes(&self) -> Vec<[u8; 32]> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.elapsed() >= LOOK_INTERVAL {
            known.looked = Instant::now();
            let now = modified(&self.path);
            if now != known.modified {
                match read(&self.path) {
                    Ok(hashes) => (known.hashes, known.modified) = (hashes, now),
                    // The tokens that were right stay right until the file is.
                    Err(error) => tracing::warn!(%error, "changed tokens can't be taken up"),
                }
            }
        }
        known.hashes.clone()
    }
}

fn read(path: &Path) -> Result<Vec<[u8; 32]>, TokenError> {
    let text = std::fs::read_to_string(path).map_err(|cause| TokenError::Unreadable { path: path.to_owned(), cause })?;
    let tokens = text.lines().map(str::trim).filter(|line| line.len() >= TOKEN_BYTES_MIN && !line.starts_with('#'));
    let hashes: Vec<[u8; 32]> = tokens.map(|token| Sha256::digest(token).into()).collect();
    if hashes.is_empty() { Err(TokenError::Empty { path: path.to_owned() }) } else { Ok(hashes) }
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
        std::fs::write(&path, "# two\n0123456789abcdef\n fedcba9876543210 \nshort\n").unwrap();
        let token = Token::open(&path).unwrap();
        assert!(token.admits(&with("Bearer 0123456789abcdef")) && token.admits(&with("bearer fedcba9876543210")));
        for wrong in ["Bearer short", "Bearer 0123456789abcde", "Basic 0123456789abcdef", "0123456789abcdef", "Bearer "] {
            assert!(!token.admits(&with(wrong)), "{wrong}");
        }
        assert!(!token.admits(&HeaderMap::new()));
        std::fs::write(&path, "short\n").unwrap();
        assert!(matches!(Token::open(&path), Err(TokenError::Empty { .. })));
    }
}
