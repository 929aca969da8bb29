//! Bearer tokens: what a JSON web token says, and whether it may be believed.
//!
//! With keys, only what one of them signed names anybody, within its time and for the audience that is asked for; without
//! keys a token is a claim, and its record says so. Source: RFC 7519, RFC 7515.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::jwks::{KeyFile, Keys};

/// What the Authorization header says.
#[derive(Clone, Debug, PartialEq)]
pub struct Bearer {
    pub claims: Map<String, Value>,
    pub proof: Proof,
}

/// Whether a token's claims may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// One of the keys signed it, and it is valid now.
    Verified,
    /// No keys are configured.
    Unchecked,
    /// It may not, and names nobody.
    Refused(&'static str),
}

/// What else a token must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    pub issuer: Option<String>,
    pub audience: Option<String>,
}

/// Checks tokens; remembers the signatures of the last ones, for a client sends the same token many times.
#[derive(Debug)]
pub struct Verifier {
    keys: KeyFile,
    demands: Demands,
    seen: HashMap<[u8; 32], Result<(), &'static str>>,
}

/// Longest token that is looked into, bytes. Source: what servers take as a header.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Signatures remembered at once.
const SEEN_MAX: usize = 4096;

/// Clocks of issuers and hosts may differ by this much, seconds.
const LEEWAY_S: u64 = 60;

/// What a header's bearer token says; `None` where there is none, or it is not a JSON web token. `now`: Unix nanoseconds.
pub(super) fn look_into(verifier: Option<&mut Verifier>, header: &str, now: u64) -> Option<Bearer> {
    let token = token(header)?;
    let claims = part(token.split('.').nth(1)?)?;
    let proof = match verifier {
        None => Proof::Unchecked,
        Some(verifier) => match verifier.check(token, &claims, now / 1_000_000_000) {
            Ok(()) => Proof::Verified,
            Err(reason) => Proof::Refused(reason),
        },
    };
    Some(Bearer { claims, proof })
}

/// The user's name of `Authorization: Basic`. Its password is not looked at.
pub fn basic_user(header: &str) -> Option<String> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    text.split_once(':').map(|(user, _)| user.to_owned()).filter(|user| !user.is_empty())
}

fn token(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && token.len() <= TOKEN_BYTES_MAX).then(|| token.trim())
}

/// A part of a token as a JSON object.
fn part(text: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
    match serde_json::from_slice(&bytes).ok()? {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

impl Verifier {
    pub fn open(path: &Path, demands: Demands) -> Self {
        Self { keys: KeyFile::open(path), demands, seen: HashMap::new() }
    }

    /// `now`: Unix seconds.
    fn check(&mut self, token: &str, claims: &Map<String, Value>, now: u64) -> Result<(), &'static str> {
        if self.keys.renew() {
            self.seen.clear();
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        let signed = match self.seen.get(&hash) {
            Some(known) => *known,
            None => {
                let signed = signature(self.keys.keys(), token);
                if self.seen.len() >= SEEN_MAX {
                    self.seen.clear();
                }
                self.seen.insert(hash, signed);
                signed
            }
        };
        signed?;
        self.demands.check(claims, now)
    }
}

impl Demands {
    fn check(&self, claims: &Map<String, Value>, now: u64) -> Result<(), &'static str> {
        let seconds = |claim: &str| claims.get(claim).map(|value| value.as_f64().filter(|seconds| seconds.is_finite()));
        match seconds("exp") {
            Some(Some(end)) if is_before(end, now.saturating_sub(LEEWAY_S)) => return Err("it has expired"),
            Some(None) => return Err("its exp is no time"),
            _ => {}
        }
        match seconds("nbf") {
            Some(Some(start)) if !is_before(start, now.saturating_add(LEEWAY_S)) => return Err("it is not valid yet"),
            Some(None) => return Err("its nbf is no time"),
            _ => {}
        }
        let says = |claim: &str, wanted: &str| match claims.get(claim) {
            Some(Value::String(text)) => text == wanted,
            Some(Value::Array(texts)) => texts.iter().any(|text| text.as_str() == Some(wanted)),
            _ => false,
        };
        if self.issuer.as_deref().is_some_and(|issuer| !says("iss", issuer)) {
            return Err("it is of another issuer");
        }
        if self.audience.as_deref().is_some_and(|audience| !says("aud", audience)) {
            return Err("it is for another audience");
        }
        Ok(())
    }
}

/// Whether a time in seconds lies before a whole second.
#[expect(clippy::cast_precision_loss, reason = "seconds of this millennium are exact")]
const fn is_before(time: f64, second: u64) -> bool {
    time < second as f64
}

/// Whether one of the keys signed the token.
fn signature(keys: &Keys, token: &str) -> Result<(), &'static str> {
    let malformed = "it is no signed token";
    let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let header = part(signed.split('.').next().ok_or(malformed)?).ok_or(malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature.trim_end_matches('=')).map_err(|_| malformed)?;
    // What extends the meaning of a token is not understood here.
    if signed.split('.').count() != 2 || header.contains_key("crit") {
        return Err(malformed);
    }
    let text = |member: &str| header.get(member).and_then(Value::as_str);
    keys.check(text("alg").ok_or(malformed)?, text("kid"), signed.as_bytes(), &signature)
}
