//! A backup costs what is new: bytes are asserted from the files of parts, not from what mendb says.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::part_files::{self, Files, belong_to_column, bytes, to_upload};
use crate::servers::Flavor;
use crate::world::{NO_MERGES, World, files_below};

on_each_server!(a_backup_uploads_exactly_what_the_repository_lacks);

fn a_backup_uploads_exactly_what_the_repository_lacks(flavor: Flavor) {
    let world = World::new(flavor);
    fill(&world);
    let first_files = part_files::of_table(&world, "cost", "t");
    let first = world.backup(&["cost"]);
    assert_eq!(first.totals.bytes, bytes(&first_files));
    assert_eq!(
        first.totals.new_bytes,
        bytes(&to_upload(&first_files, &Files::new()))
    );
    assert_eq!(
        (first.totals.tables, first.totals.parts, first.totals.rows),
        (1, 2, 90_000)
    );
    let stored = stored_files(&world);
    let stored_bytes: u64 = stored.values().sum();
    assert_eq!(stored_bytes, first.totals.new_bytes);

    // A freeze comes into this directory and goes again.
    let shadow = world.server.data_path().join("shadow");
    let frozen_at = || fs::metadata(&shadow).unwrap().modified().unwrap();
    let before = frozen_at();
    let same = world.backup(&["cost"]);
    assert_eq!(frozen_at(), before, "there was nothing to freeze");
    assert_eq!(same.totals.new_bytes, 0);
    assert_eq!(same.totals.bytes, first.totals.bytes);
    assert_eq!(stored_files(&world), stored, "not a file was written");

    world.mutate("ALTER TABLE cost.t UPDATE digest = digest + 1 WHERE 1");
    let changed_files = part_files::of_table(&world, "cost", "t");
    let new = to_upload(&changed_files, &first_files);
    belong_to_column(&new, "digest");
    let changed = world.backup(&["cost"]);
    assert_ne!(frozen_at(), before);
    assert_eq!(changed.totals.new_bytes, bytes(&new), "{new:#?}");
    assert!(new.len() < changed_files.len() / 2);

    world.server.query("INSERT INTO cost.t SELECT 202403, number, cityHash64(number, 7), 'new' FROM system.numbers LIMIT 5000");
    let more_files = part_files::of_table(&world, "cost", "t");
    let more = world.backup(&["cost"]);
    assert_eq!(
        more.totals.new_bytes,
        bytes(&to_upload(&more_files, &changed_files))
    );

    // Each is complete by itself: the first brings back what it saw.
    let mended = world.mend(&["cost", "--to", &first.backup_id]);
    assert_eq!(mended.done.removed.parts, 3);
    assert_eq!(mended.done.fetched.parts, 2);
    world.ok(&["verify", "cost"]);
}

fn fill(world: &World) {
    world.server.create_database("cost");
    let wide = if world.is_current() {
        ", min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0"
    } else {
        ""
    };
    world.server.query(&format!(
        "CREATE TABLE cost.t (month UInt32, id UInt64, digest UInt64, kind String) ENGINE = MergeTree \
         PARTITION BY month ORDER BY id SETTINGS {NO_MERGES}{wide}"
    ));
    for (month, rows) in [(202401, 40_000), (202402, 50_000)] {
        world.server.query(&format!(
            "INSERT INTO cost.t SELECT {month}, number, cityHash64(number, {month}), \
             toString(number % 9) FROM system.numbers LIMIT {rows}"
        ));
    }
}

/// What the repository has of parts, with sizes.
fn stored_files(world: &World) -> BTreeMap<PathBuf, u64> {
    let files = files_below(&world.in_repository("files")).into_iter();
    files
        .map(|path| {
            let bytes = path.metadata().unwrap().len();
            (path, bytes)
        })
        .collect()
}
