//! PostgreSQL: installed when it is missing, with clusters of our own that go when they are dropped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::data::SQL_COLUMNS;
use super::store::TABLE;
use crate::bench::measure::{self, Cost};
use crate::bench::scratch::size_bytes;
use crate::run::Step;

/// Where Debian puts each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Only names the socket: the server listens nowhere else.
pub const PORT: &str = "54017";
const SOURCE: &str = "source";
const TARGET: &str = "target";

/// How a server is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// As it comes.
    Default,
    /// For loading, at the cost of the data should the machine stop.
    Loading,
    /// As it comes, with its log kept by pgBackRest, which needs that.
    Archived,
}

impl Tuning {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Default => &[],
            Self::Archived => &[
                "archive_mode=on",
                "archive_command=pgbackrest archive-push %p",
            ],
            Self::Loading => &[
                "fsync=off",
                "synchronous_commit=off",
                "full_page_writes=off",
                "wal_level=minimal",
                "max_wal_senders=0",
                "maintenance_work_mem=1GB",
                "shared_buffers=1GB",
                "checkpoint_timeout=1d",
                "max_wal_size=100GB",
                "autovacuum=off",
            ],
        }
    }

    /// The settings as one line.
    pub fn shown(self) -> String {
        self.settings().join(", ")
    }
}

/// An installed PostgreSQL.
pub struct Postgres {
    binaries: PathBuf,
    /// User and group that run it: it refuses root.
    owner: Option<(u32, u32)>,
}

impl Postgres {
    /// Finds the newest version, and installs one when there is none.
    ///
    /// # Errors
    /// There is none and it cannot be installed.
    pub fn provide() -> Result<Self, String> {
        let user_id = |arguments: &str| -> Option<u32> {
            let id = Step::new(&format!("id {arguments}")).output()?;
            id.trim().parse().ok()
        };
        let is_root = user_id("-u") == Some(0);
        let binaries = match newest() {
            Some(found) => found,
            None if is_root => {
                Step::new("apt-get update").run()?;
                Step::new("apt-get install -y postgresql")
                    .with("DEBIAN_FRONTEND", "noninteractive")
                    .run()?;
                newest().ok_or("PostgreSQL was installed, but not into /usr/lib/postgresql")?
            }
            None => {
                return Err(
                    "PostgreSQL is missing and only root may install it:\n\n    \
                            apt-get install postgresql\n"
                        .to_owned(),
                );
            }
        };
        let owner = match (is_root, user_id("-u postgres"), user_id("-g postgres")) {
            (false, _, _) => None,
            (true, Some(user), Some(group)) => Some((user, group)),
            (true, _, _) => return Err("there is no user postgres to run PostgreSQL".to_owned()),
        };
        Ok(Self { binaries, owner })
    }

    /// `PostgreSQL 15.13`.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn version(&self) -> Result<String, String> {
        let version = measure::output(self.command("postgres").arg("--version"))?;
        let number = version.split_whitespace().nth(2).unwrap_or("?");
        Ok(format!("PostgreSQL {number}"))
    }

    /// Makes a cluster in a new directory and starts its server.
    ///
    /// # Errors
    /// It does not start; the message has its log.
    pub fn start(&self, directory: PathBuf, tuning: Tuning) -> Result<Cluster<'_>, String> {
        self.start_with(directory, tuning, Vec::new())
    }

    /// As [`Self::start`], of a server that has variables in its environment.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        &self,
        directory: PathBuf,
        tuning: Tuning,
        environment: Vec<(&'static str, String)>,
    ) -> Result<Cluster<'_>, String> {
        fs::create_dir_all(&directory)
            .and_then(|()| match self.owner {
                Some((user, group)) => chown(&directory, Some(user), Some(group)),
                None => Ok(()),
            })
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        let data = directory.join("data");
        let mut initdb = self.command("initdb");
        initdb
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(&data)
            .current_dir(&directory);
        measure::output(&mut initdb)?;
        let mut cluster = Cluster {
            server: self.serve(&directory, tuning, &environment)?,
            postgres: self,
            directory,
            tuning,
            environment,
        };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// Starts the server of a cluster.
    fn serve(
        &self,
        directory: &Path,
        tuning: Tuning,
        environment: &[(&'static str, String)],
    ) -> Result<Child, String> {
        let mut server = self.command("postgres");
        server
            .arg("-D")
            .arg(directory.join("data"))
            .arg("-k")
            .arg(directory)
            .args(["-p", PORT, "-c", "listen_addresses="])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for setting in tuning.settings() {
            server.args(["-c", setting]);
        }
        let server = server.spawn();
        server.map_err(|error| format!("cannot start PostgreSQL: {error}"))
    }

    /// A command of PostgreSQL, as the user that may run it.
    fn command(&self, name: &str) -> Command {
        self.as_owner(&self.binaries.join(name))
    }

    /// A program, as that user.
    fn as_owner(&self, binary: &Path) -> Command {
        let Some((user, group)) = self.owner else {
            return Command::new(binary);
        };
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={user}"))
            .arg(format!("--regid={group}"))
            .args(["--clear-groups", "--"])
            .arg(binary);
        command
    }
}

/// The binaries of the newest version that is installed.
fn newest() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.flatten();
    let versions = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let binaries = entry.path().join("bin");
        binaries
            .join("postgres")
            .exists()
            .then_some((version, binaries))
    });
    versions.max().map(|(_, binaries)| binaries)
}

/// A running server with its data. Stopped and removed when dropped.
pub struct Cluster<'a> {
    postgres: &'a Postgres,
    directory: PathBuf,
    server: Child,
    tuning: Tuning,
    environment: Vec<(&'static str, String)>,
}

impl Cluster<'_> {
    /// Creates the table and fills it: `COPY`, then primary key and index, in one transaction, which is
    /// the fastest way there is.
    ///
    /// # Errors
    /// The server refused.
    pub fn import(&self, csv: &Path) -> Result<Cost, String> {
        self.sql("postgres", &[&format!("create database {SOURCE}")])?;
        self.settle()?;
        let copy = format!(
            "copy {TABLE} from '{}' with (format csv, header true)",
            csv.display()
        );
        measure::run(&mut self.psql(
            SOURCE,
            &[
                &format!("create table {TABLE} ({SQL_COLUMNS})"),
                &copy,
                &format!("alter table {TABLE} add primary key (id)"),
                &format!("create index by_customer on {TABLE} (customer) include (amount)"),
            ],
        ))
    }

    /// Dumps the table with `pg_dump -Fc` and further arguments, and gives the bytes of the dump.
    ///
    /// # Errors
    /// It failed.
    pub fn dump(&self, arguments: &[&str]) -> Result<(Cost, u64), String> {
        self.settle()?;
        let mut dump = self.client("pg_dump");
        dump.args(["-Fc", "-f"]).arg(self.dumped()).args(arguments);
        let cost = measure::run(dump.arg(SOURCE))?;
        Ok((cost, size_bytes(&self.dumped())?))
    }

    /// Restores the last dump into a new database with `pg_restore -j2` and counts the rows.
    ///
    /// # Errors
    /// It failed, or rows are missing.
    pub fn restore(&self, rows: u64) -> Result<Cost, String> {
        self.sql("postgres", &[&format!("create database {TARGET}")])?;
        self.settle()?;
        let mut restore = self.client("pg_restore");
        restore.args(["-j2", "-d", TARGET]).arg(self.dumped());
        let cost = measure::run(&mut restore)?;
        let found = self.sql(TARGET, &[&format!("select count(*) from {TABLE}")])?;
        if found.trim() == rows.to_string() {
            return Ok(cost);
        }
        Err(format!(
            "PostgreSQL restored {} of {rows} rows",
            found.trim()
        ))
    }

    /// Bytes of the table with its indexes.
    ///
    /// # Errors
    /// The server refused.
    pub fn table_bytes(&self) -> Result<u64, String> {
        let size = self.sql(
            SOURCE,
            &[&format!("select pg_total_relation_size('{TABLE}')")],
        )?;
        size.trim()
            .parse()
            .map_err(|_| format!("{size:?} is no size of a table"))
    }

    fn dumped(&self) -> PathBuf {
        self.directory.join("dump")
    }

    /// Where its socket is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The number in the name of its socket.
    pub fn port(&self) -> &'static str {
        PORT
    }

    /// Writes out what is in memory, so that no step pays for the one before.
    ///
    /// # Errors
    /// The server refused.
    pub fn settle(&self) -> Result<(), String> {
        self.sql("postgres", &["checkpoint"]).map(drop)
    }

    /// Runs statements in one transaction, and gives what they print.
    ///
    /// # Errors
    /// The server refused.
    pub fn sql<S: AsRef<str>>(&self, database: &str, statements: &[S]) -> Result<String, String> {
        measure::output(&mut self.psql(database, statements))
    }

    /// Several statements are one transaction.
    fn psql<S: AsRef<str>>(&self, database: &str, statements: &[S]) -> Command {
        let mut psql = self.client("psql");
        psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database]);
        if statements.len() > 1 {
            psql.arg("-1");
        }
        for statement in statements {
            psql.args(["-c", statement.as_ref()]);
        }
        psql
    }

    /// A client program of the server, connected to it.
    pub fn client(&self, name: &str) -> Command {
        self.connected(self.postgres.command(name))
    }

    /// A program that is not of the server, as the user that runs it and with its environment.
    pub fn program(&self, name: &str) -> Command {
        self.connected(self.postgres.as_owner(Path::new(name)))
    }

    fn connected(&self, mut command: Command) -> Command {
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("PGHOST", &self.directory)
            .env("PGPORT", PORT)
            .env("PGUSER", "postgres")
            .current_dir(&self.directory);
        command
    }

    /// Stops the server, does something to its files, and starts it again.
    ///
    /// # Errors
    /// It does not stop or start, or what is done fails.
    pub fn while_stopped(
        &mut self,
        action: impl FnOnce(&Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.stop();
        action(self)?;
        self.server = self
            .postgres
            .serve(&self.directory, self.tuning, &self.environment)?;
        self.wait_until_ready()
    }

    /// The server takes an interrupt as the wish to stop now, and cleans up behind its processes.
    fn stop(&mut self) {
        let asked = Command::new("kill")
            .args(["-INT", &self.server.id().to_string()])
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            // It has ended by itself.
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
    }

    /// Reads the server's log until it takes connections; what comes later is read and forgotten, or the
    /// server would wait for a reader.
    fn wait_until_ready(&mut self) -> Result<(), String> {
        let Some(log) = self.server.stderr.take() else {
            unreachable!("the log was asked for as a pipe");
        };
        let mut lines = BufReader::new(log).lines();
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let line = line.map_err(|error| format!("cannot read PostgreSQL's log: {error}"))?;
            if line.contains("ready to accept connections") {
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(());
            }
            said.push(line);
        }
        Err(format!("PostgreSQL did not start:\n{}", said.join("\n")))
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
