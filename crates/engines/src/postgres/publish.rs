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
//! are checked here. Where it may not, triggers are switched off by name, rows that others point to are updated and not
//! written anew, and the server checks foreign keys itself ([`super::foreign_keys`]).

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_model::digest::Digest;
use mendb_model::key::KeyRange;
use postgres::Client;

use super::catalogue::Table;
use super::cut::version;
use super::error::{damaged, failed, is_busy, is_forbidden, refused};
use super::foreign_keys::{self, ForeignKey, Written, children_first};
use super::mend::{Looked, looked, mended};
use super::name::{quoted, text};
use super::read::{copy_rows, range_condition};
use super::session::{Server, run};
use super::state::{self, Held};
use crate::contract::beside_writers::{Publishing, WantedTable};
use crate::error::{EngineError, Remedy, Result};

/// How long a lock is waited for, and writers behind it, before it is given up …
const LOCK_TIMEOUT_MS: u32 = 1_000;
/// … how long the next try waits, and how many there are.
const PAUSE_S: &str = "0.5";
const TRIES: u32 = 20;

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
    /// Ranges that were to be looked at again.
    drifted: Vec<(String, KeyRange)>,
}

/// A table that is mended.
struct Mended {
    held: Held,
    table: Table,
    /// Its wanted ranges, each with the digest of its rows.
    wanted: Vec<(KeyRange, Digest)>,
    /// How many rows it has while writers wait.
    rows: u64,
}

/// Which rows take the place of which.
struct Exchange {
    /// The relation `w` of what is to be, and which of it is a row: the other keys are to have none.
    new: String,
    is_row: &'static str,
    /// The relation of what there is now, of the same keys, and which of it is a row.
    old: String,
    was_row: &'static str,
}

impl Mended {
    fn publish(&self) -> Exchange {
        Exchange {
            new: self.held.staged(),
            is_row: "w._mendb_mark IS NOT NULL",
            old: self.held.before(),
            was_row: "NOT w._mendb_gone",
        }
    }

    fn revert(&self) -> Exchange {
        Exchange {
            new: self.held.before(),
            is_row: "NOT w._mendb_gone",
            old: self.held.staged(),
            was_row: "w._mendb_mark IS NOT NULL",
        }
    }

    fn same_key(&self) -> String {
        self.table.same_key("t", "w")
    }
}

impl Locked {
    /// Locks writers of tables out.
    pub(super) fn take(
        server: &Arc<Server>,
        epoch: i64,
        operation: &str,
        wanted: &[WantedTable],
    ) -> Result<Self> {
        let mut client = server.connect()?;
        let name = format!(
            "SET application_name = {}",
            text(&format!("mendb {operation}"))
        );
        run(&mut client, "begin a publish", &name)?;
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
            drifted: Vec::new(),
        };
        locked.lock(epoch, &names)?;
        for wanted in wanted {
            let (held, table) = mended(&mut locked.client, operation, &wanted.table)?;
            let (rows, _) = written_since(&mut locked.client, &table, locked.own, "")?;
            locked.tables.push(Mended {
                held,
                table,
                wanted: wanted.shards.clone(),
                rows,
            });
        }
        Ok(locked)
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
        let client = &mut self.client;
        run(client, &doing, "BEGIN")?;
        state::check_claim(client, epoch)?;
        run(
            client,
            &doing,
            &format!("SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; SAVEPOINT replica"),
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
        // What is written is to be of the transaction itself: a publish knows its rows by that.
        run(client, &doing, "RELEASE SAVEPOINT replica")?;
        let mut locks = vec![format!(
            "LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE",
            relations.join(", ONLY ")
        )];
        self.keys = foreign_keys::find(client, relations)?;
        // Rows beside the mend that must not change between the check and the end.
        let beside = self.keys.iter().filter_map(|key| match self.as_replica {
            true => (!relations.contains(&key.parent)).then_some(&key.parent),
            false => (key.acts() && !relations.contains(&key.child)).then_some(&key.child),
        });
        let mut beside: Vec<&String> = beside.collect();
        beside.sort();
        beside.dedup();
        locks.extend(
            beside
                .iter()
                .map(|relation| format!("LOCK TABLE {relation} IN SHARE MODE")),
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
        run(client, &doing, "SET LOCAL lock_timeout = 0")?;
        self.since_s = now_s(client)?;
        let own = client.query_one("SELECT pg_current_xact_id()::text", &[]);
        self.own = version(own.map_err(|error| failed(&doing, &error))?.get(0))?;
        Ok(ControlFlow::Break(()))
    }

    /// Ranges of a table that are not what they were when they were looked at.
    fn drifted_of(client: &mut Client, mended: &Mended) -> Result<Vec<KeyRange>> {
        let looked = looked(client, &mended.held)?;
        let find = |range: &KeyRange| looked.iter().find(|looked| looked.range == *range);
        let known: Option<Vec<&Looked>> =
            mended.wanted.iter().map(|(range, _)| find(range)).collect();
        if let Some(known) = &known
            && let Some(since) = known.iter().map(|looked| looked.since).min()
        {
            let rows: u64 = known.iter().map(|looked| looked.digest.rows).sum();
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
                    found == (looked.digest.rows, 0)
                }
                _ => false,
            };
            if !is_same {
                drifted.push(range.clone());
            }
        }
        Ok(drifted)
    }

    /// Exchanges the rows of all tables.
    fn exchange(&mut self, exchanges: &[Exchange]) -> Result<()> {
        let client = &mut self.client;
        let relations: Vec<String> = self
            .tables
            .iter()
            .map(|mended| mended.table.relation.clone())
            .collect();
        let triggers = switch_triggers_off(client, &relations, self.as_replica)?;
        let order = children_first(&relations, &self.keys);
        let is_pointed_to = |at: usize| {
            let mut keys = self.keys.iter();
            !self.as_replica && keys.any(|key| key.parent == relations[at])
        };
        if !self.as_replica {
            run(client, "mend", "SET CONSTRAINTS ALL DEFERRED")?;
        }
        for &at in &order {
            let (mended, exchange) = (&self.tables[at], &exchanges[at]);
            let (doing, same) = (
                format!("mend table {}", mended.table.name),
                mended.same_key(),
            );
            let mut condition = String::new();
            if is_pointed_to(at) {
                let going = format!("NOT ({})", exchange.is_row);
                let of = |condition| Written {
                    relation: &exchange.new,
                    same_key: &same,
                    condition,
                };
                for key in self.keys.iter().filter(|key| key.parent == relations[at]) {
                    key.check_actions(client, &of(&going), &of(exchange.is_row))?;
                }
                condition = format!(" AND {going}");
            }
            let delete = format!(
                "DELETE FROM ONLY {} t USING {} w WHERE {same}{condition}",
                relations[at], exchange.new
            );
            run(client, &doing, &delete)?;
        }
        for &at in order.iter().rev() {
            let (mended, exchange) = (&self.tables[at], &exchanges[at]);
            let (doing, same) = (
                format!("mend table {}", mended.table.name),
                mended.same_key(),
            );
            let table = &mended.table;
            let mut condition = String::new();
            if is_pointed_to(at) {
                let set = table.columns.iter().enumerate();
                let set = set.filter(|(place, column)| {
                    let mut defined = table.definition.columns.iter();
                    let always = defined
                        .any(|c| c.name == column.name && c.identity.as_deref() == Some("ALWAYS"));
                    !table.key.contains(place) && !always
                });
                let set: Vec<String> = set
                    .map(|(_, column)| format!("{0} = w.{0}", quoted(&column.name)))
                    .collect();
                if !set.is_empty() {
                    let update = format!(
                        "UPDATE ONLY {} t SET {} FROM {} w WHERE {same} AND {}",
                        relations[at],
                        set.join(", "),
                        exchange.new,
                        exchange.is_row
                    );
                    run(client, &doing, &update)?;
                }
                condition = format!(
                    " AND NOT EXISTS (SELECT FROM ONLY {} t WHERE {same})",
                    relations[at]
                );
            }
            let insert = format!(
                "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} w WHERE {}{condition}",
                relations[at],
                table.column_list(""),
                table.column_list("w."),
                exchange.new,
                exchange.is_row
            );
            run(client, &doing, &insert)?;
        }
        if self.as_replica {
            for (at, exchange) in exchanges.iter().enumerate() {
                let same = self.tables[at].same_key();
                let of = |relation, condition| Written {
                    relation,
                    same_key: &same,
                    condition,
                };
                for key in &self.keys {
                    if key.child == relations[at] {
                        key.check_written(client, &of(&exchange.new, exchange.is_row))?;
                    }
                    if key.parent == relations[at] {
                        key.check_taken(client, &of(&exchange.old, exchange.was_row))?;
                    }
                }
            }
        } else {
            run(
                client,
                "check foreign keys",
                "SET CONSTRAINTS ALL IMMEDIATE",
            )?;
        }
        for trigger in triggers {
            run(client, "switch triggers on again", &trigger)?;
        }
        for (mended, exchange) in self.tables.iter().zip(exchanges) {
            check_side_effects(client, mended, exchange, self.own)?;
            advance_sequences(client, mended)?;
        }
        Ok(())
    }

    /// The digest of a table after an exchange, from that before it and the rows that were exchanged, as they are
    /// read.
    fn digest_after(&mut self, at: usize, exchange: &Exchange, before: Digest) -> Result<Digest> {
        let (mended, client) = (&self.tables[at], &mut self.client);
        let (table, same) = (&mended.table, mended.same_key());
        let mut digest = before;
        let old = format!(
            "SELECT {} FROM {} w WHERE {}",
            table.column_list("w."),
            exchange.old,
            exchange.was_row
        );
        let read = copy_rows(client, table, &old, &mut |key, row| {
            digest.remove(key, row);
            Ok(ControlFlow::Continue(()))
        })?;
        debug_assert!(read.is_continue(), "nothing stops it");
        let touched = format!(
            "SELECT {} FROM {} w JOIN ONLY {} t ON {same}",
            table.column_list("t."),
            exchange.new,
            table.relation
        );
        let read = copy_rows(client, table, &touched, &mut |key, row| {
            digest.add(key, row);
            Ok(ControlFlow::Continue(()))
        })?;
        debug_assert!(read.is_continue(), "nothing stops it");
        Ok(digest)
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
                    "SELECT EXISTS (SELECT FROM {before} w LEFT JOIN ONLY {relation} t ON {same}
                        WHERE (w._mendb_mark IS NULL) <> (t.{key} IS NULL) OR t.xmin <> {transaction}::xid)",
                    before = mended.held.before(),
                    relation = mended.table.relation,
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
                     SELECT w._mendb_key, 0, {of_table} FROM {before} w JOIN ONLY {relation} t ON {same}",
                    of_table = mended.table.column_list("t."),
                    before = mended.held.before(),
                    relation = mended.table.relation,
                ),
            )?;
        }
        let exchanges: Vec<Exchange> = self.tables.iter().map(Mended::revert).collect();
        self.exchange(&exchanges)?;
        let operation = self.operation.clone();
        state::let_go(&mut self.client, &operation)?;
        run(&mut self.client, "take a mend back", "COMMIT")
    }
}

impl Publishing for Locked {
    fn drifted(&mut self) -> Result<Vec<(String, KeyRange)>> {
        let mut drifted = Vec::new();
        for mended in &self.tables {
            let ranges = Self::drifted_of(&mut self.client, mended)?.into_iter();
            drifted.extend(ranges.map(|range| (mended.table.name.clone(), range)));
        }
        self.drifted.clone_from(&drifted);
        Ok(drifted)
    }

    fn publish(mut self: Box<Self>) -> Result<()> {
        let mut before = Vec::new();
        for mended in &self.tables {
            let looked = looked(&mut self.client, &mended.held)?;
            let mut sum = Digest::default();
            for (range, _) in &mended.wanted {
                let of_range = looked.iter().find(|looked| looked.range == *range);
                let mut drifted = self.drifted.iter();
                let has_drifted =
                    drifted.any(|(table, of)| of == range && *table == mended.table.name);
                match of_range.filter(|looked| !has_drifted || looked.noted > self.own) {
                    Some(looked) => sum.merge(looked.digest),
                    None => {
                        return Err(EngineError::new(
                            Remedy::Retry,
                            format!("table {} was not looked at as it is", mended.table.name),
                        ));
                    }
                }
            }
            before.push(sum);
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
                     FROM {staged} w LEFT JOIN ONLY {relation} t ON {same}",
                    before = mended.held.before(),
                    columns = table.column_list(""),
                    key = quoted(&table.columns[table.key[0]].name),
                    kept = kept.collect::<Vec<_>>().join(", "),
                    staged = mended.held.staged(),
                    relation = table.relation,
                ),
            )?;
        }
        let exchanges: Vec<Exchange> = self.tables.iter().map(Mended::publish).collect();
        self.exchange(&exchanges)?;
        for (at, exchange) in exchanges.iter().enumerate() {
            let wanted: Digest = self.tables[at]
                .wanted
                .iter()
                .map(|(_, digest)| *digest)
                .sum();
            let found = self.digest_after(at, exchange, before[at])?;
            if found != wanted {
                return Err(damaged(format!(
                    "table {} would not be what the backup holds: {} rows with digest {found}, expected {} rows with digest \
                     {wanted}; nothing was changed. A trigger, a rule or a default of the server may write something else; \
                     or the table is damaged: cancel the operation",
                    self.tables[at].table.name, found.rows, wanted.rows
                )));
            }
        }
        let waited_ms = ((now_s(&mut self.client)? - self.since_s) * 1000.0).max(0.0) as i64;
        for mended in &self.tables {
            let ranges = self.client.execute(
                "INSERT INTO mendb.before (held, from_key, to_key, rows, sum)
                 SELECT held, from_key, to_key, rows, sum FROM mendb.looked WHERE held = $1",
                &[&mended.held.number],
            );
            ranges.map_err(|error| failed("note what was replaced", &error))?;
        }
        let marked = self.client.execute(
            "INSERT INTO mendb.published (operation, transaction, waited_ms)
             VALUES ($1, pg_current_xact_id()::text, $2)",
            &[&self.operation, &waited_ms],
        );
        marked.map_err(|error| failed("note the publish", &error))?;
        run(&mut self.client, "publish a mend", "COMMIT")
    }
}

/// How many rows there are, and how many of a transaction from `since` on. Whatever was written since is among these:
/// transactions that ended before it are older, and those within them as well.
fn written_since(
    client: &mut Client,
    table: &Table,
    since: u64,
    condition: &str,
) -> Result<(u64, u64)> {
    // Rows have the low half of the number.
    let low = since & u64::from(u32::MAX);
    let query = format!(
        "SELECT count(*), count(*) FILTER (WHERE age(t.xmin) <= age('{low}'::xid)) FROM {} t{condition}",
        table.relation
    );
    let row = client.query_one(&query, &[]);
    let row = row.map_err(|error| failed(format!("look at table {}", table.name), &error))?;
    let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    Ok((count(0), count(1)))
}

/// Makes sure that the server wrote what it was told, and nothing beside it: no other row of the table is of this
/// transaction, and none is gone. So the digest of what was not told to be written is what it was.
fn check_side_effects(
    client: &mut Client,
    mended: &Mended,
    exchange: &Exchange,
    own: u64,
) -> Result<()> {
    let table = &mended.table;
    let query = format!(
        "SELECT (SELECT count(*) FROM {new} w WHERE {is_row}), (SELECT count(*) FROM {old} w WHERE {was_row})",
        new = exchange.new,
        is_row = exchange.is_row,
        old = exchange.old,
        was_row = exchange.was_row
    );
    let row = client.query_one(&query, &[]);
    let row =
        row.map_err(|error| failed(format!("prove the mend of table {}", table.name), &error))?;
    let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    let (new, old) = (count(0), count(1));
    let (rows, written) = written_since(client, table, own, "")?;
    let expected = (mended.rows + new).checked_sub(old);
    if Some(rows) == expected && written == new {
        return Ok(());
    }
    Err(damaged(format!(
        "the server changed more of table {} than it was told: {rows} rows instead of {}, {written} of them written \
         instead of {new}; nothing was changed. A trigger or a foreign key may have done it",
        table.name,
        expected.unwrap_or(0),
    )))
}

/// Switches triggers off that would act on what is written, and tells how they are switched on again.
fn switch_triggers_off(
    client: &mut Client,
    relations: &[String],
    as_replica: bool,
) -> Result<Vec<String>> {
    let acting: Vec<&str> = if as_replica {
        vec!["A", "R"]
    } else {
        vec!["O", "A"]
    };
    let rows = client.query(
        "SELECT format('%I.%I', n.nspname, c.relname), quote_ident(t.tgname), t.tgenabled::text
         FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE t.tgrelid = ANY ($1::text[]::regclass[]) AND NOT t.tgisinternal AND t.tgenabled::text = ANY ($2)",
        &[&relations, &acting],
    );
    let rows = rows.map_err(|error| failed("look for triggers", &error))?;
    let mut on_again = Vec::new();
    for row in rows {
        let (relation, trigger, enabled): (String, String, String) =
            (row.get(0), row.get(1), row.get(2));
        run(
            client,
            format!("switch trigger {trigger} off"),
            &format!("ALTER TABLE ONLY {relation} DISABLE TRIGGER {trigger}"),
        )?;
        let how = match enabled.as_str() {
            "A" => "ENABLE ALWAYS TRIGGER",
            "R" => "ENABLE REPLICA TRIGGER",
            _ => "ENABLE TRIGGER",
        };
        on_again.push(format!("ALTER TABLE ONLY {relation} {how} {trigger}"));
    }
    Ok(on_again)
}

/// Sees that sequences of a table go on behind the rows that came back. They are never set back.
fn advance_sequences(client: &mut Client, mended: &Mended) -> Result<()> {
    let doing = format!("move the sequences of table {} on", mended.table.name);
    let columns = mended.table.definition.columns.iter();
    let columns = columns.filter(|column| {
        let by_sequence = column
            .default
            .as_deref()
            .is_some_and(|default| default.contains("nextval("));
        column.generated.is_none() && (column.identity.is_some() || by_sequence)
    });
    for column in columns {
        let found = client.query_one(
            "SELECT pg_get_serial_sequence($1, $2)",
            &[&mended.table.relation, &column.name],
        );
        let found: Option<String> = found.map_err(|error| failed(&doing, &error))?.get(0);
        let Some(sequence) = found else { continue };
        let statement = format!(
            "SELECT setval({sequence}::regclass, m.value)
             FROM (SELECT max({column})::int8 AS value FROM {staged}) m, pg_sequence q
             WHERE q.seqrelid = {sequence}::regclass AND q.seqincrement > 0
               AND m.value BETWEEN q.seqmin AND q.seqmax
               AND m.value > coalesce(pg_sequence_last_value(q.seqrelid), m.value - 1)",
            sequence = text(&sequence),
            column = quoted(&column.name),
            staged = mended.held.staged(),
        );
        run(client, &doing, &statement)?;
    }
    Ok(())
}

/// The server's clock.
fn now_s(client: &mut Client) -> Result<f64> {
    let row = client.query_one("SELECT extract(epoch FROM clock_timestamp())::float8", &[]);
    Ok(row
        .map_err(|error| failed("ask for the time", &error))?
        .get(0))
}
