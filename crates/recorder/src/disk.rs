//! The disk at one point of a trace: what is on it for certain, and what is on its way.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::error::{Result, failed};
use crate::loss::{Kept, Length, Survival, survives};
use crate::trace::{Change, DataChange, Event, Synced};
use crate::tree::{NameChange, Node, Tree};

/// Which syncs the file system's promises tie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Only what POSIX promises: a file is synced by its own fsync, a name by that of the directory it is in. Names
    /// reach the disk in any order.
    Posix,
    /// As ext4 and XFS do it: names reach the disk in the order in which they were changed, and each fsync
    /// brings all that were changed before.
    Journaled,
}

/// A change that is not on disk for certain.
#[derive(Debug, Clone)]
pub(crate) struct Pending<'t> {
    /// From when on it counts.
    pub(crate) at: usize,
    pub(crate) shown: &'t str,
    pub(crate) change: PendingChange<'t>,
}

#[derive(Debug, Clone)]
pub(crate) enum PendingChange<'t> {
    Data(usize, &'t DataChange),
    Names(Vec<NameChange>),
}

/// The disk while the events of a trace happen.
#[derive(Debug, Clone)]
pub(crate) struct Disk<'t> {
    promise: Promise,
    durable: Tree,
    pub(crate) pending: Vec<Pending<'t>>,
}

impl<'t> Disk<'t> {
    pub(crate) fn new(before: &Tree, promise: Promise) -> Self {
        Self {
            promise,
            durable: before.clone(),
            pending: Vec::new(),
        }
    }

    pub(crate) fn happen(&mut self, event: &'t Event) {
        let change = match &event.change {
            Change::Data(file, change) => PendingChange::Data(*file, change),
            Change::Names(names) => PendingChange::Names(names.clone()),
            Change::Sync(synced) => return self.sync(*synced, event.began),
            Change::Mark(_) => return,
        };
        self.pending.push(Pending {
            at: event.at,
            shown: &event.shown,
            change,
        });
    }

    /// Takes what a sync covers from what is on its way to what is on disk.
    fn sync(&mut self, synced: Synced, began: usize) {
        let all_names = self.promise == Promise::Journaled || synced == Synced::All;
        let durable = &mut self.durable;
        self.pending.retain_mut(|pending| {
            if pending.at >= began {
                return true;
            }
            match &mut pending.change {
                PendingChange::Data(file, change) => {
                    let is_covered = synced == Synced::All || synced == Synced::File(*file);
                    if is_covered {
                        change.apply(durable.file(*file));
                    }
                    !is_covered
                }
                // One half of a rename between directories can be on disk without the other.
                PendingChange::Names(names) => {
                    names.retain(|name| {
                        let is_covered = all_names || synced == Synced::Directory(name.directory);
                        if is_covered {
                            durable.rename(name);
                        }
                        !is_covered
                    });
                    !names.is_empty()
                }
            }
        });
    }

    /// What is on disk if so much of what was on its way has come there.
    pub(crate) fn image(&self, survival: &Survival) -> Image<'_> {
        let mut tree = Tree {
            files: Vec::new(),
            directories: self.durable.directories.clone(),
        };
        let mut is_cut = false;
        for (pending, kept) in self.pending.iter().zip(&survival.kept) {
            let PendingChange::Names(names) = &pending.change else {
                continue;
            };
            is_cut |= *kept == Kept::No && self.promise == Promise::Journaled;
            if *kept != Kept::No && !is_cut {
                names.iter().for_each(|name| tree.rename(name));
            }
        }
        let paths = Tree::paths(&tree.directories).into_iter();
        let entries = paths.map(|(path, node)| match node {
            Node::Directory(_) => (path, None),
            Node::File(file) => (path, Some(self.content(file, survival))),
        });
        Image(entries.collect())
    }

    fn content(&self, file: usize, survival: &Survival) -> Cow<'_, [u8]> {
        static EMPTY: [u8; 0] = [];
        let durable: &[u8] = self
            .durable
            .files
            .get(file)
            .map_or(&EMPTY, |bytes| &bytes[..]);
        let changes = self.pending.iter().zip(&survival.kept);
        let mut changes = changes
            .filter_map(|(pending, kept)| match &pending.change {
                PendingChange::Data(of, change) if *of == file => Some((*change, *kept)),
                _ => None,
            })
            .peekable();
        if changes.peek().is_none() {
            return Cow::Borrowed(durable);
        }
        let mut cached = durable.to_vec();
        let mut content = durable.to_vec();
        let mut lengths = vec![durable.len()];
        let mut length = durable.len();
        for (change, kept) in changes {
            change.apply(&mut cached);
            lengths.push(cached.len());
            match (change, kept) {
                (_, Kept::No) => {}
                (DataChange::Resize { length: new }, _) => {
                    // What lay behind the new end does not come back.
                    content.truncate(*new);
                    length = *new;
                }
                (DataChange::Write { offset, bytes }, _) => {
                    let end = offset + bytes.len();
                    carry(&mut content, &cached, (*offset, end), kept);
                    length = length.max(end);
                }
            }
        }
        let length = match survival.length_of(file) {
            Length::AsKept => length,
            Length::Old => lengths[0],
            Length::New => cached.len(),
            Length::Any(number) => lengths[number % lengths.len()],
        };
        // Where data was lost, the file system shows nothing but zeros.
        content.resize(length, 0);
        Cow::Owned(content)
    }
}

/// Carries the sectors of a write that are kept from the cache to the disk: as they are in the cache by then.
fn carry(content: &mut Vec<u8>, cached: &[u8], (from, end): (usize, usize), kept: Kept) {
    let unit = kept.unit();
    let (first, last) = (from / unit, end.div_ceil(unit));
    for sector in first..last {
        if !survives(kept, sector - first, last - first) {
            continue;
        }
        let (from, to) = (sector * unit, cached.len().min((sector + 1) * unit));
        if content.len() < to {
            content.resize(to, 0);
        }
        content[from..to].copy_from_slice(&cached[from..to]);
    }
}

/// What a crash has left: the paths, with the content of files.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Image<'d>(Vec<(PathBuf, Option<Cow<'d, [u8]>>)>);

impl Image<'_> {
    /// A number that tells images apart.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Writes it below a directory that is empty.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        for (path, content) in &self.0 {
            let path = root.join(path);
            match content {
                None => std::fs::create_dir(&path).map_err(failed("make directory", &path))?,
                Some(content) => {
                    std::fs::write(&path, content).map_err(failed("write", &path))?;
                }
            }
        }
        Ok(())
    }
}
