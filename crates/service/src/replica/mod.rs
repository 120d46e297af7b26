//! SQLite files of this process whose every commit is in a log on an object store, so that another process can go on
//! with them.
//!
//! *Consistency*: a commit is sent as the pages that it wrote, which are read from SQLite's write-ahead log (`wal`).
//! One entry of the log is one commit of one file, and they are in the order in which they happened. A file has one
//! connection, which its user locks from the beginning of a transaction until its entry is there: nobody sees what is
//! not in the log yet. *Fencing*: where another process has taken over, the entry is refused, and from then on every
//! use of every file is. What was committed here alone is thrown away with the files.
//!
//! *Crash*: the files are nothing but a copy. Who takes over makes them anew of the log (`image`), so they need no
//! flush to disk and live in a private directory that goes with the process.
//!
//! Not SQLite's session extension: that knows no definitions of tables and no `sqlite_sequence`, and its bindings need
//! a C compiler's front end at build time. Pages are what SQLite itself would bring back after a crash.

pub mod image;
mod pages;
mod wal;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mendb_repo::log::{Leader, Log, Turn};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::image::Image;
use self::pages::FilePages;
use self::wal::Wal;
use crate::error::{Error, Result};

/// A snapshot is made after so many entries: who takes over reads no more than that.
const ENTRIES_A_SNAPSHOT: u64 = 512;
/// Or after so many bytes of pages, if that is more than the files have.
const BYTES_A_SNAPSHOT: u64 = 4 << 20;
/// Frames of SQLite's log after which it is emptied.
const FRAMES_KEPT: u64 = 1000;

/// The files of a process that leads.
pub struct Replica {
    /// Below this the files are, under their names in the log.
    directory: PathBuf,
    url: String,
    runtime: Arc<Runtime>,
    leader: Mutex<Option<Arc<Leader>>>,
    lost: watch::Receiver<bool>,
    sent: Mutex<Sent>,
    /// Set for good when an entry was refused.
    has_failed: AtomicBool,
    entries: AtomicU64,
    bytes: AtomicU64,
    snapshots: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Files that have their one connection.
    open: Mutex<BTreeSet<String>>,
}

/// What was sent, as it is in the log.
struct Sent {
    image: Image,
    /// Entries behind the last snapshot, and the bytes in them.
    entries: u64,
    bytes: u64,
}

/// How much a process has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentCounts {
    /// Entries, one for each commit that wrote something.
    pub entries: u64,
    /// Bytes of pages in them, before they were compressed.
    pub bytes: u64,
}

impl Replica {
    /// Takes the lead of a log when the turn has come, and makes its files in a directory, in which nothing else may be.
    /// `None` when another process was faster. `address` is where others are sent.
    ///
    /// # Errors
    /// The log is damaged, the store fails, or the files cannot be written.
    pub fn lead(
        log: &Log,
        turn: Turn,
        runtime: &Arc<Runtime>,
        directory: &Path,
        address: Option<String>,
    ) -> Result<Option<Arc<Self>>> {
        let image = directory.join("image");
        let files = directory.join("files");
        let mut image = Image::new(image);
        let read = runtime.block_on(image.read(log))?;
        let Some(leader) = runtime.block_on(log.lead(turn, &read.end, address))? else {
            return Ok(None);
        };
        image.copy_to(&files)?;
        let leader = Arc::new(leader);
        Ok(Some(Arc::new(Self {
            directory: files,
            url: log.url().to_owned(),
            runtime: Arc::clone(runtime),
            lost: leader.lost(),
            leader: Mutex::new(Some(leader)),
            sent: Mutex::new(Sent {
                image,
                // Also where each process leads for a short time only, the log stays short.
                entries: read.entries,
                bytes: read.bytes,
            }),
            has_failed: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            snapshots: Mutex::default(),
            open: Mutex::default(),
        })))
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The URL of the log.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Turns true when it is known that another process leads, or that this one cannot any more.
    pub fn lost(&self) -> watch::Receiver<bool> {
        self.lost.clone()
    }

    /// Why this process leads no more, as a sentence.
    pub fn why_lost(&self) -> Option<String> {
        lock(&self.leader).as_ref()?.why_lost()
    }

    /// Why nothing can be written now, as a sentence: the store does not answer, or refuses.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.leader).as_ref()?.trouble()
    }

    /// How much was sent so far.
    pub fn sent(&self) -> SentCounts {
        SentCounts {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Opens the file at a path below the directory, which is made if it is not there. It has this one connection.
    ///
    /// # Errors
    /// It cannot be opened, it is open already, or another process leads.
    pub fn open(self: &Arc<Self>, path: &Path) -> Result<(Connection, ReplicaFile)> {
        let name = path.strip_prefix(&self.directory).ok();
        let name = name
            .and_then(Path::to_str)
            .filter(|name| pages::is_name(name));
        let name = name.ok_or_else(|| {
            Error::refused(
                format!(
                    "{} is no file of the journal in {}",
                    path.display(),
                    self.url
                ),
                "this is a defect of mendb: report it",
            )
        })?;
        if !lock(&self.open).insert(name.to_owned()) {
            return Err(Error::refused(
                format!("{name} of the journal in {} is open already", self.url),
                "this is a defect of mendb: report it",
            ));
        }
        let opened = self.open_new(path, name);
        if opened.is_err() {
            lock(&self.open).remove(name);
        }
        opened
    }

    fn open_new(self: &Arc<Self>, path: &Path, name: &str) -> Result<(Connection, ReplicaFile)> {
        if let Some(above) = path.parent() {
            image::make_private(above)?;
        }
        let failed = |source| Error::Journal {
            path: path.display().to_string(),
            action: "open".to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(failed)?;
        // Nobody else may empty SQLite's log; what is lost with the machine is made anew.
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
                 PRAGMA wal_autocheckpoint = 0; PRAGMA foreign_keys = ON;",
            )
            .map_err(failed)?;
        let file = ReplicaFile {
            replica: Arc::clone(self),
            name: name.to_owned(),
            wal: Mutex::new(Wal::new(path)),
        };
        if !lock(&self.sent).image.has(name) {
            self.send(&FilePages::of_file(name, path)?)?;
        }
        Ok((connection, file))
    }

    /// Appends a commit, and makes a snapshot where it is time.
    fn send(self: &Arc<Self>, commit: &FilePages) -> Result<()> {
        let mut sent = lock(&self.sent);
        self.check()?;
        let leader = self.leader()?;
        let payload = pages::encode(std::slice::from_ref(commit));
        let appended = self.runtime.block_on(leader.append(&payload));
        let kept = appended
            .map_err(Error::from)
            .and_then(|()| sent.image.apply(commit));
        if let Err(error) = kept {
            self.has_failed.store(true, Ordering::SeqCst);
            return Err(error);
        }
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes
            .fetch_add(payload.len() as u64, Ordering::Relaxed);
        sent.entries += 1;
        sent.bytes += payload.len() as u64;
        let most_bytes = BYTES_A_SNAPSHOT.max(sent.image.bytes());
        if sent.entries >= ENTRIES_A_SNAPSHOT || sent.bytes >= most_bytes {
            self.begin_snapshot(&mut sent, &leader);
        }
        Ok(())
    }

    /// Has a thread put a snapshot of what was sent, unless one is under way.
    fn begin_snapshot(self: &Arc<Self>, sent: &mut Sent, leader: &Arc<Leader>) {
        let mut running = lock(&self.snapshots);
        if running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let failed = |error: &(dyn std::error::Error + 'static)| {
            tracing::warn!(error, "no snapshot of the journal; it is tried again");
        };
        let payload = match sent.image.read_all() {
            Ok(files) => pages::encode(&files),
            Err(error) => return failed(&error),
        };
        let point = self.runtime.block_on(leader.snapshot_point());
        let (leader, handle) = (Arc::clone(leader), self.runtime.handle().clone());
        let thread = std::thread::Builder::new().name("snapshot".to_owned());
        let spawned = thread.spawn(move || {
            if let Err(error) = handle.block_on(leader.snapshot(point, &payload)) {
                failed(&error);
            }
        });
        match spawned {
            Ok(thread) => {
                *running = Some(thread);
                sent.entries = 0;
                sent.bytes = 0;
            }
            Err(error) => failed(&error),
        }
    }

    fn leader(&self) -> Result<Arc<Leader>> {
        lock(&self.leader).clone().ok_or_else(|| self.not_leading())
    }

    /// Makes sure that no entry was refused so far.
    fn check(&self) -> Result<()> {
        match self.has_failed.load(Ordering::SeqCst) || *self.lost.borrow() {
            true => Err(self.not_leading()),
            false => Ok(()),
        }
    }

    fn not_leading(&self) -> Error {
        let log = self.url.clone();
        mendb_repo::Error::NotLeading { log }.into()
    }

    /// Lets others lead at once. Nothing is written any more.
    pub fn release(&self) {
        let snapshot = lock(&self.snapshots).take();
        if let Some(snapshot) = snapshot {
            // It says itself what failed.
            let _ = snapshot.join();
        }
        // After what is being sent.
        let _sent = lock(&self.sent);
        self.has_failed.store(true, Ordering::SeqCst);
        let leader = lock(&self.leader).take().and_then(Arc::into_inner);
        if let Some(leader) = leader {
            self.runtime.block_on(leader.release());
        }
    }
}

/// One of the files, with its connection.
pub struct ReplicaFile {
    replica: Arc<Replica>,
    name: String,
    wal: Mutex<Wal>,
}

impl ReplicaFile {
    /// Makes sure that the file may be used: nothing of it was refused. Called under the lock of the connection.
    ///
    /// # Errors
    /// Another process leads, or an entry could not be sent.
    pub fn check(&self) -> Result<()> {
        self.replica.check()
    }

    /// Sends what the connection has committed since the last call; in the log when this returns. Called under the
    /// lock of the connection, with no transaction open.
    ///
    /// # Errors
    /// Another process leads, or the store refuses: the commit is void, and so is every later use of the file.
    pub fn keep(&self, connection: &Connection) -> Result<()> {
        let mut wal = lock(&self.wal);
        let read = wal.read_new();
        let pages = match read {
            Ok(Some(pages)) => pages,
            Ok(None) => return self.check(),
            Err(source) => {
                self.replica.has_failed.store(true, Ordering::SeqCst);
                return Err(Error::Io {
                    action: format!("read what was committed to {}", wal.path().display()),
                    source,
                });
            }
        };
        self.replica.send(&FilePages {
            name: self.name.clone(),
            pages,
        })?;
        if wal.frames() >= FRAMES_KEPT {
            let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, i64>(0)
            });
            if matches!(emptied, Ok(0)) {
                wal.emptied();
            }
        }
        Ok(())
    }
}

impl Drop for ReplicaFile {
    fn drop(&mut self) {
        lock(&self.replica.open).remove(&self.name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
