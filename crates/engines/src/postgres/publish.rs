//! The one transaction in which what a mend has staged becomes live.
//!
//! ```text
//! lock      SHARE ROW EXCLUSIVE: writers wait, readers go on. Nobody is waited for long, or writers would queue up
//!           behind the lock: it is given up and taken anew
//! drift     ranges with a row of a transaction that had not ended when they were looked at, or with rows gone
//! keep      the rows that are replaced, into a logged table
//! write     deletes, then inserts, so that unique values can change places
//! check     foreign keys; the digest of each table, from its rows as they are read back
//! mark      that it was published, in the same transaction
//! ```
//!
//! Where the role may, triggers and foreign keys are left aside by `session_replication_role = replica`, and foreign keys
//! are checked here. Where it may not, or a table has unique or exclusion constraints that can be deferred, triggers are switched off by name, rows that others point to are updated and not
//! written anew, and the server checks foreign keys itself (`foreign_keys`).

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_model::key::KeyRange;
use postgres::Client;

use super::catalogue;
use super::cut::named;
use super::error::{damaged, failed, is_busy, is_forbidden, refused};
use super::exchange::{Exchange, Mended, Rules, digest_after, exchange, written_since};
use super::foreign_keys::{self, ForeignKey};
use super::mend::{Looked, looked, mended};
use super::name::{quoted, text};
use super::pace::Unpaced;
use super::read::range_condition;
use super::session::{Server, run};
use super::state;
use super::transaction::number;
use super::witness::{self, Moment};
use crate::contract::beside_writers::{LookedDigests, Publishing, WantedTable};
use crate::error::{EngineError, Remedy, Result};

/// How long a lock is waited for, and writers behind it, before it is given up: less than the second after which the
/// server looks for deadlocks, or it would end a transaction of somebody who waits for what is locked already …
const LOCK_TIMEOUT_MS: u64 = 700;
/// … how long the next try waits, and how many there are.
const PAUSE_S: &str = "0.5";
const TRIES: u32 = 30;
/// The longest that a server waits, about.
const MOST_TIMEOUT_MS: u64 = 2_000_000_000;
/// A process that may not go on is given so long to say why.
const IDLE_SPARE_MS: u64 = 100;

/// Tables whose writers wait, on a connection of their own: dropping it gives the locks up.
pub(super) struct Locked {
    client: Client,
    operation: String,
    tables: Vec<Mended>,
    /// Foreign keys with one of the tables at an end.
    keys: Vec<ForeignKey>,
    /// Whether the server leaves triggers and foreign keys aside.
    as_replica: bool,
    /// When the lock was there, in seconds of the server's clock.
    since_s: f64,
    /// The transaction. What a later one has noted was read while writers waited.
    own: u64,
    /// Transactions from this one on have written nothing else since writers wait.
    locked: u64,
    /// Ranges that were to be looked at again.
    drifted: Vec<(String, KeyRange)>,
    /// Writers wait no longer.
    max_wait_ms: Option<u64>,
    /// Writers wait for nothing but what has to be done.
    _unpaced: Unpaced,
}

impl Locked {
    /// Locks writers of tables out.
    pub(super) fn take(
        server: &Arc<Server>,
        epoch: i64,
        operation: &str,
        wanted: &[WantedTable],
        max_wait_ms: Option<u64>,
    ) -> Result<Self> {
        let mut client = server.connect()?;
        run(&mut client, "begin a publish", &named(operation))?;
        let held = state::held(&mut client, Some(operation))?;
        for (_, held) in &held {
            run(
                &mut client,
                "look at what is staged",
                &format!("ANALYZE {}", held.staged()),
            )?;
        }
        let names: Vec<String> = wanted.iter().map(|wanted| wanted.table.clone()).collect();
        let mut locked = Self {
            client,
            operation: operation.to_owned(),
            tables: Vec::new(),
            keys: Vec::new(),
            as_replica: false,
            since_s: 0.0,
            own: 0,
            locked: 0,
            drifted: Vec::new(),
            max_wait_ms,
            _unpaced: Unpaced::new(server.pace()),
        };
        locked.lock(epoch, &names)?;
        match locked.count(wanted) {
            Ok(()) => Ok(locked),
            Err(error) => Err(locked.given_up(error)),
        }
    }

    /// Finds the tables as they are while writers wait.
    fn count(&mut self, wanted: &[WantedTable]) -> Result<()> {
        self.check_wait()?;
        for wanted in wanted {
            let (held, table) = mended(&mut self.client, &self.operation, &wanted.table)?;
            self.tables.push(Mended {
                held,
                table,
                wanted: wanted.shards.clone(),
            });
        }
        Ok(())
    }

    fn lock(&mut self, epoch: i64, names: &[String]) -> Result<()> {
        let mut relations = Vec::new();
        for name in names {
            relations.push(super::name::TableName::parse(name)?.to_string());
        }
        relations.sort();
        let shown = names.join(", ");
        for attempt in 1.. {
            match self.try_lock(epoch, &relations, &shown)? {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(()) if attempt < TRIES => {
                    let pause = format!("SELECT pg_sleep({PAUSE_S})");
                    run(&mut self.client, "wait for writers", &pause)?;
                }
                ControlFlow::Continue(()) => break,
            }
        }
        Err(EngineError::new(
            Remedy::Retry,
            format!(
                "transactions that wrote to {shown} did not end in time: the lock was given up {TRIES} times, so that no other \
                 writer had to wait behind it; pg_stat_activity shows who holds it"
            ),
        ))
    }

    /// Begins the transaction and takes the locks; goes on where somebody else has one.
    fn try_lock(
        &mut self,
        epoch: i64,
        relations: &[String],
        shown: &str,
    ) -> Result<ControlFlow<()>> {
        let doing = format!("lock writers of {shown} out");
        let most_ms = self.max_wait_ms.unwrap_or(LOCK_TIMEOUT_MS);
        let lock_timeout_ms = most_ms.min(LOCK_TIMEOUT_MS);
        let client = &mut self.client;
        run(client, &doing, "BEGIN")?;
        state::check_claim(client, epoch)?;
        run(
            client,
            &doing,
            &format!("SET LOCAL lock_timeout = {lock_timeout_ms}; SAVEPOINT replica"),
        )?;
        self.as_replica = match client.batch_execute("SET LOCAL session_replication_role = replica")
        {
            Ok(()) => true,
            Err(error) if is_forbidden(&error) => {
                run(client, &doing, "ROLLBACK TO SAVEPOINT replica")?;
                false
            }
            Err(error) => return Err(failed(&doing, &error)),
        };
        if self.as_replica && has_late_rules(client, relations)? {
            // The server would leave those aside as well.
            let origin = "SET LOCAL session_replication_role = origin";
            run(client, &doing, origin)?;
            self.as_replica = false;
        }
        // What is written is to be of the transaction itself: a publish knows its rows by that.
        run(client, &doing, "RELEASE SAVEPOINT replica")?;
        let own = catalogue::own_rows_of(client, relations)?;
        let mut locks = vec![format!(
            "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
            own.join(", ")
        )];
        self.keys = foreign_keys::find(client, relations)?;
        // Rows beside the mend that must not change between the check and the end.
        let beside = self.keys.iter().filter_map(|key| match self.as_replica {
            true => (!relations.contains(&key.parent)).then_some(&key.parent_rows),
            false => (key.acts() && !relations.contains(&key.child)).then_some(&key.child_rows),
        });
        let mut beside: Vec<&String> = beside.collect();
        beside.sort();
        beside.dedup();
        locks.extend(
            beside
                .iter()
                .map(|rows| format!("LOCK TABLE {rows} IN SHARE MODE")),
        );
        for lock in locks {
            match client.batch_execute(&lock) {
                Ok(()) => {}
                Err(error) if is_busy(&error) => {
                    run(client, &doing, "ROLLBACK")?;
                    return Ok(ControlFlow::Continue(()));
                }
                Err(error) => return Err(failed(&doing, &error)),
            }
        }
        // Rows are looked up by their keys; they were read before, so that the server need not shun it.
        let settings = "SET LOCAL lock_timeout = 0; SET LOCAL random_page_cost = 1.1";
        run(client, &doing, settings)?;
        self.since_s = now_s(client)?;
        let row = client.query_one(
            "SELECT pg_current_xact_id()::text, pg_snapshot_xmax(pg_current_snapshot())::text",
            &[],
        );
        let row = row.map_err(|error| failed(&doing, &error))?;
        (self.own, self.locked) = (number(row.get(0))?, number(row.get(1))?);
        Ok(ControlFlow::Break(()))
    }

    /// Ranges of a table that are not what they were when they were looked at.
    fn drifted_of(client: &mut Client, mended: &Mended) -> Result<Vec<KeyRange>> {
        let looked = looked(client, &mended.held)?;
        let find = |range: &KeyRange| looked.iter().find(|looked| looked.range == *range);
        let known: Option<Vec<&Looked>> =
            mended.wanted.iter().map(|(range, _)| find(range)).collect();
        if let Some(known) = &known
            && mended.is_whole()
            && let Some(since) = known.iter().map(|looked| looked.since).min()
        {
            let rows: u64 = known.iter().map(|looked| looked.digests.found.rows).sum();
            if written_since(client, &mended.table, since, "")? == (rows, 0) {
                return Ok(Vec::new());
            }
        }
        let mut drifted = Vec::new();
        for (range, _) in &mended.wanted {
            let condition = range_condition(&mended.table, "t.", range, None);
            let is_same = match find(range) {
                // What the server counts has to be the range, and nothing beside it.
                Some(looked) if condition.is_exact => {
                    let found = written_since(
                        client,
                        &mended.table,
                        looked.since,
                        &condition.where_clause(),
                    )?;
                    found == (looked.digests.found.rows, 0)
                }
                _ => false,
            };
            if !is_same {
                drifted.push(range.clone());
            }
        }
        Ok(drifted)
    }

    /// Takes a publish back, as nobody is to rely on it: what it replaced is there again. Refused where one of the rows
    /// that it wrote was written since.
    pub(super) fn revert(mut self) -> Result<()> {
        let row = self.client.query_one(
            "SELECT transaction::xid8::text, (transaction::int8 % 4294967296)::text FROM mendb.published WHERE operation = $1",
            &[&self.operation],
        );
        let row = row.map_err(|error| failed("take a mend back", &error))?;
        let transaction: String = row.get(1);
        for mended in &self.tables {
            let (same, doing) = (
                mended.same_key(),
                format!("take the mend of table {} back", mended.table.name),
            );
            let written = self.client.query_one(
                &format!(
                    "SELECT EXISTS (SELECT FROM {before} w LEFT JOIN {relation} t ON {same}
                        WHERE (w._mendb_mark IS NULL) <> (t.{key} IS NULL) OR t.xmin <> {transaction}::xid)",
                    before = mended.held.before(),
                    relation = mended.table.rows(),
                    key = quoted(&mended.table.columns[mended.table.key[0]].name),
                    transaction = text(&transaction),
                ),
                &[],
            );
            if written.map_err(|error| failed(&doing, &error))?.get(0) {
                return Err(refused(format!(
                    "operation {0} was published before it was cancelled, and rows of table {1} were written since, so \
                     that it cannot be taken back: mendb operation abandon {0} keeps what it did, and ends it",
                    self.operation, mended.table.name
                )));
            }
            let staged = mended.held.staged();
            let columns = mended.table.column_list("");
            run(
                &mut self.client,
                &doing,
                &format!(
                    "TRUNCATE {staged}; INSERT INTO {staged} (_mendb_key, _mendb_mark, {columns})
                     SELECT w._mendb_key, 0, {of_table} FROM {before} w JOIN {relation} t ON {same}",
                    of_table = mended.table.column_list("t."),
                    before = mended.held.before(),
                    relation = mended.table.rows(),
                ),
            )?;
        }
        let exchanges: Vec<Exchange> = self.tables.iter().map(Mended::revert).collect();
        let rules = Rules {
            keys: &self.keys,
            as_replica: self.as_replica,
            own: self.own,
            locked: self.locked,
        };
        exchange(&mut self.client, &self.tables, &exchanges, &rules)?;
        let operation = self.operation.clone();
        state::let_go(&mut self.client, &operation)?;
        run(&mut self.client, "take a mend back", "COMMIT")
    }
}

/// Whether one of some tables, or a partition of one, has a unique or an exclusion constraint that can be deferred. The
/// server checks those by triggers of its own, which a replica does not fire.
fn has_late_rules(client: &mut Client, relations: &[String]) -> Result<bool> {
    let found = client.query_one(
        "SELECT EXISTS (SELECT FROM pg_constraint c
            WHERE c.contype IN ('p', 'u', 'x') AND c.condeferrable
              AND (c.conrelid IN (SELECT r::regclass FROM unnest($1::text[]) r)
                OR c.conrelid IN (SELECT t.relid FROM unnest($1::text[]) r, pg_partition_tree(r::regclass) t)))",
        &[&relations],
    );
    let found = found.map_err(|error| failed("read constraints", &error))?;
    Ok(found.get(0))
}

impl Publishing for Locked {
    fn drifted(&mut self) -> Result<Vec<(String, KeyRange)>> {
        match self.find_drift() {
            Ok(()) => Ok(self.drifted.clone()),
            Err(error) => Err(self.given_up(error)),
        }
    }

    fn publish(mut self: Box<Self>) -> Result<()> {
        let published = self.make_live();
        published.map_err(|error| self.given_up(error))
    }
}

/// That what would take too long was given up.
fn waited_too_long(most_ms: u64) -> EngineError {
    refused(format!(
        "writers would have waited longer than {most_ms} ms, which --max-write-wait allows; nothing was changed. Mend \
         fewer tables (--tables) or keys (--range) at a time, or allow more"
    ))
}

impl Locked {
    /// Why what was begun is given up: for this error, or because writers have waited for too long.
    fn given_up(&mut self, error: EngineError) -> EngineError {
        let Some(most) = self.max_wait_ms else {
            return error;
        };
        // Of a connection that is gone nothing is known.
        let ended = self.client.batch_execute("ROLLBACK");
        let now_s = ended.ok().and_then(|()| now_s(&mut self.client).ok());
        match now_s.is_some_and(|now_s| self.waited_ms(now_s) >= most as f64) {
            true => waited_too_long(most),
            false => error,
        }
    }

    fn waited_ms(&self, now_s: f64) -> f64 {
        ((now_s - self.since_s) * 1000.0).max(0.0)
    }

    /// Gives up where writers have waited for too long, and bounds what comes next.
    fn check_wait(&mut self) -> Result<()> {
        let Some(most) = self.max_wait_ms else {
            return Ok(());
        };
        let now_s = now_s(&mut self.client)?;
        let left = most as f64 - self.waited_ms(now_s);
        if left <= 0.0 {
            return Err(waited_too_long(most));
        }
        let left = (left.ceil() as u64).min(MOST_TIMEOUT_MS);
        // Between two statements this process looks itself; the server does where it cannot.
        let idle = left + IDLE_SPARE_MS;
        let limits = format!(
            "SET LOCAL statement_timeout = {left}; SET LOCAL idle_in_transaction_session_timeout = {idle}"
        );
        run(&mut self.client, "bound how long writers wait", &limits)
    }

    /// Finds the ranges that are not what they were when they were looked at.
    fn find_drift(&mut self) -> Result<()> {
        self.check_wait()?;
        let mut drifted = Vec::new();
        for mended in &self.tables {
            let ranges = Self::drifted_of(&mut self.client, mended)?.into_iter();
            drifted.extend(ranges.map(|range| (mended.table.name.clone(), range)));
        }
        self.drifted = drifted;
        Ok(())
    }

    /// Makes live what is staged, or nothing.
    fn make_live(&mut self) -> Result<()> {
        self.check_wait()?;
        let mut digests = Vec::new();
        for mended in &self.tables {
            let looked = looked(&mut self.client, &mended.held)?;
            let mut sums = LookedDigests::default();
            for (range, wanted) in &mended.wanted {
                let of_range = looked.iter().find(|looked| looked.range == *range);
                let mut drifted = self.drifted.iter();
                let has_drifted =
                    drifted.any(|(table, of)| of == range && *table == mended.table.name);
                match of_range.filter(|looked| !has_drifted || looked.noted > self.own) {
                    Some(looked) => {
                        sums.found.merge(looked.digests.found);
                        sums.wanted.merge(wanted.unwrap_or(looked.digests.wanted));
                    }
                    None => {
                        return Err(EngineError::new(
                            Remedy::Retry,
                            format!("table {} was not looked at as it is", mended.table.name),
                        ));
                    }
                }
            }
            digests.push(sums);
            let (table, same) = (&mended.table, mended.same_key());
            // A row that is not there has a key all the same.
            let kept = table.columns.iter().enumerate().map(|(at, column)| {
                let of = if table.key.contains(&at) { "w" } else { "t" };
                format!("{of}.{}", quoted(&column.name))
            });
            run(
                &mut self.client,
                format!("keep the rows of table {}", table.name),
                &format!(
                    "INSERT INTO {before} (_mendb_key, _mendb_mark, _mendb_gone, {columns})
                     SELECT w._mendb_key, w._mendb_mark, t.{key} IS NULL, {kept}
                     FROM {staged} w LEFT JOIN {relation} t ON {same}",
                    before = mended.held.before(),
                    columns = table.column_list(""),
                    key = quoted(&table.columns[table.key[0]].name),
                    kept = kept.collect::<Vec<_>>().join(", "),
                    staged = mended.held.staged(),
                    relation = table.rows(),
                ),
            )?;
        }
        let exchanges: Vec<Exchange> = self.tables.iter().map(Mended::publish).collect();
        let rules = Rules {
            keys: &self.keys,
            as_replica: self.as_replica,
            own: self.own,
            locked: self.locked,
        };
        exchange(&mut self.client, &self.tables, &exchanges, &rules)?;
        self.check_wait()?;
        for (at, done) in exchanges.iter().enumerate() {
            let LookedDigests { found, wanted } = digests[at];
            let found = digest_after(&mut self.client, &self.tables[at], done, found)?;
            if found != wanted {
                return Err(damaged(format!(
                    "table {} would not be what the backup holds: {} rows with digest {found}, expected {} rows with digest \
                     {wanted}; nothing was changed. A trigger, a rule or a default of the server may write something else; \
                     or the table is damaged: cancel the operation",
                    self.tables[at].table.name, found.rows, wanted.rows
                )));
            }
        }
        self.check_wait()?;
        let now_s = now_s(&mut self.client)?;
        let waited_ms = self.waited_ms(now_s) as i64;
        for mended in &self.tables {
            let ranges = self.client.execute(
                "INSERT INTO mendb.before (held, from_key, to_key, rows, sum, wanted_rows, wanted_sum)
                 SELECT held, from_key, to_key, rows, sum, wanted_rows, wanted_sum FROM mendb.looked WHERE held = $1",
                &[&mended.held.number],
            );
            ranges.map_err(|error| failed("note what was replaced", &error))?;
        }
        // Increments may stand on the state before.
        let row = self
            .client
            .query_one("SELECT pg_snapshot_xmin(pg_current_snapshot())::text", &[]);
        let row = row.map_err(|error| failed("note the publish", &error))?;
        let at = Moment {
            next: self.own,
            drawn: witness::draw(&mut self.client)?,
            oldest: number(row.get(0))?.min(self.own),
        };
        let relations = self.tables.iter();
        let relations =
            relations.map(|mended| (mended.table.name.clone(), mended.table.relation.clone()));
        witness::note(&mut self.client, at, &relations.collect::<Vec<_>>())?;
        let marked = self.client.execute(
            "INSERT INTO mendb.published (operation, transaction, drawn, waited_ms)
             VALUES ($1, pg_current_xact_id()::text, $2, $3)",
            &[&self.operation, &at.drawn, &waited_ms],
        );
        marked.map_err(|error| failed("note the publish", &error))?;
        run(&mut self.client, "publish a mend", "COMMIT")
    }
}

/// The server's clock.
fn now_s(client: &mut Client) -> Result<f64> {
    let row = client.query_one("SELECT extract(epoch FROM clock_timestamp())::float8", &[]);
    Ok(row
        .map_err(|error| failed("ask for the time", &error))?
        .get(0))
}
