//! What was measured, and the sums that are read off it.

use std::time::Duration;

use crate::bench::aim::Aim;
use crate::bench::machine::Machine;
use crate::bench::measure::Cost;
use crate::bench::units::{digits, megabytes, seconds, times};

/// The aims are those of a table of so many rows, and of the smallest where there is none.
const AIMED_ROWS: u64 = 5_000_000;
/// A full backup is so many times as fast as `pg_dump -Fd -j2`, and takes at most so many times as long as a bare COPY.
const AIM_OF_DUMP: f64 = 3.0;
const AIM_OF_COPY: f64 = 3.0;
/// The damage that the aims of increments and mends are of, in percent.
const USUAL: f64 = 1.0;
const ALL: f64 = 100.0;
const AIM_INCREMENT: Duration = Duration::from_secs(2);
/// Part of the bytes of the full backup that an increment takes.
const AIM_INCREMENT_BYTES: f64 = 0.015;
/// A mend is so many times as fast as others.
const AIM_OF_RESTORE: f64 = 10.0;
const AIM_OF_DELTA: f64 = 4.0;
/// Writers wait no longer than a bare rewrite takes, and this.
const AIM_WAITED: Duration = Duration::from_millis(500);
const AIM_PEAK_BYTES: u64 = 512_000_000;

/// Everything, of one run on one machine.
pub struct Results {
    pub machine: Machine,
    /// The command that repeats it.
    pub command: String,
    pub version: String,
    pub postgres: String,
    pub pgbackrest: String,
    /// The smallest table first.
    pub sizes: Vec<Size>,
}

/// A table.
pub struct Size {
    pub rows: u64,
    pub full: Full,
    /// `pg_restore -j2` of the table.
    pub pg_restore: Cost,
    /// The smallest damage first.
    pub mends: Vec<Mend>,
    pub pgbackrest: PgBackRest,
}

/// What was written to be kept.
#[derive(Clone, Copy)]
pub struct Stored {
    pub cost: Cost,
    pub bytes: u64,
}

/// Full backups.
pub struct Full {
    pub mendb: Stored,
    /// `pg_dump -Fc`.
    pub dump_file: Stored,
    /// `pg_dump -Fd -j2`.
    pub dump_directory: Stored,
    /// A COPY of all rows by two sessions, which keeps nothing.
    pub copy: Cost,
}

/// What follows a damage.
pub struct Mend {
    /// How many rows of a hundred were damaged.
    pub percent: f64,
    pub increment: Stored,
    pub cost: Cost,
    /// How long writers could not write.
    pub waited: Duration,
    /// The same rows deleted and inserted in one transaction.
    pub bare: Duration,
}

/// pgBackRest, with a table and damages of the same size.
pub struct PgBackRest {
    pub full: Stored,
    /// One for each mend.
    pub shares: Vec<Delta>,
}

/// What pgBackRest does after a damage.
pub struct Delta {
    pub increment: Stored,
    /// `restore --delta` to the full backup, from when the server is stopped until it is open again.
    pub down: Duration,
}

impl Size {
    /// The mend of a damage, and what pgBackRest took.
    fn of(&self, percent: f64) -> (&Mend, &Delta) {
        let mut pairs = self.mends.iter().zip(&self.pgbackrest.shares);
        let found = pairs.find(|(mend, _)| (mend.percent - percent).abs() < 1e-9);
        found.expect("it is among the damages")
    }
}

impl Results {
    /// What was to be shown, and whether it was.
    pub fn aims(&self) -> Vec<Aim> {
        let mut sizes = self.sizes.iter();
        let size = sizes.find(|size| size.rows == AIMED_ROWS);
        let Some(size) = size.or(self.sizes.first()) else {
            return Vec::new();
        };
        let Full {
            mendb,
            dump_directory,
            copy,
            ..
        } = &size.full;
        let (mend, delta) = size.of(USUAL);
        let (all, _) = size.of(ALL);
        let increment = &mend.increment;
        let of_dump = times(dump_directory.cost.time, mendb.cost.time);
        let of_copy = times(mendb.cost.time, copy.time);
        let of_bytes = increment.bytes as f64 / mendb.bytes.max(1) as f64;
        let of_restore = times(size.pg_restore.time, mend.cost.time);
        let of_delta = times(delta.down, mend.cost.time);
        let mends = self.sizes.iter().flat_map(|size| &size.mends);
        let mendb_costs = mends.flat_map(|mend| [mend.cost, mend.increment.cost]);
        let full = self.sizes.iter().map(|size| size.full.mendb.cost);
        let peak = mendb_costs.chain(full).map(|cost| cost.peak_bytes).max();
        let peak = peak.unwrap_or(0);
        vec![
            Aim {
                aim: "A full backup is 3 times as fast as `pg_dump -Fd -j2`",
                measured: format!("{} times", digits(of_dump)),
                met: of_dump >= AIM_OF_DUMP,
            },
            Aim {
                aim: "It takes at most 3 times as long as a bare COPY by two sessions",
                measured: format!("{} times", digits(of_copy)),
                met: of_copy <= AIM_OF_COPY,
            },
            Aim {
                aim: "An increment of 1 % takes at most 2 s",
                measured: seconds(increment.cost.time),
                met: increment.cost.time <= AIM_INCREMENT,
            },
            Aim {
                aim: "It has at most 1.5 % of the bytes of a full backup",
                measured: format!("{:.1} %", of_bytes * 100.0),
                met: of_bytes <= AIM_INCREMENT_BYTES,
            },
            Aim {
                aim: "A mend of 1 % is 10 times as fast as `pg_restore` of the table",
                measured: format!("{} times", digits(of_restore)),
                met: of_restore >= AIM_OF_RESTORE,
            },
            Aim {
                aim: "It is 4 times as fast as pgBackRest's `restore --delta`",
                measured: format!("{} times", digits(of_delta)),
                met: of_delta >= AIM_OF_DELTA,
            },
            Aim {
                aim: "Writers wait at most half a second longer than a bare delete and insert of the same rows takes",
                measured: format!(
                    "{} of {}",
                    seconds(mend.waited),
                    seconds(mend.bare + AIM_WAITED)
                ),
                met: mend.waited <= mend.bare + AIM_WAITED,
            },
            Aim {
                aim: "A mend of 100 % takes no longer than a bare rewrite of all rows",
                measured: format!("{} of {}", seconds(all.cost.time), seconds(all.bare)),
                met: all.cost.time <= all.bare,
            },
            Aim {
                aim: "Backups and mends of all sizes take at most 512 MB of memory",
                measured: megabytes(peak),
                met: peak <= AIM_PEAK_BYTES,
            },
        ]
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A table of which a mend of 1 % takes so many seconds, and everything else ten.
    pub fn results(mend: u64) -> Results {
        let ten = Duration::from_secs(10);
        let cost = |time| Cost {
            time,
            ..Cost::default()
        };
        let stored = Stored {
            cost: cost(ten),
            bytes: 1_000,
        };
        let mends = crate::bench::postgres::PERCENT.map(|percent| Mend {
            percent,
            increment: stored,
            cost: cost(match percent {
                USUAL => Duration::from_secs(mend),
                _ => ten,
            }),
            waited: ten,
            bare: ten,
        });
        let share = || Delta {
            increment: stored,
            down: ten,
        };
        Results {
            machine: Machine::this().unwrap(),
            command: "cargo xtask bench postgres".to_owned(),
            version: "mendb".to_owned(),
            postgres: "PostgreSQL".to_owned(),
            pgbackrest: "pgBackRest".to_owned(),
            sizes: vec![Size {
                rows: AIMED_ROWS,
                full: Full {
                    mendb: stored,
                    dump_file: stored,
                    dump_directory: stored,
                    copy: cost(ten),
                },
                pg_restore: cost(ten),
                pgbackrest: PgBackRest {
                    full: stored,
                    shares: mends.iter().map(|_| share()).collect(),
                },
                mends: mends.into(),
            }],
        }
    }

    #[test]
    fn aims_tell_apart_what_is_fast_enough_and_what_is_not() {
        let met = |seconds| -> Vec<bool> {
            let aims = results(seconds).aims();
            aims.iter().map(|aim| aim.met).collect()
        };
        assert_eq!(
            met(1),
            [false, true, false, false, true, true, true, true, true]
        );
        assert_eq!(
            met(2),
            [false, true, false, false, false, true, true, true, true]
        );
        assert_eq!(
            met(3),
            [false, true, false, false, false, false, true, true, true]
        );
    }
}
