//! What lies over the base: a row, or that there is none.

use mendb_model::{Malformed, Replaced};

use crate::catalogue::Shard;
use crate::error::{Error, Result};

/// An entry of the delta or of a run that hides the row beneath.
const TOMBSTONE: u8 = 0;
/// First byte of such an entry that is a row.
const ROW: u8 = 1;
/// Added to the first byte of an entry of a run that took the place of a row: its mark (8 bytes LE) follows.
const OVER_ROW: u8 = 2;

pub(crate) const NUMBER_BYTES: usize = 8;

/// Appends an entry of a run: a row, or that there is none, and what it takes the place of. To those that no
/// change log will have, that is of no matter: [`Replaced::Unknown`].
pub(crate) fn append(out: &mut Vec<u8>, replaced: Replaced, row: Option<&[u8]>) {
    let first = if row.is_some() { ROW } else { TOMBSTONE };
    match replaced {
        Replaced::Row(mark) => {
            out.push(first + OVER_ROW);
            out.extend_from_slice(&mark.to_le_bytes());
        }
        Replaced::Nothing | Replaced::Unknown => out.push(first),
    }
    out.extend_from_slice(row.unwrap_or_default());
}

/// A value of the delta: the number of the next run (8 bytes big-endian), then as in a run.
pub(crate) fn delta_value(next_run: u64, row: Option<&[u8]>) -> Vec<u8> {
    let mut value = Vec::with_capacity(NUMBER_BYTES + 1 + row.map_or(0, <[u8]>::len));
    value.extend_from_slice(&next_run.to_be_bytes());
    append(&mut value, Replaced::Unknown, row);
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
    Ok(decode_logged(shard, value)?.1)
}

/// What an entry of a run took the place of, and the row in it.
pub(crate) fn decode_logged<'a>(
    shard: &Shard,
    value: &'a [u8],
) -> Result<(Replaced, Option<&'a [u8]>)> {
    const ROW_OVER_ROW: u8 = ROW + OVER_ROW;
    let Some((&first, rest)) = value.split_first() else {
        return Err(no_entry(shard));
    };
    let (replaced, rest) = match first {
        ROW | TOMBSTONE => (Replaced::Nothing, rest),
        OVER_ROW | ROW_OVER_ROW => {
            let (mark, rest) = rest.split_first_chunk().ok_or_else(|| no_entry(shard))?;
            (Replaced::Row(u64::from_le_bytes(*mark)), rest)
        }
        _ => return Err(no_entry(shard)),
    };
    match (first, rest) {
        (ROW | ROW_OVER_ROW, row) => Ok((replaced, Some(row))),
        (_, []) => Ok((replaced, None)),
        (_, _) => Err(no_entry(shard)),
    }
}

fn no_entry(shard: &Shard) -> Error {
    let source = Malformed {
        what: "entry over the base",
        detail: "neither a row nor a tombstone".to_owned(),
    };
    Error::damaged(shard.label(), source)
}
