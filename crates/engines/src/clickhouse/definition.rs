//! What a table is, from what the server tells of it.

use std::collections::HashMap;

use mendb_model::part::{TableDefinition, TableName, has_files};
use serde::Deserialize;

use super::ClickHouse;
use super::client::Result;
use super::dependencies::Member;
use super::inner;
use super::statement::{Token, tokens};

/// A table as `system.tables` tells of it.
#[derive(Debug)]
pub(super) struct ToldTable {
    /// Its name here: see [`inner`].
    pub(super) name: TableName,
    /// Its name for the server.
    pub(super) told_name: TableName,
    pub(super) create_query: String,
    /// Tables that it needs, as the server tells it.
    pub(super) needs: Vec<TableName>,
    /// Views that take its inserts.
    pub(super) needed_by: Vec<TableName>,
    engine: String,
    partition_key: String,
    sorting_key: String,
    primary_key: String,
    storage_policy: String,
}

/// A column as `system.columns` tells of it.
#[derive(Debug, Deserialize)]
pub(super) struct Column {
    pub(super) table: String,
    name: String,
    r#type: String,
    default_kind: String,
}

impl ToldTable {
    pub(super) fn has_parts(&self) -> bool {
        self.engine.ends_with("MergeTree") || has_files(&self.engine)
    }

    pub(super) fn member(&self) -> Member<'_> {
        Member {
            name: &self.name,
            engine: &self.engine,
            create_query: &self.create_query,
            needs: self.needs.clone(),
        }
    }

    pub(super) fn into_definition(self, columns: Vec<Column>) -> TableDefinition {
        let stored = columns
            .into_iter()
            .filter(|column| !matches!(column.default_kind.as_str(), "ALIAS" | "EPHEMERAL"));
        TableDefinition {
            has_ttl: tokens(&self.create_query).contains(&Token::Word("TTL")),
            name: self.name,
            engine: self.engine,
            create_query: self.create_query,
            partition_key: self.partition_key,
            sorting_key: self.sorting_key,
            primary_key: self.primary_key,
            columns: stored.map(|column| (column.name, column.r#type)).collect(),
            storage_policy: self.storage_policy,
        }
    }
}

impl ClickHouse {
    /// The tables that a condition on `system.tables` selects.
    pub(super) fn told_tables(&self, condition: &str) -> Result<Vec<ToldTable>> {
        #[derive(Deserialize)]
        struct Row {
            database: String,
            name: String,
            engine: String,
            create_table_query: String,
            partition_key: String,
            sorting_key: String,
            primary_key: String,
            dependencies_database: Vec<String>,
            dependencies_table: Vec<String>,
            #[serde(default)]
            uuid: String,
            #[serde(default)]
            storage_policy: String,
            #[serde(default)]
            loading_dependencies_database: Vec<String>,
            #[serde(default)]
            loading_dependencies_table: Vec<String>,
        }
        let abilities = &self.abilities;
        let newer = [
            (abilities.uuids, ", toString(uuid) AS uuid"),
            (abilities.policies, ", storage_policy"),
            (
                abilities.loading_dependencies,
                ", loading_dependencies_database, loading_dependencies_table",
            ),
        ];
        let newer: String = newer
            .iter()
            .filter(|(has, _)| *has)
            .map(|(_, sql)| *sql)
            .collect();
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT database, name, engine, create_table_query, partition_key, sorting_key, \
             primary_key, dependencies_database, dependencies_table{newer} \
             FROM system.tables WHERE {condition}"
        ))?;
        let views: HashMap<(String, String), String> = rows
            .iter()
            .filter(|row| row.engine == "MaterializedView" && !row.uuid.is_empty())
            .map(|row| ((row.database.clone(), row.uuid.clone()), row.name.clone()))
            .collect();
        let named = |row: Row| {
            let told_name = TableName::new(&row.database, row.name);
            let view = inner::uuid_of_view(&told_name.table)
                .and_then(|uuid| views.get(&(row.database, uuid.to_owned())).zip(Some(uuid)));
            let (name, create_query) = match view {
                Some((view, uuid)) => (
                    TableName::new(&told_name.database, inner::of_view(view)),
                    inner::renamed(&row.create_table_query, uuid, view),
                ),
                None => (told_name.clone(), row.create_table_query),
            };
            ToldTable {
                name,
                told_name,
                create_query,
                needs: zipped(
                    row.loading_dependencies_database,
                    row.loading_dependencies_table,
                ),
                needed_by: zipped(row.dependencies_database, row.dependencies_table),
                engine: row.engine,
                partition_key: row.partition_key,
                sorting_key: row.sorting_key,
                primary_key: row.primary_key,
                storage_policy: row.storage_policy,
            }
        };
        Ok(rows.into_iter().map(named).collect())
    }
}

fn zipped(databases: Vec<String>, tables: Vec<String>) -> Vec<TableName> {
    let pairs = databases.into_iter().zip(tables);
    pairs
        .map(|(database, table)| TableName::new(database, table))
        .collect()
}
