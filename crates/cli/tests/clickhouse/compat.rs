//! What was made for clickhouse-backup goes on working: here its integration tables, by which a ClickHouse server asks.

use mendb_service::env::now_ms;

use crate::servers::Flavor;
use crate::serving::Serving;
use crate::world::World;

/// Longer than a machine under any load needs.
const MOST_MS: u64 = 300_000;

on_each_server!(integration_tables_of_clickhouse_backup_go_on_working);

fn integration_tables_of_clickhouse_backup_go_on_working(flavor: Flavor) {
    let world = World::new(flavor);
    for sql in [
        "CREATE DATABASE a",
        "CREATE DATABASE x",
        "CREATE TABLE a.t (id UInt64, day Date) ENGINE = MergeTree PARTITION BY toYYYYMM(day) ORDER BY id",
        "INSERT INTO a.t SELECT number, toDate('2026-01-05') FROM numbers(1000)",
        "INSERT INTO a.t SELECT number, toDate('2026-02-05') FROM numbers(1000)",
    ] {
        world.server.query(sql);
    }
    let token = world.ok(&["token", "create", "ann", "--role", "admin"]);
    let viewer = world.ok(&["token", "create", "vic", "--role", "viewer"]);
    let serve = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--compat",
        "clickhouse-backup",
    ];
    let serving = Serving::start(world.command(&serve), &token);
    let table = |name: &str, columns: &str, path: &str, who: &str, pass: &str| {
        world.server.query(&format!(
            "CREATE TABLE x.{name} ({columns}) ENGINE = URL('{}backup/{path}?user={who}&pass={}', JSONEachRow)",
            serving.url,
            pass.trim()
        ));
    };
    let of_actions = "command String, start DateTime, finish DateTime, status String, error String";
    let of_list =
        "name String, created DateTime, size Int64, location String, required String, desc String";
    table("backup_list", of_list, "list", "ann", &token);
    table("backup_actions", of_actions, "actions", "ann", &token);
    table("by_viewer", of_actions, "actions", "vic", &viewer);
    table("by_nobody", of_list, "list", "ann", &viewer);
    let act = |table: &str, command: &str| {
        let insert = format!("INSERT INTO x.{table} (command) VALUES ('{command}')");
        world.server.try_query(&insert)
    };
    let until = |sql: &str, expected: &str| {
        let begun_ms = now_ms();
        loop {
            let found = world.server.query(sql);
            if found == expected {
                return;
            }
            assert!(now_ms() - begun_ms < MOST_MS, "{sql}: {found}");
            std::thread::yield_now();
        }
    };
    let done = |count: u32| {
        until(
            "SELECT count() FROM x.backup_actions WHERE status = 'success'",
            &format!("{count}\n"),
        );
    };
    let whole = world.contents("a");
    act("backup_actions", "create_remote --tables=\"a.*\" monday").unwrap();
    done(1);
    until(
        "SELECT name, location, size > 0 FROM x.backup_list",
        "monday\tremote\t1\n",
    );
    world.server.query("ALTER TABLE a.t DROP PARTITION 202601");
    assert!(world.contents("a") != whole);
    act("by_viewer", "restore_remote --data monday").unwrap_err();
    act("backup_actions", "watch").unwrap_err();
    world
        .server
        .try_query("SELECT count() FROM x.by_nobody")
        .unwrap_err();
    act("backup_actions", "upload monday").unwrap();
    act("backup_actions", "upload tuesday").unwrap_err();
    act("backup_actions", "restore_remote --rm --data monday").unwrap();
    done(2);
    assert_eq!(world.contents("a"), whole);
    act("backup_actions", "delete remote monday").unwrap();
    until("SELECT count() FROM x.backup_list", "0\n");
    let audit = serving.json(world.command(&["audit"]));
    let audit = audit.to_string();
    assert!(
        !audit.contains(token.trim()) && !audit.contains(viewer.trim()),
        "{audit}"
    );
    assert!(audit.contains("refused"), "{audit}");
}
