//! From a record batch to rows.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};
use mendb_model::change::{ChangeKind, ChangeRef, ColumnSet};
use mendb_model::schema::{Column, ColumnPosition};
use mendb_model::{ColumnType, Malformed, Replaced, RowBlock, RowBlockBuilder, TableSchema};

use super::cells::{Cells, is_readable};
use super::grid::Grid;
use super::{Content, ConvertError, OP_COLUMN, REPLACED_COLUMN, SET_COLUMN, VERSION_COLUMN};

/// Turns the batches of one file or stream back into rows or changes of a table. Columns are found by
/// name; those the table does not have are left out.
#[derive(Debug)]
pub struct BatchDecoder {
    key: Vec<BatchColumn>,
    slots: Vec<BatchColumn>,
    changes: Option<ChangeColumns>,
}

/// Where the values of one key column or slot come from.
#[derive(Debug)]
struct BatchColumn {
    /// Its place among the columns of the batch.
    place: usize,
    name: String,
    column_type: ColumnType,
}

#[derive(Debug)]
struct ChangeColumns {
    op: usize,
    set: usize,
    version: usize,
    replaced: Option<usize>,
    slot_of: HashMap<String, usize>,
}

impl BatchDecoder {
    /// A decoder for batches of a schema.
    ///
    /// # Errors
    /// A column of the table is missing, or of a type that it is not read from.
    pub fn new(
        schema: &TableSchema,
        content: Content,
        batches: &Schema,
    ) -> Result<Self, ConvertError> {
        let mut key: Vec<Option<BatchColumn>> = schema.key.iter().map(|_| None).collect();
        let mut slots = Vec::new();
        for (column, kept) in schema.columns.iter().zip(schema.column_positions()) {
            let source = BatchColumn::find(column, batches)?;
            match kept {
                ColumnPosition::Key(position) => key[position] = Some(source),
                ColumnPosition::Slot(_) => slots.push(source),
            }
        }
        let changes = match content {
            Content::Rows => None,
            Content::Changes => Some(ChangeColumns {
                op: find(batches, OP_COLUMN, &DataType::Utf8)?,
                set: find(batches, SET_COLUMN, &DataType::Utf8)?,
                version: find(batches, VERSION_COLUMN, &DataType::UInt64)?,
                replaced: match batches.column_with_name(REPLACED_COLUMN) {
                    Some(_) => Some(find(batches, REPLACED_COLUMN, &DataType::UInt64)?),
                    None => None,
                },
                slot_of: slots
                    .iter()
                    .enumerate()
                    .map(|(slot, source)| (source.name.clone(), slot))
                    .collect(),
            }),
        };
        Ok(Self {
            key: key.into_iter().flatten().collect(),
            slots,
            changes,
        })
    }

    /// The rows or changes of a batch as blocks that end after about `block_bytes`.
    ///
    /// # Errors
    /// A cell holds what its column type cannot, or a change is none.
    ///
    /// # Panics
    /// The batch is not of the schema that the decoder was made for.
    pub fn blocks(
        &self,
        batch: &RecordBatch,
        block_bytes: usize,
    ) -> Result<Vec<RowBlock>, ConvertError> {
        let key = self.key.iter().map(|source| source.cells(batch));
        let slots = self.slots.iter().map(|source| source.cells(batch));
        let grid = Grid::new(
            key.collect::<Result<_, _>>()?,
            slots.collect::<Result<_, _>>()?,
            batch.num_rows(),
        );
        let rows = grid.blocks(block_bytes);
        match &self.changes {
            None => Ok(rows),
            Some(sources) => Ok(sources.cells(batch).blocks(&rows)?),
        }
    }
}

impl BatchColumn {
    fn find(column: &Column, batches: &Schema) -> Result<Self, ConvertError> {
        let (place, field) = batches
            .column_with_name(&column.name)
            .ok_or_else(|| ConvertError::column(&column.name, "is missing"))?;
        if !is_readable(column.column_type, field.data_type()) {
            return Err(ConvertError::column(
                &column.name,
                format!(
                    "of type {} cannot be read from {}",
                    column.column_type,
                    field.data_type()
                ),
            ));
        }
        Ok(Self {
            place,
            name: column.name.clone(),
            column_type: column.column_type,
        })
    }

    fn cells<'a>(&self, batch: &'a RecordBatch) -> Result<Cells<'a>, ConvertError> {
        Cells::new(self.column_type, batch.column(self.place).as_ref())
            .map_err(|detail| ConvertError::column(&self.name, detail))
    }
}

fn find(batches: &Schema, name: &str, data_type: &DataType) -> Result<usize, ConvertError> {
    match batches.column_with_name(name) {
        Some((place, field)) if field.data_type() == data_type => Ok(place),
        Some((_, field)) => Err(ConvertError::column(
            name,
            format!("is {} instead of {data_type}", field.data_type()),
        )),
        None => Err(ConvertError::column(name, "is missing")),
    }
}

impl ChangeColumns {
    fn cells<'a>(&'a self, batch: &'a RecordBatch) -> ChangeCells<'a> {
        ChangeCells {
            op: batch.column(self.op).as_string(),
            set: batch.column(self.set).as_string(),
            version: batch.column(self.version).as_primitive(),
            replaced: self.replaced.map(|at| batch.column(at).as_primitive()),
            slot_of: &self.slot_of,
            last_names: "",
            last_set: ColumnSet::default(),
        }
    }
}

/// The columns that changes have beside those of the table.
struct ChangeCells<'a> {
    op: &'a StringArray,
    set: &'a StringArray,
    version: &'a PrimitiveArray<UInt64Type>,
    replaced: Option<&'a PrimitiveArray<UInt64Type>>,
    slot_of: &'a HashMap<String, usize>,
    /// The names of the change before and their set: neighbours often set the same columns.
    last_names: &'a str,
    last_set: ColumnSet,
}

impl ChangeCells<'_> {
    /// The changes whose rows, one for each row of the batch, are in these blocks.
    fn blocks(&mut self, rows: &[RowBlock]) -> Result<Vec<RowBlock>, Malformed> {
        let mut changes = Vec::with_capacity(rows.len());
        let mut at = 0;
        for block in rows {
            let mut builder = RowBlockBuilder::new();
            for (key, row) in block.iter() {
                let mut encoded = Ok(());
                builder.push_with(key, |out| encoded = self.encode(out, at, row));
                encoded?;
                at += 1;
            }
            changes.push(builder.finish());
        }
        Ok(changes)
    }

    fn encode(&mut self, out: &mut Vec<u8>, at: usize, row: &[u8]) -> Result<(), Malformed> {
        let malformed = |detail: &str| Malformed {
            what: "change",
            detail: detail.to_owned(),
        };
        if self.op.is_null(at) || self.version.is_null(at) {
            return Err(malformed("without kind or version"));
        }
        let kind = ChangeKind::from_name(self.op.value(at))?;
        if (kind == ChangeKind::Upsert) == self.set.is_null(at) {
            return Err(malformed("an upsert, and nothing else, tells what it sets"));
        }
        // The row of NULLs is the row without slots.
        let row = match kind {
            ChangeKind::Erase if row == [0] => &[],
            ChangeKind::Erase => return Err(malformed("erase with a row")),
            ChangeKind::Upsert | ChangeKind::Reset => row,
        };
        if kind == ChangeKind::Upsert && self.last_names != self.set.value(at) {
            self.last_names = self.set.value(at);
            let names = self.last_names.split(',').filter(|name| !name.is_empty());
            let mut set = ColumnSet::default();
            for name in names {
                let slot = self.slot_of.get(name);
                set.insert(*slot.ok_or_else(|| {
                    malformed(&format!(
                        "sets {name:?}, which is no column outside the key"
                    ))
                })?);
            }
            self.last_set = set;
        }
        let replaced = self
            .replaced
            .map_or(Replaced::Unknown, |marks| match marks.is_null(at) {
                true => Replaced::Nothing,
                false => Replaced::Row(marks.value(at)),
            });
        let change = ChangeRef {
            version: self.version.value(at),
            kind,
            replaced,
            bitmap: self.last_set.as_bitmap(),
            row,
        };
        change.encode_into(out);
        Ok(())
    }
}
