//! What operations do with a [`FolderStore`].

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use mendb_engines::{
    Bringing, Brought, Catalogue, Disk, EngineError, Exchange, Freeze, FreezeTable, FrozenPart,
    FrozenTable, ListedTable, Listing, LivePartDamage, LostPlace, Moment, PartContent, PartStore,
    PartToBring, PartToProve, RefusedPart, RefusedTable, Remedy, Replica, Replication, Result,
    ServerInfo, StagedPart, Supplier,
};
use mendb_model::part::{
    Aspect, DatabaseBackup, Difference, FileChecksum, Inventory, Part, PartLog, Partition,
    RowPolicies, Selection, Selector, ServerRun, TableDefinition, TableName,
};

use super::change::{gone, partition_of};
use super::part::{self, unusable};
use super::state::{Frozen, State, Table};
use super::{DISK, FolderStore};

/// Room on the disk.
const FREE_BYTES: u64 = 1 << 40;

impl FolderStore {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes what is there, all or nothing.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.state();
        let mut changed = state.clone();
        let done = work(&mut changed)?;
        changed.write(&self.root)?;
        *state = changed;
        Ok(done)
    }

    pub(super) fn remove(&self, directory: &Path) -> Result<()> {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(unusable(directory, &error))
            }
            _ => Ok(()),
        }
    }

    fn run() -> ServerRun {
        ServerRun {
            host: "folder".to_owned(),
            started_at_s: 1,
        }
    }

    fn live_part(&self, table: &Table, name: &str) -> Result<PartContent> {
        part::read(&table.directory(&self.root).join(name), name, DISK)
    }

    pub(super) fn live_parts(&self, table: &Table, partition_id: &str) -> Result<Vec<Part>> {
        let names = table.parts_of(partition_id);
        let parts = names
            .iter()
            .map(|name| Ok(self.live_part(table, name)?.part));
        parts.collect()
    }

    fn inventory_of(&self, table: &Table) -> Result<Inventory> {
        let mut parts = Vec::new();
        for id in table.partition_ids() {
            parts.extend(self.live_parts(table, &id)?);
        }
        let partitions = table.partition_ids().into_iter().map(|id| (id.clone(), id));
        Ok(Inventory {
            taken_at_ms: 1,
            incarnation: table.incarnation.clone(),
            run: Self::run(),
            parts,
            mutations: table.mutations.clone(),
            patches: Vec::new(),
            partitions: partitions.collect(),
            is_replicated: false,
        })
    }

    fn shadow(&self, freeze: &str, name: &TableName) -> PathBuf {
        self.root.join("shadow").join(freeze).join(name.to_string())
    }
}

impl PartStore for FolderStore {
    fn server(&self) -> Result<ServerInfo> {
        Ok(ServerInfo {
            version: "1".to_owned(),
            run: Self::run(),
            now_ms: 1,
        })
    }

    fn can_drop_parts(&self) -> bool {
        true
    }

    fn catalogue(&self, selection: &Selection) -> Result<Catalogue> {
        let state = self.state();
        let mut catalogue = Catalogue::default();
        for table in &state.tables {
            let (name, engine) = (&table.definition.name, &table.definition.engine);
            if !name.matches(&selection.tables) {
                continue;
            }
            if selection.exclude.leaves_out(name, engine) {
                catalogue.left_out.push(name.clone());
                continue;
            }
            if !catalogue
                .databases
                .iter()
                .any(|it| it.name == name.database)
            {
                catalogue.databases.push(database(&name.database));
            }
            catalogue.tables.push(table.definition.clone());
        }
        let fits = |pattern: &str| {
            let mut tables = state.tables.iter();
            tables.any(|table| table.definition.name.matches(pattern))
        };
        catalogue.unmatched = Selector::Tables.unmatched(&selection.tables, fits);
        Ok(catalogue)
    }

    fn listing(&self, selection: &Selection) -> Result<Listing> {
        let catalogue = self.catalogue(selection)?;
        let listed = |table: TableDefinition| ListedTable {
            has_parts: table.has_parts(),
            name: table.name,
        };
        Ok(Listing {
            tables: catalogue.tables.into_iter().map(listed).collect(),
            refused: catalogue.refused,
            left_out: catalogue.left_out,
            unmatched: catalogue.unmatched,
        })
    }

    fn table(&self, name: &TableName) -> Result<Option<TableDefinition>> {
        let state = self.state();
        Ok(state.find(name).map(|table| table.definition.clone()))
    }

    fn row_policies(&self, _: &TableName) -> Result<Option<RowPolicies>> {
        Ok(Some(RowPolicies::new()))
    }

    fn disks(&self) -> Result<Vec<Disk>> {
        Ok(vec![Disk {
            name: DISK.to_owned(),
            path: self.root.clone(),
            free_bytes: FREE_BYTES,
            total_bytes: FREE_BYTES,
        }])
    }

    fn disks_of(&self, name: &TableName) -> Result<Vec<String>> {
        self.state().table(name)?;
        Ok(vec![DISK.to_owned()])
    }

    fn disks_of_policy(&self, _: &str) -> Result<Vec<String>> {
        Ok(vec![DISK.to_owned()])
    }

    fn partitions(&self, name: &TableName) -> Result<Vec<Partition>> {
        let ids = self.state().table(name)?.partition_ids();
        let partition = |id: String| Partition {
            value: Some(id.clone()),
            id,
        };
        Ok(ids.into_iter().map(partition).collect())
    }

    fn inventory(&self, name: &TableName) -> Result<Inventory> {
        let state = self.state();
        self.inventory_of(state.table(name)?)
    }

    fn partition(&self, name: &TableName, partition_id: &str) -> Result<Vec<Part>> {
        let state = self.state();
        self.live_parts(state.table(name)?, partition_id)
    }

    fn part_log(&self, name: &TableName, _: u64) -> Result<PartLog> {
        self.state().table(name)?;
        Ok(PartLog::default())
    }

    fn find_files(
        &self,
        _: &TableName,
        wanted: &HashSet<FileChecksum>,
    ) -> Result<HashMap<FileChecksum, PathBuf>> {
        let state = self.state();
        let mut directories = Vec::new();
        for table in &state.tables {
            let directory = table.directory(&self.root);
            directories.extend(table.parts.iter().map(|part| directory.join(part)));
        }
        for (freeze, tables) in &state.freezes {
            for frozen in tables {
                let directory = self.shadow(freeze, &frozen.table);
                directories.extend(frozen.parts.iter().map(|part| directory.join(part)));
            }
        }
        let mut found = HashMap::new();
        for directory in directories {
            for file in part::read(&directory, "all_1_1_0", DISK)?.files {
                let Some(hash) = file.checksum else { continue };
                let identity = FileChecksum {
                    bytes: file.bytes,
                    hash,
                };
                if wanted.contains(&identity) {
                    found.entry(identity).or_insert(directory.join(&file.name));
                }
            }
        }
        Ok(found)
    }

    fn freeze_each(&self, freeze: &str, tables: &[FreezeTable]) -> Result<Freeze> {
        self.drop_freeze(freeze)?;
        self.change(|state| {
            let mut frozen = Freeze {
                tables: Vec::new(),
                refused: Vec::new(),
            };
            let mut records = Vec::new();
            for FreezeTable { name, partitions } in tables {
                let table = match state.table(name) {
                    Ok(table) => table,
                    Err(error) => {
                        let name = name.clone();
                        frozen.refused.push(RefusedTable { name, error });
                        continue;
                    }
                };
                let is_chosen = |part: &&String| {
                    let mut partitions = partitions.iter();
                    let id = partition_of(part);
                    partitions.all(|chosen| chosen.contains(&id))
                };
                let chosen: Vec<String> = table.parts.iter().filter(is_chosen).cloned().collect();
                let directory = table.directory(&self.root);
                for part in &chosen {
                    part::link(&directory.join(part), &self.shadow(freeze, name).join(part))?;
                }
                let mut parts = Vec::new();
                for part in &chosen {
                    parts.push(self.frozen_part(freeze, name, part)?);
                }
                frozen.tables.push(FrozenTable {
                    name: name.clone(),
                    current_parts: self.inventory_of(table)?,
                    parts,
                });
                records.push(Frozen {
                    table: name.clone(),
                    parts: chosen,
                });
            }
            state.freezes.insert(freeze.to_owned(), records);
            Ok(frozen)
        })
    }

    fn apply_patches(&self, _: &TableName) -> Result<()> {
        Ok(())
    }

    fn frozen(&self, freeze: &str, name: &TableName) -> Result<Vec<FrozenPart>> {
        let records = self.state().freezes.get(freeze).cloned();
        let records = records.ok_or_else(|| {
            EngineError::new(Remedy::Refreeze, format!("there is no freeze {freeze}"))
        })?;
        let record = records.into_iter().find(|frozen| frozen.table == *name);
        let parts = record.map(|frozen| frozen.parts).unwrap_or_default();
        parts
            .iter()
            .map(|part| self.frozen_part(freeze, name, part))
            .collect()
    }

    fn drop_freeze(&self, freeze: &str) -> Result<()> {
        self.change(|state| {
            state.freezes.remove(freeze);
            Ok(())
        })?;
        self.remove(&self.root.join("shadow").join(freeze))
    }

    fn read_part(&self, directory: &Path, name: &str, disk: &str) -> Result<PartContent> {
        part::read(directory, name, disk)
    }

    fn prove_live(
        &self,
        name: &TableName,
        parts: &[PartToProve],
        on_read: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Vec<LivePartDamage>> {
        let state = self.state();
        let table = state.table(name)?;
        let mut damaged = Vec::new();
        for part in parts.iter().filter(|part| table.parts.contains(&part.name)) {
            let directory = table.directory(&self.root).join(&part.name);
            let files = part::damage(&directory, &part.files)?;
            if !files.is_empty() {
                damaged.push(LivePartDamage {
                    name: part.name.clone(),
                    files,
                });
            }
            if on_read(1).is_break() {
                break;
            }
        }
        Ok(damaged)
    }

    fn has_database(&self, name: &str) -> Result<bool> {
        Ok(self.state().databases.contains(name))
    }

    fn create_database(&self, database: &DatabaseBackup) -> Result<()> {
        self.change(|state| {
            state.databases.insert(database.name.clone());
            Ok(())
        })
    }

    fn create_table(
        &self,
        definition: &TableDefinition,
        name: &TableName,
        databases: &HashMap<String, String>,
    ) -> Result<()> {
        let definition = self.relocated(definition, name, databases)?;
        self.change(|state| {
            if state.find(name).is_some() {
                let message = format!("table {name} exists already");
                return Err(EngineError::new(Remedy::Request, message));
            }
            state.add(definition);
            Ok(())
        })
    }

    fn relocated(
        &self,
        definition: &TableDefinition,
        name: &TableName,
        _: &HashMap<String, String>,
    ) -> Result<TableDefinition> {
        let (from, to) = (definition.name.to_string(), name.to_string());
        Ok(TableDefinition {
            name: name.clone(),
            create_query: definition.create_query.replacen(&from, &to, 1),
            ..definition.clone()
        })
    }

    fn as_printed(&self, definition: &TableDefinition) -> Result<TableDefinition> {
        Ok(definition.clone())
    }

    fn can_alter(&self, difference: &Difference) -> bool {
        difference.aspect == Aspect::Comment
    }

    fn can_rename(&self, _: &TableDefinition) -> bool {
        true
    }

    fn untried(&self, _definition: &TableDefinition) -> Option<String> {
        None
    }

    fn lost_place(&self, name: &TableName) -> Result<Option<LostPlace>> {
        Ok(self.lost_place_of(name))
    }

    fn restore_place(&self, name: &TableName) -> Result<()> {
        self.restore_place_of(name)
    }

    fn catch_up(&self, name: &TableName) -> Result<Option<Replication>> {
        match self.lost_place_of(name) {
            None => Ok(None),
            Some(lost) => Err(EngineError::new(Remedy::Retry, lost.to_string())),
        }
    }

    fn unsent(&self) -> Result<Vec<TableName>> {
        Ok(Vec::new())
    }

    fn replicas(&self, _name: &TableName) -> Result<Vec<Replica>> {
        Ok(Vec::new())
    }

    fn redefine(&self, name: &TableName, to: &TableDefinition, _: Moment) -> Result<()> {
        let to = self.relocated(to, name, &HashMap::new())?;
        self.change(|state| {
            state.table_mut(name)?.definition = to;
            Ok(())
        })
    }

    fn reload_dependents(&self, _: &[TableName]) -> Result<Vec<(String, Result<()>)>> {
        Ok(Vec::new())
    }

    fn drop_table(&self, name: &TableName) -> Result<()> {
        self.change(|state| {
            state.tables.retain(|table| table.definition.name != *name);
            Ok(())
        })
    }

    fn rename_table(&self, from: &TableName, to: &TableName) -> Result<()> {
        self.change(|state| {
            if state.find(to).is_some() {
                let message = format!("table {to} exists already");
                return Err(EngineError::new(Remedy::Request, message));
            }
            let table = state.table_mut(from)?;
            table.definition = self.relocated(&table.definition, to, &HashMap::new())?;
            Ok(())
        })
    }

    fn stage_directory(&self, operation: &str, name: &TableName, _: &str) -> Result<PathBuf> {
        self.change(|state| {
            let tables = state.staged.entry(operation.to_owned()).or_default();
            tables.insert(name.clone());
            Ok(())
        })?;
        let directory = self
            .root
            .join("mendb")
            .join(operation)
            .join(name.to_string());
        fs::create_dir_all(&directory).map_err(|error| unusable(&directory, &error))?;
        Ok(directory)
    }

    fn bring(
        &self,
        name: &TableName,
        parts: &[PartToBring<'_>],
        supplier: &mut dyn Supplier,
    ) -> Result<Bringing> {
        self.state().table(name)?;
        let mut brought = Brought::default();
        for part in parts {
            if let ControlFlow::Break(ended) = self.bring_one(part, supplier, &mut brought)? {
                return Ok(ended);
            }
        }
        Ok(Bringing::Done(brought))
    }

    fn stop_merges(&self, operation: &str, name: &TableName) -> Result<()> {
        self.change(|state| {
            state.table(name)?;
            let tables = state.stopped.entry(operation.to_owned()).or_default();
            tables.insert(name.clone());
            Ok(())
        })
    }

    fn start_merges(&self, operation: &str, name: &TableName) -> Result<()> {
        self.change(|state| {
            if let Some(tables) = state.stopped.get_mut(operation) {
                tables.remove(name);
            }
            state.stopped.retain(|_, tables| !tables.is_empty());
            Ok(())
        })
    }

    fn start_forgotten_merges(&self, go_on: &HashSet<String>) -> Result<()> {
        self.change(|state| {
            state
                .stopped
                .retain(|operation, _| go_on.contains(operation));
            Ok(())
        })
    }

    fn kill_mutations(&self, name: &TableName, mutation_ids: &[String]) -> Result<()> {
        self.change(|state| {
            let mutations = &mut state.table_mut(name)?.mutations;
            mutations.retain(|mutation| !mutation_ids.contains(&mutation.mutation_id));
            Ok(())
        })
    }

    fn mutation_ids(&self, name: &TableName) -> Result<Vec<String>> {
        Ok(self.state().table(name)?.mutation_ids.clone())
    }

    fn mutate(
        &self,
        name: &TableName,
        command: &str,
        partitions: Option<&[String]>,
        known: &[String],
    ) -> Result<()> {
        self.mutate_parts(name, command, partitions, known)
    }

    fn attach(&self, name: &TableName, parts: &[StagedPart]) -> Result<()> {
        self.attach_parts(name, parts)
    }

    fn drop_parts(&self, name: &TableName, parts: &[String]) -> Result<()> {
        for part in parts {
            self.change(|state| match state.table_mut(name)?.parts.remove(part) {
                true => Ok(()),
                false => Err(gone(part)),
            })?;
        }
        Ok(())
    }

    fn exchange(&self, operation: &str, name: &TableName, exchange: &Exchange<'_>) -> Result<()> {
        self.exchange_parts(operation, name, exchange)
    }

    fn check_table(&self, name: &TableName) -> Result<Vec<RefusedPart>> {
        let state = self.state();
        let table = state.table(name)?;
        let mut refused = Vec::new();
        for part in &table.parts {
            let damage = part::damage(&table.directory(&self.root).join(part), &[])?;
            if let Some(file) = damage.into_iter().next() {
                refused.push(RefusedPart {
                    name: part.clone(),
                    why: format!("{} {}", file.name, file.why),
                });
            }
        }
        Ok(refused)
    }

    fn drop_stage(&self, operation: &str, name: &TableName) -> Result<()> {
        self.remove(
            &self
                .root
                .join("mendb")
                .join(operation)
                .join(name.to_string()),
        )?;
        self.change(|state| {
            if let Some(tables) = state.staged.get_mut(operation) {
                tables.remove(name);
            }
            state.staged.retain(|_, tables| !tables.is_empty());
            Ok(())
        })
    }
}

impl FolderStore {
    fn frozen_part(&self, freeze: &str, table: &TableName, part: &str) -> Result<FrozenPart> {
        let directory = self.shadow(freeze, table).join(part);
        Ok(FrozenPart {
            name: part.to_owned(),
            disk: DISK.to_owned(),
            bytes: part::read(&directory, part, DISK)?.part.bytes,
            directory,
        })
    }
}

fn database(name: &str) -> DatabaseBackup {
    DatabaseBackup {
        name: name.to_owned(),
        engine: "Atomic".to_owned(),
        create_query: format!("CREATE DATABASE {name} ENGINE = Atomic"),
    }
}
