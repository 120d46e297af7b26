//! Live tables are mended where they are: only what differs is written, readers see before or after, and
//! it can be taken back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use mendb_model::key::KeyRange;
use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::operation::{FindBy, MendedRows, Operation, Request, State, StepKind};
use mendb_model::part::OnConcurrentInsert;
use mendb_model::{ColumnType, Value};
use mendb_rowstore::{Direction, WriteBatch};
use mendb_service::{Error, RowMendOrder};
use proptest::prelude::*;

use crate::property::{Edit, edit, make, schema};
use crate::world::*;

fn to(backup: &str) -> RowMendOrder {
    RowMendOrder {
        collection: "shop".into(),
        to: Some(backup.into()),
        ..RowMendOrder::default()
    }
}

fn mend(world: &World, order: &RowMendOrder) -> Operation {
    let id = world.service.request_row_mend(order).unwrap();
    let operation = world.drive(&id);
    world.done(&operation);
    operation
}

fn undo(world: &World, operation: &Operation) -> Operation {
    let id = world
        .service
        .request_undo(&operation.operation_id, OnConcurrentInsert::Fail, false)
        .unwrap();
    let operation = world.drive(&id);
    world.done(&operation);
    operation
}

fn total(operation: &Operation) -> MendedRows {
    let mut total = MendedRows::default();
    for shard in &operation.mended {
        total += shard.rows;
    }
    total
}

fn find_by(operation: &Operation) -> &FindBy {
    match &operation.request {
        Request::MendRows(request) => &request.find_by,
        other => panic!("{} is no mend of rows", other.kind()),
    }
}

fn written(operation: &Operation) -> u64 {
    total(operation).upserted + total(operation).erased
}

#[test]
fn only_rows_that_differ_are_looked_at_and_written() {
    let world = World::new();
    fill(&world, 400);
    world.done(&world.backup(Full, "full"));
    write_orders(&world, 10..20, "increment");
    world.done(&world.backup(Incremental, "increment"));
    let before = contents(&world.database);
    // Shards begin at 0, 100 and 200.
    write_orders(&world, 50..60, "damage");
    write_orders(&world, 500..505, "damage");

    let preview = world.service.plan_row_mend(&to("increment")).unwrap();
    assert_eq!(contents_of_rows(&preview.total), (15, 10, 5, 0));
    let mended = mend(&world, &to("increment"));
    assert_eq!(contents(&world.database), before);
    assert!(matches!(find_by(&mended), FindBy::Changes { later } if later.is_empty()));
    assert_eq!(contents_of_rows(&total(&mended)), (15, 10, 5, 0));
    assert_eq!(preview.total.written_bytes, total(&mended).written_bytes);
    assert_eq!(preview.milliseconds, None);
    let measured = world.service.plan_row_mend(&to("increment")).unwrap();
    assert!(
        measured
            .milliseconds
            .is_some_and(|(least, most)| least <= most)
    );
    let untouched = mended
        .mended
        .iter()
        .find(|shard| shard.path.table == "orders" && shard.range.start == order_key(100));
    assert_eq!(untouched.unwrap().rows, MendedRows::default());

    let again = mend(&world, &to("increment"));
    assert_eq!(written(&again), 0);
    assert_eq!(contents(&world.database), before);
}

/// Rows read, upserted, erased and kept.
fn contents_of_rows(rows: &MendedRows) -> (u64, u64, u64, u64) {
    (rows.read, rows.upserted, rows.erased, rows.kept)
}

#[test]
fn an_undo_brings_the_state_before_back_and_can_be_undone() {
    let world = World::new();
    fill(&world, 200);
    world.done(&world.backup(Full, "full"));
    let good = contents(&world.database);
    edit_all(&world);
    let damaged = contents(&world.database);
    let mended = mend(&world, &to("full"));
    assert_eq!(contents(&world.database), good);
    let undone = undo(&world, &mended);
    assert_eq!(contents(&world.database), damaged);
    assert_eq!(undone.request.kind(), "undo");
    undo(&world, &undone);
    assert_eq!(contents(&world.database), good);
    // The chain went on, through the mends and their increments.
    edit_all(&world);
    world.done(&world.backup(Incremental, "after"));
    let after = contents(&world.database);
    for (label, state) in [("full", &good), ("after", &after)] {
        world.drop_tables();
        world.done(&world.restore(label));
        assert_eq!(&contents(&world.database), state, "{label}");
    }
}

fn edit_all(world: &World) {
    crate::world::edit(world, 1);
    write_orders(world, 30..35, "late");
}

#[test]
fn a_table_that_was_created_anew_is_mended_by_digests() {
    let world = World::new();
    fill(&world, 200);
    world.done(&world.backup(Full, "full"));
    let good = contents(&world.database);
    orders_anew(&world);
    let mended = mend(&world, &to("full"));
    assert_eq!(contents(&world.database), good);
    assert!(matches!(find_by(&mended), FindBy::Digests { .. }));
    // The first shard is as it was: nothing of it is read from the repository.
    let first = mended
        .mended
        .iter()
        .find(|shard| shard.path.table == "orders" && shard.range.start.is_empty());
    let first = first.unwrap().rows;
    assert_eq!(
        (first.upserted, first.erased, first.fetched_bytes),
        (0, 0, 0)
    );
    assert_eq!(contents_of_rows(&total(&mended)).1, 100);
    assert_eq!(contents_of_rows(&total(&mended)).2, 30);
}

#[test]
fn a_table_that_was_dropped_is_created_and_one_that_came_since_is_left_alone() {
    let world = World::new();
    fill(&world, 200);
    world.done(&world.backup(Full, "full"));
    let good = contents(&world.database);
    world.database.drop_table("customers").unwrap();
    write_orders(&world, 0..5, "damage");
    world
        .database
        .create_table("other", customers_schema(), Vec::new())
        .unwrap();
    let mended = mend(&world, &to("full"));
    let mut now = contents(&world.database);
    assert!(now.remove("other").is_some());
    assert_eq!(now, good);
    // What it created stays when it is undone.
    undo(&world, &mended);
    assert!(world.database.tables().contains(&"customers".to_owned()));
}

#[test]
fn readers_see_two_tables_as_before_or_as_after_and_writers_are_told() {
    let world = World::new();
    fill(&world, 4000);
    world.done(&world.backup(Full, "full"));
    // In either state both tables say the same about it.
    let mark = |note: &str, balance: i64| {
        write_orders(&world, 0..4000, note);
        let customers = world.table("customers");
        let mut batch = WriteBatch::new();
        for customer in 0..20 {
            let row = vec![text(&format!("c{customer:02}")), Value::Int(balance)];
            batch.replace(&customers, row).unwrap();
        }
        world.database.write(batch).unwrap();
    };
    mark("damage", 7);
    let done = AtomicBool::new(false);
    let (looks, mut refusals) = (AtomicU64::new(0), 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let snapshot = world.database.snapshot().unwrap();
                let (Ok(orders), Ok(customers)) = (
                    snapshot.open_table("orders"),
                    snapshot.open_table("customers"),
                ) else {
                    continue;
                };
                let all = KeyRange::all();
                let notes = snapshot
                    .scan(&orders, all.clone(), Direction::Ascending)
                    .unwrap();
                let mut states: BTreeMap<String, u64> = BTreeMap::new();
                for row in notes {
                    *states.entry(format!("{:?}", row.unwrap()[3])).or_default() += 1;
                }
                for row in snapshot
                    .scan(&customers, all, Direction::Ascending)
                    .unwrap()
                {
                    let state = match row.unwrap()[1] {
                        Value::Int(100) => text("first"),
                        _ => text("damage"),
                    };
                    *states.entry(format!("{state:?}")).or_default() += 1;
                }
                assert_eq!(states.len(), 1, "a mixture: {states:?}");
                looks.fetch_add(1, Ordering::SeqCst);
            }
        });
        let id = world.service.request_row_mend(&to("full")).unwrap();
        let mut write = |operation: &Operation| {
            if operation.step_kind() != StepKind::Stage || operation.state == State::Applying {
                return;
            }
            let customers = world.table("customers");
            let mut batch = WriteBatch::new();
            let row = vec![text("c00"), Value::Int(7)];
            batch.replace(&customers, row).unwrap();
            let refused = world.database.write(batch).unwrap_err();
            assert!(refused.to_string().contains(id.as_str()), "{refused}");
            refusals += 1;
        };
        world.service.drive(&mut write).unwrap();
        done.store(true, Ordering::SeqCst);
        world.done(&world.service.journal().operation(&id).unwrap());
    });
    assert!(looks.load(Ordering::SeqCst) > 0 && refusals > 0);
}

#[test]
fn columns_that_came_since_are_told_and_become_null_where_that_is_accepted() {
    let world = World::new();
    fill(&world, 50);
    world.done(&world.backup(Full, "full"));
    let rows = |world: &World| contents(&world.database)["orders"].clone();
    world
        .database
        .add_column("orders", column("extra", ColumnType::Int64))
        .unwrap();
    let good = rows(&world);
    let orders = world.table("orders");
    let mut batch = WriteBatch::new();
    batch
        .upsert(&orders, vec![(0, Value::Int(3)), (4, Value::Int(9))])
        .unwrap();
    world.database.write(batch).unwrap();
    let refused = world.service.request_row_mend(&to("full")).unwrap_err();
    assert!(refused.to_string().contains("extra"), "{refused}");
    let order = RowMendOrder {
        accept_schema: true,
        ..to("full")
    };
    let mended = mend(&world, &order);
    assert_eq!(written(&mended), 1);
    assert_eq!(rows(&world), good);
}

#[test]
fn only_the_keys_of_a_range_are_mended() {
    for by_digests in [false, true] {
        let world = World::new();
        fill(&world, 400);
        world.done(&world.backup(Full, "full"));
        if by_digests {
            // Another chain: changes since the first are not known any more.
            world.done(&world.backup(Full, "another"));
        }
        let good = contents(&world.database)["orders"].clone();
        write_orders(&world, 90..110, "damage");
        write_orders(&world, 500..510, "damage");
        let damaged = contents(&world.database)["orders"].clone();
        // Across the border of two shards.
        let range = KeyRange {
            start: order_key(95),
            end: Some(order_key(105)),
        };
        let order = RowMendOrder {
            ranges: BTreeMap::from([("orders".to_owned(), range.clone())]),
            ..to("full")
        };
        let plan = world.service.plan_row_mend(&order).unwrap();
        let mended = mend(&world, &order);
        let is_by_digests = matches!(find_by(&mended), FindBy::Digests { .. });
        assert_eq!(is_by_digests, by_digests);
        assert_eq!(written(&mended), 10);
        assert_eq!(
            contents_of_rows(&plan.total),
            contents_of_rows(&total(&mended))
        );
        let now = contents(&world.database)["orders"].clone();
        let within = |rows: &[(Vec<u8>, Vec<u8>)], inside: bool| {
            let rows = rows.iter().filter(|(key, _)| range.contains(key) == inside);
            rows.cloned().collect::<Vec<_>>()
        };
        assert_eq!(within(&now, true), within(&good, true));
        assert_eq!(within(&now, false), within(&damaged, false));
        // What somebody writes elsewhere since is not of the mend, and stays when it is undone.
        write_orders(&world, 200..201, "since");
        let since = contents(&world.database)["orders"].clone();
        undo(&world, &mended);
        let undone = contents(&world.database)["orders"].clone();
        assert_eq!(within(&undone, true), within(&damaged, true));
        assert_eq!(within(&undone, false), within(&since, false));
    }
}

#[test]
fn a_plan_is_carried_out_or_says_which_keys_drifted() {
    let world = World::new();
    fill(&world, 400);
    world.done(&world.backup(Full, "full"));
    let good = contents(&world.database);
    write_orders(&world, 5..9, "damage");
    let plan = world.service.plan_row_mend(&to("full")).unwrap();
    assert_eq!(world.service.drift_of(&to("full"), &plan).unwrap(), []);
    write_orders(&world, 150..151, "somebody");
    let drift = world.service.drift_of(&to("full"), &plan).unwrap();
    assert_eq!(drift.len(), 1);
    assert_eq!((&*drift[0].table, &*drift[0].keys), ("orders", "150"));
    // One who comes in between is noticed too, and nothing was done.
    let id = world
        .service
        .request_planned_row_mend(&to("full"), &plan)
        .unwrap();
    let damaged = contents(&world.database);
    let operation = world.drive(&id);
    assert_eq!(operation.state, State::Failed);
    assert_eq!(contents(&world.database), damaged);
    world
        .service
        .command(&id, mendb_service::journal::command::Command::Cancel(None))
        .unwrap();
    assert_eq!(world.drive(&id).state, State::Cancelled);

    let plan = world.service.plan_row_mend(&to("full")).unwrap();
    let id = world
        .service
        .request_planned_row_mend(&to("full"), &plan)
        .unwrap();
    let operation = world.drive(&id);
    world.done(&operation);
    assert_eq!(
        contents_of_rows(&total(&operation)),
        contents_of_rows(&plan.total)
    );
    assert_eq!(contents(&world.database), good);
}

#[test]
fn a_schema_that_is_another_is_refused_with_the_difference() {
    let world = World::new();
    fill(&world, 20);
    world.done(&world.backup(Full, "full"));
    world.database.drop_table("customers").unwrap();
    let mut other = customers_schema();
    other.columns[1].column_type = ColumnType::Utf8;
    world
        .database
        .create_table("customers", other, Vec::new())
        .unwrap();
    let refused = world.service.request_row_mend(&to("full")).unwrap_err();
    let Error::Refused { message, .. } = &refused else {
        panic!("{refused}");
    };
    assert!(
        message.contains("customers") && message.contains("balance"),
        "{message}"
    );
}

type Scenario = (
    mendb_model::TableSchema,
    Vec<Vec<Edit>>,
    Vec<(usize, Vec<Edit>)>,
);

/// A schema, the edits before each backup, and the edits before each mend with the backup it goes to.
fn scenario() -> impl Strategy<Value = Scenario> {
    schema().prop_flat_map(|schema| {
        let edits = || proptest::collection::vec(edit(&schema), 0..20);
        let rounds = proptest::collection::vec(edits(), 1..4);
        let mends = proptest::collection::vec((any::<usize>(), edits()), 1..4);
        (Just(schema.clone()), rounds, mends)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_a_mend_brings_back_what_a_restore_would((schema, rounds, mends) in scenario()) {
        let world = World::new();
        world.database.create_table("orders", schema, Vec::new()).unwrap();
        world.service.create_collection("shop", &["orders".into()]).unwrap();
        let mut states = Vec::new();
        for (at, edits) in rounds.into_iter().enumerate() {
            make(&world, edits);
            let kind = if at == 0 { Full } else { Incremental };
            world.done(&world.backup(kind, &format!("b{at}")));
            states.push(contents(&world.database));
        }
        for (which, damage) in mends {
            let at = which % states.len();
            make(&world, damage);
            let damaged = contents(&world.database);
            let plan = world.service.plan_row_mend(&to(&format!("b{at}"))).unwrap();
            let mended = mend(&world, &to(&format!("b{at}")));
            prop_assert_eq!(&contents(&world.database), &states[at]);
            prop_assert_eq!(contents_of_rows(&plan.total), contents_of_rows(&total(&mended)));
            prop_assert_eq!(written(&mend(&world, &to(&format!("b{at}")))), 0);
            undo(&world, &mended);
            prop_assert_eq!(&contents(&world.database), &damaged);
        }
        for (at, state) in states.iter().enumerate() {
            world.drop_tables();
            world.done(&world.restore(&format!("b{at}")));
            prop_assert_eq!(&contents(&world.database), state);
        }
    }
}
