//! Live rows that stand in the way of what a mend of part of a table brings back.
//!
//! A mend of a whole table brings back rows that kept to the rules of its schema together. A mend of a part leaves the
//! other rows as they are, and one of these may now hold a value of a returning row where a unique index allows the
//! value once. So the mend looks for such holders of each row that it would write before it stages any: when it is
//! ordered, and again when its tables are closed to writers.
//!
//! A unique index that the table got since the backup may refuse any row that the mend would write, also those of
//! whole tables ([`super::new_rules`]).
//!
//! The mend can take holders along: it brings them to what the backup has of them, too, which may be nothing. Further
//! rows may hold what comes back with them, so the search repeats until it finds no more.
//!
//! *Memory*: the rows of a block; the holders that are taken along, at most [`MOST_TAKEN`] with keys of at most
//! [`MOST_TAKEN_BYTES`]; of conflicts that refuse the mend the first [`MOST_NAMED`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use mendb_engines::{LiveTable, RowStore};
use mendb_model::RowBlock;
use mendb_model::key::KeyRange;
use mendb_model::key_text;
use mendb_model::manifest::TableBackup;
use mendb_model::operation::{RowMendRequest, RowTableMend};
use mendb_model::value::ColumnType;

use super::new_rules::{self, NewRules};
use super::{no_such_table, wanted_manifest};
use crate::attempt::Attempt;
use crate::row_conflict::{Conflicts, HolderFate, MOST_NAMED, RowConflict};
use crate::task_error::{TaskError, TaskResult};

/// The most rows that are taken along; they are in the plan and in the journal.
const MOST_TAKEN: usize = 10_000;
/// The most bytes that their keys have together.
const MOST_TAKEN_BYTES: usize = 16 << 20;

/// What is found in one table.
pub(super) struct Search<'a> {
    engine: &'a dyn RowStore,
    table: &'a RowTableMend,
    key_types: Vec<ColumnType>,
    /// Whether there are rules that rows which stay could break.
    is_needed: bool,
    /// Whether holders are taken along.
    takes_along: bool,
    /// By their keys, with their conflicts.
    taken: BTreeMap<Vec<u8>, usize>,
    taken_bytes: usize,
    /// Those of them that were not looked at yet.
    next: Vec<Vec<u8>>,
    conflicts: Conflicts,
    new_rules: NewRules<'a>,
    /// How many of the conflicts are named that are of two rows of the backup.
    in_backup_named: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        engine: &'a dyn RowStore,
        table: &'a RowTableMend,
        backup: &'a TableBackup,
        takes_along: bool,
    ) -> TaskResult<Self> {
        let live = engine.inspect(&table.table)?.ok_or_else(|| {
            TaskError::Proof(format!("table {} does not exist any more", table.table))
        })?;
        Ok(Self {
            engine,
            key_types: backup.schema.key_types(),
            is_needed: has_needed(&live, table, backup),
            new_rules: NewRules::new(backup, &live),
            in_backup_named: 0,
            takes_along,
            taken: BTreeMap::new(),
            taken_bytes: 0,
            next: table.also.iter().map(|one| one.start.clone()).collect(),
            conflicts: Conflicts::default(),
            table,
        })
    }

    /// Looks for those who hold what rows that would be written bring back.
    pub(super) fn look(&mut self, wanted: &RowBlock<&[u8]>) -> TaskResult<()> {
        if !self.is_needed || wanted.is_empty() {
            return Ok(());
        }
        for (key, row) in wanted.iter() {
            let (conflicts, named) = (&mut self.conflicts, &mut self.in_backup_named);
            let (table, types) = (self.table, &self.key_types);
            self.new_rules.bring(key, row, |index, value, other| {
                let conflict = RowConflict {
                    table: table.table.clone(),
                    index: index.to_owned(),
                    value: value.to_owned(),
                    row: key_text::display(key, types),
                    holder: key_text::display(other, types),
                    holder_key: KeyRange::only(other),
                    fate: HolderFate::InBackup,
                };
                conflicts.add_in_backup(conflict, named);
            })?;
        }
        let engine = self.engine;
        let mut too_many = false;
        engine.conflicts(&self.table.table, wanted, &mut |conflict| {
            let holder = conflict.holder;
            if self.table.mends(holder) || self.taken.contains_key(holder) {
                self.new_rules.doubt(&conflict);
                return ControlFlow::Continue(());
            }
            too_many = self.takes_along && self.is_full(holder);
            if too_many {
                return ControlFlow::Break(());
            }
            self.conflicts.count += 1;
            if self.takes_along {
                self.taken_bytes += holder.len();
                let place = self.conflicts.rows.len();
                self.taken.insert(holder.to_vec(), place);
                self.next.push(holder.to_vec());
            } else if self.conflicts.rows.len() >= MOST_NAMED {
                return ControlFlow::Continue(());
            }
            self.conflicts.rows.push(RowConflict {
                table: self.table.table.clone(),
                index: conflict.rule.to_owned(),
                value: conflict.value.to_owned(),
                row: key_text::display(conflict.wanted, &self.key_types),
                holder: key_text::display(holder, &self.key_types),
                holder_key: KeyRange::only(holder),
                fate: HolderFate::Stays,
            });
            ControlFlow::Continue(())
        })?;
        if too_many {
            return Err(TaskError::Proof(format!(
                "more than {} rows of table {} hold what rows of the range bring back: mend the whole table, \
                 without --range",
                self.taken.len(),
                self.table.table
            )));
        }
        Ok(())
    }

    /// Takes a live row into account that would be erased.
    pub(super) fn erase(&mut self, key: &[u8]) -> TaskResult<()> {
        self.new_rules.erase(key)
    }

    fn is_full(&self, holder: &[u8]) -> bool {
        self.taken.len() >= MOST_TAKEN || self.taken_bytes + holder.len() > MOST_TAKEN_BYTES
    }

    /// The single keys that are to be looked at next, ascending.
    pub(super) fn next_keys(&mut self) -> Vec<Vec<u8>> {
        let mut next = std::mem::take(&mut self.next);
        next.sort_unstable();
        next
    }

    /// Notes what becomes of a row that is taken along: whether it is erased, or else changed.
    ///
    /// # Errors
    /// It stays as it is: then the backup itself breaks the rule.
    pub(super) fn settle(&mut self, key: &[u8], erased: bool, changed: bool) -> TaskResult<()> {
        let place = self.taken.get(key);
        let Some(conflict) = place.and_then(|place| self.conflicts.rows.get_mut(*place)) else {
            return Ok(());
        };
        conflict.fate = match (erased, changed) {
            (true, _) => HolderFate::Erased,
            (false, true) => HolderFate::BroughtBack,
            (false, false) => {
                return Err(TaskError::Proof(format!(
                    "the backup holds both rows, so it cannot be brought back in part: {conflict}"
                )));
            }
        };
        Ok(())
    }

    /// The single keys that are mended with the range, and what was found.
    pub(super) fn finish(mut self) -> (Vec<KeyRange>, Conflicts) {
        for conflict in self.new_rules.finish() {
            self.conflicts
                .add_in_backup(conflict, &mut self.in_backup_named);
        }
        let before = self.table.also.iter().cloned();
        let taken = self.taken.keys().map(|key| KeyRange::only(key));
        let mut also: Vec<KeyRange> = before.chain(taken).collect();
        also.sort_unstable_by(|one, other| one.start.cmp(&other.start));
        (also, self.conflicts)
    }
}

/// Whether rows could be in the way of those that come back: live ones that stay, or others of the backup.
///
/// # Errors
/// The table cannot be looked at, or the backup lacks it.
pub(super) fn is_needed(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    table: &RowTableMend,
) -> TaskResult<bool> {
    if table.create {
        return Ok(false);
    }
    let wanted = wanted_manifest(attempt, request)?;
    let backup = wanted
        .table(&table.table)
        .ok_or_else(|| no_such_table(&wanted, &table.table))?;
    let live = attempt.tools.engine.rows()?.inspect(&table.table)?;
    Ok(live.is_some_and(|live| has_needed(&live, table, backup)))
}

fn has_needed(live: &LiveTable, table: &RowTableMend, backup: &TableBackup) -> bool {
    let has_new = new_rules::of(&backup.schema, &live.schema).next().is_some();
    has_new || (table.range.is_some() && live.has_rules())
}
