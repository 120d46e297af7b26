//! What a table is, by the system tables of the server.

use std::collections::HashMap;
use std::fs;

use mendb_model::part::statement::{Token, tokens};
use mendb_model::part::{
    Definition, Secret, TableDefinition, TableName, has_files, has_parts, secret,
};
use serde::Deserialize;

use super::ClickHouse;
use super::client::Result;
use super::dependencies::Member;
use super::server::SHOW_SECRETS;
use super::{inner, rewrite};

/// A table as `system.tables` has it.
#[derive(Debug)]
pub(super) struct ToldTable {
    /// Its name here: see [`inner`].
    pub(super) name: TableName,
    /// Its name for the server.
    pub(super) told_name: TableName,
    pub(super) create_query: String,
    /// As [`TableDefinition::whole_query`].
    whole_query: Option<Secret>,
    /// Tables that it needs, as the server tells it.
    pub(super) needs: Vec<TableName>,
    /// Views that take its inserts.
    pub(super) needed_by: Vec<TableName>,
    pub(super) engine: String,
    partition_key: String,
    sorting_key: String,
    primary_key: String,
    storage_policy: String,
}

/// A column as `system.columns` has it.
#[derive(Debug, Deserialize)]
pub(super) struct Column {
    pub(super) table: String,
    name: String,
    r#type: String,
    default_kind: String,
}

impl ToldTable {
    pub(super) fn has_parts(&self) -> bool {
        has_parts(&self.engine) || has_files(&self.engine)
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
            whole_query: self.whole_query,
            partition_key: self.partition_key,
            sorting_key: self.sorting_key,
            primary_key: self.primary_key,
            columns: stored.map(|column| (column.name, column.r#type)).collect(),
            storage_policy: self.storage_policy,
            row_policies: None,
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
            metadata_path: String,
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
            (abilities.metadata_paths, ", metadata_path"),
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
        let sql = format!(
            "SELECT database, name, engine, create_table_query, partition_key, sorting_key, \
             primary_key, dependencies_database, dependencies_table{newer} \
             FROM system.tables WHERE {condition}"
        );
        let settings: &[_] = match abilities.hides_secrets {
            true => &[(SHOW_SECRETS, "1")],
            false => &[],
        };
        let rows: Vec<Row> = match self.client.rows_with(&sql, settings) {
            // The user may not change settings, or not this one.
            Err(error) if error.is_of_a_setting() => self.client.rows(&sql)?,
            told => told?,
        };
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
            let (create_query, whole_query) = secret::apart(&create_query);
            let whole_query = if create_query.contains(secret::HIDDEN) && whole_query.is_none() {
                self.read_whole(&told_name, &create_query, &row.metadata_path)
            } else {
                whole_query
            };
            ToldTable {
                name,
                told_name,
                create_query,
                whole_query,
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

impl ClickHouse {
    /// The statement from the file in which the server keeps it, if that is here and says the same.
    fn read_whole(&self, told: &TableName, shown: &str, metadata_path: &str) -> Option<Secret> {
        if metadata_path.is_empty() {
            return None;
        }
        let path = self.places.below(metadata_path);
        let read = fs::read_to_string(&path);
        let text = read
            .inspect_err(|error| {
                tracing::debug!(%error, path = %path.display(), "a definition cannot be read whole");
            })
            .ok()?;
        let whole = rewrite::relocated(&text, told, &HashMap::new()).ok()?;
        let (shown, hidden) = (Definition::read(shown)?, Definition::read(&whole)?);
        shown.is_shown_of(&hidden).then(|| Secret::new(whole))
    }
}

fn zipped(databases: Vec<String>, tables: Vec<String>) -> Vec<TableName> {
    let pairs = databases.into_iter().zip(tables);
    pairs
        .map(|(database, table)| TableName::new(database, table))
        .collect()
}
