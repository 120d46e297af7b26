//! The shards of a backup's tables.
//!
//! A manifest lists few shards itself, so that small backups are one document. For many it names lists,
//! each a document about shards that follow each other ([`mendb_model::manifest::ShardList`]): a backup of
//! ten thousand shards is listed by reading some twenty KiB, and a task that reads one shard of a long
//! chain reads one list of each backup.
//!
//! `write` makes lists when a backup is sealed; `known` keeps those that were read.

pub(crate) mod known;
mod write;

use std::ops::Range;
use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use mendb_model::key::KeyRange;
use mendb_model::manifest::{
    Manifest, ShardBackup, ShardList, ShardTotals, ShardedData, Shards, TableBackup,
};
use mendb_model::name::TablePath;

use crate::error::{Error, Result};
use crate::layout;
use crate::objects::REQUESTS_AT_ONCE;
use crate::repository::Repository;

impl Repository {
    /// All shards of a table in a backup, in key order. Memory is that of all of them: some 500 bytes for
    /// each, and 300 for each row group of their segments.
    ///
    /// # Errors
    /// [`Error::NoSuchTable`]: the backup does not have the table. [`Error::Damaged`]: what lists them is not
    /// what the manifest says. Or the store fails.
    pub async fn shards(&self, manifest: &Manifest, path: &TablePath) -> Result<Vec<ShardBackup>> {
        let data = data_of(manifest, path)?;
        let stretches = self.stretches(manifest, path, data, 0..usize::MAX);
        let mut stretches = std::pin::pin!(stretches);
        let mut shards = Vec::new();
        while let Some(stretch) = stretches.try_next().await? {
            shards.extend_from_slice(stretch.shards());
        }
        if ShardTotals::of(&shards) != data.totals() {
            let detail = format!("what it says of the shards of {path} is not what its lists do");
            return Err(self.damaged_manifest(manifest, detail)?);
        }
        Ok(shards)
    }

    /// The shards of a table in a backup that may have keys of a range, in key order.
    ///
    /// # Errors
    /// As [`Self::shards`].
    pub async fn shards_within(
        &self,
        manifest: &Manifest,
        path: &TablePath,
        range: &KeyRange,
    ) -> Result<Vec<ShardBackup>> {
        let data = data_of(manifest, path)?;
        let lists = data.lists();
        // The list before the first that begins behind the start reaches up to it.
        let first = lists.partition_point(|list| list.first_key <= range.start);
        let end = lists.partition_point(|list| range.ends_behind(&list.first_key));
        let stretches = self.stretches(manifest, path, data, first.saturating_sub(1)..end);
        let mut stretches = std::pin::pin!(stretches);
        let mut within = Vec::new();
        while let Some(stretch) = stretches.try_next().await? {
            let shards = stretch.shards();
            let first = shards.partition_point(|shard| !shard.range.ends_behind(&range.start));
            let end = shards.partition_point(|shard| range.ends_behind(&shard.range.start));
            within.extend(shards.get(first..end).into_iter().flatten().cloned());
        }
        Ok(within)
    }

    /// A shard of a table in a backup, by its number; `None` when there are not so many.
    ///
    /// # Errors
    /// As [`Self::shards`].
    pub async fn shard(
        &self,
        manifest: &Manifest,
        path: &TablePath,
        number: u32,
    ) -> Result<Option<ShardBackup>> {
        let data = data_of(manifest, path)?;
        let mut number = number as usize;
        let list = data.lists().iter().position(|list| {
            let here = number < list.shards as usize;
            if !here {
                number -= list.shards as usize;
            }
            here
        });
        let lists = list.map_or(usize::MAX..usize::MAX, |list| list..list + 1);
        let stretches = self.stretches(manifest, path, data, lists);
        let mut stretches = std::pin::pin!(stretches);
        let stretch = stretches.try_next().await?;
        Ok(stretch.and_then(|stretch| stretch.shards().get(number).cloned()))
    }

    /// A table of a backup with all shards of it and its indexes told in it.
    ///
    /// # Errors
    /// As [`Self::shards`].
    pub async fn whole_table(&self, manifest: &Manifest, table: &str) -> Result<TableBackup> {
        let mut whole = (manifest.table(table))
            .ok_or_else(|| no_such_table(manifest, &TablePath::table(table)))?
            .clone();
        self.tell_here(manifest, &mut whole).await?;
        Ok(whole)
    }

    /// A manifest with all shards of its tables told in it, as in a draft.
    ///
    /// # Errors
    /// As [`Self::shards`].
    pub(crate) async fn whole_manifest(&self, manifest: &Manifest) -> Result<Manifest> {
        let mut whole = manifest.clone();
        for table in &mut whole.tables {
            self.tell_here(manifest, table).await?;
        }
        Ok(whole)
    }

    async fn tell_here(&self, manifest: &Manifest, table: &mut TableBackup) -> Result<()> {
        for (path, data) in table.sharded_tables_mut() {
            data.shards = Shards::Here(self.shards(manifest, &path).await?);
        }
        Ok(())
    }

    /// Hands over the shards of all tables of a backup, some at a time.
    ///
    /// # Errors
    /// As [`Self::shards`].
    pub(crate) async fn for_all_shards(
        &self,
        manifest: &Manifest,
        mut each: impl FnMut(&ShardBackup) + Send,
    ) -> Result<()> {
        for (path, data) in manifest.stored_tables() {
            let stretches = self.stretches(manifest, &path, data, 0..usize::MAX);
            let mut stretches = std::pin::pin!(stretches);
            while let Some(stretch) = stretches.try_next().await? {
                stretch.shards().iter().for_each(&mut each);
            }
        }
        Ok(())
    }

    /// The shards of some of the lists of a table, or those that the manifest tells itself. Several lists are
    /// on their way at once.
    fn stretches<'a>(
        &'a self,
        manifest: &'a Manifest,
        path: &'a TablePath,
        data: &'a ShardedData,
        lists: Range<usize>,
    ) -> impl Stream<Item = Result<Stretch<'a>>> + 'a {
        let (here, lists) = match &data.shards {
            Shards::Here(shards) => (Some(Ok(Stretch::Here(shards))), [].as_slice()),
            Shards::Listed(listed) => {
                let end = lists.end.min(listed.lists.len());
                let lists = listed.lists.get(lists.start..end).unwrap_or_default();
                (None, lists)
            }
        };
        let reads = lists.iter().map(move |list| async move {
            let shards = self.list_of_shards(manifest, path, list).await?;
            Ok(Stretch::Listed(shards))
        });
        let reads: Vec<_> = reads.collect();
        stream::iter(here).chain(stream::iter(reads).buffered(REQUESTS_AT_ONCE))
    }

    async fn list_of_shards(
        &self,
        manifest: &Manifest,
        path: &TablePath,
        list: &ShardList,
    ) -> Result<Arc<[ShardBackup]>> {
        let (collection, id) = (&manifest.collection, &manifest.backup_id);
        if let Some(known) = self.lists.get(collection, id, &list.at) {
            return Ok(known);
        }
        let shards: Vec<ShardBackup> = self.document_at(collection, id, &list.at).await?;
        let begins = shards.first().map(|shard| &shard.range.start);
        if begins != Some(&list.first_key) || shards.len() != list.shards as usize {
            let detail = format!("it says otherwise of {} than that does", list.at.object);
            return Err(self.damaged_manifest(manifest, detail)?);
        }
        if !follow_each_other(&shards) {
            let detail = format!("the shards of {path} in {} are no chain", list.at.object);
            return Err(self.damaged_manifest(manifest, detail)?);
        }
        let shards: Arc<[ShardBackup]> = shards.into();
        self.lists.keep(collection, id, &list.at, &shards);
        Ok(shards)
    }

    pub(crate) fn damaged_manifest(&self, manifest: &Manifest, detail: String) -> Result<Error> {
        let name = layout::manifest(&manifest.collection, &manifest.backup_id)?;
        Ok(self.objects.damaged(&name, detail))
    }
}

/// Shards that follow each other.
enum Stretch<'a> {
    Here(&'a [ShardBackup]),
    Listed(Arc<[ShardBackup]>),
}

impl Stretch<'_> {
    fn shards(&self) -> &[ShardBackup] {
        match self {
            Self::Here(shards) => shards,
            Self::Listed(shards) => shards,
        }
    }
}

fn data_of<'a>(manifest: &'a Manifest, path: &TablePath) -> Result<&'a ShardedData> {
    let data = manifest.sharded_table(path);
    data.ok_or_else(|| no_such_table(manifest, path))
}

fn no_such_table(manifest: &Manifest, path: &TablePath) -> Error {
    Error::NoSuchTable {
        backup: manifest.backup_id.clone(),
        table: path.to_string(),
    }
}

/// Whether each shard begins where the one before it ends.
fn follow_each_other(shards: &[ShardBackup]) -> bool {
    let mut pairs = shards.iter().zip(shards.iter().skip(1));
    pairs.all(|(a, b)| a.range.end.as_ref() == Some(&b.range.start) && !a.range.is_empty())
}

/// Whether what a manifest says of the shards of a table can be: those that it tells itself follow each
/// other, and so do its lists, whose shards it counts.
pub(crate) fn are_in_order(data: &ShardedData) -> bool {
    match &data.shards {
        Shards::Here(shards) => follow_each_other(shards),
        Shards::Listed(listed) => {
            let lists = &listed.lists;
            let counted: u64 = lists.iter().map(|list| u64::from(list.shards)).sum();
            let ascend = lists.is_sorted_by(|a, b| a.first_key < b.first_key);
            ascend && counted == listed.totals.count
        }
    }
}
