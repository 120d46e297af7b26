//! A mend looks at the rows that may differ, and reads no others: by the increments after the backup, and by the versions
//! of rows since the last of them. Where these do not tell everything it reads all, and mends as well.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use crate::increments::increment;
use crate::postgres_server::Version;
use crate::shop::{Content, Shop};

/// Rows that a plan and then the mend looked at, or would have, of orders.
fn mend(shop: &Shop, more: &[&str]) -> [u64; 2] {
    let in_place = ["restore", "shop", "--in-place", "--tables", "public.orders"];
    let words: Vec<&str> = in_place.iter().chain(more).copied().collect();
    let planned: Vec<&str> = words.iter().chain(&["--dry-run"]).copied().collect();
    let planned = shop.json(&planned);
    let report = shop.json(&words);
    assert_eq!(report["state"], "done", "{report}");
    for count in ["upserted", "erased", "written_bytes"] {
        assert_eq!(planned["total"][count], report["total"][count], "{count}");
    }
    [&planned, &report].map(|of: &Value| of["total"]["read"].as_u64().unwrap())
}

#[test]
fn rows_that_cannot_differ_are_not_read() {
    for version in [Version::Debian, Version::V18] {
        let shop = Shop::on(version);
        let cases = [
            ("", "", 0),
            ("", "UPDATE orders SET note = 'x' WHERE id IN (5, 6)", 2),
            // What is as it was counts as looked at.
            ("", "UPDATE orders SET note = note WHERE id < 10", 9),
            ("UPDATE orders SET note = 'x' WHERE id IN (5, 6)", "", 2),
            (
                "UPDATE orders SET note = 'x' WHERE id IN (5, 6)",
                "UPDATE orders SET note = 'y' WHERE id IN (6, 7)",
                3,
            ),
            (
                "DELETE FROM orders WHERE id < 20; INSERT INTO orders (id, customer) VALUES (9001, 1)",
                "INSERT INTO orders (id, customer) VALUES (5, 1), (9002, 1)",
                21,
            ),
            (
                "DELETE FROM orders WHERE id = 30",
                "DELETE FROM orders WHERE id > 9000",
                1,
            ),
            // Rows are gone that no increment tells of: all are read.
            ("", "DELETE FROM orders WHERE id = 31", 2_999),
            (
                "UPDATE orders SET note = 'x' WHERE id = 40",
                "DELETE FROM orders WHERE id = 41; INSERT INTO orders (id, customer) VALUES (9003, 1)",
                3_000,
            ),
            // Most of them may differ: all are read.
            ("", "UPDATE orders SET note = 'x'", 3_000),
        ];
        for (at, (between, since, expected)) in cases.into_iter().enumerate() {
            let label = format!("wanted-{at}");
            shop.ok(&["backup", "shop", "--label", &label]);
            let wanted = shop.content();
            if !between.is_empty() {
                shop.sql(between);
                increment(&shop, &[]);
            }
            shop.sql(since);
            let read = mend(&shop, &["--to", &label]);
            assert_eq!(read, [expected; 2], "{between} | {since}");
            assert_eq!(shop.content(), wanted, "{between} | {since}");
            shop.ok(&["verify", &label, "--live"]);
        }
        shop.assert_nothing_held();
    }
}

#[test]
fn a_mend_to_a_backup_that_the_newest_does_not_stand_on_reads_all() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "wanted"]);
    let wanted = shop.content();
    shop.ok(&["backup", "shop"]);
    shop.sql("UPDATE orders SET note = 'x' WHERE id = 5");
    let plan = shop.ok(&[
        "restore",
        "shop",
        "--in-place",
        "--to",
        "wanted",
        "--dry-run",
    ]);
    assert!(plan.contains("does not stand on the wanted one"), "{plan}");
    assert_eq!(mend(&shop, &["--to", "wanted"]), [3_000; 2]);
    assert_eq!(shop.content(), wanted);
}

#[test]
fn versions_of_rows_need_not_be_believed() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    let plan = shop.ok(&["restore", "shop", "--in-place", "--dry-run"]);
    assert!(plan.contains("by the versions of rows"), "{plan}");
    assert_eq!(mend(&shop, &["--check-kept"])[1], 3_000);
    // Written anew, rows have other versions, and the mend goes by what they are.
    shop.sql("VACUUM FULL orders");
    assert_eq!(mend(&shop, &[])[1], 3_000);
}

#[test]
fn an_undo_looks_at_what_the_mend_wrote() {
    let shop = Shop::new();
    shop.ok(&["backup", "shop"]);
    shop.sql("UPDATE orders SET note = 'x' WHERE id IN (5, 6, 7)");
    let damaged = shop.content();
    let operation = shop.mend(&[]);
    let report = shop.json(&["undo", &operation]);
    assert_eq!(report["total"]["read"], 3, "{report}");
    assert_eq!(shop.content(), damaged);
}

#[test]
fn where_rows_are_gone_from_one_range_the_others_are_not_read() {
    let shop = Shop::empty();
    // About 120 MB, which is some ranges of keys.
    shop.sql(
        "CREATE TABLE wide (id int PRIMARY KEY, note text);
         INSERT INTO wide SELECT n, repeat('x', 1900) FROM generate_series(1, 60000) n;
         ANALYZE wide",
    );
    shop.ok(&["collection", "create", "shop", "--table", "public.wide"]);
    shop.ok(&["backup", "shop"]);
    let content = || shop.copy("SELECT id, md5(note) FROM wide ORDER BY id");
    let wanted = content();
    shop.sql("DELETE FROM wide WHERE id = 60000; UPDATE wide SET note = 'x' WHERE id = 1");
    let report = shop.json(&["restore", "shop", "--in-place"]);
    assert_eq!(content(), wanted);
    let ranges = report["ranges"].as_array().unwrap();
    let read: Vec<u64> = ranges
        .iter()
        .map(|range| range["rows"]["read"].as_u64().unwrap())
        .collect();
    assert!(read.len() > 2, "{report}");
    assert_eq!(read[0], 1, "{read:?}");
    let (last, between) = read[1..].split_last().unwrap();
    assert!(*last > 1 && *last < 40_000, "{read:?}");
    assert!(between.iter().all(|read| *read == 0), "{read:?}");
}

/// What happens between two looks.
#[derive(Debug, Clone)]
enum Step {
    /// Rows of some keys are changed, in a transaction of savepoints or without.
    Change(u32, u32),
    /// They go.
    Delete(u32, u32),
    /// Others come, or the same again.
    Insert(u32),
    /// The key of one changes.
    Move(u32, u32),
    /// What is there is written as it is.
    Touch(u32),
    Increment,
    /// The tables are mended to a backup of before, and perhaps that is taken back.
    Mend(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 1..3_100u32;
    prop_oneof![
        3 => (key(), 1..40u32).prop_map(|(from, many)| Step::Change(from, many)),
        1 => (key(), 1..9u32).prop_map(|(from, many)| Step::Delete(from, many)),
        2 => key().prop_map(Step::Insert),
        1 => (key(), 3_000..3_200u32).prop_map(|(from, to)| Step::Move(from, to)),
        1 => key().prop_map(Step::Touch),
        3 => Just(Step::Increment),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, undo)| Step::Mend(at, undo)),
    ]
}

/// Random sequences on one table: each mend brings back just what its backup held, and each undo what was there before.
#[test]
fn whatever_was_written_and_backed_up_between_a_mend_brings_back_what_was_wanted() {
    let steps: usize = std::env::var("MENDB_MEND_STEPS").map_or(40, |steps| steps.parse().unwrap());
    let seed = std::env::var("MENDB_SEED").map_or(7, |seed| seed.parse().unwrap());
    let mut seeds = [0u8; 32];
    seeds[..8].copy_from_slice(&u64::to_le_bytes(seed));
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seeds);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let shop = Shop::new();
    shop.ok(&["backup", "shop", "--label", "b0"]);
    let mut backups: Vec<Content> = vec![shop.content()];
    for at in 0..steps {
        let step = step().new_tree(&mut runner).unwrap().current();
        match &step {
            Step::Change(from, many) => shop.sql(&format!(
                "BEGIN; SAVEPOINT a; UPDATE orders SET note = 'step {at}' WHERE id BETWEEN {from} AND {from} + {many};
                 RELEASE a; COMMIT"
            )),
            Step::Delete(from, many) => shop.sql(&format!(
                "DELETE FROM orders WHERE id BETWEEN {from} AND {from} + {many}"
            )),
            Step::Insert(key) => shop.sql(&format!(
                "INSERT INTO orders (id, customer, amount) VALUES ({key}, 1, {at}) ON CONFLICT (id) DO NOTHING"
            )),
            Step::Move(from, to) => shop.sql(&format!(
                "UPDATE orders SET id = {to} WHERE id = {from} AND NOT EXISTS (SELECT FROM orders WHERE id = {to})"
            )),
            Step::Touch(key) => shop.sql(&format!(
                "UPDATE orders SET note = note WHERE id BETWEEN {key} AND {key} + 5"
            )),
            Step::Increment => {
                let label = format!("b{}", backups.len());
                shop.ok(&["backup", "shop", "--incremental", "--label", &label]);
                backups.push(shop.content());
            }
            Step::Mend(which, takes_back) => {
                let which = which % backups.len();
                let before = shop.content();
                let operation = shop.mend(&["--to", &format!("b{which}")]);
                assert_eq!(shop.content(), backups[which], "step {at} of seed {seed}: {step:?}");
                if *takes_back {
                    shop.ok(&["undo", &operation]);
                    assert_eq!(shop.content(), before, "step {at} of seed {seed}: {step:?}");
                }
            }
        }
    }
    shop.assert_nothing_held();
}
