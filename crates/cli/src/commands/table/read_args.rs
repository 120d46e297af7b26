//! The flags that say how a file is read.

use clap::Args;
use mendb_model::text::TextRules;

use super::text_args::TextArgs;
use crate::failure::Failure;
use crate::formats::csv::{Header, parse_delimiter};
use crate::formats::encoding::Encoding;
use crate::formats::fields::{Fields, parse_rename};
use crate::formats::{FileOptions, Format};

/// How a file is read.
#[derive(Debug, Args, Default)]
pub struct ReadArgs {
    /// The text that is NULL in CSV; an empty field is then empty text
    #[arg(long, value_name = "TEXT")]
    pub null: Option<String>,
    /// The first line of CSV is a row, too. Its fields are those of --fields, else the columns of the
    /// table in their order; where the table is learned from the file, column1 and so on
    #[arg(long)]
    pub no_header: bool,
    /// What the fields of CSV without a header are called, in their order
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        requires = "no_header",
        conflicts_with = "rename_column"
    )]
    fields: Vec<String>,
    /// What stands between the fields of CSV: one character, or tab. Without it, it is what the header
    /// has most of: , ; | or tab. Without a header, it is what fits the rows
    #[arg(long, value_name = "CHAR", value_parser = parse_delimiter)]
    delimiter: Option<u8>,
    /// The encoding of CSV and JSON; without it a byte order mark says it, and else it is utf-8
    #[arg(long, value_enum)]
    encoding: Option<Encoding>,
    /// Numbers in CSV have a comma before their fraction: 3,14
    #[arg(long)]
    decimal_comma: bool,
    #[command(flatten)]
    pub text: TextArgs,
    /// Read a column of the file under another name; may be given many times
    #[arg(long, value_name = "OLD=NEW", value_parser = parse_rename)]
    rename_column: Vec<(String, String)>,
    /// Read only these columns, by the names they have in the table
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    columns: Vec<String>,
    /// Pass over these columns of the file
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        conflicts_with = "columns"
    )]
    skip_columns: Vec<String>,
}

impl ReadArgs {
    /// Whether the file's columns are read as they are.
    pub fn keeps_columns(&self) -> bool {
        self.rename_column.is_empty() && self.columns.is_empty() && self.skip_columns.is_empty()
    }

    /// What is asked of a file of this format.
    ///
    /// # Errors
    /// A flag is for another format, or names a field twice.
    pub fn options(&self, format: Format) -> Result<FileOptions, Failure> {
        let only_csv = [
            (
                self.null.is_some(),
                "--null is for CSV: the other formats have NULLs",
            ),
            (
                self.no_header,
                "--no-header is for CSV: the other formats name their fields",
            ),
            (self.delimiter.is_some(), "--delimiter is for CSV"),
            (
                self.decimal_comma,
                "--decimal-comma is for CSV: numbers of the other formats have a point",
            ),
        ];
        for (given, message) in only_csv {
            if given && format != Format::Csv {
                return Err(Failure::misuse(message));
            }
        }
        if self.encoding.is_some() && format == Format::Parquet {
            return Err(Failure::misuse(
                "--encoding is for CSV and JSON: Parquet is always in UTF-8",
            ));
        }
        Ok(FileOptions {
            null: self.null.clone().unwrap_or_default(),
            delimiter: self.delimiter,
            header: self.header()?,
            encoding: self.encoding,
            rules: TextRules {
                decimal_comma: self.decimal_comma,
                ..self.text.rules()
            },
            fields: Fields {
                renamed: self.rename_column.clone(),
                wanted: (!self.columns.is_empty()).then(|| self.columns.clone()),
                skipped: self.skip_columns.clone(),
            },
        })
    }

    fn header(&self) -> Result<Header, Failure> {
        if !self.no_header {
            return Ok(Header::Present);
        }
        let mut names: Vec<String> = Vec::with_capacity(self.fields.len());
        for name in self.fields.iter().map(|name| name.trim().to_owned()) {
            let wrong = if name.is_empty() {
                format!("--fields has no name for field {}", names.len() + 1)
            } else if names.contains(&name) {
                format!("--fields names {name:?} twice")
            } else {
                names.push(name);
                continue;
            };
            return Err(Failure::misuse(wrong));
        }
        Ok(if names.is_empty() {
            Header::Absent
        } else {
            Header::Said(names)
        })
    }
}
