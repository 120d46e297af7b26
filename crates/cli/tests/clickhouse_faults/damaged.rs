//! A small database that is backed up, and damaged again and again in every way at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::servers::{Flavor, ServerOptions};
use crate::world::{World, files_below};

pub const DATABASE: &str = "shop";

/// Brings every table of the database back.
pub const MEND: [&str; 3] = ["restore", "shop", "--in-place"];

/// Three tables: of months, whole, and one in which the order of parts decides.
pub fn backed_up(flavor: Flavor) -> World {
    backed_up_with(flavor, ServerOptions::default())
}

pub fn backed_up_with(flavor: Flavor, options: ServerOptions) -> World {
    let world = World::with(flavor, options);
    let server = &world.server;
    server.create_database(DATABASE);
    server.query(
        "CREATE TABLE shop.sales (day Date, id UInt64, price UInt32, note String) \
         ENGINE = MergeTree PARTITION BY toYYYYMM(day) ORDER BY id SETTINGS index_granularity = 8192",
    );
    server.query("CREATE TABLE shop.goods (id UInt64, name String) ENGINE = MergeTree ORDER BY id SETTINGS index_granularity = 8192");
    server.query(
        "CREATE TABLE shop.stock (id UInt64, left UInt32) ENGINE = ReplacingMergeTree ORDER BY id SETTINGS index_granularity = 8192",
    );
    world.stop_merges();
    for insert in 0..2 {
        server.query(&format!(
            "INSERT INTO shop.sales SELECT toDate('2024-01-01') + number % 90, number * 2 + {insert}, number % 7, \
             toString(number) FROM system.numbers LIMIT 900"
        ));
        server.query(&format!(
            "INSERT INTO shop.goods SELECT number + {insert} * 100, 'thing' FROM system.numbers LIMIT 100"
        ));
        server.query(&format!(
            "INSERT INTO shop.stock SELECT number, {insert} FROM system.numbers LIMIT 50"
        ));
    }
    world.backup(&["shop", "--tables", "shop.*"]);
    world
}

/// Loses a month, adds rows to another, and loses what a table had first.
pub fn damage(world: &World) {
    let server = &world.server;
    world.stop_merges();
    server.query("ALTER TABLE shop.sales DROP PARTITION ID '202401'");
    server.query(
        "INSERT INTO shop.sales SELECT toDate('2024-02-02'), number, 1, 'wrong' FROM system.numbers LIMIT 10",
    );
    server.query("INSERT INTO shop.goods SELECT number, 'wrong' FROM system.numbers LIMIT 5");
    let first = &world.parts(DATABASE, "stock")[0];
    world.drop_part(DATABASE, "stock", first);
}

/// What rows there are, whatever the parts are called.
pub fn contents(world: &World) -> BTreeMap<String, String> {
    world.contents(DATABASE)
}

/// Nothing that a mend needs on its way is left: no staging tables, no staged parts.
pub fn leaves_nothing_behind(world: &World) {
    let tables = world
        .server
        .query("SELECT name FROM system.tables WHERE database = 'shop' ORDER BY name");
    assert_eq!(tables, "goods\nsales\nstock\n");
    let own = world.server.data_path().join("mendb");
    let staged = files_below(&own).into_iter();
    // What stays tells which journal works on the server.
    let staged: Vec<PathBuf> = staged
        .filter(|path| ![own.join("journal.json"), own.join("lock")].contains(path))
        .collect();
    assert_eq!(staged, Vec::<PathBuf>::new());
    let detached = files_below(world.server.data_path())
        .into_iter()
        .filter(|path| path.components().any(|part| part.as_os_str() == "detached"))
        .count();
    assert_eq!(detached, 0, "nothing is left detached");
}

/// Merges run: two parts of a table become one.
pub fn merges_run(world: &World) {
    let server = &world.server;
    server.query("INSERT INTO shop.goods SELECT 1000, 'last' FROM system.numbers LIMIT 1");
    server.query("OPTIMIZE TABLE shop.goods FINAL");
    let parts = server.query(
        "SELECT count() FROM system.parts WHERE active AND database = 'shop' AND table = 'goods'",
    );
    assert_eq!(parts, "1\n", "merges were started again");
}
