//! Live rows that stand in the way of what a mend of part of a table brings back.

use mendb_model::key::KeyRange;
use serde::{Deserialize, Serialize};

/// So many conflicts are named, of those that refuse a mend.
pub(crate) const MOST_NAMED: usize = 100;

/// A live row, not among those to be mended, that holds what a row of the backup brings back, where a unique
/// index allows one row only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowConflict {
    /// The table.
    pub table: String,
    /// The unique index.
    pub index: String,
    /// What both rows have in its columns.
    pub value: String,
    /// The key of the row that comes back.
    pub row: String,
    /// The key of the live row.
    pub holder: String,
    /// The same, encoded.
    pub holder_key: KeyRange,
    /// What becomes of the live row.
    pub fate: HolderFate,
}

/// What a mend does with a row that stands in its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderFate {
    /// Nothing: it stays, and the mend is refused.
    Stays,
    /// It is taken along, to what the backup has of it.
    BroughtBack,
    /// It is taken along, and erased: the backup does not have it.
    Erased,
    /// It is mended as well, to what the backup has of it: the backup has both rows, from before there was
    /// the index, and the mend is refused.
    InBackup,
}

/// The rows that stand in the way of a mend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflicts {
    /// How many were found.
    pub count: u64,
    /// They: of those that refuse the mend the first ones, of those that are taken along all.
    pub rows: Vec<RowConflict>,
}

impl Conflicts {
    /// The conflicts of this fate that are named.
    pub fn of(&self, fate: HolderFate) -> impl Iterator<Item = &RowConflict> {
        self.rows.iter().filter(move |row| row.fate == fate)
    }

    /// Whether the mend cannot be done as it was asked for.
    pub fn refuse(&self, erase_newer: bool) -> bool {
        let fates = [HolderFate::Stays, HolderFate::InBackup];
        let stays = fates.iter().any(|fate| self.of(*fate).next().is_some());
        let erases = self.of(HolderFate::Erased).next().is_some();
        stays || (erases && !erase_newer)
    }

    /// Adds one of two rows of the backup, of which so many are named.
    pub(crate) fn add_in_backup(&mut self, conflict: RowConflict, named: &mut usize) {
        self.count += 1;
        if *named < MOST_NAMED {
            *named += 1;
            self.rows.push(conflict);
        }
    }

    pub(crate) fn extend(&mut self, more: Self) {
        self.count += more.count;
        self.rows.extend(more.rows);
    }
}

/// In one line.
impl std::fmt::Display for RowConflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            table,
            index,
            value,
            row,
            holder,
            ..
        } = self;
        let has = match self.fate {
            HolderFate::InBackup => "has in the backup too",
            _ => "holds",
        };
        write!(
            f,
            "{table}: {row} comes back with {index} = {value}, which row {holder} {has}"
        )
    }
}
