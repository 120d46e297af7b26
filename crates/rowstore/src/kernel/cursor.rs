//! The records of a section in the order of their keys, in either direction.

use std::collections::VecDeque;
use std::sync::Arc;

use mendb_model::key::KeyRange;

use crate::error::Result;
use crate::kernel::reader::{Reader, for_tree};
use crate::kernel::record;
use crate::kernel::section::{Section, Tree};

/// In which order to scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the least key to the greatest.
    Ascending,
    /// From the greatest key to the least.
    Descending,
}

/// A key, without the prefix of its section, and its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// So many records are read at first: who looks for one does not read many.
const FIRST_RECORDS: usize = 8;
/// Each time so many times as many ...
const GROWTH: usize = 8;
/// ... until they have so many bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// Walks records. *Memory*: [`CHUNK_BYTES`] and one record.
pub(crate) struct Cursor {
    reader: Arc<Reader>,
    tree: Tree,
    prefix_bytes: usize,
    direction: Direction,
    /// The keys of the tree that are still to be read from it.
    left: Option<(Vec<u8>, Vec<u8>)>,
    records: usize,
    read: VecDeque<Entry>,
}

impl Cursor {
    /// The records of a section with keys in a range.
    pub(crate) fn new(
        reader: &Arc<Reader>,
        section: &Section,
        range: &KeyRange,
        direction: Direction,
    ) -> Self {
        let start = section.key(&range.start);
        let end = match &range.end {
            Some(end) => section.key(end),
            None => section.end(),
        };
        Self {
            reader: reader.clone(),
            tree: section.tree,
            prefix_bytes: section.prefix.len(),
            direction,
            left: (start < end).then_some((start, end)),
            records: FIRST_RECORDS,
            read: VecDeque::new(),
        }
    }

    fn read_chunk(&mut self) -> Result<()> {
        let Some((mut start, mut end)) = self.left.take() else {
            return Ok(());
        };
        let mut bytes = 0;
        let is_full = {
            let connection = self.reader.lock();
            let fault = |error| self.reader.faults().engine(error);
            let select = match self.direction {
                Direction::Ascending => for_tree!(
                    self.tree,
                    "SELECT k, v FROM ",
                    " WHERE k >= ?1 AND k < ?2 ORDER BY k"
                ),
                Direction::Descending => for_tree!(
                    self.tree,
                    "SELECT k, v FROM ",
                    " WHERE k >= ?1 AND k < ?2 ORDER BY k DESC"
                ),
            };
            let mut select = connection.prepare_cached(select).map_err(fault)?;
            let mut rows = select.query([&start, &end]).map_err(fault)?;
            loop {
                if self.read.len() >= self.records || bytes >= CHUNK_BYTES {
                    break true;
                }
                let Some(row) = rows.next().map_err(fault)? else {
                    break false;
                };
                let blob = |at| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
                let (key, value) = (blob(0).map_err(fault)?, blob(1).map_err(fault)?);
                let value = record::open(self.tree, key, value)?.to_vec();
                bytes += key.len() + value.len();
                match self.direction {
                    Direction::Ascending => start = [key, &[0]].concat(),
                    Direction::Descending => end = key.to_vec(),
                }
                let key = key.get(self.prefix_bytes..).unwrap_or_default().to_vec();
                self.read.push_back((key, value));
            }
        };
        if is_full {
            self.left = Some((start, end));
            self.records = self.records.saturating_mul(GROWTH);
        }
        Ok(())
    }
}

impl Iterator for Cursor {
    type Item = Result<Entry>;

    /// Ends after the first error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.read.is_empty()
            && let Err(error) = self.read_chunk()
        {
            self.read.clear();
            return Some(Err(error));
        }
        self.read.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{Batch, Options, ShardId, Store};

    fn key() -> impl Strategy<Value = Vec<u8>> {
        // Few letters, so that keys begin with each other, and the greatest byte.
        proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(255)], 0..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_cursor_walks_what_is_in_its_range_and_section_in_both_directions(
            changes in proptest::collection::vec((key(), prop::option::of(0..400_usize)), 0..300),
            start in key(),
            end in prop::option::of(key()),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), &Options::default()).unwrap();
            let section = |id| Section::of_shard(Tree::Delta, ShardId(id));
            let mut batch = Batch::default();
            let mut model = BTreeMap::new();
            for neighbour in [6, 8] {
                batch.insert(&section(neighbour), &start, *b"of another");
            }
            for (key, bytes) in changes {
                match bytes {
                    Some(bytes) => {
                        let value = vec![7; bytes];
                        batch.insert(&section(7), &key, value.clone());
                        model.insert(key, value);
                    }
                    None => {
                        batch.remove(&section(7), &key);
                        model.remove(&key);
                    }
                }
            }
            store.commit(batch).unwrap();
            let (reader, _) = store.read().unwrap();
            let range = KeyRange { start, end };
            let mut expected: Vec<Entry> =
                model.into_iter().filter(|(key, _)| range.contains(key)).collect();
            for direction in [Direction::Ascending, Direction::Descending] {
                let cursor = Cursor::new(&reader, &section(7), &range, direction);
                prop_assert_eq!(&cursor.collect::<Result<Vec<_>>>().unwrap(), &expected);
                expected.reverse();
            }
            for (key, value) in &expected {
                let found = reader.get(&section(7), key).unwrap();
                prop_assert_eq!(found.as_ref(), Some(value));
            }
        }
    }
}
