//! What a definition says beside columns and keys: compared whole, told, and brought back.

use std::process::Output;

use mendb_model::part::Definition;
use serde_json::{Value, json};

use crate::servers::{Flavor, ServerOptions};
use crate::world::{Mended, Preview, World, files_below};

on_each_server!(
    a_mutation_that_was_not_finished_is_told_and_applied_when_asked_for,
    a_default_that_changed_is_told_as_other_answers_and_brought_back,
    a_view_that_changed_is_told_and_brought_back,
    a_mend_that_failed_before_it_changed_anything_stands_in_nobodys_way,
    credentials_come_back_and_are_shown_nowhere,
    what_clickhouse_backup_kept_without_credentials_is_a_named_gap,
);

const MEND_ALL: [&str; 5] = ["restore", "--in-place", "--schema", "--data", "d"];

fn world(flavor: Flavor) -> World {
    let options = ServerOptions {
        part_log: true,
        ..ServerOptions::default()
    };
    let world = World::with(flavor, options);
    world.server.create_database("d");
    world
}

fn statement(world: &World, table: &str) -> String {
    world.server.query(&format!(
        "SELECT create_table_query FROM system.tables WHERE database = 'd' AND name = '{table}' \
         FORMAT TabSeparatedRaw"
    ))
}

/// What `verify --live` says of each table, with its exit code.
fn verified(world: &World) -> (Option<i32>, Value) {
    let output = world.run(&["verify", "d", "--live", "--output", "json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), told["live_parts"].clone())
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

fn a_default_that_changed_is_told_as_other_answers_and_brought_back(flavor: Flavor) {
    let world = world(flavor);
    let query = |sql: &str| world.server.query(sql);
    query("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a");
    query("INSERT INTO d.t SELECT number FROM system.numbers LIMIT 1000");
    query("ALTER TABLE d.t ADD COLUMN price UInt64 DEFAULT 10");
    world.backup(&["d"]);
    query("ALTER TABLE d.t MODIFY COLUMN price UInt64 DEFAULT 99");

    let (code, tables) = verified(&world);
    assert_eq!(code, Some(3), "{tables}");
    assert_eq!(tables[0]["equal"], false);
    let note = tables[0]["note"].as_str().unwrap();
    let words = |text: &str| text.replace("CAST(", "").replace(", 'UInt64')", "");
    let difference =
        "default of column price: DEFAULT 10 in the backup, DEFAULT 99 now (changes answers)";
    assert_eq!(words(note), difference);

    let planned = words(&said(&world.run(&[
        "restore",
        "--in-place",
        "--dry-run",
        "d",
    ])));
    assert!(planned.contains(difference), "{planned}");
    // Its parts are as in the backup, and that is not all.
    let mended = world.run(&["restore", "--in-place", "d"]);
    assert_eq!(mended.status.code(), Some(3), "{}", said(&mended));
    assert!(
        words(&said(&mended)).contains(difference),
        "{}",
        said(&mended)
    );
    assert!(said(&mended).contains("--schema restores it"));
    assert_eq!(query("SELECT sum(price) FROM d.t"), "99000\n");

    let planned: Value = world.json(&[&MEND_ALL[..], &["--dry-run"]].concat());
    assert_eq!(planned["different"][0]["mended_by"], "alter", "{planned}");
    let parts = world.part_names("d");
    let mended: Mended = world.json(&MEND_ALL);
    assert_eq!(query("SELECT sum(price) FROM d.t"), "10000\n");
    assert_eq!(world.part_names("d"), parts, "nothing was moved for it");
    let (code, tables) = verified(&world);
    assert_eq!(code, Some(0), "{tables}");

    world.ok(&["undo", &mended.operation_id]);
    assert_eq!(query("SELECT sum(price) FROM d.t"), "99000\n");
}

fn a_view_that_changed_is_told_and_brought_back(flavor: Flavor) {
    let world = world(flavor);
    let query = |sql: &str| world.server.query(sql);
    query("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a");
    query("INSERT INTO d.t SELECT number FROM system.numbers LIMIT 10");
    query("CREATE TABLE d.sums (s UInt64) ENGINE = MergeTree ORDER BY s");
    query("CREATE VIEW d.v AS SELECT a FROM d.t WHERE a < 5");
    query("CREATE VIEW d.gone AS SELECT a FROM d.t");
    query("CREATE MATERIALIZED VIEW d.into TO d.sums AS SELECT sum(a) AS s FROM d.t");
    let views = ["v", "gone", "into"];
    let before = views.map(|view| statement(&world, view));
    world.backup(&["d"]);
    query("DROP TABLE d.v");
    query("DROP TABLE d.gone");
    query("DROP TABLE d.into");
    query("CREATE VIEW d.v AS SELECT a FROM d.t WHERE a < 7");
    query("CREATE MATERIALIZED VIEW d.into TO d.sums AS SELECT max(a) AS s FROM d.t");

    let (code, tables) = verified(&world);
    assert_eq!(code, Some(3), "{tables}");
    let equal = |table: &str| {
        let tables = tables.as_array().unwrap();
        let found = tables
            .iter()
            .find(|found| found["table"] == format!("d.{table}"));
        found.unwrap_or_else(|| panic!("{table} in {tables:?}"))["equal"] == true
    };
    assert_eq!(views.map(equal), [false; 3], "{tables}");
    assert!(equal("t"));
    let left = world.run(&["restore", "--in-place", "--tables", "d.t,d.v", "d"]);
    assert_eq!(left.status.code(), Some(3), "{}", said(&left));
    assert_ne!(statement(&world, "v"), before[0]);

    world.ok(&MEND_ALL);
    assert_eq!(views.map(|view| statement(&world, view)), before);
    assert_eq!(verified(&world).0, Some(0));
    assert_eq!(query("SELECT count() FROM d.v"), "5\n");
    query("INSERT INTO d.t VALUES (1), (2)");
    assert_eq!(
        query("SELECT s FROM d.sums"),
        "3\n",
        "the view takes what is inserted, once"
    );
}

#[test]
fn all_that_a_definition_says_comes_back_by_alter() {
    let world = world(Flavor::Current);
    let query = |sql: &str| world.server.query(sql);
    query(
        "CREATE TABLE d.t (a UInt64 CODEC(ZSTD(1)) COMMENT 'key', day Date DEFAULT '2020-01-01', \
         x UInt64 TTL day + INTERVAL 90 YEAR, twice UInt64 MATERIALIZED x * 2, thrice UInt64 ALIAS x * 3, \
         s String STATISTICS(uniq), INDEX i0 x TYPE minmax, CONSTRAINT c0 CHECK a < 1000000, \
         PROJECTION p0 (SELECT a ORDER BY x)) ENGINE = MergeTree ORDER BY a \
         TTL day + INTERVAL 80 YEAR SETTINGS old_parts_lifetime = 100, min_bytes_for_wide_part = 0 \
         COMMENT 'as it was'",
    );
    query("INSERT INTO d.t (a, x) SELECT number, number FROM numbers(100)");
    let before = statement(&world, "t");
    let sums = "SELECT sum(a), sum(x), sum(twice), sum(thrice), count() FROM d.t";
    let answers = query(sums);
    world.backup(&["d"]);
    let no_ttl = "SETTINGS materialize_ttl_after_modify = 0";
    for change in [
        "MODIFY COLUMN a REMOVE CODEC",
        "COMMENT COLUMN a 'another'",
        "MODIFY COLUMN day Date DEFAULT '2021-01-01'",
        "MODIFY COLUMN x REMOVE TTL SETTINGS materialize_ttl_after_modify = 0",
        "MODIFY COLUMN twice UInt64 MATERIALIZED x * 20",
        "MODIFY COLUMN thrice UInt64 ALIAS x * 30",
        "ADD COLUMN more UInt64 ALIAS x FIRST",
        "MODIFY COLUMN s String FIRST",
        "DROP STATISTICS s SETTINGS mutations_sync = 1",
        "DROP INDEX i0 SETTINGS mutations_sync = 1",
        "ADD INDEX i1 a TYPE minmax",
        "DROP CONSTRAINT c0",
        "ADD CONSTRAINT c1 CHECK a < 2000000",
        "DROP PROJECTION p0 SETTINGS mutations_sync = 1",
        "ADD PROJECTION p1 (SELECT x ORDER BY a)",
        "RESET SETTING old_parts_lifetime",
        "MODIFY SETTING min_bytes_for_wide_part = 1000",
        "MODIFY SETTING merge_max_block_size = 1000",
        "MODIFY COMMENT 'as it is'",
    ] {
        query(&format!("ALTER TABLE d.t {change}"));
    }
    query(&format!(
        "ALTER TABLE d.t MODIFY TTL day + INTERVAL 1 YEAR {no_ttl}"
    ));
    query("INSERT INTO d.t (a, x, day) VALUES (1, 1, '2090-01-01')");
    let changed = statement(&world, "t");

    let planned: Preview = world.json(&[&MEND_ALL[..], &["--dry-run"]].concat());
    assert_eq!(planned.different.len(), 1, "{planned:?}");
    let told = &planned.different[0];
    assert!(told.differences.len() >= 18, "{told:?}");
    let mended: Mended = world.json(&MEND_ALL);
    let says = |statement: &str| Definition::read(statement).unwrap();
    assert_eq!(says(&statement(&world, "t")), says(&before));
    query("OPTIMIZE TABLE d.t FINAL");
    assert_eq!(
        query(sums),
        answers,
        "no row goes by a TTL that is not the backup's"
    );
    let (code, tables) = verified(&world);
    assert_eq!(tables[0]["note"], Value::Null, "{tables}");
    assert!(matches!(code, Some(0 | 3)), "a merge may have come");
    let tables = query("SELECT count() FROM system.tables WHERE database = 'd'");
    assert_eq!(tables, "1\n", "nothing was put aside");

    world.ok(&[
        "undo",
        &mended.operation_id,
        "--on-concurrent-insert",
        "remove",
    ]);
    assert_eq!(says(&statement(&world, "t")), says(&changed));
}

#[test]
fn what_no_alter_reaches_is_put_aside_and_created_as_it_was() {
    let world = world(Flavor::Current);
    let query = |sql: &str| world.server.query(sql);
    let create = |arguments: &str| {
        query(&format!(
            "CREATE TABLE d.t (a UInt64, v UInt64) ENGINE = ReplacingMergeTree{arguments} ORDER BY a"
        ));
    };
    create("(v)");
    query("INSERT INTO d.t VALUES (1, 2)");
    let before = statement(&world, "t");
    world.backup(&["d"]);
    query("DROP TABLE d.t SYNC");
    create("");
    query("INSERT INTO d.t VALUES (1, 3)");
    assert_eq!(verified(&world).0, Some(3));
    let mended: Mended = world.json(&MEND_ALL);
    assert_eq!(statement(&world, "t"), before);
    assert_eq!(query("SELECT v FROM d.t"), "2\n");
    assert_eq!(verified(&world).0, Some(0));
    assert_eq!(mended.state, "done");
}

#[test]
fn a_view_goes_aside_with_its_table_when_that_cannot_be_altered() {
    let world = world(Flavor::Current);
    let query = |sql: &str| world.server.query(sql);
    query("CREATE TABLE d.t (day Date, a UInt64) ENGINE = MergeTree ORDER BY a");
    query(
        "CREATE MATERIALIZED VIEW d.mv ENGINE = SummingMergeTree ORDER BY day AS \
         SELECT day, sum(a) AS s FROM d.t GROUP BY day",
    );
    query("INSERT INTO d.t VALUES ('2024-01-01', 5)");
    world.backup(&["d"]);
    let inner =
        query("SELECT name FROM system.tables WHERE database = 'd' AND name LIKE '.inner%'");
    let inner = inner.trim_end();
    query(&format!("ALTER TABLE d.`{inner}` ADD COLUMN z UInt8"));
    query("INSERT INTO d.t VALUES ('2024-01-01', 7)");

    let mended: Mended = world.json(&MEND_ALL);
    assert_eq!(mended.state, "done");
    assert_eq!(query("SELECT sum(s) FROM d.mv"), "5\n");
    let aside =
        query("SELECT name FROM system.tables WHERE database = 'd' AND name LIKE 'mv_before%'");
    let aside = aside.trim_end();
    assert_eq!(query(&format!("SELECT sum(s) FROM d.`{aside}`")), "12\n");
    query("INSERT INTO d.t VALUES ('2024-01-01', 1)");
    assert_eq!(query("SELECT sum(s) FROM d.mv"), "6\n");
}

#[test]
fn the_table_of_a_view_is_altered_where_it_is() {
    let world = world(Flavor::Current);
    let query = |sql: &str| world.server.query(sql);
    query("CREATE TABLE d.t (day Date, a UInt64) ENGINE = MergeTree ORDER BY a");
    query(
        "CREATE MATERIALIZED VIEW d.mv ENGINE = SummingMergeTree ORDER BY day AS \
         SELECT day, sum(a) AS s FROM d.t GROUP BY day",
    );
    query("INSERT INTO d.t VALUES ('2024-01-01', 5)");
    let inner =
        query("SELECT name FROM system.tables WHERE database = 'd' AND name LIKE '.inner%'");
    let inner = inner.trim_end();
    let before = [statement(&world, inner), statement(&world, "mv")];
    world.backup(&["d"]);
    query(&format!(
        "ALTER TABLE d.`{inner}` MODIFY TTL day + INTERVAL 1 DAY SETTINGS materialize_ttl_after_modify = 0"
    ));
    query("ALTER TABLE d.mv MODIFY QUERY SELECT day, max(a) AS s FROM d.t GROUP BY day");
    assert_eq!(verified(&world).0, Some(3));
    world.ok(&MEND_ALL);
    assert_eq!([statement(&world, inner), statement(&world, "mv")], before);
    assert_eq!(verified(&world).0, Some(0));
}

fn a_mend_that_failed_before_it_changed_anything_stands_in_nobodys_way(flavor: Flavor) {
    let world = world(flavor);
    let query = |sql: &str| world.server.query(sql);
    query("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a");
    query("INSERT INTO d.t SELECT number FROM system.numbers LIMIT 1000");
    query("CREATE TABLE d.u (a UInt64) ENGINE = MergeTree ORDER BY a");
    query("INSERT INTO d.u SELECT number FROM system.numbers LIMIT 1000");
    world.backup(&["d", "--tables", "d.*"]);
    let sync = if world.is_current() { "SYNC" } else { "" };
    query(&format!("DROP TABLE d.t {sync}"));
    query("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a");
    let objects = files_below(&world.in_repository("files"));
    let away = world.in_repository("away");
    std::fs::create_dir_all(&away).unwrap();
    let hidden = |at: usize| away.join(at.to_string());
    for (at, object) in objects.iter().enumerate() {
        std::fs::rename(object, hidden(at)).unwrap();
    }
    let failed = world.run(&["restore", "--in-place", "--tables", "d.t", "d"]);
    assert!(!failed.status.success());
    let states = |world: &World| -> Vec<String> {
        let state = |operation: &Value| operation["state"].as_str().unwrap().to_owned();
        world.operations().iter().map(state).collect()
    };
    assert!(
        states(&world).contains(&"failed".to_owned()),
        "{}",
        said(&failed)
    );
    for (at, object) in objects.iter().enumerate() {
        std::fs::rename(hidden(at), object).unwrap();
    }
    world.backup(&["other", "--tables", "d.*"]);
    world.ok(&["restore", "--in-place", "d"]);
    assert_eq!(query("SELECT count() FROM d.t"), "1000\n");
    assert!(
        states(&world).contains(&"failed".to_owned()),
        "nobody had to cancel it"
    );
}

fn credentials_come_back_and_are_shown_nowhere(flavor: Flavor) {
    let world = world(flavor);
    let query = |sql: &str| world.server.query(sql);
    query("CREATE TABLE d.src (id UInt64, v String) ENGINE = MergeTree ORDER BY id");
    query(
        "CREATE TABLE d.remote (a UInt64) ENGINE = MySQL('127.0.0.1:1', 'db', 't', 'user', 'very secret')",
    );
    let mut names = vec!["remote"];
    if world.is_current() {
        query(
            "CREATE DICTIONARY d.looked_up (id UInt64, v String) PRIMARY KEY id SOURCE(CLICKHOUSE(HOST '127.0.0.1' \
             PORT 9000 USER 'u' PASSWORD 'very secret' TABLE 'src' DB 'd')) LAYOUT(FLAT()) LIFETIME(0)",
        );
        names.push("looked_up");
    }
    let on_disk = |name: &str| {
        let files = files_below(world.server.data_path()).into_iter();
        let mut files = files.filter(|file| file.ends_with(format!("{name}.sql")));
        std::fs::read_to_string(files.next().unwrap()).unwrap()
    };
    let mut told = vec![said(&world.run(&["backup", "d", "--label", "whole"]))];
    told.push(said(&world.run(&[
        "backup",
        "d",
        "--label",
        "without",
        "--without-secrets",
    ])));
    for flags in [&["--output", "json"][..], &[]] {
        told.push(said(&world.run(&[&["show", "whole"], flags].concat())));
        told.push(said(&world.run(&[&["list"], flags].concat())));
    }
    let drop_all = || {
        for name in &names {
            let sync = if world.is_current() { "SYNC" } else { "" };
            let kind = if *name == "looked_up" {
                "DICTIONARY"
            } else {
                "TABLE"
            };
            query(&format!("DROP {kind} d.{name} {sync}"));
        }
    };
    drop_all();
    for arguments in [&["--dry-run"][..], &[]] {
        told.push(said(
            &world.run(&[&["restore", "--in-place", "whole"], arguments].concat()),
        ));
    }
    for name in &names {
        assert!(on_disk(name).contains("very secret"), "{}", on_disk(name));
    }
    told.push(said(&world.run(&["operation", "list", "--output", "json"])));
    // Other credentials are told, and not what they are.
    drop_all();
    query(
        "CREATE TABLE d.remote (a UInt64) ENGINE = MySQL('127.0.0.1:1', 'db', 't', 'user', 'other secret')",
    );
    let differs = said(&world.run(&["verify", "whole", "--live"]));
    assert!(
        differs.contains("credentials are others than in the backup"),
        "{differs}"
    );
    told.push(differs);
    query(if world.is_current() {
        "DROP TABLE d.remote SYNC"
    } else {
        "DROP TABLE d.remote"
    });
    let gap = world.fails(1, &["restore", "--in-place", "without"]);
    assert!(
        gap.contains("d.remote: its definition is not whole"),
        "{gap}"
    );
    told.push(gap);
    let left = query("SELECT count() FROM system.tables WHERE database = 'd'");
    assert_eq!(left, "1\n", "nothing was created with another password");
    for told in told {
        assert!(
            !told.contains("very secret") && !told.contains("other secret"),
            "{told}"
        );
    }
}

fn a_mutation_that_was_not_finished_is_told_and_applied_when_asked_for(flavor: Flavor) {
    let world = world(flavor);
    let query = |sql: &str| world.server.query(sql);
    query("CREATE TABLE d.t (a UInt64, v UInt64) ENGINE = MergeTree PARTITION BY a % 2 ORDER BY a");
    query("INSERT INTO d.t SELECT number, 0 FROM system.numbers LIMIT 10");
    world.stop_merges();
    let no_wait = if world.is_current() {
        "SETTINGS mutations_sync = 0"
    } else {
        ""
    };
    query(&format!(
        "ALTER TABLE d.t UPDATE v = v + 1 WHERE a < 5 {no_wait}"
    ));
    world.backup(&["d"]);
    let sync = if world.is_current() { "SYNC" } else { "" };
    query(&format!("DROP TABLE d.t {sync}"));
    world.start_merges();
    let left = world.ok(&["restore", "d"]);
    assert!(
        left.contains("was not finished when the backup was made"),
        "{left}"
    );
    assert!(left.contains("--apply-mutations applies it"), "{left}");
    assert_eq!(query("SELECT sum(v) FROM d.t"), "0\n");

    let planned = world.ok(&[
        "restore",
        "--in-place",
        "--apply-mutations",
        "--dry-run",
        "d",
    ]);
    assert!(
        planned.contains("it would be applied to partitions 0, 1"),
        "{planned}"
    );
    let applied = world.ok(&["restore", "--in-place", "--apply-mutations", "d"]);
    assert!(
        applied.contains("it was applied to partitions 0, 1"),
        "{applied}"
    );
    world.mutations_end();
    assert_eq!(query("SELECT sum(v) FROM d.t"), "5\n");
}

#[test]
fn a_mutation_that_had_begun_is_not_applied_twice() {
    let world = world(Flavor::Current);
    let query = |sql: &str| world.server.query(sql);
    query("CREATE TABLE d.t (a UInt64, v UInt64) ENGINE = MergeTree PARTITION BY a % 2 ORDER BY a");
    query("INSERT INTO d.t SELECT number, 0 FROM numbers(10)");
    query("SYSTEM STOP MERGES d.t");
    query("ALTER TABLE d.t UPDATE v = v + 1 WHERE a < 5 SETTINGS mutations_sync = 0");
    // It came after the mutation, which does not concern it.
    query("INSERT INTO d.t VALUES (1, 0)");
    world.backup(&["d"]);
    query("DROP TABLE d.t SYNC");
    let applied = world.ok(&["restore", "--apply-mutations", "d"]);
    assert!(
        applied.contains("it was applied to partitions 0;"),
        "{applied}"
    );
    assert!(
        applied.contains("in partitions 1 it was through some parts"),
        "{applied}"
    );
    assert_eq!(query("SELECT sum(v) FROM d.t WHERE a % 2 = 0"), "3\n");
    assert_eq!(query("SELECT sum(v) FROM d.t WHERE a % 2 = 1"), "0\n");
}

fn what_clickhouse_backup_kept_without_credentials_is_a_named_gap(flavor: Flavor) {
    let world = world(flavor);
    let root = tempfile::tempdir().unwrap();
    let documents = root.path().join("nightly/metadata/d");
    std::fs::create_dir_all(&documents).unwrap();
    let query = "CREATE TABLE d.remote (`a` UInt64) ENGINE = MySQL('127.0.0.1:1', 'db', 't', 'user', '[HIDDEN]')";
    let of_table = json!({
        "files": {}, "table": "remote", "database": "d", "parts": {}, "query": query, "size": {},
        "total_bytes": 0, "metadata_only": true,
    });
    let of_backup = json!({
        "backup_name": "nightly", "disks": { "default": world.server.data_path() }, "version": "2.6.42",
        "creation_date": "2026-08-19T08:00:00Z", "tags": "regular", "clickhouse_version": "v1", "data_size": 0,
        "metadata_size": 1, "databases": [{ "name": "d", "engine": "Atomic", "query": "CREATE DATABASE d" }],
        "tables": [{ "database": "d", "table": "remote" }],
    });
    std::fs::write(documents.join("remote.json"), of_table.to_string()).unwrap();
    std::fs::write(
        root.path().join("nightly/metadata.json"),
        of_backup.to_string(),
    )
    .unwrap();
    let from = format!("clickhouse-backup+file://{}", root.path().display());
    let gap = world.fails(1, &["restore", "--from", &from, "nightly"]);
    assert!(
        gap.contains("d.remote: its definition is not whole"),
        "{gap}"
    );
    let tables = world
        .server
        .query("SELECT count() FROM system.tables WHERE database = 'd'");
    assert_eq!(tables, "0\n");
}

#[test]
fn dictionaries_are_read_again_when_what_they_stand_on_is_mended() {
    let world = world(Flavor::Current);
    let query = |sql: &str| world.server.query(sql);
    query("CREATE TABLE d.src (id UInt64, v String) ENGINE = MergeTree ORDER BY id");
    query("INSERT INTO d.src VALUES (1, 'one'), (2, 'two')");
    query("CREATE VIEW d.over AS SELECT id, v FROM d.src");
    query(
        "CREATE DICTIONARY d.dic (id UInt64, v String) PRIMARY KEY id \
         SOURCE(CLICKHOUSE(TABLE 'over' DB 'd')) LAYOUT(FLAT()) LIFETIME(0)",
    );
    query("CREATE TABLE d.dt (id UInt64, v String) ENGINE = Dictionary('d.dic')");
    let answers = || {
        let looked_up = query("SELECT dictGet('d.dic', 'v', toUInt64(2))");
        query("SELECT count() FROM d.dt") + &looked_up
    };
    assert_eq!(answers(), "2\ntwo\n");
    world.backup(&["d"]);
    query("DROP DATABASE d SYNC");
    world.ok(&["restore", "d"]);
    assert_eq!(answers(), "2\ntwo\n", "of tables that were created");

    query("TRUNCATE TABLE d.src SYNC");
    query("SYSTEM RELOAD DICTIONARY d.dic");
    assert_eq!(answers(), "0\n\n");
    let mended: Mended = world.json(&["restore", "--in-place", "d"]);
    assert_eq!(answers(), "2\ntwo\n", "of a table that was mended");
    world.ok(&["undo", &mended.operation_id]);
    assert_eq!(answers(), "0\n\n", "and of one that was taken back");
}

/// Rights with a filter of the rows of `d.t` for everybody who logs in without a password.
fn rights(filter: &str) -> String {
    format!(
        "<clickhouse><profiles><default/></profiles><users><default><password/>\
         <access_management>1</access_management><networks><ip>::/0</ip></networks>\
         <profile>default</profile><quota>default</quota>\
         <databases><d><t><filter>{filter}</filter></t></d></databases>\
         </default></users><quotas><default/></quotas></clickhouse>"
    )
}

#[test]
fn a_row_policy_that_changed_is_told_as_other_answers() {
    let directory = tempfile::tempdir().unwrap();
    let users = directory.path().join("users.xml");
    std::fs::write(&users, rights("a = 1")).unwrap();
    let options = ServerOptions {
        more_config: format!("<users_config>{}</users_config>", users.display()),
        ..ServerOptions::default()
    };
    let mut world = World::with(Flavor::Current, options);
    world.server.create_database("d");
    let query = |sql: &str| world.server.query(sql);
    query("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a");
    query("INSERT INTO d.t SELECT number FROM system.numbers LIMIT 10");
    assert_eq!(query("SELECT count() FROM d.t").trim(), "1");
    world.backup(&["d"]);
    assert!(world.preview(&["d"]).different.is_empty());

    std::fs::write(&users, rights("a &lt; 5")).unwrap();
    world.server.restart();
    assert_eq!(world.server.query("SELECT count() FROM d.t").trim(), "5");
    let output = world.run(&MEND_ALL);
    assert_eq!(output.status.code(), Some(3));
    let said = said(&output);
    for told in ["row policy", "USING a = 1", "USING a < 5"] {
        assert!(said.contains(told), "{told:?} in {said}");
    }
    let (code, tables) = verified(&world);
    assert_eq!((code, &tables[0]["equal"]), (Some(3), &json!(false)));
}
