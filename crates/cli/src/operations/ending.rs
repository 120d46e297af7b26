//! How operations end, for users.

use mendb_model::name::OperationId;
use mendb_model::operation::{DifferentTable, OperationHead, Request, State};
use mendb_service::journal::Journal;

use super::drill_report::DrillReport;
use super::record::OperationRecord;
use super::shard_report::ShardReport;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::parts::backup_report::BackupReport;
use crate::parts::mend_report::MendReport;
use crate::rows::increment_report::IncrementReport;
use crate::rows::mend_report::RowMendReport;

impl Context {
    /// Reports where an operation is that moves no more.
    pub fn report_end(
        &self,
        journal: &Journal,
        id: &OperationId,
        wanted: State,
    ) -> Result<Verdict, Failure> {
        let operation = journal.operation(id)?;
        if let (Some(drill), State::Done) = (operation.request.drill(), operation.state) {
            let report = DrillReport::new(&operation, drill);
            self.output.report(&report, DrillReport::sentence)?;
            check_end(&operation, wanted)?;
            return Ok(Verdict::Done);
        }
        match &operation.request {
            Request::Mend(request) if request.drill.is_none() => {
                let report = MendReport::new(&operation, request, &journal.mend_plans(id)?);
                self.output.report(&report, MendReport::describe)?;
            }
            Request::MendRows(request) if operation.state == State::Done => {
                let report = RowMendReport::new(&operation, request);
                self.output.report(&report, RowMendReport::describe)?;
            }
            Request::Backup(request)
                if operation.state == State::Done && request.found.is_some() =>
            {
                let runtime = self.runtime()?;
                let repository = self.open_repository(&runtime)?;
                let read = repository.manifest(&request.collection, &request.backup_id);
                let report = IncrementReport::new(&operation, &runtime.block_on(read)?.manifest);
                self.output.report(&report, IncrementReport::describe)?;
            }
            Request::PartBackup(request)
                if operation.state == State::Done && request.of_shard.is_some() =>
            {
                self.output
                    .report(&ShardReport::new(&operation), ShardReport::sentence)?;
            }
            Request::PartBackup(request) if operation.state == State::Done => {
                let runtime = self.runtime()?;
                let repository = self.open_repository(&runtime)?;
                let read = repository.manifest(&request.collection, &request.backup_id);
                let manifest = runtime.block_on(read)?.manifest;
                let report = BackupReport::new(&operation, &manifest);
                self.output.report(&report, BackupReport::describe)?;
                if !manifest.is_complete() {
                    check_end(&operation, wanted)?;
                    return Ok(Verdict::Drift);
                }
            }
            Request::Cluster(request) if operation.state == State::Done && request.is_backup() => {
                let runtime = self.runtime()?;
                let repository = self.open_repository(&runtime)?;
                let read = repository.manifest(&request.collection, request.backup_id());
                let manifest = runtime.block_on(read)?.manifest;
                let report = BackupReport::new(&operation, &manifest);
                self.output.report(&report, BackupReport::describe)?;
                if !manifest.is_complete() {
                    check_end(&operation, wanted)?;
                    return Ok(Verdict::Drift);
                }
            }
            _ => self
                .output
                .report(&OperationRecord::new(&operation), OperationRecord::sentence)?,
        }
        check_end(&operation, wanted)?;
        check_none_stopped(&operation)?;
        // Parts are as in the backup, and queries answer otherwise all the same; or a table could not be taken back.
        let is_otherwise = match &operation.request {
            Request::Mend(request) if wanted == State::Done => {
                let mut different = request.different.iter();
                different.any(DifferentTable::leaves_other_answers)
            }
            Request::Mend(_) if wanted == State::Cancelled => {
                let plans = journal.mend_plans(id)?;
                plans.iter().any(|plan| plan.changed)
            }
            // Something could not be taken back on a shard.
            Request::Cluster(_) if wanted == State::Cancelled => operation.error.is_some(),
            _ => false,
        };
        Ok(if is_otherwise {
            Verdict::Drift
        } else {
            Verdict::Done
        })
    }
}

/// Says which tables a mend that is done has left as they were.
///
/// # Errors
/// There are some.
fn check_none_stopped(operation: &OperationHead) -> Result<(), Failure> {
    let Request::Mend(request) = &operation.request else {
        return Ok(());
    };
    if request.stopped.is_empty() || operation.state != State::Done {
        return Ok(());
    }
    let (left, all) = (
        request.stopped.len(),
        request.stopped.len() + request.tables.len(),
    );
    let mut failure = Failure::input(format!("{left} of {all} tables were not mended"));
    let reasons = request.stopped.iter();
    failure
        .causes
        .extend(reasons.map(|table| format!("{}: {}", table.target, table.reason)));
    let mut advice: Vec<&str> = (request.stopped.iter())
        .map(|table| table.advice.as_str())
        .filter(|advice| !advice.is_empty())
        .collect();
    advice.sort_unstable();
    advice.dedup();
    Err(if advice.is_empty() {
        failure
    } else {
        failure.hint(advice.join("; "))
    })
}

/// Says whether an operation that moves no more is where it should be, and if not, what to do.
///
/// # Errors
/// It is in another state than `wanted`.
pub fn check_end(operation: &OperationHead, wanted: State) -> Result<(), Failure> {
    let id = &operation.operation_id;
    if operation.state == wanted {
        return Ok(());
    }
    let stands = |how: &str| Failure {
        stands_otherwise: true,
        ..Failure::new(FailureKind::FixEnvironment, format!("operation {id} {how}"))
    };
    if operation.is_paused() {
        return Err(stands("is paused").hint(format!("mendb operation resume {id} continues it")));
    }
    let mut failure = match operation.state {
        State::Failed => stands("failed"),
        State::Cancelled if operation.error.is_some() => {
            stands("was refused, and has ended with nothing changed")
        }
        state => stands(&format!("is {}", state.name())),
    };
    failure.causes.extend(operation.error.clone());
    Err(match operation.state {
        State::Failed if operation.step_kind().can_cancel() => failure.hint(format!(
            "repair what is named above, then: mendb operation resume {id}; or roll it back: mendb operation cancel {id}"
        )),
        State::Failed => failure.hint(format!(
            "repair what is named above, then: mendb operation resume {id}"
        )),
        State::Done | State::Cancelled => failure,
        _ => failure.hint(format!(
            "it works with the repository {}: name that one with --repository",
            operation.repository_url
        )),
    })
}
