//! What a store of parts must be able to do.
//!
//! Parts are directories of files, and a mend works beside the server: the contract names what is read or
//! staged by its path, and the engine reads and writes files there itself. Only the server makes parts live
//! or removes them.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mendb_model::part::{
    DatabaseBackup, Difference, FileChecksum, Hash128, Inventory, OnConcurrentInsert, Part,
    PartLog, Partition, RowPolicies, Selection, ServerRun, TableDefinition, TableName,
};

use super::bringing::{Bringing, DamagedFile, PartToBring, StagedPart, Supplier};
use super::catalogue::{Catalogue, Listing};
use super::replicas::{LostPlace, Replica, Replication};
use crate::error::{EngineError, Result};

/// A database of tables of immutable parts. The promises of [`super::Engine`] hold here too.
pub trait PartStore: Send + Sync {
    /// *inspect*: the server.
    ///
    /// # Errors
    /// It does not answer, or refuses the user.
    fn server(&self) -> Result<ServerInfo>;

    /// Whether it can remove single parts. The server is not asked.
    fn can_drop_parts(&self) -> bool;

    /// *inspect*: databases, tables, views and dictionaries that a selection names, in an order in which
    /// they can be created. System databases are never among them.
    ///
    /// # Errors
    /// As [`Self::server`].
    fn catalogue(&self, selection: &Selection) -> Result<Catalogue>;

    /// *inspect*: the names of what [`Self::catalogue`] tells, in the same order, for fewer questions.
    ///
    /// # Errors
    /// As [`Self::server`].
    fn listing(&self, selection: &Selection) -> Result<Listing>;

    /// *inspect*: one table, or `None`.
    ///
    /// # Errors
    /// As [`Self::server`].
    fn table(&self, name: &TableName) -> Result<Option<TableDefinition>>;

    /// *inspect*: the row policies of a table, and of all tables of its database; `None` where the server does
    /// not tell: it is too old, or the user may not see them.
    ///
    /// # Errors
    /// As [`Self::server`].
    fn row_policies(&self, name: &TableName) -> Result<Option<RowPolicies>>;

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

    /// *inspect*: the partitions of the table that have live parts, with their values as the server
    /// prints them (`202401`, `2024-01-01`, `('a',1)`).
    ///
    /// # Errors
    /// As [`Self::server`].
    fn partitions(&self, name: &TableName) -> Result<Vec<Partition>>;

    /// *assess*: the active parts of a table, from metadata.
    ///
    /// # Errors
    /// The table is missing, or a part cannot be identified.
    fn inventory(&self, name: &TableName) -> Result<Inventory>;

    /// *assess*: the live parts of a partition, in the order of their blocks. Costs little, however many
    /// parts other partitions have.
    ///
    /// # Errors
    /// As [`Self::inventory`].
    fn partition(&self, name: &TableName, partition_id: &str) -> Result<Vec<Part>>;

    /// *assess*: what the server's part log has of the table, from events after a time in milliseconds since
    /// 1970.
    ///
    /// # Errors
    /// As [`Self::server`].
    fn part_log(&self, name: &TableName, since_ms: u64) -> Result<PartLog>;

    /// *assess*: where the server has files of these contents: in live, inactive and detached parts of
    /// the table, in what is frozen, and in other tables. The answer was read from `checksums.txt`:
    /// a caller that links a file still has to check its bytes.
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
    /// earlier attempt froze under the name is dropped first. Pending patch parts are applied before. A
    /// table that is missing or cannot be frozen keeps no other from being frozen.
    ///
    /// # Errors
    /// The server does not answer, or a disk cannot be read; nothing stays frozen then.
    fn freeze_each(&self, freeze: &str, tables: &[FreezeTable]) -> Result<Freeze>;

    /// *freeze*: as [`Self::freeze_each`], all tables or none.
    ///
    /// # Errors
    /// As there; or a table is missing or cannot be frozen. Nothing stays frozen then.
    fn freeze(&self, freeze: &str, tables: &[FreezeTable]) -> Result<Vec<FrozenTable>> {
        let Freeze { tables, refused } = self.freeze_each(freeze, tables)?;
        match refused.into_iter().next() {
            None => Ok(tables),
            Some(refused) => {
                self.drop_freeze(freeze)?;
                Err(refused.error)
            }
        }
    }

    /// *freeze*: has updates that are kept in patch parts go into the parts they concern, and waits for it:
    /// a freeze leaves them out. Nothing to be done is no error, nor is a table that is not there.
    ///
    /// # Errors
    /// The server refuses.
    fn apply_patches(&self, name: &TableName) -> Result<()>;

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

    /// *read*: a part in a directory: what its files say about it, and its files.
    ///
    /// # Errors
    /// It cannot be read, or is no whole part.
    fn read_part(&self, directory: &Path, name: &str, disk: &str) -> Result<PartContent>;

    /// *assess*: the live parts of which files have other bytes than their `checksums.txt` says. Parts that are not
    /// live (any more) are left out. `on_read` is told bytes as they are read, and may end it early, with what was
    /// found until then.
    ///
    /// # Errors
    /// The files cannot be read for another reason than damage, or the server does not answer.
    fn prove_live(
        &self,
        name: &TableName,
        parts: &[PartToProve],
        on_read: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Vec<LivePartDamage>>;

    /// *inspect*: whether there is a database of this name.
    ///
    /// # Errors
    /// The server does not answer.
    fn has_database(&self, name: &str) -> Result<bool>;

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

    /// *inspect*: what a definition of a backup would be here, under a name and with databases renamed as
    /// `databases` says.
    ///
    /// # Errors
    /// Its statement is not understood.
    fn relocated(
        &self,
        definition: &TableDefinition,
        name: &TableName,
        databases: &HashMap<String, String>,
    ) -> Result<TableDefinition>;

    /// *inspect*: a definition in the words in which this server would print it; as it is where the server
    /// cannot say.
    ///
    /// # Errors
    /// As [`Self::server`].
    fn as_printed(&self, definition: &TableDefinition) -> Result<TableDefinition>;

    /// Whether the server can mend a difference of a definition by `ALTER`.
    fn can_alter(&self, difference: &Difference) -> bool;

    /// Whether the server can rename what is defined so.
    fn can_rename(&self, definition: &TableDefinition) -> bool;

    /// What was never tried with a table of this definition on a server such as this one; `None` where all that a
    /// mend does was.
    fn untried(&self, definition: &TableDefinition) -> Option<String>;

    /// *order*, *assess*: what a table has lost of its place among its replicas; `None` where nothing, where it is not
    /// replicated, or where what coordinates them does not say: [`Self::catch_up`] names that.
    ///
    /// # Errors
    /// The server does not answer.
    fn lost_place(&self, name: &TableName) -> Result<Option<LostPlace>>;

    /// *assess*: has the server make that place anew from the parts that it has, where it can. They get other names. Done
    /// again, and where nothing is lost, it changes nothing.
    ///
    /// # Errors
    /// The server refuses.
    fn restore_place(&self, name: &TableName) -> Result<()>;

    /// *assess*, *apply*: waits, within bounds, until all is here that other replicas of a table have brought.
    /// Returns which replicas there are, `None` of a table that is none. Merges and mutations are not waited for.
    ///
    /// # Errors
    /// The replica here cannot be changed, or does not catch up.
    fn catch_up(&self, name: &TableName) -> Result<Option<Replication>>;

    /// *inspect*: the tables that hand rows on to others, also of other servers, and have answered inserts whose rows they
    /// still have.
    ///
    /// # Errors
    /// As [`Self::server`], or their files cannot be read.
    fn unsent(&self) -> Result<Vec<TableName>>;

    /// *inspect*: the other replicas of a table beside the one here; none of a table that is not replicated. Those
    /// that are at work are waited for, within bounds, while they have something to do.
    ///
    /// # Errors
    /// The server does not answer, or has lost what coordinates the replicas.
    fn replicas(&self, name: &TableName) -> Result<Vec<Replica>>;

    /// Brings what exists to a definition, as far as [`mendb_model::part::redefining`] says that this can
    /// be done where it is. What rewrites parts is left until [`Moment::After`].
    ///
    /// # Errors
    /// The server refuses; some of the differences may be mended then.
    fn redefine(&self, name: &TableName, to: &TableDefinition, moment: Moment) -> Result<()>;

    /// Has the server read dictionaries again that depend on one of the tables. Each with what came of it:
    /// a dictionary may have failed before as well.
    ///
    /// # Errors
    /// The server does not tell which there are.
    fn reload_dependents(&self, tables: &[TableName]) -> Result<Vec<(String, Result<()>)>>;

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

    /// *stage*: puts parts together in what [`Self::stage_directory`] gave, and gives each its name when all of them
    /// are whole, every byte proved, durable, and such as the server's own files. What has its name already is left
    /// alone. A file of the server that the server never writes into is shared, another one copied.
    ///
    /// # Errors
    /// A file cannot be read or written, or a part turns out to be another one. Some of the parts may have their
    /// names then.
    fn bring(
        &self,
        name: &TableName,
        parts: &[PartToBring<'_>],
        supplier: &mut dyn Supplier,
    ) -> Result<Bringing>;

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
    /// process that stopped them died; not those of operations that go on. To be called by the one process
    /// that drives, before it begins.
    ///
    /// # Errors
    /// The server refuses.
    fn start_forgotten_merges(&self, go_on: &HashSet<String>) -> Result<()>;

    /// *apply*: ends mutations that are not finished, by id. Those that are over are no error.
    ///
    /// # Errors
    /// The server refuses.
    fn kill_mutations(&self, name: &TableName, mutation_ids: &[String]) -> Result<()>;

    /// *apply*: ids of the mutations of a table that the server remembers, finished or not.
    ///
    /// # Errors
    /// As [`Self::server`].
    fn mutation_ids(&self, name: &TableName) -> Result<Vec<String>>;

    /// *apply*: applies an update or delete, as [`Self::inventory`] tells it, to partitions by id, or to the
    /// whole table. Nothing if there is a mutation that says so and is not among the known ones: it was
    /// given before a crash. Old servers answer before they are done.
    ///
    /// # Errors
    /// It is no update or delete, or the server refuses.
    fn mutate(
        &self,
        name: &TableName,
        command: &str,
        partitions: Option<&[String]>,
        known: &[String],
    ) -> Result<()>;

    /// *apply*: attaches staged parts in this order. Parts take new names; the directory is moved.
    ///
    /// # Errors
    /// A part cannot be attached; those before it are live.
    fn attach(&self, name: &TableName, parts: &[StagedPart]) -> Result<()>;

    /// *apply*: removes live parts by name. On servers that cannot remove single parts this is an
    /// error: see [`PartStore::can_drop_parts`].
    ///
    /// # Errors
    /// A part is not live any more, or the server refuses; those before it are gone.
    fn drop_parts(&self, name: &TableName, parts: &[String]) -> Result<()>;

    /// *apply*: makes a partition consist of these parts, in this order, at once for readers: they are
    /// put together in a staging table (live ones linked, staged ones linked so that they can be used
    /// again after a crash), verified there by their hashes, and exchanged. No parts: empties the partition.
    /// What somebody inserted meanwhile is kept, removed, or stops it, as the exchange says. A table of files is
    /// one thing: whatever changes it meanwhile stops it.
    ///
    /// # Errors
    /// What was put together is not what was asked for, or the server refuses; the partition is as
    /// before then. Remedy replan: the partition has changed meanwhile, and nothing that came is lost.
    fn exchange(&self, operation: &str, name: &TableName, exchange: &Exchange<'_>) -> Result<()>;

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

/// A server, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its version.
    pub version: String,
    /// The running process.
    pub run: ServerRun,
    /// Its clock, in milliseconds since 1970.
    pub now_ms: u64,
}

/// When in a mend a definition is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before parts come: what does not rewrite any.
    Before,
    /// When all is proved: everything.
    After,
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

/// What came of freezing tables.
#[derive(Debug)]
pub struct Freeze {
    /// The tables that are frozen.
    pub tables: Vec<FrozenTable>,
    /// Those that are not.
    pub refused: Vec<RefusedTable>,
}

/// A table that could not be frozen.
#[derive(Debug)]
pub struct RefusedTable {
    /// The table.
    pub name: TableName,
    /// Why not.
    pub error: EngineError,
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

/// A part as its files describe it.
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

/// A live part that the server's own check did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedPart {
    /// Its name.
    pub name: String,
    /// What the server says of it.
    pub why: String,
}

/// New content for a partition.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The partition.
    pub partition_id: &'a str,
    /// What it is to consist of, in this order.
    pub parts: &'a [Origin],
    /// Names of the live parts that were seen when this was planned. Others came since.
    pub seen: &'a HashSet<String>,
    /// Names of live parts that are damaged: they go whatever their hashes say, and no other is made of them.
    pub damaged: &'a [String],
    /// What becomes of these: they stop the exchange before anything is changed, go with the rest, or stay
    /// behind what is put together. In the first and the last case, what comes in the instant of the exchange
    /// is brought back.
    pub on_concurrent_insert: OnConcurrentInsert,
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
