//! Which of the keys that differ are mended, where not all of them are.

use std::collections::BTreeSet;

use mendb_engines::KeyScope;
use mendb_model::key::KeyRange;
use mendb_model::key_text::describe_range;
use mendb_model::name::TablePath;
use mendb_model::operation::{RowMendRequest, RowScope, RowTableMend};
use mendb_model::value::ColumnType;
use mendb_model::{RowBlock, RowBlockBuilder};
use mendb_repo::{ChainReader, StoredManifest};
use serde::{Deserialize, Serialize};

use super::{no_such_table, wanted_manifest};
use crate::attempt::{Attempt, Tools};
use crate::diff::Pulled;
use crate::error::{Error, Result};
use crate::task_error::{TaskError, TaskResult};

/// A row that differs and stays, for it was written after the moment that was named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewerRow {
    /// The table.
    pub table: String,
    /// The key, as people write it.
    pub key: String,
    /// When it was written, in microseconds since 1970.
    pub written_us: i64,
}

/// Chooses among the keys of a range, which come in their order.
pub(super) struct Chooser<'a, 'b> {
    attempt: &'a Attempt<'b>,
    path: &'a TablePath,
    scope: RowScope,
    /// The changes of the wanted backup, of a mend that goes by them.
    changed: Option<Pulled<'a, ChainReader>>,
    key_types: Vec<ColumnType>,
}

/// What was chosen among changes.
pub(super) struct Chosen {
    /// Those that are made.
    pub(super) changes: RowBlock,
    /// For each change whether it is among them.
    pub(super) are_chosen: Vec<bool>,
    /// Rows that stay because they are newer.
    pub(super) newer: Vec<NewerRow>,
}

impl<'a, 'b> Chooser<'a, 'b> {
    /// Of a range of a table; `None` where all keys that differ are mended.
    pub(super) fn new(
        attempt: &'a Attempt<'b>,
        request: &RowMendRequest,
        path: &'a TablePath,
        range: &KeyRange,
    ) -> TaskResult<Option<Self>> {
        let mut tables = request.tables.iter();
        let Some(mended) = tables.find(|table| table.table == path.table) else {
            return Ok(None);
        };
        let scope = RowScope {
            rewind: None,
            ..mended.scope.clone()
        };
        if scope.is_all() {
            return Ok(None);
        }
        let wanted = wanted_manifest(attempt, request)?;
        let backup = wanted.table(&path.table);
        let backup = backup.ok_or_else(|| no_such_table(&wanted, &path.table))?;
        let changed = match mended.scope.changed_only {
            true => {
                let last = [wanted.clone()];
                let repository = &attempt.tools.repository;
                let changes = attempt.wait(repository.read_chain(&last, path, range, None))?;
                Some(Pulled::new(changes, move |changes: &mut ChainReader| {
                    attempt.wait(changes.next())
                }))
            }
            false => None,
        };
        Ok(Some(Self {
            attempt,
            path,
            scope,
            changed,
            key_types: backup.schema.key_types(),
        }))
    }

    /// Chooses among changes that lead from the live rows to the wanted ones.
    pub(super) fn choose(&mut self, changes: &RowBlock<&[u8]>) -> TaskResult<Chosen> {
        let scopes = match &mut self.changed {
            Some(changed) => among(changed, changes)?,
            None => {
                let beside = self.attempt.tools.engine.rows()?.beside_writers();
                let beside = beside.ok_or_else(|| {
                    TaskError::Proof("rows are chosen on another kind of target".to_owned())
                })?;
                beside.key_scopes(&self.path.table, &self.scope, changes)?
            }
        };
        let mut made = RowBlockBuilder::new();
        let (mut are_chosen, mut newer) = (Vec::with_capacity(changes.len()), Vec::new());
        for ((key, change), scope) in changes.iter().zip(scopes) {
            are_chosen.push(scope == KeyScope::Chosen);
            match scope {
                KeyScope::Chosen => made.push(key, change),
                KeyScope::Beside => {}
                KeyScope::Newer { written_us } => newer.push(NewerRow {
                    table: self.path.table.clone(),
                    key: describe_range(&KeyRange::only(key), &self.key_types),
                    written_us,
                }),
            }
        }
        Ok(Chosen {
            changes: made.finish(),
            are_chosen,
            newer,
        })
    }
}

/// Which keys the wanted backup has changes of.
fn among(
    changed: &mut Pulled<'_, ChainReader>,
    changes: &RowBlock<&[u8]>,
) -> TaskResult<Vec<KeyScope>> {
    let one = |(key, _): (&[u8], &[u8])| -> TaskResult<KeyScope> {
        while changed.next_before(Some(key))?.is_some() {}
        Ok(match changed.next_at(key)? {
            Some(_) => KeyScope::Chosen,
            None => KeyScope::Beside,
        })
    };
    changes.iter().map(one).collect()
}

/// Finds which keys of each table are mended: those of a scope, or of tables whose state before a mend of chosen keys is
/// wanted back, these.
///
/// # Errors
/// The target cannot tell them, or a state before is not any more what it was.
pub(super) fn scoped(
    tools: &Tools,
    scope: &RowScope,
    changed_only: &BTreeSet<String>,
    wanted: &StoredManifest,
    tables: &mut [RowTableMend],
) -> Result<()> {
    for table in tables {
        if changed_only.contains(&table.table) {
            if wanted.manifest.compacted.is_some() {
                return Err(Error::refused(
                    format!(
                        "backup {} was folded with others, so that the keys that were mended are not known any more",
                        wanted.manifest.backup_id
                    ),
                    "mend the rows to another backup: mendb list shows those there are",
                ));
            }
            table.scope.changed_only = true;
        } else if !scope.is_all() {
            let beside = tools.engine.rows()?.beside_writers();
            let beside = beside.ok_or_else(|| {
                Error::refused(
                    "--where and --keep-newer-than are for PostgreSQL, and this target is a row store",
                    "leave them out; --range mends some keys",
                )
            })?;
            table.scope = RowScope {
                rewind: table.scope.rewind.take(),
                ..beside.check_scope(&table.table, scope)?
            };
        }
    }
    Ok(())
}
