//! mendb's row store with the table of the benchmark.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bench::measure::{self, Cost};
use crate::bench::program::Program;
use crate::bench::scratch::size_bytes;

/// The table and its index, in both systems.
pub const TABLE: &str = "orders";
const INDEX: &str = "by_customer=customer+amount";
const COLLECTION: &str = "bench";
/// How a chain is restored: backup after backup, or all at once.
pub const SEQUENTIAL: &str = "sequential";
pub const MERGED: &str = "merged";
/// Shards of the table and of the index.
pub const SHARDS: u32 = 4;

/// A database with one collection of one table, and its repository. Removed when dropped.
pub struct Store<'a> {
    program: &'a Program,
    directory: PathBuf,
}

impl<'a> Store<'a> {
    /// Both empty, in a new directory.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(program: &'a Program, directory: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        Ok(Self { program, directory })
    }

    /// Creates the table from a CSV file, and the collection.
    ///
    /// # Errors
    /// The program failed.
    pub fn import(&self, csv: &Path, shards: u32) -> Result<Cost, String> {
        let mut import = self.command(&["table", "import", TABLE]);
        import
            .arg(csv)
            .args(["--create", "--key", "id", "--index", INDEX])
            .args(["--shards", &shards.to_string()]);
        let cost = measure::run(&mut import)?;
        let mut create = self.command(&["collection", "create", COLLECTION, "--table", TABLE]);
        measure::output(&mut create)?;
        Ok(cost)
    }

    /// Changes rows from a file of JSON lines.
    ///
    /// # Errors
    /// The program failed.
    pub fn change(&self, json_lines: &Path) -> Result<Cost, String> {
        let mut import = self.command(&["table", "import", TABLE]);
        measure::run(import.arg(json_lines).args(["--format", "jsonl"]))
    }

    /// Takes a backup and gives its bytes in the repository.
    ///
    /// # Errors
    /// The program failed.
    pub fn back_up(&self, label: &str, incremental: bool) -> Result<(Cost, u64), String> {
        let before = self.repository_bytes()?;
        let mut backup = self.command(&["backup", COLLECTION, "--label", label]);
        if incremental {
            backup.arg("--incremental");
        }
        let cost = measure::run(&mut backup)?;
        Ok((cost, self.repository_bytes()? - before))
    }

    /// Drops the table, then restores it to a backup and proves that it is what it was.
    ///
    /// # Errors
    /// The program failed, or the digests are not those of that time.
    pub fn restore(&self, label: &str, strategy: &str, digests: &str) -> Result<Cost, String> {
        measure::output(&mut self.command(&["table", "drop", TABLE]))?;
        let restore = ["restore", COLLECTION, "--to", label, "--strategy", strategy];
        let cost = measure::run(&mut self.command(&restore))?;
        let found = self.digests()?;
        if found == digests {
            return Ok(cost);
        }
        Err(format!(
            "the table restored to {label} differs: it has\n{found}\nand had\n{digests}"
        ))
    }

    /// Mends the live table to a backup and proves that it is what it was. Gives the report too.
    ///
    /// # Errors
    /// The program failed, or the digests are not those of that time.
    pub fn mend(&self, label: &str, digests: &str) -> Result<(Cost, Value), String> {
        let mend = ["restore", COLLECTION, "--in-place", "--to", label];
        let mut command = self.command(&mend);
        let (cost, said) = measure::run_alone(command.args(["--output", "json"]))?;
        let found = self.digests()?;
        if found != digests {
            return Err(format!(
                "the table mended to {label} differs: it has\n{found}\nand had\n{digests}"
            ));
        }
        let report = serde_json::from_str(&said)
            .map_err(|error| format!("the report of the mend is no JSON: {error}"))?;
        Ok((cost, report))
    }

    /// A copy of everything in another directory.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn copy(&self, directory: PathBuf) -> Result<Self, String> {
        let mut copy = Command::new("cp");
        measure::output(copy.arg("-r").arg(&self.directory).arg(&directory))?;
        Ok(Self {
            program: self.program,
            directory,
        })
    }

    /// The digests of the table and its index, checked against what they hold.
    ///
    /// # Errors
    /// The program failed, or found that they differ.
    pub fn digests(&self) -> Result<String, String> {
        measure::output(&mut self.command(&["table", "digest", TABLE]))
    }

    /// Bytes of the database.
    ///
    /// # Errors
    /// They cannot be counted.
    pub fn database_bytes(&self) -> Result<u64, String> {
        size_bytes(&self.directory.join("database"))
    }

    /// Bytes of the repository.
    ///
    /// # Errors
    /// They cannot be counted.
    pub fn repository_bytes(&self) -> Result<u64, String> {
        let repository = self.directory.join("repository");
        if repository.exists() {
            size_bytes(&repository)
        } else {
            Ok(0)
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let target = format!("mendb://{}", self.directory.join("database").display());
        let repository = self.directory.join("repository");
        let mut command = self.program.command(&self.directory, &target, &repository);
        command.args(words);
        command
    }
}

impl Drop for Store<'_> {
    fn drop(&mut self) {
        // Its parent goes too, later; this only frees the disk for what comes between.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
