//! Commands that a server runs print and return what they do without one.

use crate::mendb::Ran;
use crate::server::World;

pub fn through(world: &World, server: &crate::server::Server, line: &str) -> Ran {
    let mut command = world.mendb.command(line);
    command
        .env("MENDB_SERVER", server.url())
        .env("MENDB_TOKEN", &world.token);
    command
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
        .into()
}

#[test]
fn what_looks_prints_the_same() {
    let world = World::new();
    world.mendb.ok("backup world --label monday --quiet");
    world
        .mendb
        .ok("backup world --incremental --label tuesday --quiet");
    let lines = [
        "list",
        "list world",
        "show monday",
        "show world/tuesday",
        "collection list",
        "collection show world",
        "operation list",
        "operation list --limit 1 --newest-first",
        "diff monday",
        "diff monday tuesday --rows",
        "verify world --live",
        "table list",
        "table describe cities",
        "verify cities",
        "prune world --keep-last 1 --dry-run",
        "delete tuesday --dry-run",
        "restore world --in-place --dry-run",
        // What fails.
        "show nothing",
        "list --output json nowhere",
        "collection show nowhere",
        "operation show backup-0",
        "prune world",
        "delete monday",
        "restore world",
        "backup nowhere",
    ];
    let server = world.serve();
    for line in lines {
        for output in ["", " --output json"] {
            let line = format!("{line}{output}");
            // Beside a server, what only looks works without it; the others it runs alone.
            let served = through(&world, &server, &line);
            let mut here = world.mendb.run(&line);
            if here.stderr.contains("another mendb works on this target") {
                continue;
            }
            here.stderr = here.stderr.replace("\u{1b}", "");
            assert_eq!(served, here, "mendb {line}");
        }
    }
}

#[test]
fn what_works_is_done_by_the_server_and_reported_here() {
    let world = World::new();
    let server = world.serve();
    let ok = |line: &str| {
        let ran = through(&world, &server, line);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        ran
    };
    let backup = ok("backup world --label monday");
    assert!(
        backup.stdout.contains("of world: done, 3 rows"),
        "{backup:?}"
    );
    assert!(backup.stderr.contains("operation backup-"), "{backup:?}");
    assert_eq!(
        ok("backup world --incremental --label tuesday --quiet").stdout,
        ""
    );
    let preview = ok("restore world --in-place --dry-run --to monday");
    assert!(preview.stdout.contains("total: 0 rows"), "{preview:?}");
    let mended = ok("restore world --in-place --to monday --output json");
    let mended: serde_json::Value = serde_json::from_str(&mended.stdout).unwrap();
    let id = mended["operation_id"].as_str().unwrap().to_owned();
    let watched = ok(&format!("operation watch {id}"));
    assert!(watched.stdout.contains("done"), "{watched:?}");
    let deleted = ok("delete tuesday --cascade");
    assert!(deleted.stdout.starts_with("deleted "), "{deleted:?}");
    assert_eq!(through(&world, &server, "show tuesday").code, 1);
    assert!(
        ok("schedule add nightly world full --cron @daily")
            .stdout
            .contains("next at")
    );
    assert!(ok("schedule list").stdout.contains("nightly"));
    assert!(ok("schedule run nightly").stdout.contains("of world: done"));
}

#[test]
fn what_a_server_does_not_do_is_refused_and_what_is_about_this_machine_is_done_here() {
    let world = World::new();
    let server = world.serve();
    let refused = through(&world, &server, "table drop cities");
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("not done by a server"),
        "{refused:?}"
    );
    let refused = through(&world, &server, "restore world --in-place --plan file");
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("--plan names a file"),
        "{refused:?}"
    );
    // A flag that names another place is not passed over.
    for place in ["--target mendb:///nowhere", "--repository file:///nowhere"] {
        let refused = through(&world, &server, &format!("{place} list"));
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("of its own"), "{refused:?}");
    }
    assert_eq!(through(&world, &server, "list --server=").code, 0);
    for line in ["show ..", "show ."] {
        let refused = through(&world, &server, line);
        assert_eq!(refused.code, 2, "{refused:?}");
    }
    // A token of this machine lets nobody into a server that is another: that makes its own, for who may.
    let mut command = world.mendb.command("token create eve --role viewer");
    command.env("MENDB_SERVER", server.url());
    let ran: Ran = command.output().unwrap().into();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(ran.stdout, "");
    assert!(
        ran.stderr.contains("on the machine of the server"),
        "{ran:?}"
    );
    let made = through(&world, &server, "token create eve --role viewer");
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(through(&world, &server, "token list --server=").code, 0);
    assert_eq!(world.mendb.json("token list").as_array().unwrap().len(), 2);
    let refused = world
        .mendb
        .fails(2, "serve --server http://127.0.0.1:1 --listen 127.0.0.1:0");
    assert!(refused.contains("works on this machine alone"), "{refused}");
    let mut command = world.mendb.command("list");
    command.env("MENDB_SERVER", server.url());
    let ran: Ran = command
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("MENDB_TOKEN"), "{ran:?}");
    server.kill();
    let ran: Ran = world
        .mendb
        .command("list --server http://127.0.0.1:1")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("cannot ask the server"), "{ran:?}");
}
