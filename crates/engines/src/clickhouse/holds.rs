//! What is kept on a server for operations, by the records in mendb's own directory. The server is not asked;
//! what there is no record of is found by [`super::left`].

use std::path::Path;

use super::freeze_record::FreezeRecord;
use super::markers::Markers;
use crate::contract::{Hold, HoldKind};
use crate::error::Result;

/// What the name of a freeze begins with by which a mend can be undone; the operation follows, and then what
/// tells its tables apart.
const UNDO: &str = "undo_";

/// All that is kept for operations on the server whose directory this is: freezes, and what mends have
/// staged or stopped.
///
/// # Errors
/// A record cannot be read.
pub fn in_state(state_directory: &Path) -> Result<Vec<Hold>> {
    let freezes = FreezeRecord::all(state_directory)?;
    let mut holds = Vec::new();
    for record in freezes {
        let (operation, kind) = match mend_of(&record.freeze) {
            Some(operation) => (operation.to_owned(), HoldKind::Kept),
            None => (record.freeze.clone(), HoldKind::Backup),
        };
        holds.extend(record.tables.iter().map(|table| Hold {
            table: table.name.to_string(),
            operation: operation.clone(),
            kind,
        }));
    }
    let staged = Markers::new(state_directory).find(None)?;
    holds.extend(staged.into_iter().map(|found| Hold {
        table: found.table.to_string(),
        operation: found.operation,
        kind: HoldKind::Mend,
    }));
    Ok(holds)
}

/// The freezes that a mend has kept to be undone by.
pub(super) fn kept_freezes(state_directory: &Path, operation: &str) -> Result<Vec<String>> {
    let records = FreezeRecord::all(state_directory)?.into_iter();
    let names = records.map(|record| record.freeze);
    Ok(names
        .filter(|freeze| mend_of(freeze) == Some(operation))
        .collect())
}

/// The mend that has kept a freeze to be undone by.
fn mend_of(freeze: &str) -> Option<&str> {
    let (operation, _table) = freeze.strip_prefix(UNDO)?.rsplit_once('_')?;
    Some(operation)
}

#[cfg(test)]
mod tests {
    use mendb_model::part::TableName;

    use super::super::freeze_record::TableRecord;
    use super::super::markers::Marker;
    use super::*;

    #[test]
    fn records_that_cannot_be_read_are_not_taken_for_none() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(in_state(state.path()).unwrap(), []);
        let records = [TableRecord::new(TableName::new("d", "t"), Vec::new(), &[])];
        FreezeRecord::write(state.path(), "backup-1-a", &records).unwrap();
        let directory = std::fs::read_dir(state.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        std::fs::remove_dir_all(directory.path()).unwrap();
        std::fs::write(directory.path(), "").unwrap();
        in_state(state.path()).unwrap_err();
    }

    #[test]
    fn freezes_and_markers_tell_which_operations_left_them() {
        let state = tempfile::tempdir().unwrap();
        let table = TableName::new("d", "t");
        let record = || [TableRecord::new(table.clone(), Vec::new(), &[])];
        FreezeRecord::write(state.path(), "backup-1-a", &record()).unwrap();
        FreezeRecord::write(state.path(), "undo_mend-2-b_0123456789abcdef", &record()).unwrap();
        let markers = Markers::new(state.path());
        markers.set("mend-3-c", &table, Marker::Merges).unwrap();
        let mut holds = in_state(state.path()).unwrap();
        holds.sort_by(|a, b| a.operation.cmp(&b.operation));
        let told: Vec<_> = (holds.iter())
            .map(|hold| (hold.operation.as_str(), hold.table.as_str(), hold.kind))
            .collect();
        assert_eq!(
            told,
            [
                ("backup-1-a", "d.t", HoldKind::Backup),
                ("mend-2-b", "d.t", HoldKind::Kept),
                ("mend-3-c", "d.t", HoldKind::Mend),
            ]
        );
        let kept = kept_freezes(state.path(), "mend-2-b").unwrap();
        assert_eq!(kept, ["undo_mend-2-b_0123456789abcdef"]);
        assert!(kept_freezes(state.path(), "mend-3-c").unwrap().is_empty());
    }
}
