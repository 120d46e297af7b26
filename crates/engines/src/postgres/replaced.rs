//! What the publish of a mend replaced, as the changes that lead from the wanted backup to the state before.

use std::ops::ControlFlow;

use mendb_model::change::ChangeRef;
use mendb_model::key::KeyRange;
use mendb_model::{ChangeKind, Replaced, RowBlockBuilder};
use postgres::Client;

use super::error::{damaged, failed};
use super::mend::mended;
use super::name::bytes;
use super::read::copy_with;
use super::transaction::number;
use crate::contract::live_rows::BlockSink;
use crate::error::Result;

/// Blocks have about this many bytes.
const BLOCK_BYTES: usize = 256 << 10;

/// Bytes of it in a range; 0 only where there is none.
pub(super) fn bytes_of(
    client: &mut Client,
    operation: &str,
    name: &str,
    range: &KeyRange,
) -> Result<u64> {
    let (held, _) = mended(client, operation, name)?;
    let row = client.query_one(
        &format!(
            "SELECT coalesce(sum(pg_column_size(b.*)), 0)::int8 FROM {} b
             WHERE b._mendb_key >= $1 AND ($2::bytea IS NULL OR b._mendb_key < $2)",
            held.before()
        ),
        &[&range.start, &range.end],
    );
    let row = row.map_err(|error| failed("look at what was replaced", &error))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

/// Reads it in a range behind a key, in key order. The version of each change is the transaction of the publish, or 0 where
/// that left no row. Tells whether it was read to its end.
pub(super) fn read(
    client: &mut Client,
    operation: &str,
    name: &str,
    range: &KeyRange,
    after: Option<&[u8]>,
    sink: BlockSink<'_>,
) -> Result<ControlFlow<()>> {
    let (held, table) = mended(client, operation, name)?;
    let row = client.query_one(
        "SELECT transaction FROM mendb.published WHERE operation = $1",
        &[&operation],
    );
    let version = number(
        row.map_err(|error| failed("read what was replaced", &error))?
            .get(0),
    )?;
    let mut conditions = format!("b._mendb_key >= {}", bytes(&range.start));
    if let Some(end) = &range.end {
        conditions += &format!(" AND b._mendb_key < {}", bytes(end));
    }
    if let Some(after) = after {
        conditions += &format!(" AND b._mendb_key > {}", bytes(after));
    }
    // The key columns of a row that was not there are not either: its key is the encoded one.
    let query = format!(
        "SELECT b._mendb_key, b._mendb_mark, b._mendb_gone, {} FROM {} b WHERE {conditions} ORDER BY b._mendb_key",
        table.column_list("b."),
        held.before()
    );
    let mut block = RowBlockBuilder::new();
    let flow = copy_with(client, &table, &query, 3, &mut |more, _, row| {
        let garbled = || damaged("what was replaced is not as it was written");
        let key = more[0].ok_or_else(garbled)?;
        let replaced = match more[1] {
            Some(mark) => {
                Replaced::Row(u64::from_be_bytes(mark.try_into().map_err(|_| garbled())?))
            }
            None => Replaced::Nothing,
        };
        let is_gone = more[2].ok_or_else(garbled)? != [0];
        let change = ChangeRef {
            version: match replaced {
                Replaced::Nothing => 0,
                Replaced::Row(_) | Replaced::Unknown => version,
            },
            kind: if is_gone {
                ChangeKind::Erase
            } else {
                ChangeKind::Reset
            },
            replaced,
            bitmap: &[],
            row: if is_gone { &[] } else { row },
        };
        block.push_with(key, |out| change.encode_into(out));
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
