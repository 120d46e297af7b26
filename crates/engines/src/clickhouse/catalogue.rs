//! Databases and tables that patterns name.

use std::collections::{HashMap, HashSet};

use mendb_model::name::matches;
use mendb_model::part::{
    DatabaseBackup, MissingTable, Selection, Selector, TableDefinition, TableName, Unmatched,
    has_parts,
};
use serde::Deserialize;

use super::ClickHouse;
use super::client::literal;
use super::definition::{Column, ToldTable};
use super::dependencies::{Member, creation_order};
use super::disks::is_table;
use super::inner;
use crate::contract::catalogue::{Catalogue, ListedTable, Listing};
use crate::error::Result;

/// Databases of the server's own.
const SYSTEM: &str = "'', 'system', 'information_schema', 'INFORMATION_SCHEMA', \
                      '_temporary_and_external_tables'";
/// Engines of databases that show what another system keeps: there is nothing here to back up or mend.
const MIRRORS: &str = "'MySQL', 'PostgreSQL', 'SQLite', 'S3', 'HDFS', 'Filesystem', 'Dictionary', \
                       'DataLakeCatalog', 'Backup', 'MaterializedMySQL', 'MaterializedPostgreSQL'";
/// What begins the last part of the name of a table that a mend stages in.
const STAGE: &str = "__mendb_";

/// What a selection names, as [`Catalogue`] has it.
struct Selected {
    tables: Vec<ToldTable>,
    refused: Vec<MissingTable>,
    left_out: Vec<TableName>,
    unmatched: Vec<Unmatched>,
}

impl ClickHouse {
    /// What the patterns name, with its definitions.
    pub(super) fn list_tables(&self, selection: &Selection) -> Result<Catalogue> {
        let Selected {
            tables,
            refused,
            left_out,
            unmatched,
        } = self.select_tables(selection)?;
        let mut columns = self.columns_of(&tables)?;
        let policies = self.all_row_policies()?;
        let tables: Vec<TableDefinition> = tables
            .into_iter()
            .map(|table| {
                let columns = columns.remove(&table.told_name).unwrap_or_default();
                let row_policies = policies.as_ref().map(|all| all.of(&table.told_name));
                TableDefinition {
                    row_policies,
                    ..table.into_definition(columns)
                }
            })
            .collect();
        Ok(Catalogue {
            databases: self.databases_of(&tables)?,
            tables,
            refused,
            left_out,
            unmatched,
        })
    }

    /// What the patterns name, by its names.
    pub(super) fn name_tables(&self, selection: &Selection) -> Result<Listing> {
        let selected = self.select_tables(selection)?;
        let tables = selected.tables.into_iter().map(|table| ListedTable {
            has_parts: has_parts(&table.engine),
            name: table.name,
        });
        Ok(Listing {
            tables: tables.collect(),
            refused: selected.refused,
            left_out: selected.left_out,
            unmatched: selected.unmatched,
        })
    }

    /// The tables that the patterns name, in an order in which they can be created. A table of a
    /// materialized view goes with its view.
    fn select_tables(&self, selection: &Selection) -> Result<Selected> {
        let condition = format!(
            "database NOT IN ({SYSTEM}) AND NOT is_temporary AND database NOT IN \
             (SELECT name FROM system.databases WHERE engine IN ({MIRRORS}))"
        );
        let tables = self.told_tables(&condition)?;
        let unmatched = self.unmatched(selection, &tables)?;
        let engines: HashMap<TableName, String> = tables
            .iter()
            .map(|table| (table.name.clone(), table.engine.clone()))
            .collect();
        let mut sources = sources_of_views(&tables);
        let (mut refused, mut left_out) = (Vec::new(), Vec::new());
        let mut selected = Vec::new();
        for mut table in tables {
            let view = inner::view_of(&table.name.table)
                .map(|view| TableName::new(&table.name.database, view))
                .filter(|view| engines.contains_key(view));
            let named = view.as_ref().unwrap_or(&table.name);
            if !named.matches(&selection.tables) || is_stage(&table.name.table) {
                continue;
            }
            let engine = engines.get(named).unwrap_or(&table.engine);
            if selection.exclude.leaves_out(named, engine)
                || self.is_on_excluded_disk(&table, selection)?
            {
                left_out.push(table.name);
                continue;
            }
            if let Some(reason) = self.foreign_disk(&table)? {
                let name = table.name;
                refused.push(MissingTable { name, reason });
                continue;
            }
            table.needs.extend(view);
            table
                .needs
                .extend(sources.remove(&table.name).unwrap_or_default());
            selected.push(table);
        }
        let order = {
            let members: Vec<Member<'_>> = selected.iter().map(ToldTable::member).collect();
            creation_order(&members)
        };
        let mut selected: Vec<Option<ToldTable>> = selected.into_iter().map(Some).collect();
        let ordered = order.into_iter().filter_map(|place| selected[place].take());
        Ok(Selected {
            tables: ordered.collect(),
            refused,
            left_out,
            unmatched,
        })
    }

    /// The patterns of a selection that fit none of the server's tables, engines of tables, or disks.
    fn unmatched(&self, selection: &Selection, tables: &[ToldTable]) -> Result<Vec<Unmatched>> {
        let Selection {
            tables: patterns,
            exclude,
        } = selection;
        let a_table = |pattern: &str| {
            let mut own = tables.iter().filter(|table| !is_stage(&table.name.table));
            own.any(|table| table.name.matches(pattern))
        };
        let an_engine =
            |pattern: &str| (tables.iter()).any(|table| matches(pattern, &table.engine));
        let mut unmatched = Selector::Tables.unmatched(patterns, a_table);
        unmatched.extend(Selector::ExcludeTables.unmatched(&exclude.tables, a_table));
        unmatched.extend(Selector::ExcludeEngines.unmatched(&exclude.engines, an_engine));
        if !exclude.disks.is_empty() {
            let disks = self.all_disk_names()?;
            unmatched.extend(Selector::ExcludeDisks.unmatched(&exclude.disks, |pattern| {
                (disks.iter()).any(|disk| matches(pattern, disk))
            }));
        }
        Ok(unmatched)
    }

    fn is_on_excluded_disk(&self, table: &ToldTable, selection: &Selection) -> Result<bool> {
        let exclude = &selection.exclude;
        if exclude.disks.is_empty() || !table.has_parts() {
            return Ok(false);
        }
        Ok(exclude.leaves_out_on(&self.disk_names(&table.told_name)?))
    }

    /// A table by the name that the server has for it.
    pub(super) fn find_table(
        &self,
        name: &TableName,
        told_name: &TableName,
    ) -> Result<Option<TableDefinition>> {
        let tables = self.told_tables(&is_table(told_name, "name"))?;
        let Some(mut table) = tables.into_iter().next() else {
            return Ok(None);
        };
        if let (Some(uuid), Some(view)) = (
            inner::uuid_of_view(&told_name.table),
            inner::view_of(&name.table),
        ) {
            table.create_query = inner::renamed(&table.create_query, uuid, view);
        }
        table.name = name.clone();
        let mut columns = self.columns_of(std::slice::from_ref(&table))?;
        let columns = columns.remove(&table.told_name).unwrap_or_default();
        Ok(Some(table.into_definition(columns)))
    }

    fn columns_of(&self, tables: &[ToldTable]) -> Result<HashMap<TableName, Vec<Column>>> {
        let databases: HashSet<&str> = tables
            .iter()
            .map(|table| table.told_name.database.as_str())
            .collect();
        let mut columns: HashMap<TableName, Vec<Column>> = HashMap::new();
        for database in databases {
            let names: Vec<String> = tables
                .iter()
                .filter(|table| table.told_name.database == database)
                .map(|table| literal(&table.told_name.table))
                .collect();
            // In the order in which the server tells them, which is that of the table.
            let told: Vec<Column> = self.client.rows(&format!(
                "SELECT table, name, type, default_kind FROM system.columns \
                 WHERE database = {} AND table IN ({})",
                literal(database),
                names.join(", ")
            ))?;
            for column in told {
                let table = TableName::new(database, &column.table);
                columns.entry(table).or_default().push(column);
            }
        }
        Ok(columns)
    }

    fn databases_of(&self, tables: &[TableDefinition]) -> Result<Vec<DatabaseBackup>> {
        #[derive(Deserialize)]
        struct Told {
            name: String,
            engine: String,
        }
        #[derive(Deserialize)]
        struct Statement {
            statement: String,
        }
        let used: HashSet<&str> = tables
            .iter()
            .map(|table| table.name.database.as_str())
            .collect();
        let told: Vec<Told> = self
            .client
            .rows("SELECT name, engine FROM system.databases ORDER BY name")?;
        let told = told
            .into_iter()
            .filter(|told| used.contains(told.name.as_str()));
        told.map(|told| {
            let sql = format!(
                "SHOW CREATE DATABASE {}",
                mendb_model::part::quote(&told.name)
            );
            let Statement { statement } = self.client.row(&sql)?;
            Ok(DatabaseBackup {
                name: told.name,
                engine: told.engine,
                create_query: statement,
            })
        })
        .collect()
    }
}

/// Of each materialized view, the tables whose inserts it takes: the server tells it of those.
fn sources_of_views(tables: &[ToldTable]) -> HashMap<TableName, Vec<TableName>> {
    let mut sources: HashMap<TableName, Vec<TableName>> = HashMap::new();
    for table in tables {
        for view in &table.needed_by {
            sources
                .entry(view.clone())
                .or_default()
                .push(table.name.clone());
        }
    }
    sources
}

/// Whether it is a table of a mend that was not cleaned up yet: `<table>__mendb_<part of its id>`.
fn is_stage(table: &str) -> bool {
    table.rsplit_once(STAGE).is_some_and(|(_, id)| {
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mend_left_behind_is_no_table() {
        assert!(is_stage("events__mendb_3fa9c1"));
        assert!(!is_stage("events__mendb_"));
        assert!(!is_stage("events__mendb_old copy"));
        assert!(!is_stage("events"));
    }
}
