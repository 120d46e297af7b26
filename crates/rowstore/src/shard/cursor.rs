//! How far each source of rows was loaded into a shard; written in the same batch as the rows.
//!
//! Key in the `meta` tree, integers big-endian:
//!
//! ```text
//! 'c' | shard (8) | step (4) | index (4) | operation
//! ```
//!
//! The value is the last key that was loaded or applied.

use std::collections::BTreeMap;

use mendb_model::RowSource;
use mendb_model::key::KeyRange;

use crate::kernel::ShardId;

const TAG: u8 = b'c';
const SHARD_END: usize = 9;

/// The key of one cursor.
pub(crate) fn key(shard: ShardId, operation: &str, source: RowSource) -> Vec<u8> {
    let mut key = prefix(shard);
    key.extend_from_slice(&source.step.to_be_bytes());
    key.extend_from_slice(&source.index.to_be_bytes());
    key.extend_from_slice(operation.as_bytes());
    key
}

/// What the keys of all cursors of a shard begin with.
fn prefix(shard: ShardId) -> Vec<u8> {
    let mut key = vec![TAG];
    key.extend_from_slice(&shard.0.to_be_bytes());
    key
}

/// The keys of all cursors of a shard.
pub(crate) fn range(shard: ShardId) -> KeyRange {
    KeyRange::prefix(&prefix(shard))
}

/// The same cursor of another shard.
pub(crate) fn moved_to(shard: ShardId, key: &[u8]) -> Vec<u8> {
    let mut moved = prefix(shard);
    moved.extend_from_slice(key.get(SHARD_END..).unwrap_or_default());
    moved
}

/// The cursors of a shard, by their key without the shard.
pub(crate) type Cursors = BTreeMap<Vec<u8>, Vec<u8>>;

/// The cursors of the shard that several shards become: a source counts as loaded only as far as it
/// was loaded into each of them.
pub(crate) fn merge(parts: Vec<Cursors>) -> Cursors {
    let mut parts = parts.into_iter();
    let Some(mut merged) = parts.next() else {
        return Cursors::new();
    };
    for part in parts {
        merged.retain(|source, at| match part.get(source) {
            Some(other) => {
                if other < at {
                    at.clone_from(other);
                }
                true
            }
            None => false,
        });
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merged_cursor_is_the_least_and_absent_where_one_side_has_none() {
        let one = Cursors::from([(vec![1], vec![5]), (vec![2], vec![5])]);
        let two = Cursors::from([(vec![1], vec![3]), (vec![3], vec![9])]);
        assert_eq!(merge(vec![one, two]), Cursors::from([(vec![1], vec![3])]));
    }

    #[test]
    fn a_moved_cursor_keeps_its_operation_and_source() {
        let source = RowSource { step: 2, index: 3 };
        let from = key(ShardId(1), "restore-1", source);
        assert_eq!(
            moved_to(ShardId(9), &from),
            key(ShardId(9), "restore-1", source)
        );
    }
}
