//! Which parts of a table a mend keeps, removes and fetches: live parts against those of the backup.
//!
//! Both are multisets of (partition, hash), for a table can hold one content twice. What both have stays,
//! as often as it is wanted. Then live parts that are provably merges of wanted ones stay, if all that
//! they hold is still wanted. The other live parts go, and the other wanted parts come.
//! Names decide nothing except which of two equal parts stays.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::{Inventory, Part};
use super::lineage::Explained;
use super::matching::{LivePart, Matching};
use super::plan::{DamagedPart, PartitionPlan, TablePlan, Wanted};
use super::since::since_backup;
use super::table_name::TableName;

/// All that a comparison looks at.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// The table in the backup.
    pub source: &'a TableName,
    /// The table on the target.
    pub target: &'a TableName,
    /// Parts that should be live. Plans name them by their place here.
    pub wanted: &'a [Wanted],
    /// What was live at the time of the backup, where the backup tells.
    pub current_parts: Option<&'a Inventory>,
    /// What is live; `None` for a table that does not exist.
    pub live: Option<&'a Inventory>,
    /// What live parts are known to be, in the order of the inventory; what is not told is itself only.
    /// See [`super::explain`].
    pub explained: &'a [Vec<Explained>],
    /// Live parts that are damaged: they serve as nothing, whatever their hash says.
    pub damaged: &'a [DamagedPart],
    /// Whether the order of parts decides what a query answers.
    pub order_sensitive: bool,
    /// Only these partitions, by id; others are not looked at, and not in the plan.
    pub only_partitions: Option<&'a BTreeSet<String>>,
    /// Names of live parts that stay whatever the backup holds, and serve as no part of it: somebody
    /// brought them.
    pub spared: &'a BTreeSet<String>,
}

impl Comparison<'_> {
    fn looks_at(&self, part: &Part) -> bool {
        self.only_partitions
            .is_none_or(|only| only.contains(&part.partition_id))
    }
}

/// Compares a table with its backup. Actions are those for ample room: see [`super::decide()`]. What has
/// to be fetched counts as downloaded in full until it is known what can be linked.
pub fn compare(comparison: &Comparison<'_>) -> TablePlan {
    let states = States::new(comparison);
    let ids: BTreeSet<&str> = states
        .wanted
        .keys()
        .chain(states.live.keys())
        .copied()
        .collect();
    let partitions: Vec<PartitionPlan> = ids
        .into_iter()
        .map(|id| states.compare_partition(id))
        .collect();
    TablePlan {
        source: comparison.source.clone(),
        target: comparison.target.clone(),
        create: comparison.live.is_none(),
        order_sensitive: comparison.order_sensitive,
        since_backup: comparison
            .current_parts
            .map(|then| since_backup(then, comparison.live, |part| comparison.looks_at(part))),
        before: comparison.live.cloned(),
        kill_mutations: kill_mutations(comparison, &partitions),
        came: Vec::new(),
        again: None,
        damaged: comparison.damaged.to_vec(),
        notes: Vec::new(),
        unfinished: Vec::new(),
        partitions,
    }
}

/// Wanted and live parts by partition, as places in their lists, in the order of blocks.
struct States<'a> {
    comparison: &'a Comparison<'a>,
    wanted: BTreeMap<&'a str, Vec<usize>>,
    live: BTreeMap<&'a str, Vec<usize>>,
    /// Names of live parts.
    damaged: BTreeSet<&'a str>,
}

impl<'a> States<'a> {
    fn new(comparison: &'a Comparison<'a>) -> Self {
        let wanted = comparison.wanted.iter().map(|wanted| &wanted.part);
        let live = comparison.live.iter().flat_map(|live| &live.parts);
        Self {
            comparison,
            wanted: by_partition(wanted, comparison.only_partitions),
            live: by_partition(live, comparison.only_partitions),
            damaged: (comparison.damaged.iter())
                .map(|part| part.name.as_str())
                .collect(),
        }
    }

    fn compare_partition(&self, partition_id: &str) -> PartitionPlan {
        let parts = self.comparison.live.map_or(&[][..], |live| &live.parts);
        let wanted: Vec<(u32, &Part)> = self
            .wanted
            .get(partition_id)
            .into_iter()
            .flatten()
            .map(|at| {
                let place = u32::try_from(*at).expect("a table has less than 2^32 parts");
                (place, &self.comparison.wanted[*at].part)
            })
            .collect();
        let is_spared = |at: &&usize| self.comparison.spared.contains(&parts[**at].name);
        let places = self.live.get(partition_id).into_iter().flatten();
        let (spared, compared): (Vec<&usize>, Vec<&usize>) = places.partition(is_spared);
        let spared: Vec<&Part> = spared.into_iter().map(|at| &parts[*at]).collect();
        let live: Vec<LivePart<'_>> = compared
            .into_iter()
            .map(|at| LivePart {
                part: &parts[*at],
                ways: self
                    .comparison
                    .explained
                    .get(*at)
                    .map_or(&[][..], Vec::as_slice),
                is_damaged: self.damaged.contains(parts[*at].name.as_str()),
            })
            .collect();
        let mut matching = Matching::new(&wanted, &live);
        let is_empty = |wanted: u32| self.comparison.wanted[wanted as usize].is_empty;
        if self.comparison.order_sensitive {
            matching.take_in_order(is_empty);
        }
        matching.take_equal();
        matching.take_merged(self.comparison.order_sensitive);
        matching.uncross();
        matching.leave_empty(is_empty);
        let patches = self.comparison.live.map_or(&[][..], |live| &live.patches);
        let order_sensitive = self.comparison.order_sensitive;
        matching.plan(partition_id, order_sensitive, &spared, patches)
    }
}

fn by_partition<'a>(
    parts: impl Iterator<Item = &'a Part>,
    only: Option<&BTreeSet<String>>,
) -> BTreeMap<&'a str, Vec<usize>> {
    let list: Vec<&Part> = parts.collect();
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, part) in list.iter().enumerate() {
        if only.is_none_or(|only| only.contains(&part.partition_id)) {
            places.entry(&part.partition_id).or_default().push(at);
        }
    }
    for places in places.values_mut() {
        places.sort_by_key(|at| list[*at].order());
    }
    places
}

/// Unfinished mutations that would still reach a part that stays.
fn kill_mutations(comparison: &Comparison<'_>, partitions: &[PartitionPlan]) -> Vec<String> {
    let Some(live) = comparison.live else {
        return Vec::new();
    };
    let kept: BTreeSet<&str> = partitions
        .iter()
        .flat_map(|partition| partition.keep.iter().map(|kept| kept.name.as_str()))
        .collect();
    let oldest = live
        .parts
        .iter()
        .filter(|part| kept.contains(part.name.as_str()))
        .map(Part::data_version)
        .min();
    let Some(oldest) = oldest else {
        return Vec::new();
    };
    // Those of replicas have a number for each partition, and their ids count something else.
    let is_replicated = live.is_replicated;
    let reaches = |mutation_id: &str| {
        // `mutation_7.txt`, or on replicas just its number.
        let number = mutation_id
            .trim_start_matches("mutation_")
            .trim_end_matches(".txt");
        is_replicated || number.parse().map_or(true, |number: i64| oldest < number)
    };
    let ids = live.mutations.iter().map(|mutation| &mutation.mutation_id);
    ids.filter(|id| reaches(id)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::hash::Hash128;
    use super::super::inventory::Mutation;
    use super::super::plan::{Action, Proof};
    use super::super::world::{inventory, part};
    use super::*;

    fn wanted(parts: &[Part]) -> Vec<Wanted> {
        let wanted = |part: &Part| Wanted {
            part: part.clone(),
            list: 0,
            position: 0,
            is_empty: part.rows == 0,
        };
        parts.iter().map(wanted).collect()
    }

    fn compared(then: &[Part], live: &Inventory, order_sensitive: bool) -> TablePlan {
        let name = TableName::new("d", "t");
        compare(&Comparison {
            source: &name,
            target: &name,
            wanted: &wanted(then),
            current_parts: None,
            live: Some(live),
            explained: &[],
            damaged: &[],
            order_sensitive,
            only_partitions: None,
            spared: &BTreeSet::new(),
        })
    }

    /// Names of what is kept, removed and fetched.
    fn names(plan: &PartitionPlan) -> [Vec<&str>; 3] {
        [
            plan.keep.iter().map(|part| part.name.as_str()).collect(),
            plan.remove.iter().map(|part| part.name.as_str()).collect(),
            plan.fetch.iter().map(|part| part.name.as_str()).collect(),
        ]
    }

    #[test]
    fn a_name_with_other_content_is_another_part() {
        let live = inventory(&[part("all_1_1_0", 10, 9)]);
        let plan = compared(&[part("all_1_1_0", 10, 1)], &live, false);
        let gone: Vec<&str> = vec!["all_1_1_0"];
        assert_eq!(names(&plan.partitions[0]), [vec![], gone.clone(), gone]);
        assert_eq!(plan.partitions[0].action, Action::Swap);
    }

    #[test]
    fn of_equal_parts_as_many_stay_as_are_wanted_and_the_named_one_first() {
        let then = [part("all_2_2_0", 10, 1)];
        let live = inventory(&[part("all_1_1_0", 10, 1), part("all_2_2_0", 10, 1)]);
        let plan = compared(&then, &live, false);
        assert_eq!(
            names(&plan.partitions[0]),
            [vec!["all_2_2_0"], vec!["all_1_1_0"], vec![]]
        );
        assert_eq!(plan.partitions[0].action, Action::Drop);

        let then = [
            part("all_2_2_0", 10, 1),
            part("all_3_3_0", 10, 1),
            part("all_4_4_0", 10, 1),
        ];
        let plan = compared(&then, &live, false);
        assert_eq!(plan.partitions[0].fetch.len(), 1);
        assert_eq!(plan.partitions[0].action, Action::Attach);
    }

    #[test]
    fn a_damaged_part_goes_and_the_same_comes_anew() {
        let name = TableName::new("d", "t");
        let then = [part("all_1_1_0", 10, 1), part("all_2_2_0", 10, 2)];
        let merged = Explained {
            holds: vec![Hash128([1; 16]), Hash128([2; 16])],
            proof: Proof::BlockNumbers,
        };
        let equal = (inventory(&then), vec![]);
        let other_name = (
            inventory(&[part("all_9_9_0", 10, 1), then[1].clone()]),
            vec![],
        );
        let merge = (inventory(&[part("all_1_2_1", 20, 3)]), vec![vec![merged]]);
        for (live, explained) in [equal, other_name, merge] {
            let damaged = &live.parts[0];
            let plan = compare(&Comparison {
                source: &name,
                target: &name,
                wanted: &wanted(&then),
                current_parts: None,
                live: Some(&live),
                explained: &explained,
                damaged: &[DamagedPart {
                    name: damaged.name.clone(),
                    hash: damaged.hash,
                    files: Vec::new(),
                }],
                order_sensitive: false,
                only_partitions: None,
                spared: &BTreeSet::new(),
            });
            let [keep, remove, fetch] = names(&plan.partitions[0]);
            assert_eq!(remove, [&damaged.name]);
            assert_eq!(keep.len(), live.parts.len() - 1);
            assert_eq!(fetch.len(), 2 - keep.len());
            assert_eq!(plan.partitions[0].action, Action::Swap);
        }
    }

    #[test]
    fn content_in_another_partition_is_another_part() {
        let live = inventory(&[part("a_1_1_0", 10, 1)]);
        let plan = compared(&[part("b_1_1_0", 10, 1)], &live, false);
        let actions: Vec<Action> = plan.partitions.iter().map(|plan| plan.action).collect();
        assert_eq!(actions, [Action::Drop, Action::Attach]);
    }

    #[test]
    fn twins_that_stand_in_their_order_need_nothing_where_it_matters() {
        let name = TableName::new("d", "t");
        let then = [
            part("all_1_1_0", 10, 1),
            part("all_2_2_0", 10, 2),
            part("all_3_3_0", 10, 1),
        ];
        let live = inventory(&[part("all_7_7_0", 20, 3), part("all_8_8_0", 10, 1)]);
        let merged = Explained {
            holds: vec![Hash128([1; 16]), Hash128([2; 16])],
            proof: Proof::BlockNumbers,
        };
        let plan = compare(&Comparison {
            source: &name,
            target: &name,
            wanted: &wanted(&then),
            current_parts: None,
            live: Some(&live),
            explained: &[vec![merged], vec![]],
            damaged: &[],
            order_sensitive: true,
            only_partitions: None,
            spared: &BTreeSet::new(),
        });
        assert_eq!(plan.partitions[0].action, Action::Nothing);
        let holds = plan.partitions[0].keep.iter().map(|kept| &kept.holds[..]);
        assert!(holds.eq([&[0, 1][..], &[2]]));
    }

    #[test]
    fn where_order_matters_parts_in_another_order_are_exchanged() {
        let then = [part("all_1_1_0", 10, 1), part("all_2_2_0", 10, 2)];
        let live = inventory(&[part("all_2_2_0", 10, 2), part("all_3_3_0", 10, 1)]);
        assert_eq!(
            compared(&then, &live, false).partitions[0].action,
            Action::Nothing
        );
        let plan = &compared(&then, &live, true).partitions[0];
        assert_eq!(plan.action, Action::Swap);
        assert_eq!(
            names(plan),
            [vec!["all_3_3_0", "all_2_2_0"], vec![], vec![]]
        );
    }

    #[test]
    fn a_merge_stays_only_if_all_that_it_holds_is_wanted_and_not_yet_there() {
        let then = [part("all_1_1_0", 10, 1), part("all_2_2_0", 10, 2)];
        let held = |contents: &[u8]| {
            let holds = contents
                .iter()
                .map(|content| Hash128([*content; 16]))
                .collect();
            vec![Explained {
                holds,
                proof: Proof::BlockNumbers,
            }]
        };
        let name = TableName::new("d", "t");
        let keeps = |live: &Inventory, explained: &[Vec<Explained>], order_sensitive| {
            let plan = compare(&Comparison {
                source: &name,
                target: &name,
                wanted: &wanted(&then),
                current_parts: None,
                live: Some(live),
                explained,
                damaged: &[],
                order_sensitive,
                only_partitions: None,
                spared: &BTreeSet::new(),
            });
            names(&plan.partitions[0])[0].join(" ")
        };
        let merged = inventory(&[part("all_1_2_1", 20, 3)]);
        assert_eq!(keeps(&merged, &[held(&[1, 2])], true), "all_1_2_1");
        assert_eq!(keeps(&merged, &[held(&[2, 1])], false), "all_1_2_1");
        assert_eq!(keeps(&merged, &[held(&[2, 1])], true), "");
        assert_eq!(keeps(&merged, &[held(&[1, 2, 4])], false), "");
        assert_eq!(keeps(&merged, &[held(&[1, 1])], false), "");
        let both = inventory(&[part("all_1_2_1", 20, 3), part("all_5_5_0", 10, 2)]);
        assert_eq!(keeps(&both, &[held(&[1, 2]), vec![]], false), "all_5_5_0");
    }

    #[test]
    fn a_part_that_an_update_reaches_is_put_together_anew() {
        let then = [part("all_1_1_0", 10, 1), part("other_2_2_0", 10, 2)];
        let mut live = inventory(&then);
        live.patches
            .push("patch-b933d9231352fd18ab1268083758ce66-all_5_5_0_4".to_owned());
        let actions = |live: &Inventory| -> Vec<Action> {
            let plan = compared(&then, live, false);
            plan.partitions.iter().map(|plan| plan.action).collect()
        };
        assert_eq!(actions(&live), [Action::Swap, Action::Nothing]);
        live.parts[0] = part("all_6_6_0", 10, 1);
        assert_eq!(actions(&live), [Action::Nothing, Action::Nothing]);
        live.patches.push("patch of a form to come".to_owned());
        assert_eq!(actions(&live), [Action::Swap, Action::Swap]);
    }

    #[test]
    fn mutations_are_stopped_if_they_would_reach_what_stays() {
        let then = [part("all_5_5_0", 10, 1)];
        let mut live = inventory(&[part("all_2_2_0", 10, 9), part("all_5_5_0", 10, 1)]);
        for id in [
            "mutation_3.txt",
            "mutation_6.txt",
            "0000000007",
            "of another form",
        ] {
            live.mutations.push(Mutation {
                mutation_id: id.to_owned(),
                command: String::new(),
                parts_to_do: 1,
            });
        }
        let killed = compared(&then, &live, false).kill_mutations;
        assert_eq!(killed, ["mutation_6.txt", "0000000007", "of another form"]);
        assert!(compared(&[], &live, false).kill_mutations.is_empty());
        // Ids of replicas are none of their parts.
        live.is_replicated = true;
        assert_eq!(compared(&then, &live, false).kill_mutations.len(), 4);
    }

    #[test]
    fn partitions_that_are_not_asked_for_are_not_in_the_plan() {
        let name = TableName::new("d", "t");
        let only = BTreeSet::from(["b".to_owned()]);
        let live = inventory(&[part("a_1_1_0", 1, 1), part("b_2_2_0", 1, 2)]);
        let plan = compare(&Comparison {
            source: &name,
            target: &name,
            wanted: &wanted(&[part("b_1_1_0", 1, 3), part("c_1_1_0", 1, 4)]),
            current_parts: Some(&live),
            live: Some(&live),
            explained: &[],
            damaged: &[],
            order_sensitive: false,
            only_partitions: Some(&only),
            spared: &BTreeSet::new(),
        });
        let ids: Vec<&str> = plan
            .partitions
            .iter()
            .map(|p| p.partition_id.as_str())
            .collect();
        assert_eq!(ids, ["b"]);
        assert_eq!(plan.since_backup.unwrap().unchanged, 1);
    }

    #[test]
    fn what_is_spared_stays_serves_as_nothing_and_comes_last() {
        let name = TableName::new("d", "t");
        let then = [part("all_1_1_0", 10, 1), part("all_2_2_0", 10, 2)];
        let planned = |live: &[Part], spared: &str, order_sensitive| {
            let plan = compare(&Comparison {
                source: &name,
                target: &name,
                wanted: &wanted(&then),
                current_parts: None,
                live: Some(&inventory(live)),
                explained: &[],
                damaged: &[],
                order_sensitive,
                only_partitions: None,
                spared: &BTreeSet::from([spared.to_owned()]),
            });
            let partition = &plan.partitions[0];
            let names = names(partition).map(|names| names.join(" "));
            (names, partition.action)
        };
        // It has the content of one that is missing.
        let live = [part("all_1_1_0", 10, 1), part("all_9_9_0", 10, 2)];
        let (names, action) = planned(&live, "all_9_9_0", false);
        assert_eq!(names, ["all_1_1_0 all_9_9_0", "", "all_2_2_0"]);
        assert_eq!(action, Action::Attach);
        let live = [&then[..], &[part("all_9_9_0", 10, 3)]].concat();
        assert_eq!(planned(&live, "all_9_9_0", true).1, Action::Nothing);
        // Its rows are newer than those of a part that has a higher number.
        let live = [
            part("all_1_1_0", 10, 1),
            part("all_5_5_0", 10, 3),
            part("all_6_6_0", 10, 2),
        ];
        let (names, action) = planned(&live, "all_5_5_0", true);
        assert_eq!(names, ["all_1_1_0 all_6_6_0 all_5_5_0", "", ""]);
        assert_eq!(action, Action::Swap);
        assert_eq!(planned(&live, "all_5_5_0", false).1, Action::Nothing);
    }

    #[test]
    fn a_table_that_is_missing_is_created_and_fetched_whole() {
        let name = TableName::new("d", "t");
        let plan = compare(&Comparison {
            source: &name,
            target: &name,
            wanted: &wanted(&[part("all_1_1_0", 1, 3)]),
            current_parts: None,
            live: None,
            explained: &[],
            damaged: &[],
            order_sensitive: true,
            only_partitions: None,
            spared: &BTreeSet::new(),
        });
        assert!(plan.create);
        assert_eq!(plan.partitions[0].fetch[0].download_bytes, 10);
    }
}
