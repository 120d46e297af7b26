//! The front door of the service.

use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mendb_engines::{Engine, NoTarget};
use mendb_model::TargetMark;
use mendb_model::name::{OperationId, check};
use mendb_model::operation::{Operation, OperationHead, State, StepKind};
use mendb_repo::Repository;
use tokio::runtime::Runtime;

use crate::attempt::Tools;
use crate::coordinator::{Coordinator, Observer};
use crate::env;
use crate::error::{Error, Result};
use crate::front::{Front, Settings};
use crate::journal::Journal;
use crate::journal::collection::Collection;
use crate::journal::command::Command;
use crate::reconcile;
use crate::ways_on::ways_on;
use crate::wire::{Direct, End, Wire};
use crate::worker::Workers;

/// Backs up and restores one target. Made by the one process that has the target open; or by any that only
/// looks at it ([`mendb_engines::Data::Look`]): then what changes the target is refused.
pub struct Service {
    front: Front,
    workers: Workers,
    wire: Arc<dyn Wire>,
    /// Held by the thread that drives.
    driving: Mutex<()>,
    /// Whether it was told to stop.
    is_stopped: AtomicBool,
    /// Keeps the runtime that `tools` point to.
    _runtime: Arc<Runtime>,
}

/// What users ask of a service.
impl Deref for Service {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

impl Service {
    /// A service for a target and a repository, with its journal in a directory of the target.
    ///
    /// # Errors
    /// The journal cannot be opened, or the target does not keep an id.
    pub fn new(
        engine: Arc<dyn Engine>,
        repository: Repository,
        runtime: Arc<Runtime>,
        journal_directory: &Path,
        settings: Settings,
    ) -> Result<Self> {
        let journal = Journal::open(journal_directory)?;
        Self::with_journal(engine, repository, runtime, journal, settings)
    }

    /// A service for a target and a repository, with a journal that is open.
    ///
    /// # Errors
    /// The target does not keep an id.
    pub fn with_journal(
        engine: Arc<dyn Engine>,
        repository: Repository,
        runtime: Arc<Runtime>,
        journal: Journal,
        settings: Settings,
    ) -> Result<Self> {
        let handle = runtime.handle().clone();
        let target = TargetMark {
            target_id: engine.identify(&env::random_id())?,
            url: settings.target_url.clone(),
            host: settings.host.clone(),
        };
        let tools = Tools::new(engine, repository, handle, Some(target));
        Ok(Self::with_tools(
            Arc::new(journal),
            tools,
            runtime,
            settings,
        ))
    }

    /// A service for a repository alone, with a journal of its own: it folds and removes backups, and knows no target.
    /// Backups that unfinished operations in the journals `beside` need are left alone. Made by one process at a time
    /// for a journal.
    pub fn of_repository(
        repository: Repository,
        runtime: Arc<Runtime>,
        journal: Journal,
        beside: Vec<Journal>,
        settings: Settings,
    ) -> Self {
        let journal = Arc::new(journal.beside(beside));
        let handle = runtime.handle().clone();
        let tools = Tools::new(Arc::new(NoTarget), repository, handle, None);
        Self::with_tools(journal, tools, runtime, settings)
    }

    fn with_tools(
        journal: Arc<Journal>,
        tools: Tools,
        runtime: Arc<Runtime>,
        settings: Settings,
    ) -> Self {
        Self {
            workers: Workers::new(tools.clone(), settings.limits.lease_ms),
            front: Front::new(journal, tools, settings.limits),
            wire: Arc::new(Direct),
            driving: Mutex::new(()),
            is_stopped: AtomicBool::new(false),
            _runtime: runtime,
        }
    }

    /// The same service with its messages on another wire.
    #[must_use]
    pub fn with_wire(mut self, wire: Arc<dyn Wire>) -> Self {
        self.wire = wire;
        self
    }

    /// Runs unfinished operations until none can move without a user. Operations that other threads
    /// request meanwhile are run too; those that work with another repository are left alone. Only one
    /// thread drives; another that calls this waits its turn.
    ///
    /// # Errors
    /// The journal or the catalogue of the target cannot be read or written, or the repository cannot be
    /// reached at all. What operations meet is in their own records, not here.
    pub fn drive(&self, observer: Observer<'_>) -> Result<()> {
        self.drive_some(None, observer)
    }

    /// Has the driving thread end soon, now and from now on, and waits so long at most for the attempts that work: what they
    /// hold on a server they let go. Operations stay where they are, and the next process goes on with them. Returns
    /// whether all attempts have ended.
    pub fn stop(&self, longest: Duration) -> bool {
        self.is_stopped.store(true, Ordering::SeqCst);
        let have_ended = self.workers.stop(longest);
        if have_ended {
            // Who drives hears of it within a moment.
            drop(self.driving());
        }
        have_ended
    }

    /// Whether an operation waits to be driven, or a command to be taken, as far as `ignores` does not say that it is
    /// known already and stands still: an operation that works with another repository.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn has_work(&self, ignores: &dyn Fn(&OperationId) -> bool) -> Result<bool> {
        let commands = self.journal.commands()?;
        if commands.iter().any(|(_, id, _)| !ignores(id)) {
            return Ok(true);
        }
        for id in self.journal.unfinished_operations()? {
            if !ignores(&id) && !self.journal.operation_head(&id)?.awaits_user() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn drive_some(&self, only: Option<&OperationId>, observer: Observer<'_>) -> Result<()> {
        let _driving = self.driving();
        let repository_id = self.set_right()?;
        let (own, of_workers) = self.wire.connect();
        let coordinator = Coordinator::new(&self.journal, own, repository_id, only.cloned())
            .until(&self.is_stopped);
        std::thread::scope(|scope| {
            let workers = std::thread::Builder::new();
            let serving = workers.spawn_scoped(scope, || self.workers.serve(of_workers));
            let _serving = serving.map_err(|source| Error::Io {
                action: "cannot begin to work".to_owned(),
                source,
            })?;
            // When it ends, so does its end of the wire, and with that who serves it.
            coordinator.run(observer)
        })
    }

    /// Works for a coordinator in another process, which drives operations of the journal of this service, until it is
    /// gone. Returns the id of the repository with which it is to drive them by `connect`, which gives the wire to it.
    ///
    /// # Errors
    /// As [`Self::drive`], or there is no connection.
    pub fn work_for(
        &self,
        connect: impl FnOnce(Option<String>) -> std::io::Result<End>,
    ) -> Result<()> {
        let _driving = self.driving();
        let end = connect(self.set_right()?).map_err(|source| Error::Io {
            action: "cannot reach the coordinator".to_owned(),
            source,
        })?;
        self.workers.serve(end);
        Ok(())
    }

    fn driving(&self) -> MutexGuard<'_, ()> {
        self.driving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets right what a crash left between journal and target. Returns the id of the repository.
    fn set_right(&self) -> Result<Option<String>> {
        let repository_id = self.repository_id()?;
        reconcile::start_forgotten_merges(&self.journal, &self.tools, repository_id.as_deref())?;
        reconcile::release_orphaned_locks(&self.journal, &self.tools)?;
        Ok(repository_id)
    }

    /// As [`Self::drive`], of one operation alone: others stay where they are.
    ///
    /// # Errors
    /// As [`Self::drive`].
    pub fn drive_only(&self, id: &OperationId, observer: Observer<'_>) -> Result<()> {
        self.drive_some(Some(id), observer)
    }

    /// Refuses to drive an operation that works with another repository than ours.
    ///
    /// # Errors
    /// It does, or there is no such operation.
    pub fn check_repository(&self, id: &OperationId) -> Result<()> {
        let operation = self.journal.operation_head(id)?;
        let found = self.repository_id()?;
        if operation.works_with(found.as_deref()) {
            return Ok(());
        }
        let (its, ours) = (&operation.repository_url, self.tools.repository.url());
        let message = match (found.is_some(), its == ours) {
            (false, true) => {
                format!("the repository {ours}, with which operation {id} works, is not there")
            }
            (false, false) => format!(
                "operation {id} works with the repository {its}, and at {ours} there is none"
            ),
            (true, true) => {
                format!("the repository at {ours} is not the one that operation {id} works with")
            }
            (true, false) => {
                format!("operation {id} works with the repository {its}, not with {ours}")
            }
        };
        let bring = if its == ours {
            "bring it back there, as by mounting its disk, or name with --repository where it is now"
        } else {
            "name its repository with --repository"
        };
        Err(Error::refused(
            message,
            format!(
                "{bring}; if that is gone for good: mendb operation abandon {id}; nothing was asked of the operation"
            ),
        ))
    }

    /// Asks something of an operation. It happens when it is driven next, here or by the process
    /// that is driving it now. Returns the id of the record that says so, by which it can be withdrawn.
    ///
    /// # Errors
    /// There is no such operation, or its state does not allow it.
    pub fn command(&self, id: &OperationId, command: Command) -> Result<i64> {
        if matches!(command, Command::Resume(_) | Command::TakeOver(_)) {
            self.check_resumable(&self.journal.operation_head(id)?)?;
        }
        command_through(&self.journal, id, command)
    }

    /// Removes the record of an operation that is over, and what a mend has kept to be undone by.
    ///
    /// # Errors
    /// There is no such operation, or it is not over: then its locks would have no owner; or an undo that
    /// is not over needs what it has kept.
    pub fn forget(&self, id: &OperationId) -> Result<()> {
        let _one_at_a_time = self.requests();
        let operation = self.journal.operation_head(id)?;
        check_forgettable(&self.journal, &operation)?;
        self.let_go(&operation)?;
        self.journal.delete_operation(id)
    }

    /// Ends an operation whose repository is gone for good, on the target alone, and removes its record.
    /// What readers do not see yet is given up, what was proved and is being made visible is completed, and
    /// its tables are open to writers again. What it wrote to the repository stays there. After a crash,
    /// the same again.
    ///
    /// So it does with one that the journal does not know and that the target holds something for.
    ///
    /// # Errors
    /// There is no such operation, it is over, or the target is no row store; the target or the journal
    /// cannot be written.
    pub fn abandon(&self, id: &OperationId) -> Result<()> {
        let _driving = self.driving();
        let operation = match self.journal.operation_head(id) {
            Err(Error::UnknownOperation(_)) => return self.abandon_orphan(id),
            operation => operation?,
        };
        if matches!(operation.state, State::Done | State::Cancelled) {
            return Err(Error::refused(
                format!("operation {id} is over"),
                format!("mendb operation forget {id} removes its record"),
            ));
        }
        let engine = &self.tools.engine;
        let rows = engine.rows()?;
        if rows.is_published(id.as_str())? {
            engine.make_live(id.as_str())?;
        } else if operation.step_kind() == StepKind::Finish {
            rows.publish_mend(id.as_str())?;
            engine.make_live(id.as_str())?;
        } else {
            engine.drop_staged(id.as_str())?;
        }
        engine.thaw(id.as_str())?;
        self.journal.delete_operation(id)
    }

    /// Creates a collection of tables that exist and belong to no other.
    ///
    /// # Errors
    /// A name is bad or taken, a table is missing, named twice, or in another collection.
    pub fn create_collection(&self, name: &str, tables: &[String]) -> Result<()> {
        let _one_at_a_time = self.requests();
        check(name)?;
        if tables.is_empty() {
            return Err(Error::refused(
                "a collection needs at least one table",
                "name tables with --table",
            ));
        }
        for (at, table) in tables.iter().enumerate() {
            if tables[..at].contains(table) {
                return Err(Error::refused(
                    format!("table {table} is named twice"),
                    "name it once",
                ));
            }
            if self.tools.engine.rows()?.inspect(table)?.is_none() {
                return Err(Error::refused(
                    format!("table {table} does not exist"),
                    "mendb table list shows those there are",
                ));
            }
        }
        for other in self.journal.collections()? {
            if let Some(table) = tables.iter().find(|table| other.tables.contains(table)) {
                return Err(Error::refused(
                    format!(
                        "table {table} belongs to collection {} already",
                        other.collection
                    ),
                    "a table belongs to one collection: its changes are kept once",
                ));
            }
        }
        let collection = Collection {
            collection: name.to_owned(),
            tables: tables.to_vec(),
            created_at_ms: env::now_ms(),
        };
        if self.journal.insert_collection(&collection)? {
            return Ok(());
        }
        Err(Error::refused(
            format!("collection {name} exists already"),
            "mendb collection show tells its tables",
        ))
    }

    /// Removes a collection and its streams. Its backups stay where they are.
    ///
    /// # Errors
    /// There is no such collection, or an operation works on it.
    pub fn drop_collection(&self, name: &str) -> Result<()> {
        let _one_at_a_time = self.requests();
        let collection = self.collection(name)?;
        let open = self
            .journal
            .open_operations()?
            .into_iter()
            .find(|operation| {
                operation.request.takes_backup() && operation.request.collection() == name
            });
        if let Some(operation) = open {
            return Err(Error::refused(
                format!(
                    "collection {name} is at work in operation {}",
                    operation.operation_id
                ),
                ways_on(&operation),
            ));
        }
        let prefix = format!("{name}/");
        for table in &collection.tables {
            let live = self.tools.engine.rows()?.inspect(table)?;
            for stream in live.into_iter().flat_map(|live| live.streams) {
                if stream.name.starts_with(&prefix) {
                    self.tools.engine.rows()?.detach_stream(&stream.name)?;
                }
            }
        }
        self.journal.delete_collection(name)?;
        Ok(())
    }
}

/// Leaves a command in the journal, after trying it on the operation as it is recorded. Returns the id of its
/// record.
///
/// # Errors
/// There is no such operation, or its state does not allow it.
pub fn command_through(journal: &Journal, id: &OperationId, command: Command) -> Result<i64> {
    let mut trial: Operation = journal.operation(id)?;
    let context = mendb_model::operation::Context {
        now_ms: env::now_ms(),
        jitter: 0.0,
    };
    trial.step(context, command.clone().event())?;
    journal.insert_command(id, command)
}

/// Removes the record of an operation that is over.
///
/// # Errors
/// There is no such operation, it is not over, or an undo that is not over needs what it has kept.
pub fn forget_through(journal: &Journal, id: &OperationId) -> Result<()> {
    check_forgettable(journal, &journal.operation_head(id)?)?;
    journal.delete_operation(id)
}

fn check_forgettable(journal: &Journal, operation: &OperationHead) -> Result<()> {
    let id = &operation.operation_id;
    for other in journal.operations()? {
        let is_over = matches!(other.state, State::Done | State::Cancelled);
        if !is_over && other.request.undoes() == Some(id) {
            return Err(needed(operation, &other));
        }
    }
    let takes_backup = operation.request.takes_backup();
    match operation.state {
        State::Done | State::Cancelled => Ok(()),
        // It holds nothing: what it has begun to remove, the next who removes something ends.
        State::Failed if !operation.request.has_target() => Ok(()),
        // Rolling back begins with the target: only leftovers in the repository can be left.
        State::Failed if takes_backup && operation.step_kind() == StepKind::Rollback => Ok(()),
        State::Failed => Err(Error::refused(
            format!("operation {id} failed and may have left tables locked or half done"),
            ways_on(operation),
        )),
        _ => Err(Error::refused(
            format!("operation {id} is not over"),
            ways_on(operation),
        )),
    }
}

/// That an operation must not be forgotten: another, which is not over, takes it back by what it has kept.
fn needed(operation: &OperationHead, by: &OperationHead) -> Error {
    let (id, by_id) = (&operation.operation_id, &by.operation_id);
    let how = if by.is_paused() {
        "paused"
    } else {
        by.state.name()
    };
    Error::refused(
        format!("operation {by_id} ({how}) takes {id} back, and needs what it has kept"),
        format!(
            "mendb operation resume {by_id} or mendb operation watch {by_id} finishes that, mendb operation \
             cancel {by_id} gives it up"
        ),
    )
}
