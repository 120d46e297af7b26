//! A client's view of a table.

use std::fmt;
use std::sync::Arc;

use mendb_model::key::{self, KeyRange, MAX_KEY_BYTES};
use mendb_model::{ColumnType, TableSchema, Value, ValueRef};

use crate::catalogue::layout::Layout;
use crate::catalogue::versions::Versions;
use crate::catalogue::{Access, TableEntry};
use crate::error::{Error, Result};

/// A table as a client opened it: its schema and the versions this belongs to.
///
/// Cheap to clone. Reads and writes check that the versions are still those of the store.
#[derive(Clone)]
pub struct Table {
    opened: Arc<Opened>,
}

struct Opened {
    name: String,
    layout: Arc<Layout>,
    versions: Versions,
}

impl Table {
    pub(crate) fn of(entry: &TableEntry) -> Self {
        Self {
            opened: Arc::new(Opened {
                name: entry.name.clone(),
                layout: entry.layout.clone(),
                versions: entry.versions.clone(),
            }),
        }
    }

    /// The name of the table.
    pub fn name(&self) -> &str {
        &self.opened.name
    }

    /// Its schema.
    pub fn schema(&self) -> &TableSchema {
        &self.opened.layout.schema
    }

    /// The versions it was opened at.
    pub fn versions(&self) -> &Versions {
        &self.opened.versions
    }

    /// Where the column of a name is among the columns.
    pub fn column(&self, name: &str) -> Option<usize> {
        let mut columns = self.schema().columns.iter();
        columns.position(|column| column.name == name)
    }

    /// The encoded key of key column values: one per key column, in key order.
    ///
    /// # Errors
    /// A value is missing or of another type, NULL where the column refuses it, or the key is too long.
    pub fn key(&self, values: &[Value]) -> Result<Vec<u8>> {
        let wanted = self.opened.layout.key_types.len();
        if values.len() != wanted {
            return Err(self.shape(format!(
                "a key has {wanted} columns, {} were given",
                values.len()
            )));
        }
        for (name, value) in self.schema().key.iter().zip(values) {
            if let Some(column) = self.schema().column(name).filter(|_| value.is_null())
                && column.not_null
            {
                return Err(Error::NotNull {
                    table: self.name().to_owned(),
                    column: name.clone(),
                });
            }
        }
        self.encode(
            self.name(),
            self.schema(),
            &self.opened.layout.key_types,
            values,
        )
    }

    /// The keys that begin with these values of the first key columns.
    ///
    /// # Errors
    /// There are more values than key columns, or one is of another type.
    pub fn prefix(&self, values: &[Value]) -> Result<KeyRange> {
        let layout = &self.opened.layout;
        let key = self.encode(self.name(), &layout.schema, &layout.key_types, values)?;
        Ok(KeyRange::prefix(&key))
    }

    /// The keys of an index that begin with these values of its first columns.
    ///
    /// # Errors
    /// There is no such index; otherwise as [`Self::prefix`].
    pub fn index_prefix(&self, index: &str, values: &[Value]) -> Result<KeyRange> {
        let layout = self
            .opened
            .layout
            .index(index)
            .ok_or_else(|| Error::IndexMissing {
                table: self.name().to_owned(),
                index: index.to_owned(),
            })?;
        let path = format!("{}/{index}", self.name());
        let layout = &layout.implementation;
        let key = self.encode(&path, &layout.schema, &layout.key_types, values)?;
        Ok(KeyRange::prefix(&key))
    }

    fn encode(
        &self,
        path: &str,
        schema: &TableSchema,
        types: &[ColumnType],
        values: &[Value],
    ) -> Result<Vec<u8>> {
        if values.len() > types.len() {
            return Err(self.shape(format!(
                "a key of {path} has {} columns, {} were given",
                types.len(),
                values.len()
            )));
        }
        for ((name, column_type), value) in schema.key.iter().zip(types).zip(values) {
            self.check_type(name, *column_type, value.as_ref())?;
        }
        self.encode_checked(path, types, values.iter().map(Value::as_ref))
    }

    /// The encoded key of values that [`Self::check_type`] was asked about.
    pub(crate) fn encode_checked<'a>(
        &self,
        path: &str,
        types: &[ColumnType],
        values: impl IntoIterator<Item = ValueRef<'a>>,
    ) -> Result<Vec<u8>> {
        let key = key::encode(types, values);
        if key.len() > MAX_KEY_BYTES {
            return Err(Error::KeyTooLong {
                path: path.to_owned(),
                bytes: key.len(),
            });
        }
        Ok(key)
    }

    pub(crate) fn check_type(
        &self,
        column: &str,
        column_type: ColumnType,
        value: ValueRef<'_>,
    ) -> Result<()> {
        if column_type.accepts(value) {
            return Ok(());
        }
        Err(Error::WrongType {
            table: self.name().to_owned(),
            column: column.to_owned(),
            column_type,
            value: format!("{value:?}"),
        })
    }

    pub(crate) fn shape(&self, detail: String) -> Error {
        Error::RowShape {
            table: self.name().to_owned(),
            detail,
        }
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.opened.layout
    }

    /// Checks that the table is what the store has now, and that clients may read it.
    pub(crate) fn check_current(&self, entry: &TableEntry) -> Result<()> {
        entry.check(Access::Read)?;
        entry.versions.check(self.name(), self.versions())?;
        let same = Arc::ptr_eq(&entry.layout, &self.opened.layout)
            || entry.layout.schema == self.opened.layout.schema;
        if same {
            Ok(())
        } else {
            Err(Error::TableReplaced(self.name().to_owned()))
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.name())
            .field("versions", &self.versions())
            .finish_non_exhaustive()
    }
}
