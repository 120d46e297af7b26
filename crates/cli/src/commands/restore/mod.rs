//! `mendb restore`: bring tables back from a backup: row stores from a chain of backups, part stores by
//! mending or creating tables.

pub mod mend_args;
mod notes;

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use mendb_model::BackupId;
use mendb_model::name::{OperationId, check};
use mendb_model::operation::{RestoreStrategy, State};
use mendb_repo::clickhouse_backup::ImportedBackups;
use mendb_service::{
    Drift, Error, MendFrom, MendOrder, Purpose, RestoreOrder, RowMendOrder, Service,
};

use crate::backup_name;
use crate::cluster::ClusterArgs;
use crate::commands::selectors::unless_nothing_fits;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::parts::mend_preview;
use crate::rows::mend_preview as row_preview;
use crate::rows::plan_file::{self, Planned};
use crate::target::Target;
use mend_args::MendArgs;
use notes::{say_what_is_special, say_what_stays_behind};

/// What to begin with on a ClickHouse server, and on a row store.
const EXAMPLES: &str = "\
ClickHouse, with --target clickhouse://user@host:8123/:
  mendb restore --in-place --dry-run analytics           what would be done
  mendb restore --in-place analytics                     mend the tables of the newest backup
  mendb restore --restore-in-place --data --tables='analytics.*' nightly
                                                         mend from the backup with that label
  mendb restore --database-mapping analytics=copy analytics
                                                         restore beside what is there
  mendb restore --from clickhouse-backup+file:///var/lib/clickhouse/backup --in-place monday
                                                         mend from a backup of clickhouse-backup
  mendb undo mend-20261121081110-3fa9c1                  take a mend back

Row stores:
  mendb restore world --in-place --dry-run               what mending the live tables would do
  mendb restore world --in-place                         mend them to the newest backup
  mendb restore --plan FILE                              do what --plan FILE has saved before
  mendb undo mend-20261121081110-3fa9c1                  take a mend back
  mendb restore world                                    to the newest backup of the collection
  mendb restore world --strategy merged                  the same, each row written once
  mendb restore world --to 20261121081110Z_incremental --rename cities=cities_then";

/// Bring tables back from a backup.
///
/// On a ClickHouse server tables are created that are missing. Those that exist are mended with
/// --in-place: parts that are as in the backup stay, others go, missing ones come, from files that the
/// server still has where possible; without it they are left alone and the command is refused. Tables
/// that are not in the backup are never touched. A mend that was killed or has failed goes on with
/// mendb operation resume.
///
/// Of a row store the full backup and each increment are restored, then proved. Tables that exist are
/// mended with --in-place: only rows that differ are written, readers see the tables as before until all
/// is done and proved, and writers are refused for as long as it takes. Without it tables that exist are
/// not touched: restore them under another name, or drop them first.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct RestoreCommand {
    /// A collection, or a backup by its id or label; with --plan it can be left out
    #[arg(value_name = "COLLECTION|BACKUP", required_unless_present = "plan")]
    what: Option<String>,
    /// The backup to restore to, by id or label; without, the newest that lacks no table
    #[arg(long, value_name = "BACKUP")]
    to: Option<String>,
    /// Only tables that match these comma-separated patterns with * and ?; on a ClickHouse server
    /// database.table, in backquotes where a name has dots: '`a.b`.c'
    #[arg(long, short, value_name = "PATTERNS")]
    tables: Option<String>,
    /// Let patterns fit nothing, which else is an error
    #[arg(long)]
    if_exists: bool,
    /// Restore a table under another name; on a ClickHouse server database.table=database.table. Backquotes
    /// tell where a database with dots ends: '`a.b`.t=`c.d`.u'
    #[arg(long, value_name = "OLD=NEW", value_delimiter = ',', value_parser = parse_rename)]
    rename: Vec<(String, String)>,
    /// How a chain becomes rows: the full backup and then each increment, or all read as one so that
    /// each row is written once, which is faster the longer the chain is [default: sequential]
    #[arg(
        long,
        value_name = "sequential|merged",
        value_parser = parse_strategy,
        help_heading = "Row stores"
    )]
    strategy: Option<RestoreStrategy>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    mend: MendArgs,
}

impl RestoreCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let if_exists = self.if_exists;
        unless_nothing_fits(context, if_exists, self.restored(context))
    }

    fn restored(self, context: &Context) -> Result<Verdict, Failure> {
        match context.target()? {
            Target::Rows(_) | Target::Postgres(_) => {
                self.mend.refuse_for_rows()?;
                self.rows(context)
            }
            Target::ClickHouse(_) | Target::Cluster(_) => {
                if self.strategy.is_some() {
                    return Err(Failure::misuse("--strategy is for row stores")
                        .hint("backups of a ClickHouse server are no chains: leave it out"));
                }
                self.mend.refuse_for_parts()?;
                self.mend(context)
            }
        }
    }

    /// Mends tables of a row store where they are, or restores them beside what is there.
    fn rows(self, context: &Context) -> Result<Verdict, Failure> {
        if self.strategy.is_some()
            && (self.what.is_none() || self.mend.is_in_place(&context.settings))
        {
            return Err(Failure::misuse(
                "--strategy is for restoring tables that do not exist, not for mending",
            )
            .hint("leave --strategy out, or --in-place"));
        }
        let Some(what) = self.what.clone() else {
            return carry_out(context, self.mend.plan.as_deref());
        };
        let plans = self.mend.plan.is_some() || self.mend.dry_run;
        if !self.mend.is_in_place(&context.settings) {
            self.mend.refuse_beside()?;
            return self.restore(context, what);
        }
        if !self.rename.is_empty() {
            return Err(
                Failure::misuse("--in-place mends tables under their own names")
                    .hint("leave --rename out, or --in-place"),
            );
        }
        let service = context.open_service()?;
        let (collection, to) = find(&service, what, self.to)?;
        refuse_parts(&service, &collection, to.as_deref())?;
        let order = RowMendOrder {
            collection,
            to,
            tables: self.tables,
            if_exists: self.if_exists,
            ranges: self.mend.ranges(context, &service)?,
            also: BTreeMap::new(),
            accept_schema: self.mend.accept_schema,
            conflicting: self.mend.conflicting.policy(),
            max_write_wait_ms: self.mend.max_write_wait,
            condition: self.mend.condition,
            keep_newer_than_us: self.mend.keep_newer_than,
            changed_by: self.mend.only_changed_by,
            include_rewritten: self.mend.include_rewritten,
            check_kept: self.mend.check_kept,
            changed_only: BTreeMap::new(),
        };
        if !plans {
            let id = service.request_row_mend(&order)?;
            say_operation(context, &service, &id)?;
            say_what_is_special(context, &service, &id)?;
            return context.drive(&service, &id, State::Done);
        }
        let preview = service.plan_row_mend(&order)?;
        if preview.conflicts.refuse(order.conflicting.erase_newer) {
            context.output.record(&preview, row_preview::describe)?;
            return Err(Error::Conflicts(Box::new(preview.conflicts)).into());
        }
        if let Some(session) = context
            .session
            .as_ref()
            .filter(|session| session.keeps_plan)
        {
            let preview = preview.clone();
            session.keep(plan_file::text(&Planned { order, preview }));
        } else if let Some(path) = &self.mend.plan {
            let preview = preview.clone();
            plan_file::write(path, &Planned { order, preview })?;
            context.say(&format!("saved in {}", path.display()));
        }
        context.output.record(&preview, row_preview::describe)?;
        Ok(Verdict::Done)
    }

    /// Restores a chain into tables of a row store.
    fn restore(self, context: &Context, what: String) -> Result<Verdict, Failure> {
        let service = context.open_service()?;
        let (collection, to) = find(&service, what, self.to)?;
        refuse_parts(&service, &collection, to.as_deref())?;
        let id = service.request_restore(&RestoreOrder {
            collection,
            to,
            tables: self.tables,
            if_exists: self.if_exists,
            rename: each_once("--rename", self.rename)?,
            strategy: self.strategy.unwrap_or_default(),
            drill: None,
        })?;
        say_operation(context, &service, &id)?;
        say_what_stays_behind(context, &service, &id)?;
        context.drive(&service, &id, State::Done)
    }

    /// Mends or creates tables of a part store, or says what that would do.
    fn mend(self, context: &Context) -> Result<Verdict, Failure> {
        let service = context.open_service()?;
        let (dry_run, if_different) = (self.mend.dry_run, self.mend.if_different);
        let order = self.order(context, &service)?;
        if if_different {
            let preview = mend_preview::plan(&service, &order, context.output.hides_progress())?;
            if !preview.changes && preview.stopped.is_empty() {
                context.output.record(&preview, mend_preview::describe)?;
                return Ok(Verdict::Done);
            }
        }
        if dry_run {
            let preview = mend_preview::plan(&service, &order, context.output.hides_progress())?;
            context.output.record(&preview, mend_preview::describe)?;
            return Ok(Verdict::Done);
        }
        let id = service.request_mend(&order)?;
        say_operation(context, &service, &id)?;
        context.drive(&service, &id, State::Done)
    }

    fn order(self, context: &Context, service: &Service) -> Result<MendOrder, Failure> {
        let from = match &self.mend.from {
            Some(url) => {
                let name = self.what.unwrap_or_default();
                say_what_is_not_restored(context, service, url, &name)?;
                MendFrom::Imported {
                    url: url.clone(),
                    name,
                }
            }
            None => {
                let (collection, to) = find(service, self.what.unwrap_or_default(), self.to)?;
                MendFrom::Collection {
                    collection,
                    to,
                    shard: self.mend.shard.clone(),
                }
            }
        };
        let order = self
            .mend
            .order(from, self.tables, self.rename, &context.settings)?;
        Ok(MendOrder {
            if_exists: self.if_exists,
            ..order
        })
    }
}

/// Says what a backup of clickhouse-backup has beside tables.
///
/// # Errors
/// There is no such backup, or it cannot be read.
fn say_what_is_not_restored(
    context: &Context,
    service: &Service,
    url: &str,
    name: &str,
) -> Result<(), Failure> {
    let backups = ImportedBackups::open(url, context.repository_options())?;
    let beside = service
        .runtime()
        .block_on(backups.backup(name))?
        .beside_tables();
    if !beside.is_empty() {
        context.say(&format!(
            "note: {name} also has {}, which mendb does not restore: clickhouse-backup does",
            beside.join(", ")
        ));
    }
    Ok(())
}

/// Says which operation it is, and whose backup it restores if that is another target's.
fn say_operation(context: &Context, service: &Service, id: &OperationId) -> Result<(), Failure> {
    context.say(&format!("operation {id}"));
    if let Some(target) = service.journal().operation(id)?.request.of_target() {
        context.say(&format!("note: the backup is of another target, {target}"));
    }
    Ok(())
}

/// Does what a plan says, where the tables are still what they were.
fn carry_out(context: &Context, plan: Option<&Path>) -> Result<Verdict, Failure> {
    let Some(plan) = plan else {
        return Err(Failure::misuse("name a collection, or a plan with --plan"));
    };
    let of_session = context
        .session
        .as_ref()
        .and_then(|session| session.plan.as_ref());
    let Planned { order, preview } = match of_session {
        Some(text) => plan_file::parse(text, plan)?,
        None => plan_file::read(plan)?,
    };
    let service = context.open_service()?;
    let drifted = service.drift_of(&order, &preview)?;
    if !drifted.is_empty() {
        context.output.record(&drifted, |drifted: &Vec<Drift>| {
            let line = |drift: &Drift| format!("{}: {}\n", drift.table, drift.keys);
            let keys: String = drifted.iter().map(line).collect();
            format!("not what they were when the mend was planned, so nothing was done:\n{keys}")
        })?;
        return Ok(Verdict::Drift);
    }
    let id = service.request_planned_row_mend(&order, &preview)?;
    say_operation(context, &service, &id)?;
    context.drive(&service, &id, State::Done)
}

/// The collection and the backup that a user means: the newest of a collection where only that is named.
///
/// # Errors
/// There is nothing of the name, or several, or the repository cannot be read.
pub fn find(
    service: &Service,
    what: String,
    to: Option<String>,
) -> Result<(String, Option<String>), Failure> {
    let (repository, runtime) = (service.repository(), service.runtime());
    let collections = runtime.block_on(repository.collections())?;
    if collections.contains(&what) || to.is_some() {
        return Ok((what, to));
    }
    match backup_name::search(repository, runtime, &what)? {
        // As it was named: an id means more than a label does.
        Some((collection, _)) => {
            let prefix = format!("{collection}/");
            let name = what.strip_prefix(&prefix).unwrap_or(&what);
            Ok((collection, Some(name.to_owned())))
        }
        None if check(&what).is_ok() && what.parse::<BackupId>().is_err() => Ok((what, None)),
        None => Err(backup_name::unknown(repository, &what)),
    }
}

/// Refuses a backup of a part store, which no row store can take.
///
/// # Errors
/// It is one. What else is wrong with it is for the request to tell.
pub fn refuse_parts(service: &Service, collection: &str, to: Option<&str>) -> Result<(), Failure> {
    let chosen = service.chosen(collection, to, Purpose::Create);
    let Some(stored) = chosen.ok().and_then(|mut chosen| chosen.chain.pop()) else {
        return Ok(());
    };
    let id = &stored.manifest.backup_id;
    match stored.manifest.part_store {
        Some(_) => Err(Failure::input(format!(
            "backup {id} of {collection} is one of a ClickHouse server, and the target is a row store"
        ))
        .hint("name the server: --target clickhouse://user@host:8123/")),
        None => Ok(()),
    }
}

/// Pairs of old and new names as a map.
///
/// # Errors
/// An old name is there twice.
fn each_once(
    flag: &str,
    pairs: Vec<(String, String)>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (old, new) in pairs {
        if map.insert(old.clone(), new).is_some() {
            return Err(Failure::misuse(format!("{flag} names {old} twice")));
        }
    }
    Ok(map)
}

fn parse_strategy(text: &str) -> Result<RestoreStrategy, String> {
    match text {
        "sequential" => Ok(RestoreStrategy::Sequential),
        "merged" => Ok(RestoreStrategy::Merged),
        _ => Err("it is not sequential or merged".to_owned()),
    }
}

/// Reads `OLD=NEW`. What is in backquotes belongs to a name.
pub fn parse_rename(text: &str) -> Result<(String, String), String> {
    let mut quoted = false;
    let equals = text.char_indices().find(|(_, c)| {
        quoted ^= *c == '`';
        *c == '=' && !quoted
    });
    match equals.map(|(at, _)| (&text[..at], &text[at + 1..])) {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => {
            Ok((old.to_owned(), new.to_owned()))
        }
        _ => Err(format!("{text:?} is not OLD=NEW")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use mendb_model::part::{OnConcurrentInsert, PartitionMethod};

    use super::*;
    use crate::settings::Settings;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        restore: RestoreCommand,
    }

    fn parse(line: &str) -> Result<RestoreCommand, clap::Error> {
        let words = std::iter::once("restore").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.restore)
    }

    fn order(line: &str, settings: &Settings) -> Result<MendOrder, Failure> {
        let command = parse(line).unwrap();
        let from = MendFrom::Collection {
            collection: command.what.unwrap(),
            to: command.to,
            shard: command.mend.shard.clone(),
        };
        command
            .mend
            .order(from, command.tables, command.rename, settings)
    }

    #[test]
    fn an_equals_sign_in_backquotes_belongs_to_a_name() {
        let pair = |old: &str, new: &str| Ok((old.to_owned(), new.to_owned()));
        assert_eq!(parse_rename("a.b=a.c"), pair("a.b", "a.c"));
        assert_eq!(parse_rename("`a=b`.t=c.`d`"), pair("`a=b`.t", "c.`d`"));
        for bad in ["a.b", "=a.b", "a.b=", "`a=b`.t"] {
            assert!(parse_rename(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_words_of_clickhouse_backup_are_understood() {
        let line = "--restore-in-place --data --tables=analytics.* nightly";
        let ordered = order(line, &Settings::default()).unwrap();
        assert!(ordered.in_place && ordered.data && !ordered.schema);
        assert_eq!(ordered.tables.as_deref(), Some("analytics.*"));
        let line = "-d -s -t a.b --restore-database-mapping a=x,b=y nightly";
        let ordered = order(line, &Settings::default()).unwrap();
        assert!(!ordered.in_place && ordered.data && ordered.schema);
        assert_eq!(ordered.databases["b"], "y");
        assert_eq!(
            order("-m a=x c", &Settings::default()).unwrap().databases["a"],
            "x"
        );
    }

    #[test]
    fn without_data_or_schema_both_come_and_schema_alone_brings_no_data() {
        let settings = Settings::default();
        let ordered = order("c", &settings).unwrap();
        assert!(ordered.data && !ordered.schema && ordered.keep_undo.is_none());
        let ordered = order("--schema c", &settings).unwrap();
        assert!(!ordered.data && ordered.schema);
    }

    #[test]
    fn a_flag_wins_over_the_settings() {
        let settings = Settings {
            restore_in_place: true,
            restore_order: PartitionMethod::Swap,
            ..Settings::default()
        };
        let ordered = order("c", &settings).unwrap();
        assert!(ordered.in_place);
        assert_eq!(ordered.order, PartitionMethod::Swap);
        let line = "--in-place=false --restore-order remove_first --on-concurrent-insert remove --no-undo c";
        let ordered = order(line, &settings).unwrap();
        assert!(!ordered.in_place);
        assert_eq!(ordered.order, PartitionMethod::RemoveFirst);
        assert_eq!(ordered.on_concurrent_insert, OnConcurrentInsert::Remove);
        assert_eq!(ordered.keep_undo, Some(false));
        let keep = |line| order(line, &settings).unwrap().keep_undo;
        assert_eq!(keep("--keep-undo c"), Some(true));
        assert_eq!(keep("--keep-undo=false c"), Some(false));
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "--keep-undo --no-undo c",
            "--from clickhouse-backup+file:///b --to x c",
            "--restore-order first c",
            "--on-concurrent-insert wait c",
            "--database-mapping a c",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in ["--rename a.b=a.c,a.b=a.d c", "-m a=b -m a=c c"] {
            let failure = order(line, &Settings::default()).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_strategy_is_one_of_two_words() {
        let strategy = |line| parse(line).unwrap().strategy;
        assert_eq!(strategy("c"), None);
        assert_eq!(
            strategy("c --strategy merged"),
            Some(RestoreStrategy::Merged)
        );
        assert_eq!(
            strategy("--strategy=sequential c"),
            Some(RestoreStrategy::Sequential)
        );
        assert!(parse("--strategy fast c").is_err());
    }

    #[test]
    fn flags_of_the_other_kind_of_store_are_refused() {
        let refused = |line| parse(line).unwrap().mend.refuse_for_rows();
        assert!(refused("--in-place --dry-run --tables t c").is_ok());
        let failure = refused("--partitions 1 --check-table c").unwrap_err();
        assert!(
            failure
                .message
                .starts_with("--partitions, --check-table are for ClickHouse targets"),
            "{failure}"
        );
        assert_eq!(failure.exit_code(), 2);
        let refused = |line| parse(line).unwrap().mend.refuse_for_parts();
        assert!(refused("--in-place --dry-run c").is_ok());
        assert!(refused("--in-place --plan f c").is_err());
        assert!(refused("--in-place --accept-schema c").is_err());
        assert!(refused("--in-place --timezone UTC c").is_err());
        assert!(refused("--in-place --where true c").is_err());
    }
}
