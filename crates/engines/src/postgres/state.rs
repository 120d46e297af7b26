//! What mendb keeps on the server, in the schema `mendb`: whose journal works there, what operations hold, and what
//! they stage.
//!
//! | table | holds |
//! |---|---|
//! | `target` | the id of the database; which journal works on it; a number that grows with each process that does |
//! | `held` | a table that an operation restores or mends, with its definition and the number of its own tables |
//! | `cursor` | how far the rows of a source are in a table that is restored |
//! | `looked` | ranges that a mend has looked at: their digest and the wanted one, and the oldest transaction then. Unlogged, as what is staged |
//! | `published` | mends that were published: by which transaction, and how long writers waited |
//! | `before` | the ranges of their tables with the digests of before and after |
//! | `cut`, `cut_table` | where backups ended (`witness`) |
//! | `stream`, `stream_cut` | replication slots, and what backups that they tell of saw (`stream`) |
//! | `r<n>` | a table that is restored, until it is whole |
//! | `s<n>`, `b<n>` | what a mend has staged of a table, and what its publish replaced |
//!
//! *Fencing*: a process that works on the database holds a lock of a session; each transaction that changes anything
//! makes sure that no other process has taken over since, and who takes over ends the sessions of before (`drivers`).

use postgres::Client;
use postgres::error::SqlState;

use super::drivers::{self, CLAIM};
use super::error::{failed, is_forbidden, refused};
use super::session::run;
use super::{Address, Postgres, stream, witness};
use crate::contract::{Hold, HoldKind, Lock, LockKind};
use crate::error::Result;

/// The layout of the schema.
const FORMAT: i32 = 4;
/// The one that knew no witnesses …
const WITHOUT_WITNESSES: i32 = 1;
/// … the one whose cuts drew no numbers …
const WITHOUT_NUMBERS: i32 = 2;
/// … and the one that knew no change streams.
const WITHOUT_STREAMS: i32 = 3;
/// The lock of who makes the schema: `mendbs` in ASCII.
const MAKING: i64 = 0x6d65_6e64_6273;
/// So long a transaction of the process before may keep the next one waiting, before it is ended, …
const CLAIM_TIMEOUT: &str = "2s";
/// … and so often, for others may hold the same row.
const CLAIM_TRIES: u32 = 10;

const SCHEMA: &str = "
CREATE SCHEMA mendb;
COMMENT ON SCHEMA mendb IS 'kept by mendb; mendb target detach removes it';
";

const LAYOUT: &str = "
CREATE TABLE mendb.target (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    format int NOT NULL,
    id text,
    epoch bigint NOT NULL,
    journal text,
    place text
);
CREATE TABLE mendb.held (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('restore', 'mend')),
    table_name text NOT NULL UNIQUE,
    definition text NOT NULL
);
CREATE TABLE mendb.cursor (
    held bigint NOT NULL REFERENCES mendb.held ON DELETE CASCADE,
    step bigint NOT NULL,
    source bigint NOT NULL,
    last_key bytea NOT NULL,
    PRIMARY KEY (held, step, source)
);
CREATE TABLE mendb.published (
    operation text PRIMARY KEY,
    transaction text NOT NULL,
    drawn bigint NOT NULL,
    waited_ms bigint NOT NULL
);
";

/// What is known of the ranges of mends.
const RANGES: &str = "
CREATE UNLOGGED TABLE mendb.looked (
    held bigint NOT NULL,
    from_key bytea NOT NULL,
    to_key bytea,
    rows bigint NOT NULL,
    sum bytea NOT NULL,
    wanted_rows bigint NOT NULL,
    wanted_sum bytea NOT NULL,
    since text NOT NULL,
    noted text NOT NULL,
    PRIMARY KEY (held, from_key)
);
CREATE TABLE mendb.before (
    held bigint NOT NULL REFERENCES mendb.held ON DELETE CASCADE,
    from_key bytea NOT NULL,
    to_key bytea,
    rows bigint NOT NULL,
    sum bytea NOT NULL,
    wanted_rows bigint NOT NULL,
    wanted_sum bytea NOT NULL,
    PRIMARY KEY (held, from_key)
);
";

/// Whose journal works on a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalPlace {
    /// The id of the journal.
    pub journal: String,
    /// Where it is, in words.
    pub place: String,
}

/// A table that an operation holds.
pub(super) struct Held {
    /// In the names of its own tables.
    pub(super) number: i64,
    pub(super) table: String,
    pub(super) kind: LockKind,
    /// Of a table that is restored: what it will be. Of one that is mended: what it was.
    pub(super) definition: String,
}

impl Held {
    /// The relation that a restored table is until it is whole.
    pub(super) fn restored(&self) -> String {
        format!("mendb.r{}", self.number)
    }

    /// What is staged.
    pub(super) fn staged(&self) -> String {
        format!("mendb.s{}", self.number)
    }

    /// What was replaced.
    pub(super) fn before(&self) -> String {
        format!("mendb.b{}", self.number)
    }
}

/// Whether there is anything of mendb.
pub(super) fn exists(client: &mut Client) -> Result<bool> {
    let row = client.query_one("SELECT to_regclass('mendb.target') IS NOT NULL", &[]);
    let row = row.map_err(|error| failed("look for the schema mendb", &error))?;
    Ok(row.get(0))
}

/// Makes the schema where there is none.
pub(super) fn make(client: &mut Client) -> Result<()> {
    if exists(client)? {
        return check_format(client);
    }
    let doing = "make the schema mendb, in which mendb keeps what it works with";
    run(
        client,
        doing,
        &format!("BEGIN; SELECT pg_advisory_xact_lock({MAKING})"),
    )?;
    if exists(client)? {
        // Another process was faster.
        run(client, doing, "COMMIT")?;
        return check_format(client);
    }
    let row = client.query_one(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'mendb'),
                current_database()::text, quote_ident(current_database()), quote_ident(current_user)",
        &[],
    );
    let row = row.map_err(|error| failed(doing, &error))?;
    if row.get(0) {
        return Err(refused(format!(
            "database {} has a schema mendb with tables of others, and mendb keeps what it works with in a schema of \
             that name: rename it",
            row.get::<_, &str>(1)
        )));
    }
    let grants = format!(
        "GRANT CREATE ON DATABASE {database} TO {role}; or CREATE SCHEMA mendb AUTHORIZATION {role}",
        database = row.get::<_, &str>(2),
        role = row.get::<_, &str>(3)
    );
    // Where somebody made the schema for this role, it need not be allowed to make any.
    let there = client.query_one("SELECT to_regnamespace('mendb') IS NOT NULL", &[]);
    let is_there: bool = there.map_err(|error| failed(doing, &error))?.get(0);
    let schema = if is_there { "" } else { SCHEMA };
    let layout = format!(
        "{schema}{LAYOUT}{RANGES}{}{}",
        witness::LAYOUT,
        stream::LAYOUT
    );
    if let Err(error) = client.batch_execute(&layout) {
        if is_forbidden(&error) {
            return Err(refused(format!(
                "this role may not {doing}: {}; a superuser or the owner of the database allows it by: {grants}",
                error.as_db_error().map_or("", |error| error.message())
            )));
        }
        return Err(failed(doing, &error));
    }
    client
        .execute(
            "INSERT INTO mendb.target (format, epoch) VALUES ($1, 0)",
            &[&FORMAT],
        )
        .map_err(|error| failed(doing, &error))?;
    run(client, doing, "COMMIT")
}

/// That the schema has the format of this mendb, where it cannot be raised.
pub(super) fn check_same_format(client: &mut Client) -> Result<()> {
    let row = client.query_one("SELECT format FROM mendb.target", &[]);
    let format: i32 = row
        .map_err(|error| failed("read the schema mendb", &error))?
        .get(0);
    match format {
        FORMAT => Ok(()),
        _ => Err(refused(format!(
            "the schema mendb has format {format}, and this mendb works with {FORMAT}: run a command of this version on \
             the primary first"
        ))),
    }
}

fn check_format(client: &mut Client) -> Result<()> {
    let row = client.query_one("SELECT format FROM mendb.target", &[]);
    let format: i32 = row
        .map_err(|error| failed("read the schema mendb", &error))?
        .get(0);
    let witnesses = match format {
        FORMAT => return Ok(()),
        WITHOUT_STREAMS => return raise(client, ""),
        WITHOUT_NUMBERS => witness::RAISE,
        WITHOUT_WITNESSES => witness::LAYOUT,
        _ => {
            return Err(refused(format!(
                "the schema mendb has format {format}, and this mendb works with {FORMAT}: use the version that made it"
            )));
        }
    };
    if let Some((operation, held)) = held(client, None)?.first() {
        return Err(refused(format!(
            "operation {operation} holds table {} in the format {format} of the schema mendb, and this mendb works with \
             {FORMAT}: finish it or cancel it with the version that began it",
            held.table
        )));
    }
    let to_streams = format!(
        "{witnesses} DROP TABLE mendb.looked, mendb.before; {RANGES} ALTER TABLE mendb.published ADD drawn bigint NOT NULL DEFAULT 0;
         ALTER TABLE mendb.published ALTER drawn DROP DEFAULT;"
    );
    raise(client, &to_streams)
}

/// Raises a schema that, after some statements, lacks no more than change streams.
fn raise(client: &mut Client, statements: &str) -> Result<()> {
    let raise = format!(
        "BEGIN; {statements} {} UPDATE mendb.target SET format = {FORMAT}; COMMIT",
        stream::LAYOUT
    );
    run(client, "raise the schema mendb", &raise)
}

/// The id of the database, if it was given one.
pub(super) fn id(client: &mut Client) -> Result<Option<String>> {
    if !exists(client)? {
        return Ok(None);
    }
    let row = client.query_opt("SELECT id FROM mendb.target", &[]);
    let row = row.map_err(|error| failed("read the id of the database", &error))?;
    Ok(row.and_then(|row| row.get(0)))
}

/// The id of the database, which is given this one if it has none.
pub(super) fn identify(client: &mut Client, new_id: &str) -> Result<String> {
    let row = client.query_one(
        "UPDATE mendb.target SET id = coalesce(id, $1) RETURNING id",
        &[&new_id],
    );
    Ok(row
        .map_err(|error| failed("give the database an id", &error))?
        .get(0))
}

/// Takes the database for a session; `None` while another has it. The number tells this process from others. Nothing of
/// a process of before happens any more.
pub(super) fn claim(client: &mut Client) -> Result<Option<i64>> {
    let doing = "take the database for this process";
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&CLAIM]);
    if !row
        .map_err(|error| failed(doing, &error))?
        .get::<_, bool>(0)
    {
        return Ok(None);
    }
    run(
        client,
        doing,
        &format!("SET lock_timeout = '{CLAIM_TIMEOUT}'"),
    )?;
    for attempt in 1.. {
        drivers::end_others(client)?;
        let row = client.query_one(
            "UPDATE mendb.target SET epoch = epoch + 1 RETURNING epoch",
            &[],
        );
        match row {
            Ok(row) => {
                // Those that had looked before it.
                drivers::end_others(client)?;
                run(client, doing, "SET lock_timeout = 0")?;
                return Ok(Some(row.get(0)));
            }
            Err(error)
                if attempt < CLAIM_TRIES && error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            }
            Err(error) => return Err(failed(doing, &error)),
        }
    }
    Ok(None)
}

/// Takes the database for a session where a process of a journal has it: what that process still has open is ended, for
/// whoever asks knows that it leads this journal no more. `None` while a process of another journal has it.
pub(super) fn take_over(client: &mut Client, journal: &str) -> Result<Option<i64>> {
    for _ in 0..CLAIM_TRIES {
        if let Some(epoch) = claim(client)? {
            return Ok(Some(epoch));
        }
        let row = client.query_opt("SELECT journal FROM mendb.target", &[]);
        let row = row.map_err(|error| failed("read the schema mendb", &error))?;
        let theirs: Option<String> = row.and_then(|row| row.get(0));
        if theirs.as_deref() != Some(journal) {
            return Ok(None);
        }
        drivers::end_claim(client)?;
    }
    Ok(None)
}

/// Makes sure that no other process has taken over: none can, until the transaction ends.
pub(super) fn check_claim(client: &mut Client, epoch: i64) -> Result<()> {
    let row = client.query_opt("SELECT epoch FROM mendb.target FOR SHARE", &[]);
    let row = row.map_err(|error| failed("read the schema mendb", &error))?;
    if row.is_some_and(|row| row.get::<_, i64>(0) == epoch) {
        return Ok(());
    }
    Err(drivers::taken_over())
}

/// Which database it is: the identifier that the servers of its cluster share, and its number there.
pub(super) fn database_id(client: &mut Client) -> Result<String> {
    let row = client.query_one(
        "SELECT system_identifier::text || '/' || oid::text FROM pg_control_system(), pg_database
         WHERE datname = current_database()",
        &[],
    );
    row.map(|row| row.get(0))
        .map_err(|error| failed("ask which database it is", &error))
}

/// Notes whose journal works on the database, if none does yet; returns whose does.
pub(super) fn journal(client: &mut Client, ours: &JournalPlace) -> Result<JournalPlace> {
    let doing = "note whose journal works on the database";
    let failed = |error: postgres::Error| failed(doing, &error);
    client
        .execute(
            "UPDATE mendb.target SET journal = $1, place = $2
             WHERE journal IS NULL OR (journal = $1 AND place IS DISTINCT FROM $2)",
            &[&ours.journal, &ours.place],
        )
        .map_err(failed)?;
    let row = client
        .query_one("SELECT journal, place FROM mendb.target", &[])
        .map_err(failed)?;
    Ok(JournalPlace {
        journal: row.get(0),
        place: row.get(1),
    })
}

impl Postgres {
    /// Whose journal works on a database, if any does.
    ///
    /// # Errors
    /// As [`Postgres::look`].
    pub fn journal_of(address: &Address) -> Result<Option<JournalPlace>> {
        Self::look(address)?.server.with(known_journal)
    }
}

fn known_journal(client: &mut Client) -> Result<Option<JournalPlace>> {
    if !exists(client)? {
        return Ok(None);
    }
    let row = client.query_opt(
        "SELECT journal, place FROM mendb.target WHERE journal IS NOT NULL",
        &[],
    );
    let row = row.map_err(|error| failed("read whose journal works on the database", &error))?;
    Ok(row.map(|row| JournalPlace {
        journal: row.get(0),
        place: row.get(1),
    }))
}

/// The tables that operations hold: those of one, or all.
pub(super) fn held(client: &mut Client, operation: Option<&str>) -> Result<Vec<(String, Held)>> {
    if !exists(client)? {
        return Ok(Vec::new());
    }
    let rows = client.query(
        "SELECT number, operation, kind, table_name, definition FROM mendb.held
         WHERE $1::text IS NULL OR operation = $1 ORDER BY number",
        &[&operation],
    );
    let rows = rows.map_err(|error| failed("read what operations hold", &error))?;
    let one = |row: &postgres::Row| {
        let kind: String = row.get(2);
        let held = Held {
            number: row.get(0),
            table: row.get(3),
            kind: if kind == "restore" {
                LockKind::Restore
            } else {
                LockKind::Mend
            },
            definition: row.get(4),
        };
        (row.get(1), held)
    };
    Ok(rows.iter().map(one).collect())
}

/// The locks that these are.
pub(super) fn locks(held: Vec<(String, Held)>) -> Vec<Lock> {
    let lock = |(operation, held): (String, Held)| Lock {
        table: held.table,
        operation,
        kind: held.kind,
    };
    held.into_iter().map(lock).collect()
}

/// What is kept of mends that are over but for what they replaced.
pub(super) fn holds(client: &mut Client) -> Result<Vec<Hold>> {
    let held = held(client, None)?;
    let hold = |(operation, held): (String, Held)| Hold {
        table: held.table,
        operation,
        kind: match held.kind {
            LockKind::Restore => HoldKind::Restore,
            LockKind::Backup | LockKind::Mend => HoldKind::Mend,
        },
    };
    Ok(held.into_iter().map(hold).collect())
}

/// Holds a table for an operation, or finds that it does already; returns its number and whether it is new.
pub(super) fn hold(
    client: &mut Client,
    operation: &str,
    kind: &str,
    table: &str,
    definition: &str,
) -> Result<(i64, bool)> {
    let doing = format!("hold table {table}");
    let new = client.query_opt(
        "INSERT INTO mendb.held (operation, kind, table_name, definition) VALUES ($1, $2, $3, $4)
         ON CONFLICT (table_name) DO NOTHING RETURNING number",
        &[&operation, &kind, &table, &definition],
    );
    if let Some(new) = new.map_err(|error| failed(&doing, &error))? {
        return Ok((new.get(0), true));
    }
    let row = client.query_one(
        "SELECT number, operation FROM mendb.held WHERE table_name = $1",
        &[&table],
    );
    let row = row.map_err(|error| failed(&doing, &error))?;
    match row.get::<_, String>(1) {
        owner if owner == operation => Ok((row.get(0), false)),
        owner => Err(refused(format!(
            "table {table} is at work in operation {owner}"
        ))),
    }
}

/// Drops what an operation holds, with all that is of it. It does not rely on foreign keys: a mend that is taken back
/// has them left aside.
pub(super) fn let_go(client: &mut Client, operation: &str) -> Result<()> {
    let doing = format!("drop what operation {operation} kept");
    // Tables that inherit were made behind their parents.
    for (_, held) in held(client, Some(operation))?.into_iter().rev() {
        let drop = format!(
            "DROP TABLE IF EXISTS {}; DROP TABLE IF EXISTS {}; DROP TABLE IF EXISTS {};
             DELETE FROM mendb.looked WHERE held = {number}; DELETE FROM mendb.before WHERE held = {number};
             DELETE FROM mendb.cursor WHERE held = {number}; DELETE FROM mendb.held WHERE number = {number}",
            held.restored(),
            held.staged(),
            held.before(),
            number = held.number
        );
        run(client, &doing, &drop)?;
    }
    let gone = client.execute(
        "DELETE FROM mendb.published WHERE operation = $1",
        &[&operation],
    );
    gone.map_err(|error| failed(&doing, &error))?;
    Ok(())
}

/// Removes the schema and all in it that is of mendb.
pub(super) fn remove(client: &mut Client) -> Result<()> {
    let doing = "remove the schema mendb";
    run(
        client,
        doing,
        "BEGIN; DROP TABLE mendb.stream_cut, mendb.stream, mendb.cut, mendb.cut_table, mendb.before, mendb.published, mendb.looked, mendb.cursor, mendb.held, mendb.target;
         DROP SCHEMA mendb; COMMIT",
    )
}
