//! Keys with which clients sign calls to the API and the S3 face.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::BASE32;
use edgetrail_proto::identity::AccountId;
use rusqlite::{OptionalExtension, Row, params};
use serde_json::json;

use super::principals::{self, Attached};
use super::{Control, ControlError, random};

/// An access key pair. Its secret is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// `AKIA` and 16 characters of base32, the form that AWS clients know.
    pub id: String,
    /// 40 characters of base64.
    pub secret: String,
    /// Calls signed with it are made in this account.
    pub account: AccountId,
    /// Who calls: the user name in the records of its calls.
    pub name: String,
    /// Unix nanoseconds.
    pub created_ns: u64,
}

impl Control {
    /// A key of a principal, which is made with it where it is new: with the policies in `attached`, or else as the
    /// administrator of its account. One that is there keeps what it has.
    pub fn create_access_key(
        &self,
        account: AccountId,
        name: &str,
        attached: Option<&[Attached]>,
        now_ns: u64,
    ) -> Result<AccessKey, ControlError> {
        let key = AccessKey {
            id: format!("AKIA{}", BASE32.encode(&random::<10>()?)),
            secret: STANDARD.encode(random::<30>()?),
            account,
            name: name.to_owned(),
            created_ns: now_ns,
        };
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        principals::make(&transaction, &account, name, attached, now_ns)?;
        transaction.execute(
            "INSERT INTO access_keys (id, secret, account, name, created) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![key.id, key.secret, key.account.as_str(), key.name, key.created_ns.cast_signed()],
        )?;
        let policies: Vec<&str> = attached.unwrap_or_default().iter().map(Attached::name).collect();
        let mut parameters = json!({ "accessKeyId": key.id, "userName": key.name, "accountId": key.account });
        if !policies.is_empty() {
            parameters["policies"] = policies.into();
        }
        self.note(&transaction, "CreateAccessKey", &parameters, now_ns, None)?;
        transaction.commit()?;
        Ok(key)
    }

    pub fn access_key(&self, id: &str) -> Result<Option<AccessKey>, ControlError> {
        let connection = self.lock();
        let mut select = connection.prepare_cached("SELECT id, secret, account, name, created FROM access_keys WHERE id = ?1")?;
        select.query_row([id], |row| Ok(access_key(row))).optional()?.transpose()
    }

    /// In the order of creation.
    pub fn access_keys(&self) -> Result<Vec<AccessKey>, ControlError> {
        let connection = self.lock();
        let mut select = connection.prepare("SELECT id, secret, account, name, created FROM access_keys ORDER BY created, id")?;
        let mut rows = select.query([])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push(access_key(row)?);
        }
        Ok(keys)
    }

    pub fn delete_access_key(&self, id: &str, now_ns: u64) -> Result<(), ControlError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        if transaction.execute("DELETE FROM access_keys WHERE id = ?1", [id])? == 0 {
            return Err(ControlError::NoAccessKey { id: id.to_owned() });
        }
        self.note(&transaction, "DeleteAccessKey", &json!({ "accessKeyId": id }), now_ns, None)?;
        Ok(transaction.commit()?)
    }
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("account", &self.account)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn access_key(row: &Row<'_>) -> Result<AccessKey, ControlError> {
    let account: String = row.get(2)?;
    Ok(AccessKey {
        id: row.get(0)?,
        secret: row.get(1)?,
        account: account.parse().map_err(|_| ControlError::Damaged { what: "access key's account" })?,
        name: row.get(3)?,
        created_ns: row.get::<_, i64>(4)?.cast_unsigned(),
    })
}
