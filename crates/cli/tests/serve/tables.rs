//! Rows come and go over HTTP, whole or not at all.

use std::io::Write;
use std::net::TcpStream;

use serde_json::Value;

use crate::client::{Answer, ask, read_head};
use crate::remote::through;
use crate::server::{Server, World};

fn send(world: &World, server: &Server, path: &str, rows: &str) -> Answer {
    let bearer = format!("Bearer {}", world.token);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "text/csv"),
    ];
    ask(server.address, "POST", path, &headers, rows)
}

#[test]
fn rows_come_and_go_as_streams() {
    let world = World::new();
    let server = world.serve();
    let all = world.get(&server, "/v1/tables/cities/rows");
    assert_eq!(all.status, 200, "{all:?}");
    assert_eq!(all.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(
        all.body,
        "name,country,people\nBern,CH,146348\nLyon,FR,520774\nPorto,PT,248769\n"
    );
    let lines = world
        .get(&server, "/v1/tables/cities/rows?format=jsonl")
        .body;
    assert_eq!(lines.lines().count(), 3, "{lines}");

    let path = "/v1/tables/cities/rows?format=csv";
    let sent = send(&world, &server, path, "name,people\nBern,1\nUlm,2\n");
    assert_eq!(sent.status, 200, "{sent:?}");
    assert_eq!(sent.json()["rows"], 2, "{sent:?}");
    let after = world.get(&server, "/v1/tables/cities/rows").body;
    assert!(
        after.contains("Bern,CH,1\n") && after.contains("Ulm,,2\n"),
        "{after}"
    );
    let made = "/v1/tables/towns/rows?format=csv&create=true&key=name";
    assert_eq!(send(&world, &server, made, &after).status, 200);
    let copy = world.get(&server, "/v1/tables/towns/rows").body;
    assert_eq!(copy, after);
    let audit = world.get(&server, "/v1/audit").json();
    assert_eq!(
        audit[0]["request"], "POST /v1/tables/towns/rows",
        "{audit:#}"
    );
    assert_eq!(audit[0]["outcome"], "done", "{audit:#}");
}

#[test]
fn rows_that_are_wrong_or_cut_off_change_nothing() {
    let world = World::new();
    let viewer = world.token("vic", "viewer");
    let server = world.serve();
    let before = world.get(&server, "/v1/tables/cities/rows").body;
    let path = "/v1/tables/cities/rows?format=csv";
    let wrong = send(&world, &server, path, "name,people\nUlm,2\nKiel,many\n");
    assert_eq!(wrong.status, 422, "{wrong:?}");
    for (path, status) in [
        ("/v1/tables/cities/rows", 400),
        ("/v1/tables/cities/rows?format=csv&file=x", 400),
        (
            "/v1/tables/cities/rows?format=csv&create=true&schema=x",
            400,
        ),
        ("/v1/tables/nowhere/rows?format=csv", 404),
    ] {
        let refused = send(&world, &server, path, "name,people\nUlm,2\n");
        assert_eq!(refused.status, status, "{path}: {refused:?}");
    }
    let keyed = [
        ("Authorization", format!("Bearer {}", world.token)),
        ("Idempotency-Key", "k".to_owned()),
    ];
    let keyed = keyed
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let refused = ask(server.address, "POST", path, &keyed, "name,people\nUlm,2\n");
    assert_eq!(refused.status, 400, "{refused:?}");
    let bearer = format!("Bearer {viewer}");
    let may_not = ask(
        server.address,
        "POST",
        path,
        &[("Authorization", &bearer)],
        "name,people\nUlm,2\n",
    );
    assert_eq!(may_not.status, 403, "{may_not:?}");
    // It says that more comes, and goes.
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Length: 1000\r\n\r\nname,people\nUlm,2\n",
        server.address, world.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = read_head(stream);
    assert!(
        answer.status == 503 || answer.status == 0 || answer.status == 400,
        "{}",
        answer.status
    );
    assert_eq!(world.get(&server, "/v1/tables/cities/rows").body, before);
    let nothing = world.get(&server, "/v1/tables/nowhere/rows");
    assert_eq!(nothing.status, 404, "{nothing:?}");
}

#[test]
fn files_of_this_machine_go_to_tables_of_a_server_and_come_back() {
    let world = World::new();
    world
        .mendb
        .write("towns.csv", "name,people\nUlm,126405\nKiel,246243\n");
    let server = world.serve();
    let sent = through(
        &world,
        &server,
        "table import towns towns.csv --create --key name",
    );
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(sent.stdout.contains("imported 2 rows"), "{sent:?}");
    let mut command = world.mendb.command("table export towns --format parquet");
    command
        .env("MENDB_SERVER", server.url())
        .env("MENDB_TOKEN", &world.token);
    let file = command.output().unwrap();
    assert!(
        file.status.success(),
        "{}",
        String::from_utf8_lossy(&file.stderr)
    );
    std::fs::write(world.mendb.path().join("copy.parquet"), file.stdout).unwrap();
    let sent = through(&world, &server, "table import copy copy.parquet --create");
    assert_eq!(sent.code, 0, "{sent:?}");
    let digest = |table: &str| -> Value {
        world.mendb.json(&format!("table digest {table}"))[0]["digest"].clone()
    };
    assert_eq!(digest("copy"), digest("towns"));
    let refused = through(&world, &server, "table export towns --file towns.csv");
    assert_eq!(refused.code, 2, "{refused:?}");
    let wrong = through(&world, &server, "table export nowhere");
    assert_eq!(wrong.code, 1, "{wrong:?}");
}
