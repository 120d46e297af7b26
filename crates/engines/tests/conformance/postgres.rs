//! A PostgreSQL database keeps every promise, and those of mends beside writers.

use std::ops::ControlFlow;

use mendb_engines::postgres::{Address, Postgres};
use mendb_engines::{
    Engine, FreezeRequest, HiddenTable, LiveRows, LookedDigests, Remedy, Result, RowSource,
    RowStore, WantedTable,
};
use mendb_model::change::Change;
use mendb_model::name::TablePath;
use mendb_model::{Digest, KeyRange, RowBlock, RowBlockBuilder};

use crate::postgres_server::{PostgresServer, Version};
use crate::row_suite::{self, RowSubject};
use crate::suite::{self, Subject};

const TABLE: &str = "public.t";

struct Rows {
    engine: Postgres,
    // It ends last.
    server: PostgresServer,
}

impl Rows {
    fn new() -> Self {
        Self::of(Version::Debian)
    }

    fn of(version: Version) -> Self {
        let server = PostgresServer::of(version);
        let store = Self::on(server);
        store
            .server
            .sql("CREATE TABLE t (id bigint PRIMARY KEY, a bigint, b bigint)");
        store.edit(0);
        store
    }

    fn on(server: PostgresServer) -> Self {
        Self {
            engine: open(&server),
            server,
        }
    }

    fn rows_of(&self, table: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let path = TablePath::table(table);
        let read = self
            .engine
            .scan(&path, &KeyRange::all(), None, &mut |block| {
                rows.extend(block.iter().map(|(key, row)| (key.to_vec(), row.to_vec())));
                ControlFlow::Continue(())
            });
        read.unwrap();
        rows
    }

    fn read(&self, operation: &str, each: &mut dyn FnMut(&RowBlock<&[u8]>)) -> Result<()> {
        let path = TablePath::table(TABLE);
        self.engine
            .read_rows(operation, &path, &KeyRange::all(), None, &mut |block| {
                each(block);
                ControlFlow::Continue(())
            })
    }
}

fn open(server: &PostgresServer) -> Postgres {
    let address = Address::parse(&server.url("postgres"), &|_| None).unwrap();
    Postgres::drive(&address)
        .unwrap()
        .expect("nobody else has it")
}

impl RowSubject for Rows {
    fn name(&self, short: &str) -> String {
        format!("public.{short}")
    }

    fn has_indexes(&self) -> bool {
        false
    }

    fn keeps_changes(&self) -> bool {
        false
    }
}

impl Subject for Rows {
    fn engine(&self) -> &dyn Engine {
        &self.engine
    }

    fn edit(&self, round: i64) {
        self.server.sql(&format!(
            "INSERT INTO t SELECT id, id % 9, {round} FROM generate_series({round}, 99, {step}) AS id
                 ON CONFLICT (id) DO UPDATE SET a = excluded.a, b = excluded.b;
             DELETE FROM t WHERE {round} > 0 AND id >= {round} * 5 AND (id - {round} * 5) % 13 = 0",
            step = 1 + round * 4
        ));
    }

    fn contents(&self, table: &str) -> Option<String> {
        let there = format!("SELECT to_regclass('public.{table}') IS NOT NULL");
        let row = self.server.connect().query_one(&there, &[]).unwrap();
        row.get::<_, bool>(0).then(|| {
            let path = TablePath::table(format!("public.{table}"));
            self.engine
                .digest(&path, &KeyRange::all())
                .unwrap()
                .to_string()
        })
    }

    fn freeze(&self, operation: &str) {
        let tables = [TABLE.to_owned()];
        let request = FreezeRequest {
            operation,
            tables: &tables,
            stream: "c/1",
            keeps_changes: false,
            since_version: None,
        };
        self.engine.freeze(&request).unwrap();
    }

    fn frozen_contents(&self, operation: &str) -> Result<String> {
        let mut digest = Digest::default();
        self.read(operation, &mut |block| {
            for (key, row) in block.iter() {
                digest.add(key, row);
            }
        })?;
        Ok(digest.to_string())
    }

    fn stage(&self, frozen_by: &str, operation: &str) {
        let tables = [TABLE.to_owned()];
        let request = FreezeRequest {
            operation: frozen_by,
            tables: &tables,
            stream: "c/1",
            keeps_changes: false,
            since_version: None,
        };
        let frozen = self.engine.freeze(&request).unwrap();
        let staged = HiddenTable {
            name: "public.r".into(),
            backup: frozen.tables[0].clone(),
        };
        self.engine.create_hidden(operation, vec![staged]).unwrap();
        let source = RowSource { step: 1, index: 0 };
        let target = TablePath::table("public.r");
        self.read(frozen_by, &mut |block| {
            self.engine.load(operation, &target, source, block).unwrap();
        })
        .unwrap();
    }

    fn apply(&self, _operation: &str) {}
}

/// One server for all promises: each begins with a table as it was.
fn keeps_every_promise(version: Version) {
    let mut store = Rows::of(version);
    let again = |store: Rows| {
        let Rows { engine, server } = store;
        drop(engine);
        server.sql("DROP SCHEMA mendb CASCADE; DROP TABLE IF EXISTS r; TRUNCATE t");
        let store = Rows::on(server);
        store.edit(0);
        store
    };
    for (name, promise) in suite::ALL {
        println!("{name}");
        promise(&store);
        store = again(store);
    }
    for (name, promise) in row_suite::ALL {
        println!("{name}");
        promise(&store);
        store = again(store);
    }
}

#[test]
fn a_postgresql_database_keeps_every_promise() {
    keeps_every_promise(Version::Debian);
}

#[test]
fn a_database_of_postgresql_18_keeps_every_promise() {
    keeps_every_promise(Version::V18);
}

/// Looks at the whole table, and stages what leads to these rows.
fn look(store: &Rows, operation: &str, wanted: &[(Vec<u8>, Vec<u8>)]) {
    let (beside, all) = (store.engine.beside_writers().unwrap(), KeyRange::all());
    let look = beside.begin_look(operation, TABLE, &all).unwrap();
    let live = store.rows_of(TABLE);
    let mut changes: Vec<(Vec<u8>, Change)> = Vec::new();
    let mut found = Digest::default();
    for (key, row) in &live {
        found.add(key, row);
        if !wanted.iter().any(|(wanted, _)| wanted == key) {
            changes.push((key.clone(), Change::erase(0)));
        }
    }
    for row in wanted.iter().filter(|row| !live.contains(row)) {
        changes.push((row.0.clone(), Change::reset(row.1.clone(), 0)));
    }
    changes.sort_by(|one, other| one.0.cmp(&other.0));
    let mut block = RowBlockBuilder::new();
    for (key, change) in &changes {
        block.push(key, &change.encode());
    }
    let source = RowSource { step: 1, index: 0 };
    store
        .engine
        .stage_mend(operation, TABLE, source, &block.finish().view())
        .unwrap();
    let digests = LookedDigests {
        found,
        wanted: digest_of(wanted),
    };
    beside
        .end_look(operation, TABLE, &all, &look, digests)
        .unwrap();
}

fn digest_of(rows: &[(Vec<u8>, Vec<u8>)]) -> Digest {
    let mut digest = Digest::default();
    for (key, row) in rows {
        digest.add(key, row);
    }
    digest
}

fn wanted(rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<WantedTable> {
    vec![WantedTable {
        table: TABLE.to_owned(),
        shards: vec![(KeyRange::all(), Some(digest_of(rows)))],
    }]
}

fn tables() -> [String; 1] {
    [TABLE.to_owned()]
}

#[test]
fn whatever_is_written_after_a_look_is_found_before_the_publish() {
    let store = Rows::new();
    let before = store.rows_of(TABLE);
    store.engine.begin_mend("m1", &tables()).unwrap();
    let beside = store.engine.beside_writers().unwrap();
    for written in [
        "UPDATE t SET a = 7 WHERE id = 50",
        "INSERT INTO t VALUES (1000, 1, 1)",
        "DELETE FROM t WHERE id = 20",
        "BEGIN; SAVEPOINT a; UPDATE t SET b = 9 WHERE id = 3; RELEASE a; COMMIT",
        "TRUNCATE t",
    ] {
        look(&store, "m1", &before);
        let mut locked = beside.lock_out("m1", &wanted(&before), None).unwrap();
        assert_eq!(locked.drifted().unwrap(), [], "{written}");
        drop(locked);
        store.server.sql(written);
        let mut locked = beside.lock_out("m1", &wanted(&before), None).unwrap();
        assert_eq!(locked.drifted().unwrap().len(), 1, "{written}");
        // What was not looked at again is not published.
        assert_eq!(locked.publish().unwrap_err().remedy, Remedy::Retry);
    }
    let mut locked = beside.lock_out("m1", &wanted(&before), None).unwrap();
    assert_eq!(locked.drifted().unwrap().len(), 1);
    look(&store, "m1", &before);
    locked.publish().unwrap();
    assert!(store.engine.is_published("m1").unwrap());
    assert_eq!(store.rows_of(TABLE), before);
    store.engine.make_live("m1").unwrap();
    assert_eq!(store.engine.locks().unwrap(), []);
}

#[test]
fn a_transaction_that_wrote_and_has_not_ended_is_found_when_it_has() {
    let store = Rows::new();
    let before = store.rows_of(TABLE);
    let mut writer = store.server.connect();
    writer
        .batch_execute("BEGIN; UPDATE t SET a = 7 WHERE id = 50")
        .unwrap();
    store.engine.begin_mend("m1", &tables()).unwrap();
    look(&store, "m1", &before);
    writer.batch_execute("COMMIT").unwrap();
    let beside = store.engine.beside_writers().unwrap();
    let mut locked = beside.lock_out("m1", &wanted(&before), None).unwrap();
    assert_eq!(locked.drifted().unwrap().len(), 1);
}

#[test]
fn a_transaction_that_only_lasts_keeps_no_mend_from_its_publish() {
    let store = Rows::new();
    let before = store.rows_of(TABLE);
    let mut other = store.server.connect();
    other
        .batch_execute("CREATE TABLE other (a int); BEGIN; INSERT INTO other VALUES (1)")
        .unwrap();
    store.server.sql("UPDATE t SET a = 7 WHERE id = 50");
    store.engine.begin_mend("m1", &tables()).unwrap();
    look(&store, "m1", &before);
    let beside = store.engine.beside_writers().unwrap();
    let mut locked = beside.lock_out("m1", &wanted(&before), None).unwrap();
    if !locked.drifted().unwrap().is_empty() {
        look(&store, "m1", &before);
    }
    locked.publish().unwrap();
    assert_eq!(store.rows_of(TABLE), before);
}

#[test]
fn what_is_staged_goes_with_a_crash_of_the_server_and_is_not_taken_for_all() {
    let mut store = Rows::new();
    let before = store.rows_of(TABLE);
    store.server.sql("UPDATE t SET a = 7 WHERE id < 50");
    store.engine.begin_mend("m1", &tables()).unwrap();
    look(&store, "m1", &before);
    store.server.crash();
    store.server.start();
    store.engine = open(&store.server);
    let beside = store.engine.beside_writers().unwrap();
    let mut locked = beside.lock_out("m1", &wanted(&before), None).unwrap();
    assert_eq!(locked.drifted().unwrap().len(), 1);
    look(&store, "m1", &before);
    locked.publish().unwrap();
    assert_eq!(store.rows_of(TABLE), before);
}

#[test]
fn a_snapshot_is_not_read_of_partitions_and_tables_that_came_after_it() {
    let changes = [
        "ALTER TABLE t ATTACH PARTITION late FOR VALUES FROM (1000) TO (2000)",
        "ALTER SCHEMA public RENAME TO before; ALTER SCHEMA staging RENAME TO public",
    ];
    for change in changes {
        let store = Rows::on(PostgresServer::of(Version::Debian));
        store.server.sql(
            "CREATE TABLE t (id bigint PRIMARY KEY, a bigint, b bigint) PARTITION BY RANGE (id);
             CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000);
             INSERT INTO t VALUES (1, 1, 1);
             CREATE TABLE late (id bigint PRIMARY KEY, a bigint, b bigint);
             INSERT INTO late VALUES (1500, 1, 1);
             CREATE SCHEMA staging;
             CREATE TABLE staging.t (id bigint PRIMARY KEY, a bigint, b bigint)",
        );
        store.freeze("b1");
        store.read("b1", &mut |_| ()).unwrap();
        store.server.sql(change);
        let refused = store.read("b1", &mut |_| ()).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains("take the backup again"), "{refused}");
    }
}

#[test]
fn what_a_publish_replaced_outlives_a_crash_and_can_be_put_back() {
    let mut store = Rows::new();
    let before = store.rows_of(TABLE);
    store.server.sql("UPDATE t SET a = 7 WHERE id < 50; DELETE FROM t WHERE id = 60; INSERT INTO t VALUES (-5, 1, 1)");
    let damaged = store.rows_of(TABLE);
    store.engine.begin_mend("m1", &tables()).unwrap();
    look(&store, "m1", &before);
    let beside = store.engine.beside_writers().unwrap();
    let mut locked = beside.lock_out("m1", &wanted(&before), None).unwrap();
    assert_eq!(locked.drifted().unwrap(), []);
    locked.publish().unwrap();
    store.server.crash();
    store.server.start();
    store.engine = open(&store.server);
    let mut replaced = Vec::new();
    let path = TablePath::table(TABLE);
    store
        .engine
        .read_changes(
            "m1",
            &path,
            &KeyRange::all(),
            0.into(),
            None,
            &mut |block| {
                replaced.extend(
                    block
                        .iter()
                        .map(|(key, change)| (key.to_vec(), Change::decode(change).unwrap())),
                );
                ControlFlow::Continue(())
            },
        )
        .unwrap();
    let mut rows: std::collections::BTreeMap<_, _> = before.iter().cloned().collect();
    for (key, change) in replaced {
        let row = rows.remove(&key);
        let expected = mendb_model::Replaced::of(&key, row.as_deref());
        assert_eq!(change.replaced, expected);
        if let Some(row) = change.apply(row.as_deref(), &[]).unwrap() {
            rows.insert(key, row);
        }
    }
    assert!(rows.into_iter().eq(damaged.iter().cloned()));
    // Cancelled before anybody heard of the publish.
    store.engine.drop_staged("m1").unwrap();
    assert_eq!(store.rows_of(TABLE), damaged);
    assert_eq!(store.engine.locks().unwrap(), []);
}

#[test]
fn a_publish_is_taken_back_only_while_nobody_wrote_since() {
    let store = Rows::new();
    let before = store.rows_of(TABLE);
    store.server.sql("UPDATE t SET a = 7 WHERE id < 50");
    store.engine.begin_mend("m1", &tables()).unwrap();
    look(&store, "m1", &before);
    let beside = store.engine.beside_writers().unwrap();
    let mut locked = beside.lock_out("m1", &wanted(&before), None).unwrap();
    assert_eq!(locked.drifted().unwrap(), []);
    locked.publish().unwrap();
    store.server.sql("UPDATE t SET a = 8 WHERE id = 10");
    let written = store.rows_of(TABLE);
    let refused = store.engine.drop_staged("m1").unwrap_err();
    assert!(
        refused.to_string().contains("mendb operation abandon m1"),
        "{refused}"
    );
    assert_eq!(store.rows_of(TABLE), written);
}

#[test]
fn one_process_at_a_time_works_on_a_database() {
    let store = Rows::new();
    let address = Address::parse(&store.server.url("postgres"), &|_| None).unwrap();
    assert!(Postgres::drive(&address).unwrap().is_none());
    // Its session is gone, as when a network goes: it changes nothing any more.
    store
        .server
        .sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory';");
    let other = loop {
        if let Some(other) = Postgres::drive(&address).unwrap() {
            break other;
        }
    };
    // Sessions that it has open are ended, and it gets no other.
    let refused = loop {
        let refused = store.engine.begin_mend("m1", &tables()).unwrap_err();
        if refused.remedy != Remedy::Retry {
            break refused;
        }
    };
    assert!(refused.to_string().contains("taken over"), "{refused}");
    other.begin_mend("m1", &tables()).unwrap();
}

#[test]
fn a_copy_of_a_database_leaves_the_slots_of_the_other_alone() {
    let mut server = PostgresServer::new();
    server.crash();
    server.start_with(&["wal_level=logical"]);
    server.sql("CREATE TABLE t (id bigint PRIMARY KEY)");
    let engine = open(&server);
    let request = FreezeRequest {
        operation: "b1",
        tables: &[TABLE.to_owned()],
        stream: "c/1",
        keeps_changes: true,
        since_version: None,
    };
    engine.freeze(&request).unwrap();
    drop(engine);
    let mut admin = server.admin();
    // Its sessions end when the server notices.
    while admin
        .batch_execute("CREATE DATABASE copy TEMPLATE shop")
        .is_err()
    {
        std::thread::yield_now();
    }
    let address = Address::parse(&server.url_of("copy", "postgres"), &|_| None).unwrap();
    let copy = Postgres::drive(&address).unwrap().unwrap();
    let streams = copy.inspect(TABLE).unwrap().unwrap().streams;
    assert_eq!(streams[0].name, "c/1");
    let slots = "SELECT database FROM pg_replication_slots ORDER BY 1";
    let publications = "SELECT count(*) FROM pg_publication";
    copy.freeze(&request).unwrap();
    assert_eq!(server.copy(slots), "copy\nshop\n");
    assert_eq!(server.copy_in("copy", publications), "1\n");
    copy.detach().unwrap();
    assert_eq!(server.copy(slots), "shop\n");
    assert_eq!(server.copy_in("copy", publications), "0\n");
    let engine = open(&server);
    engine.detach_stream("c/1").unwrap();
    assert_eq!(server.copy(slots), "");
    assert_eq!(server.copy(publications), "0\n");
}

#[test]
fn who_looks_leaves_nothing_and_changes_nothing() {
    let server = PostgresServer::new();
    server.sql("CREATE TABLE t (id bigint PRIMARY KEY)");
    let address = Address::parse(&server.url("postgres"), &|_| None).unwrap();
    let look = Postgres::look(&address).unwrap();
    assert_eq!(look.identify("guest").unwrap(), "guest");
    assert!(look.live_rows_of(TABLE));
    assert!(look.thaw("b1").is_ok());
    assert_eq!(
        (&look as &dyn Engine).rows().err().unwrap().remedy,
        Remedy::Request
    );
    assert_eq!(
        server.copy("SELECT count(*) FROM pg_namespace WHERE nspname = 'mendb'"),
        "0\n"
    );
}

trait Looks {
    fn live_rows_of(&self, table: &str) -> bool;
}

impl Looks for Postgres {
    fn live_rows_of(&self, table: &str) -> bool {
        let engine: &dyn Engine = self;
        engine
            .live_rows()
            .unwrap()
            .inspect(table)
            .unwrap()
            .is_some()
    }
}

#[test]
fn what_cannot_be_backed_up_is_refused_by_name() {
    let server = PostgresServer::new();
    server.sql(
        "CREATE TABLE nokey (a int);
         CREATE UNLOGGED TABLE lost (a int PRIMARY KEY);
         CREATE TABLE part (a int PRIMARY KEY) PARTITION BY RANGE (a);
         CREATE UNLOGGED TABLE part_1 PARTITION OF part FOR VALUES FROM (1) TO (2);
         CREATE TABLE heir () INHERITS (nokey);
         CREATE VIEW seen AS SELECT 1;
         CREATE TABLE floats (a float8 PRIMARY KEY);
         CREATE TABLE ruled (a int PRIMARY KEY);
         CREATE RULE r AS ON DELETE TO ruled DO INSTEAD NOTHING",
    );
    let engine = open(&server);
    for (table, why) in [
        ("nokey", "no primary key"),
        ("heir", "no primary key"),
        ("lost", "unlogged"),
        ("part", "its partition part_1 is unlogged"),
        ("part_1", "unlogged"),
        ("seen", "view"),
        ("floats", "key column a is of type double precision"),
        ("ruled", "rules"),
    ] {
        let refused = engine.inspect(&format!("public.{table}")).unwrap_err();
        assert_eq!(refused.remedy, Remedy::Request);
        assert!(refused.to_string().contains(why), "{refused}");
    }
    assert_eq!(engine.inspect("public.none").unwrap(), None);
    assert!(
        engine.inspect("nokey").is_err(),
        "it has to be named with its schema"
    );
}
