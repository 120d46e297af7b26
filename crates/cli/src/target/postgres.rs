//! Opening a PostgreSQL database: the one journal that works on it, and one process at a time.
//!
//! The journal is on this machine, in a directory for each database. The database remembers which journal works on it:
//! another one, as on another machine, would know nothing of what the first has begun, and is refused. Servers may also
//! share one in an object store: then the one that leads takes the database from the one that led before.

use std::path::{Path, PathBuf};

use super::paths::{is_absent, quoted};
use super::state_lock::StateLock;
use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::human;
use crate::service::host;
use crate::settings::secret::hide_in_url;
use mendb_engines::postgres::{Address, JournalPlace, Postgres};
use mendb_service::journal::Journal;

/// What a process has that drives operations on a database.
pub struct OpenPostgres {
    /// The database.
    pub engine: Postgres,
    /// Where the journal is.
    pub directory: PathBuf,
    /// Keeps other processes of this machine from the journal.
    pub lock: StateLock,
}

/// The database that a URL names.
///
/// # Errors
/// It is none of a database.
pub fn parse(url: &str) -> Result<Address, Failure> {
    Address::parse(url, &|name| std::env::var(name).ok()).map_err(|why| {
        let shown = hide_in_url(url);
        Failure::misuse(format!("the target {shown:?} cannot be used: {why}"))
    })
}

/// The failure where another journal works on a database than ours, which is in `place`, and which commands name as `mine`.
pub fn other_journal(theirs: &JournalPlace, address: &Address, place: &str, mine: &str) -> Failure {
    Failure::new(
        FailureKind::FixCommand,
        format!(
            "the journal in {} works on {}, and {place} is another",
            theirs.place,
            address.shown(),
        ),
    )
    .hint(match is_shared(theirs) {
        true => format!(
            "servers share that journal: have one do it (--server http://host:port with a token in MENDB_TOKEN), or begin \
             one with mendb serve --journal {}",
            theirs.place
        ),
        false => format!(
            "run mendb there, or name that directory with --state; if it is gone for good, or nothing in it is \
             unfinished, {mine} works on it after: UPDATE mendb.target SET journal = NULL"
        ),
    })
}

/// Whether servers share a journal: a directory of a machine is named as a path.
fn is_shared(journal: &JournalPlace) -> bool {
    journal.place.contains("://")
}

/// Removes a journal, and its directory if nothing else is in there.
///
/// # Errors
/// A file of it cannot be removed.
pub fn remove_journal(directory: &Path) -> Result<(), Failure> {
    for name in [
        "journal.sqlite",
        "journal.sqlite-wal",
        "journal.sqlite-shm",
        "lock",
    ] {
        let file = directory.join(name);
        match std::fs::remove_file(&file) {
            Err(error) if !is_absent(&error) => {
                let doing = format!("cannot remove {}", file.display());
                return Err(Failure::io(doing, &error));
            }
            _ => {}
        }
    }
    // What others keep there stays.
    let _ = std::fs::remove_dir(directory);
    Ok(())
}

impl Context {
    /// The directory of the journal of a database.
    pub fn postgres_directory(&self, address: &Address) -> PathBuf {
        if let Some(shared) = &self.shared {
            return shared.directory().to_owned();
        }
        let named = self.settings.postgres_state.clone();
        named.unwrap_or_else(|| self.settings.postgres_journals.join(address.file_name()))
    }

    /// Refuses to look into a journal of this machine where servers share the one of the database. While that cannot be
    /// asked, a journal that is here is looked into.
    ///
    /// # Errors
    /// They do; or there is none here, and the database does not answer.
    pub fn check_not_shared(&self, address: &Address) -> Result<(), Failure> {
        if self.shared.is_some() || self.session.is_some() {
            return Ok(());
        }
        let directory = self.postgres_directory(address);
        match Postgres::journal_of(address) {
            Ok(Some(theirs)) if is_shared(&theirs) => {
                let mine = directory.display().to_string();
                Err(other_journal(&theirs, address, &mine, &mine))
            }
            Ok(_) => Ok(()),
            Err(error) if Journal::exists(&directory) => {
                self.say(&format!(
                    "note: whether servers share the journal of this database cannot be asked: {}",
                    mendb_model::describe_error(&error)
                ));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Connects to a database, and takes it for this process and the journal of this machine.
    ///
    /// # Errors
    /// [`FailureKind::Busy`] while another process has it; the server does not answer; another journal works on it.
    pub(super) fn open_postgres(&self, address: &Address) -> Result<OpenPostgres, Failure> {
        if let Some(most) = address.bytes_per_s() {
            self.say(&format!(
                "rows come and go at {} a second at most (postgres.bytes_per_s)",
                human::bytes(most)
            ));
        }
        let directory = self.postgres_directory(address);
        let lock = StateLock::take(&directory)?;
        let opened = self.open_journal_in(&directory)?;
        let journal = opened.id()?;
        let driven = match &self.shared {
            Some(shared) => {
                // Before anything is done there.
                let id = Postgres::database_id(address)?;
                let (known, shown) = opened.take_database(&id, &address.shown())?;
                if known != id {
                    return Err(Failure::new(
                        FailureKind::FixCommand,
                        format!(
                            "the journal in {} is of the database {shown}, and {} is another",
                            shared.url(),
                            address.shown()
                        ),
                    )
                    .hint("--target names that database on every server, --journal another journal for this one"));
                }
                Postgres::take_over(address, &journal)?
            }
            None => Postgres::drive(address)?,
        };
        let Some(engine) = driven else {
            return Err(Failure::new(
                FailureKind::Busy,
                format!("another mendb works on {}", address.shown()),
            )
            .hint("wait for it to end, then run the command again"));
        };
        let ours = JournalPlace {
            journal,
            place: match (&self.shared, host()) {
                (Some(shared), _) => shared.url().to_owned(),
                (None, Some(host)) => format!("{} on {host}", directory.display()),
                (None, None) => directory.display().to_string(),
            },
        };
        let theirs = engine.journal(&ours)?;
        if theirs.journal != ours.journal {
            let mine = match &self.shared {
                Some(shared) => shared.url().to_owned(),
                None => quoted(&directory),
            };
            return Err(other_journal(&theirs, address, &ours.place, &mine));
        }
        Ok(OpenPostgres {
            engine,
            directory,
            lock,
        })
    }
}
