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
//! What is left to show is that the parts that were merged are those of the witness. Names do not show
//! it by themselves: a table that is loaded (at the start of the server, by `ATTACH TABLE`) counts on from
//! the highest number that a surviving part has, and gives numbers of parts that went before to others.
//! No server tells when it loaded a table. But while a part survives, no number up to its own is given
//! again: so numbers hold up to the highest of the *survivors*, the parts of the witness that are still
//! there, by name, content and time of writing, which was before the witness.
//!
//! - [`Proof::PartLog`]: the log goes back to the witness. For every merge on the way it says what it was
//!   made from, down to names of the witness, and it has nothing else that took one of these names, nor
//!   of files of theirs that were removed before they were merged. Attaching a part is not logged, but
//!   takes a number; to take the number of another, that one's files must have been removed before the
//!   table was loaded. Where the log does not have all that went, or the server was started
//!   again, which may cost the log its last lines, numbers must hold besides.
//! - [`Proof::BlockNumbers`]: the merged part covers exactly a row of whole witness parts, and numbers hold
//!   that far. A server takes a number and makes the part live in one step, under a lock: so at the moment
//!   of the witness every number up to its last was in a part of the witness or gone for good, and nothing
//!   can have come in between the parts that it covers. Coordinated replicas take numbers ahead and are
//!   never proved so.
//!
//! Known limit: a TTL that is set without being materialized and unset again, both since the witness,
//! leaves no trace.

use std::collections::{HashMap, HashSet};

use super::hash::Hash128;
use super::inventory::{Inventory, Part};
use super::name::PartName;
use super::plan::Proof;
use super::witness::{MergeTraits, PartEvent, PartEventKind, PartLog, Witness};

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
    log: &PartLog,
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
    events: HashMap<&'a str, Vec<&'a PartEvent>>,
    /// The log goes back to the witness, and contradicts nothing that is known.
    has_log: bool,
    /// Merges that are in the log need no block numbers that hold.
    log_suffices: bool,
    /// Numbers up to this one were not given twice since the witness.
    numbers_hold_to: i64,
    /// Replicas agree on numbers ahead of the parts.
    is_replicated: bool,
    /// Mutations were under way at the moment of the witness.
    mutating: bool,
}

impl<'a> Sight<'a> {
    /// `None` where the witness proves nothing about this table.
    fn new(
        live: &Inventory,
        known: &'a Known<'a>,
        log: &'a PartLog,
        traits: MergeTraits,
    ) -> Option<Self> {
        let then = &known.witness.inventory;
        let same_table = !then.incarnation.is_empty() && then.incarnation == live.incarnation;
        let in_order = then.taken_at_ms <= live.taken_at_ms;
        if !same_table || !in_order || traits.has_ttl || traits.rolls_up {
            return None;
        }
        let then_known_as = |part: &Part| {
            let at = known.names.get(part.name.as_str()).copied();
            at.map(|at| known.part(at))
        };
        let name_lies =
            |part: &Part| then_known_as(part).is_some_and(|then| then.hash != part.hash);
        if live.parts.iter().any(name_lies) {
            return None;
        }
        let taken_at_ms = then.taken_at_ms;
        let survives = |part: &&Part| {
            let same = |then: &Part| then.modified_at_s == part.modified_at_s;
            let written_before = |at_s: i64| at_s < (taken_at_ms / 1000).cast_signed();
            then_known_as(part).is_some_and(same) && part.modified_at_s.is_some_and(written_before)
        };
        // Numbers of other partitions are of the same count.
        let survivors = live.parts.iter().filter(survives);
        let numbers_hold_to = survivors.map(Part::highest_number).max();
        let mut events: HashMap<&str, Vec<&PartEvent>> = HashMap::new();
        let mut name_given_twice = false;
        let since = |event: &&PartEvent| may_be_after(event, taken_at_ms);
        for event in log.events.iter().filter(since) {
            events.entry(&event.part).or_default().push(event);
            name_given_twice |= event.kind != PartEventKind::Went
                && event.at_ms > taken_at_ms
                && known.names.contains_key(event.part.as_str());
        }
        let goes_back = log.begins_at_ms.is_some_and(|begin| begin <= taken_at_ms);
        Some(Self {
            known,
            events,
            has_log: goes_back && !name_given_twice,
            log_suffices: log.tells_what_went && then.run.is_same(&live.run),
            numbers_hold_to: match numbers_hold_to {
                Some(number) if !name_given_twice => number,
                _ => i64::MIN,
            },
            is_replicated: traits.is_replicated,
            mutating: !then.mutations.is_empty(),
        })
    }

    fn explain(&self, part: &Part, ways: &mut Vec<Explained>) {
        if self.known.names.contains_key(part.name.as_str()) {
            return;
        }
        let logged = self.merged_by_log(part).map(|from| (from, Proof::PartLog));
        let proved = logged.or_else(|| Some((self.merged_by_range(part)?, Proof::BlockNumbers)));
        if let Some((from, proof)) = proved {
            let held = from.iter().flat_map(|at| self.known.holds(*at)).collect();
            let own = from.iter().map(|at| self.known.part(*at).hash).collect();
            ways.push(Explained { holds: held, proof });
            ways.push(Explained { holds: own, proof });
        }
    }

    fn numbers_hold(&self, part: &Part) -> bool {
        part.highest_number() <= self.numbers_hold_to
    }

    /// Places of the witness parts that the log says the part was merged from.
    fn merged_by_log(&self, part: &Part) -> Option<Vec<usize>> {
        if !self.has_log || !(self.log_suffices || self.numbers_hold(part)) {
            return None;
        }
        let mut from = Vec::new();
        let mut unexplained = vec![(part.name.as_str(), u64::MAX)];
        while let Some((name, not_after_ms)) = unexplained.pop() {
            let events = self.events.get(name).map_or(&[][..], Vec::as_slice);
            let (went, came): (Vec<&PartEvent>, Vec<&PartEvent>) =
                (events.iter().copied()).partition(|event| event.kind == PartEventKind::Went);
            // Of what was removed before it was merged, another has the name.
            if went.iter().any(|event| event.at_ms <= not_after_ms) {
                return None;
            }
            match (came.as_slice(), self.known.names.get(name)) {
                ([], Some(at)) => from.push(*at),
                ([event], None) if event.at_ms <= not_after_ms => {
                    let sources = check_merge(event)?.iter();
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
        if self.is_replicated || !self.numbers_hold(part) {
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
fn may_be_after(event: &PartEvent, taken_at_ms: u64) -> bool {
    let same_second = event.at_ms.is_multiple_of(1000) && event.at_ms / 1000 == taken_at_ms / 1000;
    event.at_ms > taken_at_ms || same_second
}

/// The parts that a merge was made of. It goes one level deeper than these (so following them comes to an
/// end), and takes no update in.
fn check_merge(event: &PartEvent) -> Option<&[String]> {
    let PartEventKind::Merged(merged_from) = &event.kind else {
        return None;
    };
    let merged: PartName = event.part.parse().ok()?;
    let mut last_mutation = None;
    for name in merged_from {
        let source: PartName = name.parse().ok()?;
        if source.partition_id != merged.partition_id || source.level >= merged.level {
            return None;
        }
        last_mutation = last_mutation.max(Some(source.mutation));
    }
    (last_mutation == Some(merged.mutation)).then_some(merged_from)
}

#[cfg(test)]
mod tests;
