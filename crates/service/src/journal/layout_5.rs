//! Raises a journal of layout 5 or before. Such a journal keeps an operation in one record, with its request, its plan
//! and what it did to each range; each task in one record, with its segments; and the draft of a manifest in one.
//!
//! *Other processes*: a process of the version before that has the journal open fails at its next write, because the
//! columns that it knows are gone.

use std::sync::Arc;

use mendb_model::manifest::Manifest;
use mendb_model::operation::{MendedRows, MendedShard, Operation, OperationHead, Task, Tasks};
use rusqlite::{Transaction, params};
use serde::Deserialize;

use super::{from_json, operation};

/// What the columns become; the records in them are read and written anew.
pub(super) const COLUMNS: &str = "
ALTER TABLE operation RENAME COLUMN record TO standing;
ALTER TABLE operation ADD COLUMN request TEXT NOT NULL DEFAULT '';
ALTER TABLE shard_progress RENAME COLUMN record TO standing;
ALTER TABLE shard_progress ADD COLUMN spec TEXT NOT NULL DEFAULT '';";

/// What the record of an operation held that has records of its own now.
#[derive(Deserialize)]
struct More {
    #[serde(default)]
    mended: Vec<MendedShard>,
}

/// Writes every operation anew, one after the other.
pub(super) fn raise(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let ids: Vec<String> = tx
        .prepare("SELECT operation_id FROM operation")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    ids.iter()
        .try_for_each(|id| operation::put_all(tx, &read(tx, id)?))
}

fn read(tx: &Transaction<'_>, id: &str) -> rusqlite::Result<Operation> {
    let (mut head, more, draft) = tx.query_row(
        "SELECT standing, draft FROM operation WHERE operation_id = ?1",
        [id],
        |row| {
            let has_draft = row.get_ref(1)? != rusqlite::types::ValueRef::Null;
            let draft: Option<Manifest> = has_draft.then(|| from_json(row, 1)).transpose()?;
            Ok((
                from_json::<OperationHead>(row, 0)?,
                from_json::<More>(row, 0)?,
                draft.map(Arc::new),
            ))
        },
    )?;
    let tasks: Tasks = tx
        .prepare(
            "SELECT standing FROM shard_progress WHERE operation_id = ?1 AND step = ?2 ORDER BY shard_idx",
        )?
        .query_map(params![id, head.current_step], |row| from_json::<Task>(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    head.counts = tasks.counts();
    head.task_error = tasks.first_error().map(str::to_owned);
    head.mended_rows = MendedRows::default();
    for shard in &more.mended {
        head.mended_rows += shard.rows;
    }
    Ok(Operation::assembled(head, tasks, draft, more.mended))
}
