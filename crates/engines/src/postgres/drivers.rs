//! The sessions of the process that works on a database. The next one that does ends them, so that nothing of a process
//! that was stopped, or lost its way here, happens after it.
//!
//! Each session holds a shared lock first, and then looks whether its process is still the one that works on the database.
//! Who takes over says so first, and then ends all that hold that lock. So each session of before is either ended or finds
//! out by itself, whatever it would do next: also what is no part of a transaction, as to drop a replication slot.

use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage};

use super::error::failed;
use crate::error::{EngineError, Remedy, Result};

/// The class of these locks: `mdbs` in ASCII. The number in it is the epoch of the process.
const CLASS: i32 = 0x6d64_6273;
/// The lock of the process that works on the database: `mendb` in ASCII.
pub(super) const CLAIM: i64 = 0x006d_656e_6462;
/// A session that is being ended is waited for so often, …
const LOOKS: u32 = 200;
/// … and so long each time.
const LOOK_S: &str = "0.05";

/// Makes a session one of a process, and makes sure that this still works on the database.
pub(super) fn mark(client: &mut Client, epoch: i64) -> Result<()> {
    let number = epoch & i64::from(i32::MAX);
    let marked = client.simple_query(&format!(
        "SELECT pg_advisory_lock_shared({CLASS}, {number}); SELECT epoch FROM mendb.target"
    ));
    let marked = marked.map_err(|error| failed("begin a session", &error))?;
    let rows = marked.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    match rows.last() {
        Some(current) if current == epoch.to_string() => Ok(()),
        _ => Err(taken_over()),
    }
}

/// What a process is told that works on the database no more.
pub(super) fn taken_over() -> EngineError {
    EngineError::new(
        Remedy::Repair,
        "another mendb has taken over the database since this one began: mendb operation list shows what is unfinished",
    )
}

/// Ends the marked sessions of other processes, and waits until they are gone.
pub(super) fn end_others(client: &mut Client) -> Result<()> {
    let marked = format!("classid::int8 = {CLASS} AND objsubid = 2");
    end(client, &marked)
}

/// Ends the session that has the lock of the process that works on the database.
pub(super) fn end_claim(client: &mut Client) -> Result<()> {
    let (high, low) = (CLAIM >> 32, CLAIM & 0xffff_ffff);
    let claiming =
        format!("classid::int8 = {high} AND objid::int8 = {low} AND objsubid = 1 AND granted");
    end(client, &claiming)
}

fn end(client: &mut Client, which: &str) -> Result<()> {
    let doing = "end the sessions of the process that worked on the database before";
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_locks
         WHERE locktype = 'advisory' AND {which} AND pid <> pg_backend_pid()
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    for _ in 0..LOOKS {
        let ended = client.query(&end, &[]);
        let ended = ended.map_err(|error| match error.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => EngineError::new(
                Remedy::Repair,
                format!(
                    "cannot {doing}: they are of another role; connect as that one, or let this one: GRANT \
                     pg_signal_backend TO the role"
                ),
            ),
            _ => failed(doing, &error),
        })?;
        if ended.is_empty() {
            return Ok(());
        }
        let pause = client.batch_execute(&format!("SELECT pg_sleep({LOOK_S})"));
        pause.map_err(|error| failed(doing, &error))?;
    }
    Err(EngineError::new(
        Remedy::Retry,
        format!("cannot {doing}: they do not end"),
    ))
}
