//! `mendb backup`: take a backup of a collection.

use clap::Args;
use mendb_model::name::BackupKind;
use mendb_model::operation::State;
use mendb_service::journal::command::Command;
use mendb_service::{BackupOrder, Error};

use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Take a backup of a collection: all rows, or the changes since the newest backup.
///
/// A backup of the collection that failed before is rolled back: this one takes its place.
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
        let order = BackupOrder {
            collection: self.collection,
            kind: if self.incremental {
                BackupKind::Incremental
            } else {
                BackupKind::Full
            },
            label: self.label,
        };
        let id = match service.request_backup(&order) {
            Err(Error::BackupFailed { operation_id, .. }) => {
                // All else was found good: this backup takes the place of the one that failed.
                context.say(&format!(
                    "operation {operation_id} failed before: rolling it back"
                ));
                service.command(&operation_id, Command::Cancel)?;
                context.drive(&service, &operation_id, State::Cancelled)?;
                service.request_backup(&order)?
            }
            requested => requested?,
        };
        context.say(&format!("operation {id}"));
        context.drive(&service, &id, State::Done)
    }
}
