//! What was measured, and the sums that are read off it.

use crate::bench::aim::Aim;
use crate::bench::machine::Machine;
use crate::bench::measure::Cost;
use crate::bench::units::{digits, megabytes, times};

/// Increments between the full backup and the end of the chain that is restored.
pub const ROUNDS: u64 = 5;
/// How much changes in each of them, of a thousand.
pub const ROUND_PER_MILLE: u64 = 10;
/// Memory is to stay under this.
const AIM_PEAK_BYTES: u64 = 256_000_000;
/// The smallest increment is to take at most this much of a full backup's time.
const SMALL_PERCENT: f64 = 5.0;
/// How far from a straight line still counts as one: shared machines and fixed costs bend it as much.
const STRAIGHT: f64 = 1.3;
/// An increment may take this many times its part of the rows of a full backup's time: a changed row
/// costs more than one that is only copied.
const PROPORTION: f64 = 5.0;

/// Everything, of one run on one machine.
pub struct Results {
    /// Where and when.
    pub machine: Machine,
    /// The command that repeats it.
    pub command: String,
    /// Rows of the table.
    pub rows: u64,
    /// Bytes of the CSV file.
    pub csv_bytes: u64,
    /// The program on that table.
    pub mendb: Mendb,
    /// The program on smaller tables, the smallest first.
    pub smaller: Vec<TableSize>,
    /// PostgreSQL as it comes, and set up for loading.
    pub postgres: [Server; 2],
}

/// The program's steps.
pub struct Mendb {
    pub version: String,
    pub import: Cost,
    pub database_bytes: u64,
    pub full: Cost,
    pub full_bytes: u64,
    /// The rounds of the chain, and then one smaller and one larger.
    pub increments: Vec<Increment>,
    /// Of the full backup alone: what `pg_restore` does.
    pub restore_full: Cost,
    /// Of the full backup and the rounds of the chain, each of them in one pass over the table.
    pub restore_sequential: Cost,
    /// Of the same, in one pass over all of them.
    pub restore_merged: Cost,
}

/// Rows changed, and the increment that holds the changes.
pub struct Increment {
    /// How much was to change, of a thousand.
    pub per_mille: u64,
    /// Rows that changed.
    pub rows: u64,
    pub change: Cost,
    pub backup: Cost,
    /// In the repository.
    pub bytes: u64,
}

/// A table of some size: its full backup, and the restore of it.
#[derive(Clone, Copy)]
pub struct TableSize {
    pub rows: u64,
    pub import: Cost,
    pub full: Cost,
    pub restore: Cost,
}

/// PostgreSQL's steps under one set of settings.
pub struct Server {
    pub version: String,
    /// The settings that differ from the defaults.
    pub settings: String,
    pub import: Cost,
    pub table_bytes: u64,
    pub dump: Cost,
    pub dump_bytes: u64,
    /// The dump with the least compression, `-Z1`.
    pub fast_dump: Cost,
    pub fast_dump_bytes: u64,
    pub restore: Cost,
}

impl Mendb {
    /// The increments of the chain.
    pub fn rounds(&self) -> &[Increment] {
        &self.increments[..ROUNDS as usize]
    }

    /// The most memory that any step took.
    pub fn peak_bytes(&self) -> u64 {
        let changes = self.increments.iter();
        let changes = changes.flat_map(|increment| [increment.change, increment.backup]);
        [
            self.import,
            self.full,
            self.restore_full,
            self.restore_sequential,
            self.restore_merged,
        ]
        .into_iter()
        .chain(changes)
        .map(|cost| cost.peak_bytes)
        .max()
        .unwrap_or(0)
    }
}

impl Results {
    /// The server set up for loading.
    pub fn tuned(&self) -> &Server {
        &self.postgres[1]
    }

    /// The tables of all sizes, the smallest first.
    pub fn sizes(&self) -> Vec<TableSize> {
        let largest = TableSize {
            rows: self.rows,
            import: self.mendb.import,
            full: self.mendb.full,
            restore: self.mendb.restore_full,
        };
        self.smaller.iter().copied().chain([largest]).collect()
    }

    /// The aims, in the order of the issue that set them.
    pub fn aims(&self) -> Vec<Aim> {
        let (mendb, tuned) = (&self.mendb, self.tuned());
        let faster = |aim, theirs: Cost, ours: Cost, wanted: f64| {
            let times = times(theirs.time, ours.time);
            Aim {
                aim,
                measured: format!("{times:.1} times"),
                met: times >= wanted,
            }
        };
        let peak = mendb.peak_bytes();
        vec![
            faster(
                "Full backup 5 times as fast as tuned `pg_dump`",
                tuned.dump,
                mendb.full,
                5.0,
            ),
            faster(
                "Import as fast as tuned `COPY` with its indexes",
                tuned.import,
                mendb.import,
                1.0,
            ),
            faster(
                "Restore of a full backup 4 times as fast as tuned `pg_restore`",
                tuned.restore,
                mendb.restore_full,
                4.0,
            ),
            faster(
                "Restore of the full backup and 5 increments, merged, 3 times as fast as tuned `pg_restore` of the dump alone",
                tuned.restore,
                mendb.restore_merged,
                3.0,
            ),
            Aim {
                aim: "Memory under 256 MB at its peak",
                measured: megabytes(peak),
                met: peak < AIM_PEAK_BYTES,
            },
            self.linear(),
            self.small(),
            self.proportional(),
        ]
    }

    fn linear(&self) -> Aim {
        let sizes = self.sizes();
        let bend = |cost: fn(&TableSize) -> Cost| {
            let per_row = |size: &TableSize| cost(size).time.as_secs_f64() / size.rows as f64;
            let ends = sizes.last().zip(sizes.first());
            ends.map_or(1.0, |(last, first)| per_row(last) / per_row(first))
        };
        let (backup, restore) = (bend(|size| size.full), bend(|size| size.restore));
        Aim {
            aim: "Time linear in rows: a row of the largest table takes as long as one of the smallest",
            measured: format!("{backup:.2} times in backup, {restore:.2} in restore"),
            met: backup < STRAIGHT && restore < STRAIGHT,
        }
    }

    /// Of the time of a full backup.
    fn share(&self, increment: &Increment) -> f64 {
        increment.backup.time.as_secs_f64() / self.mendb.full.time.as_secs_f64()
    }

    fn small(&self) -> Aim {
        let smallest = self
            .by_changed_rows()
            .first()
            .map(|&least| self.share(least));
        let percent = smallest.unwrap_or(1.0) * 100.0;
        Aim {
            aim: "An increment of 0.1 % takes at most 5 % of a full backup's time",
            measured: format!("{} %", digits(percent)),
            met: percent <= SMALL_PERCENT,
        }
    }

    /// Increments smaller than those of the chain are only shown: they cost what starting costs.
    fn proportional(&self) -> Aim {
        let share = |increment: &Increment| self.share(increment);
        let increments = self.by_changed_rows();
        let shown: Vec<String> = increments
            .iter()
            .map(|increment| {
                let percent = increment.per_mille as f64 / 10.0;
                format!("{} % for {percent} %", digits(share(increment) * 100.0))
            })
            .collect();
        let met = increments
            .iter()
            .filter(|increment| increment.per_mille >= ROUND_PER_MILLE)
            .all(|increment| share(increment) <= PROPORTION * increment.per_mille as f64 / 1000.0);
        Aim {
            aim: "Increments in proportion to what changed: at most 5 times their part of a full backup's time",
            measured: shown.join(", "),
            met,
        }
    }

    /// One increment of each size, the smallest first; of the rounds the last.
    pub fn by_changed_rows(&self) -> Vec<&Increment> {
        let mut increments: Vec<&Increment> = self.mendb.increments[ROUNDS as usize - 1..]
            .iter()
            .collect();
        increments.sort_by_key(|increment| increment.per_mille);
        increments
    }
}
