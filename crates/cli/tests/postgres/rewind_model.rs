//! Taking transactions back, against a model of what they did, and where it is cut off.

use std::collections::{BTreeMap, BTreeSet};

use crate::points::points;
use crate::postgres_server::Version;
use crate::rewinds::{INCREMENT, cancel, refused, streaming, take_back, transaction};
use crate::shop::{Content, Shop};

/// Numbers that look random, the same each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn taking_a_transaction_back_is_as_if_it_had_not_been_where_nobody_wrote_again() {
    const KEYS: u64 = 24;
    let shop = {
        let mut shop = Shop::empty_on(Version::Debian);
        shop.server.crash();
        shop.server.start_with(&["wal_level=logical"]);
        shop
    };
    shop.sql(
        "CREATE TABLE seen (place serial, number text);
         CREATE TABLE t (id int PRIMARY KEY, v bigint NOT NULL, wide text);
         ALTER TABLE t ALTER wide SET STORAGE EXTERNAL;
         INSERT INTO t SELECT n, n, repeat('w', 4000 + n) FROM generate_series(0, 11) n",
    );
    shop.ok(&["collection", "create", "shop", "--table", "public.t"]);
    shop.ok(&["backup", "shop", "--changes", "stream"]);
    let read = |shop: &Shop| -> Rows {
        let rows = shop.copy("SELECT id, v, coalesce(length(wide), 0) FROM t");
        let row = |line: &str| {
            let mut fields = line.split('\t');
            let mut next = || fields.next().unwrap();
            (
                next().parse().unwrap(),
                (next().parse().unwrap(), next().parse().unwrap()),
            )
        };
        rows.lines().map(row).collect()
    };
    let mut draw = Draw(0x5eed_1234_abcd);
    for round in 0..8 {
        let (mut numbers, mut steps) = (Vec::new(), Vec::new());
        for at in 0..12 {
            let mut statements = Vec::new();
            let mut rows = read(&shop);
            for _ in 0..1 + draw.below(4) {
                let (id, v) = (draw.below(KEYS), draw.below(1_000_000) as i64);
                let to = draw.below(KEYS);
                let before = rows.clone();
                let mut moved = None;
                match draw.below(5) {
                    0 if rows.contains_key(&id) => {
                        statements.push(format!("DELETE FROM t WHERE id = {id}"));
                        rows.remove(&id);
                    }
                    1 if rows.contains_key(&id) && !rows.contains_key(&to) => {
                        // The whole row is told where it moves: with a new value beside it.
                        statements.push(format!(
                            "UPDATE t SET id = {to}, wide = repeat('m', {v} % 9000) WHERE id = {id}"
                        ));
                        let (old, _) = rows.remove(&id).unwrap();
                        rows.insert(to, (old, (v % 9000) as usize));
                        moved = Some(to);
                    }
                    2 if rows.contains_key(&id) => {
                        statements.push(format!(
                            "SAVEPOINT s; UPDATE t SET v = {v} WHERE id = {id}; ROLLBACK TO s; UPDATE t SET v = -{v} WHERE id = {id}"
                        ));
                        rows.get_mut(&id).unwrap().0 = -v;
                    }
                    _ if rows.contains_key(&id) => {
                        statements.push(format!(
                            "SAVEPOINT s; UPDATE t SET v = {v} WHERE id = {id}; RELEASE s"
                        ));
                        rows.get_mut(&id).unwrap().0 = v;
                    }
                    _ => {
                        statements.push(format!(
                            "INSERT INTO t VALUES ({id}, {v}, repeat('i', 5000))"
                        ));
                        rows.insert(id, (v, 5000));
                    }
                }
                steps.push(Step {
                    by: at,
                    id,
                    moved,
                    before,
                });
            }
            let number = transaction(&shop, &statements.join("; "));
            assert_eq!(read(&shop), rows, "the model is the table: {statements:?}");
            numbers.push(number);
            if draw.below(4) == 0 {
                shop.ok(&INCREMENT);
            }
        }
        shop.ok(&INCREMENT);
        let at = draw.below(numbers.len() as u64) as usize;
        let live = read(&shop);
        let (operation, _) = take_back(&shop, &numbers[at], &[]);
        assert_eq!(
            read(&shop),
            taken_back(&steps, at, &live, false),
            "round {round}: {at} of {steps:?}"
        );
        shop.ok(&["undo", &operation]);
        assert_eq!(read(&shop), live, "round {round}");
        take_back(&shop, &numbers[at], &["--include-rewritten"]);
        assert_eq!(
            read(&shop),
            taken_back(&steps, at, &live, true),
            "round {round}: {at} of {steps:?}"
        );
        shop.ok(&INCREMENT);
        shop.ok(&["verify", "shop", "--live"]);
    }
    shop.ok(&["verify", "shop"]);
}

type Rows = BTreeMap<u64, (i64, usize)>;

/// What a transaction did to a row, which may have gone to another key.
#[derive(Debug)]
struct Step {
    by: usize,
    id: u64,
    moved: Option<u64>,
    before: Rows,
}

/// What there is when a transaction was taken back: keys of one row go back together, or stay where one of them was written
/// again.
fn taken_back(steps: &[Step], by: usize, live: &Rows, include_rewritten: bool) -> Rows {
    // Of each key that goes back, what was there before; and which go together.
    let mut back: BTreeMap<u64, Option<(i64, usize)>> = BTreeMap::new();
    let mut units: Vec<BTreeSet<u64>> = Vec::new();
    let (mut written, mut again) = (BTreeSet::new(), BTreeSet::new());
    for step in steps {
        let keys: Vec<u64> = std::iter::once(step.id).chain(step.moved).collect();
        let is_taken = step.by == by || keys.iter().any(|key| back.contains_key(key));
        if step.by != by {
            again.extend(keys.iter().filter(|key| back.contains_key(key)));
        }
        if is_taken && (step.by == by || step.moved.is_some()) {
            for key in &keys {
                back.entry(*key)
                    .or_insert_with(|| step.before.get(key).copied());
            }
            let together = |unit: &BTreeSet<u64>| keys.iter().any(|key| unit.contains(key));
            let (joined, others): (Vec<_>, Vec<_>) = units.into_iter().partition(together);
            units = others;
            units.push(joined.into_iter().flatten().chain(keys.clone()).collect());
        }
        if step.by == by {
            written.extend(keys);
        } else if is_taken {
            again.extend(keys);
        }
    }
    let mut rows = live.clone();
    for unit in units {
        let stays = unit.iter().any(|key| again.contains(key));
        if (stays && !include_rewritten) || unit.is_disjoint(&written) {
            continue;
        }
        for key in unit {
            match back[&key] {
                Some(row) => rows.insert(key, row),
                None => rows.remove(&key),
            };
        }
    }
    rows
}

#[test]
fn a_mend_that_takes_a_transaction_back_and_is_killed_anywhere_is_done_or_nothing() {
    let shop = streaming(Version::Debian);
    let before = shop.content();
    let bad = transaction(
        &shop,
        "UPDATE orders SET note = 'bad' WHERE id % 9 = 1; DELETE FROM orders WHERE id % 9 = 2",
    );
    let damaged = shop.content();
    shop.ok(&INCREMENT);
    let mut known = BTreeSet::new();
    for point in points(4) {
        let output = shop
            .command(&["restore", "shop", "--in-place", "--only-changed-by", &bad])
            .env("MENDB_CRASH_AT", point.to_string())
            .output()
            .unwrap();
        let there: Content = shop.content();
        assert!(there == before || there == damaged, "stopped at {point}");
        for operation in shop.unfinished() {
            shop.ok(&["operation", "watch", &operation]);
        }
        let operations = shop.json(&["operation", "list"]);
        let ids = operations.as_array().unwrap().iter();
        let ids = ids.filter_map(|operation| operation["operation_id"].as_str());
        let new = ids.filter(|id| id.starts_with("mend-") && !known.contains(*id));
        let Some(mend) = new.map(str::to_owned).next() else {
            // It was stopped before there was an operation.
            assert_eq!(there, damaged, "stopped at {point}");
            continue;
        };
        assert_eq!(shop.content(), before, "stopped at {point}");
        shop.ok(&["undo", &mend]);
        assert_eq!(shop.content(), damaged, "stopped at {point}");
        known.insert(mend);
        if output.status.success() {
            break;
        }
    }
    shop.ok(&["verify", "shop"]);
    shop.assert_nothing_held();
}

#[test]
fn what_a_stream_does_not_tell_of_a_row_that_moved_is_said_unless_it_tells_whole_rows() {
    let mut shop = Shop::empty_on(Version::Debian);
    shop.server.crash();
    shop.server.start_with(&["wal_level=logical"]);
    shop.sql(
        "CREATE TABLE seen (place serial, number text);
         CREATE TABLE t (id int PRIMARY KEY, v int, wide text, kinds int[]);
         ALTER TABLE t ALTER wide SET STORAGE EXTERNAL;
         INSERT INTO t SELECT n, n, repeat('w', 4000 + n), ARRAY[n, NULL] FROM generate_series(1, 20) n",
    );
    shop.ok(&["collection", "create", "shop", "--table", "public.t"]);
    shop.ok(&["backup", "shop", "--changes", "stream"]);
    let all = "SELECT id, v, md5(wide), kinds FROM t ORDER BY id";
    for is_whole in [false, true] {
        if is_whole {
            shop.sql("ALTER TABLE t REPLICA IDENTITY FULL");
            shop.ok(&INCREMENT);
        }
        shop.sql("UPDATE t SET id = id + 100 WHERE id < 4");
        let before = shop.copy(all);
        let bad = transaction(&shop, "UPDATE t SET v = 0, kinds = '{}' WHERE id > 3");
        let there = shop.copy(all);
        shop.ok(&INCREMENT);
        match is_whole {
            true => {
                take_back(&shop, &bad, &[]);
                assert_eq!(shop.copy(all), before);
            }
            false => {
                let why = refused(&shop, &bad);
                assert!(why.contains("came from another key"), "{why}");
                cancel(&shop);
                assert_eq!(shop.copy(all), there);
                // The others can be taken back.
                let (_, done) = take_back(&shop, &bad, &["--range", "public.t:..100"]);
                assert_eq!(done["upserted"], 17, "{done}");
            }
        }
        shop.sql("UPDATE t SET id = id - 100 WHERE id > 100");
        shop.ok(&INCREMENT);
    }
    shop.ok(&["verify", "shop", "--live"]);
}

#[test]
fn rows_of_partitions_go_back_into_the_partition_that_they_left() {
    let mut shop = Shop::empty_on(Version::V18);
    shop.server.crash();
    shop.server.start_with(&["wal_level=logical"]);
    shop.sql(
        "CREATE TABLE seen (place serial, number text);
         CREATE TABLE t (id int, place int, v int, PRIMARY KEY (id, place)) PARTITION BY LIST (place);
         CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
         CREATE TABLE t2 (place int NOT NULL, v int, id int NOT NULL, PRIMARY KEY (id, place));
         ALTER TABLE t ATTACH PARTITION t2 FOR VALUES IN (2);
         INSERT INTO t SELECT n, 1 + n % 2, n FROM generate_series(1, 200) n",
    );
    shop.ok(&["collection", "create", "shop", "--table", "public.t"]);
    shop.ok(&["backup", "shop", "--changes", "stream"]);
    let all = "SELECT tableoid::regclass, * FROM t ORDER BY id";
    let before = shop.copy(all);
    let bad = transaction(
        &shop,
        "UPDATE t SET place = 3 - place WHERE id < 5; UPDATE t SET v = 0 WHERE id % 10 = 7;
         DELETE FROM t2 WHERE id > 190; INSERT INTO t1 VALUES (1000, 1, 1)",
    );
    let damaged = shop.copy(all);
    shop.ok(&INCREMENT);
    let (operation, _) = take_back(&shop, &bad, &[]);
    assert_eq!(shop.copy(all), before);
    shop.ok(&["undo", &operation]);
    assert_eq!(shop.copy(all), damaged);
    shop.ok(&["verify", "shop"]);
}
