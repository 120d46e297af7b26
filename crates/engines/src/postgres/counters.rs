//! What a transaction has written to a table, by the server's own counters.
//!
//! The server counts for each session what it writes to each relation, whoever told it to: statements, triggers, foreign
//! keys. What it has not reported of transactions before is among it, so that only differences count. It counts nothing
//! where `track_counts` is off.

use postgres::Client;

use super::error::failed;
use super::witness::has_rows_of;
use crate::error::Result;

/// Rows that a session has written to a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counters {
    pub(super) inserted: i64,
    pub(super) updated: i64,
    pub(super) deleted: i64,
}

impl Counters {
    /// Those of the relations that have rows of a table; `None` where the server does not count.
    pub(super) fn read(client: &mut Client, relation: &str) -> Result<Option<Self>> {
        let query = format!(
            "SELECT current_setting('track_counts')::bool,
                    coalesce(sum(pg_stat_get_xact_tuples_inserted(c.oid)), 0)::int8,
                    coalesce(sum(pg_stat_get_xact_tuples_updated(c.oid)), 0)::int8,
                    coalesce(sum(pg_stat_get_xact_tuples_deleted(c.oid)), 0)::int8
             FROM pg_class c WHERE {}",
            has_rows_of("$1")
        );
        let row = client.query_one(&query, &[&relation]);
        let row = row.map_err(|error| failed("ask what was written", &error))?;
        let counts: bool = row.get(0);
        Ok(counts.then(|| Self {
            inserted: row.get(1),
            updated: row.get(2),
            deleted: row.get(3),
        }))
    }

    /// What was written since.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            inserted: self.inserted - before.inserted,
            updated: self.updated - before.updated,
            deleted: self.deleted - before.deleted,
        }
    }
}
