//! The replication slots of change streams, as the server has them.

use postgres::Client;
use postgres::error::SqlState;
use serde::Serialize;

use super::error::{failed, refused};
use super::session::run;
use crate::contract::changes::HeldBack;
use crate::error::Result;

/// A slot is made when all transactions have ended that ran when that was begun: they are waited for so long.
const SLOT_WAIT_MS: u64 = 30_000;

/// Bytes of the log that the server keeps for a slot `r`; of a standby, of what it has of it.
const KEPT_BYTES: &str = "pg_wal_lsn_diff(
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, r.restart_lsn)::int8";

/// Change streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamCheck {
    /// Why none can be kept, and what allows it; `None` where they can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The most bytes of its log that the server keeps for a slot; `None` where nothing bounds it.
    pub most_bytes: Option<u64>,
    /// The slots of mendb.
    pub slots: Vec<SlotCheck>,
}

/// A replication slot of mendb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotCheck {
    /// Its name.
    pub slot: String,
    /// Of which stream: `collection/full backup@repository`.
    pub stream: String,
    /// What the server says of it (`wal_status`): `reserved`, `extended`, `unreserved`, `lost`; `None` where it is gone.
    pub status: Option<String>,
    /// Bytes of the log of the server that are kept for it.
    pub kept_bytes: Option<u64>,
    /// Bytes that can be written to the log before the server gives the slot up, where that is bounded.
    pub safe_bytes: Option<u64>,
}

/// Why no stream can be kept in a database by a role, and what allows it; `None` where it can.
pub(super) fn why_none(client: &mut Client) -> Result<Option<String>> {
    let row = client.query_one(
        "SELECT current_setting('wal_level'), rolsuper OR rolreplication,
                has_database_privilege(current_database(), 'CREATE'), quote_ident(current_user),
                quote_ident(current_database())
         FROM pg_roles WHERE rolname = current_user",
        &[],
    );
    let row = row.map_err(|error| failed("look at what the role may do", &error))?;
    let level: &str = row.get(0);
    let (role, database): (&str, &str) = (row.get(3), row.get(4));
    Ok(match () {
        () if level != "logical" => Some(format!(
            "wal_level is {level}: ALTER SYSTEM SET wal_level = logical, and restart the server"
        )),
        () if !row.get::<_, bool>(1) => Some(format!(
            "the role may make no replication slots: ALTER ROLE {role} REPLICATION"
        )),
        () if !row.get::<_, bool>(2) => Some(format!(
            "the role may make no publications: GRANT CREATE ON DATABASE {database} TO {role}"
        )),
        () => None,
    })
}

/// Whether there are tables of streams: a schema of a format before has none, and is only looked at.
pub(super) fn are_noted(client: &mut Client) -> Result<bool> {
    let row = client.query_one("SELECT to_regclass('mendb.stream') IS NOT NULL", &[]);
    Ok(row
        .map_err(|error| failed("look for change streams", &error))?
        .get(0))
}

/// What is kept for streams, told of the first of their tables: a slot keeps the log of all.
pub(super) fn held_back(client: &mut Client, table: &str) -> Result<Vec<HeldBack>> {
    if !are_noted(client)? {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT s.stream, {KEPT_BYTES} FROM mendb.stream s
         JOIN pg_replication_slots r ON r.slot_name = s.slot AND r.database = current_database()
         WHERE s.tables[1] = $1 AND r.restart_lsn IS NOT NULL ORDER BY s.stream"
    );
    let rows = client.query(&query, &[&table]);
    let one = |row: &postgres::Row| HeldBack {
        stream: row.get(0),
        changes: None,
        bytes: bytes(row.get(1)),
    };
    let rows = rows.map_err(|error| failed("look at replication slots", &error))?;
    Ok(rows.iter().map(one).collect())
}

/// Whether streams can be kept, and how the slots of those that are there do.
pub(super) fn check(client: &mut Client) -> Result<StreamCheck> {
    let doing = "look at replication slots";
    let row = client.query_one(
        "SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'",
        &[],
    );
    let megabytes: i64 = row.map_err(|error| failed(doing, &error))?.get(0);
    let mut slots = Vec::new();
    if are_noted(client)? {
        let query = format!(
            "SELECT s.slot, s.stream, r.wal_status, {KEPT_BYTES}, r.safe_wal_size FROM mendb.stream s
             LEFT JOIN pg_replication_slots r ON r.slot_name = s.slot AND r.database = current_database()
             ORDER BY s.stream"
        );
        let rows = client.query(&query, &[]);
        let one = |row: &postgres::Row| SlotCheck {
            slot: row.get(0),
            stream: row.get(1),
            status: row.get(2),
            kept_bytes: row.get::<_, Option<i64>>(3).map(bytes),
            safe_bytes: row.get::<_, Option<i64>>(4).map(bytes),
        };
        slots = rows
            .map_err(|error| failed(doing, &error))?
            .iter()
            .map(one)
            .collect();
    }
    Ok(StreamCheck {
        refused: why_none(client)?,
        most_bytes: u64::try_from(megabytes)
            .ok()
            .map(|megabytes| megabytes << 20),
        slots,
    })
}

/// A number of bytes of the server, which is below zero where none are left.
fn bytes(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Makes a slot. Nothing is written in the transaction that does.
pub(super) fn make(client: &mut Client, slot: &str) -> Result<()> {
    let doing = "make a replication slot";
    let begin = format!("BEGIN; SET LOCAL statement_timeout = {SLOT_WAIT_MS}");
    run(client, doing, &begin)?;
    let made = client.execute(
        "SELECT pg_create_logical_replication_slot($1::text::name, 'pgoutput')",
        &[&slot],
    );
    let Err(error) = made else {
        return run(client, doing, "COMMIT");
    };
    if error.code() != Some(&SqlState::QUERY_CANCELED) {
        return Err(failed(doing, &error));
    }
    run(client, doing, "ROLLBACK")?;
    let running = client.query_opt(
        "SELECT * FROM (
             SELECT format('process %s, since %s', pid, xact_start), xact_start FROM pg_stat_activity
             WHERE backend_xid IS NOT NULL
             UNION ALL SELECT format('prepared transaction %s, since %s', gid, prepared), prepared FROM pg_prepared_xacts
         ) running ORDER BY 2 LIMIT 1",
        &[],
    );
    let running = running.map_err(|error| failed(doing, &error))?;
    Err(refused(format!(
        "cannot {doing}: a transaction that ran before has not ended in {} seconds ({})",
        SLOT_WAIT_MS / 1_000,
        running.map_or_else(
            || "it has by now, or this role may not see it".to_owned(),
            |row| row.get(0)
        )
    )))
}

/// Drops a slot of this database. One that is gone is no error.
pub(super) fn drop(client: &mut Client, slot: &str) -> Result<()> {
    let dropped = client.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
         WHERE slot_name = $1::text AND database = current_database()",
        &[&slot],
    );
    dropped.map_err(|error| failed(format!("drop the replication slot {slot}"), &error))?;
    Ok(())
}
