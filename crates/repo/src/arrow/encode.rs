//! From rows to a record batch.

use std::sync::Arc;

use arrow_array::builder::{StringBuilder, UInt64Builder};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use mendb_model::change::{ChangeKind, ChangeRef, ColumnSet};
use mendb_model::key::decode_column;
use mendb_model::row::RowReader;
use mendb_model::schema::ColumnPosition;
use mendb_model::{ColumnType, Malformed, Replaced, TableSchema};

use super::columns::ColumnBuilder;
use super::{CHANGE_COLUMNS, Content, ConvertError, Datetimes, ReplacedRows, arrow_schema};

/// A longer row cannot be one cell of a batch, whose offsets have 31 bits.
const MAX_ROW_BYTES: usize = 1 << 30;

/// Collects rows or changes into record batches.
#[derive(Debug)]
pub struct BatchEncoder {
    schema: TableSchema,
    content: Content,
    batches: SchemaRef,
    datetimes: Datetimes,
    replaced: ReplacedRows,
    key: Vec<Target>,
    slots: Vec<Target>,
    changes: Option<ChangeColumns>,
    scratch: Vec<u8>,
    rows: usize,
    bytes: usize,
}

/// Where the values of one key column or slot go.
#[derive(Debug)]
struct Target {
    /// Its place among the columns of the table.
    place: usize,
    name: String,
    column_type: ColumnType,
    builder: ColumnBuilder,
}

impl Target {
    fn append(&mut self, value: mendb_model::ValueRef<'_>) -> Result<(), ConvertError> {
        let appended = self.builder.append(value);
        appended.map_err(|detail| ConvertError::column(&self.name, detail))
    }
}

impl BatchEncoder {
    /// An encoder for the rows or changes of a table.
    ///
    /// # Errors
    /// A column has a name that a list of the columns an upsert sets could not show.
    pub fn new(schema: &TableSchema, content: Content) -> Result<Self, ConvertError> {
        let mut columns = schema.columns.iter();
        if let Some(column) = columns.find(|column| column.name.contains(',')) {
            return Err(ConvertError::column(
                &column.name,
                "has a comma in its name",
            ));
        }
        let mut key: Vec<Option<Target>> = schema.key.iter().map(|_| None).collect();
        let mut slots = Vec::new();
        for ((place, column), kept) in schema
            .columns
            .iter()
            .enumerate()
            .zip(schema.column_positions())
        {
            let target = Target {
                place,
                name: column.name.clone(),
                column_type: column.column_type,
                builder: ColumnBuilder::new(column.column_type),
            };
            match kept {
                ColumnPosition::Key(position) => key[position] = Some(target),
                ColumnPosition::Slot(_) => slots.push(target),
            }
        }
        Ok(Self {
            batches: arrow_schema(
                schema,
                content,
                Datetimes::default(),
                ReplacedRows::default(),
            ),
            schema: schema.clone(),
            content,
            datetimes: Datetimes::default(),
            replaced: ReplacedRows::default(),
            key: key.into_iter().flatten().collect(),
            slots,
            changes: (content == Content::Changes).then(ChangeColumns::default),
            scratch: Vec::new(),
            rows: 0,
            bytes: 0,
        })
    }

    /// Rows since the last batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of keys and values since the last batch.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a row or change. After an error the encoder is of no more use.
    ///
    /// # Errors
    /// The bytes are not a key and a row or change of the table, or one batch cannot hold them.
    pub fn push(&mut self, mut key: &[u8], value: &[u8]) -> Result<(), ConvertError> {
        let bytes = key.len() + value.len();
        if bytes > MAX_ROW_BYTES {
            return Err(Malformed {
                what: "row",
                detail: format!("{bytes} bytes are more than the {MAX_ROW_BYTES} a segment takes"),
            }
            .into());
        }
        for target in &mut self.key {
            let value = decode_column(&mut key, target.column_type, &mut self.scratch)?;
            target.append(value)?;
        }
        if !key.is_empty() {
            return Err(Malformed {
                what: "key",
                detail: "bytes after the last column".to_owned(),
            }
            .into());
        }
        let row = match &mut self.changes {
            None => Some(value),
            Some(changes) => {
                let change = ChangeRef::decode(value)?;
                changes.push(&change, &self.slots)?;
                (change.kind != ChangeKind::Erase).then_some(change.row)
            }
        };
        // The reader of an erase finds no slots, all are NULL.
        let mut reader = RowReader::new(row.unwrap_or(&[0]))?;
        for target in &mut self.slots {
            target.append(reader.next(target.column_type)?)?;
        }
        reader.finish()?;
        self.rows += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// The rows since the last batch. Once a Datetime needed seconds, all later batches have them, and once a
    /// change did not say what it replaced, none of them does.
    ///
    /// # Errors
    /// A NOT NULL column of a row is NULL.
    pub fn finish(&mut self) -> Result<RecordBatch, ConvertError> {
        let mut targets = self.key.iter().chain(&self.slots);
        let seconds = self.datetimes == Datetimes::Timestamps
            && targets.any(|target| target.builder.needs_seconds());
        let changes = self.changes.as_ref();
        let untold =
            self.replaced == ReplacedRows::Told && changes.is_some_and(|changes| changes.is_untold);
        if seconds {
            self.datetimes = Datetimes::Seconds;
        }
        if untold {
            self.replaced = ReplacedRows::Untold;
        }
        if seconds || untold {
            self.batches = arrow_schema(&self.schema, self.content, self.datetimes, self.replaced);
        }
        let schema = &self.batches;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        if let Some(changes) = &mut self.changes {
            let (first, replaced) = changes.finish();
            columns.extend(first);
            if self.replaced == ReplacedRows::Told {
                columns.push(replaced);
            }
        }
        let mut targets: Vec<_> = self.key.iter_mut().chain(&mut self.slots).collect();
        targets.sort_unstable_by_key(|target| target.place);
        columns.extend(
            targets
                .iter_mut()
                .map(|target| target.builder.finish(self.datetimes)),
        );
        for (field, column) in schema.fields().iter().zip(&columns) {
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(ConvertError::column(
                    field.name(),
                    "is NOT NULL and holds NULL",
                ));
            }
        }
        self.rows = 0;
        self.bytes = 0;
        let batch = RecordBatch::try_new(Arc::clone(schema), columns);
        Ok(batch.expect("the columns were built by the schema"))
    }
}

/// The columns that changes have beside those of the table.
#[derive(Debug, Default)]
struct ChangeColumns {
    op: StringBuilder,
    set: StringBuilder,
    version: UInt64Builder,
    replaced: UInt64Builder,
    /// Whether a change did not say what it replaced.
    is_untold: bool,
    /// The set of the change before and its names: neighbours often set the same columns.
    last_set: ColumnSet,
    last_names: String,
}

impl ChangeColumns {
    fn push(&mut self, change: &ChangeRef<'_>, slots: &[Target]) -> Result<(), Malformed> {
        self.op.append_value(change.kind.name());
        self.version.append_value(change.version);
        match change.replaced {
            Replaced::Row(mark) => self.replaced.append_value(mark),
            Replaced::Nothing => self.replaced.append_null(),
            Replaced::Unknown => {
                self.replaced.append_null();
                self.is_untold = true;
            }
        }
        if change.kind == ChangeKind::Upsert {
            if self.last_set.as_bitmap() != change.bitmap {
                self.last_set = ColumnSet::from_bitmap(change.bitmap);
                self.last_names = names_of(&self.last_set, slots)?;
            }
            self.set.append_value(&self.last_names);
        } else {
            self.set.append_null();
        }
        Ok(())
    }

    /// The columns that all batches have, and that of what was replaced.
    fn finish(&mut self) -> ([ArrayRef; CHANGE_COLUMNS - 1], ArrayRef) {
        let columns: [ArrayRef; CHANGE_COLUMNS - 1] = [
            Arc::new(self.op.finish()),
            Arc::new(self.set.finish()),
            Arc::new(self.version.finish()),
        ];
        (columns, Arc::new(self.replaced.finish()))
    }
}

fn names_of(set: &ColumnSet, slots: &[Target]) -> Result<String, Malformed> {
    let known = ColumnSet::of((0..slots.len()).filter(|slot| set.contains(*slot)));
    if known != *set {
        return Err(Malformed {
            what: "change",
            detail: format!("sets columns beyond the {} there are", slots.len()),
        });
    }
    let named = slots.iter().enumerate();
    let names: Vec<_> = named
        .filter(|(slot, _)| set.contains(*slot))
        .map(|(_, target)| target.name.as_str())
        .collect();
    Ok(names.join(","))
}
