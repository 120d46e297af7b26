//! Names of parts tell nothing about what is in them.

use crate::servers::Flavor;
use crate::world::{LivePart, NO_MERGES, World};

on_each_server!(
    a_table_created_anew_under_the_same_part_names_is_mended_by_content,
    one_of_two_equal_parts_is_brought_back_and_a_third_is_removed,
    a_backup_of_one_table_makes_another_equal,
    a_table_that_was_renamed_is_backed_up_and_mended,
    block_numbers_given_twice_over_a_restart_do_not_deceive,
);

fn world(flavor: Flavor) -> World {
    let world = World::new(flavor);
    world.server.create_database("d");
    create(&world, "t");
    world
}

fn create(world: &World, table: &str) {
    world.server.query(&format!(
        "CREATE TABLE d.{table} (k UInt32, s String) ENGINE = MergeTree PARTITION BY tuple() \
         ORDER BY k SETTINGS {NO_MERGES}"
    ));
}

fn insert(world: &World, table: &str, from: u32, text: &str) {
    world.server.query(&format!(
        "INSERT INTO d.{table} SELECT {from} + number, concat('{text} ', toString(number)) \
         FROM system.numbers LIMIT 1000"
    ));
}

fn drop_table(world: &World, table: &str) {
    let sync = if world.is_current() { "SYNC" } else { "" };
    world.server.query(&format!("DROP TABLE d.{table} {sync}"));
}

fn parts(world: &World) -> Vec<LivePart> {
    world.parts("d", "t")
}

fn a_table_that_was_renamed_is_backed_up_and_mended(flavor: Flavor) {
    let world = world(flavor);
    world.server.query("RENAME TABLE d.t TO d.u");
    insert(&world, "u", 0, "first");
    insert(&world, "u", 1000, "second");
    let before = world.contents("d");
    world.backup(&["d"]);
    let lost = &world.parts("d", "u")[0];
    world.drop_part("d", "u", lost);
    world.mend(&["d"]);
    assert_eq!(world.contents("d"), before);
}

fn a_table_created_anew_under_the_same_part_names_is_mended_by_content(flavor: Flavor) {
    let world = world(flavor);
    insert(&world, "t", 0, "first");
    insert(&world, "t", 1000, "second");
    let (before, names) = (world.contents("d"), world.part_names("d"));
    world.backup(&["d"]);
    drop_table(&world, "t");
    create(&world, "t");
    insert(&world, "t", 0, "other");
    // The second part is what it was.
    insert(&world, "t", 1000, "second");
    assert_eq!(world.part_names("d"), names, "only the content tells");
    assert_ne!(world.contents("d"), before);
    let mended = world.mend(&["d"]);
    assert_eq!(mended.done.removed.parts, 1);
    assert_eq!(mended.done.fetched.parts, 1);
    assert_eq!(mended.done.kept.parts, 1);
    assert_eq!(world.contents("d"), before);
    world.is_mended("d", &["d"]);
}

fn one_of_two_equal_parts_is_brought_back_and_a_third_is_removed(flavor: Flavor) {
    let world = world(flavor);
    insert(&world, "t", 0, "twice");
    insert(&world, "t", 0, "twice");
    insert(&world, "t", 5000, "once");
    let before = world.contents("d");
    world.backup(&["d"]);
    world.drop_part("d", "t", &parts(&world)[0]);
    assert_ne!(world.contents("d"), before);
    let mended = world.mend(&["d"]);
    assert_eq!(
        (mended.done.fetched.parts, mended.done.removed.parts),
        (1, 0)
    );
    assert_eq!(world.contents("d"), before);
    world.is_mended("d", &["d"]);

    insert(&world, "t", 0, "twice");
    let mended = world.mend(&["d"]);
    assert_eq!(
        (mended.done.fetched.parts, mended.done.removed.parts),
        (0, 1)
    );
    assert_eq!(world.contents("d"), before);
    world.is_mended("d", &["d"]);
}

fn a_backup_of_one_table_makes_another_equal(flavor: Flavor) {
    let world = world(flavor);
    insert(&world, "t", 0, "of t");
    insert(&world, "t", 1000, "of both");
    world.backup(&["d"]);
    create(&world, "u");
    insert(&world, "u", 0, "of u");
    insert(&world, "u", 1000, "of both");
    let t = world.contents("d").remove("t");
    let parts_of_t = world.part_names("d").remove("t");
    let rename = ["d", "--rename", "d.t=d.u"];
    let mended = world.mend(&rename);
    assert_eq!(
        (mended.done.fetched.parts, mended.done.removed.parts),
        (1, 1)
    );
    assert_eq!(mended.done.kept.parts, 1);
    assert_eq!(world.contents("d").remove("u"), t);
    assert_eq!(
        world.part_names("d").remove("t"),
        parts_of_t,
        "the table of the backup is left alone"
    );
    world.is_mended("d", &rename);
}

fn block_numbers_given_twice_over_a_restart_do_not_deceive(flavor: Flavor) {
    let mut world = world(flavor);
    for (from, text) in [(0, "first"), (1000, "second"), (2000, "third")] {
        insert(&world, "t", from, text);
    }
    let before = world.contents("d");
    world.backup(&["d"]);
    let names = world.part_names("d");
    let lost = parts(&world).split_off(1);
    world.wait_until_old();
    world.server.kill();
    for part in lost {
        std::fs::remove_dir_all(part.directory).unwrap();
    }
    world.server.restart();
    // The numbers of what is lost are given again, to rows as many.
    insert(&world, "t", 1000, "other");
    insert(&world, "t", 2000, "more!");
    assert_eq!(world.part_names("d"), names);
    world.server.query("OPTIMIZE TABLE d.t FINAL");
    assert_eq!(parts(&world).len(), 1);
    let mended = world.mend(&["d"]);
    assert_eq!(
        (mended.done.fetched.parts, mended.done.removed.parts),
        (3, 1)
    );
    assert_eq!(world.contents("d"), before);
}
