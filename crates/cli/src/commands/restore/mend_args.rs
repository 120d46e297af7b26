//! The flags of a restore that only part stores have, and the order they make.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use mendb_model::key::KeyRange;
use mendb_model::key_text::describe_range;
use mendb_model::operation::ChangedBy;
use mendb_model::part::{OnConcurrentInsert, PartitionMethod};
use mendb_service::{Conflicting, MendFrom, MendOrder, Service};

use crate::commands::selectors::ExcludeArgs;
use crate::commands::table::{TextArgs, parse_key_range};
use crate::context::Context;
use crate::failure::Failure;
use crate::settings::Settings;
use crate::settings::value::{on_concurrent_insert, restore_order};

/// What a mend can be told beside which tables of which backup; most of it is for ClickHouse servers.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "ClickHouse")]
pub struct MendArgs {
    /// Take the backup from those that clickhouse-backup made: clickhouse-backup+file:///directory,
    /// clickhouse-backup+s3://bucket/prefix
    #[arg(long, value_name = "URL", conflicts_with = "to")]
    pub from: Option<String>,
    /// Of the backup of a cluster, the shard that the server is to be; without, the one that it was then
    #[arg(long, value_name = "NAME")]
    pub shard: Option<String>,
    /// Begin nothing where nothing would be changed
    #[arg(long, help_heading = "Mending", conflicts_with = "dry_run")]
    pub if_different: bool,
    /// Mend tables where they are: keep what they have of the backup, remove what they have beside it,
    /// fetch what they lack [setting: general.restore_in_place]
    #[arg(
        long,
        help_heading = "Mending",
        visible_alias = "restore-in-place",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    in_place: Option<bool>,
    /// Bring the data; missing tables are created. This is what is done unless --schema is given alone
    #[arg(long, short)]
    data: bool,
    /// Bring the schema: create what is missing, and bring definitions that differ back as they were in the
    /// backup: by ALTER where the server can, else the table is renamed aside and created anew. Alone: no
    /// data
    #[arg(long, short)]
    schema: bool,
    /// Only partitions that match these comma-separated patterns, by id or by value
    #[arg(long, value_name = "PATTERNS")]
    partitions: Option<String>,
    #[command(flatten)]
    exclude: ExcludeArgs,
    /// Restore databases under other names
    #[arg(
        long,
        short = 'm',
        visible_alias = "restore-database-mapping",
        value_name = "OLD=NEW",
        value_delimiter = ',',
        value_parser = super::parse_rename
    )]
    database_mapping: Vec<(String, String)>,
    /// Order of work of a partition: swap exchanges old and new at once and needs room for what is
    /// missing, remove_first needs the least room, auto looks at the room [setting:
    /// general.restore_order]
    #[arg(long, value_name = "auto|remove_first|swap", value_parser = parse_order)]
    restore_order: Option<PartitionMethod>,
    /// What to do with parts that are inserted after planning: stop the table, remove them, or keep them
    /// beside what the backup has
    #[arg(long, value_name = "fail|remove|keep", value_parser = on_concurrent_insert)]
    on_concurrent_insert: Option<OnConcurrentInsert>,
    /// Keep the state before on the server's disks, for mendb undo; without the flag it is kept where
    /// there is room
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    keep_undo: Option<bool>,
    /// The same as --keep-undo=false
    #[arg(long, conflicts_with = "keep_undo")]
    no_undo: bool,
    /// Have the server check every byte of the tables at the end; what it finds damaged is brought anew
    #[arg(long)]
    check_table: bool,
    /// Read all that stays: every byte of parts is compared with their checksums, and what is damaged is brought anew,
    /// file by file; every row of PostgreSQL is compared with the backup, whatever the versions of rows tell
    #[arg(long)]
    pub check_kept: bool,
    /// Where in ZooKeeper or Keeper replicated tables are created, with {database}, {table} and macros of
    /// the server; without, a table of another name gets another path by rule, which the plan tells
    #[arg(long, value_name = "PATH")]
    replica_path: Option<String>,
    /// Apply mutations that were not finished when the backup was made, where they had reached no part of
    /// a partition
    #[arg(long)]
    apply_mutations: bool,
    /// Mend also tables of a kind that was never tried on such a server: replicated ones on other versions than 18.16
    #[arg(long)]
    force_untried: bool,
    /// What an agent is told by the coordinator of its cluster: to wait when all is staged and nothing is live
    #[arg(long, requires = "shard", hide = true)]
    hold: bool,
    /// Say what would be done, partition by partition or shard by shard, and change nothing
    #[arg(long, help_heading = "Mending")]
    pub dry_run: bool,
    /// Save what would be done in a file; without COLLECTION, do what the file says, or refuse with exit
    /// code 3 where the tables are not any more what they were (row stores)
    #[arg(long, value_name = "FILE", help_heading = "Mending")]
    pub plan: Option<PathBuf>,
    /// Mend only some keys of a table: those from FROM on and before TO, each one value per key column or
    /// fewer, or nothing: 'orders:1000..2000', 'paths:"a..b",NULL..'. Text with commas, dots or spaces stands in
    /// quotes. Tables that are not named with --range or --tables are left alone (row stores)
    #[arg(long, value_name = "TABLE:FROM..TO", help_heading = "Mending")]
    pub range: Vec<String>,
    #[command(flatten, next_help_heading = "Mending")]
    pub text: TextArgs,
    #[command(flatten)]
    pub conflicting: ConflictingArgs,
    /// Mend tables that got columns since the backup: these become NULL in the rows that are brought
    /// back (row stores)
    #[arg(long, help_heading = "Mending")]
    pub accept_schema: bool,
    /// Writers wait no longer for the mend, as in 500ms, 2s or 1m: it is given up then, with nothing changed
    /// (PostgreSQL)
    #[arg(long, value_name = "DURATION", value_parser = parse_wait, help_heading = "Mending")]
    pub max_write_wait: Option<u64>,
    /// Mend only rows that fulfil a condition, as they are now or as they were: 'tenant = 7'. It is on the columns of
    /// one row, as in the predicate of an index, and is asked of every table that is mended (PostgreSQL)
    #[arg(
        id = "where",
        long = "where",
        value_name = "SQL",
        help_heading = "Mending"
    )]
    pub condition: Option<String>,
    /// Leave rows as they are that were written after this moment, as 2026-11-21T08:00:00Z, and tell them. The server has
    /// to keep the times of commits: track_commit_timestamp (PostgreSQL)
    #[arg(long, value_name = "TIME", value_parser = parse_moment, help_heading = "Mending")]
    pub keep_newer_than: Option<i64>,
    /// Take back what one transaction did, by its number, or all that committed in a span of time, as
    /// 2026-11-21T08:00:00Z..2026-11-21T08:05:00Z: rows that it wrote go back to what they were before. Rows that others
    /// wrote again since are told and left. mendb diff COLLECTION --changed-by shows transactions. Increments have to keep
    /// changes one by one: backup --changes stream (PostgreSQL)
    #[arg(long, value_name = "XID|TIME..TIME", help_heading = "Mending")]
    pub only_changed_by: Option<ChangedBy>,
    /// Also rows that others wrote again since (PostgreSQL)
    #[arg(long, requires = "only_changed_by", help_heading = "Mending")]
    pub include_rewritten: bool,
}

/// Microseconds since 1970.
fn parse_moment(text: &str) -> Result<i64, String> {
    let moment: jiff::Timestamp = text
        .parse()
        .map_err(|_| "a moment is as 2026-11-21T08:00:00Z, or with +01:00 for Z".to_owned())?;
    Ok(moment.as_microsecond())
}

/// Milliseconds, of at least one.
fn parse_wait(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err("a duration is as 500ms, 2s or 1m".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{digits:?} is no number"))?;
    let milliseconds = number.checked_mul(unit).filter(|ms| *ms > 0);
    milliseconds.ok_or_else(|| "it has to be at least 1ms, and less than forever".to_owned())
}

/// What becomes of rows that stand in the way of a mend of some keys.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Mending")]
pub struct ConflictingArgs {
    /// Mend also rows outside of a range that hold, in a unique index, what comes back with the range; without
    /// it they refuse the mend (row stores)
    #[arg(long)]
    include_conflicting: bool,
    /// Also those that the backup does not have, which erases them (row stores)
    #[arg(long, requires = "include_conflicting")]
    erase_newer: bool,
}

impl ConflictingArgs {
    /// Whether a flag was given.
    pub fn is_given(self) -> bool {
        self.include_conflicting
    }

    /// The same as a part of an order.
    pub fn policy(self) -> Conflicting {
        Conflicting {
            include: self.include_conflicting,
            erase_newer: self.erase_newer,
        }
    }
}

impl MendArgs {
    /// Refuses flags that a restore of a row store has no use for.
    ///
    /// # Errors
    /// One was given.
    pub fn refuse_for_rows(&self) -> Result<(), Failure> {
        let flags = [
            ("--from", self.from.is_some()),
            ("--shard", self.shard.is_some()),
            ("--if-different", self.if_different),
            ("--data", self.data),
            ("--schema", self.schema),
            ("--partitions", self.partitions.is_some()),
            ("--database-mapping", !self.database_mapping.is_empty()),
            ("--restore-order", self.restore_order.is_some()),
            (
                "--on-concurrent-insert",
                self.on_concurrent_insert.is_some(),
            ),
            ("--keep-undo", self.keep_undo == Some(true)),
            ("--check-table", self.check_table),
            ("--apply-mutations", self.apply_mutations),
            ("--replica-path", self.replica_path.is_some()),
            ("--force-untried", self.force_untried),
            ("--hold", self.hold),
        ];
        if let Some(flag) = self.text.given()
            && self.range.is_empty()
        {
            return Err(Failure::misuse(format!("{flag} is for --range")));
        }
        let given: Vec<&str> = (flags.into_iter())
            .chain(self.exclude.given())
            .filter_map(|(flag, given)| given.then_some(flag))
            .collect();
        if given.is_empty() {
            return Ok(());
        }
        Err(Failure::misuse(format!(
            "{} {} for ClickHouse targets",
            given.join(", "),
            if given.len() == 1 { "is" } else { "are" },
        ))
        .hint("mendb restore --help says which flags are for row stores"))
    }

    /// Refuses flags that a mend of a ClickHouse server has no use for.
    ///
    /// # Errors
    /// One was given.
    pub fn refuse_for_parts(&self) -> Result<(), Failure> {
        let flags = [
            ("--plan", self.plan.is_some()),
            ("--accept-schema", self.accept_schema),
            ("--range", !self.range.is_empty()),
            (
                self.text.given().unwrap_or_default(),
                self.text.given().is_some(),
            ),
            ("--include-conflicting", self.conflicting.is_given()),
            ("--max-write-wait", self.max_write_wait.is_some()),
            ("--where", self.condition.is_some()),
            ("--keep-newer-than", self.keep_newer_than.is_some()),
            ("--only-changed-by", self.only_changed_by.is_some()),
        ];
        let Some((given, _)) = flags.into_iter().find(|(_, given)| *given) else {
            return Ok(());
        };
        Err(Failure::misuse(format!("{given} is for row stores"))
            .hint("--dry-run shows what would be done; --schema brings schemas back"))
    }

    /// Refuses flags of a mend where tables are restored beside.
    ///
    /// # Errors
    /// One was given.
    pub fn refuse_beside(&self) -> Result<(), Failure> {
        let flags = [
            ("--dry-run", self.dry_run),
            ("--plan", self.plan.is_some()),
            ("--range", !self.range.is_empty()),
            ("--where", self.condition.is_some()),
            ("--keep-newer-than", self.keep_newer_than.is_some()),
            ("--only-changed-by", self.only_changed_by.is_some()),
            ("--include-conflicting", self.conflicting.is_given()),
            ("--accept-schema", self.accept_schema),
            ("--max-write-wait", self.max_write_wait.is_some()),
            ("--check-kept", self.check_kept),
        ];
        let Some((given, _)) = flags.into_iter().find(|(_, given)| *given) else {
            return Ok(());
        };
        Err(
            Failure::misuse(format!("{given} is for mending where tables are"))
                .hint("add --in-place"),
        )
    }

    /// The keys that `--range` names, by tables.
    ///
    /// # Errors
    /// One is not `TABLE:FROM..TO`, names no live table or one twice, or a key is not one of it.
    pub fn ranges(
        &self,
        context: &Context,
        service: &Service,
    ) -> Result<BTreeMap<String, KeyRange>, Failure> {
        let mut ranges = BTreeMap::new();
        for range in &self.range {
            let Some((table, keys)) = range.split_once(':') else {
                return Err(
                    Failure::misuse(format!("{range:?} is not TABLE:FROM..TO")).hint(
                        "for example --range orders:1000..2000, or orders:1000.. from there on",
                    ),
                );
            };
            let schema = service.live_schema(table)?.ok_or_else(|| {
                Failure::input(format!("--range: there is no table {table}"))
                    .hint("mendb table list shows those there are")
            })?;
            let range = parse_key_range(keys, &schema, &self.text.rules())?;
            let understood = describe_range(&range, &schema.key_types());
            context.say(&format!("of {table} only the keys {understood}"));
            if ranges.insert(table.to_owned(), range).is_some() {
                return Err(Failure::misuse(format!("--range names {table} twice")));
            }
        }
        Ok(ranges)
    }

    /// Whether tables are mended where they are.
    pub fn is_in_place(&self, settings: &Settings) -> bool {
        self.in_place.unwrap_or(settings.restore_in_place)
    }

    /// The order that the flags make, with the settings for what they do not say.
    ///
    /// # Errors
    /// A table or a database is renamed twice.
    pub fn order(
        self,
        from: MendFrom,
        tables: Option<String>,
        rename: Vec<(String, String)>,
        settings: &Settings,
    ) -> Result<MendOrder, Failure> {
        Ok(MendOrder {
            in_place: self.is_in_place(settings),
            tables,
            partitions: self.partitions,
            exclude: self.exclude.leave_out(settings),
            data: self.data || !self.schema,
            schema: self.schema,
            rename: super::each_once("--rename", rename)?,
            databases: super::each_once("--database-mapping", self.database_mapping)?,
            order: self.restore_order.unwrap_or(settings.restore_order),
            on_concurrent_insert: self.on_concurrent_insert.unwrap_or_default(),
            keep_undo: if self.no_undo {
                Some(false)
            } else {
                self.keep_undo
            },
            check_table: self.check_table,
            check_kept: self.check_kept,
            apply_mutations: self.apply_mutations,
            replica_path: self.replica_path,
            force_untried: self.force_untried,
            holds: self.hold,
            ..MendOrder::new(from)
        })
    }
}

fn parse_order(text: &str) -> Result<PartitionMethod, String> {
    restore_order(text).map_err(|wanted| format!("it is not {wanted}"))
}
