//! Relays that have joined: under what names, with what receipt keys, and which of them are revoked or forgotten.
//!
//! Revoked: it may not connect. Forgotten: nobody waits any more for what only it could bring. Neither takes back a
//! receipt that it gave: its receipt keys stay, for ever.

use std::collections::BTreeSet;

use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_proto::chain::PublicKey;
use edgetrail_proto::identity::RelayName;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;

use super::{Control, ControlError};

/// A relay as it joined or renewed last. Times are Unix nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    pub name: RelayName,
    /// DNS names and addresses under which agents reach it.
    pub names: Vec<String>,
    pub version: String,
    /// Of the newest certificate issued to it, hex.
    pub certificate_serial: String,
    pub certificate_expires_ns: u64,
    pub joined_ns: u64,
    pub revoked_ns: Option<u64>,
    pub forgotten_ns: Option<u64>,
    pub last_seen_ns: Option<u64>,
    /// Since when it follows home; `None` while it does not.
    pub connected_ns: Option<u64>,
    /// As it has said last.
    pub standing: Option<Standing>,
    /// What it signs receipts with, and signed with before: statements that are still to be signed by the CA.
    pub receipt_keys: Vec<ReceiptKey>,
}

/// How much of what a relay holds home has no receipt for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Agents with something to bring.
    pub owing: u64,
    /// Streams that home lets wait.
    pub waiting: u64,
    /// The newest of home's receipts that it has.
    pub last_receipt_ns: Option<u64>,
}

const COLUMNS: &str =
    "relays.name, names, version, certificate_serial, certificate_expires, joined, revoked, forgotten, last_seen,
  connected, owing, waiting, last_receipt";

/// Of a relay that has said nothing yet there is no standing.
const FROM: &str = "FROM relays LEFT JOIN relay_standings ON relay_standings.name = relays.name";

impl Control {
    /// Puts down a relay that joined, joined again or renewed; its receipt keys are added to those it had. A join with a
    /// valid token lifts a revocation, and makes it one to be waited for again.
    pub fn upsert_relay(&self, relay: &Relay) -> Result<(), ControlError> {
        let names = serde_json::Value::from_iter(relay.names.iter().map(String::as_str)).to_string();
        {
            let mut connection = self.lock();
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT INTO relays (name, names, version, certificate_serial, certificate_expires, joined, revoked, forgotten)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (name) DO UPDATE SET names = excluded.names, version = excluded.version,
                   certificate_serial = excluded.certificate_serial, certificate_expires = excluded.certificate_expires,
                   joined = excluded.joined, revoked = excluded.revoked, forgotten = excluded.forgotten",
                params![
                    relay.name.as_str(),
                    names,
                    relay.version,
                    relay.certificate_serial,
                    relay.certificate_expires_ns.cast_signed(),
                    relay.joined_ns.cast_signed(),
                    relay.revoked_ns.map(u64::cast_signed),
                    relay.forgotten_ns.map(u64::cast_signed),
                ],
            )?;
            for key in &relay.receipt_keys {
                transaction.execute(
                    "INSERT OR IGNORE INTO relay_keys (public_key, relay, not_before, not_after) VALUES (?1, ?2, ?3, ?4)",
                    params![key.public_key.0, relay.name.as_str(), key.not_before.cast_signed(), key.not_after.cast_signed()],
                )?;
            }
            transaction.commit()?;
        }
        self.publish()
    }

    pub fn relay(&self, name: &RelayName) -> Result<Option<Relay>, ControlError> {
        let connection = self.lock();
        let mut select = connection.prepare_cached(&format!("SELECT {COLUMNS} {FROM} WHERE relays.name = ?1"))?;
        let found = select.query_row([name.as_str()], |row| Ok(read_relay(row))).optional()?.transpose()?;
        found.map(|relay| with_keys(&connection, relay)).transpose()
    }

    /// By name.
    pub fn relays(&self) -> Result<Vec<Relay>, ControlError> {
        all(&self.lock())
    }

    /// The relay may not connect any more until it joins again. Revoking it twice is nothing.
    pub fn revoke_relay(&self, name: &RelayName, now_ns: u64) -> Result<(), ControlError> {
        self.mark_relay("UPDATE relays SET revoked = coalesce(revoked, ?2) WHERE name = ?1", "RevokeRelay", name, now_ns)
    }

    /// Nobody waits any more for what only this relay could bring. A running collector acts upon it within
    /// [`super::POLL_INTERVAL`].
    pub fn forget_relay(&self, name: &RelayName, now_ns: u64) -> Result<(), ControlError> {
        self.mark_relay("UPDATE relays SET forgotten = coalesce(forgotten, ?2) WHERE name = ?1", "ForgetRelay", name, now_ns)
    }

    /// Notes that a relay is connected.
    pub fn relay_seen(&self, name: &RelayName, version: &str, now_ns: u64) -> Result<(), ControlError> {
        self.lock().execute(
            "UPDATE relays SET last_seen = ?2, version = CASE ?3 WHEN '' THEN version ELSE ?3 END WHERE name = ?1",
            params![name.as_str(), now_ns.cast_signed(), version],
        )?;
        Ok(())
    }

    /// Notes how a relay says that it stands.
    pub fn relay_stands(&self, name: &RelayName, standing: Standing) -> Result<(), ControlError> {
        let Standing { owing, waiting, last_receipt_ns } = standing;
        self.lock().execute(
            "INSERT INTO relay_standings (name, owing, waiting, last_receipt) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET owing = ?2, waiting = ?3, last_receipt = ?4",
            params![name.as_str(), owing.cast_signed(), waiting.cast_signed(), last_receipt_ns.map(u64::cast_signed)],
        )?;
        Ok(())
    }

    /// Notes since when a relay follows home, or that it does no more.
    pub fn relay_connected(&self, name: &RelayName, since_ns: Option<u64>) -> Result<(), ControlError> {
        self.lock().execute(
            "INSERT INTO relay_standings (name, connected) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET connected = ?2",
            params![name.as_str(), since_ns.map(u64::cast_signed)],
        )?;
        Ok(())
    }

    /// At start: nobody is connected yet.
    pub fn no_relay_is_connected(&self) -> Result<(), ControlError> {
        self.lock().execute("UPDATE relay_standings SET connected = NULL", [])?;
        Ok(())
    }

    fn mark_relay(&self, sql: &str, act: &str, name: &RelayName, now_ns: u64) -> Result<(), ControlError> {
        {
            let mut connection = self.lock();
            let transaction = connection.transaction()?;
            if transaction.execute(sql, params![name.as_str(), now_ns.cast_signed()])? == 0 {
                return Err(ControlError::NoRelay { name: name.clone() });
            }
            self.note(&transaction, act, &json!({ "relay": name.as_str() }), now_ns, None)?;
            transaction.commit()?;
        }
        self.publish()
    }
}

pub(super) fn all(connection: &Connection) -> Result<Vec<Relay>, ControlError> {
    let mut select = connection.prepare_cached(&format!("SELECT {COLUMNS} {FROM} ORDER BY relays.name"))?;
    let mut rows = select.query([])?;
    let mut relays = Vec::new();
    while let Some(row) = rows.next()? {
        relays.push(with_keys(connection, read_relay(row)?)?);
    }
    Ok(relays)
}

/// What is acted upon: all but when each was last seen, and how it stands.
pub(super) fn watched(connection: &Connection) -> Result<Vec<Relay>, ControlError> {
    let mut relays = all(connection)?;
    for relay in &mut relays {
        (relay.last_seen_ns, relay.connected_ns, relay.standing) = (None, None, None);
    }
    Ok(relays)
}

pub(super) fn revoked(connection: &Connection) -> Result<BTreeSet<RelayName>, ControlError> {
    let mut select = connection.prepare_cached("SELECT name FROM relays WHERE revoked IS NOT NULL")?;
    let names: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    names.iter().map(|name| name.parse().map_err(|_| DAMAGED)).collect()
}

const DAMAGED: ControlError = ControlError::Damaged { what: "list of relays" };

fn read_relay(row: &Row<'_>) -> Result<Relay, ControlError> {
    let time =
        |column: usize| -> Result<Option<u64>, ControlError> { Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned)) };
    Ok(Relay {
        name: row.get::<_, String>(0)?.parse().map_err(|_| DAMAGED)?,
        names: serde_json::from_str(&row.get::<_, String>(1)?).map_err(|_| DAMAGED)?,
        version: row.get(2)?,
        certificate_serial: row.get(3)?,
        certificate_expires_ns: time(4)?.unwrap_or(0),
        joined_ns: time(5)?.unwrap_or(0),
        revoked_ns: time(6)?,
        forgotten_ns: time(7)?,
        last_seen_ns: time(8)?,
        connected_ns: time(9)?,
        standing: match (time(10)?, time(11)?) {
            (Some(owing), Some(waiting)) => Some(Standing { owing, waiting, last_receipt_ns: time(12)? }),
            _ => None,
        },
        receipt_keys: Vec::new(),
    })
}

fn with_keys(connection: &Connection, mut relay: Relay) -> Result<Relay, ControlError> {
    let mut select = connection.prepare_cached(
        "SELECT public_key, not_before, not_after FROM relay_keys WHERE relay = ?1 ORDER BY not_before, public_key",
    )?;
    let rows = select.query_map([relay.name.as_str()], |row| {
        Ok(ReceiptKey {
            public_key: PublicKey(row.get(0)?),
            not_before: row.get::<_, i64>(1)?.cast_unsigned(),
            not_after: row.get::<_, i64>(2)?.cast_unsigned(),
            ca_signature: Vec::new(),
        })
    })?;
    relay.receipt_keys = rows.collect::<Result<_, _>>()?;
    Ok(relay)
}
