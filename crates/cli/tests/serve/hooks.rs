//! Others are told what happened: a webhook, signed and again until it has heard, and a command.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use hmac::{Hmac, KeyInit, Mac};
use mendb_server::store::schedule::Work;
use mendb_service::env::now_ms;
use serde_json::{Value, json};

use crate::schedules::add_at;
use crate::server::World;

/// Longer than a machine under any load needs.
const MOST_MS: u64 = 300_000;

/// What was posted.
#[derive(Debug, Clone)]
struct Post {
    headers: Vec<(String, String)>,
    body: String,
}

impl Post {
    fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no {name}: {self:?}")).1
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A webhook that refuses the first posts.
struct Webhook {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Post>>>,
}

impl Webhook {
    fn refusing(first: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<Post>>>::default();
        let of_thread = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut headers = Vec::new();
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    if let Some((name, value)) = line.split_once(": ") {
                        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                    }
                }
                let length = headers.iter().find(|(name, _)| name == "content-length");
                let mut body = vec![0; length.unwrap().1.parse().unwrap()];
                stream.read_exact(&mut body).unwrap();
                let mut heard = of_thread.lock().unwrap();
                heard.push(Post {
                    headers,
                    body: String::from_utf8(body).unwrap(),
                });
                let answer = match heard.len() <= first {
                    true => "503 Service Unavailable",
                    false => "204 No Content",
                };
                let answer =
                    format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { address, heard }
    }

    fn url(&self) -> String {
        format!("http://{}/of/mendb", self.address)
    }

    /// Waits until so many posts were heard.
    fn wait(&self, count: usize) -> Vec<Post> {
        wait(|| {
            let heard = self.heard.lock().unwrap().clone();
            (heard.len() >= count).then_some(heard)
        })
    }
}

fn wait<T>(look: impl Fn() -> Option<T>) -> T {
    let begun_ms = now_ms();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now_ms() - begun_ms < MOST_MS, "it does not come");
        std::thread::yield_now();
    }
}

#[test]
fn a_webhook_is_told_of_an_operation_signed_until_it_has_heard() {
    let world = World::new();
    let hook = Webhook::refusing(1);
    let server = world.serve_with(&[
        ("MENDB_HOOKS_URL", &hook.url()),
        ("MENDB_HOOKS_SECRET", "of both"),
    ]);
    let done = world.done(&server, "/v1/collections/world/backups", &json!({}));
    let heard = hook.wait(2);
    for post in &heard {
        let told = post.json();
        assert_eq!(told["event"], "success");
        assert_eq!(told["operation"]["operation_id"], done["operation_id"]);
        assert_eq!(told["operation"]["state"], "done");
        assert_eq!(told["schedule"], Value::Null);
        assert_eq!(told["id"], post.header("mendb-event-id"));
        let (at, signed) = post.header("mendb-signature").split_once(",v1=").unwrap();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"of both").unwrap();
        let at = at.strip_prefix("t=").unwrap();
        mac.update(format!("{at}.{}", post.body).as_bytes());
        let expected: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(signed, expected);
    }
    assert_eq!(heard[0].body, heard[1].body);
    wait(|| {
        let metrics = world.get(&server, "/metrics").body;
        metrics
            .contains("mendb_hook_deliveries_waiting 0\n")
            .then_some(())
    });
    assert_eq!(
        hook.heard.lock().unwrap().len(),
        2,
        "it has heard, and is told no more"
    );
}

#[test]
fn what_nobody_could_be_told_is_told_by_the_next_server() {
    let world = World::new();
    // Nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{nobody}/");
    let server = world.serve_with(&[("MENDB_HOOKS_URL", &url)]);
    let done = world.done(&server, "/v1/collections/world/backups", &json!({}));
    wait(|| {
        let metrics = world.get(&server, "/metrics").body;
        metrics
            .contains("mendb_hook_deliveries_waiting 1\n")
            .then_some(())
    });
    server.kill();
    let hook = Webhook::refusing(0);
    let _server = world.serve_with(&[("MENDB_HOOKS_URL", &hook.url())]);
    let told = hook.wait(1)[0].json();
    assert_eq!(told["operation"]["operation_id"], done["operation_id"]);
}

#[test]
fn a_command_is_told_of_runs_that_are_late_and_that_fail() {
    let world = World::new();
    let script = world.mendb.path().join("hook.sh");
    let heard = world.mendb.path().join("heard");
    let text = format!(
        "#!/bin/sh\n[ -z \"$MENDB_TOKEN$MENDB_HOOKS_SECRET\" ] || exit 1\ncat >> {0}\necho >> {0}\n",
        heard.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.mendb.ok("table drop cities --quiet");
    // Five to six hours ago, whatever time it is.
    let hour = (now_ms() / 3_600_000 + 24 - 5) % 24;
    let cron = format!("0 {hour} * * *");
    add_at(&world, "nightly", Work::Full, (&cron, "UTC"), 12);
    let _server = world.serve_with(&[
        ("MENDB_HOOKS_COMMAND", script.to_str().unwrap()),
        ("MENDB_HOOKS_SECRET", "x"),
        ("MENDB_HOOKS_EVENTS", "failure,late"),
    ]);
    let told: Vec<Value> = wait(|| {
        let text = std::fs::read_to_string(&heard).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let told: Vec<Value> = lines.collect();
        (told.len() >= 2).then_some(told)
    });
    assert_eq!(told[0]["event"], "late", "{told:#?}");
    assert_eq!(told[1]["event"], "failure", "{told:#?}");
    for told in &told {
        assert_eq!(told["schedule"]["name"], "nightly");
        assert_eq!(told["operation"], Value::Null);
    }
    let why = told[1]["schedule"]["outcome"].as_str().unwrap();
    assert!(why.starts_with("failed: "), "{why}");
}
