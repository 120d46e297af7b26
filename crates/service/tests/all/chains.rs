//! Chains that are read at once, and chains that were folded, hold what restoring step by step gives.

use std::sync::Arc;

use crate::world::*;
use mendb_model::BackupId;
use mendb_model::key::KeyRange;
use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::operation::RestoreStrategy;

/// What the repository holds of every table and index at a backup, read as one.
fn merged(world: &World, label: &str) -> Contents {
    let repository = world.service.repository();
    let chain = world.service.chain("shop", Some(label)).unwrap();
    let chain: Vec<_> = chain
        .into_iter()
        .map(|stored| Arc::new(stored.manifest))
        .collect();
    let mut contents = Contents::new();
    for (path, _) in chain[chain.len() - 1].sharded_tables() {
        let all = KeyRange::all();
        let reader = repository.read_chain(&chain, &path, &all, None);
        let mut reader = runtime().block_on(reader).unwrap();
        let rows = contents.entry(path.to_string()).or_default();
        while let Some(block) = runtime().block_on(reader.next()).unwrap() {
            rows.extend(block.iter().map(|(key, row)| (key.to_vec(), row.to_vec())));
        }
    }
    contents
}

fn id(world: &World, label: &str) -> BackupId {
    let chain = world.service.chain("shop", Some(label)).unwrap();
    chain[chain.len() - 1].manifest.backup_id.clone()
}

#[test]
fn folded_chains_restore_as_before_and_take_further_increments() {
    let world = World::new();
    fill(&world, 400);
    let mut states = Vec::new();
    world.done(&world.backup(Full, "b0"));
    states.push(contents(&world.database));
    for round in 1..=4 {
        edit(&world, round);
        states.push(contents(&world.database));
        world.done(&world.backup(Incremental, &format!("b{round}")));
    }
    for (at, state) in states.iter().enumerate() {
        assert_eq!(
            merged(&world, &format!("b{at}")),
            *state,
            "b{at} read as one"
        );
    }
    let fold = |first: &str, last: &str, writer: &str| {
        let (first, last) = (id(&world, first), id(&world, last));
        let repository = world.service.repository();
        let folded = runtime().block_on(repository.compact("shop", &first, &last, writer));
        folded.unwrap()
    };
    fold("b1", "b2", "first-fold");
    edit(&world, 5);
    states.push(contents(&world.database));
    world.done(&world.backup(Incremental, "b5"));
    fold("b0", "b3", "second-fold");

    for at in [3, 4, 5] {
        let label = format!("b{at}");
        assert_eq!(merged(&world, &label), states[at], "{label} read as one");
        for strategy in [RestoreStrategy::Sequential, RestoreStrategy::Merged] {
            world.drop_tables();
            world.done(&world.restore_by(&label, strategy));
            let restored = contents(&world.database);
            assert_eq!(restored, states[at], "{label} restored {strategy:?}");
        }
    }
    for gone in ["b0", "b1", "b2"] {
        world
            .service
            .request_restore(&restore_order(gone))
            .unwrap_err();
    }
}
