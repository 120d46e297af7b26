//! Where the packed blocks of a base or of a run are.

use crate::kernel::{Section, ShardId};

/// The blocks of a base or of a run.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) shard: ShardId,
    /// Where the records of the blocks are, each under the last key of its block.
    pub(crate) section: Section,
    /// What lies behind does not exist.
    pub(crate) last_key: Vec<u8>,
}
