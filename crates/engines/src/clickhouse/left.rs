//! What operations have left on the disks of a server, by the names of directories: for when the records in
//! mendb's own directory are lost.
//!
//! ```text
//! <disk>/shadow/mendb_<operation>                what a backup reads
//! <disk>/shadow/mendb_undo_<operation>_<table>   the state before a mend
//! <disk>/mendb/<operation>/<database.table>/     what a mend has staged, and parts that it holds
//! ```
//!
//! Only what reads back as the id of an operation is ours. Whatever else a mend has done to a table, such as
//! a staging table or stopped merges, it has done to one that it has staged for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mendb_model::part::TableName;

use super::markers::{table_directory, unusable};
use super::staging_root::staging_root;
use crate::contract::parts::Disk;
use crate::contract::{Hold, HoldKind};
use crate::error::Result;

/// What the names of freezes begin with, and those by which a mend can be undone.
const FREEZE: &str = "mendb_";
const UNDO: &str = "mendb_undo_";

/// All that is left on some disks.
pub(super) fn on(disks: &[Disk]) -> Result<Vec<Hold>> {
    let mut holds = Vec::new();
    for disk in disks {
        for path in directories(&disk.path.join("shadow"))? {
            let Some((operation, kind)) = name_of(&path).and_then(frozen_by) else {
                continue;
            };
            holds.push(Hold {
                table: path.display().to_string(),
                operation,
                kind,
            });
        }
        for path in directories(&staging_root(&disk.path))? {
            let Some(operation) = name_of(&path).filter(|name| is_operation(name)) else {
                continue;
            };
            let staged = directories(&path)?.into_iter();
            holds.extend(staged.map(|directory| Hold {
                table: match name_of(&directory).and_then(table_of) {
                    Some(table) => table.to_string(),
                    None => directory.display().to_string(),
                },
                operation: operation.to_owned(),
                kind: HoldKind::Mend,
            }));
        }
    }
    Ok(holds)
}

/// The tables that an operation has staged for on some disks.
pub(super) fn staged(disks: &[Disk], operation: &str) -> Result<Vec<TableName>> {
    let mut tables = Vec::new();
    for disk in disks {
        let staged = directories(&staging_root(&disk.path).join(operation))?;
        let names = staged.iter().filter_map(|directory| name_of(directory));
        tables.extend(names.filter_map(table_of));
    }
    tables.sort();
    tables.dedup();
    Ok(tables)
}

/// The freezes on some disks that a mend can be undone by, as they are called there.
pub(super) fn kept(disks: &[Disk], operation: &str) -> Result<Vec<String>> {
    let wanted = Some((operation.to_owned(), HoldKind::Kept));
    let mut freezes = Vec::new();
    for disk in disks {
        let frozen = directories(&disk.path.join("shadow"))?;
        let names = frozen.iter().filter_map(|directory| name_of(directory));
        let own = names.filter(|name| frozen_by(name) == wanted);
        freezes.extend(own.map(str::to_owned));
    }
    freezes.sort();
    freezes.dedup();
    Ok(freezes)
}

/// The operation that a freeze was made for, by its name on the disks.
fn frozen_by(name: &str) -> Option<(String, HoldKind)> {
    let kept = name.strip_prefix(UNDO);
    let kept = kept.and_then(|rest| id_of(rest.rsplit_once('_')?.0));
    if let Some(operation) = kept {
        return Some((operation, HoldKind::Kept));
    }
    let operation = id_of(name.strip_prefix(FREEZE)?)?;
    Some((operation, HoldKind::Backup))
}

/// The id of an operation whose name on the disks has `_` between its words.
fn id_of(name: &str) -> Option<String> {
    let operation = name.replace('_', "-");
    is_operation(&operation).then_some(operation)
}

/// Whether a name is one that operations are given: `mend-20261121085356-64f2df`.
fn is_operation(name: &str) -> bool {
    let words: Vec<&str> = name.split('-').collect();
    let [kind, at, nonce] = words.as_slice() else {
        return false;
    };
    let is_kind = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_lowercase());
    let is_time = at.len() == 14 && at.bytes().all(|b| b.is_ascii_digit());
    let is_nonce = nonce.len() == 6 && nonce.bytes().all(|b| b.is_ascii_hexdigit());
    is_kind && is_time && is_nonce
}

/// The table whose directory has a name; `None` where that was cut.
fn table_of(directory: &str) -> Option<TableName> {
    let (database, table) = directory.split_once('.')?;
    let table = TableName::new(unescaped(database)?, unescaped(table)?);
    (table_directory(&table) == directory).then_some(table)
}

fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// The directories in one; none where that is not there.
fn directories(parent: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| unusable(parent, &error))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unusable(parent, &error))?;
        let kind = entry.file_type();
        let kind = kind.map_err(|error| unusable(&entry.path(), &error))?;
        if kind.is_dir() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::super::freeze_record::freeze_name;
    use super::super::markers::file_name;
    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_taken_for_empty() {
        let root = tempfile::tempdir().unwrap();
        let disks = [Disk {
            name: "default".to_owned(),
            path: root.path().to_owned(),
            free_bytes: 0,
            total_bytes: 0,
        }];
        assert_eq!(on(&disks).unwrap(), [], "nothing is there");
        // Reading a file as a directory fails as a disk does that is broken.
        fs::write(root.path().join("shadow"), "").unwrap();
        on(&disks).unwrap_err();
        kept(&disks, "mend-20261121085357-a4f2d0").unwrap_err();
        fs::write(root.path().join("mendb"), "").unwrap();
        staged(&disks, "mend-20261121085357-a4f2d0").unwrap_err();
    }

    #[test]
    fn directories_tell_which_operations_left_them_and_others_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(root.path().join(path)).unwrap();
        let (backup, mend, undo) = (
            "backup-20261121085356-64f2df",
            "mend-20261121085357-a4f2d0",
            "undo-20261121085358-0012ab",
        );
        let before = format!("undo_{mend}_0123456789abcdef");
        for freeze in [backup, undo, &before, "nightly", "x-1-2"] {
            make(&format!("shadow/{}", freeze_name(freeze)));
        }
        make("shadow/backup_20261121085356_64f2df");
        let odd = TableName::new("d", "odd.name/é");
        let long = TableName::new("d", "é".repeat(90));
        for table in [&odd, &long] {
            make(&format!(
                "mendb/{}/{}",
                file_name(mend),
                table_directory(table)
            ));
        }
        make("mendb/freezes/mendb_x");
        make("mendb/mends");
        let disks = [Disk {
            name: "default".to_owned(),
            path: root.path().to_owned(),
            free_bytes: 0,
            total_bytes: 0,
        }];
        let holds = on(&disks).unwrap();
        let mut told: Vec<(&str, HoldKind)> = holds
            .iter()
            .map(|hold| (hold.operation.as_str(), hold.kind))
            .collect();
        told.sort_by_key(|(operation, _)| *operation);
        told.dedup();
        let expected = [
            (backup, HoldKind::Backup),
            (mend, HoldKind::Kept),
            (mend, HoldKind::Mend),
            (undo, HoldKind::Backup),
        ];
        assert_eq!(told, expected);
        assert!(holds.iter().any(|hold| hold.table == odd.to_string()));
        assert_eq!(staged(&disks, mend).unwrap(), [odd]);
        assert_eq!(kept(&disks, mend).unwrap(), [freeze_name(&before)]);
        assert!(kept(&disks, undo).unwrap().is_empty());
    }
}
