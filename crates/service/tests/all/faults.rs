//! An object store that fails: what passes is healed, what does not fails by name and can be resumed.

use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::operation::{Operation, RestoreStrategy, State};
use mendb_model::{ColumnType, TableSchema, Value};
use mendb_repo::{Repository, RepositoryOptions};
use mendb_rowstore::{PathState, WriteBatch};
use mendb_service::journal::command::Command;
use mendb_service::{BackupOrder, RestoreOrder};

use crate::faulty_store::{Fault, FaultyStore, Request};
use crate::world::*;

fn faulty() -> (World, FaultyStore) {
    let store = FaultyStore::default();
    let options = RepositoryOptions {
        request_timeout_ms: 200,
        ..options()
    };
    let below = std::sync::Arc::new(store.clone());
    let repository = Repository::with_store(below, "".into(), "faulty:", options);
    let world = World::with(
        tempfile::tempdir().unwrap(),
        repository,
        |engine| engine,
        runtime(),
    );
    fill(&world, 300);
    (world, store)
}

fn resume(world: &World, failed: &Operation) {
    world
        .service
        .command(&failed.operation_id, Command::Resume(None))
        .unwrap();
    world.done(&world.drive(&failed.operation_id));
}

#[test]
fn faults_that_pass_are_healed() {
    let (world, store) = faulty();
    let spoil = |faults: &[(Request, &str, Fault, u32)]| {
        for (request, object, fault, times) in faults {
            store.fail(*request, object, *fault, *times);
        }
    };
    // More often than the repository asks in one go: the machine asks again.
    spoil(&[
        (Request::Put, "orders/0000-", Fault::Unavailable, 7),
        (Request::Put, "orders/0001-", Fault::AnswerLost, 2),
        (Request::Put, "customers/", Fault::Silence, 1),
        (Request::Put, "manifest.json", Fault::AnswerLost, 1),
        (Request::List, "", Fault::Unavailable, 2),
    ]);
    world.done(&world.backup(Full, "full"));
    edit(&world, 1);
    let before = contents(&world.database);
    world.done(&world.backup(Incremental, "increment"));
    world.drop_tables();
    spoil(&[
        (Request::Get, "orders/0000-", Fault::FlippedBit, 2),
        (Request::Get, "orders/0001-", Fault::CutBody, 2),
        (Request::Get, "orders/by_price/0000-", Fault::Unavailable, 8),
        (Request::Get, "customers/", Fault::Silence, 1),
        (Request::Get, "manifest.json", Fault::Unavailable, 2),
    ]);
    world.done(&world.restore("increment"));
    assert_eq!(store.waiting(), 0, "every fault happened");
    assert_eq!(contents(&world.database), before);
}

#[test]
fn a_store_that_refuses_fails_the_operation_by_the_objects_name() {
    let (world, store) = faulty();
    store.fail(Request::Put, "orders/0001-", Fault::Denied, 1);
    let failed = world.backup(Full, "full");
    assert_eq!(failed.state, State::Failed);
    let error = failed.error.clone().unwrap();
    assert!(
        error.contains("/orders/0001-") && error.contains("403"),
        "{error}"
    );
    resume(&world, &failed);
    let before = contents(&world.database);
    world.drop_tables();
    store.fail(Request::Get, "customers/0000-", Fault::Denied, 1);
    let failed = world.restore("full");
    assert_eq!(failed.state, State::Failed);
    let error = failed.error.clone().unwrap();
    assert!(error.contains("/customers/0000-"), "{error}");
    resume(&world, &failed);
    assert_eq!(contents(&world.database), before);
}

#[test]
fn a_full_disk_of_the_repository_fails_the_backup_until_there_is_space() {
    let (world, store) = faulty();
    store.fail(Request::Put, "orders/", Fault::DiskFull, 1);
    let failed = world.backup(Full, "full");
    assert_eq!(failed.state, State::Failed);
    let error = failed.error.clone().unwrap();
    assert!(
        error.contains("no space left") && error.contains("orders/"),
        "{error}"
    );
    resume(&world, &failed);
}

#[test]
fn a_backup_takes_the_place_of_one_that_failed() {
    let (world, store) = faulty();
    store.fail(Request::Put, "orders/", Fault::Denied, 1);
    let failed = world.backup(Full, "first");
    assert_eq!(failed.state, State::Failed);
    let refused = world.order(Full, "second").unwrap_err();
    assert!(
        matches!(refused, mendb_service::Error::BackupFailed { .. }),
        "{refused}"
    );
    world
        .service
        .command(&failed.operation_id, Command::Cancel(None))
        .unwrap();
    assert_eq!(world.drive(&failed.operation_id).state, State::Cancelled);
    world.done(&world.backup(Full, "second"));
    let first = world
        .service
        .journal()
        .operation(&failed.operation_id)
        .unwrap();
    assert_eq!(first.state, State::Cancelled);
    assert_eq!(
        world.database.streams("orders").unwrap().len(),
        1,
        "the failed one left no stream"
    );
    edit(&world, 1);
    world.done(&world.backup(Incremental, "third"));
}

#[test]
fn a_repository_that_deletes_nothing_neither_fails_a_backup_nor_keeps_tables_locked() {
    let (world, store) = faulty();
    store.fail(Request::Put, "orders/0001-", Fault::AnswerLost, 4);
    store.fail(Request::Delete, "", Fault::Denied, 50);
    world.done(&world.backup(Full, "full"));
    // By the time the manifest is put all segments are there.
    store.fail(Request::Put, "manifest.json", Fault::Denied, 1);
    let failed = world.backup(Full, "second");
    world
        .service
        .command(&failed.operation_id, Command::Cancel(None))
        .unwrap();
    let stuck = world.drive(&failed.operation_id);
    assert_eq!(
        stuck.state,
        State::Failed,
        "what is left in the repository is said"
    );
    assert!(
        world
            .database
            .locks()
            .iter()
            .all(|(_, state)| *state == PathState::Ready)
    );
    assert_eq!(
        world.database.streams("orders").unwrap().len(),
        1,
        "only that of the good backup"
    );
    edit(&world, 1);
    world.done(&world.backup(Incremental, "third"));
    world.service.forget(&failed.operation_id).unwrap();
}

#[test]
fn a_backup_that_is_cancelled_leaves_the_chain_as_it_was() {
    let (world, store) = faulty();
    world.done(&world.backup(Full, "full"));
    edit(&world, 1);
    store.fail(Request::Put, "orders/0001-", Fault::Denied, 1);
    let failed = world.backup(Incremental, "cancelled");
    assert_eq!(failed.state, State::Failed);
    world
        .service
        .command(&failed.operation_id, Command::Cancel(None))
        .unwrap();
    assert_eq!(world.drive(&failed.operation_id).state, State::Cancelled);
    edit(&world, 2);
    let before = contents(&world.database);
    world.done(&world.backup(Incremental, "increment"));
    let chain = world.service.chain("shop", Some("increment")).unwrap();
    assert_eq!(chain.len(), 2);
    world.drop_tables();
    world.done(&world.restore("increment"));
    assert_eq!(contents(&world.database), before);
}

#[test]
fn a_seal_that_hangs_is_not_taken_for_lost() {
    let (world, store) = faulty();
    store.fail(Request::Put, "manifest.json", Fault::Silence, 2);
    let done = world.backup(Full, "full");
    world.done(&done);
    assert_eq!(
        done.tasks[0].attempt,
        done.attempt_floor + 1,
        "one attempt was enough"
    );
}

#[test]
fn a_merged_restore_that_failed_goes_on_behind_the_last_batch() {
    let (world, store) = faulty();
    let schema = TableSchema {
        columns: vec![
            column("id", ColumnType::Int64),
            column("content", ColumnType::Utf8),
        ],
        key: vec!["id".into()],
        indexes: Vec::new(),
    };
    world
        .database
        .create_table("pages", schema, Vec::new())
        .unwrap();
    world
        .service
        .create_collection("book", &["pages".into()])
        .unwrap();
    let row = |id: i64| vec![Value::Int(id), text(&"word ".repeat(300_000))];
    let back_up = |kind, ids: std::ops::Range<i64>| {
        let pages = world.table("pages");
        for id in ids {
            let mut batch = WriteBatch::new();
            batch.replace(&pages, row(id)).unwrap();
            world.database.write(batch).unwrap();
        }
        let id = world.service.request_backup(&BackupOrder {
            new_repository: false,
            compare_rows: false,
            changes: None,
            collection: "book".into(),
            kind,
            label: None,
        });
        world.done(&world.drive(&id.unwrap()));
    };
    // More than one batch of the load, where the last of it is in the increment alone.
    back_up(Full, 0..30);
    back_up(Incremental, 30..40);
    let before = contents(&world.database);
    world.drop_tables();
    store.fail(Request::Get, "_incremental/pages/", Fault::Denied, 1);
    let restore = world.service.request_restore(&RestoreOrder {
        collection: "book".into(),
        strategy: RestoreStrategy::Merged,
        ..RestoreOrder::default()
    });
    let failed = world.drive(&restore.unwrap());
    assert_eq!(failed.state, State::Failed);
    let done = failed.tasks[0].rows;
    assert!((1..40).contains(&done), "{done} rows were in");
    resume(&world, &failed);
    assert_eq!(contents(&world.database)["pages"], before["pages"]);
}
