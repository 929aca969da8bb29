//! What operators do by commands, kept until the collector has recorded it.
//!
//! A command notes who did what in the transaction that does it, whether a collector runs or not; the collector records
//! it in its own stream and only then forgets it here. A crash in between records it again, under the same eventID.

use edgetrail_proto::record::format_time;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Control, ControlError};

/// Acts that are read at a time.
const READ_MAX: u32 = 64;

/// What the kernel gives for a process that descends from no login.
const NO_LOGIN: u32 = u32::MAX;

/// Who runs a command, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    pub user: User,
    /// Who logged in, whatever user the command runs as; `None` for what no login stands behind.
    pub login: Option<User>,
    pub host: String,
}

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    /// The uid as text where /etc/passwd names nobody.
    pub name: String,
}

/// One command that changed something, or tried to.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    pub id: i64,
    /// Names it among the collector's own events.
    pub position: String,
    /// Unix nanoseconds.
    pub time_ns: u64,
    pub operator: Operator,
    /// The eventName.
    pub name: String,
    pub parameters: Value,
    /// Why it failed.
    pub error: Option<String>,
}

impl Operator {
    /// Of this process.
    pub fn of_this_process() -> Self {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let login = std::fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
        let login = login.trim().parse().ok().filter(|uid| *uid != NO_LOGIN);
        Self {
            user: User::named_by(&users, rustix::process::geteuid().as_raw()),
            login: login.map(|uid| User::named_by(&users, uid)),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }
}

impl User {
    /// `users`: the text of /etc/passwd.
    fn named_by(users: &str, uid: u32) -> Self {
        let named = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
        });
        Self { uid, name: named.map_or_else(|| uid.to_string(), str::to_owned) }
    }
}

impl Control {
    /// From here on what this handle changes is noted as done by an operator.
    #[must_use]
    pub fn operated_by(self, operator: Operator) -> Self {
        Self { operator: Some(operator.into()), ..self }
    }

    /// Notes what is done outside of this store; what failed, with its cause.
    pub fn noting<T, E: std::error::Error>(
        &self,
        name: &str,
        parameters: Value,
        now_ns: u64,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<Result<T, E>, ControlError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let done = work();
        let error = done.as_ref().err().map(with_causes);
        self.note(&transaction, name, &parameters, now_ns, error.as_deref())?;
        transaction.commit()?;
        Ok(done)
    }

    /// What is still to be recorded, oldest first, a bounded piece of it.
    pub fn acts(&self) -> Result<Vec<Act>, ControlError> {
        let connection = self.lock();
        let mut select = connection
            .prepare_cached("SELECT id, position, time, operator, name, parameters, error FROM acts ORDER BY id LIMIT ?1")?;
        let mut rows = select.query([READ_MAX])?;
        let mut acts = Vec::new();
        while let Some(row) = rows.next()? {
            let damaged = |_| ControlError::Damaged { what: "list of what operators did" };
            acts.push(Act {
                id: row.get(0)?,
                position: row.get(1)?,
                time_ns: row.get::<_, i64>(2)?.cast_unsigned(),
                operator: serde_json::from_str(&row.get::<_, String>(3)?).map_err(damaged)?,
                name: row.get(4)?,
                parameters: serde_json::from_str(&row.get::<_, String>(5)?).map_err(damaged)?,
                error: row.get(6)?,
            });
        }
        Ok(acts)
    }

    /// It is in the ledger.
    pub fn recorded(&self, act: &Act) -> Result<(), ControlError> {
        self.lock().execute("DELETE FROM acts WHERE id = ?1", [act.id])?;
        Ok(())
    }

    /// Into the transaction that does it. What the collector does by itself is recorded elsewhere.
    pub(super) fn note(
        &self,
        transaction: &Connection,
        name: &str,
        parameters: &Value,
        now_ns: u64,
        error: Option<&str>,
    ) -> Result<(), ControlError> {
        let Some(operator) = &self.operator else { return Ok(()) };
        transaction.execute(
            "INSERT INTO acts (position, time, operator, name, parameters, error) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                Uuid::new_v4().to_string(),
                now_ns.cast_signed(),
                json!(operator.as_ref()).to_string(),
                name,
                parameters.to_string(),
                error
            ],
        )?;
        Ok(())
    }
}

/// A time as a parameter shows it.
pub(super) fn shown(ns: u64) -> Value {
    format_time(ns).into()
}

fn with_causes(error: &impl std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
