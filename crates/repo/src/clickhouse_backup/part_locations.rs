//! Where a backup keeps the parts of one table: which directories and archives there are.
//!
//! One listing of each place finds all parts of a table, so that a part that vanished is known before
//! anything is changed on its account.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mendb_model::part::TableName;
use object_store::local::LocalFileSystem;

use super::archive::{Compression, Holds, parse_name};
use super::chain::Located;
use super::error::{ImportError, PartOf, Result};
use super::metadata::BackupMetadata;
use super::path_name::encode;
use super::stored::{Archive, Files, Slices, Stored};
use crate::objects::{Listed, Objects, StoreKind};

/// What a backup keeps of a table.
pub(super) struct PartLocations {
    /// The place where it was looked for, for errors.
    looked_in: String,
    kept: Kept,
}

enum Kept {
    /// By disk and part.
    Directories(HashMap<(String, String), Arc<Files>>),
    Archives {
        objects: Objects,
        directory: String,
        archives: Vec<Listed>,
        /// By disk, once one was asked for: names do not tell where that of the disk ends.
        by_disk: HashMap<String, DiskArchives>,
    },
}

/// The archives of one disk.
struct DiskArchives {
    /// By part.
    parts: HashMap<String, Archive>,
    /// Those that were cut by size.
    slices: Option<Arc<Slices>>,
}

impl PartLocations {
    /// Looks what is there.
    pub(super) async fn look(
        objects: &Objects,
        backup: &str,
        metadata: &BackupMetadata,
        table: &TableName,
    ) -> Result<Self> {
        let directory = directory_of(backup, table);
        let looked_in = objects.full_name(&directory);
        let kept = if metadata.has_directories() {
            let mut found = HashMap::new();
            collect(objects, &directory, &mut found).await?;
            if metadata.is_local() {
                for other in other_roots(objects, metadata) {
                    collect(&other, &directory, &mut found).await?;
                }
            }
            Kept::Directories(found)
        } else {
            let mut archives = objects.list(&directory).await?;
            archives.retain(|archive| !archive.name.contains('/'));
            Kept::Archives {
                objects: objects.clone(),
                directory,
                archives,
                by_disk: HashMap::new(),
            }
        };
        Ok(Self { looked_in, kept })
    }

    /// Where a part is.
    pub(super) fn find(&mut self, part: &Located, of: &PartOf) -> Result<Stored> {
        match &mut self.kept {
            Kept::Directories(found) => {
                let disks = [&part.stored_disk, &part.rebalanced_disk];
                let files = disks
                    .into_iter()
                    .find_map(|disk| found.get(&(disk.clone(), part.name.clone())));
                files
                    .map(|files| Stored::Files(Arc::clone(files)))
                    .ok_or_else(|| {
                        let (place, disk) = (&self.looked_in, &part.stored_disk);
                        of.missing(format!("{place}/{disk}/{} does not exist", part.name))
                    })
            }
            Kept::Archives {
                objects,
                directory,
                archives,
                by_disk,
            } => {
                let disk = &part.stored_disk;
                let archives = match by_disk.entry(disk.clone()) {
                    Entry::Occupied(sorted) => sorted.into_mut(),
                    Entry::Vacant(none) => {
                        none.insert(DiskArchives::sort(objects, directory, archives, disk)?)
                    }
                };
                let whole = archives.parts.get(&part.name).cloned();
                let whole = whole.map(Stored::Archive);
                let slices = || Some(Stored::Slices(Arc::clone(archives.slices.as_ref()?)));
                whole.or_else(slices).ok_or_else(|| {
                    let archive = format!("{disk}_{}", encode(&part.name));
                    let place = &self.looked_in;
                    of.missing(format!("{place}/{archive}.tar… does not exist"))
                })
            }
        }
    }
}

impl DiskArchives {
    /// Picks the archives of a disk. One that cannot be read is an error, whatever is in it.
    fn sort(objects: &Objects, directory: &str, archives: &[Listed], disk: &str) -> Result<Self> {
        let mut parts = HashMap::new();
        let mut numbered = BTreeMap::new();
        for archive in archives {
            let Some((holds, extension)) = parse_name(&archive.name, disk) else {
                continue;
            };
            let name = format!("{directory}/{}", archive.name);
            let compression =
                Compression::of(extension).ok_or_else(|| ImportError::Compression {
                    object: objects.full_name(&name),
                    compression: extension.trim_start_matches("tar.").to_owned(),
                })?;
            let archive = Archive {
                objects: objects.clone(),
                name,
                bytes: archive.bytes,
                compression,
            };
            match holds {
                Holds::Part(part) => drop(parts.insert(part, archive)),
                Holds::Slice(number) => drop(numbered.insert(number, archive)),
            }
        }
        let slices =
            (!numbered.is_empty()).then(|| Arc::new(Slices::new(numbered.into_values().collect())));
        Ok(Self { parts, slices })
    }
}

/// The directory of a table's data, below that of all backups.
fn directory_of(backup: &str, table: &TableName) -> String {
    let (database, table) = (encode(&table.database), encode(&table.table));
    format!("{backup}/shadow/{database}/{table}")
}

/// Adds the parts below a directory, `<disk>/<part>/<file>`. What was found before stays.
async fn collect(
    objects: &Objects,
    directory: &str,
    found: &mut HashMap<(String, String), Arc<Files>>,
) -> Result<()> {
    let mut parts: HashMap<(String, String), Vec<(String, u64)>> = HashMap::new();
    for Listed { name, bytes, .. } in objects.list(directory).await? {
        let mut path = name.splitn(3, '/');
        if let (Some(disk), Some(part), Some(file)) = (path.next(), path.next(), path.next()) {
            let files = parts.entry((disk.to_owned(), part.to_owned()));
            files.or_default().push((file.to_owned(), bytes));
        }
    }
    for ((disk, part), mut files) in parts {
        files.sort();
        let directory = format!("{directory}/{disk}/{part}");
        let objects = objects.clone();
        found.entry((disk, part)).or_insert_with(|| {
            Arc::new(Files {
                objects,
                directory,
                files,
            })
        });
    }
    Ok(())
}

/// The directories of backups on the other disks of the server that are on this machine.
fn other_roots(objects: &Objects, metadata: &BackupMetadata) -> Vec<Objects> {
    let StoreKind::Directory(root) = &objects.place else {
        return Vec::new();
    };
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut known = vec![canonical(root)];
    let mut roots = Vec::new();
    for path in metadata.disks.values() {
        let directory: PathBuf = Path::new(path).join("backup");
        if !directory.is_absolute() || !directory.is_dir() || known.contains(&canonical(&directory))
        {
            continue;
        }
        known.push(canonical(&directory));
        let prefix = object_store::path::Path::from_absolute_path(&directory);
        let url = url::Url::from_file_path(&directory);
        if let (Ok(prefix), Ok(url)) = (prefix, url) {
            let store = Arc::new(LocalFileSystem::new());
            let (place, options) = (StoreKind::Directory(directory), objects.options().clone());
            roots.push(Objects::new(store, place, prefix, url.as_str(), options));
        }
    }
    roots
}
