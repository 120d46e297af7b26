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

use serde::{Deserialize, Serialize};

use super::hash::Hash128;
use super::inventory::{Inventory, Part};
use super::name::PartName;
use super::plan::{Proof, TablePlan, Wanted};
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
