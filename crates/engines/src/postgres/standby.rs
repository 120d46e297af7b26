//! Hot standbys: servers that follow another one, and take no writes.
//!
//! | | |
//! |---|---|
//! | full backup | a snapshot of what the standby has replayed |
//! | increment on a backup of the primary | by row versions, where the standby has replayed the witness of that |
//! | increment on a backup of a standby | all rows are compared, for nothing can be noted on a standby |
//! | change streams, mends, restores | on the primary alone |
//!
//! The primary has to be known to mendb: the schema that it has there comes with the rest of the database, and says which
//! journal works on it. *Consistency*: an increment is never of an earlier moment than its parent. A standby shows a commit
//! when it has replayed it, and so all that a parent had once the witness is there that was written after it; where there is
//! none, once no transaction runs any more that is older than the end of the parent.

use mendb_model::Version;
use postgres::Client;

use super::drivers::CLAIM;
use super::error::{failed, refused};
use super::state::{self, JournalPlace};
use super::witness::{self, Moment, Since};
use crate::contract::rows::FreezeRequest;
use crate::error::{EngineError, Remedy, Result};

/// Why nothing is written there.
pub(super) const READ_ONLY: &str =
    "the server is a standby, which takes no writes: name its primary with --target";

/// Whether a server is one.
pub(super) fn is_one(client: &mut Client) -> Result<bool> {
    let row = client.query_one("SELECT pg_is_in_recovery()", &[]);
    Ok(row
        .map_err(|error| failed("ask whether the server is a standby", &error))?
        .get(0))
}

/// Takes the database for a session, as far as that goes without writing; `None` while another has it on this server.
pub(super) fn claim(client: &mut Client) -> Result<Option<i64>> {
    let doing = "take the database for this process";
    if !state::exists(client)? {
        return Err(refused(
            "the server is a standby, and mendb does not know its primary yet: run mendb target check and then a backup \
             there first, or mendb collection create",
        ));
    }
    state::check_same_format(client)?;
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&CLAIM]);
    let is_ours: bool = row.map_err(|error| failed(doing, &error))?.get(0);
    if !is_ours {
        return Ok(None);
    }
    let row = client.query_one("SELECT epoch FROM mendb.target", &[]);
    Ok(Some(row.map_err(|error| failed(doing, &error))?.get(0)))
}

/// Whose journal works on the database.
pub(super) fn journal(client: &mut Client) -> Result<JournalPlace> {
    let row = client.query_opt(
        "SELECT journal, place FROM mendb.target WHERE journal IS NOT NULL",
        &[],
    );
    let row = row.map_err(|error| failed("ask whose journal works on the database", &error))?;
    let row = row.ok_or_else(|| {
        refused("the server is a standby, and no journal works on its primary yet: run a command there first")
    })?;
    Ok(JournalPlace {
        journal: row.get(0),
        place: row.get(1),
    })
}

/// Refuses a backup that would have to change something on the primary. Tells whether the chain has a stream there.
pub(super) fn check_backup(client: &mut Client, request: &FreezeRequest<'_>) -> Result<bool> {
    if request.keeps_changes && request.since_version.is_none() {
        return Err(refused(format!(
            "a change stream is kept on the primary: {READ_ONLY}, or leave --changes stream out"
        )));
    }
    let kept = client.query_one(
        "SELECT EXISTS (SELECT FROM mendb.stream WHERE stream = $2), EXISTS (SELECT FROM mendb.stream WHERE tables && $1)",
        &[&request.tables, &request.stream],
    );
    let kept = kept.map_err(|error| failed("look for change streams", &error))?;
    if request.since_version.is_none() && kept.get::<_, bool>(1) {
        return Err(refused(
            "a full backup ends the change stream of the collection, which its primary keeps: take it there, or take an \
             increment (--incremental)",
        ));
    }
    Ok(kept.get(0))
}

/// Makes sure that a snapshot has all that an earlier backup had.
pub(super) fn check_reached(since: Option<&Since>, earlier: Version, now: Moment) -> Result<()> {
    let (next, _) = witness::parts(earlier);
    match since {
        Some(Since::Oldest(_)) => Ok(()),
        _ if now.oldest >= next => Ok(()),
        _ => Err(EngineError::new(
            Remedy::Retry,
            "the standby has not replayed yet all that the last backup has, or transactions of before it still run",
        )),
    }
}
