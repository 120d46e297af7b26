//! Witnesses: where backups ended, noted in the database itself, so that a later increment can tell from the versions
//! of rows which were written since.
//!
//! Rows have the low half of the number of the transaction that wrote them (`xmin`). Every transaction that a snapshot
//! does not see is at least as new as the oldest that ran when it was taken, and so are the parts of transactions
//! (savepoints): they get their numbers after it. So the rows that may have been written since are those that are not
//! older than that. `VACUUM FREEZE` leaves the number in its place. Numbers go round after 2^32 transactions: then old
//! rows look new, never the other way round, as long as fewer than 2^31 were begun since the cut.
//!
//! That holds while the history of the database is one: not when it was set back to before the cut, loaded from a
//! dump, or lost commits in a crash, for then numbers come again. So a witness is written and flushed to disk after the
//! snapshot was taken. It is there in each state of the database that goes on from the cut, and in no other. A dump
//! that is loaded has witnesses, too, written by another transaction than they say.
//!
//! A table has a number and a file, and each of its partitions has: what is in another file than at the cut was made
//! anew, attached, truncated or written anew. Its rows tell only if all of them were written since; else all are compared.
//! So it is where its columns, or the labels of types, are others ([`SHAPE`]).
//!
//! A database that was set back to before a cut comes to the number of that again, and another backup may be cut at it
//! then. So each cut draws a number that no other has, which is in its witness and in the version that its backup has.

use mendb_model::Version;
use mendb_model::manifest::ChangeMethod;
use postgres::Client;

use super::error::{damaged, failed};
use super::transaction::{is_written_since, number};
use crate::error::Result;

/// So many of the last cuts are known; increments on others compare all rows.
const MOST: i64 = 1_000;
/// Numbers of transactions that are told apart, with some to spare.
const REACH: u64 = (1 << 31) - (1 << 24);

/// The tables that witnesses are in.
pub(super) const LAYOUT: &str = "
CREATE TABLE mendb.cut (
    version xid8 NOT NULL,
    drawn bigint NOT NULL,
    oldest xid8 NOT NULL,
    noted xid8 NOT NULL,
    PRIMARY KEY (version, drawn)
);
CREATE TABLE mendb.cut_table (
    version xid8 NOT NULL,
    drawn bigint NOT NULL,
    table_name text NOT NULL,
    number oid NOT NULL,
    file oid NOT NULL,
    shape text NOT NULL,
    PRIMARY KEY (version, drawn, table_name, number)
);
";

/// What tables of witnesses lack that were made when cuts drew no numbers. No row is written, so that the witnesses
/// that are there stay what they are.
pub(super) const RAISE: &str = "
ALTER TABLE mendb.cut ADD drawn bigint NOT NULL DEFAULT 0, DROP CONSTRAINT cut_pkey, ADD PRIMARY KEY (version, drawn);
ALTER TABLE mendb.cut ALTER drawn DROP DEFAULT;
ALTER TABLE mendb.cut_table ADD drawn bigint NOT NULL DEFAULT 0, DROP CONSTRAINT cut_table_pkey,
    ADD PRIMARY KEY (version, drawn, table_name, number);
ALTER TABLE mendb.cut_table ALTER drawn DROP DEFAULT;
";

/// A cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Transactions from this one on are not in it.
    pub(super) next: u64,
    /// The number that it drew: one that no other cut has.
    pub(super) drawn: i64,
    /// The oldest transaction that ran then.
    pub(super) oldest: u64,
}

impl Moment {
    /// What backups know it by.
    pub(super) fn version(self) -> Version {
        version(self.next, self.drawn)
    }
}

/// The version of a cut. One that was taken when cuts drew no numbers is one number.
pub(super) fn version(next: u64, drawn: i64) -> Version {
    match drawn {
        0 => Version::from(next),
        drawn => Version::of_two(next, drawn.unsigned_abs()),
    }
}

/// The transaction and the number drawn of a version.
pub(super) fn parts(version: Version) -> (u64, i64) {
    match version.as_number() {
        Some(next) => (next, 0),
        None => {
            let (next, drawn) = version.as_two();
            // What does not fit was never drawn.
            (next, i64::try_from(drawn).unwrap_or(-1))
        }
    }
}

/// Draws the number of a cut: above zero, of 62 random bits.
pub(super) fn draw(client: &mut Client) -> Result<i64> {
    let row = client.query_one("SELECT gen_random_uuid()::text", &[]);
    let row = row.map_err(|error| failed("draw a number", &error))?;
    let uuid: &str = row.get(0);
    let hex: String = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    // The middle of it tells the kind of uuid that it is.
    let digits = [
        &hex[..12.min(hex.len())],
        &hex[hex.len().saturating_sub(12)..],
    ]
    .concat();
    let drawn = u128::from_str_radix(&digits, 16)
        .map_err(|_| damaged(format!("the server drew {uuid:?}, which is no uuid")))?;
    Ok((drawn >> 34) as i64 | 1)
}

/// Notes a cut of tables, in the transaction that is open: one that began after it.
pub(super) fn note(client: &mut Client, at: Moment, relations: &[(String, String)]) -> Result<()> {
    let doing = "note where a backup ends";
    let failed = |error: postgres::Error| failed(doing, &error);
    let (version, oldest) = (at.next.to_string(), at.oldest.to_string());
    client
        .execute(
            "INSERT INTO mendb.cut (version, drawn, oldest, noted)
             VALUES ($1::text::xid8, $2, $3::text::xid8, pg_current_xact_id())
             ON CONFLICT (version, drawn) DO UPDATE SET noted = excluded.noted",
            &[&version, &at.drawn, &oldest],
        )
        .map_err(failed)?;
    for (table, relation) in relations {
        client
            .execute(
                &format!(
                    "INSERT INTO mendb.cut_table (version, drawn, table_name, number, file, shape)
                     SELECT $1::text::xid8, $2, $3, c.oid, pg_relation_filenode(c.oid), {SHAPE} FROM pg_class c WHERE {}
                     ON CONFLICT (version, drawn, table_name, number)
                         DO UPDATE SET file = excluded.file, shape = excluded.shape",
                    has_rows_of("$4")
                ),
                &[&version, &at.drawn, table, relation],
            )
            .map_err(failed)?;
    }
    client
        .execute(
            "DELETE FROM mendb.cut WHERE version <=
                 (SELECT version FROM mendb.cut ORDER BY version DESC OFFSET $1 LIMIT 1)",
            &[&MOST],
        )
        .map_err(failed)?;
    client
        .execute(
            "DELETE FROM mendb.cut_table t
             WHERE NOT EXISTS (SELECT FROM mendb.cut c WHERE c.version = t.version AND c.drawn = t.drawn)",
            &[],
        )
        .map_err(failed)?;
    Ok(())
}

/// What is known of an earlier cut.
pub(super) enum Since {
    /// Rows that are not older than this transaction may have been written since, of tables that are what they were.
    Oldest(u64),
    /// Why nothing can be told.
    Unknown(&'static str),
}

/// What an earlier cut tells in the snapshot that is open, which sees no transaction from `now` on.
pub(super) fn since(client: &mut Client, earlier: Version, now: u64) -> Result<Since> {
    let (next, drawn) = parts(earlier);
    let row = client.query_opt(
        "SELECT oldest::text, (noted::text::numeric % 4294967296)::text = xmin::text FROM mendb.cut
         WHERE version = $1::text::xid8 AND drawn = $2",
        &[&next.to_string(), &drawn],
    );
    let row = row.map_err(|error| failed("look for the end of the last backup", &error))?;
    let Some(row) = row else {
        return Ok(Since::Unknown(
            "this database does not know of its parent: that was taken of a standby, or the database was set back to \
             before it, is a copy, or took many backups since",
        ));
    };
    if !row.get::<_, bool>(1) {
        return Ok(Since::Unknown(
            "this database was loaded from a dump since its parent",
        ));
    }
    let oldest = number(row.get(0))?;
    Ok(match now.checked_sub(oldest) {
        Some(begun) if begun < REACH => Since::Oldest(oldest),
        _ => Since::Unknown("two thousand million transactions were begun since its parent"),
    })
}

/// How the changes of a table since a cut are found.
pub(super) fn method(
    client: &mut Client,
    since: &Since,
    earlier: Version,
    table: &str,
    relation: &str,
) -> Result<ChangeMethod> {
    let all_rows = |reason: &str| {
        let reason = reason.to_owned();
        Ok(ChangeMethod::AllRows { reason })
    };
    let oldest = match since {
        Since::Oldest(oldest) => *oldest,
        Since::Unknown(why) => return all_rows(why),
    };
    let doing = format!("look at table {table}");
    let (next, drawn) = parts(earlier);
    let others = client.query(
        &format!(
            "SELECT format('%I.%I', n.nspname, c.relname),
                    EXISTS (SELECT FROM mendb.cut_table t
                            WHERE t.version = $1::text::xid8 AND t.drawn = $2 AND t.table_name = $3 AND t.number = c.oid)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE {} AND NOT EXISTS (
                 SELECT FROM mendb.cut_table t WHERE t.version = $1::text::xid8 AND t.drawn = $2 AND t.table_name = $3
                     AND t.number = c.oid AND t.file = pg_relation_filenode(c.oid) AND t.shape = {SHAPE})",
            has_rows_of("$4")
        ),
        &[&next.to_string(), &drawn, &table, &relation],
    );
    for other in others.map_err(|error| failed(&doing, &error))? {
        let (name, was_there): (String, bool) = (other.get(0), other.get(1));
        let old = client.query_one(
            &format!(
                "SELECT EXISTS (SELECT FROM ONLY {name} t WHERE NOT {})",
                is_written_since("t.", oldest)
            ),
            &[],
        );
        if old.map_err(|error| failed(&doing, &error))?.get(0) {
            return all_rows(match was_there {
                true => {
                    "it was written anew since its parent, as by VACUUM FULL or CLUSTER, or what its columns or their \
                     types are has changed"
                }
                false => "it was made anew since its parent, or got a partition that has old rows",
            });
        }
    }
    Ok(ChangeMethod::RowVersions)
}

/// What the columns of a relation `c` are, and what the values of types that are not of the system are called and made
/// of: no row is written when a column is dropped and another gets its name, when a label of an enum is renamed, or when
/// an attribute of a composite type is dropped and another gets its name.
pub(super) const SHAPE: &str = "
    (SELECT coalesce(string_agg(format('%s %s %s %s', a.attnum, a.attname, a.atttypid, a.atttypmod), ',' ORDER BY a.attnum), '')
     FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
    || CASE WHEN EXISTS (
         SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             AND t.typnamespace <> 'pg_catalog'::regnamespace)
       THEN coalesce((SELECT ';' || md5(string_agg(format('%s %s %s', e.enumtypid, e.oid, e.enumlabel), ',' ORDER BY e.oid))
                      FROM pg_enum e), '')
         || coalesce((SELECT ';' || md5(string_agg(format('%s %s %s %s', a.attrelid, a.attnum, a.attname, a.atttypid), ','
                                                   ORDER BY a.attrelid, a.attnum))
                      FROM pg_class k JOIN pg_attribute a ON a.attrelid = k.oid AND a.attnum > 0 AND NOT a.attisdropped
                      WHERE k.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
                        AND (k.relkind = 'c' OR EXISTS (
                            SELECT FROM pg_type own JOIN pg_attribute u ON u.atttypid IN (own.oid, own.typarray)
                            WHERE own.oid = k.reltype))), '')
         || coalesce((SELECT ';' || string_agg(x.extname || ' ' || x.extversion, ',' ORDER BY x.extname)
                      FROM pg_extension x), '')
       ELSE '' END";

/// The relations that have rows of a table now: itself, or its partitions.
pub(super) fn relations_of(client: &mut Client, relation: &str) -> Result<Vec<u32>> {
    let found = client.query(
        "SELECT c.oid FROM pg_class c
         WHERE c.relkind = 'r' AND (c.oid = to_regclass($1) OR c.oid IN (
             SELECT p.relid FROM pg_partition_tree(to_regclass($1)) p WHERE p.isleaf)) ORDER BY c.oid",
        &[&relation],
    );
    let found = found.map_err(|error| failed("look for the partitions of a table", &error))?;
    Ok(found.iter().map(|row| row.get(0)).collect())
}

/// The condition that a relation `c` has rows of a table: it is the table, or one of its partitions.
pub(super) fn has_rows_of(relation: &str) -> String {
    let root = format!("{relation}::text::regclass");
    format!(
        "c.relkind = 'r' AND (c.oid = {root} OR c.oid IN (SELECT p.relid FROM pg_partition_tree({root}) p WHERE p.isleaf))"
    )
}
