//! `mendb backup`: take a backup of a collection.

use clap::{Args, ValueEnum};
use mendb_model::name::{BackupId, BackupKind, OperationId};
use mendb_model::operation::State;
use mendb_service::{BackupOrder, ChangesBy, Error, PartBackupOrder, Service};

use super::selectors::{ExcludeArgs, unless_nothing_fits};
use crate::cluster::ClusterArgs;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::settings::Settings;
use crate::target::Target;

/// What to begin with on a ClickHouse server, and on a row store.
const EXAMPLES: &str = "\
A cluster of ClickHouse servers, with an agent beside each (mendb agent):
  mendb backup analytics --cluster ./cluster.yml          one backup of one replica of each shard

ClickHouse, beside the server, with --target clickhouse://user@host:8123/ and, where the server's files \
are seen from here under another path, --data-path DIRECTORY:
  mendb backup analytics                                 all tables of the database analytics
  mendb backup all --tables '*' --label monday           all tables of the server
  mendb backup recent --tables 'analytics.*' --partitions '2026*'
  mendb backup all --tables '*' --exclude-tables '*.tmp_*' --exclude-engines Kafka
  mendb show monday                                      what is in it
  mendb verify monday --live                             what has changed since

Row stores:
  mendb collection create world --table cities           name what is backed up together
  mendb backup world                                     a full backup
  mendb backup world --incremental                       what has changed since";

/// Take a backup of a collection.
///
/// On a ClickHouse server the tables are frozen together and their files copied that the repository
/// lacks: every backup is complete by itself and costs what is new.
///
/// Of a row store the backup holds all rows, or the changes since the newest backup. A PostgreSQL database keeps them
/// where a full backup asks for it (--changes stream), else they are found by looking at its rows; how is told at the
/// end for each table.
///
/// One table is one table: where one cannot be backed up, the others are, the backup says which it lacks
/// and why, and the exit code is 3. Such a backup is used only where it is named: neither restore takes it
/// by itself, nor does the next backup build on it.
///
/// A backup of the collection that failed before is rolled back: this one takes its place.
///
/// Each repository holds a chain of its own, and each increment goes on with the newest backup that this
/// target has in the repository it goes to. A repository is made where there is none for the first backup of
/// a target that knows of none, which is said; else by mendb repository init, or with --new-repository.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct BackupCommand {
    /// The collection; on a ClickHouse server any name
    collection: String,
    /// Only the changes since the newest backup (row stores)
    #[arg(long)]
    incremental: bool,
    /// Find what has changed by comparing all rows with the newest backup, also where the versions of rows tell
    /// (PostgreSQL)
    #[arg(long, requires = "incremental")]
    compare_rows: bool,
    /// What tells the changes of the increments on this full backup (PostgreSQL): a replication slot that keeps the log
    /// of the server from here on, or the rows themselves. Without, as for the chain before
    #[arg(long, value_enum, value_name = "BY", conflicts_with = "incremental")]
    changes: Option<ChangesArg>,
    /// A name for the backup, unique in the collection
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// Make a new repository where --repository names none, although this target was backed up into another
    /// one before
    #[arg(long)]
    new_repository: bool,
    /// Tables that match these comma-separated patterns of database.table with * and ?; without, those of
    /// this server's newest backup of the collection, with what was left out there, or of the database of
    /// its name.
    /// Backquotes tell names apart that have dots: '`a.b`.c'
    #[arg(long, short, value_name = "PATTERNS", help_heading = "ClickHouse")]
    tables: Option<String>,
    /// Only partitions that match these comma-separated patterns, by id or by value
    #[arg(long, value_name = "PATTERNS", help_heading = "ClickHouse")]
    partitions: Option<String>,
    #[command(flatten)]
    exclude: ExcludeArgs,
    /// Let patterns fit nothing, which else is an error
    #[arg(long, help_heading = "ClickHouse")]
    if_exists: bool,
    /// Fail unless no row came into any table, or went, while they were frozen one after another, so that all of the
    /// backup is of one moment; of a cluster all shards are
    #[arg(long, help_heading = "ClickHouse")]
    exact: bool,
    /// Exit with 0 although the backup lacks tables that could not be backed up
    #[arg(long, help_heading = "ClickHouse")]
    allow_incomplete: bool,
    /// Leave passwords and keys in definitions out of the backup; a restore then names what it cannot
    /// create [setting: clickhouse.without_secrets]
    #[arg(long, help_heading = "ClickHouse")]
    without_secrets: bool,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What an agent is told by the coordinator of its cluster: the backup that this one is a part of
    #[arg(long, value_name = "BACKUP", requires = "shard", hide = true)]
    shard_of: Option<BackupId>,
    /// And its shard
    #[arg(long, value_name = "NAME", requires = "shard_of", hide = true)]
    shard: Option<String>,
    /// And to wait when its tables are frozen
    #[arg(long, requires = "shard_of", hide = true)]
    hold: bool,
    /// Or only to say what there is
    #[arg(long, conflicts_with = "shard_of", hide = true)]
    what_fits: bool,
}

/// What tells the changes of increments.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ChangesArg {
    /// A replication slot
    Stream,
    /// The rows
    Rows,
}

impl From<ChangesArg> for ChangesBy {
    fn from(arg: ChangesArg) -> Self {
        match arg {
            ChangesArg::Stream => Self::Stream,
            ChangesArg::Rows => Self::Rows,
        }
    }
}

impl BackupCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        match context.target()? {
            Target::Rows(_) | Target::Postgres(_) => {
                let order = self.order_rows()?;
                let service = context.open_service()?;
                take(context, &service, &|| service.request_backup(&order))
            }
            Target::ClickHouse(_) | Target::Cluster(_) => {
                let (if_exists, allow_incomplete) = (self.if_exists, self.allow_incomplete);
                let what_fits = self.what_fits;
                let order = self.order_parts(&context.settings)?;
                let service = context.open_service()?;
                if what_fits {
                    let fit = service.part_backup_fits(&order)?;
                    context
                        .output
                        .record(&fit, |fit| format!("{}\n", human::tables(fit.tables)))?;
                    return Ok(Verdict::Done);
                }
                // What a crash cut off goes on first, so that nothing of it stays frozen on the server.
                context.drive_all(&service)?;
                let taken = take(context, &service, &|| service.request_part_backup(&order));
                match unless_nothing_fits(context, if_exists, taken)? {
                    Verdict::Drift if allow_incomplete => Ok(Verdict::Done),
                    verdict => Ok(verdict),
                }
            }
        }
    }

    fn order_rows(self) -> Result<BackupOrder, Failure> {
        let flags = [
            ("--tables", self.tables.is_some()),
            ("--partitions", self.partitions.is_some()),
            ("--if-exists", self.if_exists),
            ("--exact", self.exact),
            ("--allow-incomplete", self.allow_incomplete),
            ("--without-secrets", self.without_secrets),
            ("--shard-of", self.shard_of.is_some()),
            ("--what-fits", self.what_fits),
        ];
        for (flag, given) in flags.into_iter().chain(self.exclude.given()) {
            if given {
                return Err(Failure::misuse(format!(
                    "{flag} is for ClickHouse targets: a backup of a row store holds all tables of its \
                     collection, with all their rows, and choosing among them is not in this version"
                ))
                .hint("mendb collection create makes a collection of other tables"));
            }
        }
        if self.without_secrets {
            return Err(Failure::misuse(
                "--without-secrets is for ClickHouse targets: definitions of a row store hold no credentials",
            ));
        }
        Ok(BackupOrder {
            collection: self.collection,
            kind: if self.incremental {
                BackupKind::Incremental
            } else {
                BackupKind::Full
            },
            label: self.label,
            new_repository: self.new_repository,
            compare_rows: self.compare_rows,
            changes: self.changes.map(Into::into),
        })
    }

    fn order_parts(self, settings: &Settings) -> Result<PartBackupOrder, Failure> {
        if self.incremental {
            return Err(Failure::misuse(
                "--incremental is for row stores: every backup of a ClickHouse server is complete by itself, \
                 and costs only what is new",
            )
            .hint("leave --incremental out: files that the repository has are not copied again")
            .needing_full());
        }
        Ok(PartBackupOrder {
            collection: self.collection,
            tables: self.tables,
            partitions: self.partitions,
            exclude: self.exclude.leave_out(settings),
            if_exists: self.if_exists,
            label: self.label,
            new_repository: self.new_repository,
            without_secrets: self.without_secrets || settings.without_secrets,
            part_of: self.shard_of.zip(self.shard),
            exact: self.exact,
            holds: self.hold,
        })
    }
}

/// Says which repository was made, if one was.
fn say_new_repository(
    context: &Context,
    service: &Service,
    was_there: bool,
) -> Result<(), Failure> {
    let repository = service.repository();
    let header = service.runtime().block_on(repository.header())?;
    if let (false, Some(header)) = (was_there, header) {
        context.say(&format!(
            "made a new repository at {} (id {})",
            repository.url(),
            header.repository_id
        ));
    }
    Ok(())
}

/// Requests a backup and drives it to its end. One of the collection that failed before is rolled back.
fn take(
    context: &Context,
    service: &Service,
    request: &dyn Fn() -> mendb_service::Result<OperationId>,
) -> Result<Verdict, Failure> {
    let header = service.runtime().block_on(service.repository().header())?;
    let id = match request() {
        Err(Error::BackupFailed { operation_id, .. }) => {
            // All else was found good: this backup takes the place of the one that failed.
            context.give_up(service, &operation_id)?;
            request()?
        }
        requested => requested?,
    };
    say_new_repository(context, service, header.is_some())?;
    context.say(&format!("operation {id}"));
    context.drive(service, &id, State::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        backup: BackupCommand,
    }

    fn parse(line: &str) -> BackupCommand {
        let words = std::iter::once("backup").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap().backup
    }

    #[test]
    fn tables_are_chosen_on_a_server_and_increments_taken_of_rows() {
        let order = parse("analytics --tables analytics.* --partitions 2026* --label nightly");
        let order = order.order_parts(&Settings::default()).unwrap();
        assert_eq!(order.tables.as_deref(), Some("analytics.*"));
        assert_eq!(order.partitions.as_deref(), Some("2026*"));
        let order = parse("world --incremental").order_rows().unwrap();
        assert_eq!(order.kind, BackupKind::Incremental);
    }

    #[test]
    fn what_the_other_kind_of_target_has_is_refused() {
        for line in [
            "c --tables t",
            "c --partitions p",
            "c --exclude-engines Kafka",
            "c --if-exists",
            "c --exact",
            "c --allow-incomplete",
        ] {
            let failure = parse(line).order_rows().unwrap_err();
            assert!(
                failure.message.contains("is for ClickHouse targets"),
                "{failure}"
            );
            assert_eq!(failure.exit_code(), 2);
        }
        let order = parse("c --incremental").order_parts(&Settings::default());
        let failure = order.unwrap_err();
        assert!(failure.message.contains("is for row stores"), "{failure}");
    }
}
