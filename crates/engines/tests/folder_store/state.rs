//! What a [`super::FolderStore`] is, beside the files of its parts: one document, replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mendb_engines::{EngineError, Remedy, Result};
use mendb_model::part::{Mutation, PartName, TableDefinition, TableName};
use serde::{Deserialize, Serialize};

use super::part::unusable;

const FILE: &str = "state.json";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    pub id: Option<String>,
    pub databases: BTreeSet<String>,
    pub tables: Vec<Table>,
    pub freezes: BTreeMap<String, Vec<Frozen>>,
    /// Operations with the tables whose merges they have stopped.
    pub stopped: BTreeMap<String, BTreeSet<TableName>>,
    /// Operations with the tables for which they have staged something.
    pub staged: BTreeMap<String, BTreeSet<TableName>>,
    last_number: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Table {
    pub definition: TableDefinition,
    /// Tells it from others of its name; the directory of its parts has it as its name.
    pub incarnation: String,
    /// The last number that a part or a mutation of it was given.
    pub last_number: i64,
    /// Names of its live parts.
    pub parts: BTreeSet<String>,
    /// Whether it has lost its place among its replicas, and that can be made anew.
    #[serde(default)]
    pub lost_place: Option<bool>,
    /// Mutations that are not finished.
    pub mutations: Vec<Mutation>,
    /// All mutations that it was ever given.
    pub mutation_ids: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Frozen {
    pub table: TableName,
    pub parts: Vec<String>,
}

impl State {
    pub fn read(root: &Path) -> Self {
        match fs::read(root.join(FILE)) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => Self::default(),
        }
    }

    pub fn write(&self, root: &Path) -> Result<()> {
        let (path, written) = (root.join(FILE), root.join("state.tmp"));
        let bytes = serde_json::to_vec(self).unwrap();
        fs::write(&written, bytes)
            .and_then(|()| fs::rename(&written, &path))
            .map_err(|error| unusable(&path, &error))
    }

    pub fn find(&self, name: &TableName) -> Option<&Table> {
        let mut tables = self.tables.iter();
        tables.find(|table| table.definition.name == *name)
    }

    pub fn table(&self, name: &TableName) -> Result<&Table> {
        self.find(name).ok_or_else(|| missing(name))
    }

    pub fn table_mut(&mut self, name: &TableName) -> Result<&mut Table> {
        let mut tables = self.tables.iter_mut();
        let found = tables.find(|table| table.definition.name == *name);
        found.ok_or_else(|| missing(name))
    }

    pub fn add(&mut self, definition: TableDefinition) {
        self.last_number += 1;
        self.tables.push(Table {
            definition,
            incarnation: format!("table-{}", self.last_number),
            last_number: 0,
            parts: BTreeSet::new(),
            lost_place: None,
            mutations: Vec::new(),
            mutation_ids: Vec::new(),
        });
    }
}

impl Table {
    /// Where its parts are.
    pub fn directory(&self, root: &Path) -> PathBuf {
        root.join("data").join(&self.incarnation)
    }

    pub fn next_number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    /// The name of a new part of a partition.
    pub fn new_name(&mut self, partition_id: &str) -> String {
        let block = self.next_number();
        format!("{partition_id}_{block}_{block}_0")
    }

    /// Names of the live parts of a partition, in the order of their blocks.
    pub fn parts_of(&self, partition_id: &str) -> Vec<String> {
        let mut parts: Vec<(PartName, &String)> = (self.parts.iter())
            .map(|name| (name.parse().unwrap(), name))
            .collect();
        parts.retain(|(parsed, _): &(PartName, _)| parsed.partition_id == partition_id);
        parts.sort_by_key(|(parsed, _)| (parsed.min_block, parsed.max_block));
        parts.into_iter().map(|(_, name)| name.clone()).collect()
    }

    pub fn partition_ids(&self) -> BTreeSet<String> {
        let parsed = self.parts.iter().map(|name| name.parse::<PartName>());
        parsed.map(|name| name.unwrap().partition_id).collect()
    }
}

fn missing(name: &TableName) -> EngineError {
    EngineError::new(Remedy::Request, format!("table {name} does not exist"))
}
