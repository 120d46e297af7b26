//! Several machines on one repository: two targets take backups, a third deletes, prunes, folds and tidies, all at
//! once, in an order that a seed gives, killed and stopped at random and woken again.
//!
//! ```text
//! MENDB_SHARED_SEEDS=100 cargo nextest run -p mendb --test operations at_once
//! ```
//!
//! `MENDB_SHARED_FROM` is the first seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use crate::program::{Place, objects_in};
use crate::s3_server::{BUCKET, Server};
use crate::takeover::signal;

/// What CI runs.
const SEEDS: u64 = 2;
const COMMANDS_EACH: u64 = 5;

/// A cheap sequence of numbers, so that a failure can be looked at again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What each backup must restore to, by its label.
type States = Mutex<BTreeMap<String, [String; 3]>>;

/// A machine with its own target and state.
struct Machine<'a> {
    name: &'static str,
    place: Place,
    states: &'a States,
    log: &'a Mutex<Vec<String>>,
    dice: Dice,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test is about moments in time"
)]
fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

impl Machine<'_> {
    /// Runs a command, which may be killed, or stopped and woken. Whether it succeeds does not matter here.
    fn run(&mut self, arguments: &[&str]) {
        let mut command: Command = self.place.command(arguments);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (fate, after_ms) = (self.dice.below(4), 5 + self.dice.below(250));
        match fate {
            0 => {
                sleep_ms(after_ms);
                signal(&child, "-KILL");
            }
            1 => {
                sleep_ms(after_ms);
                signal(&child, "-STOP");
                sleep_ms(self.dice.below(600));
                signal(&child, "-CONT");
            }
            _ => {}
        }
        let mut said = String::new();
        let mut stderr = child.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        let status = child.wait().unwrap();
        let line = format!(
            "{} {arguments:?} ({fate} after {after_ms} ms): {status}: {said}",
            self.name
        );
        self.log.lock().unwrap().push(line);
    }

    /// Changes rows and takes backups of them.
    fn take_backups(&mut self) {
        for round in 0..COMMANDS_EACH {
            // An operation that was cut off holds the tables, and may take its snapshot again.
            for operation in self.place.unfinished() {
                self.end(&operation);
            }
            self.place.edit_shop(1 + round as i64);
            let label = format!("{}-{round}", self.name);
            let rows = self.place.shop();
            self.states.lock().unwrap().insert(label.clone(), rows);
            let full = ["backup", "shop", "--label", &label];
            if self.dice.below(3) == 0 {
                self.run(&full);
            } else {
                self.run(&[&full[..], &["--incremental"]].concat());
            }
        }
    }

    /// Removes and folds.
    fn maintain(&mut self) {
        for _ in 0..2 * COMMANDS_EACH {
            let listed = self.place.run(&["list", "shop", "--output", "json"]);
            let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap_or_default();
            if listed.is_empty() {
                sleep_ms(50);
                continue;
            }
            let chosen = self.dice.below(listed.len() as u64) as usize;
            let id = listed[chosen]["backup_id"].as_str().unwrap().to_owned();
            match self.dice.below(8) {
                0 | 1 => self.run(&["delete", &format!("shop/{id}"), "--cascade"]),
                2 | 3 => self.run(&["chain", "compact", "shop", "--to", &id]),
                4 => self.run(&["chain", "compact", "shop", "--full", "--to", &id]),
                5 => self.run(&["prune", "shop", "--keep-last", "2"]),
                6 => self.run(&["prune", "shop", "--keep-last", "1", "--no-fold"]),
                _ => self.run(&["repository", "tidy"]),
            }
        }
    }

    /// Brings an operation to its end, or gives it up where others have taken away what it needs.
    fn end(&mut self, operation: &str) {
        if !self
            .place
            .run(&["operation", "watch", operation])
            .status
            .success()
        {
            let cancelled = self.place.run(&["operation", "cancel", operation]);
            let said = String::from_utf8_lossy(&cancelled.stderr).into_owned();
            assert!(
                cancelled.status.success(),
                "{}: {operation}: {said}",
                self.name
            );
        }
    }

    fn end_all(&mut self) {
        for operation in self.place.unfinished() {
            self.end(&operation);
        }
        assert_eq!(self.place.unfinished(), [""; 0], "{}", self.name);
    }
}

/// Lets the machines work for a seed, and checks every backup that is left.
fn share(seed: u64, url: &str, environment: &[(String, String)]) {
    let (states, log) = (States::default(), Mutex::default());
    let machine = |name, number| {
        let place = Place::new().with_repository(url.to_owned(), environment.iter().cloned());
        Machine {
            name,
            place,
            states: &states,
            log: &log,
            dice: Dice(seed * 3 + number),
        }
    };
    let (mut a, mut b, mut keeper) = (machine("a", 0), machine("b", 1), machine("keeper", 2));
    for machine in [&a, &b] {
        machine.place.fill_shop();
    }
    a.place.ok(&["repository", "init"]);
    std::thread::scope(|scope| {
        scope.spawn(|| a.take_backups());
        scope.spawn(|| b.take_backups());
        scope.spawn(|| keeper.maintain());
    });
    let told = || format!("seed {seed}\n{}", log.lock().unwrap().join("\n"));
    for machine in [&mut a, &mut b, &mut keeper] {
        machine.end_all();
    }
    let listed = keeper.place.json(&["list", "shop"]);
    let verified = keeper.place.run(&["verify", "shop"]);
    let there = listed.as_array().unwrap();
    let is_whole = verified.status.success() || there.is_empty();
    assert!(
        is_whole,
        "{}\n{}",
        String::from_utf8_lossy(&verified.stderr),
        told()
    );
    for backup in there {
        let (id, label) = (&backup["backup_id"], backup["label"].as_str().unwrap());
        let id = id.as_str().unwrap();
        keeper.place.ok(&["restore", "shop", "--to", id]);
        let expected = &states.lock().unwrap()[label];
        assert_eq!(keeper.place.shop(), *expected, "{label} {id}\n{}", told());
        keeper.place.drop_shop();
    }
    // Whatever has no backup any more is gone, too.
    for backup in there {
        let name = format!("shop/{}", backup["backup_id"].as_str().unwrap());
        drop(keeper.place.run(&["delete", &name, "--cascade"]));
    }
    assert_eq!(
        keeper.place.json(&["list", "shop"]),
        Value::Array(Vec::new())
    );
    if let Some(directory) = url.strip_prefix("file://") {
        let left = objects_in(&Path::new(directory).join("collections"));
        assert_eq!(left, 0, "{}", told());
    }
}

fn seeds() -> std::ops::Range<u64> {
    let from = number("MENDB_SHARED_FROM", 1);
    from..from + number("MENDB_SHARED_SEEDS", SEEDS)
}

#[test]
fn machines_that_work_at_once_in_a_directory_lose_no_backup_and_leave_nothing() {
    for seed in seeds() {
        let directory = tempfile::tempdir().unwrap();
        share(seed, &format!("file://{}", directory.path().display()), &[]);
    }
}

#[test]
fn machines_that_work_at_once_on_s3_lose_no_backup() {
    let server = Server::start();
    let settings = server.settings();
    let environment = settings.map(|(name, value)| (name.to_uppercase(), value));
    let environment: Vec<_> = environment.into_iter().collect();
    for seed in seeds() {
        share(seed, &format!("s3://{BUCKET}/shared/{seed}"), &environment);
    }
}
