//! `mendb table import`

use std::path::PathBuf;

use clap::Args;
use mendb_model::name::TablePath;
use mendb_model::{TableSchema, Value, ValueRef, describe_error, key};
use mendb_rowstore::Database;

use super::definition::DefinitionArgs;
use super::import_report::{NewTable, Report, Written};
use super::load::{Load, Loaded, Stopped};
use super::mode::Mode;
use super::read_args::ReadArgs;
use super::sample::KeySample;
use crate::clock::Stopwatch;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::formats::input::Input;
use crate::formats::{Format, Reading};
use crate::progress::Progress;

/// Write the rows of a CSV, JSON lines or Parquet file into a table.
///
/// CSV has a header (see --no-header); an empty field without quotes is NULL, "" is empty text (see
/// --null). In JSON an absent member is left alone by an upsert, null sets NULL; objects may stand in an
/// array, too. A value that its column cannot hold is refused with its line. The table gets all rows of the
/// file at once, or none.
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
    #[command(flatten)]
    reading: ReadArgs,
    /// Create the table first; a failure leaves none. It is as it was exported, where its schema came
    /// with the file; else its columns are those of the file, in types that keep all rows. --key and
    /// --schema say otherwise
    #[arg(long)]
    create: bool,
    /// Cut the new table and its indexes into this many shards of about the same size
    #[arg(long, value_name = "N", conflicts_with = "split_at", value_parser = clap::value_parser!(u16).range(1..=16_384))]
    shards: Option<u16>,
    #[command(flatten)]
    definition: DefinitionArgs,
}

/// Runs the command.
pub fn run(args: &ImportArgs, context: &Context) -> Result<Verdict, Failure> {
    let watch = Stopwatch::start();
    args.check()?;
    let format = Format::choose(args.format, &args.file)?;
    let options = args.reading.options(format)?;
    let learns = args.create && (args.definition.schema.is_none() || args.shards.is_some());
    let sent = (context.session.as_ref()).and_then(|session| session.upload.as_ref()?.take());
    let mut input = match sent {
        Some(rows) => Input::sent("the rows", rows, format, options)?,
        None => Input::open(&args.file, format, options, learns)?,
    };
    let database = context.open_rows()?;
    let mut created = None;
    if args.create {
        let new = args.new_table(&database, &mut input)?;
        created = Some(new);
    }
    let written = match &created {
        None => args.write(&database, &input, context),
        Some(new) => {
            let created = args.create(&database, &input, new);
            let written = created.and_then(|()| args.write(&database, &input, context));
            written.map_err(|failure| args.take_back(&database, new, failure))
        }
    };
    let report = Report {
        table: &args.table,
        mode: args.mode,
        created: created.as_ref(),
        dialect: input.dialect(),
        unnamed: input.unnamed(),
        written: written?,
        elapsed: watch.elapsed(),
    };
    report.print(context)?;
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

    /// Writes the rows of the file into the table, which is there.
    fn write(
        &self,
        database: &Database,
        input: &Input,
        context: &Context,
    ) -> Result<Written, Failure> {
        let table = database.open_table(&self.table).map_err(|error| {
            let failure = Failure::from(error);
            if failure.hint.is_some() && !self.create {
                failure.hint("--create --key A,B makes the table from the file")
            } else {
                failure
            }
        })?;
        let schema = table.schema();
        let reading = Reading {
            schema,
            only: (self.mode == Mode::Erase).then_some(schema.key.as_slice()),
        };
        let label = format!("importing {}", self.table);
        let progress = Progress::start(label, input.size_bytes(), context.output.hides_progress());
        let load = Load {
            database,
            table: &table,
            mode: self.mode,
            source_name: input.name(),
            records: &|| input.records(reading),
            progress: &progress,
        };
        let count = || Ok::<_, Failure>(database.describe(&self.table)?.rows.digest().rows);
        let before = count()?;
        let source = input
            .records(reading)
            .map_err(|error| error.of_file(input.name()))?;
        let loaded = load.run(source);
        progress.finish();
        let Loaded { rows, bytes } = loaded.map_err(|stopped| {
            let Stopped {
                failure,
                is_committed,
            } = stopped;
            let left = match (self.create, is_committed) {
                (true, _) => format!("table {} was not created", self.table),
                (false, false) => "nothing was written".to_owned(),
                (false, true) => {
                    "the rows may be there all the same; to import them again changes nothing"
                        .to_owned()
                }
            };
            let hint = match &failure.hint {
                Some(hint) => format!("{hint}; {left}"),
                None => format!("{left}; correct it and import again"),
            };
            failure.hint(hint)
        })?;
        Ok(Written {
            rows,
            bytes,
            rows_before: before,
            rows_after: count()?,
        })
    }

    /// What the new table is, from the flags and from what the file is or comes with.
    fn new_table(&self, database: &Database, input: &mut Input) -> Result<NewTable, Failure> {
        if database.tables().contains(&self.table) {
            let message = format!("table {} already exists", self.table);
            return Err(Failure::new(FailureKind::FixInput, message)
                .hint("without --create the rows go into the table that is there"));
        }
        let known = match self.definition.schema_file()? {
            Some(file) => Some((file, None)),
            None if self.reading.keeps_columns() => input.schema()?,
            None => None,
        };
        if let Some((file, _)) = &known {
            if self.reading.null.is_none() {
                input.set_null(&file.null);
            }
            if file.no_header && !self.reading.no_header {
                input.set_no_header();
            }
        }
        let new = match known {
            Some((file, from)) if !self.definition.says_key() => NewTable {
                schema: file.schema,
                from,
                learned: Vec::new(),
            },
            Some((file, from)) => NewTable {
                schema: self.definition.schema_with(file.schema.columns)?,
                from,
                learned: Vec::new(),
            },
            None => {
                let learned = input.columns();
                let learned = learned.map_err(|error| error.of_file(input.name()))?;
                let columns = learned.iter().map(|learned| learned.column.clone());
                NewTable {
                    schema: self.definition.schema_with(columns.collect())?,
                    from: None,
                    learned,
                }
            }
        };
        new.schema.validate()?;
        Ok(new)
    }

    /// Drops the new table if it is there, so that the corrected command can be run again. Returns the failure
    /// with what there is to say of the table.
    fn take_back(&self, database: &Database, new: &NewTable, failure: Failure) -> Failure {
        let table = &self.table;
        if !database.tables().contains(table) {
            return failure;
        }
        match (database.drop_table(table), &new.from) {
            (Err(error), _) => failure
                .caused_by(format!(
                    "the new table {table} could not be dropped: {}",
                    describe_error(&error)
                ))
                .hint(format!(
                    "repair what is named above, then: mendb table drop {table}, and run the command again"
                )),
            (Ok(()), Some(from)) => failure.caused_by(format!("the schema came from {from}")),
            (Ok(()), None) => failure,
        }
    }

    /// Creates the table.
    fn create(&self, database: &Database, input: &Input, new: &NewTable) -> Result<(), Failure> {
        let schema = &new.schema;
        let Some(shards) = self.shards else {
            let splits = self.definition.splits(schema, &self.reading.text.rules())?;
            return Ok(database.create_table(&self.table, schema.clone(), splits)?);
        };
        let mut splits = self.sample(schema, input, usize::from(shards))?;
        let index_splits = splits.split_off(1);
        let table_splits = splits.pop().unwrap_or_default();
        database.create_table(&self.table, schema.clone(), table_splits)?;
        let mut indexes = schema.indexes.iter().zip(index_splits);
        indexes.try_for_each(|(index, points)| {
            let path = TablePath::index(&self.table, &index.name);
            points
                .iter()
                .try_for_each(|point| Ok(database.split(&path, point)?))
        })
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
        };
        let mut samples: Vec<KeySample> = tables.iter().map(|_| KeySample::default()).collect();
        let mut source = input.records(reading).map_err(broken)?;
        loop {
            if !samples.iter().any(KeySample::wants_next) {
                if !source.pass_over().map_err(broken)? {
                    break;
                }
                samples.iter_mut().for_each(KeySample::pass_over);
                continue;
            }
            let Some(record) = source.next().map_err(broken)? else {
                break;
            };
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
