//! Which live parts are nothing but merges of parts that are known.
//!
//! A server merges parts whenever it likes. The merged part has new files and a new hash, yet the same
//! rows: fetching what it was merged from would move data for nothing. But names and block numbers lie
//! (they start again from the highest surviving number whenever a table is loaded), so a live part
//! counts as others only where there is a proof, and what is unclear has none.
//!
//! A proof starts at a [`Witness`]: the parts of the table at a moment, and what each stands for. In any
//! proof
//!
//! - the table is the same one: its incarnation is;
//! - rows are as many as before. A merge only ever loses rows (those that collapse, are replaced, masked
//!   or expired), and rows that it keeps it does not change: so equal counts mean the same rows. Two
//!   kinds of merges do change rows, and are never proved: those under a TTL, which may reset columns,
//!   and those of GraphiteMergeTree, which rolls values up;
//! - no mutation came between. A mutation, and an update in a patch part that a merge takes in, gets a
//!   number above all that were given before, and leaves it in the name of every part it reaches; a
//!   merged part has the highest number of those it was made of. One that was under way at the moment of
//!   the witness has a lower number: parts that it could still reach disprove.
//!
//! What is left to show is that the parts that were merged are those of the witness:
//!
//! - [`Proof::PartLog`]: the log tells of every merge on the way what it was made from, down to names of
//!   the witness, and tells of nothing else that took one of these names since. Attaching a part is not
//!   logged, but takes a new number; and numbers are not given twice within one run, nor across runs
//!   while a part with a higher number survives (with its hash, so that it is not another one of its
//!   name).
//! - [`Proof::ServerRun`]: it is one run of the server, in which numbers only grow; the merged part
//!   covers exactly a row of whole witness parts. A server takes a number and makes the part live in one
//!   step, under a lock: so at the moment of the witness every number up to its last was in a part of the
//!   witness or gone for good, and nothing can have come in between the parts that it covers. Coordinated
//!   replicas take numbers ahead and are never proved so.
//!
//! Known limits, for those who run a server: a table that is detached and attached again within one run
//! starts its numbers anew, unseen. If its last parts were dropped before, others with as many rows
//! inserted after, and these merged, then this is taken for a merge of the former, unless the part log
//! is on. And a TTL that is set without being materialized and unset again, both since the witness,
//! leaves no trace.

use std::collections::{HashMap, HashSet};

use super::hash::Hash128;
use super::inventory::{Inventory, Part};
use super::name::PartName;
use super::plan::Proof;
use super::witness::{MergeEvent, MergeTraits, Witness};

/// What a live part is known to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Hashes of parts whose rows it has, and no others. As often as they are in it.
    pub holds: Vec<Hash128>,
    /// How that is known.
    pub proof: Proof,
}

/// For each live part, in the order of the inventory, the ways in which it is known to be other parts,
/// in the order of the witnesses. That it is itself goes without saying.
pub fn explain(
    live: &Inventory,
    witnesses: &[Witness],
    log: &[MergeEvent],
    traits: MergeTraits,
) -> Vec<Vec<Explained>> {
    let mut explained = vec![Vec::new(); live.parts.len()];
    for witness in witnesses {
        let known = Known::new(witness);
        known.by_content(live, &mut explained);
        if let Some(sight) = Sight::new(live, &known, log, traits) {
            for (part, ways) in live.parts.iter().zip(&mut explained) {
                sight.explain(part, ways);
            }
        }
    }
    share_by_content(live, &mut explained);
    explained
}

/// What is known of one part is known of all with the same content.
fn share_by_content(live: &Inventory, explained: &mut [Vec<Explained>]) {
    let content = |part: &'_ Part| (part.partition_id.clone(), part.hash);
    let mut known: HashMap<(String, Hash128), Vec<Explained>> = HashMap::new();
    for (part, ways) in live.parts.iter().zip(&*explained) {
        if !ways.is_empty() {
            known
                .entry(content(part))
                .or_default()
                .extend_from_slice(ways);
        }
    }
    for (part, ways) in live.parts.iter().zip(explained) {
        let shared = known.get(&content(part)).into_iter().flatten();
        ways.extend(shared.map(|way| Explained {
            holds: way.holds.clone(),
            proof: Proof::SameContent,
        }));
        let mut seen = HashSet::new();
        ways.retain(|way| seen.insert(way.holds.clone()));
    }
}

/// A witness, searchable.
struct Known<'a> {
    witness: &'a Witness,
    /// Places of parts by name.
    names: HashMap<&'a str, usize>,
    /// Places of parts by partition, in the order of blocks.
    partitions: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Known<'a> {
    fn new(witness: &'a Witness) -> Self {
        let parts = &witness.inventory.parts;
        let mut names = HashMap::with_capacity(parts.len());
        let mut partitions: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, part) in parts.iter().enumerate() {
            names.insert(part.name.as_str(), at);
            partitions.entry(&part.partition_id).or_default().push(at);
        }
        for places in partitions.values_mut() {
            places.sort_by_key(|at| parts[*at].order());
        }
        Self {
            witness,
            names,
            partitions,
        }
    }

    fn part(&self, at: usize) -> &'a Part {
        &self.witness.inventory.parts[at]
    }

    /// What a part stands for; only itself in a document that does not say.
    fn holds(&self, at: usize) -> Vec<Hash128> {
        let own = || vec![self.part(at).hash];
        self.witness.holds.get(at).cloned().unwrap_or_else(own)
    }

    /// Content that is known to be a merge is one wherever it is found again.
    fn by_content(&self, live: &Inventory, explained: &mut [Vec<Explained>]) {
        let merged: HashMap<(&str, Hash128), usize> = (0..self.witness.inventory.parts.len())
            .filter(|at| self.holds(*at) != [self.part(*at).hash])
            .map(|at| {
                (
                    (self.part(at).partition_id.as_str(), self.part(at).hash),
                    at,
                )
            })
            .collect();
        for (part, ways) in live.parts.iter().zip(explained) {
            if let Some(at) = merged.get(&(part.partition_id.as_str(), part.hash)) {
                ways.push(Explained {
                    holds: self.holds(*at),
                    proof: Proof::SameContent,
                });
            }
        }
    }
}

/// What is live, seen from a witness that speaks of the same table.
struct Sight<'a> {
    known: &'a Known<'a>,
    /// What came since the witness, by name.
    events: HashMap<&'a str, Vec<&'a MergeEvent>>,
    /// One run of the server saw both, nothing known speaks against it, and the server's numbers were
    /// given in the order in which parts came.
    one_run: bool,
    /// Numbers up to this one were not given twice since the witness.
    numbers_hold_to: i64,
    /// Mutations were under way at the moment of the witness.
    mutating: bool,
}

impl<'a> Sight<'a> {
    /// `None` where the witness proves nothing about this table.
    fn new(
        live: &Inventory,
        known: &'a Known<'a>,
        log: &'a [MergeEvent],
        traits: MergeTraits,
    ) -> Option<Self> {
        let then = &known.witness.inventory;
        let same_table = !then.incarnation.is_empty() && then.incarnation == live.incarnation;
        let in_order = then.taken_at_ms <= live.taken_at_ms;
        if !same_table || !in_order || traits.has_ttl || traits.rolls_up {
            return None;
        }
        // Parts do not change, and within a run no two have one name.
        let then_known_as = |part: &Part| known.names.get(part.name.as_str()).copied();
        let unchanged =
            |part: &&Part| then_known_as(part).is_some_and(|at| known.part(at).hash == part.hash);
        let name_lies = |part: &Part| then_known_as(part).is_some() && !unchanged(&part);
        if live.parts.iter().any(name_lies) {
            return None;
        }
        let taken_at_ms = then.taken_at_ms;
        // Numbers of other partitions are of the same count.
        let survivor = live
            .parts
            .iter()
            .filter(unchanged)
            .map(|part| part.max_block)
            .max();
        let mut events: HashMap<&str, Vec<&MergeEvent>> = HashMap::new();
        let mut name_given_twice = false;
        for event in log.iter().filter(|event| may_be_after(event, taken_at_ms)) {
            events.entry(&event.part).or_default().push(event);
            name_given_twice |=
                event.at_ms > taken_at_ms && known.names.contains_key(event.part.as_str());
        }
        let same_run = then.run.is_same(&live.run);
        let numbers_hold_to = if name_given_twice {
            i64::MIN
        } else if same_run {
            i64::MAX
        } else {
            survivor.unwrap_or(i64::MIN)
        };
        Some(Self {
            known,
            events,
            one_run: same_run && !name_given_twice && !traits.is_replicated,
            numbers_hold_to,
            mutating: !then.mutations.is_empty(),
        })
    }

    fn explain(&self, part: &Part, ways: &mut Vec<Explained>) {
        if self.known.names.contains_key(part.name.as_str()) {
            return;
        }
        let logged = self.merged_by_log(part).map(|from| (from, Proof::PartLog));
        let proved = logged.or_else(|| Some((self.merged_by_range(part)?, Proof::ServerRun)));
        if let Some((from, proof)) = proved {
            let held = from.iter().flat_map(|at| self.known.holds(*at)).collect();
            let own = from.iter().map(|at| self.known.part(*at).hash).collect();
            ways.push(Explained { holds: held, proof });
            ways.push(Explained { holds: own, proof });
        }
    }

    /// Places of the witness parts that the log says the part was merged from.
    fn merged_by_log(&self, part: &Part) -> Option<Vec<usize>> {
        if part.max_block > self.numbers_hold_to {
            return None;
        }
        let mut from = Vec::new();
        let mut unexplained = vec![(part.name.as_str(), u64::MAX)];
        while let Some((name, not_after_ms)) = unexplained.pop() {
            match (
                self.events.get(name).map(Vec::as_slice),
                self.known.names.get(name),
            ) {
                (None, Some(at)) => from.push(*at),
                (Some([event]), None) if event.is_merge && event.at_ms <= not_after_ms => {
                    check_merge(event)?;
                    let sources = event.merged_from.iter();
                    unexplained.extend(sources.map(|name| (name.as_str(), event.at_ms)));
                }
                _ => return None,
            }
        }
        from.sort_by_key(|at| self.known.part(*at).order());
        self.adds_up(part, &from).then_some(from)
    }

    /// Places of the witness parts that the part covers, if they fill it from end to end.
    fn merged_by_range(&self, part: &Part) -> Option<Vec<usize>> {
        if !self.one_run {
            return None;
        }
        let places = self.known.partitions.get(part.partition_id.as_str())?;
        let begin = places.partition_point(|at| self.known.part(*at).max_block < part.min_block);
        let overlaps = |at: &&usize| self.known.part(**at).min_block <= part.max_block;
        let from: Vec<usize> = places[begin..]
            .iter()
            .take_while(overlaps)
            .copied()
            .collect();
        let first = self.known.part(*from.first()?);
        let last = self.known.part(*from.last()?);
        let whole = first.min_block == part.min_block && last.max_block == part.max_block;
        let deepest = from.iter().map(|at| self.known.part(*at).level).max();
        let still_mutating = |at: &usize| {
            let source = self.known.part(*at);
            let born_later = source.mutation == 0 && source.min_block > part.mutation;
            source.mutation != part.mutation && !born_later
        };
        let proved = whole
            && deepest < Some(part.level)
            && !(self.mutating && from.iter().any(still_mutating))
            && self.adds_up(part, &from);
        proved.then_some(from)
    }

    /// Whether parts that do not overlap have the rows and the last mutation of the merged one.
    fn adds_up(&self, part: &Part, from: &[usize]) -> bool {
        let sources = || from.iter().map(|at| self.known.part(*at));
        let rows = sources().try_fold(0u64, |rows, source| rows.checked_add(source.rows));
        let last_mutation = sources().map(|source| source.mutation).max();
        let apart = from
            .windows(2)
            .all(|pair| self.known.part(pair[0]).max_block < self.known.part(pair[1]).min_block);
        let inside = sources().all(|source| {
            source.partition_id == part.partition_id
                && source.min_block >= part.min_block
                && source.max_block <= part.max_block
        });
        apart && inside && rows == Some(part.rows) && last_mutation == Some(part.mutation)
    }
}

/// Whether an event may have come after a moment. Logs that tell whole seconds leave it open for those
/// of the same second.
fn may_be_after(event: &MergeEvent, taken_at_ms: u64) -> bool {
    let same_second = event.at_ms.is_multiple_of(1000) && event.at_ms / 1000 == taken_at_ms / 1000;
    event.at_ms > taken_at_ms || same_second
}

/// A merge goes one level deeper than what it merges (so following them comes to an end), and takes no
/// update in.
fn check_merge(event: &MergeEvent) -> Option<()> {
    let merged: PartName = event.part.parse().ok()?;
    let mut last_mutation = None;
    for name in &event.merged_from {
        let source: PartName = name.parse().ok()?;
        if source.partition_id != merged.partition_id || source.level >= merged.level {
            return None;
        }
        last_mutation = last_mutation.max(Some(source.mutation));
    }
    (last_mutation == Some(merged.mutation)).then_some(())
}

#[cfg(test)]
mod tests {
    use super::super::inventory::{Mutation, ServerRun};
    use super::super::world::{inventory, part};
    use super::*;

    /// Two parts of a backup.
    fn then() -> Inventory {
        inventory(&[part("all_1_1_0", 10, 1), part("all_2_2_0", 5, 2)])
    }

    /// Their merge.
    fn merged() -> Inventory {
        inventory(&[part("all_1_2_1", 15, 3)])
    }

    fn held(live: &Inventory, then: &Inventory, log: &[MergeEvent]) -> Option<(Vec<u8>, Proof)> {
        held_under(live, then, log, MergeTraits::default())
    }

    /// What the first live part is known to hold.
    fn held_under(
        live: &Inventory,
        then: &Inventory,
        log: &[MergeEvent],
        traits: MergeTraits,
    ) -> Option<(Vec<u8>, Proof)> {
        let ways = explain(live, &[Witness::plain(then.clone())], log, traits).remove(0);
        let way = ways.into_iter().next()?;
        Some((way.holds.iter().map(|hash| hash.0[0]).collect(), way.proof))
    }

    fn event(at_ms: u64, name: &str, merged_from: &str) -> MergeEvent {
        let merged_from: Vec<String> = merged_from.split_whitespace().map(str::to_owned).collect();
        MergeEvent {
            at_ms,
            part: name.to_owned(),
            is_merge: !merged_from.is_empty(),
            merged_from,
        }
    }

    fn another_run(live: Inventory) -> Inventory {
        Inventory {
            run: ServerRun {
                started_at_s: live.run.started_at_s + 60,
                ..live.run
            },
            ..live
        }
    }

    const IN_RUN: Option<Proof> = Some(Proof::ServerRun);

    fn proof(live: &Inventory, then: &Inventory) -> Option<Proof> {
        held(live, then, &[]).map(|(_, proof)| proof)
    }

    #[test]
    fn a_merge_within_one_run_of_the_server_holds_what_it_covers() {
        let known = held(&merged(), &then(), &[]);
        assert_eq!(known, Some((vec![1, 2], Proof::ServerRun)));
    }

    #[test]
    fn without_the_same_run_or_the_same_table_ranges_prove_nothing() {
        assert_eq!(proof(&another_run(merged()), &then()), None);
        let incarnation = "another table".to_owned();
        let recreated = Inventory {
            incarnation,
            ..merged()
        };
        assert_eq!(proof(&recreated, &then()), None);
    }

    #[test]
    fn merges_that_change_rows_are_never_proved() {
        let log = [event(2_000_000, "all_1_2_1", "all_1_1_0 all_2_2_0")];
        for traits in [
            MergeTraits {
                has_ttl: true,
                ..Default::default()
            },
            MergeTraits {
                rolls_up: true,
                ..Default::default()
            },
        ] {
            assert_eq!(held_under(&merged(), &then(), &log, traits), None);
        }
        let replicated = MergeTraits {
            is_replicated: true,
            ..Default::default()
        };
        assert_eq!(held_under(&merged(), &then(), &[], replicated), None);
    }

    #[test]
    fn lost_rows_uncovered_ends_and_parts_cut_through_disprove() {
        let live = |name: &str, rows| inventory(&[part(name, rows, 3)]);
        assert_eq!(proof(&live("all_1_2_1", 14), &then()), None);
        assert_eq!(proof(&live("all_1_3_1", 15), &then()), None);
        assert_eq!(proof(&live("all_1_2_0", 15), &then()), None);
        let wide = inventory(&[part("all_1_1_0", 10, 1), part("all_2_3_1", 5, 2)]);
        assert_eq!(proof(&live("all_1_2_2", 15), &wide), None);
        assert_eq!(proof(&live("other_1_2_1", 15), &then()), None);
    }

    #[test]
    fn a_mutation_since_the_witness_disproves_and_one_before_it_does_not() {
        let live = |name: &str| inventory(&[part(name, 15, 3)]);
        assert_eq!(proof(&live("all_1_2_1_7"), &then()), None);
        let mutated = inventory(&[part("all_1_1_0_3", 10, 1), part("all_4_4_0", 5, 2)]);
        assert_eq!(proof(&live("all_1_4_1_3"), &mutated), IN_RUN);
    }

    #[test]
    fn a_mutation_under_way_disproves_for_parts_it_could_still_reach() {
        let mut half_done = inventory(&[part("all_1_1_0_3", 10, 1), part("all_2_2_0", 5, 2)]);
        let live = inventory(&[part("all_1_2_1_3", 15, 3)]);
        half_done.mutations.push(Mutation {
            mutation_id: "mutation_3.txt".to_owned(),
            command: "UPDATE x = 1 WHERE 1".to_owned(),
            parts_to_do: 1,
        });
        assert_eq!(proof(&live, &half_done), None);
    }

    #[test]
    fn a_name_that_has_other_content_now_makes_the_witness_worthless() {
        let mut live = merged();
        let then = inventory(&[&then().parts[..], &[part("all_3_3_0", 1, 4)]].concat());
        assert_eq!(proof(&live, &then), IN_RUN);
        live.parts.push(part("all_3_3_0", 1, 5));
        assert_eq!(proof(&live, &then), None);
    }

    #[test]
    fn the_log_proves_merges_of_merges_and_sees_what_ranges_cannot() {
        let log = [
            event(2_000_001, "all_1_2_1", "all_1_1_0 all_2_2_0"),
            event(2_000_002, "all_1_3_2", "all_1_2_1 all_3_3_0"),
        ];
        let then = inventory(
            &[
                &then().parts[..],
                &[part("all_3_3_0", 1, 4), part("all_4_4_0", 1, 5)],
            ]
            .concat(),
        );
        let live = inventory(&[part("all_1_3_2", 16, 6)]);
        assert_eq!(
            held(&live, &then, &log),
            Some((vec![1, 2, 4], Proof::PartLog))
        );
        // The second part was dropped before the merge: the range has it, the merge does not.
        let live = inventory(&[part("all_1_3_1", 11, 6)]);
        let log = [event(2_000_002, "all_1_3_1", "all_1_1_0 all_3_3_0")];
        assert_eq!(held(&live, &then, &log), Some((vec![1, 4], Proof::PartLog)));
        assert_eq!(held(&live, &then, &[]), None);
    }

    #[test]
    fn across_runs_the_log_proves_only_while_a_later_part_survives() {
        let log = [event(2_000_001, "all_1_2_1", "all_1_1_0 all_2_2_0")];
        let later = part("other_3_3_0", 1, 4);
        let then = inventory(&[&then().parts[..], std::slice::from_ref(&later)].concat());
        let mut live = another_run(merged());
        assert_eq!(held(&live, &then, &log), None);
        live.parts.push(later);
        assert_eq!(held(&live, &then, &log), Some((vec![1, 2], Proof::PartLog)));
    }

    #[test]
    fn a_name_that_the_log_gives_again_disproves() {
        let log = [
            event(2_000_000, "all_2_2_0", ""),
            event(2_000_001, "all_1_2_1", "all_1_1_0 all_2_2_0"),
        ];
        assert_eq!(held(&merged(), &then(), &log), None);
    }

    #[test]
    fn an_update_that_a_merge_takes_in_disproves() {
        let log = [event(2_000_001, "all_1_2_1_4", "all_1_1_0 all_2_2_0")];
        let live = inventory(&[part("all_1_2_1_4", 15, 3)]);
        assert_eq!(held(&live, &then(), &log), None);
    }

    #[test]
    fn an_insert_logged_in_whole_seconds_may_be_the_same_moment() {
        let mut then = then();
        then.taken_at_ms = 2_000_500;
        let mut live = another_run(merged());
        live.taken_at_ms = 2_009_000;
        live.parts.push(part("all_3_3_0", 1, 4));
        then.parts.push(part("all_3_3_0", 1, 4));
        let merge = event(2_001_000, "all_1_2_1", "all_1_1_0 all_2_2_0");
        assert!(held(&live, &then, std::slice::from_ref(&merge)).is_some());
        let insert = event(2_000_000, "all_2_2_0", "");
        assert_eq!(held(&live, &then, &[insert, merge]), None);
    }

    #[test]
    fn content_once_known_as_a_merge_is_known_in_any_run_and_under_any_name() {
        let witness = Witness {
            inventory: merged(),
            holds: vec![vec![Hash128([1; 16]), Hash128([2; 16])]],
        };
        let live = another_run(inventory(&[part("all_9_9_0", 15, 3)]));
        let ways = explain(&live, &[witness], &[], MergeTraits::default()).remove(0);
        assert_eq!(ways.len(), 1);
        assert_eq!(ways[0].holds, [Hash128([1; 16]), Hash128([2; 16])]);
    }
}
