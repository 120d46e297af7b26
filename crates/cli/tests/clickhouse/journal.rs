//! Where the journal of a server is, and that no second one works on it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::servers::Flavor;
use crate::world::World;

on_each_server!(
    an_unfinished_mend_is_seen_from_every_directory,
    a_second_journal_is_refused_with_the_way_to_the_first,
    a_journal_of_before_goes_on_and_is_found_from_elsewhere,
    a_lost_journal_is_said_with_a_way_out,
    a_data_directory_that_cannot_be_written_needs_a_state_elsewhere,
);

/// Processes that are started in directories of their own, without `--state`.
struct Places {
    world: World,
    root: tempfile::TempDir,
}

impl Places {
    fn new(flavor: Flavor) -> Self {
        let world = World::new(flavor);
        world.server.create_database("d");
        world
            .server
            .query("CREATE TABLE d.t (k UInt64) ENGINE = MergeTree ORDER BY k");
        world
            .server
            .query("INSERT INTO d.t SELECT number FROM system.numbers LIMIT 100");
        let root = tempfile::tempdir().unwrap();
        Self { world, root }
    }

    fn command(&self, place: &str, arguments: &[&str]) -> Command {
        let directory = self.root.path().join(place);
        std::fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .current_dir(directory)
            .args(["--target", &self.world.server.target(), "--repository"])
            .arg(format!("file://{}", self.world.in_repository("").display()))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, place: &str, arguments: &[&str]) -> Output {
        self.command(place, arguments).output().unwrap()
    }

    fn ok(&self, place: &str, arguments: &[&str]) -> String {
        let output = self.run(place, arguments);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        text(&output.stdout)
    }

    /// What a command says that must fail.
    fn fails(&self, place: &str, arguments: &[&str]) -> String {
        let output = self.run(place, arguments);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}: {said}");
        said
    }

    fn operations(&self, place: &str, more: &[&str]) -> Vec<Value> {
        let list = ["operation", "list", "--output", "json"];
        serde_json::from_str(&self.ok(place, &[&list[..], more].concat())).unwrap()
    }

    fn data(&self) -> &Path {
        self.world.server.data_path()
    }

    fn rows(&self) -> String {
        self.world.server.query("SELECT count() FROM d.t")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The path behind the last `rm` that a hint has.
fn to_remove(said: &str) -> &str {
    said.trim_end().rsplit_once("rm ").unwrap().1
}

fn an_unfinished_mend_is_seen_from_every_directory(flavor: Flavor) {
    let places = Places::new(flavor);
    places.ok("a", &["backup", "d"]);
    places
        .world
        .server
        .query("ALTER TABLE d.t DROP PARTITION tuple()");
    let mend = ["restore", "--in-place", "d"];
    let mut crashed = places.command("a", &mend);
    let crashed = crashed.env("MENDB_CRASH_AT", "8").output().unwrap();
    assert_eq!(crashed.status.code(), None, "{}", text(&crashed.stderr));

    let seen = places.operations("b", &[]);
    assert_eq!(seen.len(), 2);
    let id = seen
        .iter()
        .find(|operation| operation["state"] != "done")
        .and_then(|operation| operation["operation_id"].as_str())
        .unwrap()
        .to_owned();
    let said = places.fails("b", &mend);
    assert!(said.contains(&id), "{said}");
    places.ok("c", &["operation", "watch", &id]);
    assert_eq!(places.rows(), "100\n");
    for place in ["a", "b"] {
        let states = places.operations(place, &[]).into_iter();
        assert!(states.clone().all(|operation| operation["state"] == "done"));
        assert_eq!(states.count(), 2);
        assert_eq!(
            std::fs::read_dir(places.root.path().join(place))
                .unwrap()
                .count(),
            0,
            "nothing is left where it was started"
        );
    }
}

fn a_second_journal_is_refused_with_the_way_to_the_first(flavor: Flavor) {
    let places = Places::new(flavor);
    places.ok("a", &["backup", "d"]);
    let said = places.fails("a", &["backup", "d", "--state", "other"]);
    let way = format!("--state {}", places.data().join("mendb").display());
    assert!(said.contains(&way), "{said}");
    let output = places
        .command("a", &["backup", "d", "--output", "json"])
        .env("MENDB_CLICKHOUSE_STATE", "other")
        .output()
        .unwrap();
    let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
    let hint = failure["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("MENDB_CLICKHOUSE_STATE"), "{hint}");
    assert!(!places.root.path().join("a/other").exists());
    let (_, way) = said.trim_end().rsplit_once("--state ").unwrap();
    places.ok("a", &["backup", "d", "--state", way]);

    // The other way round: what was begun with --state is found without.
    let places = Places::new(flavor);
    places.ok("a", &["backup", "d", "--state", "own"]);
    assert_eq!(places.operations("b", &[]).len(), 1);
    places.ok("b", &["backup", "d"]);
    assert_eq!(places.operations("a", &["--state", "own"]).len(), 2);
}

fn a_journal_of_before_goes_on_and_is_found_from_elsewhere(flavor: Flavor) {
    let places = Places::new(flavor);
    places.ok("a", &["backup", "d"]);
    let url = places.world.server.url();
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap();
    let before = places
        .root
        .path()
        .join(format!("a/mendb-data/clickhouse-127.0.0.1-{port}"));
    std::fs::create_dir_all(before.parent().unwrap()).unwrap();
    std::fs::rename(places.data().join("mendb"), &before).unwrap();
    std::fs::remove_file(before.join("journal.json")).unwrap();

    let looked = places.run("a", &["operation", "list"]);
    let said = text(&looked.stderr);
    assert!(said.contains(&before.display().to_string()), "{said}");
    let worked = places.run("a", &["backup", "d"]);
    let said = text(&worked.stderr);
    assert!(worked.status.success(), "{said}");
    assert!(said.contains(&before.display().to_string()), "{said}");
    assert_eq!(places.operations("b", &[]).len(), 2, "from elsewhere too");

    // Beside a journal of the server's own it is named, not used.
    let own = Places::new(flavor);
    own.ok("b", &["backup", "d"]);
    let url = own.world.server.url();
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap();
    let other = format!("b/mendb-data/clickhouse-127.0.0.1-{port}");
    let other = own.root.path().join(other);
    std::fs::create_dir_all(other.parent().unwrap()).unwrap();
    std::fs::rename(&before, &other).unwrap();
    let output = own.run("b", &["backup", "d"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("another journal"), "{said}");
    assert!(said.contains(&other.display().to_string()), "{said}");
}

fn a_lost_journal_is_said_with_a_way_out(flavor: Flavor) {
    for state in [None, Some("own")] {
        let places = Places::new(flavor);
        let with_state: Vec<&str> = state.iter().flat_map(|state| ["--state", state]).collect();
        let backup = [&["backup", "d"], &with_state[..]].concat();
        places.ok("a", &backup);
        let kept = state.map_or_else(
            || places.data().join("mendb"),
            |state| places.root.path().join("a").join(state),
        );
        for file in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
            let _ = std::fs::remove_file(kept.join(file));
        }
        for command in [&["operation", "list"][..], &["backup", "d"]] {
            let said = places.fails("b", command);
            assert!(said.contains(&kept.display().to_string()), "{said}");
        }
        let said = places.fails("a", &backup);
        std::fs::remove_file(to_remove(&said)).unwrap();
        places.ok("b", &["backup", "d"]);
        assert_eq!(places.operations("a", &[]).len(), 1);
    }
}

fn a_data_directory_that_cannot_be_written_needs_a_state_elsewhere(flavor: Flavor) {
    let places = Places::new(flavor);
    // Where the directory should be there is something else: nobody can write into it.
    std::fs::write(places.data().join("mendb"), "").unwrap();
    let said = places.fails("a", &["backup", "d"]);
    let directory = places.data().join("mendb").display().to_string();
    assert!(
        said.contains(&directory) && said.contains("--state"),
        "{said}"
    );
    let output = places.run("a", &["backup", "d", "--state", "own"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("cannot be written"), "{said}");
}
