//! What changes add up to: the proof that an increment has all of them, once, and as they were made.
//!
//! A change says what it left and what it replaced. So the rows that were there before, with what the changes
//! left counted in and what they replaced counted out, are the rows that are there after: a change that is
//! lost, doubled or altered tips the balance. It is reckoned from the changes alone, whatever the table holds
//! beside them.
//!
//! *Width*: of the hash of a replaced row, a change keeps the low 64 bits, its mark. The sum of marks is the low
//! half of the sum of a [`Digest`], so both can be compared. It guards against accidents, as digests do.

use std::collections::BTreeSet;

use crate::Digest;
use crate::change::{ChangeKind, ChangeRef};
use crate::key::KeyRange;
use crate::manifest::ShardBackup;

/// What a change took the place of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Replaced {
    /// Nobody noted it: changes that an older mendb wrote say nothing.
    #[default]
    Unknown,
    /// There was no row.
    Nothing,
    /// A row, known by its mark.
    Row(u64),
}

impl Replaced {
    /// What a change of `key` takes the place of, where this row was, or none.
    pub fn of(key: &[u8], row: Option<&[u8]>) -> Self {
        row.map_or(Self::Nothing, |row| Self::Row(mark(key, row)))
    }
}

fn mark(key: &[u8], row: &[u8]) -> u64 {
    let mut digest = Digest::default();
    digest.add(key, row);
    low_half(digest.sum)
}

fn low_half(sum: u128) -> u64 {
    (sum & u128::from(u64::MAX)) as u64
}

/// How many rows there are, or by how many they became more, and the sum of their marks. Both wrap, so that
/// losses count as well as gains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    rows: u64,
    marks: u64,
}

impl Balance {
    /// Counts a change in. It is `false` when the change does not say what it left or what it replaced: then the
    /// balance is of no more use.
    #[must_use]
    pub fn count(&mut self, key: &[u8], change: &ChangeRef<'_>) -> bool {
        match change.kind {
            ChangeKind::Erase => {}
            ChangeKind::Reset => {
                self.rows = self.rows.wrapping_add(1);
                self.marks = self.marks.wrapping_add(mark(key, change.row));
            }
            ChangeKind::Upsert => return false,
        }
        match change.replaced {
            Replaced::Unknown => return false,
            Replaced::Nothing => {}
            Replaced::Row(mark) => {
                self.rows = self.rows.wrapping_sub(1);
                self.marks = self.marks.wrapping_sub(mark);
            }
        }
        true
    }

    /// Adds another.
    pub fn merge(&mut self, other: Self) {
        self.rows = self.rows.wrapping_add(other.rows);
        self.marks = self.marks.wrapping_add(other.marks);
    }
}

impl From<Digest> for Balance {
    fn from(digest: Digest) -> Self {
        Self {
            rows: digest.rows,
            marks: low_half(digest.sum),
        }
    }
}

/// What was found of a table of an increment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableBalance {
    /// The key ranges in which the changes do not lead from the parent to the snapshot.
    pub wrong: Vec<Imbalance>,
    /// Whether of some keys nothing can be said, because their changes do not tell what they replaced.
    pub is_unknown: bool,
}

/// A range of keys whose changes do not lead to the rows that the increment says are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imbalance {
    /// The least range of whole shards of both the increment and its parent.
    pub range: KeyRange,
    /// How many rows the changes lead to; it wraps.
    pub rows: u64,
    /// How many there were in the snapshot.
    pub expected_rows: u64,
}

/// Compares what the changes of an increment add up to with what lies between its parent and itself. `changes`
/// has the balance of each shard of the increment, `None` where its changes do not tell.
///
/// Shards are split and merged between backups, so each comparison is of the least range that is whole shards of
/// both.
pub fn compare(
    parent: &[ShardBackup],
    increment: &[ShardBackup],
    changes: &[Option<Balance>],
) -> TableBalance {
    let ends = |shards: &'_ [ShardBackup]| -> BTreeSet<End> {
        shards.iter().map(|shard| End::of(&shard.range)).collect()
    };
    let mut borders = &ends(parent) & &ends(increment);
    borders.insert(End::Unbounded);
    let mut found = TableBalance::default();
    let mut before = parent.iter().peekable();
    let mut after = increment.iter().zip(changes).peekable();
    let mut start = Vec::new();
    for border in borders {
        let mut expected = Digest::default();
        let mut reached = Some(Balance::default());
        while let Some(shard) = before.next_if(|shard| End::of(&shard.range) <= border) {
            if let Some(reached) = &mut reached {
                reached.merge(shard.digest.into());
            }
        }
        while let Some((shard, change)) =
            after.next_if(|(shard, _)| End::of(&shard.range) <= border)
        {
            expected.merge(shard.digest);
            match (&mut reached, change) {
                (Some(reached), Some(change)) => reached.merge(*change),
                _ => reached = None,
            }
        }
        let end = match border {
            End::Before(key) => Some(key),
            End::Unbounded => None,
        };
        let range = KeyRange {
            start: std::mem::replace(&mut start, end.clone().unwrap_or_default()),
            end,
        };
        match reached {
            None => found.is_unknown = true,
            Some(reached) if reached != expected.into() => found.wrong.push(Imbalance {
                range,
                rows: reached.rows,
                expected_rows: expected.rows,
            }),
            Some(_) => {}
        }
    }
    found
}

/// Where a range ends; no end is the greatest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Before(Vec<u8>),
    Unbounded,
}

impl End {
    fn of(range: &KeyRange) -> Self {
        range.end.clone().map_or(Self::Unbounded, Self::Before)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::Change;

    type Rows = BTreeMap<u8, u8>;

    /// The shards that begin at these keys, as a manifest has them.
    fn shards(rows: &Rows, splits: &[u8]) -> Vec<ShardBackup> {
        let ranges = KeyRange::split_at(splits.iter().map(|key| vec![*key]).collect());
        let shard = |range: KeyRange| {
            let mut digest = Digest::default();
            for (key, row) in rows.iter().filter(|(key, _)| range.contains(&[**key])) {
                digest.add(&[*key], &[*row]);
            }
            ShardBackup {
                range,
                digest,
                segments: Vec::new(),
            }
        };
        ranges.into_iter().map(shard).collect()
    }

    fn changes(before: &Rows, after: &Rows, touched: &[u8]) -> Vec<(u8, Change)> {
        let mut keys: Vec<u8> = touched.to_vec();
        let differs = |key: &u8| before.get(key) != after.get(key);
        keys.extend((0..=u8::MAX).filter(differs));
        keys.sort_unstable();
        keys.dedup();
        let change = |key: u8| {
            let change = match after.get(&key) {
                Some(row) => Change::reset(vec![*row], 1),
                None => Change::erase(1),
            };
            let row = before.get(&key).map(|row| [*row]);
            let replaced = Replaced::of(&[key], row.as_ref().map(<[u8; 1]>::as_slice));
            (key, Change { replaced, ..change })
        };
        keys.into_iter().map(change).collect()
    }

    fn balances(shards: &[ShardBackup], changes: &[(u8, Change)]) -> Vec<Option<Balance>> {
        let sum = |shard: &ShardBackup| {
            let mut balance = Balance::default();
            let within = changes
                .iter()
                .filter(|(key, _)| shard.range.contains(&[*key]));
            let mut known = true;
            for (key, change) in within {
                known &= balance.count(&[*key], &change.view());
            }
            known.then_some(balance)
        };
        shards.iter().map(sum).collect()
    }

    fn rows() -> impl Strategy<Value = Rows> {
        proptest::collection::btree_map(any::<u8>(), 0..4_u8, 0..40)
    }

    fn keys(most: usize) -> impl Strategy<Value = Vec<u8>> {
        let keys = proptest::collection::btree_set(1..=u8::MAX, 0..most);
        keys.prop_map(|keys| keys.into_iter().collect())
    }

    proptest! {
        #[test]
        fn changes_balance_wherever_shards_were_split_and_one_that_is_wrong_tips_it(
            (before, after) in (rows(), rows()),
            touched in keys(8),
            (old_splits, new_splits) in (keys(6), keys(6)),
            at in any::<prop::sample::Index>(),
            fault in 0..4_u8,
        ) {
            let (parent, increment) = (shards(&before, &old_splits), shards(&after, &new_splits));
            let mut changes = changes(&before, &after, &touched);
            let compared = |changes: &[(u8, Change)]| {
                compare(&parent, &increment, &balances(&increment, changes))
            };
            prop_assert_eq!(compared(&changes), TableBalance::default());
            prop_assume!(!changes.is_empty());
            let at = at.index(changes.len());
            let (key, change) = changes[at].clone();
            match fault {
                0 => drop(changes.remove(at)),
                1 => changes.push(changes[at].clone()),
                2 => changes[at].1.row = match change.kind {
                    ChangeKind::Reset => vec![7],
                    _ => return Ok(()),
                },
                _ => changes[at].1.replaced = Replaced::Row(5),
            }
            if fault < 2 {
                let row = after.get(&key).map(std::slice::from_ref);
                prop_assume!(change.replaced != Replaced::of(&[key], row));
            }
            let found = compared(&changes);
            prop_assert!(!found.is_unknown);
            prop_assert_eq!(found.wrong.len(), 1);
            prop_assert!(found.wrong[0].range.contains(&[key]));
        }

        #[test]
        fn changes_that_do_not_tell_are_unknown_and_hide_nothing_beside_them(
            (before, after) in (rows(), rows()),
            at in any::<prop::sample::Index>(),
        ) {
            let splits = [64, 128, 192];
            let (parent, increment) = (shards(&before, &splits), shards(&after, &splits));
            let mut changes = changes(&before, &after, &[]);
            prop_assume!(!changes.is_empty());
            let at = at.index(changes.len());
            changes[at].1.replaced = Replaced::Unknown;
            let balances = balances(&increment, &changes);
            prop_assert_eq!(balances.iter().filter(|balance| balance.is_none()).count(), 1);
            let found = compare(&parent, &increment, &balances);
            prop_assert_eq!(found, TableBalance { wrong: Vec::new(), is_unknown: true });
            let mut other = increment.clone();
            for shard in &mut other {
                shard.digest.rows += 1;
            }
            let found = compare(&parent, &other, &balances);
            prop_assert_eq!(found.wrong.len(), 3);
        }
    }

    #[test]
    fn shards_that_do_not_cover_all_keys_are_compared_all_the_same() {
        let rows = Rows::from([(1, 1), (200, 2)]);
        let parent = shards(&rows, &[100]);
        let zero = vec![Some(Balance::default()); 2];
        assert_eq!(compare(&parent, &parent[..1], &zero[..1]).wrong.len(), 1);
        assert_eq!(compare(&parent[..1], &parent, &zero).wrong.len(), 1);
        assert_eq!(compare(&[], &parent, &zero).wrong.len(), 1);
        assert_eq!(compare(&[], &[], &[]), TableBalance::default());
    }
}
