//! The process: how it begins, and how it ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::mendb::Mendb;
use crate::server::{Server, World};

#[test]
fn its_first_lines_are_the_link_the_token_and_the_next_step() {
    let mendb = Mendb::new();
    let server = Server::start(&mendb, "serve --listen 127.0.0.1:0", &[]);
    let [link, token, next] = &server.greeting[..] else {
        panic!("{:?}", server.greeting);
    };
    assert!(link.contains(&server.url()), "{link}");
    assert_eq!(
        token,
        "token: there is none yet: mendb token create NAME --role admin"
    );
    assert!(next.contains("mendb --server http://127.0.0.1:"), "{next}");
    // A token that is made while it runs lets in at once.
    let token = mendb.ok("token create ann --role viewer");
    let answer = server.ask("GET", "/v1/whoami", Some(token.trim()), &json!(null));
    assert_eq!(answer.json(), json!({ "name": "ann", "role": "viewer" }));
}

#[test]
fn it_ends_within_ten_seconds_and_the_next_goes_on() {
    let world = World::new();
    // A repository that takes a byte a second: an attempt waits for it, and cannot be told to stop.
    let slow = [("MENDB_REPOSITORY_UPLOAD_BYTES_PER_S", "1")];
    let server = world.serve_with(&slow);
    let begun = world.post(&server, "/v1/collections/world/backups", &json!({}));
    assert_eq!(begun.status, 202, "{begun:?}");
    let location = begun.header("location").unwrap().to_owned();
    let (code, said, took) = server.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let server = world.serve();
    assert_eq!(world.wait(&server, &location)["state"], "done");
}

#[test]
fn what_another_process_began_and_left_is_gone_on_with() {
    let world = World::new();
    let mut command = world.mendb.command("backup world");
    let crashed = command.env("MENDB_CRASH_AT", "9").output().unwrap();
    assert!(!crashed.status.success());
    let operations = world.mendb.json("operation list");
    let id = operations[0]["operation_id"].as_str().unwrap();
    assert_ne!(operations[0]["state"], "done");
    let server = world.serve();
    let operation = world.wait(&server, &format!("/v1/operations/{id}"));
    assert_eq!(operation["state"], "done");
}

#[test]
fn beyond_this_machine_it_is_refused_without_tls() {
    let mendb = Mendb::new();
    let said = mendb.fails(2, "serve --listen 0.0.0.0:0");
    assert!(said.contains("tokens would travel in the clear"), "{said}");
}

#[test]
fn an_address_that_is_taken_is_told() {
    let world = World::new();
    let server = world.serve();
    let said = world
        .mendb
        .fails(1, &format!("serve --listen {}", server.address));
    assert!(said.contains("cannot listen on"), "{said}");
}

#[test]
fn health_needs_no_token_and_metrics_do() {
    let world = World::new();
    let server = world.serve();
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(
            server.ask("GET", path, None, &json!(null)).status,
            200,
            "{path}"
        );
    }
    assert_eq!(
        server.ask("GET", "/metrics", None, &json!(null)).status,
        401
    );
    world.done(&server, "/v1/collections/world/backups", &json!({}));
    let metrics = world.get(&server, "/metrics").body;
    for line in [
        "mendb_operations{kind=\"full_backup\",state=\"done\"} 1\n",
        "mendb_backups{collection=\"world\"} 1\n",
        "mendb_repository_up 1\n",
        "# HELP mendb_backup_newest_age_seconds ",
        "mendb_http_request_duration_seconds_count{method=\"POST\",path=\"/v1/collections/{name}/backups\",status=\"202\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[test]
fn with_certificates_it_speaks_tls_and_nothing_else() {
    let world = World::new();
    world.mendb.bring("tls", "tls");
    let line = "serve --listen 127.0.0.1:0 --tls-cert tls/cert.pem --tls-key tls/key.pem";
    let server = Server::start(&world.mendb, line, &[]);
    assert!(
        server.greeting[0].contains("https://127.0.0.1:"),
        "{:?}",
        server.greeting
    );
    let list = |trusted: &str| {
        let mut command = world.mendb.command("collection list --server");
        command
            .arg(format!("https://localhost:{}", server.address.port()))
            .env("MENDB_TOKEN", &world.token)
            .env("SSL_CERT_FILE", world.mendb.path().join(trusted));
        command.stdin(std::process::Stdio::null()).output().unwrap()
    };
    let trusted = list("tls/cert.pem");
    let said = String::from_utf8_lossy(&trusted.stderr);
    assert!(trusted.status.success(), "{said}");
    assert!(String::from_utf8_lossy(&trusted.stdout).contains("world"));
    world.mendb.write("none.pem", "");
    let stranger = list("none.pem");
    assert_eq!(stranger.status.code(), Some(1));
    // Without TLS nobody is answered.
    let mut clear = TcpStream::connect(server.address).unwrap();
    clear
        .write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let _ = clear.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[test]
fn certificates_that_cannot_be_served_with_are_told() {
    let world = World::new();
    world.mendb.bring("tls", "tls");
    for (cert, key, why) in [
        ("none.pem", "tls/key.pem", "cannot read none.pem"),
        ("tls/key.pem", "tls/key.pem", "it holds no certificate"),
        ("tls/cert.pem", "tls/cert.pem", "cannot read tls/cert.pem"),
    ] {
        let line = format!("serve --listen 127.0.0.1:0 --tls-cert {cert} --tls-key {key}");
        let said = world.mendb.fails(1, &line);
        assert!(said.contains(why), "{said}");
    }
}
