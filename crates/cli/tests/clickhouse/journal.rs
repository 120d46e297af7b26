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
    what_a_lost_journal_has_left_is_shown_and_let_go_of,
    what_is_left_on_disks_is_shown_and_let_go_of_without_any_record,
    a_backup_of_another_server_is_named_by_its_id_or_leaves_tables_alone,
    a_repository_is_made_by_the_first_backup_and_not_where_another_was_used,
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
        let repository = self.world.in_repository("");
        self.command_into(
            &format!("file://{}", repository.display()),
            place,
            arguments,
        )
    }

    fn command_into(&self, repository: &str, place: &str, arguments: &[&str]) -> Command {
        let directory = self.root.path().join(place);
        std::fs::create_dir_all(&directory).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .env("XDG_STATE_HOME", self.root.path().join("home"))
            .current_dir(directory)
            .args(["--target", &self.world.server.target()])
            .args(["--repository", repository])
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

fn what_a_lost_journal_has_left_is_shown_and_let_go_of(flavor: Flavor) {
    let places = Places::new(flavor);
    places.ok("a", &["backup", "d"]);
    let kept = places.data().join("mendb");
    let mut left = 0;
    for at in ["8", "16", "18", "20", "22", "26", "200"] {
        let wrong = "INSERT INTO d.t SELECT number + 1000 FROM system.numbers LIMIT 5";
        places.world.server.query(wrong);
        let mut crashed = places.command("a", &["restore", "--in-place", "d"]);
        crashed.env("MENDB_CRASH_AT", at).output().unwrap();
        for file in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
            let _ = std::fs::remove_file(kept.join(file));
        }
        std::fs::remove_file(kept.join("journal.json")).unwrap();
        // One that has staged, and then one that only keeps the state before.
        for _ in 0..2 {
            for orphan in places.operations("b", &[]) {
                let id = orphan["operation_id"].as_str().unwrap();
                assert_eq!(orphan["kind"], "mend", "{orphan}");
                assert_eq!(orphan["held_tables"], serde_json::json!(["d.t"]));
                let said = places.fails("b", &["operation", "resume", id]);
                assert!(said.contains(&format!("operation abandon {id}")), "{said}");
                places.ok("b", &["operation", "abandon", id]);
                left += 1;
            }
        }
        assert!(places.operations("b", &[]).is_empty(), "step {at}");
        let shadow = std::fs::read_dir(places.data().join("shadow"));
        let shadow = shadow.map_or(0, |entries| {
            let ours = |entry: &std::fs::DirEntry| {
                entry.file_name().to_string_lossy().starts_with("mendb_")
            };
            entries.map(Result::unwrap).filter(ours).count()
        });
        assert_eq!(shadow, 0, "step {at}");
        places.ok("a", &["restore", "--in-place", "d"]);
        assert_eq!(places.rows(), "100\n");
        for operation in places.operations("a", &[]) {
            let id = operation["operation_id"].as_str().unwrap();
            places.ok("a", &["operation", "forget", id]);
        }
    }
    assert!(left > 2, "{left}");
}

fn what_is_left_on_disks_is_shown_and_let_go_of_without_any_record(flavor: Flavor) {
    let places = Places::new(flavor);
    places.ok("a", &["backup", "d", "--state", "own"]);
    let list = places.ok("a", &["list", "d", "--output", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    // The target loses its own id with its state.
    let id = list[0]["backup_id"].as_str().unwrap();
    let restore = ["restore", "--in-place", "d", "--to", id, "--state", "own"];
    let state = places.root.path().join("a/own");
    let record = places.data().join("mendb/journal.json");
    let begins_with = |directory: &str, name: &str| -> Vec<String> {
        let entries = std::fs::read_dir(places.data().join(directory));
        let names = entries.into_iter().flatten().map(|entry| {
            let name = entry.unwrap().file_name();
            name.to_string_lossy().into_owned()
        });
        names.filter(|found| found.starts_with(name)).collect()
    };
    let foreign = places.data().join("shadow/mendb_nightly");
    let (mut left, mut staged) = (0, false);
    for at in ["14", "16", "18", "20", "22", "24", "26", "28", "200"] {
        // What is gone has to be staged.
        let drop = "ALTER TABLE d.t DROP PARTITION tuple()";
        places.world.server.query(drop);
        let wrong = "INSERT INTO d.t SELECT number + 1000 FROM system.numbers LIMIT 5";
        places.world.server.query(wrong);
        let mut crashed = places.command("a", &restore);
        crashed.env("MENDB_CRASH_AT", at).output().unwrap();
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::remove_file(&record).unwrap();
        std::fs::create_dir_all(&foreign).unwrap();
        // One that has staged, and then one that only keeps the state before.
        for _ in 0..2 {
            for orphan in places.operations("b", &[]) {
                let id = orphan["operation_id"].as_str().unwrap();
                assert_eq!(orphan["kind"], "mend", "{orphan}");
                let held = orphan["held_tables"].as_array().unwrap();
                assert!(!held.is_empty(), "{orphan}");
                staged |= held.contains(&serde_json::json!("d.t"));
                places.ok("b", &["operation", "abandon", id, "--state", "own"]);
                left += 1;
            }
        }
        assert!(places.operations("b", &[]).is_empty(), "step {at}");
        assert_eq!(
            begins_with("shadow", "mendb_"),
            ["mendb_nightly"],
            "step {at}"
        );
        assert!(begins_with("mendb", "mend-").is_empty(), "step {at}");
        let staging = places.world.server.query(
            "SELECT count() FROM system.tables WHERE database = 'd' AND name LIKE '%mendb%'",
        );
        assert_eq!(staging, "0\n", "step {at}");
        // The mend that follows begins with a state of its own.
        std::fs::remove_dir_all(places.root.path().join("b")).unwrap();
        let _ = std::fs::remove_file(&record);
        places.ok("a", &restore);
        assert_eq!(places.rows(), "100\n");
        for operation in places.operations("a", &["--state", "own"]) {
            let id = operation["operation_id"].as_str().unwrap();
            places.ok("a", &["operation", "forget", id, "--state", "own"]);
        }
    }
    assert!(left > 2 && staged, "{left}");
}

fn a_backup_of_another_server_is_named_by_its_id_or_leaves_tables_alone(flavor: Flavor) {
    let places = Places::new(flavor);
    places.ok("a", &["backup", "d", "--tables", "d.*"]);
    let list = || -> Vec<Value> {
        serde_json::from_str(&places.ok("a", &["list", "d", "--output", "json"])).unwrap()
    };
    let id = list()[0]["backup_id"].as_str().unwrap().to_owned();
    let target = list()[0]["target"].clone();
    let url = target["url"].as_str().unwrap();
    assert!(
        url.starts_with("clickhouse://") && !url.contains('@'),
        "{url}"
    );
    // The same server, as one that mendb has not seen; nor does its journal know the operation.
    std::fs::remove_file(places.data().join("mendb/target.json")).unwrap();
    let operation = places.operations("a", &[]).remove(0);
    let operation = operation["operation_id"].as_str().unwrap().to_owned();
    places.ok("a", &["operation", "forget", &operation]);
    for more in [&[][..], &["--dry-run"]] {
        let said = places.fails("a", &[&["restore", "--in-place", "d"], more].concat());
        assert!(
            said.contains("another target") && said.contains(&id),
            "{said}"
        );
    }
    let plan = ["restore", "--in-place", "--dry-run", "d", "--to", &id];
    let plan = places.ok("a", &[&plan[..], &["--output", "json"]].concat());
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["of_target"], target);
    places
        .world
        .server
        .query("ALTER TABLE d.t DROP PARTITION tuple()");
    places.ok("a", &["restore", "--in-place", "d", "--to", &id]);
    assert_eq!(places.rows(), "100\n");
    // Where nothing of it is there, the newest of the one server that wrote comes.
    places.world.server.query("DROP TABLE d.t");
    places.ok("a", &["restore", "d"]);
    assert_eq!(places.rows(), "100\n");
    places.ok("a", &["backup", "d"]);
    assert_ne!(list()[1]["target"]["target_id"], target["target_id"]);
    places.ok("a", &["restore", "--in-place", "d"]);
}

fn a_repository_is_made_by_the_first_backup_and_not_where_another_was_used(flavor: Flavor) {
    let places = Places::new(flavor);
    let refused = places.fails("a", &["backup", "d", "--tables", "nothing.*"]);
    assert!(refused.contains("nothing.*"), "{refused}");
    assert!(!places.world.in_repository("mendb.json").exists());
    let made = places.run("a", &["backup", "d"]);
    assert!(text(&made.stderr).contains("made a new repository at "));
    let elsewhere = |more: &[&str]| {
        let arguments = [&["backup", "d"], more].concat();
        let output = places.command_into("elsewhere", "a", &arguments).output();
        output.unwrap()
    };
    let refused = elsewhere(&[]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success());
    assert!(
        said.contains("is no repository") && said.contains("--new-repository"),
        "{said}"
    );
    assert!(!places.root.path().join("a/elsewhere").exists());
    let made = elsewhere(&["--new-repository"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
}
