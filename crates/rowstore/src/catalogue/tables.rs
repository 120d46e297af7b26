//! All tables of one version.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mendb_model::name::TablePath;

use crate::catalogue::shard::Shard;
use crate::catalogue::table_entry::TableEntry;
use crate::error::{Error, Result};
use crate::kernel::ShardId;

/// All tables of one version.
#[derive(Clone, Default)]
pub(crate) struct Catalogue {
    tables: BTreeMap<String, Arc<TableEntry>>,
    shards: HashMap<ShardId, Arc<Shard>>,
}

impl Catalogue {
    pub(crate) fn table(&self, name: &str) -> Result<&Arc<TableEntry>> {
        self.tables
            .get(name)
            .ok_or_else(|| Error::TableMissing(name.to_owned()))
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<TableEntry>> {
        self.tables.values()
    }

    pub(crate) fn shards(&self, path: &TablePath) -> Result<&[Arc<Shard>]> {
        self.table(&path.table)?.shards(path.index.as_deref())
    }

    pub(crate) fn shard(&self, id: ShardId) -> Option<&Arc<Shard>> {
        self.shards.get(&id)
    }

    pub(crate) fn insert(&mut self, entry: TableEntry) {
        self.remove(&entry.name);
        for shard in entry.all_shards() {
            self.shards.insert(shard.id, shard.clone());
        }
        self.tables.insert(entry.name.clone(), Arc::new(entry));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(entry) = self.tables.remove(name) {
            for shard in entry.all_shards() {
                self.shards.remove(&shard.id);
            }
        }
    }
}
