//! The flags of a restore that only part stores have, and the order they make.

use clap::Args;
use mendb_model::part::{OnConcurrentInsert, RestoreOrder};
use mendb_service::{MendFrom, MendOrder};

use crate::failure::Failure;
use crate::settings::Settings;
use crate::settings::value::restore_order;

/// What a restore of a ClickHouse server can be told beside which tables of which backup.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "ClickHouse")]
pub struct MendArgs {
    /// Take the backup from those that clickhouse-backup made: clickhouse-backup+file:///directory,
    /// clickhouse-backup+s3://bucket/prefix
    #[arg(long, value_name = "URL", conflicts_with = "to")]
    pub from: Option<String>,
    /// Mend tables where they are: keep what they have of the backup, remove what they have beside it,
    /// fetch what they lack [setting: general.restore_in_place]
    #[arg(
        long,
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
    /// Bring the schema: create what is missing; a table whose schema differs is renamed aside and
    /// created anew. Alone: no data
    #[arg(long, short)]
    schema: bool,
    /// Only partitions that match these comma-separated patterns, by id or by value
    #[arg(long, value_name = "PATTERNS")]
    partitions: Option<String>,
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
    restore_order: Option<RestoreOrder>,
    /// What to do with parts that are inserted after planning: stop the table, or remove them
    #[arg(long, value_name = "fail|remove", value_parser = parse_on_concurrent_insert)]
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
    /// Have the server check every byte of the tables at the end
    #[arg(long)]
    check_table: bool,
    /// Say what would be done, partition by partition, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl MendArgs {
    /// Refuses flags that a restore of a row store has no use for.
    ///
    /// # Errors
    /// One was given.
    pub fn refuse_for_rows(&self) -> Result<(), Failure> {
        let flags = [
            ("--from", self.from.is_some()),
            ("--in-place", self.in_place == Some(true)),
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
            ("--dry-run", self.dry_run),
        ];
        let given: Vec<&str> = flags
            .iter()
            .filter_map(|(flag, given)| given.then_some(*flag))
            .collect();
        if given.is_empty() {
            return Ok(());
        }
        Err(Failure::misuse(format!(
            "{} {} for ClickHouse targets: a row store is restored into tables that are absent, and mending \
             its tables in place is not in this version",
            given.join(", "),
            if given.len() == 1 { "is" } else { "are" },
        ))
        .hint("restore beside what is there: --rename OLD=NEW; or drop the table first: mendb table drop"))
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
            in_place: self.in_place.unwrap_or(settings.restore_in_place),
            tables,
            partitions: self.partitions,
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
            ..MendOrder::new(from)
        })
    }
}

fn parse_order(text: &str) -> Result<RestoreOrder, String> {
    restore_order(text).map_err(|wanted| format!("it is not {wanted}"))
}

fn parse_on_concurrent_insert(text: &str) -> Result<OnConcurrentInsert, String> {
    match text {
        "fail" => Ok(OnConcurrentInsert::Fail),
        "remove" => Ok(OnConcurrentInsert::Remove),
        _ => Err("it is not fail or remove".to_owned()),
    }
}
