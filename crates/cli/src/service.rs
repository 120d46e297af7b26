//! Opening the service on target and repository, and what its errors are to users.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use mendb_engines::Engine;
use mendb_engines::agents::{AgentTls, Cluster};
use mendb_engines::row::RowEngine;
use mendb_model::operation::Limits;
use mendb_repo::clickhouse_backup::ImportError;
use mendb_repo::{Repository, RepositoryOptions, RetryPolicy};
use mendb_rowstore::Database;
use mendb_service::journal::Journal;
use mendb_service::{Conflicts, HolderFate, Rates, Service, Settings};
use tokio::runtime::Runtime;

use crate::backup_name;
use crate::cluster::topology::Topology;
use crate::cluster::{addresses, coordinator, inserts};
use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::journals::cluster_journals;
use crate::owner::Owner;
use crate::target::{OpenTarget, StateLock};

/// How the journals of work on repositories are kept elsewhere.
pub const STATE_ELSEWHERE: &str = "run mendb as a user who may write there; the setting repository.state (MENDB_REPOSITORY_STATE) names another place";

/// So many shards of a cluster are worked on at a time, each by a thread that mostly waits for its agent.
const SHARDS_AT_ONCE: u32 = 256;

/// A service, and what keeps other processes from driving the same operations. Dropped in this order.
pub struct OpenService {
    service: Arc<Service>,
    held: Held,
}

/// What one process at a time has.
pub enum Held {
    /// The target.
    Target {
        /// It.
        target: OpenTarget,
    },
    /// The directory of the journal of a repository or a cluster.
    Repository {
        /// Its lock.
        _lock: StateLock,
    },
    /// What the server has that runs the command.
    Served,
}

impl Held {
    /// The row store that is held, if it is one.
    pub fn rows(&self) -> Option<Database> {
        match self {
            Self::Target { target } => target.rows.clone(),
            Self::Repository { .. } | Self::Served => None,
        }
    }
}

impl OpenService {
    /// The service, and what has to be held as long as it is used.
    pub fn apart(self) -> (Arc<Service>, Held) {
        (self.service, self.held)
    }
}

impl Deref for OpenService {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl Context {
    /// A runtime for requests to the repository.
    pub fn runtime(&self) -> Result<Arc<Runtime>, Failure> {
        if let Some(session) = &self.session {
            return Ok(Arc::clone(&session.house.runtime));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::io("cannot start threads", &error))?;
        Ok(Arc::new(runtime))
    }

    /// How repositories are used.
    pub fn repository_options(&self) -> RepositoryOptions {
        let settings = &self.settings;
        let attempts = u32::try_from(settings.repository_attempts).unwrap_or(u32::MAX);
        RepositoryOptions {
            retry: RetryPolicy {
                attempts,
                ..RetryPolicy::default()
            },
            segment_bytes: settings.segment_bytes,
            zstd_level: i32::try_from(settings.zstd_level).unwrap_or(1),
            upload_bytes_per_s: settings.upload_bytes_per_s,
            download_bytes_per_s: settings.download_bytes_per_s,
            transfers: usize::try_from(settings.transfers).unwrap_or(usize::MAX),
            ..RepositoryOptions::default()
        }
    }

    /// Opens the repository.
    ///
    /// # Errors
    /// The URL is wrong, the place cannot be reached, or it is of an unknown format.
    pub fn open_repository(&self, runtime: &Runtime) -> Result<Repository, Failure> {
        if let Some(session) = &self.session {
            return Ok(session.house.repository.clone());
        }
        let opened = Repository::open(&self.settings.repository, self.repository_options());
        Ok(runtime.block_on(opened)?)
    }

    /// Opens target, repository and journal.
    ///
    /// # Errors
    /// Any of them cannot be opened; the target also when another process has it open.
    pub fn open_service(&self) -> Result<OpenService, Failure> {
        if let Some(served) = self.served() {
            return Ok(served);
        }
        match self.target_cluster()? {
            Some(cluster) => {
                self.open_cluster_in(&self.cluster_directory(&cluster), Some(&cluster))
            }
            None => self.open_service_of(self.open_target()?),
        }
    }

    /// The service that the server has which runs the command, if one does.
    fn served(&self) -> Option<OpenService> {
        let session = self.session.as_ref()?;
        Some(OpenService {
            service: Arc::clone(&session.house.target),
            held: Held::Served,
        })
    }

    fn open_service_of(&self, target: OpenTarget) -> Result<OpenService, Failure> {
        let runtime = self.runtime()?;
        let repository = self.open_repository(&runtime)?;
        let engine = Arc::clone(&target.engine);
        let service = self.service_of(runtime, repository, engine, &target.journal_directory)?;
        Ok(OpenService {
            service: Arc::new(service),
            held: Held::Target { target },
        })
    }

    /// Opens repository and journal, and looks at the target, which of rows another process may have open: for
    /// what changes none of them.
    ///
    /// # Errors
    /// Any of them cannot be opened.
    pub fn look(&self) -> Result<OpenService, Failure> {
        if let Some(served) = self.served() {
            return Ok(served);
        }
        match self.target_cluster()? {
            Some(_) => self.open_service(),
            None => self.open_service_of(self.look_at_target()?),
        }
    }

    /// Opens what drives operations, for who tries again; `None` while another process drives them, which is not
    /// waited for.
    ///
    /// # Errors
    /// It cannot be opened for another reason.
    pub fn try_open_at_once(&self, owner: &Owner) -> Result<Option<OpenService>, Failure> {
        if self.session.is_some() {
            return Ok(None);
        }
        unless_busy(match owner {
            Owner::Target => match self.target_cluster()? {
                Some(_) => self.open_service(),
                None => {
                    let target = self.open_target_at_once();
                    target.and_then(|target| self.open_service_of(target))
                }
            },
            Owner::Repository(directory) => lock_state(directory).and_then(|lock| {
                let runtime = self.runtime()?;
                let repository = self.open_repository(&runtime)?;
                let service = self.repository_service(repository, runtime, directory)?;
                Ok(OpenService {
                    service: Arc::new(service),
                    held: Held::Repository { _lock: lock },
                })
            }),
            Owner::Cluster(directory) => self.open_cluster_in(directory, None),
        })
    }

    /// Opens repository and journal for a row store that is open.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open_service_on(&self, database: Database) -> Result<Service, Failure> {
        let runtime = self.runtime()?;
        let repository = self.open_repository(&runtime)?;
        let engine = Arc::new(RowEngine::new(database));
        self.service_of(runtime, repository, engine, &self.journal_directory()?)
    }

    fn service_of(
        &self,
        runtime: Arc<Runtime>,
        repository: Repository,
        engine: Arc<dyn Engine>,
        journal_directory: &Path,
    ) -> Result<Service, Failure> {
        let settings = self.service_settings(self.target()?.shown_url());
        let journal = self.open_journal_in(journal_directory)?;
        let service = Service::with_journal(engine, repository, runtime, journal, settings);
        Ok(service?)
    }

    /// A service for a repository alone, with its journal in a directory.
    ///
    /// # Errors
    /// The journal of the target, one of a cluster, or this one cannot be opened.
    pub fn repository_service(
        &self,
        repository: Repository,
        runtime: Arc<Runtime>,
        directory: &Path,
    ) -> Result<Service, Failure> {
        let mut beside = cluster_journals(&self.settings.cluster_state)?;
        beside.extend(self.open_journal()?);
        let settings = self.service_settings(String::new());
        let journal = self.open_journal_in(directory)?;
        Ok(Service::of_repository(
            repository, runtime, journal, beside, settings,
        ))
    }

    /// What a service is told of the settings.
    pub fn service_settings(&self, target_url: String) -> Settings {
        let settings = &self.settings;
        let limits = Limits {
            max_in_flight: u32::try_from(settings.max_in_flight).unwrap_or(u32::MAX),
            step_budget_ms: settings.step_deadline_s.saturating_mul(1000),
            operation_budget_ms: settings.operation_deadline_s.saturating_mul(1000),
            ..Limits::default()
        };
        Settings {
            limits,
            target_url,
            host: host(),
        }
    }

    /// Opens the journal of a cluster, as a new process of its coordinator: what earlier ones ask from now on is refused.
    /// Agents are where the list says that is given, or was given last.
    ///
    /// # Errors
    /// [`FailureKind::Busy`] while another process has it; the settings do not say how agents are reached, or something
    /// cannot be opened.
    pub fn open_cluster_in(
        &self,
        directory: &Path,
        list: Option<&Topology>,
    ) -> Result<OpenService, Failure> {
        if let Some(served) = self.served() {
            return Ok(served);
        }
        let tls = agent_tls(&self.settings)?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let inserts = inserts::of_settings(&self.settings, &name)?;
        let rates = Rates {
            upload: self.settings.upload_bytes_per_s,
            download: self.settings.download_bytes_per_s,
        };
        let lock = lock_state(directory).map_err(|failure| match failure.kind {
            FailureKind::Busy => {
                failure.hint("another mendb of this machine works on this cluster")
            }
            _ => {
                failure.hint("the setting cluster.state (MENDB_CLUSTER_STATE) names another place")
            }
        })?;
        let addresses = match list {
            None => addresses::read(directory)?,
            Some(list) => {
                let listed = addresses::of_list(list);
                addresses::keep(directory, &listed)?;
                listed
            }
        };
        let coordinator = coordinator::raised(directory, host())?;
        let runtime = self.runtime()?;
        let repository = self.open_repository(&runtime)?;
        let settings = self.service_settings(format!("cluster {name}"));
        let settings = Settings {
            limits: Limits {
                max_in_flight: SHARDS_AT_ONCE,
                // What is not begun is not begun once the operation is given up.
                requested_ahead: 0,
                ..settings.limits
            },
            ..settings
        };
        let engine = Arc::new(Cluster::new(&tls, coordinator, addresses, inserts, rates)?);
        let service = Service::new(engine, repository, runtime, directory, settings)?;
        Ok(OpenService {
            service: Arc::new(service),
            held: Held::Repository { _lock: lock },
        })
    }

    /// Opens the journal alone, which works while another process has the target open.
    ///
    /// # Errors
    /// The target has none, or it cannot be read.
    pub fn open_journal(&self) -> Result<Option<Journal>, Failure> {
        let directory = self.journal_directory()?;
        if !Journal::exists(&directory) {
            return Ok(None);
        }
        Ok(Some(self.open_journal_in(&directory)?))
    }
}

/// Takes the directory of the journal of a repository.
///
/// # Errors
/// [`FailureKind::Busy`] while another process has it, or it cannot be written.
pub fn lock_state(directory: &Path) -> Result<StateLock, Failure> {
    StateLock::take(directory).map_err(|failure| match failure.kind {
        FailureKind::Busy => failure.hint("another mendb of this machine works in this repository"),
        _ => failure.hint(STATE_ELSEWHERE),
    })
}

/// What the coordinator of a cluster and its agents know each other by.
///
/// # Errors
/// The settings do not say.
fn agent_tls(settings: &crate::settings::Settings) -> Result<AgentTls, Failure> {
    let named = |path: &Option<std::path::PathBuf>, key: &str| {
        path.clone().ok_or_else(|| {
            Failure::misuse(format!("{key} is not set, and agents are reached with mutual TLS alone")).hint(
                "cluster.tls_cert and cluster.tls_key name the certificate of this machine and its key, cluster.tls_ca who \
                 signed those of the agents: in mendb.yml, or as MENDB_CLUSTER_TLS_CERT and so on",
            )
        })
    };
    Ok(AgentTls {
        certificate: named(&settings.cluster_tls_cert, "cluster.tls_cert")?,
        key: named(&settings.cluster_tls_key, "cluster.tls_key")?,
        ca: named(&settings.cluster_tls_ca, "cluster.tls_ca")?,
    })
}

/// What was opened; `None` where another process has the target open.
fn unless_busy(opened: Result<OpenService, Failure>) -> Result<Option<OpenService>, Failure> {
    match opened {
        Ok(service) => Ok(Some(service)),
        Err(failure) if failure.kind == FailureKind::Busy => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The name of this host, where the system tells it.
pub fn host() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

impl From<mendb_service::Error> for Failure {
    fn from(error: mendb_service::Error) -> Self {
        use mendb_service::Error as E;
        if let E::Repository(error) = error {
            return error.into();
        }
        let kind = match &error {
            E::Refused { .. }
            | E::InTheWay { .. }
            | E::FullNeeded { .. }
            | E::NothingFits { .. }
            | E::Conflicts(_)
            | E::UnknownOperation(_)
            | E::UnknownCollection(_)
            | E::Illegal(_)
            | E::Plan(_) => FailureKind::FixInput,
            E::BadName(_) => FailureKind::FixCommand,
            error if error.is_retriable() => FailureKind::Retry,
            _ => FailureKind::FixEnvironment,
        };
        let mut failure = Self::of(kind, &error);
        match &error {
            E::NothingFits { unmatched } => failure.unmatched = unmatched.as_slice().into(),
            E::Conflicts(conflicts) => {
                failure.causes = causes(conflicts);
                failure.conflicts = Some(conflicts.clone());
            }
            E::UnknownOperation(_) | E::UnknownCollection(_) => failure.is_absent = true,
            E::FullNeeded { .. } => failure.needs_full = true,
            E::InTheWay { is_moving, .. } => failure.passes = *is_moving,
            _ => {}
        }
        match (error.hint(), &error) {
            (Some(hint), _) => failure.hint(hint),
            (None, E::Engine(error)) => failure.naming(error.needs),
            (None, _) => failure,
        }
    }
}

/// The first rows that stand in the way of a mend.
fn causes(conflicts: &Conflicts) -> Vec<String> {
    const NAMED: usize = 10;
    let refusing = |fate| conflicts.of(fate).collect::<Vec<_>>();
    let mut of_fate = refusing(HolderFate::InBackup);
    of_fate.extend(refusing(HolderFate::Stays));
    let mut count = conflicts.count;
    if of_fate.is_empty() {
        of_fate = conflicts.of(HolderFate::Erased).collect();
        count = of_fate.len() as u64;
    }
    let named = of_fate.iter().take(NAMED);
    let mut causes: Vec<String> = named.map(ToString::to_string).collect();
    if count > causes.len() as u64 {
        causes.push(format!("and {} more", count - causes.len() as u64));
    }
    causes
}

impl From<mendb_repo::Error> for Failure {
    fn from(error: mendb_repo::Error) -> Self {
        let kind = match &error {
            mendb_repo::Error::Url { .. }
            | mendb_repo::Error::Name(_)
            | mendb_repo::Error::NoLogPlace { .. }
            | mendb_repo::Error::NoSharedLog { .. }
            | mendb_repo::Error::NoBucket { .. } => FailureKind::FixCommand,
            mendb_repo::Error::NoSuchBackup { .. }
            | mendb_repo::Error::AmbiguousLabel { .. }
            | mendb_repo::Error::CannotCompact { .. }
            | mendb_repo::Error::Claimed { .. } => FailureKind::FixInput,
            mendb_repo::Error::NotLeading { .. } => FailureKind::Retry,
            error if error.is_retriable() => FailureKind::Retry,
            _ => FailureKind::FixEnvironment,
        };
        let mut failure = Self::of(kind, &error);
        failure.is_absent = matches!(error, mendb_repo::Error::NoSuchBackup { .. });
        // What removes backups ends, or another process takes its place.
        failure.passes = matches!(
            error,
            mendb_repo::Error::Leased { .. } | mendb_repo::Error::Leaving { .. }
        );
        match error {
            mendb_repo::Error::NoSuchBackup {
                collection,
                wanted,
                there,
                ..
            } => failure.hint(backup_name::meant(&collection, &wanted, &there)),
            mendb_repo::Error::Claimed { collection, by, .. } => failure.hint(format!(
                "finish that backup (mendb operation list shows it), or remove what there is of it: mendb delete \
                 {collection}/{by}"
            )),
            mendb_repo::Error::Leased { .. } => failure.hint("try again when it is done"),
            mendb_repo::Error::NotLeading { .. } => {
                failure.hint("ask the server that leads now, with the same idempotency key")
            }
            mendb_repo::Error::NoSharedLog { .. } => failure.hint(
                "name a place with conditional writes, as S3 has them, for --journal, or leave it out: the journal is \
                 beside the target then, for one server",
            ),
            mendb_repo::Error::NoBucket { .. } => {
                failure.hint("make the bucket first, or name one that is there")
            }
            mendb_repo::Error::Leaving { .. } => {
                failure.hint("take a full backup, or the same again when that backup is gone")
            }
            _ => failure,
        }
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Store(error) => error.into(),
            ImportError::NoSuchBackup { .. } | ImportError::NoSuchTable { .. } => {
                Self::of(FailureKind::FixInput, &error)
            }
            error => Self::of(FailureKind::FixEnvironment, &error),
        }
    }
}
