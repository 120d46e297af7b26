//! What commits have made garbage, and how it is erased.
//!
//! A commit that takes a shard out of the catalogue, or a run out of a shard, puts a record in the `meta` tree under
//! [`GARBAGE`] and its prefix; so does a rewrite for the shards that it begins to fill. What is under the
//! prefix is erased afterwards, some records at a time, and the record with the last of them.

use mendb_model::key::KeyRange;
use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use crate::error::Result;
use crate::kernel::batch::{GARBAGE, garbage_key};
use crate::kernel::cursor::{Cursor, Direction};
use crate::kernel::reader::for_tree;
use crate::kernel::section::{Section, Tree, end_of_prefix};
use crate::kernel::store::Store;
use crate::kernel::{NOT_POISONED, ShardId};

/// Garbage is erased so many records at a time, and others write between.
const ERASED_RECORDS: u32 = 20_000;
/// Pages are given back when so many are free, so many at a time ...
const SHRUNK_PAGES: i64 = 4096;
/// ... and this part of all: they are used again soon, and to give them back takes its time.
const FREE_PART: i64 = 4;

impl Store {
    /// Erases what the shards have that a commit has [doomed](Batch::doom_shard). Failing leaves it to the next
    /// open.
    pub(crate) fn erase_shards(&self, shards: impl Iterator<Item = ShardId>) {
        let prefix = |shard: ShardId| shard.0.to_be_bytes().to_vec();
        self.try_erase(&shards.map(prefix).collect::<Vec<_>>());
    }

    /// The same of runs.
    pub(crate) fn erase_runs<'a>(&self, runs: impl Iterator<Item = &'a Section>) {
        let prefixes: Vec<_> = runs.map(|run| run.prefix.clone()).collect();
        self.try_erase(&prefixes);
    }

    fn try_erase(&self, garbage: &[Vec<u8>]) {
        if let Err(error) = self.erase(garbage) {
            tracing::warn!(%error, "leave garbage for the next open");
        }
    }

    /// Erases what a crash left to be erased.
    pub(crate) fn erase_leftovers(&self) -> Result<()> {
        let section = Section::whole(Tree::Meta);
        let range = KeyRange::prefix(&[GARBAGE]);
        let mut garbage = Vec::new();
        let (reader, _) = self.read()?;
        for entry in Cursor::new(&reader, &section, &range, Direction::Ascending) {
            let (mut key, _) = entry?;
            garbage.push(key.split_off(1));
        }
        drop(reader);
        self.erase(&garbage)
    }

    fn erase(&self, garbage: &[Vec<u8>]) -> Result<()> {
        let mut left = garbage;
        while !left.is_empty() {
            let erased = self
                .erase_some(left)
                .map_err(|error| self.faults.engine(error))?;
            left = &left[erased..];
        }
        while self
            .shrink_some()
            .map_err(|error| self.faults.engine(error))?
        {}
        Ok(())
    }

    /// Gives some pages back to the file system if many are free: whether there may be more.
    fn shrink_some(&self) -> rusqlite::Result<bool> {
        let _turn = self.turn.lock().expect(NOT_POISONED);
        let connection = self.writer.lock();
        let pages = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (all, free) = (pages("page_count")?, pages("freelist_count")?);
        if free < SHRUNK_PAGES || free < all / FREE_PART {
            return Ok(false);
        }
        let shrink = format!("PRAGMA incremental_vacuum({SHRUNK_PAGES})");
        let mut shrink = connection.prepare(&shrink)?;
        let mut shrunk = shrink.query([])?;
        while shrunk.next()?.is_some() {}
        drop(shrunk);
        drop(shrink);
        self.checkpoint(&connection);
        Ok(true)
    }

    /// Erases so much that others need not wait long: how many of the prefixes are done.
    fn erase_some(&self, garbage: &[Vec<u8>]) -> rusqlite::Result<usize> {
        let _turn = self.turn.lock().expect(NOT_POISONED);
        let mut connection = self.writer.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut budget = ERASED_RECORDS;
        let mut done = 0;
        'prefixes: for prefix in garbage {
            for tree in trees_of(prefix) {
                let end = end_of_prefix(prefix);
                let find = for_tree!(
                    *tree,
                    "SELECT k FROM ",
                    " WHERE k >= ?1 AND k < ?2 ORDER BY k LIMIT 1 OFFSET ?3"
                );
                let mut find = transaction.prepare_cached(find)?;
                let behind: Option<Vec<u8>> = find
                    .query_row(params![prefix, end, budget], |row| row.get(0))
                    .optional()?;
                let delete = for_tree!(*tree, "DELETE FROM ", " WHERE k >= ?1 AND k < ?2");
                let mut delete = transaction.prepare_cached(delete)?;
                let erased = delete.execute([prefix, behind.as_ref().unwrap_or(&end)])?;
                if behind.is_some() {
                    break 'prefixes;
                }
                budget = budget.saturating_sub(u32::try_from(erased).unwrap_or(u32::MAX));
            }
            let meta = "DELETE FROM meta WHERE k = ?1";
            transaction
                .prepare_cached(meta)?
                .execute([garbage_key(prefix)])?;
            done += 1;
            budget = budget.saturating_sub(1);
            if budget == 0 {
                break;
            }
        }
        transaction.commit()?;
        Ok(done)
    }
}

/// The trees in which the prefix of garbage is one of a shard, or of a run.
fn trees_of(prefix: &[u8]) -> &'static [Tree] {
    if prefix.len() == size_of::<ShardId>() {
        &Tree::OF_SHARDS
    } else {
        &[Tree::Runs]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Batch, Options};

    fn open(dir: &std::path::Path) -> Result<Store> {
        Store::open(dir, &Options::default())
    }

    fn records(store: &Store, tree: Tree) -> usize {
        let (reader, _) = store.read().unwrap();
        let section = Section::whole(tree);
        Cursor::new(&reader, &section, &KeyRange::all(), Direction::Ascending).count()
    }

    #[test]
    fn garbage_is_erased_in_steps_and_by_the_next_open_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        let shards = [ShardId(1), ShardId(2), ShardId(3)];
        let mut batch = Batch::default();
        for shard in shards {
            for key in 0..ERASED_RECORDS {
                let delta = Section::of_shard(Tree::Delta, shard);
                batch.insert(&delta, &key.to_be_bytes(), []);
            }
            batch.insert(&Section::of_shard(Tree::Log, shard), b"log", []);
            for number in [4, 5] {
                batch.insert(&Section::run(shard, number), b"block", []);
            }
        }
        batch.doom_shard(ShardId(1));
        batch.doom_shard(ShardId(2));
        batch.doom_run(&Section::run(ShardId(3), 4));
        store.commit(batch).unwrap();
        store.erase_shards([ShardId(1)].into_iter());
        let left = |store: &Store| {
            let trees = [Tree::Delta, Tree::Log, Tree::Runs, Tree::Meta];
            trees.map(|tree| records(store, tree))
        };
        let rows = ERASED_RECORDS as usize;
        assert_eq!(left(&store), [2 * rows, 2, 4, 3]);
        drop(store);
        let store = open(dir.path()).unwrap();
        store.erase_leftovers().unwrap();
        assert_eq!(left(&store), [rows, 1, 1, 1]);
    }

    #[test]
    fn the_space_of_garbage_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        let mut batch = Batch::default();
        for key in 0..80_000_u32 {
            let delta = Section::of_shard(Tree::Delta, ShardId(1));
            batch.insert(&delta, &key.to_be_bytes(), [7; 500]);
        }
        batch.doom_shard(ShardId(1));
        store.commit(batch).unwrap();
        store.erase_shards([ShardId(1)].into_iter());
        drop(store);
        let left = dir.path().join("store.db").metadata().unwrap().len();
        assert!(left < 20 << 20, "{left} bytes of 40 MB");
    }
}
