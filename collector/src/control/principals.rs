//! Principals: who calls the API, and the policies that say what each may do.
//!
//! A principal is a user name in an account; access keys belong to one. What it may do is what is attached to it: policies
//! that come with the product, by name, and documents of its own, which were parsed before they were stored. A document
//! that can't be read any more is damage, never an absent policy: a deny in it would be lost.

use edgetrail_policy::{Managed, Policy, PolicyError};
use edgetrail_proto::identity::AccountId;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Control, ControlError};

/// Policies of one principal. Source: IAM quotas, managed policies attached to a user.
pub const POLICIES_MAX: usize = 10;

/// Characters of a principal's and a document's name. Source: IAM, names of users and inline policies.
const NAME_CHARACTERS: std::ops::RangeInclusive<usize> = 1..=64;

/// One policy of a principal, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attached {
    /// By the name of one that comes with the product: `Viewer`.
    Managed(String),
    /// The principal's own.
    Document { name: String, text: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    pub account: AccountId,
    /// The user name in the records of its calls.
    pub name: String,
    pub attached: Vec<Attached>,
    /// The same, read.
    pub policies: Vec<Policy>,
    /// Unix nanoseconds.
    pub created_ns: u64,
}

impl Attached {
    pub fn managed(managed: Managed) -> Self {
        Self::Managed(managed.name().to_owned())
    }

    /// A document with a name, read once: what is not understood is not stored.
    pub fn document(name: &str, text: &str) -> Result<Self, PolicyError> {
        Policy::parse(text)?;
        Ok(Self::Document { name: name.to_owned(), text: text.to_owned() })
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Managed(name) | Self::Document { name, .. } => name,
        }
    }

    fn policy(&self) -> Result<Policy, ControlError> {
        let damaged = ControlError::Damaged { what: "policy of a principal" };
        match self {
            Self::Managed(name) => Managed::of(name).map(|managed| managed.policy().clone()).ok_or(damaged),
            Self::Document { text, .. } => Policy::parse(text).map_err(|_unreadable| damaged),
        }
    }
}

impl Control {
    /// The one whose keys have this account and name; without one, nothing is allowed.
    pub fn principal(&self, account: &AccountId, name: &str) -> Result<Option<Principal>, ControlError> {
        let connection = self.lock();
        let mut select = connection
            .prepare_cached("SELECT account, name, policies, created FROM principals WHERE account = ?1 AND name = ?2")?;
        select.query_row([account.as_str(), name], |row| Ok(principal(row))).optional()?.transpose()
    }

    /// By account and name.
    pub fn principals(&self) -> Result<Vec<Principal>, ControlError> {
        let connection = self.lock();
        let mut select = connection.prepare("SELECT account, name, policies, created FROM principals ORDER BY account, name")?;
        let mut rows = select.query([])?;
        let mut principals = Vec::new();
        while let Some(row) = rows.next()? {
            principals.push(principal(row)?);
        }
        Ok(principals)
    }

    /// Gives a principal these policies in place of those that it has; one that is not there is made. From its next call on
    /// it may do what they say.
    pub fn put_principal(&self, account: &AccountId, name: &str, attached: &[Attached], now_ns: u64) -> Result<(), ControlError> {
        check(name, attached)?;
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        put(&transaction, account, name, attached, now_ns)?;
        self.note(&transaction, "PutUserPolicy", &told(account, name, attached), now_ns, None)?;
        Ok(transaction.commit()?)
    }

    /// Only of one whose keys are deleted: they would go on to be accepted, and refused everything.
    pub fn delete_principal(&self, account: &AccountId, name: &str, now_ns: u64) -> Result<(), ControlError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let keys: u64 = transaction.query_row(
            "SELECT count(*) FROM access_keys WHERE account = ?1 AND name = ?2",
            [account.as_str(), name],
            |row| row.get::<_, i64>(0).map(i64::cast_unsigned),
        )?;
        if keys > 0 {
            return Err(ControlError::PrincipalHasKeys { name: name.to_owned(), keys });
        }
        if transaction.execute("DELETE FROM principals WHERE account = ?1 AND name = ?2", [account.as_str(), name])? == 0 {
            return Err(ControlError::NoPrincipal { name: name.to_owned() });
        }
        self.note(&transaction, "DeleteUser", &json!({ "userName": name, "accountId": account }), now_ns, None)?;
        Ok(transaction.commit()?)
    }
}

/// Makes the principal of a new key, unless there is one: then its policies stay as they are, and `attached` must be
/// absent.
pub(super) fn make(
    connection: &Connection,
    account: &AccountId,
    name: &str,
    attached: Option<&[Attached]>,
    now_ns: u64,
) -> Result<(), ControlError> {
    let there = "SELECT EXISTS (SELECT 1 FROM principals WHERE account = ?1 AND name = ?2)";
    let exists: bool = connection.query_row(there, [account.as_str(), name], |row| row.get(0))?;
    match attached {
        Some(_) if exists => Err(ControlError::PrincipalExists { name: name.to_owned() }),
        None if exists => Ok(()),
        _ => {
            let everything = [Attached::managed(Managed::Administrator)];
            let attached = attached.unwrap_or(&everything);
            check(name, attached)?;
            put(connection, account, name, attached, now_ns)
        }
    }
}

fn check(name: &str, attached: &[Attached]) -> Result<(), ControlError> {
    for name in std::iter::once(name).chain(attached.iter().map(Attached::name)) {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte));
        if !plain || !NAME_CHARACTERS.contains(&name.len()) {
            return Err(ControlError::BadName { name: name.to_owned() });
        }
    }
    if attached.len() > POLICIES_MAX {
        return Err(ControlError::TooManyPolicies { policies: attached.len() });
    }
    Ok(())
}

fn put(connection: &Connection, account: &AccountId, name: &str, attached: &[Attached], now_ns: u64) -> Result<(), ControlError> {
    let text = serde_json::to_string(attached).map_err(|_| ControlError::Damaged { what: "policy of a principal" })?;
    connection.execute(
        "INSERT INTO principals (account, name, policies, created) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (account, name) DO UPDATE SET policies = excluded.policies",
        params![account.as_str(), name, text, now_ns.cast_signed()],
    )?;
    Ok(())
}

/// What the record of the change says: whole documents, since they are what somebody may do from now on.
fn told(account: &AccountId, name: &str, attached: &[Attached]) -> Value {
    let policy = |attached: &Attached| match attached {
        Attached::Managed(name) => json!({ "policyName": name }),
        Attached::Document { name, text } => json!({ "policyName": name, "policyDocument": text }),
    };
    json!({ "userName": name, "accountId": account, "policies": attached.iter().map(policy).collect::<Vec<_>>() })
}

fn principal(row: &Row<'_>) -> Result<Principal, ControlError> {
    let account: String = row.get(0)?;
    let text: String = row.get(2)?;
    let attached: Vec<Attached> =
        serde_json::from_str(&text).map_err(|_| ControlError::Damaged { what: "policy of a principal" })?;
    Ok(Principal {
        account: account.parse().map_err(|_| ControlError::Damaged { what: "principal's account" })?,
        name: row.get(1)?,
        policies: attached.iter().map(Attached::policy).collect::<Result<_, _>>()?,
        attached,
        created_ns: row.get::<_, i64>(3)?.cast_unsigned(),
    })
}
