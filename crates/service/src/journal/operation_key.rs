//! Record `operation_key`: which order an operation was made for, by a key that the client chose.
//!
//! The record is written in the transaction that makes the operation, so that an order that is repeated, also after a
//! crash, finds the operation it has made. It stays when the operation is forgotten: a key means one order for good.

use std::thread::ThreadId;

use mendb_model::name::OperationId;
use mendb_model::operation::OperationHead;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Journal, int};
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS operation_key (
    key          TEXT PRIMARY KEY,
    operation_id TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,       -- of the whole order
    at_ms        INTEGER NOT NULL
) STRICT;";

/// An order as the client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderKey {
    /// Chosen by who orders, and never again for another order.
    pub key: String,
    /// A digest of all that was ordered.
    pub fingerprint: String,
}

/// What an order has made before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// The operation.
    pub operation_id: OperationId,
    /// The digest of the order.
    pub fingerprint: String,
}

/// While it lives, the first operation that this thread adds is made for the order.
pub struct Keyed<'a> {
    journal: &'a Journal,
    thread: ThreadId,
}

impl Drop for Keyed<'_> {
    fn drop(&mut self) {
        self.journal.keys().retain(|(of, _)| *of != self.thread);
    }
}

/// Makes the table where a journal of before has none.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'operation_key')";
    if connection.query_row(sql, [], |row| row.get(0))? {
        return Ok(());
    }
    connection.execute_batch(LAYOUT)
}

/// Notes the order of an operation. A key that is there already is an error of SQLite's.
pub(super) fn put(
    tx: &Transaction<'_>,
    operation: &OperationHead,
    order: &OrderKey,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO operation_key (key, operation_id, fingerprint, at_ms) VALUES (?1, ?2, ?3, ?4)",
        params![
            order.key,
            operation.operation_id.as_str(),
            order.fingerprint,
            int(operation.created_at_ms)
        ],
    )?;
    Ok(())
}

impl Journal {
    /// Has the next operation that this thread adds noted as that of an order.
    pub fn ordered_as(&self, order: OrderKey) -> Keyed<'_> {
        let thread = std::thread::current().id();
        let mut keys = self.keys();
        keys.retain(|(of, _)| *of != thread);
        keys.push((thread, order));
        drop(keys);
        Keyed {
            journal: self,
            thread,
        }
    }

    /// The order of this thread, once.
    pub(super) fn take_key(&self) -> Option<OrderKey> {
        let thread = std::thread::current().id();
        let mut keys = self.keys();
        let at = keys.iter().position(|(of, _)| *of == thread)?;
        Some(keys.swap_remove(at).1)
    }

    /// What the order of a key has made.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn ordered(&self, key: &str) -> Result<Option<Ordered>> {
        let found: Option<(String, String)> = self.read("look for an order", |connection| {
            connection
                .query_row(
                    "SELECT operation_id, fingerprint FROM operation_key WHERE key = ?1",
                    [key],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
        })?;
        found
            .map(|(id, fingerprint)| {
                Ok(Ordered {
                    operation_id: id.parse()?,
                    fingerprint,
                })
            })
            .transpose()
    }

    /// The operations that were made for an order with a key.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn keyed_operations(&self) -> Result<Vec<OperationId>> {
        let ids: Vec<String> = self.read("list orders", |connection| {
            connection
                .prepare("SELECT operation_id FROM operation_key ORDER BY at_ms, key")?
                .query_map([], |row| row.get(0))?
                .collect()
        })?;
        ids.into_iter().map(|id| Ok(id.parse()?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::name::{BackupId, BackupKind};
    use mendb_model::operation::{BackupRequest, Limits, Operation, Request, plan};

    use super::*;

    fn operation(id: &str) -> Operation {
        let request = Request::Backup(BackupRequest {
            collection: "shop".into(),
            backup_id: BackupId::new(0, BackupKind::Full).unwrap(),
            label: None,
            tables: vec!["orders".into()],
            parent: None,
            stream: "shop/1".into(),
            since_version: None,
            old_streams: Vec::new(),
            keeps_changes: false,
            found: None,
        });
        let steps = plan(&request, &[]).unwrap();
        let repository = ("id".to_owned(), "memory:".to_owned());
        Operation::new(
            id.parse().unwrap(),
            request,
            steps,
            repository,
            Limits::default(),
            1,
        )
    }

    fn order(key: &str) -> OrderKey {
        OrderKey {
            key: key.to_owned(),
            fingerprint: "f".to_owned(),
        }
    }

    #[test]
    fn an_order_finds_the_operation_it_has_made_also_in_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        let keyed = journal.ordered_as(order("monday"));
        journal.insert_operation(&operation("backup-1")).unwrap();
        // One order makes one operation.
        journal.insert_operation(&operation("backup-2")).unwrap();
        drop(keyed);
        drop(journal);
        let journal = Journal::open(directory.path()).unwrap();
        let found = journal.ordered("monday").unwrap().unwrap();
        assert_eq!(found.operation_id.as_str(), "backup-1");
        assert_eq!(journal.ordered("tuesday").unwrap(), None);
        assert_eq!(journal.keyed_operations().unwrap().len(), 1);
    }

    #[test]
    fn a_key_makes_no_second_operation() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        for (id, is_first) in [("backup-1", true), ("backup-2", false)] {
            let _keyed = journal.ordered_as(order("monday"));
            assert_eq!(journal.insert_operation(&operation(id)).is_ok(), is_first);
        }
        assert_eq!(journal.operations().unwrap().len(), 1);
    }

    #[test]
    fn an_order_that_is_let_go_names_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        drop(journal.ordered_as(order("monday")));
        journal.insert_operation(&operation("backup-1")).unwrap();
        assert_eq!(journal.ordered("monday").unwrap(), None);
    }
}
