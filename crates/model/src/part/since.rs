//! What became of the parts of a backup: the part of a plan that explains, and decides nothing.

use std::collections::{BTreeMap, HashMap};

use super::hash::Hash128;
use super::inventory::{Inventory, Part};
use super::plan::SinceBackup;

/// Counts what became of parts that were live at the time of the backup, among those of the partitions
/// that are looked at. Content tells what is still there. Where it is gone, ranges of blocks hint at
/// where to, as long as the table is the same one.
pub(super) fn since_backup(
    then: &Inventory,
    live: Option<&Inventory>,
    looked_at: impl Fn(&Part) -> bool,
) -> SinceBackup {
    let mut counts = SinceBackup::default();
    let mut now: HashMap<(&str, Hash128), Vec<&Part>> = HashMap::new();
    for part in live
        .iter()
        .flat_map(|live| &live.parts)
        .filter(|part| looked_at(part))
    {
        now.entry((&part.partition_id, part.hash))
            .or_default()
            .push(part);
    }
    let mut gone = Vec::new();
    for part in then.parts.iter().filter(|part| looked_at(part)) {
        let same = now.get_mut(&(part.partition_id.as_str(), part.hash));
        match same.and_then(Vec::pop) {
            Some(_) => counts.unchanged += 1,
            None => gone.push(part),
        }
    }
    let same_table = live.is_some_and(|live| live.incarnation == then.incarnation);
    let came = now.into_values().flatten();
    let mut came: BTreeMap<(&str, i64), (&Part, bool)> = came
        .map(|part| ((part.partition_id.as_str(), part.min_block), (part, false)))
        .collect();
    for part in gone.into_iter() {
        let begin = (part.partition_id.as_str(), part.min_block);
        let before = came.range_mut(..=begin).next_back().map(|(_, value)| value);
        let covering = before.filter(|(covering, _)| {
            same_table
                && covering.partition_id == part.partition_id
                && covering.max_block >= part.max_block
        });
        let Some((covering, covers)) = covering else {
            counts.dropped += 1;
            continue;
        };
        *covers = true;
        if covering.mutation > part.mutation {
            counts.mutated += 1;
        } else {
            counts.merged += 1;
        }
    }
    counts.inserted = came.values().filter(|(_, covers)| !covers).count() as u64;
    counts
}
