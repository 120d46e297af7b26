//! What a mend knows of its table, so that it tells what it may remove from what somebody inserted.
//!
//! A [`Ledger`] says what the table was when a mend was planned, and how each partition was left since.
//! A server gives numbers in order, under a lock, with the part live in the same step: so whatever number
//! was given when a partition was seen was in one of its parts then, or gone for good, and a part whose
//! numbers are all higher came later. A part with lower numbers that is none of those seen is what a
//! merge or a mutation made of them.
//!
//! - What is seen again, by name and content, is what it was. So is what a mutation passed by, which gets
//!   another name.
//! - What has the content of a part that the mend brings, under a new number, is that part, as often as the mend
//!   brings it: a crash may have kept its new name from being noted.
//! - What is left goes by its numbers. Where the table may have been loaded meanwhile, and numbers given
//!   again, they hold up to the highest of the parts that are still there.
//!
//! Replicas agree on numbers over a keeper: each partition has its own, none is given twice, and another replica may
//! have taken one whose part is not here yet. So of a replicated table numbers are compared within a partition, hold
//! over any restart, and a merge counts as made of what was seen only where that leaves no number in it for others.
//!
//! What is in doubt is [`Provenance::Mixed`]: a mend stops before it and never takes it for its own.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::hash::Hash128;
use super::inventory::FILES_PARTITION;
use super::inventory::{Inventory, Part, ServerRun};

/// Where the rows of a live part come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// It was there when the mend was planned, the mend brought it, or the server made it of such parts and
    /// nothing else. A part without rows is nobody's loss.
    Known,
    /// Somebody inserted or attached it since.
    Came,
    /// Rows that came since are in it beside others, or may be.
    Mixed,
}

/// A part, as a mend left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftPart {
    /// The part.
    pub part: Part,
    /// Whether somebody brought it while the partition was mended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub came: bool,
}

/// What a partition was when a mend was through with it, or with the first half of its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftPartition {
    /// The partition.
    pub partition_id: String,
    /// Whether it had all that the backup holds, proved by content: else only what had to go was gone.
    pub is_mended: bool,
    /// What tells the table from another that had its name ([`Inventory::incarnation`]).
    pub incarnation: String,
    /// The server process that told.
    pub run: ServerRun,
    /// Its live parts.
    pub parts: Vec<LeftPart>,
    /// Numbers up to this one had been given.
    pub numbers_to: i64,
}

/// What is known of a table that is being mended.
#[derive(Debug, Clone)]
pub struct Ledger<'a> {
    /// What it was when the mend was planned.
    before: &'a Inventory,
    /// Names of parts in it that somebody had brought.
    came: HashSet<&'a str>,
    left: BTreeMap<&'a str, &'a LeftPartition>,
    /// Contents that the mend brings, by partition, with how often.
    brought: HashMap<(&'a str, Hash128), usize>,
    /// The table has not been loaded since: numbers were given once.
    numbers_hold: bool,
}

impl<'a> Ledger<'a> {
    /// A table as it was when the mend was planned, and partitions as they were left since. `brings` are
    /// the partitions and contents of the parts that it brings. `numbers_hold` says that nobody can have
    /// loaded the table since.
    pub fn new(
        before: &'a Inventory,
        left: impl IntoIterator<Item = &'a LeftPartition>,
        brings: impl IntoIterator<Item = (&'a str, Hash128)>,
        numbers_hold: bool,
    ) -> Self {
        let mut brought: HashMap<(&str, Hash128), usize> = HashMap::new();
        for content in brings {
            *brought.entry(content).or_default() += 1;
        }
        let left = left
            .into_iter()
            .map(|left| (left.partition_id.as_str(), left));
        Self {
            before,
            came: HashSet::new(),
            left: left.collect(),
            brought,
            numbers_hold,
        }
    }

    /// Tells which parts of the table, when the mend was planned, somebody had brought.
    #[must_use]
    pub fn with_came(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.came.extend(names);
        self
    }

    /// What a partition was left as, if the mend has changed it.
    pub fn left(&self, partition_id: &str) -> Option<&'a LeftPartition> {
        self.left.get(partition_id).copied()
    }

    /// Partitions that the mend has changed.
    pub fn left_partitions(&self) -> impl Iterator<Item = &'a str> {
        self.left.keys().copied()
    }

    /// Whether a partition that was mended still is, or is what became of it since: in the run of the server
    /// that saw it mended it counts as that. After another start, everything that it held must be in live
    /// parts by its numbers, and nothing that had gone may be back, as may happen where a server dies.
    pub fn is_mended(&self, partition_id: &str, live: &Inventory) -> bool {
        let Some(left) = self.left(partition_id).filter(|left| left.is_mended) else {
            return false;
        };
        if left.run.is_same(&live.run) {
            return true;
        }
        let live = || (live.parts.iter()).filter(|part| part.partition_id == partition_id);
        let is_there =
            |left: &LeftPart| left.part.rows == 0 || live().any(|part| is_inside(&left.part, part));
        let came_back = |part: &Part| {
            let was_left = left.parts.iter().any(|left| left.part.name == part.name);
            let was_before = self.before.parts.iter().any(|old| old.name == part.name);
            was_before && !was_left
        };
        left.parts.iter().all(is_there) && !live().any(came_back)
    }

    /// The provenance of each live part, in the order of the inventory.
    pub fn provenances(&self, live: &Inventory) -> Vec<Provenance> {
        let seen = self.seen();
        // A keeper gives no number of a replicated table twice.
        let is_same_table = self.before.incarnation == live.incarnation;
        let numbers_hold_to = if self.numbers_hold || self.is_replicated() && is_same_table {
            i64::MAX
        } else if self.is_replicated() {
            i64::MIN
        } else {
            self.highest_survivor(&seen, live)
        };
        let mut brought = self.brought.clone();
        let mut places: Vec<usize> = (0..live.parts.len()).collect();
        places.sort_by_key(|at| live.parts[*at].order());
        let mut provenances = vec![Provenance::Known; live.parts.len()];
        for at in places {
            let part = &live.parts[at];
            let content = (part.partition_id.as_str(), part.hash);
            let quota = brought.get_mut(&content).filter(|quota| **quota > 0);
            let partition = seen.get(part.partition_id.as_str());
            let provenance = self.provenance(part, partition, quota.is_some(), numbers_hold_to);
            if let Some(quota) = quota {
                *quota -= 1;
            }
            provenances[at] = provenance;
        }
        provenances
    }

    fn provenance(
        &self,
        part: &Part,
        seen: Option<&Seen<'_>>,
        is_brought: bool,
        numbers_hold_to: i64,
    ) -> Provenance {
        if part.has_no_rows() {
            return Provenance::Known;
        }
        let parts = seen.map_or(&[][..], |seen| &seen.parts);
        let is_again = |then: &Part| match self.is_replicated() {
            // A replica writes a part anew when it fetches it from another.
            true => is_alike(then, part),
            false => is_again(then, part),
        };
        if let Some((_, came)) = parts.iter().find(|(then, _)| is_again(then)) {
            return if *came {
                Provenance::Came
            } else {
                Provenance::Known
            };
        }
        if is_brought {
            return Provenance::Known;
        }
        // A table of files is one thing, whose name says nothing.
        if part.partition_id == FILES_PARTITION {
            return Provenance::Mixed;
        }
        // Merges and mutations go one deeper than what they are made of, or further.
        if part.min_block == part.max_block && part.level == 0 && part.mutation == 0 {
            return Provenance::Came;
        }
        // Of a partition that had no parts, the numbers that all others had tell as much.
        let numbers_to = seen.map_or_else(
            || self.numbers_to(&part.partition_id),
            |seen| seen.numbers_to,
        );
        if part.min_block > numbers_to {
            // A process that died may have brought parts and not have remembered it, and the server merges them.
            return match self.may_have_brought(&part.partition_id) {
                true => Provenance::Mixed,
                false => Provenance::Came,
            };
        }
        if part.max_block > numbers_to || part.max_block > numbers_hold_to {
            return Provenance::Mixed;
        }
        let touched = || {
            let touches =
                |then: &Part| then.min_block <= part.max_block && part.min_block <= then.max_block;
            parts.iter().filter(move |(then, _)| touches(then))
        };
        let rows: u64 = touched().map(|(then, _)| then.rows).sum();
        let is_made_of_these =
            touched().all(|(then, _)| is_inside(then, part)) && part.rows <= rows;
        if self.is_replicated() && !is_filled(part, touched().map(|(then, _)| *then)) {
            // Another replica may have brought the rest: it took its number before, and was not here.
            return Provenance::Mixed;
        }
        match (
            is_made_of_these,
            touched().filter(|(_, came)| *came).count(),
        ) {
            (true, 0) => Provenance::Known,
            (true, came) if came == touched().count() => Provenance::Came,
            _ => Provenance::Mixed,
        }
    }

    /// Whether parts that the mend brought may be in a partition beyond what it was left as.
    fn may_have_brought(&self, partition_id: &str) -> bool {
        let is_mended = self.left(partition_id).is_some_and(|left| left.is_mended);
        let brings = || self.brought.keys().any(|(id, _)| *id == partition_id);
        !is_mended && brings()
    }

    fn is_replicated(&self) -> bool {
        self.before.is_replicated
    }

    /// What counts as given to a partition when the mend was planned. A first block may have the number 0.
    fn numbers_to(&self, partition_id: &str) -> i64 {
        let none = if self.is_replicated() { -1 } else { 0 };
        self.before.numbers_to(partition_id).unwrap_or(none)
    }

    fn seen(&self) -> HashMap<&'a str, Seen<'a>> {
        let of_table = match self.is_replicated() {
            true => None,
            false => Some(self.numbers_to("")),
        };
        let mut seen: HashMap<&str, Seen<'_>> = HashMap::new();
        for part in &self.before.parts {
            let partition = seen.entry(&part.partition_id).or_insert_with(|| Seen {
                parts: Vec::new(),
                numbers_to: of_table.unwrap_or_else(|| self.numbers_to(&part.partition_id)),
            });
            partition
                .parts
                .push((part, self.came.contains(part.name.as_str())));
        }
        for (partition_id, left) in &self.left {
            let parts = left.parts.iter().map(|left| (&left.part, left.came));
            let left = Seen {
                parts: parts.collect(),
                numbers_to: left.numbers_to,
            };
            seen.insert(partition_id, left);
        }
        seen
    }

    /// The highest number of what was seen and is still there.
    fn highest_survivor(&self, seen: &HashMap<&str, Seen<'_>>, live: &Inventory) -> i64 {
        let survives = |part: &&Part| {
            let seen = seen.get(part.partition_id.as_str());
            let mut parts = seen.into_iter().flat_map(|seen| &seen.parts);
            let is_same = |then: &Part| {
                then.name == part.name
                    && then.hash == part.hash
                    && then.modified_at_s.is_some()
                    && then.modified_at_s == part.modified_at_s
            };
            parts.any(|(then, _)| is_same(then))
        };
        let survivors = live.parts.iter().filter(survives);
        survivors
            .map(Part::highest_number)
            .max()
            .unwrap_or(i64::MIN)
    }
}

/// A partition when it was seen last.
struct Seen<'a> {
    /// Its parts, and whether somebody brought them.
    parts: Vec<(&'a Part, bool)>,
    numbers_to: i64,
}

/// Whether each number of a part is that of one of these, or of a mutation.
fn is_filled<'a>(part: &Part, of: impl Iterator<Item = &'a Part>) -> bool {
    let mut of: Vec<&Part> = of.collect();
    of.sort_by_key(|then| then.min_block);
    let mutations = of.iter().map(|then| then.mutation).chain([part.mutation]);
    let mutations: HashSet<i64> = mutations.filter(|number| *number > 0).collect();
    let mut next = part.min_block;
    for then in of {
        if !reaches(&mut next, then.min_block, &mutations) {
            return false;
        }
        next = next.max(then.max_block.saturating_add(1));
    }
    reaches(&mut next, part.max_block.saturating_add(1), &mutations)
}

/// Counts on over numbers of mutations, up to a number. Returns whether it came so far.
fn reaches(next: &mut i64, number: i64, mutations: &HashSet<i64>) -> bool {
    while *next < number && mutations.contains(next) {
        *next += 1;
    }
    *next >= number
}

/// Whether a part is one that was seen: by its name, or by all of it but the number of a mutation that
/// passed it by. Times of writing are compared where both are known.
fn is_again(then: &Part, now: &Part) -> bool {
    let renamed = then.mutation != now.mutation;
    let written_anew = match (then.modified_at_s, now.modified_at_s) {
        (Some(then), Some(now)) => then != now,
        _ => false,
    };
    is_alike(then, now) && (renamed || !written_anew)
}

/// Whether parts are one by their numbers and their content.
fn is_alike(then: &Part, now: &Part) -> bool {
    let place = |part: &Part| (part.min_block, part.max_block, part.level, part.hash);
    place(then) == place(now)
}

/// Whether the numbers of a part are all among those of another.
fn is_inside(inner: &Part, outer: &Part) -> bool {
    outer.min_block <= inner.min_block && inner.max_block <= outer.max_block
}

#[cfg(test)]
mod tests {
    use super::super::world::{inventory, part};
    use super::*;

    const RUN: ServerRun = ServerRun {
        host: String::new(),
        started_at_s: 0,
    };

    fn left(names: &[(&str, u8)], came: &[(&str, u8)], numbers_to: i64) -> LeftPartition {
        let part = |(name, content): &(&str, u8), came| LeftPart {
            part: part(name, 10, *content),
            came,
        };
        let mended = names.iter().map(|name| part(name, false));
        LeftPartition {
            partition_id: "all".to_owned(),
            is_mended: true,
            incarnation: inventory(&[]).incarnation,
            run: inventory(&[]).run,
            parts: mended
                .chain(came.iter().map(|name| part(name, true)))
                .collect(),
            numbers_to,
        }
    }

    fn provenances_of(ledger: &Ledger<'_>, parts: &[Part]) -> Vec<Provenance> {
        ledger.provenances(&inventory(parts))
    }

    #[test]
    fn what_was_there_and_what_the_server_made_of_it_is_known() {
        let before = inventory(&[part("all_1_1_0", 10, 1), part("all_2_2_0", 10, 2)]);
        let ledger = Ledger::new(&before, &[], [], true);
        let provenances = |parts: &[Part]| provenances_of(&ledger, parts);
        assert_eq!(provenances(&before.parts), [Provenance::Known; 2]);
        // A mutation passed one by, and rewrote the other.
        let mutated = [part("all_1_1_0_3", 10, 1), part("all_2_2_0_3", 10, 9)];
        assert_eq!(provenances(&mutated), [Provenance::Known; 2]);
        // A merge that collapsed rows.
        assert_eq!(
            provenances(&[part("all_1_2_1", 12, 9)]),
            [Provenance::Known]
        );
        assert_eq!(
            provenances(&[part("all_1_2_1", 21, 9)]),
            [Provenance::Mixed]
        );
    }

    #[test]
    fn what_came_is_told_by_its_number_and_what_it_was_merged_with_is_mixed() {
        let before = inventory(&[part("all_1_1_0", 10, 1), part("b_7_7_0", 10, 2)]);
        let ledger = Ledger::new(&before, &[], [], true);
        let provenance =
            |name: &str, content| provenances_of(&ledger, &[part(name, 10, content)])[0];
        assert_eq!(provenance("all_8_8_0", 9), Provenance::Came);
        assert_eq!(provenance("all_8_9_1", 9), Provenance::Came);
        assert_eq!(provenance("new_8_8_0", 9), Provenance::Came);
        assert_eq!(provenance("all_1_8_1", 9), Provenance::Mixed);
        // The same rows once more.
        let twice = [part("all_1_1_0", 10, 1), part("all_8_8_0", 10, 1)];
        assert_eq!(
            provenances_of(&ledger, &twice),
            [Provenance::Known, Provenance::Came]
        );
        // A number that the partition never had a part of.
        assert_eq!(provenance("all_3_3_0", 9), Provenance::Came);
        assert_eq!(provenance("all_3_3_1", 9), Provenance::Mixed);
    }

    fn replicated(parts: &[Part]) -> Inventory {
        Inventory {
            is_replicated: true,
            ..inventory(parts)
        }
    }

    #[test]
    fn numbers_of_replicas_count_by_partition() {
        let before = replicated(&[part("all_0_0_0", 10, 1), part("b_7_7_0", 10, 2)]);
        let ledger = Ledger::new(&before, &[], [], true);
        let provenance =
            |name: &str, content| provenances_of(&ledger, &[part(name, 10, content)])[0];
        for came in ["all_1_1_0", "all_1_2_1", "new_0_0_0", "new_0_1_1"] {
            assert_eq!(provenance(came, 9), Provenance::Came, "{came}");
        }
        assert_eq!(provenance("all_0_1_1", 9), Provenance::Mixed);
    }

    #[test]
    fn what_replicas_merge_is_known_where_no_number_is_left_for_what_came() {
        let before = replicated(&[part("all_0_0_0", 10, 1), part("all_2_2_0", 10, 2)]);
        let ledger = Ledger::new(&before, &[], [], true);
        let provenance = |name: &str| provenances_of(&ledger, &[part(name, 12, 9)])[0];
        // Another replica had taken the number 1, and rows collapsed.
        assert_eq!(provenance("all_0_2_1"), Provenance::Mixed);
        // A mutation has it.
        assert_eq!(provenance("all_0_2_1_1"), Provenance::Known);
        for (first, expected) in [
            ("all_0_1_1", Provenance::Known),
            ("all_1_1_0", Provenance::Mixed),
        ] {
            let before = replicated(&[part(first, 10, 1), part("all_2_2_0", 10, 2)]);
            let ledger = Ledger::new(&before, &[], [], true);
            let merged = provenances_of(&ledger, &[part("all_0_2_2", 12, 9)]);
            assert_eq!(merged, [expected], "{first}");
        }
    }

    #[test]
    fn a_replica_may_write_a_part_anew_and_start_again() {
        let before = replicated(&[part("all_0_0_0", 10, 1), part("all_1_1_0", 10, 2)]);
        let ledger = Ledger::new(&before, &[], [], false);
        let fetched = Part {
            modified_at_s: Some(500),
            ..part("all_1_1_0", 10, 2)
        };
        let known = [Provenance::Known];
        assert_eq!(provenances_of(&ledger, &[fetched]), known);
        assert_eq!(provenances_of(&ledger, &[part("all_0_1_1", 20, 9)]), known);
        let another = Inventory {
            incarnation: "another".to_owned(),
            ..inventory(&[part("all_0_1_1", 20, 9)])
        };
        assert_eq!(ledger.provenances(&another), [Provenance::Mixed]);
    }

    #[test]
    fn a_part_without_rows_is_nobodys() {
        let before = inventory(&[]);
        let ledger = Ledger::new(&before, &[], [], true);
        assert_eq!(
            provenances_of(&ledger, &[part("all_5_5_1", 0, 9)]),
            [Provenance::Known]
        );
    }

    #[test]
    fn what_the_mend_brings_is_its_own_as_often_as_it_brings_it() {
        let before = inventory(&[part("all_1_1_0", 10, 1)]);
        let content = |content: u8| ("all", Hash128([content; 16]));
        let ledger = Ledger::new(&before, &[], [content(1), content(5)], true);
        let parts = [
            part("all_1_1_0", 10, 1),
            part("all_2_2_0", 10, 5),
            part("all_3_3_0", 10, 5),
            part("all_4_4_0", 10, 1),
        ];
        let [known, came] = [Provenance::Known, Provenance::Came];
        assert_eq!(provenances_of(&ledger, &parts), [known, known, came, came]);
    }

    #[test]
    fn where_the_table_may_have_been_loaded_numbers_hold_as_far_as_parts_survive() {
        let before = inventory(&[part("all_1_1_0", 10, 1), part("all_2_2_0", 10, 2)]);
        let ledger = Ledger::new(&before, &[], [], false);
        let merged = part("all_1_2_1", 20, 9);
        assert_eq!(
            provenances_of(&ledger, std::slice::from_ref(&merged)),
            [Provenance::Mixed]
        );
        let survivor = part("b_3_3_0", 10, 3);
        let before = inventory(&[&before.parts[..], std::slice::from_ref(&survivor)].concat());
        let ledger = Ledger::new(&before, &[], [], false);
        let provenances = provenances_of(&ledger, &[merged, survivor]);
        assert_eq!(provenances, [Provenance::Known; 2]);
        // Another has its name and its content.
        let again = Part {
            modified_at_s: Some(500),
            ..part("all_2_2_0", 10, 2)
        };
        assert_eq!(provenances_of(&ledger, &[again]), [Provenance::Came]);
    }

    #[test]
    fn beyond_what_a_partition_was_left_as_merges_may_hold_what_was_brought() {
        let before = inventory(&[part("all_1_1_0", 10, 1)]);
        let provenance = |left: &[LeftPartition], name| {
            let ledger = Ledger::new(&before, left, [("all", Hash128([5; 16]))], true);
            provenances_of(&ledger, &[part(name, 30, 9)])[0]
        };
        assert_eq!(provenance(&[], "all_4_6_1"), Provenance::Mixed);
        assert_eq!(provenance(&[], "all_4_4_1"), Provenance::Mixed);
        assert_eq!(provenance(&[], "all_4_4_0"), Provenance::Came);
        let left = [left(&[("all_2_2_0", 5)], &[], 3)];
        assert_eq!(provenance(&left, "all_4_6_1"), Provenance::Came);
    }

    #[test]
    fn what_somebody_had_brought_before_stays_theirs() {
        let before = inventory(&[part("all_1_1_0", 10, 1), part("all_2_2_0", 10, 2)]);
        let ledger = Ledger::new(&before, &[], [], true).with_came(["all_2_2_0"]);
        let came = [Provenance::Known, Provenance::Came];
        assert_eq!(provenances_of(&ledger, &before.parts), came);
        let merged = provenances_of(&ledger, &[part("all_1_2_1", 20, 9)]);
        assert_eq!(merged, [Provenance::Mixed]);
    }

    #[test]
    fn a_partition_that_was_left_is_known_as_it_was_left() {
        let before = inventory(&[part("all_1_1_0", 10, 1)]);
        let left = [left(&[("all_4_4_0", 5)], &[("all_5_5_0", 6)], 5)];
        let ledger = Ledger::new(&before, &left, [], true);
        let provenance =
            |name: &str, content| provenances_of(&ledger, &[part(name, 10, content)])[0];
        assert_eq!(provenance("all_4_4_0", 5), Provenance::Known);
        assert_eq!(provenance("all_5_5_0", 6), Provenance::Came);
        assert_eq!(provenance("all_4_4_1", 9), Provenance::Known);
        assert_eq!(provenance("all_5_5_1", 9), Provenance::Came);
        assert_eq!(provenance("all_4_5_1", 9), Provenance::Mixed);
        assert_eq!(provenance("all_6_6_0", 9), Provenance::Came);
    }

    #[test]
    fn a_mended_partition_stays_mended_until_a_crash_of_the_server_undoes_it() {
        let before = inventory(&[part("all_1_1_0", 10, 1)]);
        let mut left = [left(&[("all_4_4_0", 5), ("all_5_5_0", 6)], &[], 5)];
        let is_mended = |left: &[LeftPartition], names: &[&str]| {
            let parts: Vec<Part> = names.iter().map(|name| part(name, 10, 9)).collect();
            Ledger::new(&before, left, [], true).is_mended("all", &inventory(&parts))
        };
        assert!(is_mended(&left, &["all_1_1_0"]));
        assert!(!is_mended(&[], &["all_1_1_0"]));
        left[0].run = RUN;
        assert!(is_mended(&left, &["all_4_5_1", "all_7_7_0"]));
        assert!(!is_mended(&left, &["all_4_4_0"]));
        assert!(!is_mended(&left, &["all_1_1_0", "all_4_5_1"]));
        left[0].is_mended = false;
        assert!(!is_mended(&left, &["all_4_5_1"]));
    }
}
