//! `mendb show`: what is in a backup.

mod imported;
mod parts;
mod rows;

use clap::Args;

use crate::backup_name;
use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Show what is in a backup.
#[derive(Debug, Args)]
pub struct ShowCommand {
    /// The backup: its id, its label, or collection/id
    backup: String,
    /// Also list the parts of each table
    #[arg(long, help_heading = "ClickHouse")]
    parts: bool,
    /// Look among the backups that clickhouse-backup made: clickhouse-backup+file:///directory,
    /// clickhouse-backup+s3://bucket/prefix
    #[arg(long, value_name = "URL", help_heading = "ClickHouse")]
    from: Option<String>,
}

impl ShowCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        if let Some(url) = &self.from {
            return imported::show(context, url, &self.backup, self.parts);
        }
        let runtime = context.runtime()?;
        let repository = context.open_repository(&runtime)?;
        let stored = backup_name::find(&repository, runtime.handle(), &self.backup)?;
        match &stored.manifest.part_store {
            Some(store) => {
                let runtime = runtime.handle();
                parts::show(context, &repository, runtime, &stored, store, self.parts)
            }
            None if self.parts => Err(Failure::input(format!(
                "backup {} is of a row store, which has no parts",
                self.backup
            ))
            .hint("mendb show without --parts tells its tables and shards")),
            None => rows::show(context, &repository, runtime.handle(), stored),
        }
    }
}
