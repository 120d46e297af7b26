//! Tables, views and dictionaries, and the order in which they can be created.

use mendb_engines::{ListedTable, PartStore};
use mendb_model::part::{Exclusion, Selection, TableName};

use crate::servers::{Flavor, Server, ServerOptions};
use crate::world::{FLAVORS, World, check_frozen, selection, whole};

/// Statements in an order that nothing but dependencies can put right.
fn dependent_tables(flavor: Flavor) -> Vec<&'static str> {
    let mut statements = vec![
        "CREATE TABLE d.z_source (k UInt32, at Date, twice UInt64 MATERIALIZED k * 2, thrice UInt64 ALIAS k * 3) \
         ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY (k, at)",
        "CREATE TABLE d.y_target (k UInt32, n UInt64) ENGINE = SummingMergeTree ORDER BY k",
        "CREATE MATERIALIZED VIEW d.a_into TO d.y_target AS SELECT k, count() AS n FROM d.z_source GROUP BY k",
        "CREATE MATERIALIZED VIEW d.a_own ENGINE = SummingMergeTree ORDER BY k AS \
         SELECT k, count() AS n FROM d.z_source GROUP BY k",
        "CREATE VIEW d.`c view` AS SELECT * FROM d.z_source",
        "CREATE VIEW d.b_view AS SELECT k FROM d.`c view` WHERE k IN (SELECT k FROM d.y_target)",
        "CREATE TABLE d.a_merge (k UInt32) ENGINE = Merge(d, '_(source|target)$')",
        "CREATE TABLE d.a_buffer AS d.z_source ENGINE = Buffer(d, z_source, 1, 9, 9, 9, 9, 9, 9)",
    ];
    if flavor == Flavor::Current {
        statements.extend([
            "CREATE DICTIONARY d.x_dictionary (k UInt32, n UInt64) PRIMARY KEY k \
             SOURCE(CLICKHOUSE(TABLE 'y_target' DB 'd')) LAYOUT(FLAT()) LIFETIME(0)",
            "CREATE TABLE d.a_looks_up (k UInt64, n UInt64 DEFAULT dictGet('d.x_dictionary', 'n', k)) \
             ENGINE = MergeTree ORDER BY k TTL toDate('2034-01-01') + k",
        ]);
    }
    statements
}

#[test]
fn the_catalogue_can_be_created_in_its_order_on_an_empty_server() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        for statement in dependent_tables(flavor) {
            world.server.query(statement);
        }
        let catalogue = world.engine.catalogue(&selection("*")).unwrap();
        let of_d = catalogue
            .tables
            .iter()
            .filter(|table| table.name.database == "d");
        let of_d: Vec<&str> = of_d.map(|table| table.name.table.as_str()).collect();
        assert_eq!(of_d.len(), dependent_tables(flavor).len() + 1, "{of_d:?}");

        let empty = Server::start(flavor, ServerOptions::default());
        let database = catalogue
            .databases
            .iter()
            .find(|database| database.name == "d");
        empty.query(&database.unwrap().create_query);
        for table in catalogue
            .tables
            .iter()
            .filter(|table| table.name.database == "d")
        {
            // It comes with its view.
            if table.name.table == ".inner.a_own" {
                continue;
            }
            empty.query(&table.create_query);
        }
        let tables = "SELECT name, engine FROM system.tables WHERE database = 'd' \
                      AND name NOT LIKE '.inner%' ORDER BY name";
        assert_eq!(empty.query(tables), world.server.query(tables));
    }
}

#[test]
fn a_listing_names_what_the_catalogue_tells_in_its_order() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        for statement in dependent_tables(flavor) {
            world.server.query(statement);
        }
        let selection = Selection {
            tables: "d.*,d.typo".to_owned(),
            exclude: Exclusion {
                engines: "Buffer".to_owned(),
                ..Exclusion::default()
            },
        };
        let catalogue = world.engine.catalogue(&selection).unwrap();
        let listing = world.engine.listing(&selection).unwrap();
        let names = catalogue.tables.iter().map(|table| ListedTable {
            name: table.name.clone(),
            has_parts: table.has_parts(),
        });
        assert_eq!(listing.tables, names.collect::<Vec<_>>());
        assert_eq!(listing.left_out, [TableName::new("d", "a_buffer")]);
        assert_eq!(listing.left_out, catalogue.left_out);
        assert_eq!(listing.refused, catalogue.refused);
        assert_eq!(listing.unmatched, catalogue.unmatched);
        assert_eq!(listing.unmatched.len(), 1);
    }
}

#[test]
fn a_definition_tells_keys_and_stored_columns() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        for statement in dependent_tables(flavor) {
            world.server.query(statement);
        }
        let table = |name: &str| {
            let name = TableName::new("d", name);
            world.engine.table(&name).unwrap()
        };
        let source = table("z_source").unwrap();
        assert_eq!(source.engine, "MergeTree");
        assert_eq!(source.partition_key, "toYYYYMM(at)");
        assert_eq!(source.sorting_key, "k, at");
        let columns: Vec<&str> = source
            .columns
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(columns, ["k", "at", "twice"]);
        assert!(!source.has_ttl);
        assert_eq!(table("y_target").unwrap().partition_key, "");
        assert_eq!(
            table("a_looks_up").is_some_and(|table| table.has_ttl),
            flavor == Flavor::Current
        );
        assert!(table("missing").is_none());
        let catalogue = world.engine.catalogue(&selection("d.z_*")).unwrap();
        assert_eq!(catalogue.tables, [source]);
    }
}

#[test]
fn the_table_of_a_materialized_view_is_found_again_after_the_view_was_created_anew() {
    for flavor in FLAVORS {
        let world = World::new(flavor);
        world.create("source", "(k UInt32)", "ENGINE = MergeTree ORDER BY k");
        let view = "CREATE MATERIALIZED VIEW d.view ENGINE = MergeTree ORDER BY k AS SELECT k FROM d.source";
        let inner = TableName::new("d", ".inner.view");
        for _ in 0..2 {
            world.server.query(view);
            world.server.query("INSERT INTO d.source VALUES (1)");
            let catalogue = world.engine.catalogue(&selection("d.view")).unwrap();
            let names: Vec<&str> = catalogue
                .tables
                .iter()
                .map(|table| table.name.table.as_str())
                .collect();
            assert_eq!(names, ["view", ".inner.view"]);
            assert_eq!(world.engine.inventory(&inner).unwrap().parts.len(), 1);
            assert_eq!(
                world.engine.table(&inner).unwrap().as_ref(),
                catalogue.tables.last()
            );
            let frozen = world.engine.freeze("b-1", &[whole(&inner)]).unwrap();
            assert_eq!(world.engine.frozen("b-1", &inner).unwrap(), frozen[0].parts);
            check_frozen(&world.engine, &frozen[0]);
            world.server.query("DROP TABLE d.view");
        }
        assert!(world.engine.table(&inner).unwrap().is_none());
    }
}
