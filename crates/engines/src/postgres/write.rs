//! Writing rows: binary COPY into the server.

use std::io::Write;

use mendb_model::RowBlock;
use mendb_model::key::decode_column;
use mendb_model::row::RowReader;
use mendb_model::schema::ColumnPosition;
use mendb_model::value::Value;
use postgres::{Client, CopyInWriter};

use super::catalogue::Table;
use super::error::{broken, damaged, failed};
use crate::error::Result;

/// So many bytes go to the server at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A field that has no value.
pub(super) const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// Tuples on their way to a relation.
pub(super) struct Tuples<'a> {
    writer: CopyInWriter<'a>,
    doing: String,
    bytes: Vec<u8>,
}

impl<'a> Tuples<'a> {
    /// Begins to write into columns of a relation.
    pub(super) fn begin(client: &'a mut Client, relation: &str, columns: &str) -> Result<Self> {
        let doing = format!("write to {relation}");
        let statement = format!("COPY {relation} ({columns}) FROM STDIN (FORMAT binary)");
        let writer = client.copy_in(&statement);
        let mut bytes = b"PGCOPY\n\xff\r\n\0".to_vec();
        bytes.extend_from_slice(&[0; 8]);
        Ok(Self {
            writer: writer.map_err(|error| failed(&doing, &error))?,
            doing,
            bytes,
        })
    }

    /// Adds a tuple of so many fields, which are appended.
    pub(super) fn push(
        &mut self,
        fields: usize,
        append: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let fields = i16::try_from(fields).map_err(|_| damaged("a row of too many columns"))?;
        self.bytes.extend_from_slice(&fields.to_be_bytes());
        append(&mut self.bytes)?;
        if self.bytes.len() >= CHUNK_BYTES {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let sent = self.writer.write_all(&self.bytes);
        self.bytes.clear();
        sent.map_err(|error| broken(&self.doing, &error))
    }

    /// Ends it: all of it is there, or none.
    pub(super) fn finish(mut self) -> Result<()> {
        self.bytes.extend_from_slice(&(-1i16).to_be_bytes());
        self.send()?;
        let finished = self.writer.finish();
        finished.map_err(|error| failed(&self.doing, &error))?;
        Ok(())
    }
}

/// Appends bytes as a field.
pub(super) fn bytes_field(out: &mut Vec<u8>, bytes: &[u8]) {
    // A key or a mark: far below the most that a field can have.
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends the carried columns of a row; those outside of the key are NULL without one.
pub(super) fn row_fields(
    out: &mut Vec<u8>,
    table: &Table,
    key: &[u8],
    row: Option<&[u8]>,
) -> Result<()> {
    let malformed = |what: &str| {
        damaged(format!(
            "a row for table {} is none of it: {what}",
            table.name
        ))
    };
    let (mut rest, mut scratch) = (key, Vec::new());
    let mut of_key = Vec::with_capacity(table.key.len());
    for column in table.key_columns() {
        let value = decode_column(&mut rest, column.wire.column_type(), &mut scratch);
        of_key.push(
            value
                .map_err(|error| malformed(&error.to_string()))?
                .to_owned(),
        );
    }
    let mut reader = row.map(RowReader::new).transpose();
    let reader = reader
        .as_mut()
        .map_err(|error| malformed(&error.to_string()))?;
    for column in &table.columns {
        let value = match (column.place, reader.as_mut()) {
            (ColumnPosition::Key(at), _) => {
                of_key.get(at).map_or(Value::Null.as_ref(), Value::as_ref)
            }
            (ColumnPosition::Slot(_), Some(reader)) => {
                let value = reader.next(column.wire.column_type());
                value.map_err(|error| malformed(&error.to_string()))?
            }
            (ColumnPosition::Slot(_), None) => Value::Null.as_ref(),
        };
        let start = out.len() + NULL.len();
        column
            .wire
            .encode(out, value)
            .map_err(|error| malformed(&error))?;
        if let Some(form) = &column.form
            && !value.is_null()
        {
            let put = table.numbers.put_in(form, &mut out[start..]);
            put.map_err(|error| malformed(&error))?;
        }
    }
    Ok(())
}

/// Writes rows into a relation that has the columns of a table.
pub(super) fn copy_rows<'r>(
    client: &mut Client,
    table: &Table,
    relation: &str,
    rows: impl Iterator<Item = (&'r [u8], &'r [u8])>,
) -> Result<()> {
    let mut tuples = Tuples::begin(client, relation, &table.column_list(""))?;
    for (key, row) in rows {
        tuples.push(table.columns.len(), |out| {
            row_fields(out, table, key, Some(row))
        })?;
    }
    tuples.finish()
}

/// The rows of a block behind a key.
pub(super) fn behind<'b>(
    block: &'b RowBlock<&[u8]>,
    after: Option<&'b [u8]>,
) -> impl Iterator<Item = (&'b [u8], &'b [u8])> {
    block
        .iter()
        .filter(move |(key, _)| after.is_none_or(|after| *key > after))
}
