//! Every history of a few steps, held against the proofs of lineage and against provenance: no live part may
//! count as parts that have other rows, and none that somebody brought as one of ours.
//!
//! `MENDB_HISTORY_STEPS=6 cargo test --release -p mendb-model every_short_history` goes a step further.

use super::world::{World, sorted};
use super::*;

/// So many steps unless told otherwise: some 300,000 histories.
const STEPS: usize = 5;

/// What may happen in a step. Parts that come have one row each, so that counts of rows tell nothing.
const HAPPENINGS: [fn(&mut World); 12] = [
    |world| drop(world.insert("a")),
    |world| drop(world.insert("b")),
    |world| on_part(world, first, World::insert_again),
    |world| on_part(world, last, World::insert_again),
    |world| on_part(world, first, World::remove),
    |world| on_part(world, last, World::remove),
    |world| on_part(world, last, World::detach),
    World::reattach,
    |world| on_part(world, first, |world, at| world.merge(at, usize::MAX)),
    |world| world.exchange("a"),
    World::restart,
    World::load,
];

fn first(_parts: usize) -> usize {
    0
}

fn last(parts: usize) -> usize {
    parts - 1
}

fn on_part(world: &mut World, which: fn(usize) -> usize, work: fn(&mut World, usize)) {
    if !world.parts.is_empty() {
        work(world, which(world.parts.len()));
    }
}

/// What a server keeps of what went on.
#[derive(Debug, Clone, Copy)]
enum Log {
    Absent,
    OfAnOldServer,
    OfANewServer,
}

/// Numbers of happenings that load the table.
const LOADS: [usize; 2] = [10, 11];

fn check(then: &World, now: &World, log: Log, history: &[usize]) {
    let live = now.inventory();
    let log = match log {
        Log::Absent => PartLog::default(),
        Log::OfAnOldServer | Log::OfANewServer => now.part_log(),
    };
    let witness = Witness::plain(then.inventory());
    let explained = explain(&live, &[witness], &log, MergeTraits::default());
    for (part, ways) in live.parts.iter().zip(explained) {
        for way in ways {
            let held = way.holds.iter().flat_map(|hash| now.rows(*hash)).collect();
            let has = now.rows(part.hash);
            assert_eq!(
                sorted(held),
                sorted(has),
                "{} by {:?} after {history:?}",
                part.name,
                way.proof
            );
        }
    }
    let before = then.inventory();
    let was_loaded = history.iter().any(|number| LOADS.contains(number));
    let provenances = Ledger::new(&before, &[], [], !was_loaded).provenances(&live);
    let rows_of = |world: &World, parts: &[Part]| -> Vec<_> {
        parts
            .iter()
            .flat_map(|part| world.rows(part.hash))
            .collect()
    };
    let mut old = rows_of(then, &then.parts);
    let known = live.parts.iter().zip(provenances);
    let known = known.filter(|(_, provenance)| *provenance == Provenance::Known);
    for (part, _) in known {
        for row in now.rows(part.hash) {
            let place = old.iter().position(|old| *old == row);
            let place = place.unwrap_or_else(|| panic!("{} came: {history:?}", part.name));
            old.swap_remove(place);
        }
    }
}

/// Goes on from a state with each happening, and returns how many histories there were.
fn go_on(then: &World, now: &World, log: Log, history: &mut Vec<usize>, steps: usize) -> u64 {
    check(then, now, log, history);
    let mut histories = 1;
    if steps == 0 {
        return histories;
    }
    for (number, happening) in HAPPENINGS.iter().enumerate() {
        let mut next = now.clone();
        next.pass_time();
        happening(&mut next);
        history.push(number);
        histories += go_on(then, &next, log, history, steps - 1);
        history.pop();
    }
    histories
}

#[test]
fn no_part_counts_as_others_after_every_short_history() {
    let steps = std::env::var("MENDB_HISTORY_STEPS");
    let steps = steps.map_or(STEPS, |steps| steps.parse().expect("a number of steps"));
    for log in [Log::Absent, Log::OfAnOldServer, Log::OfANewServer] {
        let mut then = World::new(false);
        then.is_old = matches!(log, Log::OfAnOldServer);
        for partition in ["a", "a", "b", "a"] {
            then.pass_time();
            then.insert(partition);
        }
        let histories = go_on(&then, &then, log, &mut Vec::new(), steps);
        println!("{log:?}: {histories} histories of up to {steps} steps");
    }
}
