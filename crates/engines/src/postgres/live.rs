//! What rows are there, for those who look: now, or in a snapshot.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_model::digest::Digest;
use mendb_model::key::KeyRange;
use mendb_model::manifest::TableBackup;
use mendb_model::name::TablePath;
use mendb_model::{RowBlock, Version};
use postgres::Client;

use super::catalogue::{self, Table};
use super::cut::Cut;
use super::definition::Definition;
use super::error::{damaged, failed, refused};
use super::indexes;
use super::pace::Pace;
use super::read::{copy_rows, keys_query, range_condition, scan};
use super::session::{Server, Session};
use super::transaction::number;
use super::{slot, state, stream};
use crate::contract::LockKind;
use crate::contract::changes::HeldBack;
use crate::contract::live_rows::{
    BlockSink, ConflictSink, IndexCheck, LiveRows, LiveShard, LiveTable,
};
use crate::error::Result;

/// Keys that one statement asks for.
const KEYS_AT_ONCE: usize = 4_096;

/// Where rows are looked at.
pub(super) enum View {
    /// As they are at each call.
    Now(Arc<Server>),
    /// As they were.
    Cut(Arc<Cut>, Arc<Server>),
}

/// A table, and what is done to it.
pub(super) struct Found {
    pub(super) table: Table,
    pub(super) locked: Option<LockKind>,
}

/// The table that users call so: one that is being restored is where it is until it is whole.
pub(super) fn resolve(client: &mut Client, name: &str) -> Result<Option<Found>> {
    let held = state::held(client, None)?.into_iter();
    let held = held.map(|(_, held)| held).find(|held| held.table == name);
    if let Some(held) = held.as_ref().filter(|held| held.kind == LockKind::Restore) {
        let definition: Definition = serde_json::from_str(&held.definition).map_err(|error| {
            damaged(format!(
                "the definition of table {name} in mendb.held: {error}"
            ))
        })?;
        return Ok(Some(Found {
            table: Table::new(client, name, held.restored(), definition)?,
            locked: Some(held.kind),
        }));
    }
    let table = catalogue::find(client, name)?;
    let locked = held.map(|held| held.kind);
    Ok(table.map(|table| Found { table, locked }))
}

/// As [`resolve`], of a table that has to be there.
pub(super) fn existing(client: &mut Client, path: &TablePath) -> Result<Table> {
    if path.index.is_some() {
        return Err(refused(format!(
            "{path}: indexes of this target are not read as tables"
        )));
    }
    let found = resolve(client, &path.table)?;
    let found = found.ok_or_else(|| refused(format!("table {} does not exist", path.table)))?;
    Ok(found.table)
}

/// Rows that are read one by one count together, up to about so many bytes.
const PACED_BYTES: usize = 64 << 10;

/// The digest of the rows of a range, by reading them.
fn digest_of(client: &mut Client, table: &Table, range: &KeyRange, pace: &Pace) -> Result<Digest> {
    let query = format!(
        "SELECT {} FROM {} t{}",
        table.column_list("t."),
        table.rows(),
        range_condition(table, "t.", range, None).where_clause()
    );
    let mut digest = Digest::default();
    let mut bytes = 0;
    let read = copy_rows(client, table, &query, &mut |key, row| {
        bytes += key.len() + row.len();
        if bytes >= PACED_BYTES {
            pace.take(std::mem::take(&mut bytes));
        }
        if range.contains(key) {
            digest.add(key, row);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    debug_assert!(read.is_continue(), "nothing stops it");
    Ok(digest)
}

impl View {
    fn server(&self) -> &Arc<Server> {
        let (Self::Now(server) | Self::Cut(_, server)) = self;
        server
    }

    fn session(&self) -> Result<Session<'_>> {
        match self {
            Self::Now(server) => server.session(),
            Self::Cut(cut, _) => cut.session(),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        let mut session = self.session()?;
        let done = work(&mut session)?;
        session.keep();
        Ok(done)
    }
}

impl LiveRows for View {
    fn snapshot(&self) -> Result<Box<dyn LiveRows + '_>> {
        Ok(Box::new(match self {
            Self::Now(server) => Self::Cut(
                Arc::new(Cut::take(server, "a look", &[])?),
                Arc::clone(server),
            ),
            Self::Cut(cut, server) => Self::Cut(Arc::clone(cut), Arc::clone(server)),
        }))
    }

    fn inspect(&self, table: &str) -> Result<Option<LiveTable>> {
        let found = self.with(|client| {
            let found = resolve(client, table)?;
            Ok(match found {
                Some(found) => Some((found, stream::of_table(client, table)?)),
                None => None,
            })
        })?;
        Ok(found.map(|(found, streams)| LiveTable {
            schema: found.table.schema,
            streams,
            keeps_changes: false,
            born: None,
            locked: found.locked,
        }))
    }

    fn version(&self) -> Result<Version> {
        if let Self::Cut(cut, _) = self {
            return Ok(cut.moment.version());
        }
        self.with(|client| {
            let row = client.query_one("SELECT pg_snapshot_xmax(pg_current_snapshot())::text", &[]);
            let last = row.map_err(|error| failed("ask for the last transaction", &error))?;
            // Before each cut that is taken at this number.
            Ok(Version::of_two(number(last.get(0))?, 0))
        })
    }

    fn difference(&self, backup: &TableBackup) -> Result<Option<String>> {
        let Some(found) = self.with(|client| resolve(client, &backup.table))? else {
            return Ok(None);
        };
        let native = backup.native.as_ref();
        let native = native.ok_or_else(|| refused("the backup was not taken of PostgreSQL"))?;
        let then = Definition::from_native(native)?;
        Ok(found.table.definition.difference(&then))
    }

    fn shards(&self, path: &TablePath, range: &KeyRange) -> Result<Vec<LiveShard>> {
        Ok(vec![LiveShard {
            range: range.clone(),
            digest: self.digest(path, range)?,
            bytes: 0,
        }])
    }

    fn scan(
        &self,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        let mut session = self.session()?;
        let table = existing(&mut session, path)?;
        let pace = self.server().pace();
        let mut paced = |block: &RowBlock<&[u8]>| {
            pace.take(block.as_bytes().len());
            sink(block)
        };
        if scan(&mut session, &table, range, after, &mut paced)?.is_continue() {
            session.keep();
        }
        Ok(())
    }

    fn rows_of(&self, path: &TablePath, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        self.with(|client| {
            let table = existing(client, path)?;
            let mut found: HashMap<Vec<u8>, Vec<u8>> = HashMap::with_capacity(keys.len());
            for some in keys.chunks(KEYS_AT_ONCE) {
                let query = keys_query(&table, some)?;
                let read = copy_rows(client, &table, &query, &mut |key, row| {
                    found.insert(key.to_vec(), row.to_vec());
                    Ok(ControlFlow::Continue(()))
                })?;
                debug_assert!(read.is_continue(), "nothing stops it");
            }
            Ok(keys.iter().map(|key| found.remove(*key)).collect())
        })
    }

    fn conflicts(&self, _: &str, _: &RowBlock<&[u8]>, _: ConflictSink<'_>) -> Result<()> {
        // The server's own rules refuse a publish that would break them.
        Ok(())
    }

    fn changes_since(
        &self,
        path: &TablePath,
        _: &KeyRange,
        _: Version,
        _: BlockSink<'_>,
    ) -> Result<()> {
        Err(no_changes(&path.table))
    }

    fn bytes_changed_since(&self, path: &TablePath, _: Version) -> Result<u64> {
        Err(no_changes(&path.table))
    }

    fn digest(&self, path: &TablePath, range: &KeyRange) -> Result<Digest> {
        self.with(|client| {
            let table = existing(client, path)?;
            digest_of(client, &table, range, self.server().pace())
        })
    }

    fn check_indexes(&self, table: &str) -> Result<Option<IndexCheck>> {
        // Outside of a snapshot: it is of the indexes as they are, and damage would end the transaction.
        self.server().with(|client| {
            let table = existing(client, &TablePath::table(table))?;
            indexes::check(client, &table)
        })
    }

    fn held_back(&self, table: &str) -> Result<Vec<HeldBack>> {
        self.with(|client| slot::held_back(client, table))
    }
}

/// That changes were asked for where none are kept.
pub(super) fn no_changes(table: &str) -> crate::error::EngineError {
    refused(format!(
        "this kind of target keeps no changes, so those of table {table} are found by looking at its rows"
    ))
}
