//! The rules of a database hold through a mend: unique values, foreign keys, triggers, identity, rights.

use crate::postgres_server::Version;
use crate::shop::Shop;

#[test]
fn rows_that_exchanged_unique_values_get_them_back() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    let before = shop.content();
    shop.sql(
        "UPDATE customers SET name = 'aside' WHERE id = 1; UPDATE customers SET name = 'customer 1' WHERE id = 2;
         UPDATE customers SET name = 'customer 2' WHERE id = 1",
    );
    shop.mend(&[]);
    assert_eq!(shop.content(), before);
}

#[test]
fn a_deleted_parent_comes_back_with_its_children_and_triggers_do_not_see_it() {
    let shop = Shop::new();
    shop.sql(
        "CREATE TABLE log (n bigint GENERATED ALWAYS AS IDENTITY, what text);
         CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO public.log (what) VALUES (TG_OP); RETURN NULL; END $$;
         CREATE TRIGGER logs AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION logged();
         CREATE TRIGGER always AFTER INSERT OR UPDATE OR DELETE ON customers FOR EACH ROW EXECUTE FUNCTION logged();
         ALTER TABLE customers ENABLE ALWAYS TRIGGER always",
    );
    shop.ok(&["backup", "shop"]);
    let before = shop.content();
    shop.sql("DELETE FROM customers WHERE id % 4 = 1; TRUNCATE log");
    shop.mend(&[]);
    assert_eq!(shop.content(), before);
    assert_eq!(shop.copy("SELECT count(*) FROM log"), "0\n");
    let enabled = "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1";
    assert_eq!(
        shop.copy(enabled),
        "always\tA\nlogs\tO\n",
        "they are as they were"
    );
    shop.sql(
        "UPDATE orders SET amount = 1 WHERE id = 1; UPDATE customers SET balance = 1 WHERE id = 1",
    );
    assert_eq!(shop.copy("SELECT count(*) FROM log"), "2\n");
}

#[test]
fn sequences_go_on_behind_rows_that_come_back_and_are_never_set_back() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    let before = shop.content();
    shop.sql(
        "TRUNCATE orders, customers RESTART IDENTITY; INSERT INTO customers (name) VALUES ('one')",
    );
    shop.mend(&[]);
    assert_eq!(shop.content(), before);
    shop.sql(
        "INSERT INTO customers (name) VALUES ('two'); INSERT INTO orders (customer) VALUES (1)",
    );
    assert_eq!(shop.copy("SELECT max(id) FROM customers"), "501\n");
    shop.sql("SELECT setval('orders_id_seq', 9000)");
    shop.mend(&[]);
    shop.sql("INSERT INTO orders (customer) VALUES (1)");
    assert_eq!(shop.copy("SELECT max(id) FROM orders"), "9001\n");
}

#[test]
fn a_mend_that_would_leave_rows_pointing_to_nothing_is_refused_and_changes_nothing() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    shop.sql("DELETE FROM customers WHERE id = 5");
    let damaged = shop.content();
    let refused = shop.fails(
        1,
        &["restore", "shop", "--in-place", "--tables", "public.orders"],
    );
    assert!(
        refused.contains("that are not there (customer = 5"),
        "{refused}"
    );
    assert_eq!(shop.content(), damaged);
    // It can be given up, and the right one ordered.
    for operation in shop.unfinished() {
        shop.ok(&["operation", "cancel", &operation]);
    }
    shop.assert_nothing_held();
    shop.mend(&[]);
    shop.ok(&["verify", &first(&shop), "--live"]);

    // The other way round: a table beside the mend points to rows that the backup does not have.
    shop.sql(
        "CREATE TABLE notes (id int PRIMARY KEY, customer bigint REFERENCES customers);
         INSERT INTO customers (name) VALUES ('eve');
         INSERT INTO notes SELECT 1, max(id) FROM customers",
    );
    let damaged = shop.content();
    let refused = shop.fails(
        1,
        &[
            "restore",
            "shop",
            "--in-place",
            "--to",
            first(&shop).as_str(),
        ],
    );
    assert!(
        refused.contains("public.notes point to rows of public.customers"),
        "{refused}"
    );
    assert_eq!(shop.content(), damaged);
}

/// The oldest backup.
fn first(shop: &Shop) -> String {
    let backups = shop.json(&["list", "shop"]);
    backups[0]["backup_id"].as_str().unwrap().to_owned()
}

/// A role that owns the tables, and may not leave triggers aside.
fn plain_owner(shop: &mut Shop) {
    shop.sql(
        "CREATE ROLE plain LOGIN; CREATE SCHEMA mendb AUTHORIZATION plain; ALTER TABLE customers OWNER TO plain;
         ALTER TABLE orders OWNER TO plain",
    );
    shop.role = "plain".to_owned();
}

#[test]
fn a_plain_owner_of_the_tables_mends_them_too() {
    mends_as_plain_owner(Shop::new());
}

#[test]
fn a_plain_owner_of_the_tables_mends_them_on_18_too() {
    mends_as_plain_owner(Shop::on(Version::V18));
}

fn mends_as_plain_owner(mut shop: Shop) {
    shop.ok(&["target", "detach"]);
    plain_owner(&mut shop);
    let check = shop.json(&["target", "check"]);
    assert_eq!(check["missing"][0]["is_needed"], false, "{check}");
    assert!(
        check["missing"][0]["sql"]
            .as_str()
            .unwrap()
            .contains("session_replication_role"),
        "{check}"
    );
    shop.sql(
        "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'a trigger fired'; END $$;
         CREATE TRIGGER fails BEFORE INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION fails();
         ALTER TABLE orders DISABLE TRIGGER fails",
    );
    shop.ok(&[
        "collection",
        "create",
        "shop",
        "--table",
        "public.customers",
        "--table",
        "public.orders",
    ]);
    shop.ok(&["backup", "shop", "--label", "monday"]);
    let before = shop.content();
    shop.damage();
    shop.sql("DELETE FROM customers WHERE id = 9; ALTER TABLE orders ENABLE TRIGGER fails");
    let damaged = shop.content();
    let mend = shop.mend(&[]);
    assert_eq!(shop.content(), before);
    assert_eq!(
        shop.copy("SELECT tgenabled FROM pg_trigger WHERE tgname = 'fails'"),
        "O\n"
    );
    shop.ok(&["undo", &mend]);
    assert_eq!(shop.content(), damaged);
    shop.assert_nothing_held();

    // What only a server that leaves its rules aside could do.
    shop.sql(
        "ALTER TABLE orders DISABLE TRIGGER fails; INSERT INTO customers (name) VALUES ('mallory');
         CREATE TABLE notes (id int PRIMARY KEY, customer bigint REFERENCES customers ON DELETE CASCADE);
         INSERT INTO notes SELECT 1, max(id) FROM customers; ALTER TABLE notes OWNER TO plain",
    );
    let damaged = shop.content();
    let refused = shop.fails(1, &["restore", "shop", "--in-place", "--to", "monday"]);
    assert!(
        refused.contains("would change rows of public.notes by itself"),
        "{refused}"
    );
    assert_eq!(shop.content(), damaged);
    assert_eq!(shop.copy("SELECT count(*) FROM notes"), "1\n");
}

#[test]
fn a_role_that_may_not_make_a_schema_is_told_what_allows_it() {
    let mut shop = Shop::empty();
    shop.sql("CREATE ROLE guest LOGIN; CREATE TABLE t (id int PRIMARY KEY)");
    shop.role = "guest".to_owned();
    let check = shop.run(&["target", "check", "--output", "json"]);
    assert_eq!(check.status.code(), Some(3));
    let check: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    let sql: Vec<&str> = check["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["sql"].as_str().unwrap())
        .collect();
    assert_eq!(sql[0], "CREATE SCHEMA mendb AUTHORIZATION guest");
    let why = check["tables"][0]["refused"].as_str().unwrap();
    assert!(why.contains("GRANT SELECT ON public.t TO guest"), "{why}");
    let refused = shop.fails(1, &["collection", "create", "c", "--table", "public.t"]);
    assert!(
        refused.contains("CREATE SCHEMA mendb AUTHORIZATION guest"),
        "{refused}"
    );
    shop.sql("CREATE SCHEMA mendb AUTHORIZATION guest; GRANT SELECT ON t TO guest");
    shop.ok(&["collection", "create", "c", "--table", "public.t"]);
}

#[test]
fn rules_that_can_be_deferred_hold_after_a_mend() {
    for rule in [
        "UNIQUE (a) DEFERRABLE INITIALLY DEFERRED",
        "UNIQUE (a) DEFERRABLE INITIALLY IMMEDIATE",
        "EXCLUDE USING btree (a WITH =) DEFERRABLE",
    ] {
        let shop = Shop::empty();
        shop.sql(&format!(
            "CREATE TABLE d (id int PRIMARY KEY, a int, {rule});
             INSERT INTO d SELECT n, n FROM generate_series(1, 4) n"
        ));
        shop.ok(&["collection", "create", "c", "--table", "public.d"]);
        shop.ok(&["backup", "c"]);
        let rows = "SELECT * FROM d ORDER BY id";
        let whole = shop.copy(rows);
        shop.sql("UPDATE d SET a = 15 - a; UPDATE d SET a = a - 10");
        let exchanged = shop.copy(rows);
        // One of two rows that exchanged their values would be there with that of the other.
        let part = ["restore", "c", "--in-place", "--where", "id = 1"];
        let refused = shop.fails(1, &part);
        assert!(
            refused.contains("duplicate key") || refused.contains("conflicting key"),
            "{refused}"
        );
        assert_eq!(shop.copy(rows), exchanged);
        for operation in shop.unfinished() {
            shop.ok(&["operation", "cancel", &operation]);
        }
        shop.ok(&["restore", "c", "--in-place"]);
        assert_eq!(shop.copy(rows), whole);
    }
}

#[test]
fn where_the_server_does_not_count_what_is_written_the_rows_prove_the_mend() {
    let mut shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "wanted"]);
    let before = shop.content();
    shop.server.crash();
    shop.server.start_with(&["track_counts=off"]);
    shop.damage();
    let operation = shop.mend(&["--to", "wanted"]);
    assert_eq!(shop.content(), before);
    shop.ok(&["undo", &operation]);
    shop.mend(&["--to", "wanted"]);
    assert_eq!(shop.content(), before);
    shop.assert_nothing_held();
}
