//! What a server has open for as long as it runs: the target, the repository, and who drives their operations.
//!
//! *Crash*: what it drives is in journals. *End*: [`House::stop`] leaves every operation where it is.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mendb_model::name::OperationId;
use mendb_model::operation::{OperationHead, State};
use mendb_repo::Repository;
use mendb_rowstore::Database;
use mendb_server::{Events, Pace};
use mendb_service::journal::Journal;
use mendb_service::{Service, Settings, env};
use tokio::runtime::Runtime;

use crate::journals::cluster_journals;
use crate::operations::record::OperationRecord;
use crate::shared::Shared;
use crate::target::StateLock;

/// How often it is looked what other processes left in the journal, when nothing is driven.
const IDLE: Duration = Duration::from_millis(250);
/// After a failure it is tried again after this, and twice as long each time, up to the second.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// So long an operation that works with another repository is not looked at again.
const LEFT_ALONE_MS: u64 = 60_000;
/// Progress of an operation is told that often at most.
const TOLD_EVERY_MS: u64 = 500;
/// So many operations of before are told to who reads events.
const REMEMBERED: usize = 200;
/// Attempts that work have this time to end with the server.
const LAST_WORK: Duration = Duration::from_secs(5);

/// What a server has open.
pub struct House {
    /// For requests to the repository.
    pub runtime: Arc<Runtime>,
    /// Where backups live.
    pub repository: Repository,
    /// The target.
    pub target: Arc<Service>,
    /// The row store that the target is, if it is one.
    pub rows: Option<Database>,
    /// The journal that servers share, if they do.
    pub shared: Option<Arc<Shared>>,
    /// What happens to operations.
    pub events: Arc<Events>,
    /// Of services for the repository alone.
    settings: Mutex<Settings>,
    /// Where the journals of clusters are.
    cluster_state: PathBuf,
    moves: Mutex<u64>,
    moved: Condvar,
    /// Work on repositories that a thread drives.
    maintained: Mutex<BTreeSet<OperationId>>,
    /// What was told last of each operation that is not over.
    told: Mutex<BTreeMap<OperationId, Last>>,
    is_stopping: AtomicBool,
    /// Keeps other processes out.
    _held: Box<dyn Any + Send + Sync>,
}

struct Last {
    at_ms: u64,
    state: State,
    step: u32,
}

/// What a house is made of.
pub struct Opened {
    /// For requests to the repository.
    pub runtime: Arc<Runtime>,
    /// Where backups live.
    pub repository: Repository,
    /// The target.
    pub target: Arc<Service>,
    /// The row store that it is, if it is one.
    pub rows: Option<Database>,
    /// Of services for the repository alone.
    pub settings: Settings,
    /// The journal that servers share, if they do.
    pub shared: Option<Arc<Shared>>,
    /// Where the journals of clusters are.
    pub cluster_state: PathBuf,
    /// Keeps other processes out.
    pub held: Box<dyn Any + Send + Sync>,
}

impl House {
    /// A house in which nobody drives yet.
    pub fn new(opened: Opened) -> Arc<Self> {
        Arc::new(Self {
            runtime: opened.runtime,
            repository: opened.repository,
            target: opened.target,
            rows: opened.rows,
            events: Arc::new(Events::new(env::random_id())),
            settings: Mutex::new(opened.settings),
            shared: opened.shared,
            cluster_state: opened.cluster_state,
            moves: Mutex::new(0),
            moved: Condvar::new(),
            maintained: Mutex::default(),
            told: Mutex::default(),
            is_stopping: AtomicBool::new(false),
            _held: opened.held,
        })
    }

    /// From now on works on the repository alone with other settings.
    pub fn change_settings(&self, settings: Settings) {
        *self.settings() = settings;
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server ends.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    /// Says that something has moved, or should.
    pub fn poke(&self) {
        *self.moves() += 1;
        self.moved.notify_all();
    }

    /// Waits until something moves, but not longer than so.
    pub fn wait(&self, longest: Duration) {
        let moves = self.moves();
        let seen = *moves;
        let still = |moves: &mut u64| *moves == seen && !self.is_stopping();
        drop(self.moved.wait_timeout_while(moves, longest, still));
    }

    /// Waits so long, whatever moves, unless the server ends.
    pub fn wait_for(&self, wait_ms: u64) {
        let begun_ms = env::now_ms();
        loop {
            let waited_ms = env::now_ms().saturating_sub(begun_ms);
            if waited_ms >= wait_ms || self.is_stopping() {
                return;
            }
            self.wait(Duration::from_millis(wait_ms - waited_ms));
        }
    }

    fn moves(&self) -> MutexGuard<'_, u64> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives operations of the target until the server ends: those that it finds, and those that come.
    pub fn drive(&self) {
        let mut left_alone: BTreeSet<OperationId> = BTreeSet::new();
        let mut since_ms = env::now_ms();
        let mut pause = TRY_AGAIN.0;
        while !self.is_stopping() {
            if env::now_ms().saturating_sub(since_ms) > LEFT_ALONE_MS {
                left_alone.clear();
                since_ms = env::now_ms();
            }
            let driven = self.drive_once(&mut left_alone);
            match driven {
                Ok(true) => pause = TRY_AGAIN.0,
                Ok(false) => self.wait(IDLE),
                Err(error) => {
                    let why = mendb_model::describe_error(&error);
                    tracing::error!(why, "operations cannot be driven; it is tried again");
                    self.wait(pause);
                    pause = (pause * 2).min(TRY_AGAIN.1);
                }
            }
        }
    }

    /// Drives what there is. Returns whether there was something.
    fn drive_once(&self, left_alone: &mut BTreeSet<OperationId>) -> mendb_service::Result<bool> {
        if !self.target.has_work(&|id| left_alone.contains(id))? {
            return Ok(false);
        }
        self.target.drive(&mut |operation| self.saw(operation))?;
        // What works with another repository stands still, whatever is done.
        let journal = self.target.journal();
        let commanded = journal.commands()?.into_iter().map(|(_, id, _)| id);
        for id in journal
            .unfinished_operations()?
            .into_iter()
            .chain(commanded)
        {
            if !left_alone.contains(&id) && self.target.check_repository(&id).is_err() {
                left_alone.insert(id);
            }
        }
        Ok(true)
    }

    /// Drives work on a repository alone, in a thread of its own, if none does.
    pub fn maintain(self: &Arc<Self>, directory: &Path, id: &OperationId) {
        let mut maintained = self.maintained();
        if !maintained.insert(id.clone()) {
            return;
        }
        let (house, directory, of) = (Arc::clone(self), directory.to_owned(), id.clone());
        let thread = std::thread::Builder::new().spawn(move || {
            if let Err(why) = house.maintain_here(&directory, &of) {
                tracing::error!(operation_id = %of, why, "work on the repository cannot be driven");
            }
            house.maintained().remove(&of);
            house.poke();
        });
        if let Err(error) = thread {
            tracing::error!(operation_id = %id, %error, "no thread");
            maintained.remove(id);
        }
    }

    fn maintained(&self) -> MutexGuard<'_, BTreeSet<OperationId>> {
        self.maintained
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn maintain_here(&self, directory: &Path, id: &OperationId) -> Result<(), String> {
        let said = |error: mendb_service::Error| mendb_model::describe_error(&error);
        while !self.is_stopping() {
            let Ok(lock) = StateLock::take(directory) else {
                // A command of this machine works there.
                self.wait(IDLE);
                continue;
            };
            let mut beside =
                cluster_journals(&self.cluster_state).map_err(|failure| failure.to_string())?;
            beside.push(self.target.journal().clone());
            let journal = match &self.shared {
                Some(shared) => shared.journal(directory),
                None => Journal::open(directory),
            };
            let service = Service::of_repository(
                self.repository.clone(),
                Arc::clone(&self.runtime),
                journal.map_err(said)?,
                beside,
                self.settings().clone(),
            );
            let driven = service.drive_only(id, &mut |it| self.saw(it));
            drop(lock);
            return driven.map_err(said);
        }
        Ok(())
    }

    /// Goes on with the work on repositories that this server, or one before it, was asked for.
    pub fn go_on_with_maintenance(self: &Arc<Self>, journals: &[(PathBuf, Journal)]) {
        for (directory, journal) in journals {
            let known = journal.keyed_operations().and_then(|keyed| {
                let unfinished = journal.unfinished_operations()?;
                Ok(keyed
                    .into_iter()
                    .filter(move |id| unfinished.contains(id))
                    .collect::<Vec<_>>())
            });
            match known {
                Ok(ids) => ids.iter().for_each(|id| self.maintain(directory, id)),
                Err(error) => {
                    tracing::error!(%error, "what was asked for in a repository is not known");
                }
            }
        }
    }

    /// Tells who reads events of operations of before.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn remember(&self) -> mendb_service::Result<()> {
        let mut operations = self.target.journal().operations()?;
        operations.sort_by_key(|operation| operation.updated_at_ms);
        let skipped = operations.len().saturating_sub(REMEMBERED);
        for operation in operations.iter().skip(skipped) {
            self.tell(operation);
        }
        Ok(())
    }

    /// Takes note of an operation that has moved.
    fn saw(&self, operation: &OperationHead) {
        self.poke();
        let now_ms = env::now_ms();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let id = &operation.operation_id;
        let is_still = operation.awaits_user();
        let is_due = told.get(id).is_none_or(|last| {
            let has_changed = (last.state, last.step) != (operation.state, operation.current_step);
            has_changed || now_ms.saturating_sub(last.at_ms) >= TOLD_EVERY_MS
        });
        if !is_due && !is_still {
            return;
        }
        if operation.state.is_terminal() {
            told.remove(id);
        } else {
            let last = Last {
                at_ms: now_ms,
                state: operation.state,
                step: operation.current_step,
            };
            told.insert(id.clone(), last);
        }
        drop(told);
        tracing::info!(
            operation_id = %id,
            kind = operation.request.kind(),
            collection = operation.request.collection(),
            state = operation.state.name(),
            step = operation.current_step,
            percent = operation.progress().percent,
            error = operation.error.as_deref(),
            "an operation has moved"
        );
        #[cfg(feature = "otlp")]
        crate::log::traces::saw(operation);
        self.tell(operation);
    }

    fn tell(&self, operation: &OperationHead) {
        let record = OperationRecord::new(operation);
        let Ok(data) = serde_json::to_string(&record) else {
            return;
        };
        let pace = match operation.state.is_terminal() {
            true => Pace::Over,
            false if operation.awaits_user() => Pace::Rests,
            false => Pace::Moves,
        };
        self.events
            .tell(operation.operation_id.as_str(), pace, &data);
    }

    /// Ends what works. Operations stay where they are.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.poke();
        if !self.target.stop(LAST_WORK) {
            tracing::warn!("some work did not end in time; the next server goes on with it");
        }
    }
}
