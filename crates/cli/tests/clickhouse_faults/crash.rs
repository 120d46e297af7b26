//! A mend that stops at one persisted step after the other, and the process that comes after it.

use serde_json::Value;

use crate::damaged::{
    DATABASE, MEND, backed_up, contents, damage, leaves_nothing_behind, merges_run,
};
use crate::points::{MOST_POINTS, points};
use crate::servers::Flavor;
use crate::world::World;

/// Mends that are damaged anew each time, stopped at one persisted step after the other until one is no
/// longer stopped. `after` gets what was damaged before each.
fn at_points(flavor: Flavor, order: &str, after: impl Fn(&World, &Stopped)) {
    let world = backed_up(flavor);
    let whole = contents(&world);
    for point in points(few(flavor)) {
        damage(&world);
        let damaged = contents(&world);
        assert_ne!(damaged, whole);
        let arguments = [&MEND[..], &["--restore-order", order]].concat();
        let mut command = world.command(&arguments);
        command.env("MENDB_CRASH_AT", point.to_string());
        let output = command.output().unwrap();
        if output.status.success() {
            assert_eq!(contents(&world), whole);
            leaves_nothing_behind(&world);
            assert!(point > 20, "it was stopped {point} times only");
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            None,
            "it was stopped, it did not fail: {said}"
        );
        let stopped = Stopped {
            point,
            unfinished: unfinished(&world),
            whole: whole.clone(),
            damaged,
        };
        if stopped.unfinished.is_none() && contents(&world) == stopped.damaged {
            // It had not begun: nothing is to be taken up.
            world.ok(&arguments);
        } else {
            after(&world, &stopped);
        }
        mended(&world, &stopped);
    }
    panic!("a mend has more than {MOST_POINTS} persisted steps");
}

/// How far apart the steps are: the server of today, which runs inside an interpreter here, takes several
/// times as long as the old one.
pub fn few(flavor: Flavor) -> usize {
    match flavor {
        Flavor::Current => 11,
        Flavor::V18 => 4,
    }
}

struct Stopped {
    point: u64,
    /// The operation, if it is not over.
    unfinished: Option<String>,
    whole: std::collections::BTreeMap<String, String>,
    damaged: std::collections::BTreeMap<String, String>,
}

/// The mend that was stopped last, if it is not over.
fn unfinished(world: &World) -> Option<String> {
    let open =
        |operation: &&Value| !["done", "cancelled"].contains(&operation["state"].as_str().unwrap());
    let output = world.run(&["operation", "list", "--output", "json"]);
    // Before the first command there is no journal.
    let operations: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let operation = operations.iter().find(open)?;
    Some(operation["operation_id"].as_str().unwrap().to_owned())
}

/// The database is whole, and a look finds nothing to do.
fn mended(world: &World, stopped: &Stopped) {
    assert_eq!(
        contents(world),
        stopped.whole,
        "stopped at step {}",
        stopped.point
    );
    let preview = world.preview(&["shop"]);
    assert_eq!(
        (preview.total.removed.parts, preview.total.fetched.parts),
        (0, 0),
        "stopped at step {}",
        stopped.point
    );
}

fn resume(flavor: Flavor, order: &str) {
    at_points(flavor, order, |world, stopped| {
        if let Some(id) = &stopped.unfinished {
            world.ok(&["operation", "watch", id]);
        }
        leaves_nothing_behind(world);
    });
}

/// Cancels: what was changed is as it was before the mend. Then mends to the end.
fn cancel(flavor: Flavor) {
    at_points(flavor, "swap", |world, stopped| {
        let Some(id) = &stopped.unfinished else {
            return;
        };
        let output = world.run(&["operation", "cancel", id]);
        if output.status.success() {
            assert_eq!(
                contents(world),
                stopped.damaged,
                "stopped at step {}",
                stopped.point
            );
            leaves_nothing_behind(world);
            world.ok(&MEND);
        } else {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                said.contains("let it finish") || said.contains("is done"),
                "stopped at step {}: {said}",
                stopped.point
            );
            world.ok(&["operation", "watch", id]);
        }
    });
}

#[test]
fn a_swap_that_stops_anywhere_is_completed_on_26_9() {
    resume(Flavor::Current, "swap");
}

#[test]
fn a_swap_that_stops_anywhere_is_completed_on_18_16() {
    resume(Flavor::V18, "swap");
}

#[test]
fn removing_first_that_stops_anywhere_is_completed_on_26_9() {
    resume(Flavor::Current, "remove_first");
}

#[test]
fn removing_first_that_stops_anywhere_is_completed_on_18_16() {
    resume(Flavor::V18, "remove_first");
}

#[test]
fn a_mend_that_stops_anywhere_is_cancelled_without_a_trace_on_26_9() {
    cancel(Flavor::Current);
}

#[test]
fn a_mend_that_stops_anywhere_is_cancelled_without_a_trace_on_18_16() {
    cancel(Flavor::V18);
}

/// A backup that stops anywhere, and the one after it, which finishes or replaces it.
fn backups(flavor: Flavor) {
    let world = backed_up(flavor);
    let whole = contents(&world);
    let arguments = ["backup", "shop", "--tables", "shop.*"];
    for point in points(few(flavor)) {
        let mut command = world.command(&arguments);
        command.env("MENDB_CRASH_AT", point.to_string());
        let stopped = !command.output().unwrap().status.success();
        if let Some(id) = unfinished(&world) {
            world.ok(&["operation", "watch", &id]);
        }
        world.ok(&arguments);
        let shadow = world.server.data_path().join("shadow");
        let frozen = std::fs::read_dir(&shadow).into_iter().flatten().flatten();
        let frozen: Vec<_> = frozen
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().starts_with("mendb"))
            .collect();
        assert!(
            frozen.is_empty(),
            "stopped at step {point}: {frozen:?} stays frozen"
        );
        if !stopped {
            assert!(point > 10, "it was stopped {point} times only");
            damage(&world);
            world.ok(&MEND);
            assert_eq!(contents(&world), whole);
            world.ok(&["verify", "shop"]);
            return;
        }
    }
    panic!("a backup has more than {MOST_POINTS} persisted steps");
}

#[test]
fn a_backup_that_stops_anywhere_is_completed_and_leaves_no_freeze_on_26_9() {
    backups(Flavor::Current);
}

#[test]
fn a_backup_that_stops_anywhere_is_completed_and_leaves_no_freeze_on_18_16() {
    backups(Flavor::V18);
}

/// Kills mendb at moments that nobody chose, then goes on.
fn random_kills(flavor: Flavor) {
    let world = backed_up(flavor);
    let whole = contents(&world);
    for round in 0..10u32 {
        damage(&world);
        let mut child = world.command(&MEND).spawn().unwrap();
        // A query of this length on the server is the clock.
        let pause = format!("SELECT sleep({})", f64::from(round) * 0.07);
        world.server.query(&pause);
        child.kill().unwrap();
        child.wait().unwrap();
        match unfinished(&world) {
            Some(id) => world.ok(&["operation", "watch", &id]),
            None => world.ok(&MEND),
        };
        assert_eq!(contents(&world), whole, "round {round}");
        leaves_nothing_behind(&world);
    }
}

#[test]
fn a_mend_that_is_killed_at_any_moment_is_completed_on_26_9() {
    random_kills(Flavor::Current);
}

#[test]
fn a_mend_that_is_killed_at_any_moment_is_completed_on_18_16() {
    random_kills(Flavor::V18);
}

/// The server dies under a mend, which fails or waits, and is completed when the server is back.
fn server_dies(flavor: Flavor) {
    let mut world = backed_up(flavor);
    let whole = contents(&world);
    for point in [6, 12, 18, 24, 30] {
        damage(&world);
        let mut command = world.command(&MEND);
        command.env("MENDB_CRASH_AT", point.to_string());
        command.output().unwrap();
        world.server.kill();
        world.server.restart();
        match unfinished(&world) {
            Some(id) => world.ok(&["operation", "watch", &id]),
            None => world.ok(&MEND),
        };
        assert_eq!(contents(&world), whole, "both died at step {point}");
        leaves_nothing_behind(&world);
    }
    assert!(!world.part_names(DATABASE).is_empty());
}

#[test]
fn a_mend_goes_on_after_mendb_and_the_server_died_on_26_9() {
    server_dies(Flavor::Current);
}

#[test]
fn a_mend_goes_on_after_mendb_and_the_server_died_on_18_16() {
    server_dies(Flavor::V18);
}

/// A paused mend has not left merges stopped, whatever it had begun.
fn paused(flavor: Flavor) {
    let world = backed_up(flavor);
    damage(&world);
    // What is stopped from here on the mend has stopped.
    world.start_merges();
    let mut command = world.command(&MEND);
    command.env("MENDB_CRASH_AT", "40").output().unwrap();
    let id = unfinished(&world).unwrap();
    world.ok(&["operation", "pause", &id]);
    merges_run(&world);
    world.run(&["operation", "cancel", &id]);
    merges_run(&world);
}

#[test]
fn merges_run_again_when_the_mend_that_stopped_them_is_paused_or_cancelled() {
    paused(Flavor::Current);
    paused(Flavor::V18);
}

/// Tables that were dropped are created again once, wherever the mend that creates them stops.
#[test]
fn a_mend_that_creates_a_table_and_stops_anywhere_is_completed() {
    let world = backed_up(Flavor::V18);
    let whole = contents(&world);
    let arguments = [&MEND[..], &["--tables", "shop.goods"]].concat();
    for point in points(few(Flavor::V18)) {
        world.server.query("DROP TABLE shop.goods");
        let mut command = world.command(&arguments);
        command.env("MENDB_CRASH_AT", point.to_string());
        let stopped = !command.output().unwrap().status.success();
        match unfinished(&world) {
            Some(id) => world.ok(&["operation", "watch", &id]),
            None if stopped => {
                // Before it had begun, or at its very end.
                world.ok(&arguments)
            }
            None => return assert_eq!(contents(&world), whole),
        };
        assert_eq!(contents(&world), whole, "stopped at step {point}");
    }
    panic!("a mend has more than {MOST_POINTS} persisted steps");
}
