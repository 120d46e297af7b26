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

#[test]
fn kills_of_mends_leave_the_state_before_or_after_and_nothing_between() {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop", "--label", "good"]);
    let good = place.shop();
    let mend = ["restore", "shop", "--in-place", "--to", "good"];
    let mut random = 20_261_121;
    for round in 0..20u64 {
        place.edit_shop(round as i64 % 9 + 1);
        let damaged = place.shop();
        kill_after(&place, &mend, next(&mut random) % 120);
        let now = place.shop();
        assert!(now == good || now == damaged, "a mixture in round {round}");
        for operation in place.unfinished() {
            if round % 3 == 0
                && place
                    .run(&["operation", "cancel", &operation])
                    .status
                    .success()
            {
                assert_eq!(place.shop(), damaged, "cancelled in round {round}");
            } else {
                place.ok(&["operation", "watch", &operation]);
                assert_eq!(place.shop(), good, "round {round}");
            }
        }
        if round % 4 == 0 {
            place.ok(&["backup", "shop", "--incremental"]);
        }
        place.ok(&mend);
        assert_eq!(place.shop(), good, "round {round}");
    }
    place.ok(&["backup", "shop", "--incremental"]);
    place.ok(&["verify", "shop", "--live"]);
    let now = place.shop();
    place.drop_shop();
    place.ok(&["restore", "shop"]);
    assert_eq!(place.shop(), now);
}
