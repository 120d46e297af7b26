//! Where the order of parts decides which row of a key counts, the same row counts after a mend.

use crate::servers::Flavor;
use crate::world::{NO_MERGES, World};

/// Partitions of each table; all but the last are damaged, each in another way.
const PARTITIONS: u32 = 4;
/// Inserts into each partition. Those that follow each other have two thirds of their keys in common.
const INSERTS: u32 = 4;

/// An engine, and what a row has beside partition and key.
struct Kind {
    table: &'static str,
    engine: &'static str,
    column: &'static str,
    /// Of insert `i` for key `k`.
    value: &'static str,
    /// How the column is read.
    read: &'static str,
}

const KINDS: [Kind; 4] = [
    Kind {
        table: "replacing",
        engine: "ReplacingMergeTree",
        column: "v UInt32",
        value: "toUInt32(any(k) * 10 + {i})",
        read: "v",
    },
    Kind {
        table: "collapsing",
        engine: "CollapsingMergeTree(v)",
        column: "v Int8",
        value: "toInt8(if({i} % 2 = 0, 1, -1))",
        read: "v",
    },
    Kind {
        table: "aggregating",
        engine: "AggregatingMergeTree",
        column: "v AggregateFunction(anyLast, UInt32)",
        value: "anyLastState(toUInt32(k * 10 + {i}))",
        read: "finalizeAggregation(v)",
    },
    Kind {
        table: "summing",
        engine: "SummingMergeTree",
        column: "v Int64",
        value: "toInt64(any(k) * 10 + {i})",
        read: "v",
    },
];

const COALESCING: Kind = Kind {
    table: "coalescing",
    engine: "CoalescingMergeTree",
    column: "v Nullable(UInt32)",
    value: "if(({i} + any(k)) % 3 = 0, NULL, toUInt32(any(k) * 10 + {i}))",
    read: "v",
};

impl Kind {
    fn create(&self, world: &World) {
        world.server.query(&format!(
            "CREATE TABLE d.{} (p UInt8, k UInt32, {}) ENGINE = {} PARTITION BY p ORDER BY (p, k) SETTINGS {NO_MERGES}",
            self.table, self.column, self.engine
        ));
    }

    /// The insert `i` into a partition.
    fn insert(&self, world: &World, partition: u32, i: u32) {
        let value = self.value.replace("{i}", &i.to_string());
        world.server.query(&format!(
            "INSERT INTO d.{} SELECT toUInt8({partition}) AS p, toUInt32(number + {i} * 100) AS k, {value} \
             FROM (SELECT number FROM system.numbers LIMIT 300) GROUP BY p, k",
            self.table
        ));
    }

    fn rows(&self, world: &World, modifier: &str) -> String {
        let Self { table, read, .. } = self;
        world.server.query(&format!(
            "SELECT p, k, {read} FROM d.{table} {modifier} SETTINGS max_threads = 1"
        ))
    }

    /// What readers see: rows that count, and all rows in the order in which they lie there.
    fn seen(&self, world: &World) -> [String; 2] {
        [self.rows(world, "FINAL"), self.rows(world, "")]
    }

    /// A part goes, parts are merged, rows come.
    fn damage(&self, world: &World) {
        let parts = world.parts("d", self.table);
        assert_eq!(parts.len() as u32, PARTITIONS * INSERTS);
        world.drop_part("d", self.table, &parts[1]);
        world.server.query(&format!(
            "OPTIMIZE TABLE d.{} PARTITION 2 FINAL",
            self.table
        ));
        self.insert(world, 3, 1);
    }
}

on_each_server!(the_same_rows_count_after_a_mend_in_every_order_of_work);

fn the_same_rows_count_after_a_mend_in_every_order_of_work(flavor: Flavor) {
    let world = World::new(flavor);
    world.server.create_database("d");
    let mut kinds: Vec<Kind> = KINDS.into();
    if flavor == Flavor::Current {
        kinds.push(COALESCING);
    }
    for kind in &kinds {
        kind.create(&world);
        for partition in 1..=PARTITIONS {
            (0..INSERTS).for_each(|i| kind.insert(&world, partition, i));
        }
    }
    let before: Vec<[String; 2]> = kinds.iter().map(|kind| kind.seen(&world)).collect();
    world.backup(&["d"]);
    for order in ["swap", "remove_first"] {
        for (kind, before) in kinds.iter().zip(&before) {
            kind.damage(&world);
            for (now, before) in kind.seen(&world).iter().zip(before) {
                assert!(now != before, "{} is damaged", kind.table);
            }
        }
        let mend = ["d", "--restore-order", order];
        let mended = world.mend(&mend);
        // Of each table those that were merged, and those that came or were left after a damage of order.
        assert!(
            mended.done.removed.parts >= 2 * kinds.len() as u64,
            "{mended:?}"
        );
        for (kind, before) in kinds.iter().zip(&before) {
            let [counting, all] = kind.seen(&world);
            same(
                &counting,
                &before[0],
                &format!("{} FINAL, {order}", kind.table),
            );
            same(&all, &before[1], &format!("{}, {order}", kind.table));
        }
        world.is_mended("d", &mend);
    }
    for (kind, before) in kinds.iter().zip(&before) {
        world
            .server
            .query(&format!("OPTIMIZE TABLE d.{} FINAL", kind.table));
        let merged = kind.rows(&world, "FINAL");
        same(
            &sorted(&merged),
            &sorted(&before[0]),
            &format!("{} merged", kind.table),
        );
    }
}

/// Compares many rows, and names the first that differs.
fn same(now: &str, before: &str, what: &str) {
    let mut pairs = now.lines().zip(before.lines());
    if let Some((now, before)) = pairs.find(|(now, before)| now != before) {
        panic!("{what}: {now:?} where {before:?} was");
    }
    assert_eq!(now.lines().count(), before.lines().count(), "{what}: rows");
}

fn sorted(rows: &str) -> String {
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_unstable();
    rows.join("\n")
}
