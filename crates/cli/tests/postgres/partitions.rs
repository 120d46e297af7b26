//! A partitioned table is one table, whatever partitions it has.

use crate::postgres_server::Version;
use crate::shop::Shop;

const EVENTS: &str = "SELECT * FROM public.events ORDER BY at, id";

fn events(version: Version) -> Shop {
    let shop = Shop::empty_on(version);
    shop.sql(
        "CREATE TABLE events (id int, at date, what text NOT NULL, twice int GENERATED ALWAYS AS (id * 2) STORED,
                              PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
         CREATE TABLE events_2026_01 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
         CREATE TABLE events_2026_02 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')
             PARTITION BY HASH (id);
         CREATE TABLE events_2026_02_0 PARTITION OF events_2026_02 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE events_2026_02_1 PARTITION OF events_2026_02 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         CREATE TABLE others PARTITION OF events DEFAULT;
         CREATE INDEX ON events (what) WHERE id > 5;
         INSERT INTO events (id, at, what) SELECT n, '2026-01-01'::date + n % 100, 'event ' || n FROM generate_series(1, 2000) n;
         CREATE TABLE kinds (event_at date, event int, FOREIGN KEY (event_at, event) REFERENCES events);
         INSERT INTO kinds SELECT at, id FROM events WHERE id < 50",
    );
    shop.ok(&["collection", "create", "shop", "--table", "public.events"]);
    shop
}

#[test]
fn a_partitioned_table_is_mended_over_all_its_partitions() {
    for version in [Version::Debian, Version::V18] {
        let shop = events(version);
        let check = shop.json(&["target", "check"]);
        let tables = check["tables"].as_array().unwrap().iter();
        let tables: Vec<_> = tables
            .map(|table| {
                (
                    table["table"].as_str().unwrap(),
                    table["can_be_mended"] == true,
                )
            })
            .collect();
        assert_eq!(tables, [("public.events", true), ("public.kinds", false)]);
        let before = shop.copy(EVENTS);
        shop.ok(&["backup", "shop", "--label", "monday"]);
        shop.sql(
            "CREATE FUNCTION nosy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.what := ''nosy''; RETURN NEW; END';
             CREATE TRIGGER nosy BEFORE INSERT OR UPDATE ON events_2026_01 FOR EACH ROW EXECUTE FUNCTION nosy();
             ALTER TABLE events_2026_01 ENABLE ALWAYS TRIGGER nosy;
             UPDATE events SET what = 'oops' WHERE id % 3 = 0; DELETE FROM events WHERE id % 50 = 1 AND id > 100;
             INSERT INTO events (id, at, what) VALUES (-1, '2026-01-03', 'x'), (-2, '2026-02-03', 'x'), (-3, '2030-01-01', 'x')",
        );
        let damaged = shop.copy(EVENTS);
        let mend = shop.mend(&[]);
        assert_eq!(shop.copy(EVENTS), before);
        shop.ok(&["verify", "monday", "--live"]);
        shop.ok(&["undo", &mend]);
        assert_eq!(shop.copy(EVENTS), damaged);
        let enabled = "SELECT tgenabled FROM pg_trigger WHERE tgname = 'nosy'";
        assert_eq!(shop.copy(enabled), "A\n");
        // Rows that others point to do not go.
        shop.sql("DELETE FROM events WHERE id = 60; INSERT INTO events (id, at, what) VALUES (9000, '2026-01-01', 'y');
                  INSERT INTO kinds VALUES ('2026-01-01', 9000)");
        let refused = shop.run(&["restore", "shop", "--in-place", "--to", "monday"]);
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("kinds"),
            "{refused:?}"
        );
        for operation in shop.unfinished() {
            shop.ok(&["operation", "cancel", &operation]);
        }
        shop.ok(&["verify", "shop"]);
    }
}

#[test]
fn partitions_come_and_go_and_increments_hold_the_rows() {
    let shop = events(Version::Debian);
    shop.ok(&["backup", "shop", "--label", "0"]);
    let mut contents = vec![shop.copy(EVENTS)];
    for (statements, changes, method) in [
        ("DROP TABLE kinds; UPDATE events SET what = 'new' WHERE id IN (1, 40)", 2, "row_versions"),
        // One that is made has only new rows.
        (
            "CREATE TABLE events_2027 PARTITION OF events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
             INSERT INTO events (id, at, what) VALUES (1, '2027-03-01', 'a'), (2, '2027-03-01', 'b')",
            2,
            "row_versions",
        ),
        ("TRUNCATE events_2027", 2, "row_versions"),
        ("CREATE TABLE old (LIKE events INCLUDING ALL); INSERT INTO old (id, at, what) VALUES (7, '2028-01-01', 'old')", 0, "row_versions"),
        ("ALTER TABLE events ATTACH PARTITION old FOR VALUES FROM ('2028-01-01') TO ('2029-01-01')", 1, "old rows"),
        ("ALTER TABLE events DETACH PARTITION old", 1, "row_versions"),
        ("DROP TABLE events_2026_02", 28 * 20, "row_versions"),
    ] {
        shop.sql(statements);
        let label = contents.len().to_string();
        let report = shop.json(&["backup", "shop", "--incremental", "--label", &label]);
        let table = &report["tables"][0];
        assert_eq!(table["changes"], changes, "{statements}");
        assert!(table["changes_by"].to_string().contains(method), "{statements}: {table}");
        shop.ok(&["verify", "shop", "--live"]);
        contents.push(shop.copy(EVENTS));
    }
    let again = shop.json(&["backup", "shop", "--incremental", "--compare-rows"]);
    assert_eq!(again["tables"][0]["changes"], 0);
    // Rows of a partition that is gone go to the default one, or come with it.
    for to in [6, 0, 3] {
        shop.mend(&["--to", &to.to_string()]);
        assert_eq!(shop.copy(EVENTS), contents[to], "{to}");
    }
    shop.ok(&["verify", "shop"]);
    shop.assert_nothing_of_mends_held();
}

#[test]
fn a_partitioned_table_is_restored_beside_with_its_partitions() {
    for version in [Version::Debian, Version::V18] {
        let shop = events(version);
        shop.ok(&["backup", "shop"]);
        shop.sql("DELETE FROM events WHERE id % 7 = 3 AND id > 100");
        shop.ok(&["backup", "shop", "--incremental"]);
        for strategy in ["sequential", "merged"] {
            shop.ok(&[
                "restore",
                "shop",
                "--rename",
                "public.events=public.past",
                "--strategy",
                strategy,
            ]);
            assert_eq!(
                shop.copy("SELECT * FROM past ORDER BY at, id"),
                shop.copy(EVENTS)
            );
            let tree = |root: &str| {
                let tree = shop.copy(&format!(
                    "SELECT replace(relid::text, '{root}', 'x'), level, pg_get_expr(c.relpartbound, c.oid),
                            (SELECT count(*) FROM pg_index WHERE indrelid = relid)
                     FROM pg_partition_tree('{root}') JOIN pg_class c ON c.oid = relid ORDER BY level, 3"
                ));
                tree.replace("others1", "others")
            };
            assert_eq!(tree("past"), tree("events"));
            shop.sql("DROP TABLE past");
        }
        shop.sql("DROP TABLE kinds, events");
        shop.ok(&["restore", "shop"]);
        shop.ok(&["verify", "shop", "--live"]);
        assert_eq!(
            shop.copy("SELECT count(*) FROM others WHERE at >= '2026-03-01'"),
            shop.copy("SELECT count(*) FROM others")
        );
        shop.mend(&[]);
    }
}

#[test]
fn what_is_no_table_of_its_own_is_refused_by_name() {
    let shop = events(Version::Debian);
    shop.sql(
        "CREATE TABLE logs (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE UNLOGGED TABLE logs_1 PARTITION OF logs FOR VALUES FROM (1) TO (9)",
    );
    for (table, why) in [
        ("public.events_2026_01", "is a partition"),
        ("public.logs", "partition logs_1 is unlogged"),
    ] {
        let refused = shop.fails(1, &["collection", "create", "c", "--table", table]);
        assert!(refused.contains(why), "{refused}");
    }
}
