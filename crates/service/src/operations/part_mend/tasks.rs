//! The tasks of a mend of parts.

use mendb_model::operation::{MendRequest, NewTask, StepKind, TaskSpec};
use mendb_model::part::{Action, PartitionPlan};

use crate::attempt::Tools;
use crate::error::Result;
use crate::journal_port::JournalPort;
use crate::wire::StepRequest;

/// A task for each table that has something to do in the step.
pub(super) fn tasks(
    step: &StepRequest,
    request: &MendRequest,
    tools: &Tools,
    journal: &JournalPort<'_>,
) -> Result<Vec<NewTask>> {
    let step = step.step_kind;
    let mut tasks = Vec::new();
    for (table_idx, table) in (0u32..).zip(&request.tables) {
        let is_for_nothing = step == StepKind::Verify && !request.check_table;
        if !table.has_parts || is_for_nothing {
            continue;
        }
        let record = match step {
            StepKind::Assess => None,
            _ => journal.mend_plan(table_idx)?,
        };
        let bytes = |of: fn(&PartitionPlan) -> bool| {
            let partitions = record.iter().flat_map(|record| &record.plan.partitions);
            let chosen = partitions.filter(|partition| of(partition));
            chosen
                .flat_map(|partition| &partition.fetch)
                .map(|part| part.bytes)
                .sum()
        };
        let bytes_total = match step {
            // As far as is known: only what stays is read.
            StepKind::Assess if request.check_kept && !table.create => {
                tools.engine.parts()?.inventory(&table.target)?.bytes()
            }
            StepKind::Stage => bytes(|partition| partition.action != Action::RemoveFirst),
            StepKind::Commit => bytes(|partition| partition.action == Action::RemoveFirst),
            _ => 0,
        };
        let idle = record.as_ref().is_some_and(|record| {
            let partitions = &record.plan.partitions;
            partitions
                .iter()
                .all(|partition| partition.action == Action::Nothing)
        });
        // A table that is as it should be is still looked at by the commit.
        if step == StepKind::Stage && idle {
            continue;
        }
        tasks.push(NewTask {
            bytes_total,
            spec: TaskSpec::Mend {
                target: table.target.clone(),
                table_idx,
            },
        });
    }
    Ok(tasks)
}
