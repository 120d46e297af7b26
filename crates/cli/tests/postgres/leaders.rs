//! Two servers that share a journal: one leads, the other takes over, and nothing of the first happens any more.
//!
//! `MENDB_LEADER_ROUNDS=100 cargo nextest run -p mendb servers_that_share_a_journal` kills, stops and revives so often.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mendb_repo::RepositoryOptions;
use mendb_repo::log::LogPlace;
use mendb_service::env::now_ms;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::client::{Answer, try_ask};
use crate::s3_server::{BUCKET, Server as S3};
use crate::shop::{Content, Shop};

/// Rounds of each run of all tests: each kind of end once.
const ROUNDS: u64 = 4;
/// The longest that anything may take: a machine may be slow, but not for ever.
const LONGEST_MS: u64 = 180_000;
/// A mend has about so many persisted steps.
const STEPS: u64 = 24;

/// A cheap sequence of numbers.
fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Where a journal is, and how to get there.
pub struct Place {
    pub url: String,
    s3: Option<S3>,
}

impl Place {
    pub fn in_directory(shop: &Shop) -> Self {
        Self {
            url: format!("file://{}/journal", shop.directory().display()),
            s3: None,
        }
    }

    pub fn on_s3() -> Self {
        Self {
            url: format!("s3://{BUCKET}/journals/shop"),
            s3: Some(S3::start()),
        }
    }

    fn variables(&self) -> Vec<(String, String)> {
        let settings = self.s3.iter().flat_map(S3::settings);
        settings
            .map(|(name, value)| (name.to_ascii_uppercase(), value))
            .collect()
    }
}

/// One of the servers.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

pub struct World {
    pub shop: Shop,
    pub place: Place,
    pub token: String,
    pub servers: Vec<Server>,
    runtime: Runtime,
}

impl World {
    pub fn new(on_s3: bool) -> Self {
        let shop = Shop::empty();
        shop.fill();
        let place = match on_s3 {
            true => Place::on_s3(),
            false => Place::in_directory(&shop),
        };
        let mut world = Self {
            shop,
            place,
            token: String::new(),
            servers: Vec::new(),
            runtime: Runtime::new().unwrap(),
        };
        let mut create = world.command(&["token", "create", "ann", "--role", "admin"]);
        create.args(["--journal", &world.place.url]);
        let created = create.output().unwrap();
        assert!(created.status.success(), "{created:?}");
        world.token = String::from_utf8(created.stdout).unwrap().trim().to_owned();
        for _ in 0..2 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap();
            let server = world.start(port);
            world.servers.push(server);
        }
        world
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.shop.command(arguments);
        command.envs(self.place.variables());
        command
    }

    pub fn start(&self, address: SocketAddr) -> Server {
        let listen = address.to_string();
        let mut command =
            self.command(&["serve", "--listen", &listen, "--journal", &self.place.url]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (stderr, heard) = (child.stderr.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                heard.lock().unwrap().push(line);
            }
        });
        Server {
            child,
            address,
            said,
        }
    }

    pub fn ask(
        &self,
        at: usize,
        method: &str,
        path: &str,
        key: &str,
        body: &Value,
    ) -> Option<Answer> {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        if !key.is_empty() {
            headers.push(("Idempotency-Key", key));
        }
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let address = self.servers[at].address;
        let answer = try_ask(address, method, path, &headers, &text).ok()?;
        (answer.status != 0).then_some(answer)
    }

    pub fn is_ready(&self, at: usize) -> bool {
        let answer = self.ask(at, "GET", "/health/ready", "", &json!(null));
        answer.is_some_and(|answer| answer.status == 200)
    }

    /// Waits for a server that leads; not for one that is stopped, which answers nobody.
    pub fn leader(&self, stopped: Option<usize>) -> usize {
        self.until("nobody leads", || {
            let mut there = (0..self.servers.len()).filter(|at| Some(*at) != stopped);
            there.find(|at| self.is_ready(*at))
        })
    }

    pub fn until<T>(&self, otherwise: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begun_ms = now_ms();
        loop {
            if let Some(found) = look() {
                return found;
            }
            if now_ms() - begun_ms > LONGEST_MS {
                panic!("{otherwise}: {}", self.said());
            }
            pause(10);
        }
    }

    pub fn said(&self) -> String {
        let said = self.servers.iter().map(|server| {
            let lines = server.said.lock().unwrap().clone();
            format!("{}:\n{}", server.address, lines.join("\n"))
        });
        said.collect::<Vec<_>>().join("\n")
    }

    /// Orders something, under a key, of a server; the location of its operation, if that is told.
    pub fn order(&self, at: usize, key: &str, path: &str, body: &Value) -> Option<String> {
        let answer = self.ask(at, "POST", path, key, body)?;
        match answer.status {
            202 => Some(answer.header("location").unwrap().to_owned()),
            409 | 503 => None,
            _ => panic!("{answer:?}\n{}", self.said()),
        }
    }

    /// The same until it is told, whoever leads.
    pub fn ordered(&self, stopped: Option<usize>, key: &str, path: &str, body: &Value) -> String {
        self.until("nobody takes the order", || {
            let at = self.leader(stopped);
            self.order(at, key, path, body)
        })
    }

    pub fn done(&self, stopped: Option<usize>, location: &str) {
        self.until("it is not done", || {
            let at = self.leader(stopped);
            let answer = self.ask(at, "GET", location, "", &json!(null))?;
            if answer.status != 200 {
                return None;
            }
            let operation = answer.json();
            let state = operation["state"].as_str().unwrap();
            let has_failed = ["failed", "cancelled", "paused"].contains(&state);
            assert!(!has_failed, "{operation:#}\n{}", self.said());
            (state == "done").then_some(())
        });
    }

    /// Entries of the journal. That it can be read says that each follows the one before it.
    fn entries(&self) -> (u64, u64) {
        let settings = self.place.s3.iter().flat_map(S3::settings);
        let options = RepositoryOptions {
            s3: settings
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            ..RepositoryOptions::default()
        };
        let place = LogPlace::open(&self.place.url, options).unwrap();
        let id = self.runtime.block_on(place.create()).unwrap();
        let read = self.runtime.block_on(place.log(id).read(&mut |_| Ok(())));
        let end = read.unwrap();
        (end.number, end.epoch)
    }

    pub fn signal(&self, at: usize, name: &str) {
        let id = self.servers[at].child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    pub fn end(&mut self, at: usize, signal: &str) {
        self.signal(at, signal);
        self.servers[at].child.wait().unwrap();
    }

    pub fn start_again(&mut self, at: usize) {
        let address = self.servers[at].address;
        self.servers[at] = self.start(address);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.child.kill();
            let _ = server.child.wait();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "another process is waited for")]
fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// What becomes of the leader in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// `kill -9`, and it is started again.
    Killed,
    /// Stopped until another leads and works, and woken then.
    Stopped,
    /// Told to end, and started again.
    Ended,
    /// Stopped for a moment: it leads on, or it does not.
    Halted,
}

const FATES: [Fate; 4] = [Fate::Killed, Fate::Stopped, Fate::Ended, Fate::Halted];

/// Mends while the leader meets its fate, round after round.
fn rounds(on_s3: bool, rounds: u64) {
    let mut world = World::new(on_s3);
    world.leader(None);
    let create = json!({ "name": "shop", "tables": ["public.customers", "public.orders"] });
    let leader = world.leader(None);
    let created = world
        .ask(leader, "POST", "/v1/collections", "", &create)
        .unwrap();
    assert!(created.status < 300, "{created:?}");
    let backups = "/v1/collections/shop/backups";
    let backup = world.ordered(None, "monday", backups, &json!({ "label": "monday" }));
    world.done(None, &backup);
    let mended = world.shop.content();
    let mut random = 20_261_130;
    let mut took_ms = Vec::new();
    let mut entries = Vec::new();
    for round in 0..rounds {
        let fate = FATES[(round % 4) as usize];
        world.shop.damage();
        let damaged = world.shop.content();
        let (before, _) = world.entries();
        let key = format!("mend-{round}");
        let mend = json!({ "in_place": true, "to": "monday" });
        let path = "/v1/collections/shop/restores";
        let location = world.ordered(None, &key, path, &mend);
        // Somewhere in the mend.
        let step = before + 1 + next(&mut random) % STEPS;
        let leader = world.leader(None);
        world.until("the mend does not move", || {
            let is_there = world.entries().0 >= step;
            let answer = world.ask(leader, "GET", &location, "", &json!(null))?;
            (is_there || answer.json()["state"] == "done").then_some(())
        });
        let begun_ms = now_ms();
        let stopped = (fate == Fate::Stopped).then_some(leader);
        match fate {
            Fate::Killed => world.end(leader, "KILL"),
            Fate::Ended => world.end(leader, "TERM"),
            Fate::Stopped => world.signal(leader, "STOP"),
            Fate::Halted => {
                world.signal(leader, "STOP");
                pause(next(&mut random) % 1_000);
                world.signal(leader, "CONT");
            }
        }
        if matches!(fate, Fate::Killed | Fate::Ended) {
            world.start_again(leader);
        }
        let successor = world.leader(stopped);
        if fate != Fate::Halted {
            took_ms.push((fate, now_ms() - begun_ms));
        }
        if let Some(stopped) = stopped {
            assert_ne!(successor, stopped);
            // It wakes while another works, and does nothing any more.
            world.signal(stopped, "CONT");
        }
        let again = world.ordered(None, &key, path, &mend);
        assert_eq!(again, location, "round {round}: an order is one operation");
        world.done(None, &location);
        assert_eq!(
            world.shop.content(),
            mended,
            "round {round}, {fate:?}, {damaged:?}"
        );
        if let Some(stopped) = stopped {
            // By now it knows, and waits.
            world.until("it does not wait", || {
                let answer = world.ask(stopped, "GET", "/health/ready", "", &json!(null))?;
                (answer.status == 503 && answer.body.contains("this server waits")).then_some(())
            });
            assert_eq!(world.shop.content(), mended, "round {round}, after it woke");
        }
        entries.push(world.entries().0 - before);
    }
    check_end(&world, rounds, &mended);
    for fate in [Fate::Killed, Fate::Ended, Fate::Stopped] {
        let of_fate = took_ms.iter().filter(|(of, _)| *of == fate);
        let longest = of_fate.map(|(_, took)| *took).max();
        println!("{fate:?}: the next led within {} ms", longest.unwrap_or(0));
    }
    entries.sort_unstable();
    println!(
        "{rounds} mends; entries of the journal for each: {entries:?}; epochs: {}",
        world.entries().1
    );
}

/// Nothing is open, nothing was done twice, and one leads.
fn check_end(world: &World, rounds: u64, mended: &Content) {
    let leader = world.leader(None);
    let operations = world
        .ask(leader, "GET", "/v1/operations", "", &json!(null))
        .unwrap()
        .json();
    let operations = operations.as_array().unwrap();
    assert!(
        operations.iter().all(|it| it["state"] == "done"),
        "{operations:#?}"
    );
    assert_eq!(
        operations.len() as u64,
        rounds + 1,
        "the backup and the mends"
    );
    world.shop.assert_nothing_of_mends_held();
    let verify = json!({});
    let verified = world.ask(leader, "POST", "/v1/collections/shop/verify", "", &verify);
    assert_eq!(verified.unwrap().status, 200);
    let ready = (0..world.servers.len()).filter(|at| world.is_ready(*at));
    assert_eq!(ready.count(), 1);
    assert_eq!(world.shop.content(), *mended);
}

#[test]
fn servers_that_share_a_journal_take_over_from_each_other_and_never_work_at_once() {
    let number = match std::env::var("MENDB_LEADER_ROUNDS") {
        Ok(number) => number.parse().expect("a number"),
        Err(_) => ROUNDS,
    };
    rounds(false, number);
}

#[test]
fn servers_share_a_journal_in_an_object_store() {
    rounds(true, 2);
}

#[test]
fn a_journal_that_servers_share_is_for_databases_that_they_all_reach_and_for_them_alone() {
    let shop = Shop::empty();
    let place = Place::in_directory(&shop);
    let journal = ["--journal", &place.url];
    let refuses = |command: &mut Command, wanted: &str| {
        let ended = command.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(wanted), "{said}");
        said
    };
    let mut rows = Command::new(env!("CARGO_BIN_EXE_mendb"));
    rows.current_dir(shop.directory());
    let rows = rows
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(journal);
    refuses(rows, "locked, so that no second server could take over");
    let mut beside = shop.command(&["operation", "list"]);
    let said = refuses(
        beside.env("MENDB_JOURNAL", &place.url),
        "share it alone work with it",
    );
    assert!(said.contains("--server"), "{said}");
    let made = shop.directory().join("journal");
    assert!(!made.exists(), "what was refused has left something");
    // Where a journal of this machine works on the database, that is told, and the way on.
    shop.ok(&["target", "check"]);
    shop.sql("CREATE TABLE t (id bigint PRIMARY KEY)");
    shop.ok(&["collection", "create", "c", "--table", "public.t"]);
    let mut serve = shop.command(&["serve", "--listen", "127.0.0.1:0"]);
    let said = refuses(serve.args(journal), "is another");
    assert!(
        said.contains("UPDATE mendb.target SET journal = NULL"),
        "{said}"
    );
    assert!(!made.exists(), "what was refused has left something");
}

#[test]
fn a_journal_of_one_database_is_not_carried_to_another() {
    let mut world = World::new(false);
    let leader = world.leader(None);
    world.shop.sql("CREATE DATABASE other");
    for server in &mut world.servers {
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }
    let ours = world.command(&["serve", "--listen", "127.0.0.1:0", "--journal"]);
    let mut other = Command::new(ours.get_program());
    for argument in ours.get_args() {
        let argument = argument.to_str().unwrap();
        match argument.strip_prefix("postgres://") {
            None => other.arg(argument),
            Some(rest) => {
                let (server, database) = rest.split_once('/').unwrap();
                let how = database.split_once('?').map_or("", |(_, how)| how);
                other.arg(format!("postgres://{server}/other?{how}"))
            }
        };
    }
    for (name, value) in ours.get_envs() {
        other.env(name, value.unwrap());
    }
    let ended = other.arg(&world.place.url).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(
        said.contains("is of the database") && said.contains("other"),
        "{said}"
    );
    // The first goes on with it.
    let address = world.servers[leader].address;
    world.servers[leader] = world.start(address);
    world.until("nobody leads", || world.is_ready(leader).then_some(()));
}
