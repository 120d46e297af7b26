//! `mendb undo`: take a mend back.

use clap::Args;
use mendb_model::name::OperationId;
use mendb_model::operation::State;

use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Bring tables back to what they were before a restore in place.
///
/// On a row store it goes back to the backup that the restore took first, as long as that is in the
/// repository; what was written since goes too, and is kept in the backup that the undo takes. On a ClickHouse server it works while what the restore kept is on the server's disks: see
/// --keep-undo of mendb restore, and mendb operation forget, which removes it. Tables that the restore
/// created stay. An undo can be undone.
#[derive(Debug, Args)]
pub struct UndoCommand {
    /// The operation of the restore; mendb operation list shows it
    operation: OperationId,
}

impl UndoCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let service = context.open_service()?;
        let id = service.request_undo(&self.operation)?;
        context.say(&format!("operation {id}"));
        context.drive(&service, &id, State::Done)
    }
}
