//! A database with two tables, and the program that works on it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::postgres_server::{PostgresServer, Version};

pub const CUSTOMERS: &str = "SELECT * FROM public.customers ORDER BY id";
pub const ORDERS: &str = "SELECT * FROM public.orders ORDER BY id";

/// All rows of the tables, as COPY writes them.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub [String; 2]);

/// How many lines, and what they are in short: a failed test need not show all.
impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for table in &self.0 {
            let add = |sum: u64, byte: u8| sum.wrapping_mul(31).wrapping_add(byte.into());
            let sum = table.bytes().fold(0, add);
            write!(f, "{} lines {sum:x}; ", table.lines().count())?;
        }
        Ok(())
    }
}

/// A server, a repository, and a state of this machine.
pub struct Shop {
    pub server: PostgresServer,
    pub role: String,
    /// The database that is worked on.
    pub database: &'static str,
    /// The name of the repository.
    pub repository: &'static str,
    directory: tempfile::TempDir,
}

impl Shop {
    /// An empty database.
    pub fn empty() -> Self {
        Self::empty_on(Version::Debian)
    }

    /// An empty database on a server of a version.
    pub fn empty_on(version: Version) -> Self {
        Self {
            server: PostgresServer::of(version),
            role: "postgres".to_owned(),
            database: "shop",
            repository: "repository",
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Customers and their orders, in a collection `shop`.
    pub fn new() -> Self {
        Self::on(Version::Debian)
    }

    /// The same on a server of a version.
    pub fn on(version: Version) -> Self {
        let shop = Self::empty_on(version);
        shop.fill();
        shop.ok(&[
            "collection",
            "create",
            "shop",
            "--table",
            "public.customers",
            "--table",
            "public.orders",
        ]);
        shop
    }

    /// Makes customers and their orders.
    pub fn fill(&self) {
        self.sql(
            "CREATE TABLE customers (
                 id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 name text NOT NULL UNIQUE,
                 balance numeric(12,2) NOT NULL DEFAULT 0 CHECK (balance > -1000000),
                 since timestamptz NOT NULL DEFAULT now()
             );
             CREATE TABLE orders (
                 id serial PRIMARY KEY,
                 customer bigint NOT NULL REFERENCES customers ON DELETE CASCADE,
                 amount numeric(10,2),
                 note varchar(40),
                 doubled numeric GENERATED ALWAYS AS (amount * 2) STORED
             );
             CREATE INDEX orders_by_customer ON orders (customer) INCLUDE (amount);
             INSERT INTO customers (name, balance, since)
                 SELECT 'customer ' || n, n * 1.25, '2026-01-01Z'::timestamptz + n * interval '1 hour'
                 FROM generate_series(1, 500) n;
             INSERT INTO orders (customer, amount, note)
                 SELECT 1 + n % 500, n * 0.5, CASE WHEN n % 7 > 0 THEN 'order ' || n END FROM generate_series(1, 3000) n;
             ANALYZE",
        );
    }

    /// The same on a server that can keep change streams.
    pub fn with_log_for_streams(version: Version) -> Self {
        let mut shop = Self::on(version);
        shop.server.crash();
        shop.server.start_with(&["wal_level=logical"]);
        shop
    }

    /// Of this machine: where the program runs, the repository and the journal.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn sql(&self, statements: &str) {
        self.server.sql_in(self.database, statements);
    }

    pub fn copy(&self, query: &str) -> String {
        self.server.copy_in(self.database, query)
    }

    /// All that users see of the tables.
    pub fn content(&self) -> Content {
        Content([CUSTOMERS, ORDERS].map(|query| self.copy(query)))
    }

    /// What happens to people on Fridays.
    pub fn damage(&self) {
        self.sql(
            "UPDATE customers SET balance = 0;
             DELETE FROM orders WHERE id % 10 = 3;
             INSERT INTO orders (customer, amount) SELECT 7, n FROM generate_series(1, 40) n;
             INSERT INTO customers (name) VALUES ('eve')",
        );
    }

    /// The URL of the repository.
    pub fn repository(&self) -> String {
        format!(
            "file://{}/{}",
            self.directory.path().display(),
            self.repository
        )
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .env("XDG_STATE_HOME", self.directory.path().join("state"))
            .current_dir(self.directory.path())
            .args(["--target", &self.server.url_of(self.database, &self.role)])
            .args(["--repository", &self.repository()])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "mendb {arguments:?}: {}\n{stderr}",
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with this exit code, and returns what it said.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(code),
            "mendb {arguments:?}\n{stderr}"
        );
        stderr
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["--output", "json"]);
        let output = self.run(&all);
        let stderr = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("mendb {arguments:?}\n{stderr}"))
    }

    /// Mends, and returns the operation.
    pub fn mend(&self, more: &[&str]) -> String {
        let mut all = vec!["restore", "shop", "--in-place"];
        all.extend(more);
        let report = self.json(&all);
        assert_eq!(report["state"], "done", "{report}");
        report["operation_id"]
            .as_str()
            .unwrap_or_else(|| panic!("{report}"))
            .to_owned()
    }

    /// The operations that are not over, by id.
    pub fn unfinished(&self) -> Vec<String> {
        let operations = self.json(&["operation", "list"]);
        let open = operations.as_array().unwrap().iter().filter(|operation| {
            !["done", "cancelled"].contains(&operation["state"].as_str().unwrap())
        });
        open.map(|operation| operation["operation_id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Nothing of a mend is left in the schema mendb.
    pub fn assert_nothing_of_mends_held(&self) {
        let left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'mendb'::regnamespace AND relname ~ '^[rsb][0-9]'";
        assert_eq!(self.copy(left), "0\n");
    }

    /// Nothing of an operation is left in the database, when the sessions of processes that are over have ended.
    pub fn assert_nothing_held(&self) {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'mendb%'";
        while self.copy(sessions) != "0\n" {
            std::thread::yield_now();
        }
        let left = "SELECT (SELECT count(*) FROM mendb.held), (SELECT count(*) FROM mendb.published),
                    (SELECT count(*) FROM mendb.looked), (SELECT count(*) FROM mendb.before),
                    (SELECT count(*) FROM mendb.cursor),
                    (SELECT string_agg(relname, ' ') FROM pg_class c
                     WHERE relnamespace = 'mendb'::regnamespace AND relkind = 'r' AND relname ~ '^[rsb][0-9]'),
                    (SELECT count(*) FROM pg_locks WHERE relation = 'public.orders'::regclass AND granted)";
        assert_eq!(self.copy(left), "0\t0\t0\t0\t0\t\\N\t0\n");
    }
}
