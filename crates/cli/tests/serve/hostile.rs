//! Requests that are wrong, slow or forged.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::client::{ask, read_head};
use crate::server::World;

/// Method, path, headers, body, and the status that it gets.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16);

#[test]
fn what_is_wrong_with_a_request_is_told_as_a_problem() {
    let world = World::new();
    let server = world.serve();
    let bearer = format!("Bearer {}", world.token);
    let bearer = ("Authorization", bearer.as_str());
    let json = ("Content-Type", "application/json");
    let large = format!("{{\"label\": \"{}\"}}", "x".repeat(2 << 20));
    let backups = "/v1/collections/world/backups";
    let cases: [Case; 19] = [
        ("GET", "/v1/nothing", &[bearer], "", 404),
        ("GET", "/v1/collections/%00%20/backups", &[bearer], "", 400),
        // A path that is no text is told to who may ask, and to nobody else.
        ("GET", "/v1/collections/%ff", &[bearer], "", 400),
        (
            "POST",
            "/v1/collections/%ff/backups",
            &[bearer, json],
            "{}",
            400,
        ),
        ("GET", "/v1/collections/%ff", &[], "", 401),
        ("GET", "/v1/nothing", &[], "", 401),
        // Of two keys nobody knows which is meant.
        (
            "POST",
            backups,
            &[
                bearer,
                json,
                ("Idempotency-Key", "a"),
                ("Idempotency-Key", "b"),
            ],
            "{}",
            400,
        ),
        ("GET", "/v1/backups", &[bearer, bearer], "", 400),
        ("PUT", backups, &[bearer], "", 405),
        ("POST", backups, &[bearer], "{}", 415),
        ("POST", backups, &[bearer, json], "{", 400),
        ("POST", backups, &[bearer, json], "[]", 400),
        (
            "POST",
            backups,
            &[bearer, json],
            "{\"colour\": \"red\"}",
            400,
        ),
        (
            "POST",
            backups,
            &[bearer, json],
            "{\"collection\": \"other\"}",
            400,
        ),
        (
            "POST",
            backups,
            &[bearer, json],
            "{\"incremental\": 7}",
            400,
        ),
        ("POST", backups, &[bearer, json], &large, 413),
        (
            "POST",
            "/v1/collections/world/restores",
            &[bearer, json],
            "{\"plan\": \"/etc/passwd\"}",
            400,
        ),
        ("GET", "/v1/backups?target=/etc", &[bearer], "", 400),
        (
            "GET",
            "/v1/backups",
            &[bearer, ("Host", "evil.example.com")],
            "",
            421,
        ),
    ];
    for (method, path, headers, body, status) in cases {
        let answer = ask(server.address, method, path, headers, body);
        assert_eq!(answer.status, status, "{method} {path} {answer:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        let problem = answer.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(world.get(&server, "/v1/operations").json(), json!([]));
}

#[test]
fn what_no_client_sends_harms_nobody_else() {
    let world = World::new();
    let server = world.serve();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(server.address).unwrap());
    }
    for wrong in [
        "\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(1000)),
        "POST /v1/collections/world/backups HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        // It may close the connection on the way.
        let _ = stream.write_all(wrong.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    // One that stops in the middle of its body.
    let mut cut = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /v1/collections/world/backups HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        world.token
    );
    cut.write_all(head.as_bytes()).unwrap();
    cut.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_head(cut).status, 413);
    assert_eq!(world.get(&server, "/v1/operations").json(), json!([]));
    drop(silent);
}
