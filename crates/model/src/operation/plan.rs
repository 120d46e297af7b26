//! The plan of an operation: its steps, in order.

use super::request::{Request, RestoreStrategy};
use super::step::{PlannedStep, StepKind};

/// Why a plan would be wrong to execute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to do it to.
    #[error("the plan names no table")]
    NoTable,
    /// Nothing to do to a repository.
    #[error("the plan names nothing to fold or to remove")]
    NoWork,
    /// Two tables would get one name.
    #[error("two tables would both be restored as {0}")]
    SameTarget(String),
    /// The chain is not a full backup and increments.
    #[error("a chain must be a full backup followed by increments, but it begins: {0}")]
    NotAChain(String),
    /// An increment without what it stands on.
    #[error("an increment needs a parent and the version up to which it reaches")]
    NoParent,
}

/// The steps of a request. `bytes` are those of each backup of a restore's chain, full first.
///
/// # Errors
/// The request contradicts itself: see [`PlanError`].
pub fn plan(request: &Request, bytes: &[u64]) -> Result<Vec<PlannedStep>, PlanError> {
    use crate::name::BackupKind::{Full, Incremental};
    let targets = request.target_tables();
    let needs_tables = match request {
        Request::Maintain(_) | Request::Cluster(_) => false,
        // A shard may have none.
        Request::PartBackup(request) => request.of_shard.is_none(),
        _ => true,
    };
    if needs_tables && targets.is_empty() {
        return Err(PlanError::NoTable);
    }
    if let Some(twice) = targets
        .iter()
        .enumerate()
        .find(|(at, name)| targets[..*at].contains(name))
    {
        return Err(PlanError::SameTarget(twice.1.to_string()));
    }
    match request {
        Request::Maintain(request) => match request.steps() {
            steps if steps.is_empty() => Err(PlanError::NoWork),
            steps => Ok(steps),
        },
        Request::Cluster(request) => match request.shards.is_empty() {
            true => Err(PlanError::NoWork),
            false => Ok(request.steps()),
        },
        Request::PartBackup(backup) => {
            let mut steps = vec![StepKind::Cut];
            if backup.exact {
                steps.push(StepKind::Verify);
            }
            steps.push(StepKind::Copy);
            // The manifest of a shard is that of its cluster.
            if backup.of_shard.is_none() {
                steps.push(StepKind::Seal);
            }
            steps.push(StepKind::Release);
            Ok(steps_of(&steps))
        }
        Request::Mend(mend) if mend.data => Ok(steps_of(&[
            StepKind::Assess,
            StepKind::Prepare,
            StepKind::Stage,
            StepKind::Commit,
            StepKind::Verify,
            StepKind::Finish,
        ])),
        Request::Mend(_) => Ok(steps_of(&[StepKind::Prepare, StepKind::Finish])),
        Request::MendRows(mend) if mend.beside_writers => Ok(steps_of(&[
            StepKind::Prepare,
            StepKind::Stage,
            StepKind::Commit,
            StepKind::Cut,
            StepKind::Copy,
            StepKind::Seal,
            StepKind::Finish,
        ])),
        Request::MendRows(_) => Ok(steps_of(&[
            StepKind::Cut,
            StepKind::Copy,
            StepKind::Seal,
            StepKind::Prepare,
            StepKind::Stage,
            StepKind::Verify,
            StepKind::Finish,
        ])),
        Request::Backup(backup) => {
            let complete = backup.parent.is_some() && backup.since_version.is_some();
            if backup.backup_id.kind() == Incremental && !complete {
                return Err(PlanError::NoParent);
            }
            Ok(steps_of(&[
                StepKind::Cut,
                StepKind::Copy,
                StepKind::Seal,
                StepKind::Release,
            ]))
        }
        Request::Restore(restore) => {
            // The first may have the id of an increment that a full backup was folded into.
            let mut later = restore.chain.iter().skip(1);
            if restore.chain.is_empty() || later.any(|link| link.backup_id.kind() == Full) {
                let first: Vec<_> = restore
                    .chain
                    .iter()
                    .map(|l| l.backup_id.to_string())
                    .take(2)
                    .collect();
                return Err(PlanError::NotAChain(first.join(", ")));
            }
            let mut steps = vec![PlannedStep::new(StepKind::Prepare)];
            match restore.strategy {
                RestoreStrategy::Merged => steps.push(PlannedStep {
                    bytes_total: bytes.iter().sum(),
                    ..PlannedStep::new(StepKind::Load)
                }),
                RestoreStrategy::Sequential => {
                    steps.extend((0..restore.chain.len()).map(|idx| PlannedStep {
                        kind: if idx == 0 {
                            StepKind::Load
                        } else {
                            StepKind::Apply
                        },
                        incremental_idx: u32::try_from(idx).ok(),
                        bytes_total: bytes.get(idx).copied().unwrap_or(0),
                    }));
                }
            }
            let verify_bytes = bytes.first().copied().unwrap_or(0);
            steps.push(PlannedStep {
                bytes_total: verify_bytes,
                ..PlannedStep::new(StepKind::Verify)
            });
            steps.push(PlannedStep::new(StepKind::Finish));
            Ok(steps)
        }
    }
}

fn steps_of(kinds: &[StepKind]) -> Vec<PlannedStep> {
    kinds.iter().copied().map(PlannedStep::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::RestoreRequest;

    #[test]
    fn a_merged_restore_loads_the_whole_chain_in_one_step() {
        let link = |id| serde_json::json!({ "backup_id": id, "manifest_blake3": "" });
        // As it was before there was a choice.
        let sequential = serde_json::json!({
            "collection": "shop",
            "chain": [link("20261121081110Z_full"), link("20261121091110Z_incremental")],
            "tables": [{ "source": "orders", "target": "orders" }],
        });
        let request: RestoreRequest = serde_json::from_value(sequential).unwrap();
        let steps = |strategy| {
            let request = RestoreRequest {
                strategy,
                ..request.clone()
            };
            let steps = plan(&Request::Restore(request), &[900, 100]).unwrap();
            let steps = steps
                .into_iter()
                .map(|step| (step.label(), step.bytes_total));
            steps.collect::<Vec<_>>()
        };
        let expected = |steps: &[(&str, u64)]| {
            let steps = steps
                .iter()
                .map(|(label, bytes)| ((*label).to_owned(), *bytes));
            steps.collect::<Vec<_>>()
        };
        assert_eq!(
            steps(request.strategy),
            expected(&[
                ("prepare", 0),
                ("load", 900),
                ("apply 1", 100),
                ("verify", 900),
                ("finish", 0)
            ])
        );
        assert_eq!(
            steps(RestoreStrategy::Merged),
            expected(&[
                ("prepare", 0),
                ("load", 1000),
                ("verify", 900),
                ("finish", 0)
            ])
        );
    }
}
