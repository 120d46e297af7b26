//! The file a table is imported from. It may be read more than once: to learn its columns, to sample
//! its keys, to import it. What can be read only once, such as stdin or a pipe, is then kept in a
//! temporary file.

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use mendb_model::Column;

use super::csv::{CsvSource, Dialect, Header};
use super::encoding::TextReader;
use super::infer::{self, Learned};
use super::jsonl::{self, JsonlSource};
use super::parquet::{self, ParquetSource};
use super::table_file::TableFile;
use super::{FileOptions, Format, ReadError, Reading, RecordSource};
use crate::failure::{Failure, FailureKind};

/// Rows that are sent are taken in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// Where the rows come from.
pub struct Input {
    name: String,
    origin: Origin,
    format: Format,
    options: FileOptions,
    dialect: OnceCell<Dialect>,
    /// The names of the fields, where the file has no header.
    unnamed: OnceCell<Vec<String>>,
}

enum Origin {
    File(PathBuf),
    /// Removed when the input is dropped.
    Spooled(tempfile::NamedTempFile),
    /// Taken by its only reader.
    Once(Cell<Option<Box<dyn Read + Send>>>),
}

impl Input {
    /// The file at `path`, or stdin when that is `-`. What is no regular file is kept in a temporary
    /// one if it must be read `more_than_once` or cannot be read in one direction.
    ///
    /// # Errors
    /// There is no such file, or there is no room for what is not one.
    pub fn open(
        path: &Path,
        format: Format,
        options: FileOptions,
        more_than_once: bool,
    ) -> Result<Self, Failure> {
        let is_stdin = path.as_os_str() == "-";
        let name = if is_stdin {
            "stdin".to_owned()
        } else {
            path.display().to_string()
        };
        let wrong = |error: io::Error| Failure::io(format!("cannot read {name}"), &error);
        let origin = match regular_or_once(path, is_stdin).map_err(wrong)? {
            None => Origin::File(path.to_owned()),
            Some(mut once) if more_than_once || format == Format::Parquet => {
                let mut file = tempfile::NamedTempFile::new().map_err(no_room(&name))?;
                io::copy(&mut once, file.as_file_mut()).map_err(no_room(&name))?;
                Origin::Spooled(file)
            }
            Some(once) => Origin::Once(Cell::new(Some(once))),
        };
        Ok(Self {
            name,
            origin,
            format,
            options,
            dialect: OnceCell::new(),
            unnamed: OnceCell::new(),
        })
    }

    /// Rows that somebody sends, kept in a temporary file before any is looked at: who is slow holds up nobody.
    ///
    /// # Errors
    /// They were cut off, or there is no room for them.
    pub fn sent(
        name: &str,
        mut rows: impl Read,
        format: Format,
        options: FileOptions,
    ) -> Result<Self, Failure> {
        let mut file = tempfile::NamedTempFile::new().map_err(no_room(name))?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = rows.read(&mut piece).map_err(|error| {
                Failure::new(FailureKind::Retry, format!("{name} were cut off"))
                    .caused_by(error.to_string())
                    .hint("nothing was written: send them again")
            })?;
            if count == 0 {
                break;
            }
            file.write_all(&piece[..count]).map_err(no_room(name))?;
        }
        Ok(Self {
            name: name.to_owned(),
            origin: Origin::Spooled(file),
            format,
            options,
            dialect: OnceCell::new(),
            unnamed: OnceCell::new(),
        })
    }

    /// The name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the file; `None` when they are read only once.
    pub fn size_bytes(&self) -> Option<u64> {
        let path = match &self.origin {
            Origin::File(path) => path,
            Origin::Spooled(file) => file.path(),
            Origin::Once(_) => return None,
        };
        Some(std::fs::metadata(path).ok()?.len())
    }

    /// How the CSV file that was read is written.
    pub fn dialect(&self) -> Option<Dialect> {
        self.dialect.get().copied()
    }

    /// What the fields of the CSV file that was read were called, where it has no header.
    pub fn unnamed(&self) -> Option<&[String]> {
        self.unnamed.get().map(Vec::as_slice)
    }

    /// The schema that came with the rows, within a Parquet file or beside another, and what it came
    /// from.
    ///
    /// # Errors
    /// There is one that cannot be read.
    pub fn schema(&self) -> Result<Option<(TableFile, Option<String>)>, Failure> {
        if self.format == Format::Parquet {
            let schema = self.file().map_err(ReadError::Io);
            let schema = schema.and_then(|file| parquet::exported(&file));
            let schema = schema.map_err(|error| error.of_file(&self.name))?;
            let name = || Some(self.name.clone());
            return Ok(schema.map(|schema| (TableFile::of(schema), name())));
        }
        let Origin::File(path) = &self.origin else {
            return Ok(None);
        };
        let beside = TableFile::beside(path)?;
        let name = TableFile::path_beside(path).display().to_string();
        Ok(beside.map(|file| (file, Some(name))))
    }

    /// Takes another text for NULL.
    pub fn set_null(&mut self, null: &str) {
        null.clone_into(&mut self.options.null);
    }

    /// Takes the first record of CSV for a row.
    pub fn set_no_header(&mut self) {
        self.options.header = Header::Absent;
    }

    /// The columns of the file, from all of its rows. They name its fields from then on where nothing
    /// else does.
    ///
    /// # Errors
    /// The file is malformed or has a column of a type that no table can hold.
    pub fn columns(&mut self) -> Result<Vec<Learned>, ReadError> {
        if self.options.header == Header::Absent {
            self.options.header = Header::Numbered;
        }
        match self.format {
            Format::Csv => {
                let text = self.text()?;
                let dialect = self.dialect_of(&text, &[]);
                infer::csv(text, dialect, &self.options)
            }
            Format::Jsonl => infer::jsonl(self.text()?, &self.options),
            Format::Parquet => {
                let columns = parquet::describe(&self.file()?, &self.options.fields)?;
                let learned = columns.into_iter().map(|column| Learned {
                    column,
                    because: "the type in the file".to_owned(),
                });
                Ok(learned.collect())
            }
        }
    }

    /// The records of the file, from its beginning.
    ///
    /// # Errors
    /// The file's header is malformed or names a column that is not one, or nothing in the file is called
    /// what the options name. Of JSON that can be read only once, that is known at its end.
    pub fn records<'a>(
        &'a self,
        reading: Reading<'a>,
    ) -> Result<Box<dyn RecordSource + 'a>, ReadError> {
        let options = &self.options;
        Ok(match self.format {
            Format::Csv => {
                let text = self.text()?;
                let dialect = self.dialect_of(&text, &reading.schema.columns);
                let source = CsvSource::new(text, dialect, &reading, options)?;
                if options.header != Header::Present {
                    self.unnamed.get_or_init(|| source.names().to_vec());
                }
                Box::new(source)
            }
            Format::Jsonl => {
                if !matches!(self.origin, Origin::Once(_)) {
                    jsonl::check(self.text()?, &options.fields)?;
                }
                Box::new(JsonlSource::new(self.text()?, reading, options))
            }
            Format::Parquet => Box::new(ParquetSource::new(&self.file()?, &reading, options)?),
        })
    }

    fn dialect_of(&self, text: &TextReader, columns: &[Column]) -> Dialect {
        let fields = match &self.options.header {
            Header::Present | Header::Numbered => None,
            Header::Absent => Some(columns.len()),
            Header::Said(names) => Some(names.len()),
        };
        let guess = || Dialect::guess(text.head(), &self.options, fields);
        *self.dialect.get_or_init(guess)
    }

    fn text(&self) -> io::Result<TextReader> {
        let encoding = self.options.encoding;
        match &self.origin {
            Origin::Once(once) => match once.take() {
                Some(once) => TextReader::new(once, encoding),
                None => Err(io::Error::other("it cannot be read twice")),
            },
            _ => TextReader::new(self.file()?, encoding),
        }
    }

    fn file(&self) -> io::Result<File> {
        match &self.origin {
            Origin::File(path) => File::open(path),
            Origin::Spooled(file) => file.reopen(),
            Origin::Once(_) => Err(io::Error::other("it cannot be read twice")),
        }
    }
}

/// What can be read only once, opened, as it may not be opened again; `None` of a regular file that
/// can be read.
fn regular_or_once(path: &Path, is_stdin: bool) -> io::Result<Option<Box<dyn Read + Send>>> {
    if is_stdin {
        // A lock of stdin cannot go to another thread.
        return Ok(Some(Box::new(io::stdin())));
    }
    let file = File::open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((!kind.is_file()).then(|| Box::new(file) as Box<dyn Read + Send>))
}

fn no_room(name: &str) -> impl Fn(io::Error) -> Failure {
    let doing = format!("cannot keep {name} in a temporary file");
    move |error| {
        let failure = Failure::io(&doing, &error);
        match failure.kind {
            FailureKind::FixEnvironment => failure.hint("TMPDIR says where temporary files lie"),
            _ => failure,
        }
    }
}
