//! What lies over the base: a row, or that there is none.

use mendb_model::Malformed;

use crate::catalogue::Shard;
use crate::error::{Error, Result};

/// An entry of the delta or of a run that hides the row beneath.
const TOMBSTONE: u8 = 0;
/// First byte of such an entry that is a row.
const ROW: u8 = 1;

pub(crate) const NUMBER_BYTES: usize = 8;

/// Appends an entry of a run: a row, or that there is none.
pub(crate) fn append(out: &mut Vec<u8>, row: Option<&[u8]>) {
    match row {
        Some(row) => {
            out.push(ROW);
            out.extend_from_slice(row);
        }
        None => out.push(TOMBSTONE),
    }
}

/// A value of the delta: the number of the next run (8 bytes big-endian), then as in a run.
pub(crate) fn delta_value(next_run: u64, row: Option<&[u8]>) -> Vec<u8> {
    let mut value = Vec::with_capacity(NUMBER_BYTES + 1 + row.map_or(0, <[u8]>::len));
    value.extend_from_slice(&next_run.to_be_bytes());
    append(&mut value, row);
    value
}

/// The number in a value of the delta, and the rest of it.
pub(crate) fn split_delta_value<'a>(shard: &Shard, value: &'a [u8]) -> Result<(u64, &'a [u8])> {
    match value.split_first_chunk::<NUMBER_BYTES>() {
        Some((number, over)) => Ok((u64::from_be_bytes(*number), over)),
        None => Err(no_entry(shard)),
    }
}

/// The row in an entry; `None` for a tombstone.
pub(crate) fn decode_over<'a>(shard: &Shard, value: &'a [u8]) -> Result<Option<&'a [u8]>> {
    match value.split_first() {
        Some((&ROW, row)) => Ok(Some(row)),
        Some((&TOMBSTONE, [])) => Ok(None),
        _ => Err(no_entry(shard)),
    }
}

fn no_entry(shard: &Shard) -> Error {
    let source = Malformed {
        what: "entry over the base",
        detail: "neither a row nor a tombstone".to_owned(),
    };
    Error::damaged(shard.label(), source)
}
