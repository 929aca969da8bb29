//! The keys that sign tokens: a JSON web key set from a file, taken up anew when it changes. Source: RFC 7517, RFC 7518.
//!
//! Only signatures by private keys count: no shared secrets, no `none`. A key signs with the algorithms of its kind, so
//! that a token can't choose how it is checked.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;

/// Why a file gives no keys. `Display` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("jwt_keys {} can't be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("jwt_keys {} is no JSON web key set: {cause}", path.display())]
    NotASet { path: PathBuf, cause: serde_json::Error },
    #[error("jwt_keys {} holds no RSA, P-256, P-384 or Ed25519 key for signatures: save the issuer's jwks_uri there", path.display())]
    Empty { path: PathBuf },
}

/// Keys that follow their file.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    keys: Keys,
    modified: Option<SystemTime>,
    looked: Instant,
}

/// The keys of one set.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Shape>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Shape {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// A replaced file is taken up after at most this long.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Keys of one set: an issuer has a few.
const KEYS_MAX: usize = 256;

/// Algorithms of RSA keys.
const RSA: &[(&str, &RsaParameters)] = &[
    ("RS256", &signature::RSA_PKCS1_2048_8192_SHA256),
    ("RS384", &signature::RSA_PKCS1_2048_8192_SHA384),
    ("RS512", &signature::RSA_PKCS1_2048_8192_SHA512),
    ("PS256", &signature::RSA_PSS_2048_8192_SHA256),
    ("PS384", &signature::RSA_PSS_2048_8192_SHA384),
    ("PS512", &signature::RSA_PSS_2048_8192_SHA512),
];

impl KeyFile {
    /// A file that can't be read gives no keys: tokens are then refused until it can.
    pub fn open(path: &Path) -> Self {
        let keys = read(path).unwrap_or_else(|error| {
            tracing::error!(%error, "no token can be verified");
            Keys::default()
        });
        Self { path: path.to_owned(), keys, modified: modified(path), looked: Instant::now() }
    }

    /// Looks whether the file was replaced; true where its keys are others now.
    pub fn renew(&mut self) -> bool {
        if self.looked.elapsed() < LOOK_INTERVAL {
            return false;
        }
        self.looked = Instant::now();
        let now = modified(&self.path);
        if now == self.modified {
            return false;
        }
        match read(&self.path) {
            Ok(keys) => (self.keys, self.modified) = (keys, now),
            // Half replaced, perhaps: the keys that were right stay.
            Err(error) => tracing::warn!(%error, "changed jwt_keys can't be taken up"),
        }
        true
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }
}

pub fn read(path: &Path) -> Result<Keys, KeysError> {
    let text = std::fs::read(path).map_err(|cause| KeysError::Unreadable { path: path.to_owned(), cause })?;
    let set: Set = serde_json::from_slice(&text).map_err(|cause| KeysError::NotASet { path: path.to_owned(), cause })?;
    let keys: Vec<Key> = set.keys.into_iter().filter_map(Key::of).take(KEYS_MAX).collect();
    if keys.is_empty() { Err(KeysError::Empty { path: path.to_owned() }) } else { Ok(Keys(keys)) }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

impl Keys {
    /// Whether a key that may sign with the algorithm signed the message: the one of that id, where the token names one.
    pub fn check(&self, algorithm: &str, id: Option<&str>, message: &[u8], signature: &[u8]) -> Result<(), &'static str> {
        let named = |key: &&Key| match (id, &key.id) {
            (Some(id), Some(known)) => id == known,
            _ => true,
        };
        let mut is_known = false;
        for key in self.0.iter().filter(named) {
            match key.check(algorithm, message, signature) {
                Some(true) => return Ok(()),
                Some(false) => is_known = true,
                None => {}
            }
        }
        Err(if is_known { "its signature is wrong" } else { "none of jwt_keys may sign it" })
    }
}

impl Key {
    fn of(shape: Shape) -> Option<Self> {
        if shape.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?.trim_end_matches('=')).ok();
        let point = |bytes_each: usize| {
            let (x, y) = (bytes(&shape.x)?, bytes(&shape.y)?);
            // Source: SEC 1 §2.3.3, an uncompressed point.
            (x.len() == bytes_each && y.len() == bytes_each).then(|| [&[4][..], &x, &y].concat())
        };
        let kind = match (shape.kty.as_str(), shape.crv.as_deref()) {
            ("RSA", _) => Kind::Rsa { n: bytes(&shape.n)?, e: bytes(&shape.e)? },
            ("EC", Some("P-256")) => Kind::P256(point(32)?),
            ("EC", Some("P-384")) => Kind::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Kind::Ed25519(bytes(&shape.x)?),
            _ => return None,
        };
        Some(Self { id: shape.kid, algorithm: shape.alg, kind })
    }

    /// `None` where the key does not sign with the algorithm.
    fn check(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> Option<bool> {
        if self.algorithm.as_deref().is_some_and(|own| own != algorithm) {
            return None;
        }
        let plain = |kind: &'static dyn VerificationAlgorithm, key: &[u8]| {
            Some(UnparsedPublicKey::new(kind, key).verify(message, signature).is_ok())
        };
        match (&self.kind, algorithm) {
            (Kind::Rsa { n, e }, _) => {
                let (_, parameters) = RSA.iter().find(|(name, _)| *name == algorithm)?;
                Some(RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok())
            }
            (Kind::P256(key), "ES256") => plain(&signature::ECDSA_P256_SHA256_FIXED, key),
            (Kind::P384(key), "ES384") => plain(&signature::ECDSA_P384_SHA384_FIXED, key),
            (Kind::Ed25519(key), "EdDSA" | "Ed25519") => plain(&signature::ED25519, key),
            _ => None,
        }
    }
}
