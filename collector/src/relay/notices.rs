//! What this relay's ingest has noticed, until home has recorded it: in `relay.sqlite`, bounded, oldest first.
//!
//! A relay that can't reach home for long keeps the first [`NOTICES_KEPT_MAX`]; what comes then stands in its log alone.

use edgetrail_link::wire;
use rusqlite::params;
use uuid::Uuid;

use super::progress::{Progress, ProgressError};
use crate::ingest::{NOTICES_MAX, Notice, NoticeBoard};

/// Notices that wait for home. Source: one a minute for each agent and kind, and what an operator reads.
const NOTICES_KEPT_MAX: u64 = 10_000;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS notices (
  id BLOB PRIMARY KEY,                  -- of the notice, home makes the eventID of it
  name TEXT NOT NULL,
  agent BLOB NOT NULL,
  count INTEGER NOT NULL,
  address TEXT NOT NULL,
  reason TEXT NOT NULL,
  details TEXT NOT NULL,
  noticed INTEGER NOT NULL
) STRICT;
";

impl Progress {
    /// The oldest that home has not recorded yet.
    pub(super) fn posted(&self) -> Result<Vec<wire::RelayNotice>, ProgressError> {
        let state = self.lock();
        let mut select = state.connection.prepare_cached(
            "SELECT id, name, agent, count, address, reason, details, noticed FROM notices ORDER BY rowid LIMIT ?1",
        )?;
        let rows = select.query_map([i64::try_from(NOTICES_MAX).unwrap_or(i64::MAX)], |row| {
            Ok(wire::RelayNotice {
                id: row.get::<_, Vec<u8>>(0)?.into(),
                name: row.get(1)?,
                agent_id: row.get::<_, Vec<u8>>(2)?.into(),
                count: row.get::<_, i64>(3)?.cast_unsigned(),
                address: row.get(4)?,
                reason: row.get(5)?,
                details: row.get(6)?,
                noticed: row.get::<_, i64>(7)?.cast_unsigned(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Home has recorded these.
    pub(super) fn reported(&self, notices: &[wire::RelayNotice]) -> Result<(), ProgressError> {
        let mut state = self.lock();
        let transaction = state.connection.transaction()?;
        for notice in notices {
            transaction.prepare_cached("DELETE FROM notices WHERE id = ?1")?.execute([notice.id.as_ref()])?;
        }
        Ok(transaction.commit()?)
    }

    fn put(&self, notice: &Notice) -> Result<bool, ProgressError> {
        let state = self.lock();
        let kept: i64 = state.connection.query_row("SELECT count(*) FROM notices", [], |row| row.get(0))?;
        if kept.cast_unsigned() >= NOTICES_KEPT_MAX {
            return Ok(false);
        }
        let Notice { name, agent, count, address, reason, details } = notice;
        let mut insert = state.connection.prepare_cached(
            "INSERT INTO notices (id, name, agent, count, address, reason, details, noticed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        insert.execute(params![
            Uuid::new_v4().as_bytes(),
            name,
            agent.as_bytes(),
            count.cast_signed(),
            address,
            reason,
            details.to_string(),
            super::unix_ns().cast_signed(),
        ])?;
        Ok(true)
    }
}

impl NoticeBoard for Progress {
    fn post(&self, notice: Notice) {
        match self.put(&notice) {
            Ok(true) => self.news.send_modify(|news| *news = news.wrapping_add(1)),
            Ok(false) => tracing::warn!(event = notice.name, "too many security events wait for home: this one is logged alone"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    event = notice.name,
                    "a security event can't be kept for home"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use edgetrail_disk::Medium;
    use edgetrail_proto::identity::AgentId;
    use serde_json::json;

    use super::*;

    #[test]
    fn notices_wait_for_home_in_order_also_through_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Progress::open(&Medium::real(), directory.path()).unwrap();
        let progress = open();
        for count in 0..3 {
            let (address, reason) = ("192.0.2.1".to_owned(), "a reason".to_owned());
            progress.post(Notice {
                name: "RefuseAgent",
                agent: AgentId::from_bytes([1; 16]),
                count,
                address,
                reason,
                details: json!({}),
            });
        }
        drop(progress);
        let progress = open();
        let posted = progress.posted().unwrap();
        assert_eq!(posted.iter().map(|notice| notice.count).collect::<Vec<_>>(), [0, 1, 2]);
        progress.reported(&posted[..2]).unwrap();
        assert_eq!(progress.posted().unwrap(), posted[2..]);
    }
}
