//! Work that goes on while backups and restores run, and work that must not.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::operation::State;
use mendb_model::{ColumnType, KeyRange, TableSchema, Value};
use mendb_rowstore::{Database, Direction, WriteBatch};
use mendb_service::{BackupOrder, RestoreOrder};

use crate::world::*;

const ACCOUNTS: i64 = 50;
const BALANCE: i64 = 1000;

fn accounts_schema() -> TableSchema {
    TableSchema {
        columns: vec![
            column("id", ColumnType::Int64),
            column("balance", ColumnType::Int64),
        ],
        key: vec!["id".into()],
        indexes: Vec::new(),
    }
}

/// All money of some tables, in one snapshot.
fn money(database: &Database, tables: &[&str]) -> i64 {
    let snapshot = database.snapshot().unwrap();
    let mut total = 0;
    for name in tables {
        let table = snapshot.open_table(name).unwrap();
        for row in snapshot
            .scan(&table, KeyRange::all(), Direction::Ascending)
            .unwrap()
        {
            match row.unwrap()[1] {
                Value::Int(balance) => total += balance,
                ref other => panic!("a balance of {other:?}"),
            }
        }
    }
    total
}

/// Moves money between tables, one account to another, until told to stop.
fn move_money(database: &Database, seed: i64, stop: &AtomicBool, moved: &AtomicI64) {
    let tables = ["here", "there"].map(|name| database.open_table(name).unwrap());
    let mut tables = tables;
    let mut next = seed;
    while !stop.load(Ordering::SeqCst) {
        next = (next * 1_103_515_245 + 12345) % 2_147_483_648;
        // Each thread has accounts of its own, so that what it has read is what it overwrites.
        let (from, to) = (
            next / 7 % (ACCOUNTS / 2) * 2 + seed % 2,
            next / 91 % (ACCOUNTS / 2) * 2 + seed % 2,
        );
        let (giver, taker) = (next as usize % 2, (next / 3) as usize % 2);
        if (giver, from) == (taker, to) {
            continue;
        }
        let snapshot = database.snapshot().unwrap();
        let balance = |at: usize, id: i64| match snapshot.get(&tables[at], &[Value::Int(id)]) {
            Ok(Some(row)) => match row[1] {
                Value::Int(balance) => Some(balance),
                _ => None,
            },
            _ => None,
        };
        let mut batch = WriteBatch::new();
        if let (Some(giving), Some(taking)) = (balance(giver, from), balance(taker, to)) {
            let amount = next % 10;
            let set = |id, balance| vec![(0, Value::Int(id)), (1, Value::Int(balance))];
            batch
                .upsert(&tables[giver], set(from, giving - amount))
                .unwrap();
            batch
                .upsert(&tables[taker], set(to, taking + amount))
                .unwrap();
            if database.write(batch).is_ok() {
                moved.fetch_add(1, Ordering::SeqCst);
                continue;
            }
        }
        // A backup has raised the schema versions: look again, as every client does.
        tables = ["here", "there"].map(|name| database.open_table(name).unwrap());
    }
}

#[test]
fn money_moved_between_tables_is_in_every_backup_exactly_once() {
    let world = World::new();
    for name in ["here", "there"] {
        let split = order_key(ACCOUNTS / 2);
        world
            .database
            .create_table(name, accounts_schema(), vec![split])
            .unwrap();
        let table = world.table(name);
        let mut batch = WriteBatch::new();
        for id in 0..ACCOUNTS {
            batch
                .replace(&table, vec![Value::Int(id), Value::Int(BALANCE)])
                .unwrap();
        }
        world.database.write(batch).unwrap();
    }
    world
        .service
        .create_collection("shop", &["here".into(), "there".into()])
        .unwrap();
    let all = 2 * ACCOUNTS * BALANCE;
    let (stop, moved) = (AtomicBool::new(false), AtomicI64::new(0));
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (database, stop, moved) = (&world.database, &stop, &moved);
            scope.spawn(move || move_money(database, seed, stop, moved));
        }
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(
                    money(&world.database, &["here", "there"]),
                    all,
                    "a reader sees whole moves"
                );
            }
        });
        for (at, kind) in [Full, Incremental, Incremental, Full, Incremental]
            .into_iter()
            .enumerate()
        {
            let before = moved.load(Ordering::SeqCst);
            while moved.load(Ordering::SeqCst) < before + 50 {
                std::thread::yield_now();
            }
            world.done(&world.backup(kind, &format!("b{at}")));
        }
        stop.store(true, Ordering::SeqCst);
    });
    for at in 0..5 {
        let mut order = restore_order(&format!("b{at}"));
        order.rename.insert("here".into(), format!("here{at}"));
        order.rename.insert("there".into(), format!("there{at}"));
        let id = world.service.request_restore(&order).unwrap();
        world.done(&world.drive(&id));
        let tables = [format!("here{at}"), format!("there{at}")];
        assert_eq!(
            money(&world.database, &tables.each_ref().map(String::as_str)),
            all,
            "backup b{at}"
        );
    }
}

#[test]
fn two_collections_back_up_and_restore_at_the_same_time() {
    let world = World::new();
    fill(&world, 200);
    world
        .database
        .create_table("here", accounts_schema(), Vec::new())
        .unwrap();
    world
        .service
        .create_collection("bank", &["here".into()])
        .unwrap();
    let order = |collection: &str| BackupOrder {
        new_repository: false,
        compare_rows: false,
        changes: None,
        collection: collection.into(),
        kind: Full,
        label: None,
    };
    let restore = |collection: &str| RestoreOrder {
        collection: collection.into(),
        ..RestoreOrder::default()
    };
    let both_at_once = |ids: [mendb_model::OperationId; 2]| {
        world.service.drive(&mut |_| {}).unwrap();
        let journal = world.service.journal();
        let mut begun_at = 0;
        let mut done_at = u64::MAX;
        for id in &ids {
            world.done(&journal.operation(id).unwrap());
            let events = journal.operation_events(id).unwrap();
            let picked_up = events.iter().find(|event| event.event == "picked up");
            begun_at = begun_at.max(picked_up.unwrap().at_ms);
            done_at = done_at.min(events.last().unwrap().at_ms);
        }
        assert!(begun_at <= done_at, "neither waited for the other");
    };
    let request = |collection| world.service.request_backup(&order(collection)).unwrap();
    both_at_once([request("shop"), request("bank")]);
    let before = contents(&world.database);
    world.drop_tables();
    let request = |collection| world.service.request_restore(&restore(collection)).unwrap();
    both_at_once([request("shop"), request("bank")]);
    assert_eq!(contents(&world.database), before);
}

#[test]
fn what_would_disturb_an_operation_is_refused_by_its_name() {
    let world = World::new();
    fill(&world, 200);
    let database = &world.database;
    let order = |label: &str| world.order(Full, label);
    let id = order("b").unwrap();
    let second = order("c").unwrap_err().to_string();
    assert!(second.contains(id.as_str()), "{second}");
    let mut tried = false;
    let disturb = |kind: &str, id: &str| {
        let alter = database
            .add_column("orders", column("extra", ColumnType::Bool))
            .unwrap_err()
            .to_string();
        assert!(
            alter.contains(&format!("table orders is being {kind} by operation {id}")),
            "{alter}"
        );
        let drop = database.drop_table("orders").unwrap_err().to_string();
        assert!(drop.contains(id), "{drop}");
    };
    let mut during = |step: u32, kind: &str, id: &mendb_model::OperationId, more: &dyn Fn()| {
        tried = false;
        world
            .service
            .drive(&mut |operation| {
                if operation.operation_id == *id && operation.current_step == step && !tried {
                    tried = true;
                    disturb(kind, id.as_str());
                    more();
                }
            })
            .unwrap();
        assert!(tried);
        let operation = world.service.journal().operation(id).unwrap();
        assert_eq!(operation.state, State::Done, "{:?}", operation.error);
    };
    during(1, "backed up", &id, &|| {
        write_orders(&world, 0..3, "writers go on");
    });
    world.drop_tables();
    let id = world.service.request_restore(&restore_order("b")).unwrap();
    during(1, "restored", &id, &|| {
        let second = world
            .service
            .request_restore(&restore_order("b"))
            .unwrap_err()
            .to_string();
        assert!(
            second.contains(&format!("is being restored by operation {id}")),
            "{second}"
        );
        let table = database.open_table("orders");
        let read = match &table {
            Ok(table) => database
                .snapshot()
                .unwrap()
                .get(table, &[Value::Int(1)])
                .err()
                .map(|e| e.to_string()),
            Err(error) => Some(error.to_string()),
        };
        assert!(
            read.as_deref()
                .is_some_and(|text| text.contains(id.as_str())),
            "no reader sees half a restore: {read:?}"
        );
        let backup = order("d").unwrap_err().to_string();
        assert!(backup.contains(id.as_str()), "{backup}");
    });
}

#[test]
fn shards_split_and_merge_under_a_restore() {
    let world = World::new();
    fill(&world, 1000);
    world.done(&world.backup(Full, "b"));
    edit(&world, 1);
    world.done(&world.backup(Incremental, "c"));
    let before = contents(&world.database);
    world.drop_tables();
    let id = world.service.request_restore(&restore_order("c")).unwrap();
    let path = mendb_model::name::TablePath::table("orders");
    let mut moves = 0;
    world
        .service
        .drive(&mut |operation| {
            if (1..=2).contains(&operation.current_step) && moves < 12 {
                moves += 1;
                let at = order_key(moves * 77);
                world.database.split(&path, &at).unwrap();
                if moves % 3 == 0 {
                    world.database.merge(&path, &at).unwrap();
                }
            }
        })
        .unwrap();
    assert!(moves > 3);
    world.done(&world.service.journal().operation(&id).unwrap());
    assert_eq!(contents(&world.database), before);
}
