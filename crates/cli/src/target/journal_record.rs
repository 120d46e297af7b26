//! Which journal works on a server: a record in the server's data directory.
//!
//! `mendb/journal.json` there names one journal by its id and its directory. The first process that
//! opens the target writes it before it does anything else. From then on every process finds that
//! journal from wherever it is started, and another journal is refused: it would know nothing of what
//! the first has begun.
//!
//! The other way round, a journal that is elsewhere has `server.json` beside it, which names the data
//! directory: it is refused to a second server as long as the first works with it.
//!
//! *Copies*: a data directory that is copied with the journal in it goes on with its own copy, since the
//! record then names no directory. A journal that is elsewhere has one place; a copy of it is refused
//! while the first is there. *Loss*: a journal that is gone is not replaced silently; the user removes the
//! record.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mendb_service::journal::Journal;
use serde::{Deserialize, Serialize};

use super::state_lock::StateLock;
use crate::failure::{Failure, FailureKind};

/// The directory in that of the server's data. Mends stage there too.
const DIRECTORY: &str = "mendb";
const FILE: &str = "journal.json";
/// Beside a journal that is elsewhere.
const SERVER_FILE: &str = "server.json";

/// The directory of mendb in that of a server's data: the journal is there unless it was put elsewhere.
pub fn directory_in(data: &Path) -> PathBuf {
    data.join(DIRECTORY)
}

/// The journal that works on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRecord {
    journal_id: String,
    /// Where it is; `None` for where the record is.
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
}

impl JournalRecord {
    /// The file of the record.
    pub fn path(data: &Path) -> PathBuf {
        directory_in(data).join(FILE)
    }

    /// The record of a server, by its data directory.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(data: &Path) -> Result<Option<Self>, Failure> {
        let path = Self::path(data);
        let text = match fs::read(&path) {
            Err(error) if is_absent(&error) => return Ok(None),
            text => text.map_err(|error| {
                let doing = format!("cannot read {}, which names the journal", path.display());
                Failure::io(doing, &error).hint(
                    "run mendb as a user who may read the server's files; --state DIRECTORY names the \
                     journal to commands that only look",
                )
            })?,
        };
        let record = serde_json::from_slice(&text).map_err(|error| {
            let message = format!("{} does not name a journal", path.display());
            Failure::of(FailureKind::FixEnvironment, &error)
                .context(message)
                .hint(format!(
                    "the next mendb writes it again when it is gone: rm {}; name the journal with --state \
                     if it is not in {}",
                    quoted(&path),
                    directory_in(data).display()
                ))
        })?;
        Ok(Some(record))
    }

    /// Where the journal is, by the record of a data directory.
    pub fn directory(&self, data: &Path) -> PathBuf {
        let elsewhere = self.directory.clone();
        elsewhere.unwrap_or_else(|| directory_in(data))
    }

    /// Where the journal is, if it is there.
    ///
    /// # Errors
    /// It is not.
    pub fn find(&self, data: &Path) -> Result<PathBuf, Failure> {
        let directory = self.directory(data);
        if Journal::exists(&directory) {
            return Ok(directory);
        }
        Err(lost(data, &directory))
    }

    /// Makes a journal the one that works on a server.
    fn write(&self, data: &Path) -> io::Result<()> {
        write(&directory_in(data), FILE, self)
    }
}

/// The server that a journal works on which is not in its data directory.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ServerRecord {
    data_directory: PathBuf,
}

impl ServerRecord {
    fn read(state: &Path) -> Result<Option<Self>, Failure> {
        let path = state.join(SERVER_FILE);
        match fs::read(&path) {
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Failure::io(
                format!("cannot read {}", path.display()),
                &error,
            )),
            // One that was cut short says nothing; the next process writes it again.
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        }
    }

    /// Refuses the journal to a server when it works on another one.
    fn check(data: &Path, state: &Path) -> Result<(), Failure> {
        let Some(Self { data_directory }) = Self::read(state)? else {
            return Ok(());
        };
        if is_same_place(&data_directory, data) || is_same_file(&data_directory, data) {
            return Ok(());
        }
        let Ok(Some(record)) = JournalRecord::read(&data_directory) else {
            return Ok(());
        };
        let works_there = is_same_place(&record.directory(&data_directory), state)
            && Journal::exists(state)
            && id_of(state)? == record.journal_id;
        if !works_there {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::FixCommand,
            format!(
                "the journal in {} is that of another server, whose data is in {}",
                state.display(),
                data_directory.display()
            ),
        )
        .hint("leave --state out (and clickhouse.state, MENDB_CLICKHOUSE_STATE), or name a directory of its own for each server"))
    }
}

/// Replaces a file by a document, durably.
fn write(directory: &Path, name: &str, document: &impl Serialize) -> io::Result<()> {
    let new = directory.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(document)?)?;
    file.sync_all()?;
    fs::rename(&new, directory.join(name))?;
    File::open(directory)?.sync_all()
}

/// What keeps other processes from driving operations on a server, whatever their journal is.
pub struct Claim {
    /// What to tell the user.
    pub note: Option<String>,
    _locks: Vec<StateLock>,
}

impl Claim {
    /// Takes the target for a process whose journal is in a directory.
    ///
    /// # Errors
    /// Another process has the target or the journal; another journal works on the target; neither can
    /// be looked at.
    pub fn take(data: &Path, state: &Path) -> Result<Self, Failure> {
        let own = directory_in(data);
        // Before any lock: who is refused should not wait for it.
        check(data, state)?;
        ServerRecord::check(data, state)?;
        if is_same_place(&own, state) {
            let lock = StateLock::take(state)?;
            let note = settle(data, state)?;
            return Ok(Self {
                note,
                _locks: vec![lock],
            });
        }
        let lock = match StateLock::take(&own) {
            Err(failure) if failure.kind == FailureKind::Busy => return Err(failure),
            // Who cannot write there mends nothing; who may not remember can still back up.
            other => other.ok(),
        };
        let mut locks = vec![StateLock::take(state)?];
        locks.extend(lock);
        let note = settle(data, state)?;
        Ok(Self {
            note,
            _locks: locks,
        })
    }
}

/// Writes the record if there is none, or its journal has moved. Returns what to tell of it.
fn settle(data: &Path, state: &Path) -> Result<Option<String>, Failure> {
    let recorded = check(data, state)?;
    let own = directory_in(data);
    let record = JournalRecord {
        journal_id: Journal::open(state)?.id()?,
        directory: (!is_same_place(&own, state)).then(|| state.to_owned()),
    };
    if record.directory.is_some() {
        let server = ServerRecord {
            data_directory: data.to_owned(),
        };
        if ServerRecord::read(state)?.as_ref() != Some(&server) {
            write(state, SERVER_FILE, &server).map_err(|error| {
                Failure::io(format!("cannot write to {}", state.display()), &error)
            })?;
        }
    }
    if recorded.as_ref() == Some(&record) {
        return Ok(None);
    }
    Ok(record.write(data).err().map(|error| {
        format!(
            "note: {} cannot be written ({error}): a mendb with another --state would not find the journal \
             in {}",
            JournalRecord::path(data).display(),
            state.display()
        )
    }))
}

/// The record of a server, which names the journal in a directory if there is one.
///
/// # Errors
/// It names another.
fn check(data: &Path, state: &Path) -> Result<Option<JournalRecord>, Failure> {
    let Some(record) = JournalRecord::read(data)? else {
        return Ok(None);
    };
    let directory = record.directory(data);
    if is_same_place(&directory, state) && Journal::exists(state) {
        if id_of(state)? == record.journal_id {
            return Ok(Some(record));
        }
        return Err(lost(data, &directory));
    }
    if !Journal::exists(&directory) {
        // It has been moved, or is gone.
        let has_moved = Journal::exists(state) && id_of(state)? == record.journal_id;
        return has_moved
            .then_some(Some(record))
            .ok_or_else(|| lost(data, &directory));
    }
    Err(Failure::new(
        FailureKind::FixCommand,
        format!(
            "the journal of this server is in {}, and {} is another",
            directory.display(),
            state.display()
        ),
    )
    .hint(format!(
        "leave --state out (and clickhouse.state, MENDB_CLICKHOUSE_STATE), or name it: --state {}",
        quoted(&directory)
    )))
}

/// The journal that the record names is not where it was.
fn lost(data: &Path, directory: &Path) -> Failure {
    let record = JournalRecord::path(data);
    Failure::new(
        FailureKind::FixEnvironment,
        format!(
            "the journal of this server should be in {}, and it is not there",
            directory.display()
        ),
    )
    .hint(format!(
        "bring that directory back; if it was moved, name where it is now with --state. If it is lost, so is \
         what it knew of unfinished operations and of freezes to undo them by; a new journal is begun after: \
         rm {}",
        quoted(&record)
    ))
}

fn id_of(directory: &Path) -> Result<String, Failure> {
    Ok(Journal::open(directory)?.id()?)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Whether two paths lead to the same directory. Those that are not there yet are compared as they are
/// written.
fn is_same_place(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// Whether two data directories have the same record, as one that is seen in two places has.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |data: &Path| {
        let metadata = fs::metadata(JournalRecord::path(data)).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    identity(one).is_some_and(|identity_of_one| Some(identity_of_one) == identity(other))
}

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%:".contains(c);
    if path.chars().all(is_plain) {
        path
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        root: tempfile::TempDir,
        data: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let data = root.path().join("data");
            fs::create_dir(&data).unwrap();
            Self { root, data }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn take(&self, state: &str) -> Result<Claim, Failure> {
            Claim::take(&self.data, &self.at(state))
        }

        /// Does what the hint says that comes last in it: a command to remove a file.
        fn follow(&self, failure: &Failure) {
            let hint = failure.hint.as_ref().unwrap();
            let (_, path) = hint.rsplit_once("rm ").unwrap();
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_second_journal_is_refused_with_the_way_to_the_first() {
        let place = Place::new();
        drop(place.take("one").unwrap());
        let refused = place.take("two").err().unwrap();
        assert!(refused.message.contains("one"), "{refused}");
        let way = format!("--state {}", place.at("one").display());
        assert!(refused.to_string().ends_with(&way), "{refused}");
        assert!(!place.at("two").exists(), "nothing is left of the refused");
        place.take("one").unwrap();
    }

    #[test]
    fn two_processes_have_a_target_one_after_the_other_whatever_their_journals() {
        let place = Place::new();
        let first = place.take("one").unwrap();
        let busy = place.take("one").err().unwrap();
        assert_eq!(busy.kind, FailureKind::Busy);
        fs::remove_file(JournalRecord::path(&place.data)).unwrap();
        let busy = place.take("two").err().unwrap();
        assert_eq!(busy.kind, FailureKind::Busy);
        drop(first);
        place.take("two").unwrap();
    }

    #[test]
    fn a_journal_that_was_moved_is_found_again_and_a_copy_of_it_is_refused() {
        let place = Place::new();
        drop(place.take("one").unwrap());
        fs::rename(place.at("one"), place.at("moved")).unwrap();
        drop(place.take("moved").unwrap());
        let record = JournalRecord::read(&place.data).unwrap().unwrap();
        assert_eq!(record.find(&place.data).unwrap(), place.at("moved"));

        fs::create_dir(place.at("copy")).unwrap();
        let journal = "journal.sqlite";
        fs::copy(
            place.at("moved").join(journal),
            place.at("copy").join(journal),
        )
        .unwrap();
        assert!(place.take("copy").is_err());
    }

    #[test]
    fn a_copied_data_directory_goes_on_with_the_journal_in_it() {
        let place = Place::new();
        drop(place.take("data/mendb").unwrap());
        let copied = place.at("copy");
        fs::create_dir_all(copied.join("mendb")).unwrap();
        for entry in fs::read_dir(directory_in(&place.data)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copied.join("mendb").join(entry.file_name())).unwrap();
        }
        Claim::take(&copied, &copied.join("mendb")).unwrap();
    }

    #[test]
    fn a_journal_of_one_server_is_refused_to_another() {
        let (one, other) = (Place::new(), Place::new());
        let state = one.at("state");
        drop(one.take("state").unwrap());
        let refused = Claim::take(&other.data, &state).err().unwrap();
        let named = one.data.display().to_string();
        assert!(refused.message.contains(&named), "{refused}");
        assert!(!JournalRecord::path(&other.data).exists());

        // The same server, seen in another place.
        let seen = one.at("seen");
        fs::create_dir_all(seen.join("mendb")).unwrap();
        for file in [FILE, "lock"] {
            let link = seen.join("mendb").join(file);
            fs::hard_link(one.data.join("mendb").join(file), link).unwrap();
        }
        drop(Claim::take(&seen, &state).unwrap());
        drop(one.take("state").unwrap());

        // The first server is gone, or works with another journal by now.
        fs::remove_file(JournalRecord::path(&one.data)).unwrap();
        Claim::take(&other.data, &state).unwrap();
    }

    #[test]
    fn a_lost_journal_is_said_and_the_way_out_works() {
        let place = Place::new();
        for (first, second) in [("one", "two"), ("data/mendb", "data/mendb")] {
            drop(place.take(first).unwrap());
            fs::remove_file(place.at(first).join("journal.sqlite")).unwrap();
            for state in [first, second] {
                let lost = place.take(state).err().unwrap();
                assert!(lost.message.contains("not there"), "{lost}");
                let record = JournalRecord::read(&place.data).unwrap().unwrap();
                assert_eq!(record.find(&place.data).unwrap_err().message, lost.message);
            }
            place.follow(&place.take(second).err().unwrap());
            drop(place.take(second).unwrap());
            fs::remove_file(JournalRecord::path(&place.data)).unwrap();
        }
    }

    #[test]
    fn a_record_that_names_nothing_is_an_error_with_a_way_out_that_works() {
        let place = Place::new();
        drop(place.take("data/mendb").unwrap());
        fs::write(JournalRecord::path(&place.data), "{").unwrap();
        let failure = place.take("data/mendb").err().unwrap();
        assert!(failure.message.contains("does not name"), "{failure}");
        let hint = failure.hint.unwrap();
        let path = hint.split("rm ").nth(1).unwrap().split(';').next().unwrap();
        fs::remove_file(path).unwrap();
        place.take("data/mendb").unwrap();
    }

    #[test]
    fn a_path_with_blanks_is_quoted_for_the_shell() {
        assert_eq!(quoted(Path::new("/a/b-1.x")), "/a/b-1.x");
        assert_eq!(quoted(Path::new("/a b'c")), r"'/a b'\''c'");
    }
}
