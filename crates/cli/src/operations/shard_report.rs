//! The report of an agent that has put what its server has into the backup of a cluster: by it the coordinator makes the
//! manifest.

use mendb_model::operation::Operation;
use mendb_model::part::ShardContents;
use serde::Serialize;

use super::record::OperationRecord;

/// What became of the part of a shard.
#[derive(Serialize)]
pub struct ShardReport {
    #[serde(flatten)]
    operation: OperationRecord,
    /// What the repository has of it; null where the journal does not tell any more.
    contents: Option<ShardContents>,
}

impl ShardReport {
    /// The report of an operation that is done.
    pub fn new(operation: &Operation) -> Self {
        let contents = operation.draft.as_deref().and_then(|draft| {
            Some(ShardContents {
                target: draft.target.clone()?,
                frozen_at_ms: draft.snapshot_version.as_number()?,
                store: draft.part_store.clone()?,
            })
        });
        Self {
            operation: OperationRecord::new(operation),
            contents,
        }
    }

    /// The report for people.
    pub fn sentence(&self) -> String {
        self.operation.sentence()
    }
}
