//! Restores of a sample that prove a backup and leave nothing.

use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::operation::{Drill, Operation, State};
use mendb_service::RestoreOrder;
use mendb_service::journal::command::Command;
use mendb_service::journal::proof::Proof;

use crate::world::*;

fn drill(world: &World, percent: u8, seed: &str) -> Operation {
    let order = RestoreOrder {
        drill: Some(Drill {
            percent,
            seed: seed.to_owned(),
        }),
        ..restore_order("increment")
    };
    let id = world.service.request_restore(&order).unwrap();
    world.drive(&id)
}

/// A chain of two, and changes since.
fn backed_up() -> World {
    let world = World::new();
    fill(&world, 200);
    world.done(&world.backup(Full, "full"));
    edit(&world, 1);
    world.done(&world.backup(Incremental, "increment"));
    write_orders(&world, 0..50, "since");
    world
}

fn proofs(world: &World) -> Vec<Proof> {
    let repository = world.service.repository();
    let header = world.service.runtime().block_on(repository.header());
    let id = header.unwrap().unwrap().repository_id;
    world.service.journal().proofs(&id).unwrap()
}

#[test]
fn a_drill_proves_a_chain_and_leaves_nothing_but_the_proof() {
    let world = backed_up();
    let before = contents(&world.database);
    let operation = drill(&world, 100, "a");
    world.done(&operation);
    assert_eq!(operation.request.kind(), "drill");
    assert!(contents(&world.database) == before);
    let proven = proofs(&world);
    let chain = operation.request.backups();
    assert_eq!(proven.len(), 1);
    assert_eq!(proven[0].backup_id, *chain[1]);
    assert_eq!(proven[0].percent, 100);
    // The proof outlives the record of the operation, and the next one takes its place.
    world.service.forget(&operation.operation_id).unwrap();
    assert_eq!(proofs(&world), proven);
    world.done(&drill(&world, 10, "b"));
    let next = proofs(&world);
    assert_eq!((next.len(), next[0].percent), (1, 10));
}

#[test]
fn a_sample_is_a_part_of_the_rows_and_another_seed_takes_others() {
    let world = backed_up();
    let all = drill(&world, 100, "a").progress().rows_done;
    let mut rows: Vec<u64> = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .map(|seed| {
            let operation = drill(&world, 1, seed);
            world.done(&operation);
            operation.progress().rows_done
        })
        .collect();
    assert!(
        rows.iter().all(|rows| (1..all).contains(rows)),
        "{rows:?} of {all}"
    );
    rows.sort_unstable();
    rows.dedup();
    assert!(rows.len() > 1, "every sample has {rows:?} rows");
}

#[test]
fn a_drill_of_a_damaged_backup_fails_proves_nothing_and_is_rolled_back() {
    let world = backed_up();
    let before = contents(&world.database);
    let collection = world.directory.path().join("repository/collections/shop");
    let full = std::fs::read_dir(&collection)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut full = full.filter(|path| path.to_string_lossy().ends_with("_full"));
    let full = full.next().unwrap();
    let mut segments = std::fs::read_dir(full.join("orders")).unwrap();
    let segment = segments
        .find_map(|entry| {
            let path = entry.unwrap().path();
            (path.extension()? == "parquet").then_some(path)
        })
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let failed = drill(&world, 100, "a");
    assert_eq!(failed.state, State::Failed);
    world
        .service
        .command(&failed.operation_id, Command::Cancel(None))
        .unwrap();
    assert_eq!(world.drive(&failed.operation_id).state, State::Cancelled);
    assert!(contents(&world.database) == before);
    assert_eq!(proofs(&world), []);
    // Who tells others of ends hears of both.
    let ends = world.service.journal().ends_after(0, 100).unwrap();
    let states: Vec<&str> = ends
        .iter()
        .filter(|end| end.operation_id == failed.operation_id)
        .map(|end| end.state.as_str())
        .collect();
    assert_eq!(states, ["failed", "cancelled"]);
}
