//! Tables that belong to a materialized view.
//!
//! A materialized view without a target of its own keeps its rows in a table beside it, which comes and
//! goes with the view. `Ordinary` databases call it `.inner.<view>`; newer ones `.inner_id.<uuid of the
//! view>`, which is another name each time the view is created. Here it is always `.inner.<view>`: in a
//! catalogue, in a backup and in everything that is asked of this engine. So a backup finds the rows of
//! a view again that was dropped and created, also in another database or on another server.

use mendb_model::part::{TableName, table::quote};
use serde::Deserialize;

use super::ClickHouse;
use super::client::{Result, literal};

const BY_NAME: &str = ".inner.";
const BY_UUID: &str = ".inner_id.";

/// The name here of a table that the server calls by the UUID of its view.
pub(super) fn of_view(view: &str) -> String {
    format!("{BY_NAME}{view}")
}

/// The view of a table that is named as one of a view here.
pub(super) fn view_of(table: &str) -> Option<&str> {
    table.strip_prefix(BY_NAME)
}

/// The UUID of the view in the name that the server has for its table.
pub(super) fn uuid_of_view(table: &str) -> Option<&str> {
    table.strip_prefix(BY_UUID)
}

/// A statement that creates the table, with its name here.
pub(super) fn renamed(create_query: &str, uuid: &str, view: &str) -> String {
    let told = quote(&format!("{BY_UUID}{uuid}"));
    create_query.replacen(&told, &quote(&of_view(view)), 1)
}

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
