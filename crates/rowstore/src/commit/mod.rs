//! The last commit and the next one: what all handles of a store share, and the one way to change it.

pub(crate) mod open;
mod transaction;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock, Weak};

use crate::error::Result;
use crate::kernel::{NOT_POISONED, Options, Store};
use crate::shard::view::{Commit, View};
pub(crate) use transaction::{Transaction, Writer};

/// What all handles of a store share.
pub(crate) struct Inner {
    pub(crate) store: Arc<Store>,
    pub(crate) options: Options,
    /// The write lock. Taken after any [`crate::catalogue::Shard::work`], before everything else.
    pub(crate) writer: Mutex<Writer>,
    published: RwLock<Published>,
    /// The view of the last commit, as long as somebody reads it.
    latest: Mutex<Weak<View>>,
    /// The last commit known to be on disk; held while syncing, so that those who wait together are
    /// synced together.
    synced: Mutex<u64>,
    /// Held by views that read what a mend has staged: as long as there are such, nothing is written over it.
    pub(crate) staged_views: Arc<()>,
    /// Bytes that were written to change logs since it was looked how large they are.
    pub(crate) logged_bytes: AtomicU64,
}

/// The commits that a reader may find in the engine.
struct Published {
    last: Commit,
    /// The one that is being made: readers may find it before it is the last.
    next: Option<Commit>,
}

impl Inner {
    pub(crate) fn new(store: Arc<Store>, options: Options, writer: Writer, last: Commit) -> Self {
        Self {
            store,
            options,
            writer: Mutex::new(writer),
            published: RwLock::new(Published { last, next: None }),
            latest: Mutex::new(Weak::new()),
            synced: Mutex::new(0),
            staged_views: Arc::new(()),
            logged_bytes: AtomicU64::new(0),
        }
    }

    /// The last commit. Never waits for a writer.
    pub(crate) fn commit(&self) -> Commit {
        self.published.read().expect(NOT_POISONED).last.clone()
    }

    /// The last commit, to be read. Never waits for a writer.
    pub(crate) fn view(&self) -> Result<Arc<View>> {
        let mut latest = self.latest.lock().expect(NOT_POISONED);
        if let Some(view) = latest.upgrade()
            && view.commit.number == self.commit().number
        {
            return Ok(view);
        }
        loop {
            let (reader, root) = self.store.read()?;
            let published = self.published.read().expect(NOT_POISONED);
            let mut commits = std::iter::once(&published.last).chain(&published.next);
            // There is none if two were made between the two lines.
            if let Some(commit) = commits.find(|commit| commit.number == root.commit) {
                let view = Arc::new(View {
                    files: self.store.files().clone(),
                    reader,
                    commit: commit.clone(),
                    store: Some(self.store.clone()),
                    _staged: None,
                });
                *latest = Arc::downgrade(&view);
                return Ok(view);
            }
        }
    }

    /// Tells readers what the next commit will be; called under the write lock.
    pub(crate) fn announce(&self, commit: Commit) {
        self.published.write().expect(NOT_POISONED).next = Some(commit);
    }

    /// Makes a commit the last one; called under the write lock.
    pub(crate) fn publish(&self, commit: Commit) {
        let mut published = self.published.write().expect(NOT_POISONED);
        let before = std::mem::replace(&mut published.last, commit);
        let announced = published.next.take();
        // They may be the last to hold dropped shards.
        drop(published);
        drop((before, announced));
    }

    /// Returns when all commits so far are on disk.
    pub(crate) fn sync(&self) -> Result<()> {
        let wanted = self.commit().number;
        let mut synced = self.synced.lock().expect(NOT_POISONED);
        if *synced < wanted {
            let last = self.commit().number;
            self.store.sync(last)?;
            *synced = last;
        }
        Ok(())
    }

    /// Returns when the commits so far may be acknowledged.
    pub(crate) fn acknowledge(&self) -> Result<()> {
        if self.options.durable {
            self.sync()
        } else {
            Ok(())
        }
    }
}
