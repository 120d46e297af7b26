//! CSV: a header line unless there is none, then one record a line; fields may be quoted and then hold
//! delimiters, quotes (doubled) and line ends. Read with LF, CRLF or CR ends, and with `,`, `;`, `|` or
//! tabs between fields; written with LF and `,`.
//!
//! Quotes carry meaning: an empty field is NULL, `""` is empty text. Where `--null NA` names another
//! marker, `NA` is NULL, `"NA"` is text and an empty field is empty text. In a column that is not
//! text an empty field is NULL with or without quotes, and so is the marker unless it is in quotes and
//! a value of the column.
//!
//! The names of a header are read without the white space around them; a field without a name is
//! `column` and its number. Without a header the fields are those that were said, or the columns of the
//! table in their order, or numbered where there is no table yet.

mod dialect;
mod header;
mod reader;
mod source;
mod writer;

pub use dialect::{Dialect, parse_delimiter};
pub use header::{FieldCount, Header};
pub use reader::CsvReader;
pub use source::CsvSource;
pub use writer::write_field;
