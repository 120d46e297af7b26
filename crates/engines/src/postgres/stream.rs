//! Change streams: a replication slot keeps the log of the server from the last backup of a chain on, and tells which
//! keys were written since.
//!
//! ```text
//! attach     a publication of the tables and a slot, before the snapshot of a full backup
//! stand      before the snapshot of an increment: whether the slot has all since its parent; one that is lost is attached anew
//! read       what is behind the slot, up to the snapshot: the keys that were touched (`touched`), and each change by
//!            itself (`unfold`)
//! note       what the snapshot sees, and the place in the log before which there is nothing that it does not see
//! advance    when the backup is sealed: the slot moves to that place
//! ```
//!
//! A stream tells what was written to relations while they were published. What else can change what a table holds leaves
//! its mark in the [`SHAPE`](witness::SHAPE) of its relations, their files, their places among the partitions and in the
//! publication: where one of these is another than at the parent, its changes are found in another way.
//!
//! *Crash*: the name of a slot is noted before it is made, so that it is found and dropped. A slot that moved back a
//! little in a crash of the server tells some changes again, which the parent sees. *Copies*: a copy of the database
//! has no slots, and those that its rows name are of another database.

use std::collections::BTreeMap;

use mendb_model::Version;
use postgres::Client;
use postgres::error::SqlState;

use super::Postgres;
use super::catalogue::{self, Table};
use super::cut::Cut;
use super::error::{damaged, failed, is_forbidden, refused};
use super::name::{TableName, quoted, text};
use super::pgoutput::Message;
use super::read::Tuples;
use super::session::run;
use super::slot;
use super::touched::{Found, Touched, Watched};
use super::transaction::Sees;
use super::unfold::{Unfolded, Unfolder};
use super::witness::{self, has_rows_of};
use crate::contract::changes::LiveStream;
use crate::error::{Remedy, Result};

/// The tables that streams are in.
pub(super) const LAYOUT: &str = "
CREATE TABLE mendb.stream (
    stream text PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    slot text NOT NULL,
    tables text[] NOT NULL
);
CREATE TABLE mendb.stream_cut (
    stream text NOT NULL,
    version xid8 NOT NULL,
    drawn bigint NOT NULL,
    sees text NOT NULL,
    whole_to pg_lsn NOT NULL,
    shapes jsonb NOT NULL,
    PRIMARY KEY (stream, version, drawn)
);
";

/// What the stream of a chain can tell a backup.
pub(super) enum Standing {
    /// There is none.
    Without,
    /// It begins with this backup; why, if there was one before.
    Begins(Option<String>),
    /// It has all since the parent.
    Since(Noted),
    /// It is whole, and what the parent is to it is not known, with the reason.
    Strange(String),
}

/// What was noted of a cut.
pub(super) struct Noted {
    sees: Sees,
    /// Of each table that the stream tells of.
    shapes: BTreeMap<String, String>,
}

impl Postgres {
    /// Has a stream keep the changes of tables from here on. One that is there is made anew.
    pub(super) fn attach_stream(&self, stream: &str, tables: &[String]) -> Result<()> {
        if let Some(why) = self.server.with(slot::why_none)? {
            return Err(refused(format!("no change stream can be kept: {why}")));
        }
        if let Some(slot) =
            self.change("look at a change stream", |client| slot_of(client, stream))?
        {
            self.server.with(|client| slot::drop(client, &slot))?;
        }
        let slot = self.change("publish tables", |client| publish(client, stream, tables))?;
        self.server.with(|client| slot::make(client, &slot))
    }

    /// Ends a stream, with all that is kept for it. None of that name is no error.
    pub(super) fn end_stream(&self, stream: &str) -> Result<()> {
        let doing = "end a change stream";
        if self.is_standby
            && self
                .server
                .with(|client| slot_of(client, stream))?
                .is_none()
        {
            return Ok(());
        }
        let Some(slot) = self.change(doing, |client| slot_of(client, stream))? else {
            return Ok(());
        };
        self.server.with(|client| slot::drop(client, &slot))?;
        self.change(doing, |client| {
            run(
                client,
                doing,
                &format!("DROP PUBLICATION IF EXISTS {}", quoted(&slot)),
            )?;
            for table in ["stream_cut", "stream"] {
                let forget = format!("DELETE FROM mendb.{table} WHERE stream = $1");
                let forgot = client.execute(&forget, &[&stream]);
                forgot.map_err(|error| failed(doing, &error))?;
            }
            Ok(())
        })
    }

    /// Ends all streams of the database.
    pub(super) fn end_streams(&self) -> Result<()> {
        let names = self.server.with(|client| {
            let rows = client.query("SELECT stream FROM mendb.stream", &[]);
            let rows = rows.map_err(|error| failed("look for change streams", &error))?;
            Ok(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>())
        })?;
        names.iter().try_for_each(|name| self.end_stream(name))
    }

    /// What a stream can tell an increment on a cut. One that has lost something is attached anew, so that the next
    /// increment has it again.
    pub(super) fn stand(
        &self,
        stream: &str,
        parent: Version,
        tables: &[String],
    ) -> Result<Standing> {
        let found = self
            .server
            .with(|client| look_back(client, stream, parent))?;
        let why = match found {
            Ok(standing) => return Ok(standing),
            Err(why) => why,
        };
        match self.attach_stream(stream, tables) {
            Ok(()) => Ok(Standing::Begins(Some(why.to_owned()))),
            Err(error) if error.remedy == Remedy::Retry => Err(error),
            Err(error) => Ok(Standing::Strange(format!("{why}, and {error}"))),
        }
    }

    /// Has a stream tell a cut what it can, and notes the cut: its witness is written by now, and so all that it sees is in
    /// the log.
    pub(super) fn tell(&self, stream: &str, standing: Standing, cut: &mut Cut) -> Result<()> {
        let Some(slot) = self.server.with(|client| slot_of(client, stream))? else {
            return Ok(());
        };
        let (shapes, unfit) = cut.with_keeper(|client, tables| shapes(client, &slot, tables))?;
        let refusing = unfit.keys().filter_map(|name| cut.tables.get(name));
        let refusing: Vec<&str> = refusing.map(|table| table.relation.as_str()).collect();
        if !refusing.is_empty() {
            let doing = "take tables out of a change stream";
            self.change(doing, |client| unpublish(client, &slot, &refusing))?;
        }
        let why = |table: &str, otherwise: &str| {
            let unfit = unfit.get(table).map(String::as_str);
            unfit.unwrap_or(otherwise).to_owned()
        };
        let mut whole_to = None;
        match standing {
            Standing::Without => return Ok(()),
            Standing::Begins(None) => {}
            Standing::Begins(Some(lost)) | Standing::Strange(lost) => {
                for table in cut.tables.keys() {
                    cut.untold.insert(table.clone(), why(table, &lost));
                }
            }
            Standing::Since(noted) => {
                let is_as_it_was = |table: &str| {
                    shapes.contains_key(table) && shapes.get(table) == noted.shapes.get(table)
                };
                let read = self
                    .server
                    .with(|client| read(client, &slot, &noted, cut, &is_as_it_was));
                let Read {
                    found,
                    beyond,
                    beyond_us,
                    unfolded,
                } = match read {
                    Ok(read) => read,
                    Err(error) if error.remedy == Remedy::Retry => return Err(error),
                    Err(error) => {
                        // It would keep the log for nothing: the next increment has it attached anew.
                        let dropped = self.server.with(|client| slot::drop(client, &slot));
                        let why = match dropped {
                            Ok(()) => error.to_string(),
                            Err(other) => format!("{error}, and {other}"),
                        };
                        for table in cut.tables.keys() {
                            cut.untold.insert(table.clone(), why.clone());
                        }
                        return Ok(());
                    }
                };
                whole_to = Some(beyond);
                // A commit gets its time a moment before snapshots see it.
                let all_before_us = beyond_us.map_or(cut.begun_us, |us| us.min(cut.begun_us));
                cut.commits.all_before_us = Some(all_before_us);
                cut.unfolded = Some(unfolded);
                for (table, found) in found {
                    match found {
                        Ok(keys) if is_as_it_was(&table) => cut.tell(&table, keys),
                        Ok(_) => {
                            let otherwise = "it was altered, written anew, truncated or published anew since its \
                                             parent, or its partitions are others";
                            cut.untold.insert(table.clone(), why(&table, otherwise));
                        }
                        Err(lost) => {
                            cut.untold.insert(table.clone(), why(&table, &lost));
                        }
                    }
                }
            }
        }
        self.change("note what a change stream told", |client| {
            note(
                client,
                (stream, &slot),
                cut,
                whole_to.as_deref(),
                &serde_json::json!(shapes).to_string(),
            )
        })
    }

    /// Lets go of what the increments after a cut do not need.
    pub(super) fn advance_stream(&self, stream: &str, up_to: Version) -> Result<()> {
        let doing = "move a replication slot on";
        if self.is_standby {
            // The primary moves it with its next increment.
            return Ok(());
        }
        let (next, drawn) = witness::parts(up_to);
        let next = next.to_string();
        self.server.with(|client| {
            let moved = client.query(
                "SELECT pg_replication_slot_advance(r.slot_name, c.whole_to)
                 FROM mendb.stream s JOIN mendb.stream_cut c ON c.stream = s.stream
                 JOIN pg_replication_slots r ON r.slot_name = s.slot AND r.database = current_database()
                 WHERE s.stream = $1 AND c.version = $2::text::xid8 AND c.drawn = $3
                     AND r.wal_status IS DISTINCT FROM 'lost' AND r.confirmed_flush_lsn < c.whole_to",
                &[&stream, &next, &drawn],
            );
            match moved {
                Ok(_) => Ok(()),
                // It was lost this moment, which the next increment says.
                Err(error) if error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
                    Ok(())
                }
                Err(error) => Err(failed(doing, &error)),
            }
        })?;
        self.change(doing, |client| {
            let forgot = client.execute(
                "DELETE FROM mendb.stream_cut WHERE stream = $1 AND version < $2::text::xid8",
                &[&stream, &next],
            );
            forgot.map_err(|error| failed(doing, &error))?;
            Ok(())
        })
    }
}

/// The streams of a table.
pub(super) fn of_table(client: &mut Client, table: &str) -> Result<Vec<LiveStream>> {
    if !slot::are_noted(client)? {
        return Ok(Vec::new());
    }
    let rows = client.query(
        "SELECT s.stream, coalesce(min(c.version)::text, '0'), coalesce(max(c.version)::text, '0')
         FROM mendb.stream s LEFT JOIN mendb.stream_cut c ON c.stream = s.stream
         WHERE $1 = ANY (s.tables) GROUP BY s.stream ORDER BY s.stream",
        &[&table],
    );
    let one = |row: &postgres::Row| {
        let version = |at: usize| super::transaction::number(row.get(at)).map(Version::from);
        Ok(LiveStream {
            name: row.get(0),
            since_version: version(1)?,
            cut_version: version(2)?,
            outgrew_bytes: None,
        })
    };
    rows.map_err(|error| failed("look for change streams", &error))?
        .iter()
        .map(one)
        .collect()
}

/// The name of the slot of a stream, and of its publication.
fn slot_of(client: &mut Client, stream: &str) -> Result<Option<String>> {
    let row = client.query_opt(
        "SELECT slot FROM mendb.stream WHERE stream = $1",
        &[&stream],
    );
    let row = row.map_err(|error| failed("look for a change stream", &error))?;
    Ok(row.map(|row| row.get(0)))
}

/// Notes a stream, and publishes those of its tables that it can tell of. Returns the name of its slot: the number of
/// the database is in it, for slots are of all databases of a server, and a copy of one has the same rows.
fn publish(client: &mut Client, stream: &str, tables: &[String]) -> Result<String> {
    let doing = "publish tables for a change stream";
    if let Some(old) = slot_of(client, stream)? {
        // Of a copy it has another name.
        let unpublish = format!("DROP PUBLICATION IF EXISTS {}", quoted(&old));
        run(client, doing, &unpublish)?;
    }
    let row = client.query_one(
        "INSERT INTO mendb.stream (stream, slot, tables) VALUES ($1, '', $2)
         ON CONFLICT (stream) DO UPDATE SET tables = excluded.tables
         RETURNING number, (SELECT oid FROM pg_database WHERE datname = current_database()),
             (SELECT coalesce(id, '') FROM mendb.target)",
        &[&stream, &tables],
    );
    let row = row.map_err(|error| failed(doing, &error))?;
    let (number, database, target): (i64, u32, &str) = (row.get(0), row.get(1), row.get(2));
    let letters = target.chars().filter(char::is_ascii_alphanumeric).take(12);
    let target: String = letters.collect::<String>().to_ascii_lowercase();
    let slot = format!("mendb_{target}_{database}_{number}");
    let (mut published, mut unfit) = (Vec::new(), Vec::new());
    for table in tables {
        let relation = TableName::parse(table)?.to_string();
        match why_unfit(client, &relation)? {
            None => published.push(relation),
            Some(why) => unfit.push(format!("{table}: {why}")),
        }
    }
    if published.is_empty() {
        return Err(refused(format!(
            "no table can be in a change stream: {}",
            unfit.join("; ")
        )));
    }
    let noted = client.execute(
        "UPDATE mendb.stream SET slot = $2 WHERE stream = $1",
        &[&stream, &slot],
    );
    noted.map_err(|error| failed(doing, &error))?;
    let forgot = client.execute("DELETE FROM mendb.stream_cut WHERE stream = $1", &[&stream]);
    forgot.map_err(|error| failed(doing, &error))?;
    let publish = format!(
        "DROP PUBLICATION IF EXISTS {name};
         CREATE PUBLICATION {name} FOR TABLE {} WITH (publish = 'insert, update, delete, truncate')",
        catalogue::own_rows_of(client, &published)?.join(", "),
        name = quoted(&slot)
    );
    client
        .batch_execute(&publish)
        .map_err(|error| match is_forbidden(&error) {
            true => refused(format!(
                "this role may not {doing}, for that needs their owner, and CREATE on the database: {}",
                error.as_db_error().map_or("", |error| error.message())
            )),
            false => failed(doing, &error),
        })?;
    Ok(slot)
}

/// Takes what a stream cannot tell of out of its publication, so that its writers go on.
fn unpublish(client: &mut Client, slot: &str, relations: &[&str]) -> Result<()> {
    let doing = "take a table out of a change stream";
    for relation in relations {
        let published = client.query_opt(
            "SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
             WHERE p.pubname = $1::text AND r.prrelid = $2::text::regclass",
            &[&slot, relation],
        );
        let published = published.map_err(|error| failed(doing, &error))?;
        if published.is_some() {
            let own = catalogue::own_rows_of(client, &[(*relation).to_owned()])?.join(", ");
            let drop = format!("ALTER PUBLICATION {} DROP TABLE {own}", quoted(slot));
            run(client, doing, &drop)?;
        }
    }
    Ok(())
}

/// What a stream can tell of a parent, or what it has lost.
fn look_back(
    client: &mut Client,
    stream: &str,
    parent: Version,
) -> Result<std::result::Result<Standing, &'static str>> {
    let (next, drawn) = witness::parts(parent);
    let row = client.query_opt(
        "SELECT r.confirmed_flush_lsn IS NOT NULL, coalesce(r.wal_status = 'lost', false), c.sees, c.shapes::text,
                coalesce(r.confirmed_flush_lsn > c.whole_to, false),
                EXISTS (SELECT FROM pg_publication p WHERE p.pubname = s.slot)
         FROM mendb.stream s
         LEFT JOIN pg_replication_slots r ON r.slot_name = s.slot AND r.database = current_database()
         LEFT JOIN mendb.stream_cut c ON c.stream = s.stream AND c.version = $2::text::xid8 AND c.drawn = $3
         WHERE s.stream = $1",
        &[&stream, &next.to_string(), &drawn],
    );
    let row = row.map_err(|error| failed("look at a replication slot", &error))?;
    let Some(row) = row else {
        return Ok(Ok(Standing::Without));
    };
    Ok(match row.get::<_, Option<&str>>(2) {
        _ if row.get(1) => Err("the server has removed the log that its replication slot needs"),
        _ if !row.get::<_, bool>(0) => Err("its replication slot is gone"),
        _ if !row.get::<_, bool>(5) => Err("its publication is gone"),
        _ if row.get(4) => Err("somebody else has moved its replication slot"),
        None => Ok(Standing::Strange(
            "it does not know the parent: an earlier backup, the state before a mend, or one that it could not tell"
                .to_owned(),
        )),
        Some(sees) => Ok(Standing::Since(Noted {
            sees: Sees::parse(sees)?,
            shapes: serde_json::from_str(row.get(3))
                .map_err(|error| damaged(format!("mendb.stream_cut: {error}")))?,
        })),
    })
}

/// Why a stream cannot tell of a table; `None` where it can. What is published and has no such identity would refuse
/// updates to its writers.
fn why_unfit(client: &mut Client, relation: &str) -> Result<Option<String>> {
    let row = client.query_one(
        "SELECT EXISTS (
                    SELECT FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
                    WHERE k.conrelid = $1::text::regclass AND k.contype = 'p' AND a.attgenerated <> ''),
                (SELECT min(c.relname::text) FROM pg_class c
                 WHERE (c.oid = $1::text::regclass
                        OR c.oid IN (SELECT p.relid FROM pg_partition_tree($1::text::regclass) p))
                   AND c.relreplident <> 'f' AND NOT EXISTS (
                       SELECT FROM pg_index i
                       WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate
                         AND (c.relreplident = 'd' OR (c.relreplident = 'i' AND i.indisreplident))))",
        &[&relation],
    );
    let row = row.map_err(|error| failed("look at the replica identity of a table", &error))?;
    if row.get(0) {
        return Ok(Some("a column of its primary key is generated".to_owned()));
    }
    let other: Option<String> = row.get(1);
    Ok(other.map(|other| {
        format!(
            "the replica identity of {other} is neither a primary key that is not deferrable nor the whole row: ALTER TABLE … \
             REPLICA IDENTITY FULL"
        )
    }))
}

/// What must stay as it is for a stream to tell all of a table, of those that it can tell of, and why not of the others.
fn shapes(
    client: &mut Client,
    slot: &str,
    tables: &BTreeMap<String, std::sync::Arc<Table>>,
) -> Result<(BTreeMap<String, String>, BTreeMap<String, String>)> {
    let query = format!(
        "SELECT md5(concat_ws(E'\\n',
             (SELECT format('%s %s', p.xmin, r.oid) FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
              WHERE p.pubname = $2::text AND r.prrelid = $1::text::regclass),
             (SELECT string_agg(format('%s %s %s %s', c.oid, pg_relation_filenode(c.oid), c.relreplident, {}), ' '
                                ORDER BY c.oid) FROM pg_class c WHERE {}),
             (SELECT string_agg(format('%s %s', i.inhrelid, i.xmin), ' ' ORDER BY i.inhrelid) FROM pg_inherits i
              WHERE i.inhrelid IN (SELECT p.relid FROM pg_partition_tree($1::text::regclass) p)))),
             EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
                     WHERE p.pubname = $2::text AND r.prrelid = $1::text::regclass)",
        witness::SHAPE,
        has_rows_of("$1")
    );
    let (mut fit, mut unfit) = (BTreeMap::new(), BTreeMap::new());
    for (name, table) in tables {
        if let Some(why) = why_unfit(client, &table.relation)? {
            unfit.insert(name.clone(), why);
            continue;
        }
        let row = client.query_one(&query, &[&table.relation, &slot]);
        let row = row.map_err(|error| failed(format!("look at table {name}"), &error))?;
        match row.get(1) {
            true => fit.insert(name.clone(), row.get(0)),
            false => unfit.insert(
                name.clone(),
                "it is not published: the next full backup does it again".to_owned(),
            ),
        };
    }
    Ok((fit, unfit))
}

/// What a slot told since a cut.
struct Read {
    /// Of each table, what was touched.
    found: Vec<(String, Found)>,
    /// The place in the log before which the cut sees all.
    beyond: String,
    /// The first time of a commit in it that the cut does not see.
    beyond_us: Option<i64>,
    /// The changes one by one.
    unfolded: Unfolded,
}

/// Reads what was written since a cut. Changes one by one are kept of the tables that `is_as_it_was` of.
fn read(
    client: &mut Client,
    slot: &str,
    noted: &Noted,
    cut: &Cut,
    is_as_it_was: &dyn Fn(&str) -> bool,
) -> Result<Read> {
    let doing = format!("read the replication slot {slot}");
    let row = client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]);
    let up_to: String = row.map_err(|error| failed(&doing, &error))?.get(0);
    let now = Sees::parse(&cut.sees)?;
    let watched = cut.tables.iter().map(|(name, table)| Watched {
        table,
        relations: cut.relations_of(name),
    });
    let watched: Vec<Watched<'_>> = watched.collect();
    let mut unfolder = Unfolder::new(watched.iter().copied());
    let mut touched = Touched::new(watched, &noted.sees, &now);
    let query = format!(
        "SELECT data FROM pg_logical_slot_peek_binary_changes({slot}, {up_to}, NULL, 'proto_version', '1',
             'publication_names', {slot}, 'binary', 'true')",
        slot = text(slot),
        up_to = text(&up_to)
    );
    let mut messages = Tuples::of(client, &query, doing.clone())?;
    while messages.next(1)? {
        let message = Message::parse(messages.field(0).unwrap_or_default());
        let message =
            message.map_err(|why| damaged(format!("cannot {doing}: the server sent {why}")))?;
        touched.take(&message);
        unfolder.take(&message, touched.within())?;
    }
    let unfolded = unfolder.finish(is_as_it_was)?;
    let beyond_us = touched.beyond_us();
    let (found, beyond) = touched.finish();
    let place = |at: u64| format!("{:X}/{:X}", at >> 32, at & u64::from(u32::MAX));
    let names = cut.tables.keys().cloned();
    Ok(Read {
        found: names.zip(found).collect(),
        beyond: beyond.map_or(up_to, place),
        beyond_us,
        unfolded,
    })
}

/// Notes a cut. Without a place before which it sees all, that is where the slot is: it does not move then.
fn note(
    client: &mut Client,
    (stream, slot): (&str, &str),
    cut: &Cut,
    whole_to: Option<&str>,
    shapes: &str,
) -> Result<()> {
    let (next, drawn) = witness::parts(cut.moment.version());
    let noted = client.execute(
        "INSERT INTO mendb.stream_cut (stream, version, drawn, sees, whole_to, shapes)
         SELECT $1, $2::text::xid8, $3, $4, coalesce($5::text::pg_lsn, r.confirmed_flush_lsn), $6::text::jsonb
         FROM pg_replication_slots r
         WHERE r.slot_name = $7::text AND r.database = current_database() AND r.confirmed_flush_lsn IS NOT NULL",
        &[
            &stream,
            &next.to_string(),
            &drawn,
            &cut.sees,
            &whole_to,
            &shapes,
            &slot,
        ],
    );
    noted.map_err(|error| failed("note what a change stream told", &error))?;
    Ok(())
}
