//! A ClickHouse server as an engine: SQL over HTTP, and its files beside it.
//!
//! Servers from 18.16 on. What one can do is asked of it (`server::Abilities`); what it cannot is done
//! in another way, or refused by name. Files are read where the server says that they are, and written
//! only to directories of mendb's own and to `detached/`.
//!
//! Start at `inventory` for what a table consists of, at `freeze` for how a backup holds it still, at
//! `exchange` for how a partition is replaced, and at `inner` for names that are not the server's.
//!
//! *Crash*: what has to be found again or undone is in the state directory before it is done
//! (`freeze_record`, `markers`). *Retry*: every method can be called again, see [`Engine`]; a server
//! that does not answer is not asked twice here, the error says that it may be.

mod attach;
mod bring;
mod bytes;
mod catalogue;
mod check;
mod client;
mod create;
mod definition;
mod dependencies;
mod disks;
mod drop;
mod exchange;
mod find_files;
mod freeze;
mod freeze_record;
mod held;
mod holds;
mod identity;
mod inner;
mod inventory;
mod left;
mod links;
mod live_parts;
mod lost_place;
mod markers;
mod merges;
mod mutate;
mod packed;
mod part_files;
mod part_log;
mod partitions;
mod plain;
mod readiness;
mod redefine;
mod reload;
mod replica;
mod replica_log;
mod replica_parts;
mod rewrite;
mod row_policies;
mod server;
mod stage;
mod staging_root;
mod survey;
mod unseen;
mod unsent;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use client::{Client, literal};
use disks::{Places, ToldDisk};
use mendb_model::part::{
    DatabaseBackup, Difference, FILES_PARTITION, FileChecksum, Inventory, Part, PartLog, Partition,
    RowPolicies, Selection, TableDefinition, TableName,
};
use server::Abilities;

use crate::contract::bringing::{Bringing, PartToBring, StagedPart, Supplier};
use crate::contract::catalogue::{Catalogue, Listing};
use crate::contract::parts::{
    Disk, Exchange, Freeze, FreezeTable, FrozenPart, LivePartDamage, Moment, PartContent,
    PartStore, PartToProve, RefusedPart, ServerInfo,
};
use crate::contract::replicas::{LostPlace, Replica, Replication};
use crate::contract::{Data, Engine, Hold, Lock};
use crate::error::Result;
pub use holds::in_state as holds_in_state;
pub use readiness::{Finding, Grade, readiness};
pub use survey::{
    ClusterMember, DiskSpace, ReplicatedTable, ServerSurvey, cluster_members, survey,
};

/// How to reach a server and its files.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    /// The address of its HTTP interface: `http://localhost:8123`.
    pub url: String,
    /// The user.
    pub user: String,
    /// The user's password; empty for none.
    pub password: String,
    /// Where this process sees the directory of the server's default disk, if not where the server does.
    pub data_path: Option<PathBuf>,
    /// How long replicas of a table are waited for that have something to do.
    pub replica_wait: Duration,
}

/// A server that answers, with what it can do and where its files are. Nothing is kept of it yet.
pub struct Connection {
    client: Client,
    abilities: Abilities,
    places: Places,
    replica_wait: Duration,
}

impl Connection {
    /// Connects to a server and asks what it can do.
    ///
    /// # Errors
    /// It does not answer, or refuses the user.
    pub fn open(options: &ConnectionOptions) -> Result<Self> {
        let client = Client::new(&options.url, &options.user, &options.password)?;
        let abilities = Abilities::of(&client)?;
        let places = Places::of(&client, abilities.disks, options.data_path.as_deref())?;
        Ok(Self {
            client,
            abilities,
            places,
            replica_wait: options.replica_wait,
        })
    }

    /// The directory of the server's default disk, as this process sees it.
    pub fn data_directory(&self) -> &Path {
        self.places.data_directory()
    }
}

/// A server that mendb works beside.
pub struct ClickHouse {
    client: Client,
    abilities: Abilities,
    places: Places,
    disks: OnceLock<Vec<ToldDisk>>,
    /// A directory of mendb's own, for what has to outlive a crash of either side.
    state_directory: PathBuf,
    replica_wait: Duration,
}

impl ClickHouse {
    /// A server, and a directory of mendb's own for it.
    pub fn new(connection: Connection, state_directory: PathBuf) -> Self {
        let Connection {
            client,
            abilities,
            places,
            replica_wait,
        } = connection;
        Self {
            client,
            abilities,
            places,
            disks: OnceLock::new(),
            state_directory,
            replica_wait,
        }
    }
}

impl Engine for ClickHouse {
    fn data(&self) -> Data<'_> {
        Data::Parts(self)
    }

    fn identify(&self, new_id: &str) -> Result<String> {
        identity::identify(&self.state_directory, new_id)
    }

    fn locks(&self) -> Result<Vec<Lock>> {
        let mut locks = self.freeze_locks()?;
        locks.extend(self.stage_locks()?);
        Ok(locks)
    }

    fn holds(&self) -> Result<Vec<Hold>> {
        let mut holds = holds::in_state(&self.state_directory)?;
        let disks = self.list_disks()?;
        let is_recorded = |left: &Hold, holds: &[Hold]| {
            let mut recorded = holds.iter();
            recorded.any(|hold| hold.operation == left.operation && hold.kind == left.kind)
        };
        let left = left::on(&disks)?.into_iter();
        let left: Vec<Hold> = left.filter(|left| !is_recorded(left, &holds)).collect();
        holds.extend(left);
        Ok(holds)
    }

    fn drop_kept(&self, operation: &str) -> Result<()> {
        for freeze in holds::kept_freezes(&self.state_directory, operation)? {
            self.remove_freeze(&freeze)?;
        }
        for freeze in left::kept(&self.list_disks()?, operation)? {
            self.remove_freeze(&freeze)?;
        }
        Ok(())
    }

    fn is_frozen(&self, operation: &str) -> Result<bool> {
        self.has_freeze(operation)
    }

    fn thaw(&self, operation: &str) -> Result<()> {
        self.remove_freeze(operation)
    }

    fn make_live(&self, operation: &str) -> Result<()> {
        self.finish(operation)
    }

    fn drop_staged(&self, operation: &str) -> Result<()> {
        self.undo_stage(operation)
    }
}

impl PartStore for ClickHouse {
    fn server(&self) -> Result<ServerInfo> {
        Ok(self.server_info()?)
    }

    fn can_drop_parts(&self) -> bool {
        self.abilities.drops_parts
    }

    fn catalogue(&self, selection: &Selection) -> Result<Catalogue> {
        self.list_tables(selection)
    }

    fn listing(&self, selection: &Selection) -> Result<Listing> {
        self.name_tables(selection)
    }

    fn table(&self, name: &TableName) -> Result<Option<TableDefinition>> {
        self.find_table(name, &self.told_name(name)?)
    }

    fn row_policies(&self, name: &TableName) -> Result<Option<RowPolicies>> {
        let told = self.told_name(name)?;
        Ok(self.all_row_policies()?.map(|all| all.of(&told)))
    }

    fn disks(&self) -> Result<Vec<Disk>> {
        self.list_disks()
    }

    fn disks_of(&self, name: &TableName) -> Result<Vec<String>> {
        self.disk_names(&self.told_name(name)?)
    }

    fn disks_of_policy(&self, policy: &str) -> Result<Vec<String>> {
        Ok(self.policy_disks(&literal(policy))?)
    }

    fn partitions(&self, name: &TableName) -> Result<Vec<Partition>> {
        Ok(self.live_partitions(&self.told_name(name)?)?)
    }

    fn inventory(&self, name: &TableName) -> Result<Inventory> {
        self.take_inventory(&self.told_name(name)?)
    }

    fn partition(&self, name: &TableName, partition_id: &str) -> Result<Vec<Part>> {
        let told = self.told_name(name)?;
        if partition_id == FILES_PARTITION {
            let table = self.plain_table(&told)?;
            let part = table.map(|table| self.plain_part(&table)).transpose()?;
            return Ok(part.flatten().into_iter().collect());
        }
        let live = self.live_parts(&told, partition_id)?;
        Ok(live.into_iter().map(Part::from).collect())
    }

    fn part_log(&self, name: &TableName, since_ms: u64) -> Result<PartLog> {
        self.read_part_log(&self.told_name(name)?, since_ms)
    }

    fn find_files(
        &self,
        name: &TableName,
        wanted: &HashSet<FileChecksum>,
    ) -> Result<HashMap<FileChecksum, PathBuf>> {
        self.search_files(&self.told_name(name)?, wanted)
    }

    fn freeze_each(&self, freeze: &str, tables: &[FreezeTable]) -> Result<Freeze> {
        self.freeze_tables(freeze, tables)
    }

    fn apply_patches(&self, name: &TableName) -> Result<()> {
        self.apply_told_patches(&self.told_name(name)?)
    }

    fn frozen(&self, freeze: &str, name: &TableName) -> Result<Vec<FrozenPart>> {
        self.frozen_parts(freeze, name)
    }

    fn drop_freeze(&self, freeze: &str) -> Result<()> {
        self.remove_freeze(freeze)
    }

    fn read_part(&self, directory: &Path, name: &str, disk: &str) -> Result<PartContent> {
        part_files::read(directory, name, disk)
    }

    fn prove_live(
        &self,
        name: &TableName,
        parts: &[PartToProve],
        on_read: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Vec<LivePartDamage>> {
        Self::prove_live(self, name, parts, on_read)
    }

    fn has_database(&self, name: &str) -> Result<bool> {
        Self::has_database(self, name)
    }

    fn create_database(&self, database: &DatabaseBackup) -> Result<()> {
        Self::create_database(self, database)
    }

    fn create_table(
        &self,
        definition: &TableDefinition,
        name: &TableName,
        databases: &HashMap<String, String>,
    ) -> Result<()> {
        // The table of a view came with it, under the name that the server gave it.
        let is_there = inner::view_of(&name.table).is_some() && self.table(name)?.is_some();
        if is_there {
            return Ok(());
        }
        Self::create_table(self, definition, name, databases)
    }

    fn relocated(
        &self,
        definition: &TableDefinition,
        name: &TableName,
        databases: &HashMap<String, String>,
    ) -> Result<TableDefinition> {
        Self::relocated(self, definition, name, databases)
    }

    fn as_printed(&self, definition: &TableDefinition) -> Result<TableDefinition> {
        Self::as_printed(self, definition)
    }

    fn can_alter(&self, difference: &Difference) -> bool {
        Self::can_alter(self, difference)
    }

    fn can_rename(&self, definition: &TableDefinition) -> bool {
        // Databases of before UUIDs find the table of a view by the view's name.
        definition.engine != "MaterializedView" || self.abilities.uuids
    }

    fn untried(&self, definition: &TableDefinition) -> Option<String> {
        self.untried_of(definition)
    }

    fn lost_place(&self, name: &TableName) -> Result<Option<LostPlace>> {
        self.find_lost_place(&self.told_name(name)?)
    }

    fn restore_place(&self, name: &TableName) -> Result<()> {
        self.make_place_anew(&self.told_name(name)?)
    }

    fn catch_up(&self, name: &TableName) -> Result<Option<Replication>> {
        self.catch_up_with_others(&self.told_name(name)?)
    }

    fn unsent(&self) -> Result<Vec<TableName>> {
        self.find_unsent()
    }

    fn replicas(&self, name: &TableName) -> Result<Vec<Replica>> {
        self.compare_replicas(&self.told_name(name)?)
    }

    fn redefine(&self, name: &TableName, to: &TableDefinition, moment: Moment) -> Result<()> {
        Self::redefine(self, name, to, moment)
    }

    fn reload_dependents(&self, tables: &[TableName]) -> Result<Vec<(String, Result<()>)>> {
        self.reload(tables)
    }

    fn drop_table(&self, name: &TableName) -> Result<()> {
        Self::drop_table(self, name)
    }

    fn rename_table(&self, from: &TableName, to: &TableName) -> Result<()> {
        Self::rename_table(self, from, to)
    }

    fn stage_directory(&self, operation: &str, name: &TableName, disk: &str) -> Result<PathBuf> {
        Self::stage_directory(self, operation, name, disk)
    }

    fn bring(
        &self,
        name: &TableName,
        parts: &[PartToBring<'_>],
        supplier: &mut dyn Supplier,
    ) -> Result<Bringing> {
        Self::bring(self, name, parts, supplier)
    }

    fn stop_merges(&self, operation: &str, name: &TableName) -> Result<()> {
        Self::stop_merges(self, operation, name)
    }

    fn start_merges(&self, operation: &str, name: &TableName) -> Result<()> {
        Self::start_merges(self, operation, name)
    }

    fn start_forgotten_merges(&self, go_on: &HashSet<String>) -> Result<()> {
        self.start_marked_merges(go_on)
    }

    fn kill_mutations(&self, name: &TableName, mutation_ids: &[String]) -> Result<()> {
        Self::kill_mutations(self, name, mutation_ids)
    }

    fn mutation_ids(&self, name: &TableName) -> Result<Vec<String>> {
        Self::mutation_ids(self, name)
    }

    fn mutate(
        &self,
        name: &TableName,
        command: &str,
        partitions: Option<&[String]>,
        known: &[String],
    ) -> Result<()> {
        Self::mutate(self, name, command, partitions, known)
    }

    fn attach(&self, name: &TableName, parts: &[StagedPart]) -> Result<()> {
        Self::attach(self, name, parts)
    }

    fn drop_parts(&self, name: &TableName, parts: &[String]) -> Result<()> {
        Self::drop_parts(self, name, parts)
    }

    fn exchange(&self, operation: &str, name: &TableName, exchange: &Exchange<'_>) -> Result<()> {
        if exchange.partition_id == FILES_PARTITION {
            let seen: Vec<String> = exchange.seen.iter().cloned().collect();
            return self.replace_plain(operation, name, exchange.parts, &seen);
        }
        Self::exchange(self, operation, name, exchange)
    }

    fn check_table(&self, name: &TableName) -> Result<Vec<RefusedPart>> {
        Self::check_table(self, name)
    }

    fn drop_stage(&self, operation: &str, name: &TableName) -> Result<()> {
        Self::drop_stage(self, operation, name)
    }
}
