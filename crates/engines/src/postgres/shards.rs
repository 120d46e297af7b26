//! Where a table is cut into ranges of keys that are read side by side.

use mendb_model::key::KeyRange;
use postgres::Client;

use super::catalogue::Table;
use super::error::failed;
use super::read::copy_rows;
use crate::error::Result;

/// A range has about this much of the table: so little is read again where it was written since a mend looked at it,
/// and few enough of them are in a manifest.
const SHARD_BYTES: u64 = 32 << 20;
const MOST_SHARDS: u64 = 1_000;
/// Keys that are looked at for each border.
const KEYS_A_SHARD: u64 = 64;

/// Bytes of a table on disk, without its indexes.
pub(super) fn bytes_of(client: &mut Client, table: &Table) -> Result<u64> {
    let size = "SELECT pg_table_size($1::text::regclass)::int8 + coalesce(
                    (SELECT sum(pg_table_size(p.relid)) FROM pg_partition_tree($1::text::regclass) p WHERE p.isleaf), 0)::int8";
    let row = client.query_one(size, &[&table.relation]);
    let row = row.map_err(|error| failed(format!("look at table {}", table.name), &error))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

/// Ranges of about the same size that cover all keys, by a sample of them. One range where the server would have to
/// read the whole table for each.
pub(super) fn split(client: &mut Client, table: &Table) -> Result<Vec<KeyRange>> {
    let bytes = bytes_of(client, table)?;
    let shards = (bytes / SHARD_BYTES).clamp(1, MOST_SHARDS);
    if shards == 1 || !table.has_cheap_ranges() {
        return Ok(vec![KeyRange::all()]);
    }
    let row = client.query_one(
        "SELECT greatest(sum(reltuples) FILTER (WHERE reltuples > 0), 1)::float8 FROM pg_class
         WHERE relkind = 'r' AND (oid = $1::text::regclass
             OR oid IN (SELECT p.relid FROM pg_partition_tree($1::text::regclass) p))",
        &[&table.relation],
    );
    let row = row.map_err(|error| failed(format!("look at table {}", table.name), &error))?;
    // Never analyzed tables tell no number of rows: rows of a hundred bytes then.
    let told: f64 = row.get(0);
    let rows = told.max(bytes as f64 / 1_000.0);
    let percent = ((shards * KEYS_A_SHARD) as f64 / rows * 100.0).clamp(0.000_1, 100.0);
    let query = format!(
        "SELECT {} FROM {} t TABLESAMPLE SYSTEM ({percent:.6}) REPEATABLE (1)",
        table.column_list("t."),
        table.rows()
    );
    let mut keys: Vec<Vec<u8>> = Vec::new();
    let read = copy_rows(client, table, &query, &mut |key, _| {
        keys.push(key.to_vec());
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    debug_assert!(read.is_continue(), "nothing stops it");
    keys.sort_unstable();
    keys.dedup();
    let each = (keys.len() / shards as usize).max(1);
    let borders = keys.into_iter().skip(each).step_by(each);
    Ok(KeyRange::split_at(
        borders.take(shards as usize - 1).collect(),
    ))
}
