//! One commit of the store, to be read: the engine's reader, its version and its catalogue.
//!
//! # Consistency
//! A view is one commit: [`Inner::view`](crate::commit::Inner) gives the last one, and never waits for
//! a writer. The view of a [`Transaction`](crate::commit::Transaction) reads whatever commit is the
//! last, which is the one before it for as long as it keeps the other writers out.

use std::path::Path;
use std::sync::Arc;

use mendb_model::name::TablePath;
use mendb_model::{Malformed, RowSource};

use crate::catalogue::{self, Catalogue, PathState, Shard, TableEntry};
use crate::error::{Error, Result};
use crate::kernel::{
    self, Cursor, Direction, Reader, Root, Section, ShardFiles, ShardId, Store, Tree,
};
use crate::shard::cursor::{self, Cursors};
use crate::shard::stats::ShardStats;

pub(crate) struct View {
    pub(crate) files: Arc<ShardFiles>,
    pub(crate) reader: Arc<Reader>,
    pub(crate) commit: Commit,
    /// Stays open as long as it is read; `None` if this process has not opened it.
    pub(crate) store: Option<Arc<Store>>,
    /// Held by a view that reads what a mend has staged, so that it stays ([`crate::commit::Inner`]).
    pub(crate) _staged: Option<Arc<()>>,
}

/// What a commit made of the catalogue. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Commit {
    /// Counts commits.
    pub(crate) number: u64,
    /// Counts those that readers can tell.
    pub(crate) version: u64,
    pub(crate) catalogue: Arc<Catalogue>,
    /// The id of the store, once it was given one.
    pub(crate) id: Option<Arc<str>>,
}

impl Commit {
    pub(crate) fn of(root: &Root, catalogue: Catalogue) -> Self {
        Self {
            number: root.commit,
            version: root.version,
            catalogue: Arc::new(catalogue),
            id: root.id.as_deref().map(Arc::from),
        }
    }

    /// The tables that an operation holds.
    pub(crate) fn locks(&self) -> Vec<(String, PathState)> {
        let held = self.catalogue.tables();
        let held = held.filter(|table| table.state != PathState::Ready);
        held.map(|table| (table.name.clone(), table.state.clone()))
            .collect()
    }
}

impl View {
    /// The last commit of a store that another process may have open; `None` where there is no store.
    pub(crate) fn look(dir: &Path) -> Result<Option<Self>> {
        let Some(look) = kernel::look(dir)? else {
            return Ok(None);
        };
        let catalogue = catalogue::read(dir, &look.reader, &look.root)?;
        let commit = Commit::of(&look.root, catalogue);
        Ok(Some(Self {
            files: look.files,
            reader: look.reader,
            commit,
            store: None,
            _staged: None,
        }))
    }

    pub(crate) fn version(&self) -> u64 {
        self.commit.version
    }

    pub(crate) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.commit.catalogue
    }

    pub(crate) fn table(&self, name: &str) -> Result<&Arc<TableEntry>> {
        self.catalogue().table(name)
    }

    pub(crate) fn shards(&self, path: &TablePath) -> Result<&[Arc<Shard>]> {
        self.catalogue().shards(path)
    }

    /// Whether readers of this view see what a mend has staged in a shard: it is published, or read as if.
    pub(crate) fn sees_staged(&self, shard: &Shard) -> bool {
        let entry = self.catalogue().table(&shard.path.table);
        entry.is_ok_and(|entry| entry.published_at().is_some())
    }

    pub(crate) fn stats(&self, shard: ShardId) -> Result<ShardStats> {
        let meta = Section::whole(Tree::Meta);
        match self.reader.get(&meta, &ShardStats::key(shard))? {
            Some(bytes) => ShardStats::decode(shard, &bytes),
            None => Err(Error::damaged(
                format!("the bookkeeping of shard {shard}"),
                Malformed {
                    what: "shard stats",
                    detail: "they are gone".to_owned(),
                },
            )),
        }
    }

    pub(crate) fn cursor(
        &self,
        shard: ShardId,
        operation: &str,
        source: RowSource,
    ) -> Result<Option<Vec<u8>>> {
        let meta = Section::whole(Tree::Meta);
        self.reader
            .get(&meta, &cursor::key(shard, operation, source))
    }

    /// All cursors of a shard, by their whole keys.
    pub(crate) fn cursors(&self, shard: ShardId) -> Result<Cursors> {
        let meta = Section::whole(Tree::Meta);
        let range = cursor::range(shard);
        Cursor::new(&self.reader, &meta, &range, Direction::Ascending).collect()
    }
}
