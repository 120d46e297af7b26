//! Real tables are lost in all the ways there are, and come back without what is right being touched.

use mendb_model::part::Action;

use crate::servers::{Flavor, ServerOptions, flights};
use crate::world::{Mended, World};

/// As those write it who have used clickhouse-backup.
const MEND: [&str; 4] = ["--restore-in-place", "--data", "--tables=nyc.*", "nightly"];

on_each_server!(tables_that_were_damaged_in_all_ways_come_back_and_the_damage_too);

fn tables_that_were_damaged_in_all_ways_come_back_and_the_damage_too(flavor: Flavor) {
    let options = ServerOptions {
        part_log: true,
        ..ServerOptions::default()
    };
    let world = World::with(flavor, options);
    flights::load_story(&world.server, "nyc");
    let whole = world.contents("nyc");
    let backup = world.backup(&["nyc", "--tables", "nyc.*", "--label", "nightly"]);
    assert_eq!(backup.totals.tables, 4);
    assert!(backup.totals.rows > 1_000_000, "{backup:?}");
    let shown: serde_json::Value = world.json(&["show", "nightly"]);
    assert_eq!(shown["backup_id"], backup.backup_id.as_str());

    damage(&world);
    world.stop_merges();
    let damaged = world.contents("nyc");
    for table in ["flights_wide", "weather", "planes"] {
        assert_ne!(damaged.get(table), whole.get(table), "{table} is damaged");
    }
    the_plan_tells_what_has_happened(&world);
    let drift = world.fails_with::<serde_json::Value>(3, &["verify", "nightly", "--live"]);
    assert_eq!(drift.0["live_parts"].as_array().unwrap().len(), 4);

    let mended: Mended = world.json(&[&["restore", "--keep-undo"], &MEND[..]].concat());
    world.stop_merges();
    assert_eq!(mended.state, "done");
    assert_eq!(mended.done, mended.planned);
    assert!(
        mended.done.kept.parts > mended.done.removed.parts,
        "{mended:?}"
    );
    assert!(
        mended.done.kept.bytes > mended.done.download_bytes,
        "{mended:?}"
    );
    let mut expected = whole.clone();
    expected.insert("newcomer".to_owned(), damaged["newcomer"].clone());
    assert_eq!(
        world.contents("nyc"),
        expected,
        "as before, and the new table untouched"
    );
    world.is_mended("nyc", &MEND[1..]);
    world.ok(&["verify", "nightly", "--live"]);

    // Merges change names of parts and nothing else.
    world.start_merges();
    for table in ["flights_wide", "flights_compact", "weather"] {
        world
            .server
            .query(&format!("OPTIMIZE TABLE nyc.{table} FINAL"));
    }
    world.stop_merges();
    if world.is_current() {
        // The log of the old server does not tell what went, and proves nothing of a table merged to one part.
        world.is_mended("nyc", &MEND[1..]);
    }
    assert_eq!(world.contents("nyc"), expected);

    // What the mend removed is there again, and goes again.
    let undone: Mended = world.json(&["undo", &mended.operation_id]);
    world.stop_merges();
    assert_eq!(undone.done.download_bytes, 0, "all of it was kept");
    assert_eq!(
        world.contents("nyc"),
        damaged,
        "as damaged: the table that was created is gone"
    );
    let said = world.fails(1, &["undo", &undone.operation_id]);
    assert!(said.contains("restore it from the backup"), "{said}");
    world.mend(&MEND[1..]);
    assert_eq!(world.contents("nyc"), expected);
}

/// Rows inserted, a partition dropped, a column rewritten, parts merged, a table dropped, a table created.
fn damage(world: &World) {
    let server = &world.server;
    world.start_merges();
    server.query(
        "INSERT INTO nyc.flights_wide SELECT * FROM nyc.flights_wide WHERE month = 3 AND day = 1",
    );
    server.query(
        "INSERT INTO nyc.weather SELECT * FROM nyc.weather WHERE origin = 'JFK' AND month = 1",
    );
    server.query("ALTER TABLE nyc.flights_wide DROP PARTITION 201305");
    world.mutate("ALTER TABLE nyc.flights_wide UPDATE dep_delay = dep_delay + 1 WHERE month = 7");
    server.query("OPTIMIZE TABLE nyc.flights_compact FINAL");
    server.query("DROP TABLE nyc.planes");
    server.query("CREATE TABLE nyc.newcomer (a UInt32) ENGINE = MergeTree ORDER BY a");
    server.query("INSERT INTO nyc.newcomer SELECT number FROM system.numbers LIMIT 1000");
}

fn the_plan_tells_what_has_happened(world: &World) {
    let preview = world.preview(&MEND[1..]);
    let plan = |table: &str| {
        let mut plans = preview.tables.iter();
        plans.find(|plan| plan.target.table == table).unwrap()
    };
    let wide = plan("flights_wide");
    let since = wide.since_backup.unwrap();
    assert!(
        since.inserted > 0 && since.dropped > 0 && since.mutated > 0,
        "{since:?}"
    );
    let action = |partition: &str| {
        let mut partitions = wide.partitions.iter();
        partitions
            .find(|plan| plan.partition_id == partition)
            .unwrap()
            .action
    };
    assert_eq!(action("201301"), Action::Nothing);
    assert_eq!(action("201305"), Action::Attach);
    assert_eq!(action("201307"), Action::Swap);
    let compact = plan("flights_compact");
    assert!(
        compact.since_backup.unwrap().merged > 0,
        "{:?}",
        compact.since_backup
    );
    let mut partitions = compact.partitions.iter();
    let is_proved = partitions.all(|plan| plan.action == Action::Nothing);
    assert!(is_proved || !world.is_current());
    assert!(plan("planes").create);
    assert!(preview.keep_undo);
    let told = world.ok(&[&["restore", "--dry-run"], &MEND[..]].concat());
    for line in ["since the backup:", "nyc.planes: is created", "mendb undo"] {
        assert!(told.contains(line), "{line:?} in\n{told}");
    }
    let before = world.part_names("nyc");
    world.preview(&MEND[1..]);
    assert_eq!(world.part_names("nyc"), before, "looking changes nothing");
}
