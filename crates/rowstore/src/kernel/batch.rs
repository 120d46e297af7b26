//! Changes of records that commit together.

use crate::kernel::section::{Section, Tree};
use crate::kernel::{ShardId, record};

/// What becomes of a record.
pub(super) struct Change {
    pub(super) tree: Tree,
    pub(super) key: Vec<u8>,
    /// As it lies in the database; `None` removes it.
    pub(super) record: Option<Vec<u8>>,
}

/// Changes of records, in memory until they are committed. The last one of a key counts.
#[derive(Default)]
pub(crate) struct Batch {
    pub(super) changes: Vec<Change>,
}

/// Key of a record in the `meta` tree that says what is garbage; the prefix follows.
pub(super) const GARBAGE: u8 = b'g';

impl Batch {
    /// The record of `key` becomes `value`.
    pub(crate) fn insert(&mut self, section: &Section, key: &[u8], value: impl Into<Vec<u8>>) {
        let (tree, key) = (section.tree, section.key(key));
        let record = Some(record::seal(tree, &key, value.into()));
        self.changes.push(Change { tree, key, record });
    }

    /// There is no record of `key` any more.
    pub(crate) fn remove(&mut self, section: &Section, key: &[u8]) {
        self.changes.push(Change {
            tree: section.tree,
            key: section.key(key),
            record: None,
        });
    }

    /// All that a shard has is garbage from this commit on. It is erased by [`super::Store::erase`], or by
    /// the next open.
    pub(crate) fn doom_shard(&mut self, shard: ShardId) {
        self.doom(&shard.0.to_be_bytes());
    }

    /// The same of a run.
    pub(crate) fn doom_run(&mut self, run: &Section) {
        self.doom(&run.prefix);
    }

    /// A shard that was garbage in case of a crash is none.
    pub(crate) fn spare_shard(&mut self, shard: ShardId) {
        let meta = Section::whole(Tree::Meta);
        self.remove(&meta, &garbage_key(&shard.0.to_be_bytes()));
    }

    fn doom(&mut self, prefix: &[u8]) {
        let meta = Section::whole(Tree::Meta);
        self.insert(&meta, &garbage_key(prefix), Vec::new());
    }
}

pub(super) fn garbage_key(prefix: &[u8]) -> Vec<u8> {
    [&[GARBAGE], prefix].concat()
}
