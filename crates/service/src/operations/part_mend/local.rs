//! Where the server has files that a mend needs: searched once for a table and a mend.
//!
//! A search reads the list of files of every part of the server, so later steps use what it found. *Consistency*: parts
//! come and go meanwhile. When a file is gone by the time it is linked, the search is repeated, at most
//! [`REPEATS_MAX`] times for a table; a file that is still missing is downloaded. *Memory*: at most [`FILES_MAX`] files
//! are known at a time; for tables with more, the mend searches for one group of parts after another.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mendb_model::name::OperationId;
use mendb_model::part::{DamagedPart, FileChecksum, TableName};

use crate::attempt::Attempt;
use crate::task_error::TaskResult;

/// Files that are looked for at once: some 100 MB where the server has all of them.
pub(super) const FILES_AT_ONCE: usize = 500_000;

/// Files of which it is known at a time where they are.
const FILES_MAX: usize = 2 * FILES_AT_ONCE;

/// How often files are looked for again because one was gone.
const REPEATS_MAX: u32 = 3;

type Key = (OperationId, TableName);

/// What was looked for, by the table that it is for.
#[derive(Debug, Default)]
pub(super) struct LocalFilesCache(Mutex<Vec<(Key, Known)>>);

/// What is known for one table.
#[derive(Debug, Default)]
struct Known {
    /// Where a file is; `None` for one that is nowhere.
    places: HashMap<FileChecksum, Option<PathBuf>>,
    /// All that the table lacks was looked for.
    is_whole: bool,
    repeats: u32,
}

impl LocalFilesCache {
    fn tables(&self) -> MutexGuard<'_, Vec<(Key, Known)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, key: &Key, work: impl FnOnce(&mut Known) -> T) -> T {
        let mut tables = self.tables();
        let at = match tables.iter().position(|(known, _)| known == key) {
            Some(at) => at,
            None => {
                tables.push((key.clone(), Known::default()));
                tables.len() - 1
            }
        };
        work(&mut tables[at].1)
    }

    /// Forgets tables until there is room for so many files more, those that were known first first.
    fn make_room(&self, files: usize) {
        let mut tables = self.tables();
        let known = |tables: &[(Key, Known)]| -> usize {
            tables.iter().map(|(_, known)| known.places.len()).sum()
        };
        while !tables.is_empty() && known(&tables) + files > FILES_MAX {
            tables.remove(0);
        }
    }

    /// Forgets what was looked for on behalf of an operation.
    pub(super) fn forget(&self, operation_id: &OperationId) {
        self.tables().retain(|((id, _), _)| id != operation_id);
    }
}

/// The files for one table under mend.
pub(super) struct LocalFiles<'a> {
    attempt: &'a Attempt<'a>,
    cache: Arc<LocalFilesCache>,
    key: Key,
    /// Live parts with files that are no source of anything.
    damaged: &'a [DamagedPart],
}

impl<'a> LocalFiles<'a> {
    pub(super) fn new(
        attempt: &'a Attempt<'a>,
        target: &TableName,
        damaged: &'a [DamagedPart],
    ) -> Self {
        Self {
            attempt,
            cache: attempt.tools.kept.of(),
            key: (attempt.request.operation_id.clone(), target.clone()),
            damaged,
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        self.cache.with(&self.key, work)
    }

    /// Begins anew: nothing is known.
    pub(super) fn reset(&self) {
        self.with(|known| *known = Known::default());
    }

    /// Remembers that all that the table lacks was looked for.
    pub(super) fn set_whole(&self) {
        self.with(|known| known.is_whole = true);
    }

    /// Whether all that the table lacks was looked for.
    pub(super) fn is_whole(&self) -> bool {
        self.with(|known| known.is_whole)
    }

    /// Looks for files that were not looked for yet.
    pub(super) fn look_for(&self, files: impl Iterator<Item = FileChecksum>) -> TaskResult<()> {
        let unknown: HashSet<FileChecksum> = self.with(|known| {
            files
                .filter(|file| !known.places.contains_key(file))
                .collect()
        });
        self.search(&unknown)
    }

    fn search(&self, wanted: &HashSet<FileChecksum>) -> TaskResult<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        self.cache.make_room(wanted.len());
        let engine = self.attempt.tools.engine.parts()?;
        let mut found = match self.attempt.request.request.drill() {
            // It proves what the repository has, and not what the server still has.
            Some(_) => HashMap::new(),
            None => engine.find_files(&self.key.1, wanted)?,
        };
        found.retain(|_, path| !self.is_damaged(path));
        self.with(|known| {
            let places = wanted.iter().map(|file| (*file, found.remove(file)));
            known.places.extend(places);
        });
        Ok(())
    }

    fn is_damaged(&self, path: &Path) -> bool {
        self.damaged.iter().any(|part| {
            let mut files = part.files.iter();
            files.any(|file| path.ends_with(Path::new(&part.name).join(file)))
        })
    }

    /// Where a file is, by what is known.
    pub(super) fn place_of(&self, file: &FileChecksum) -> Option<PathBuf> {
        self.with(|known| known.places.get(file).cloned().flatten())
    }

    /// Takes back what was said of a file.
    pub(super) fn is_nowhere(&self, file: FileChecksum) {
        self.with(|known| known.places.insert(file, None));
    }

    /// Says that a file is gone, and looks for it again together with all others.
    pub(super) fn is_gone(&self, file: FileChecksum) -> TaskResult<Option<PathBuf>> {
        let again: Option<HashSet<FileChecksum>> = self.with(|known| {
            known.repeats += 1;
            let may_repeat = known.repeats <= REPEATS_MAX;
            may_repeat.then(|| known.places.keys().copied().collect())
        });
        match again {
            Some(all) => self.search(&all)?,
            None => self.is_nowhere(file),
        }
        Ok(self.place_of(&file))
    }
}
