//! What a mend has kept to be undone by: who needs it, and what follows when it is lost.

use crate::servers::Flavor;
use crate::world::World;

on_each_server!(
    an_undo_of_which_the_freeze_lost_a_part_fails_with_its_name_and_keeps_the_rest_from_being_forgotten,
);

fn an_undo_of_which_the_freeze_lost_a_part_fails_with_its_name_and_keeps_the_rest_from_being_forgotten(
    flavor: Flavor,
) {
    let world = World::new(flavor);
    world.server.create_database("d");
    world
        .server
        .query("CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a");
    world.server.query("INSERT INTO d.t VALUES (1)");
    world.backup(&["d"]);
    world.server.query("INSERT INTO d.t VALUES (2), (3)");
    let mended = world.mend(&["d"]);
    let shadow = world.server.data_path().join("shadow");
    let files = crate::world::files_below(&shadow);
    let checksums = files.iter().find(|path| path.ends_with("checksums.txt"));
    let part = checksums.and_then(|path| path.parent()).unwrap();
    let aside = shadow.with_file_name("aside");
    std::fs::rename(part, &aside).unwrap();
    let said = world.fails(1, &["undo", &mended.operation_id]);
    assert!(said.contains("is not in its freeze any more"), "{said}");
    assert_eq!(world.server.query("SELECT count() FROM d.t"), "1\n");
    // What was kept is still there: found again, it is enough.
    std::fs::rename(&aside, part).unwrap();
    world.ok(&["undo", &mended.operation_id]);
    assert_eq!(world.server.query("SELECT count() FROM d.t"), "3\n");
    world.ok(&["operation", "forget", &mended.operation_id]);
}
