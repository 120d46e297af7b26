//! The disk at one point of a trace: what is on it for certain, and what is on its way.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::error::{Result, failed};
use crate::survival::{Kept, Length, Survival, survives};
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::loss::Loss;
    use crate::survival::Tear;
    use crate::tree::ROOT;

    /// A directory with an empty file `f` and two empty directories, `a` and `b`.
    fn before() -> Tree {
        let mut tree = Tree::default();
        for (name, node) in [
            ("f", Node::File(0)),
            ("a", Node::Directory(1)),
            ("b", Node::Directory(2)),
        ] {
            tree.rename(&name_change(ROOT, name, Some(node)));
        }
        tree
    }

    fn name_change(directory: usize, name: &str, target: Option<Node>) -> NameChange {
        NameChange {
            directory,
            name: name.into(),
            target,
        }
    }

    fn write(offset: usize, byte: u8, length: usize) -> Change {
        let bytes = vec![byte; length];
        Change::Data(0, DataChange::Write { offset, bytes })
    }

    fn events(changes: Vec<Change>) -> Vec<Event> {
        let events = changes.into_iter().enumerate().map(|(at, change)| Event {
            at,
            began: at,
            shown: String::new(),
            change,
        });
        events.collect()
    }

    fn disk<'t>(before: &Tree, events: &'t [Event], promise: Promise) -> Disk<'t> {
        let mut disk = Disk::new(before, promise);
        events.iter().for_each(|event| disk.happen(event));
        disk
    }

    fn left(disk: &Disk<'_>, loss: Loss) -> BTreeMap<String, Vec<u8>> {
        let image = disk.image(&loss.survival(disk));
        let files = image.0.iter().filter_map(|(path, content)| {
            let content = content.as_ref()?;
            Some((path.display().to_string(), content.to_vec()))
        });
        files.collect()
    }

    #[test]
    fn a_later_write_can_be_on_disk_without_an_earlier_one() {
        let events = events(vec![write(0, 1, 512), write(512, 2, 512)]);
        let (before, promise) = (before(), Promise::Posix);
        let disk = disk(&before, &events, promise);
        let expected = [vec![0; 512], vec![2; 512]].concat();
        assert_eq!(left(&disk, Loss::Only(1))["f"], expected);
        assert_eq!(left(&disk, Loss::Everything)["f"], b"");
    }

    #[test]
    fn a_later_write_to_a_sector_brings_the_earlier_one_with_it() {
        let events = events(vec![write(0, 1, 100), write(100, 2, 100)]);
        let (before, promise) = (before(), Promise::Posix);
        let disk = disk(&before, &events, promise);
        let both = [vec![1; 100], vec![2; 100]].concat();
        assert_eq!(left(&disk, Loss::Only(1))["f"], both);
    }

    #[test]
    fn data_and_length_are_lost_one_without_the_other() {
        let events = events(vec![write(0, 1, 700)]);
        let (before, promise) = (before(), Promise::Posix);
        let disk = disk(&before, &events, promise);
        assert_eq!(left(&disk, Loss::DataOf(0))["f"], vec![0; 700]);
        assert_eq!(left(&disk, Loss::LengthOf(0))["f"], b"");
    }

    #[test]
    fn a_write_is_torn_between_its_sectors() {
        let events = events(vec![write(256, 1, 1024)]);
        let (before, promise) = (before(), Promise::Posix);
        let disk = disk(&before, &events, promise);
        let tear = |tear| {
            let torn = Kept::Torn { unit: 512, tear };
            left(&disk, Loss::Torn(0, torn, true))["f"].clone()
        };
        let front = [vec![0; 256], vec![1; 256], vec![0; 768]].concat();
        assert_eq!(tear(Tear::Front), front);
        let not_last = [vec![0; 256], vec![1; 768], vec![0; 256]].concat();
        assert_eq!(tear(Tear::NotLast), not_last);
    }

    #[test]
    fn what_was_synced_stays_and_what_came_during_the_sync_may_go() {
        let mut events = events(vec![
            write(0, 1, 512),
            write(512, 2, 512),
            Change::Sync(Synced::File(0)),
        ]);
        // The sync began before the second write had ended.
        events[2].began = 1;
        let (before, promise) = (before(), Promise::Posix);
        let disk = disk(&before, &events, promise);
        assert_eq!(left(&disk, Loss::Everything)["f"], vec![1; 512]);
    }

    #[test]
    fn a_rename_between_directories_is_synced_by_halves() {
        let renamed = Change::Names(vec![
            name_change(ROOT, "f", None),
            name_change(1, "g", Some(Node::File(0))),
        ]);
        let synced = Change::Sync(Synced::Directory(1));
        let events = events(vec![renamed, synced]);
        let before = before();
        let strict = disk(&before, &events, Promise::Posix);
        let names: Vec<_> = left(&strict, Loss::Everything).into_keys().collect();
        assert_eq!(names, ["a/g", "f"]);
        let journaled = disk(&before, &events, Promise::Journaled);
        let names: Vec<_> = left(&journaled, Loss::Everything).into_keys().collect();
        assert_eq!(names, ["a/g"]);
    }

    #[test]
    fn names_are_lost_in_any_order_unless_a_journal_keeps_it() {
        let made = |name, file| Change::Names(vec![name_change(1, name, Some(Node::File(file)))]);
        let events = events(vec![made("one", 1), made("two", 2)]);
        let before = before();
        let strict = disk(&before, &events, Promise::Posix);
        assert!(left(&strict, Loss::Only(1)).contains_key("a/two"));
        let journaled = disk(&before, &events, Promise::Journaled);
        assert_eq!(left(&journaled, Loss::Only(1)).len(), 1);
        assert_eq!(left(&journaled, Loss::After(1)).len(), 2);
    }
}
