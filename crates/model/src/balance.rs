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
