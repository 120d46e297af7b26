//! A schema worked out for reading and writing rows and index rows.

use std::sync::Arc;

use mendb_model::key::{self, MAX_KEY_BYTES};
use mendb_model::row::{self, RowReader};
use mendb_model::schema::ColumnPosition;
use mendb_model::value::ValueRef;
use mendb_model::{ColumnType, IndexSchema, Malformed, TableSchema, Value};

/// A table's schema with what follows from it.
pub(crate) struct Layout {
    pub(crate) schema: TableSchema,
    pub(crate) key_types: Vec<ColumnType>,
    /// The place of each key column among the columns, in key order.
    key_columns: Vec<usize>,
    pub(crate) value_types: Vec<ColumnType>,
    /// Where each column is, in the order of the columns.
    pub(crate) places: Vec<ColumnPosition>,
    /// In the order of the schema.
    pub(crate) indexes: Vec<IndexLayout>,
    /// Whether an index has it, by column.
    indexed: Vec<bool>,
}

/// An index's schema with what follows from it.
pub(crate) struct IndexLayout {
    pub(crate) name: String,
    pub(crate) unique: bool,
    /// How many key columns are the indexed ones.
    pub(crate) indexed: usize,
    pub(crate) implementation: Arc<Layout>,
    /// The table's columns that make the key of an index row.
    key: Vec<usize>,
    /// The table's columns that make its value.
    value: Vec<usize>,
}

/// A row of an index.
pub(crate) struct IndexRow {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// How many bytes of the key are the indexed columns, when a unique index has to check them: none
    /// of them is NULL.
    pub(crate) unique: Option<usize>,
}

impl Layout {
    /// The layout of a schema that was validated.
    pub(crate) fn new(schema: TableSchema) -> Self {
        let indexes = schema
            .indexes
            .iter()
            .map(|index| IndexLayout::new(&schema, index))
            .collect::<Vec<_>>();
        let is_indexed = |column: usize| {
            let mut indexes = indexes.iter();
            indexes.any(|index| index.key.contains(&column) || index.value.contains(&column))
        };
        let indexed = (0..schema.columns.len()).map(is_indexed).collect();
        let places = schema.column_positions();
        let key_column = |at| {
            places
                .iter()
                .position(|place| *place == ColumnPosition::Key(at))
        };
        Self {
            key_columns: (0..schema.key.len()).filter_map(key_column).collect(),
            key_types: schema.key_types(),
            value_types: schema.value_types(),
            places,
            indexes,
            indexed,
            schema,
        }
    }

    pub(crate) fn index(&self, name: &str) -> Option<&IndexLayout> {
        self.indexes.iter().find(|index| index.name == name)
    }

    /// All columns of a row, in the order of the schema.
    pub(crate) fn decode(&self, key: &[u8], row: &[u8]) -> Result<Vec<Value>, Malformed> {
        self.read(key, row, |values| {
            values.iter().map(ValueRef::to_owned).collect()
        })
    }

    /// Gives `take` all columns of a row, in the order of the schema.
    pub(crate) fn read<T>(
        &self,
        key: &[u8],
        row: &[u8],
        take: impl FnOnce(&[ValueRef<'_>]) -> T,
    ) -> Result<T, Malformed> {
        self.read_some(key, row, |_| true, take)
    }

    /// As [`Self::read`], with NULL in the place of columns that are in no index.
    pub(crate) fn read_indexed<T>(
        &self,
        key: &[u8],
        row: &[u8],
        take: impl FnOnce(&[ValueRef<'_>]) -> T,
    ) -> Result<T, Malformed> {
        self.read_some(key, row, |column| self.indexed[column], take)
    }

    fn read_some<T>(
        &self,
        key: &[u8],
        row: &[u8],
        is_wanted: impl Fn(usize) -> bool,
        take: impl FnOnce(&[ValueRef<'_>]) -> T,
    ) -> Result<T, Malformed> {
        let mut cells = RowReader::new(row)?;
        let mut values = Vec::with_capacity(self.places.len());
        let columns = self.places.iter().zip(&self.schema.columns);
        for (at, (place, column)) in columns.enumerate() {
            values.push(match place {
                ColumnPosition::Key(_) => ValueRef::Null,
                ColumnPosition::Slot(_) if is_wanted(at) => cells.next(column.column_type)?,
                ColumnPosition::Slot(_) => {
                    cells.skip(column.column_type)?;
                    ValueRef::Null
                }
            });
        }
        cells.finish()?;
        let mut rest = key;
        let mut scratch = vec![Vec::new(); self.key_types.len()];
        let keys = self.key_types.iter().zip(&self.key_columns);
        for ((column_type, column), scratch) in keys.zip(&mut scratch) {
            values[*column] = key::decode_column(&mut rest, *column_type, scratch)?;
        }
        if !rest.is_empty() {
            return Err(Malformed {
                what: "key",
                detail: "bytes after the last column".to_owned(),
            });
        }
        Ok(take(&values))
    }
}

impl IndexLayout {
    fn new(table: &TableSchema, index: &IndexSchema) -> Self {
        let schema = table.implementation(index);
        let column = |name: &String| table.columns.iter().position(|c| c.name == *name);
        Self {
            name: index.name.clone(),
            unique: index.unique,
            indexed: index.columns.len(),
            key: schema.key.iter().filter_map(column).collect(),
            value: schema
                .value_columns()
                .filter_map(|c| column(&c.name))
                .collect(),
            implementation: Arc::new(Layout::new(schema)),
        }
    }

    /// Whether two rows of the table, of one key and given as all their columns, have the same row in the index.
    pub(crate) fn is_same_row(&self, one: &[ValueRef<'_>], other: &[ValueRef<'_>]) -> bool {
        let mut columns = self.key.iter().chain(&self.value);
        columns.all(|column| one[*column] == other[*column])
    }

    /// The key of the table row that an index row belongs to.
    pub(crate) fn table_key(&self, table: &Layout, key: &[u8]) -> Result<Vec<u8>, Malformed> {
        let values = key::decode(key, &self.implementation.key_types)?;
        let mut columns = vec![ValueRef::Null; table.key_types.len()];
        for (value, column) in values.iter().zip(&self.key) {
            if let ColumnPosition::Key(at) = table.places[*column] {
                columns[at] = value.as_ref();
            }
        }
        Ok(key::encode(&table.key_types, columns))
    }

    /// The index row of a table row, given as all its columns. `Err` is the length of a key that is too
    /// long.
    pub(crate) fn row(&self, values: &[ValueRef<'_>]) -> Result<IndexRow, usize> {
        let mut key = Vec::with_capacity(self.key.len() * 10);
        let mut indexed_bytes = 0;
        let mut any_null = false;
        for (at, column) in self.key.iter().enumerate() {
            let value = values[*column];
            key::encode_column(&mut key, self.implementation.key_types[at], value);
            if at + 1 == self.indexed {
                indexed_bytes = key.len();
            }
            any_null |= at < self.indexed && value.is_null();
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(key.len());
        }
        let mut value = Vec::with_capacity(8 + self.value.len() * 10);
        let cells = self.value.iter().map(|column| values[*column]);
        row::encode_into(&mut value, &self.implementation.value_types, cells);
        Ok(IndexRow {
            key,
            value,
            unique: (self.unique && !any_null).then_some(indexed_bytes),
        })
    }
}
