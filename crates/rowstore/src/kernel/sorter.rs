//! Sorts more pairs of keys and values than fit into memory.
//!
//! Pairs are sorted in pieces. A second thread writes all pieces but the last to files without a name, and the pieces
//! are merged as they are read. Pairs of one key keep their order.
//!
//! *Memory*: a piece that is filled and one that is written, then a block for each piece. *Crash*: the files go
//! with the process.

use crate::error::Result;
use crate::kernel::fault::Faults;
use crate::kernel::merged::{Merged, Sorted};
use crate::kernel::pairs::Pairs;
use crate::kernel::spiller::Spiller;

/// So many bytes of pairs are sorted in memory at a time, by all that sort for one purpose together ...
pub(super) const PIECE_BYTES: usize = 24 << 20;
/// ... but each of them sorts so many at least.
pub(super) const LEAST_PIECE_BYTES: usize = 4 << 20;

/// Takes the pairs.
pub(crate) struct Sorter {
    faults: Faults,
    piece_bytes: usize,
    pairs: Pairs,
    spiller: Option<Spiller>,
}

impl Sorter {
    pub(super) fn new(faults: Faults, piece_bytes: usize) -> Self {
        Self {
            faults,
            piece_bytes,
            pairs: Pairs::default(),
            spiller: None,
        }
    }

    /// Adds a pair.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.pairs.push(key, value);
        if self.pairs.size() < self.piece_bytes {
            return Ok(());
        }
        let spiller = match &mut self.spiller {
            Some(spiller) => spiller,
            none => none.insert(Spiller::start(&self.faults)?),
        };
        self.pairs = spiller.spill(std::mem::take(&mut self.pairs))?;
        Ok(())
    }

    /// All pairs in the order of their keys.
    pub(crate) fn finish(self) -> Result<Merged> {
        Merged::new(vec![self.sort()?])
    }

    /// All pairs, to be merged with those of others.
    pub(crate) fn sort(mut self) -> Result<Sorted> {
        self.pairs.sort();
        let pieces = match self.spiller {
            Some(spiller) => spiller.finish()?,
            None => Vec::new(),
        };
        Ok(Sorted {
            pieces,
            pairs: self.pairs,
            faults: self.faults,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pairs_come_out_in_the_order_of_keys_and_those_of_a_key_as_they_went_in(
            keys in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255)], 0..24),
                0..400,
            ),
            piece_bytes in 1..6_000_usize,
            sorters in 1..4_usize,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let sorter = || Sorter::new(Faults::new(dir.path()), piece_bytes);
            let mut sorters: Vec<Sorter> = (0..sorters).map(|_| sorter()).collect();
            let mut expected = Vec::new();
            for (order, key) in keys.into_iter().enumerate() {
                let value = vec![7; order % 300].into_iter().chain(order.to_be_bytes());
                let value: Vec<u8> = value.collect();
                // Pairs of one key go to one sorter.
                let sorter = key.len() % sorters.len();
                sorters[sorter].push(&key, &value).unwrap();
                expected.push((key, value));
            }
            expected.sort_by(|(one, _), (other, _)| one.cmp(other));
            let sorted = sorters.into_iter().map(|sorter| sorter.sort().unwrap());
            let mut merged = Merged::new(sorted.collect()).unwrap();
            let mut sorted = Vec::new();
            while let Some((key, value)) = merged.peek() {
                sorted.push((key.to_vec(), value.to_vec()));
                merged.take().unwrap();
            }
            prop_assert_eq!(sorted, expected);
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
