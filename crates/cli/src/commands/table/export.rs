//! `mendb table export`

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use mendb_model::name::TablePath;
use mendb_model::{KeyRange, TableSchema, Value};
use mendb_rowstore::Direction;
use serde::Serialize;

use super::postgres::LiveTable;
use super::schema_of;
use crate::clock::Stopwatch;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::formats::Format;
use crate::formats::sink::{Sink, WriteError};
use crate::formats::table_file::TableFile;
use crate::human;
use crate::progress::Progress;
use crate::target::Target;

/// Rows between two updates of the progress.
const PROGRESS_ROWS: u64 = 4096;
const BUFFER_BYTES: usize = 256 << 10;

/// Write a table to a CSV, JSON lines or Parquet file, in key order.
///
/// The same rows give the same bytes. Importing the file again gives the same table: its schema lies
/// in FILE.schema.json beside it, or within a Parquet file.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The table
    table: String,
    /// Export through this index: its columns, those of the key and those it covers, in its order
    #[arg(long, value_name = "INDEX")]
    index: Option<String>,
    /// The format; without it the file's name says it, and without a file it is csv
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write to this file, which appears when it is complete; without it to stdout. A pipe or a device
    /// is written to as stdout is
    #[arg(long, short = 'o', value_name = "FILE")]
    file: Option<PathBuf>,
    /// The text that stands for NULL in CSV; without it an empty field, and "" is empty text
    #[arg(long, value_name = "TEXT", default_value = "")]
    null: String,
    /// Write CSV without a header line
    #[arg(long)]
    no_header: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    table: TablePath,
    file: &'a Path,
    /// The file of the schema; within the file itself for Parquet.
    schema: PathBuf,
    rows: u64,
    bytes: u64,
    seconds: f64,
}

/// What was written.
struct Written<W> {
    rows: u64,
    out: W,
    schema: TableSchema,
}

/// Runs the command. All rows are of one snapshot.
pub fn run(args: &ExportArgs, context: &Context) -> Result<Verdict, Failure> {
    let watch = Stopwatch::start();
    let format = match &args.file {
        Some(file) => Format::choose(args.format, file)?,
        None => args.format.unwrap_or(Format::Csv),
    };
    if args.null.contains(['"', ',', '\n', '\r']) {
        return Err(Failure::misuse(
            "--null may not hold quotes, commas or line ends",
        ));
    }
    if args.no_header && format != Format::Csv {
        return Err(Failure::misuse(
            "--no-header is for CSV: the other formats name their fields",
        ));
    }
    let Some(path) = &args.file else {
        let (buffer, out) = context.output.file(format.media_type());
        let out = BufWriter::with_capacity(buffer.unwrap_or(BUFFER_BYTES), out);
        let Written { mut out, .. } = args.write(context, format, out)?;
        out.flush()
            .map_err(|error| Failure::io("cannot write the rows", &error))?;
        return Ok(Verdict::Done);
    };
    let name = path.display();
    let wrong = |error: io::Error| Failure::io(format!("cannot write {name}"), &error);
    if is_pipe_or_device(path) {
        // A file in its place would be no pipe any more.
        let pipe = File::options().write(true).open(path).map_err(wrong)?;
        let out = BufWriter::with_capacity(BUFFER_BYTES, pipe);
        args.write(context, format, out)?;
        return Ok(Verdict::Done);
    }
    let temporary = temporary_beside(path).map_err(wrong)?;
    let file = temporary.as_file().try_clone().map_err(wrong)?;
    let Written {
        rows,
        out: file,
        schema,
    } = args
        .write(
            context,
            format,
            BufWriter::with_capacity(BUFFER_BYTES, file),
        )
        .map_err(|failure| match failure.kind {
            FailureKind::FixEnvironment => failure.context(format!("cannot write {name}")),
            // It is about the table, not the file.
            _ => failure,
        })?;
    let file = file
        .into_inner()
        .map_err(|error| wrong(error.into_error()))?;
    let mut beside = path.clone();
    if format != Format::Parquet {
        beside = TableFile::path_beside(path);
        let table_file = TableFile {
            schema,
            null: args.null.clone(),
            no_header: args.no_header,
        };
        let json = table_file.to_json().map_err(wrong)?;
        let mut temporary = temporary_beside(&beside).map_err(wrong)?;
        temporary.write_all(json.as_bytes()).map_err(wrong)?;
        // Before the rows: where rows are found, their schema is there.
        publish(temporary, &beside).map_err(wrong)?;
    }
    publish(temporary, path).map_err(wrong)?;
    let report = Report {
        table: args.path(),
        file: path,
        schema: beside,
        rows,
        bytes: file.metadata().map_err(wrong)?.len(),
        seconds: watch.elapsed().as_secs_f64(),
    };
    context.output.report(&report, |report| {
        format!(
            "exported {} of {} to {name} ({}) in {}\n",
            human::rows(report.rows),
            report.table,
            human::bytes(report.bytes),
            human::duration(watch.elapsed())
        )
    })?;
    Ok(Verdict::Done)
}

impl ExportArgs {
    fn path(&self) -> TablePath {
        TablePath {
            table: self.table.clone(),
            index: self.index.clone(),
        }
    }

    /// Writes the rows.
    fn write<W: Write + Send>(
        &self,
        context: &Context,
        format: Format,
        out: W,
    ) -> Result<Written<W>, Failure> {
        if let Target::Postgres(address) = context.target()? {
            return self.write_live(
                &LiveTable::open(&address, &self.table)?,
                context,
                format,
                out,
            );
        }
        let snapshot = context.look_at_rows()?;
        let table = snapshot.open_table(&self.table)?;
        let schema = schema_of(&self.path(), table.schema())?;
        let total = snapshot
            .shards(&self.path())?
            .iter()
            .map(|shard| shard.digest.rows)
            .sum();
        let sink = Sink::new(format, out, &schema, &self.null, !self.no_header)?;
        let label = format!("exporting {}", self.path());
        let quiet = context.output.quiet || self.file.is_none();
        let progress = Progress::start_rows(label, total, quiet);
        let written = match &self.index {
            None => {
                let rows = snapshot.scan(&table, KeyRange::all(), Direction::Ascending)?;
                write_rows(rows, sink, &progress)
            }
            Some(index) => {
                let all = KeyRange::all();
                let rows = snapshot.scan_index(&table, index, all, Direction::Ascending)?;
                write_rows(rows, sink, &progress)
            }
        };
        progress.finish();
        let (rows, out) = written?;
        Ok(Written { rows, out, schema })
    }

    /// Writes the rows of a table of a PostgreSQL database.
    fn write_live<W: Write + Send>(
        &self,
        table: &LiveTable,
        context: &Context,
        format: Format,
        out: W,
    ) -> Result<Written<W>, Failure> {
        if self.index.is_some() {
            return Err(
                Failure::misuse("--index is for the row store that mendb ships")
                    .hint("leave it out: the table is exported in the order of its key"),
            );
        }
        let sink = Sink::new(format, out, &table.schema, &self.null, !self.no_header)?;
        let quiet = context.output.quiet || self.file.is_none();
        let progress = Progress::start(format!("exporting {}", self.table), None, quiet);
        let written = table.write(sink, &progress);
        progress.finish();
        let (rows, out) = written?;
        Ok(Written {
            rows,
            out,
            schema: table.schema.clone(),
        })
    }
}

fn write_rows<W: Write + Send>(
    rows: impl Iterator<Item = mendb_rowstore::Result<Vec<Value>>>,
    mut sink: Sink<W>,
    progress: &Progress,
) -> Result<(u64, W), Failure> {
    let mut written = 0;
    for row in rows {
        sink.push(&row?)?;
        written += 1;
        if written % PROGRESS_ROWS == 0 {
            progress.update(written, &human::rows(written));
        }
    }
    Ok((written, sink.finish()?))
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match &error {
            WriteError::Io(source) => Self::io("cannot write the rows", source),
            WriteError::FarDatetime => Self::of(FailureKind::FixCommand, &error),
            WriteError::Convert(_) | WriteError::Parquet(_) => {
                Self::of(FailureKind::ReportBug, &error)
            }
        }
    }
}

fn is_pipe_or_device(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// A file in the directory of `path`, so that renaming it there cannot fail for lack of space.
fn temporary_beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mendb-export-");
    // A temporary file is its owner's alone; an export is an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(directory_of(path))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a complete file appear under its name, on disk.
fn publish(temporary: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    File::open(directory_of(path))?.sync_all()
}
