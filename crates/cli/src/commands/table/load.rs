//! The records of a file written to a table.
//!
//! One thread reads and parses, the caller's writes: at most a few batches wait between them, whatever
//! the size of the file. Each batch is one atomic write. A batch that is refused is cut in halves until
//! the row at fault is alone: a row that the table can never hold ends the import, and everything
//! before it has been written; one whose unique value another row holds waits for the end
//! ([`super::waiting`]). Since writing a row twice is writing it once, the import can be repeated from
//! the start.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use mendb_model::schema::Place as KeptIn;
use mendb_model::{TableSchema, Value};
use mendb_rowstore::{Database, Error, Table, WriteBatch};

use super::import::Mode;
use super::waiting::Waiting;
use crate::failure::{Failure, FailureKind};
use crate::formats::{ReadError, Record, RecordSource};
use crate::human;
use crate::progress::Progress;

/// A batch ends after this many rows …
const BATCH_ROWS: usize = 32_000;
/// … or after about this many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// Batches that wait for the writer.
const BATCHES_WAITING: usize = 2;

/// Where records go.
pub struct Load<'a> {
    /// The store.
    pub database: &'a Database,
    /// The table.
    pub table: &'a Table,
    /// What a record does.
    pub mode: Mode,
    /// The file in messages.
    pub source_name: &'a str,
    /// How far it is.
    pub progress: &'a Progress,
}

/// What was written.
pub struct Loaded {
    /// Rows.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why not all was written, and what was.
pub struct Stopped {
    failure: Box<Failure>,
    rows: u64,
    waiting: u64,
    /// Whether all of the file was read.
    at_end: bool,
}

struct Batch {
    records: Vec<Record>,
    /// How much of the file has been read with it.
    bytes_done: u64,
}

/// An import under way.
struct Run<'a> {
    load: &'a Load<'a>,
    rows: u64,
    waiting: Waiting,
}

impl Load<'_> {
    /// Writes everything the source has.
    ///
    /// # Errors
    /// A record cannot be read or written.
    pub fn run(&self, source: Box<dyn RecordSource + '_>) -> Result<Loaded, Stopped> {
        let (sender, receiver) = sync_channel(BATCHES_WAITING);
        let mut run = Run {
            load: self,
            rows: 0,
            waiting: Waiting::default(),
        };
        thread::scope(|scope| {
            scope.spawn(move || read(source, &sender));
            run.write_all(receiver)
        })
    }
}

impl Stopped {
    /// The failure, with what was written before it.
    pub fn of_table_that_was_there(self) -> Failure {
        let written = match (self.rows, self.at_end) {
            (0, _) => "nothing was written".to_owned(),
            (1, false) => "the 1 row before it was written".to_owned(),
            (1, true) => "1 other row was written".to_owned(),
            (rows, false) => format!("the {} before it were written", human::rows(rows)),
            (rows, true) => format!("{} other rows were written", human::count(rows)),
        };
        let waiting = match self.waiting {
            0 => String::new(),
            1 => ", but for 1 row whose unique value another row holds".to_owned(),
            rows => format!(
                ", but for {} whose unique values other rows hold",
                human::rows(rows)
            ),
        };
        let hint = match &self.failure.hint {
            Some(hint) => format!("{hint}; {written}{waiting}"),
            None => format!(
                "{written}{waiting}; writing rows twice changes nothing, so correct it and import again"
            ),
        };
        self.failure.hint(hint)
    }

    /// The failure of an import whose new table is gone again.
    pub fn of_new_table(self, table: &str) -> Failure {
        let hint = match &self.failure.hint {
            Some(hint) => format!("{hint}; table {table} was not created"),
            None => format!("table {table} was not created; correct it and import again"),
        };
        self.failure.hint(hint)
    }
}

impl Run<'_> {
    fn write_all(
        &mut self,
        batches: Receiver<Result<Batch, ReadError>>,
    ) -> Result<Loaded, Stopped> {
        let mut bytes = 0;
        for batch in batches {
            let written = match batch {
                Ok(batch) => {
                    bytes = batch.bytes_done;
                    self.write_batch(batch.records)
                }
                Err(error) => Err(error.of_file(self.load.source_name)),
            };
            if let Err(failure) = written {
                // What waits may fit without the rest of the file.
                let _ = self.write_waiting();
                return Err(self.stopped(failure, false));
            }
            let rows = human::rows(self.rows);
            self.load.progress.update(bytes, &rows);
        }
        if let Err(failure) = self.write_waiting() {
            return Err(self.stopped(failure, true));
        }
        Ok(Loaded {
            rows: self.rows,
            bytes,
        })
    }

    fn stopped(&self, failure: Failure, at_end: bool) -> Stopped {
        let waiting = self.waiting.records().len() as u64;
        Stopped {
            failure: Box::new(failure),
            rows: self.rows,
            // At the end one of them is the row at fault.
            waiting: waiting - u64::from(at_end && waiting > 0),
            at_end,
        }
    }

    fn write_batch(&mut self, records: Vec<Record>) -> Result<(), Failure> {
        self.write(records)?;
        if self.waiting.is_full() {
            self.write_waiting()?;
        }
        Ok(())
    }

    /// Writes records, in halves where they are refused together.
    fn write(&mut self, records: Vec<Record>) -> Result<(), Failure> {
        let mut records = self.without_waiting(records);
        let error = match self.load.write(&records) {
            Ok(()) => {
                self.rows += records.len() as u64;
                return Ok(());
            }
            Err(error) => error,
        };
        if records.len() > 1 && is_of_a_row(&error) {
            let rest = records.split_off(records.len() / 2);
            self.write(records)?;
            return self.write(rest);
        }
        match (error, records.pop()) {
            (Error::Unique { .. }, Some(record)) => {
                self.waiting.push(self.load.key(&record)?, record);
                Ok(())
            }
            (error, record) => Err(self.load.failure(error, record.as_ref())),
        }
    }

    /// Leaves out the records of keys that wait, and makes them wait too.
    fn without_waiting(&mut self, records: Vec<Record>) -> Vec<Record> {
        if self.waiting.records().is_empty() {
            return records;
        }
        let mut ready = Vec::with_capacity(records.len());
        for record in records {
            match self.load.key(&record) {
                Ok(key) if self.waiting.has(&key) => self.waiting.push(key, record),
                // A row without key is refused when it is written.
                _ => ready.push(record),
            }
        }
        ready
    }

    /// Writes all that waits at once: together the rows fit, or one of them is at fault.
    fn write_waiting(&mut self) -> Result<(), Failure> {
        if self.waiting.records().is_empty() {
            return Ok(());
        }
        match self.load.write(self.waiting.records()) {
            Ok(()) => {
                self.rows += self.waiting.records().len() as u64;
                self.waiting = Waiting::default();
                Ok(())
            }
            Err(error) => {
                let at_fault = match &error {
                    Error::Unique { rows, .. } => self.waiting.last_of(&rows[..]),
                    _ => None,
                };
                Err(self.load.failure(error, at_fault))
            }
        }
    }
}

impl Load<'_> {
    /// Writes records as one.
    fn write(&self, records: &[Record]) -> Result<(), Error> {
        let schema = self.table.schema();
        let mut batch = WriteBatch::new();
        for record in records {
            match self.mode {
                Mode::Upsert => batch.upsert(self.table, record.values.clone())?,
                Mode::Replace => batch.replace(self.table, all_values(record, schema))?,
                Mode::Erase => batch.erase(self.table, self.key_values(record)?)?,
            }
        }
        self.database.write(batch)?;
        Ok(())
    }

    /// The encoded key of a record.
    fn key(&self, record: &Record) -> Result<Vec<u8>, Error> {
        self.table.key(&self.key_values(record)?)
    }

    /// The values of the key, in key order.
    fn key_values(&self, record: &Record) -> Result<Vec<Value>, Error> {
        let schema = self.table.schema();
        let mut key = vec![None; schema.key.len()];
        let places = schema.places();
        for (position, value) in &record.values {
            if let KeptIn::Key(at) = places[*position] {
                key[at] = Some(value.clone());
            }
        }
        let missing = |name: &String| Error::RowShape {
            table: self.table.name().to_owned(),
            detail: format!("key column {name} is not given"),
        };
        key.into_iter()
            .zip(&schema.key)
            .map(|(value, name)| value.ok_or_else(|| missing(name)))
            .collect()
    }

    /// A failure with the place of the record that is at fault, if a record is.
    fn failure(&self, error: Error, record: Option<&Record>) -> Failure {
        let failure = Failure::from(error);
        match record {
            Some(record) if failure.kind == FailureKind::FixInput => {
                let message = format!("{} {}: {}", self.source_name, record.place, failure.message);
                Failure { message, ..failure }
            }
            _ => failure,
        }
    }
}

/// Whether a write was refused because of one of its rows.
fn is_of_a_row(error: &Error) -> bool {
    matches!(
        error,
        Error::RowShape { .. }
            | Error::WrongType { .. }
            | Error::NotNull { .. }
            | Error::KeyTooLong { .. }
            | Error::RowTooLong { .. }
            | Error::Unique { .. }
    )
}

/// Reads until the end, an error, or until nobody wants more.
fn read(mut source: Box<dyn RecordSource + '_>, batches: &SyncSender<Result<Batch, ReadError>>) {
    loop {
        let (records, end) = read_batch(source.as_mut());
        if !records.is_empty() {
            let bytes_done = source.bytes_done();
            let batch = Batch {
                records,
                bytes_done,
            };
            if batches.send(Ok(batch)).is_err() {
                return;
            }
        }
        match end {
            None => {}
            Some(Ok(())) => return,
            Some(Err(error)) => {
                // When nobody wants more, nobody wants the error.
                let _ = batches.send(Err(error));
                return;
            }
        }
    }
}

/// The records of the next batch, and how the file ended if it did.
fn read_batch(source: &mut dyn RecordSource) -> (Vec<Record>, Option<Result<(), ReadError>>) {
    let mut records = Vec::with_capacity(BATCH_ROWS);
    let mut bytes = 0;
    while records.len() < BATCH_ROWS && bytes < BATCH_BYTES {
        match source.next() {
            Ok(Some(record)) => {
                bytes += record.size_bytes();
                records.push(record);
            }
            Ok(None) => return (records, Some(Ok(()))),
            Err(error) => return (records, Some(Err(error))),
        }
    }
    (records, None)
}

/// One value per column; those the record does not have are NULL.
fn all_values(record: &Record, schema: &TableSchema) -> Vec<Value> {
    let mut values = vec![Value::Null; schema.columns.len()];
    for (position, value) in &record.values {
        values[*position] = value.clone();
    }
    values
}
