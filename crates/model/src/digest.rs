//! Content digests that do not depend on the order of rows or on where shards are split.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

/// The digest of a set of rows: how many there are, and the sum of their hashes.
///
/// The hash of a row is XXH3-128 of its value bytes, seeded with XXH3-64 of its key bytes, and the
/// sum wraps at 2^128. A sum commutes, so the digest of a table is the sum of the digests of its
/// shards wherever these are split, and a write changes it by one subtraction and one addition.
/// It proves equality against accidents, not against someone who forges rows.
///
/// Text form: `<rows>:<32 hex digits>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    /// How many rows.
    pub rows: u64,
    /// The sum of their hashes.
    pub sum: u128,
}

impl Digest {
    /// Counts a row in.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.rows = self.rows.wrapping_add(1);
        self.sum = self.sum.wrapping_add(row_hash(key, value));
    }

    /// Counts a row out that was counted in before.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.rows = self.rows.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(row_hash(key, value));
    }

    /// Adds the rows of another digest.
    pub fn merge(&mut self, other: Self) {
        self.rows = self.rows.wrapping_add(other.rows);
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// Takes out the rows of another digest, which were counted in before.
    pub fn subtract(&mut self, other: Self) {
        self.rows = self.rows.wrapping_sub(other.rows);
        self.sum = self.sum.wrapping_sub(other.sum);
    }
}

fn row_hash(key: &[u8], value: &[u8]) -> u128 {
    xxh3_128_with_seed(value, xxh3_64(key))
}

impl std::iter::Sum for Digest {
    fn sum<I: Iterator<Item = Self>>(digests: I) -> Self {
        digests.fold(Self::default(), |mut total, digest| {
            total.merge(digest);
            total
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:032x}", self.rows, self.sum)
    }
}

impl std::str::FromStr for Digest {
    type Err = crate::Malformed;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (rows, sum) = text.split_once(':')?;
            Some(Self {
                rows: rows.parse().ok()?,
                sum: u128::from_str_radix(sum, 16).ok()?,
            })
        };
        parse()
            .ok_or_else(|| crate::Malformed::new("digest", format!("{text:?} is not <rows>:<hex>")))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn depends_neither_on_order_nor_on_splits(
            rows in proptest::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..40),
            split in 0usize..40,
        ) {
            let digest = |rows: &[(Vec<u8>, Vec<u8>)]| {
                let mut digest = Digest::default();
                for (key, value) in rows {
                    digest.add(key, value);
                }
                digest
            };
            let whole = digest(&rows);
            let (left, right) = rows.split_at(split.min(rows.len()));
            prop_assert_eq!(whole, [digest(right), digest(left)].into_iter().sum());
            let mut reversed = rows.clone();
            reversed.reverse();
            prop_assert_eq!(whole, digest(&reversed));
            prop_assert_eq!(whole.to_string().parse(), Ok(whole));
        }

        #[test]
        fn removing_undoes_adding(key: Vec<u8>, value: Vec<u8>, start: u64) {
            let before = Digest { rows: start, sum: u128::from(start) };
            let mut digest = before;
            digest.add(&key, &value);
            prop_assert_ne!(digest, before);
            digest.remove(&key, &value);
            prop_assert_eq!(digest, before);
        }
    }

    #[test]
    fn values_swapped_between_keys_are_noticed() {
        let mut straight = Digest::default();
        straight.add(b"a", b"1");
        straight.add(b"b", b"2");
        let mut swapped = Digest::default();
        swapped.add(b"a", b"2");
        swapped.add(b"b", b"1");
        assert_ne!(straight, swapped);
    }
}
