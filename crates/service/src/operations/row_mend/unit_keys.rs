//! Which keys of a table were of one row: a row that changed its key was under one of them before, and is under another
//! after.
//!
//! ```text
//! a chosen transaction changed a key     both are one unit
//! others did, of a key that is taken     so are these: what is under the new one was under the old one
//!   back, from there on
//! ```
//!
//! Two changes of one transaction whose places follow each other, an erase and then a row, are of one row whose key
//! changed (`engines/postgres/unfold`). *Memory*: a bit for each change of the table, and the keys that changed;
//! [`MOST_CHANGED`] bounds these. *Cost*: the changes of the table are read once, and once more where keys changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use mendb_model::change::ChangeRef;
use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::ChangedBy;
use mendb_model::unfolded::{Made, split_key};
use mendb_model::{ChangeKind, Malformed};

use crate::attempt::Tools;
use crate::task_error::{TaskError, TaskResult};

/// So many rows of a table may have changed their keys: two keys of each are held.
pub(super) const MOST_CHANGED: u64 = 500_000;

/// Keys of units, in their order.
#[derive(Default)]
pub(super) struct UnitKeys(Vec<UnitKey>);

/// A key of a unit.
pub(super) struct UnitKey {
    pub(super) key: Vec<u8>,
    /// Its number: those of one unit have the same.
    pub(super) unit: usize,
    /// The place of the first change of it that is taken back where the unit goes back.
    pub(super) from: u64,
}

impl UnitKeys {
    /// Those of a table, by the changes that some backups keep one by one.
    pub(super) fn of_table(
        tools: &Tools,
        since: &[Arc<Manifest>],
        table: &str,
        chosen: &ChangedBy,
    ) -> TaskResult<Self> {
        Ok(Self(joined(tools, since, table, chosen)?))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub(super) fn all(&self) -> &[UnitKey] {
        &self.0
    }

    /// One of them, if the key is.
    pub(super) fn find(&self, key: &[u8]) -> Option<&UnitKey> {
        let at = self.0.binary_search_by(|of| of.key.as_slice().cmp(key));
        Some(&self.0[at.ok()?])
    }
}

/// That changes of a table are not as they were kept.
pub(super) fn garbled(table: &str, error: &Malformed) -> TaskError {
    TaskError::Proof(format!(
        "a change of table {table} is not as it was kept: {error}; check the repository: mendb verify"
    ))
}

/// How many rows of a table changed their keys, by the changes that some backups keep one by one.
pub(super) fn count_changed_keys(
    tools: &Tools,
    since: &[Arc<Manifest>],
    table: &str,
) -> TaskResult<u64> {
    Ok(changed_keys(tools, since, table)?.count)
}

/// The keys of all units, in their order.
fn joined(
    tools: &Tools,
    since: &[Arc<Manifest>],
    table: &str,
    chosen: &ChangedBy,
) -> TaskResult<Vec<UnitKey>> {
    let changed = changed_keys(tools, since, table)?;
    if changed.count == 0 {
        return Ok(Vec::new());
    }
    let mut graph = Graph::default();
    each_change(tools, since, table, &mut |key, made, change| {
        let place = made.place;
        let is_old = change.kind == ChangeKind::Erase && changed.old.contains(place);
        let is_new = change.kind != ChangeKind::Erase
            && place
                .checked_sub(1)
                .is_some_and(|old| changed.old.contains(old));
        graph.key(key);
        if chosen.chooses(change.version, made.committed_us) {
            graph.choose(place);
        }
        if is_old || is_new {
            graph.half(place, is_new, change.version);
        }
        Ok(())
    })?;
    Ok(graph.finish())
}

/// Keys, and which of them were of one row.
#[derive(Default)]
struct Graph {
    keys: Vec<Node>,
    halves: Vec<Half>,
    /// The key whose changes are read, and the place of the first chosen one.
    current: Vec<u8>,
    chosen_from: Option<u64>,
    is_held: bool,
}

struct Node {
    key: Vec<u8>,
    /// The place from which on it is taken back.
    from: Option<u64>,
    /// Another key of the same unit, or itself.
    parent: usize,
    is_joined: bool,
}

/// The old key of a change, or the new one.
struct Half {
    place: u64,
    node: usize,
    is_new: bool,
    transaction: u64,
}

impl Graph {
    fn key(&mut self, key: &[u8]) {
        if self.current != key {
            self.current.clear();
            self.current.extend_from_slice(key);
            (self.chosen_from, self.is_held) = (None, false);
        }
    }

    fn choose(&mut self, place: u64) {
        if self.chosen_from.is_some() {
            return;
        }
        self.chosen_from = Some(place);
        if let Some(held) = self.keys.last_mut().filter(|_| self.is_held) {
            held.from = Some(place);
        }
    }

    fn half(&mut self, place: u64, is_new: bool, transaction: u64) {
        if !self.is_held {
            self.is_held = true;
            self.keys.push(Node {
                key: self.current.clone(),
                from: self.chosen_from,
                parent: self.keys.len(),
                is_joined: false,
            });
        }
        self.halves.push(Half {
            place,
            node: self.keys.len() - 1,
            is_new,
            transaction,
        });
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.keys[at].parent != at {
            let above = self.keys[at].parent;
            self.keys[at].parent = self.keys[above].parent;
            at = above;
        }
        at
    }

    fn finish(mut self) -> Vec<UnitKey> {
        let mut halves = std::mem::take(&mut self.halves);
        halves.sort_by_key(|half| half.place);
        for pair in halves.windows(2) {
            let [old, new] = pair else { continue };
            let is_one = !old.is_new && new.is_new && old.transaction == new.transaction;
            if !is_one || old.place + 1 != new.place {
                continue;
            }
            // A chosen one is taken back from itself on, what others did only of keys that are taken back by then.
            let ends = [(old.node, old.place), (new.node, new.place)];
            let is_taken = |(node, place): &(usize, u64)| {
                let from = self.keys[*node].from;
                from.is_some_and(|from| from <= *place)
            };
            if !ends.iter().any(is_taken) {
                continue;
            }
            for (node, place) in ends {
                let node = &mut self.keys[node];
                node.from = Some(node.from.map_or(place, |from| from.min(place)));
                node.is_joined = true;
            }
            let (one, other) = (self.root(old.node), self.root(new.node));
            self.keys[one].parent = other;
        }
        let units: Vec<usize> = (0..self.keys.len()).map(|at| self.root(at)).collect();
        let nodes = self.keys.into_iter().zip(units);
        let joined = nodes.filter(|(node, _)| node.is_joined);
        let keys = joined.map(|(node, unit)| UnitKey {
            key: node.key,
            unit,
            from: node.from.unwrap_or(u64::MAX),
        });
        keys.collect()
    }
}

/// Where rows changed their keys.
struct ChangedKeys {
    /// The places of the changes of the old keys.
    old: Places,
    count: u64,
}

fn changed_keys(tools: &Tools, since: &[Arc<Manifest>], table: &str) -> TaskResult<ChangedKeys> {
    let (mut erases, mut rows) = (Places::default(), Places::default());
    each_change(tools, since, table, &mut |_, made, change| {
        match change.kind {
            ChangeKind::Erase => erases.insert(made.place),
            ChangeKind::Upsert | ChangeKind::Reset => rows.insert(made.place),
        }
        Ok(())
    })?;
    let (mut old, mut count) = (Places::default(), 0);
    erases.each(&mut |place| {
        if rows.contains(place.saturating_add(1)) {
            old.insert(place);
            count += 1;
        }
    });
    Ok(ChangedKeys { old, count })
}

/// Places of changes, a bit for each.
#[derive(Default)]
struct Places(BTreeMap<u64, Box<[u64; Self::WORDS]>>);

impl Places {
    const WORDS: usize = 64;
    const EACH: u64 = 64 * Self::WORDS as u64;

    fn insert(&mut self, place: u64) {
        let some = self.0.entry(place / Self::EACH);
        let within = place % Self::EACH;
        some.or_insert_with(|| Box::new([0; Self::WORDS]))[(within / 64) as usize] |=
            1 << (within % 64);
    }

    fn contains(&self, place: u64) -> bool {
        let within = place % Self::EACH;
        let some = self.0.get(&(place / Self::EACH));
        some.is_some_and(|some| some[(within / 64) as usize] & (1 << (within % 64)) != 0)
    }

    fn each(&self, take: &mut dyn FnMut(u64)) {
        for (at, some) in &self.0 {
            for (word, bits) in (0..).zip(some.iter()) {
                let set = (0..64).filter(|bit| bits & (1 << bit) != 0);
                set.for_each(|bit| take(at * Self::EACH + word * 64 + bit));
            }
        }
    }
}

/// Takes a change of a key, and where it was made.
type EachChange<'a> = &'a mut dyn FnMut(&[u8], Made, ChangeRef<'_>) -> TaskResult<()>;

/// Hands over the changes of a table that some backups keep one by one, in the order of keys, and of each as they came.
fn each_change(
    tools: &Tools,
    since: &[Arc<Manifest>],
    table: &str,
    each: EachChange<'_>,
) -> TaskResult<()> {
    let unfolded = TablePath::unfolded(table);
    let keeps = |manifest: &&Arc<Manifest>| manifest.sharded_table(&unfolded).is_some();
    let keeping: Vec<_> = since.iter().filter(keeps).cloned().collect();
    let all = KeyRange::all();
    let read = tools.repository.read_chain(&keeping, &unfolded, &all, None);
    let mut read = tools.runtime.block_on(read)?;
    while let Some(block) = tools.runtime.block_on(read.next())? {
        for (key, change) in block.iter() {
            let (key, made) = split_key(key).map_err(|error| garbled(table, &error))?;
            let change = ChangeRef::decode(change).map_err(|error| garbled(table, &error))?;
            each(key, made, change)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units of changes of keys: (from, to, place, whether it is a chosen one), and of chosen changes of one key.
    fn units(moves: &[(u8, u8, u64, bool)], chosen: &[(u8, u64)]) -> Vec<Vec<u8>> {
        let mut of_key: BTreeMap<u8, Vec<(u64, Option<bool>, bool)>> = BTreeMap::new();
        for (from, to, place, is_chosen) in moves {
            let halves = [(from, *place, false), (to, place + 1, true)];
            for (key, place, is_new) in halves {
                let changes = of_key.entry(*key).or_default();
                changes.push((place, Some(is_new), *is_chosen));
            }
        }
        for (key, place) in chosen {
            of_key.entry(*key).or_default().push((*place, None, true));
        }
        let mut graph = Graph::default();
        for (key, mut changes) in of_key {
            changes.sort_unstable();
            graph.key(&[key]);
            for (place, half, is_chosen) in changes {
                if is_chosen {
                    graph.choose(place);
                }
                if let Some(is_new) = half {
                    graph.half(place, is_new, place / 10);
                }
            }
        }
        let mut of_unit: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for UnitKey { key, unit, .. } in graph.finish() {
            of_unit.entry(unit).or_default().push(key[0]);
        }
        let mut units: Vec<Vec<u8>> = of_unit.into_values().collect();
        units.sort();
        units
    }

    #[test]
    fn keys_of_a_row_that_was_moved_on_are_one_unit() {
        for (moves, chosen, expected) in [
            // One, a chain, and two rows that change places by way of a third key.
            (vec![(1, 2, 10, true)], vec![], vec![vec![1, 2]]),
            (
                vec![(1, 2, 10, true), (2, 3, 20, true), (7, 8, 30, true)],
                vec![],
                vec![vec![1, 2, 3], vec![7, 8]],
            ),
            (
                vec![(1, 9, 10, true), (2, 1, 20, true), (9, 2, 30, true)],
                vec![],
                vec![vec![1, 2, 9]],
            ),
            // Others moved the row on, or another one into its place.
            (
                vec![(1, 2, 10, true), (2, 3, 20, false), (3, 4, 30, false)],
                vec![],
                vec![vec![1, 2, 3, 4]],
            ),
            (vec![(2, 3, 20, false)], vec![(2, 10)], vec![vec![2, 3]]),
            (vec![(3, 2, 20, false)], vec![(2, 10)], vec![vec![2, 3]]),
            // What others moved before, or elsewhere, is beside it.
            (vec![(1, 2, 10, false)], vec![(2, 20)], vec![]),
            (vec![(1, 2, 10, false)], vec![(3, 5)], vec![]),
        ] {
            assert_eq!(units(&moves, &chosen), expected, "{moves:?} {chosen:?}");
        }
    }

    #[test]
    fn places_are_those_that_were_put_in() {
        let mut places = Places::default();
        let some = [0, 63, 64, 4095, 4096, 1 << 40, u64::MAX];
        some.iter().for_each(|place| places.insert(*place));
        let mut found = Vec::new();
        places.each(&mut |place| found.push(place));
        assert_eq!(found, some);
        assert!(places.contains(4096) && !places.contains(4097));
    }
}
