//! Mends: what is staged of tables, and what is known of the ranges that were looked at.
//!
//! *Consistency*: each range is read by itself, at its own moment, and writers go on. With its digest the oldest
//! transaction of that moment is noted: every row that was written since is of that one or of a later one. *Crash*: what
//! is staged and noted is unlogged: a crash of the server empties both, and the ranges are looked at again.

use mendb_model::RowBlock;
use mendb_model::digest::Digest;
use mendb_model::key::KeyRange;
use postgres::Client;

use super::catalogue::{self, Table};
use super::error::{damaged, failed, refused};
use super::name::bytes;
use super::restore::{copy_staged, create_staged};
use super::session::run;
use super::state::{self, Held};
use super::transaction::number;
use crate::contract::LockKind;
use crate::contract::beside_writers::LookedDigests;
use crate::contract::rows::StagedCounts;
use crate::error::Result;

/// Makes room for what an operation stages of tables, and holds them for it.
pub(super) fn begin(client: &mut Client, operation: &str, tables: &[String]) -> Result<()> {
    for name in tables {
        let table = catalogue::find(client, name)?;
        let table = table.ok_or_else(|| refused(format!("table {name} does not exist")))?;
        let told =
            serde_json::to_string(&table.definition).map_err(|error| damaged(error.to_string()))?;
        let (number, is_new) = state::hold(client, operation, "mend", name, &told)?;
        if is_new {
            create_staged(client, number, &table.definition)?;
            run(
                client,
                "make a table to keep rows in",
                &format!(
                    "CREATE TABLE mendb.b{number} (_mendb_key bytea PRIMARY KEY, _mendb_mark bigint,
                         _mendb_gone boolean NOT NULL, {})",
                    table.definition.plain_columns()
                ),
            )?;
        }
    }
    Ok(())
}

/// A table that an operation mends, as it is now.
pub(super) fn mended(client: &mut Client, operation: &str, name: &str) -> Result<(Held, Table)> {
    let held = state::held(client, Some(operation))?.into_iter();
    let held = held.map(|(_, held)| held).find(|held| held.table == name);
    let held = held.filter(|held| held.kind == LockKind::Mend);
    let held =
        held.ok_or_else(|| refused(format!("operation {operation} does not mend table {name}")))?;
    let table = catalogue::find(client, name)?;
    let table = table.ok_or_else(|| refused(format!("table {name} does not exist any more")))?;
    let then: super::definition::Definition =
        serde_json::from_str(&held.definition).map_err(|error| {
            damaged(format!(
                "the definition of table {name} in mendb.held: {error}"
            ))
        })?;
    match table.definition.difference(&then) {
        None => Ok((held, table)),
        Some(_) => Err(refused(format!(
            "table {name} was altered since operation {operation} began: order it again"
        ))),
    }
}

/// Forgets what is staged of a range, and tells the oldest transaction.
pub(super) fn begin_look(
    client: &mut Client,
    operation: &str,
    name: &str,
    range: &KeyRange,
) -> Result<u64> {
    let (held, _) = mended(client, operation, name)?;
    let doing = format!("look at table {name}");
    run(
        client,
        &doing,
        &format!(
            "DELETE FROM {} WHERE {}; DELETE FROM mendb.looked WHERE held = {} AND from_key = {}",
            held.staged(),
            of_keys("_mendb_key", range),
            held.number,
            bytes(&range.start)
        ),
    )?;
    let row = client.query_one("SELECT pg_snapshot_xmin(pg_current_snapshot())::text", &[]);
    number(row.map_err(|error| failed(&doing, &error))?.get(0))
}

/// The condition that an encoded key is in a range.
fn of_keys(column: &str, range: &KeyRange) -> String {
    let from = format!("{column} >= {}", bytes(&range.start));
    match &range.end {
        Some(end) => format!("{from} AND {column} < {}", bytes(end)),
        None => from,
    }
}

/// Notes what was found of a range.
pub(super) fn end_look(
    client: &mut Client,
    operation: &str,
    name: &str,
    range: &KeyRange,
    since: u64,
    digests: LookedDigests,
) -> Result<()> {
    let (held, _) = mended(client, operation, name)?;
    let rows = |digest: Digest| i64::try_from(digest.rows).unwrap_or(i64::MAX);
    let LookedDigests { found, wanted } = digests;
    let noted = client.execute(
        "INSERT INTO mendb.looked (held, from_key, to_key, rows, sum, wanted_rows, wanted_sum, since, noted)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, pg_current_xact_id()::text)
         ON CONFLICT (held, from_key) DO UPDATE
         SET to_key = excluded.to_key, rows = excluded.rows, sum = excluded.sum, wanted_rows = excluded.wanted_rows,
             wanted_sum = excluded.wanted_sum, since = excluded.since, noted = excluded.noted",
        &[
            &held.number,
            &range.start,
            &range.end,
            &rows(found),
            &found.sum.to_be_bytes().as_slice(),
            &rows(wanted),
            &wanted.sum.to_be_bytes().as_slice(),
            &since.to_string(),
        ],
    );
    noted.map_err(|error| failed(format!("look at table {name}"), &error))?;
    Ok(())
}

/// Stages what keys are to hold.
pub(super) fn stage(
    client: &mut Client,
    operation: &str,
    name: &str,
    changes: &RowBlock<&[u8]>,
) -> Result<StagedCounts> {
    let (held, table) = mended(client, operation, name)?;
    copy_staged(client, &table, &held.staged(), changes.iter())
}

/// Of each of some keys whether something is staged of it.
pub(super) fn are_staged(
    client: &mut Client,
    operation: &str,
    name: &str,
    keys: &[&[u8]],
) -> Result<Vec<bool>> {
    let (held, _) = mended(client, operation, name)?;
    let query = format!(
        "SELECT EXISTS (SELECT FROM {} s WHERE s._mendb_key = k.key)
         FROM unnest($1::bytea[]) WITH ORDINALITY AS k(key, place) ORDER BY k.place",
        held.staged()
    );
    let rows = client.query(&query, &[&keys]);
    let rows = rows.map_err(|error| failed("look at what is staged", &error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A range that was looked at.
pub(super) struct Looked {
    pub(super) range: KeyRange,
    pub(super) digests: LookedDigests,
    /// The oldest transaction then.
    pub(super) since: u64,
    /// The transaction that noted it.
    pub(super) noted: u64,
}

/// The ranges of a table that were looked at, in key order.
pub(super) fn looked(client: &mut Client, held: &Held) -> Result<Vec<Looked>> {
    let rows = client.query(
        "SELECT from_key, to_key, rows, sum, wanted_rows, wanted_sum, since, noted
         FROM mendb.looked WHERE held = $1 ORDER BY from_key",
        &[&held.number],
    );
    let rows = rows.map_err(|error| failed("read what was looked at", &error))?;
    let one = |row: &postgres::Row| {
        Ok(Looked {
            range: range_of(row),
            digests: digests_of(row)?,
            since: number(row.get(6))?,
            noted: number(row.get(7))?,
        })
    };
    rows.iter().map(one).collect()
}

/// The ranges of a table before and after the publish, in key order.
pub(super) fn exchanged(
    client: &mut Client,
    operation: &str,
    name: &str,
) -> Result<Vec<(KeyRange, LookedDigests)>> {
    let rows = client.query(
        "SELECT b.from_key, b.to_key, b.rows, b.sum, b.wanted_rows, b.wanted_sum FROM mendb.before b JOIN mendb.held h ON h.number = b.held
         WHERE h.operation = $1 AND h.table_name = $2 ORDER BY b.from_key",
        &[&operation, &name],
    );
    let rows = rows.map_err(|error| failed("read what was replaced", &error))?;
    if rows.is_empty() {
        return Err(refused(format!(
            "operation {operation} has not published table {name}"
        )));
    }
    let one = |row: &postgres::Row| Ok((range_of(row), digests_of(row)?));
    rows.iter().map(one).collect()
}

fn range_of(row: &postgres::Row) -> KeyRange {
    KeyRange {
        start: row.get(0),
        end: row.get(1),
    }
}

fn digests_of(row: &postgres::Row) -> Result<LookedDigests> {
    let digest = |at: usize| -> Result<Digest> {
        let sum: &[u8] = row.get(at + 1);
        let sum = sum
            .try_into()
            .map_err(|_| damaged("a digest in the schema mendb is none"))?;
        Ok(Digest {
            rows: u64::try_from(row.get::<_, i64>(at)).unwrap_or(0),
            sum: u128::from_be_bytes(sum),
        })
    };
    Ok(LookedDigests {
        found: digest(2)?,
        wanted: digest(4)?,
    })
}
