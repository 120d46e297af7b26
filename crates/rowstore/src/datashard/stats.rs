//! What is known of a shard without reading it; written in the same commit as its rows.

use mendb_model::Digest;
use mendb_model::key::hex_option;
use serde::{Deserialize, Serialize};

use crate::datashard::ShardId;
use crate::error::{Error, Result};

/// First byte of the key in the `meta` tree; eight bytes of shard id follow, big-endian.
const TAG: u8 = b's';

/// The bookkeeping of a shard. Persisted as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardStats {
    /// Digest of all rows.
    pub(crate) digest: Digest,
    /// The last key of the base; what lies beyond does not exist. `None`: the base is empty.
    #[serde(with = "hex_option", default)]
    pub(crate) base_end: Option<Vec<u8>>,
    /// Bytes of packed blocks in the base.
    pub(crate) base_bytes: u64,
    /// Bytes that were written to the delta since the base was written; overwritten ones count again,
    /// since they cost again until compaction.
    pub(crate) delta_bytes: u64,
    /// Bytes that were written to the change log and not yet trimmed.
    pub(crate) log_bytes: u64,
    /// Digest of the records of the change log.
    pub(crate) log: Digest,
    /// No record of the change log is at this version or below.
    pub(crate) log_floor: u64,
    /// What is known of the layer over the shard; `None` when nothing is in it that
    /// is not beneath as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<LayerStats>,
}

/// The bookkeeping of a [`Layer`](crate::datashard::layer::Layer).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerStats {
    /// Digest of all rows of the shard as read through the layer.
    pub(crate) digest: Digest,
    /// Digest of the entries of the layer, tombstones too.
    pub(crate) entries: Digest,
    /// Bytes that were written to the layer.
    pub(crate) bytes: u64,
    /// No entry lies behind this key.
    #[serde(with = "hex_option", default)]
    pub(crate) last_key: Option<Vec<u8>>,
}

impl LayerStats {
    /// Whether the layer may have an entry of `key`.
    pub(crate) fn reaches(&self, key: &[u8]) -> bool {
        self.last_key.as_deref().is_some_and(|last| key <= last)
    }
}

impl ShardStats {
    /// The key in the `meta` tree.
    pub(crate) fn key(shard: ShardId) -> Vec<u8> {
        let mut key = vec![TAG];
        key.extend_from_slice(&shard.0.to_be_bytes());
        key
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("stats have no map with keys that are not text")
    }

    pub(crate) fn decode(shard: ShardId, bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| {
            let what = "shard stats";
            let detail = error.to_string();
            Error::damaged(
                format!("the bookkeeping of shard {shard}"),
                mendb_model::Malformed { what, detail },
            )
        })
    }

    /// Whether the base may hold `key`.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.base_end.as_deref().is_some_and(|end| key <= end)
    }

    /// The layer's part, to be changed; it begins as what lies beneath.
    pub(crate) fn layer_mut(&mut self) -> &mut LayerStats {
        let digest = self.digest;
        self.layer.get_or_insert_with(|| LayerStats {
            digest,
            ..LayerStats::default()
        })
    }

    /// Digest of the rows that readers see, who read through the layer or not.
    pub(crate) fn visible_digest(&self, through_layer: bool) -> Digest {
        let layer = self.layer.as_ref().filter(|_| through_layer);
        layer.map_or(self.digest, |layer| layer.digest)
    }

    /// Bytes of rows beneath a layer, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.base_bytes + self.delta_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_reaches_to_its_last_key() {
        let mut layer = LayerStats::default();
        assert!(!layer.reaches(b""));
        layer.last_key = Some(b"k".to_vec());
        assert!(layer.reaches(b"a") && layer.reaches(b"k") && !layer.reaches(b"k0"));
    }

    #[test]
    fn stats_round_trip_and_damage_is_an_error() {
        let stats = ShardStats {
            digest: Digest {
                rows: 3,
                sum: 1 << 100,
            },
            base_end: Some(vec![0, 255]),
            base_bytes: 1,
            delta_bytes: 2,
            log: Digest::default(),
            log_bytes: 3,
            log_floor: u64::MAX,
            layer: None,
        };
        assert!(!String::from_utf8_lossy(&stats.encode()).contains("layer"));
        let mut layered = stats.clone();
        layered.layer_mut().last_key = Some(vec![7]);
        assert_eq!(
            ShardStats::decode(ShardId(7), &layered.encode()).unwrap(),
            layered
        );
        let bytes = stats.encode();
        assert_eq!(ShardStats::decode(ShardId(7), &bytes).unwrap(), stats);
        let error = ShardStats::decode(ShardId(7), &bytes[1..]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the bookkeeping of shard 7 is damaged; restore it from a backup"
        );
    }
}
