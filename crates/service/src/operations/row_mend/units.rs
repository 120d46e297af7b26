//! Rows whose keys changed go back as a whole, or stay: where a key of a [unit](super::unit_keys) was written again by
//! others, or is not among those that are mended, none of them goes back, or one row would be there under two keys, or under
//! none.

use std::collections::{BTreeMap, BTreeSet};

use mendb_engines::BesideWriters;
use mendb_model::RowBlockBuilder;
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::operation::{Rewind, RowMendRequest};

use super::scope::Chooser;
use super::unit_keys::UnitKeys;
use super::wanted_chain;
use super::written_keys::{KEYS_AT_ONCE, WrittenBy, WrittenKeys};
use crate::attempt::Attempt;
use crate::task_error::TaskResult;

/// The units of a table.
#[derive(Default)]
pub(super) struct Units {
    keys: UnitKeys,
    /// Those whose live row is another than the wanted one.
    differing: BTreeSet<Vec<u8>>,
    /// Why a unit stays.
    stay: BTreeMap<usize, Stays>,
}

/// Why a unit stays.
pub(super) struct Stays {
    /// Of this key of it.
    pub(super) key: Vec<u8>,
    pub(super) why: Why,
}

/// Why a key does not go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Others wrote it again; who, if an increment tells.
    Again(Option<WrittenBy>),
    /// It is not among those that are mended.
    Beside,
}

impl Units {
    /// Those of a table as they are this moment; none where it is not mended to take transactions back.
    pub(super) fn of_table(
        attempt: &Attempt<'_>,
        request: &RowMendRequest,
        path: &TablePath,
    ) -> TaskResult<Self> {
        let rewind = request.rewind_of(&path.table);
        let Some(rewind) = rewind.filter(|rewind| rewind.keys_changed) else {
            return Ok(Self::default());
        };
        let chain = wanted_chain(attempt, request)?;
        let from = chain
            .iter()
            .position(|backup| backup.backup_id == rewind.from);
        let since = &chain[from.unwrap_or(0)..];
        let mut units = Self {
            keys: UnitKeys::of_table(attempt.tools, since, &path.table, &rewind.changed_by)?,
            ..Self::default()
        };
        if !units.keys.is_empty() {
            units.judge(attempt, request, rewind, path)?;
        }
        Ok(units)
    }

    /// Their keys.
    pub(super) fn keys(&self) -> &UnitKeys {
        &self.keys
    }

    /// Why a key stays for its unit.
    pub(super) fn stays(&self, key: &[u8]) -> Option<&Stays> {
        self.stay.get(&self.keys.find(key)?.unit)
    }

    /// Finds the units that stay.
    fn judge(
        &mut self,
        attempt: &Attempt<'_>,
        request: &RowMendRequest,
        rewind: &Rewind,
        path: &TablePath,
    ) -> TaskResult<()> {
        let all = KeyRange::all();
        let mut tables = request.tables.iter();
        let mended = tables.find(|mended| mended.table == path.table);
        let mut chooser = Chooser::new(attempt, request, path, &all)?;
        let mut stay: BTreeMap<usize, Stays> = BTreeMap::new();
        let mut differing = BTreeSet::new();
        let mut written = WrittenKeys::new(attempt, request, rewind, (path, &all), &self.keys)?;
        while let Some(found) = written.next_of_units()? {
            attempt.check_stopped()?;
            let keys: Vec<&[u8]> = found.iter().map(|row| row.key.as_slice()).collect();
            let live = attempt.tools.engine.rows()?.rows_of(path, &keys)?;
            let mut changes = RowBlockBuilder::new();
            for (row, live) in found.iter().zip(&live) {
                let mut note = |why| {
                    let Some(of) = self.keys.find(&row.key) else {
                        return;
                    };
                    // The one that is known to have written it says most.
                    let is_told = |stays: &Stays| matches!(stays.why, Why::Again(Some(_)));
                    if stay.get(&of.unit).is_none_or(|stays| !is_told(stays)) {
                        let key = row.key.clone();
                        stay.insert(of.unit, Stays { key, why });
                    }
                };
                if let Some(by) = row.again(live.as_deref())
                    && !rewind.include_rewritten
                {
                    note(Why::Again(by));
                }
                if row.wanted == *live {
                    continue;
                }
                if mended.is_some_and(|mended| !mended.mends(&row.key)) {
                    note(Why::Beside);
                }
                differing.insert(row.key.clone());
                let change = row.change();
                changes.push_with(&row.key, |out| change.encode_into(out));
            }
            let changes = changes.finish();
            if let Some(chooser) = chooser.as_mut().filter(|_| !changes.is_empty()) {
                let chosen = chooser.choose(&changes.view())?.are_chosen;
                for ((key, _), is_chosen) in changes.iter().zip(chosen) {
                    if let Some(of) = self.keys.find(key).filter(|_| !is_chosen) {
                        let stays = || Stays {
                            key: key.to_vec(),
                            why: Why::Beside,
                        };
                        stay.entry(of.unit).or_insert_with(stays);
                    }
                }
            }
        }
        drop(written);
        self.differing = differing;
        self.stay = stay;
        Ok(())
    }

    /// The ranges in which what is staged is not what is to become of the units: somebody wrote to a key of one between the
    /// looks at two ranges.
    pub(super) fn misjudged(
        &self,
        beside: &dyn BesideWriters,
        operation: &str,
        table: &str,
        ranges: &[KeyRange],
    ) -> TaskResult<Vec<KeyRange>> {
        let mut found: Vec<KeyRange> = Vec::new();
        for some in self.keys.all().chunks(KEYS_AT_ONCE) {
            let keys: Vec<&[u8]> = some.iter().map(|of| of.key.as_slice()).collect();
            let staged = beside.are_staged(operation, table, &keys)?;
            for (of, is_staged) in some.iter().zip(staged) {
                let stays = self.stay.contains_key(&of.unit);
                let is_to_be = !stays && self.differing.contains(&of.key);
                let range = ranges.iter().find(|range| range.contains(&of.key));
                if let Some(range) = range.filter(|_| is_to_be != is_staged)
                    && !found.contains(range)
                {
                    found.push(range.clone());
                }
            }
        }
        Ok(found)
    }
}
