//! Indexes that do not find rows of their table.

use crate::postgres_server::Version;
use crate::shop::Shop;

#[test]
fn damaged_indexes_are_found_where_the_server_can_check_them() {
    for version in [Version::Debian, Version::V18] {
        let mut shop = Shop::on(version);
        shop.ok(&["backup", "shop"]);
        let compared = shop.json(&["verify", "shop", "--live"]);
        assert_eq!(compared["live"][0]["indexes"], serde_json::Value::Null);
        shop.sql("CREATE SCHEMA tools; CREATE EXTENSION amcheck SCHEMA tools");
        let compared = shop.json(&["verify", "shop", "--live"]);
        assert_eq!(compared["live"][1]["indexes"]["checked"], 2, "{compared}");
        // An index that is not told of a row.
        let index = "'orders_by_customer'::regclass";
        shop.sql(&format!(
            "UPDATE pg_index SET indisready = false WHERE indexrelid = {index}"
        ));
        shop.sql(
            "DELETE FROM orders WHERE id = 8;
             INSERT INTO orders (id, customer, amount, note) VALUES (8, 9, 4, 'order 8')",
        );
        shop.sql(&format!(
            "UPDATE pg_index SET indisready = true WHERE indexrelid = {index}"
        ));
        let damaged = shop.run(&["verify", "shop", "--live"]);
        let told = String::from_utf8(damaged.stdout).unwrap();
        assert_eq!(damaged.status.code(), Some(3), "{told}");
        assert!(
            told.contains("damaged indexes")
                && told.contains("REINDEX INDEX public.orders_by_customer"),
            "{told}"
        );
        shop.sql("REINDEX INDEX orders_by_customer");
        shop.ok(&["verify", "shop", "--live"]);
        shop.sql(
            "CREATE ROLE plain LOGIN; GRANT USAGE ON SCHEMA mendb TO plain;
             GRANT SELECT ON ALL TABLES IN SCHEMA public, mendb TO plain",
        );
        shop.role = "plain".to_owned();
        let told = shop.ok(&["verify", "shop", "--live"]);
        assert!(
            told.contains("GRANT EXECUTE ON FUNCTION tools.bt_index_check"),
            "{told}"
        );
    }
}
