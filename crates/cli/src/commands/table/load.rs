//! The records of a file written to a table.
//!
//! One thread reads and parses, the caller's writes: at most a few batches wait between them, whatever
//! the size of the file. Each batch is one atomic write. When the file or a row is bad, everything
//! before it has been written; since writing a row twice is writing it once, the import can be
//! repeated from the start.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use mendb_model::schema::Place as KeptIn;
use mendb_model::{TableSchema, Value};
use mendb_rowstore::{Database, Table, WriteBatch};

use super::import::Mode;
use crate::failure::{Failure, FailureKind};
use crate::formats::{ReadError, Record, RecordSource};
use crate::human;
use crate::progress::Progress;

/// A batch ends after this many rows …
const BATCH_ROWS: usize = 4000;
/// … or after about this many bytes.
const BATCH_BYTES: usize = 4 << 20;
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

struct Batch {
    records: Vec<Record>,
    /// How much of the file has been read with it.
    bytes_done: u64,
}

impl Load<'_> {
    /// Writes everything the source has.
    ///
    /// # Errors
    /// A record cannot be read or written; those before it are written, and the failure says how many.
    pub fn run(&self, source: Box<dyn RecordSource + '_>) -> Result<Loaded, Failure> {
        let (sender, receiver) = sync_channel(BATCHES_WAITING);
        thread::scope(|scope| {
            scope.spawn(move || read(source, &sender));
            self.write_all(receiver)
        })
    }

    fn write_all(&self, batches: Receiver<Result<Batch, ReadError>>) -> Result<Loaded, Failure> {
        let mut loaded = Loaded { rows: 0, bytes: 0 };
        for batch in batches {
            let batch =
                batch.map_err(|error| written(error.of_file(self.source_name), loaded.rows))?;
            let rows = batch.records.len() as u64;
            self.write(&batch.records, loaded.rows)?;
            loaded.rows += rows;
            loaded.bytes = batch.bytes_done;
            self.progress
                .update(loaded.bytes, &human::rows(loaded.rows));
        }
        Ok(loaded)
    }

    /// Writes a batch; when it is refused, row by row up to the one that is at fault.
    fn write(&self, records: &[Record], rows_before: u64) -> Result<(), Failure> {
        match self.try_write(records) {
            Ok(()) => return Ok(()),
            Err(failure) if failure.kind != FailureKind::FixInput || records.len() < 2 => {
                return Err(self.at(failure, &records[0], rows_before));
            }
            Err(_) => {}
        }
        for (at, record) in records.iter().enumerate() {
            self.try_write(std::slice::from_ref(record))
                .map_err(|failure| self.at(failure, record, rows_before + at as u64))?;
        }
        Ok(())
    }

    fn try_write(&self, records: &[Record]) -> Result<(), Failure> {
        let schema = self.table.schema();
        let mut batch = WriteBatch::new();
        for record in records {
            match self.mode {
                Mode::Upsert => batch.upsert(self.table, record.values.clone())?,
                Mode::Replace => batch.replace(self.table, all_values(record, schema))?,
                Mode::Erase => batch.erase(self.table, key_values(record, schema)?)?,
            }
        }
        self.database.write(batch)?;
        Ok(())
    }

    /// A failure with the place of the record that is at fault, if a record is.
    fn at(&self, failure: Failure, record: &Record, rows: u64) -> Failure {
        if failure.kind != FailureKind::FixInput {
            return written(failure, rows);
        }
        let message = format!("{} {}: {}", self.source_name, record.place, failure.message);
        written(Failure { message, ..failure }, rows)
    }
}

/// A failure that says what was written before it.
fn written(failure: Failure, rows: u64) -> Failure {
    let written = match rows {
        0 => "nothing was written".to_owned(),
        1 => "the 1 row before it was written".to_owned(),
        rows => format!("the {} before it were written", human::rows(rows)),
    };
    let hint = match &failure.hint {
        Some(hint) => format!("{hint}; {written}"),
        None => {
            format!("{written}; writing rows twice changes nothing, so correct it and import again")
        }
    };
    failure.hint(hint)
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
                bytes += size_bytes(&record);
                records.push(record);
            }
            Ok(None) => return (records, Some(Ok(()))),
            Err(error) => return (records, Some(Err(error))),
        }
    }
    (records, None)
}

fn size_bytes(record: &Record) -> usize {
    let size = |(_, value): &(usize, Value)| match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    record
        .values
        .iter()
        .map(|value| size(value) + size_of_val(value))
        .sum()
}

/// One value per column; those the record does not have are NULL.
fn all_values(record: &Record, schema: &TableSchema) -> Vec<Value> {
    let mut values = vec![Value::Null; schema.columns.len()];
    for (position, value) in &record.values {
        values[*position] = value.clone();
    }
    values
}

/// The values of the key, in key order.
fn key_values(record: &Record, schema: &TableSchema) -> Result<Vec<Value>, Failure> {
    let mut key = vec![None; schema.key.len()];
    let places = schema.places();
    for (position, value) in &record.values {
        if let KeptIn::Key(at) = places[*position] {
            key[at] = Some(value.clone());
        }
    }
    key.into_iter()
        .zip(&schema.key)
        .map(|(value, name)| {
            value.ok_or_else(|| Failure::input(format!("key column {name} is missing")))
        })
        .collect()
}
