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
                let is_merge = |held: &Vec<Hash128>| !held.is_empty() && *held != [kept.hash];
                if let Some(held) = held.filter(is_merge) {
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

/// What happened to a part, by the server's part log. Failures are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartEvent {
    /// When it was done, in milliseconds since 1970 by the server's clock; whole seconds where the log
    /// is no finer.
    pub at_ms: u64,
    /// The part.
    pub part: String,
    /// What happened to it.
    pub kind: PartEventKind,
}

/// What can happen to a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartEventKind {
    /// It came by a merge of these parts.
    Merged(Vec<String>),
    /// It came otherwise: by an insert, a download or a mutation.
    Came,
    /// Its files were removed.
    Went,
}

/// The entries of the server's part log about a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartLog {
    /// The time of the oldest event that the log has of any table, in milliseconds since 1970: of what was
    /// before, it tells nothing. `None` where there is no log.
    pub begins_at_ms: Option<u64>,
    /// Whether it has an entry for every part that goes, also for detached ones.
    pub tells_what_went: bool,
    /// What happened, in order.
    pub events: Vec<PartEvent>,
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
