//! The root record: what every commit changes, under one key of the `meta` tree, as JSON.

use mendb_model::{Digest, Malformed};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The format of stores that this crate writes. Format 1 was the one of the engine before, 2 had no runs, and the
/// changes of 3 did not say what they replaced.
pub(crate) const FORMAT: u64 = 4;

/// The oldest format that this crate reads. The next commit raises it.
pub(crate) const OLDEST_FORMAT: u64 = 3;

/// What belongs to the store as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Root {
    pub(crate) format: u64,
    /// Counts commits, also those that no reader can tell.
    pub(crate) commit: u64,
    /// The version of the commit, as readers know it.
    pub(crate) version: u64,
    /// The next shard id to hand out.
    pub(crate) next_shard: u64,
    /// The records of the catalogue: none of them can be gone unseen.
    pub(crate) catalogue: Digest,
    /// The id of the store, once it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
}

impl Root {
    /// Key in the `meta` tree.
    pub(super) const KEY: &[u8] = b"root";

    pub(super) fn first() -> Self {
        Self {
            format: FORMAT,
            commit: 0,
            version: 0,
            next_shard: 1,
            catalogue: Digest::default(),
            id: None,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("the root record has no map with keys that are not text")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| {
            let (what, detail) = ("root record", error.to_string());
            Error::damaged(
                "the root record of the row store",
                Malformed { what, detail },
            )
        })
    }
}
