//! Creating what a backup has and the server lacks.
//!
//! *Errors*: what the server cannot make as it was is refused, except the engine of a database: one that
//! the server does not know or no longer makes is replaced by its default, which holds the same tables.

use std::collections::HashMap;

use mendb_model::part::secret::{HIDDEN, scrub};
use mendb_model::part::{DatabaseBackup, Secret, TableDefinition, TableName, quote};
use serde::Deserialize;

use super::ClickHouse;
use super::client::{integer, literal};
use super::merges::SYNTAX_ERROR;
use super::rewrite;
use crate::error::{EngineError, Remedy, Result};

/// The server does not know an engine of databases, or makes no new ones of it.
const UNKNOWN_DATABASE_ENGINE: u32 = 336;
/// It knows it, and a setting forbids it.
const SUPPORT_IS_DISABLED: u32 = 344;

/// A table that is created again was accepted before: whatever the server warns of, its owner chose.
pub(super) const AS_IT_WAS: [(&str, &str); 14] = [
    // Without it a column `n Nested(…)` becomes several.
    ("flatten_nested", "0"),
    ("data_type_default_nullable", "0"),
    ("allow_deprecated_syntax_for_merge_tree", "1"),
    ("allow_suspicious_codecs", "1"),
    ("allow_suspicious_fixed_string_types", "1"),
    ("allow_suspicious_indices", "1"),
    ("allow_suspicious_low_cardinality_types", "1"),
    ("allow_suspicious_primary_key", "1"),
    ("allow_suspicious_ttl_expressions", "1"),
    ("allow_suspicious_variant_types", "1"),
    ("allow_experimental_variant_type", "1"),
    ("allow_experimental_dynamic_type", "1"),
    ("allow_experimental_json_type", "1"),
    ("enable_time_time64_type", "1"),
];

impl ClickHouse {
    /// Whether there is a database of this name.
    pub(super) fn has_database(&self, name: &str) -> Result<bool> {
        #[derive(Deserialize)]
        struct Told {
            #[serde(deserialize_with = "integer")]
            databases: u64,
        }
        let name = literal(name);
        let sql = format!("SELECT count() AS databases FROM system.databases WHERE name = {name}");
        Ok(self.client.row::<Told>(&sql)?.databases > 0)
    }

    /// Creates a database unless it is there.
    pub(super) fn create_database(&self, database: &DatabaseBackup) -> Result<()> {
        let sql = rewrite::database(&database.create_query, &database.name)?;
        let created = self
            .client
            .execute(&sql)
            .or_else(|error| match error.code() {
                Some(UNKNOWN_DATABASE_ENGINE | SUPPORT_IS_DISABLED | SYNTAX_ERROR) => {
                    let name = quote(&database.name);
                    self.client
                        .execute(&format!("CREATE DATABASE IF NOT EXISTS {name}"))
                }
                _ => Err(error),
            });
        created.map_err(|error| error.during(format_args!("create database {}", database.name)))
    }

    /// Creates a table, view or dictionary under a name, with databases renamed.
    pub(super) fn create_table(
        &self,
        definition: &TableDefinition,
        name: &TableName,
        databases: &HashMap<String, String>,
    ) -> Result<()> {
        self.check_policy(definition, name)?;
        let whole = definition.statement().ok_or_else(|| not_whole(name))?;
        let sql = rewrite::relocated(whole, name, databases)?;
        let created = self.client.execute_with(&sql, &AS_IT_WAS);
        created.map_err(|error| {
            let error = error.during(format_args!("create {name}"));
            EngineError::new(error.remedy, scrub(&error.to_string(), &sql))
        })
    }

    /// What a definition of a backup would be here, under a name and with databases renamed.
    pub(super) fn relocated(
        &self,
        definition: &TableDefinition,
        name: &TableName,
        databases: &HashMap<String, String>,
    ) -> Result<TableDefinition> {
        let stays = definition.name == *name && databases.iter().all(|(from, to)| from == to);
        let moved = |sql: &str| rewrite::relocated(sql, name, databases);
        let mut relocated = definition.clone();
        relocated.name = name.clone();
        if !stays {
            relocated.create_query = moved(&definition.create_query)?;
            let whole = definition.whole_query.as_ref();
            let whole = whole.map(|whole| moved(whole.reveal())).transpose()?;
            relocated.whole_query = whole.map(Secret::new);
        }
        Ok(relocated)
    }

    /// The definition in the words in which this server would print it, where it can say so. What has
    /// credentials is not sent: servers keep logs of queries.
    pub(super) fn as_printed(&self, definition: &TableDefinition) -> Result<TableDefinition> {
        #[derive(Deserialize)]
        struct Row {
            printed: String,
        }
        let sql = &definition.create_query;
        if !self.abilities.uuids || definition.whole_query.is_some() || sql.contains(HIDDEN) {
            return Ok(definition.clone());
        }
        let asked = format!("SELECT formatQuerySingleLine({}) AS printed", literal(sql));
        let printed = match self.client.row::<Row>(&asked) {
            Ok(row) => row.printed,
            // It has no such function, or does not understand the statement.
            Err(error) if error.code().is_some() => return Ok(definition.clone()),
            Err(error) => return Err(error.into()),
        };
        Ok(TableDefinition {
            create_query: printed,
            ..definition.clone()
        })
    }

    fn check_policy(&self, definition: &TableDefinition, name: &TableName) -> Result<()> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(deserialize_with = "integer")]
            volumes: u64,
        }
        let policy = &definition.storage_policy;
        let is_plain = matches!(policy.as_str(), "" | "default");
        let has_policy = is_plain
            || self.abilities.policies && {
                let row: Row = self.client.row(&format!(
                    "SELECT count() AS volumes FROM system.storage_policies WHERE policy_name = {}",
                    literal(policy)
                ))?;
                row.volumes > 0
            };
        if has_policy {
            return Ok(());
        }
        let message = format!(
            "cannot create {name}: the server has no storage policy {policy:?}; configure it as it was \
             when the backup was made, or create the table before"
        );
        Err(EngineError::new(Remedy::Request, message))
    }

    /// Renames a table, view or dictionary within its database.
    pub(super) fn rename_table(&self, from: &TableName, to: &TableName) -> Result<()> {
        let sql = format!("RENAME TABLE {} TO {}", from.sql(), to.sql());
        let renamed = self.client.execute(&sql);
        renamed.map_err(|error| error.during(format_args!("rename {from} to {to}")))
    }
}

/// Says that a definition has lost its credentials.
pub(super) fn not_whole(name: &TableName) -> EngineError {
    let message = format!(
        "the definition of {name} is not whole: the server hid its credentials when the backup was made; \
         create it with them yourself"
    );
    EngineError::new(Remedy::Request, message)
}
