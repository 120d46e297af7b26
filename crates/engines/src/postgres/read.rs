//! Reading rows: binary COPY out of the server, into blocks in key order.
//!
//! *Memory*: one row, and the block that is being made.

use std::collections::HashMap;
use std::io::BufRead;
use std::ops::ControlFlow;

use mendb_model::key::{KeyRange, decode_column, encode_column};
use mendb_model::schema::ColumnPosition;
use mendb_model::value::ValueRef;
use mendb_model::{RowBlockBuilder, row};
use postgres::{Client, CopyOutReader};

use super::catalogue::Table;
use super::error::{broken, damaged, failed};
use super::literal::literal;
use super::name::{quoted, text};
use crate::contract::live_rows::BlockSink;
use crate::error::{EngineError, Result};

/// Blocks have about this many bytes.
const BLOCK_BYTES: usize = 256 << 10;
/// What binary COPY begins with, without the lengths of what follows.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Takes rows as they are read: key and row. It stops the reading by breaking.
pub(super) type RowSink<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>;

/// As [`RowSink`], with the fields in front: fields, key and row.
pub(super) type MoreSink<'a> =
    &'a mut dyn FnMut(&[Option<&[u8]>], &[u8], &[u8]) -> Result<ControlFlow<()>>;

/// Reads what a query gives: the carried columns of a table, in their order. Tells whether it was read to its end;
/// if not, the connection is of no more use.
pub(super) fn copy_rows(
    client: &mut Client,
    table: &Table,
    query: &str,
    sink: RowSink<'_>,
) -> Result<ControlFlow<()>> {
    copy_with(client, table, query, 0, &mut |_, key, row| sink(key, row))
}

/// As [`copy_rows`], of a query that gives more columns in front of those, which are handed over as they are sent.
pub(super) fn copy_with(
    client: &mut Client,
    table: &Table,
    query: &str,
    more: usize,
    sink: MoreSink<'_>,
) -> Result<ControlFlow<()>> {
    let mut tuples = Tuples::of(client, query, format!("read table {}", table.name))?;
    let types: Vec<_> = table.schema.value_types();
    let (mut key, mut row) = (Vec::new(), Vec::new());
    let nested = table.columns.iter().enumerate();
    let nested: Vec<_> = nested
        .filter_map(|(at, column)| Some((at, column, column.form.as_ref()?)))
        .collect();
    while tuples.next(more + table.columns.len())? {
        key.clear();
        row.clear();
        for (at, column, form) in &nested {
            if let Some(range) = tuples.fields[more + at].clone() {
                let value = &mut tuples.bytes[range];
                let taken = table.numbers.take_out(form, value);
                taken.map_err(|why| table.unreadable(column, &why))?;
            }
        }
        let field = |at: usize| {
            let range = tuples.fields[at].clone();
            range.map(|range| &tuples.bytes[range])
        };
        let value = |at: usize| -> Result<ValueRef<'_>> {
            let column = &table.columns[at];
            match field(more + at) {
                None => Ok(ValueRef::Null),
                Some(bytes) => {
                    let value = column.wire.decode(bytes);
                    value.map_err(|why| table.unreadable(column, &why))
                }
            }
        };
        for at in &table.key {
            encode_column(&mut key, table.columns[*at].wire.column_type(), value(*at)?);
        }
        let mut slots = Vec::with_capacity(types.len());
        for (at, column) in table.columns.iter().enumerate() {
            if let ColumnPosition::Slot(_) = column.place {
                slots.push(value(at)?);
            }
        }
        row::encode_into(&mut row, &types, slots.iter().copied());
        let before: Vec<_> = (0..more).map(field).collect();
        if sink(&before, &key, &row)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The tuples of a binary COPY.
pub(super) struct Tuples<R> {
    reader: R,
    doing: String,
    /// Of the last tuple.
    bytes: Vec<u8>,
    /// Where its fields are; `None` for NULL.
    fields: Vec<Option<std::ops::Range<usize>>>,
}

impl<'a> Tuples<CopyOutReader<'a>> {
    /// Those that a query gives.
    pub(super) fn of(client: &'a mut Client, query: &str, doing: String) -> Result<Self> {
        let statement = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
        let reader = client.copy_out(&statement);
        let mut tuples = Self {
            reader: reader.map_err(|error| failed(&doing, &error))?,
            doing,
            bytes: Vec::new(),
            fields: Vec::new(),
        };
        tuples.head()?;
        Ok(tuples)
    }
}

impl<R: BufRead> Tuples<R> {
    /// A field of the last one.
    pub(super) fn field(&self, at: usize) -> Option<&[u8]> {
        let range = self.fields.get(at)?.clone()?;
        self.bytes.get(range)
    }

    fn head(&mut self) -> Result<()> {
        let mut head = [0; 19];
        self.fill(&mut head)?;
        if !head.starts_with(SIGNATURE) {
            return Err(self.garbled());
        }
        let mut skipped =
            vec![0; u32::from_be_bytes([head[15], head[16], head[17], head[18]]) as usize];
        self.fill(&mut skipped)
    }

    /// Reads the next tuple; `false` behind the last.
    pub(super) fn next(&mut self, expected: usize) -> Result<bool> {
        let mut count = [0; 2];
        self.fill(&mut count)?;
        match i16::from_be_bytes(count) {
            -1 => {
                // So that the answer to the statement is read, too.
                let rest = self
                    .reader
                    .fill_buf()
                    .map_err(|error| broken(&self.doing, &error))?;
                return match rest.is_empty() {
                    true => Ok(false),
                    false => Err(self.garbled()),
                };
            }
            count if usize::try_from(count) == Ok(expected) => {}
            _ => return Err(self.garbled()),
        }
        self.bytes.clear();
        self.fields.clear();
        for _ in 0..expected {
            let mut length = [0; 4];
            self.fill(&mut length)?;
            let field = match i32::from_be_bytes(length) {
                -1 => None,
                length => {
                    let length = usize::try_from(length).map_err(|_| self.garbled())?;
                    let start = self.bytes.len();
                    self.bytes.resize(start + length, 0);
                    let filled = self.reader.read_exact(&mut self.bytes[start..]);
                    filled.map_err(|error| broken(&self.doing, &error))?;
                    Some(start..start + length)
                }
            };
            self.fields.push(field);
        }
        Ok(true)
    }

    fn fill(&mut self, to: &mut [u8]) -> Result<()> {
        let filled = self.reader.read_exact(to);
        filled.map_err(|error| broken(&self.doing, &error))
    }

    fn garbled(&self) -> EngineError {
        damaged(format!(
            "cannot {}: the server sent what is no binary COPY",
            self.doing
        ))
    }
}

/// Reads the rows of a range behind a key, in key order, in blocks.
pub(super) fn scan(
    client: &mut Client,
    table: &Table,
    range: &KeyRange,
    after: Option<&[u8]>,
    sink: BlockSink<'_>,
) -> Result<ControlFlow<()>> {
    let condition = range_condition(table, "t.", range, after);
    scan_where(client, table, &condition, (range, after), sink)
}

/// As [`scan`], of the rows that a condition lets through.
pub(super) fn scan_where(
    client: &mut Client,
    table: &Table,
    condition: &Condition,
    (range, after): (&KeyRange, Option<&[u8]>),
    sink: BlockSink<'_>,
) -> Result<ControlFlow<()>> {
    let query = format!(
        "SELECT {} FROM {} t{} ORDER BY {}",
        table.column_list("t."),
        table.rows(),
        condition.where_clause(),
        table.key_order("t.")
    );
    let mut block = RowBlockBuilder::new();
    let mut last = Vec::new();
    let flow = copy_rows(client, table, &query, &mut |key, row| {
        if key <= last.as_slice() && !last.is_empty() {
            return Err(damaged(format!(
                "table {} was not read in the order of its keys: its index on them may be damaged",
                table.name
            )));
        }
        last.clear();
        last.extend_from_slice(key);
        if !range.contains(key) || after.is_some_and(|after| key <= after) {
            return Ok(ControlFlow::Continue(()));
        }
        block.push(key, row);
        if block.size_bytes() < BLOCK_BYTES {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(sink(&block.finish().view()))
    })?;
    if flow.is_continue() && !block.is_empty() {
        // All was read: what the sink says makes no difference.
        let _ = sink(&block.finish().view());
    }
    Ok(flow)
}

/// A condition on rows.
pub(super) struct Condition {
    text: String,
    /// Whether it lets no key through that it should not.
    pub(super) is_exact: bool,
}

impl Condition {
    /// With another one beside it.
    pub(super) fn and(self, other: &str) -> Self {
        let text = match self.text.as_str() {
            "" => other.to_owned(),
            text => format!("{text} AND {other}"),
        };
        Self { text, ..self }
    }

    /// As the end of a `FROM`.
    pub(super) fn where_clause(&self) -> String {
        match self.text.as_str() {
            "" => String::new(),
            text => format!(" WHERE {text}"),
        }
    }
}

/// What the server is told of a range: it lets every key of the range through, and others only where the ends of the
/// range are no whole keys.
pub(super) fn range_condition(
    table: &Table,
    before: &str,
    range: &KeyRange,
    after: Option<&[u8]>,
) -> Condition {
    let mut parts = Vec::new();
    let mut is_exact = true;
    let from = after.filter(|after| *after >= range.start.as_slice());
    let from = from.unwrap_or(&range.start);
    let mut bound = |key: &[u8], strict: &str, lax: &str| {
        let (values, is_whole) = leading(table, key);
        is_exact &= is_whole;
        if values.is_empty() {
            return;
        }
        let columns = table.key_columns().take(values.len());
        let columns =
            columns.map(|column| format!("{before}{}{}", quoted(&column.name), column.collate));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let operator = if is_whole { strict } else { lax };
        parts.push(format!("({columns}) {operator} ({})", values.join(", ")));
    };
    if !from.is_empty() {
        bound(from, ">=", ">=");
    }
    if let Some(end) = &range.end {
        bound(end, "<", "<=");
    }
    Condition {
        text: parts.join(" AND "),
        is_exact,
    }
}

/// The values that a key begins with as constants, as far as they are whole, and whether that is all of it.
fn leading(table: &Table, mut key: &[u8]) -> (Vec<String>, bool) {
    let mut values = Vec::new();
    let mut scratch = Vec::new();
    for column in table.key_columns() {
        if key.is_empty() {
            break;
        }
        let mut rest = key;
        let decoded = decode_column(&mut rest, column.wire.column_type(), &mut scratch);
        let Some(value) = decoded.ok().and_then(|value| literal(column.wire, value)) else {
            return (values, false);
        };
        values.push(format!("{}::{}", text(&value), column.base_type));
        key = rest;
    }
    (values, key.is_empty())
}

/// Keys that are looked up together.
const KEYS_AT_ONCE: usize = 4_096;

/// Of each of some keys the low half of the number of the transaction that wrote its row, if there is one.
pub(super) fn writers_of(
    client: &mut Client,
    table: &Table,
    keys: &[&[u8]],
) -> Result<Vec<Option<u32>>> {
    let mut found: HashMap<Vec<u8>, u32> = HashMap::with_capacity(keys.len());
    for some in keys.chunks(KEYS_AT_ONCE) {
        let query = keys_query_with(table, "t.xmin, ", some)?;
        let read = copy_with(client, table, &query, 1, &mut |more, key, _| {
            let writer = more[0].and_then(|bytes| bytes.try_into().ok());
            let writer =
                writer.ok_or_else(|| damaged("the server sent a row without its writer"))?;
            found.insert(key.to_vec(), u32::from_be_bytes(writer));
            Ok(ControlFlow::Continue(()))
        })?;
        debug_assert!(read.is_continue(), "nothing stops it");
    }
    Ok(keys.iter().map(|key| found.remove(*key)).collect())
}

/// A query for the rows of some keys, in key order.
pub(super) fn keys_query(table: &Table, keys: &[&[u8]]) -> Result<String> {
    keys_query_with(table, "", keys)
}

/// The same, with more columns in front.
fn keys_query_with(table: &Table, more: &str, keys: &[&[u8]]) -> Result<String> {
    let mut columns = vec![Vec::with_capacity(keys.len()); table.key.len()];
    let mut scratch = Vec::new();
    for key in keys {
        let mut rest = *key;
        for (column, values) in table.key_columns().zip(&mut columns) {
            let decoded = decode_column(&mut rest, column.wire.column_type(), &mut scratch);
            let value = decoded.ok().and_then(|value| literal(column.wire, value));
            let value = value
                .ok_or_else(|| damaged(format!("a key of table {} is none of it", table.name)))?;
            values.push(text(&value));
        }
    }
    let arrays = columns
        .iter()
        .map(|values| format!("ARRAY[{}]::text[]", values.join(",")));
    let arrays = arrays.collect::<Vec<_>>().join(", ");
    let names: Vec<String> = (0..columns.len()).map(|at| format!("k{at}")).collect();
    let equal = table.key_columns().zip(&names);
    let equal = equal.map(|(column, name)| {
        format!(
            "t.{} = w.{name}::{}",
            quoted(&column.name),
            column.base_type
        )
    });
    Ok(format!(
        "SELECT {more}{} FROM unnest({arrays}) AS w({}) JOIN {} t ON {} ORDER BY {}",
        table.column_list("t."),
        names.join(", "),
        table.rows(),
        equal.collect::<Vec<_>>().join(" AND "),
        table.key_order("t.")
    ))
}
