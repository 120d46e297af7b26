//! Runs that a commit takes out of their shard.

use std::sync::Arc;

use crate::catalogue::Shard;
use crate::kernel::Section;
use crate::shard::stats::ShardStats;

/// What a mend had staged in a shard, which a commit takes out.
pub(crate) struct RemovedRuns {
    pub(crate) shard: Arc<Shard>,
    runs: Vec<Section>,
    /// What [`ShardStats::file_bytes`] was with them, and before.
    pub(crate) file_bytes: u64,
    pub(crate) file_bytes_before: u64,
}

impl RemovedRuns {
    /// Takes the staged runs out of the stats of their shard.
    pub(crate) fn staged(shard: &Arc<Shard>, stats: &mut ShardStats) -> Option<Self> {
        let staged = stats.staged.take()?;
        let runs = stats.runs.extract_if(.., |run| run.is_staged);
        Some(Self {
            runs: runs.map(|run| Section::run(shard.id, run.number)).collect(),
            shard: shard.clone(),
            file_bytes: stats.file_bytes,
            file_bytes_before: staged.file_bytes_before,
        })
    }

    pub(crate) fn runs(&self) -> &[Section] {
        &self.runs
    }
}
