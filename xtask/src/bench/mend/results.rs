//! What was measured, and the sums that are read off it.

use std::time::Duration;

use crate::bench::aim::Aim;
use crate::bench::machine::Machine;
use crate::bench::measure::Cost;
use crate::bench::units::megabytes;

/// Mends of so much, of a hundred thousand rows, take at most this part of the time of a merged restore of the chain;
/// and one of all rows at most this part of that and a full backup together.
const AIM_TIME: f64 = 0.05;
const MUCH: u64 = 10_000;
const AIM_TIME_OF_MUCH: f64 = 0.4;
const ALL: u64 = 100_000;
const AIM_TIME_OF_ALL: f64 = 1.2;
/// A mend of 1 % reads at most this part of the bytes of the chain.
const AIM_BYTES: f64 = 0.03;
/// At fixed damage, sixteen times the rows may take this many times as long.
const AIM_GROWTH: f64 = 1.3;
const AIM_PEAK_BYTES: u64 = 256_000_000;

/// Everything, of one run on one machine.
pub struct Results {
    pub machine: Machine,
    /// The command that repeats it.
    pub command: String,
    pub version: String,
    pub postgres: String,
    /// The smallest table first.
    pub sizes: Vec<Size>,
    /// The middle table in other numbers of shards.
    pub shards: Vec<(u32, Mend)>,
}

/// A table.
pub struct Size {
    pub rows: u64,
    /// A full backup of it.
    pub full_backup: Cost,
    /// The smallest damage first, of neighbouring rows.
    pub mends: Vec<Mend>,
    /// Damage of 1 %, of rows all over the table.
    pub scattered: Mend,
    pub restores: Restores,
}

/// A mend.
#[derive(Clone, Copy)]
pub struct Mend {
    /// How much was damaged, of a hundred thousand rows.
    pub of_100_000: u64,
    /// Rows that were damaged.
    pub damaged: u64,
    pub cost: Cost,
    /// Bytes read from the repository.
    pub fetched_bytes: u64,
    /// Rows written and removed.
    pub written: u64,
}

/// Restores of the whole table.
pub struct Restores {
    /// Bytes of the chain, which a restore reads.
    pub bytes: u64,
    pub sequential: Cost,
    pub merged: Cost,
    pub pg_restore: Cost,
}

impl Mend {
    /// How much was damaged.
    pub fn percent(&self) -> String {
        format!("{} %", self.of_100_000 as f64 / 1000.0)
    }
}

impl Size {
    /// The mend of 1 %.
    pub fn usual(&self) -> &Mend {
        self.of(super::USUAL)
    }

    /// The mend of so much, of a hundred thousand rows.
    fn of(&self, of_100_000: u64) -> &Mend {
        let mut mends = self.mends.iter();
        let found = mends.find(|mend| mend.of_100_000 == of_100_000);
        found.expect("it is among the damages")
    }

    /// Part of the time of a merged restore of the chain that a mend takes.
    pub fn share(&self, mend: &Mend) -> f64 {
        part(mend.cost.time, self.restores.merged.time)
    }

    /// Part of the time of a merged restore of the chain and a full backup that a mend takes.
    fn share_of_both(&self, mend: &Mend) -> f64 {
        let both = self.restores.merged.time + self.full_backup.time;
        part(mend.cost.time, both)
    }

    /// Part of the chain's bytes that a mend reads.
    pub fn share_of_bytes(&self, mend: &Mend) -> f64 {
        mend.fetched_bytes as f64 / self.restores.bytes.max(1) as f64
    }
}

fn part(time: Duration, of: Duration) -> f64 {
    time.as_secs_f64() / of.as_secs_f64().max(1e-9)
}

impl Results {
    /// How many times as long the same number of damaged rows takes in a table of sixteen times the rows:
    /// 1 % of the smallest table and, between the damages of the largest, a sixteenth of that.
    pub fn growth(&self) -> Option<f64> {
        let (smallest, largest) = (self.sizes.first()?, self.sizes.last()?);
        let rows = smallest.usual().damaged as f64;
        let after = largest
            .mends
            .windows(2)
            .find(|pair| pair[0].damaged as f64 <= rows && rows <= pair[1].damaged as f64)?;
        let (less, more) = (&after[0], &after[1]);
        let at = (rows - less.damaged as f64) / (more.damaged - less.damaged).max(1) as f64;
        let (short, long) = (less.cost.time.as_secs_f64(), more.cost.time.as_secs_f64());
        let time = short + (long - short) * at;
        Some(time / smallest.usual().cost.time.as_secs_f64().max(1e-9))
    }

    /// The aims, in the order of the issue that set them.
    pub fn aims(&self) -> Vec<Aim> {
        let Some(largest) = self.sizes.last() else {
            return Vec::new();
        };
        let usual = largest.usual();
        let share = |aim, share: f64, most: f64| Aim {
            aim,
            measured: format!("{:.1} %", share * 100.0),
            met: share <= most,
        };
        let mut aims = vec![
            share(
                "Mend of 1 % in at most 5 % of the time of a merged restore of the chain",
                largest.share(usual),
                AIM_TIME,
            ),
            share(
                "Mend of 10 % in at most 40 % of it",
                largest.share(largest.of(MUCH)),
                AIM_TIME_OF_MUCH,
            ),
            share(
                "Mend of 100 % in at most 120 % of it and a full backup together",
                largest.share_of_both(largest.of(ALL)),
                AIM_TIME_OF_ALL,
            ),
            share(
                "Mend of 1 % reading at most 3 % of the bytes of the chain",
                largest.share_of_bytes(usual),
                AIM_BYTES,
            ),
        ];
        if let Some(growth) = self.growth() {
            aims.push(Aim {
                aim: "The same number of damaged rows in 16 times the rows: at most 1.3 times as long",
                measured: format!("{growth:.1} times"),
                met: growth <= AIM_GROWTH,
            });
        }
        let mends = self.sizes.iter().flat_map(|size| &size.mends);
        let peak = mends.map(|mend| mend.cost.peak_bytes).max().unwrap_or(0);
        aims.push(Aim {
            aim: "Memory under 256 MB at its peak",
            measured: megabytes(peak),
            met: peak < AIM_PEAK_BYTES,
        });
        aims
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn cost(milliseconds: u64) -> Cost {
        Cost {
            time: Duration::from_millis(milliseconds),
            processor_time: Duration::ZERO,
            peak_bytes: 100_000_000,
        }
    }

    fn mend(of_100_000: u64, rows: u64, milliseconds: u64) -> Mend {
        let damaged = rows * of_100_000 / 100_000;
        Mend {
            of_100_000,
            damaged,
            cost: cost(milliseconds),
            fetched_bytes: damaged * 10,
            written: damaged,
        }
    }

    /// Tables of 1 and 16 million rows whose mends take a time for each thousand rows and some more.
    pub fn results(fixed_ms: [u64; 2]) -> Results {
        let size = |rows: u64, fixed_ms: u64| Size {
            rows,
            full_backup: cost(rows / 300),
            mends: [10, 100, 1_000, 10_000, 100_000]
                .map(|damage| mend(damage, rows, fixed_ms + rows * damage / 100_000_000))
                .to_vec(),
            scattered: mend(1_000, rows, 2 * fixed_ms),
            restores: Restores {
                bytes: rows * 20,
                sequential: cost(rows / 200),
                merged: cost(rows / 250),
                pg_restore: cost(rows / 500),
            },
        };
        Results {
            machine: Machine {
                name: "2 cores".to_owned(),
                date: "2026-11-21".to_owned(),
                load: "0".to_owned(),
            },
            command: "cargo xtask bench mend".to_owned(),
            version: "mendb 0".to_owned(),
            postgres: "PostgreSQL 15".to_owned(),
            sizes: vec![size(1_000_000, fixed_ms[0]), size(16_000_000, fixed_ms[1])],
            shards: vec![(1, mend(1_000, 4_000_000, 100))],
        }
    }

    #[test]
    fn growth_is_at_the_same_number_of_damaged_rows() {
        assert!((results([100, 100]).growth().unwrap() - 1.0).abs() < 0.01);
        assert!((results([90, 190]).growth().unwrap() - 2.0).abs() < 0.01);
    }

    #[test]
    fn aims_are_met_by_shares_of_the_largest_table() {
        let met = |results: Results| results.aims().iter().map(|aim| aim.met).collect::<Vec<_>>();
        assert_eq!(met(results([100, 100])), [true; 6]);
        let slow = results([100, 20_000]);
        assert_eq!(met(slow), [false, true, true, true, false, true]);
    }
}
