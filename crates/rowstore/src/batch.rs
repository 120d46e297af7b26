//! What a client wants written, as one batch.

use mendb_model::key::to_hex;
use mendb_model::schema::ColumnPosition;
use mendb_model::{Change, Value, ValueRef, change, row};

use crate::error::{Error, Result};
use crate::table::Table;

/// The most bytes an encoded row may have. Rows are read, logged and copied whole.
pub const MAX_ROW_BYTES: usize = 16 << 20;

/// Changes of rows of any tables, in order, that [`crate::Database::write`] commits together.
///
/// Values are checked as they are added; a call that fails adds nothing.
#[derive(Default)]
pub struct WriteBatch {
    pub(crate) operations: Vec<Operation>,
}

/// What happens to one key. The version of the change is set by the commit.
pub(crate) struct Operation {
    pub(crate) table: Table,
    pub(crate) key: Vec<u8>,
    pub(crate) change: Change,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many changes.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is no change.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Sets the given columns, named by their place among the table's columns, and leaves the others;
    /// creates the row with NULLs when it is absent. The key columns are required.
    ///
    /// # Errors
    /// A column is given twice or not there, a key column is missing, a value is of another type or
    /// NULL where the column refuses it, the key or row is too long.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a batch takes the values of all its changes alike"
    )]
    pub fn upsert(&mut self, table: &Table, row: Vec<(usize, Value)>) -> Result<()> {
        let (key, change) = upsert(table, &row)?;
        self.push(table, key, change)
    }

    /// Makes the row exactly this: one value per column, in the order of the columns.
    ///
    /// # Errors
    /// There are more or fewer values than columns; otherwise as [`Self::upsert`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a batch takes the values of all its changes alike"
    )]
    pub fn replace(&mut self, table: &Table, values: Vec<Value>) -> Result<()> {
        let (key, change) = replace(table, &values)?;
        self.push(table, key, change)
    }

    /// Removes the row of a key, if it is there.
    ///
    /// # Errors
    /// There are more or fewer values than key columns, or one is of another type.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a batch takes the values of all its changes alike"
    )]
    pub fn erase(&mut self, table: &Table, key: Vec<Value>) -> Result<()> {
        let key = table.key(&key)?;
        self.push(table, key, Change::erase(0))
    }

    fn push(&mut self, table: &Table, key: Vec<u8>, change: Change) -> Result<()> {
        check_length(table, &change)?;
        self.operations.push(Operation {
            table: table.clone(),
            key,
            change,
        });
        Ok(())
    }
}

/// The key and the change of [`WriteBatch::upsert`].
pub(crate) fn upsert(table: &Table, row: &[(usize, Value)]) -> Result<(Vec<u8>, Change)> {
    let (key, cells) = sparse(table, row)?;
    let (set, row) = change::partial_row(&table.layout().value_types, &cells);
    Ok((key, Change::upsert(set, row, 0)))
}

/// As [`upsert`]; where it sets all columns, what was there before does not matter.
pub(crate) fn upsert_or_reset(table: &Table, row: &[(usize, Value)]) -> Result<(Vec<u8>, Change)> {
    let (key, cells) = sparse(table, row)?;
    if cells.iter().all(Option::is_some) {
        return Ok((key, Change::reset(row_of(table, &cells), 0)));
    }
    let (set, row) = change::partial_row(&table.layout().value_types, &cells);
    Ok((key, Change::upsert(set, row, 0)))
}

/// The key and the change of [`WriteBatch::replace`].
pub(crate) fn replace(table: &Table, values: &[Value]) -> Result<(Vec<u8>, Change)> {
    let columns = table.schema().columns.len();
    if values.len() != columns {
        return Err(table.shape(format!(
            "a row has {columns} columns, {} were given",
            values.len()
        )));
    }
    let values: Vec<_> = values.iter().map(|value| Some(value.as_ref())).collect();
    let (key, cells) = split(table, &values)?;
    Ok((key, Change::reset(row_of(table, &cells), 0)))
}

/// The row of values by slot; those that are not given are NULL.
fn row_of(table: &Table, cells: &[Option<ValueRef<'_>>]) -> Vec<u8> {
    let types = &table.layout().value_types;
    let mut row = Vec::with_capacity(types.len() * 16);
    let cells = cells.iter().map(|cell| cell.unwrap_or(ValueRef::Null));
    row::encode_into(&mut row, types, cells);
    row
}

/// Refuses a change whose row is too long.
pub(crate) fn check_length(table: &Table, change: &Change) -> Result<()> {
    if change.row.len() > MAX_ROW_BYTES {
        return Err(Error::RowTooLong {
            table: table.name().to_owned(),
            bytes: change.row.len(),
        });
    }
    Ok(())
}

/// The encoded key and the values by slot.
type KeyAndCells<'a> = (Vec<u8>, Vec<Option<ValueRef<'a>>>);

/// Those of values that come with the place of their column.
fn sparse<'a>(table: &Table, row: &'a [(usize, Value)]) -> Result<KeyAndCells<'a>> {
    let mut values: Vec<Option<ValueRef<'_>>> = vec![None; table.schema().columns.len()];
    for (column, value) in row {
        match values.get_mut(*column) {
            Some(slot @ None) => *slot = Some(value.as_ref()),
            Some(Some(_)) => {
                return Err(table.shape(format!("column {column} is given twice")));
            }
            None => return Err(table.shape(format!("there is no column {column}"))),
        }
    }
    split(table, &values)
}

/// Those of values by column, all checked.
fn split<'a>(table: &Table, values: &[Option<ValueRef<'a>>]) -> Result<KeyAndCells<'a>> {
    let layout = table.layout();
    let mut keys = vec![ValueRef::Null; layout.key_types.len()];
    let mut cells = Vec::with_capacity(layout.value_types.len());
    let columns = layout.schema.columns.iter().zip(&layout.places);
    for ((column, place), value) in columns.zip(values) {
        if let Some(value) = value {
            table.check_type(&column.name, column.column_type, *value)?;
            if value.is_null() && column.not_null {
                return Err(Error::NotNull {
                    table: table.name().to_owned(),
                    column: column.name.clone(),
                });
            }
        }
        match (place, value) {
            (ColumnPosition::Key(at), Some(value)) => keys[*at] = *value,
            (ColumnPosition::Key(_), None) => {
                return Err(table.shape(format!("key column {} is not given", column.name)));
            }
            (ColumnPosition::Slot(_), value) => cells.push(*value),
        }
    }
    let key = table.encode_checked(table.name(), &layout.key_types, keys)?;
    Ok((key, cells))
}

impl std::fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operations = self.operations.iter().map(|operation| {
            let kind = operation.change.kind.name();
            format!(
                "{kind} {} {}",
                operation.table.name(),
                to_hex(&operation.key)
            )
        });
        f.debug_list().entries(operations).finish()
    }
}
