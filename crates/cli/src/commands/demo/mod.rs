//! `mendb demo`: the whole story on tables of its own.
//!
//! [`story`] tells it, chapter by chapter; [`place`] is where it happens, [`load`] fills and changes
//! the tables, [`kill`] restores and is killed, [`report`] says at the end what was proved and how
//! long everything took.
//!
//! *Crash*: everything is in one directory of its own. A demo that is killed leaves it behind, and
//! nothing else.

mod kill;
mod load;
mod place;
mod report;
mod story;

use std::path::PathBuf;

use clap::Args;

use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// The scale factors that the generator of the data can do.
const SCALES: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

/// Back up, lose, restore and prove: the whole story on example tables, in about a minute.
///
/// Loads three tables with indexes, several shards each, takes a full backup and three increments,
/// drops the tables, restores them, kills the restore half-way and lets it go on, and proves that
/// every row of every table and index is back. Everything happens in a directory of its own; your
/// target and repository are not touched. Exit code 3 when something is not as it was.
#[derive(Debug, Args)]
pub struct DemoCommand {
    /// How much data: 1 is 1.5 million orders with 6 million items; 0.01 is the least
    #[arg(long, value_name = "FACTOR", default_value = "0.05", value_parser = parse_scale)]
    scale: f64,
    /// Work in this new or empty directory and leave everything there to look at
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl DemoCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let place = place::Place::open(context, self.keep.as_deref())?;
        let report = story::tell(&place, self.scale)?;
        context.output.record(&report, report::Report::describe)?;
        place.say(&report.verdict());
        place.leave();
        Ok(if report.equal {
            Verdict::Done
        } else {
            Verdict::Drift
        })
    }
}

fn parse_scale(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(scale) if SCALES.contains(&scale) => Ok(scale),
        _ => Err(format!(
            "a number from {} to {}",
            SCALES.start(),
            SCALES.end()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_number_the_generator_can_do() {
        assert_eq!(parse_scale("0.01"), Ok(0.01));
        for bad in ["0", "-1", "0.001", "NaN", "inf", "big"] {
            assert!(parse_scale(bad).is_err(), "{bad}");
        }
    }
}
