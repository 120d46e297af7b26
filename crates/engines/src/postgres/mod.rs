//! A PostgreSQL database as an engine.
//!
//! *Consistency*: a backup is one exported snapshot over all its tables, which several sessions read (`cut`). *Mends*
//! let writers go on: what differs is staged beside, and one transaction makes it live (`mend`, `publish`). *Crash*:
//! snapshots go with their process; what else mendb keeps is in the schema `mendb` of the database (`state`).
//! *Retry*: every method is idempotent, see [`Engine`]. *Processes*: one at a time works on a database, and one that
//! lost it changes nothing any more (`drivers`).
//!
//! What is not here yet, and refused by name: tables without a primary key.

mod address;
mod beside;
mod catalogue;
mod check;
mod counters;
mod cut;
mod definition;
mod drivers;
mod engine;
mod error;
mod exchange;
mod foreign_keys;
mod freeze;
mod indexes;
mod inheritance;
mod listing;
mod literal;
mod live;
mod mend;
mod name;
mod nested;
mod numeric;
mod pace;
mod pgoutput;
mod publish;
mod read;
mod replaced;
mod restore;
mod scope;
mod service;
mod session;
mod shards;
mod slot;
mod spool;
mod standby;
mod state;
mod stream;
mod tls;
mod touched;
mod transaction;
mod unfold;
mod versions;
mod wire;
mod witness;
mod write;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use mendb_model::digest::Digest;
use mendb_model::key::KeyRange;
use mendb_model::manifest::TableBackup;
use mendb_model::name::TablePath;
use mendb_model::{RowBlock, Version};
use postgres::Client;

use crate::contract::beside_writers::BesideWriters;
use crate::contract::changes::HeldBack;
use crate::contract::live_rows::{
    BlockSink, ConflictSink, IndexCheck, LiveRows, LiveShard, LiveTable,
};
use crate::contract::row_versions::RowVersions;
use crate::contract::rows::{
    FreezeRequest, Frozen, HiddenTable, RebuildRequest, RowSource, RowStore, StagedCounts,
};
use crate::contract::{Engine, LockKind, only_read};
use crate::error::{EngineError, Result};

pub use address::Address;
pub use check::{Missing, TableCheck, TargetCheck};
pub use listing::{ColumnDescription, ListedTable, TableDescription};
pub use service::Environment;
pub use slot::{SlotCheck, StreamCheck};
pub use state::JournalPlace;

use cut::Cut;
use error::{failed, refused};
use live::{View, no_changes};
use session::{OLDEST, Server, lock};

/// A database.
pub struct Postgres {
    server: Arc<Server>,
    now: View,
    /// What tells this process from others that work on the database; `None` of one that only looks.
    epoch: Option<i64>,
    /// Whether it is one that takes no writes.
    is_standby: bool,
    /// Keeps others from working on it.
    _claim: Option<Mutex<Client>>,
    /// Of the backups that run in this process.
    cuts: Mutex<HashMap<String, Arc<Cut>>>,
}

impl Postgres {
    /// Connects, to look only.
    ///
    /// # Errors
    /// The server does not answer, or is too old.
    pub fn look(address: &Address) -> Result<Self> {
        let server = Arc::new(Server::new(address.clone()));
        server.with(|client| {
            let row = client.query_one("SELECT current_setting('server_version_num')::int4", &[]);
            let number: i32 = row
                .map_err(|error| failed("ask for the version", &error))?
                .get(0);
            match number.unsigned_abs() >= OLDEST {
                true => Ok(()),
                false => Err(refused(format!(
                    "the server has version {}, and mendb works with PostgreSQL {} and later",
                    number / 10_000,
                    OLDEST / 10_000
                ))),
            }
        })?;
        Ok(Self {
            now: View::Now(Arc::clone(&server)),
            server,
            epoch: None,
            is_standby: false,
            _claim: None,
            cuts: Mutex::default(),
        })
    }

    /// Which database it is, by whatever name it is reached: the identifier that the servers of its cluster share, and its
    /// number there.
    ///
    /// # Errors
    /// The server does not answer, or the role may not ask for it.
    pub fn database_id(address: &Address) -> Result<String> {
        Self::look(address)?.server.with(state::database_id)
    }

    /// Connects, and takes the database for this process; `None` while another has it. The schema `mendb` is made
    /// where there is none.
    ///
    /// # Errors
    /// As [`Self::look`]; the schema cannot be made.
    pub fn drive(address: &Address) -> Result<Option<Self>> {
        Self::claimed(address, &state::claim)
    }

    /// As [`Self::drive`], for a process that leads a journal, by its id, which others led before: one of these that has
    /// the database has lost it, also where it was stopped, and what it has open there is ended.
    ///
    /// # Errors
    /// As [`Self::drive`]; its sessions cannot be ended.
    pub fn take_over(address: &Address, journal: &str) -> Result<Option<Self>> {
        Self::claimed(address, &|client| state::take_over(client, journal))
    }

    fn claimed(
        address: &Address,
        claim: &dyn Fn(&mut Client) -> Result<Option<i64>>,
    ) -> Result<Option<Self>> {
        let mut engine = Self::look(address)?;
        engine.is_standby = engine.server.with(standby::is_one)?;
        let mut client = engine.server.connect()?;
        let claimed = match engine.is_standby {
            true => standby::claim(&mut client)?,
            false => {
                state::make(&mut client)?;
                claim(&mut client)?
            }
        };
        let Some(epoch) = claimed else {
            return Ok(None);
        };
        engine.server.drive(epoch);
        engine.epoch = Some(epoch);
        engine._claim = Some(Mutex::new(client));
        Ok(Some(engine))
    }

    /// Notes that a journal works on the database, if none does yet; returns the one that does.
    ///
    /// # Errors
    /// It cannot be noted.
    pub fn journal(&self, ours: &JournalPlace) -> Result<JournalPlace> {
        self.server.with(|client| match self.is_standby {
            true => standby::journal(client),
            false => state::journal(client, ours),
        })
    }

    /// What can be backed up and mended, and what has to be granted.
    ///
    /// # Errors
    /// The server fails.
    pub fn check(&self) -> Result<TargetCheck> {
        self.server.with(check::check)
    }

    /// What rows are there now.
    pub fn now(&self) -> &dyn LiveRows {
        &self.now
    }

    /// Removes everything of mendb from the database.
    ///
    /// # Errors
    /// An operation is not over, or the server fails.
    pub fn detach(self) -> Result<()> {
        self.change("remove the schema mendb", |client| {
            match state::held(client, None)?.first() {
                None => Ok(()),
                Some((operation, held)) => Err(refused(format!(
                    "operation {operation} holds table {}: finish it or cancel it first (mendb operation list)",
                    held.table
                ))),
            }
        })?;
        self.end_streams()?;
        self.server.with(state::remove)
    }

    /// Does something in one transaction, in which no other process can take over.
    fn change<T>(&self, doing: &str, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        let epoch = self.epoch.ok_or_else(only_read)?;
        if self.is_standby {
            return Err(refused(format!("cannot {doing}: {}", standby::READ_ONLY)));
        }
        self.server.within(doing, |client| {
            state::check_claim(client, epoch)?;
            work(client)
        })
    }

    fn cut(&self, operation: &str) -> Result<Arc<Cut>> {
        let cut = lock(&self.cuts).get(operation).cloned();
        cut.ok_or_else(|| EngineError::snapshot_lost(operation))
    }

    /// The tables that an operation holds for something.
    fn held(&self, operation: &str, kind: LockKind) -> Result<Vec<String>> {
        let held = self
            .server
            .with(|client| state::held(client, Some(operation)))?
            .into_iter();
        let held = held.map(|(_, held)| held).filter(|held| held.kind == kind);
        Ok(held.map(|held| held.table).collect())
    }
}

/// A table of a snapshot.
fn table_of<'a>(cut: &'a Cut, path: &TablePath) -> Result<&'a catalogue::Table> {
    let table = cut.tables.get(&path.table).filter(|_| path.index.is_none());
    table
        .map(|table| &**table)
        .ok_or_else(|| refused(format!("the backup is not of {path}")))
}

impl LiveRows for Postgres {
    fn snapshot(&self) -> Result<Box<dyn LiveRows + '_>> {
        self.now.snapshot()
    }

    fn inspect(&self, table: &str) -> Result<Option<LiveTable>> {
        self.now.inspect(table)
    }

    fn version(&self) -> Result<Version> {
        self.now.version()
    }

    fn difference(&self, backup: &TableBackup) -> Result<Option<String>> {
        self.now.difference(backup)
    }

    fn shards(&self, path: &TablePath, range: &KeyRange) -> Result<Vec<LiveShard>> {
        self.now.shards(path, range)
    }

    fn scan(
        &self,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        self.now.scan(path, range, after, sink)
    }

    fn rows_of(&self, path: &TablePath, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        self.now.rows_of(path, keys)
    }

    fn conflicts(
        &self,
        table: &str,
        wanted: &RowBlock<&[u8]>,
        found: ConflictSink<'_>,
    ) -> Result<()> {
        self.now.conflicts(table, wanted, found)
    }

    fn changes_since(
        &self,
        path: &TablePath,
        range: &KeyRange,
        since_version: Version,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        self.now.changes_since(path, range, since_version, sink)
    }

    fn bytes_changed_since(&self, path: &TablePath, since_version: Version) -> Result<u64> {
        self.now.bytes_changed_since(path, since_version)
    }

    fn digest(&self, path: &TablePath, range: &KeyRange) -> Result<Digest> {
        self.now.digest(path, range)
    }

    fn check_indexes(&self, table: &str) -> Result<Option<IndexCheck>> {
        self.now.check_indexes(table)
    }

    fn held_back(&self, table: &str) -> Result<Vec<HeldBack>> {
        self.now.held_back(table)
    }
}

impl RowStore for Postgres {
    fn keeps_digests(&self) -> bool {
        false
    }

    fn keeps_native(&self) -> bool {
        true
    }

    fn beside_writers(&self) -> Option<&dyn BesideWriters> {
        Some(self)
    }

    fn relatives(&self, tables: &[String]) -> Result<Vec<String>> {
        self.notes_of_relatives(tables)
    }

    fn most_bytes_per_s(&self) -> Option<u64> {
        self.server.most_bytes_per_s()
    }

    fn row_versions(&self) -> Option<&dyn RowVersions> {
        Some(self)
    }

    fn takes_no_writes(&self) -> Option<&str> {
        self.is_standby.then_some(standby::READ_ONLY)
    }

    fn freeze(&self, request: &FreezeRequest<'_>) -> Result<Frozen> {
        self.take_cut(request)
    }

    fn estimate_bytes(&self, operation: &str, path: &TablePath, range: &KeyRange) -> Result<u64> {
        Ok(self.cut(operation)?.bytes_to_read(path, range))
    }

    fn estimate_change_bytes(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        _since_version: Version,
    ) -> Result<u64> {
        self.server
            .with(|client| replaced::bytes_of(client, operation, &path.table, range))
    }

    fn read_rows(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        let cut = self.cut(operation)?;
        let table = table_of(&cut, path)?;
        let mut session = cut.session()?;
        let mut paced = |block: &RowBlock<&[u8]>| {
            self.server.pace().take(block.as_bytes().len());
            sink(block)
        };
        if read::scan(&mut session, table, range, after, &mut paced)?.is_continue() {
            cut.check_read(&mut session, table, &path.table)?;
            session.keep();
        }
        Ok(())
    }

    /// What the publish of a mend replaced.
    fn read_changes(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        _since_version: Version,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        if !self.is_published(operation)? {
            return Err(no_changes(&path.table));
        }
        let mut session = self.server.session()?;
        if replaced::read(&mut session, operation, &path.table, range, after, sink)?.is_continue() {
            session.keep();
        }
        Ok(())
    }

    fn release_stream(&self, stream: &str, up_to: Version) -> Result<()> {
        self.advance_stream(stream, up_to)
    }

    fn detach_stream(&self, stream: &str) -> Result<()> {
        self.end_stream(stream)
    }

    fn create_hidden(&self, operation: &str, tables: Vec<HiddenTable>) -> Result<()> {
        self.change("make tables", |client| {
            restore::stage(client, operation, &tables)
        })
    }

    fn load(
        &self,
        operation: &str,
        path: &TablePath,
        source: RowSource,
        rows: &RowBlock<&[u8]>,
    ) -> Result<()> {
        self.server.pace().take(rows.as_bytes().len());
        self.change("restore rows", |client| {
            restore::bring(client, operation, &path.table, source, rows, false)
        })
    }

    fn apply(
        &self,
        operation: &str,
        path: &TablePath,
        source: RowSource,
        changes: &RowBlock<&[u8]>,
    ) -> Result<()> {
        self.server.pace().take(changes.as_bytes().len());
        self.change("restore changes", |client| {
            restore::bring(client, operation, &path.table, source, changes, true)
        })
    }

    fn begin_mend(&self, operation: &str, tables: &[String]) -> Result<()> {
        self.change("begin a mend", |client| {
            mend::begin(client, operation, tables)
        })
    }

    fn stage_mend(
        &self,
        operation: &str,
        table: &str,
        _source: RowSource,
        changes: &RowBlock<&[u8]>,
    ) -> Result<StagedCounts> {
        self.server.pace().take(changes.as_bytes().len());
        self.change("stage rows", |client| {
            mend::stage(client, operation, table, changes)
        })
    }

    fn rebuild_mend(
        &self,
        request: &RebuildRequest<'_>,
        _: &RowBlock<&[u8]>,
        _: bool,
    ) -> Result<StagedCounts> {
        Err(refused(format!(
            "{} is mended row by row: its writers go on",
            request.path
        )))
    }

    fn mended_shards(&self, _operation: &str, path: &TablePath) -> Result<Vec<LiveShard>> {
        Err(not_before(path))
    }

    fn mended_digest(
        &self,
        _operation: &str,
        path: &TablePath,
        _range: &KeyRange,
    ) -> Result<Digest> {
        Err(not_before(path))
    }

    fn is_published(&self, operation: &str) -> Result<bool> {
        self.server.with(|client| {
            if !state::exists(client)? {
                return Ok(false);
            }
            let row = client.query_one(
                "SELECT EXISTS (SELECT FROM mendb.published WHERE operation = $1)",
                &[&operation],
            );
            Ok(row
                .map_err(|error| failed("look for a publish", &error))?
                .get(0))
        })
    }

    fn publish_mend(&self, operation: &str) -> Result<()> {
        match self.is_published(operation)? {
            true => Ok(()),
            // One that is over holds nothing.
            false if self.held(operation, LockKind::Mend)?.is_empty() => Ok(()),
            false => Err(refused(format!(
                "operation {operation} has not published what it staged"
            ))),
        }
    }

    fn settle_mend(
        &self,
        operation: &str,
        _progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        self.make_live(operation)?;
        Ok(ControlFlow::Continue(()))
    }
}

/// That what a mend will make of a table is known only when it is published.
fn not_before(path: &TablePath) -> EngineError {
    refused(format!(
        "what a mend makes of table {path} is proved in its publish"
    ))
}
