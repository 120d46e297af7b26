//! The tables of a database, for those who look.

use postgres::Client;
use serde::Serialize;

use super::error::failed;
use super::inheritance::relatives;
use super::{Postgres, catalogue};
use crate::error::Result;

/// A table of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedTable {
    /// Its name, as commands take it.
    pub table: String,
    /// Its rows, as the server last counted them; `None` where it has not.
    pub rows: Option<u64>,
    /// Its bytes on disk, without those of its indexes.
    pub bytes: u64,
    /// Bytes of its indexes.
    pub index_bytes: u64,
    /// Why it cannot be backed up; `None` where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What a table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableDescription {
    /// Its name.
    pub table: String,
    /// Its columns, in their order.
    pub columns: Vec<ColumnDescription>,
    /// Unique, check and exclusion constraints.
    pub constraints: Vec<String>,
    /// Indexes that are of no constraint, as what follows on the name of the table.
    pub indexes: Vec<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnDescription {
    /// Its name.
    pub column: String,
    /// Its type on the server.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Its type in backups and exports; `None` of a generated column, which is in neither.
    pub backed_up_as: Option<String>,
    /// Whether it is never NULL.
    pub not_null: bool,
    /// Its place in the key, from 1.
    pub key: Option<usize>,
}

impl Postgres {
    /// The tables of users.
    ///
    /// # Errors
    /// The server fails.
    pub fn tables(&self) -> Result<Vec<ListedTable>> {
        self.server.with(list)
    }

    /// Of some tables those that inherit from them, or that they inherit from, and are not among them: a sentence for
    /// each, for others read both as one.
    ///
    /// # Errors
    /// The server fails.
    pub fn notes_of_relatives(&self, tables: &[String]) -> Result<Vec<String>> {
        let found = self.server.with(|client| relatives(client, tables))?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    /// What a table is; `None` where there is none.
    ///
    /// # Errors
    /// It is one that cannot be backed up, with the reason; the server fails.
    pub fn describe(&self, table: &str) -> Result<Option<TableDescription>> {
        self.server.with(|client| describe(client, table))
    }
}

fn list(client: &mut Client) -> Result<Vec<ListedTable>> {
    let rows = client.query(
        "SELECT n.nspname || '.' || c.relname, own.rows, own.bytes, own.index_bytes
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
              LATERAL (SELECT sum(l.reltuples) FILTER (WHERE l.reltuples >= 0)::int8 AS rows,
                              coalesce(sum(pg_table_size(l.oid)), 0)::int8 AS bytes,
                              coalesce(sum(pg_indexes_size(l.oid)), 0)::int8 AS index_bytes
                       FROM pg_class l WHERE l.relkind = 'r'
                         AND (l.oid = c.oid OR l.oid IN (SELECT p.relid FROM pg_partition_tree(c.oid) p))) own
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND n.nspname <> 'mendb'
           AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
         ORDER BY 1",
        &[],
    );
    let mut tables = Vec::new();
    for row in rows.map_err(|error| failed("list tables", &error))? {
        let table: String = row.get(0);
        let bytes = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
        let found = catalogue::find(client, &table);
        tables.push(ListedTable {
            rows: row.get::<_, Option<i64>>(1).map(i64::unsigned_abs),
            bytes: bytes(2),
            index_bytes: bytes(3),
            refused: found.err().map(|error| error.to_string()),
            table,
        });
    }
    Ok(tables)
}

fn describe(client: &mut Client, name: &str) -> Result<Option<TableDescription>> {
    let Some(mut table) = catalogue::find(client, name)? else {
        return Ok(None);
    };
    catalogue::complete(client, &mut table)?;
    let definition = &table.definition;
    let columns = definition.columns.iter().map(|column| {
        let carried = column.generated.is_none();
        let key = definition.key.iter().position(|name| *name == column.name);
        ColumnDescription {
            column: column.name.clone(),
            type_name: column.type_name.clone(),
            backed_up_as: carried.then(|| column.wire.column_type().to_string()),
            not_null: column.not_null,
            key: key.map(|at| at + 1),
        }
    });
    let indexes = definition.indexes.iter().map(|index| match index.unique {
        true => format!("UNIQUE {}", index.text),
        false => index.text.clone(),
    });
    Ok(Some(TableDescription {
        table: name.to_owned(),
        columns: columns.collect(),
        constraints: [&*definition.constraints, &*definition.inherited_constraints].concat(),
        indexes: indexes.collect(),
    }))
}
