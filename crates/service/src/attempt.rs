//! One attempt at one task. It works with an engine, a repository and its own part of the journal.

use std::any::{Any, TypeId};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mendb_engines::Engine;
use mendb_model::TargetMark;
use mendb_model::manifest::Manifest;
use mendb_model::operation::{ChainLink, Report, ReportStatus, TaskOutput};
use mendb_model::part::PartStoreBackup;
use mendb_repo::Repository;
use tokio::runtime::Handle;

use crate::env;
use crate::error::{self, Error};
use crate::journal_port::JournalPort;
use crate::manifests::{Manifests, changed};
use crate::task_error::{TaskError, TaskResult};
use crate::wire::{Message, TaskRequest};

/// How often an attempt that waits for the repository looks whether it was told to stop.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What attempts work with in this process.
#[derive(Clone)]
pub struct Tools {
    /// The database.
    pub engine: Arc<dyn Engine>,
    /// Where backups live.
    pub repository: Repository,
    /// Runs the requests to the repository.
    pub runtime: Handle,
    /// The manifests that the operations of this process work with.
    pub manifests: Manifests,
    /// What the backups of the database say that they are of; `None` where there is no database.
    pub target: Option<TargetMark>,
    /// What attempts keep for those after them.
    pub(crate) kept: Kept,
}

/// What attempts of a process keep for those after them, by its type: it saves time, and is found out again where it
/// is gone.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>);

impl Kept {
    /// What is kept of a type; nothing of it at first.
    pub(crate) fn of<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_type = kept.entry(TypeId::of::<T>());
        let found = of_type.or_insert_with(|| Arc::<T>::default());
        Arc::clone(found).downcast().unwrap_or_default()
    }
}

impl Tools {
    /// What joins an engine and a repository.
    pub fn new(
        engine: Arc<dyn Engine>,
        repository: Repository,
        runtime: Handle,
        target: Option<TargetMark>,
    ) -> Self {
        Self {
            engine,
            repository,
            runtime,
            manifests: Manifests::default(),
            target,
            kept: Kept::default(),
        }
    }

    /// What a backup of parts has of the database: all of it, or of the backup of a cluster what it has of a shard, which
    /// is that of the database where none is named.
    pub(crate) fn own_store<'m>(
        &self,
        manifest: &'m Manifest,
        shard: Option<&str>,
    ) -> Option<Cow<'m, PartStoreBackup>> {
        let store = manifest.part_store.as_ref()?;
        let mut shards = store.shards.iter();
        match (shard, shards.find(|shard| self.is_of(&shard.target))) {
            _ if store.shards.is_empty() => Some(Cow::Borrowed(store)),
            (Some(shard), _) => store.of_shard(shard).map(Cow::Owned),
            (None, Some(own)) => store.of_shard(&own.shard).map(Cow::Owned),
            (None, None) => None,
        }
    }

    /// Whether a mark is that of the database.
    pub(crate) fn is_of(&self, mark: &TargetMark) -> bool {
        let own = self.target.as_ref();
        own.is_some_and(|own| own.is_same(mark))
    }

    /// The manifest of a link of a chain, if it is still the one that was planned with. Blocks.
    pub(crate) fn manifest(
        &self,
        collection: &str,
        link: &ChainLink,
    ) -> error::Result<Arc<Manifest>> {
        if let Some(known) = self.manifests.get(collection, link) {
            return Ok(known);
        }
        let work = self.repository.manifest(collection, &link.backup_id);
        let stored = self.runtime.block_on(work)?;
        let kept = self.manifests.insert(link, stored);
        kept.ok_or_else(|| Error::Refused {
            message: changed(link),
            hint: None,
        })
    }
}

/// How far an attempt is: what its next report says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub last_key: Option<Vec<u8>>,
    pub rows: u64,
    pub bytes: u64,
    /// Of segments only those that no report has named yet.
    pub output: TaskOutput,
    /// How many segments come before those.
    pub segments_before: usize,
}

/// One attempt at work.
pub(crate) struct Attempt<'a> {
    pub tools: &'a Tools,
    pub request: &'a TaskRequest,
    /// What the journal has of its operation.
    pub journal: JournalPort<'a>,
    stopped: &'a AtomicBool,
    send: &'a (dyn Fn(Message) + Sync),
}

impl<'a> Attempt<'a> {
    /// An attempt that was requested, and says how it goes.
    pub(crate) fn requested(
        tools: &'a Tools,
        request: &'a TaskRequest,
        journal: JournalPort<'a>,
        stopped: &'a AtomicBool,
        send: &'a (dyn Fn(Message) + Sync),
    ) -> Self {
        Self {
            tools,
            request,
            journal,
            stopped,
            send,
        }
    }

    /// An attempt that nobody requested and nobody listens to: to look at what a task would find.
    pub(crate) fn alone(
        tools: &'a Tools,
        request: &'a TaskRequest,
        journal: JournalPort<'a>,
    ) -> Self {
        Self::watched(tools, request, journal, &|_| {})
    }

    /// As [`Self::alone`], with somebody who listens.
    pub(crate) fn watched(
        tools: &'a Tools,
        request: &'a TaskRequest,
        journal: JournalPort<'a>,
        listener: &'a (dyn Fn(Message) + Sync),
    ) -> Self {
        static GOES_ON: AtomicBool = AtomicBool::new(false);
        Self::requested(tools, request, journal, &GOES_ON, listener)
    }
}

impl Attempt<'_> {
    /// The same attempt, with nobody who listens: it looks at what another of its tasks would find.
    pub(crate) fn unheard(&self) -> Attempt<'_> {
        Attempt {
            send: &|_| {},
            journal: self.journal.clone(),
            ..*self
        }
    }

    /// Reports progress that is durable, and ends the attempt if it was told to stop.
    pub(crate) fn in_progress(&self, counts: &Counts) -> TaskResult<()> {
        env::crash_point();
        self.reply(ReportStatus::InProgress, counts.clone());
        self.check_stopped()
    }

    /// Reports how far it is, where nothing of that need be durable.
    pub(crate) fn tell(&self, counts: &Counts) {
        self.reply(ReportStatus::InProgress, counts.clone());
    }

    /// As [`Self::in_progress`], but says nothing the first time: where all is done by then, the end says it, too.
    pub(crate) fn in_progress_after(&self, is_first: &mut bool, counts: &Counts) -> TaskResult<()> {
        if !std::mem::take(is_first) {
            return self.in_progress(counts);
        }
        env::crash_point();
        self.check_stopped()
    }

    pub(crate) fn check_stopped(&self) -> TaskResult<()> {
        if self.stopped.load(Ordering::SeqCst) {
            Err(TaskError::Stopped)
        } else {
            Ok(())
        }
    }

    /// The manifest of a link of a chain, if it is still the one that was planned with.
    pub(crate) fn manifest(&self, collection: &str, link: &ChainLink) -> TaskResult<Arc<Manifest>> {
        let Tools {
            manifests,
            repository,
            ..
        } = self.tools;
        match manifests.get(collection, link) {
            Some(known) => Ok(known),
            None => {
                let stored = self.wait(repository.manifest(collection, &link.backup_id))?;
                manifests
                    .insert(link, stored)
                    .ok_or_else(|| TaskError::Proof(changed(link)))
            }
        }
    }

    /// The manifest in the making.
    pub(crate) fn draft(&self) -> TaskResult<&Manifest> {
        let draft = self.request.draft.as_deref();
        draft.ok_or_else(|| TaskError::Proof("the backup has no manifest to write".to_owned()))
    }

    /// The part of the operation's id that tells it from others of the same second: objects that the operation
    /// writes carry it.
    pub(crate) fn writer(&self) -> &str {
        let id = self.operation();
        id.rsplit('-').next().unwrap_or(id)
    }

    /// The id of the operation as engines know it.
    pub(crate) fn operation(&self) -> &str {
        self.request.operation_id.as_str()
    }

    /// Waits for the repository, and gives up when the attempt is told to stop.
    pub(crate) fn wait<T, E: Into<TaskError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> TaskResult<T> {
        self.wait_while(work, || self.check_stopped())
    }

    /// Waits for so long, unless the attempt is told to stop.
    pub(crate) fn pause(&self, pause: Duration) -> TaskResult<()> {
        self.wait(async {
            let _ = tokio::time::timeout(pause, std::future::pending::<()>()).await;
            Ok::<(), TaskError>(())
        })
    }

    /// Waits for the repository, whatever the attempt is told: for work that must not come to be after
    /// it was given up.
    pub(crate) fn wait_to_the_end<T>(
        &self,
        work: impl Future<Output = mendb_repo::Result<T>>,
    ) -> TaskResult<T> {
        self.wait_while(work, || Ok(()))
    }

    /// Waits, and looks now and then whether to go on.
    fn wait_while<T, E: Into<TaskError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
        go_on: impl Fn() -> TaskResult<()>,
    ) -> TaskResult<T> {
        self.tools.runtime.block_on(async {
            let mut work = std::pin::pin!(work);
            loop {
                if let Ok(done) = tokio::time::timeout(LOOK_EVERY, &mut work).await {
                    return done.map_err(Into::into);
                }
                go_on()?;
            }
        })
    }

    /// Where it begins.
    pub(crate) fn start(&self) -> Counts {
        start(self.request)
    }

    fn reply(&self, status: ReportStatus, counts: Counts) {
        send_report(self.request, self.send, status, counts);
    }
}

/// Where an attempt begins. The segments that are known need not be named.
pub(crate) fn start(request: &TaskRequest) -> Counts {
    let (output, segments_before) = match &request.output {
        TaskOutput::Segments(known) => (TaskOutput::None, known.len()),
        other => (other.clone(), 0),
    };
    Counts {
        last_key: request.last_key.clone(),
        rows: request.rows,
        bytes: request.bytes,
        output,
        segments_before,
    }
}

/// Reports how an attempt goes.
pub(crate) fn send_report(
    request: &TaskRequest,
    send: &dyn Fn(Message),
    status: ReportStatus,
    counts: Counts,
) {
    let report = Report {
        step: request.step,
        shard_idx: request.shard_idx,
        attempt: request.attempt,
        status,
        last_key: counts.last_key,
        rows: counts.rows,
        bytes: counts.bytes,
        output: counts.output,
        segments_before: counts.segments_before,
    };
    send(Message::Reply {
        operation_id: request.operation_id.clone(),
        report,
    });
}
