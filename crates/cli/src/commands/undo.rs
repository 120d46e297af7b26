//! `mendb undo`: take a mend back.

use clap::Args;
use mendb_model::name::OperationId;
use mendb_model::operation::State;
use mendb_model::part::OnConcurrentInsert;
use mendb_service::{Error, Service};

use crate::cluster::ClusterArgs;
use crate::commands::restore::mend_args::ConflictingArgs;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::parts::mend_preview;
use crate::rows::mend_preview as row_preview;
use crate::settings::value::on_concurrent_insert;

/// Bring tables back to what they were before a restore in place.
///
/// On a row store it goes back to the backup that the restore took first, as long as that is in the
/// repository; what was written since goes too, and is kept in the backup that the undo takes. On PostgreSQL the rows go
/// back that the restore wrote, but for those that were written again since. On a
/// ClickHouse server it works while what the restore kept is on the server's disks: see --keep-undo of mendb
/// restore, and mendb operation forget, which removes it. Tables that the restore created go, those that it put
/// aside get their names back. Rows that came since are never removed unless that is asked for. An undo can be
/// undone, but for tables that it has removed.
#[derive(Debug, Args)]
pub struct UndoCommand {
    /// The operation of the restore; mendb operation list shows it
    operation: OperationId,
    /// What to do with rows that came since the restore, or come while it is undone: refuse, remove them, or
    /// keep them
    #[arg(
        long,
        value_name = "fail|remove|keep",
        value_parser = on_concurrent_insert,
        help_heading = "ClickHouse"
    )]
    on_concurrent_insert: Option<OnConcurrentInsert>,
    /// Say what would be done, partition by partition or shard by shard, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// What an agent is told by the coordinator of its cluster: to wait when all is staged and nothing is live
    #[arg(long, hide = true)]
    hold: bool,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    conflicting: ConflictingArgs,
    /// Also rows that were written again since the restore, which else are told and left (PostgreSQL)
    #[arg(long)]
    include_rewritten: bool,
}

impl UndoCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let service = context.open_service()?;
        let mended = service.journal().operation_head(&self.operation)?.request;
        if mended.part_mend().is_none() {
            return self.rows(context, &service);
        }
        if self.conflicting.is_given() {
            return Err(
                Failure::misuse("--include-conflicting is for row stores").hint("leave it out")
            );
        }
        if self.include_rewritten {
            return Err(
                Failure::misuse("--include-rewritten is for PostgreSQL").hint("leave it out")
            );
        }
        let policy = self.on_concurrent_insert.unwrap_or_default();
        if self.dry_run {
            let preview = service.plan_undo(&self.operation, policy)?;
            context.output.record(&preview, mend_preview::describe)?;
            return Ok(Verdict::Done);
        }
        let id = service.request_undo(&self.operation, policy, self.hold)?;
        context.say(&format!("operation {id}"));
        context.drive(&service, &id, State::Done)
    }

    /// Takes a mend of a row store back, or says what that would do.
    fn rows(&self, context: &Context, service: &Service) -> Result<Verdict, Failure> {
        if self.hold {
            return Err(Failure::misuse("--hold is for ClickHouse targets"));
        }
        if self.on_concurrent_insert.is_some() {
            return Err(
                Failure::misuse("--on-concurrent-insert is for ClickHouse targets")
                    .hint("a row store has no writers while a mend is undone: leave it out"),
            );
        }
        let policy = self.conflicting.policy();
        if self.dry_run {
            let preview = service.plan_row_undo(&self.operation, policy, self.include_rewritten)?;
            context.output.record(&preview, row_preview::describe)?;
            return match preview.conflicts.refuse(policy.erase_newer) {
                true => Err(Error::Conflicts(Box::new(preview.conflicts)).into()),
                false => Ok(Verdict::Done),
            };
        }
        let id = service.request_row_undo(&self.operation, policy, self.include_rewritten)?;
        context.say(&format!("operation {id}"));
        context.drive(service, &id, State::Done)
    }
}
