//! A log on an object store to which one process at a time appends, and which others go on with.
//!
//! ```text
//! log/<number, 20 digits>        an entry
//! snapshot/<number, 20 digits>   what all entries up to that one come to
//! leader.json                    who appends, renewed while it lives
//! log.json                       which log this is: created once, with it
//! ```
//!
//! **Fencing.** An entry is created only where there is none. Who leads appends one after another; who takes over
//! reads to the end and appends an entry that begins a new epoch. The leader of before finds its next number taken,
//! however long it was stopped, and appends nothing any more. An answer that got lost is settled by reading what is
//! there: an entry names the one that wrote it.
//!
//! **Removal.** When a snapshot is there, the entries that it covers go, but for those that began an epoch. So an
//! old leader never finds its next number free again: that is either its own entry or the first of the epoch after.
//! Who takes over may have read an old end and find its number free because it was removed; a snapshot that covers
//! the number tells it so afterwards, and then it does not lead.
//!
//! **Liveness.** `leader.json` decides nothing: it only tells those who wait whether anybody leads. They watch it
//! change by counting their own looks; no clocks are compared.
//!
//! **Identity.** Who uses a log knows its id ([`LogId`]), and makes none: [`LogPlace::create`] alone does, for who has made
//! sure that there was none. An entry is acknowledged when the log with that id was there around its write. In a directory
//! one look is before and one after: where it was moved away, the write makes another directory. On other stores the look
//! goes beside the write and costs no time; what is written while a bucket is emptied is as lost as what was written before.
//!
//! **The newest entries.** `leader.json` also tells the last entry as of its last renewal, and a leader looks whether that is
//! there. Where it is not, nobody leads ([`Error::LogCut`]). What was appended since the last renewal and removed before the
//! next, with its leader gone, is not missed.
//!
//! **Trust.** Each object ends with the BLAKE3 of what is before, and names that of the entry before it: one that is
//! damaged, missing or of another log is an error that names it.

mod entry;
mod identity;
mod leader;
mod leading;
mod place;

use bytes::Bytes;
use futures::StreamExt;

use self::entry::{FORMAT_VERSION, Read};
use crate::error::{Error, Result};
use crate::objects::{Created, Objects};
use crate::seal::Unreadable;

pub use identity::LogId;
pub use leader::{Leader, SnapshotPoint};
pub use leading::{Leading, Look, Turn};
pub use place::{LogPlace, LogThere};

const ENTRIES: &str = "log";
const SNAPSHOTS: &str = "snapshot";

/// Entries that are fetched at once.
const READ_AT_ONCE: usize = 16;
/// So often a log is read again from its beginning because it was cut there meanwhile.
const MOST_READINGS: u32 = 20;

/// A log on an object store, known by its id. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Log {
    objects: Objects,
    id: LogId,
}

/// What a log holds, piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// It begins here, with a snapshot if there is one: what was told before is void.
    Start(Option<&'a [u8]>),
    /// The next entry.
    Entry(&'a [u8]),
}

/// How far a log was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The number of the last entry; 0 where there is none.
    pub number: u64,
    /// The epoch of that entry.
    pub epoch: u64,
    /// The hash at its end.
    seal: String,
    /// The entries that have begun epochs.
    takeovers: Vec<u64>,
}

impl End {
    fn of_nothing() -> Self {
        Self {
            number: 0,
            epoch: 0,
            seal: String::new(),
            takeovers: Vec::new(),
        }
    }

    /// Goes on to the next entry, if that follows.
    fn follow(&mut self, read: &Read) -> Result<(), String> {
        let head = &read.head;
        let begins = u64::from(head.takes_over);
        if head.previous != self.seal {
            return Err(format!(
                "it does not follow entry {} of this log",
                self.number
            ));
        }
        if head.epoch != self.epoch + begins {
            return Err(format!(
                "it is of epoch {}, and the entry before of {}",
                head.epoch, self.epoch
            ));
        }
        self.number = head.number;
        self.epoch = head.epoch;
        self.seal.clone_from(&read.seal);
        if head.takes_over {
            self.takeovers.push(head.number);
        }
        Ok(())
    }
}

impl Log {
    /// Its URL, without a slash at the end.
    pub fn url(&self) -> &str {
        self.objects.url()
    }

    /// Reads what the log holds now, and tells each piece in order. What `take` calls an error makes the object
    /// of that piece a damaged one.
    ///
    /// # Errors
    /// An object is missing, damaged or of another format; as [`Self::check_is_there`]; or the store fails.
    pub async fn read(
        &self,
        take: &mut (dyn FnMut(Piece<'_>) -> Result<(), String> + Send),
    ) -> Result<End> {
        let read = self.read_all(take).await;
        // That is why objects are missing, if it is so.
        self.check_is_there().await?;
        read
    }

    /// As [`Self::read`], of whatever log is there.
    async fn read_all(
        &self,
        take: &mut (dyn FnMut(Piece<'_>) -> Result<(), String> + Send),
    ) -> Result<End> {
        for _ in 0..MOST_READINGS {
            if let Some(end) = self.try_read(take).await? {
                return Ok(end);
            }
        }
        Err(self.objects.damaged(
            SNAPSHOTS,
            "snapshots come faster than they can be read: look for a second program that writes there",
        ))
    }

    /// As [`Self::read_all`]; `None` where the log was cut at its beginning meanwhile.
    async fn try_read(
        &self,
        take: &mut (dyn FnMut(Piece<'_>) -> Result<(), String> + Send),
    ) -> Result<Option<End>> {
        let newest = self.newest_snapshot().await?;
        let read = self.read_behind(newest, take).await;
        // What was read where others removed entries meanwhile, and one may have tried to lead at such a number, tells
        // nothing, not even that something is damaged.
        match self.newest_snapshot().await? == newest {
            true => read,
            false => Ok(None),
        }
    }

    /// Reads what is there behind a snapshot, which counts while no newer one is there. `None` where it is gone.
    async fn read_behind(
        &self,
        newest: Option<u64>,
        take: &mut (dyn FnMut(Piece<'_>) -> Result<(), String> + Send),
    ) -> Result<Option<End>> {
        let listed = self.numbers(ENTRIES).await?;
        let mut end = match newest {
            None => {
                self.told(ENTRIES, take(Piece::Start(None)))?;
                End::of_nothing()
            }
            Some(number) => {
                let Some(read) = self.fetch(SNAPSHOTS, number).await? else {
                    return Ok(None);
                };
                let name = name_of(SNAPSHOTS, number);
                self.told(&name, take(Piece::Start(Some(&read.payload))))?;
                self.check_takeovers(&read, &listed)?;
                End {
                    number,
                    epoch: read.head.epoch,
                    seal: read.head.previous,
                    takeovers: read.head.takeovers,
                }
            }
        };
        let last_listed = listed.last().copied().unwrap_or(0);
        let known = end.number + 1..=last_listed;
        let fetches = known.map(|number| self.fetch(ENTRIES, number));
        let mut fetches = futures::stream::iter(fetches).buffered(READ_AT_ONCE);
        while let Some(read) = fetches.next().await {
            match read? {
                Some(read) => self.take(&mut end, &read, take)?,
                None => break,
            }
        }
        drop(fetches);
        // Those that came since.
        while end.number >= last_listed
            && let Some(read) = self.fetch(ENTRIES, end.number + 1).await?
        {
            self.take(&mut end, &read, take)?;
        }
        if end.number < last_listed {
            return Err(self.objects.damaged(
                &name_of(ENTRIES, end.number + 1),
                format!("it is missing, and entry {last_listed} is there"),
            ));
        }
        Ok(Some(end))
    }

    /// Those that begin epochs keep old leaders out, and are never removed.
    fn check_takeovers(&self, snapshot: &Read, listed: &[u64]) -> Result<()> {
        let mut takeovers = snapshot.head.takeovers.iter();
        match takeovers.find(|takeover| !listed.contains(takeover)) {
            None => Ok(()),
            Some(missing) => Err(self.objects.damaged(
                &name_of(ENTRIES, *missing),
                format!(
                    "it is missing, and snapshot {} stands on it",
                    snapshot.head.number
                ),
            )),
        }
    }

    fn take(
        &self,
        end: &mut End,
        read: &Read,
        take: &mut (dyn FnMut(Piece<'_>) -> Result<(), String> + Send),
    ) -> Result<()> {
        let name = name_of(ENTRIES, read.head.number);
        self.told(&name, end.follow(read))?;
        self.told(&name, take(Piece::Entry(&read.payload)))
    }

    fn told(&self, name: &str, taken: Result<(), String>) -> Result<()> {
        taken.map_err(|detail| self.objects.damaged(name, detail))
    }

    /// Reads an entry or a snapshot; `None` where there is none.
    async fn fetch(&self, directory: &str, number: u64) -> Result<Option<Read>> {
        let name = name_of(directory, number);
        let read = self
            .objects
            .get(&name, 0, |bytes| match entry::decode(&bytes, number) {
                Ok(read) => Ok(Ok(read)),
                Err(Unreadable::Damaged(detail)) => Err(detail),
                Err(Unreadable::UnknownFormat(version)) => Ok(Err(version)),
            });
        match read.await {
            Ok(Ok(read)) => Ok(Some(read)),
            Ok(Err(version)) => Err(self.unknown_format(&name, version)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn unknown_format(&self, name: &str, version: u64) -> Error {
        Error::UnknownFormat {
            object: self.objects.full_name(name),
            version,
            newest: FORMAT_VERSION,
        }
    }

    async fn newest_snapshot(&self) -> Result<Option<u64>> {
        Ok(self.numbers(SNAPSHOTS).await?.last().copied())
    }

    /// The numbers of the objects in a directory, ascending.
    async fn numbers(&self, directory: &str) -> Result<Vec<u64>> {
        let listed = self.objects.list(directory).await?.into_iter();
        let mut numbers: Vec<u64> = listed
            .filter(|object| object.name.len() == DIGITS)
            .filter_map(|object| object.name.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Creates an object, or finds that it is there as it was to be. `false` where another one is, or was.
    async fn create_own(&self, name: &str, bytes: &Bytes) -> Result<bool> {
        match self.objects.create(name, bytes.clone()).await? {
            Created::Yes => Ok(true),
            Created::AlreadyThere => {
                let there = self.objects.see(name).await?;
                Ok(there.is_some_and(|there| there.bytes == *bytes))
            }
        }
    }
}

/// Digits of a number in a name: they sort as the numbers do.
const DIGITS: usize = 20;

fn name_of(directory: &str, number: u64) -> String {
    format!("{directory}/{number:0width$}", width = DIGITS)
}
