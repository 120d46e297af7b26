//! The files of a store, opened by one process.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::{Error, Result};
use crate::kernel::batch::Batch;
use crate::kernel::fault::{DATABASE, Faults};
use crate::kernel::mark::Mark;
use crate::kernel::pool::{Pool, connect};
use crate::kernel::reader::Reader;
use crate::kernel::root::{FORMAT, OLDEST_FORMAT, Root};
use crate::kernel::section::{Section, Tree};
use crate::kernel::shard_files::ShardFiles;
use crate::kernel::sorter::{self, Sorter};
use crate::kernel::{Options, record};

const WAL: &str = "store.db-wal";
const LOCK: &str = "lock";
/// A file that a store of format 1 has.
const FILE_OF_FORMAT_1: &str = "keyspaces";
/// The WAL is written into the database when it has so many pages: 16 MB.
const CHECKPOINT_PAGES: i32 = 4096;
/// Extended result codes of SQLite: a file, or a directory, could not be synced.
const IOERR_FSYNC: i32 = 10 | (4 << 8);
const IOERR_DIR_FSYNC: i32 = 10 | (5 << 8);

/// The files of a store.
pub(crate) struct Store {
    pub(super) faults: Faults,
    /// The only connection that writes.
    pub(super) writer: Arc<Reader>,
    /// Held while records are changed.
    pub(super) turn: Mutex<()>,
    pool: Arc<Pool>,
    wal: File,
    mark: Mark,
    files: Arc<ShardFiles>,
    /// Pages in the WAL after the last commit.
    wal_pages: Arc<AtomicI32>,
    /// The disk failed to keep what it took: nothing more is accepted.
    stopped: AtomicBool,
    #[cfg(test)]
    sync_fails: AtomicBool,
    _lock: File,
}

impl Store {
    /// Opens the store in a directory, creating it when there is none.
    pub(crate) fn open(dir: &Path, options: &Options) -> Result<Self> {
        let faults = Faults::new(dir);
        std::fs::create_dir_all(dir).map_err(|error| faults.file(dir, error))?;
        let lock = lock(&faults)?;
        let acknowledged = acknowledged(&faults)?;
        let files = Arc::new(ShardFiles::open(&faults)?);
        let mut connection = connect(&faults, options.cache_bytes)?;
        let root = match read_root(&faults, &connection)? {
            Some(root) => root,
            None if acknowledged.is_some() => {
                let detail = "its root record is gone".to_owned();
                return Err(faults.damaged(DATABASE, detail));
            }
            None => create(&faults, &connection)?,
        };
        check(&faults, &root, acknowledged)?;
        let wal = File::open(dir.join(WAL)).map_err(|error| faults.file(&dir.join(WAL), error))?;
        // What a process that died had written is acknowledged by being read.
        let synced = wal.sync_data().and_then(|()| File::open(dir)?.sync_all());
        synced.map_err(|error| faults.file(&dir.join(WAL), error))?;
        if acknowledged.is_none() {
            sync_path(&faults)?;
        }
        let mark = Mark::open(&faults, root.commit)?;
        let wal_pages = Arc::new(AtomicI32::new(0));
        let counter = wal_pages.clone();
        let hook = move |_: &mut Wal, pages| {
            counter.store(pages, Ordering::Relaxed);
            Ok(())
        };
        let hooked = connection.wal_hook(Some(hook));
        hooked.map_err(|error| faults.engine(error))?;
        let pool = Pool::new(&faults, options.cache_bytes);
        Ok(Self {
            writer: Arc::new(Reader::writer(connection, faults.clone())),
            turn: Mutex::new(()),
            pool: Arc::new(pool),
            wal,
            mark,
            files,
            wal_pages,
            stopped: AtomicBool::new(false),
            #[cfg(test)]
            sync_fails: AtomicBool::new(false),
            faults,
            _lock: lock,
        })
    }

    /// So many sorters of what does not fit into memory, which share the memory of one.
    pub(crate) fn sorters(&self, how_many: usize) -> Vec<Sorter> {
        let share = sorter::PIECE_BYTES / how_many.max(1);
        let piece_bytes = share.max(sorter::LEAST_PIECE_BYTES);
        let sorter = || Sorter::new(self.faults.clone(), piece_bytes);
        (0..how_many).map(|_| sorter()).collect()
    }

    /// Sorts what does not fit into memory.
    pub(crate) fn sorter(&self) -> Sorter {
        Sorter::new(self.faults.clone(), sorter::PIECE_BYTES)
    }

    /// The packed blocks of the shards.
    pub(crate) fn files(&self) -> &Arc<ShardFiles> {
        &self.files
    }

    /// Bytes of the database and its WAL.
    pub(crate) fn database_bytes(&self) -> Result<u64> {
        let path = self.faults.dir().join(DATABASE);
        let database = std::fs::metadata(&path).and_then(|database| {
            let wal = self.wal.metadata()?;
            Ok(database.len() + wal.len())
        });
        database.map_err(|error| self.faults.file(&path, error))
    }

    /// Reads the last commit until it is dropped, with its root record.
    pub(crate) fn read(&self) -> Result<(Arc<Reader>, Root)> {
        let connection = self.pool.take()?;
        let begun = connection.execute_batch("BEGIN");
        begun.map_err(|error| self.faults.engine(error))?;
        let root = read_root(&self.faults, &connection)?;
        let reader = Reader::pinned(connection, self.faults.clone(), self.pool.clone());
        match root {
            Some(root) => Ok((Arc::new(reader), root)),
            None => Err(self
                .faults
                .damaged(DATABASE, "its root record is gone".to_owned())),
        }
    }

    /// Reads whatever commit is the last one. For those who keep writers out.
    pub(crate) fn read_last(&self) -> &Arc<Reader> {
        &self.writer
    }

    /// Adds to a batch what the root record becomes. It gets this crate's format.
    pub(crate) fn put_root(batch: &mut Batch, root: &Root) {
        let root = Root {
            format: FORMAT,
            ..root.clone()
        };
        batch.insert(&Section::whole(Tree::Meta), Root::KEY, root.encode());
    }

    /// Checks that writes are still taken.
    ///
    /// # Errors
    /// [`Error::Stopped`] once the disk has failed to keep a commit.
    pub(super) fn check_running(&self) -> Result<()> {
        if self.stopped.load(Ordering::Acquire) {
            return self.faults.stopped();
        }
        Ok(())
    }

    /// Writes a WAL that has grown long into the database, as far as no reader needs it. What is committed is
    /// safe without it, so a failure is only told; but a disk that may have dropped pages is given no more.
    pub(super) fn checkpoint(&self, connection: &Connection) {
        if self.wal_pages.load(Ordering::Relaxed) < CHECKPOINT_PAGES {
            return;
        }
        let written = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = written {
            tracing::warn!(%error, "leave the WAL longer than it should be");
            if let rusqlite::Error::SqliteFailure(failure, _) = error
                && matches!(failure.extended_code, IOERR_FSYNC | IOERR_DIR_FSYNC)
            {
                self.stopped.store(true, Ordering::Release);
            }
        }
    }

    /// Returns when everything up to the commit of this number is on disk. From then on, a store without it
    /// is known to be damaged.
    ///
    /// # Errors
    /// The disk failed; nothing more is accepted then.
    pub(crate) fn sync(&self, commit: u64) -> Result<()> {
        self.check_running()?;
        #[cfg(test)]
        if self.sync_fails.load(Ordering::Acquire) {
            self.stopped.store(true, Ordering::Release);
            return self.faults.stopped();
        }
        let synced = self.wal.sync_data().and_then(|()| self.mark.put(commit));
        synced.map_err(|error| {
            self.stopped.store(true, Ordering::Release);
            self.faults.file(&self.faults.dir().join(WAL), error)
        })
    }

    /// From now on the disk fails to keep what it takes.
    #[cfg(test)]
    pub(crate) fn fail_syncs(&self) {
        self.sync_fails.store(true, Ordering::Release);
    }
}

/// The last commit that was acknowledged of a store whose format is known, as far as its files tell; `None` before the first.
pub(super) fn acknowledged(faults: &Faults) -> Result<Option<u64>> {
    if faults.dir().join(FILE_OF_FORMAT_1).exists() {
        return Err(other_format(faults, 1));
    }
    let acknowledged = Mark::read(faults)?;
    if acknowledged.is_some() && !faults.dir().join(DATABASE).exists() {
        return Err(faults.damaged(DATABASE, "it is gone".to_owned()));
    }
    Ok(acknowledged)
}

fn other_format(faults: &Faults, found: u64) -> Error {
    Error::Format {
        dir: faults.dir().to_owned(),
        found,
        expected: FORMAT,
    }
}

/// Checks that a root record is of a format that is known, and of no commit before the acknowledged one.
pub(super) fn check(faults: &Faults, root: &Root, acknowledged: Option<u64>) -> Result<()> {
    if !(OLDEST_FORMAT..=FORMAT).contains(&root.format) {
        return Err(other_format(faults, root.format));
    }
    match acknowledged {
        Some(acknowledged) if acknowledged > root.commit => {
            let detail = format!(
                "it ends with commit {}, but {acknowledged} was acknowledged: what came later is gone",
                root.commit
            );
            Err(faults.damaged(WAL, detail))
        }
        _ => Ok(()),
    }
}

/// Puts the directory of a new store on disk, with all those that it is in: any of them may be new, too.
fn sync_path(faults: &Faults) -> Result<()> {
    let dir = faults.dir();
    let path = dir
        .canonicalize()
        .map_err(|error| faults.file(dir, error))?;
    for directory in path.ancestors() {
        match File::open(directory).and_then(|directory| directory.sync_all()) {
            // A process that may not read it has not made it.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(|error| faults.file(directory, error))?,
        }
    }
    Ok(())
}

fn lock(faults: &Faults) -> Result<File> {
    let path = faults.dir().join(LOCK);
    let fault = |error| faults.file(&path, error);
    let mut options = File::options();
    let lock = options.create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(fault)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Locked {
            dir: faults.dir().to_owned(),
        }),
        Err(std::fs::TryLockError::Error(error)) => Err(fault(error)),
    }
}

/// The root record; `None` of a database that nothing was ever committed to.
pub(super) fn read_root(faults: &Faults, connection: &Connection) -> Result<Option<Root>> {
    let read = || {
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'meta'";
        let tables: i64 = connection
            .prepare_cached(tables)?
            .query_row([], |row| row.get(0))?;
        if tables == 0 {
            return Ok(None);
        }
        let mut select = connection.prepare_cached("SELECT v FROM meta WHERE k = ?1")?;
        let root = select.query_row([Root::KEY], |row| row.get::<_, Vec<u8>>(0));
        root.optional()
    };
    let record = read().map_err(|error| faults.engine(error))?;
    let Some(record) = record else {
        return Ok(None);
    };
    let root = record::open(Tree::Meta, Root::KEY, &record)?;
    Root::decode(root).map(Some)
}

fn create(faults: &Faults, connection: &Connection) -> Result<Root> {
    let root = Root::first();
    let create = || {
        // Both stay with the database; to set them on one that is there would take its write lock.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let mut statements = "BEGIN IMMEDIATE;".to_owned();
        for tree in Tree::ALL {
            let name = tree.name();
            statements.push_str("CREATE TABLE ");
            statements.push_str(name);
            statements.push_str(" (k BLOB PRIMARY KEY NOT NULL, v BLOB NOT NULL) WITHOUT ROWID;");
        }
        connection.execute_batch(&statements)?;
        let record = record::seal(Tree::Meta, Root::KEY, root.encode());
        let insert = "INSERT INTO meta VALUES (?1, ?2)";
        connection.execute(insert, params![Root::KEY, record])?;
        connection.execute_batch("COMMIT")
    };
    create().map_err(|error| faults.engine(error))?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use mendb_model::key::KeyRange;

    use super::*;
    use crate::kernel::ShardId;
    use crate::kernel::cursor::{Cursor, Direction};

    fn open(dir: &Path) -> Result<Store> {
        Store::open(dir, &Options::default())
    }

    #[test]
    fn a_reader_sees_its_commit_however_much_is_committed_since() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        let delta = Section::of_shard(Tree::Delta, ShardId(1));
        let put = |value: u32| {
            let mut batch = Batch::default();
            for key in 0_u32..2_000 {
                batch.insert(&delta, &key.to_be_bytes(), value.to_be_bytes());
            }
            store.commit(batch).unwrap();
        };
        put(1);
        let (reader, _) = store.read().unwrap();
        let mut cursor = Cursor::new(&reader, &delta, &KeyRange::all(), Direction::Ascending);
        assert!(cursor.next().is_some());
        for value in 2..60 {
            put(value);
        }
        assert_eq!(
            cursor
                .filter(|entry| entry.as_ref().unwrap().1 == [0, 0, 0, 1])
                .count(),
            1_999
        );
    }

    #[test]
    fn who_reads_does_not_wait_for_who_writes() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        let writing = Connection::open(dir.path().join(DATABASE)).unwrap();
        writing.execute_batch("BEGIN IMMEDIATE").unwrap();
        // The first of each opens a connection of its own.
        let read = store.read().unwrap();
        let again = store.read().unwrap();
        let look = crate::kernel::look(dir.path()).unwrap().unwrap();
        assert!(read.1 == again.1 && read.1 == look.root);
    }

    #[test]
    fn a_commit_that_was_acknowledged_and_is_gone_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let before = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        let mut root = store.read().unwrap().1;
        drop(store);
        std::fs::copy(dir.path().join(DATABASE), before.path().join(DATABASE)).unwrap();
        let store = open(dir.path()).unwrap();
        root.commit += 1;
        let mut batch = Batch::default();
        Store::put_root(&mut batch, &root);
        store.commit(batch).unwrap();
        store.sync(root.commit).unwrap();
        drop(store);
        std::fs::copy(before.path().join(DATABASE), dir.path().join(DATABASE)).unwrap();
        assert!(matches!(open(dir.path()), Err(Error::Damaged { .. })));
        std::fs::remove_file(dir.path().join(DATABASE)).unwrap();
        assert!(matches!(open(dir.path()), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_store_that_is_open_is_locked_and_one_of_the_format_before_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        assert!(matches!(open(dir.path()), Err(Error::Locked { .. })));
        drop(store);
        std::fs::create_dir(dir.path().join(FILE_OF_FORMAT_1)).unwrap();
        assert!(matches!(
            open(dir.path()),
            Err(Error::Format { found: 1, .. })
        ));
    }
}
