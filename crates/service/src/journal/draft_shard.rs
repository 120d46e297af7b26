//! Record `draft_shard`: one shard of the manifest that a backup is making. The record of the operation has the rest of
//! the manifest.

use std::sync::Arc;

use mendb_model::manifest::{Manifest, ShardBackup, ShardedData, Shards};
use mendb_model::name::{OperationId, TablePath};
use mendb_model::operation::TouchedDraft;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{from_json, int, to_json};

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS draft_shard (
    operation_id TEXT NOT NULL,
    table_name   TEXT NOT NULL,
    index_name   TEXT NOT NULL,               -- empty for the table itself
    shard        INTEGER NOT NULL,
    record       TEXT NOT NULL,               -- JSON: its keys, its digest, its segments
    PRIMARY KEY (operation_id, table_name, index_name, shard)
) STRICT, WITHOUT ROWID;";

/// Writes what changed of a draft.
pub(super) fn put_touched(
    tx: &Transaction<'_>,
    id: &OperationId,
    draft: Option<&Arc<Manifest>>,
    touched: &TouchedDraft,
) -> rusqlite::Result<()> {
    match touched {
        TouchedDraft::Nothing => Ok(()),
        TouchedDraft::All => put_all(tx, id, draft.map(|draft| &**draft)),
        TouchedDraft::Shards(shards) => {
            for (path, shard) in shards {
                let data = draft.and_then(|draft| draft.sharded_table(path));
                let told = data.and_then(ShardedData::shards_here).unwrap_or_default();
                let found = told.get(*shard as usize);
                if let Some(found) = found {
                    put(tx, id, path, *shard as usize, found)?;
                }
            }
            Ok(())
        }
    }
}

/// Writes a draft in place of another.
pub(super) fn put_all(
    tx: &Transaction<'_>,
    id: &OperationId,
    draft: Option<&Manifest>,
) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM draft_shard WHERE operation_id = ?1")?
        .execute([id.as_str()])?;
    for (path, data) in draft.into_iter().flat_map(Manifest::stored_tables) {
        for (at, shard) in data.shards_here().unwrap_or_default().iter().enumerate() {
            put(tx, id, &path, at, shard)?;
        }
    }
    let root = draft.map(|draft| {
        let mut root = draft.clone();
        root.stored_tables_mut()
            .for_each(|(_, data)| leave_out(data));
        to_json(&root)
    });
    tx.prepare_cached("UPDATE operation SET draft = ?2 WHERE operation_id = ?1")?
        .execute(params![id.as_str(), root.transpose()?])?;
    Ok(())
}

/// A draft lists its shards itself.
fn leave_out(data: &mut ShardedData) {
    if let Shards::Here(shards) = &mut data.shards {
        shards.clear();
    }
}

fn put(
    tx: &Transaction<'_>,
    id: &OperationId,
    path: &TablePath,
    at: usize,
    shard: &ShardBackup,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO draft_shard (operation_id, table_name, index_name, shard, record)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        id.as_str(),
        path.table,
        path.index.as_deref().unwrap_or_default(),
        int(at as u64),
        to_json(shard)?
    ])?;
    Ok(())
}

/// The draft of an operation.
pub(super) fn read(
    connection: &Connection,
    id: &OperationId,
) -> rusqlite::Result<Option<Manifest>> {
    let root: Option<Manifest> = connection
        .prepare_cached(
            "SELECT draft FROM operation WHERE operation_id = ?1 AND draft IS NOT NULL",
        )?
        .query_row([id.as_str()], |row| from_json(row, 0))
        .optional()?;
    let Some(mut draft) = root else {
        return Ok(None);
    };
    for (path, data) in draft.stored_tables_mut() {
        let index = path.index.as_deref().unwrap_or_default();
        read_into(connection, id, (&path.table, index), data)?;
    }
    Ok(Some(draft))
}

fn read_into(
    connection: &Connection,
    id: &OperationId,
    (table, index): (&str, &str),
    data: &mut ShardedData,
) -> rusqlite::Result<()> {
    let Shards::Here(shards) = &mut data.shards else {
        return Ok(());
    };
    *shards = connection
        .prepare_cached(
            "SELECT record FROM draft_shard WHERE operation_id = ?1 AND table_name = ?2 AND index_name = ?3
             ORDER BY shard",
        )?
        .query_map([id.as_str(), table, index], |row| from_json(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(())
}
