//! Settings and certificates that are read again while the server runs.

use crate::server::{Server, World};

/// Reads what a server says until a line holds a text.
fn until(server: &mut Server, text: &str) {
    while !server.next_line().contains(text) {}
}

#[test]
fn settings_are_read_again_and_those_that_are_wrong_change_nothing() {
    let world = World::new();
    let rate = |text: &str| {
        let yaml = format!("repository:\n  upload_bytes_per_s: {text}\n");
        world.mendb.write("mendb.yml", &yaml);
    };
    rate("1");
    let mut server = world.serve();
    let success = |server: &Server| {
        let metrics = world.get(server, "/metrics").body;
        metrics.contains("mendb_settings_reload_success 1\n")
    };
    assert!(success(&server));
    let slow = world.begin_without_end(&server);
    for wrong in ["x", "1\n  colour: red", "1\nbackup:\n  attempts: 2"] {
        rate(wrong);
        server.signal("HUP");
        until(&mut server, "nothing of the settings and certificates");
        assert!(!success(&server), "{wrong}");
    }
    assert_ne!(world.get(&server, &slow).json()["state"], "done");
    rate("100000000");
    server.signal("HUP");
    until(
        &mut server,
        "repository.upload_bytes_per_s is \"100000000\" (file mendb.yml)",
    );
    assert!(success(&server));
}

#[test]
fn a_rate_that_was_changed_holds_for_what_begins_then() {
    let world = World::new();
    world
        .mendb
        .write("mendb.yml", "general:\n  max_in_flight: 4\n");
    let mut server = world.serve();
    world.mendb.write(
        "mendb.yml",
        "repository:\n  upload_bytes_per_s: 1\ngeneral:\n  max_in_flight: 4\n",
    );
    server.signal("HUP");
    assert!(server.next_line().contains("upload_bytes_per_s is \"1\""));
    let location = world.begin_without_end(&server);
    server.signal("HUP");
    let said = server.next_line();
    assert!(said.contains("no setting has changed"), "{said}");
    assert_ne!(world.get(&server, &location).json()["state"], "done");
}

#[test]
fn certificates_are_read_again_and_broken_ones_leave_the_old_in_place() {
    let world = World::new();
    world.mendb.bring("tls", "tls");
    let line = "serve --listen 127.0.0.1:0 --tls-cert tls/cert.pem --tls-key tls/key.pem";
    let (old, next) = (world.mendb.read("tls/cert.pem"), "tls/next-cert.pem");
    world.mendb.write("old.pem", &old);
    let mut server = Server::start(&world.mendb, line, &[]);
    let is_trusted = |server: &Server, trusted: &str| {
        let mut command = world.mendb.command("collection list --server");
        command
            .arg(format!("https://localhost:{}", server.address.port()))
            .env("MENDB_TOKEN", &world.token)
            .env("SSL_CERT_FILE", world.mendb.path().join(trusted));
        let ran = command.stdin(std::process::Stdio::null()).output().unwrap();
        ran.status.success()
    };
    assert!(is_trusted(&server, "old.pem") && !is_trusted(&server, next));
    // A chain that does not fit the key.
    world
        .mendb
        .write("tls/cert.pem", &world.mendb.read("tls/next-cert.pem"));
    server.signal("HUP");
    until(&mut server, "nothing of the settings and certificates");
    assert!(is_trusted(&server, "old.pem"));
    world
        .mendb
        .write("tls/key.pem", &world.mendb.read("tls/next-key.pem"));
    server.signal("HUP");
    until(&mut server, "has read settings and certificates again");
    assert!(is_trusted(&server, next) && !is_trusted(&server, "old.pem"));
}
