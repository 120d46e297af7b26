//! Mends and backups through whatever happens to the program, the server and its sessions, one after the other.
//!
//! `MENDB_ROUNDS=60 MENDB_SEED=7 cargo nextest run -p mendb whatever_happens` goes so many rounds.

use std::process::Stdio;

use crate::postgres_server::Version;
use crate::shop::Shop;

/// The same numbers for the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

fn given(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Runs a command while sessions of the program are ended one after the other, so many times.
fn with_sessions_ended(shop: &Shop, arguments: &[&str], times: u64) {
    let mut command = shop.command(arguments);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE application_name LIKE 'mendb%'";
    let mut ended = 0;
    while ended < times && child.try_wait().unwrap().is_none() {
        if shop.copy(end) == "t\n" {
            ended += 1;
        }
    }
    child.wait().unwrap();
}

fn go_through(version: Version, rounds: u64, seed: u64) {
    let mut shop = Shop::on(version);
    let mut numbers = Numbers(seed);
    shop.ok(&["backup", "shop", "--label", "monday"]);
    let monday = shop.content();
    for round in 0..rounds {
        shop.damage();
        let damaged = shop.content();
        let (point, what) = (1 + numbers.below(20), numbers.below(4));
        let is_backup = numbers.below(3) == 0;
        let arguments: &[&str] = match is_backup {
            true => &["backup", "shop", "--incremental"],
            false => &["restore", "shop", "--in-place", "--to", "monday"],
        };
        let told = format!("seed {seed}, round {round}: {arguments:?}, {what} at {point}");
        match what {
            // Its sessions end.
            0 => with_sessions_ended(&shop, arguments, 1 + point % 3),
            // The program ends, …
            _ => {
                let mut command = shop.command(arguments);
                command
                    .env("MENDB_CRASH_AT", point.to_string())
                    .output()
                    .unwrap();
            }
        }
        if what == 1 {
            // … and the server with it.
            shop.server.crash();
            shop.server.start();
        }
        let content = shop.content();
        assert!(
            content == damaged || (!is_backup && content == monday),
            "{told}"
        );
        for operation in shop.unfinished() {
            // What can be cancelled is as it was before.
            let is_cancelled = what == 2
                && shop
                    .run(&["operation", "cancel", &operation])
                    .status
                    .success();
            if is_cancelled {
                assert_eq!(shop.content(), damaged, "{told}, cancelled");
            } else {
                // One that failed for want of sessions goes on when it is told to.
                if !shop
                    .run(&["operation", "watch", &operation])
                    .status
                    .success()
                {
                    shop.ok(&["operation", "resume", &operation]);
                }
                let wanted = if is_backup { &damaged } else { &monday };
                assert_eq!(shop.content(), *wanted, "{told}, gone on with");
            }
        }
        assert_eq!(shop.unfinished(), Vec::<String>::new(), "{told}");
        shop.assert_nothing_held();
        shop.mend(&["--to", "monday"]);
        assert_eq!(shop.content(), monday, "{told}");
        shop.ok(&["verify", "monday", "--live"]);
    }
    shop.ok(&["verify", "shop"]);
    shop.ok(&["target", "detach"]);
    let left =
        "SELECT to_regnamespace('mendb') IS NULL, (SELECT count(*) FROM pg_replication_slots)";
    assert_eq!(shop.copy(left), "t\t0\n");
}

#[test]
fn whatever_happens_tables_are_as_before_or_as_after_and_nothing_is_left_behind() {
    let (rounds, seed) = (given("MENDB_ROUNDS", 6), given("MENDB_SEED", 7));
    go_through(Version::Debian, rounds, seed);
    go_through(Version::V18, rounds / 2, seed + 1);
}
