//! Tokens: with one, an agent joins without anybody confirming it by hand.
//!
//! A token is `et1-ID-SECRET`. The secret is 160 random bits and is stored only as its Argon2id hash.

use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use edgetrail_proto::identity::{AccountId, Region, RelayName};
use rusqlite::{OptionalExtension, params};
use serde_json::json;

use super::{Control, ControlError, acts, random};

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

/// What a token for a relay is to allow.
#[derive(Clone, Debug)]
pub struct NewRelayToken {
    pub name: RelayName,
    pub ttl: Duration,
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
        self.insert_token(new, None, now_ns)
    }

    /// A token with which one relay of this name joins, once; no agent joins with it.
    pub fn create_relay_token(&self, new: &NewRelayToken, now_ns: u64) -> Result<Token, ControlError> {
        let token = NewToken { scopes: Vec::new(), gateway: false, ttl: new.ttl, uses: 1 };
        self.insert_token(&token, Some(&new.name), now_ns)
    }

    fn insert_token(&self, new: &NewToken, relay: Option<&RelayName>, now_ns: u64) -> Result<Token, ControlError> {
        let id = hex::encode(random::<8>()?);
        let secret = BASE32_NOPAD.encode(&random::<20>()?).to_ascii_lowercase();
        let hash = self.hashing.hash(secret.as_bytes(), &random::<16>()?)?;
        let ttl = u64::try_from(new.ttl.as_nanos()).unwrap_or(u64::MAX);
        // SQLite's integers end at i64::MAX: a token that lives until then lives for ever.
        let expires_ns = now_ns.saturating_add(ttl).min(i64::MAX.cast_unsigned());
        let scopes = write_scopes(&new.scopes);
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        if let Some(relay) = relay {
            transaction.execute("INSERT INTO relay_tokens (id, relay) VALUES (?1, ?2)", params![id, relay.as_str()])?;
        }
        transaction.execute(
            "INSERT INTO tokens (id, hash, uses_left, expires, scopes, gateway, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![id, hash, new.uses, expires_ns.cast_signed(), scopes, new.gateway, now_ns.cast_signed()],
        )?;
        let parameters = json!({
            "tokenId": id, "scopes": new.scopes.iter().map(|(account, region)| format!("{account}/{region}")).collect::<Vec<_>>(),
            "gateway": new.gateway, "relay": relay.map(RelayName::as_str), "uses": new.uses, "expires": acts::shown(expires_ns),
        });
        self.note(&transaction, "CreateToken", &parameters, now_ns, None)?;
        transaction.commit()?;
        Ok(Token { text: format!("{PREFIX}-{id}-{secret}"), expires_ns })
    }

    /// Uses an agent's token once. Whatever is wrong with it, the error is the same.
    pub fn redeem_token(&self, token: &str, now_ns: u64) -> Result<Grant, ControlError> {
        let Redeemed { scopes, gateway, .. } = self.redeem(token, now_ns, Option::is_none)?;
        Ok(Grant { scopes: read_scopes(&scopes)?, gateway })
    }

    /// Uses a relay's token and gives the name that it is for. An agent's token is not valid here, and stays unused.
    pub fn redeem_relay_token(&self, token: &str, now_ns: u64) -> Result<RelayName, ControlError> {
        let relay = self.redeem(token, now_ns, Option::is_some)?.relay.ok_or(ControlError::Token)?;
        relay.parse().map_err(|_| ControlError::Damaged { what: "token's relay" })
    }

    /// `fits`: whether a token for this relay, or for agents, is one that is asked for.
    fn redeem(&self, token: &str, now_ns: u64, fits: fn(&Option<String>) -> bool) -> Result<Redeemed, ControlError> {
        let mut parts = token.trim().splitn(3, '-');
        let (Some(PREFIX), Some(id), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ControlError::Token);
        };
        let found: Option<(String, Redeemed)> = {
            let connection = self.lock();
            let mut select = connection.prepare_cached(
                "SELECT hash, scopes, gateway, relay FROM tokens LEFT JOIN relay_tokens USING (id) WHERE id = ?1",
            )?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok((row.get(0)?, Redeemed { scopes: row.get(1)?, gateway: row.get(2)?, relay: row.get(3)? }))
            };
            select.query_row([id], read).optional()?
        };
        let (hash, redeemed) = found.ok_or(ControlError::Token)?;
        // The slow hash is computed without the lock; the use is taken by compare-and-set below.
        if !self.hashing.is_of(&hash, secret.as_bytes()) || !fits(&redeemed.relay) {
            return Err(ControlError::Token);
        }
        let taken = self.lock().execute(
            "UPDATE tokens SET uses_left = uses_left - 1 WHERE id = ?1 AND uses_left > 0 AND expires > ?2",
            params![id, now_ns.cast_signed()],
        )?;
        if taken == 1 { Ok(redeemed) } else { Err(ControlError::Token) }
    }
}

/// A token's row.
struct Redeemed {
    scopes: String,
    gateway: bool,
    relay: Option<String>,
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
