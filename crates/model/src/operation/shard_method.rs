//! The two methods by which a mend brings back a shard of rows: row by row, or as a whole.

use serde::{Deserialize, Serialize};

/// How a shard is mended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShardMethod {
    /// Rows that differ are found and staged over the live ones. It costs so much for each key that differs or
    /// may, however many there are.
    #[default]
    Rows,
    /// All wanted rows become a new shard beside the live one, which takes its place. It costs what a restore of
    /// the shard costs, however much differs.
    Rebuild,
}

/// What is known of a shard before any of its rows is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardOutlook {
    /// Keys that differ or may.
    pub keys: u64,
    /// Rows that live in it.
    pub live_rows: u64,
    /// Rows that it is to have.
    pub wanted_rows: u64,
    /// Whether all of its keys are mended.
    pub is_whole: bool,
}

/// The method of a shard, and why it is that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenMethod {
    /// The method.
    #[serde(rename = "road")]
    pub method: ShardMethod,
    /// Keys of the shard that differ or may …
    pub keys: u64,
    /// … of so many. 0 where only a part of the shard is mended, which is done row by row.
    pub of: u64,
}

/// A key that is looked up, compared, staged and, in indexes, sorted costs as much as about so many rows that
/// are read from the chain and written in their order (1.3 µs and 0.7 µs of a table, 0.9 and 0.5 of an index).
const ROWS_A_KEY: u64 = 2;
/// A shard with fewer rows is not worth a file of its own.
const LEAST_ROWS: u64 = 1_000;

impl ChosenMethod {
    /// The method that costs less.
    pub fn choose(outlook: ShardOutlook) -> Self {
        let ShardOutlook {
            keys,
            live_rows,
            wanted_rows,
            is_whole,
        } = outlook;
        if !is_whole {
            return Self {
                method: ShardMethod::Rows,
                keys,
                of: 0,
            };
        }
        let of = live_rows.max(wanted_rows);
        let is_dearer = keys.saturating_mul(ROWS_A_KEY) > of;
        Self {
            method: match is_dearer && of >= LEAST_ROWS {
                true => ShardMethod::Rebuild,
                false => ShardMethod::Rows,
            },
            // Several backups may have changed the same key.
            keys: keys.min(of),
            of,
        }
    }

    /// Whether it is the method of a new shard.
    pub fn is_rebuild(&self) -> bool {
        self.method == ShardMethod::Rebuild
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(keys: u64, live_rows: u64, wanted_rows: u64) -> ShardMethod {
        let outlook = ShardOutlook {
            keys,
            live_rows,
            wanted_rows,
            is_whole: true,
        };
        ChosenMethod::choose(outlook).method
    }

    #[test]
    fn a_shard_is_rebuilt_where_a_large_part_of_its_keys_may_differ() {
        for (keys, expected) in [
            (0, ShardMethod::Rows),
            (500_000, ShardMethod::Rows),
            (500_001, ShardMethod::Rebuild),
            (1_000_000, ShardMethod::Rebuild),
            (u64::MAX, ShardMethod::Rebuild),
        ] {
            assert_eq!(method(keys, 1_000_000, 900_000), expected, "{keys}");
            assert_eq!(method(keys, 900_000, 1_000_000), expected, "{keys}");
        }
    }

    #[test]
    fn rows_that_are_all_gone_or_all_new_are_reckoned_by_the_larger_side() {
        assert_eq!(method(1_000_000, 0, 1_000_000), ShardMethod::Rebuild);
        assert_eq!(method(1_000_000, 1_000_000, 0), ShardMethod::Rebuild);
        assert_eq!(method(0, 0, 0), ShardMethod::Rows);
    }

    #[test]
    fn small_shards_and_parts_of_shards_are_mended_row_by_row() {
        assert_eq!(method(999, 999, 999), ShardMethod::Rows);
        assert_eq!(method(1_000, 1_000, 1_000), ShardMethod::Rebuild);
        let part = ChosenMethod::choose(ShardOutlook {
            keys: 9_000,
            live_rows: 9_000,
            wanted_rows: 9_000,
            is_whole: false,
        });
        assert_eq!((part.method, part.of), (ShardMethod::Rows, 0));
    }

    #[test]
    fn no_more_keys_are_told_than_there_are() {
        let chosen = ChosenMethod::choose(ShardOutlook {
            keys: 3_000_000,
            live_rows: 1_000_000,
            wanted_rows: 1_000_000,
            is_whole: true,
        });
        assert_eq!((chosen.keys, chosen.of), (1_000_000, 1_000_000));
    }
}
