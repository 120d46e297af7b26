//! Which rows of a snapshot may have been written since an earlier one: by the transactions that wrote them (`witness`),
//! or by what a change stream told (`touched`).

use std::ops::ControlFlow;

use mendb_model::change::ChangeRef;
use mendb_model::key::KeyRange;
use mendb_model::manifest::ChangeMethod;
use mendb_model::name::TablePath;
use mendb_model::unfolded::{TransactionRows, append_made, split_key};
use mendb_model::{ChangeKind, Malformed, Replaced, RowBlock, RowBlockBuilder, Version};
use postgres::Client;

use super::error::{damaged, failed, refused};
use super::exchange::written_since;
use super::live::existing;
use super::read::{copy_rows, keys_query, range_condition, scan_where};
use super::session::{Server, run};
use super::transaction::{is_written_since, number};
use super::witness::{self, Since, relations_of};
use super::{Postgres, table_of};
use crate::contract::beside_writers::RowsSince;
use crate::contract::live_rows::BlockSink;
use crate::contract::row_versions::{RowCounts, RowVersions};
use crate::error::Result;

/// Keys that one statement asks for.
const KEYS_AT_ONCE: usize = 1_024;
/// Blocks of changes one by one have about this many bytes.
const BLOCK_BYTES: usize = 256 << 10;

/// The live rows of a range that may have been written since a cut, and how many rows it has, of one moment.
pub(super) fn read_since(
    server: &Server,
    (table, range): (&str, &KeyRange),
    since: Version,
    most: u64,
    sink: BlockSink<'_>,
) -> Result<RowsSince> {
    let mut session = server.session()?;
    let client: &mut Client = &mut session;
    let table = existing(client, &TablePath::table(table))?;
    let doing = format!("read table {}", table.name);
    let condition = range_condition(&table, "t.", range, None);
    if !condition.is_exact {
        session.keep();
        return Ok(RowsSince::Unknown);
    }
    // What is attached after it is found when rows were read.
    let relations = relations_of(client, &table.relation)?;
    run(
        client,
        &doing,
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    )?;
    let row = client.query_one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text", &[]);
    let next = number(row.map_err(|error| failed(&doing, &error))?.get(0))?;
    let told = witness::since(client, since, next)?;
    let method = witness::method(client, &told, since, &table.name, &table.relation)?;
    let oldest = match (told, method) {
        (Since::Oldest(oldest), ChangeMethod::RowVersions) => oldest,
        _ => {
            run(client, &doing, "COMMIT")?;
            session.keep();
            return Ok(RowsSince::Unknown);
        }
    };
    let (rows, written) = written_since(client, &table, oldest, &condition.where_clause())?;
    let condition = condition.and(&is_written_since("t.", oldest));
    let mut paced = |block: &RowBlock<&[u8]>| {
        server.pace().take(block.as_bytes().len());
        sink(block)
    };
    if (1..=most).contains(&written)
        && scan_where(client, &table, &condition, (range, None), &mut paced)?.is_break()
    {
        // The connection is closed: what is still to come is not wanted.
        return Ok(RowsSince::Told { rows });
    }
    run(client, &doing, "COMMIT")?;
    let are_same = relations_of(client, &table.relation)? == relations;
    session.keep();
    if !are_same {
        return Ok(RowsSince::Unknown);
    }
    Ok(match written <= most {
        true => RowsSince::Told { rows },
        false => RowsSince::TooMany,
    })
}

impl RowVersions for Postgres {
    fn found_by(&self, operation: &str, path: &TablePath) -> Result<(ChangeMethod, u64)> {
        let cut = self.cut(operation)?;
        let method = cut.methods.get(&path.table).cloned();
        let method = method.ok_or_else(|| refused(format!("no increment is taken of {path}")))?;
        Ok((method, cut.moment.next))
    }

    fn count(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
    ) -> Result<Option<RowCounts>> {
        let cut = self.cut(operation)?;
        let table = table_of(&cut, path)?;
        let oldest = cut.oldest_since(&path.table)?;
        let condition = range_condition(table, "t.", range, None);
        if !condition.is_exact {
            return Ok(None);
        }
        let mut session = cut.session()?;
        let (rows, written) =
            written_since(&mut session, table, oldest, &condition.where_clause())?;
        cut.check_read(&mut session, table, &path.table)?;
        session.keep();
        Ok(Some(RowCounts { rows, written }))
    }

    fn read_written(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        let cut = self.cut(operation)?;
        let table = table_of(&cut, path)?;
        let oldest = cut.oldest_since(&path.table)?;
        let condition =
            range_condition(table, "t.", range, None).and(&is_written_since("t.", oldest));
        let mut session = cut.session()?;
        let mut paced = |block: &RowBlock<&[u8]>| {
            self.server.pace().take(block.as_bytes().len());
            sink(block)
        };
        if scan_where(&mut session, table, &condition, (range, None), &mut paced)?.is_continue() {
            cut.check_read(&mut session, table, &path.table)?;
            session.keep();
        }
        Ok(())
    }

    fn read_touched(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        let cut = self.cut(operation)?;
        let table = table_of(&cut, path)?;
        let mut keys = cut.touched_in(&path.table, range)?.peekable();
        if keys.peek().is_none() {
            return Ok(());
        }
        let mut session = cut.session()?;
        while keys.peek().is_some() {
            let some: Vec<&[u8]> = keys.by_ref().take(KEYS_AT_ONCE).collect();
            let mut block = RowBlockBuilder::new();
            let mut waiting = some.iter().peekable();
            let query = keys_query(table, &some)?;
            let mut push = |key: &[u8], row: Option<&[u8]>| {
                let change = ChangeRef {
                    version: cut.moment.next,
                    kind: row.map_or(ChangeKind::Erase, |_| ChangeKind::Reset),
                    replaced: Replaced::Unknown,
                    bitmap: &[],
                    row: row.unwrap_or_default(),
                };
                block.push_with(key, |out| change.encode_into(out));
            };
            let read = copy_rows(&mut session, table, &query, &mut |key, row| {
                while let Some(gone) = waiting.next_if(|waiting| **waiting < key) {
                    push(gone, None);
                }
                if waiting.next_if(|waiting| **waiting == key).is_none() {
                    return Err(damaged(format!(
                        "table {} gave rows that were not asked for, or not in the order of its keys: its index on \
                         them may be damaged",
                        table.name
                    )));
                }
                push(key, Some(row));
                Ok(ControlFlow::Continue(()))
            })?;
            debug_assert!(read.is_continue(), "nothing stops it");
            for gone in waiting {
                push(gone, None);
            }
            cut.check_read(&mut session, table, &path.table)?;
            let block = block.finish();
            self.server.pace().take(block.as_bytes().len());
            if sink(&block.view()).is_break() {
                break;
            }
        }
        session.keep();
        Ok(())
    }

    fn read_unfolded(
        &self,
        operation: &str,
        path: &TablePath,
        first_place: u64,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        let cut = self.cut(operation)?;
        let (unfolded, section, _) = cut
            .unfolded_at(path)
            .ok_or_else(|| refused(format!("no change stream told the changes of {path}")))?;
        let garbled = |error: Malformed| damaged(format!("changes that were put aside: {error}"));
        let mut block = RowBlockBuilder::new();
        let mut whole = Vec::new();
        let mut is_wanted = true;
        unfolded.spooled().read(section, &mut |key, change| {
            if path.is_transactions() {
                let mut rows = TransactionRows::decode(key, change).map_err(garbled)?;
                rows.place = rows.place.saturating_add(first_place);
                rows.push_to(&mut block);
            } else {
                let (key, mut made) = split_key(key).map_err(garbled)?;
                made.place = made.place.saturating_add(first_place);
                whole.clear();
                whole.extend_from_slice(key);
                append_made(&mut whole, made);
                block.push(&whole, change);
            }
            if block.size_bytes() < BLOCK_BYTES {
                return Ok(ControlFlow::Continue(()));
            }
            let flow = sink(&block.finish().view());
            is_wanted = flow.is_continue();
            Ok(flow)
        })?;
        if is_wanted && !block.is_empty() {
            // All was read: what the sink says makes no difference.
            let _ = sink(&block.finish().view());
        }
        Ok(())
    }
}
