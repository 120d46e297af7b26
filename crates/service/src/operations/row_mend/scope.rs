//! Which of the keys that differ are mended, where not all of them are.

use std::collections::BTreeMap;

use mendb_engines::KeyScope;
use mendb_model::change::ChangeRef;
use mendb_model::key::KeyRange;
use mendb_model::key_text::describe_range;
use mendb_model::name::TablePath;
use mendb_model::operation::{RowMendRequest, RowScope, RowTableMend, WrittenSince};
use mendb_model::value::ColumnType;
use mendb_model::{Replaced, RowBlock, RowBlockBuilder};
use mendb_repo::{ChainReader, StoredManifest};
use serde::{Deserialize, Serialize};

use super::written_keys::WrittenBy;
use super::{beside_writers_of, no_such_table, wanted_manifest};
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

/// A row that chosen transactions wrote, or a mend that is taken back, and others wrote again since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrittenRow {
    /// The table.
    pub table: String,
    /// The key, as people write it.
    pub key: String,
    /// The last that wrote it, where an increment tells: of what was written since the newest, none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<WrittenBy>,
    /// It stays for this other key of the same row: the row changed its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// The other key is not among those that are mended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
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
    /// Rows that stay because others wrote them since the mend that is taken back.
    pub(super) rewritten: Vec<RewrittenRow>,
}

/// How a key stands.
enum Stand {
    Chosen,
    Beside,
    Newer(i64),
    Rewritten,
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
            Some(changed) => {
                let known = among(changed, changes)?;
                self.since_mend(changes, &known)?
            }
            None => {
                let beside = beside_writers_of(self.attempt)?;
                let scopes = beside.key_scopes(&self.path.table, &self.scope, changes)?;
                let stand = |scope| match scope {
                    KeyScope::Chosen => Stand::Chosen,
                    KeyScope::Beside => Stand::Beside,
                    KeyScope::Newer { written_us } => Stand::Newer(written_us),
                };
                scopes.into_iter().map(stand).collect()
            }
        };
        let mut made = RowBlockBuilder::new();
        let mut are_chosen = Vec::with_capacity(changes.len());
        let (mut newer, mut rewritten) = (Vec::new(), Vec::new());
        for ((key, change), scope) in changes.iter().zip(scopes) {
            are_chosen.push(matches!(scope, Stand::Chosen));
            let (table, shown) = (self.path.table.clone(), self.shown(key));
            match scope {
                Stand::Chosen => made.push(key, change),
                Stand::Beside => {}
                Stand::Newer(written_us) => newer.push(NewerRow {
                    table,
                    key: shown,
                    written_us,
                }),
                Stand::Rewritten => rewritten.push(RewrittenRow {
                    table,
                    key: shown,
                    by: None,
                    with: None,
                    beside: false,
                }),
            }
        }
        Ok(Chosen {
            changes: made.finish(),
            are_chosen,
            newer,
            rewritten,
        })
    }

    fn shown(&self, key: &[u8]) -> String {
        describe_range(&KeyRange::only(key), &self.key_types)
    }

    /// Which of the keys of a mend that is taken back are not any more as it left them.
    fn since_mend(
        &self,
        changes: &RowBlock<&[u8]>,
        known: &[Option<Left>],
    ) -> TaskResult<Vec<Stand>> {
        let stand = |left: &Option<Left>| match left {
            Some(_) => Stand::Chosen,
            None => Stand::Beside,
        };
        let mut stands: Vec<Stand> = known.iter().map(stand).collect();
        let Some(written_since) = self.scope.written_since else {
            return Ok(stands);
        };
        let keys: Vec<&[u8]> = changes.iter().map(|(key, _)| key).collect();
        let beside = beside_writers_of(self.attempt)?;
        let writers = beside.writers_of(&self.path.table, &keys)?;
        for (at, (left, writer)) in known.iter().zip(writers).enumerate() {
            if left.as_ref().is_none_or(|left| left.is_by(writer)) {
                continue;
            }
            if written_since == WrittenSince::Refuse {
                return Err(TaskError::Proof(format!(
                    "row {} of table {} was written again since the mend, and rows of that changed their keys, so that it is \
                     not known which belong together: mendb undo --include-rewritten takes all of them back",
                    self.shown(keys[at]),
                    self.path.table
                )));
            }
            stands[at] = Stand::Rewritten;
        }
        Ok(stands)
    }
}

/// What a mend left under a key.
struct Left {
    /// The transaction that wrote the row.
    by: u64,
    /// Whether it may have left none.
    may_be_nothing: bool,
}

impl Left {
    /// Whether it is there as it was left, by who wrote the live row.
    fn is_by(&self, writer: Option<u32>) -> bool {
        match writer {
            Some(writer) => self.by as u32 == writer && self.by != 0,
            None => self.may_be_nothing || self.by == 0,
        }
    }
}

/// Which keys the wanted backup has changes of, with what the mend left there that it was taken by.
fn among(
    changed: &mut Pulled<'_, ChainReader>,
    changes: &RowBlock<&[u8]>,
) -> TaskResult<Vec<Option<Left>>> {
    let one = |(key, _): (&[u8], &[u8])| -> TaskResult<Option<Left>> {
        while changed.next_before(Some(key))?.is_some() {}
        let Some(change) = changed.next_at(key)? else {
            return Ok(None);
        };
        let change = ChangeRef::decode(change)
            .map_err(|error| TaskError::Proof(format!("the state before a mend: {error}")))?;
        Ok(Some(Left {
            by: change.version,
            // An older mendb noted its transaction there, too.
            may_be_nothing: change.replaced == Replaced::Nothing,
        }))
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
    changed_only: &BTreeMap<String, Option<WrittenSince>>,
    wanted: &StoredManifest,
    tables: &mut [RowTableMend],
) -> Result<()> {
    for table in tables {
        if let Some(written_since) = changed_only.get(&table.table) {
            let compacted = wanted.manifest.compacted.as_ref();
            if compacted.is_some_and(|compacted| !compacted.folded.is_empty()) {
                let backup = wanted.manifest.table(&table.table);
                let is_whole = backup.is_some_and(|backup| backup.only.is_none());
                if is_whole && written_since.is_none() {
                    continue;
                }
                return Err(Error::refused(
                    format!(
                        "backup {} was folded with others, so that the keys that were mended are not known any more",
                        wanted.manifest.backup_id
                    ),
                    match is_whole {
                        true => {
                            "mendb undo --include-rewritten brings the tables back as a whole, and takes with it what was \
                             written since"
                        }
                        false => {
                            "mend the rows to another backup: mendb list shows those there are"
                        }
                    },
                ));
            }
            table.scope.changed_only = true;
            table.scope.written_since = *written_since;
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
