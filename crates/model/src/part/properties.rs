//! Promises of planning that hold whatever happened to a table.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::world::{Happening, World, happenings, last_of_each_key, sorted};
use super::*;

/// A table at the time of a backup, and the same table later.
#[derive(Debug, Clone)]
struct Story {
    then: World,
    now: World,
    /// The server keeps a part log.
    logs: bool,
}

fn stories() -> impl Strategy<Value = Story> {
    (
        happenings(0..12),
        happenings(0..14),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(before, since, replacing, logs, is_old)| {
            let then = World::after(&before, replacing);
            let mut now = then.clone();
            now.is_old = is_old;
            since.iter().for_each(|happening| now.apply(happening));
            Story { then, now, logs }
        })
}

impl Story {
    fn explained(&self, live: &Inventory, witnesses: &[Witness]) -> Vec<Vec<Explained>> {
        let log = if self.logs {
            self.now.part_log()
        } else {
            PartLog::default()
        };
        explain(live, witnesses, &log, MergeTraits::default())
    }

    /// The plan that brings back what was then.
    fn plan(&self, witnesses: &[Witness]) -> TablePlan {
        let live = self.now.inventory();
        let explained = self.explained(&live, witnesses);
        self.compare(&live, &explained)
    }

    fn compare(&self, live: &Inventory, explained: &[Vec<Explained>]) -> TablePlan {
        let name = TableName::new("d", "t");
        compare(&Comparison {
            source: &name,
            target: &name,
            wanted: &self.then.wanted(),
            current_parts: Some(&self.then.inventory()),
            live: Some(live),
            explained,
            damaged: &[],
            order_sensitive: self.now.replacing,
            only_partitions: None,
            spared: &BTreeSet::new(),
        })
    }

    fn witness(&self) -> Witness {
        Witness::plain(self.then.inventory())
    }
}

/// Whether two parts have the same rows. Merging one of them alone can make it equal to the other, and
/// serve in its place; then the other one is no longer needed.
fn has_twins(world: &World) -> bool {
    let rows = |part: &Part| (part.partition_id.clone(), sorted(world.rows(part.hash)));
    let mut contents: Vec<_> = world.parts.iter().map(rows).collect();
    contents.sort();
    contents.windows(2).any(|pair| pair[0] == pair[1])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_explained_has_the_rows_of_what_it_holds(story in stories()) {
        let live = story.now.inventory();
        let explained = story.explained(&live, &[story.witness()]);
        for (part, ways) in live.parts.iter().zip(explained) {
            for way in ways {
                let held = way.holds.iter().flat_map(|hash| story.now.rows(*hash)).collect();
                let has = story.now.rows(part.hash);
                prop_assert_eq!(sorted(held), sorted(has), "{} by {:?}", part.name, way.proof);
            }
        }
    }

    #[test]
    fn a_plan_gives_back_exactly_the_rows_of_the_backup(story in stories()) {
        let mut now = story.now.clone();
        now.carry_out(&story.plan(&[story.witness()]), &story.then.wanted());
        let (was, is) = (story.then.rows_by_partition(), now.rows_by_partition());
        prop_assert!(was.keys().eq(is.keys()));
        for (rows_then, rows_now) in was.into_values().zip(is.into_values()) {
            if now.replacing {
                prop_assert_eq!(last_of_each_key(&rows_then), last_of_each_key(&rows_now));
            }
            prop_assert_eq!(sorted(rows_then), sorted(rows_now));
        }
    }

    #[test]
    fn every_part_is_accounted_for_once(story in stories(), known in any::<bool>()) {
        let witnesses = if known { vec![story.witness()] } else { Vec::new() };
        let plan = story.plan(&witnesses);
        let mut live = Vec::new();
        let mut served = Vec::new();
        for partition in &plan.partitions {
            live.extend(partition.keep.iter().map(|part| part.name.as_str()));
            live.extend(partition.remove.iter().map(|part| part.name.as_str()));
            served.extend(partition.keep.iter().flat_map(|part| &part.holds).copied());
            served.extend(partition.fetch.iter().map(|part| part.wanted));
        }
        live.sort_unstable();
        served.sort_unstable();
        let mut names: Vec<&str> =
            story.now.parts.iter().map(|part| part.name.as_str()).collect();
        names.sort_unstable();
        prop_assert_eq!(live, names);
        prop_assert!(served.into_iter().eq(0..story.then.parts.len() as u32));
        let since = plan.since_backup.unwrap();
        let then = since.unchanged + since.merged + since.mutated + since.dropped;
        prop_assert_eq!(then, story.then.parts.len() as u64);
    }

    #[test]
    fn after_a_mend_nothing_is_left_to_do_also_after_merges(
        story in stories(),
        merges in prop::collection::vec((any::<prop::sample::Index>(), 1usize..4), 0..4),
    ) {
        let wanted = story.then.wanted();
        let plan = story.plan(&[story.witness()]);
        let mut story = story;
        story.now.apply(&Happening::Restart);
        story.now.carry_out(&plan, &wanted);
        let mended = Witness::after(story.now.inventory(), &plan, &wanted);
        let again = story.plan(std::slice::from_ref(&mended));
        prop_assert!(
            again.partitions.iter().all(|partition| partition.action == Action::Nothing),
            "{again:#?}"
        );

        // Merges that collapse rows cannot be told from loss.
        if !story.now.replacing && !has_twins(&story.then) {
            (story.logs, story.now.is_old) = (true, false);
            for (at, parts) in merges {
                story.now.apply(&Happening::Merge { at, parts });
            }
            let again = story.plan(&[mended]);
            prop_assert!(again.partitions.iter().all(|p| p.action == Action::Nothing), "{again:#?}");
        }
    }

    #[test]
    fn merges_alone_need_nothing_under_a_witness_and_all_without(
        before in happenings(1..12),
        merges in prop::collection::vec((any::<prop::sample::Index>(), 2usize..4), 1..4),
    ) {
        let then = World::after(&before, false);
        if has_twins(&then) {
            return Ok(());
        }
        let mut now = then.clone();
        for (at, parts) in merges {
            now.apply(&Happening::Merge { at, parts });
        }
        let story = Story { then, now, logs: true };
        let known = Tally::of(&story.plan(&[story.witness()]));
        prop_assert_eq!((known.fetched, known.removed), Default::default());

        let content = |part: &Part| (part.partition_id.clone(), part.hash);
        let mut before: Vec<_> = story.then.parts.iter().map(content).collect();
        let mut merged = 0;
        for part in story.now.parts.iter().map(content) {
            match before.iter().position(|then| *then == part) {
                Some(at) => drop(before.swap_remove(at)),
                None => merged += 1,
            }
        }
        let unknown = Tally::of(&story.plan(&[]));
        prop_assert_eq!(unknown.removed.parts, merged);
        prop_assert_eq!(unknown.fetched.parts > 0, merged > 0);
    }
}
