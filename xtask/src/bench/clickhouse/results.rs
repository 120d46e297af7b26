//! What was measured, and the sums that are read off it.

use std::time::Duration;

use super::dataset::Dataset;
use super::measured::Measured;
use crate::bench::aim::Aim;
use crate::bench::machine::Machine;
use crate::bench::measure::Cost;
use crate::bench::units::{digits, megabytes, times};

/// A backup is to be this fast, of the speed of `cp`.
const AIM_OF_COPY: f64 = 0.80;
/// A backup without change is to take less than this of the first.
const AIM_AGAIN: f64 = 0.02;
/// A mend of 1 % is to take less than this of one of everything.
const AIM_SMALL_DAMAGE: f64 = 0.05;
/// Memory is to stay under this.
const AIM_PEAK_BYTES: u64 = 256_000_000;

/// Everything, of one run on one machine.
pub struct Results {
    /// Where and when.
    pub machine: Machine,
    /// The command that repeats it.
    pub command: String,
    pub mendb_version: String,
    pub server_version: String,
    /// Of so many runs of the same the medium one is here, where not said otherwise.
    pub repeats: u32,
    pub dataset: Dataset,
    pub backups: Backups,
    pub mutated: Mutated,
    /// By damage, the smallest first.
    pub restores: Vec<Restores>,
}

/// Backups of the whole table.
pub struct Backups {
    /// `cp -r` of the table's directory.
    pub copy: Cost,
    /// The same until it is on the disk.
    pub copy_flushed: Cost,
    pub native: Measured,
    pub mendb: Measured,
    /// Once more, nothing having changed.
    pub native_again: Measured,
    /// Once more, nothing having changed.
    pub mendb_again: Measured,
}

/// Backups after one column was changed in every row; taken once.
pub struct Mutated {
    /// Of the column.
    pub column_bytes: u64,
    pub native: Measured,
    pub mendb: Measured,
}

/// A way to restore the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Mendb,
    /// `TRUNCATE` and `RESTORE`.
    Native,
    /// `TRUNCATE`, copy all files, `ATTACH` each part.
    Copied,
    /// `TRUNCATE`, link all files, `ATTACH` each part.
    Linked,
}

impl Method {
    /// All, in the order of the page.
    pub const ALL: [Self; 4] = [Self::Mendb, Self::Native, Self::Copied, Self::Linked];

    /// What the page calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mendb => "mendb",
            Self::Native => "RESTORE",
            Self::Copied => "attach all, copied",
            Self::Linked => "attach all, linked",
        }
    }
}

/// Restores by every method after the same damage.
pub struct Restores {
    /// What was lost, of a hundred parts.
    pub percent: u64,
    /// Of the parts that were lost.
    pub lost_bytes: u64,
    /// As [`Method::ALL`].
    pub by_method: [Measured; Method::ALL.len()],
}

impl Restores {
    /// The restore by a method.
    pub fn by(&self, method: Method) -> Measured {
        self.by_method[method as usize]
    }
}

impl Results {
    /// The aims, in the order of the issue that set them.
    pub fn aims(&self) -> Vec<Aim> {
        let backups = &self.backups;
        let of_copy = |aim, copy: Cost| {
            let speed = times(copy.time, backups.mendb.cost.time);
            Aim {
                aim,
                measured: percent(speed),
                met: speed >= AIM_OF_COPY,
            }
        };
        let part = |aim, of: Duration, whole: Duration, most| {
            let share = times(of, whole);
            Aim {
                aim,
                measured: percent(share),
                met: share < most,
            }
        };
        let peak = self.peak_bytes();
        vec![
            of_copy(
                "Backup at 80 % or more of the speed of `cp -r`",
                backups.copy,
            ),
            of_copy(
                "The same, with `cp` flushed to the disk as backups are",
                backups.copy_flushed,
            ),
            part(
                "Backup without change in less than 2 % of the first one's time",
                backups.mendb_again.cost.time,
                backups.mendb.cost.time,
                AIM_AGAIN,
            ),
            part(
                "Mend of 1 % in less than 5 % of a restore of everything",
                self.mend_time(1),
                self.mend_time(100),
                AIM_SMALL_DAMAGE,
            ),
            Aim {
                aim: "Memory under 256 MB at its peak",
                measured: megabytes(peak),
                met: peak < AIM_PEAK_BYTES,
            },
        ]
    }

    /// How long mendb takes after damage of so many percent.
    fn mend_time(&self, percent: u64) -> Duration {
        let restores = self.restores.iter();
        let mut restores = restores.filter(|restores| restores.percent == percent);
        let found = restores.next().map(|restores| restores.by(Method::Mendb));
        found.unwrap_or_default().cost.time
    }

    /// The most memory that any step of mendb took.
    fn peak_bytes(&self) -> u64 {
        let backups = [
            self.backups.mendb,
            self.backups.mendb_again,
            self.mutated.mendb,
        ];
        let mends = self.restores.iter().map(|after| after.by(Method::Mendb));
        let peaks = backups.into_iter().chain(mends);
        peaks.map(|step| step.cost.peak_bytes).max().unwrap_or(0)
    }
}

/// `3.4 %` of a share.
pub fn percent(share: f64) -> String {
    format!("{} %", digits(share * 100.0))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn cost(ms: u64) -> Cost {
        Cost {
            time: Duration::from_millis(ms),
            processor_time: Duration::from_millis(ms),
            peak_bytes: 50_000_000,
        }
    }

    pub fn measured(ms: u64, bytes: u64) -> Measured {
        Measured {
            cost: cost(ms),
            bytes,
        }
    }

    /// A run in which a backup takes a second, `cp` the given time, and so on.
    pub fn results(copy_ms: u64, again_ms: u64, mends_ms: [u64; 4]) -> Results {
        let restores = [0, 1, 10, 100].into_iter().zip(mends_ms);
        Results {
            machine: Machine {
                name: "2 cores".to_owned(),
                date: "2026-11-21".to_owned(),
                load: "0.1".to_owned(),
            },
            command: "cargo xtask bench clickhouse".to_owned(),
            mendb_version: "mendb 0.1.0".to_owned(),
            server_version: "26.9".to_owned(),
            repeats: 3,
            dataset: Dataset {
                rows: 1000,
                parts: 100,
                files: 4900,
                bytes: 1_000_000_000,
                contents: String::new(),
            },
            backups: Backups {
                copy: cost(copy_ms),
                copy_flushed: cost(copy_ms * 2),
                native: measured(1500, 1_000_000_000),
                mendb: measured(1000, 1_000_000_000),
                native_again: measured(100, 100_000),
                mendb_again: measured(again_ms, 0),
            },
            mutated: Mutated {
                column_bytes: 8_000_000,
                native: measured(200, 8_100_000),
                mendb: measured(150, 8_100_000),
            },
            restores: restores
                .map(|(percent, mend_ms)| Restores {
                    percent,
                    lost_bytes: 10_000_000 * percent,
                    by_method: [
                        measured(mend_ms, 10_000_000 * percent),
                        measured(1200, 1_000_000_000),
                        measured(1100, 1_000_000_000),
                        measured(150, 1_000_000_000),
                    ],
                })
                .collect(),
        }
    }

    #[test]
    fn aims_are_met_at_their_limits_and_missed_beyond() {
        let met = |results: Results| -> Vec<bool> {
            results.aims().into_iter().map(|aim| aim.met).collect()
        };
        let good = results(800, 19, [10, 49, 200, 1000]);
        assert_eq!(met(good), [true; 5]);
        let bad = results(399, 20, [10, 50, 200, 1000]);
        assert_eq!(met(bad), [false, false, false, false, true]);
    }

    #[test]
    fn memory_is_the_most_of_any_step_of_mendb() {
        let mut results = results(800, 19, [10, 49, 200, 1000]);
        results.restores[2].by_method[0].cost.peak_bytes = AIM_PEAK_BYTES;
        results.restores[2].by_method[1].cost.peak_bytes = AIM_PEAK_BYTES * 2;
        let memory = results.aims().pop().unwrap();
        assert_eq!((memory.measured.as_str(), memory.met), ("256 MB", false));
    }

    #[test]
    fn methods_are_found_where_they_were_measured() {
        let restores = &results(1, 1, [10, 49, 200, 1000]).restores[0];
        for (method, measured) in Method::ALL.into_iter().zip(restores.by_method) {
            assert_eq!(
                restores.by(method).cost.time,
                measured.cost.time,
                "{method:?}"
            );
        }
    }
}
