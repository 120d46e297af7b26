//! The records of a CSV file as values of a table.

use mendb_model::text::Misfit;
use mendb_model::{Column, ColumnType, Value};

use super::dialect::Dialect;
use super::header::FieldCount;
use super::reader::{CsvReader, Field};
use super::writer::is_text;
use crate::formats::cell::Cell;
use crate::formats::encoding::TextReader;
use crate::formats::{FileOptions, ReadError, Reading, Record, RecordSource};

/// The records of a CSV file as values of a table.
pub struct CsvSource<'a> {
    reader: CsvReader<TextReader>,
    /// For each field of the file its column; `None` when it is passed over.
    columns: Vec<Option<Bound>>,
    names: Vec<String>,
    field_count: FieldCount,
    options: &'a FileOptions,
}

struct Bound {
    position: usize,
    column: Column,
}

impl<'a> CsvSource<'a> {
    /// Reads the header, if there is one, and finds each field's column.
    ///
    /// # Errors
    /// As [`CsvReader::names`], and a field that is no column of the table.
    pub fn new(
        reader: TextReader,
        dialect: Dialect,
        reading: &Reading<'_>,
        options: &'a FileOptions,
    ) -> Result<Self, ReadError> {
        let mut reader = CsvReader::new(reader, dialect);
        let (names, field_count) = reader.names(&options.header, &reading.schema.columns)?;
        options.fields.check(names.iter().map(String::as_str))?;
        let mut columns: Vec<Option<Bound>> = Vec::with_capacity(names.len());
        for field in &names {
            let bound = reading.column(&options.fields, field)?;
            let bound = bound.map(|position| Bound {
                position,
                column: reading.schema.columns[position].clone(),
            });
            let twice = bound.as_ref().is_some_and(|new| {
                let mut before = columns.iter().flatten();
                before.any(|old| old.position == new.position)
            });
            if twice {
                let detail = format!("{field:?} is a second field for the same column");
                return Err(ReadError::malformed(reader.place(), detail));
            }
            columns.push(bound);
        }
        Ok(Self {
            reader,
            columns,
            names,
            field_count,
            options,
        })
    }

    /// The names of the fields.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl RecordSource for CsvSource<'_> {
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        let mut record = Record::default();
        Ok(self.next_into(&mut record)?.then_some(record))
    }

    fn next_into(&mut self, record: &mut Record) -> Result<bool, ReadError> {
        let reader = &mut self.reader;
        if !reader.next_record(self.field_count)? {
            return Ok(false);
        }
        let columns = self.columns.iter().enumerate();
        let bound = columns.filter_map(|(at, bound)| Some((at, bound.as_ref()?)));
        let mut read = 0;
        for (at, Bound { position, column }) in bound {
            if record.values.len() == read {
                record.values.push((*position, Value::Null));
            }
            let (in_column, slot) = &mut record.values[read];
            *in_column = *position;
            read += 1;
            let field = reader.field(at)?;
            value_into(slot, field, column.column_type, self.options)
                .map_err(|misfit| ReadError::value(reader.place(), column, field.text, misfit))?;
        }
        record.values.truncate(read);
        record.place = reader.place();
        Ok(true)
    }

    fn pass_over(&mut self) -> Result<bool, ReadError> {
        self.reader.pass_over()
    }

    fn bytes_done(&self) -> u64 {
        self.reader.input().bytes_read()
    }
}

/// Makes `slot` the value of a field, in its memory where it is text as well.
fn value_into(
    slot: &mut Value,
    field: Field<'_>,
    column_type: ColumnType,
    options: &FileOptions,
) -> Result<(), Misfit> {
    if let (Value::Text(text), ColumnType::Utf8) = (&mut *slot, column_type)
        && (field.quoted || field.text != options.null)
    {
        text.clear();
        text.push_str(field.text);
        return Ok(());
    }
    *slot = value(field, column_type, options)?;
    Ok(())
}

/// The value of a field: of NULL, text and the marker of NULL, what the head of [`super`] says.
fn value(
    field: Field<'_>,
    column_type: ColumnType,
    options: &FileOptions,
) -> Result<Value, Misfit> {
    let is_marker = field.text == options.null;
    let is_empty = field.text.is_empty() && !is_text(column_type);
    if is_empty || (is_marker && !field.quoted) {
        return Ok(Value::Null);
    }
    match Cell::Text(field.text).value(column_type, &options.rules) {
        Err(_) if is_marker => Ok(Value::Null),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_does_not_depend_on_the_one_whose_memory_it_takes() {
        let read = |slot: &Value, text, quoted, column_type| {
            let options = FileOptions::default();
            let mut slot = slot.clone();
            value_into(&mut slot, Field { text, quoted }, column_type, &options).unwrap();
            slot
        };
        use ColumnType::{Bool, Int64, Json, Utf8};
        let before = [Value::Null, Value::Int(7), Value::Text("before".into())];
        for (text, quoted, column_type) in [
            ("", false, Utf8),
            ("", true, Utf8),
            ("x", false, Utf8),
            ("", false, Int64),
            ("5", true, Int64),
            ("null", false, Json),
            ("{}", false, Json),
            ("t", false, Bool),
        ] {
            let all = before
                .clone()
                .map(|slot| read(&slot, text, quoted, column_type));
            assert!(all.iter().all(|value| *value == all[0]), "{all:?}");
        }
    }

    #[test]
    fn the_null_marker_is_a_value_when_quoted_where_it_can_be_one() {
        let read = |text, quoted, column_type, null: &str| {
            let options = FileOptions {
                null: null.into(),
                ..FileOptions::default()
            };
            value(Field { text, quoted }, column_type, &options).unwrap()
        };
        use ColumnType::{Int64, Utf8};
        let text = |text: &str| Value::Text(text.into());
        assert_eq!(read("", false, Utf8, ""), Value::Null);
        assert_eq!(read("", true, Utf8, ""), text(""));
        assert_eq!(read("", true, Int64, ""), Value::Null);
        assert_eq!(read("NA", false, Utf8, "NA"), Value::Null);
        assert_eq!(read("NA", true, Utf8, "NA"), text("NA"));
        assert_eq!(read("NA", true, Int64, "NA"), Value::Null);
        assert_eq!(read("", false, Utf8, "NA"), text(""));
        assert_eq!(read("", false, Int64, "NA"), Value::Null);
        assert_eq!(read("0", false, Int64, "0"), Value::Null);
        assert_eq!(read("0", true, Int64, "0"), Value::Int(0));
    }
}
