//! The rows of a mend take the place of what there is, in a transaction in which writers wait.
//!
//! Rows that go or change go first, of tables that point to others before those that they point to; then rows come, the
//! other way round: so unique values can change places. Where the server looks after foreign keys itself, rows that
//! others point to are updated instead. Afterwards no row may be of the transaction that was not to be written.

use std::ops::ControlFlow;

use mendb_model::digest::Digest;
use mendb_model::key::KeyRange;
use postgres::Client;

use super::catalogue::Table;
use super::counters::Counters;
use super::error::{damaged, failed};
use super::foreign_keys::{ForeignKey, Written, children_first};
use super::name::{quoted, text};
use super::read::copy_rows;
use super::session::run;
use super::state::Held;
use super::transaction::is_written_since;
use crate::error::Result;

/// A table that is mended.
pub(super) struct Mended {
    pub(super) held: Held,
    pub(super) table: Table,
    /// Its wanted ranges, each with the digest of its rows where that does not come from the look.
    pub(super) wanted: Vec<(KeyRange, Option<Digest>)>,
}

/// What is known of a table right before rows are exchanged, to see afterwards that nothing else was written.
enum Before {
    /// What this session has written to it.
    Written(Counters),
    /// How many rows it has, where the server does not count.
    Rows(u64),
}

impl Before {
    fn of(client: &mut Client, table: &Table, rules: &Rules<'_>) -> Result<Self> {
        Ok(match Counters::read(client, &table.relation)? {
            Some(written) => Self::Written(written),
            None => Self::Rows(written_since(client, table, rules.locked, "")?.0),
        })
    }
}

/// Which rows take the place of which.
pub(super) struct Exchange {
    /// The relation `w` of what is to be, and which of it is a row: the other keys are to have none.
    new: String,
    is_row: &'static str,
    /// The relation of what there is now, of the same keys, and which of it is a row.
    old: String,
    was_row: &'static str,
}

impl Mended {
    pub(super) fn publish(&self) -> Exchange {
        Exchange {
            new: self.held.staged(),
            is_row: "w._mendb_mark IS NOT NULL",
            old: self.held.before(),
            was_row: "NOT w._mendb_gone",
        }
    }

    pub(super) fn revert(&self) -> Exchange {
        Exchange {
            new: self.held.before(),
            is_row: "NOT w._mendb_gone",
            old: self.held.staged(),
            was_row: "w._mendb_mark IS NOT NULL",
        }
    }

    /// Whether all its keys are mended.
    pub(super) fn is_whole(&self) -> bool {
        let ranges = || self.wanted.iter().map(|(range, _)| range);
        let mut pairs = ranges().zip(ranges().skip(1));
        ranges().next().is_some_and(|first| first.start.is_empty())
            && ranges().next_back().is_some_and(|last| last.end.is_none())
            && pairs.all(|(one, next)| one.end.as_ref() == Some(&next.start))
    }

    pub(super) fn same_key(&self) -> String {
        self.table.same_key("t", "w")
    }
}

/// Who looks after the rules of the database.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Foreign keys with one of the tables at an end.
    pub(super) keys: &'a [ForeignKey],
    /// Whether the server leaves triggers and foreign keys aside.
    pub(super) as_replica: bool,
    /// The transaction.
    pub(super) own: u64,
    /// Transactions from this one on have not written since writers wait.
    pub(super) locked: u64,
}

/// Exchanges the rows of all tables.
pub(super) fn exchange(
    client: &mut Client,
    tables: &[Mended],
    exchanges: &[Exchange],
    rules: &Rules<'_>,
) -> Result<()> {
    let Rules {
        keys, as_replica, ..
    } = *rules;
    let relations: Vec<String> = tables
        .iter()
        .map(|mended| mended.table.relation.clone())
        .collect();
    let triggers = switch_triggers_off(client, &relations, as_replica)?;
    let before = tables.iter();
    let before = before.map(|mended| Before::of(client, &mended.table, rules));
    let before: Vec<Before> = before.collect::<Result<_>>()?;
    let order = children_first(&relations, keys);
    let is_pointed_to = |at: usize| {
        let mut keys = keys.iter();
        !as_replica && keys.any(|key| key.parent == relations[at])
    };
    if !as_replica {
        run(client, "mend", "SET CONSTRAINTS ALL DEFERRED")?;
    }
    for &at in &order {
        let (mended, exchange) = (&tables[at], &exchanges[at]);
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
            for key in keys.iter().filter(|key| key.parent == relations[at]) {
                key.check_actions(client, &of(&going), &of(exchange.is_row))?;
            }
            condition = format!(" AND {going}");
        }
        let delete = format!(
            "DELETE FROM {} t USING {} w WHERE {same}{condition}",
            mended.table.rows(),
            exchange.new
        );
        run(client, &doing, &delete)?;
    }
    for &at in order.iter().rev() {
        let (mended, exchange) = (&tables[at], &exchanges[at]);
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
                    "UPDATE {} t SET {} FROM {} w WHERE {same} AND {}",
                    table.rows(),
                    set.join(", "),
                    exchange.new,
                    exchange.is_row
                );
                run(client, &doing, &update)?;
            }
            condition = format!(
                " AND NOT EXISTS (SELECT FROM {} t WHERE {same})",
                table.rows()
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
    if as_replica {
        for (at, exchange) in exchanges.iter().enumerate() {
            let same = tables[at].same_key();
            let of = |relation, condition| Written {
                relation,
                same_key: &same,
                condition,
            };
            for key in keys {
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
    for ((mended, exchange), before) in tables.iter().zip(exchanges).zip(&before) {
        check_side_effects(client, mended, exchange, before, rules)?;
        advance_sequences(client, mended)?;
    }
    Ok(())
}

/// The digest of a table after an exchange, from that before it and the rows that were exchanged, as they are
/// read.
pub(super) fn digest_after(
    client: &mut Client,
    mended: &Mended,
    exchange: &Exchange,
    before: Digest,
) -> Result<Digest> {
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
        "SELECT {} FROM {} w JOIN {} t ON {same}",
        table.column_list("t."),
        exchange.new,
        table.rows()
    );
    let read = copy_rows(client, table, &touched, &mut |key, row| {
        digest.add(key, row);
        Ok(ControlFlow::Continue(()))
    })?;
    debug_assert!(read.is_continue(), "nothing stops it");
    Ok(digest)
}

/// How many rows there are, and how many of a transaction from `since` on. Whatever was written since is among these:
/// transactions that ended before it are older, and those within them as well.
pub(super) fn written_since(
    client: &mut Client,
    table: &Table,
    since: u64,
    condition: &str,
) -> Result<(u64, u64)> {
    let query = format!(
        "SELECT count(*), count(*) FILTER (WHERE {}) FROM {} t{condition}",
        is_written_since("t.", since),
        table.rows()
    );
    let row = client.query_one(&query, &[]);
    let row = row.map_err(|error| failed(format!("look at table {}", table.name), &error))?;
    let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    Ok((count(0), count(1)))
}

/// Makes sure that the server wrote what it was told, and nothing beside it: by what it has counted, or by its rows, of
/// which no other is of this transaction, and none gone. So the digest of what was not told to be written is what it was.
fn check_side_effects(
    client: &mut Client,
    mended: &Mended,
    exchange: &Exchange,
    before: &Before,
    rules: &Rules<'_>,
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
    let more = |what: String| {
        damaged(format!(
            "the server changed more of table {} than it was told: {what}; nothing was changed. A trigger or a foreign key \
             may have done it",
            table.name
        ))
    };
    let rows = match before {
        Before::Written(before) => {
            let now = Counters::read(client, &table.relation)?;
            let now = now.ok_or_else(|| more("it stopped counting what it writes".to_owned()))?;
            let written = now.since(*before);
            let sum = |one: i64, other: i64| u64::try_from(one + other);
            return match (
                sum(written.inserted, written.updated),
                sum(written.deleted, written.updated),
            ) {
                (Ok(came), Ok(went)) if came == new && went == old => Ok(()),
                _ => Err(more(format!(
                    "it inserted {}, updated {} and deleted {} rows where {new} were to come and {old} to go",
                    written.inserted, written.updated, written.deleted
                ))),
            };
        }
        Before::Rows(rows) => rows,
    };
    // Others that began later than this transaction may have written before it had its lock; none has since.
    let query = format!(
        "SELECT count(*), count(*) FILTER (WHERE t.xmin = '{}'::xid OR {}) FROM {} t",
        rules.own & u64::from(u32::MAX),
        is_written_since("t.", rules.locked),
        table.rows()
    );
    let row = client.query_one(&query, &[]);
    let row =
        row.map_err(|error| failed(format!("prove the mend of table {}", table.name), &error))?;
    let count = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    let (found, written) = (count(0), count(1));
    let expected = (rows + new).checked_sub(old);
    if Some(found) == expected && written == new {
        return Ok(());
    }
    Err(more(format!(
        "{found} rows instead of {}, {written} of them written instead of {new}",
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
         WHERE (t.tgrelid = ANY ($1::text[]::regclass[]) OR EXISTS (
                    SELECT FROM unnest($1::text[]::regclass[]) AS r(root), pg_partition_tree(r.root) AS p
                    WHERE p.relid = t.tgrelid))
           AND NOT t.tgisinternal AND t.tgenabled::text = ANY ($2)
         ORDER BY c.relkind = 'p', t.oid",
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
            &format!("ALTER TABLE {relation} DISABLE TRIGGER {trigger}"),
        )?;
        let how = match enabled.as_str() {
            "A" => "ENABLE ALWAYS TRIGGER",
            "R" => "ENABLE REPLICA TRIGGER",
            _ => "ENABLE TRIGGER",
        };
        on_again.push(format!("ALTER TABLE {relation} {how} {trigger}"));
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
