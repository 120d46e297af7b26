//! Record `audit`: what was asked that changes something, by whom, from where, and what became of it.
//!
//! The record is there before anything is done. One without an outcome is of a request that is not over, or that a crash
//! cut off: the next server says so in it. What that had begun is in the journal.

use mendb_service::{Result, env};
use rusqlite::{Connection, params};
use serde::Serialize;

use super::{Store, int};

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS audit (
    audit_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms        INTEGER NOT NULL,
    who          TEXT NOT NULL,
    role         TEXT NOT NULL,
    peer         TEXT NOT NULL,
    request      TEXT NOT NULL,       -- POST /v1/collections/world/backups
    arguments    TEXT NOT NULL,       -- JSON
    outcome      TEXT,                -- done, begun, drift, refused, failed: why, cut off: why
    operation_id TEXT
) STRICT;";

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRecord {
    /// Grows by one.
    pub audit_id: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The name of the token, or of the schedule.
    pub who: String,
    /// What that may.
    pub role: String,
    /// From where.
    pub peer: String,
    /// What.
    pub request: String,
    /// With what.
    pub arguments: serde_json::Value,
    /// What became of it; null while it is not over.
    pub outcome: Option<String>,
    /// The operation that it began.
    pub operation_id: Option<String>,
}

/// What is about to be done.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The name of the token, or of the schedule.
    pub who: String,
    /// What that may.
    pub role: String,
    /// From where.
    pub peer: String,
    /// What.
    pub request: String,
    /// With what.
    pub arguments: serde_json::Value,
}

/// Adds a record without an outcome, and returns its number.
pub(super) fn put(connection: &Connection, wish: &Wish) -> rusqlite::Result<i64> {
    connection.execute(
        "INSERT INTO audit (at_ms, who, role, peer, request, arguments) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            int(env::now_ms()),
            wish.who,
            wish.role,
            wish.peer,
            wish.request,
            wish.arguments.to_string()
        ],
    )?;
    Ok(connection.last_insert_rowid())
}

impl Store {
    /// Writes down what is about to be done, and returns the number of the record.
    ///
    /// # Errors
    /// The store cannot be written: then it must not be done.
    pub fn begin_audit(&self, wish: &Wish) -> Result<i64> {
        self.with("write the audit", |connection| put(connection, wish))
    }

    /// Closes the lines of a server that has died, but for those of schedules that go on. Nothing may be at work.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn close_audit(&self) -> Result<()> {
        self.with("write the audit", |connection| {
            connection.execute(
                "UPDATE audit SET outcome = 'cut off: the server ended before it was over' WHERE outcome IS NULL AND \
                 audit_id NOT IN (SELECT audit_id FROM schedule_run WHERE outcome IS NULL AND audit_id IS NOT NULL)",
                [],
            )
        })?;
        Ok(())
    }

    /// Writes down what became of it.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn end_audit(
        &self,
        audit_id: i64,
        outcome: &str,
        operation_id: Option<&str>,
    ) -> Result<()> {
        self.with("write the audit", |connection| {
            connection.execute(
                "UPDATE audit SET outcome = ?2, operation_id = coalesce(?3, operation_id) WHERE audit_id = ?1",
                params![audit_id, outcome, operation_id],
            )
        })?;
        Ok(())
    }

    /// The newest records before one, the newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditRecord>> {
        self.with("read the audit", |connection| {
            connection
                .prepare(
                    "SELECT audit_id, at_ms, who, role, peer, request, arguments, outcome, operation_id FROM audit \
                     WHERE audit_id < ?1 ORDER BY audit_id DESC LIMIT ?2",
                )?
                .query_map(params![before.unwrap_or(i64::MAX), limit], |row| {
                    let arguments: String = row.get(6)?;
                    Ok(AuditRecord {
                        audit_id: row.get(0)?,
                        at_ms: row.get::<_, i64>(1)?.unsigned_abs(),
                        who: row.get(2)?,
                        role: row.get(3)?,
                        peer: row.get(4)?,
                        request: row.get(5)?,
                        arguments: serde_json::from_str(&arguments).unwrap_or_default(),
                        outcome: row.get(7)?,
                        operation_id: row.get(8)?,
                    })
                })?
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_cut_off_has_no_outcome() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let wish = |request: &str| Wish {
            who: "ann".into(),
            role: "operator".into(),
            peer: "127.0.0.1".into(),
            request: request.into(),
            arguments: serde_json::json!({ "label": "x" }),
        };
        let first = store.begin_audit(&wish("POST /a")).unwrap();
        store.begin_audit(&wish("POST /b")).unwrap();
        store.end_audit(first, "begun", Some("backup-1")).unwrap();
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        let records = store.audit(None, 10).unwrap();
        assert_eq!(records[0].request, "POST /b");
        assert_eq!(records[0].outcome, None);
        assert_eq!(records[1].operation_id.as_deref(), Some("backup-1"));
        assert_eq!(records[1].arguments["label"], "x");
        let older = store.audit(Some(records[0].audit_id), 10).unwrap();
        assert_eq!(older.len(), 1);
        // The next server says so.
        store.close_audit().unwrap();
        let records = store.audit(None, 10).unwrap();
        let outcome = records[0].outcome.clone().unwrap_or_default();
        assert!(outcome.starts_with("cut off"), "{outcome}");
        assert_eq!(records[1].outcome.as_deref(), Some("begun"));
    }
}
