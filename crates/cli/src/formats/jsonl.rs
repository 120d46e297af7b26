//! JSON lines: one object a line, a member a column.
//!
//! Integers and finite floats are numbers, in as many digits as they need; NaN, infinities, Decimal,
//! dates, Uuid and bytes are strings of their text form. A Json column's text stands as it is where it
//! is an object, array, number or bool on one line, and as a string otherwise; reading undoes exactly
//! that, so any text comes back.

use std::io::{BufRead, Write};

use mendb_model::{Column, ColumnType, Value, text};
use serde::de::IgnoredAny;

use super::json::{self, NotAnObject, Token};
use super::{Place, ReadError, Reading, Record, RecordSource};

/// Reads the lines of a JSON lines file.
pub struct LineReader<R> {
    reader: R,
    line: u64,
    bytes_done: u64,
    raw: Vec<u8>,
}

impl<R: BufRead> LineReader<R> {
    /// Begins to read.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            line: 0,
            bytes_done: 0,
            raw: Vec::new(),
        }
    }

    /// Goes to the next line that is not blank; `false` at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn advance(&mut self) -> Result<bool, ReadError> {
        loop {
            self.raw.clear();
            let read = self.reader.read_until(b'\n', &mut self.raw)?;
            if read == 0 {
                return Ok(false);
            }
            self.line += 1;
            self.bytes_done += read as u64;
            if !self.raw.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// The members of the line's object, in their order; an error of `each` is placed in the line.
    ///
    /// # Errors
    /// The line is not UTF-8 or not one JSON object, or the error of `each`.
    pub fn members(
        &self,
        mut each: impl FnMut(&str, Token<'_>) -> Result<(), LineError>,
    ) -> Result<(), ReadError> {
        let place = Place::Line(self.line);
        let line =
            std::str::from_utf8(&self.raw).map_err(|_| ReadError::malformed(place, "not UTF-8"))?;
        // A byte order mark may begin the first line.
        let line = line.trim_start_matches('\u{feff}');
        json::members(line, |name, token| each(&name, token)).map_err(|error| match error {
            LineError::NotAnObject(error) => ReadError::malformed(place, error.to_string()),
            LineError::Duplicate(name) => {
                ReadError::malformed(place, format!("{name:?} is given twice"))
            }
            LineError::Value(column, value) => {
                ReadError::value(place, &column.name, &value, column.column_type)
            }
            LineError::Read(error) => error,
        })
    }
}

/// Why a line is no record.
pub enum LineError {
    /// It is not an object.
    NotAnObject(NotAnObject),
    /// It has a member twice.
    Duplicate(String),
    /// A value, as it is written, is none of its column's type.
    Value(Column, String),
    /// An error that needs no place.
    Read(ReadError),
}

impl From<NotAnObject> for LineError {
    fn from(error: NotAnObject) -> Self {
        Self::NotAnObject(error)
    }
}

/// The records of a JSON lines file as values of a table.
pub struct JsonlSource<'a, R> {
    lines: LineReader<R>,
    reading: Reading<'a>,
}

impl<'a, R: BufRead> JsonlSource<'a, R> {
    /// Begins to read.
    pub fn new(reader: R, reading: Reading<'a>) -> Self {
        Self {
            lines: LineReader::new(reader),
            reading,
        }
    }
}

impl<R: BufRead + Send> RecordSource for JsonlSource<'_, R> {
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        if !self.lines.advance()? {
            return Ok(None);
        }
        let reading = &self.reading;
        let mut values: Vec<(usize, Value)> = Vec::with_capacity(reading.schema.columns.len());
        self.lines.members(|name, token| {
            let Some(position) = reading.column(name).map_err(LineError::Read)? else {
                return Ok(());
            };
            if values.iter().any(|(other, _)| *other == position) {
                return Err(LineError::Duplicate(name.to_owned()));
            }
            let column = &reading.schema.columns[position];
            match value_of(&token, column.column_type) {
                Ok(value) => values.push((position, value)),
                Err(written) => return Err(LineError::Value(column.clone(), written)),
            }
            Ok(())
        })?;
        Ok(Some(Record {
            place: Place::Line(self.lines.line),
            values,
        }))
    }

    fn bytes_done(&self) -> u64 {
        self.lines.bytes_done
    }
}

/// The value of a token in a column; as an error the token's text.
fn value_of(token: &Token<'_>, column_type: ColumnType) -> Result<Value, String> {
    let parse = |text: &str| text::parse(text, column_type).map_err(|_| text.to_owned());
    match (token, column_type) {
        (Token::Null, _) => Ok(Value::Null),
        (Token::Text(text), _) => parse(text),
        (Token::Number(number), _) => parse(number),
        (Token::Bool(value), ColumnType::Bool) => Ok(Value::Bool(*value)),
        (Token::Bool(value), ColumnType::Json | ColumnType::Utf8) => {
            Ok(Value::Text(value.to_string()))
        }
        (Token::Bool(value), _) => Err(value.to_string()),
        (Token::Nested(json), ColumnType::Json) => Ok(Value::Text((*json).to_owned())),
        (Token::Nested(json), _) => Err((*json).to_owned()),
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
        Value::Text(_) => column_type == ColumnType::Json && stands_by_itself(&text),
        _ => false,
    };
    if as_it_is {
        out.extend_from_slice(text.as_bytes());
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

/// Whether JSON text reads back as itself when it stands in a line: a string or null would be taken
/// for text or NULL, white space around it would be lost, and a line feed would end the line.
fn stands_by_itself(text: &str) -> bool {
    match text.as_bytes().first() {
        Some(b'{' | b'[') => {
            !text.contains('\n')
                && text.trim_end() == text
                && serde_json::from_str::<IgnoredAny>(text).is_ok()
        }
        Some(_) => json::is_number(text) || text == "true" || text == "false",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::TableSchema;
    use proptest::prelude::*;

    use super::*;

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
            null: "",
        };
        let mut source = JsonlSource::new(line.as_bytes(), reading);
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
    fn json_stands_as_it_is_where_it_reads_back_as_itself() {
        let written = |json: &str| {
            let mut out = Vec::new();
            write_value(&mut out, &Value::Text(json.into()), ColumnType::Json);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written("{\"b\": 1,\"a\":[ ]}"), "{\"b\": 1,\"a\":[ ]}");
        assert_eq!(written("1.50"), "1.50");
        assert_eq!(written("null"), "\"null\"");
        assert_eq!(written("\"x\""), "\"\\\"x\\\"\"");
        assert_eq!(written("{\n}"), "\"{\\n}\"");
        assert_eq!(written("{broken"), "\"{broken\"");
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_text_and_as_json(
            text in prop_oneof![any::<String>(), r#"[\[\]{}",:0-9a ne\n]{0,8}"#.prop_map(String::from)],
        ) {
            for column_type in [ColumnType::Utf8, ColumnType::Json] {
                let value = Value::Text(text.clone());
                let mut line = b"{\"a\":".to_vec();
                write_value(&mut line, &value, column_type);
                line.extend_from_slice(b"}\n");
                let line = String::from_utf8(line).unwrap();
                let records = read(&line, column_type);
                prop_assert_eq!(records, Ok(vec![Record { place: Place::Line(1), values: vec![(0, value)] }]));
            }
        }
    }
}
