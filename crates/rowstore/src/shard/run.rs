//! Runs: what is written to a shard in bulk, sorted and packed into blocks.
//!
//! A run lies over the base, over the runs with lower numbers, and over what the delta had before it. Its
//! entries are rows and tombstones, like the delta's, all of one commit. So it is also that commit's part of
//! the change log: [`RunStats::is_logged`] says whether a stream needs it as such, and then each entry says what
//! it took the place of. A run of records is nothing else: it has what a rewrite copied of a change log.
//!
//! What a mend stages are runs that nobody reads yet ([`RunStats::is_staged`]); the commit that publishes the
//! mend makes them runs like others.
//!
//! *Format*: blocks under their last key ([`super::block_writer`]).

use mendb_model::Digest;
use mendb_model::key::hex_bytes;
use serde::{Deserialize, Serialize};

use crate::kernel::{Section, ShardId};
use crate::shard::stored::Stored;

/// What a run is known by. Part of [`ShardStats`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunStats {
    /// Unique in the shard; later ones have greater numbers.
    pub(crate) number: u64,
    /// The version of the commit that made it visible; of records the greatest of them; 0 while it is staged.
    pub(crate) version: u64,
    /// Digest of its entries.
    pub(crate) entries: Digest,
    /// Bytes of its blocks.
    pub(crate) bytes: u64,
    #[serde(with = "hex_bytes")]
    pub(crate) first_key: Vec<u8>,
    #[serde(with = "hex_bytes")]
    pub(crate) last_key: Vec<u8>,
    /// Whether it has records of the change log instead of rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_of_records: bool,
    /// Whether a change stream needs it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_logged: bool,
    /// Whether its entries say what they took the place of. Those of stores of format 3 do not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) tells_replaced: bool,
    /// Whether it belongs to a mend that is not published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_staged: bool,
    /// Whether none of its entries lies over a row of the base or of another run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) hides_nothing: bool,
}

impl RunStats {
    /// Its blocks.
    pub(crate) fn stored(&self, shard: ShardId) -> Stored {
        Stored {
            shard,
            section: Section::run(shard, self.number),
            last_key: self.last_key.clone(),
        }
    }
}
