//! Tables that belong to a materialized view, by the names that this server has for them.

pub(super) use mendb_model::part::inner::{of_view, renamed, uuid_of_view, view_of};
use mendb_model::part::{TableName, inner::BY_UUID};
use serde::Deserialize;

use super::ClickHouse;
use super::client::{Result, literal};

impl ClickHouse {
    /// What the server calls a table.
    pub(super) fn told_name(&self, name: &TableName) -> Result<TableName> {
        #[derive(Deserialize)]
        struct Row {
            name: String,
        }
        let Some(view) = view_of(&name.table).filter(|_| self.abilities.uuids) else {
            return Ok(name.clone());
        };
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT name FROM system.tables WHERE database = {database} AND (name = {name} OR name IN \
             (SELECT concat('{BY_UUID}', toString(uuid)) FROM system.tables \
             WHERE database = {database} AND name = {view}))",
            database = literal(&name.database),
            name = literal(&name.table),
            view = literal(view),
        ))?;
        // A view that came from an `Ordinary` database has kept the old name of its table.
        let kept = rows.iter().any(|row| row.name == name.table);
        let by_uuid = rows.into_iter().next().filter(|_| !kept);
        Ok(by_uuid.map_or_else(
            || name.clone(),
            |row| TableName::new(&name.database, row.name),
        ))
    }
}
