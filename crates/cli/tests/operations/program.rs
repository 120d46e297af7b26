//! The program under test, on a target and a repository of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A directory with a target and a repository in it.
pub struct Place {
    directory: tempfile::TempDir,
    /// A repository elsewhere, and the environment that gets in there.
    repository: Option<String>,
    environment: Vec<(String, String)>,
}

impl Place {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            repository: None,
            environment: Vec::new(),
        }
    }

    pub fn with_repository(
        self,
        url: String,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self {
            repository: Some(url),
            environment: environment.into_iter().collect(),
            ..self
        }
    }

    /// A copy of everything, as a crash at this moment would leave it.
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        copy_directory(self.directory.path(), copy.directory.path());
        copy
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let local = || format!("file://{}", self.path("repository").display());
        let repository = self.repository.clone().unwrap_or_else(local);
        self.command_in(&repository, arguments)
    }

    /// A command that works with another repository.
    pub fn command_in(&self, repository: &str, arguments: &[&str]) -> Command {
        self.command_at(&self.path("target"), repository, arguments)
    }

    /// A command that works with another target and another repository.
    pub fn command_at(&self, target: &Path, repository: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mendb"));
        command
            .env("XDG_STATE_HOME", target.with_file_name("state"))
            .envs(self.environment.iter().cloned())
            .current_dir(self.directory.path())
            .args(["--target", &format!("mendb://{}", target.display())])
            .args(["--repository", repository])
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
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    pub fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn import(&self, table: &str, mode: &str, lines: &str) {
        let file = self.write(&format!("{table}-{mode}.jsonl"), lines);
        self.ok(&[
            "table", "import", table, &file, "--format", "jsonl", "--mode", mode,
        ]);
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

    /// How many objects of backups are in the repository.
    pub fn objects(&self) -> usize {
        objects_in(&self.path("repository/collections"))
    }

    /// Two tables of a shop with indexes and several shards, in a collection.
    pub fn fill_shop(&self) {
        let orders: String = (0..120)
            .map(|id| {
                let customer = if id % 7 == 0 {
                    "null".into()
                } else {
                    format!("\"c{:02}\"", id % 20)
                };
                format!(
                    "{{\"id\":{id},\"customer\":{customer},\"price\":{},\"note\":\"first\"}}\n",
                    id * 3 % 101
                )
            })
            .collect();
        let customers: String = (0..20)
            .map(|c| format!("{{\"name\":\"c{c:02}\",\"balance\":{}}}\n", c * 10))
            .collect();
        let orders = self.write("orders.jsonl", &orders);
        let customers = self.write("customers.jsonl", &customers);
        let create = [
            "--create",
            "--key",
            "id",
            "--split-at",
            "40",
            "--split-at",
            "90",
        ];
        let indexes = [
            "--index",
            "by_customer=customer+price",
            "--index",
            "by_price=price,note",
        ];
        self.ok(&[
            &["table", "import", "orders", &orders][..],
            &create,
            &indexes,
        ]
        .concat());
        self.ok(&[
            "table",
            "import",
            "customers",
            &customers,
            "--create",
            "--key",
            "name",
        ]);
        self.ok(&[
            "collection",
            "create",
            "shop",
            "--table",
            "orders",
            "--table",
            "customers",
        ]);
    }

    /// Partial upserts, erases and new rows, different for each round.
    pub fn edit_shop(&self, round: i64) {
        let lines = |ids: Vec<i64>, rest: &dyn Fn(i64) -> String| -> String {
            ids.into_iter()
                .map(|id| format!("{{\"id\":{id}{}}}\n", rest(id)))
                .collect()
        };
        let upserts = lines((round..120).step_by(11).collect(), &|id| {
            format!(",\"price\":{}", id + round)
        });
        self.import("orders", "upsert", &upserts);
        self.import(
            "orders",
            "erase",
            &lines((round * 2..120).step_by(17).collect(), &|_| String::new()),
        );
        let late = lines((round * 2..120).step_by(34).collect(), &|_| {
            ",\"note\":\"late\"".to_owned()
        });
        self.import("orders", "upsert", &late);
    }

    /// Every row of both tables and of an index.
    pub fn shop(&self) -> [String; 3] {
        [
            self.ok(&["table", "export", "orders", "--format", "jsonl"]),
            self.ok(&[
                "table",
                "export",
                "orders",
                "--index",
                "by_customer",
                "--format",
                "jsonl",
            ]),
            self.ok(&["table", "export", "customers", "--format", "jsonl"]),
        ]
    }

    pub fn drop_shop(&self) {
        self.ok(&["table", "drop", "orders"]);
        self.ok(&["table", "drop", "customers"]);
    }
}

pub fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// How many objects of backups are below a directory. None are what says of a backup that there is none, and what a write
/// that was cut off has left: both go with the garbage.
pub fn objects_in(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let count = |path: PathBuf| match path.is_dir() {
        true => objects_in(&path),
        false => {
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_mark = name == "manifest.json"
                && std::fs::read(&path).unwrap() == b"{ \"deleted\": true }\n";
            usize::from(!is_mark && !name.contains('#'))
        }
    };
    entries.map(|entry| count(entry.unwrap().path())).sum()
}
