//! Targets and repositories that are not the ones an operation knows.

use std::path::Path;
use std::sync::Arc;

use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::operation::State;
use mendb_model::{RowBlock, RowBlockBuilder};
use mendb_repo::Repository;

use crate::meddled_engine::{Meddled, Meddler};
use crate::world::*;

fn world_on(repository: &Path) -> World {
    let runtime = runtime();
    let url = format!("file://{}", repository.display());
    let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
    World::with(
        tempfile::tempdir().unwrap(),
        repository,
        |engine| engine,
        runtime,
    )
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_target_that_was_set_back_takes_no_increment() {
    let repository = tempfile::tempdir().unwrap();
    let world = world_on(repository.path());
    fill(&world, 100);
    world.done(&world.backup(Full, "full"));
    edit(&world, 1);
    let earlier = tempfile::tempdir().unwrap();
    copy(world.directory.path(), earlier.path());
    world.done(&world.backup(Incremental, "increment"));
    drop(world);
    let runtime = runtime();
    let url = format!("file://{}", repository.path().display());
    let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
    let set_back = World::with(earlier, repository, |engine| engine, runtime);
    edit(&set_back, 2);
    let refusal = set_back
        .order(Incremental, "wrong")
        .unwrap_err()
        .to_string();
    assert!(
        refusal.contains("set back to an earlier state"),
        "{refusal}"
    );
    set_back.done(&set_back.backup(Full, "right"));
}

#[test]
fn two_targets_with_one_collection_name_do_not_touch_each_others_backups() {
    let repository = tempfile::tempdir().unwrap();
    let (one, other) = (world_on(repository.path()), world_on(repository.path()));
    fill(&one, 100);
    fill(&other, 60);
    // Both get their ids before either exists.
    let first = one.order(Full, "one").unwrap();
    let second = other.order(Full, "other").unwrap();
    let (first, second) = (one.drive(&first), other.drive(&second));
    one.done(&first);
    other.done(&second);
    let before = contents(&one.database);
    one.drop_tables();
    one.done(&one.restore("one"));
    assert_eq!(contents(&one.database), before);
}

#[test]
fn an_operation_is_left_alone_when_another_repository_is_named() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let world = world_on(ours.path());
    fill(&world, 100);
    let id = world.order(Full, "b").unwrap();
    let World {
        directory,
        database,
        service,
    } = world;
    drop((database, service));
    let runtime = runtime();
    let open = |at: &Path| {
        let url = format!("file://{}", at.display());
        runtime.block_on(Repository::open(&url, options())).unwrap()
    };
    runtime
        .block_on(open(theirs.path()).create_if_absent())
        .unwrap();
    let stranger = World::with(
        directory,
        open(theirs.path()),
        |engine| engine,
        Arc::clone(&runtime),
    );
    assert_eq!(stranger.drive(&id).state, State::Allocating);
    let refusal = stranger
        .service
        .check_repository(&id)
        .unwrap_err()
        .to_string();
    assert!(
        refusal.contains(&ours.path().display().to_string()),
        "{refusal}"
    );
    let World {
        directory,
        database,
        service,
    } = stranger;
    drop((database, service));
    let world = World::with(directory, open(ours.path()), |engine| engine, runtime);
    world.done(&world.drive(&id));
}

/// Loses the first row of each block that is read.
struct Forgetful;

impl Meddler for Forgetful {
    fn read(&self, block: &RowBlock<&[u8]>) -> RowBlock {
        let mut rest = RowBlockBuilder::new();
        block
            .iter()
            .skip(1)
            .for_each(|(key, value)| rest.push(key, value));
        rest.finish()
    }
}

#[test]
fn a_store_that_loses_a_row_while_it_is_read_fails_the_full_backup() {
    let repository = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let url = format!("file://{}", repository.path().display());
    let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
    let wrap = |engine| Meddled::wrap(engine, Forgetful);
    let world = World::with(tempfile::tempdir().unwrap(), repository, wrap, runtime);
    fill(&world, 100);
    let failed = world.backup(Full, "full");
    assert_eq!(failed.state, State::Failed);
    let error = failed.head.error.unwrap();
    assert!(error.contains("are not those it holds"), "{error}");
}

#[test]
fn one_damaged_manifest_does_not_stop_a_collection() {
    let repository = tempfile::tempdir().unwrap();
    let world = world_on(repository.path());
    fill(&world, 100);
    let old = world.backup(Full, "old");
    world.done(&old);
    world.done(&world.backup(Full, "full"));
    edit(&world, 1);
    let directory = std::fs::read_dir(repository.path().join("collections/shop")).unwrap();
    let oldest = directory.map(|entry| entry.unwrap().path()).min().unwrap();
    std::fs::write(oldest.join("manifest.json"), "damaged").unwrap();
    world.done(&world.backup(Incremental, "increment"));
    let before = contents(&world.database);
    world.drop_tables();
    world.done(&world.restore("increment"));
    assert_eq!(contents(&world.database), before);
    world.done(&world.backup(Full, "again"));
    let refusal = world
        .service
        .chain("shop", Some(oldest.file_name().unwrap().to_str().unwrap()));
    assert!(refusal.unwrap_err().to_string().contains("manifest.json"));
}
