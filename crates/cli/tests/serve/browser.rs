//! The dashboard in a browser: what people do with it, and that nobody is shut out.
//!
//! `browser.py` tells the stories, and leaves pictures in `tmp/dashboard` of the target directory. `MENDB_BLESS=1` has
//! those that `docs/serve.md` shows taken into `docs/dashboard`.

use std::path::Path;
use std::process::Command;

use crate::python::environment;
use crate::server::World;

/// What drives the browser, and what reads a page as those do who do not see it.
const INSTALL: &[&str] = &["playwright==1.65.2", "axe-playwright-python==0.1.8"];
/// The pictures that the documentation shows, with their stories.
const SHOWN: &[(&str, &str)] = &[
    ("mend", "preview-wide-light"),
    ("mend", "operations-narrow-dark"),
    ("failure", "failed-wide-light"),
    ("shards", "shards-wide-dark"),
    ("schedules", "collections-wide-light"),
];
const BROWSER: &str = "/usr/bin/chromium";

/// Tells a story of the dashboard of a server, with these variables in its environment.
fn told(world: &World, story: &str, variables: &[(&str, &str)]) {
    assert!(
        Path::new(BROWSER).exists(),
        "tests of the dashboard need {BROWSER}: `cargo xtask test` installs it as root, or\n\n    \
         apt-get install --no-install-recommends chromium\n"
    );
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = environment(target, "browser-venv", INSTALL);
    let viewer = world.token("vic", "viewer");
    let server = world.serve_with(variables);
    let pictures = target.join("tmp/dashboard");
    std::fs::create_dir_all(&pictures).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/browser.py");
    let repository = world.mendb.path().join("mendb-data/repository");
    let told = Command::new(python)
        .args([script.as_os_str(), story.as_ref()])
        .env("MENDB_URL", server.url())
        .env("MENDB_TOKEN_ANN", &world.token)
        .env("MENDB_TOKEN_VIC", viewer)
        .env("MENDB_REPOSITORY_DIRECTORY", repository)
        .env("MENDB_PICTURES", &pictures)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{said}");
    if std::env::var_os("MENDB_BLESS").is_some() {
        bless(story, &pictures);
    }
}

/// Takes pictures of a story into the documentation.
fn bless(story: &str, pictures: &Path) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/dashboard");
    std::fs::create_dir_all(&docs).unwrap();
    for (_, picture) in SHOWN.iter().filter(|(of, _)| *of == story) {
        let picture = format!("{picture}.png");
        std::fs::copy(pictures.join(&picture), docs.join(&picture)).unwrap();
    }
}

#[test]
fn a_table_is_mended_as_it_was_previewed_and_the_mend_is_undone() {
    told(&World::new(), "mend", &[]);
}

#[test]
fn a_plan_that_has_drifted_is_refused() {
    told(&World::new(), "drift", &[]);
}

#[test]
fn an_operation_that_fails_says_why_and_is_resumed() {
    told(&World::new(), "failure", &[]);
}

#[test]
fn a_thousand_shards_are_read_at_a_glance_and_one_by_one() {
    let world = World::new();
    let rows: String = (0..4000)
        .map(|id| format!("{id},thing {id},{}\n", id % 97))
        .collect();
    world
        .mendb
        .write("orders.csv", &format!("id,what,amount\n{rows}"));
    let mendb = &world.mendb;
    mendb.ok("table import orders orders.csv --create --key id --shards 1000 --quiet");
    mendb.ok("collection create shop --table orders --quiet");
    // So slow that it is not over before it is paused.
    let slow = [("MENDB_REPOSITORY_UPLOAD_BYTES_PER_S", "20000")];
    told(&world, "shards", &slow);
}

#[test]
fn a_viewer_looks_and_changes_nothing() {
    told(&World::new(), "viewer", &[]);
}

#[test]
fn the_keyboard_is_enough() {
    told(&World::new(), "keyboard", &[]);
}

#[test]
fn schedules_retention_and_audit_are_looked_after() {
    told(&World::new(), "schedules", &[]);
}

#[test]
fn tables_are_looked_at_and_their_rows_taken_along() {
    told(&World::new(), "tables", &[]);
}
