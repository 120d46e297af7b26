//! Removing files of parts that no backup needs.
//!
//! Mark and sweep, in two phases. First every part list of every backup of the repository is read, and what
//! none of them names is named in the repository (`candidates`). When that was there for the time of grace,
//! [`crate::RepositoryOptions::garbage_grace_ms`], all lists are read *again*, and what still none of them
//! names is removed. Nothing is named or removed unless all of them could be read. Times are those that the
//! store gives its objects; no promise depends on them.
//!
//! **Backups that are being written.** Lists that lie in place count before there is a manifest. A backup
//! whose lists came after the second reading began looks at what is named after that, and relies on none
//! of it. Content younger than the time of grace is not named: most of it belongs to a backup that runs.
//!
//! **Memory.** At most a million hashes are marked at a time; a repository with more objects is gone
//! through in several rounds, each for some of the first bytes of hashes.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use mendb_model::BackupId;
use mendb_model::manifest::Manifest;
use mendb_model::part::PartRecord;

use crate::candidates::{MOST_NAMES, REMEMBERED_S, Record};
use crate::directory;
use crate::documents::unpack;
use crate::error::{Error, Result};
use crate::layout;
use crate::lease::Lease;
use crate::objects::REQUESTS_AT_ONCE;
use crate::part::{Blob, BlobKind};
use crate::repository::Repository;

/// Hashes that are marked at a time.
const MOST_MARKED: usize = 1 << 20;

/// What was removed, and what will be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Objects that no backup needed and that wait for the time of grace to pass.
    pub waiting: u64,
}

impl Repository {
    /// Names the files of parts that no backup refers to and that have been there for the time of grace, and
    /// removes those that were named for as long. When it is cut off, calling it again goes on.
    ///
    /// # Errors
    /// A manifest or a part list cannot be read: nothing is removed that has not been by then. As
    /// [`Self::lease`]; or the store fails.
    pub async fn collect_garbage(&self) -> Result<Collected> {
        // Where no repository is none is made.
        if self.header().await?.is_none() && self.prefixes().await?.is_empty() {
            return Ok(Collected::default());
        }
        let lease = self.lease("removes files that no backup needs").await?;
        let collected = self.collect_garbage_under(&lease, &mut |_| {}).await;
        lease.release().await;
        collected
    }

    /// As [`Self::collect_garbage`], under a lease that is held. `told` hears what was removed by then,
    /// now and then.
    ///
    /// # Errors
    /// As [`Self::collect_garbage`].
    pub async fn collect_garbage_under(
        &self,
        lease: &Lease,
        told: &mut (dyn FnMut(Collected) + Send),
    ) -> Result<Collected> {
        let mut collected = Collected::default();
        let grace_s = i64::try_from(self.options().garbage_grace_ms.div_ceil(1000));
        let grace_s = grace_s.unwrap_or(i64::MAX);
        self.forget_ended(lease, grace_s).await?;
        self.remove_cut_off(lease, grace_s).await?;
        let prefixes = self.prefixes().await?;
        let records = self.garbage_records().await?;
        if prefixes.is_empty() && records.is_empty() {
            return Ok(collected);
        }
        let now_s = lease.now_s().await?;
        for record in records {
            let is_over = |swept_s: i64| swept_s.saturating_add(REMEMBERED_S) <= now_s;
            if record.swept_s.is_some_and(is_over) {
                lease.renew().await?;
                self.forget_named(&record).await?;
            }
        }
        self.name_unneeded(lease, &prefixes, now_s.saturating_sub(grace_s))
            .await?;
        let before_s = lease.now_s().await?.saturating_sub(grace_s);
        self.sweep_named(lease, before_s, &mut collected, told)
            .await?;
        collected.waiting = self.waiting_garbage().await?;
        Ok(collected)
    }

    /// Removes what writes that were cut off have left in a directory, when the time of grace is over.
    async fn remove_cut_off(&self, lease: &Lease, grace_s: i64) -> Result<()> {
        let before_s = lease.now_s().await?.saturating_sub(grace_s);
        let before = Duration::from_secs(u64::try_from(before_s).unwrap_or(0));
        let before = SystemTime::UNIX_EPOCH + before;
        self.in_directory("tidy", "", move |root| {
            directory::remove_unfinished(root, before)
        })
        .await
    }

    /// How many objects no backup needed when that was last looked for, and wait for the time of grace to pass.
    ///
    /// # Errors
    /// The store fails, or what it holds of them is damaged.
    pub async fn waiting_garbage(&self) -> Result<u64> {
        let mut waiting = 0;
        for record in self.unswept().await? {
            waiting += self.named_by(&record).await?.1.len() as u64;
        }
        Ok(waiting)
    }

    /// Removes the marks of backups that were removed before they were sealed, when the time of grace is over,
    /// with what a process that was stopped has written beside them since.
    async fn forget_ended(&self, lease: &Lease, grace_s: i64) -> Result<()> {
        for collection in self.collections().await? {
            let ids = self.ids(&collection).await?.into_iter();
            let marks = ids.map(|id| {
                let collection = &collection;
                async move {
                    let mark: Result<_> = self.mark_of_ended(collection, &id).await;
                    mark.map(|mark| Some((id, mark?)))
                }
            });
            let marks: Vec<_> = marks.collect();
            let marks = stream::iter(marks).buffered(REQUESTS_AT_ONCE);
            let marks: Vec<_> = marks.try_collect().await?;
            for (id, written_s) in marks.into_iter().flatten() {
                if written_s.saturating_add(grace_s) <= lease.now_s().await? {
                    self.remove_ended(&collection, &id).await?;
                }
            }
        }
        Ok(())
    }

    /// Names what no backup needs of what was written up to a time and is not named yet.
    async fn name_unneeded(&self, lease: &Lease, prefixes: &[u8], before_s: i64) -> Result<()> {
        let mut waiting = HashSet::new();
        for record in self.unswept().await? {
            waiting.extend(self.named_by(&record).await?.1);
        }
        let mut unneeded = Vec::new();
        let mut n = 0;
        let mut next = prefixes.first().copied();
        while let Some(first) = next {
            let marked = self.mark(Marked::from(first, MOST_MARKED)).await?;
            for prefix in prefixes.iter().filter(|prefix| marked.covers(**prefix)) {
                let there = self.blobs_of(*prefix).await?.into_iter();
                let old = there.filter(|there| there.written_s <= before_s);
                unneeded.extend(
                    old.map(|there| there.blob)
                        .filter(|blob| !marked.blobs.contains(blob) && !waiting.contains(blob)),
                );
                while unneeded.len() >= MOST_NAMES {
                    let rest = unneeded.split_off(MOST_NAMES);
                    lease.renew().await?;
                    self.name_garbage(lease.epoch(), n, &unneeded).await?;
                    (unneeded, n) = (rest, n + 1);
                }
            }
            next = prefixes
                .iter()
                .copied()
                .find(|prefix| *prefix > marked.last);
        }
        if !unneeded.is_empty() {
            lease.renew().await?;
            self.name_garbage(lease.epoch(), n, &unneeded).await?;
        }
        Ok(())
    }

    /// Removes what was named up to a time and still no backup needs.
    async fn sweep_named(
        &self,
        lease: &Lease,
        before_s: i64,
        collected: &mut Collected,
        told: &mut (dyn FnMut(Collected) + Send),
    ) -> Result<()> {
        let mut due = self.unswept().await?;
        due.retain(|record| {
            record
                .written_s
                .is_some_and(|written_s| written_s <= before_s)
        });
        let mut prefixes: BTreeMap<u8, HashSet<Blob>> = BTreeMap::new();
        for record in &due {
            for blob in self.named_by(record).await?.1 {
                prefixes.entry(blob.prefix()).or_default().insert(blob);
            }
        }
        let damaged = self.objects.damaged_blobs().await?;
        let mut next = prefixes.keys().next().copied();
        while let Some(first) = next {
            // It begins after all of these were named: what a backup that was sealed before relies on is marked.
            let marked = self.mark(Marked::from(first, MOST_MARKED)).await?;
            for (prefix, named) in prefixes.range(first..=marked.last) {
                let there = self.blobs_of(*prefix).await?.into_iter();
                let doomed: Vec<_> = there
                    .filter(|there| named.contains(&there.blob))
                    .filter(|there| !marked.blobs.contains(&there.blob))
                    .collect();
                if doomed.is_empty() {
                    continue;
                }
                lease.renew().await?;
                let names = doomed.iter().map(|there| there.blob.name());
                self.objects.delete_all(names.collect()).await?;
                for there in doomed.iter().filter(|it| damaged.contains(&it.blob)) {
                    self.objects.forget_damage(&there.blob).await?;
                }
                collected.objects += doomed.len() as u64;
                collected.bytes += doomed.iter().map(|there| there.bytes).sum::<u64>();
                told(*collected);
            }
            next = (prefixes.keys().copied()).find(|prefix| *prefix > marked.last);
        }
        for record in &due {
            lease.renew().await?;
            self.note_swept(record).await?;
        }
        Ok(())
    }

    /// What is named and was not swept.
    async fn unswept(&self) -> Result<Vec<Record>> {
        let mut records = self.garbage_records().await?;
        records.retain(|record| record.written_s.is_some() && record.swept_s.is_none());
        Ok(records)
    }

    /// The first bytes of the hashes of all there is, ascending.
    async fn prefixes(&self) -> Result<Vec<u8>> {
        let mut prefixes = self.objects.directories(layout::FILES).await?;
        prefixes.extend(self.objects.directories(layout::BUNDLES).await?);
        let numbers = prefixes.iter().filter(|name| name.len() == 2);
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

    /// The objects that hold content whose hash begins with a byte.
    async fn blobs_of(&self, prefix: u8) -> Result<Vec<There>> {
        let mut there = Vec::new();
        for kind in BlobKind::ALL {
            let directory = layout::prefix_directory(kind.root(), prefix);
            for listed in self.objects.list(&directory).await? {
                if let Some(blob) = Blob::from_file_name(kind, &listed.name) {
                    there.push(There {
                        blob,
                        bytes: listed.bytes,
                        written_s: listed.written_s,
                    });
                }
            }
        }
        Ok(there)
    }
}

/// An object that holds content.
#[derive(Debug)]
struct There {
    blob: Blob,
    bytes: u64,
    /// In seconds since 1970, by the clock of the store.
    written_s: i64,
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

    fn covers(&self, prefix: u8) -> bool {
        (self.first..=self.last).contains(&prefix)
    }

    fn add_all(&mut self, records: &[PartRecord]) -> Result<()> {
        for file in records.iter().flat_map(|record| &record.files) {
            self.add(Blob::of(file)?);
        }
        Ok(())
    }

    fn add(&mut self, blob: Blob) {
        if !self.covers(blob.prefix()) {
            return;
        }
        self.blobs.insert(blob);
        while self.blobs.len() > self.most && self.first < self.last {
            self.last = self.first + (self.last - self.first) / 2;
            let (first, last) = (self.first, self.last);
            self.blobs
                .retain(|blob| (first..=last).contains(&blob.prefix()));
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
                Blob::new(BlobKind::File, bytes.into())
            });
            let blobs: HashSet<Blob> = blobs.collect();
            let mut seen = HashSet::new();
            let mut next = Some(0);
            while let Some(first) = next {
                let mut marked = Marked::from(first, most);
                blobs.iter().for_each(|blob| marked.add(*blob));
                prop_assert!(marked.blobs.len() <= most || marked.first == marked.last);
                let needed = blobs.iter().filter(|blob| marked.covers(blob.prefix()));
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
