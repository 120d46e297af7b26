//! The one way to change the store: read the last commit, stage, commit.
//!
//! # Consistency
//! A transaction holds the write lock from [`Transaction::begin`] on, so it reads what the commit
//! before it wrote. All it stages becomes one batch of the engine: rows of all tables and shards, index
//! rows, change records, digests, cursors, the catalogue and the version appear together or not at all.
//!
//! # Crash
//! A commit is in the WAL when [`Transaction::commit`] returns and on disk after [`Inner::sync`].
//! Syncing happens outside the write lock, so commits that wait together are synced together.
//!
//! # Errors
//! A transaction that is dropped, or fails to commit, has changed nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, MutexGuard};

use mendb_model::change::ChangeRef;
use mendb_model::{Change, Digest, Replaced};

use crate::catalogue::record::{self, Record};
use crate::catalogue::{Catalogue, Shard, TableEntry};
use crate::commit::Inner;
use crate::error::Result;
use crate::kernel::{Batch, NOT_POISONED, Root, Section, ShardId, Store, Tree, Turn};
use crate::shard::block_writer::{Role, WrittenBlocks};
use crate::shard::removed_runs::RemovedRuns;
use crate::shard::shard_edits::{Edit, Edits, ShardEdits};
use crate::shard::stats::ShardStats;
use crate::shard::successor::Successor;
use crate::shard::view::{Commit, View};
use crate::shard::{log, single};

/// What the write lock guards.
pub(crate) struct Writer {
    /// The root record, as of the last commit.
    pub(crate) root: Root,
    /// The stats of shards that were written to, as of the last commit.
    pub(crate) stats: HashMap<ShardId, ShardStats>,
    /// The keys written to a shard since its rewrite took its view, for each rewrite under way.
    pub(crate) captures: HashMap<ShardId, BTreeSet<Vec<u8>>>,
}

/// One commit in the making.
pub(crate) struct Transaction<'a> {
    inner: &'a Inner,
    /// Given up before the write lock.
    turn: Turn<'a>,
    writer: MutexGuard<'a, Writer>,
    /// The commit before, to be read as long as the transaction lasts.
    pub(crate) view: Arc<View>,
    /// The version this commit will have: the next one, unless it changes nothing a reader sees.
    pub(crate) version: u64,
    pub(crate) batch: Batch,
    catalogue: Option<Catalogue>,
    touched: BTreeMap<ShardId, ShardStats>,
    captured: Vec<(ShardId, Vec<u8>)>,
    /// The bytes of the changes that were put.
    pub(crate) logged_bytes: u64,
    root: Root,
}

impl<'a> Transaction<'a> {
    /// Waits for the write lock.
    pub(crate) fn begin(inner: &'a Inner) -> Self {
        let writer = inner.writer.lock().expect(NOT_POISONED);
        let view = View {
            files: inner.store.files().clone(),
            reader: inner.store.read_last().clone(),
            commit: inner.commit(),
            store: Some(inner.store.clone()),
            _staged: None,
        };
        Self {
            version: view.version() + 1,
            batch: Batch::default(),
            view: Arc::new(view),
            inner,
            turn: inner.store.begin(),
            catalogue: None,
            touched: BTreeMap::new(),
            captured: Vec::new(),
            logged_bytes: 0,
            root: writer.root.clone(),
            writer,
        }
    }

    /// The catalogue as changed so far.
    pub(crate) fn catalogue(&self) -> &Catalogue {
        self.catalogue.as_ref().unwrap_or(self.view.catalogue())
    }

    /// The guarded state, for those who register rewrites.
    pub(crate) fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// The stats of a shard, to be changed.
    pub(crate) fn stats(&mut self, shard: &Arc<Shard>) -> Result<&mut ShardStats> {
        if !self.touched.contains_key(&shard.id) {
            let stats = self.committed_stats(shard.id)?;
            self.put_stats(shard.id, stats);
        }
        match self.touched.get_mut(&shard.id) {
            Some(stats) => Ok(stats),
            None => unreachable!("the stats of the shard were just entered"),
        }
    }

    /// The stats of a shard as of the commit before.
    pub(crate) fn committed_stats(&self, shard: ShardId) -> Result<ShardStats> {
        match self.writer.stats.get(&shard) {
            Some(stats) => Ok(stats.clone()),
            None => self.view.stats(shard),
        }
    }

    /// The row of `key` becomes `after`; it was `before`.
    pub(crate) fn put_row(
        &mut self,
        shard: &Arc<Shard>,
        key: &[u8],
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<()> {
        if self.writer.captures.contains_key(&shard.id) {
            self.captured.push((shard.id, key.to_vec()));
        }
        let mut batch = std::mem::take(&mut self.batch);
        let stats = self.stats(shard)?;
        single::stage_row(&mut batch, shard.id, stats, key, before, after);
        self.batch = batch;
        Ok(())
    }

    /// Blocks of rows become part of a shard; `before` is the digest of the rows that they replace, `after` that
    /// of the rows that they are. The caller holds the `work` of the shard.
    pub(crate) fn put_blocks(
        &mut self,
        shard: &Arc<Shard>,
        blocks: WrittenBlocks,
        role: Role,
        before: Digest,
        after: Digest,
    ) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        let stats = self.stats(shard)?;
        let digest = match role {
            Role::Staged => &mut stats.staged_mut().digest,
            Role::Base | Role::Beside | Role::Run { .. } | Role::Records { .. } => {
                &mut stats.digest
            }
        };
        digest.subtract(before);
        digest.merge(after);
        blocks.put(&mut batch, shard.id, stats, role);
        self.batch = batch;
        Ok(())
    }

    /// Makes edits part of their shard, and of its change log if that is their purpose. The caller holds the
    /// `work` of the shard.
    pub(crate) fn put_edits(&mut self, edits: ShardEdits) -> Result<()> {
        let ShardEdits { shard, edits } = edits;
        match edits {
            Edits::Blocks {
                blocks,
                before,
                after,
                is_base,
                purpose,
            } => {
                let role = purpose.role(is_base, self.version);
                self.put_blocks(&shard, blocks, role, before, after)
            }
            Edits::Few { edits, is_logged } => {
                for Edit { key, before, after } in edits {
                    self.put_row(&shard, &key, before.as_deref(), after.as_deref())?;
                    if is_logged {
                        let change = log::change_to(after.as_deref(), self.version);
                        self.put_change(&shard, &key, &change, before.as_deref())?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Removes what a mend has staged in a shard; it is erased once that is on disk.
    pub(crate) fn remove_staged(&mut self, shard: &Arc<Shard>) -> Result<Option<RemovedRuns>> {
        if self.committed_stats(shard.id)?.staged.is_none() {
            return Ok(None);
        }
        let stats = self.stats(shard)?;
        let removed = RemovedRuns::staged(shard, stats);
        for run in removed.iter().flat_map(RemovedRuns::runs) {
            self.batch.doom_run(run);
        }
        Ok(removed)
    }

    /// Makes what a mend has staged in a shard visible.
    pub(crate) fn publish_staged(&mut self, shard: &Arc<Shard>, is_logged: bool) -> Result<()> {
        if self.committed_stats(shard.id)?.staged.is_none() {
            return Ok(());
        }
        let stats = self.stats(shard)?;
        if let Some(staged) = stats.staged.take() {
            stats.digest = staged.digest;
        }
        self.publish_runs(shard, is_logged)
    }

    /// Says what a mend has rebuilt of a shard so far.
    pub(crate) fn put_successor(&mut self, shard: &Arc<Shard>, successor: Successor) -> Result<()> {
        self.stats(shard)?.successor = Some(successor);
        Ok(())
    }

    /// Removes what a mend has rebuilt of a shard; the rest of it is garbage.
    pub(crate) fn remove_successor(&mut self, shard: &Arc<Shard>) -> Result<Option<ShardId>> {
        if self.committed_stats(shard.id)?.successor.is_none() {
            return Ok(None);
        }
        let Some(successor) = self.stats(shard)?.successor.take() else {
            return Ok(None);
        };
        self.remove_shard(successor.id)?;
        Ok(Some(successor.id))
    }

    /// Makes the rows of a shard that takes the place of a live one visible, and the live one garbage.
    pub(crate) fn publish_successor(
        &mut self,
        successor: &Arc<Shard>,
        live: ShardId,
        is_logged: bool,
    ) -> Result<()> {
        self.publish_runs(successor, is_logged)?;
        self.remove_shard(live)
    }

    fn publish_runs(&mut self, shard: &Arc<Shard>, is_logged: bool) -> Result<()> {
        let version = self.version;
        for run in self
            .stats(shard)?
            .runs
            .iter_mut()
            .filter(|run| run.is_staged)
        {
            run.is_staged = false;
            run.is_logged = is_logged;
            run.version = version;
        }
        Ok(())
    }

    /// Records what happened to `key` for the streams of its table, and what its row was.
    pub(crate) fn put_change(
        &mut self,
        shard: &Arc<Shard>,
        key: &[u8],
        change: &Change,
        before: Option<&[u8]>,
    ) -> Result<()> {
        let record = log::record_key(key, self.version);
        let logged = ChangeRef {
            replaced: Replaced::of(key, before),
            ..change.view()
        };
        let change = logged.encode();
        self.logged_bytes += (record.len() + change.len()) as u64;
        let mut batch = std::mem::take(&mut self.batch);
        let stats = self.stats(shard)?;
        single::stage_change(&mut batch, shard.id, stats, &record, change);
        self.batch = batch;
        Ok(())
    }

    /// Sets a record in the `meta` tree.
    pub(crate) fn put_meta(&mut self, key: &[u8], value: &[u8]) {
        self.batch.insert(&Section::whole(Tree::Meta), key, value);
    }

    /// Removes the cursors of a shard.
    pub(crate) fn remove_cursors(&mut self, shard: ShardId) -> Result<()> {
        for key in self.view.cursors(shard)?.into_keys() {
            self.batch.remove(&Section::whole(Tree::Meta), &key);
        }
        Ok(())
    }

    /// The root record as it is to be.
    pub(crate) fn root(&mut self) -> &mut Root {
        &mut self.root
    }

    /// A shard id that was never used.
    pub(crate) fn allocate_shard(&mut self) -> ShardId {
        let id = ShardId(self.root.next_shard);
        self.root.next_shard += 1;
        id
    }

    /// Makes a table what `entry` says.
    pub(crate) fn put_table(&mut self, entry: TableEntry) {
        let before = self.catalogue().table(&entry.name).ok().cloned();
        let ids = |entry: &TableEntry| entry.all_shards().map(|shard| shard.id).collect();
        let mut gone: HashSet<ShardId> = HashSet::new();
        let mut there = HashSet::new();
        if let Some(before) = &before {
            there = ids(before);
            gone.clone_from(&there);
            self.put_record(&before.record(), false);
        }
        for shard in entry.all_shards() {
            gone.remove(&shard.id);
            if !there.contains(&shard.id) {
                self.put_record(&record::of_shard(shard), true);
            }
        }
        let old = before.iter().flat_map(|before| before.all_shards());
        for shard in old.filter(|shard| gone.contains(&shard.id)) {
            self.put_record(&record::of_shard(shard), false);
        }
        self.put_record(&entry.record(), true);
        self.edit_catalogue().insert(entry);
    }

    /// Puts a record into the catalogue, or takes out one that is there.
    fn put_record(&mut self, (key, value): &Record, is_there: bool) {
        let catalogue = Section::whole(Tree::Catalogue);
        if is_there {
            self.root.catalogue.add(key, value);
            self.batch.insert(&catalogue, key, value.clone());
        } else {
            self.root.catalogue.remove(key, value);
            self.batch.remove(&catalogue, key);
        }
    }

    /// Removes a table; what its shards have is garbage.
    pub(crate) fn remove_table(&mut self, entry: &TableEntry) -> Result<()> {
        self.put_record(&entry.record(), false);
        for shard in entry.all_shards() {
            self.put_record(&record::of_shard(shard), false);
            self.remove_shard(shard.id)?;
        }
        self.edit_catalogue().remove(&entry.name);
        Ok(())
    }

    /// Removes the stats and the cursors of a shard that is no longer in the catalogue; the rest is garbage.
    pub(crate) fn remove_shard(&mut self, shard: ShardId) -> Result<()> {
        let meta = Section::whole(Tree::Meta);
        self.batch.remove(&meta, &ShardStats::key(shard));
        self.batch.doom_shard(shard);
        self.touched.remove(&shard);
        self.remove_cursors(shard)
    }

    /// Sets the stats of a shard.
    pub(crate) fn put_stats(&mut self, shard: ShardId, stats: ShardStats) {
        self.touched.insert(shard, stats);
    }

    fn edit_catalogue(&mut self) -> &mut Catalogue {
        let current = self.view.catalogue();
        self.catalogue
            .get_or_insert_with(|| Catalogue::clone(current))
    }

    /// Commits and publishes.
    pub(crate) fn commit(self) -> Result<()> {
        self.commit_then(|_| Ok(()))
    }

    /// Commits and publishes, and does something before anybody else can commit.
    pub(crate) fn commit_then<T>(mut self, then: impl FnOnce(&Inner) -> Result<T>) -> Result<T> {
        let meta = Section::whole(Tree::Meta);
        for (id, stats) in &self.touched {
            self.batch
                .insert(&meta, &ShardStats::key(*id), stats.encode());
        }
        self.root.version = self.version;
        self.root.commit += 1;
        Store::put_root(&mut self.batch, &self.root);

        let has_other_shards = self.catalogue.is_some();
        let catalogue = match self.catalogue {
            Some(catalogue) => Arc::new(catalogue),
            None => self.view.catalogue().clone(),
        };
        let commit = Commit {
            number: self.root.commit,
            version: self.version,
            catalogue: catalogue.clone(),
            id: self.root.id.as_deref().map(Arc::from),
        };
        self.inner.announce(commit.clone());
        self.turn.commit(self.batch)?;
        self.inner.publish(commit);

        let writer = &mut *self.writer;
        writer.root = self.root;
        for (shard, key) in self.captured {
            if let Some(keys) = writer.captures.get_mut(&shard) {
                keys.insert(key);
            }
        }
        writer.stats.extend(self.touched);
        // Not with each commit: it looks at every shard.
        if has_other_shards {
            writer.stats.retain(|id, _| catalogue.shard(*id).is_some());
        }
        then(self.inner)
    }
}
