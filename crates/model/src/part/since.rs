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

#[cfg(test)]
mod tests {
    use super::super::world::{inventory, part};
    use super::*;

    #[test]
    fn every_fate_of_a_part_is_told_apart() {
        let then = inventory(&[
            part("all_1_1_0", 1, 1),
            part("all_2_2_0", 1, 2),
            part("all_3_3_0", 1, 3),
            part("all_4_4_0", 1, 4),
            part("all_5_5_0", 1, 5),
        ]);
        let mut live = inventory(&[
            part("all_1_2_1", 2, 6),
            part("all_3_3_0_6", 1, 7),
            part("all_5_5_0_6", 1, 5),
            part("all_7_7_0", 1, 8),
        ]);
        let counts = since_backup(&then, Some(&live), |_| true);
        let told = SinceBackup {
            unchanged: 1,
            merged: 2,
            mutated: 1,
            dropped: 1,
            inserted: 1,
        };
        assert_eq!(counts, told);

        // In a table that was created anew, ranges of blocks hint at nothing.
        live.incarnation = "another".to_owned();
        let counts = since_backup(&then, Some(&live), |_| true);
        let told = SinceBackup {
            unchanged: 1,
            dropped: 4,
            inserted: 3,
            ..SinceBackup::default()
        };
        assert_eq!(counts, told);
        let gone = since_backup(&then, None, |_| true);
        assert_eq!(
            gone,
            SinceBackup {
                dropped: 5,
                ..SinceBackup::default()
            }
        );
    }
}
