//! ClickHouse's own `BACKUP` and `RESTORE`.

use std::path::PathBuf;

use super::dataset::TABLE;
use super::measured::Measured;
use super::servers::Server;
use crate::bench::measure::{self, Cost};
use crate::bench::scratch::{Scratch, remove, size_bytes};

/// Where the server may write backups, in the directory of the benchmark.
pub const DIRECTORY: &str = "native";
const FIRST: &str = "first";

/// The server and the place of its backups.
pub struct Native<'a> {
    server: &'a Server,
    directory: PathBuf,
}

impl<'a> Native<'a> {
    pub fn new(server: &'a Server, scratch: &Scratch) -> Self {
        Self {
            server,
            directory: scratch.path(DIRECTORY),
        }
    }

    /// Backs up everything, in place of an earlier backup.
    ///
    /// # Errors
    /// The server refused.
    pub fn first(&self) -> Result<Measured, String> {
        self.back_up(FIRST, "")
    }

    /// Backs up what the first backup lacks.
    ///
    /// # Errors
    /// The server refused.
    pub fn increment(&self, name: &str) -> Result<Measured, String> {
        let base = format!(" SETTINGS base_backup = {}", self.file(FIRST));
        self.back_up(name, &base)
    }

    /// Empties the table and restores the first backup into it.
    ///
    /// # Errors
    /// The server refused.
    pub fn restore(&self) -> Result<Cost, String> {
        measure::action(|| {
            self.server.try_query(&format!("TRUNCATE TABLE {TABLE}"))?;
            let from = self.file(FIRST);
            let restore = format!("RESTORE TABLE {TABLE} FROM {from}");
            self.server.try_query(&restore).map(drop)
        })
    }

    /// Where the files of the first backup are.
    pub fn first_directory(&self) -> PathBuf {
        self.directory.join(FIRST)
    }

    fn back_up(&self, name: &str, settings: &str) -> Result<Measured, String> {
        let path = self.directory.join(name);
        remove(&path)?;
        let backup = format!("BACKUP TABLE {TABLE} TO {}{settings}", self.file(name));
        let cost = measure::action(|| self.server.try_query(&backup).map(drop))?;
        Ok(Measured {
            cost,
            bytes: size_bytes(&path)?,
        })
    }

    /// A backup as statements name it.
    fn file(&self, name: &str) -> String {
        format!("File('{}')", self.directory.join(name).display())
    }
}
