//! What became of a partition between planning and commit.
//!
//! Just before a partition is changed its parts are listed again and compared again, with what was
//! planned as one more witness: see [`super::explain`]. A merge of parts that stay, or of parts that go,
//! changes nothing but names; what is new must not be removed unasked; anything else is another plan,
//! for which more may have to be staged. The same holds when a commit is resumed: what it has removed or
//! attached already is no part of the new plan.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::compare::{Comparison, compare_partition, removed};
use super::decide::settle;
use super::hash::Hash128;
use super::inventory::Part;
use super::name::PartName;
use super::plan::{Action, PartitionPlan, Removed};

/// What a partition turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recheck {
    /// As it was planned.
    Unchanged,
    /// Other parts with the same rows, or some of the work is done already: this plan does the rest, with
    /// nothing to fetch that was not to be fetched before.
    Rearranged(PartitionPlan),
    /// Parts came that hold rows of which the plan did not know. The new plan removes them too; it may
    /// have more to fetch.
    Inserted {
        /// Those parts, which are among those that the new plan removes.
        parts: Vec<Removed>,
        /// The new plan.
        plan: PartitionPlan,
    },
    /// Parts that were to stay are gone or changed: more has to be fetched.
    Replan(PartitionPlan),
}

/// Compares a partition again. `planned_live` are the parts that the plan began with
/// ([`super::TablePlan::live`]), `now` is as for [`super::compare()`] with what is live now. What new plans
/// have to fetch counts as downloaded in full, except what was already planned.
pub fn recheck(
    plan: &PartitionPlan,
    planned_live: &BTreeMap<String, Hash128>,
    now: &Comparison<'_>,
    drops_parts: bool,
) -> Recheck {
    let mut again = compare_partition(now, &plan.partition_id);
    again.action = if plan.action == Action::RemoveFirst && !again.fetch.is_empty() {
        Action::RemoveFirst
    } else {
        settle(&again, drops_parts)
    };
    let mut more_to_fetch = false;
    for part in &mut again.fetch {
        match plan
            .fetch
            .iter()
            .find(|planned| planned.wanted == part.wanted)
        {
            Some(planned) => part.clone_from(planned),
            None => more_to_fetch = true,
        }
    }
    let parts = late_inserts(plan, planned_live, now, &again);
    if !parts.is_empty() {
        Recheck::Inserted { parts, plan: again }
    } else if more_to_fetch {
        Recheck::Replan(again)
    } else if is_same(plan, &again) {
        Recheck::Unchanged
    } else {
        Recheck::Rearranged(again)
    }
}

fn is_same(plan: &PartitionPlan, again: &PartitionPlan) -> bool {
    let keeps = plan
        .keep
        .iter()
        .map(|part| (&part.name, part.hash, &part.holds));
    let keeps_again = again
        .keep
        .iter()
        .map(|part| (&part.name, part.hash, &part.holds));
    let fetches = plan.fetch.iter().map(|part| part.wanted);
    let whole = |plan: &PartitionPlan| matches!(plan.action, Action::Swap | Action::RemoveFirst);
    keeps.eq(keeps_again)
        && plan.remove == again.remove
        && fetches.eq(again.fetch.iter().map(|part| part.wanted))
        && (whole(plan) || !whole(again))
}

/// Parts that would be removed and are neither parts that were planned with nor made of them.
fn late_inserts(
    plan: &PartitionPlan,
    planned_live: &BTreeMap<String, Hash128>,
    now: &Comparison<'_>,
    again: &PartitionPlan,
) -> Vec<Removed> {
    let live: Vec<&Part> = now
        .live
        .iter()
        .flat_map(|live| &live.parts)
        .filter(|part| part.partition_id == plan.partition_id)
        .collect();
    let still_there: HashSet<&str> = live
        .iter()
        .filter(|part| planned_live.get(&part.name) == Some(&part.hash))
        .map(|part| part.name.as_str())
        .collect();
    let gone = Gone::new(plan, &still_there);
    let mut contents = gone.contents.clone();
    let mut late = Vec::new();
    let removed_again: HashSet<&str> = again.remove.iter().map(|part| part.name.as_str()).collect();
    for part in live {
        let goes = removed_again.contains(part.name.as_str());
        if !goes || still_there.contains(part.name.as_str()) {
            continue;
        }
        match contents.get_mut(&part.hash) {
            Some(left) if *left > 0 => *left -= 1,
            _ if gone.made(part) => {}
            _ => late.push(removed(part)),
        }
    }
    late
}

/// Parts of the plan that are not live any more under their name.
struct Gone {
    /// How often each content is among them.
    contents: HashMap<Hash128, usize>,
    /// By what their names tell, with their rows, in the order of blocks.
    ranges: Vec<(PartName, u64)>,
}

impl Gone {
    fn new(plan: &PartitionPlan, still_there: &HashSet<&str>) -> Self {
        let kept = plan
            .keep
            .iter()
            .map(|part| (&part.name, part.hash, part.rows));
        let removed = plan
            .remove
            .iter()
            .map(|part| (&part.name, part.hash, part.rows));
        let mut contents: HashMap<Hash128, usize> = HashMap::new();
        let mut ranges = Vec::new();
        for (name, hash, rows) in kept.chain(removed) {
            if !still_there.contains(name.as_str()) {
                *contents.entry(hash).or_default() += 1;
                ranges.extend(name.parse().ok().map(|name: PartName| (name, rows)));
            }
        }
        ranges.sort_by_key(|(name, _)| name.min_block);
        Self { contents, ranges }
    }

    /// Whether a part was made of these by merges and mutations alone: it covers whole ones of them, is
    /// deeper or newer, and has no more rows. Even where rows changed on the way, none came in.
    fn made(&self, part: &Part) -> bool {
        let overlapping = self.ranges.iter().filter(|(name, _)| {
            name.min_block <= part.max_block && name.max_block >= part.min_block
        });
        let sources: Vec<&(PartName, u64)> = overlapping.collect();
        let (Some((first, _)), Some((last, _))) = (sources.first(), sources.last()) else {
            return false;
        };
        let whole = first.min_block == part.min_block && last.max_block == part.max_block;
        let made_later = sources
            .iter()
            .all(|(name, _)| part.level > name.level || part.mutation > name.mutation);
        let rows = sources
            .iter()
            .fold(0u64, |sum, (_, rows)| sum.saturating_add(*rows));
        whole && made_later && part.rows <= rows
    }
}
