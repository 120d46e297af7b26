//! The place of a journal that servers share: what becomes of them when it goes, refuses or is none.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::client::try_ask;
use crate::leaders::{Place, World};
use crate::s3_server::Server as S3;
use crate::shop::Shop;

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn said_of(command: &mut Command, code: i32) -> String {
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(code), "{said}");
    said
}

impl World {
    /// Waits until a server has said something.
    fn heard(&self, what: &str) {
        self.until(&format!("nobody says {what:?}"), || {
            self.said().contains(what).then_some(())
        });
    }

    fn collections(&self, leader: usize) -> Value {
        let answer = self.ask(leader, "GET", "/v1/collections", "", &json!(null));
        answer.unwrap().json()
    }

    fn create_collection(&self, name: &str) -> Option<u16> {
        let table = format!("CREATE TABLE {name} (id bigint PRIMARY KEY)");
        self.shop.sql(&table);
        let create = json!({ "name": name, "tables": [format!("public.{name}")] });
        let leader = (0..self.servers.len()).find(|at| self.is_ready(*at))?;
        let created = self.ask(leader, "POST", "/v1/collections", "", &create);
        Some(created?.status)
    }
}

#[test]
fn a_journal_that_is_moved_away_is_not_made_anew_and_servers_go_on_when_it_is_back() {
    let world = World::new(false);
    let leader = world.leader(None);
    assert_eq!(world.create_collection("before"), Some(200));
    let there = world.shop.directory().join("journal");
    let away = world.shop.directory().join("away");
    fs::rename(&there, &away).unwrap();
    // Nothing is acknowledged any more, and both wait.
    let refused = world.create_collection("lost");
    assert!(refused.is_none_or(|status| status >= 400), "{refused:?}");
    for at in [leader, 1 - leader] {
        world.until("it leads without its journal", || {
            let answer = world.ask(at, "GET", "/health/ready", "", &json!(null))?;
            (answer.status == 503 && answer.body.contains("this server waits")).then_some(())
        });
    }
    world.heard("is gone from");
    world.heard("bring back what was there");
    assert_eq!(files(&there), [""; 0].map(PathBuf::from));
    // Nor where its directory cannot even be one.
    fs::remove_dir_all(&there).unwrap_or_default();
    fs::write(&there, "a file").unwrap();
    world.heard("Not a directory");
    fs::remove_file(&there).unwrap();
    fs::rename(&away, &there).unwrap();
    let leader = world.leader(None);
    let collections = world.collections(leader);
    assert_eq!(collections.as_array().unwrap().len(), 1, "{collections}");
    let after = world.create_collection("after");
    assert_eq!(after, Some(200), "{}", world.said());
}

#[test]
fn a_server_that_begins_does_not_make_a_journal_anew_that_this_machine_or_the_database_knows() {
    let mut world = World::new(false);
    world.leader(None);
    assert_eq!(world.create_collection("before"), Some(200));
    for at in [0, 1] {
        world.end(at, "TERM");
    }
    let there = world.shop.directory().join("journal");
    let away = world.shop.directory().join("away");
    fs::rename(&there, &away).unwrap();
    // Another machine knows nothing of it, and the database does.
    let mut elsewhere = world.command(&["serve", "--listen", "127.0.0.1:0"]);
    elsewhere.env("XDG_STATE_HOME", world.shop.directory().join("elsewhere"));
    let said = said_of(elsewhere.args(["--journal", &world.place.url]), 1);
    assert!(said.contains("is gone from"), "{said}");
    assert!(said.contains("SET journal = NULL"), "{said}");
    // This one waits for it to come back.
    world.start_again(0);
    world.heard("is gone from");
    assert_eq!(files(&there), [""; 0].map(PathBuf::from));
    // Nor does it lead another one that is made there.
    world.shop.sql("UPDATE mendb.target SET journal = NULL");
    let mut elsewhere = world.command(&["token", "create", "eve", "--role", "admin"]);
    elsewhere.env("XDG_STATE_HOME", world.shop.directory().join("elsewhere"));
    let made = elsewhere.args(["--journal", &world.place.url]).output();
    assert!(made.unwrap().status.success());
    world.heard("another journal is in");
    fs::remove_dir_all(&there).unwrap();
    fs::rename(&away, &there).unwrap();
    world.until("it does not lead", || world.is_ready(0).then_some(()));
    assert_eq!(world.collections(0).as_array().unwrap().len(), 1);
}

#[test]
fn what_is_no_place_for_a_journal_is_refused_by_name_and_nothing_is_left_there() {
    let shop = Shop::empty();
    shop.ok(&["repository", "init"]);
    let root = shop.directory();
    let other = root.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("note.txt"), "mine").unwrap();
    let s3 = S3::start();
    let url = |path: &str| format!("file://{}/{path}", root.display());
    let repository = shop.command(&[]);
    let repository = repository.get_args().nth(3).unwrap().to_str().unwrap();
    for (journal, code, wanted) in [
        ("memory:".to_owned(), 2, "in the memory of one process"),
        ("memory:x".to_owned(), 2, "in the memory of one process"),
        (repository.to_owned(), 2, "lie in each other"),
        (format!("{repository}/journal"), 2, "lie in each other"),
        (url(""), 2, "lie in each other"),
        (url("other"), 2, "it holds note.txt"),
        (url("other/note.txt"), 1, "note.txt"),
        (
            "s3://absent/journal".to_owned(),
            2,
            "a bucket that does not exist",
        ),
        ("gs://one".to_owned(), 2, "not supported"),
    ] {
        let before = files(root);
        let mut serve = shop.command(&["serve", "--listen", "127.0.0.1:0"]);
        serve.args(["--journal", &journal]);
        for (name, value) in s3.settings() {
            serve.env(name.to_ascii_uppercase(), value);
        }
        let said = said_of(&mut serve, code);
        assert!(said.contains(wanted), "{journal}: {said}");
        assert_eq!(files(root), before, "{journal} has left something");
    }
    // A repository that is not the one of this server.
    let elsewhere = root.join("elsewhere");
    let mut serve = shop.command(&["serve", "--listen", "127.0.0.1:0"]);
    serve.env("MENDB_REPOSITORY", &elsewhere);
    let place = Place::in_directory(&shop);
    serve.args(["--repository", elsewhere.to_str().unwrap()]);
    let said = said_of(serve.args(["--journal", repository]), 2);
    assert!(said.contains("it holds mendb.json"), "{said}");
    drop(place);
}

#[test]
fn a_store_that_does_not_answer_is_seen_in_ready_and_a_damaged_leader_document_is_mended() {
    let world = World::new(false);
    world.leader(None);
    assert_eq!(world.create_collection("before"), Some(200));
    let journal = world.shop.directory().join("journal");
    // Nobody can replace a document there.
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(journal.join("mendb.lock"))
        .unwrap();
    lock.lock().unwrap();
    for at in [0, 1] {
        world.until("it is ready though its store does not answer", || {
            let answer = world.ask(at, "GET", "/health/ready", "", &json!(null))?;
            (answer.status == 503).then_some(())
        });
    }
    lock.unlock().unwrap();
    world.leader(None);
    for damage in ["", "{}"] {
        fs::write(journal.join("leader.json"), damage).unwrap();
        world.until("nobody mends it", || {
            let text = fs::read_to_string(journal.join("leader.json")).unwrap();
            text.contains("\"epoch\"").then_some(())
        });
        world.leader(None);
    }
    let leader = world.leader(None);
    assert_eq!(world.collections(leader).as_array().unwrap().len(), 1);
}

#[test]
fn tokens_of_servers_that_share_a_journal_are_made_by_the_one_that_leads() {
    let world = World::new(false);
    let leader = world.leader(None);
    assert_eq!(world.create_collection("before"), Some(200));
    let url = |at: usize| format!("http://{}", world.servers[at].address);
    let asks = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .current_dir(world.shop.directory())
            .env("MENDB_SERVER", url(leader))
            .env("MENDB_TOKEN", &world.token)
            .args(words);
        command
    };
    let ok = |words: &[&str]| {
        let done = asks(words).output().unwrap();
        assert!(done.status.success(), "{words:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let viewer = ok(&["token", "create", "vic", "--role", "viewer"]);
    let status = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let address = world.servers[leader].address;
        let answer = try_ask(address, "GET", "/v1/collections", &headers, "");
        answer.unwrap().status
    };
    assert_eq!(status(&viewer), 200);
    let listed = ok(&["token", "list", "--output", "json"]);
    assert!(listed.contains("vic") && listed.contains("ann"), "{listed}");
    assert!(!listed.contains(&viewer), "it is shown once");
    let audit = ok(&["audit", "--output", "json"]);
    assert!(
        audit.contains("/v1/tokens") && !audit.contains(&viewer),
        "{audit}"
    );
    let own = said_of(&mut asks(&["token", "revoke", "ann"]), 1);
    assert!(own.contains("is the one that asks"), "{own}");
    ok(&["token", "revoke", "vic"]);
    assert_eq!(status(&viewer), 401);
    // Without a token for the server, the first one is made beside it.
    let mut without = asks(&["token", "list"]);
    let said = said_of(without.env_remove("MENDB_TOKEN"), 2);
    assert!(said.contains("--server="), "{said}");
    // Beside servers it says what it waits for, and then whom to ask.
    let mut beside = world.command(&["token", "list", "--journal", &world.place.url]);
    let said = said_of(&mut beside, 1);
    assert!(said.contains("waits for up to"), "{said}");
    assert!(
        said.contains("leads") && said.contains("--server"),
        "{said}"
    );
    // What looks into a journal of this machine would show nothing.
    for words in [
        &["operation", "list"][..],
        &["schedule", "list"],
        &["audit"],
        &["token", "list"],
        &["collection", "list"],
    ] {
        let said = said_of(&mut world.command(words), 2);
        let names = said.contains(&world.place.url) && said.contains("--server");
        assert!(names, "{words:?}: {said}");
    }
    // Who waits tells nobody who leads.
    let waits = 1 - leader;
    for path in ["/health/ready", "/v1/collections", "/"] {
        let answer = world.ask(waits, "GET", path, "", &json!(null)).unwrap();
        assert_eq!(answer.status, 503, "{path}");
        let address = world.servers[leader].address.to_string();
        assert!(!answer.body.contains(&address), "{path}: {answer:?}");
        assert!(!answer.body.contains("process"), "{path}: {answer:?}");
    }
}

#[test]
fn a_server_that_waits_reads_its_settings_again_and_leads_with_them() {
    let mut world = World::new(false);
    let leader = world.leader(None);
    let waits = 1 - leader;
    let file = world.shop.directory().join("mendb.yml");
    fs::write(&file, "general:\n  max_in_flight: wrong\n").unwrap();
    world.signal(waits, "HUP");
    world.heard("nothing of the settings and certificates was taken over");
    fs::write(&file, "general:\n  max_in_flight: 3\n").unwrap();
    world.signal(waits, "HUP");
    world.heard("general.max_in_flight is \"3\"");
    world.end(leader, "TERM");
    world.until("it does not lead", || world.is_ready(waits).then_some(()));
    // What it leads with has it: nothing more has changed.
    world.signal(waits, "HUP");
    world.heard("no setting has changed");
}
