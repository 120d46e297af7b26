//! JSON lines: one object a line, a member a column. Objects over several lines, and an array of
//! them, are read too.
//!
//! Integers and finite floats are numbers, in as many digits as they need; NaN, infinities, Decimal,
//! dates, Uuid and bytes are strings of their text form. What a Json column holds stands as it is, and
//! is read as it stands: a string stays one. Its `null` is NULL.

use std::io::Write;

use mendb_model::{ColumnType, Value, text};
use serde::de::IgnoredAny;

use super::cell::Cell;
use super::encoding::TextReader;
use super::fields::{Fields, Unseen};
use super::json::Token;
use super::object_reader::{MemberError, ObjectReader};
use super::{FileOptions, ReadError, Reading, Record, RecordSource};

/// The records of a file of JSON objects as values of a table.
pub struct JsonlSource<'a> {
    objects: ObjectReader<TextReader>,
    reading: Reading<'a>,
    options: &'a FileOptions,
    unseen: Unseen<'a>,
    is_empty: bool,
}

/// Looks for what is named of the fields of a file, as far into it as that is needed.
///
/// # Errors
/// No object has it, though there are objects, or the file is malformed.
pub fn check(reader: TextReader, fields: &Fields) -> Result<(), ReadError> {
    let mut objects = ObjectReader::new(reader);
    let mut unseen = Unseen::new(fields);
    let mut is_empty = true;
    while !unseen.is_empty() && objects.advance()? {
        is_empty = false;
        objects.members(|name, _| {
            unseen.see(name);
            Ok(())
        })?;
    }
    if is_empty { Ok(()) } else { unseen.check() }
}

impl<'a> JsonlSource<'a> {
    /// Begins to read.
    pub fn new(reader: TextReader, reading: Reading<'a>, options: &'a FileOptions) -> Self {
        Self {
            objects: ObjectReader::new(reader),
            reading,
            unseen: Unseen::new(&options.fields),
            options,
            is_empty: true,
        }
    }
}

impl RecordSource for JsonlSource<'_> {
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        if !self.objects.advance()? {
            // A file of nothing lacks nothing.
            if !self.is_empty {
                self.unseen.check()?;
            }
            return Ok(None);
        }
        self.is_empty = false;
        let place = self.objects.place();
        let Self {
            reading,
            options,
            unseen,
            ..
        } = self;
        let mut values: Vec<(usize, Value)> = Vec::with_capacity(reading.schema.columns.len());
        self.objects.members(|name, token| {
            unseen.see(name);
            let bound = reading.column(&options.fields, name);
            let Some(position) = bound.map_err(MemberError::Read)? else {
                return Ok(());
            };
            if values.iter().any(|(other, _)| *other == position) {
                return Err(MemberError::Duplicate(name.to_owned()));
            }
            let column = &reading.schema.columns[position];
            let cell = cell(&token, column.column_type);
            let value = cell.value(column.column_type, &options.rules);
            let value = value.map_err(|misfit| {
                MemberError::Read(ReadError::value(place, column, &cell.to_text(), misfit))
            })?;
            values.push((position, value));
            Ok(())
        })?;
        Ok(Some(Record { place, values }))
    }

    fn bytes_done(&self) -> u64 {
        self.objects.input().bytes_read()
    }
}

/// A token for a column: as it is written where that is a Json column.
fn cell<'a>(token: &'a Token<'_>, column_type: ColumnType) -> Cell<'a> {
    match token {
        Token::Null => Cell::Null,
        other if column_type == ColumnType::Json => Cell::Json(other.written()),
        Token::Text { text, .. } => Cell::Text(text),
        Token::Number(number) => Cell::Text(number),
        Token::Bool(value) => Cell::Bool(*value),
        Token::Nested(json) => Cell::Json(json),
    }
}

/// Appends the value of a column.
pub fn write_value(out: &mut Vec<u8>, value: &Value, column_type: ColumnType) {
    let Some(text) = text::format(value.as_ref(), column_type) else {
        return out.extend_from_slice(b"null");
    };
    let as_it_is = match value {
        Value::Bool(_) | Value::Uint(_) => true,
        Value::Int(_) => !matches!(
            column_type,
            ColumnType::Date | ColumnType::Datetime | ColumnType::Timestamp
        ),
        Value::Float(v) => v.is_finite(),
        Value::Double(v) => v.is_finite(),
        Value::Text(_) => column_type == ColumnType::Json && is_json(&text),
        _ => false,
    };
    if as_it_is {
        // Line ends are there in JSON of before only, and are space between its tokens.
        let on_one_line = text.bytes().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            other => other,
        });
        out.extend(on_one_line);
    } else {
        write_text(out, &text);
    }
}

/// Appends a JSON string.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            // Writing to a Vec does not fail.
            0..b' ' => drop(write!(out, "\\u{byte:04x}")),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Whether text is JSON. Columns of before may hold text that is none.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use mendb_model::{Column, TableSchema};
    use proptest::prelude::*;

    use super::*;
    use crate::formats::Place;

    fn one_column(column_type: ColumnType) -> TableSchema {
        let column = Column {
            name: "a".into(),
            column_type,
            not_null: false,
        };
        TableSchema {
            columns: vec![column],
            key: vec!["a".into()],
            indexes: Vec::new(),
        }
    }

    fn read(line: &str, column_type: ColumnType) -> Result<Vec<Record>, String> {
        let schema = one_column(column_type);
        let reading = Reading {
            schema: &schema,
            only: None,
        };
        let options = FileOptions::default();
        let reader = TextReader::new(Cursor::new(line.to_owned()), None).unwrap();
        let mut source = JsonlSource::new(reader, reading, &options);
        let mut records = Vec::new();
        while let Some(record) = source.next().map_err(|error| error.to_string())? {
            records.push(record);
        }
        Ok(records)
    }

    #[test]
    fn an_absent_member_is_not_a_null_one() {
        let records = read("{}\n\n{\"a\": null}\n{\"a\":7}", ColumnType::Int64).unwrap();
        let expected = [
            (1, vec![]),
            (3, vec![(0, Value::Null)]),
            (4, vec![(0, Value::Int(7))]),
        ];
        assert_eq!(
            records,
            expected.map(|(line, values)| Record {
                place: Place::Line(line),
                values
            })
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (line, expected) in [
            (
                "{}\n{\"a\":\"x\"}",
                "line 2, column a: \"x\" is not a value of type Int64",
            ),
            (
                "{\"a\":[1]}",
                "line 1, column a: \"[1]\" is not a value of type Int64",
            ),
            ("{\"a\":1,\"a\":1}", "line 1: \"a\" is given twice"),
            ("{\"b\":1}", "the table has no column \"b\""),
            (
                "\n7",
                "line 2: not a JSON object: `{` is missing at column 1",
            ),
        ] {
            assert_eq!(read(line, ColumnType::Int64).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_json_column_keeps_what_stands_there() {
        let written = |json: &str| {
            let mut out = Vec::new();
            write_value(&mut out, &Value::Text(json.into()), ColumnType::Json);
            String::from_utf8(out).unwrap()
        };
        for json in [
            "{\"b\": 1,\"a\":[ ]}",
            "1.50",
            "\"5\"",
            "\"true\"",
            "\"{\\\"k\\\":1}\"",
            "\"null\"",
            "\"\\u0041\"",
            "true",
        ] {
            assert_eq!(written(json), json);
            let records = read(&format!("{{\"a\":{json}}}"), ColumnType::Json).unwrap();
            assert_eq!(records[0].values, [(0, Value::Text(json.into()))]);
        }
        let null = read("{\"a\":null}", ColumnType::Json).unwrap();
        assert_eq!(null[0].values, [(0, Value::Null)]);
        assert_eq!(written("{\n}"), "{ }");
        assert_eq!(written("{broken"), "\"{broken\"");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(
            text in prop_oneof![any::<String>(), r#"[\[\]{}",:0-9a ne\n]{0,8}"#.prop_map(String::from)],
        ) {
            let value = Value::Text(text);
            let mut line = b"{\"a\":".to_vec();
            write_value(&mut line, &value, ColumnType::Utf8);
            line.extend_from_slice(b"}\n");
            let line = String::from_utf8(line).unwrap();
            let records = read(&line, ColumnType::Utf8);
            prop_assert_eq!(records, Ok(vec![Record { place: Place::Line(1), values: vec![(0, value)] }]));
        }
    }
}
