//! Back up, lose, restore, prove: the whole story inside one process.

use crate::world::*;
use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::operation::State;

#[test]
fn every_backup_of_a_chain_comes_back_exactly() {
    let world = World::new();
    fill(&world, 1000);
    let mut states = Vec::new();
    world.done(&world.backup(Full, "b0"));
    states.push(contents(&world.database));
    for round in 1..=3 {
        edit(&world, round);
        states.push(contents(&world.database));
        world.done(&world.backup(Incremental, &format!("b{round}")));
    }
    write_orders(&world, 0..1000, "lost");
    for (at, state) in states.iter().enumerate() {
        world.drop_tables();
        world.done(&world.restore(&format!("b{at}")));
        assert_eq!(contents(&world.database), *state, "backup b{at}");
    }
}

#[test]
fn an_empty_table_and_an_empty_increment_come_back() {
    let world = World::new();
    fill(&world, 0);
    world.done(&world.backup(Full, "empty"));
    world.done(&world.backup(Incremental, "nothing"));
    let before = contents(&world.database);
    world.drop_tables();
    world.done(&world.restore("nothing"));
    assert_eq!(contents(&world.database), before);
    assert!(before["orders"].is_empty());
}

#[test]
fn clients_of_a_lost_table_go_on_with_the_restored_one() {
    let world = World::new();
    fill(&world, 50);
    world.done(&world.backup(Full, "b"));
    let table = world.table("orders");
    world.drop_tables();
    world.done(&world.restore("b"));
    let row = world
        .database
        .snapshot()
        .unwrap()
        .get(&table, &[mendb_model::Value::Int(7)]);
    assert!(row.unwrap().is_some());
}

#[test]
fn a_restore_onto_existing_tables_is_refused_and_says_how_it_could_be() {
    let world = World::new();
    fill(&world, 50);
    world.done(&world.backup(Full, "b"));
    let error = world
        .service
        .request_restore(&restore_order("b"))
        .unwrap_err();
    assert!(
        error.to_string().contains("table orders already exists"),
        "{error}"
    );
    let hint = error.hint().unwrap();
    assert!(
        hint.contains("--rename orders=orders_restored") && hint.contains("--in-place"),
        "{hint}"
    );
    let mut order = restore_order("b");
    order.tables = Some("ord*".into());
    order.rename.insert("orders".into(), "copy".into());
    let id = world.service.request_restore(&order).unwrap();
    world.done(&world.drive(&id));
    let contents = contents(&world.database);
    assert_eq!(contents["copy"], contents["orders"]);
    assert_eq!(contents["copy/by_price"], contents["orders/by_price"]);
}

#[test]
fn an_increment_needs_a_usable_chain() {
    let world = World::new();
    fill(&world, 50);
    let refusal = |world: &World| world.order(Incremental, "i").unwrap_err().to_string();
    let said = refusal(&world);
    assert!(said.contains("is no repository"), "{said}");
    world.done(&world.backup(Full, "f1"));
    world
        .database
        .add_column("orders", column("extra", mendb_model::ColumnType::Bool))
        .unwrap();
    assert!(refusal(&world).contains("the schema of table orders has changed"));
    world.done(&world.backup(Full, "f2"));
    world.done(&world.backup(Incremental, "i2"));
    world.drop_tables();
    world.done(&world.restore("i2"));
    assert!(refusal(&world).contains("the changes of table orders since backup"));
}

#[test]
fn a_new_full_backup_begins_a_new_chain_and_lets_go_of_the_old_stream() {
    let world = World::new();
    fill(&world, 50);
    world.done(&world.backup(Full, "f1"));
    world.done(&world.backup(Full, "f2"));
    let streams = world.database.streams("orders").unwrap();
    assert_eq!(streams.len(), 1, "{streams:?}");
    edit(&world, 1);
    let increment = world.backup(Incremental, "i");
    world.done(&increment);
    let chain = world.service.chain("shop", Some("i")).unwrap();
    let labels: Vec<_> = chain
        .iter()
        .map(|stored| stored.manifest.label.as_deref())
        .collect();
    assert_eq!(labels, [Some("f2"), Some("i")]);
}

#[test]
fn a_paused_restore_goes_on_and_a_cancelled_one_leaves_no_table() {
    use mendb_service::journal::command::Command;
    let world = World::new();
    fill(&world, 200);
    world.done(&world.backup(Full, "b"));
    let before = contents(&world.database);
    world.drop_tables();
    let id = world.service.request_restore(&restore_order("b")).unwrap();
    world.service.command(&id, Command::Pause).unwrap();
    assert!(world.drive(&id).is_paused());
    world.service.command(&id, Command::Resume(None)).unwrap();
    world.done(&world.drive(&id));
    assert_eq!(contents(&world.database), before);
    world.drop_tables();
    let id = world.service.request_restore(&restore_order("b")).unwrap();
    let mut asked = false;
    let service = &world.service;
    service
        .drive(&mut |operation| {
            if operation.operation_id == id && operation.current_step == 1 && !asked {
                asked = true;
                service.command(&id, Command::Cancel(None)).unwrap();
            }
        })
        .unwrap();
    assert_eq!(
        service.journal().operation(&id).unwrap().state,
        State::Cancelled
    );
    assert_eq!(world.database.tables(), Vec::<String>::new());
    service.forget(&id).unwrap();
    assert!(service.journal().operation(&id).is_err());
}

#[test]
fn a_damaged_segment_fails_the_restore_by_name_and_is_resumed_after_repair() {
    use mendb_service::journal::command::Command;
    let world = World::new();
    fill(&world, 500);
    world.done(&world.backup(Full, "b"));
    let before = contents(&world.database);
    world.drop_tables();
    let stored = &world.service.chain("shop", Some("b")).unwrap()[0];
    let (manifest, repository) = (&stored.manifest, world.service.repository());
    let (last, _) = manifest.sharded_tables().last().unwrap();
    let shards = world
        .service
        .runtime()
        .block_on(repository.shards(manifest, &last));
    let segments = shards.unwrap().into_iter().flat_map(|shard| shard.segments);
    let object = segments.last().unwrap().object;
    let path = world
        .directory
        .path()
        .join("repository/collections/shop")
        .join(stored.manifest.backup_id.as_str())
        .join(&object);
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let failed = world.restore("b");
    assert_eq!(failed.state, State::Failed);
    let error = failed.head.error.clone().unwrap();
    assert!(
        error.contains(&object) && error.contains("damaged"),
        "{error}"
    );
    std::fs::write(&path, &whole).unwrap();
    world
        .service
        .command(&failed.operation_id, Command::Resume(None))
        .unwrap();
    world.done(&world.drive(&failed.operation_id));
    assert_eq!(contents(&world.database), before);
}
