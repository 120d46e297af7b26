//! A sorted source of rows that is read step by step beside another.

use mendb_model::RowBlock;

use crate::task_error::TaskResult;

/// Gives the next block of a source; none after the last.
type Next<'w, S> = Box<dyn FnMut(&mut S) -> TaskResult<Option<RowBlock>> + 'w>;

/// Rows or changes in key order, given out as far as the keys of the other side are. Holds one block.
pub(crate) struct Pulled<'w, S> {
    source: S,
    next: Next<'w, S>,
    /// The first row of it was not given out yet, if there is one.
    block: Option<(RowBlock, usize)>,
}

impl<'w, S> Pulled<'w, S> {
    pub(crate) fn new(
        source: S,
        next: impl FnMut(&mut S) -> TaskResult<Option<RowBlock>> + 'w,
    ) -> Self {
        Self {
            source,
            next: Box::new(next),
            block: None,
        }
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    pub(crate) fn into_source(self) -> S {
        self.source
    }

    /// Takes the next row if its key is before this one; any next row without.
    ///
    /// # Errors
    /// The source fails.
    pub(crate) fn next_before(&mut self, key: Option<&[u8]>) -> TaskResult<Option<(&[u8], &[u8])>> {
        self.fill()?;
        let Some((block, at)) = &mut self.block else {
            return Ok(None);
        };
        if *at == block.len() || key.is_some_and(|key| block.key(*at) >= key) {
            return Ok(None);
        }
        *at += 1;
        Ok(Some((block.key(*at - 1), block.value(*at - 1))))
    }

    /// Takes the next row if it has this key, and gives its value.
    ///
    /// # Errors
    /// The source fails.
    pub(crate) fn next_at(&mut self, key: &[u8]) -> TaskResult<Option<&[u8]>> {
        self.fill()?;
        let Some((block, at)) = &mut self.block else {
            return Ok(None);
        };
        if *at == block.len() || block.key(*at) != key {
            return Ok(None);
        }
        *at += 1;
        Ok(Some(block.value(*at - 1)))
    }

    /// Sees that the block has a next row, unless the source is used up.
    fn fill(&mut self) -> TaskResult<()> {
        let used_up = |(block, at): &(RowBlock, usize)| *at == block.len();
        while self.block.as_ref().is_none_or(used_up) {
            match (self.next)(&mut self.source)? {
                Some(block) => self.block = Some((block, 0)),
                None => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use mendb_model::RowBlockBuilder;
    use proptest::prelude::*;

    use super::*;

    fn block(keys: &[u8]) -> RowBlock {
        let mut block = RowBlockBuilder::new();
        for key in keys {
            block.push(&[*key], &[*key, 0]);
        }
        block.finish()
    }

    proptest! {
        /// Walked beside any other keys, every row is given out once and in order: where the other side
        /// has its key, or before the next that it has.
        #[test]
        fn each_row_comes_once_and_meets_its_key(
            rows: BTreeSet<u8>,
            others: BTreeSet<u8>,
            block_rows in 1usize..9,
        ) {
            let keys: Vec<u8> = rows.iter().copied().collect();
            let mut blocks: Vec<RowBlock> = keys.chunks(block_rows).map(block).collect();
            // Blocks without rows are passed over.
            blocks.insert(blocks.len() / 2, block(&[]));
            let mut pulled = Pulled::new(blocks.into_iter(), |blocks| Ok(blocks.next()));
            let mut seen = BTreeMap::new();
            let mut met = BTreeSet::new();
            for other in &others {
                while let Some((key, row)) = pulled.next_before(Some(&[*other])).unwrap() {
                    prop_assert!(key < &[*other][..]);
                    seen.insert(key[0], row.to_vec());
                }
                if let Some(row) = pulled.next_at(&[*other]).unwrap() {
                    seen.insert(*other, row.to_vec());
                    met.insert(*other);
                }
            }
            while let Some((key, row)) = pulled.next_before(None).unwrap() {
                prop_assert!(seen.insert(key[0], row.to_vec()).is_none());
            }
            let all: BTreeMap<u8, Vec<u8>> = rows.iter().map(|key| (*key, vec![*key, 0])).collect();
            prop_assert_eq!(seen, all);
            prop_assert_eq!(met, rows.intersection(&others).copied().collect::<BTreeSet<u8>>());
        }
    }
}
