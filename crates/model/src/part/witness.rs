//! What is known of a table at a moment, and of what its server did to it since.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::hash::Hash128;
use super::inventory::{Inventory, Part};
use super::plan::{TablePlan, Wanted};
use super::table::TableDefinition;

/// The parts of a table at a moment, with what they are known to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The parts.
    pub inventory: Inventory,
    /// For each part, in the order of the inventory, the hashes of the parts whose rows it has: its own,
    /// or those that it was merged from.
    pub holds: Vec<Vec<Hash128>>,
}

impl Witness {
    /// Parts of which only their own content is known: what a backup saw.
    pub fn plain(inventory: Inventory) -> Self {
        let holds = inventory.parts.iter().map(|part| vec![part.hash]).collect();
        Self { inventory, holds }
    }

    /// Parts of which some are known from a plan: those that it keeps as merges of wanted parts, wherever
    /// their content is in the inventory. So the planned state is a witness for the commit, and the state
    /// after a mend for the next one.
    pub fn after(inventory: Inventory, plan: &TablePlan, wanted: &[Wanted]) -> Self {
        let hash_of = |at: &u32| wanted.get(*at as usize).map(|wanted| wanted.part.hash);
        let mut merged: HashMap<(&str, Hash128), Vec<Hash128>> = HashMap::new();
        for partition in &plan.partitions {
            for kept in &partition.keep {
                let held: Option<Vec<Hash128>> = kept.holds.iter().map(hash_of).collect();
                if let Some(held) = held.filter(|held| *held != [kept.hash]) {
                    merged.insert((&partition.partition_id, kept.hash), held);
                }
            }
        }
        let held = |part: &Part| {
            merged
                .get(&(part.partition_id.as_str(), part.hash))
                .cloned()
        };
        let held_or_itself = |part: &Part| held(part).unwrap_or_else(|| vec![part.hash]);
        let holds = inventory.parts.iter().map(held_or_itself).collect();
        Self { inventory, holds }
    }
}

/// A merge, mutation or insert that the server's part log tells of. Failed ones are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeEvent {
    /// When it was done, in milliseconds since 1970 by the server's clock; whole seconds where the log
    /// is no finer.
    pub at_ms: u64,
    /// The part that came.
    pub part: String,
    /// The parts it was made from; empty for a part that came otherwise.
    pub merged_from: Vec<String>,
    /// Whether it was a merge; else the part came by an insert, a download or a mutation.
    pub is_merge: bool,
}

/// What of a table decides whether merges leave rows alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergeTraits {
    /// Rows or columns expire: a merge may drop or reset them.
    pub has_ttl: bool,
    /// Merges compute new values from old rows.
    pub rolls_up: bool,
    /// Replicas agree on numbers of parts ahead of the parts.
    pub is_replicated: bool,
}

impl MergeTraits {
    /// Of a table.
    pub fn of(table: &TableDefinition) -> Self {
        Self {
            has_ttl: table.has_ttl,
            rolls_up: table.engine.ends_with("GraphiteMergeTree"),
            is_replicated: table.is_replicated(),
        }
    }
}
