//! What a table is: its columns, its key, its global indexes.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::value::{ColumnType, ValueRef};

/// The most columns a table may have: a row's bitmap of set columns stays small.
pub const MAX_COLUMNS: usize = 4096;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, unique in the table.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Whether it refuses NULL.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_null: bool,
}

/// A global index: the table's rows once more, in the order of other columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexSchema {
    /// Its name, unique in the table.
    pub name: String,
    /// The columns it is ordered by.
    pub columns: Vec<String>,
    /// Further columns stored beside them, so that reading the index needs no look into the table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cover: Vec<String>,
    /// Whether two rows may not share the indexed columns. NULL is never equal to NULL.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unique: bool,
}

/// The schema of a table or of an index implementation table.
///
/// The columns that are not part of the key have *slots*, counted in the order of `columns`; rows
/// and changes are laid out by slot. Columns are only ever added at the end, so slots stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// The columns, in the order a user sees them.
    pub columns: Vec<Column>,
    /// The names of the key columns, in key order.
    pub key: Vec<String>,
    /// The global indexes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<IndexSchema>,
}

/// Why a schema is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The name of an index is empty or holds characters that have a meaning elsewhere.
    #[error(
        "{0:?} cannot name an index: use letters, digits, `_`, `-` and `.`, and do not start with `_mendb`"
    )]
    Name(String),
    /// The name of a column is empty or holds characters that have a meaning elsewhere.
    #[error(
        "{0:?} cannot name a column: leave out `,` `;` `:` `=` `+` `|` `\\`, quotes, line ends and space around it, \
         and do not start with `_mendb`"
    )]
    ColumnName(String),
    /// Two columns or two indexes share a name.
    #[error("{0:?} is named twice")]
    Duplicate(String),
    /// A key or index names a column that is not there.
    #[error("column {0:?} does not exist")]
    UnknownColumn(String),
    /// A table without key.
    #[error("a table needs at least one key column")]
    NoKey,
    /// An index over nothing.
    #[error("index {0:?} needs at least one column")]
    EmptyIndex(String),
    /// A column of a type that has no order is in a key.
    #[error("column {column:?} of type {column_type} cannot be part of a key")]
    NotAKey {
        /// The column.
        column: String,
        /// Its type.
        column_type: ColumnType,
    },
    /// Too many columns.
    #[error("{0} columns are more than the {MAX_COLUMNS} a table may have")]
    TooManyColumns(usize),
}

/// Whether `name` can name a column: what has a meaning in a file, in a list of names or on the
/// command line is left out.
fn is_column_name(name: &str) -> bool {
    let reserved = |c: char| {
        c.is_control()
            || matches!(
                c,
                ',' | ';' | ':' | '=' | '+' | '|' | '\\' | '"' | '`' | '\u{feff}'
            )
    };
    !name.is_empty()
        && !name.starts_with("_mendb")
        && !name.contains(reserved)
        && name.trim() == name
}

/// Whether `name` can name an index, which becomes part of paths.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with("_mendb")
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '))
        && name.trim() == name
}

impl TableSchema {
    /// Checks that names are good and unique and that keys and indexes name columns that can be keys.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), SchemaError> {
        if self.columns.len() > MAX_COLUMNS {
            return Err(SchemaError::TooManyColumns(self.columns.len()));
        }
        let columns = self.columns.iter().map(|column| &column.name);
        let indexes = self.indexes.iter().map(|index| &index.name);
        if let Some(bad) = columns.clone().find(|name| !is_column_name(name)) {
            return Err(SchemaError::ColumnName(bad.clone()));
        }
        if let Some(bad) = indexes.clone().find(|name| !is_name(name)) {
            return Err(SchemaError::Name(bad.clone()));
        }
        unique(columns)?;
        unique(indexes)?;
        unique(self.key.iter())?;
        if self.key.is_empty() {
            return Err(SchemaError::NoKey);
        }
        self.check_key(&self.key)?;
        for index in &self.indexes {
            if index.columns.is_empty() {
                return Err(SchemaError::EmptyIndex(index.name.clone()));
            }
            unique(index.columns.iter().chain(&index.cover))?;
            self.check_key(&index.columns)?;
            for cover in &index.cover {
                self.find(cover)?;
            }
        }
        Ok(())
    }

    fn check_key(&self, names: &[String]) -> Result<(), SchemaError> {
        for name in names {
            let column = self.find(name)?;
            if !column.column_type.can_be_key() {
                return Err(SchemaError::NotAKey {
                    column: name.clone(),
                    column_type: column.column_type,
                });
            }
        }
        Ok(())
    }

    /// The column of a name.
    ///
    /// # Errors
    /// [`SchemaError::UnknownColumn`].
    pub fn find(&self, name: &str) -> Result<&Column, SchemaError> {
        self.column(name)
            .ok_or_else(|| SchemaError::UnknownColumn(name.to_owned()))
    }

    /// The column of a name, if there is one.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The index of a name, if there is one.
    pub fn index(&self, name: &str) -> Option<&IndexSchema> {
        self.indexes.iter().find(|index| index.name == name)
    }

    /// The types of the key columns, in key order. Names that no column has are left out: a schema
    /// that was validated has none.
    pub fn key_types(&self) -> Vec<ColumnType> {
        self.key
            .iter()
            .filter_map(|name| Some(self.column(name)?.column_type))
            .collect()
    }

    /// The columns outside the key, in slot order.
    pub fn value_columns(&self) -> impl Iterator<Item = &Column> + Clone {
        self.columns
            .iter()
            .filter(|column| !self.key.contains(&column.name))
    }

    /// The types of the columns outside the key, in slot order.
    pub fn value_types(&self) -> Vec<ColumnType> {
        self.value_columns()
            .map(|column| column.column_type)
            .collect()
    }

    /// Where the values of each column are, in the order of `columns`.
    pub fn column_positions(&self) -> Vec<ColumnPosition> {
        let mut slot = 0;
        self.columns
            .iter()
            .map(
                |column| match self.key.iter().position(|name| *name == column.name) {
                    Some(position) => ColumnPosition::Key(position),
                    None => {
                        slot += 1;
                        ColumnPosition::Slot(slot - 1)
                    }
                },
            )
            .collect()
    }

    /// The schema of the implementation table of an index: its key is the indexed columns and then
    /// those key columns of the table that are not among them; its values are the covered columns.
    pub fn implementation(&self, index: &IndexSchema) -> Self {
        let mut key = index.columns.clone();
        key.extend(
            self.key
                .iter()
                .filter(|name| !index.columns.contains(name))
                .cloned(),
        );
        let cover = index.cover.iter().filter(|name| !key.contains(name));
        let columns = key
            .iter()
            .chain(cover)
            .filter_map(|name| self.column(name))
            .cloned()
            .collect();
        Self {
            columns,
            key,
            indexes: Vec::new(),
        }
    }

    /// The first NOT NULL column that a row leaves NULL.
    pub fn missing<'a>(&'a self, values: impl Iterator<Item = ValueRef<'a>>) -> Option<&'a Column> {
        let mut pairs = self.columns.iter().zip(values);
        pairs
            .find(|(column, value)| column.not_null && value.is_null())
            .map(|(column, _)| column)
    }
}

/// Where the value of a column is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnPosition {
    /// In the key, at this position.
    Key(usize),
    /// In the row, in this slot.
    Slot(usize),
}

fn unique<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), SchemaError> {
    let mut seen = HashSet::new();
    match names.find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(SchemaError::Duplicate(name.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TableSchema {
        let column = |name: &str, column_type| Column {
            name: name.into(),
            column_type,
            not_null: false,
        };
        TableSchema {
            columns: vec![
                column("note", ColumnType::Json),
                column("id", ColumnType::Int64),
                column("city", ColumnType::Utf8),
            ],
            key: vec!["id".into()],
            indexes: vec![IndexSchema {
                name: "by_city".into(),
                columns: vec!["city".into()],
                cover: vec!["note".into()],
                unique: false,
            }],
        }
    }

    #[test]
    fn an_implementation_table_is_keyed_by_the_index_then_the_table() {
        let table = table();
        table.validate().unwrap();
        let implementation = table.implementation(&table.indexes[0]);
        assert_eq!(implementation.key, ["city", "id"]);
        assert_eq!(implementation.value_types(), [ColumnType::Json]);
        implementation.validate().unwrap();
        assert_eq!(
            table.column_positions(),
            [
                ColumnPosition::Slot(0),
                ColumnPosition::Key(0),
                ColumnPosition::Slot(1)
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let mut bad = table();
        bad.key = vec!["note".into()];
        assert_eq!(
            bad.validate().unwrap_err().to_string(),
            "column \"note\" of type Json cannot be part of a key"
        );
        let mut bad = table();
        bad.indexes[0].cover = vec!["town".into()];
        assert_eq!(
            bad.validate().unwrap_err().to_string(),
            "column \"town\" does not exist"
        );
        let mut bad = table();
        bad.columns[2].name = "id".into();
        assert_eq!(bad.validate(), Err(SchemaError::Duplicate("id".into())));
    }

    #[test]
    fn a_column_may_be_called_as_headers_are() {
        for (name, good) in [
            ("Price (USD)", true),
            ("a/b", true),
            ("100 %", true),
            ("Größe", true),
            ("", false),
            (" a", false),
            ("a,b", false),
            ("a=b", false),
            ("a\nb", false),
            ("_mendb_op", false),
        ] {
            let mut named = table();
            named.columns[0].name = name.into();
            named.indexes.clear();
            assert_eq!(named.validate().is_ok(), good, "{name:?}");
        }
        let mut named = table();
        named.indexes[0].name = "a/b".into();
        assert_eq!(named.validate(), Err(SchemaError::Name("a/b".into())));
    }
}
