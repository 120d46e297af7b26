//! Clients that go away before their commands are over.

use std::io::Write;
use std::net::TcpStream;

use mendb_service::env::now_ms;

use crate::server::{Server, World};

/// Commands of one token that run at a time.
const MOST_OF_ONE: usize = 32;
/// Longer than a machine under any load needs.
const MOST_MS: u64 = 300_000;

/// Takes all places that a token has with one request, goes away, and waits until they are free.
fn take_all_and_leave(world: &World, server: &Server, request: &str, accept: &str) {
    let ask = || {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nAccept: {accept}\r\n\
             Content-Length: 0\r\n\r\n",
            server.address, world.token
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let mut clients: Vec<TcpStream> = (0..MOST_OF_ONE).map(|_| ask()).collect();
    wait(world, server, 429, || clients.push(ask()));
    drop(clients);
    wait(world, server, 200, || {});
}

/// Waits until a request is answered with a status; `meanwhile` is done after each other answer.
fn wait(world: &World, server: &Server, status: u16, mut meanwhile: impl FnMut()) {
    let begun_ms = now_ms();
    loop {
        let answer = world.get(server, "/v1/operations");
        if answer.status == status {
            return;
        }
        assert!(now_ms() - begun_ms < MOST_MS, "{answer:?}");
        // The place that this asking took may have been that of one of the clients.
        meanwhile();
    }
}

#[test]
fn a_verify_whose_client_has_gone_gives_its_place_back() {
    let world = World::new();
    for label in ["a", "b"] {
        world
            .mendb
            .ok(&format!("backup world --label {label} --quiet"));
    }
    // At a byte a second it does not end by itself.
    let server = world.serve_with(&[("MENDB_REPOSITORY_DOWNLOAD_BYTES_PER_S", "1")]);
    for accept in ["application/json", "application/x-ndjson"] {
        take_all_and_leave(&world, &server, "POST /v1/collections/world/verify", accept);
    }
}

#[test]
fn who_waits_for_the_end_of_an_operation_and_goes_gives_his_place_back() {
    let world = World::new();
    let server = world.serve_with(&[("MENDB_REPOSITORY_UPLOAD_BYTES_PER_S", "1")]);
    let location = world.begin_without_end(&server);
    for accept in ["application/json", "application/x-ndjson"] {
        take_all_and_leave(&world, &server, &format!("GET {location}/end"), accept);
    }
    let operation = world.get(&server, &location).json();
    assert!(
        !["done", "failed"].contains(&operation["state"].as_str().unwrap()),
        "{operation:#}"
    );
}
