//! An increment that lacks a change, or has one twice or altered, is found out when it is made.

use std::sync::{Arc, Mutex};

use mendb_model::change::Change;
use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::name::TablePath;
use mendb_model::operation::{Operation, State};
use mendb_model::{ChangeKind, Replaced, RowBlock, RowBlockBuilder, Value};
use mendb_repo::{Repository, RepositoryOptions};
use mendb_rowstore::WriteBatch;
use mendb_service::RowMendOrder;
use mendb_service::journal::command::Command;

use crate::faulty_store::{Fault, FaultyStore, Request};
use crate::meddled_engine::{Meddled, Meddler};
use crate::world::*;

/// What becomes of the second change of each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Lost,
    Doubled,
    /// It has the row of the one before; where all rows are alike, it erases.
    Altered,
    /// It sets a column of the row that it says it leaves.
    Partial,
    /// It says that it replaced nothing.
    Replaced,
    /// It does not say what it replaced.
    Untold,
}

/// What fails an increment.
const PLANTED: [Planted; 5] = [
    Planted::Lost,
    Planted::Doubled,
    Planted::Altered,
    Planted::Partial,
    Planted::Replaced,
];

/// An engine that loses, doubles and alters changes of a table or index, while that is wanted.
#[derive(Clone, Default)]
struct Careless(Arc<Mutex<Option<(TablePath, Planted)>>>);

impl Meddler for Careless {
    fn changed(&self, path: &TablePath, block: &RowBlock<&[u8]>) -> RowBlock {
        let mut out = RowBlockBuilder::new();
        let planted = self.0.lock().unwrap().clone();
        let planted = planted.filter(|(meant, _)| meant == path);
        let mut is_planted = false;
        let mut before: Option<Vec<u8>> = None;
        for (key, value) in block.iter() {
            let change = Change::decode(value).unwrap();
            let is_replacing = matches!(change.replaced, Replaced::Row(_));
            let is_fit = change.kind == ChangeKind::Reset && is_replacing;
            let row = change.row.clone();
            match planted {
                Some((_, planted)) if is_fit && !is_planted && before.is_some() => {
                    is_planted = true;
                    let replaced = change.replaced;
                    let wrong = match planted {
                        Planted::Lost => continue,
                        Planted::Doubled => {
                            out.push(key, value);
                            change
                        }
                        Planted::Altered => match before.clone().filter(|before| *before != row) {
                            Some(row) => Change { row, ..change },
                            None => Change {
                                replaced,
                                ..Change::erase(change.version)
                            },
                        },
                        Planted::Partial => Change {
                            kind: ChangeKind::Upsert,
                            ..change
                        },
                        Planted::Replaced => Change {
                            replaced: Replaced::Nothing,
                            ..change
                        },
                        Planted::Untold => Change {
                            replaced: Replaced::Unknown,
                            ..change
                        },
                    };
                    out.push(key, &wrong.encode());
                }
                _ => out.push(key, value),
            }
            if is_fit {
                before = Some(row);
            }
        }
        out.finish()
    }
}

fn careless_world() -> (World, Careless) {
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", directory.path().join("repository").display());
    let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
    let careless = Careless::default();
    let meddler = careless.clone();
    let wrap = |engine| Meddled::wrap(engine, meddler);
    let world = World::with(directory, repository, wrap, runtime);
    fill(&world, 200);
    (world, careless)
}

fn refused(world: &World, failed: &Operation, why: &str) {
    assert_eq!(failed.state, State::Failed, "{why}");
    let error = failed.error.clone().unwrap();
    assert!(
        error.contains("was not sealed") && error.contains("take a full backup"),
        "{why}: {error}"
    );
    let chain = world.service.chain("shop", None).unwrap();
    assert_eq!(chain.len(), 1, "{why}: nothing was sealed");
    world
        .service
        .command(&failed.operation_id, Command::Cancel(None))
        .unwrap();
    let cancelled = world.drive(&failed.operation_id);
    assert_eq!(cancelled.state, State::Cancelled, "{why}");
}

#[test]
fn a_change_that_a_stream_loses_doubles_or_alters_fails_the_increment() {
    let (world, careless) = careless_world();
    world.done(&world.backup(Full, "full"));
    // Rows are written again, so that changes of indexes with the same key replace rows too.
    write_orders(&world, 0..100, "second");
    world
        .database
        .split(&TablePath::table("orders"), &order_key(20))
        .unwrap();
    let paths = [
        TablePath::table("orders"),
        TablePath::index("orders", "by_customer"),
    ];
    // Prices change, so that covered columns do.
    edit(&world, 1);
    for path in &paths {
        for planted in PLANTED {
            *careless.0.lock().unwrap() = Some((path.clone(), planted));
            let failed = world.backup(Incremental, "wrong");
            refused(&world, &failed, &format!("{planted:?} in {path}"));
        }
    }
    // Nothing is lost with what a change does not say: the chain is folded to prove it.
    let [orders, _] = paths;
    *careless.0.lock().unwrap() = Some((orders, Planted::Untold));
    world.done(&world.backup(Incremental, "untold"));
    *careless.0.lock().unwrap() = None;
    edit(&world, 2);
    world.done(&world.backup(Incremental, "right"));
}

#[test]
fn the_increment_that_a_mend_takes_before_it_is_proved_like_others() {
    let (world, careless) = careless_world();
    world.done(&world.backup(Full, "full"));
    edit(&world, 1);
    let before = contents(&world.database);
    *careless.0.lock().unwrap() = Some((TablePath::table("orders"), Planted::Lost));
    let order = RowMendOrder {
        collection: "shop".into(),
        to: Some("full".into()),
        ..RowMendOrder::default()
    };
    let id = world.service.request_row_mend(&order).unwrap();
    let failed = world.drive(&id);
    refused(&world, &failed, "a mend");
    assert!(contents(&world.database) == before, "nothing was mended");
}

#[test]
fn a_segment_that_the_store_alters_before_the_seal_fails_the_increment() {
    let store = FaultyStore::default();
    let options = RepositoryOptions {
        request_timeout_ms: 200,
        ..options()
    };
    let below = Arc::new(store.clone());
    let repository = Repository::with_store(below, "".into(), "faulty:", options);
    let directory = tempfile::tempdir().unwrap();
    let world = World::with(directory, repository, |engine| engine, runtime());
    fill(&world, 200);
    world.done(&world.backup(Full, "full"));
    edit(&world, 1);
    let customers = world.table("customers");
    let mut batch = WriteBatch::new();
    batch
        .replace(&customers, vec![text("c07"), Value::Int(7)])
        .unwrap();
    world.database.write(batch).unwrap();
    for fault in [Fault::FlippedBit, Fault::CutBody] {
        // As often as what arrives damaged is read.
        store.fail(Request::Get, "_incremental/customers/0000-", fault, 3);
        let failed = world.backup(Incremental, "wrong");
        refused(&world, &failed, &format!("{fault:?}"));
        assert_eq!(store.waiting(), 0, "{fault:?}");
    }
    world.done(&world.backup(Incremental, "right"));
}
