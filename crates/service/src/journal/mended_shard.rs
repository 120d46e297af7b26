//! Record `mended_shard`: what a mend of rows did to one range.

use mendb_model::name::OperationId;
use mendb_model::operation::MendedShard;
use rusqlite::{Connection, Transaction, params};

use super::{from_json, int, to_json};

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS mended_shard (
    operation_id TEXT NOT NULL,
    number       INTEGER NOT NULL,
    record       TEXT NOT NULL,               -- JSON: the range, and the rows that were written and removed
    PRIMARY KEY (operation_id, number)
) STRICT, WITHOUT ROWID;";

/// Writes the ranges from one on.
pub(super) fn put(
    tx: &Transaction<'_>,
    id: &OperationId,
    mended: &[MendedShard],
    from: usize,
) -> rusqlite::Result<()> {
    for (number, shard) in mended.iter().enumerate().skip(from) {
        tx.prepare_cached(
            "INSERT OR REPLACE INTO mended_shard (operation_id, number, record) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![id.as_str(), int(number as u64), to_json(shard)?])?;
    }
    Ok(())
}

/// The ranges of an operation.
pub(super) fn read(
    connection: &Connection,
    id: &OperationId,
) -> rusqlite::Result<Vec<MendedShard>> {
    connection
        .prepare_cached("SELECT record FROM mended_shard WHERE operation_id = ?1 ORDER BY number")?
        .query_map([id.as_str()], |row| from_json(row, 0))?
        .collect()
}
