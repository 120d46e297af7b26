//! `kill -9` of the server at random moments, while schedules are due and clients repeat what they were not answered.
//!
//! `MENDB_SERVER_KILLS=30 cargo nextest run -p mendb server_that_is_killed` kills it so often.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::ChildStderr;
use std::time::Duration;

use mendb_server::Store;
use mendb_server::store::schedule::Work;
use mendb_service::env::now_ms;
use serde_json::{Value, json};

use crate::client::try_ask;
use crate::schedules::add_at;
use crate::server::{Server, World};

/// So often each run of all tests kills it.
const KILLS: u64 = 5;
/// It is killed so long after it was started, at most.
const LONGEST_LIFE_MS: u64 = 1_200;
/// No schedule is added while so many runs are not over: the line of a collection is bounded.
const MOST_OPEN_RUNS: usize = 8;

/// A cheap sequence of numbers.
fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Who has backups of a collection taken, each under a key of its own, until each was acknowledged.
struct Client {
    collection: &'static str,
    token: String,
    /// So many orders at most of one life of the server.
    most_orders: usize,
    /// What was acknowledged: operations by the numbers of the orders.
    known: Vec<String>,
}

impl Client {
    /// Orders a backup; its location, or nothing where something is in its way. `None` where the server has died.
    fn order(&self, address: SocketAddr, number: usize) -> Option<Option<String>> {
        let bearer = format!("Bearer {}", self.token);
        let key = format!("order-{number}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", key.as_str()),
        ];
        let path = format!("/v1/collections/{}/backups", self.collection);
        let body = json!({ "label": format!("{}-{number}", self.collection) }).to_string();
        let answer = try_ask(address, "POST", &path, &headers, &body).ok()?;
        match answer.status {
            0 => None,
            202 => Some(Some(answer.header("location")?.to_owned())),
            409 | 503 => Some(None),
            422 if answer.body.contains("is being backed up by operation") => Some(None),
            _ => panic!("{answer:?}"),
        }
    }

    /// Orders, and asks again for what was ordered before, until the server has died.
    fn work(&mut self, address: SocketAddr) {
        let most = self.known.len().saturating_add(self.most_orders);
        for turn in 0.. {
            if self.known.len() < most {
                match self.order(address, self.known.len()) {
                    None => return,
                    Some(Some(location)) => self.known.push(location),
                    Some(None) => {}
                }
            }
            if !self.known.is_empty() && !self.repeats(address, turn % self.known.len()) {
                return;
            }
        }
    }

    /// Asks again for an order that was acknowledged: it is the same operation. Whether the server lives.
    fn repeats(&self, address: SocketAddr, number: usize) -> bool {
        let again = self.order(address, number);
        if let Some(Some(location)) = &again {
            assert_eq!(
                location, &self.known[number],
                "order {number} was done twice"
            );
        }
        again.is_some()
    }
}

/// Where a server that is killed at some moment listens, if it lives so long.
fn address(stderr: &mut BufReader<ChildStderr>) -> Option<SocketAddr> {
    let mut line = String::new();
    stderr.read_line(&mut line).ok()?;
    let (_, rest) = line.split_once(" at http://")?;
    rest.split_once('/')?.0.parse().ok()
}

/// Has a server live so long, and clients ask it meanwhile.
#[expect(
    clippy::disallowed_methods,
    reason = "the test is about moments in time"
)]
fn live(world: &World, clients: &mut [Client], life: Duration) {
    let mut command = world.mendb.command("serve --listen 127.0.0.1:0");
    let mut child = command.spawn().unwrap();
    // It can say what it wants to for as long as it lives.
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let Some(address) = address(&mut stderr) else {
                return;
            };
            std::thread::scope(|scope| {
                for client in clients {
                    scope.spawn(move || client.work(address));
                }
            });
        });
        std::thread::sleep(life);
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

/// Waits until no operation moves any more; all of them by their ids.
fn settled(world: &World, server: &Server) -> BTreeMap<String, Value> {
    let operations = world.get(server, "/v1/operations").json();
    let ids = operations.as_array().unwrap().iter();
    ids.map(|operation| {
        let id = operation["operation_id"].as_str().unwrap().to_owned();
        let end = world.wait(server, &format!("/v1/operations/{id}"));
        (id, end)
    })
    .collect()
}

#[test]
fn a_server_that_is_killed_at_any_moment_loses_no_operation_and_does_none_twice() {
    let world = World::new();
    let mendb = &world.mendb;
    mendb.ok("table create orders --column id:Int64 --key id");
    mendb.ok("collection create shop --table orders --quiet");
    let client = |collection, most_orders| Client {
        collection,
        token: world.token(collection, "operator"),
        most_orders,
        known: Vec::new(),
    };
    // What is scheduled is of the collection of the second, which leaves it room.
    let mut clients = [client("shop", usize::MAX), client("world", 1)];
    let kills = match std::env::var("MENDB_SERVER_KILLS") {
        Ok(kills) => kills.parse().expect("a number"),
        Err(_) => KILLS,
    };
    let mut random = 20_261_130;
    let mut schedules = Vec::new();
    for round in 0..kills {
        let store = Store::open(&mendb.path().join("mendb-data/target")).unwrap();
        if store.open_runs().unwrap().len() < MOST_OPEN_RUNS {
            let work = match round % 2 {
                0 => Work::Full,
                _ => Work::Increment,
            };
            let name = format!("yearly-{round}");
            // Due once since it was added.
            add_at(&world, &name, work, ("0 0 1 1 *", "UTC"), 24 * 366);
            schedules.push(name);
        }
        drop(store);
        let life = Duration::from_millis(next(&mut random) % LONGEST_LIFE_MS);
        live(&world, &mut clients, life);
    }

    let server = world.serve();
    let begun_ms = now_ms();
    let mut of_runs = BTreeSet::new();
    for name in &schedules {
        let run = loop {
            let schedule = world.get(&server, &format!("/v1/schedules/{name}")).json();
            let runs = schedule["runs"].as_array().unwrap();
            assert!(runs.len() <= 1, "{schedule:#}");
            if let Some(run) = runs.iter().find(|run| run["outcome"].is_string()) {
                break run.clone();
            }
            assert!(now_ms() - begun_ms < 240_000, "{schedule:#}");
            std::thread::yield_now();
        };
        assert_eq!(run["outcome"], "done", "{run:#}");
        of_runs.insert(run["operation_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        of_runs.len(),
        schedules.len(),
        "a run has an operation of its own"
    );
    // An order that was not acknowledged is: it was done, or is now.
    for client in &mut clients {
        let number = client.known.len();
        let location = loop {
            if let Some(location) = client.order(server.address, number).expect("it lives") {
                break location;
            }
            assert!(now_ms() - begun_ms < 240_000, "{}", client.collection);
            std::thread::yield_now();
        };
        client.known.push(location);
        assert!((0..=number).all(|number| client.repeats(server.address, number)));
    }
    let operations = settled(&world, &server);
    let mut wanted = of_runs;
    for client in &clients {
        let ids = client.known.iter().map(|at| at.rsplit('/').next().unwrap());
        wanted.extend(ids.map(str::to_owned));
    }
    let there: BTreeSet<String> = operations.keys().cloned().collect();
    assert_eq!(there, wanted, "what was ordered, and nothing else");
    for (id, operation) in &operations {
        assert_eq!(operation["state"], "done", "{id}: {operation:#}");
    }
    // Each has left the one backup that it was for.
    let backups = world.get(&server, "/v1/backups").json();
    let backups = backups.as_array().unwrap();
    assert_eq!(backups.len(), operations.len());
    for client in &clients {
        for number in 0..client.known.len() {
            let label = format!("{}-{number}", client.collection);
            let of_label = backups
                .iter()
                .filter(|backup| backup["label"] == label.as_str());
            assert_eq!(of_label.count(), 1, "{label}");
        }
    }
    println!(
        "{kills} kills, {} operations, {} of them scheduled",
        there.len(),
        schedules.len()
    );
    server.end();
    for collection in ["shop", "world"] {
        mendb.ok(&format!("verify {collection}"));
    }
}
