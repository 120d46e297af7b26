//! The records of a file written to a table.
//!
//! One thread reads and parses, the caller's adds them to a bulk write: at most a few batches wait between
//! them, whatever the size of the file. The table gets all of the file in one commit, or nothing. So rows may
//! exchange unique values, however far apart they stand, and a row at fault leaves the table as it was.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use mendb_model::schema::ColumnPosition;
use mendb_model::{TableSchema, Value};
use mendb_rowstore::{BulkWrite, Database, Error, Refused, Table};

use super::mode::Mode;
use crate::failure::{Failure, FailureKind};
use crate::formats::{Place, ReadError, Record, RecordSource};
use crate::human;
use crate::progress::Progress;

/// A batch ends after this many rows, so few that they are in the cache of a processor when they are written …
const BATCH_ROWS: usize = 500;
/// … or after about this many bytes.
const BATCH_BYTES: usize = 256 << 10;
/// Records that take more than this are not kept for the next batch.
const KEPT_BYTES: usize = 4 * BATCH_BYTES;
/// Batches that wait for the writer.
const BATCHES_WAITING: usize = 4;

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
    /// The records of the file, from its beginning, to find one again.
    pub records: &'a Open<'a>,
    /// How far it is.
    pub progress: &'a Progress,
}

/// Opens a file.
pub type Open<'a> = dyn Fn() -> Result<Box<dyn RecordSource + 'a>, ReadError> + 'a;

/// What was written.
pub struct Loaded {
    /// Rows.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Why an import failed.
pub struct Stopped {
    /// Why.
    pub failure: Box<Failure>,
    /// Whether the rows may be there all the same.
    pub is_committed: bool,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self {
            failure: Box::new(failure),
            is_committed: false,
        }
    }
}

struct Batch {
    /// Those that were read come first.
    records: Vec<Record>,
    read: usize,
    /// How much of the file has been read with it.
    bytes_done: u64,
}

impl Load<'_> {
    /// Writes everything the source has, which is the file from its beginning.
    ///
    /// # Errors
    /// A record cannot be read or written: nothing was, unless the disk failed at the very end.
    pub fn run(&self, source: Box<dyn RecordSource + '_>) -> Result<Loaded, Stopped> {
        let (sender, receiver) = sync_channel(BATCHES_WAITING);
        let (used, unused) = channel();
        let mut bulk = self.database.bulk(self.table);
        let bytes = thread::scope(|scope| {
            scope.spawn(move || read(source, &sender, &unused));
            self.add_all(&mut bulk, receiver, &used)
        })?;
        let rows = bulk.changes();
        let written = bulk.commit(&mut |merged| {
            let merged = human::count(merged);
            let done = format!("{merged} of {} sorted and merged", human::rows(rows));
            self.progress.update(bytes, &done);
        });
        match written {
            Ok(_) => Ok(Loaded { rows, bytes }),
            Err(refused) => Err(Stopped {
                is_committed: refused.is_committed,
                failure: Box::new(self.refused(refused)),
            }),
        }
    }

    /// Adds all records; how many bytes of the file they are.
    fn add_all(
        &self,
        bulk: &mut BulkWrite,
        batches: Receiver<Result<Batch, ReadError>>,
        used: &Sender<Vec<Record>>,
    ) -> Result<u64, Failure> {
        let mut bytes = 0;
        for batch in batches {
            let batch = batch.map_err(|error| error.of_file(self.source_name))?;
            for record in &batch.records[..batch.read] {
                if let Err(error) = self.add(bulk, record) {
                    return Err(self.failure(error, Some(&record.place)));
                }
            }
            // Their memory is used again, as long as anything is read.
            let _ = used.send(batch.records);
            bytes = batch.bytes_done;
            self.progress.update(bytes, &human::rows(bulk.changes()));
        }
        Ok(bytes)
    }

    fn add(&self, bulk: &mut BulkWrite, record: &Record) -> Result<(), Error> {
        match self.mode {
            Mode::Upsert => bulk.upsert(&record.values),
            Mode::Replace => bulk.replace(&all_values(record, self.table.schema())),
            Mode::Erase => bulk.erase(&self.key_values(record)?),
        }
    }

    /// The failure of a commit, with the place of the record that is at fault: the file is read for it again.
    fn refused(&self, refused: Refused) -> Failure {
        let at_fault = match (&refused.error, refused.change) {
            (_, Some(number)) => self.last_place(&|read, _| Ok(read == number)),
            (Error::Unique { rows, .. }, None) => self.last_place(&|_, record| {
                let key = self.table.key(&self.key_values(record)?)?;
                Ok(rows.contains(&key))
            }),
            _ => None,
        };
        self.failure(refused.error, at_fault.as_ref())
    }

    /// The place of the last record that is meant, which is told how many there were before it.
    fn last_place(&self, is_meant: &dyn Fn(u64, &Record) -> Result<bool, Error>) -> Option<Place> {
        let mut records = (self.records)().ok()?;
        let mut place = None;
        let mut read = 0;
        while let Some(record) = records.next().ok()? {
            if is_meant(read, &record).ok()? {
                place = Some(record.place);
            }
            read += 1;
        }
        place
    }

    /// The values of the key, in key order.
    fn key_values(&self, record: &Record) -> Result<Vec<Value>, Error> {
        let schema = self.table.schema();
        let mut key = vec![None; schema.key.len()];
        let places = schema.column_positions();
        for (position, value) in &record.values {
            if let ColumnPosition::Key(at) = places[*position] {
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
    fn failure(&self, error: Error, place: Option<&Place>) -> Failure {
        let failure = Failure::from(error);
        match place {
            Some(place) if failure.kind == FailureKind::FixInput => {
                let message = format!("{} {place}: {}", self.source_name, failure.message);
                Failure { message, ..failure }
            }
            _ => failure,
        }
    }
}

/// Reads until the end, an error, or until nobody wants more.
fn read(
    mut source: Box<dyn RecordSource + '_>,
    batches: &SyncSender<Result<Batch, ReadError>>,
    unused: &Receiver<Vec<Record>>,
) {
    loop {
        let mut records = unused.try_recv().unwrap_or_default();
        if records.iter().map(Record::capacity_bytes).sum::<usize>() > KEPT_BYTES {
            records = Vec::new();
        }
        let (read, end) = read_batch(source.as_mut(), &mut records);
        if read > 0 {
            let bytes_done = source.bytes_done();
            let batch = Batch {
                records,
                read,
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

/// Makes records those of the next batch: how many there are, and how the file ended if it did.
fn read_batch(
    source: &mut dyn RecordSource,
    records: &mut Vec<Record>,
) -> (usize, Option<Result<(), ReadError>>) {
    let mut read = 0;
    let mut bytes = 0;
    while read < BATCH_ROWS && bytes < BATCH_BYTES {
        if records.len() == read {
            records.push(Record::default());
        }
        let record = &mut records[read];
        match source.next_into(record) {
            Ok(true) => {
                bytes += record.size_bytes();
                read += 1;
            }
            Ok(false) => return (read, Some(Ok(()))),
            Err(error) => return (read, Some(Err(error))),
        }
    }
    (read, None)
}

/// One value per column; those the record does not have are NULL.
fn all_values(record: &Record, schema: &TableSchema) -> Vec<Value> {
    let mut values = vec![Value::Null; schema.columns.len()];
    for (position, value) in &record.values {
        values[*position] = value.clone();
    }
    values
}
