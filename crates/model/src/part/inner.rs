//! Names of tables that belong to a materialized view.
//!
//! A materialized view without a target of its own keeps its rows in a table beside it, which comes and
//! goes with the view. `Ordinary` databases call it `.inner.<view>`; newer ones `.inner_id.<uuid of the
//! view>`, which is another name each time the view is created. Here it is always `.inner.<view>`: in a
//! catalogue, in a backup, in one of clickhouse-backup, and in everything that is asked of an engine. So a
//! backup finds the rows of a view again that was dropped and created, also in another database or on
//! another server.

use super::table_name::{TableName, quote};

const BY_NAME: &str = ".inner.";
/// What stands before the UUID of a view in the name of its table.
pub const BY_UUID: &str = ".inner_id.";

/// The name here of a table that the server calls by the UUID of its view.
pub fn of_view(view: &str) -> String {
    format!("{BY_NAME}{view}")
}

/// The name that a server has for the table of a view with this UUID.
pub fn by_uuid(uuid: &str) -> String {
    format!("{BY_UUID}{uuid}")
}

/// The view of a table that is named as one of a view here.
pub fn view_of(table: &str) -> Option<&str> {
    table.strip_prefix(BY_NAME)
}

/// The view of a table that is named as one of a view here, with its database.
pub fn view_of_table(table: &TableName) -> Option<TableName> {
    view_of(&table.table).map(|view| TableName::new(&table.database, view))
}

/// The UUID of the view in the name that the server has for its table.
pub fn uuid_of_view(table: &str) -> Option<&str> {
    table.strip_prefix(BY_UUID)
}

/// A statement that creates the table, with its name here.
pub fn renamed(create_query: &str, uuid: &str, view: &str) -> String {
    let told = quote(&by_uuid(uuid));
    create_query.replacen(&told, &quote(&of_view(view)), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_a_view_is_named_by_the_view() {
        let uuid = "0a-1";
        let query = "CREATE TABLE d.`.inner_id.0a-1` (`a` UInt8) ENGINE = MergeTree ORDER BY a";
        assert_eq!(uuid_of_view(".inner_id.0a-1"), Some(uuid));
        assert_eq!(
            renamed(query, uuid, "v"),
            "CREATE TABLE d.`.inner.v` (`a` UInt8) ENGINE = MergeTree ORDER BY a"
        );
        let table = TableName::new("d", of_view("v"));
        assert_eq!(view_of_table(&table), Some(TableName::new("d", "v")));
        assert_eq!(view_of(".inner_id.0a-1"), None);
    }
}
