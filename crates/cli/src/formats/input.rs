//! The file a table is imported from. It may be read more than once: to learn its columns, to sample
//! its keys, to import it; stdin is then kept in a temporary file.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use mendb_model::Column;

use super::{
    Format, ReadError, Reading, RecordSource,
    csv::CsvSource,
    infer,
    jsonl::JsonlSource,
    parquet::{self, ParquetSource},
};
use crate::failure::Failure;

/// How much is read at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Where the rows come from.
pub struct Input {
    name: String,
    origin: Origin,
    format: Format,
}

enum Origin {
    File(PathBuf),
    /// Removed when the input is dropped.
    Spooled(tempfile::NamedTempFile),
    Stdin,
}

impl Input {
    /// The file at `path`, or stdin when that is `-`, which is kept in a temporary file if it must be
    /// read `more_than_once` or cannot be read in one direction.
    ///
    /// # Errors
    /// There is no such file, or there is no room for stdin.
    pub fn open(path: &Path, format: Format, more_than_once: bool) -> Result<Self, Failure> {
        let is_stdin = path.as_os_str() == "-";
        let name = if is_stdin {
            "stdin".to_owned()
        } else {
            path.display().to_string()
        };
        let origin = if !is_stdin {
            // Found missing here and not after the table was created.
            File::open(path).map_err(|error| Failure::io(format!("cannot read {name}"), &error))?;
            Origin::File(path.to_owned())
        } else if more_than_once || format == Format::Parquet {
            Origin::Spooled(
                spool().map_err(|error| {
                    Failure::io("cannot keep stdin in a temporary file", &error)
                })?,
            )
        } else {
            Origin::Stdin
        };
        Ok(Self {
            name,
            origin,
            format,
        })
    }

    /// The name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the file; `None` when they come from stdin.
    pub fn size_bytes(&self) -> Option<u64> {
        let path = match &self.origin {
            Origin::File(path) => path,
            Origin::Spooled(file) => file.path(),
            Origin::Stdin => return None,
        };
        Some(std::fs::metadata(path).ok()?.len())
    }

    /// The columns of the file, from all of its rows.
    ///
    /// # Errors
    /// The file is malformed or has a column of a type that no table can hold.
    pub fn columns(&self, null: &str) -> Result<Vec<Column>, ReadError> {
        match self.format {
            Format::Csv => infer::csv(self.lines()?, null),
            Format::Jsonl => infer::jsonl(self.lines()?),
            Format::Parquet => parquet::describe(&self.file()?),
        }
    }

    /// The records of the file, from its beginning.
    ///
    /// # Errors
    /// The file's header is malformed or names a column that is not one.
    pub fn records<'a>(
        &self,
        reading: Reading<'a>,
    ) -> Result<Box<dyn RecordSource + 'a>, ReadError> {
        Ok(match self.format {
            Format::Csv => Box::new(CsvSource::new(self.lines()?, &reading)?),
            Format::Jsonl => Box::new(JsonlSource::new(self.lines()?, reading)),
            Format::Parquet => Box::new(ParquetSource::new(self.file()?, &reading)?),
        })
    }

    fn lines(&self) -> io::Result<Box<dyn BufRead + Send>> {
        Ok(match &self.origin {
            // A lock of stdin cannot go to another thread; a buffer of its own can.
            Origin::Stdin => Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin())),
            _ => Box::new(BufReader::with_capacity(BUFFER_BYTES, self.file()?)),
        })
    }

    fn file(&self) -> io::Result<File> {
        match &self.origin {
            Origin::File(path) => File::open(path),
            Origin::Spooled(file) => file.reopen(),
            Origin::Stdin => Err(io::Error::other("stdin cannot be read twice")),
        }
    }
}

fn spool() -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    io::copy(&mut io::stdin().lock(), file.as_file_mut())?;
    Ok(file)
}
