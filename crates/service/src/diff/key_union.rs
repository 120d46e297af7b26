//! The keys of two sorted sources as one.

use super::pulled::Pulled;
use crate::task_error::TaskResult;

/// Keys that are handed over together: what is looked up for them is in memory.
const KEYS_AT_ONCE: usize = 16 * 1024;

/// Takes ascending keys.
type Take<'w> = Box<dyn FnMut(&[&[u8]]) -> TaskResult<()> + 'w>;

/// Hands over the keys of a source that is pulled and of one that is pushed, in one order and each once,
/// at most [`KEYS_AT_ONCE`] at a time.
pub(crate) struct KeyUnion<'w, S> {
    pulled: Pulled<'w, S>,
    keys: Vec<Vec<u8>>,
    take: Take<'w>,
}

impl<'w, S> KeyUnion<'w, S> {
    pub(crate) fn new(
        pulled: Pulled<'w, S>,
        take: impl FnMut(&[&[u8]]) -> TaskResult<()> + 'w,
    ) -> Self {
        Self {
            pulled,
            keys: Vec::new(),
            take: Box::new(take),
        }
    }

    /// Adds the next key of the pushed source.
    ///
    /// # Errors
    /// The pulled source or the taker fails.
    pub(crate) fn push(&mut self, key: &[u8]) -> TaskResult<()> {
        self.pull(Some(key))?;
        self.pulled.next_at(key)?;
        self.add(key.to_vec())
    }

    /// Ends the pushed source, hands over what is left, and gives back the pulled one.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn finish(mut self) -> TaskResult<S> {
        self.pull(None)?;
        self.hand_over()?;
        Ok(self.pulled.into_source())
    }

    fn pull(&mut self, before: Option<&[u8]>) -> TaskResult<()> {
        while let Some((key, _)) = self.pulled.next_before(before)? {
            let key = key.to_vec();
            self.add(key)?;
        }
        Ok(())
    }

    fn add(&mut self, key: Vec<u8>) -> TaskResult<()> {
        self.keys.push(key);
        if self.keys.len() >= KEYS_AT_ONCE {
            self.hand_over()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> TaskResult<()> {
        let keys = std::mem::take(&mut self.keys);
        if keys.is_empty() {
            return Ok(());
        }
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        (self.take)(&keys)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use mendb_model::RowBlockBuilder;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_of_both_come_once_and_in_order(pulled: BTreeSet<u8>, pushed: BTreeSet<u8>) {
            let mut block = RowBlockBuilder::new();
            for key in &pulled {
                block.push(&[*key], &[]);
            }
            let source = Pulled::new(Some(block.finish()), |block| Ok(block.take()));
            let taken = RefCell::new(Vec::new());
            let mut union = KeyUnion::new(source, |keys| {
                taken.borrow_mut().extend(keys.iter().map(|key| key[0]));
                Ok(())
            });
            for key in &pushed {
                union.push(&[*key]).unwrap();
            }
            union.finish().unwrap();
            let both: Vec<u8> = pulled.union(&pushed).copied().collect();
            prop_assert_eq!(taken.into_inner(), both);
        }
    }
}
