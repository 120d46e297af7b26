//! A disk that is full at any write: the target on a disk that has room for some pages or files more, each
//! number of them in turn.
//!
//! `MENDB_CRASH_STATES=1000 cargo test -p mendb --test operations any_write` tries so many of each command, in CI
//! a few spread over all that there are.

use std::path::Path;
use std::process::{Command, Output};

use crate::disk_full::{inside_namespace, mount, remount, unmount};
use crate::program::{Place, copy_directory};

/// So many sizes are tried of each command, unless a longer run is asked for.
const STATES: u64 = 6;
const PAGE_BYTES: u64 = 4096;
/// More than any command here needs.
const PLENTY_PAGES: u64 = 16 << 10;
const PLENTY_FILES: u64 = 10_000;

/// What a disk has room for, beside what is on it.
#[derive(Debug, Clone, Copy)]
struct Room {
    pages: u64,
    files: u64,
}

const PLENTY: Room = Room {
    pages: PLENTY_PAGES,
    files: PLENTY_FILES,
};

/// A command that is tried on full disks, and what has to hold.
struct Trial<'a> {
    /// Whether anything is left to be done, and how the command is, is looked for in this place.
    place: Place,
    command: &'a [&'a str],
    /// The rows before and after.
    before: String,
    after: String,
}

/// All rows of the table.
fn rows(place: &Place) -> String {
    place.ok(&["table", "export", "t", "--format", "jsonl"])
}

fn lines(ids: impl Iterator<Item = u64>, round: u64) -> String {
    let line = |id: u64| {
        let noise = (id + 7).wrapping_mul((round + 3).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let text = format!("{noise:016x}").repeat(3);
        format!("{{\"id\":{id},\"n\":{},\"text\":\"{}\"}}\n", id % 97, text)
    };
    ids.map(line).collect()
}

/// A table with an index, in shards, backed up as `good`.
fn place() -> Place {
    let place = Place::new();
    let file = place.write("t.jsonl", &lines(0..3_000, 0));
    place.ok(&[
        "table",
        "import",
        "t",
        &file,
        "--create",
        "--key",
        "id",
        "--split-at",
        "1000",
        "--index",
        "by_n=n",
    ]);
    place.ok(&["collection", "create", "c", "--table", "t"]);
    place.ok(&["backup", "c", "--label", "good"]);
    place
}

impl<'a> Trial<'a> {
    /// Tries the command, which changes the rows as they are there.
    fn new(place: Place, command: &'a [&'a str]) -> Self {
        std::fs::rename(place.path("target"), place.path("kept-target")).unwrap();
        std::fs::rename(place.path("repository"), place.path("kept-repository")).unwrap();
        let mut trial = Self {
            place,
            command,
            before: String::new(),
            after: String::new(),
        };
        trial.on_disk(PLENTY, |trial| {
            trial.before = trial.shown();
            trial.place.ok(trial.command);
            trial.after = trial.shown();
        });
        assert_ne!(trial.before, trial.after);
        trial
    }

    /// What readers see.
    fn shown(&self) -> String {
        let tables = self.place.json(&["table", "list"]);
        let is_hidden = tables[0]["state"] == "restoring";
        if tables.as_array().unwrap().is_empty() || is_hidden {
            return String::new();
        }
        rows(&self.place)
    }

    fn disk(&self) -> std::path::PathBuf {
        self.place.path("target")
    }

    /// Does something while the target is on a disk of its own.
    fn on_disk<T>(&mut self, room: Room, work: impl FnOnce(&mut Self) -> T) -> T {
        let (disk, repository) = (self.disk(), self.place.path("repository"));
        mount(&disk, "size=64m");
        copy_directory(&self.place.path("kept-target"), &disk);
        let _ = std::fs::remove_dir_all(&repository);
        copy_directory(&self.place.path("kept-repository"), &repository);
        give(&disk, room);
        let done = work(self);
        unmount(&disk);
        done
    }

    /// Runs the command with some room, and whatever is needed to end it when there is more. Returns whether it
    /// had enough.
    fn run(&mut self, room: Room) -> bool {
        self.on_disk(room, |trial| {
            let output = trial.place.run(trial.command);
            let had_enough = output.status.success();
            let said = String::from_utf8_lossy(&output.stderr);
            if !had_enough {
                trial.is_told(&output, room);
            }
            give(&trial.disk(), PLENTY);
            let now = trial.shown();
            let is_whole = now == trial.after || (now == trial.before && !had_enough);
            assert!(is_whole, "{:?} {room:?}: a mixture", trial.command);
            if !had_enough {
                trial.go_on(&said);
                assert!(
                    rows(&trial.place) == trial.after,
                    "{:?} {room:?}",
                    trial.command
                );
            }
            trial.place.ok(&["verify", "t"]);
            trial.place.ok(&["backup", "c"]);
            had_enough
        })
    }

    fn is_told(&self, output: &Output, room: Room) {
        let said = String::from_utf8_lossy(&output.stderr);
        let what = format!("{:?} {room:?}: {}\n{said}", self.command, output.status);
        assert_eq!(output.status.code(), Some(1), "{what}");
        assert!(said.contains("error: "), "{what}");
        assert!(
            said.contains("space") || said.contains("disk is full"),
            "{what}"
        );
    }

    /// Does again what failed, as it was told.
    fn go_on(&self, said: &str) {
        let operations = self.place.json(&["operation", "list"]);
        let open = operations.as_array().unwrap().iter().find(|operation| {
            !["done", "cancelled"].contains(&operation["state"].as_str().unwrap())
        });
        match open {
            None if self.shown() == self.after => {}
            None => {
                if said.contains("mendb table drop t") {
                    self.place.ok(&["table", "drop", "t"]);
                }
                self.place.ok(self.command);
            }
            Some(open) => {
                assert!(said.contains("mendb operation"), "it says how: {said}");
                let go_on = match open["state"].as_str() {
                    Some("failed") => "resume",
                    _ => "watch",
                };
                let id = open["operation_id"].as_str().unwrap();
                self.place.ok(&["operation", go_on, id]);
            }
        }
    }

    /// Tries some of all numbers of pages and files that are too few.
    fn run_all(&mut self) {
        let states = std::env::var("MENDB_CRASH_STATES");
        let states = states.ok().and_then(|count| count.parse().ok());
        let states: u64 = states.unwrap_or(STATES);
        let of_pages = |pages| Room { pages, ..PLENTY };
        let of_files = |files| Room { files, ..PLENTY };
        let mut tried = 0;
        let mut failed = 0;
        for room in [&of_pages as &dyn Fn(u64) -> Room, &of_files] {
            let enough = self.enough(room);
            let step = enough.div_ceil(states).max(1);
            for some in (0..enough).step_by(step.try_into().unwrap()) {
                tried += 1;
                failed += u64::from(!self.run(room(some)));
            }
        }
        println!("{:?}: {tried} disks, {failed} too small", self.command);
        assert!(failed > 0, "{:?} needs no room", self.command);
    }

    /// So much is enough.
    fn enough(&mut self, room: impl Fn(u64) -> Room) -> u64 {
        let mut enough = 1;
        while !self.run(room(enough)) {
            enough *= 2;
        }
        let mut too_few = enough / 2;
        while enough - too_few > 1 {
            let between = too_few.midpoint(enough);
            match self.run(room(between)) {
                true => enough = between,
                false => too_few = between,
            }
        }
        enough
    }
}

/// Makes a disk have some room beside what is on it.
fn give(disk: &Path, room: Room) {
    let used = |what: &str| -> u64 {
        let output = Command::new("stat")
            .args(["-f", "-c", what])
            .arg(disk)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (all, free) = text.trim().split_once(' ').unwrap();
        all.parse::<u64>().unwrap() - free.parse::<u64>().unwrap()
    };
    let bytes = (used("%b %f") + room.pages) * PAGE_BYTES;
    let files = used("%c %d") + room.files;
    remount(disk, &format!("size={bytes},nr_inodes={files}"));
}

#[test]
fn an_import_that_finds_no_room_at_any_write_changes_nothing_and_is_run_again() {
    let name =
        "any_write::an_import_that_finds_no_room_at_any_write_changes_nothing_and_is_run_again";
    if !inside_namespace(name) {
        return;
    }
    let place = place();
    let file = place.write("more.jsonl", &lines(2_000..4_000, 1));
    let import = ["table", "import", "t", &file];
    Trial::new(place, &import).run_all();
}

#[test]
fn a_table_whose_first_import_finds_no_room_at_any_write_is_there_or_not_and_is_imported_again() {
    let name = "any_write::a_table_whose_first_import_finds_no_room_at_any_write_is_there_or_not_and_is_imported_again";
    if !inside_namespace(name) {
        return;
    }
    let place = place();
    place.ok(&["table", "drop", "t"]);
    let file = place.write("first.jsonl", &lines(0..3_000, 1));
    let import = [
        "table", "import", "t", &file, "--create", "--key", "id", "--index", "by_n=n",
    ];
    Trial::new(place, &import).run_all();
}

#[test]
fn a_mend_that_finds_no_room_at_any_write_shows_none_of_it_and_goes_on_when_there_is() {
    let name = "any_write::a_mend_that_finds_no_room_at_any_write_shows_none_of_it_and_goes_on_when_there_is";
    if !inside_namespace(name) {
        return;
    }
    let place = place();
    place.import("t", "upsert", &lines((0..3_200).step_by(5), 2));
    let mend = ["restore", "c", "--in-place", "--to", "good"];
    Trial::new(place, &mend).run_all();
}

#[test]
fn a_mend_that_rebuilds_and_finds_no_room_at_any_write_shows_none_of_it_and_goes_on_when_there_is()
{
    let name = "any_write::a_mend_that_rebuilds_and_finds_no_room_at_any_write_shows_none_of_it_and_goes_on_when_there_is";
    if !inside_namespace(name) {
        return;
    }
    let place = place();
    place.import("t", "upsert", &lines(0..3_200, 2));
    let mend = ["restore", "c", "--in-place", "--to", "good"];
    Trial::new(place, &mend).run_all();
}

#[test]
fn a_restore_that_finds_no_room_at_any_write_shows_none_of_it_and_goes_on_when_there_is() {
    let name = "any_write::a_restore_that_finds_no_room_at_any_write_shows_none_of_it_and_goes_on_when_there_is";
    if !inside_namespace(name) {
        return;
    }
    let place = place();
    place.ok(&["table", "drop", "t"]);
    let restore = ["restore", "c", "--to", "good"];
    Trial::new(place, &restore).run_all();
}
