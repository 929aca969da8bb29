//! Agents that have joined, and which of them may not connect any more.

use std::collections::BTreeSet;

use edgetrail_proto::identity::{AccountId, AgentId, Region};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;

use super::tokens::{read_scopes, write_scopes};
use super::{Control, ControlError};

/// An agent as it joined last. Times are Unix nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    pub id: AgentId,
    pub host: String,
    pub version: String,
    pub scopes: Vec<(AccountId, Region)>,
    pub gateway: bool,
    /// Of the newest certificate issued to it, hex.
    pub certificate_serial: String,
    pub certificate_expires_ns: u64,
    pub joined_ns: u64,
    pub revoked_ns: Option<u64>,
    pub last_seen_ns: Option<u64>,
}

const COLUMNS: &str = "id, host, version, scopes, gateway, certificate_serial, certificate_expires, joined, revoked, last_seen";

impl Control {
    /// Puts down an agent that joined or joined again; a join with a valid token lifts a revocation.
    pub fn upsert_agent(&self, agent: &Agent) -> Result<(), ControlError> {
        self.lock().execute(
            "INSERT INTO agents (id, host, version, scopes, gateway, certificate_serial, certificate_expires, joined, revoked, last_seen)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET host = excluded.host, version = excluded.version, scopes = excluded.scopes,
               gateway = excluded.gateway, certificate_serial = excluded.certificate_serial,
               certificate_expires = excluded.certificate_expires, joined = excluded.joined, revoked = excluded.revoked",
            params![
                agent.id.as_bytes(),
                agent.host,
                agent.version,
                write_scopes(&agent.scopes),
                agent.gateway,
                agent.certificate_serial,
                agent.certificate_expires_ns.cast_signed(),
                agent.joined_ns.cast_signed(),
                agent.revoked_ns.map(u64::cast_signed),
                agent.last_seen_ns.map(u64::cast_signed),
            ],
        )?;
        self.publish()
    }

    /// Puts down an agent that a table names and that never joins. One that is known stays as it is.
    pub fn list_agent(&self, agent: &Agent) -> Result<(), ControlError> {
        if self.agent(agent.id)?.is_some() {
            return Ok(());
        }
        self.upsert_agent(agent)
    }

    /// Notes the certificate that renewed the agent's former one.
    pub fn renewed(&self, agent: AgentId, serial: &str, expires_ns: u64) -> Result<(), ControlError> {
        let changed = self.lock().execute(
            "UPDATE agents SET certificate_serial = ?2, certificate_expires = ?3 WHERE id = ?1",
            params![agent.as_bytes(), serial, expires_ns.cast_signed()],
        )?;
        if changed == 1 { Ok(()) } else { Err(ControlError::NoAgent { agent }) }
    }

    pub fn agent(&self, agent: AgentId) -> Result<Option<Agent>, ControlError> {
        let connection = self.lock();
        let mut select = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM agents WHERE id = ?1"))?;
        select.query_row([agent.as_bytes()], |row| Ok(read_agent(row))).optional()?.transpose()
    }

    /// By host, then by time of joining.
    pub fn agents(&self) -> Result<Vec<Agent>, ControlError> {
        let connection = self.lock();
        let mut select = connection.prepare(&format!("SELECT {COLUMNS} FROM agents ORDER BY host, joined"))?;
        let mut rows = select.query([])?;
        let mut agents = Vec::new();
        while let Some(row) = rows.next()? {
            agents.push(read_agent(row)?);
        }
        Ok(agents)
    }

    /// The agent may not connect any more until it joins again. Revoking it twice is nothing.
    pub fn revoke_agent(&self, agent: AgentId, now_ns: u64) -> Result<(), ControlError> {
        {
            let mut connection = self.lock();
            let transaction = connection.transaction()?;
            let changed = transaction.execute(
                "UPDATE agents SET revoked = coalesce(revoked, ?2) WHERE id = ?1",
                params![agent.as_bytes(), now_ns.cast_signed()],
            )?;
            if changed == 0 {
                return Err(ControlError::NoAgent { agent });
            }
            self.note(&transaction, "RevokeAgent", &json!({ "agent": agent.to_string() }), now_ns, None)?;
            transaction.commit()?;
        }
        self.publish()
    }

    /// Notes that an agent is connected. One that never joined here is nothing to note.
    pub fn seen(&self, agent: AgentId, version: &str, now_ns: u64) -> Result<(), ControlError> {
        self.lock().execute(
            "UPDATE agents SET last_seen = ?2, version = ?3 WHERE id = ?1",
            params![agent.as_bytes(), now_ns.cast_signed(), version],
        )?;
        Ok(())
    }
}

pub(super) fn revoked(connection: &Connection) -> Result<BTreeSet<AgentId>, ControlError> {
    let mut select = connection.prepare_cached("SELECT id FROM agents WHERE revoked IS NOT NULL")?;
    let rows = select.query_map([], |row| row.get(0).map(AgentId::from_bytes))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read_agent(row: &Row<'_>) -> Result<Agent, ControlError> {
    let time =
        |column: usize| -> Result<Option<u64>, ControlError> { Ok(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned)) };
    Ok(Agent {
        id: AgentId::from_bytes(row.get(0)?),
        host: row.get(1)?,
        version: row.get(2)?,
        scopes: read_scopes(&row.get::<_, String>(3)?)?,
        gateway: row.get(4)?,
        certificate_serial: row.get(5)?,
        certificate_expires_ns: time(6)?.unwrap_or(0),
        joined_ns: time(7)?.unwrap_or(0),
        revoked_ns: time(8)?,
        last_seen_ns: time(9)?,
    })
}
