//! One process follows an operation that another drives, and takes its place.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use mendb_model::name::OperationId;
use mendb_rowstore::{Database, Options};
use mendb_service::journal::Journal;

use crate::program::Place;

/// So often it is looked whether something has happened that must happen …
const LOOKS: u32 = 1200;
const MOST_TRIES: u32 = 50;
/// … in between this time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[expect(
    clippy::disallowed_methods,
    reason = "waits for another process, within bounds"
)]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

/// The end of a process that must come to one.
pub fn end(child: &mut Child) -> ExitStatus {
    for _ in 0..LOOKS {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        pause();
    }
    child.kill().unwrap();
    panic!("it waits for a process that is no more");
}

pub fn signal(child: &Child, name: &str) {
    let kill = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
}

pub fn spawn(place: &Place, arguments: &[&str]) -> Child {
    let mut command = place.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// A restore that is stopped while it has the target open, with its operation.
fn stopped_restore(place: &Place) -> (Child, String) {
    stopped(place, &["restore", "shop"], || place.drop_shop())
}

/// A command that is stopped while it has the target open, with its operation. One that ends before it can be
/// stopped is begun again, when that was made possible.
pub fn stopped(place: &Place, arguments: &[&str], again: impl Fn()) -> (Child, String) {
    let journal = Journal::open(&place.path("target")).unwrap();
    let unfinished = || journal.unfinished_operations().unwrap();
    for _ in 0..MOST_TRIES {
        let mut driver = spawn(place, arguments);
        while unfinished().is_empty() && driver.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        if driver.try_wait().unwrap().is_none() {
            signal(&driver, "-STOP");
            if let Some(operation) = unfinished().first() {
                return (driver, operation.to_string());
            }
            driver.kill().unwrap();
            driver.wait().unwrap();
        }
        again();
    }
    panic!("each of {MOST_TRIES} was over before it was stopped");
}

/// A target with a restore of its tables to begin, and what they held.
pub fn lost_shop() -> (Place, [String; 3]) {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop"]);
    for round in 1..4 {
        place.edit_shop(round);
        place.ok(&["backup", "shop", "--incremental"]);
    }
    let before = place.shop();
    place.drop_shop();
    (place, before)
}

#[test]
fn who_follows_an_operation_finishes_it_when_its_driver_is_killed() {
    let (place, before) = lost_shop();
    let (mut driver, operation) = stopped_restore(&place);
    let mut follower = spawn(&place, &["operation", "watch", &operation]);
    let mut said = BufReader::new(follower.stderr.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    assert!(first.starts_with(&operation), "it follows: {first}");

    driver.kill().unwrap();
    driver.wait().unwrap();
    let rest = std::thread::spawn(move || said.map_while(Result::ok).collect::<Vec<_>>());
    let status = end(&mut follower);
    assert!(status.success(), "{:?}", rest.join().unwrap());
    assert_eq!(place.shop(), before);
}

/// A restore that nobody drives, because its process was stopped in the middle.
pub fn abandoned_restore(place: &Place) -> OperationId {
    let stopped = place
        .command(&["restore", "shop"])
        .env("MENDB_CRASH_AT", "14")
        .output()
        .unwrap();
    assert_eq!(stopped.status.code(), None);
    place.unfinished().remove(0).parse().unwrap()
}

/// Has the target open, as a process that takes no commands.
fn occupy(place: &Place) -> Database {
    Database::open(&place.path("target/rows"), Options::default()).unwrap()
}

#[test]
fn a_command_that_the_driver_ends_without_taking_is_taken_by_who_gave_it() {
    let (place, _) = lost_shop();
    let operation = abandoned_restore(&place);
    let occupied = occupy(&place);
    let mut canceller = spawn(&place, &["operation", "cancel", operation.as_str()]);
    let journal = Journal::open(&place.path("target")).unwrap();
    for _ in 0..LOOKS {
        if !journal.commands().unwrap().is_empty() {
            break;
        }
        pause();
    }
    assert_eq!(canceller.try_wait().unwrap(), None, "it waits");
    drop(occupied);
    assert!(end(&mut canceller).success());
    assert_eq!(place.json(&["table", "list"]), serde_json::json!([]));
}

#[test]
fn a_command_that_nobody_takes_fails_and_does_not_happen_later() {
    let (place, before) = lost_shop();
    let operation = abandoned_restore(&place);
    let id = operation.as_str();
    let occupied = occupy(&place);
    let said = place.fails(1, &["operation", "cancel", id]);
    assert!(said.contains("does not take the command"), "{said}");
    drop(occupied);
    place.ok(&["operation", "watch", id]);
    assert_eq!(place.shop(), before);
}

#[test]
fn a_command_is_refused_without_the_repository_and_does_not_happen_later() {
    let (place, before) = lost_shop();
    let operation = abandoned_restore(&place);
    let id = operation.as_str();
    let (home, away) = (place.path("repository"), place.path("unmounted"));
    let url = format!("file://{}", home.display());
    let journal = Journal::open(&place.path("target")).unwrap();
    let refused = |command: &str, why: &str| {
        let said = place.fails(1, &["operation", command, id]);
        assert!(said.contains(why), "{said}");
        assert_eq!(said.matches(&url).count(), 1, "{said}");
        assert!(journal.commands().unwrap().is_empty(), "{command}");
    };
    let commands = ["pause", "cancel", "watch"];
    std::fs::rename(&home, &away).unwrap();
    for command in commands {
        refused(command, "is not there");
    }
    // Somebody else's, in the place of ours.
    let other = Place::new();
    other.fill_shop();
    other.ok(&["backup", "shop"]);
    std::fs::rename(other.path("repository"), &home).unwrap();
    for command in commands {
        refused(command, "is not the one that operation");
    }
    std::fs::remove_dir_all(&home).unwrap();
    std::fs::rename(&away, &home).unwrap();

    place.ok(&["operation", "pause", id]);
    std::fs::rename(&home, &away).unwrap();
    refused("resume", "is not there");
    std::fs::rename(&away, &home).unwrap();
    let said = place.fails(1, &["operation", "watch", id]);
    assert!(said.contains("is paused"), "{said}");
    place.ok(&["operation", "resume", id]);
    assert_eq!(place.shop(), before);
}

#[test]
fn a_repository_out_of_reach_is_told_by_who_would_drive() {
    let (place, before) = lost_shop();
    let operation = abandoned_restore(&place);
    let nobody = [
        ("AWS_ENDPOINT", "http://127.0.0.1:9"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "eu"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("MENDB_BACKUP_ATTEMPTS", "1"),
    ];
    let away = place.with_repository(
        "s3://away/backups".to_owned(),
        nobody.map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let mut watch = spawn(&away, &["operation", "watch", operation.as_str()]);
    assert_eq!(end(&mut watch).code(), Some(1));
    let said = std::io::read_to_string(watch.stderr.take().unwrap()).unwrap();
    assert!(said.contains("s3://away/backups"), "{said}");
    let home = format!("file://{}", away.path("repository").display());
    let place = away.with_repository(home, []);
    place.ok(&["operation", "watch", operation.as_str()]);
    assert_eq!(place.shop(), before);
}
