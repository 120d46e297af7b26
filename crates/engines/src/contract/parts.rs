//! What a store of parts must be able to do.
//!
//! Parts are directories of files, and whoever mends works beside the server: what is read or staged
//! is named by its path, and the worker reads and writes files there itself. Only the server, told in
//! SQL, makes parts live or removes them.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mendb_model::part::{
    DatabaseBackup, FileChecksum, Hash128, Inventory, MergeEvent, Part, ServerRun, TableDefinition,
    TableName,
};

use crate::error::Result;

/// A database of tables of immutable parts. The promises of [`super::Engine`] hold here too.
pub trait PartStore: Send + Sync {
    /// *inspect*: the server.
    ///
    /// # Errors
    /// It does not answer, or refuses the user.
    fn server(&self) -> Result<ServerInfo>;

    /// *inspect*: databases, tables, views and dictionaries that comma-separated patterns of
    /// `database.table` name, in an order in which they can be created. System databases are never
    /// among them.
    ///
    /// # Errors
    /// As [`Self::server`]. A table on a disk of object storage is an error that names it.
    fn catalogue(&self, patterns: &str) -> Result<Catalogue>;

    /// *inspect*: one table, or `None`.
    ///
    /// # Errors
    /// As [`Self::server`].
    fn table(&self, name: &TableName) -> Result<Option<TableDefinition>>;

    /// *inspect*: the disks with their free space. The first is the default one.
    ///
    /// # Errors
    /// As [`Self::server`], or a disk is not where the server says.
    fn disks(&self) -> Result<Vec<Disk>>;

    /// *inspect*: the names of the disks that hold the table's parts or may, in the order of its policy.
    ///
    /// # Errors
    /// As [`Self::server`].
    fn disks_of(&self, name: &TableName) -> Result<Vec<String>>;

    /// *inspect*: the names of the disks that a table with this storage policy would have, in its order;
    /// none where there is no such policy.
    ///
    /// # Errors
    /// As [`Self::server`].
    fn disks_of_policy(&self, policy: &str) -> Result<Vec<String>>;

    /// *inspect*: ids of the table's partitions that comma-separated patterns name, by id or by value as
    /// the server prints it (`202401`, `2024-01-01`, `('a',1)`).
    ///
    /// # Errors
    /// As [`Self::server`].
    fn partition_ids(&self, name: &TableName, patterns: &str) -> Result<Vec<String>>;

    /// *assess*: the active parts of a table, from metadata.
    ///
    /// # Errors
    /// The table is missing, or a part cannot be identified.
    fn inventory(&self, name: &TableName) -> Result<Inventory>;

    /// *assess*: whether the live parts of a partition are still these, and nothing is kept beside them
    /// that changes what they hold. Costs little, however many parts other partitions have.
    ///
    /// # Errors
    /// As [`Self::inventory`].
    fn is_unchanged(&self, name: &TableName, partition_id: &str, parts: &[&Part]) -> Result<bool>;

    /// *assess*: merges of the table that the server's part log tells of, those after a time in
    /// milliseconds since 1970; empty where there is no such log.
    ///
    /// # Errors
    /// As [`Self::server`].
    fn merge_log(&self, name: &TableName, since_ms: u64) -> Result<Vec<MergeEvent>>;

    /// *assess*: where the server has files of these contents: in live, inactive and detached parts of
    /// the table, in what is frozen, and in other tables. What is named was read from `checksums.txt`:
    /// whoever links a file still has to check its bytes.
    ///
    /// # Errors
    /// A directory cannot be read.
    fn find_files(
        &self,
        name: &TableName,
        wanted: &HashSet<FileChecksum>,
    ) -> Result<HashMap<FileChecksum, PathBuf>>;

    /// *freeze*: freezes the tables as close together as the server allows, under a name that stays
    /// until [`super::Engine::thaw`] or [`Self::drop_freeze`], also over crashes of either side. What an
    /// earlier attempt froze under the name is dropped first. Pending patch parts are applied before.
    ///
    /// # Errors
    /// A table is missing or cannot be frozen; nothing stays frozen then.
    fn freeze(&self, freeze: &str, tables: &[FreezeTable]) -> Result<Vec<FrozenTable>>;

    /// *freeze*: the parts of a table in a freeze.
    ///
    /// # Errors
    /// There is no such freeze (remedy: refreeze), or it cannot be read.
    fn frozen(&self, freeze: &str, name: &TableName) -> Result<Vec<FrozenPart>>;

    /// *freeze*: drops a freeze. None of that name is no error.
    ///
    /// # Errors
    /// Its files cannot be removed.
    fn drop_freeze(&self, freeze: &str) -> Result<()>;

    /// *read*: a part in a directory: what its files tell of it, and its files.
    ///
    /// # Errors
    /// It cannot be read, or is no whole part.
    fn read_part(&self, directory: &Path, name: &str, disk: &str) -> Result<PartContent>;

    /// *read*: of a part in a directory that is not live, the files whose bytes are not what its
    /// `checksums.txt` says: none for one that is whole. `on_read` is told bytes as they are read, and may
    /// end it early, with what was found until then.
    ///
    /// # Errors
    /// The files cannot be read for another reason than damage.
    fn prove_part(
        &self,
        directory: &Path,
        on_read: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Vec<DamagedFile>>;

    /// *assess*: as [`Self::prove_part`], of live parts: those that are damaged. Parts that are not live
    /// (any more) are left out.
    ///
    /// # Errors
    /// As [`Self::prove_part`], or the server does not answer.
    fn prove_live(
        &self,
        name: &TableName,
        parts: &[PartToProve],
        on_read: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Vec<LivePartDamage>>;

    /// Creates a database unless there is one.
    ///
    /// # Errors
    /// The server refuses.
    fn create_database(&self, database: &DatabaseBackup) -> Result<()>;

    /// Creates a table, view or dictionary as a backup tells, under another name if `name` differs.
    /// Databases in its statement are renamed as `databases` says. One that is there already is an error.
    ///
    /// # Errors
    /// The server refuses.
    fn create_table(
        &self,
        definition: &TableDefinition,
        name: &TableName,
        databases: &HashMap<String, String>,
    ) -> Result<()>;

    /// Removes a table, view or dictionary with all its data. One that is not there is no error.
    ///
    /// # Errors
    /// The server refuses.
    fn drop_table(&self, name: &TableName) -> Result<()>;

    /// Renames a table within its database.
    ///
    /// # Errors
    /// The server refuses.
    fn rename_table(&self, from: &TableName, to: &TableName) -> Result<()>;

    /// *stage*: a directory of the operation for parts of a table on one disk, on the file system of the
    /// live parts and outside of what the server looks at. Created if absent.
    ///
    /// # Errors
    /// It cannot be created.
    fn stage_directory(&self, operation: &str, name: &TableName, disk: &str) -> Result<PathBuf>;

    /// *stage*: makes a file of a part equal to one that is there: the same file where the server never
    /// writes into it, else a copy. Its bytes are as good as those of the one that is there. `false` if
    /// that is gone.
    ///
    /// # Errors
    /// It cannot be made.
    fn link_file(&self, from: &Path, to: &Path) -> Result<bool>;

    /// *stage*: as [`Self::link_file`], a directory of a part with all that is the part's and not its
    /// table's; what is at `to` is replaced. Returns the bytes of its files.
    ///
    /// # Errors
    /// As [`Self::link_file`], or it is gone.
    fn link_part(&self, from: &Path, to: &Path) -> Result<u64>;

    /// *stage*: gives parts that were staged the owner and the mode that the server's own files have,
    /// makes them durable, and renames each from where it was written to its final name.
    ///
    /// # Errors
    /// A file cannot be changed. Some of the parts may have their names then.
    fn seal_parts(&self, name: &TableName, parts: &[WrittenPart]) -> Result<()>;

    /// *apply*: stops merges and mutations of a table, and remembers it on disk until
    /// [`Self::start_merges`], so that they are started again also after a crash.
    ///
    /// # Errors
    /// The server refuses.
    fn stop_merges(&self, operation: &str, name: &TableName) -> Result<()>;

    /// *apply*: starts merges and mutations again; also where they were not stopped.
    ///
    /// # Errors
    /// The server refuses.
    fn start_merges(&self, operation: &str, name: &TableName) -> Result<()>;

    /// *apply*: starts the merges again that were stopped for operations and never started, because the
    /// process that stopped them died. To be called by the one process that drives, before it begins.
    ///
    /// # Errors
    /// The server refuses.
    fn start_forgotten_merges(&self) -> Result<()>;

    /// *apply*: ends mutations that are not finished, by id. Those that are over are no error.
    ///
    /// # Errors
    /// The server refuses.
    fn kill_mutations(&self, name: &TableName, mutation_ids: &[String]) -> Result<()>;

    /// *apply*: attaches staged parts in this order. Parts take new names; the directory is moved.
    ///
    /// # Errors
    /// A part cannot be attached; those before it are live.
    fn attach(&self, name: &TableName, parts: &[StagedPart]) -> Result<()>;

    /// *apply*: removes live parts by name. On servers that cannot remove single parts this is an
    /// error: see [`ServerInfo::drops_parts`].
    ///
    /// # Errors
    /// A part is not live any more, or the server refuses; those before it are gone.
    fn drop_parts(&self, name: &TableName, parts: &[String]) -> Result<()>;

    /// *apply*: makes a partition consist of these parts, in this order, at once for readers: they are
    /// put together in a staging table (live ones linked, staged ones linked so that they can be used
    /// again after a crash), verified there by their hashes, and exchanged. No parts: drops the partition.
    /// Live parts that are named in `goes` go whatever their hashes say, and no other is made of them: those
    /// that are damaged. Of a table of files it names what is live, which must still be that.
    ///
    /// # Errors
    /// What was put together is not what was asked for, or the server refuses; the partition is as
    /// before then. Remedy replan: the partition has changed meanwhile, and nothing that came is lost.
    fn exchange(
        &self,
        operation: &str,
        name: &TableName,
        partition_id: &str,
        parts: &[Origin],
        goes: &[String],
    ) -> Result<()>;

    /// *verify*: has the server check every part of the table, byte for byte. Returns those that are
    /// damaged, with what the server says of them.
    ///
    /// # Errors
    /// The server has no such check.
    fn check_table(&self, name: &TableName) -> Result<Vec<RefusedPart>>;

    /// Removes what an operation staged for a table: directories and staging tables.
    ///
    /// # Errors
    /// It cannot be removed.
    fn drop_stage(&self, operation: &str, name: &TableName) -> Result<()>;
}

/// A server, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its version.
    pub version: String,
    /// The running process.
    pub run: ServerRun,
    /// Its clock, in milliseconds since 1970.
    pub now_ms: u64,
    /// Whether it can remove single parts.
    pub drops_parts: bool,
}

/// Tables and their databases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The databases of the tables.
    pub databases: Vec<DatabaseBackup>,
    /// The tables, each after those that it depends on.
    pub tables: Vec<TableDefinition>,
}

/// A disk of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes free for the server.
    pub free_bytes: u64,
    /// All its bytes.
    pub total_bytes: u64,
}

/// A table to freeze.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeTable {
    /// The table.
    pub name: TableName,
    /// Only these partitions, by id; all without.
    pub partitions: Option<Vec<String>>,
}

/// A table that was frozen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenTable {
    /// The table.
    pub name: TableName,
    /// All its live parts when it was frozen, those that were not asked for included.
    pub current_parts: Inventory,
    /// The parts in the freeze, in the order of their partitions and blocks.
    pub parts: Vec<FrozenPart>,
}

/// A part in a freeze.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenPart {
    /// Its name.
    pub name: String,
    /// The disk it is on.
    pub disk: String,
    /// Where its files are.
    pub directory: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

/// A part as its files tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartContent {
    /// Name, rows, bytes, hash.
    pub part: Part,
    /// Its files, in the order of their names.
    pub files: Vec<FoundFile>,
}

/// A file of a part on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Its path inside the part, joined by `/`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// What `checksums.txt` says of it, if it lists it.
    pub checksum: Option<Hash128>,
}

/// A live part whose bytes are to be proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartToProve {
    /// Its name.
    pub name: String,
    /// The hash it has by the server's word, and must have by its `checksums.txt`.
    pub hash: Hash128,
    /// Only these of its files, by their paths in the part; all where there are none.
    pub files: Vec<String>,
}

/// A live part that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePartDamage {
    /// Its name.
    pub name: String,
    /// Its damaged files.
    pub files: Vec<DamagedFile>,
}

/// A file whose bytes are not what `checksums.txt` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// Its path inside the part, joined by `/`.
    pub name: String,
    /// What is wrong with it: `does not have the checksum that checksums.txt says`.
    pub why: String,
}

/// A live part that the server's own check did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedPart {
    /// Its name.
    pub name: String,
    /// What the server says of it.
    pub why: String,
}

/// A part that was staged, to be sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenPart {
    /// The directory it was written to.
    pub written: PathBuf,
    /// The directory, on the same file system, that it is to have.
    pub sealed: PathBuf,
}

/// A part that was staged and sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedPart {
    /// Its directory.
    pub directory: PathBuf,
    /// Its name in the backup: tells its partition, and its level.
    pub name: String,
    /// The disk it is on.
    pub disk: String,
    /// What it must turn out to be.
    pub hash: Hash128,
}

/// Where a part of a partition that is put together comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is live, under this name, with this hash.
    Live {
        /// Its name.
        name: String,
        /// Its hash.
        hash: Hash128,
    },
    /// It was staged.
    Staged(StagedPart),
}
