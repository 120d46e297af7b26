//! `mendb table import`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mendb_model::name::TablePath;
use mendb_model::{TableSchema, Value, ValueRef, key};
use mendb_rowstore::Database;
use serde::Serialize;

use super::definition::DefinitionArgs;
use super::load::{Load, Loaded};
use super::paths_of;
use super::sample::KeySample;
use crate::clock::Stopwatch;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::formats::input::Input;
use crate::formats::{Format, Reading};
use crate::human;
use crate::progress::Progress;

/// An import of at least this many rows ends with packing its table: what came in small batches then
/// lies as closely as what a restore loads.
const COMPACT_FROM_ROWS: u64 = 50_000;

/// Write the rows of a CSV, JSON lines or Parquet file into a table.
///
/// CSV has a header; an empty field without quotes is NULL, "" is empty text (see --null). In JSON
/// lines an absent member is left alone by an upsert, null sets NULL. Rows are written in atomic
/// batches, so a command that failed can simply be run again.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The table
    table: String,
    /// The file; - is stdin
    file: PathBuf,
    /// The format; without it the file's name says it
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// What a row of the file does to the row of its key
    #[arg(long, value_enum, default_value = "upsert")]
    mode: Mode,
    /// The text that is NULL in CSV; an empty field is then empty text
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// Create the table first. Its columns are those of the file, in types that fit all rows; --schema
    /// says them instead
    #[arg(long)]
    create: bool,
    /// Cut the new table and its indexes into this many shards of about the same size
    #[arg(long, value_name = "N", conflicts_with = "split_at", value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: Option<u16>,
    #[command(flatten)]
    definition: DefinitionArgs,
}

/// What a row of a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Sets the columns it has and leaves the others
    Upsert,
    /// Becomes the row: columns it has not are NULL
    Replace,
    /// Removes the row; only the key is read
    Erase,
}

#[derive(Serialize)]
struct Report<'a> {
    table: &'a str,
    mode: Mode,
    created: bool,
    rows: u64,
    bytes: u64,
    seconds: f64,
    rows_per_second: u64,
}

/// Runs the command.
pub fn run(args: &ImportArgs, context: &Context) -> Result<Verdict, Failure> {
    let watch = Stopwatch::start();
    args.check()?;
    let format = args.format()?;
    let learns = args.create && (args.definition.schema.is_none() || args.shards.is_some());
    let input = Input::open(&args.file, format, learns)?;
    let database = context.open_rows()?;
    if args.create {
        args.create(&database, &input)?;
    }
    let table = database.open_table(&args.table).map_err(|error| {
        let failure = Failure::from(error);
        if failure.hint.is_some() && !args.create {
            failure.hint("--create --key A,B makes the table from the file")
        } else {
            failure
        }
    })?;
    let schema = table.schema();
    let reading = Reading {
        schema,
        only: (args.mode == Mode::Erase).then_some(schema.key.as_slice()),
        null: args.null(),
    };
    let label = format!("importing {}", args.table);
    let progress = Progress::start(label, input.size_bytes(), context.output.quiet);
    let load = Load {
        database: &database,
        table: &table,
        mode: args.mode,
        source_name: input.name(),
        progress: &progress,
    };
    let source = input
        .records(reading)
        .map_err(|error| error.of_file(input.name()))?;
    let loaded = load.run(source);
    progress.finish();
    let Loaded { rows, bytes } = match loaded {
        Ok(loaded) => loaded,
        Err(failure) => {
            // So that the corrected command, with --create, can be run again.
            if args.create && database.describe(&args.table)?.rows.digest().rows == 0 {
                database.drop_table(&args.table)?;
            }
            return Err(failure);
        }
    };
    if rows >= COMPACT_FROM_ROWS {
        for path in paths_of(&args.table, schema) {
            database.compact(&path)?;
        }
    }
    let elapsed = watch.elapsed();
    let report = Report {
        table: &args.table,
        mode: args.mode,
        created: args.create,
        rows,
        bytes,
        seconds: elapsed.as_secs_f64(),
        rows_per_second: human::rate(rows, elapsed),
    };
    context.output.report(&report, |report| {
        let rows = human::rows(report.rows);
        let done = match args.mode {
            Mode::Upsert | Mode::Replace => format!("imported {rows} into {}", report.table),
            Mode::Erase => format!("erased the keys of {rows} from {}", report.table),
        };
        let rate = human::count(report.rows_per_second);
        format!("{done} in {} ({rate} rows/s)\n", human::duration(elapsed))
    })?;
    Ok(Verdict::Done)
}

impl ImportArgs {
    fn check(&self) -> Result<(), Failure> {
        if !self.create && (self.definition.is_given() || self.shards.is_some()) {
            return Err(Failure::misuse(
                "--key, --index, --unique-index, --schema, --split-at and --shards describe a new table",
            )
            .hint("add --create, or leave them out"));
        }
        if self.create && self.mode == Mode::Erase {
            return Err(Failure::misuse("there is nothing to erase in a new table"));
        }
        Ok(())
    }

    fn format(&self) -> Result<Format, Failure> {
        let format = Format::choose(self.format, &self.file)?;
        if self.null.is_some() && format != Format::Csv {
            return Err(Failure::misuse(
                "--null is for CSV: the other formats have NULLs",
            ));
        }
        Ok(format)
    }

    fn null(&self) -> &str {
        self.null.as_deref().unwrap_or("")
    }

    /// Creates the table, from the flags and what the file holds.
    fn create(&self, database: &Database, input: &Input) -> Result<(), Failure> {
        if database.tables().contains(&self.table) {
            let message = format!("table {} already exists", self.table);
            return Err(Failure::new(FailureKind::FixInput, message)
                .hint("without --create the rows go into the table that is there"));
        }
        let schema = match self.definition.schema_file()? {
            Some(schema) => schema,
            None => {
                let columns = input.columns(self.null());
                let columns = columns.map_err(|error| error.of_file(input.name()))?;
                self.definition.schema_with(columns)?
            }
        };
        schema.validate()?;
        let Some(shards) = self.shards else {
            let splits = self.definition.splits(&schema)?;
            return Ok(database.create_table(&self.table, schema, splits)?);
        };
        let mut splits = self.sample(&schema, input, usize::from(shards))?;
        let index_splits = splits.split_off(1);
        let table_splits = splits.pop().unwrap_or_default();
        database.create_table(&self.table, schema.clone(), table_splits)?;
        for (index, points) in schema.indexes.iter().zip(index_splits) {
            let path = TablePath::index(&self.table, &index.name);
            for point in points {
                database.split(&path, &point)?;
            }
        }
        Ok(())
    }

    /// The split points of the table and then of its indexes, from the keys in the file.
    fn sample(
        &self,
        schema: &TableSchema,
        input: &Input,
        shards: usize,
    ) -> Result<Vec<Vec<Vec<u8>>>, Failure> {
        let broken = |error: crate::formats::ReadError| error.of_file(input.name());
        let tables: Vec<TableSchema> = std::iter::once(schema.clone())
            .chain(
                schema
                    .indexes
                    .iter()
                    .map(|index| schema.implementation(index)),
            )
            .collect();
        let mut keyed: Vec<String> = tables.iter().flat_map(|table| table.key.clone()).collect();
        keyed.sort_unstable();
        keyed.dedup();
        let reading = Reading {
            schema,
            only: Some(&keyed),
            null: self.null(),
        };
        let mut samples: Vec<KeySample> = tables.iter().map(|_| KeySample::default()).collect();
        let mut source = input.records(reading).map_err(broken)?;
        while let Some(record) = source.next().map_err(broken)? {
            for (table, sample) in tables.iter().zip(&mut samples) {
                sample.add(|| key_of(table, schema, &record.values));
            }
        }
        Ok(samples
            .into_iter()
            .map(|sample| sample.splits(shards))
            .collect())
    }
}

/// The key of a row in a table or index, from values by position in the table; absent ones are NULL.
fn key_of(keyed: &TableSchema, table: &TableSchema, values: &[(usize, Value)]) -> Vec<u8> {
    let value = |name: &String| {
        let column = table.columns.iter().position(|column| column.name == *name);
        let found = values
            .iter()
            .find(|(position, _)| Some(*position) == column);
        found.map_or(ValueRef::Null, |(_, value)| value.as_ref())
    };
    key::encode(&keyed.key_types(), keyed.key.iter().map(value))
}
