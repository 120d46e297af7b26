//! Agents that do not answer.

use mendb_engines::agents::Agents;
use mendb_model::operation::{ClusterRequest, ShardAgent, StepKind};

/// Another replica that could do the part of a shard, and whose agent answers: where none does, it may be this machine that
/// is cut off, and nobody is replaced.
pub(super) fn another(
    agents: &Agents,
    request: &ClusterRequest,
    (at, step): (&ShardAgent, StepKind),
) -> Option<ShardAgent> {
    let mut others = request.others_of(&at.shard, step);
    others
        .find(|other| match agents.check(&agents.now(other)) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, shard = other.shard, replica = other.replica, "cannot take over");
                false
            }
        })
        .cloned()
}
