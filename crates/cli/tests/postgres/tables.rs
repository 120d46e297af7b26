//! Tables are chosen by patterns, listed, described and exported; and writers wait no longer than was allowed.

use std::fs;

use crate::postgres_server::Version;
use crate::shop::Shop;

#[test]
fn tables_are_listed_described_and_exported() {
    let shop = Shop::new();
    shop.sql("CREATE UNLOGGED TABLE passing (id int PRIMARY KEY)");
    let listed = shop.json(&["table", "list"]);
    let tables = listed.as_array().unwrap().iter();
    let tables: Vec<_> = tables
        .map(|table| (table["table"].as_str().unwrap(), table["rows"].as_u64()))
        .collect();
    assert_eq!(
        tables,
        [
            ("public.customers", Some(500)),
            ("public.orders", Some(3000)),
            ("public.passing", None)
        ]
    );
    assert!(
        listed[2]["refused"].as_str().unwrap().contains("unlogged"),
        "{listed}"
    );
    let described = shop.json(&["table", "describe", "public.orders"]);
    let columns = described["columns"].as_array().unwrap();
    assert_eq!(columns[0]["key"], 1);
    assert_eq!(columns[2]["type"], "numeric(10,2)");
    assert_eq!(columns[2]["backed_up_as"], "Decimal(10,2)");
    assert_eq!(
        columns[4]["backed_up_as"],
        serde_json::Value::Null,
        "{described}"
    );
    assert!(
        shop.ok(&["table", "describe", "public.orders"])
            .contains("INCLUDE (amount)")
    );

    let jsonl = shop.ok(&["table", "export", "public.customers", "--format", "jsonl"]);
    assert_eq!(jsonl.lines().count(), 500);
    let first: serde_json::Value = serde_json::from_str(jsonl.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["id"], &first["name"]),
        (&1.into(), &"customer 1".into())
    );
    shop.ok(&["backup", "shop"]);
    let of = |table: &str, file: &str| {
        shop.ok(&["table", "export", table, "-o", file]);
        fs::read(shop.directory().join(file)).unwrap()
    };
    for format in ["csv", "parquet", "jsonl"] {
        let then = of("public.orders", &format!("then.{format}"));
        shop.ok(&[
            "restore",
            "shop",
            "--tables",
            "public.orders",
            "--rename",
            "public.orders=public.other",
        ]);
        assert!(
            of("public.other", &format!("now.{format}")) == then,
            "{format}"
        );
        shop.sql("DROP TABLE other");
    }
    let refused = shop.fails(1, &["table", "export", "public.none"]);
    assert!(
        refused.contains("there is no table public.none"),
        "{refused}"
    );
}

#[test]
fn tables_of_a_collection_are_chosen_by_patterns() {
    let shop = Shop::empty();
    shop.sql(
        "CREATE SCHEMA sales; CREATE TABLE sales.a (id int PRIMARY KEY); CREATE TABLE sales.b (id int PRIMARY KEY);
         CREATE TABLE sales.nokey (id int); CREATE TABLE public.c (id int PRIMARY KEY)",
    );
    let made = shop.run(&[
        "collection",
        "create",
        "sales",
        "--table",
        "sales.*",
        "--table",
        "public.c",
    ]);
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(
        made.status.success() && said.contains("left out: table sales.nokey cannot be backed up"),
        "{said}"
    );
    let collections = shop.json(&["collection", "list"]);
    assert_eq!(
        collections[0]["tables"],
        serde_json::json!(["sales.a", "sales.b", "public.c"])
    );
    let refused = shop.fails(1, &["collection", "create", "none", "--table", "other.*"]);
    assert!(
        refused.contains("no table that can be backed up matches other.*"),
        "{refused}"
    );
}

#[test]
fn a_mend_that_would_have_writers_wait_longer_than_allowed_changes_nothing() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    let before = shop.content();
    shop.damage();
    let damaged = shop.content();
    let plan = shop.json(&[
        "restore",
        "shop",
        "--in-place",
        "--dry-run",
        "--max-write-wait",
        "1ms",
    ]);
    assert_eq!(plan["max_write_wait_ms"], 1);
    let refused = shop.fails(
        1,
        &["restore", "shop", "--in-place", "--max-write-wait", "1ms"],
    );
    assert!(refused.contains("longer than 1 ms"), "{refused}");
    assert_eq!(shop.content(), damaged);
    for operation in shop.unfinished() {
        shop.ok(&["operation", "cancel", &operation]);
    }
    assert_eq!(shop.content(), damaged);
    shop.assert_nothing_held();
    shop.mend(&["--max-write-wait", "1m"]);
    assert_eq!(shop.content(), before);
    shop.damage();
    // What it will take is told from then on.
    let plan = shop.json(&["restore", "shop", "--in-place", "--dry-run"]);
    assert!(plan["writers_wait_ms"][1].as_u64().unwrap() > 0, "{plan}");
    for bad in ["0s", "5", "1h", "x"] {
        shop.fails(
            2,
            &["restore", "shop", "--in-place", "--max-write-wait", bad],
        );
    }
}

#[test]
fn a_limit_to_bytes_a_second_is_said_and_kept_to() {
    let shop = Shop::new();
    let now = || -> f64 {
        let now = shop.copy("SELECT extract(epoch FROM clock_timestamp())");
        now.trim().parse().unwrap()
    };
    let started = now();
    let mut backup = shop.command(&["backup", "shop"]);
    let output = backup
        .env("MENDB_POSTGRES_BYTES_PER_S", "20000")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("a second at most (postgres.bytes_per_s)"),
        "{said}"
    );
    // The smaller of the tables has more than 20,000 bytes, and one of them had to wait for the other.
    assert!(now() - started > 0.5);
    shop.ok(&["verify", "shop", "--live"]);
    let plan = |more: &[&str]| {
        let mut plan =
            shop.command(&[&["restore", "shop", "--in-place", "--dry-run"], more].concat());
        let output = plan.env("MENDB_POSTGRES_BYTES_PER_S", "10MiB").output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let told = plan(&[]);
    assert!(
        told.contains("a second at most (postgres.bytes_per_s)"),
        "{told}"
    );
    let told: serde_json::Value = serde_json::from_str(&plan(&["--output", "json"])).unwrap();
    assert_eq!(told["most_bytes_per_s"], 10 << 20, "{told}");
    let unbounded = shop.json(&["restore", "shop", "--in-place", "--dry-run"]);
    assert_eq!(unbounded.get("most_bytes_per_s"), None);
}

#[test]
fn limits_of_time_that_a_role_was_given_end_no_backup_and_no_mend() {
    for version in [Version::Debian, Version::V18] {
        let mut shop = Shop::on(version);
        let before = shop.content();
        shop.sql(
            "CREATE ROLE hasty SUPERUSER LOGIN;
             ALTER ROLE hasty SET statement_timeout = '150ms'; ALTER ROLE hasty SET lock_timeout = '1ms';
             ALTER ROLE hasty SET idle_in_transaction_session_timeout = '20ms'; ALTER ROLE hasty SET idle_session_timeout = '20ms'",
        );
        if version == Version::V18 {
            shop.sql("ALTER ROLE hasty SET transaction_timeout = '200ms'");
        }
        shop.role = "hasty".to_owned();
        let slowly = |arguments: &[&str]| {
            let mut command = shop.command(arguments);
            let output = command.env("MENDB_POSTGRES_BYTES_PER_S", "100000").output();
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {said}");
        };
        // Each reads for longer than any of these.
        slowly(&["backup", "shop", "--label", "monday"]);
        shop.damage();
        slowly(&["backup", "shop", "--incremental"]);
        slowly(&["restore", "shop", "--in-place", "--to", "monday"]);
        assert_eq!(shop.content(), before);
        slowly(&["verify", "monday", "--live"]);
    }
}
