//! The process that leads: appends entries, makes snapshots, and says that it lives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::entry::{self, FORMAT_VERSION, Head};
use super::leading::{Document, LEADER, Turn};
use super::{ENTRIES, End, Log, SNAPSHOTS, name_of};
use crate::error::{Error, Result};
use crate::holder::Holder;
use crate::objects::{Created, StoreKind, pause};
use crate::random::random_id;
use crate::replace::Seen;

/// So often a leader says that it lives in the time that it may be silent.
const RENEWALS: u64 = 5;
/// A renewal that takes so many times as long as they are apart is given up, and made again.
const LONGEST_RENEWAL: u32 = 2;

/// The right to append to a log, until another process takes over.
#[derive(Debug)]
pub struct Leader {
    led: Arc<Led>,
    tail: Mutex<End>,
    renewing: JoinHandle<()>,
}

#[derive(Debug)]
struct Led {
    log: Log,
    epoch: u64,
    writer: String,
    holder: Holder,
    /// `leader.json` as this process wrote it last.
    document: Mutex<(Document, Seen)>,
    /// The last entry of this log.
    last: AtomicU64,
    /// Set for good when another leads, or this one cannot any more.
    is_lost: watch::Sender<bool>,
    state: StdMutex<State>,
}

/// What a leader has to tell.
#[derive(Debug, Default)]
struct State {
    /// Why it leads no more, as a sentence.
    lost: Option<String>,
    /// What the store said last, where that was no answer.
    trouble: Option<String>,
}

/// What a snapshot is of.
#[derive(Debug, Clone)]
pub struct SnapshotPoint {
    end: End,
}

impl Log {
    /// Takes the lead behind the end that was read after the turn came. `None` when another process was faster, or was
    /// appending after all: then nothing has changed but who is waited for. `address` is where others are sent.
    ///
    /// Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::LogCut`] where `leader.json` tells of entries after that end; as [`Self::check_is_there`]; or the store
    /// fails.
    pub async fn lead(
        &self,
        turn: Turn,
        end: &End,
        address: Option<String>,
    ) -> Result<Option<Leader>> {
        let holder = Holder::this("leads");
        let led = self.try_lead(turn, end, address, &holder).await;
        if !matches!(led, Ok(Some(_))) {
            // Nobody waits for it.
            holder.is_over();
        }
        led
    }

    async fn try_lead(
        &self,
        turn: Turn,
        end: &End,
        address: Option<String>,
        holder: &Holder,
    ) -> Result<Option<Leader>> {
        let known = turn.seen.as_ref().map(|seen| self.read_leader(seen));
        // What is damaged tells nothing.
        let last = known.and_then(Result::ok).map_or(0, |known| known.last);
        if last > end.number {
            return Err(self.cut(last, end.number));
        }
        let writer = random_id();
        let mut tail = end.clone();
        let head = Head {
            format_version: FORMAT_VERSION,
            number: end.number + 1,
            epoch: end.epoch + 1,
            writer: writer.clone(),
            previous: end.seal.clone(),
            takes_over: true,
            takeovers: Vec::new(),
            bytes: 0,
        };
        // One of those whose turn it is: else each would take over from the one before.
        let document = Document::new(head.epoch, holder.clone(), address, end.number);
        let Some(seen) = self.name_leader(turn, &document).await? else {
            return Ok(None);
        };
        let (bytes, seal) = entry::encode(&head, &[]);
        let name = name_of(ENTRIES, head.number);
        if !self.create_own(&name, &Bytes::from(bytes)).await? {
            return Ok(None);
        }
        self.check_is_there().await?;
        // Where the number was free because the entry of another was removed, a snapshot has it.
        let newest = self.newest_snapshot().await?;
        if newest.is_some_and(|newest| newest >= head.number) {
            return Ok(None);
        }
        tail.number = head.number;
        tail.epoch = head.epoch;
        tail.seal = seal;
        tail.takeovers.push(head.number);
        let led = Arc::new(Led {
            log: self.clone(),
            epoch: head.epoch,
            writer,
            holder: holder.clone(),
            document: Mutex::new((document, seen)),
            last: AtomicU64::new(head.number),
            is_lost: watch::Sender::new(false),
            state: StdMutex::default(),
        });
        let renewed = Arc::clone(&led);
        let between = Duration::from_millis((self.objects.options().lease_ms / RENEWALS).max(1));
        let renewing = tokio::spawn(async move {
            while !*renewed.is_lost.borrow() {
                pause(between).await;
                renewed.renew_in(between * LONGEST_RENEWAL).await;
            }
        });
        Ok(Some(Leader {
            led,
            tail: Mutex::new(tail),
            renewing,
        }))
    }
}

impl Log {
    fn cut(&self, last: u64, end: u64) -> Error {
        Error::LogCut {
            log: self.url().to_owned(),
            last,
            end,
        }
    }

    /// Writes `leader.json` where it is what was seen. `None` where it is another by now.
    async fn name_leader(&self, turn: Turn, document: &Document) -> Result<Option<Seen>> {
        let bytes = document.bytes();
        match turn.seen {
            Some(seen) => self.objects.replace(LEADER, &seen, bytes).await,
            None => {
                let (Created::Yes | Created::AlreadyThere) =
                    self.objects.create(LEADER, bytes.clone()).await?;
                let there = self.objects.see(LEADER).await?;
                Ok(there.filter(|there| there.bytes == bytes))
            }
        }
    }
}

impl Leader {
    /// Its epoch: each leader has a greater one than those before.
    pub fn epoch(&self) -> u64 {
        self.led.epoch
    }

    /// Turns true when it is known that another process leads, or that this one cannot any more.
    pub fn lost(&self) -> watch::Receiver<bool> {
        self.led.is_lost.subscribe()
    }

    /// Why it leads no more, as a sentence.
    pub fn why_lost(&self) -> Option<String> {
        self.led.state().lost.clone()
    }

    /// Why nothing can be appended now, as a sentence: the store does not answer, or refuses.
    pub fn trouble(&self) -> Option<String> {
        self.led.state().trouble.clone()
    }

    /// Appends an entry; durable when it returns. Waits for a store that fails in a way that can pass, for as long
    /// as it takes: whether an entry came to be must be known before anything else is done.
    ///
    /// # Errors
    /// [`Error::NotLeading`] when another process leads: nothing was appended, and never will be. The log is not there
    /// any more, or the store refuses: then it is not known, and this leader appends nothing any more.
    pub async fn append(&self, payload: &[u8]) -> Result<()> {
        let mut tail = self.tail.lock().await;
        let led = &self.led;
        let head = Head {
            format_version: FORMAT_VERSION,
            number: tail.number + 1,
            epoch: led.epoch,
            writer: led.writer.clone(),
            previous: tail.seal.clone(),
            takes_over: false,
            takeovers: Vec::new(),
            bytes: payload.len() as u64,
        };
        let (bytes, seal) = entry::encode(&head, payload);
        let bytes = Bytes::from(bytes);
        let name = name_of(ENTRIES, head.number);
        loop {
            if *led.is_lost.borrow() {
                return Err(led.not_leading());
            }
            match led.put(&name, &bytes).await {
                Ok(true) => break,
                Ok(false) => {
                    led.lose("another process leads");
                    return Err(led.not_leading());
                }
                Err(error) if error.is_retriable() => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the journal waits for its store"
                    );
                    led.is_in_trouble(&error);
                    pause(Duration::from_secs(1)).await;
                }
                Err(error) => {
                    led.lose(&described(&error));
                    return Err(error);
                }
            }
        }
        led.state().trouble = None;
        led.last.store(head.number, Ordering::SeqCst);
        tail.number = head.number;
        tail.seal = seal;
        Ok(())
    }

    /// What a snapshot is of that has all entries so far.
    pub async fn snapshot_point(&self) -> SnapshotPoint {
        let end = self.tail.lock().await.clone();
        SnapshotPoint { end }
    }

    /// Puts what all entries up to a point come to, and removes what that covers.
    ///
    /// # Errors
    /// The store fails: the snapshot is there or not, and the next one removes what this one left.
    pub async fn snapshot(&self, point: SnapshotPoint, payload: &[u8]) -> Result<()> {
        let End {
            number,
            epoch,
            seal,
            takeovers,
        } = point.end;
        let head = Head {
            format_version: FORMAT_VERSION,
            number,
            epoch,
            writer: self.led.writer.clone(),
            previous: seal,
            takes_over: false,
            takeovers,
            bytes: payload.len() as u64,
        };
        let log = &self.led.log;
        let (bytes, _) = entry::encode(&head, payload);
        // One that is there says the same.
        let (Created::Yes | Created::AlreadyThere) = log
            .objects
            .create(&name_of(SNAPSHOTS, number), bytes.into())
            .await?;
        log.check_is_there().await?;
        let snapshots = log.numbers(SNAPSHOTS).await?.into_iter();
        let entries = log.numbers(ENTRIES).await?.into_iter();
        let is_covered = |entry: &u64| *entry <= number && !head.takeovers.contains(entry);
        let covered = snapshots
            .filter(|snapshot| *snapshot < number)
            .map(|snapshot| name_of(SNAPSHOTS, snapshot));
        let covered = covered.chain(
            entries
                .filter(is_covered)
                .map(|entry| name_of(ENTRIES, entry)),
        );
        log.objects.delete_all(covered.collect()).await
    }

    /// Lets others lead at once. Where that cannot be said, they find out.
    pub async fn release(self) {
        self.renewing.abort();
        if *self.led.is_lost.borrow() {
            return;
        }
        self.led.lose("it has ended in order");
        let mut document = self.led.document.lock().await;
        document.0.renewal += 1;
        document.0.last = self.led.last.load(Ordering::SeqCst);
        document.0.holder = None;
        let bytes = document.0.bytes();
        let replaced = self.led.log.objects.replace(LEADER, &document.1, bytes);
        if let Err(error) = replaced.await {
            tracing::debug!(%error, "that this process leads no more could not be said");
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.renewing.abort();
        self.led.holder.is_over();
    }
}

impl Led {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_in_trouble(&self, error: &Error) {
        self.state().trouble = Some(described(error));
    }

    /// Creates an entry of this log. `false` where another one is.
    async fn put(&self, name: &str, bytes: &Bytes) -> Result<bool> {
        let log = &self.log;
        match log.objects.place {
            StoreKind::Directory(_) => {
                log.check_is_there().await?;
                let is_ours = log.create_own(name, bytes).await?;
                log.check_is_there().await?;
                Ok(is_ours)
            }
            StoreKind::Remote(_) => {
                let put = log.create_own(name, bytes);
                let (is_ours, ()) = tokio::try_join!(put, log.check_is_there())?;
                Ok(is_ours)
            }
        }
    }

    /// Says once more that this process leads, and gives up after a time.
    async fn renew_in(&self, limit: Duration) {
        let error = match tokio::time::timeout(limit, self.renew()).await {
            Ok(Ok(())) => {
                self.state().trouble = None;
                return;
            }
            Ok(Err(error)) => error,
            Err(_) => Error::TimedOut {
                object: self.log.objects.full_name(LEADER),
                action: "write",
                limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            },
        };
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot say that this process leads"
        );
        match error {
            Error::LogGone { .. } | Error::OtherLog { .. } | Error::LogCut { .. } => {
                self.lose(&described(&error));
            }
            error => self.is_in_trouble(&error),
        }
    }

    /// Says once more that this process leads, unless another does, and makes sure that what it has written is there.
    async fn renew(&self) -> Result<()> {
        self.log.check_is_there().await?;
        let last = self.last.load(Ordering::SeqCst);
        if self.say_that_it_leads(last).await? {
            self.check_last(last).await?;
        }
        Ok(())
    }

    /// Writes `leader.json`; `false` where another leads.
    async fn say_that_it_leads(&self, last: u64) -> Result<bool> {
        let mut state = self.document.lock().await;
        let objects = &self.log.objects;
        let mut document = state.0.clone();
        document.renewal += 1;
        document.last = last;
        let replaced = objects.replace(LEADER, &state.1, document.bytes());
        if let Some(seen) = replaced.await? {
            *state = (document, seen);
            return Ok(true);
        }
        loop {
            let Some(seen) = objects.see(LEADER).await? else {
                self.log.check_is_there().await?;
                let (Created::Yes | Created::AlreadyThere) =
                    objects.create(LEADER, document.bytes()).await?;
                continue;
            };
            // One that is damaged tells of nobody, and is mended: who leads is decided by the log.
            if let Ok(there) = self.log.read_leader(&seen) {
                if there.epoch > self.epoch {
                    self.lose("another process leads");
                    return Ok(false);
                }
                let is_ours = there
                    .holder
                    .as_ref()
                    .is_some_and(|holder| holder.is_same(&self.holder));
                if is_ours {
                    document.renewal = there.renewal + 1;
                }
            }
            if let Some(seen) = objects.replace(LEADER, &seen, document.bytes()).await? {
                *state = (document, seen);
                return Ok(true);
            }
        }
    }

    /// Makes sure that an entry is there, or a snapshot that has it.
    async fn check_last(&self, last: u64) -> Result<()> {
        let log = &self.log;
        if log.objects.size(&name_of(ENTRIES, last)).await?.is_some()
            || log.newest_snapshot().await?.is_some_and(|it| it >= last)
        {
            return Ok(());
        }
        let entries = log.numbers(ENTRIES).await?;
        Err(log.cut(last, entries.last().copied().unwrap_or(0)))
    }

    /// Leads no more, for good. The first reason is the one.
    fn lose(&self, why: &str) {
        self.state().lost.get_or_insert_with(|| why.to_owned());
        self.is_lost.send_replace(true);
    }

    fn not_leading(&self) -> Error {
        Error::NotLeading {
            log: self.log.url().to_owned(),
        }
    }
}

/// An error and its causes, as a sentence.
fn described(error: &Error) -> String {
    mendb_model::describe_error(error)
}
