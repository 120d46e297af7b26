//! The plan of an operation: its steps, in order.

use serde::{Deserialize, Serialize};

use super::request::{Request, RestoreStrategy};

/// What a step does. Each is a barrier: the next begins when every shard has reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Backup: lock the tables, attach or rotate the streams and take the snapshot, at one version.
    Cut,
    /// Backup: write rows or changes of every shard into segments.
    Copy,
    /// Backup: put the manifest. From here on the backup exists.
    Seal,
    /// Backup: release what the stream no longer needs, detach old streams, unlock.
    Release,
    /// Mend: find out what of each table is to be kept, removed and fetched, and that the repository
    /// has all of it.
    Assess,
    /// Restore and mend: check that every object is there and fits, then create the tables that are
    /// missing, locked.
    Prepare,
    /// Restore: load the rows of the full backup, or of the whole chain where that is read as one.
    Load,
    /// Restore: apply the changes of one increment.
    Apply,
    /// Mend: bring missing parts beside the live ones, checked byte for byte.
    Stage,
    /// Mend: make them live and remove what the backup does not have, partition by partition. Of rows whose
    /// writers go on until then: all at one moment.
    Commit,
    /// Restore: compare counts and digests of every shard range with the manifest. Mend: compare the
    /// multiset of part hashes with it.
    Verify,
    /// Restore and mend: unlock the tables.
    Finish,
    /// Maintenance: fold the shards of a run of backups, beside what there is.
    Fold,
    /// Maintenance: put the folded backup in the place of the last of its run, and remove the others.
    Replace,
    /// Maintenance: remove backups.
    Remove,
    /// Maintenance: remove files that no backup needs.
    Tidy,
    /// After a cancel: bring the target back to where it was before the operation.
    Rollback,
}

impl StepKind {
    /// The name in the journal and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Copy => "copy",
            Self::Seal => "seal",
            Self::Release => "release",
            Self::Assess => "assess",
            Self::Prepare => "prepare",
            Self::Load => "load",
            Self::Apply => "apply",
            Self::Stage => "stage",
            Self::Commit => "commit",
            Self::Verify => "verify",
            Self::Finish => "finish",
            Self::Fold => "fold",
            Self::Replace => "replace",
            Self::Remove => "remove",
            Self::Tidy => "tidy",
            Self::Rollback => "rollback",
        }
    }

    /// Whether an operation can still be cancelled while it is in this step: not once others may
    /// have begun to rely on its result.
    pub fn can_cancel(self) -> bool {
        !matches!(self, Self::Release | Self::Finish | Self::Rollback)
    }

    /// Whether it reads a cut that the operation can take again, by going back to its beginning.
    pub fn can_cut_again(self) -> bool {
        matches!(self, Self::Copy)
    }

    /// Whether a table that fails stops only itself: the others go on, and the operation fails when
    /// none is left to do.
    pub fn isolates_failures(self) -> bool {
        matches!(self, Self::Assess | Self::Stage | Self::Commit)
    }
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// What it does.
    pub kind: StepKind,
    /// Its place in the chain of backups, counted from the full one: for Load and Apply. The place of its run
    /// among those that are folded, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental_idx: Option<u32>,
    /// Bytes it will move, as far as known: the weight of the step in the progress of the whole.
    pub bytes_total: u64,
}

impl PlannedStep {
    fn new(kind: StepKind) -> Self {
        Self {
            kind,
            incremental_idx: None,
            bytes_total: 0,
        }
    }

    /// `apply 2`, or just the kind.
    pub fn label(&self) -> String {
        match (self.kind, self.incremental_idx) {
            (StepKind::Load, _) | (_, None) => self.kind.name().to_owned(),
            (kind, Some(idx)) => format!("{} {idx}", kind.name()),
        }
    }
}

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
    let needs_tables = !matches!(request, Request::Maintain(_));
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
        Request::PartBackup(_) => Ok(steps_of(&[
            StepKind::Cut,
            StepKind::Copy,
            StepKind::Seal,
            StepKind::Release,
        ])),
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

impl PlannedStep {
    pub(super) fn rollback() -> Self {
        Self::new(StepKind::Rollback)
    }
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
