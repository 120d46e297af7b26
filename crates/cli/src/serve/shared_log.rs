//! Finding the journal that servers share: it is made once, where neither this machine nor the database knows one.

use mendb_engines::postgres::{Address, Postgres};
use mendb_repo::log::{Log, LogId, LogPlace, LogThere};
use tokio::runtime::Runtime;

use super::known_journal::KnownJournal;
use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::settings::secret::hide_in_url;
use crate::target::postgres::other_journal;
use crate::target::{Target, quoted};

/// A leader that says nothing for so long is taken for gone.
pub const SILENCE_MS: u64 = 10_000;
/// A request for a little object that takes longer is made again.
const REQUEST_TIMEOUT_MS: u64 = 5_000;

/// The journal that servers share, as this machine knows it.
#[derive(Clone)]
pub struct SharedLog {
    pub log: Log,
    /// The file in which its id is noted, as a command names it.
    known: String,
}

/// The journal at a URL. One that this machine knows is not looked at yet.
///
/// # Errors
/// This machine does not know it, and it cannot be used: the target is one that no second server could go on with, the URL
/// names no place for a journal, its store has no conditional writes or refuses, or the database has another journal.
pub fn open(context: &Context, url: &str, runtime: &Runtime) -> Result<SharedLog, Failure> {
    let address = address(&context.target()?)?;
    let place = place(context, url)?;
    place.check_apart_from(&context.settings.repository, &context.repository_options())?;
    let known = KnownJournal::of(context, place.url(), &address.file_name());
    let found = |id: LogId| SharedLog {
        log: place.log(id),
        known: quoted(&known.file()),
    };
    if let Some(id) = known.read()? {
        return Ok(found(id));
    }
    let there = runtime.block_on(place.look())?;
    runtime.block_on(place.check_conditions())?;
    let id = match there {
        LogThere::Log(id) => id,
        there => {
            check_database(&address, &place, &there)?;
            runtime.block_on(place.create())?
        }
    };
    known.note(&id)?;
    Ok(found(id))
}

/// Refuses to make a journal where the database has one already.
fn check_database(address: &Address, place: &LogPlace, there: &LogThere) -> Result<(), Failure> {
    let Some(theirs) = Postgres::journal_of(address)? else {
        return Ok(());
    };
    if theirs.place != place.url() {
        return Err(other_journal(&theirs, address, place.url(), place.url()));
    }
    match there {
        LogThere::Unnamed | LogThere::Log(_) => Ok(()),
        LogThere::Nothing => Err(Failure::new(
            FailureKind::FixEnvironment,
            format!(
                "the journal of {} is gone from {}: nothing is there",
                address.shown(),
                place.url()
            ),
        )
        .hint(format!("bring back what was there. {FORGET}"))),
    }
}

/// The way on where a journal is gone for good.
const FORGET: &str = "If it is gone for good, what it alone knew is lost, and a new one begins after: UPDATE mendb.target \
                      SET journal = NULL";

impl SharedLog {
    /// An error of the journal, with what to do about it on this machine.
    pub fn failure(&self, error: mendb_repo::Error) -> Failure {
        let known = &self.known;
        let hint = match &error {
            mendb_repo::Error::LogGone { .. } => format!(
                "bring back what was there: servers go on with it. {FORGET}; rm {known}"
            ),
            mendb_repo::Error::OtherLog { .. } => format!(
                "bring back the one that was there; if this one is meant, have this machine forget the other: rm {known}"
            ),
            mendb_repo::Error::LogCut { .. } => {
                "bring back the entries that were removed, from older versions of the objects or a copy; if they are lost \
                 for good, so is what they say, and servers go on without them when leader.json is removed"
                    .to_owned()
            }
            _ => return error.into(),
        };
        Failure::from(error).hint(hint)
    }
}

/// Only a target that others reach as well can be gone on with by them.
fn address(target: &Target) -> Result<Address, Failure> {
    let what = match target {
        Target::Postgres(address) => return Ok(address.clone()),
        Target::Rows(_) => {
            "a row store lies on the disks of this machine, and a server that was stopped keeps it locked"
        }
        Target::ClickHouse(_) => {
            "parts lie on the disks of a ClickHouse server, and mendb works beside it on its machine"
        }
        Target::Cluster(_) => {
            "the coordinator of a cluster has its journal on one machine, by which its agents know it"
        }
    };
    Err(Failure::misuse(format!(
        "servers can share the journal of a PostgreSQL database alone: {what}, so that no second server could take over"
    ))
    .hint("leave --journal, MENDB_JOURNAL and journal: in mendb.yml out: the journal is beside the target then"))
}

/// The place at a URL. Nothing is read.
fn place(context: &Context, url: &str) -> Result<LogPlace, Failure> {
    let options = mendb_repo::RepositoryOptions {
        lease_ms: SILENCE_MS,
        request_timeout_ms: REQUEST_TIMEOUT_MS,
        upload_bytes_per_s: None,
        download_bytes_per_s: None,
        ..context.repository_options()
    };
    LogPlace::open(url, options).map_err(|error| {
        let shown = hide_in_url(url);
        Failure::from(error).context(format!("the journal {shown} cannot be used"))
    })
}
