//! The formats that tables are imported from and exported to.
//!
//! | format | NULL | exact both ways |
//! |---|---|---|
//! | CSV | an empty field without quotes, or the text of `--null` | yes |
//! | JSON lines | `null`; in an upsert an absent field leaves the column alone | yes |
//! | Parquet | null | yes |
//!
//! Exact means: a table exported and imported again has the same digest. The exceptions are a NaN with a
//! payload, which CSV and JSON write as `NaN`, and text in Json columns that is no JSON, which only
//! versions of before have written.
//!
//! All formats bring their values to columns by [`cell`], which refuses what a type does not hold. What
//! a table is lies in the Parquet file, and beside files of the other formats (`table_file`).
//!
//! Everything here streams: a source holds one record or one batch of a row group, a sink one batch.

pub mod cell;
pub mod csv;
pub mod encoding;
pub mod fields;
pub mod infer;
pub mod input;
pub mod json;
pub mod jsonl;
pub mod object_reader;
pub mod parquet;
#[cfg(test)]
mod round_trip;
pub mod sink;
pub mod table_file;

use std::fmt;
use std::io;
use std::path::Path;

use clap::ValueEnum;
use mendb_model::text::{Misfit, TextRules};
use mendb_model::{Column, ColumnType, TableSchema, Value};

use crate::failure::{Failure, FailureKind};
use csv::{FieldCount, Header};
use encoding::Encoding;
use fields::Fields;

/// A format of rows in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Comma-separated values.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The format that a file's name ends in: `.csv`, `.jsonl`, `.ndjson`, `.json`, `.parquet`.
    pub fn of_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Jsonl => "application/x-ndjson",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// The format asked for, or that of the file's name.
    ///
    /// # Errors
    /// Neither says one.
    pub fn choose(asked: Option<Self>, path: &Path) -> Result<Self, Failure> {
        asked.or_else(|| Self::of_path(path)).ok_or_else(|| {
            Failure::misuse(format!(
                "the format of {} is not known from its name",
                path.display()
            ))
            .hint("say --format csv, jsonl or parquet")
        })
    }
}

/// How a file is read.
#[derive(Debug, Clone, Default)]
pub struct FileOptions {
    /// The text that is NULL in CSV.
    pub null: String,
    /// What stands between the fields of CSV; without it, it is guessed.
    pub delimiter: Option<u8>,
    /// What the fields of CSV are called.
    pub header: Header,
    /// How the characters of CSV and JSON are written; without it a byte order mark says it, and
    /// without that it is UTF-8.
    pub encoding: Option<Encoding>,
    /// What becomes of text that says more than a type holds, or less.
    pub rules: TextRules,
    /// Which fields are read, and what their columns are called.
    pub fields: Fields,
}

/// The columns that records are read for.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The table's columns; a record's values refer to them by position.
    pub schema: &'a TableSchema,
    /// The only columns to read; any other field of the file is passed over. `None` reads all and
    /// refuses fields that are no column.
    pub only: Option<&'a [String]>,
}

impl Reading<'_> {
    /// The position of the column a field is for; `None` when it is passed over.
    fn column(&self, fields: &Fields, field: &str) -> Result<Option<usize>, ReadError> {
        let Some(name) = fields.column(field) else {
            return Ok(None);
        };
        let columns = &self.schema.columns;
        let position = columns.iter().position(|column| column.name == name);
        match (self.only, position) {
            (Some(only), position) => Ok(position.filter(|_| only.iter().any(|o| o == name))),
            (None, Some(position)) => Ok(Some(position)),
            (None, None) => Err(ReadError::UnknownColumn {
                column: name.to_owned(),
                known: columns.iter().map(|column| column.name.clone()).collect(),
            }),
        }
    }
}

/// One row as a file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Where it begins.
    pub place: Place,
    /// Column positions and values; columns that the record does not mention are not there.
    pub values: Vec<(usize, Value)>,
}

impl Record {
    /// About how much memory it takes.
    pub fn size_bytes(&self) -> usize {
        let size = |(_, value): &(usize, Value)| match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        let values = self.values.iter();
        values.map(|value| size(value) + size_of_val(value)).sum()
    }

    /// About how much memory it keeps for the records that take its place.
    pub fn capacity_bytes(&self) -> usize {
        let capacity = |(_, value): &(usize, Value)| match value {
            Value::Text(text) => text.capacity(),
            Value::Bytes(bytes) => bytes.capacity(),
            _ => 0,
        };
        let values = self.values.iter().map(capacity).sum::<usize>();
        values + self.values.capacity() * size_of::<(usize, Value)>()
    }
}

/// A file read record by record.
pub trait RecordSource: Send {
    /// The next record.
    ///
    /// # Errors
    /// The file is malformed or a value is none of its column's type. The source is of no use then.
    fn next(&mut self) -> Result<Option<Record>, ReadError>;

    /// Makes a record that is no longer needed the next one; `false` at the end. What it has in memory may be
    /// used again.
    ///
    /// # Errors
    /// As [`Self::next`].
    fn next_into(&mut self, record: &mut Record) -> Result<bool, ReadError> {
        match self.next()? {
            Some(next) => {
                *record = next;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Goes behind the next record, or what may stand in its place, such as an empty line, without a look at it;
    /// `false` at the end.
    ///
    /// # Errors
    /// It cannot be told where it ends.
    fn pass_over(&mut self) -> Result<bool, ReadError> {
        Ok(self.next()?.is_some())
    }

    /// How many bytes of the file have been read; for Parquet in proportion to its rows.
    fn bytes_done(&self) -> u64;
}

/// Why a file could not be read as rows.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A value is not one of its column's type.
    #[error("{place}, column {column}: {value:?} is not a value of type {column_type}{misfit}")]
    Value {
        /// Where: `line 17`, `row 17`.
        place: Place,
        /// The column.
        column: String,
        /// The text of the value, cut when it is long.
        value: String,
        /// The type of the column.
        column_type: ColumnType,
        /// Why it is none.
        misfit: Misfit,
    },
    /// Bytes that are no text.
    #[error("{place}: {what}not UTF-8")]
    NotUtf8 {
        /// Where.
        place: Place,
        /// What they are, followed by `is`; or nothing.
        what: String,
    },
    /// A record is not one of its format.
    #[error("{place}: {detail}")]
    Malformed {
        /// Where.
        place: Place,
        /// What is wrong.
        detail: String,
    },
    /// A record of CSV has more fields than it must have, or less.
    #[error("{place}: {found} {}, {expected}", if *found == 1 { "field" } else { "fields" })]
    FieldCount {
        /// Where.
        place: Place,
        /// How many it has.
        found: usize,
        /// How many it must have, and what says so.
        expected: FieldCount,
    },
    /// The file has a field that the table has not.
    #[error("the table has no column {column:?}")]
    UnknownColumn {
        /// The field.
        column: String,
        /// The columns of the table.
        known: Vec<String>,
    },
    /// An option names a field that the file has not.
    #[error("the file has no column {field:?}")]
    MissingField {
        /// The field.
        field: String,
        /// The fields of the file.
        known: Vec<String>,
    },
    /// A column of a type that no table can hold.
    #[error("column {column:?} has the Parquet type {data_type}, which cannot be imported")]
    UnsupportedType {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// The file is no Parquet file or is damaged.
    #[error("not readable as Parquet")]
    Parquet(#[source] Box<::parquet::errors::ParquetError>),
    /// The file could not be read.
    #[error("cannot be read")]
    Io(#[from] io::Error),
}

/// Where in a file something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A line, from 1.
    Line(u64),
    /// A row, from 1.
    Row(u64),
}

impl Default for Place {
    fn default() -> Self {
        Self::Line(1)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

impl ReadError {
    /// A value that is none of its column's type; long text is cut.
    fn value(place: Place, column: &Column, value: &str, misfit: Misfit) -> Self {
        const SHOWN_CHARS: usize = 80;
        let value = match value.char_indices().nth(SHOWN_CHARS) {
            Some((at, _)) => format!("{}…", &value[..at]),
            None => value.to_owned(),
        };
        Self::Value {
            place,
            column: column.name.clone(),
            value,
            column_type: column.column_type,
            misfit,
        }
    }

    fn malformed(place: Place, detail: impl Into<String>) -> Self {
        Self::Malformed {
            place,
            detail: detail.into(),
        }
    }

    fn not_utf8(place: Place, what: impl Into<String>) -> Self {
        Self::NotUtf8 {
            place,
            what: what.into(),
        }
    }

    /// The failure of a command that read `name`.
    pub fn of_file(&self, name: &str) -> Failure {
        let kind = match self {
            Self::Io(_) => FailureKind::FixEnvironment,
            _ => FailureKind::FixInput,
        };
        let mut failure = Failure::of(kind, self);
        let separator = match self {
            Self::Value { .. }
            | Self::Malformed { .. }
            | Self::NotUtf8 { .. }
            | Self::FieldCount { .. } => " ",
            _ => ": ",
        };
        failure.message = format!("{name}{separator}{}", failure.message);
        failure.hint = match self {
            Self::UnknownColumn { known, .. } => Some(format!(
                "its columns are {}; --columns and --skip-columns say which to read, --rename-column what they are called",
                mendb_model::names(known)
            )),
            Self::MissingField { known, .. } => {
                Some(format!("its columns are {}", mendb_model::names(known)))
            }
            Self::FieldCount {
                expected: FieldCount::Table(_),
                ..
            } => Some("--fields A,B,… says which columns the fields are".to_owned()),
            Self::UnsupportedType { column, .. } => {
                Some(format!("--skip-columns {column} leaves it out"))
            }
            Self::NotUtf8 { .. } => {
                Some("--encoding windows-1252, latin1 or utf-16 reads other encodings".to_owned())
            }
            Self::Value { misfit, .. } if misfit.can_be_rounded() => {
                Some("--round takes the nearest value".to_owned())
            }
            _ => None,
        };
        failure
    }
}
