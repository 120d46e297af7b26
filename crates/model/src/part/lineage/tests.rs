//! Promises of lineage: what a merged part is known to hold, and where nothing proves it.

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

fn held(live: &Inventory, then: &Inventory, log: &PartLog) -> Option<(Vec<u8>, Proof)> {
    held_under(live, then, log, MergeTraits::default())
}

/// What the first live part is known to hold.
fn held_under(
    live: &Inventory,
    then: &Inventory,
    log: &PartLog,
    traits: MergeTraits,
) -> Option<(Vec<u8>, Proof)> {
    let ways = explain(live, &[Witness::plain(then.clone())], log, traits).remove(0);
    let way = ways.into_iter().next()?;
    Some((way.holds.iter().map(|hash| hash.0[0]).collect(), way.proof))
}

/// A part that came, by a merge of those that are named.
fn event(at_ms: u64, name: &str, merged_from: &str) -> PartEvent {
    let merged_from: Vec<String> = merged_from.split_whitespace().map(str::to_owned).collect();
    PartEvent {
        at_ms,
        part: name.to_owned(),
        kind: match merged_from.as_slice() {
            [] => PartEventKind::Came,
            _ => PartEventKind::Merged(merged_from),
        },
    }
}

fn went(at_ms: u64, name: &str) -> PartEvent {
    PartEvent {
        at_ms,
        part: name.to_owned(),
        kind: PartEventKind::Went,
    }
}

fn log(events: &[PartEvent]) -> PartLog {
    PartLog {
        begins_at_ms: Some(0),
        tells_what_went: true,
        events: events.to_vec(),
    }
}

/// Parts with one that survives, of another partition and with a higher number than they have.
fn with_survivor(inventory: &Inventory) -> Inventory {
    let survivor = part("other_9_9_0", 1, 99);
    Inventory {
        parts: [&inventory.parts[..], &[survivor]].concat(),
        ..inventory.clone()
    }
}

/// How the first live part is known to hold those of then, where a later part survives.
fn proof_beside_survivor(live: &Inventory, then: &Inventory) -> Option<Proof> {
    proof(&with_survivor(live), &with_survivor(then))
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

const BY_NUMBERS: Option<Proof> = Some(Proof::BlockNumbers);

fn proof(live: &Inventory, then: &Inventory) -> Option<Proof> {
    held(live, then, &PartLog::default()).map(|(_, proof)| proof)
}

#[test]
fn a_merge_holds_what_it_covers_while_a_later_part_survives_also_over_a_restart() {
    assert_eq!(proof_beside_survivor(&merged(), &then()), BY_NUMBERS);
    let restarted = another_run(merged());
    assert_eq!(proof_beside_survivor(&restarted, &then()), BY_NUMBERS);
}

#[test]
fn without_a_later_part_that_survives_block_numbers_prove_nothing() {
    assert_eq!(proof(&merged(), &then()), None);
    let (live, then) = (with_survivor(&merged()), with_survivor(&then()));
    let survivor = |change: &dyn Fn(&mut Part)| {
        let mut live = live.clone();
        change(live.parts.last_mut().unwrap());
        proof(&live, &then)
    };
    assert_eq!(survivor(&|_| {}), BY_NUMBERS);
    // It was written anew, or nobody knows when.
    assert_eq!(survivor(&|part| part.modified_at_s = Some(2)), None);
    assert_eq!(survivor(&|part| part.modified_at_s = None), None);
    // A lower number: those above may have been given again.
    let low = |inventory: &Inventory| {
        let mut inventory = inventory.clone();
        *inventory.parts.last_mut().unwrap() = part("other_1_1_0", 1, 99);
        inventory
    };
    assert_eq!(proof(&low(&live), &low(&then)), None);
    let young = |inventory: &Inventory| {
        let mut inventory = inventory.clone();
        let taken_at_s = inventory.taken_at_ms.cast_signed() / 1000;
        inventory.parts.last_mut().unwrap().modified_at_s = Some(taken_at_s);
        inventory
    };
    assert_eq!(proof(&young(&live), &young(&then)), None);
}

#[test]
fn without_the_same_table_numbers_prove_nothing() {
    let recreated = Inventory {
        incarnation: "another table".to_owned(),
        ..merged()
    };
    assert_eq!(proof_beside_survivor(&recreated, &then()), None);
}

#[test]
fn merges_that_change_rows_are_never_proved() {
    let log = log(&[event(2_000_000, "all_1_2_1", "all_1_1_0 all_2_2_0")]);
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
    let (live, then) = (with_survivor(&merged()), with_survivor(&then()));
    assert_eq!(
        held_under(&live, &then, &PartLog::default(), replicated),
        None
    );
}

#[test]
fn lost_rows_uncovered_ends_and_parts_cut_through_disprove() {
    let live = |name: &str, rows| inventory(&[part(name, rows, 3)]);
    let proof = proof_beside_survivor;
    assert_eq!(proof(&live("all_1_2_1", 14), &then()), None);
    assert_eq!(proof(&live("all_1_3_1", 15), &then()), None);
    assert_eq!(proof(&live("all_1_2_0", 15), &then()), None);
    let wide = inventory(&[part("all_1_1_0", 10, 1), part("all_2_3_1", 5, 2)]);
    assert_eq!(proof(&live("all_1_2_2", 15), &wide), None);
    assert_eq!(proof(&live("third_1_2_1", 15), &then()), None);
}

#[test]
fn a_mutation_since_the_witness_disproves_and_one_before_it_does_not() {
    let live = |name: &str| inventory(&[part(name, 15, 3)]);
    let proof = proof_beside_survivor;
    assert_eq!(proof(&live("all_1_2_1_7"), &then()), None);
    let mutated = inventory(&[part("all_1_1_0_3", 10, 1), part("all_4_4_0", 5, 2)]);
    assert_eq!(proof(&live("all_1_4_1_3"), &mutated), BY_NUMBERS);
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
    assert_eq!(proof_beside_survivor(&live, &half_done), None);
}

#[test]
fn a_name_that_has_other_content_now_makes_the_witness_worthless() {
    let mut live = merged();
    let then = inventory(&[&then().parts[..], &[part("all_3_3_0", 1, 4)]].concat());
    assert_eq!(proof_beside_survivor(&live, &then), BY_NUMBERS);
    live.parts.push(part("all_3_3_0", 1, 5));
    assert_eq!(proof_beside_survivor(&live, &then), None);
}

#[test]
fn the_log_proves_merges_of_merges_and_sees_what_ranges_cannot() {
    let merges = log(&[
        event(2_000_001, "all_1_2_1", "all_1_1_0 all_2_2_0"),
        event(2_000_002, "all_1_3_2", "all_1_2_1 all_3_3_0"),
        went(2_000_003, "all_1_1_0"),
        went(2_000_003, "all_1_2_1"),
    ]);
    let then = inventory(
        &[
            &then().parts[..],
            &[part("all_3_3_0", 1, 4), part("all_4_4_0", 1, 5)],
        ]
        .concat(),
    );
    let live = inventory(&[part("all_1_3_2", 16, 6)]);
    let known = Some((vec![1, 2, 4], Proof::PartLog));
    assert_eq!(held(&live, &then, &merges), known);
    // The second part was dropped before the merge: the range has it, the merge does not.
    let live = inventory(&[part("all_1_3_1", 11, 6)]);
    let merge = log(&[event(2_000_002, "all_1_3_1", "all_1_1_0 all_3_3_0")]);
    let known = Some((vec![1, 4], Proof::PartLog));
    assert_eq!(held(&live, &then, &merge), known);
    assert_eq!(held(&live, &then, &PartLog::default()), None);
}

#[test]
fn what_the_log_saw_go_before_it_was_merged_has_lent_its_name_to_another() {
    let merge = event(2_000_005, "all_1_2_1", "all_1_1_0 all_2_2_0");
    let after = log(&[merge.clone(), went(2_000_006, "all_2_2_0")]);
    assert!(held(&merged(), &then(), &after).is_some());
    let before = log(&[went(2_000_004, "all_2_2_0"), merge.clone()]);
    assert_eq!(held(&merged(), &then(), &before), None);
    // The merged part went, and its name is live again.
    let itself = log(&[merge, went(2_000_007, "all_1_2_1")]);
    assert_eq!(held(&merged(), &then(), &itself), None);
}

#[test]
fn a_log_that_does_not_tell_all_needs_a_later_part_that_survives() {
    let merge = log(&[event(2_000_001, "all_1_2_1", "all_1_1_0 all_2_2_0")]);
    let silent = PartLog {
        tells_what_went: false,
        ..merge.clone()
    };
    let (live, then) = (merged(), then());
    let known = Some((vec![1, 2], Proof::PartLog));
    assert_eq!(held(&live, &then, &merge), known);
    assert_eq!(held(&live, &then, &silent), None);
    assert_eq!(held(&another_run(live.clone()), &then, &merge), None);
    let (live, then) = (with_survivor(&live), with_survivor(&then));
    assert_eq!(held(&live, &then, &silent), known);
    assert_eq!(held(&another_run(live), &then, &merge), known);
}

#[test]
fn a_log_that_began_after_the_witness_proves_nothing() {
    let mut log = log(&[event(2_000_001, "all_1_2_1", "all_1_1_0 all_2_2_0")]);
    log.begins_at_ms = Some(then().taken_at_ms);
    assert!(held(&merged(), &then(), &log).is_some());
    log.begins_at_ms = Some(then().taken_at_ms + 1);
    assert_eq!(held(&merged(), &then(), &log), None);
    log.begins_at_ms = None;
    assert_eq!(held(&merged(), &then(), &log), None);
}

#[test]
fn a_name_that_the_log_gives_again_disproves() {
    let log = log(&[
        event(2_000_000, "all_2_2_0", ""),
        event(2_000_001, "all_1_2_1", "all_1_1_0 all_2_2_0"),
    ]);
    assert_eq!(held(&merged(), &then(), &log), None);
}

#[test]
fn an_update_that_a_merge_takes_in_disproves() {
    let log = log(&[event(2_000_001, "all_1_2_1_4", "all_1_1_0 all_2_2_0")]);
    let live = inventory(&[part("all_1_2_1_4", 15, 3)]);
    assert_eq!(held(&live, &then(), &log), None);
}

#[test]
fn an_insert_logged_in_whole_seconds_may_be_the_same_moment() {
    let mut then = then();
    then.taken_at_ms = 2_000_500;
    let mut live = merged();
    live.taken_at_ms = 2_009_000;
    let merge = event(2_001_000, "all_1_2_1", "all_1_1_0 all_2_2_0");
    assert!(held(&live, &then, &log(std::slice::from_ref(&merge))).is_some());
    let insert = event(2_000_000, "all_2_2_0", "");
    assert_eq!(held(&live, &then, &log(&[insert, merge])), None);
}

#[test]
fn content_once_known_as_a_merge_is_known_in_any_run_and_under_any_name() {
    let witness = Witness {
        inventory: merged(),
        holds: vec![vec![Hash128([1; 16]), Hash128([2; 16])]],
    };
    let live = another_run(inventory(&[part("all_9_9_0", 15, 3)]));
    let ways = explain(
        &live,
        &[witness],
        &PartLog::default(),
        MergeTraits::default(),
    )
    .remove(0);
    assert_eq!(ways.len(), 1);
    assert_eq!(ways[0].holds, [Hash128([1; 16]), Hash128([2; 16])]);
}
