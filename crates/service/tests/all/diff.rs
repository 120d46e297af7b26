//! A diff finds what differs, all of it and nothing else, whichever way it goes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use mendb_engines::row::RowEngine;
use mendb_engines::{Engine, HiddenTable, RowSource, RowStore};
use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::{Change, ColumnType, RowBlockBuilder, TableSchema, Value};
use mendb_rowstore::WriteBatch;
use mendb_service::{
    DiffMethod, DiffOrder, DiffReport, RestorePoint, RowDiff, RowsDiffer, TableDiff,
};
use proptest::prelude::*;

use crate::property::{Edit, make, schema};
use crate::world::*;

fn point(backup: &str) -> RestorePoint {
    RestorePoint {
        collection: "shop".into(),
        backup: Some(backup.into()),
    }
}

fn order(before: &str, after: Option<&str>) -> DiffOrder {
    DiffOrder {
        before: point(before),
        after: after.map(point),
        tables: None,
        if_exists: false,
    }
}

/// What a key of a table has before and after.
type Rows = BTreeMap<(String, Vec<u8>), (Option<Vec<u8>>, Option<Vec<u8>>)>;

/// The report of a diff, its rows, and how many rows were read for it.
fn diff(world: &World, order: &DiffOrder) -> (DiffReport, Rows, u64) {
    let mut rows = Rows::new();
    let mut last: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut looked_at = 0;
    let report = world.service.diff(
        order,
        &mut |row| {
            let last = last.insert(row.table.to_owned(), row.key.to_vec());
            assert!(last.as_deref() < Some(row.key), "keys ascend");
            let found = (
                row.before.map(<[u8]>::to_vec),
                row.after.map(<[u8]>::to_vec),
            );
            rows.insert((row.table.to_owned(), row.key.to_vec()), found);
            ControlFlow::Continue(())
        },
        &mut |more| {
            looked_at += more;
            ControlFlow::Continue(())
        },
    );
    (report.unwrap().unwrap(), rows, looked_at)
}

/// The difference of two states that were recorded, of tables and not of their indexes.
fn difference(before: &Contents, after: &Contents) -> Rows {
    let mut rows = Rows::new();
    let tables = |contents: &'_ Contents| -> Contents {
        let tables = contents.iter().filter(|(path, _)| !path.contains('/'));
        tables
            .map(|(path, rows)| (path.clone(), rows.clone()))
            .collect()
    };
    for (table, of_table) in tables(before) {
        for (key, row) in of_table {
            rows.entry((table.clone(), key)).or_default().0 = Some(row);
        }
    }
    for (table, of_table) in tables(after) {
        for (key, row) in of_table {
            rows.entry((table.clone(), key)).or_default().1 = Some(row);
        }
    }
    rows.retain(|_, (before, after)| before != after);
    rows
}

fn counts(rows: &Rows, table: &str) -> RowsDiffer {
    let mut counts = RowsDiffer::default();
    for (_, found) in rows.iter().filter(|((of, _), _)| of == table) {
        match found {
            (None, _) => counts.added += 1,
            (_, None) => counts.removed += 1,
            _ => counts.changed += 1,
        }
    }
    counts
}

/// Compares and expects just this difference; tells how the rows of each table were found.
fn expect(
    world: &World,
    order: &DiffOrder,
    before: &Contents,
    after: &Contents,
) -> Vec<DiffMethod> {
    let (report, found, _) = diff(world, order);
    let expected = difference(before, after);
    assert_eq!(found, expected, "{order:?}");
    assert_eq!(report.is_equal(), expected.is_empty());
    for table in &report.tables {
        assert_eq!(table.rows, Some(counts(&expected, &table.table)));
        assert_eq!(table.rows_before, Some(before[&table.table].len() as u64));
        assert_eq!(table.rows_after, Some(after[&table.table].len() as u64));
    }
    let methods = report.tables.into_iter();
    methods.map(|table| table.method.unwrap()).collect()
}

fn is_by_changes(method: &DiffMethod) -> bool {
    matches!(method, DiffMethod::Changes { .. })
}

#[test]
fn only_keys_that_changed_are_looked_at() {
    let world = World::new();
    fill(&world, 400);
    world.done(&world.backup(Full, "full"));
    let full = contents(&world.database);
    write_orders(&world, 10..20, "increment");
    world.done(&world.backup(Incremental, "increment"));
    let increment = contents(&world.database);
    write_orders(&world, 50..60, "now");
    // Written, and the same as before.
    write_orders(&world, 15..17, "increment");
    let now = contents(&world.database);

    let (report, rows, read) = diff(&world, &order("full", None));
    assert_eq!((rows, read), (difference(&full, &now), 20));
    assert_eq!(report.tables[0].rows.unwrap().changed, 20);
    let methods = expect(&world, &order("full", Some("increment")), &full, &increment);
    assert!(
        matches!(&methods[0], DiffMethod::Changes { increments, live: false } if increments.len() == 1)
    );
    expect(&world, &order("increment", Some("full")), &increment, &full);
    let methods = expect(&world, &order("increment", None), &increment, &now);
    assert!(
        matches!(&methods[0], DiffMethod::Changes { increments, live: true } if increments.is_empty())
    );
    let (report, _, read) = diff(&world, &order("full", Some("full")));
    assert!(report.is_equal() && read == 0);
}

#[test]
fn across_chains_only_key_ranges_that_differ_are_read() {
    let world = World::new();
    fill(&world, 400);
    world.done(&world.backup(Full, "monday"));
    let monday = contents(&world.database);
    // Shards begin at 0, 100 and 200.
    write_orders(&world, 120..125, "changed");
    world.done(&world.backup(Full, "tuesday"));
    let tuesday = contents(&world.database);
    let methods = expect(&world, &order("monday", Some("tuesday")), &monday, &tuesday);
    assert!(!is_by_changes(&methods[0]), "{methods:?}");
    assert_eq!(diff(&world, &order("monday", Some("tuesday"))).2, 100);
    // The stream of the first chain went with it.
    write_orders(&world, 500..503, "new");
    let now = contents(&world.database);
    let methods = expect(&world, &order("monday", None), &monday, &now);
    assert!(!is_by_changes(&methods[0]), "{methods:?}");
    let methods = expect(&world, &order("tuesday", None), &tuesday, &now);
    assert!(is_by_changes(&methods[0]), "{methods:?}");
}

#[test]
fn a_table_that_was_created_anew_is_read_and_the_others_are_not() {
    let world = World::new();
    fill(&world, 200);
    world.done(&world.backup(Full, "full"));
    let full = contents(&world.database);
    orders_anew(&world);
    let now = contents(&world.database);
    let methods = expect(&world, &order("full", None), &full, &now);
    assert!(
        !is_by_changes(&methods[0]) && is_by_changes(&methods[1]),
        "{methods:?}"
    );
}

fn refusal(world: &World, order: &DiffOrder) -> String {
    let sink = &mut |_: &RowDiff<'_>| ControlFlow::Continue(());
    let refused = world
        .service
        .diff(order, sink, &mut |_| ControlFlow::Continue(()));
    refused.unwrap_err().to_string()
}

fn of<'r>(report: &'r DiffReport, table: &str) -> &'r TableDiff {
    let mut tables = report.tables.iter();
    tables.find(|diff| diff.table == table).unwrap()
}

#[test]
fn tables_that_only_one_has_and_schemas_that_differ_are_named() {
    let world = World::new();
    fill(&world, 50);
    world.done(&world.backup(Full, "full"));
    let before = contents(&world.database);
    world.database.drop_table("customers").unwrap();
    world
        .database
        .add_column("orders", column("extra", ColumnType::Int64))
        .unwrap();
    let (report, rows, _) = diff(&world, &order("full", None));
    let customers = of(&report, "customers");
    assert_eq!(
        (customers.rows_before, customers.rows_after),
        (Some(20), None)
    );
    assert!(customers.rows.is_none() && rows.is_empty() && !report.is_equal());
    // A column more is a difference, and rows without it are the same rows.
    let orders = of(&report, "orders");
    assert_eq!(orders.schema, ["column extra Int64 came"]);
    assert_eq!(orders.rows, Some(RowsDiffer::default()));
    let table = world.table("orders");
    let mut batch = WriteBatch::new();
    let given = vec![(0, Value::Int(3)), (4, Value::Int(9))];
    batch.upsert(&table, given).unwrap();
    world.database.write(batch).unwrap();
    let (report, rows, _) = diff(&world, &order("full", None));
    assert_eq!(of(&report, "orders").rows.unwrap().changed, 1);
    let all = difference(&before, &contents(&world.database));
    let of_orders = all.into_iter().filter(|((table, _), _)| table == "orders");
    assert_eq!(rows, of_orders.collect());

    // The collection may have got tables since.
    let tables = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    world
        .database
        .create_table("other", orders_schema(), Vec::new())
        .unwrap();
    world.service.drop_collection("shop").unwrap();
    world
        .service
        .create_collection("shop", &tables(&["orders", "other"]))
        .unwrap();
    let (report, ..) = diff(&world, &order("full", None));
    let other = of(&report, "other");
    assert_eq!(
        (other.rows_before, other.rows_after, other.rows),
        (None, Some(0), None)
    );

    // Rows of another key or of other types have nothing to be compared with.
    let other = TableSchema {
        columns: vec![
            column("name", ColumnType::Utf8),
            column("balance", ColumnType::Utf8),
        ],
        ..customers_schema()
    };
    world
        .database
        .create_table("customers", other, Vec::new())
        .unwrap();
    let (report, ..) = diff(&world, &order("full", None));
    let customers = of(&report, "customers");
    assert_eq!(customers.schema, ["column balance is Utf8, it was Int64"]);
    assert_eq!((customers.rows_after, customers.rows), (Some(0), None));
}

#[test]
fn a_diff_ends_when_nobody_takes_its_rows_and_is_refused_for_what_is_not_there() {
    let world = World::new();
    fill(&world, 50);
    world.done(&world.backup(Full, "full"));
    write_orders(&world, 0..50, "now");
    let mut taken = 0;
    let ended = world.service.diff(
        &order("full", None),
        &mut |_| {
            taken += 1;
            ControlFlow::Break(())
        },
        &mut |_| ControlFlow::Continue(()),
    );
    assert!(ended.unwrap().is_none() && taken == 1);
    // So it does for who has gone and hears no rows.
    let ended = world.service.diff(
        &order("full", None),
        &mut |_| panic!("nothing is found before it is read"),
        &mut |_| ControlFlow::Break(()),
    );
    assert!(ended.unwrap().is_none());
    assert!(refusal(&world, &order("nothing", None)).contains("nothing"));
    let other = DiffOrder {
        tables: Some("custom,x*".into()),
        ..order("full", None)
    };
    assert!(refusal(&world, &other).contains("--tables custom, --tables x*"));
}

#[test]
fn what_is_written_meanwhile_is_not_seen() {
    let world = World::new();
    fill(&world, 400);
    world.done(&world.backup(Full, "monday"));
    world.done(&world.backup(Full, "tuesday"));
    let full = contents(&world.database);
    for label in ["monday", "tuesday"] {
        write_orders(&world, 10..20, "now");
        let now = contents(&world.database);
        let mut rows = Rows::new();
        let report = world.service.diff(
            &order(label, None),
            &mut |row| {
                write_orders(&world, 15..300, "meanwhile");
                edit(&world, 2);
                let found = (
                    row.before.map(<[u8]>::to_vec),
                    row.after.map(<[u8]>::to_vec),
                );
                rows.insert((row.table.to_owned(), row.key.to_vec()), found);
                ControlFlow::Continue(())
            },
            &mut |_| ControlFlow::Continue(()),
        );
        assert!(!report.unwrap().unwrap().is_equal());
        assert_eq!(rows, difference(&full, &now), "{label}");
    }
}

#[test]
fn tables_that_are_mended_are_compared_as_readers_see_them() {
    let world = World::new();
    fill(&world, 200);
    world.done(&world.backup(Full, "full"));
    let full = contents(&world.database);
    write_orders(&world, 0..20, "now");
    let now = contents(&world.database);
    let engine = RowEngine::new(world.database.clone());
    engine.begin_mend("by-hand", &["orders".into()]).unwrap();
    let mut changes = RowBlockBuilder::new();
    for id in 10..30 {
        changes.push_with(&order_key(id), |out| Change::erase(0).encode_into(out));
    }
    let source = RowSource { step: 0, index: 0 };
    let staged = engine.stage_mend("by-hand", "orders", source, &changes.finish().view());
    assert_eq!(staged.unwrap().erased, 20);
    expect(&world, &order("full", None), &full, &now);
    // Changes are logged while the mend ends, after readers see it.
    engine.publish_mend("by-hand").unwrap();
    let mended = contents(&world.database);
    assert_eq!(difference(&now, &mended).len(), 20);
    let methods = expect(&world, &order("full", None), &full, &mended);
    assert!(!is_by_changes(&methods[0]), "{methods:?}");
    engine.make_live("by-hand").unwrap();
    let methods = expect(&world, &order("full", None), &full, &mended);
    assert!(is_by_changes(&methods[0]), "{methods:?}");
}

#[test]
fn a_table_that_is_being_restored_is_not_compared() {
    let world = World::new();
    fill(&world, 50);
    world.done(&world.backup(Full, "full"));
    let chain = world.service.chain("shop", Some("full")).unwrap();
    let backup = chain[0].manifest.table("orders").unwrap().clone();
    world.database.drop_table("orders").unwrap();
    let name = "orders".to_owned();
    let engine = RowEngine::new(world.database.clone());
    engine
        .create_hidden("by-hand", vec![HiddenTable { name, backup }])
        .unwrap();
    let refused = refusal(&world, &order("full", None));
    assert!(refused.contains("orders is being restored"), "{refused}");
    let others = DiffOrder {
        tables: Some("customers".into()),
        ..order("full", None)
    };
    assert!(diff(&world, &others).0.is_equal());
}

#[test]
fn a_folded_chain_is_compared_by_changes_too() {
    let world = World::new();
    fill(&world, 200);
    let mut states = Vec::new();
    for round in 0..4 {
        edit(&world, round);
        let kind = if round == 0 { Full } else { Incremental };
        world.done(&world.backup(kind, &format!("b{round}")));
        states.push(contents(&world.database));
    }
    edit(&world, 4);
    let now = contents(&world.database);
    let id = |label: &str| {
        let chain = world.service.chain("shop", Some(label)).unwrap();
        chain[chain.len() - 1].manifest.backup_id.clone()
    };
    let (first, last) = (id("b0"), id("b2"));
    let repository = world.service.repository();
    runtime()
        .block_on(repository.compact("shop", &first, &last, "fold"))
        .unwrap();
    for (before, after, state, other) in [
        ("b2", Some("b3"), &states[2], &states[3]),
        ("b2", None, &states[2], &now),
        ("b3", None, &states[3], &now),
    ] {
        let methods = expect(&world, &order(before, after), state, other);
        assert!(methods.iter().all(is_by_changes), "{methods:?}");
    }
}

type Scenario = (TableSchema, Vec<(bool, Vec<Edit>)>, Vec<Edit>);

fn scenario() -> impl Strategy<Value = Scenario> {
    schema().prop_flat_map(|schema| {
        let edits = || proptest::collection::vec(crate::property::edit(&schema), 0..20);
        let rounds = proptest::collection::vec((proptest::bool::weighted(0.3), edits()), 1..5);
        (Just(schema.clone()), rounds, edits())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_diff_is_the_difference_of_what_both_hold((schema, rounds, last) in scenario()) {
        let world = World::new();
        world.database.create_table("orders", schema, Vec::new()).unwrap();
        world.service.create_collection("shop", &["orders".into()]).unwrap();
        let mut states = Vec::new();
        // Which chain each is of: within one, changes are known.
        let mut chain = 0;
        for (at, (full, edits)) in rounds.into_iter().enumerate() {
            make(&world, edits);
            let kind = if full || at == 0 { Full } else { Incremental };
            chain += u32::from(kind == Full);
            world.done(&world.backup(kind, &format!("b{at}")));
            states.push((chain, contents(&world.database)));
        }
        make(&world, last);
        let now = contents(&world.database);
        for (at, (of, state)) in states.iter().enumerate() {
            let label = format!("b{at}");
            for (other, (of_other, other_state)) in states.iter().enumerate() {
                let order = order(&label, Some(&format!("b{other}")));
                let methods = expect(&world, &order, state, other_state);
                prop_assert_eq!(is_by_changes(&methods[0]), of == of_other);
            }
            let methods = expect(&world, &order(&label, None), state, &now);
            prop_assert_eq!(is_by_changes(&methods[0]), *of == chain);
        }
    }
}
