//! A server with tables to lose, and the program that backs them up and mends them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use mendb_model::operation::{DifferentTable, StoppedTable};
use mendb_model::part::{Action, TablePlan, Tally};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::servers::{Flavor, Server, ServerOptions, flights};

/// How often it is looked whether a server has done what it does by itself, each time
/// [`LOOK_AGAIN`] later: a minute in all.
const MOST_LOOKS: u32 = 600;
/// The wait is the server's, which answers after it.
const LOOK_AGAIN: &str = "SELECT sleep(0.1)";

/// Keeps a server from merging parts by itself, as settings of a table: only `OPTIMIZE` does then.
pub const NO_MERGES: &str =
    "max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1";

/// A server and a repository.
pub struct World {
    pub server: Server,
    /// What mendb keeps of the server.
    state: tempfile::TempDir,
    repository: Arc<tempfile::TempDir>,
}

/// What `restore --dry-run` says.
#[derive(Debug, Deserialize)]
pub struct Preview {
    pub tables: Vec<TablePlan>,
    pub stopped: Vec<StoppedTable>,
    pub different: Vec<DifferentTable>,
    pub keep_undo: bool,
    pub total: Tally,
}

/// What `restore` says.
#[derive(Debug, Deserialize)]
pub struct Mended {
    pub operation_id: String,
    pub state: String,
    pub planned: Tally,
    pub done: Tally,
    pub stopped: Vec<StoppedTable>,
}

/// What `backup` says.
#[derive(Debug, Deserialize)]
pub struct BackedUp {
    pub backup_id: String,
    pub totals: Totals,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Totals {
    pub tables: u64,
    pub parts: u64,
    pub rows: u64,
    pub bytes: u64,
    pub new_bytes: u64,
}

/// A live part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LivePart {
    pub name: String,
    pub partition_id: String,
    pub directory: PathBuf,
}

impl World {
    pub fn new(flavor: Flavor) -> Self {
        Self::with(flavor, ServerOptions::default())
    }

    pub fn with(flavor: Flavor, options: ServerOptions) -> Self {
        Self {
            server: Server::start(flavor, options),
            state: tempfile::tempdir().unwrap(),
            repository: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// Another server with the same repository.
    pub fn beside(&self, options: ServerOptions) -> Self {
        Self {
            server: Server::start(self.server.flavor(), options),
            state: tempfile::tempdir().unwrap(),
            repository: Arc::clone(&self.repository),
        }
    }

    pub fn is_current(&self) -> bool {
        self.server.flavor() == Flavor::Current
    }

    /// A directory of the repository or a file in it.
    pub fn in_repository(&self, path: &str) -> PathBuf {
        self.repository.path().join("repository").join(path)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_as(&self.server.target(), arguments)
    }

    /// As [`Self::command`], with another target.
    pub fn command_as(&self, target: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .env("XDG_STATE_HOME", self.state.path().join("home"))
            .current_dir(self.state.path())
            .args(["--target", target, "--state", "state", "--repository"])
            .arg(format!("file://{}", self.in_repository("").display()))
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
        assert!(output.status.success(), "{}", told(arguments, &output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with this exit code, and returns what it said.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let ended = output.status.code();
        assert_eq!(ended, Some(code), "{}", told(arguments, &output));
        String::from_utf8(output.stderr).unwrap()
    }

    /// As [`Self::fails`], for a command that prints what it could do all the same.
    pub fn fails_with<T: DeserializeOwned>(&self, code: i32, arguments: &[&str]) -> (T, String) {
        let arguments = [arguments, &["--output", "json"]].concat();
        let output = self.run(&arguments);
        let ended = output.status.code();
        assert_eq!(ended, Some(code), "{}", told(&arguments, &output));
        let printed = parse(&output.stdout);
        (printed, String::from_utf8(output.stderr).unwrap())
    }

    pub fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> T {
        parse(
            self.ok(&[arguments, &["--output", "json"]].concat())
                .as_bytes(),
        )
    }

    pub fn backup(&self, arguments: &[&str]) -> BackedUp {
        self.json(&[&["backup"], arguments].concat())
    }

    /// What a mend would do.
    pub fn preview(&self, arguments: &[&str]) -> Preview {
        self.json(&[&["restore", "--in-place", "--dry-run"], arguments].concat())
    }

    /// Mends, which has to do what a look just before said.
    pub fn mend(&self, arguments: &[&str]) -> Mended {
        let planned = self.preview(arguments);
        let mended: Mended = self.json(&[&["restore", "--in-place"], arguments].concat());
        assert_eq!(mended.state, "done");
        assert_eq!(mended.planned, planned.total, "planned as was said before");
        assert_eq!(mended.done, planned.total, "done as planned");
        assert_eq!(mended.stopped, planned.stopped);
        mended
    }

    /// Proves that the tables are as in the backup: a mend moves and removes nothing, and no part
    /// gets another name.
    pub fn is_mended(&self, database: &str, arguments: &[&str]) {
        let before = self.part_names(database);
        let planned = self.preview(arguments);
        for partition in planned.tables.iter().flat_map(|table| &table.partitions) {
            assert_eq!(partition.action, Action::Nothing, "{partition:?}");
        }
        let mended = self.mend(arguments);
        let kept = Tally {
            kept: mended.planned.kept,
            ..Tally::default()
        };
        assert_eq!(mended.planned, kept);
        assert_eq!(self.part_names(database), before);
    }

    pub fn operations(&self) -> Vec<Value> {
        self.json(&["operation", "list"])
    }

    /// Checksums of all rows of every table of a database.
    pub fn contents(&self, database: &str) -> BTreeMap<String, String> {
        let tables = self.server.query(&format!(
            "SELECT name FROM system.tables WHERE database = '{database}' AND engine LIKE '%MergeTree'"
        ));
        let sums = tables.lines().map(|table| {
            let sum = flights::checksum(&self.server, database, table);
            (table.to_owned(), sum)
        });
        sums.collect()
    }

    /// Names of the live parts of each table of a database that hold its rows. A server removes
    /// patches and empty parts of itself, whenever nothing needs them any more.
    pub fn part_names(&self, database: &str) -> BTreeMap<String, Vec<String>> {
        let rows = self.server.query(&format!(
            "SELECT table, name FROM system.parts WHERE active AND database = '{database}' \
             AND rows > 0 AND name NOT LIKE 'patch-%' ORDER BY table, name"
        ));
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (table, name) in rows.lines().filter_map(|row| row.split_once('\t')) {
            names
                .entry(table.to_owned())
                .or_default()
                .push(name.to_owned());
        }
        names
    }

    /// The live parts of a table, in the order of partitions and blocks.
    pub fn parts(&self, database: &str, table: &str) -> Vec<LivePart> {
        let rows = self.server.query(&format!(
            "SELECT name, partition_id, path FROM system.parts \
             WHERE active AND database = '{database}' AND table = '{table}' \
             ORDER BY partition_id, min_block_number"
        ));
        let part = |row: &str| match row.split('\t').collect::<Vec<_>>()[..] {
            [name, partition_id, path] => LivePart {
                name: name.to_owned(),
                partition_id: partition_id.to_owned(),
                directory: path.into(),
            },
            _ => panic!("{row} has not three columns"),
        };
        rows.lines().map(part).collect()
    }

    /// Removes a live part. Where a server knows no way, its partition is detached and attached without
    /// it, which gives the other parts new names.
    pub fn drop_part(&self, database: &str, table: &str, part: &LivePart) {
        let alter = format!("ALTER TABLE `{database}`.`{table}`");
        let LivePart {
            name,
            partition_id,
            directory,
        } = part;
        if self.is_current() {
            self.server.query(&format!("{alter} DROP PART '{name}'"));
        } else {
            let detached = directory.parent().unwrap().join("detached");
            self.server
                .query(&format!("{alter} DETACH PARTITION ID '{partition_id}'"));
            std::fs::remove_dir_all(detached.join(name)).unwrap();
            self.server
                .query(&format!("{alter} ATTACH PARTITION ID '{partition_id}'"));
        }
    }

    /// Runs a mutation and waits until it is done.
    pub fn mutate(&self, sql: &str) {
        self.server.query(sql);
        self.mutations_end();
    }

    /// Waits until no mutation is unfinished.
    pub fn mutations_end(&self) {
        self.wait(|| self.counts_none("SELECT count() FROM system.mutations WHERE NOT is_done"));
    }

    /// Waits until the server has removed the files of parts that are not live any more.
    pub fn settle(&self) {
        let stale = "SELECT DISTINCT database, table FROM system.parts WHERE NOT active";
        self.wait(|| {
            let tables = self.server.query(stale);
            let tables_of_current = tables.lines().filter(|_| self.is_current());
            for (database, table) in tables_of_current.filter_map(|row| row.split_once('\t')) {
                // The current server looks for them when a partition goes, be there one or not.
                let nothing = "DROP PARTITION ID '999999'";
                self.server
                    .query(&format!("ALTER TABLE {database}.{table} {nothing}"));
            }
            tables.is_empty()
        });
    }

    /// Waits until the server runs for so long that no other start is taken for this one.
    pub fn wait_until_old(&self) {
        self.wait(|| self.counts_none("SELECT uptime() < 5"));
    }

    fn counts_none(&self, sql: &str) -> bool {
        self.server.query(sql) == "0\n"
    }

    fn wait(&self, is_done: impl Fn() -> bool) {
        for _ in 0..MOST_LOOKS {
            if is_done() {
                return;
            }
            self.server.query(LOOK_AGAIN);
        }
        panic!("the server does not come to rest: {}", self.server.log());
    }

    /// Waits until all live parts were there for a while: only of such ones a look tells that they stayed.
    pub fn wait_until_parts_are_old(&self) {
        let young = "SELECT count() FROM system.parts WHERE active AND database != 'system' \
             AND modification_time > now() - 2";
        self.wait(|| self.counts_none(young));
    }

    /// Keeps the server from merging, so that what is planned is what is found. A mend lets merges of
    /// its tables begin again.
    pub fn stop_merges(&self) {
        self.server.query("SYSTEM STOP MERGES");
    }

    pub fn start_merges(&self) {
        self.server.query("SYSTEM START MERGES");
    }
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> T {
    let text = String::from_utf8_lossy(json);
    serde_json::from_slice(json).unwrap_or_else(|error| panic!("{error} in:\n{text}"))
}

fn told(arguments: &[&str], output: &Output) -> String {
    format!(
        "mendb {arguments:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Files below a directory.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        // One that went away while it was looked for had nothing to tell.
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}
