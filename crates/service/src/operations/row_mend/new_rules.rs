//! Unique indexes that a table got since the backup. The rows of the backup need not keep to them.
//!
//! Two rows of the backup may share a value that such an index allows once: two rows that come back, or one that comes
//! back and one that stays because it is as it was. The second is a live row among the mended ones that the mend
//! neither changes nor erases; that is known once all of them were looked at.
//!
//! *Memory*: the keys of the rows that change, and what they have in these indexes: at most [`MOST_BYTES`].

use std::collections::{BTreeMap, BTreeSet};

use mendb_engines::{Conflict, LiveTable};
use mendb_model::key::{self, KeyRange};
use mendb_model::key_text;
use mendb_model::manifest::TableBackup;
use mendb_model::schema::TableSchema;
use mendb_model::value::{ColumnType, ValueRef};

use crate::diff::row_values;
use crate::row_conflict::{HolderFate, RowConflict};
use crate::task_error::{TaskError, TaskResult};

/// The most that is kept of rows that change.
const MOST_BYTES: usize = 128 << 20;
/// What an entry takes beside its bytes, about.
const ENTRY_BYTES: usize = 64;

/// The new unique indexes of a table, and what the rows of the backup have in them.
pub(super) struct NewRules<'a> {
    backup: &'a TableBackup,
    rules: Vec<Rule>,
    /// Keys of rows that are written or erased.
    changed: BTreeSet<Vec<u8>>,
    bytes: usize,
}

/// A unique index that the backup does not have.
struct Rule {
    index: String,
    /// Where its columns stand in the schema of the backup.
    columns: Vec<usize>,
    types: Vec<ColumnType>,
    /// What rows that come back have in it, with their keys.
    brought: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Live rows that hold what comes back, by their keys: they are in the way if they stay.
    doubts: BTreeMap<Vec<u8>, Doubt>,
}

struct Doubt {
    wanted: Vec<u8>,
    value: String,
}

impl<'a> NewRules<'a> {
    /// Those of a live table.
    pub(super) fn new(backup: &'a TableBackup, live: &LiveTable) -> Self {
        let then = &backup.schema;
        let rules = of(then, &live.schema).filter_map(|index| {
            let position = |name: &String| then.columns.iter().position(|c| c.name == *name);
            // A column that the backup lacks is NULL in what comes back, and NULL is allowed to all.
            let columns: Vec<usize> = index.columns.iter().map(position).collect::<Option<_>>()?;
            let types = columns.iter().map(|at| then.columns[*at].column_type);
            Some(Rule {
                index: index.name.clone(),
                types: types.collect(),
                columns,
                brought: BTreeMap::new(),
                doubts: BTreeMap::new(),
            })
        });
        Self {
            rules: rules.collect(),
            backup,
            changed: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// Takes a row that is erased into account.
    pub(super) fn erase(&mut self, key: &[u8]) -> TaskResult<()> {
        self.change(key)
    }

    /// Takes a row that comes back into account. What rows before it have is handed over, of each rule: the
    /// index, what both have there, and the key of that row.
    pub(super) fn bring(
        &mut self,
        key: &[u8],
        row: &[u8],
        mut twice: impl FnMut(&str, &str, &[u8]),
    ) -> TaskResult<()> {
        if self.rules.is_empty() {
            return Ok(());
        }
        self.change(key)?;
        let values = row_values(&self.backup.schema, key, row).map_err(|error| {
            TaskError::Proof(format!(
                "a row of table {} cannot be read: {error}",
                self.backup.table
            ))
        })?;
        for rule in &mut self.rules {
            let indexed: Vec<ValueRef<'_>> =
                rule.columns.iter().map(|at| values[*at].as_ref()).collect();
            if indexed.iter().any(ValueRef::is_null) {
                continue;
            }
            let value = key::encode(&rule.types, indexed);
            match rule.brought.get(&value) {
                Some(other) if other != key => {
                    let shown = key_text::display(&value, &rule.types);
                    twice(&rule.index, &shown, other);
                }
                Some(_) => {}
                None => {
                    self.bytes += value.len() + key.len() + ENTRY_BYTES;
                    rule.brought.insert(value, key.to_vec());
                }
            }
        }
        self.check_room()
    }

    /// Takes a mended live row into account that holds what comes back with another.
    pub(super) fn doubt(&mut self, conflict: &Conflict<'_>) {
        let mut rules = self.rules.iter_mut();
        if let Some(rule) = rules.find(|rule| rule.index == conflict.rule)
            && !self.changed.contains(conflict.holder)
        {
            let doubt = Doubt {
                wanted: conflict.wanted.to_vec(),
                value: conflict.value.to_owned(),
            };
            self.bytes += conflict.holder.len() + doubt.wanted.len() + doubt.value.len();
            self.bytes += ENTRY_BYTES;
            rule.doubts.insert(conflict.holder.to_vec(), doubt);
        }
    }

    /// The live rows that stay and hold what comes back, when all rows were looked at.
    pub(super) fn finish(self) -> Vec<RowConflict> {
        let types = self.backup.schema.key_types();
        let (table, changed) = (&self.backup.table, &self.changed);
        let doubts = self.rules.into_iter().flat_map(|rule| {
            let index = rule.index;
            let doubts = rule.doubts.into_iter();
            doubts.map(move |(holder, doubt)| (index.clone(), holder, doubt))
        });
        let staying = doubts.filter(|(_, holder, _)| !changed.contains(holder));
        let conflicts = staying.map(|(index, holder, doubt)| RowConflict {
            table: table.clone(),
            index,
            value: doubt.value,
            row: key_text::display(&doubt.wanted, &types),
            holder: key_text::display(&holder, &types),
            holder_key: KeyRange::only(&holder),
            fate: HolderFate::InBackup,
        });
        conflicts.collect()
    }

    fn change(&mut self, key: &[u8]) -> TaskResult<()> {
        if !self.rules.is_empty() && self.changed.insert(key.to_vec()) {
            self.bytes += key.len() + ENTRY_BYTES;
        }
        self.check_room()
    }

    fn check_room(&self) -> TaskResult<()> {
        let Some(rule) = self.rules.first().filter(|_| self.bytes > MOST_BYTES) else {
            return Ok(());
        };
        Err(TaskError::Proof(format!(
            "table {} got the unique index {} since the backup, and more rows would change than can be compared \
             with each other: mend the table in parts, with --range",
            self.backup.table, rule.index
        )))
    }
}

/// The unique indexes that a table has and its backup has not.
pub(super) fn of<'a>(
    then: &'a TableSchema,
    live: &'a TableSchema,
) -> impl Iterator<Item = &'a mendb_model::IndexSchema> {
    let unique = live.indexes.iter().filter(|index| index.unique);
    unique.filter(|index| then.index(&index.name).is_none())
}
