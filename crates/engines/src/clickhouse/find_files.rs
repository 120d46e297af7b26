//! Where files of known contents already are on the server.
//!
//! *Consistency*: what is named had that content by its `checksums.txt`, and that size, when it was
//! looked at. Parts come and go meanwhile: a directory that goes away is passed over, and a file that was
//! named may be gone when it is linked. *Cost*: one small file is read per part, until everything wanted
//! is found; memory is that of what is wanted.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use mendb_model::part::{FileChecksum, PartName, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::part_files;
use crate::error::Result;

/// What is still wanted, and what was found.
struct Search<'a> {
    wanted: &'a HashSet<FileChecksum>,
    found: HashMap<FileChecksum, PathBuf>,
}

impl ClickHouse {
    /// Looks into live, inactive and detached parts of the table, then into those that are frozen, then
    /// into other tables.
    pub(super) fn search_files(
        &self,
        name: &TableName,
        wanted: &HashSet<FileChecksum>,
    ) -> Result<HashMap<FileChecksum, PathBuf>> {
        let mut search = Search {
            wanted,
            found: HashMap::new(),
        };
        if search.is_done() {
            return Ok(search.found);
        }
        // A table that is still to be created has none.
        for (_, directory) in self.find_directories(name)?.unwrap_or_default() {
            search.look_into_table(&directory);
        }
        for disk in self.list_disks()? {
            search.look_into_shadow(&disk.path.join("shadow"));
        }
        if !search.is_done() {
            for directory in self.directories_of_others(name)? {
                search.look_into_table(&directory);
            }
        }
        let (files, found) = (wanted.len(), search.found.len());
        tracing::debug!(table = %name, files, found, "looked for files");
        Ok(search.found)
    }

    /// Directories of all other tables that have parts.
    fn directories_of_others(&self, name: &TableName) -> Result<Vec<PathBuf>> {
        #[derive(Deserialize)]
        struct Row {
            database: String,
            name: String,
            paths: Vec<String>,
        }
        let paths = if self.abilities.data_paths {
            "data_paths"
        } else {
            "[data_path]"
        };
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT database, name, {paths} AS paths FROM system.tables \
             WHERE engine LIKE '%MergeTree' AND NOT is_temporary AND database != 'system' \
             ORDER BY database, name"
        ))?;
        let others = rows
            .into_iter()
            .filter(|row| (&row.database, &row.name) != (&name.database, &name.table));
        let paths = others.flat_map(|row| row.paths);
        Ok(paths
            .filter(|path| !path.is_empty())
            .map(|path| self.places.seen(&path))
            .collect())
    }
}

impl Search<'_> {
    fn is_done(&self) -> bool {
        self.found.len() == self.wanted.len()
    }

    /// Parts in a directory of a table, those that were replaced included, and its detached ones.
    fn look_into_table(&mut self, directory: &Path) {
        for name in subdirectories(directory) {
            if name.parse::<PartName>().is_ok() {
                self.look_into_part(&directory.join(name));
            }
        }
        let detached = directory.join("detached");
        for name in subdirectories(&detached) {
            // Their names may have anything before or after that of the part.
            self.look_into_part(&detached.join(name));
        }
    }

    /// Parts of all freezes of a disk.
    fn look_into_shadow(&mut self, shadow: &Path) {
        for freeze in subdirectories(shadow) {
            // `store/<first digits>/<uuid>` and `data/<database>/<table>`.
            for kind in ["store", "data"] {
                let kind = shadow.join(&freeze).join(kind);
                for group in subdirectories(&kind) {
                    let group = kind.join(group);
                    for table in subdirectories(&group) {
                        self.look_into_table(&group.join(table));
                    }
                }
            }
        }
    }

    fn look_into_part(&mut self, directory: &Path) {
        if self.is_done() {
            return;
        }
        // What cannot be read is no place to link from.
        let Ok(checksums) = part_files::checksums_of(directory) else {
            return;
        };
        for (name, listed) in checksums.files() {
            let identity = listed.identity();
            let path = directory.join(name);
            if self.wanted.contains(&identity)
                && !self.found.contains_key(&identity)
                && fs::symlink_metadata(&path)
                    .is_ok_and(|file| file.is_file() && file.len() == identity.bytes)
            {
                self.found.insert(identity, path);
            }
        }
        for (name, _) in checksums.projections() {
            self.look_into_part(&directory.join(name));
        }
    }
}

/// Names of the directories in a directory, in order; none if it cannot be read.
fn subdirectories(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let directories = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = directories
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}
