//! A mend costs what is missing: bytes are asserted from the files of parts, not from what mendb says.

use crate::part_files::{self, Files, belong_to_column, bytes, of_partition, to_download};
use crate::servers::{Flavor, ServerOptions};
use crate::world::{Mended, NO_MERGES, World};

const MEND: [&str; 2] = ["cost", "--no-undo"];

/// A table of three partitions with two parts each, of which no two share more than a little: `digest`
/// does not compress and has files that are stored alone, `kind` compresses well and has small ones.
struct Damaged {
    world: World,
    /// As they were backed up.
    files: Files,
    sum: String,
}

impl Damaged {
    fn new(flavor: Flavor) -> Self {
        // What is not live any more goes soon, or every file would be found there.
        let options = ServerOptions {
            old_parts_lifetime_s: Some(1),
            part_log: true,
            ..ServerOptions::default()
        };
        let world = World::with(flavor, options);
        fill(&world);
        world.backup(&["cost"]);
        Self {
            files: part_files::of_table(&world, "cost", "t"),
            sum: world.contents("cost").remove("t").unwrap(),
            world,
        }
    }

    /// Mends, which has to download these files and to bring back all rows.
    fn mend(&self, download: &Files) -> Mended {
        let mended = self.world.mend(&MEND);
        assert_eq!(mended.done.download_bytes, bytes(download), "{download:#?}");
        assert_eq!(mended.done.download_files, download.len() as u64);
        assert_eq!(self.world.contents("cost")["t"], self.sum);
        self.world.settle();
        mended
    }

    fn alter(&self, what: &str) {
        self.world
            .server
            .query(&format!("ALTER TABLE cost.t {what}"));
        self.world.settle();
    }
}

fn fill(world: &World) {
    let server = &world.server;
    server.create_database("cost");
    let wide = if world.is_current() {
        ", min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0"
    } else {
        ""
    };
    server.query(&format!(
        "CREATE TABLE cost.t (month UInt32, id UInt64, digest UInt64, kind String) \
         ENGINE = MergeTree PARTITION BY month ORDER BY id SETTINGS {NO_MERGES}{wide}"
    ));
    for part in 0..6 {
        // As many rows as no other part has: the files that count them differ.
        let (month, rows, from) = (202401 + part % 3, 40_000 + part * 1000, part * 100_000);
        server.query(&format!(
            "INSERT INTO cost.t SELECT {month}, {from} + number, cityHash64(number, {part}), \
             concat('kind ', toString(cityHash64(number, {part}) % 9)) FROM system.numbers LIMIT {rows}"
        ));
    }
}

on_each_server!(
    a_mend_downloads_exactly_what_the_server_lacks,
    files_that_the_server_still_has_are_not_downloaded,
);

fn a_mend_downloads_exactly_what_the_server_lacks(flavor: Flavor) {
    let table = Damaged::new(flavor);
    nothing(&table);
    a_partition_dropped(&table);
    a_column_rewritten(&table);
    everything_dropped(&table);
    merges_only(&table);
}

fn nothing(table: &Damaged) {
    table.mend(&Files::new());
    table.world.is_mended("cost", &MEND);
}

fn a_partition_dropped(table: &Damaged) {
    table.alter("DROP PARTITION 202402");
    let missing = of_partition(&table.files, "202402");
    let download = to_download(&table.world, &missing);
    let mended = table.mend(&download);
    assert_eq!(mended.done.fetched.parts, 2);
    assert_eq!(mended.done.fetched.bytes, bytes(&missing));
    assert_eq!(mended.done.removed.parts, 0);
    assert_eq!(mended.done.kept.parts, 4);
    let linked = bytes(&missing) - bytes(&download);
    assert_eq!(mended.done.linked_bytes, linked);
    assert!(
        linked * 100 < bytes(&missing),
        "{linked} bytes are in other partitions too"
    );
}

fn a_column_rewritten(table: &Damaged) {
    table
        .world
        .mutate("ALTER TABLE cost.t UPDATE digest = digest + 1 WHERE 1");
    table.world.settle();
    let download = to_download(&table.world, &table.files);
    belong_to_column(&download, "digest");
    let mended = table.mend(&download);
    assert_eq!(mended.done.removed.parts, 6);
    assert_eq!(mended.done.fetched.parts, 6);
    assert_eq!(
        mended.done.linked_bytes,
        bytes(&table.files) - bytes(&download)
    );
}

fn everything_dropped(table: &Damaged) {
    let server = &table.world.server;
    server.query("TRUNCATE TABLE cost.t");
    table.world.settle();
    let mended = table.mend(&table.files);
    assert_eq!(mended.done.fetched.parts, 6);
    let sync = if table.world.is_current() { "SYNC" } else { "" };
    server.query(&format!("DROP TABLE cost.t {sync}"));
    let mended = table.mend(&table.files);
    assert_eq!(mended.done.fetched.bytes, bytes(&table.files));
    assert_eq!(mended.done.linked_bytes, 0);
}

fn merges_only(table: &Damaged) {
    // Those that stay tell that numbers were given once.
    table.world.wait_until_parts_are_old();
    table.mend(&Files::new());
    let server = &table.world.server;
    let others = server.query(
        "SELECT partition FROM system.parts WHERE active AND database = 'cost' GROUP BY partition \
         ORDER BY max(max_block_number) LIMIT 2",
    );
    for partition in others.lines() {
        server.query(&format!(
            "OPTIMIZE TABLE cost.t PARTITION {partition} FINAL"
        ));
    }
    table.world.settle();
    assert_eq!(table.world.part_names("cost")["t"].len(), 4);
    let mended = table.mend(&Files::new());
    assert_eq!(mended.done.removed.parts, 0);
    assert_eq!(mended.done.fetched.parts, 0);
    table.world.is_mended("cost", &MEND);
}

/// In parts that are not live any more, in detached ones, in freezes and in other tables.
fn files_that_the_server_still_has_are_not_downloaded(flavor: Flavor) {
    let world = World::new(flavor);
    fill(&world);
    world.backup(&["cost"]);
    let sum = world.contents("cost").remove("t");
    let files = part_files::of_table(&world, "cost", "t");
    let server = &world.server;
    let unlisted = |partition: &str| {
        let mut files = of_partition(&files, partition);
        files.retain(|_, file| !file.listed);
        bytes(&files)
    };
    server.query("CREATE TABLE cost.copy AS cost.t");
    server.query("ALTER TABLE cost.copy REPLACE PARTITION 202403 FROM cost.t");
    server.query("ALTER TABLE cost.t FREEZE PARTITION 202402");
    server.query("ALTER TABLE cost.t DETACH PARTITION 202401");
    for partition in ["202402", "202403"] {
        server.query(&format!("ALTER TABLE cost.t DROP PARTITION {partition}"));
    }
    let tables = ["--tables", "cost.t"];
    let mended = world.mend(&[&MEND[..], &tables].concat());
    let expected: u64 = ["202401", "202402", "202403"].map(unlisted).iter().sum();
    assert_eq!(mended.done.download_bytes, expected);
    assert_eq!(mended.done.linked_bytes, bytes(&files) - expected);
    assert_eq!(world.contents("cost").remove("t"), sum);

    // A mutation leaves the files that it replaced for a while.
    world.mutate("ALTER TABLE cost.t UPDATE digest = 0 WHERE month = 202401");
    let mended = world.mend(&[&MEND[..], &tables].concat());
    assert_eq!(mended.done.download_bytes, unlisted("202401"));
    assert_eq!(world.contents("cost").remove("t"), sum);
}
