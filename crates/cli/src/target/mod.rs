//! The target: which database a URL names, and opening it.

mod claim;
mod journal_record;
mod paths;
pub mod postgres;
mod server;
mod server_record;
mod state;
mod state_lock;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mendb_engines::postgres::{Address, Postgres};
use mendb_engines::row::{RowEngine, RowLook};
use mendb_engines::{Engine, EngineError, Hold, Remedy, TargetKind};
use mendb_rowstore::{Database, Error, Options, Snapshot};

use crate::clock;
use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::settings::secret::hide_in_url;
use claim::Claim;

pub use paths::{as_word, is_absent, quoted, replace_file};
pub use server::Server;
pub use state_lock::StateLock;

/// How often, and how long each time, a store that another process has is waited for.
/// The engine itself looks for 0.2 seconds each time.
const LOOKS_WAITED_FOR: u32 = 25;
const A_LOOK: Duration = Duration::from_millis(20);
/// What the name of a target that is a cluster begins with; the list of its servers follows.
const CLUSTER: &str = "cluster:";
/// The directory of the row store under the target's directory.
const ROWS: &str = "rows";

/// A target that this process alone drives, or looks at.
pub struct OpenTarget {
    /// What its data is worked on with.
    pub engine: Arc<dyn Engine>,
    /// Where its journal is.
    pub journal_directory: PathBuf,
    /// The row store that it is, if it is one.
    pub rows: Option<Database>,
    /// What keeps others out, where the engine does not.
    _claim: Option<Claim>,
    /// The same of a PostgreSQL database.
    _lock: Option<StateLock>,
}

impl OpenTarget {
    fn new(engine: Arc<dyn Engine>, journal_directory: PathBuf) -> Self {
        Self {
            engine,
            journal_directory,
            rows: None,
            _claim: None,
            _lock: None,
        }
    }
}

/// A database to back up or mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A row store in a directory: `mendb:///abs/dir`, `mendb:relative/dir` or a plain path.
    Rows(PathBuf),
    /// A ClickHouse server.
    ClickHouse(Server),
    /// A PostgreSQL database.
    Postgres(Address),
    /// A cluster of ClickHouse servers, which a file lists: `cluster:FILE`.
    Cluster(PathBuf),
}

impl Target {
    /// The target that a URL names.
    ///
    /// # Errors
    /// The URL has an unknown scheme, or names no directory or server.
    pub fn parse(url: &str) -> Result<Self, Failure> {
        if Server::is_meant_by(url) {
            Server::parse(url).map(Self::ClickHouse)
        } else if Address::is_meant_by(url) {
            postgres::parse(url).map(Self::Postgres)
        } else if let Some(file) = url.strip_prefix(CLUSTER) {
            list_of_servers(file).map(Self::Cluster)
        } else {
            directory(url).map(Self::Rows)
        }
    }

    /// Its URL as others may read it: without credentials.
    pub fn shown_url(&self) -> String {
        match self {
            Self::Rows(directory) => format!("mendb://{}", directory.display()),
            Self::ClickHouse(server) => format!("clickhouse://{}/", server.place()),
            Self::Postgres(address) => address.shown(),
            Self::Cluster(list) => format!("{CLUSTER}{}", list.display()),
        }
    }
}

/// The file that a target names which is a cluster.
fn list_of_servers(file: &str) -> Result<PathBuf, Failure> {
    if file.is_empty() {
        return Err(Failure::misuse("the target cluster: names no file")
            .hint("name the list of its servers: cluster:/etc/mendb/cluster.yml"));
    }
    std::path::absolute(Path::new(file))
        .map_err(|error| Failure::io("cannot find the current directory", &error))
}

/// The directory that the URL of a row store names.
fn directory(target: &str) -> Result<PathBuf, Failure> {
    let path = match target.split_once(':') {
        None => target,
        Some(("mendb", rest)) => rest.strip_prefix("//").unwrap_or(rest),
        // `./a:b` is a path.
        Some((before, _)) if before.contains(['/', '.']) => target,
        Some((scheme, _)) => {
            let shown = hide_in_url(target);
            return Err(Failure::misuse(format!(
                "the target {shown:?} has the unknown scheme {scheme:?}"
            ))
            .hint(
                "a target is mendb:///dir, a directory that mendb keeps its tables in, \
                 postgres://user@host:5432/database, clickhouse://user@host:8123/, or cluster:FILE",
            ));
        }
    };
    if path.is_empty() {
        return Err(Failure::misuse(format!(
            "the target {target:?} names no directory"
        )));
    }
    std::path::absolute(Path::new(path))
        .map_err(|error| Failure::io("cannot find the current directory", &error))
}

impl Context {
    /// The target.
    ///
    /// # Errors
    /// Its URL is wrong.
    pub fn target(&self) -> Result<Target, Failure> {
        let target = Target::parse(&self.settings.target)?;
        Ok(match target {
            Target::Postgres(address) => {
                Target::Postgres(address.paced(self.settings.postgres_bytes_per_s))
            }
            other => other,
        })
    }

    /// The directory of the row store, for a command that works with nothing else.
    ///
    /// # Errors
    /// The URL is wrong, or the target is a ClickHouse server: then `instead` says what to do there.
    pub fn rows_directory(&self, command: &str, instead: &str) -> Result<PathBuf, Failure> {
        match self.target()? {
            Target::Rows(directory) => Ok(directory),
            Target::ClickHouse(_) | Target::Cluster(_) => Err(Failure::misuse(format!(
                "mendb {command} works with row stores, and the target {} is {}",
                hide_in_url(&self.settings.target),
                match self.target()? {
                    Target::Cluster(_) => "a cluster of ClickHouse servers",
                    _ => "a ClickHouse server",
                }
            ))
            .hint(instead)),
            Target::Postgres(_) => Err(Failure::misuse(format!(
                "mendb {command} works with the row store that mendb ships, and the target {} is a PostgreSQL database",
                hide_in_url(&self.settings.target)
            ))
            .hint(
                "psql changes its tables; mendb table list, describe and export, mendb backup and mendb restore work with \
                 them",
            )),
        }
    }

    /// Opens the row store of the target; it is created when it is not there.
    ///
    /// # Errors
    /// The URL is wrong or names a ClickHouse server, the directory is open in another process, or the
    /// store is damaged.
    pub fn open_rows(&self) -> Result<Database, Failure> {
        let directory = self.tables_directory()?;
        let served = (self.session.as_ref()).and_then(|session| session.house.rows.clone());
        match served {
            Some(database) => Ok(database),
            None => self.open_rows_in(&directory),
        }
    }

    fn tables_directory(&self) -> Result<PathBuf, Failure> {
        self.rows_directory(
            "table",
            "look at tables and change them with clickhouse-client; mendb backup and mendb restore \
             work with them",
        )
    }

    /// Everything in the row store of the target as of its last commit, beside a process that has it open. It is
    /// created when it is not there.
    ///
    /// # Errors
    /// The URL is wrong or names a ClickHouse server, or the store is damaged.
    pub fn look_at_rows(&self) -> Result<Snapshot, Failure> {
        let directory = self.tables_directory()?;
        match Snapshot::open(&directory.join(ROWS))? {
            Some(snapshot) => Ok(snapshot),
            None => Ok(self.open_rows_in(&directory)?.snapshot()?),
        }
    }

    /// Who follows an operation has the store for a moment each second: that is waited for.
    fn open_rows_in(&self, directory: &Path) -> Result<Database, Failure> {
        for _ in 0..LOOKS_WAITED_FOR {
            match self.try_rows_in(directory) {
                Err(failure) if failure.kind == FailureKind::Busy => clock::sleep(A_LOOK),
                opened => return opened,
            }
        }
        self.try_rows_in(directory)
    }

    fn try_rows_in(&self, directory: &Path) -> Result<Database, Failure> {
        let directory = directory.join(ROWS);
        std::fs::create_dir_all(&directory).map_err(|error| {
            Failure::io(
                format!("cannot create the target {}", directory.display()),
                &error,
            )
        })?;
        let options = Options {
            split_bytes: self.settings.split_bytes,
            cache_bytes: self.settings.cache_bytes,
            log_bytes: self.settings.change_log_bytes.unwrap_or(u64::MAX),
            ..Options::default()
        };
        Ok(Database::open(&directory, options)?)
    }

    /// Opens the target, whatever it is, and keeps other processes of mendb from driving operations
    /// on it while it is open.
    ///
    /// # Errors
    /// The URL is wrong, another process has the target open, or it cannot be opened.
    pub fn open_target(&self) -> Result<OpenTarget, Failure> {
        self.open_target_by(Self::open_rows_in)
    }

    /// As [`Self::open_target`], for who tries again: does not wait.
    ///
    /// # Errors
    /// As [`Self::open_target`].
    pub fn open_target_at_once(&self) -> Result<OpenTarget, Failure> {
        self.open_target_by(Self::try_rows_in)
    }

    fn open_target_by(
        &self,
        open_rows: impl Fn(&Self, &Path) -> Result<Database, Failure>,
    ) -> Result<OpenTarget, Failure> {
        self.check_journal_is_here()?;
        match self.target()? {
            // The store has a lock of its own.
            Target::Rows(directory) => {
                let database = open_rows(self, &directory)?;
                let engine = RowEngine::new(database.clone());
                Ok(OpenTarget {
                    rows: Some(database),
                    ..OpenTarget::new(Arc::new(engine), directory)
                })
            }
            Target::Postgres(address) => {
                let opened = self.open_postgres(&address)?;
                Ok(OpenTarget {
                    _lock: Some(opened.lock),
                    ..OpenTarget::new(Arc::new(opened.engine), opened.directory)
                })
            }
            Target::Cluster(_) => Err(self.is_cluster()),
            Target::ClickHouse(server) => {
                let (engine, journal_directory, claim) = self.open_server(&server)?;
                Ok(OpenTarget {
                    _claim: claim,
                    ..OpenTarget::new(Arc::new(engine), journal_directory)
                })
            }
        }
    }

    /// The target for commands that only read: a row store as of its last commit, beside a process that has it open. It
    /// is created when it is not there. A server is opened as by [`Self::open_target`].
    ///
    /// # Errors
    /// The URL is wrong, or the store is damaged; of a server as [`Self::open_target`].
    pub fn look_at_target(&self) -> Result<OpenTarget, Failure> {
        self.check_journal_is_here()?;
        match self.target()? {
            Target::Rows(directory) => {
                if let Some(snapshot) = Snapshot::open(&directory.join(ROWS))? {
                    return Ok(OpenTarget::new(Arc::new(RowLook::new(snapshot)), directory));
                }
            }
            Target::Postgres(address) => {
                self.check_not_shared(&address)?;
                let directory = self.postgres_directory(&address);
                return Ok(OpenTarget::new(
                    Arc::new(Postgres::look(&address)?),
                    directory,
                ));
            }
            Target::ClickHouse(_) | Target::Cluster(_) => {}
        }
        self.open_target()
    }

    /// Connects to the PostgreSQL database of the target, to look only.
    ///
    /// # Errors
    /// The target is another one, or the server does not answer.
    pub fn look_at_postgres(&self) -> Result<Postgres, Failure> {
        match self.target()? {
            Target::Postgres(address) => Ok(Postgres::look(&address)?),
            Target::Rows(_) | Target::ClickHouse(_) | Target::Cluster(_) => Err(self.no_postgres()),
        }
    }

    /// Removes what mendb keeps in the PostgreSQL database of the target, and its journal; returns its URL.
    ///
    /// # Errors
    /// The target is another one, an operation is not over, or it cannot be removed.
    pub fn detach_postgres(&self) -> Result<String, Failure> {
        let Target::Postgres(address) = self.target()? else {
            return Err(self.no_postgres());
        };
        let opened = self.open_postgres(&address)?;
        let journal = self.open_journal_in(&opened.directory)?;
        if let Some(operation) = journal.unfinished_operations()?.first() {
            return Err(Failure::input(format!("operation {operation} is not over")).hint(format!(
                "mendb operation watch {operation} finishes it, mendb operation cancel {operation} gives it up"
            )));
        }
        drop(journal);
        opened.engine.detach()?;
        postgres::remove_journal(&opened.directory)?;
        Ok(address.shown())
    }

    fn no_postgres(&self) -> Failure {
        Failure::misuse(format!(
            "mendb target works with PostgreSQL databases, and the target {} is none",
            hide_in_url(&self.settings.target)
        ))
        .hint("name one with --target postgres://user@host:5432/database")
    }

    /// What the row store of the target keeps for operations; nothing where there is no store.
    ///
    /// # Errors
    /// The target is none of rows, or the store is damaged.
    pub fn row_holds(&self) -> Result<Vec<Hold>, Failure> {
        let directory = self.rows_directory("operation", "name a target of rows")?;
        let snapshot = Snapshot::open(&directory.join(ROWS))?;
        let holds = snapshot.map(|snapshot| RowLook::new(snapshot).holds());
        Ok(holds.transpose()?.unwrap_or_default())
    }

    fn is_cluster(&self) -> Failure {
        Failure::misuse(format!(
            "the target {} is a cluster, and this works beside one server",
            self.settings.target
        ))
        .hint("name one of its servers: --target clickhouse://user@host:8123/")
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let kind = match error.remedy {
            Remedy::Retry | Remedy::Replan => FailureKind::Retry,
            Remedy::Request => FailureKind::FixInput,
            Remedy::Refreeze | Remedy::Repair => FailureKind::FixEnvironment,
        };
        Self::of(kind, &error).naming(error.needs)
    }
}

impl Failure {
    /// The same failure with the addresses of targets of the kind that is needed.
    pub fn naming(self, needs: Option<TargetKind>) -> Self {
        match needs {
            Some(TargetKind::Rows) => {
                self.hint("name a target mendb:///dir or postgres://user@host/database")
            }
            Some(TargetKind::Parts) => self.hint("name a target clickhouse://user@host:8123"),
            None => self,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Locked { .. } => FailureKind::Busy,
            Error::BeingRestored { .. }
            | Error::BeingBackedUp { .. }
            | Error::BeingMended { .. } => FailureKind::Retry,
            Error::Storage { .. } | Error::Stopped { .. } | Error::Format { .. } => {
                FailureKind::FixEnvironment
            }
            Error::Unordered { .. } | Error::WrongShard { .. } => FailureKind::ReportBug,
            _ => FailureKind::FixInput,
        };
        let failure = Self::of(kind, &error);
        match &error {
            Error::Locked { .. } => failure.hint(
                "another mendb works on this target: wait for it to end, then run the command again",
            ),
            Error::NoBoundary { path, .. } => failure.hint(format!(
                "mendb table describe {} shows where its shards meet",
                path.split('/').next().unwrap_or(path)
            )),
            Error::TableMissing(_) => failure
                .hint("mendb table list shows the tables there are")
                .absent(),
            Error::BeingRestored { operation, .. }
            | Error::BeingBackedUp { operation, .. }
            | Error::BeingMended { operation, .. } => failure.in_the_way(operation).hint(format!(
                "mendb operation watch {operation} shows how far it is and drives it on"
            )),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_or_a_path() {
        for url in ["mendb:///data/x", "mendb:/data/x", "/data/x"] {
            assert_eq!(directory(url).unwrap(), Path::new("/data/x"), "{url}");
        }
        let relative = std::env::current_dir().unwrap().join("data/x");
        for url in ["mendb:data/x", "mendb://data/x", "data/x", "./data/x"] {
            assert_eq!(directory(url).unwrap(), relative, "{url}");
        }
    }

    #[test]
    fn a_server_is_told_from_a_directory_by_its_scheme() {
        for url in [
            "clickhouse://h:8123/",
            "clickhouses://u@h/",
            "clickhouse://h",
        ] {
            let target = Target::parse(url).unwrap();
            assert!(matches!(target, Target::ClickHouse(_)), "{url}");
        }
        let target = Target::parse("./clickhouse").unwrap();
        assert!(matches!(target, Target::Rows(_)));
    }

    #[test]
    fn an_unknown_scheme_is_named() {
        assert_eq!(
            directory("mysql://host/db").unwrap_err().message,
            "the target \"mysql://host/db\" has the unknown scheme \"mysql\""
        );
        assert!(directory("mendb://").is_err());
    }
}
