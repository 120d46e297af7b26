//! What a selection names on a server of parts.

use mendb_model::part::{DatabaseBackup, MissingTable, TableDefinition, TableName, Unmatched};

/// Tables and their databases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The databases of the tables.
    pub databases: Vec<DatabaseBackup>,
    /// The tables, each after those that it depends on.
    pub tables: Vec<TableDefinition>,
    /// Tables that were named and cannot be backed up or mended, with the reason: they are on a disk
    /// whose files are not those of parts.
    pub refused: Vec<MissingTable>,
    /// Tables that were named and are left out.
    pub left_out: Vec<TableName>,
    /// Patterns that fit nothing that the server has.
    pub unmatched: Vec<Unmatched>,
}

/// The names of tables. Fields of the same name are those of [`Catalogue`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The tables, each after those that it depends on.
    pub tables: Vec<ListedTable>,
    /// Tables that were named and cannot be backed up or mended, with the reason.
    pub refused: Vec<MissingTable>,
    /// Tables that were named and are left out.
    pub left_out: Vec<TableName>,
    /// Patterns that fit nothing that the server has.
    pub unmatched: Vec<Unmatched>,
}

/// A table of a [`Listing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTable {
    /// Its name.
    pub name: TableName,
    /// Whether its data is in parts.
    pub has_parts: bool,
}
