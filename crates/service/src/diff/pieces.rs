//! Key ranges that can be compared by digests alone.

use mendb_model::Digest;
use mendb_model::key::KeyRange;

/// Keys that are whole shards on either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) range: KeyRange,
    pub(super) before: Digest,
    pub(super) after: Digest,
}

/// A shard and its digest.
pub(super) type Shard = (KeyRange, Digest);

/// The smallest such pieces, in key order. Either side's shards are in key order and cover all keys.
pub(super) fn pieces(before: &[Shard], after: &[Shard]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut before, mut after) = (before.iter(), after.iter());
    let mut start = Vec::new();
    while let (Some((range, of_before)), Some((other, of_after))) = (before.next(), after.next()) {
        let mut piece = Piece {
            range: KeyRange::all(),
            before: *of_before,
            after: *of_after,
        };
        let (mut end, mut other_end) = (&range.end, &other.end);
        // The side that is behind takes one more shard, until both end at one key.
        while end != other_end {
            let is_behind = other_end.is_none() || (end.is_some() && end < other_end);
            let (side, digest, end) = if is_behind {
                (&mut before, &mut piece.before, &mut end)
            } else {
                (&mut after, &mut piece.after, &mut other_end)
            };
            let Some((range, more)) = side.next() else {
                break;
            };
            digest.merge(*more);
            *end = &range.end;
        }
        piece.range.start = start;
        piece.range.end.clone_from(end);
        start = end.clone().unwrap_or_default();
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Shards that end at these keys and the last at none, with one row for each key of theirs.
    fn shards(borders: &BTreeSet<u8>) -> Vec<Shard> {
        let ranges = KeyRange::split_at(borders.iter().map(|border| vec![*border]).collect());
        let digest = |range: &KeyRange| {
            let mut digest = Digest::default();
            for key in (0..=255).filter(|key| range.contains(&[*key])) {
                digest.add(&[key], &[]);
            }
            digest
        };
        let shards = ranges.into_iter();
        shards
            .map(|range| (range.clone(), digest(&range)))
            .collect()
    }

    proptest! {
        #[test]
        fn pieces_end_where_shards_of_both_end(before: BTreeSet<u8>, after: BTreeSet<u8>) {
            let common = before.intersection(&after).map(|border| vec![*border]);
            let ranges = KeyRange::split_at(common.collect());
            let pieces = pieces(&shards(&before), &shards(&after));
            let found: Vec<KeyRange> = pieces.iter().map(|piece| piece.range.clone()).collect();
            prop_assert_eq!(found, ranges);
            for piece in &pieces {
                // Both have the same rows, wherever they are cut.
                prop_assert_eq!(piece.before, piece.after);
            }
        }
    }
}
