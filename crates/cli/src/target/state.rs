//! Where the journal of a ClickHouse target is.
//!
//! In this order: where `--state` says; where the record in the server's data directory says
//! ([`super::journal_record`]); `mendb/` in that directory; where mendb kept it before, below the current
//! directory. So it does not matter from where mendb is started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mendb_engines::clickhouse::{ClickHouse, Connection, ConnectionOptions, holds_in_state};
use mendb_engines::{Engine as _, Hold};
use mendb_service::journal::Journal;

use super::claim::Claim;
use super::journal_record::{JournalRecord, directory_in};
use super::paths::{is_same_place, quoted};
use super::server::Server;
use crate::context::Context;
use crate::failure::{Failure, FailureKind};

/// A way to a journal that needs no server.
const NAME_IT: &str = "--state DIRECTORY names the directory of the journal, --data-path DIRECTORY the \
                       server's data directory as it is seen from here";

/// The directory of a journal.
#[derive(Debug)]
pub struct State {
    /// The directory; it may not be there yet.
    pub directory: PathBuf,
    /// What to tell the user of it.
    pub note: Option<String>,
    /// A journal from before that is not the server's.
    other: Option<PathBuf>,
}

impl State {
    fn plain(directory: PathBuf) -> Self {
        Self {
            directory,
            note: None,
            other: None,
        }
    }

    /// The journal of a server, by its data directory and where a journal may be from before.
    fn find(data: &Path, before: &Path) -> Result<Self, Failure> {
        if !data.is_dir() {
            let message = format!(
                "the server's data directory {} is not here, so its journal cannot be found",
                data.display()
            );
            return Err(Failure::new(FailureKind::FixEnvironment, message)
                .hint(format!("run mendb on the host of the server; {NAME_IT}")));
        }
        let own = directory_in(data);
        let shown = before.display();
        let directory = match JournalRecord::read(data)? {
            Some(record) => record.find(data)?,
            None if Journal::exists(&own) || !Journal::exists(before) => own,
            None => {
                let note = format!(
                    "note: the journal of this server is in {shown}, where mendb kept it before; it is \
                     used, and found from other directories too from now on"
                );
                return Ok(Self {
                    note: Some(note),
                    ..Self::plain(before.to_owned())
                });
            }
        };
        let is_other = Journal::exists(before) && !is_same_place(before, &directory);
        let mut state = Self::plain(directory);
        if is_other {
            state.note = Some(format!(
                "note: {shown} is another journal of this server, from before, and is not used; mendb \
                 operation list --state {shown} shows its operations, and moving it away ends this note"
            ));
            state.other = Some(before.to_owned());
        }
        Ok(state)
    }

    /// Refuses to work beside another journal in which something is unfinished: what one has begun, the
    /// other does not see.
    ///
    /// # Errors
    /// There is something.
    fn check_other(&self, data: &Path) -> Result<(), Failure> {
        let Some(other) = &self.other else {
            return Ok(());
        };
        let unfinished = Journal::open(other)?.unfinished_operations()?;
        let Some(operation) = unfinished.first() else {
            return Ok(());
        };
        let (other, directory) = (quoted(other), self.directory.display());
        Err(Failure::input(format!(
            "operation {operation} is unfinished in the journal {other}, and the journal of this server is \
             {directory}"
        ))
        .hint(format!(
            "mendb operation list --state {other} shows what is unfinished. When none of it matters, move \
             {other} away; to finish it, have this server work with that journal: rm {}, then mendb \
             operation resume {operation} --state {other}",
            quoted(&JournalRecord::path(data))
        )))
    }
}

impl Context {
    /// How to reach a server, with the password of the settings where its URL has none.
    pub fn connection_options(&self, server: &Server) -> ConnectionOptions {
        let settings = &self.settings;
        let password = if server.password.is_empty() {
            &settings.clickhouse_password
        } else {
            &server.password
        };
        ConnectionOptions {
            url: server.address.clone(),
            user: server.user.clone(),
            password: password.reveal().to_owned(),
            data_path: settings.clickhouse_data_path.clone(),
            replica_wait: Duration::from_secs(settings.replica_wait_s),
        }
    }

    /// The directory of the journal that a setting names.
    fn named_state(&self) -> Result<Option<PathBuf>, Failure> {
        let named = self.settings.clickhouse_state.as_ref();
        named.map(|directory| absolute(directory)).transpose()
    }

    /// The directory of the journal of a server; what there is to note of it is said.
    ///
    /// # Errors
    /// It cannot be found out.
    pub fn server_directory(&self, server: &Server) -> Result<PathBuf, Failure> {
        let state = self.state_of(server)?;
        if let Some(note) = &state.note {
            self.say(note);
        }
        Ok(state.directory)
    }

    /// The journal of a server, for those who only look. The server is asked only where no setting says
    /// where its files are.
    ///
    /// # Errors
    /// It is not where it should be, or that cannot be found out.
    pub(super) fn state_of(&self, server: &Server) -> Result<State, Failure> {
        if let Some(directory) = self.named_state()? {
            return Ok(State::plain(directory));
        }
        let data = match &self.settings.clickhouse_data_path {
            Some(data) => absolute(data)?,
            None => {
                let opened = Connection::open(&self.connection_options(server));
                let opened = opened.map_err(|error| Failure::from(error).hint(NAME_IT))?;
                opened.data_directory().to_owned()
            }
        };
        State::find(&data, &server.state_before()?)
    }

    /// What is kept on a server for operations, for those who only look: by the records beside its journal and,
    /// where the server answers, by what is on its disks.
    ///
    /// # Errors
    /// It cannot be found out where the journal is, or the record of it cannot be read.
    pub fn server_holds(&self, server: &Server) -> Result<Vec<Hold>, Failure> {
        let directory = self.state_of(server)?.directory;
        let Ok(connection) = Connection::open(&self.connection_options(server)) else {
            return Ok(holds_in_state(&directory)?);
        };
        let data = absolute(connection.data_directory())?;
        let record = JournalRecord::read(&data)?;
        // What is on the disks is not told by a journal that is not the server's.
        let is_own =
            record.is_none_or(|record| is_same_place(&record.directory(&data), &directory));
        if !is_own {
            return Ok(holds_in_state(&directory)?);
        }
        Ok(ClickHouse::new(connection, directory).holds()?)
    }

    /// Connects to a server, and takes it for the journal that is its own.
    ///
    /// # Errors
    /// It does not answer; another process or another journal has it; the journal cannot be kept.
    pub(super) fn open_server(
        &self,
        server: &Server,
    ) -> Result<(ClickHouse, PathBuf, Option<Claim>), Failure> {
        let connection = Connection::open(&self.connection_options(server))?;
        let data = absolute(connection.data_directory())?;
        let state = match self.named_state()? {
            Some(directory) => State::plain(directory),
            None => State::find(&data, &server.state_before()?)?,
        };
        state.check_other(&data)?;
        // Where the files are not here, the engine says so with what it needs of them.
        let claim = match data.is_dir() {
            true => Some(Claim::take(&data, &state.directory)?),
            false => None,
        };
        let of_claim = claim.as_ref().and_then(|claim| claim.note.as_ref());
        for note in state.note.iter().chain(of_claim) {
            self.say(note);
        }
        let engine = ClickHouse::new(connection, state.directory.clone());
        Ok((engine, state.directory, claim))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::io("cannot find the current directory", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_from_before_is_found_and_named() {
        let root = tempfile::tempdir().unwrap();
        let (data, before) = (root.path().join("data"), root.path().join("before"));
        std::fs::create_dir(&data).unwrap();
        let own = directory_in(&data);
        let find = || State::find(&data, &before).unwrap();
        assert_eq!(find().directory, own, "where there is none");

        Journal::open(&before).unwrap();
        let found = find();
        assert_eq!(found.directory, before);
        let note = found.note.unwrap();
        assert!(note.contains(&before.display().to_string()), "{note}");

        drop(Claim::take(&data, &before).unwrap());
        let found = find();
        assert_eq!((found.directory, found.note), (before.clone(), None));
        let elsewhere = State::find(&data, &root.path().join("none")).unwrap();
        assert_eq!(elsewhere.directory, before, "from any other directory");
    }

    #[test]
    fn a_journal_from_before_beside_the_servers_own_is_named_too() {
        let root = tempfile::tempdir().unwrap();
        let (data, before) = (root.path().join("data"), root.path().join("before"));
        std::fs::create_dir(&data).unwrap();
        let own = directory_in(&data);
        drop(Claim::take(&data, &own).unwrap());
        Journal::open(&before).unwrap();
        let found = State::find(&data, &before).unwrap();
        assert_eq!(found.directory, own);
        let note = found.note.unwrap();
        assert!(note.contains(&before.display().to_string()), "{note}");
    }

    #[test]
    fn a_data_directory_that_is_not_here_is_no_empty_journal() {
        let root = tempfile::tempdir().unwrap();
        let before = root.path().join("before");
        let failure = State::find(&root.path().join("none"), &before).unwrap_err();
        assert!(failure.message.contains("is not here"), "{failure}");
        assert!(failure.to_string().contains("--state"), "{failure}");
    }
}
