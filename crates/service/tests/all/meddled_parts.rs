//! A part store that someone meddles with, call by call.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mendb_engines::{
    Bringing, Catalogue, Data, Disk, Engine, Exchange, Freeze, FreezeTable, FrozenPart, Hold,
    Listing, LivePartDamage, Lock, LostPlace, Moment, PartContent, PartStore, PartToBring,
    PartToProve, RefusedPart, Replica, Replication, Result, ServerInfo, StagedPart, Supplier,
};
use mendb_model::part::{
    DatabaseBackup, Difference, FileChecksum, Inventory, Part, PartLog, Partition, RowPolicies,
    Selection, TableDefinition, TableName,
};

use crate::meddled_engine::Meddler;

pub struct MeddledParts<M> {
    engine: Arc<dyn Engine>,
    meddler: M,
}

impl<M: Meddler> MeddledParts<M> {
    pub fn wrap(engine: Arc<dyn Engine>, meddler: M) -> Arc<dyn Engine> {
        Arc::new(Self { engine, meddler })
    }

    fn parts(&self) -> &dyn PartStore {
        self.engine
            .parts()
            .expect("the engine that is meddled with is one of parts")
    }

    fn meddled<T>(&self, method: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.meddler.call(method)?;
        let done = work()?;
        self.meddler.answer(method)?;
        Ok(done)
    }
}

/// Methods that do what those of the engine do.
macro_rules! pass_on {
    ($of:ident: $(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> Result<$answer> {
            self.meddled(stringify!($name), || self.$of().$name($($argument),*))
        })*
    };
}

impl<M: Meddler> MeddledParts<M> {
    fn whole(&self) -> &dyn Engine {
        &*self.engine
    }
}

impl<M: Meddler> Engine for MeddledParts<M> {
    fn data(&self) -> Data<'_> {
        Data::Parts(self)
    }

    pass_on! { whole:
        fn identify(new_id: &str) -> String;
        fn locks() -> Vec<Lock>;
        fn holds() -> Vec<Hold>;
        fn drop_kept(operation: &str) -> ();
        fn is_frozen(operation: &str) -> bool;
        fn thaw(operation: &str) -> ();
        fn make_live(operation: &str) -> ();
        fn drop_staged(operation: &str) -> ();
    }
}

impl<M: Meddler> PartStore for MeddledParts<M> {
    fn can_drop_parts(&self) -> bool {
        self.parts().can_drop_parts()
    }

    fn can_alter(&self, difference: &Difference) -> bool {
        self.parts().can_alter(difference)
    }

    fn can_rename(&self, definition: &TableDefinition) -> bool {
        self.parts().can_rename(definition)
    }

    fn untried(&self, definition: &TableDefinition) -> Option<String> {
        self.parts().untried(definition)
    }

    pass_on! { parts:
        fn server() -> ServerInfo;
        fn catalogue(selection: &Selection) -> Catalogue;
        fn listing(selection: &Selection) -> Listing;
        fn table(name: &TableName) -> Option<TableDefinition>;
        fn row_policies(name: &TableName) -> Option<RowPolicies>;
        fn disks() -> Vec<Disk>;
        fn disks_of(name: &TableName) -> Vec<String>;
        fn disks_of_policy(policy: &str) -> Vec<String>;
        fn partitions(name: &TableName) -> Vec<Partition>;
        fn inventory(name: &TableName) -> Inventory;
        fn partition(name: &TableName, partition_id: &str) -> Vec<Part>;
        fn part_log(name: &TableName, since_ms: u64) -> PartLog;
        fn find_files(name: &TableName, wanted: &HashSet<FileChecksum>) -> HashMap<FileChecksum, PathBuf>;
        fn freeze_each(freeze: &str, tables: &[FreezeTable]) -> Freeze;
        fn apply_patches(name: &TableName) -> ();
        fn frozen(freeze: &str, name: &TableName) -> Vec<FrozenPart>;
        fn drop_freeze(freeze: &str) -> ();
        fn read_part(directory: &Path, name: &str, disk: &str) -> PartContent;
        fn prove_live(name: &TableName, parts: &[PartToProve], on_read: &mut dyn FnMut(u64) -> ControlFlow<()>)
            -> Vec<LivePartDamage>;
        fn has_database(name: &str) -> bool;
        fn create_database(database: &DatabaseBackup) -> ();
        fn create_table(definition: &TableDefinition, name: &TableName, databases: &HashMap<String, String>) -> ();
        fn relocated(definition: &TableDefinition, name: &TableName, databases: &HashMap<String, String>)
            -> TableDefinition;
        fn as_printed(definition: &TableDefinition) -> TableDefinition;
        fn lost_place(name: &TableName) -> Option<LostPlace>;
        fn restore_place(name: &TableName) -> ();
        fn catch_up(name: &TableName) -> Option<Replication>;
        fn unsent() -> Vec<TableName>;
        fn replicas(name: &TableName) -> Vec<Replica>;
        fn redefine(name: &TableName, to: &TableDefinition, moment: Moment) -> ();
        fn reload_dependents(tables: &[TableName]) -> Vec<(String, Result<()>)>;
        fn drop_table(name: &TableName) -> ();
        fn rename_table(from: &TableName, to: &TableName) -> ();
        fn stage_directory(operation: &str, name: &TableName, disk: &str) -> PathBuf;
        fn bring(name: &TableName, parts: &[PartToBring<'_>], supplier: &mut dyn Supplier) -> Bringing;
        fn stop_merges(operation: &str, name: &TableName) -> ();
        fn start_merges(operation: &str, name: &TableName) -> ();
        fn start_forgotten_merges(go_on: &HashSet<String>) -> ();
        fn kill_mutations(name: &TableName, mutation_ids: &[String]) -> ();
        fn mutation_ids(name: &TableName) -> Vec<String>;
        fn mutate(name: &TableName, command: &str, partitions: Option<&[String]>, known: &[String]) -> ();
        fn attach(name: &TableName, parts: &[StagedPart]) -> ();
        fn drop_parts(name: &TableName, parts: &[String]) -> ();
        fn exchange(operation: &str, name: &TableName, exchange: &Exchange<'_>) -> ();
        fn check_table(name: &TableName) -> Vec<RefusedPart>;
        fn drop_stage(operation: &str, name: &TableName) -> ();
    }
}
