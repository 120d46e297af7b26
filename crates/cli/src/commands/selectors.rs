//! The flags by which backup and restore leave tables of a ClickHouse server out, and what follows where
//! a selector fits nothing.

use clap::Args;
use mendb_model::part::{Exclusion, Unmatched};
use mendb_service::LeaveOut;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::settings::Settings;

/// Which of the tables that are named are left out.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "ClickHouse")]
pub struct ExcludeArgs {
    /// Leave out tables that match these comma-separated patterns of database.table; the table of a
    /// materialized view goes with its view [setting: clickhouse.exclude_tables]
    #[arg(long, value_name = "PATTERNS")]
    exclude_tables: Option<String>,
    /// Leave out tables, views and dictionaries of these engines, such as 'Kafka,Distributed' [setting:
    /// clickhouse.exclude_engines]
    #[arg(long, value_name = "PATTERNS")]
    exclude_engines: Option<String>,
    /// Leave out tables that have parts on one of these disks, or may get some by their storage policy
    /// [setting: clickhouse.exclude_disks]
    #[arg(long, value_name = "PATTERNS")]
    exclude_disks: Option<String>,
}

/// What a command did for which nothing was to be done.
#[derive(Serialize)]
struct NothingFits<'a> {
    unmatched: &'a [Unmatched],
}

impl ExcludeArgs {
    /// The flags with whether each is given, for targets that have no use for them.
    pub fn given(&self) -> [(&'static str, bool); 3] {
        [
            ("--exclude-tables", self.exclude_tables.is_some()),
            ("--exclude-engines", self.exclude_engines.is_some()),
            ("--exclude-disks", self.exclude_disks.is_some()),
        ]
    }

    /// What is left out: by each flag, else by its setting.
    pub fn leave_out(self, settings: &Settings) -> LeaveOut {
        let unless = |flag: &Option<String>, setting: &String| match flag {
            Some(_) => String::new(),
            None => setting.clone(),
        };
        let by_settings = &settings.exclude;
        LeaveOut {
            always: Exclusion {
                tables: unless(&self.exclude_tables, &by_settings.tables),
                engines: unless(&self.exclude_engines, &by_settings.engines),
                disks: unless(&self.exclude_disks, &by_settings.disks),
            },
            said: Exclusion {
                tables: self.exclude_tables.unwrap_or_default(),
                engines: self.exclude_engines.unwrap_or_default(),
                disks: self.exclude_disks.unwrap_or_default(),
            },
        }
    }
}

/// The end of a command: where everything it was to work on may be absent and is, that is said and well.
///
/// # Errors
/// What the command failed with, if it is anything else.
pub fn unless_nothing_fits(
    context: &Context,
    if_exists: bool,
    ended: Result<Verdict, Failure>,
) -> Result<Verdict, Failure> {
    match ended {
        Err(failure) if if_exists && !failure.unmatched.is_empty() => {
            let unmatched = &failure.unmatched;
            context
                .output
                .report(&NothingFits { unmatched }, |record| {
                    let each = record.unmatched.iter().map(ToString::to_string);
                    format!(
                        "nothing fits {}: nothing to do\n",
                        each.collect::<Vec<_>>().join(", ")
                    )
                })?;
            Ok(Verdict::Done)
        }
        ended => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_takes_the_place_of_its_setting_and_leaves_the_others() {
        let settings = Settings {
            exclude: Exclusion {
                tables: "d.tmp_*".to_owned(),
                engines: "Kafka".to_owned(),
                disks: String::new(),
            },
            ..Settings::default()
        };
        let flags = ExcludeArgs {
            exclude_tables: Some("d.x".to_owned()),
            ..ExcludeArgs::default()
        };
        let left_out = flags.leave_out(&settings);
        assert_eq!(left_out.said.tables, "d.x");
        assert_eq!(left_out.always.tables, "");
        assert_eq!(left_out.all().engines, "Kafka");
        let nothing = ExcludeArgs {
            exclude_tables: Some(String::new()),
            ..ExcludeArgs::default()
        };
        assert_eq!(nothing.leave_out(&settings).all().tables, "");
    }
}
