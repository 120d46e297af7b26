//! Leaving a store so that the next process opens it at once.
//!
//! The engine replays its journal when it opens, all of it, also what lies in tables since long; and it
//! begins another only behind 64 MB. That takes a second, for a command that may take a hundredth. So
//! who closes a store with much in the journal writes the memtables into tables and empties the journal.
//!
//! # Crash
//! The journal is emptied when all it holds is in tables and on disk; an empty one is what the engine
//! itself leaves when it finds that the first batch was cut off. Failing leaves the journal as it is: it
//! is replayed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

/// A journal of so many bytes is replayed unnoticed.
const SHORT_BYTES: u64 = 1 << 20;
/// How long to wait for the engine, which gives no sign when it cannot write.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same for the removal of journals that are not needed.
const REMOVAL: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(1);
/// The unit in which file systems tell what a file takes.
const BLOCK_BYTES: u64 = 512;

/// Empties the journal of an engine that nobody writes to any more, if it is long.
pub(crate) fn empty_journal(db: &Database, dir: &Path) {
    match try_empty(db, dir) {
        Ok(emptied) => tracing::debug!(emptied, "the journal"),
        Err(error) => tracing::info!(%error, "leave the journal to be replayed"),
    }
}

/// Whether it was emptied.
fn try_empty(db: &Database, dir: &Path) -> io::Result<bool> {
    let mut written = 0;
    for journal in journals(dir)? {
        // Its length is what is reserved for it.
        written += fs::metadata(&journal)?.blocks() * BLOCK_BYTES;
    }
    if written <= SHORT_BYTES {
        return Ok(false);
    }
    let keyspaces = db.list_keyspace_names().into_iter();
    let keyspaces = keyspaces.map(|name| db.keyspace(&name, KeyspaceCreateOptions::default));
    let keyspaces: Vec<Keyspace> = keyspaces
        .collect::<fjall::Result<_>>()
        .map_err(io::Error::other)?;
    if !flush(db, &keyspaces).map_err(io::Error::other)? {
        return Ok(false);
    }
    match journals(dir)?.as_slice() {
        [journal] => {
            let journal = File::options().write(true).open(journal)?;
            journal.set_len(0)?;
            journal.sync_all()?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Whether all memtables are empty, and in tables what they held.
fn flush(db: &Database, keyspaces: &[Keyspace]) -> fjall::Result<bool> {
    loop {
        let mut rotated = false;
        for keyspace in keyspaces {
            rotated |= keyspace.rotate_memtable()?;
        }
        let waiting = |keyspace: &Keyspace| keyspace.sealed_memtable_count() > 0;
        if !wait(db, PATIENCE, || !keyspaces.iter().any(waiting))? {
            return Ok(false);
        }
        if !rotated {
            return wait(db, REMOVAL, || db.journal_count() == 1);
        }
    }
}

/// Whether it is done in time.
#[expect(
    clippy::disallowed_methods,
    reason = "the engine's threads follow no clock but the real one"
)]
fn wait(db: &Database, patience: Duration, done: impl Fn() -> bool) -> fjall::Result<bool> {
    for _ in 0..patience.as_millis() / POLL.as_millis() {
        if done() {
            return Ok(true);
        }
        // Tells when the engine has given up.
        db.persist(PersistMode::Buffer)?;
        std::thread::sleep(POLL);
    }
    Ok(done())
}

fn journals(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            journals.push(path);
        }
    }
    Ok(journals)
}
