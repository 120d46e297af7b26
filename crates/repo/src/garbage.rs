//! Removing files of parts that no backup needs.
//!
//! Mark and sweep: every part list of every backup of the repository is read, then what none of them
//! names is removed. Nothing is removed unless all of them could be read.
//!
//! **Backups that are being written.** Lists that lie in place count before there is a manifest. Content
//! that no list names yet is younger than [`crate::RepositoryOptions::garbage_grace_ms`] and stays. What
//! remains are old files of a backup that was just deleted, which a running one has decided to refer to
//! but not yet listed: [`Repository::put_manifest`] looks for every file before it writes the manifest,
//! so that such a backup fails, and takes them up anew when it is asked for again. Only a file that goes
//! between that look and the manifest is missed: whoever deletes backups should not do so while one that
//! builds on them is about to be sealed.
//!
//! **Memory.** At most a million hashes are marked at a time; a repository with more objects is gone
//! through in several rounds, each for some of the first bytes of hashes.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use mendb_model::BackupId;
use mendb_model::manifest::Manifest;
use mendb_model::part::PartRecord;

use crate::directory;
use crate::documents::unpack;
use crate::error::{Error, Result};
use crate::layout;
use crate::lease::Lease;
use crate::part::Blob;
use crate::repository::Repository;

/// Hashes that are marked at a time.
const MOST_MARKED: usize = 1 << 20;

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Repository {
    /// Removes the files of parts that no backup refers to and that have been there for the time of
    /// grace. When it is cut off, calling it again goes on.
    ///
    /// # Errors
    /// A manifest or a part list cannot be read: nothing is removed that has not been by then. Or the
    /// store fails.
    pub async fn collect_garbage(&self) -> Result<Collected> {
        let lease = self.lease("removes files that no backup needs").await?;
        let collected = self.collect_under(&lease).await;
        lease.release().await;
        collected
    }

    /// Does it under a lease.
    pub(crate) async fn collect_under(&self, lease: &Lease) -> Result<Collected> {
        let shelves = self.shelves().await?;
        let mut collected = Collected::default();
        let mut next = shelves.first().copied();
        while let Some(first) = next {
            let marked = self.mark(Marked::from(first, MOST_MARKED)).await?;
            let of_round = shelves.iter().filter(|shelf| marked.covers(**shelf));
            for shelf in of_round {
                lease.renew().await?;
                self.clear_shelf(*shelf, &marked, &mut collected).await?;
            }
            next = shelves.iter().copied().find(|shelf| *shelf > marked.last);
        }
        if !shelves.is_empty() {
            let before = self.grace_begins();
            self.in_directory("tidy", layout::FILES, move |files| {
                directory::remove_unfinished(files, before)
            })
            .await?;
        }
        Ok(collected)
    }

    /// The first bytes of the hashes of all there is, ascending.
    async fn shelves(&self) -> Result<Vec<u8>> {
        let mut shelves = self.objects.directories(layout::FILES).await?;
        shelves.extend(self.objects.directories(layout::BUNDLES).await?);
        let numbers = shelves.iter().filter(|name| name.len() == 2);
        let mut numbers: Vec<u8> = numbers
            .filter_map(|name| u8::from_str_radix(name, 16).ok())
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// Marks what the backups of all collections need.
    async fn mark(&self, mut marked: Marked) -> Result<Marked> {
        for collection in self.collections().await? {
            for id in self.ids(&collection).await? {
                match self.manifest(&collection, &id).await {
                    Ok(stored) => self.mark_backup(&stored.manifest, &mut marked).await?,
                    Err(Error::NotFound { .. }) => {
                        self.mark_unfinished(&collection, &id, &mut marked).await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(marked)
    }

    /// Marks what a backup needs.
    async fn mark_backup(&self, manifest: &Manifest, marked: &mut Marked) -> Result<()> {
        let (collection, id) = (&manifest.collection, &manifest.backup_id);
        let tables = manifest.part_store.iter().flat_map(|store| &store.tables);
        for list in tables.flat_map(|table| &table.lists) {
            let records: Vec<PartRecord> = self.document_at(collection, id, &list.at).await?;
            marked.add_all(&records)?;
        }
        Ok(())
    }

    /// Marks what the part lists name of a backup that has no manifest yet. One that cannot be read
    /// can never be part of a backup.
    async fn mark_unfinished(
        &self,
        collection: &str,
        id: &BackupId,
        marked: &mut Marked,
    ) -> Result<()> {
        let directory = layout::backup(collection, id)?;
        for listed in self.objects.list(&directory).await? {
            if !layout::is_part_list(&listed.name) {
                continue;
            }
            let name = format!("{directory}/{}", listed.name);
            let unpack = |bytes: Bytes| unpack::<Vec<PartRecord>>(&bytes);
            let read = self.objects.get(&name, listed.bytes, unpack).await;
            match read.and_then(|records| marked.add_all(&records)) {
                Err(error) if !error.is_damage() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what is not marked of the objects whose hashes begin with a byte.
    async fn clear_shelf(
        &self,
        shelf: u8,
        marked: &Marked,
        collected: &mut Collected,
    ) -> Result<()> {
        let before = self.grace_begins();
        let before_s = before.duration_since(SystemTime::UNIX_EPOCH);
        let before_s = before_s.map_or(0, |since| since.as_secs());
        for (root, blob) in [
            (layout::FILES, Blob::File as fn(_) -> _),
            (layout::BUNDLES, Blob::Bundle),
        ] {
            let directory = format!("{root}/{shelf:02x}");
            let mut unwanted = Vec::new();
            for listed in self.objects.list(&directory).await? {
                let Ok(hash) = blake3::Hash::from_hex(&listed.name) else {
                    continue;
                };
                let old = u64::try_from(listed.written_s).is_ok_and(|at| at <= before_s);
                if old && !marked.blobs.contains(&blob(hash)) {
                    collected.objects += 1;
                    collected.bytes += listed.bytes;
                    unwanted.push(format!("{directory}/{}", listed.name));
                }
            }
            self.objects.delete_all(unwanted).await?;
        }
        Ok(())
    }

    /// What was written after this is left alone.
    #[expect(
        clippy::disallowed_methods,
        reason = "it is compared to what stores say of their objects, by the clock of the world"
    )]
    fn grace_begins(&self) -> SystemTime {
        let grace = Duration::from_millis(self.options().garbage_grace_ms);
        let begins = SystemTime::now().checked_sub(grace);
        begins.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// What is needed of the objects whose hashes begin with a byte from `first` to `last`.
#[derive(Debug)]
struct Marked {
    first: u8,
    last: u8,
    blobs: HashSet<Blob>,
    most: usize,
}

impl Marked {
    /// All from a first byte on, or fewer if more than `most` are needed.
    fn from(first: u8, most: usize) -> Self {
        Self {
            first,
            last: u8::MAX,
            blobs: HashSet::new(),
            most,
        }
    }

    fn covers(&self, shelf: u8) -> bool {
        (self.first..=self.last).contains(&shelf)
    }

    fn add_all(&mut self, records: &[PartRecord]) -> Result<()> {
        for file in records.iter().flat_map(|record| &record.files) {
            self.add(Blob::of(file)?);
        }
        Ok(())
    }

    fn add(&mut self, blob: Blob) {
        if !self.covers(blob.shelf()) {
            return;
        }
        self.blobs.insert(blob);
        while self.blobs.len() > self.most && self.first < self.last {
            self.last = self.first + (self.last - self.first) / 2;
            let (first, last) = (self.first, self.last);
            self.blobs
                .retain(|blob| (first..=last).contains(&blob.shelf()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rounds_mark_each_object_once_and_hold_no_more_than_they_may(
            firsts in proptest::collection::vec(any::<u8>(), 0..200),
            most in 1usize..40,
        ) {
            let blobs = firsts.iter().enumerate().map(|(n, first)| {
                let mut bytes = *blake3::hash(&n.to_le_bytes()).as_bytes();
                bytes[0] = *first;
                Blob::File(bytes.into())
            });
            let blobs: HashSet<Blob> = blobs.collect();
            let mut seen = HashSet::new();
            let mut next = Some(0);
            while let Some(first) = next {
                let mut marked = Marked::from(first, most);
                blobs.iter().for_each(|blob| marked.add(*blob));
                prop_assert!(marked.blobs.len() <= most || marked.first == marked.last);
                let needed = blobs.iter().filter(|blob| marked.covers(blob.shelf()));
                prop_assert_eq!(needed.count(), marked.blobs.len());
                for blob in &marked.blobs {
                    prop_assert!(seen.insert(*blob));
                }
                next = marked.last.checked_add(1);
            }
            prop_assert_eq!(seen, blobs);
        }
    }
}
