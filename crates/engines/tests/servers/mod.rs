//! ClickHouse servers of our own, for tests of any crate:
//!
//! ```ignore
//! #[path = "../../engines/tests/servers/mod.rs"]
//! mod servers;
//! ```
//!
//! Two flavors: the current engine (26.9) in a Python process, with [`install`] telling where it
//! comes from, and Debian's 18.16. Both speak HTTP on loopback, keep their data in a directory that
//! a test can look into, and end with the process that started them, also when that is killed.
//! Nothing is ever skipped: what is missing makes the test fail with how to get it.
//!
//! The database `default` of the current flavor is not one that a server would have (its engine is
//! `Overlay`, its tables have no UUID): create one with [`Server::create_database`].
//!
//! Parts that were replaced stay for 480 seconds, as on any server, unless
//! [`ServerOptions::old_parts_lifetime_s`] says otherwise.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "each test binary uses its own part of this module, and fails where it cannot go on"
)]

mod config;
pub mod flights;
mod http;
pub mod install;
mod python;
pub mod zookeeper;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How often a server is started on other ports because another process took the chosen ones.
const STARTS_MAX: u32 = 5;
/// How long 18.16 may take until it answers: this many times [`POLL`], a minute.
const POLLS_MAX: u32 = 3000;
const NAME_HEADER: &str = "X-ClickHouse-Server-Display-Name";
const POLL: Duration = Duration::from_millis(20);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// ClickHouse 26.9.
    Current,
    /// ClickHouse 18.16, which has no storage policies, no native backups, no `Atomic` databases.
    V18,
}

/// What a server has beyond one disk and a user without password.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// An existing directory for the data instead of one that ends with the server, such as a small
    /// mount that gets full.
    pub data: Option<PathBuf>,
    /// Disks `d1` and `d2`, and the policy `jbod` of one volume on both.
    pub jbod: bool,
    /// Disks `hot` and `cold`, and the policy `tiered` of a volume on each.
    pub tiered: bool,
    /// A disk `objects` that keeps its data as an object store does, and the policy `objects`.
    pub objects: bool,
    /// A disk `backups`, to which `BACKUP … TO Disk('backups', …)` may write, as may
    /// `TO File(…)` below [`Server::disk_path`] of it.
    pub backups: bool,
    /// Whether there is `system.part_log`.
    pub part_log: bool,
    /// How long parts that were replaced stay, in seconds.
    pub old_parts_lifetime_s: Option<u32>,
    /// Name and password instead of `default` without one.
    pub user: Option<(String, String)>,
    /// Whether it is a replica, and of which keeper (18.16).
    pub replica: Option<ReplicaOptions>,
    /// More elements of the configuration, as XML.
    pub more_config: String,
}

/// Makes a server one of several replicas: its macro `{replica}` is its name.
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    /// The name.
    pub name: String,
    /// The macro `{shard}`.
    pub shard: String,
    /// Where ZooKeeper answers, on this host.
    pub zookeeper_port: u16,
}

/// A running server, which ends when dropped, and its own directories with it.
pub struct Server {
    flavor: Flavor,
    options: ServerOptions,
    root: PathBuf,
    data: PathBuf,
    ports: config::Ports,
    running: Option<Running>,
}

struct Running {
    process: Child,
    /// Kills a server that does not look after its own end.
    guard: Option<Child>,
}

impl Server {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// It cannot be installed or does not start, with what it said.
    pub fn start(flavor: Flavor, options: ServerOptions) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("mendb-clickhouse-{}-{number}", process::id());
        let root = std::env::temp_dir().join(name);
        // Of an earlier process with our number, which was killed.
        let _ = fs::remove_dir_all(&root);
        let data = options.data.clone().unwrap_or_else(|| root.join("data"));
        for directory in [&data, &root.join("tmp")] {
            fs::create_dir_all(directory).unwrap();
        }
        let mut server = Self {
            flavor,
            options,
            root,
            data,
            ports: config::Ports::default(),
            running: None,
        };
        server.launch();
        server
    }

    /// The address of its HTTP interface.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.ports.http)
    }

    /// The address as `--target` takes it.
    pub fn target(&self) -> String {
        let (user, password) = self.user();
        let separator = if password.is_empty() { "" } else { ":" };
        let port = self.ports.http;
        format!("clickhouse://{user}{separator}{password}@127.0.0.1:{port}/")
    }

    /// Where other servers ask it.
    pub fn native_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.tcp)
    }

    /// Which server it is.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// What the server's own configuration calls its path: parts are below `store/` (26.9) or
    /// `data/` (18.16), frozen ones below `shadow/`.
    pub fn data_path(&self) -> &Path {
        &self.data
    }

    /// Where a disk of the options has its files, or its objects.
    pub fn disk_path(&self, disk: &str) -> PathBuf {
        match disk {
            "default" => self.data.clone(),
            _ => self.root.join(disk),
        }
    }

    /// Creates a database of the kind that servers of this age have by default.
    pub fn create_database(&self, name: &str) {
        let engine = match self.flavor {
            Flavor::Current => "Atomic",
            Flavor::V18 => "Ordinary",
        };
        self.query(&format!(
            "CREATE DATABASE IF NOT EXISTS `{name}` ENGINE = {engine}"
        ));
    }

    /// The result of a query as text, TabSeparated unless the query has a `FORMAT`.
    ///
    /// # Panics
    /// The server refuses, with its message, or cannot be reached.
    pub fn query(&self, sql: &str) -> String {
        self.try_query(sql)
            .unwrap_or_else(|message| panic!("{sql}\n{message}"))
    }

    /// As [`Server::query`], for queries that may fail.
    ///
    /// # Errors
    /// The server's message, or why it cannot be reached.
    pub fn try_query(&self, sql: &str) -> Result<String, String> {
        self.try_query_as(self.user(), sql)
    }

    /// As [`Server::try_query`], by the given name and password.
    ///
    /// # Errors
    /// As [`Server::try_query`].
    pub fn try_query_as(&self, user: (&str, &str), sql: &str) -> Result<String, String> {
        let body = self.send(user, None, sql.as_bytes())?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// The result of a query in a binary format.
    ///
    /// # Panics
    /// As [`Server::query`].
    pub fn query_bytes(&self, sql: &str) -> Vec<u8> {
        self.send(self.user(), None, sql.as_bytes())
            .unwrap_or_else(|message| panic!("{sql}\n{message}"))
    }

    /// Inserts data of the format that the statement names: `INSERT INTO t FORMAT CSV`.
    ///
    /// # Panics
    /// As [`Server::query`].
    pub fn insert(&self, sql: &str, data: &[u8]) {
        self.try_insert(sql, data)
            .unwrap_or_else(|message| panic!("{sql}\n{message}"));
    }

    /// As [`Server::insert`], for inserts that may fail.
    ///
    /// # Errors
    /// As [`Server::try_query`].
    pub fn try_insert(&self, sql: &str, data: &[u8]) -> Result<(), String> {
        self.send(self.user(), Some(sql), data).map(drop)
    }

    /// Ends the server as `kill -9` does.
    pub fn kill(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let _ = running.process.kill();
        if let Some(mut guard) = running.guard {
            // Before the server is waited for: until then no other process gets its number.
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
        let _ = running.process.wait();
    }

    /// Starts it again on the same data, after killing it where it runs; on the same port, unless
    /// another process took that.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    fn user(&self) -> (&str, &str) {
        let user = self.options.user.as_ref();
        user.map_or(("default", ""), |(name, password)| (name, password))
    }

    fn send(&self, user: (&str, &str), sql: Option<&str>, body: &[u8]) -> Result<Vec<u8>, String> {
        let reply = self
            .request(user, sql, body)
            .map_err(|error| format!("no answer from {}: {error}", self.url()))?;
        if reply.status == 200 {
            Ok(reply.body)
        } else {
            Err(String::from_utf8_lossy(&reply.body).into_owned())
        }
    }

    fn request(
        &self,
        user: (&str, &str),
        sql: Option<&str>,
        body: &[u8],
    ) -> io::Result<http::Reply> {
        let request = http::Request {
            port: self.ports.http,
            user,
            query: sql,
            body,
        };
        request.send()
    }

    fn launch(&mut self) {
        for _ in 0..STARTS_MAX {
            if self.ports.http == 0 {
                self.ports = free_ports();
            }
            let started = match self.flavor {
                Flavor::Current => self.launch_current(),
                Flavor::V18 => self.launch_v18(),
            };
            if started {
                return;
            }
            self.ports = config::Ports::default();
        }
        panic!("the server does not start:\n{}", self.log());
    }

    /// Whether it answers; if not, it has ended.
    fn launch_current(&mut self) -> bool {
        let python = install::current();
        let config = self.write_config();
        let (user, password) = self.user();
        let mut process = Command::new(python)
            .args(["-c", include_str!("chdb_server.py")])
            .arg("--path")
            .arg(&self.data)
            .arg("--config")
            .arg(config)
            .args(["--port", &self.ports.http.to_string()])
            .args(["--user", user, "--password", password])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(self.log_file())
            .spawn()
            .expect("the virtual environment has a python");
        let stdout = process.stdout.take().expect("it is piped");
        let mut line = String::new();
        let said = BufReader::new(stdout).read_line(&mut line);
        let port = said.ok().and_then(|_| line.trim().parse().ok());
        self.running = Some(Running {
            process,
            guard: None,
        });
        if let Some(port) = port {
            self.ports.http = port;
        } else {
            self.kill();
        }
        port.is_some()
    }

    /// As [`Server::launch_current`].
    fn launch_v18(&mut self) -> bool {
        let program = install::v18();
        let config = self.write_config();
        let mut option = std::ffi::OsString::from("--config-file=");
        option.push(config);
        let process = Command::new(program)
            .arg(option)
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.log_file())
            .spawn()
            .expect("18.16 is a program");
        let guard = guard_of(&process);
        self.running = Some(Running {
            process,
            guard: Some(guard),
        });
        for _ in 0..POLLS_MAX {
            if self.has_ended() {
                break;
            }
            let reply = self.request(self.user(), None, b"SELECT 1");
            // Another server may answer on a port that it took from us.
            if reply.is_ok_and(|reply| reply.header(NAME_HEADER) == Some(&self.name())) {
                return true;
            }
            wait_a_moment();
        }
        self.kill();
        false
    }

    /// Whether the process has ended by itself or was killed.
    pub fn has_ended(&mut self) -> bool {
        let running = self.running.as_mut();
        running.is_none_or(|running| running.process.try_wait().is_ok_and(|end| end.is_some()))
    }

    /// What tells it from others on this machine.
    fn name(&self) -> String {
        let name = self.root.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn write_config(&self) -> PathBuf {
        let config = config::Config {
            root: &self.root,
            data: &self.data,
            name: &self.name(),
            user: self.user(),
            ports: self.ports,
            options: &self.options,
        };
        config.write(self.flavor)
    }

    fn log_file(&self) -> File {
        File::create(self.root.join("stderr.log")).unwrap()
    }

    /// What the server said of itself since it was started.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.root.join(name)).unwrap_or_default();
        read("stderr.log") + &read("server.err.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// What kills a process when this one has ended, also where it was killed.
fn guard_of(process: &Child) -> Child {
    Command::new("sh")
        .args(["-c", "read -r _; kill -KILL $0", &process.id().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell")
}

fn free_ports() -> config::Ports {
    let [http, tcp, interserver] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    config::Ports {
        http: port(&http),
        tcp: port(&tcp),
        interserver: port(&interserver),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server that starts gives no event to wait for"
)]
fn wait_a_moment() {
    std::thread::sleep(POLL);
}
