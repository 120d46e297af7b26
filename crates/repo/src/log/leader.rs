//! The process that leads: appends entries, makes snapshots, and says that it lives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::entry::{self, FORMAT_VERSION, Head};
use super::leading::{Document, LEADER, Turn};
use super::{ENTRIES, End, Log, SNAPSHOTS, name_of};
use crate::error::{Error, Result};
use crate::holder::Holder;
use crate::objects::{Created, pause};
use crate::random::random_id;
use crate::replace::Seen;

/// So often a leader says that it lives in the time that it may be silent.
const RENEWALS: u64 = 5;

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
    /// Set for good when another leads.
    is_lost: watch::Sender<bool>,
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
    /// The store fails.
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
        let document = Document::new(head.epoch, holder.clone(), address);
        let Some(seen) = self.name_leader(turn, &document).await? else {
            return Ok(None);
        };
        let (bytes, seal) = entry::encode(&head, &[]);
        let name = name_of(ENTRIES, head.number);
        if !self.create_own(&name, &Bytes::from(bytes)).await? {
            return Ok(None);
        }
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
            is_lost: watch::Sender::new(false),
        });
        let renewed = Arc::clone(&led);
        let between = Duration::from_millis((self.objects.options().lease_ms / RENEWALS).max(1));
        let renewing = tokio::spawn(async move {
            while !*renewed.is_lost.borrow() {
                pause(between).await;
                if let Err(error) = renewed.renew().await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot say that this process leads"
                    );
                }
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

    /// Turns true when it is known that another process leads.
    pub fn lost(&self) -> watch::Receiver<bool> {
        self.led.is_lost.subscribe()
    }

    /// Appends an entry; durable when it returns. Waits for a store that fails in a way that can pass, for as long
    /// as it takes: whether an entry came to be must be known before anything else is done.
    ///
    /// # Errors
    /// [`Error::NotLeading`] when another process leads: nothing was appended, and never will be. The store refuses:
    /// then it is not known, and this leader appends nothing any more.
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
            match led.log.create_own(&name, &bytes).await {
                Ok(true) => break,
                Ok(false) => {
                    led.lose();
                    return Err(led.not_leading());
                }
                Err(error) if error.is_retriable() => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the journal waits for its store"
                    );
                    pause(Duration::from_secs(1)).await;
                }
                Err(error) => {
                    led.lose();
                    return Err(error);
                }
            }
        }
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
        self.led.lose();
        let mut document = self.led.document.lock().await;
        document.0.renewal += 1;
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
    /// Says once more that this process leads, unless another does.
    async fn renew(&self) -> Result<()> {
        let mut state = self.document.lock().await;
        let objects = &self.log.objects;
        let mut document = state.0.clone();
        document.renewal += 1;
        let replaced = objects.replace(LEADER, &state.1, document.bytes());
        if let Some(seen) = replaced.await? {
            *state = (document, seen);
            return Ok(());
        }
        loop {
            let Some(seen) = objects.see(LEADER).await? else {
                let (Created::Yes | Created::AlreadyThere) =
                    objects.create(LEADER, document.bytes()).await?;
                continue;
            };
            let there = self.log.read_leader(&seen)?;
            if there.epoch > self.epoch {
                self.lose();
                return Ok(());
            }
            let is_ours = there
                .holder
                .as_ref()
                .is_some_and(|holder| holder.is_same(&self.holder));
            if is_ours {
                document.renewal = there.renewal + 1;
            }
            if let Some(seen) = objects.replace(LEADER, &seen, document.bytes()).await? {
                *state = (document, seen);
                return Ok(());
            }
        }
    }

    fn lose(&self) {
        self.is_lost.send_replace(true);
    }

    fn not_leading(&self) -> Error {
        Error::NotLeading {
            log: self.log.url().to_owned(),
        }
    }
}
