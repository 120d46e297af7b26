//! The shard that a mend fills to replace a live one.
//!
//! It lies beside the live one, under an id of its own. Rows that stay as they are make its base. Rows that change, and
//! tombstones of rows that go, make one run over it, which is the mend's part of the change log ([`super::run`]). No
//! entry of that run hides a row of the base, so it need not be packed.
//!
//! No catalogue has it before the mend is published: until then the bookkeeping of the live shard names it.

use std::sync::Arc;

use mendb_model::key::hex_option;
use serde::{Deserialize, Serialize};

use crate::catalogue::Shard;
use crate::kernel::ShardId;

/// The successor of a shard. Part of [`super::stats::ShardStats`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Successor {
    pub(crate) id: ShardId,
    /// It has what is wanted of the keys up to this one; `None` where that is none yet.
    #[serde(with = "hex_option", default)]
    pub(crate) up_to: Option<Vec<u8>>,
    /// Whether it has what is wanted of all keys.
    pub(crate) is_whole: bool,
}

impl Successor {
    /// One that has nothing yet.
    pub(crate) fn new(id: ShardId) -> Self {
        Self {
            id,
            up_to: None,
            is_whole: false,
        }
    }

    /// It, to be read and written as a shard in the place of the live one.
    pub(crate) fn shard(&self, live: &Shard) -> Arc<Shard> {
        Arc::new(Shard::new(self.id, live.path.clone(), live.range.clone()))
    }
}
