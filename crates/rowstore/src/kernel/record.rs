//! A record as it lies in the database: its value, then four bytes of XXH3-64 over the value, seeded
//! with the same over the key, seeded with the tree.

use mendb_model::Malformed;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};
use crate::kernel::section::Tree;

const CHECK_BYTES: usize = 4;

fn check(tree: Tree, key: &[u8], value: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = xxh3_64_with_seed(value, xxh3_64_with_seed(key, tree as u64));
    let [a, b, c, d, ..] = hash.to_be_bytes();
    [a, b, c, d]
}

/// Adds the checksum to a value.
pub(super) fn seal(tree: Tree, key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let check = check(tree, key, &value);
    value.extend_from_slice(&check);
    value
}

/// The value, if it is the one that was written under this key of this tree.
pub(super) fn open<'a>(tree: Tree, key: &[u8], record: &'a [u8]) -> Result<&'a [u8]> {
    match record.split_last_chunk::<CHECK_BYTES>() {
        Some((value, found)) if *found == check(tree, key, value) => Ok(value),
        _ => Err(Error::damaged(
            format!("a record in the tree {} of the row store", tree.name()),
            Malformed {
                what: "record",
                detail: format!(
                    "{} does not have its checksum",
                    mendb_model::key::to_hex(key)
                ),
            },
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_is_read_where_and_as_it_was_written_only(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in proptest::collection::vec(any::<u8>(), 0..200),
            bit in any::<proptest::sample::Index>(),
        ) {
            let record = seal(Tree::Delta, &key, value.clone());
            prop_assert_eq!(open(Tree::Delta, &key, &record).unwrap(), &value);
            prop_assert!(open(Tree::Log, &key, &record).is_err());
            prop_assert!(open(Tree::Delta, &[&key[..], &[0]].concat(), &record).is_err());
            let mut flipped = record.clone();
            let bit = bit.index(flipped.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(Tree::Delta, &key, &flipped).is_err());
            prop_assert!(open(Tree::Delta, &key, &record[..record.len() - 1]).is_err());
        }
    }
}
