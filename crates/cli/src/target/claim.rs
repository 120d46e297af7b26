//! Taking a server for one process with one journal.
//!
//! The first process that opens the target writes [`super::journal_record`] before it does anything
//! else. From then on another journal is refused: it would know nothing of what the first has begun. The
//! other way round, a journal that is elsewhere is refused to a second server
//! ([`super::server_record`]).
//!
//! *Copies*: a data directory that is copied with the journal in it goes on with its own copy, since the
//! record then names no directory. A journal that is elsewhere has one place; a copy of it is refused
//! while the first is there. *Loss*: a journal that is gone is not replaced silently; the user removes the
//! record. *Two at once*: both lock the directory of the record, whatever their journals are.

use std::path::Path;

use mendb_service::journal::Journal;

use super::journal_record::{JournalRecord, directory_in, lost};
use super::paths::{is_same_place, quoted};
use super::server_record::ServerRecord;
use super::state_lock::StateLock;
use crate::failure::{Failure, FailureKind};

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

/// Writes the record if there is none, or its journal has moved. Returns what to say about it.
fn settle(data: &Path, state: &Path) -> Result<Option<String>, Failure> {
    let recorded = check(data, state)?;
    let own = directory_in(data);
    let journal_id = match &recorded {
        // It was compared.
        Some(record) => record.journal_id.clone(),
        None => id_of(state)?,
    };
    let record = JournalRecord {
        journal_id,
        directory: (!is_same_place(&own, state)).then(|| state.to_owned()),
    };
    if record.directory.is_some() {
        ServerRecord::keep(data, state)?;
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

fn id_of(directory: &Path) -> Result<String, Failure> {
    Ok(Journal::open(directory)?.id()?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

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
        for file in ["journal.json", "lock"] {
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
}
