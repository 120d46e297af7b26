//! `kill -9` of the real program at random times.

use std::process::Stdio;
use std::time::Duration;

use crate::program::Place;

const ROUNDS: u64 = 50;

/// A cheap sequence of numbers: the moments are random enough, and a failure can be repeated.
fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Starts a command and kills it after some milliseconds, unless it ends before.
#[expect(
    clippy::disallowed_methods,
    reason = "the test is about moments in time"
)]
fn kill_after(place: &Place, arguments: &[&str], delay_ms: u64) {
    let mut command = place.command(arguments);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(delay_ms));
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn fifty_kills_lose_nothing() {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop"]);
    let mut random = 20_260_821;
    for round in 0..ROUNDS / 2 {
        place.edit_shop(round as i64 % 9 + 1);
        let before = place.shop();
        kill_after(
            &place,
            &["backup", "shop", "--incremental"],
            10 + next(&mut random) % 150,
        );
        for operation in place.unfinished() {
            place.ok(&["operation", "watch", &operation]);
        }
        place.ok(&["backup", "shop", "--incremental"]);
        place.drop_shop();
        kill_after(&place, &["restore", "shop"], 10 + next(&mut random) % 250);
        for operation in place.unfinished() {
            place.ok(&["operation", "watch", &operation]);
        }
        if place
            .json(&["table", "list"])
            .as_array()
            .unwrap()
            .is_empty()
        {
            place.ok(&["restore", "shop"]);
        }
        assert_eq!(place.shop(), before, "round {round}");
        // Restored tables have no streams: the next increment needs a new chain.
        place.ok(&["backup", "shop"]);
    }
    place.ok(&["verify", "shop", "--live"]);
}
