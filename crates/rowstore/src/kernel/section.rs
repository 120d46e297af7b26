//! Where records lie: a tree of the engine, and the part of it whose keys begin with a prefix.

use mendb_model::key::KeyRange;

use crate::kernel::ShardId;

/// A tree of ordered records: a table of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tree {
    /// Tables by name.
    Catalogue,
    /// The root record, bookkeeping of shards, cursors, garbage.
    Meta,
    /// Where the packed blocks of each shard lie in its file.
    Blocks,
    /// Single rows over the base of each shard.
    Delta,
    /// The blocks of the runs of each shard, or where they lie.
    Runs,
    /// The change log of each shard.
    Log,
}

impl Tree {
    pub(super) const ALL: [Self; 6] = [
        Self::Catalogue,
        Self::Meta,
        Self::Blocks,
        Self::Delta,
        Self::Runs,
        Self::Log,
    ];
    /// Those whose keys begin with the id of a shard.
    pub(super) const OF_SHARDS: [Self; 4] = [Self::Blocks, Self::Delta, Self::Runs, Self::Log];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Catalogue => "catalogue",
            Self::Meta => "meta",
            Self::Blocks => "blocks",
            Self::Delta => "delta",
            Self::Runs => "runs",
            Self::Log => "log",
        }
    }
}

/// The records of a tree whose keys begin with a prefix; they are asked for by what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(super) tree: Tree,
    pub(super) prefix: Vec<u8>,
}

impl Section {
    /// A whole tree. Its keys do not begin with the byte 255.
    pub(crate) fn whole(tree: Tree) -> Self {
        let prefix = Vec::new();
        Self { tree, prefix }
    }

    /// What a shard has in a tree.
    pub(crate) fn of_shard(tree: Tree, shard: ShardId) -> Self {
        let prefix = shard.0.to_be_bytes().to_vec();
        Self { tree, prefix }
    }

    /// A run of a shard.
    pub(crate) fn run(shard: ShardId, number: u64) -> Self {
        let prefix = [shard.0.to_be_bytes(), number.to_be_bytes()].concat();
        let tree = Tree::Runs;
        Self { tree, prefix }
    }

    /// The key of the tree.
    pub(super) fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    /// The least key of the tree behind the section.
    pub(super) fn end(&self) -> Vec<u8> {
        end_of_prefix(&self.prefix)
    }
}

/// The least key behind all those that begin with `prefix`, given that none begins with the byte 255.
pub(super) fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    KeyRange::prefix(prefix)
        .end
        .unwrap_or_else(|| vec![u8::MAX])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_where_the_next_shard_begins() {
        let end = |id| Section::of_shard(Tree::Delta, ShardId(id)).end();
        assert_eq!(end(1), [0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(end(255), [0, 0, 0, 0, 0, 0, 1]);
        assert!(end(255).as_slice() <= 256_u64.to_be_bytes().as_slice());
        assert_eq!(Section::whole(Tree::Meta).end(), [255]);
        assert_eq!(
            Section::run(ShardId(1), u64::MAX).end(),
            [0, 0, 0, 0, 0, 0, 0, 2]
        );
    }
}
