//! `mendb backup`: take a backup of a collection.

use clap::Args;
use mendb_model::name::BackupKind;
use mendb_model::operation::State;
use mendb_service::BackupOrder;

use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Take a backup of a collection: all rows, or the changes since the newest backup.
#[derive(Debug, Args)]
pub struct BackupCommand {
    /// The collection
    collection: String,
    /// Only the changes since the newest backup
    #[arg(long)]
    incremental: bool,
    /// A name for the backup, unique in the collection
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
}

impl BackupCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let service = context.open_service()?;
        let id = service.request_backup(&BackupOrder {
            collection: self.collection,
            kind: if self.incremental {
                BackupKind::Incremental
            } else {
                BackupKind::Full
            },
            label: self.label,
        })?;
        context.say(&format!("operation {id}"));
        context.drive(&service, &id, State::Done)
    }
}
