//! What a server does meanwhile, at random, held against a model that knows the rows.
//!
//! A sequence is a table of its own, with backups, mends that are killed at a random persisted step and
//! resumed, cancelled or undone, and between them inserts, merges, mutations, drops, detached and attached
//! partitions and tables, restarts and kills of the server. Nothing may be lost, doubled, or called equal that
//! is not.
//!
//! `MENDB_MODEL_SEQUENCES=250 cargo test -p mendb --test clickhouse_faults model` runs so many on each server;
//! `MENDB_MODEL_FIRST=17` begins with that one. A sequence is told by its number.

use std::collections::BTreeMap;
use std::process::Output;

use crate::servers::{Flavor, ServerOptions};
use crate::world::World;

const DATABASE: &str = "model";
const SEQUENCES: u64 = 10;
const ACTIONS: u64 = 9;
const PARTITIONS: [u64; 2] = [0, 1];
/// More persisted steps than a mend of such a table has.
const CRASH_POINTS: u64 = 45;

/// How often each key is there, by partition: the sum of a column that is one in each row.
type Rows = BTreeMap<(u64, u64), u64>;

/// Numbers that only look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A mend that was begun.
struct Mend {
    id: String,
    policy: &'static str,
    /// Whether the table was planned when mendb was killed: what comes before that is in the plan.
    is_planned: bool,
    /// The table when it was asked for.
    before: Rows,
    /// What it is to bring back.
    wanted: Rows,
    /// What somebody inserted since.
    late: Rows,
    /// What of that it has refused to remove, and told: it may go when it is resumed.
    told: Rows,
}

struct Sequence<'a> {
    world: &'a mut World,
    dice: Dice,
    table: String,
    backups: Vec<(String, Rows)>,
    open: Option<Mend>,
    /// The last mend that was done, while nothing but inserts and merges has happened since.
    done: Option<Mend>,
    next_key: u64,
    /// Whether somebody has dropped or detached a partition.
    has_dropped: bool,
    history: Vec<String>,
}

impl Sequence<'_> {
    fn sql(&mut self, sql: &str) -> String {
        self.world.server.query(sql)
    }

    fn rows(&self) -> Rows {
        let told = self.world.server.query(&format!(
            "SELECT p, k, sum(v) FROM {DATABASE}.{} GROUP BY p, k ORDER BY p, k",
            self.table
        ));
        let row = |line: &str| {
            let mut numbers = line.split('\t').map(|number| number.parse().unwrap());
            let mut next = || numbers.next().unwrap();
            ((next(), next()), next())
        };
        told.lines().map(row).collect()
    }

    fn note(&mut self, what: impl Into<String>) {
        self.history.push(what.into());
    }

    fn check(&self, what: &str, is_right: bool) {
        let rows = self.rows();
        let history = self.history.join("\n  ");
        assert!(
            is_right,
            "{what}: {}\n  {history}\nrows now: {rows:?}",
            self.table
        );
    }

    fn mendb(&mut self, arguments: &[&str]) -> Output {
        let output = self.world.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = said.lines().last().unwrap_or_default().to_owned();
        self.note(format!(
            "mendb {} -> {:?} {last}",
            arguments.join(" "),
            output.status.code()
        ));
        output
    }

    fn act(&mut self) {
        // While a mend is open, others write, merge and restart; what they remove is their own affair.
        let actions = if self.open.is_some() { 11 } else { 14 };
        match self.dice.below(actions) {
            0 | 1 => self.insert(),
            2 => self.merge(),
            3 => self.reload(),
            4 => self.restart(),
            5..=10 => self.mend_or_go_on(),
            11 => self.backup(),
            12 => self.mutate(),
            _ => self.drop_or_detach(),
        }
    }

    fn insert(&mut self) {
        // No two inserts have the same content: one that has that of a part to be brought is taken for it.
        let nth = self.history.len();
        let partition = self.dice.of(&PARTITIONS);
        let again = self.dice.below(3) == 0 && self.next_key > 0;
        let key = if again {
            self.dice.below(self.next_key)
        } else {
            self.next_key += 1;
            self.next_key
        };
        self.sql(&format!(
            "INSERT INTO {DATABASE}.{} VALUES ({partition}, {key}, 1, {nth})",
            self.table
        ));
        self.note(format!("insert {key} into {partition}"));
        for mend in [&mut self.open, &mut self.done].into_iter().flatten() {
            *mend.late.entry((partition, key)).or_default() += 1;
        }
    }

    fn merge(&mut self) {
        let merged = self
            .world
            .server
            .try_query(&format!("OPTIMIZE TABLE {DATABASE}.{} FINAL", self.table));
        self.note(format!("merge: {}", merged.is_ok()));
    }

    fn reload(&mut self) {
        if self.has_dropped && !self.world.is_current() {
            // An old server that loads a table brings back what was dropped and lies there still.
            return;
        }
        let table = format!("{DATABASE}.{}", self.table);
        let sync = if self.world.is_current() { " SYNC" } else { "" };
        self.sql(&format!("DETACH TABLE {table}{sync}"));
        self.sql(&format!("ATTACH TABLE {table}"));
        self.note("the table is detached and attached");
    }

    fn restart(&mut self) {
        let replaced = "SELECT count() FROM system.parts WHERE NOT active";
        if self.open.is_some() && !self.world.is_current() && self.sql(replaced).trim() != "0" {
            // Merges may be stopped, and an old server removes nothing then that it would bring back.
            return;
        }
        // A server that is killed at once forgets what it was just told.
        self.world.settle();
        self.world.server.restart();
        self.note("the server is killed and started");
    }

    fn mutate(&mut self) {
        self.done = None;
        let key = self.dice.below(self.next_key + 1);
        let table = &self.table;
        let sql = format!("ALTER TABLE {DATABASE}.{table} DELETE WHERE k = {key}");
        self.world.mutate(&sql);
        self.note(format!("delete {key}"));
    }

    fn drop_or_detach(&mut self) {
        self.done = None;
        self.has_dropped = true;
        let partition = self.dice.of(&PARTITIONS);
        let table = format!("ALTER TABLE {DATABASE}.{}", self.table);
        if self.dice.below(2) == 0 {
            self.sql(&format!("{table} DROP PARTITION ID '{partition}'"));
            self.note(format!("drop {partition}"));
        } else {
            self.sql(&format!("{table} DETACH PARTITION ID '{partition}'"));
            self.sql(&format!("{table} ATTACH PARTITION ID '{partition}'"));
            self.note(format!("detach and attach {partition}"));
        }
    }

    fn backup(&mut self) {
        let label = format!("b{}", self.backups.len());
        let table = format!("{DATABASE}.{}", self.table);
        let collection = self.table.clone();
        let output = self.mendb(&["backup", &collection, "--tables", &table, "--label", &label]);
        self.check("a backup fails", output.status.success());
        let rows = self.rows();
        self.backups.push((label, rows));
    }

    fn mend_or_go_on(&mut self) {
        match (self.open.is_some(), self.done.is_some()) {
            (true, _) => self.go_on(),
            (false, true) if self.dice.below(3) == 0 => self.undo(),
            _ => self.mend(),
        }
    }

    fn mend(&mut self) {
        let at = self.dice.below(self.backups.len() as u64) as usize;
        let (label, wanted) = self.backups[at].clone();
        let policy = self.dice.of(&["fail", "remove", "keep"]);
        let order = self.dice.of(&["swap", "remove_first", "auto"]);
        let before = self.rows();
        let collection = self.table.clone();
        let mut command = self.world.command(&[
            "restore",
            &collection,
            "--to",
            &label,
            "--in-place",
            "--restore-order",
            order,
            "--on-concurrent-insert",
            policy,
        ]);
        let point = self.dice.below(CRASH_POINTS);
        command.env("MENDB_CRASH_AT", (point + 1).to_string());
        let output = command.output().unwrap();
        self.note(format!(
            "mend to {label} ({order}, {policy}), killed at {}: {:?}",
            point + 1,
            output.status.code()
        ));
        let operations = self.world.operations();
        let of_table = operations.iter().rev().find(|operation| {
            let is_mend = operation["kind"] == "mend";
            is_mend && operation["collection"] == self.table.as_str()
        });
        let Some(operation) = of_table else {
            self.check(
                "a mend that never began has changed the table",
                self.rows() == before,
            );
            return;
        };
        let mend = Mend {
            id: operation["operation_id"].as_str().unwrap().to_owned(),
            policy,
            is_planned: !operation["step"].as_str().unwrap().contains("assess"),
            before,
            wanted,
            late: Rows::new(),
            told: Rows::new(),
        };
        match operation["state"].as_str().unwrap() {
            "done" if output.status.success() => self.is_done(mend),
            // Of an operation before, while this one was not created.
            "done" | "cancelled" => self.check(
                "a mend that never began has changed the table",
                self.rows() == mend.before,
            ),
            _ => self.open = Some(mend),
        }
    }

    /// Goes on with the open mend, or gives it up.
    fn go_on(&mut self) {
        let Some(mut mend) = self.open.take() else {
            return;
        };
        if self.dice.below(3) == 0 {
            return self.cancel(mend);
        }
        let verb = if self.is_failed(&mend.id) {
            "resume"
        } else {
            "watch"
        };
        let output = self.mendb(&["operation", verb, &mend.id]);
        if output.status.success() {
            return self.is_done(mend);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        self.check(
            &format!("a mend fails otherwise: {said}"),
            said.contains("came after the mend"),
        );
        mend.told = mend.late.clone();
        if mend.policy == "keep" {
            // What was merged with others can only go with them.
            let id = mend.id.clone();
            mend.policy = "remove";
            let flags = [
                "operation",
                "resume",
                &id,
                "--on-concurrent-insert",
                "remove",
            ];
            let output = self.mendb(&flags);
            self.check("the advice does not help", output.status.success());
            return self.is_done(mend);
        }
        self.open = Some(mend);
    }

    fn is_failed(&self, id: &str) -> bool {
        let operations = self.world.operations();
        let of_it = operations
            .iter()
            .find(|operation| operation["operation_id"] == id);
        of_it.is_some_and(|operation| operation["state"] == "failed")
    }

    fn is_done(&mut self, mend: Mend) {
        let rows = self.rows();
        let must_stay = |key: &(u64, u64), late: u64| match mend.policy {
            _ if !mend.is_planned => 0,
            "remove" => 0,
            "keep" => late,
            _ => late - mend.told.get(key).copied().unwrap_or(0).min(late),
        };
        let keys = rows
            .keys()
            .chain(mend.wanted.keys())
            .chain(mend.late.keys());
        for key in keys {
            let count = |of: &Rows| of.get(key).copied().unwrap_or(0);
            let (wanted, late) = (count(&mend.wanted), count(&mend.late));
            let range = wanted + must_stay(key, late)..=wanted + late;
            let what = format!(
                "after a mend, key {key:?} is there {} times, not {range:?}",
                count(&rows)
            );
            self.check(&what, range.contains(&count(&rows)));
        }
        // What came and stayed is the table's from here on; what is inserted now came after.
        self.done = Some(Mend {
            late: Rows::new(),
            ..mend
        });
    }

    fn cancel(&mut self, mend: Mend) {
        let output = self.mendb(&["operation", "cancel", &mend.id]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let with_late = |rows: &Rows| {
            let mut rows = rows.clone();
            for (key, late) in &mend.late {
                *rows.entry(*key).or_default() += late;
            }
            rows
        };
        match output.status.code() {
            Some(0) => self.check(
                "a cancel does not bring back what was",
                self.rows() == with_late(&mend.before),
            ),
            Some(3) => {
                // Left as it is, and said: each partition as before or as in the backup, with all that came.
                let rows = self.rows();
                for partition in PARTITIONS {
                    let of_it = |rows: &Rows| -> Rows {
                        rows.iter()
                            .filter(|((p, _), _)| *p == partition)
                            .map(|(key, count)| (*key, *count))
                            .collect()
                    };
                    let is = of_it(&rows);
                    let known = [&mend.before, &mend.wanted].map(|rows| of_it(&with_late(rows)));
                    self.check(
                        "a table that was left is neither of the two",
                        // Cleared first, and no room to keep what was: it has to be mended again.
                        known.contains(&is) || said.contains("nothing was kept"),
                    );
                }
            }
            _ if said.contains("let it finish") || said.contains("is done") => {
                self.open = Some(mend);
            }
            code => self.check(&format!("a cancel ends with {code:?}: {said}"), false),
        }
    }

    fn undo(&mut self) {
        let Some(mend) = self.done.take() else {
            return;
        };
        // Another mend may have let rows stay that came while it ran: an undo keeps them too.
        let policy = self.dice.of(&["keep", "fail"]);
        let before = self.rows();
        let output = self.mendb(&["undo", &mend.id, "--on-concurrent-insert", policy]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            let rows = self.rows();
            for (key, late) in &mend.late {
                let there = rows.get(key).copied().unwrap_or(0);
                self.check(&format!("an undo lost {key:?}"), there >= *late);
            }
            for (key, was) in &mend.before {
                let there = rows.get(key).copied().unwrap_or(0);
                self.check(
                    &format!("an undo does not bring {key:?} back"),
                    there >= *was,
                );
            }
        } else {
            let is_known = said.contains("rows came into")
                || said.contains("rows may have come into")
                || said.contains("rows that came into")
                || said.contains("kept nothing")
                || said.contains("changed nothing");
            self.check(&format!("an undo fails otherwise: {said}"), is_known);
            self.check(
                "an undo that was refused has changed the table",
                self.rows() == before,
            );
        }
    }

    /// What is called equal is.
    fn verify(&mut self) {
        for at in 0..self.backups.len() {
            let (label, rows) = self.backups[at].clone();
            let output = self.mendb(&["verify", &label, "--live"]);
            if output.status.success() {
                self.check(&format!("{label} is called equal"), self.rows() == rows);
            }
        }
    }
}

fn run(flavor: Flavor) {
    let number = |name: &str, default| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let sequences = number("MENDB_MODEL_SEQUENCES", SEQUENCES);
    let first = number("MENDB_MODEL_FIRST", 0);
    // What is not live any more goes soon: a server that is killed may bring back what is still there.
    let options = ServerOptions {
        part_log: flavor == Flavor::Current,
        old_parts_lifetime_s: Some(1),
        ..ServerOptions::default()
    };
    let mut world = World::with(flavor, options);
    world.server.create_database(DATABASE);
    for number in first..first + sequences {
        let mut dice = Dice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            dice.below(2);
        }
        let engine = dice.of(&["MergeTree", "SummingMergeTree(v)"]);
        let table = format!("t{number}");
        world.server.query(&format!(
            "CREATE TABLE {DATABASE}.{table} (p UInt64, k UInt64, v UInt64, nth UInt64) ENGINE = {engine} \
             PARTITION BY p ORDER BY k SETTINGS index_granularity = 8192"
        ));
        let mut sequence = Sequence {
            world: &mut world,
            dice,
            table,
            backups: Vec::new(),
            open: None,
            done: None,
            next_key: 0,
            has_dropped: false,
            history: vec![format!("sequence {number}, {engine}")],
        };
        for _ in 0..4 {
            sequence.insert();
        }
        sequence.backup();
        for _ in 0..ACTIONS {
            sequence.act();
        }
        while let Some(mend) = sequence.open.take() {
            sequence.cancel(mend);
            if sequence.open.is_some() {
                sequence.go_on();
            }
        }
        sequence.verify();
        let table = sequence.table;
        world
            .server
            .query(&format!("DROP TABLE {DATABASE}.{table}"));
    }
    println!("{flavor:?}: sequences {first} to {}", first + sequences - 1);
}

#[test]
fn nothing_is_lost_doubled_or_wrongly_called_equal_whatever_happens_on_26_9() {
    run(Flavor::Current);
}

#[test]
fn nothing_is_lost_doubled_or_wrongly_called_equal_whatever_happens_on_18_16() {
    run(Flavor::V18);
}
