//! `mendb drill`: restore a sample of a backup to prove that it can be restored, and remove it again.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use mendb_model::name::OperationId;
use mendb_model::operation::{Drill, State};
use mendb_service::journal::command::Command;
use mendb_service::{MendFrom, MendOrder, RestoreOrder, env};

use crate::commands::restore::{find, refuse_parts};
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::target::Target;

/// Restore a sample of a backup beside the live tables, prove it, and remove it again
///
/// Of each table some key ranges, or parts on a ClickHouse server, are brought from the repository into tables of
/// their own, each time others, and compared with what the manifest says: counts and digests of rows, hashes of
/// parts, which the server then checks too if it can. Row stores never show these tables; on a ClickHouse server they are called
/// mendb_drill_…, in the databases of the tables they are of. Live tables are neither read nor changed. When the drill
/// is done, or has failed, what it made is gone, and mendb list tells which backups were proved so, and when.
#[derive(Debug, Args)]
pub struct DrillCommand {
    /// A collection, of which its newest backup is meant, or a backup by its id or label
    #[arg(value_name = "COLLECTION|BACKUP")]
    what: String,
    /// How many key ranges or parts of each table, in percent, one at least; or all
    #[arg(long, value_name = "PERCENT|all", default_value = "10%")]
    sample: Sample,
    /// Only tables that match these comma-separated patterns with * and ?; on a ClickHouse server database.table
    #[arg(long, short, value_name = "PATTERNS")]
    tables: Option<String>,
}

/// How much of each table is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Of a hundred key ranges or parts.
    percent: u8,
}

impl FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self { percent: 100 });
        }
        let number = text.strip_suffix('%').unwrap_or(text).parse();
        match number {
            Ok(percent @ 1..=100) => Ok(Self { percent }),
            _ => Err("it is neither a whole number of percent from 1% to 100%, nor all".to_owned()),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

impl DrillCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let id = self.order(context)?;
        context.say(&format!("operation {id}"));
        see_through(context, &id)
    }

    /// Makes the operation. What drives it opens the target again, as the one that goes on with it does.
    fn order(self, context: &Context) -> Result<OperationId, Failure> {
        let service = context.open_service()?;
        let (collection, to) = find(&service, self.what, None)?;
        let drill = Some(Drill {
            percent: self.sample.percent,
            seed: env::nonce(),
        });
        Ok(match context.target()? {
            Target::Rows(_) | Target::Postgres(_) => {
                refuse_parts(&service, &collection, to.as_deref())?;
                service.request_restore(&RestoreOrder {
                    collection,
                    to,
                    tables: self.tables,
                    drill,
                    ..RestoreOrder::default()
                })?
            }
            Target::Cluster(_) => {
                return Err(Failure::misuse(
                    "drills are of one server, and the target is a cluster",
                )
                .hint("mendb drill beside one of its servers restores a sample there"));
            }
            Target::ClickHouse(_) => service.request_mend(&MendOrder {
                tables: self.tables,
                keep_undo: Some(false),
                check_table: true,
                drill,
                ..MendOrder::new(MendFrom::Collection {
                    collection,
                    to,
                    shard: None,
                })
            })?,
        })
    }
}

/// Follows a drill to its end. One that has failed is rolled back, so that nothing of it stays.
///
/// # Errors
/// The backup was not proved, or could not be restored.
pub fn see_through(context: &Context, id: &OperationId) -> Result<Verdict, Failure> {
    let known = context.journal_of(id)?;
    let ended = context.see_through(&known, id, State::Done);
    let Err(failure) = ended else {
        return ended;
    };
    let (owner, journal) = &known;
    let operation = journal.operation_head(id)?;
    if operation.state != State::Failed || !operation.step_kind().can_cancel() {
        return Err(failure);
    }
    let undone = context
        .deliver(&known, id, Command::Cancel(None))
        .and_then(|()| context.follow(owner, journal, id));
    Err(match undone {
        Ok(()) => failure
            .hint("nothing of the drill is left; mendb verify tells what is wrong with a backup"),
        Err(why) => {
            context.say(&format!(
                "what the drill has made could not be removed: {}",
                why.message
            ));
            failure
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_share_of_each_table_or_all() {
        let percent = |text: &str| text.parse().map(|Sample { percent }| percent);
        for (text, expected) in [("1%", 1), ("25", 25), ("100%", 100), ("all", 100)] {
            assert_eq!(percent(text), Ok(expected), "{text}");
        }
        for text in ["", "0%", "101%", "-1", "1.5%", "%", "some", "300"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
