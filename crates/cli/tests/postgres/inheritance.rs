//! A table that inherits is a table of its own: its rows are backed up and mended, and those of its parents and heirs stay.

use crate::postgres_server::Version;
use crate::shop::Shop;

const TABLES: [&str; 4] = ["people", "staff", "tagged", "guests"];

/// People, staff who are people, and guests who are staff and tagged; each with its own key.
fn make(shop: &Shop) {
    shop.sql(
        "CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL CHECK (name <> ''), twice int GENERATED ALWAYS AS (2 * 3) STORED);
         CREATE TABLE tagged (id int PRIMARY KEY, tag text DEFAULT 'none');
         CREATE TABLE staff (salary numeric(10,2) CHECK (salary >= 0), PRIMARY KEY (id)) INHERITS (people);
         CREATE TABLE guests (until date, PRIMARY KEY (id)) INHERITS (staff, tagged);
         ALTER TABLE people ADD since date;
         INSERT INTO people (name, since) SELECT 'person ' || n, '2026-01-01'::date + n FROM generate_series(1, 300) n;
         INSERT INTO tagged SELECT n, 'tag ' || n FROM generate_series(1, 50) n;
         INSERT INTO staff (name, salary) SELECT 'staff ' || n, n FROM generate_series(1, 200) n;
         INSERT INTO guests (name, salary, until) SELECT 'guest ' || n, n, '2026-02-01' FROM generate_series(1, 100) n;
         -- The keys of a parent do not hold over its heirs.
         INSERT INTO staff (id, name, salary) VALUES (1, 'same key', 5)",
    );
}

fn family(version: Version) -> Shop {
    let shop = Shop::empty_on(version);
    make(&shop);
    shop.ok(&["collection", "create", "shop", "--table", "public.*"]);
    shop
}

/// The own rows of each table.
fn rows(shop: &Shop) -> [String; 4] {
    TABLES.map(|table| shop.copy(&format!("SELECT * FROM ONLY public.{table} ORDER BY id")))
}

fn damage(shop: &Shop) {
    shop.sql(
        "UPDATE people SET name = 'x' WHERE id % 10 = 3; DELETE FROM ONLY people WHERE id % 10 = 4;
         DELETE FROM ONLY staff WHERE id % 7 = 3; INSERT INTO staff (name, salary) SELECT 'new', n FROM generate_series(1, 9) n;
         UPDATE guests SET tag = 'other' WHERE id % 3 = 0; DELETE FROM tagged WHERE id > 590;
         INSERT INTO people (id, name) SELECT id, 'moved up' FROM ONLY staff WHERE id % 50 = 1 AND id > 300",
    );
}

#[test]
fn each_table_of_a_family_is_mended_and_taken_back_with_its_own_rows() {
    for version in [Version::Debian, Version::V18] {
        let shop = family(version);
        let before = rows(&shop);
        let report = shop.json(&["backup", "shop", "--label", "monday"]);
        assert_eq!(report["state"], "done", "{report}");
        shop.ok(&["verify", "monday", "--live"]);
        damage(&shop);
        let damaged = rows(&shop);
        let mend = shop.mend(&[]);
        assert_eq!(rows(&shop), before);
        shop.ok(&["verify", "monday", "--live"]);
        shop.ok(&["undo", &mend]);
        assert_eq!(rows(&shop), damaged);
        // The rows of the others are not touched where one is mended.
        shop.mend(&["--to", "monday", "--tables", "public.people"]);
        let [people, ..] = before.clone();
        assert_eq!(rows(&shop)[0], people);
        assert_eq!(rows(&shop)[1..], damaged[1..]);
        shop.mend(&[
            "--to",
            "monday",
            "--tables",
            "public.staff",
            "--where",
            "salary < 100",
        ]);
        assert_eq!(rows(&shop)[0], people);
        assert_ne!(rows(&shop)[1], damaged[1]);
        shop.mend(&["--to", "monday"]);
        assert_eq!(rows(&shop), before);
        shop.assert_nothing_of_mends_held();
    }
}

#[test]
fn increments_of_a_family_are_the_same_on_every_road() {
    for version in [Version::Debian, Version::V18] {
        let mut shop = family(version);
        shop.server.crash();
        shop.server.start_with(&["wal_level=logical"]);
        shop.ok(&["backup", "shop", "--changes", "stream", "--label", "0"]);
        let mut contents = vec![rows(&shop)];
        for (statements, changes) in [
            ("UPDATE people SET name = 'y' WHERE id = 1", [0, 1, 1, 0]),
            (
                "INSERT INTO guests (name) VALUES ('g'); DELETE FROM ONLY staff WHERE id = 301",
                [1, 0, 1, 0],
            ),
            ("DELETE FROM people WHERE id IN (7, 302, 502)", [1, 1, 1, 0]),
        ] {
            shop.sql(statements);
            let label = contents.len().to_string();
            let report = shop.json(&["backup", "shop", "--incremental", "--label", &label]);
            let tables = report["tables"].as_array().unwrap();
            let found: Vec<_> = tables
                .iter()
                .map(|table| table["changes"].as_u64().unwrap())
                .collect();
            assert_eq!(found, changes, "{statements}: {report}");
            for table in tables {
                assert!(
                    table["changes_by"].to_string().contains("stream"),
                    "{table}"
                );
            }
            shop.ok(&["verify", "shop", "--live"]);
            contents.push(rows(&shop));
        }
        let by_rows = |shop: &Shop, more: &[&str]| {
            let report = shop.json(&[&["backup", "shop", "--incremental"], more].concat());
            let tables = report["tables"].as_array().unwrap().clone();
            let changes = tables
                .iter()
                .map(|table| table["changes"].as_u64().unwrap());
            changes.collect::<Vec<_>>()
        };
        assert_eq!(by_rows(&shop, &["--compare-rows"]), [0, 0, 0, 0]);
        shop.ok(&["backup", "shop", "--changes", "rows"]);
        shop.sql(
            "UPDATE people SET name = 'z' WHERE id % 100 = 2; DELETE FROM ONLY people WHERE id = 9",
        );
        assert_eq!(by_rows(&shop, &[]), [0, 4, 1, 0]);
        assert_eq!(by_rows(&shop, &["--compare-rows"]), [0, 0, 0, 0]);
        shop.ok(&["verify", "shop", "--live"]);
        for to in [2, 0, 3] {
            shop.mend(&["--to", &to.to_string()]);
            assert_eq!(rows(&shop), contents[to], "{to}");
        }
    }
}

/// Columns with whose they are, parents, constraints and defaults, with names of tables left out.
fn shape(shop: &Shop, prefix: &str) -> Vec<String> {
    let shape = |table: &&str| {
        let shape = shop.copy(&format!(
            "SELECT (SELECT string_agg(format('%s %s %s %s', a.attname, a.atttypid::regtype, a.attnotnull,
                                              pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY a.attnum)
                     FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
                    (SELECT string_agg(i.inhparent::regclass::text, ', ' ORDER BY inhseqno) FROM pg_inherits i WHERE inhrelid = c.oid),
                    (SELECT string_agg(pg_get_constraintdef(k.oid), ', ' ORDER BY pg_get_constraintdef(k.oid))
                     FROM pg_constraint k WHERE k.conrelid = c.oid AND contype IN ('c', 'p'))
             FROM pg_class c WHERE c.oid = '{prefix}{table}'::regclass"
        ));
        TABLES.iter().fold(shape, |shape, table| {
            shape.replace(&format!("{prefix}{table}"), table)
        })
    };
    TABLES.iter().map(shape).collect()
}

#[test]
fn a_family_is_restored_beside_as_one() {
    for version in [Version::Debian, Version::V18] {
        let shop = family(version);
        shop.ok(&["backup", "shop"]);
        damage(&shop);
        shop.ok(&["backup", "shop", "--incremental"]);
        for strategy in ["sequential", "merged"] {
            let renames = TABLES.map(|table| format!("public.{table}=public.the_{table}"));
            let mut command = vec!["restore", "shop", "--strategy", strategy];
            for rename in &renames {
                command.extend(["--rename", rename]);
            }
            shop.ok(&command);
            for table in TABLES {
                assert_eq!(
                    shop.copy(&format!("SELECT * FROM ONLY the_{table} ORDER BY id")),
                    shop.copy(&format!("SELECT * FROM ONLY {table} ORDER BY id"))
                );
                assert_eq!(
                    shop.copy(&format!("SELECT count(*) FROM the_{table}")),
                    shop.copy(&format!("SELECT count(*) FROM {table}"))
                );
            }
            assert_eq!(shape(&shop, "the_"), shape(&shop, ""));
            // One sequence, behind all.
            shop.sql("INSERT INTO the_guests (name) VALUES ('next')");
            let greatest =
                "SELECT id > (SELECT max(id) FROM people) FROM the_guests WHERE name = 'next'";
            assert_eq!(shop.copy(greatest), "t\n");
            shop.sql("DROP TABLE the_people, the_staff, the_tagged, the_guests");
        }
        shop.assert_nothing_of_mends_held();
    }
}

#[test]
fn columns_that_an_heir_has_from_its_parent_are_not_its_own_when_it_is_restored() {
    for version in [Version::Debian, Version::V18] {
        let shop = Shop::empty_on(version);
        shop.sql(
            "CREATE TABLE top (id int PRIMARY KEY, a int NOT NULL DEFAULT 4, b text COLLATE \"C\");
             CREATE TABLE low (c int, a int DEFAULT 5, PRIMARY KEY (id)) INHERITS (top);
             INSERT INTO low (id, c) VALUES (1, 2)",
        );
        shop.ok(&["collection", "create", "shop", "--table", "public.*"]);
        shop.ok(&["backup", "shop"]);
        shop.ok(&[
            "restore",
            "shop",
            "--rename",
            "public.low=public.below",
            "--rename",
            "public.top=public.above",
        ]);
        let local = |table: &str| {
            shop.copy(&format!(
                "SELECT attname, attislocal, attinhcount FROM pg_attribute
                 WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum"
            ))
        };
        assert_eq!(local("below"), local("low"));
        shop.sql("ALTER TABLE above DROP COLUMN b");
        assert_eq!(shop.copy("SELECT * FROM below"), "1\t5\t2\n");
        // One alone has all its columns, and inherits from nobody.
        shop.ok(&[
            "restore",
            "shop",
            "--tables",
            "public.low",
            "--rename",
            "public.low=public.alone",
        ]);
        assert_eq!(
            shop.copy("SELECT * FROM alone"),
            shop.copy("SELECT * FROM low")
        );
        assert_eq!(shop.copy("SELECT count(*) FROM pg_inherits"), "2\n");
    }
}

#[test]
fn an_heir_that_was_dropped_comes_back_as_one() {
    for version in [Version::Debian, Version::V18] {
        let shop = family(version);
        let (before, shape_before) = (rows(&shop), shape(&shop, ""));
        shop.ok(&["backup", "shop", "--label", "monday"]);
        shop.sql("UPDATE people SET name = 'gone' WHERE id = 2; DROP TABLE guests");
        let refused = shop.fails(1, &["backup", "shop", "--incremental"]);
        assert!(
            refused.contains("public.guests of collection shop does not exist"),
            "{refused}"
        );
        // Its parents are there: it inherits from them again.
        shop.ok(&["restore", "shop", "--tables", "public.guests"]);
        assert_eq!(shape(&shop, ""), shape_before);
        shop.mend(&[]);
        assert_eq!(rows(&shop), before);
        shop.ok(&["verify", "monday", "--live"]);
        // A table of the same name with the same rows of another family.
        shop.sql("ALTER TABLE guests NO INHERIT tagged; UPDATE tagged SET tag = 'x' WHERE id < 5");
        shop.ok(&["backup", "shop", "--label", "tuesday"]);
        shop.ok(&["verify", "tuesday", "--live"]);
        shop.mend(&["--to", "monday"]);
        assert_eq!(rows(&shop), before);
    }
}

#[test]
fn a_foreign_key_points_to_the_rows_of_a_parent_alone() {
    for version in [Version::Debian, Version::V18] {
        let shop = family(version);
        shop.sql(
            "CREATE TABLE visits (id int PRIMARY KEY, person int REFERENCES people); INSERT INTO visits VALUES (1, 8), (2, 9)",
        );
        shop.ok(&["collection", "create", "visits", "--table", "public.visits"]);
        shop.ok(&["backup", "visits"]);
        shop.ok(&["backup", "shop"]);
        // An heir has the key; the parent has not.
        shop.sql(
            "DELETE FROM visits; DELETE FROM ONLY people WHERE id = 8; INSERT INTO staff (id, name) VALUES (8, 'not it')",
        );
        let refused = shop.fails(1, &["restore", "visits", "--in-place"]);
        assert!(
            refused.contains("public.people that are not there"),
            "{refused}"
        );
        shop.mend(&["--tables", "public.people"]);
        let report = shop.json(&["restore", "visits", "--in-place"]);
        assert_eq!(report["state"], "done", "{report}");
        assert_eq!(
            shop.copy("SELECT * FROM visits ORDER BY id"),
            "1\t8\n2\t9\n"
        );
        assert_eq!(shop.copy("SELECT name FROM staff WHERE id = 8"), "not it\n");
    }
}

#[test]
fn who_takes_one_of_a_family_is_told_of_the_others() {
    let shop = Shop::empty();
    make(&shop);
    shop.sql("CREATE TABLE keyless () INHERITS (people)");
    let refused = shop.fails(
        1,
        &["collection", "create", "c", "--table", "public.keyless"],
    );
    assert!(refused.contains("no primary key"), "{refused}");
    let said = |arguments: &[&str]| {
        let output = shop.run(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let created = said(&["collection", "create", "shop", "--table", "public.s*"]);
    for (other, why) in [
        (
            "public.people",
            "table public.staff inherits from public.people",
        ),
        (
            "public.guests",
            "table public.guests inherits from public.staff",
        ),
    ] {
        assert!(created.contains(why), "{other}: {created}");
    }
    assert!(!created.contains("tagged"), "{created}");
    shop.ok(&["backup", "shop"]);
    shop.sql("DELETE FROM ONLY staff WHERE id < 320");
    let plan = said(&["restore", "shop", "--in-place", "--dry-run"]);
    assert!(
        plan.contains("note: table public.staff inherits from public.people"),
        "{plan}"
    );
    let plan = shop.json(&["restore", "shop", "--in-place", "--dry-run"]);
    assert_eq!(plan["relatives"].as_array().unwrap().len(), 2, "{plan}");
    let mend = said(&["restore", "shop", "--in-place"]);
    assert!(
        mend.contains("public.guests inherits from public.staff"),
        "{mend}"
    );
    let check = said(&["target", "check"]);
    assert!(
        check.contains("public.guests inherits from public.tagged"),
        "{check}"
    );
    assert!(check.contains("keyless"), "{check}");
    // Together there is nothing to say.
    shop.ok(&["collection", "drop", "shop"]);
    let whole = said(&["collection", "create", "whole", "--table", "public.*"]);
    assert!(
        whole.contains("note: table public.keyless inherits"),
        "{whole}"
    );
    shop.sql("DROP TABLE keyless");
    shop.ok(&["collection", "drop", "whole"]);
    let whole = said(&["collection", "create", "all", "--table", "public.*"]);
    assert!(!whole.contains("inherits"), "{whole}");
}
