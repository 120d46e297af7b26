//! Folding a run of backups into its last one, in the repository alone.
//!
//! ```text
//! before   full ◀── monday ◀── tuesday ◀── wednesday ◀── thursday
//! fold monday to wednesday
//! after    full ◀──────────────────────── wednesday ◀── thursday
//! ```
//!
//! **What stays.** The last backup of the run keeps its id, its label and its restore point, and everything
//! that stands on it. The others are no restore points any more; [`Compaction::goes`] tells which before
//! anything is done. A run that begins with the full backup becomes a full one, under the id of its last.
//!
//! **Links.** An increment names its parent by id and by the BLAKE3 of its manifest, and that BLAKE3
//! changes here. Rewriting the manifests of all that follow would take one write each, and between two of
//! them the chain would be torn. Instead the new manifest lists those that it
//! [stands for](mendb_model::manifest::Compacted): a chain goes on through it. The list is under the seal
//! of the manifest, and only a manifest in the right place with the right id is asked for it, so that a
//! parent that was replaced by accident is still found out.
//!
//! **Crashes.** Nothing that is there changes until the folded segments are stored and were read again.
//! Then one write puts the new manifest in the place of the last one: it is the only object that is ever
//! replaced. Before it the old chain holds, after it the new one. Only then the others go, newest first,
//! each with its manifest first, so that those that are left stand on what is still there. Compacting
//! again after a crash goes on: before the write it begins anew, after it it removes what was left.
//!
//! **Others.** Who folds holds the [lease](Lease) of the repository, so that nobody else folds or deletes
//! meanwhile, and the new manifest is written only over the old one as it was read: a backup that was deleted
//! all the same stays so. Who restores from the chain finds that manifests have changed, or objects missing.
//! An increment that was taken on the last backup before can still be stored after; one that stands on
//! another of the run keeps what it stands on.
//!
//! **Older versions** of mendb refuse what stands on a folded backup, and one that became full, as a
//! broken chain: they restore nothing wrong.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_model::BackupId;
use mendb_model::Digest;
use mendb_model::manifest::{Compacted, Manifest, Segment};
use mendb_model::name::{BackupKind, TablePath};

use crate::error::{Error, Result};
use crate::layout;
use crate::lease::Lease;
use crate::replace::Seen;
use crate::repository::Repository;
use crate::seal;
use crate::segment::writer::SegmentTarget;
use crate::stored_manifest::StoredManifest;

/// A run of backups that is to be one.
#[derive(Debug, Clone)]
pub struct Compaction {
    /// Oldest first; of one that was cut off after its manifest was written, only the last.
    run: Vec<Arc<Manifest>>,
    /// What the run stands on, unless it begins with a full backup.
    before: Option<Arc<Manifest>>,
    /// The last as it is stored.
    last: StoredManifest,
    /// The same with all its shards told in it.
    whole: Manifest,
    goes: Vec<BackupId>,
}

impl Compaction {
    /// The backups that are no restore points afterwards, oldest first.
    pub fn goes(&self) -> &[BackupId] {
        &self.goes
    }

    /// The backup that stays, as it is now.
    pub fn stays(&self) -> &StoredManifest {
        &self.last
    }

    /// Whether a backup of the run keeps its changes one by one: what is folded does not, for what one transaction did
    /// cannot be told of what several backups hold together.
    pub fn forgets_unfolded(&self) -> bool {
        let mut run = self.run.iter();
        self.run.len() > 1 && run.any(|manifest| manifest.transactions.is_some())
    }

    /// What the backups of the run have now, in bytes, without their manifests: what folding them reads.
    pub fn bytes(&self) -> u64 {
        self.run.iter().map(|manifest| manifest.bytes()).sum()
    }

    /// The shards whose rows or changes have to be folded. None of a compaction that was cut off when
    /// all was folded, so that only removing is left.
    pub fn shards(&self) -> Vec<(TablePath, u32)> {
        if self.run.len() == 1 {
            return Vec::new();
        }
        let tables = self.whole.sharded_tables();
        let shards = tables.flat_map(|(path, data)| {
            let count = u32::try_from(data.totals().count).unwrap_or(u32::MAX);
            (0..count).map(move |shard| (path.clone(), shard))
        });
        shards.collect()
    }

    /// The manifest of the folded backup, as yet without segments: tables, shards and digests are those
    /// of the last, its parent that of the first.
    pub fn draft(&self) -> Manifest {
        let mut draft = self.whole.clone();
        if self.forgets_unfolded() {
            draft.forget_unfolded();
        }
        let first = self.run.first().map(|manifest| manifest.parent.clone());
        draft.parent = first.unwrap_or_default();
        draft.tool_version = env!("CARGO_PKG_VERSION").to_owned();
        let before = self
            .run
            .iter()
            .filter_map(|manifest| manifest.compacted.as_ref());
        let folded: BTreeSet<_> = before
            .flat_map(|compacted| &compacted.folded)
            .chain(&self.goes)
            .cloned()
            .collect();
        let mut stands_for = draft.compacted.take().unwrap_or_default().stands_for;
        stands_for.push(self.last.blake3.clone());
        draft.compacted = Some(Compacted {
            stands_for,
            folded: folded.into_iter().collect(),
        });
        for (path, shard) in self.shards() {
            draft.put_shard(&path, shard, Vec::new());
        }
        draft
    }
}

impl Repository {
    /// Folds the backups of a chain from `first` to `last` into `last`, with all steps in turn: see
    /// [`Compaction`]. Returns the manifest as it is then, and the backups that went. `writer` is a name
    /// for who writes the segments that nobody had before, as in [`SegmentTarget`].
    ///
    /// Encodes and decodes where it is polled. After a crash or an error the same call goes on.
    ///
    /// # Errors
    /// As [`Self::lease`], [`Self::plan_compaction`], [`Self::fold_shard`], [`Self::replace_manifest`] and
    /// [`Self::remove_folded`].
    pub async fn compact(
        &self,
        collection: &str,
        first: &BackupId,
        last: &BackupId,
        writer: &str,
    ) -> Result<(StoredManifest, Vec<BackupId>)> {
        let lease = self.lease("folds backups").await?;
        let compacted = self.compact_under(&lease, collection, first, last, writer);
        let compacted = compacted.await;
        lease.release().await;
        compacted
    }

    async fn compact_under(
        &self,
        lease: &Lease,
        collection: &str,
        first: &BackupId,
        last: &BackupId,
        writer: &str,
    ) -> Result<(StoredManifest, Vec<BackupId>)> {
        let compaction = self.plan_compaction(collection, first, last).await?;
        let mut draft = compaction.draft();
        for (path, shard) in compaction.shards() {
            let segments = self
                .fold_shard(&compaction, &path, shard, writer, 0, &mut |_| {})
                .await?;
            draft.put_shard(&path, shard, segments);
        }
        let stored = self.replace_manifest(&compaction, &draft, writer);
        let stored = stored.await?;
        let mut go_on = |_: &BackupId| ControlFlow::Continue(());
        self.remove_folded(lease, &compaction, &stored, &mut go_on)
            .await?;
        Ok((stored, compaction.goes))
    }

    /// Looks at a run of backups that is to be folded into its last. Changes nothing.
    ///
    /// # Errors
    /// [`Error::CannotCompact`]: the backups are of a part store or no run of one chain, or a backup
    /// outside of the run stands on one that would go. Or a backup of the collection cannot be read, so
    /// that it cannot be told what it stands on.
    pub async fn plan_compaction(
        &self,
        collection: &str,
        first: &BackupId,
        last: &BackupId,
    ) -> Result<Compaction> {
        let cannot = |detail: String| Error::CannotCompact {
            first: first.clone(),
            last: last.clone(),
            detail,
        };
        let mut chain = self.chain(collection, last).await?;
        let Some(stored) = chain.last().cloned() else {
            return Err(cannot("they are no chain".to_owned()));
        };
        if stored.manifest.part_store.is_some() {
            return Err(cannot(
                "backups of a part store stand on nothing".to_owned(),
            ));
        }
        let begin = chain
            .iter()
            .position(|stored| stored.manifest.backup_id == *first);
        let folded = stored
            .manifest
            .compacted
            .iter()
            .flat_map(|compacted| &compacted.folded);
        let begin = match begin {
            Some(begin) if begin + 1 < chain.len() => begin,
            None if folded.clone().any(|id| id == first) => chain.len() - 1,
            Some(_) => return Err(cannot("one backup is no run".to_owned())),
            None => return Err(cannot(format!("{last} does not stand on {first}"))),
        };
        let run = chain.split_off(begin).into_iter();
        let run: Vec<_> = run.map(|stored| Arc::new(stored.manifest)).collect();
        let before = chain.pop().map(|stored| Arc::new(stored.manifest));
        // With what a compaction that was cut off has left.
        let mut goes: BTreeSet<BackupId> = (run.iter())
            .filter_map(|manifest| manifest.compacted.as_ref())
            .flat_map(|compacted| compacted.folded.iter().cloned())
            .collect();
        goes.extend(run.iter().map(|manifest| manifest.backup_id.clone()));
        goes.remove(last);
        // One whose manifest has gone may still have objects.
        let there = self.ids(collection).await?;
        goes.retain(|id| there.contains(id));
        for (id, read) in self.list(collection).await? {
            if id == *last || goes.contains(&id) {
                continue;
            }
            if let Some(parent) = read?.manifest.parent
                && goes.contains(&parent.backup_id)
            {
                let detail = format!("{id} stands on {}, which would go", parent.backup_id);
                return Err(cannot(detail));
            }
        }
        Ok(Compaction {
            run,
            whole: self.whole_manifest(&stored.manifest).await?,
            before,
            last: stored,
            goes: goes.into_iter().collect(),
        })
    }

    /// Writes the folded rows or changes of one shard of the last backup, beside what it has. Shards may
    /// be folded at the same time. `writer` and `attempt` are those of [`SegmentTarget`]; `read` is told of
    /// bytes as they are read.
    ///
    /// Encodes and decodes where it is polled.
    ///
    /// # Errors
    /// As [`crate::ChainReader::next`] and [`crate::SegmentWriter::push`]; [`Error::Damaged`] when the
    /// folded rows of a full backup are not those that the last one had.
    ///
    /// # Panics
    /// The last backup has no such shard, or was written by `writer`.
    pub async fn fold_shard(
        &self,
        compaction: &Compaction,
        path: &TablePath,
        shard: u32,
        writer: &str,
        attempt: u32,
        read: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Vec<Segment>> {
        let last = &compaction.last.manifest;
        let known = self.shard(&compaction.whole, path, shard).await?;
        let known = known.expect("a shard of the last backup");
        let mut objects = known.segments.iter().map(|segment| &segment.object);
        let ours = objects.any(|object| layout::is_written_by(object, writer));
        assert!(
            !ours,
            "the writer of a compaction has written nothing before"
        );
        let reader = self.read_chain(&compaction.run, path, &known.range, None);
        let mut reader = reader.await?;
        let target = SegmentTarget {
            collection: last.collection.clone(),
            backup_id: last.backup_id.clone(),
            path: path.clone(),
            shard,
            writer: writer.to_owned(),
            attempt,
            first_segment: 0,
        };
        let mut segments = self.segment_writer(target, reader.schema(), reader.content())?;
        let mut stored = Vec::new();
        let mut told = 0;
        while let Some(block) = reader.next().await? {
            stored.extend(segments.push(&block).await?);
            let bytes: u64 = reader.counts().map(|level| level.bytes).sum();
            read(bytes - told);
            told = bytes;
        }
        stored.extend(segments.finish().await?);
        let digest: Digest = stored.iter().map(|segment| segment.digest).sum();
        if compaction.run[0].kind() == BackupKind::Full && digest != known.digest {
            let manifest = layout::manifest(&last.collection, &last.backup_id)?;
            let detail = format!(
                "of shard {shard} of {path}, its backups hold rows with digest {digest}, and it says {}",
                known.digest
            );
            return Err(self.objects.damaged(&manifest, detail));
        }
        Ok(stored)
    }

    /// Puts the manifest of the folded backup, given as its draft with all segments, in the place of the last
    /// one's, after every segment was read again and what they hold was proved: the rows of the last backup, or
    /// changes that lead to them from what the run stands on. `writer` is that of the segments. From here on the
    /// run is one backup. Of a compaction that was cut off after this, it only reads the manifest.
    ///
    /// # Errors
    /// [`Error::Incomplete`] or [`Error::Damaged`]: a segment is not what `manifest` says.
    /// [`Error::Unproved`]: what is folded does not lead to the rows of the last backup.
    /// [`Error::CannotCompact`]: the manifest of the last backup is not what it was when this was
    /// planned, or is gone. [`Error::NoConditions`]: the store cannot replace it safely. Or it fails.
    pub async fn replace_manifest(
        &self,
        compaction: &Compaction,
        draft: &Manifest,
        writer: &str,
    ) -> Result<StoredManifest> {
        let before = &compaction.last;
        let (collection, id) = (&before.manifest.collection, &before.manifest.backup_id);
        if compaction.run.len() == 1 {
            return Ok(before.clone());
        }
        let manifest = self.listed(draft, writer).await?;
        self.check_present(&manifest).await?;
        self.prove_fold(compaction, draft).await?;
        let bytes = seal::seal(&manifest);
        let stored = StoredManifest::new(manifest, &bytes);
        let name = layout::manifest(collection, id)?;
        let there = self.objects.see(&name).await?;
        let is_known = |seen: &Seen| {
            let blake3 = StoredManifest::hash(&seen.bytes);
            blake3 == before.blake3 || blake3 == stored.blake3
        };
        let replaced = match there.filter(is_known) {
            Some(seen) => self.objects.replace(&name, &seen, bytes.into()).await?,
            None => None,
        };
        if replaced.is_none() {
            return Err(Error::CannotCompact {
                first: compaction.run[0].backup_id.clone(),
                last: id.clone(),
                detail: "the last was folded by another, or deleted, meanwhile".to_owned(),
            });
        }
        let there = self.manifest(collection, id).await?;
        if there.blake3 != stored.blake3 {
            let detail = "it is another one than the one just written";
            return Err(self.objects.damaged(&name, detail));
        }
        Ok(stored)
    }

    /// Proves what was folded from its segments as they are stored. Increments of an older mendb do not tell what
    /// they replace: of them only the segments are proved.
    async fn prove_fold(&self, compaction: &Compaction, folded: &Manifest) -> Result<()> {
        let wrong = match &compaction.before {
            Some(before) => {
                let proof = self.prove_increment(before, folded).await?;
                let first = proof.wrong.first();
                first.map(|wrong| format!("from backup {} on, {wrong}", before.backup_id))
            }
            None => {
                self.prove_all(folded).await?;
                let mut lacks = None;
                for (path, data) in folded.sharded_tables() {
                    let shards = self.shards(folded, &path).await?;
                    let segments = shards.iter().flat_map(|shard| &shard.segments);
                    let found: Digest = segments.map(|segment| segment.digest).sum();
                    let expected = data.digest();
                    if found != expected {
                        lacks.get_or_insert(format!(
                            "{path} has the digest {found} and had {expected} in its snapshot"
                        ));
                    }
                }
                lacks
            }
        };
        let (first, last) = (&compaction.run[0].backup_id, &folded.backup_id);
        wrong.map_or(Ok(()), |detail| {
            Err(Error::Unproved {
                first: first.clone(),
                last: last.clone(),
                detail,
            })
        })
    }

    /// Removes the backups that were folded, and the segments that the last one had before. Can be
    /// repeated. `removed` is told of each backup that has gone, and says whether to go on with the others.
    ///
    /// # Errors
    /// [`Error::StoodOn`] or [`Error::Claimed`]: another backup has come to stand on one that would go.
    /// [`Error::LeaseLost`]; or the store fails. What is left then is removed by the next call, or when the
    /// run is compacted again.
    ///
    /// # Panics
    /// `stored` is not what [`Self::replace_manifest`] returned.
    pub async fn remove_folded(
        &self,
        lease: &Lease,
        compaction: &Compaction,
        stored: &StoredManifest,
        removed: &mut (dyn FnMut(&BackupId) -> ControlFlow<()> + Send),
    ) -> Result<()> {
        let compacted = stored.manifest.compacted.as_ref();
        let folded = |id| compacted.is_some_and(|compacted| compacted.folded.contains(id));
        assert!(compaction.goes.iter().all(folded), "what goes was folded");
        let collection = &stored.manifest.collection;
        let goes: Vec<_> = compaction.goes.iter().rev().cloned().collect();
        self.remove_backups(lease, collection, &goes, removed)
            .await?;
        lease.renew().await?;
        self.remove_unnamed(&stored.manifest).await
    }
}
