//! Tokens: with one, an agent joins without anybody confirming it by hand.
//!
//! A token is `et1-ID-SECRET`. The secret is 160 random bits and is stored only as its Argon2id hash.

use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use edgetrail_proto::identity::{AccountId, Region};
use rusqlite::{OptionalExtension, params};

use super::{Control, ControlError, random};

/// The version of a token's form.
const PREFIX: &str = "et1";

/// What a new token is to allow.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// One for an ordinary agent; what a gateway may bring records of.
    pub scopes: Vec<(AccountId, Region)>,
    pub gateway: bool,
    pub ttl: Duration,
    pub uses: u32,
}

/// A token as it is shown once.
#[derive(Clone)]
pub struct Token {
    pub text: String,
    pub expires_ns: u64,
}

/// What a redeemed token binds an agent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub scopes: Vec<(AccountId, Region)>,
    pub gateway: bool,
}

impl Control {
    pub fn create_token(&self, new: &NewToken, now_ns: u64) -> Result<Token, ControlError> {
        let id = hex::encode(random::<8>()?);
        let secret = BASE32_NOPAD.encode(&random::<20>()?).to_ascii_lowercase();
        let hash = self.hashing.hash(secret.as_bytes(), &random::<16>()?)?;
        let ttl = u64::try_from(new.ttl.as_nanos()).unwrap_or(u64::MAX);
        // SQLite's integers end at i64::MAX: a token that lives until then lives for ever.
        let expires_ns = now_ns.saturating_add(ttl).min(i64::MAX.cast_unsigned());
        let scopes = write_scopes(&new.scopes);
        self.lock().execute(
            "INSERT INTO tokens (id, hash, uses_left, expires, scopes, gateway, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![id, hash, new.uses, expires_ns.cast_signed(), scopes, new.gateway, now_ns.cast_signed()],
        )?;
        Ok(Token { text: format!("{PREFIX}-{id}-{secret}"), expires_ns })
    }

    /// Uses a token once. Whatever is wrong with it, the error is the same.
    pub fn redeem_token(&self, token: &str, now_ns: u64) -> Result<Grant, ControlError> {
        let mut parts = token.trim().splitn(3, '-');
        let (Some(PREFIX), Some(id), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ControlError::Token);
        };
        let found: Option<(String, String, bool)> = {
            let connection = self.lock();
            let mut select = connection.prepare_cached("SELECT hash, scopes, gateway FROM tokens WHERE id = ?1")?;
            select.query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?
        };
        let (hash, scopes, gateway) = found.ok_or(ControlError::Token)?;
        // The slow hash is computed without the lock; the use is taken by compare-and-set below.
        if !self.hashing.is_of(&hash, secret.as_bytes()) {
            return Err(ControlError::Token);
        }
        let taken = self.lock().execute(
            "UPDATE tokens SET uses_left = uses_left - 1 WHERE id = ?1 AND uses_left > 0 AND expires > ?2",
            params![id, now_ns.cast_signed()],
        )?;
        if taken == 1 { Ok(Grant { scopes: read_scopes(&scopes)?, gateway }) } else { Err(ControlError::Token) }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires_ns", &self.expires_ns).finish_non_exhaustive()
    }
}

pub(super) fn write_scopes(scopes: &[(AccountId, Region)]) -> String {
    let scopes: Vec<[&str; 2]> = scopes.iter().map(|(account, region)| [account.as_str(), region.as_str()]).collect();
    serde_json::Value::from_iter(scopes.into_iter().map(|scope| scope.to_vec())).to_string()
}

pub(super) fn read_scopes(text: &str) -> Result<Vec<(AccountId, Region)>, ControlError> {
    serde_json::from_str(text).map_err(|_| ControlError::Damaged { what: "list of accounts and regions" })
}
