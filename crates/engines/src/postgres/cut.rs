//! A state of the database that several sessions read: an exported snapshot.
//!
//! *Consistency*: whatever is read of it is of one moment, over all tables. *Crash*: it goes with the session that
//! keeps it; who reads then is told to take another.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use mendb_model::Version;
use mendb_model::key::KeyRange;
use mendb_model::manifest::{ChangeMethod, Commits};
use mendb_model::name::TablePath;
use postgres::Client;

use super::catalogue::{self, Table};
use super::error::{failed, refused};
use super::name::{TableName, text};
use super::session::{Server, Session, lock, run};
use super::touched::Keys;
use super::transaction::number;
use super::unfold::Unfolded;
use super::witness::{self, Moment, Since};
use crate::error::{EngineError, Remedy, Result};

/// A row that is looked up has about so many bytes.
const TOUCHED_ROW_BYTES: u64 = 128;

/// Has a session say in pg_stat_activity what it works for.
pub(super) fn named(of: &str) -> String {
    format!("SET application_name = {}", text(&format!("mendb {of}")))
}

/// A snapshot.
pub(super) struct Cut {
    server: Arc<Server>,
    /// Whom it is taken for, as an error names it.
    of: String,
    /// Its name on the server.
    snapshot: String,
    /// When it is.
    pub(super) moment: Moment,
    /// What it sees, as the server says it.
    pub(super) sees: String,
    /// Which commits that are, by the clock of the server.
    pub(super) commits: Commits,
    /// When it was begun, by the same, in microseconds since 1970.
    pub(super) begun_us: i64,
    /// What may have been written since an earlier one, of one that was taken for an increment.
    since: Option<Since>,
    /// How changes since that are found, by table.
    pub(super) methods: BTreeMap<String, ChangeMethod>,
    /// Why the change stream of its chain does not tell them, by table.
    pub(super) untold: BTreeMap<String, String>,
    /// The keys that were touched since, of tables whose changes a stream tells.
    touched: BTreeMap<String, Keys>,
    /// The changes since, one by one, where a stream told them.
    pub(super) unfolded: Option<Unfolded>,
    /// Its tables, of one that was taken of some.
    pub(super) tables: BTreeMap<String, Arc<Table>>,
    /// The relations that have rows of each table.
    relations: BTreeMap<String, Vec<u32>>,
    /// Bytes of a range of each table, about.
    pub(super) range_bytes: BTreeMap<String, u64>,
    keeper: Mutex<Client>,
    /// Sessions that read it, while nobody uses them.
    idle: Mutex<Vec<Client>>,
}

impl Cut {
    /// Takes one. Of tables that are named, the definitions stay what they are as long as it lives.
    pub(super) fn take(server: &Arc<Server>, of: &str, tables: &[String]) -> Result<Self> {
        let doing = "take a snapshot";
        let mut keeper = server.connect()?;
        run(&mut keeper, doing, &named(of))?;
        // Before the snapshot: what is attached after it is found when rows were read.
        let mut relations = BTreeMap::new();
        for table in tables {
            let name = TableName::parse(table)?.to_string();
            let found = witness::relations_of(&mut keeper, &name)?;
            relations.insert(table.clone(), found);
        }
        run(
            &mut keeper,
            doing,
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        )?;
        let mut names = Vec::new();
        for table in tables {
            names.push(TableName::parse(table)?.to_string());
        }
        if !names.is_empty() {
            // Before the snapshot, so that it has the definitions that stay.
            let own = catalogue::own_rows_of(&mut keeper, &names)?;
            let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", own.join(", "));
            run(
                &mut keeper,
                format!("read the tables {}", tables.join(", ")),
                &lock,
            )?;
        }
        let row = keeper
            .query_one(
                "SELECT pg_export_snapshot(), pg_snapshot_xmax(pg_current_snapshot())::text,
                        pg_snapshot_xmin(pg_current_snapshot())::text, pg_current_snapshot()::text,
                        (extract(epoch FROM now()) * 1000000)::int8,
                        (extract(epoch FROM greatest(clock_timestamp(), pg_last_xact_replay_timestamp())) * 1000000)::int8",
                &[],
            )
            .map_err(|error| failed(doing, &error))?;
        let drawn = witness::draw(&mut keeper)?;
        let mut found = BTreeMap::new();
        for name in tables {
            let table = catalogue::find(&mut keeper, name)?;
            let mut table = table.ok_or_else(|| {
                EngineError::new(Remedy::Request, format!("table {name} does not exist"))
            })?;
            catalogue::complete(&mut keeper, &mut table)?;
            found.insert(name.clone(), Arc::new(table));
        }
        Ok(Self {
            server: Arc::clone(server),
            of: of.to_owned(),
            snapshot: row.get(0),
            moment: Moment {
                next: number(row.get(1))?,
                drawn,
                oldest: number(row.get(2))?,
            },
            sees: row.get(3),
            commits: Commits {
                none_from_us: row.get::<_, i64>(5).saturating_add(1),
                all_before_us: None,
            },
            begun_us: row.get(4),
            since: None,
            methods: BTreeMap::new(),
            untold: BTreeMap::new(),
            touched: BTreeMap::new(),
            unfolded: None,
            tables: found,
            relations,
            range_bytes: BTreeMap::new(),
            keeper: Mutex::new(keeper),
            idle: Mutex::default(),
        })
    }

    /// Finds how the changes of its tables since an earlier one are found.
    pub(super) fn look_back(&mut self, earlier: Version) -> Result<()> {
        let mut keeper = lock(&self.keeper);
        let since = witness::since(&mut keeper, earlier, self.moment.next)?;
        for (name, table) in &self.tables {
            let method = witness::method(&mut keeper, &since, earlier, name, &table.relation)?;
            self.methods.insert(name.clone(), method);
        }
        self.since = Some(since);
        Ok(())
    }

    /// What may have been written since the earlier one.
    pub(super) fn since(&self) -> Option<&Since> {
        self.since.as_ref()
    }

    /// Does something on the session that keeps it.
    pub(super) fn with_keeper<T>(
        &self,
        work: impl FnOnce(&mut Client, &BTreeMap<String, Arc<Table>>) -> Result<T>,
    ) -> Result<T> {
        work(&mut lock(&self.keeper), &self.tables)
    }

    /// The relations that had rows of a table.
    pub(super) fn relations_of(&self, table: &str) -> &[u32] {
        self.relations.get(table).map_or(&[], Vec::as_slice)
    }

    /// A stream told which keys of a table were touched since the earlier one.
    pub(super) fn tell(&mut self, table: &str, keys: Keys) {
        self.methods.insert(table.to_owned(), ChangeMethod::Stream);
        self.touched.insert(table.to_owned(), keys);
    }

    /// The keys of a range that were touched since the earlier one, as a stream told.
    pub(super) fn touched_in<'a>(
        &'a self,
        table: &str,
        range: &KeyRange,
    ) -> Result<impl Iterator<Item = &'a [u8]>> {
        let keys = self.touched.get(table).ok_or_else(|| {
            refused(format!(
                "no change stream tells what was written to table {table}"
            ))
        })?;
        let from = Bound::Included(range.start.as_slice());
        let to = match &range.end {
            // A range that ends before it begins has no keys.
            Some(end) => Bound::Excluded(end.as_slice().max(&range.start)),
            None => Bound::Unbounded,
        };
        Ok(keys.range::<[u8], _>((from, to)).map(|key| &**key))
    }

    /// What was put aside of the changes of a table one by one, or of the transactions: the section and its bytes.
    pub(super) fn unfolded_at(&self, path: &TablePath) -> Option<(&Unfolded, u32, u64)> {
        let unfolded = self.unfolded.as_ref()?;
        let (section, bytes) = match path.is_transactions() {
            true => unfolded.transactions(),
            false => unfolded.of_table(&path.table)?,
        };
        Some((unfolded, section, bytes))
    }

    /// Bytes that are read for a range of a table, about; 0 only where nothing is to be read of one whose changes a
    /// stream told.
    pub(super) fn bytes_to_read(&self, path: &TablePath, range: &KeyRange) -> u64 {
        if path.is_unfolded() || path.is_transactions() {
            return self.unfolded_at(path).map_or(0, |(_, _, bytes)| bytes);
        }
        let table = path.table.as_str();
        match self.touched_in(table, range) {
            Ok(keys) => keys.map(|key| key.len() as u64 + TOUCHED_ROW_BYTES).sum(),
            Err(_) => self.range_bytes.get(table).copied().unwrap_or(0),
        }
    }

    /// Rows of a table that are not older than this transaction may have been written since the earlier one.
    pub(super) fn oldest_since(&self, table: &str) -> Result<u64> {
        match (&self.since, self.methods.get(table)) {
            (Some(Since::Oldest(oldest)), Some(ChangeMethod::RowVersions)) => Ok(*oldest),
            _ => Err(refused(format!(
                "the versions of its rows do not tell what was written to table {table}"
            ))),
        }
    }

    /// Checks, after rows of a table were read, that they were of the relations that the table had at the snapshot: a
    /// partition that is attached, and another table that gets the name, wait for no lock of a reader.
    pub(super) fn check_read(&self, client: &mut Client, table: &Table, name: &str) -> Result<()> {
        let Some(then) = self.relations.get(name) else {
            return Ok(());
        };
        if witness::relations_of(client, &table.relation)? == *then {
            return Ok(());
        }
        Err(refused(format!(
            "table {name} got another partition or another name while it was read: take the backup again"
        )))
    }

    /// Whether it can still be read.
    pub(super) fn is_alive(&self) -> bool {
        lock(&self.keeper).simple_query("SELECT 1").is_ok()
    }

    /// A session that reads it.
    pub(super) fn session(&self) -> Result<Session<'_>> {
        if let Some(client) = lock(&self.idle).pop().filter(|client| !client.is_closed()) {
            return Ok(Session::new(client, &self.idle));
        }
        let mut client = self.server.connect()?;
        let begin = format!(
            "{}; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            named(&self.of),
            text(&self.snapshot)
        );
        match client.batch_execute(&begin) {
            Ok(()) => Ok(Session::new(client, &self.idle)),
            Err(_) if !self.is_alive() => Err(EngineError::snapshot_lost(&self.of)),
            Err(error) => Err(failed("read a snapshot", &error)),
        }
    }
}
