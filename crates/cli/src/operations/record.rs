//! An operation as it is printed: by `operation list`, `show` and `watch`, and at its end.

use std::time::Duration;

use mendb_model::TargetMark;
use mendb_model::name::BackupId;
use mendb_model::operation::{MendSource, OperationHead, Request, State, StepKind};
use mendb_service::Orphan;
use serde::Serialize;

use crate::human;
use crate::settings::secret::hide_in_url;

/// Less than so many seconds to go are not worth saying.
const SOON_S: f64 = 1.0;

/// The part of a shard of a cluster that another replica does, as the agent was lost that had begun it.
#[derive(Debug, Serialize)]
pub struct TakenOver {
    pub shard: String,
    /// The replica whose agent was lost.
    pub lost: String,
    /// The replica that does its part.
    pub by: String,
}

impl TakenOver {
    fn all(operation: &OperationHead) -> Vec<Self> {
        let Some(request) = operation.request.cluster() else {
            return Vec::new();
        };
        let by = |shard: &str| request.shards.iter().find(|at| at.shard == shard);
        let lost = request.left.iter().filter_map(|lost| {
            Some(Self {
                shard: lost.shard.clone(),
                lost: lost.replica.clone(),
                by: by(&lost.shard)?.replica.clone(),
            })
        });
        lost.collect()
    }

    pub fn sentence(&self) -> String {
        format!(
            "replica {} does the part of shard {}, as {} was lost",
            self.by, self.shard, self.lost
        )
    }
}

/// An operation as users and scripts see it.
#[derive(Debug, Serialize)]
pub struct OperationRecord {
    pub operation_id: String,
    pub kind: &'static str,
    /// Empty for what comes from no repository.
    pub collection: String,
    /// What it works on instead of a collection, if so: a backup of clickhouse-backup, what another operation
    /// kept, or a repository.
    pub source: Option<String>,
    /// The backup that is taken, or restored to.
    pub backup_id: Option<BackupId>,
    /// The target that the backup is of which is restored, if that is known to be another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_target: Option<TargetMark>,
    pub state: &'static str,
    pub paused: bool,
    /// Whether it is as it was told to wait for the other shards of its cluster.
    pub held: bool,
    pub current_step: u32,
    pub steps_total: u64,
    /// What the current step is called: `apply 2`.
    pub step: String,
    pub percent: f64,
    pub rows_done: u64,
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub shards_done: u64,
    pub shards_total: u64,
    /// Bytes a second since the operation began.
    pub bytes_per_second: u64,
    /// Seconds left at the rate so far; null when over or unknown.
    pub eta_seconds: Option<f64>,
    pub created_at: String,
    pub updated_at: String,
    pub error: Option<String>,
    /// Of a cluster, what other replicas do than those that began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taken_over: Vec<TakenOver>,
    /// Of one that the journal does not know, the tables that the target holds for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_tables: Vec<String>,
    /// Whether it works on a repository alone.
    #[serde(skip)]
    pub is_maintenance: bool,
}

impl OperationRecord {
    pub fn new(operation: &OperationHead) -> Self {
        let progress = operation.progress();
        let elapsed = elapsed(operation);
        let moves = !operation.state.is_terminal() && !operation.is_paused();
        let running = moves && progress.percent > 0.0;
        let left = (100.0 - progress.percent) / progress.percent;
        Self {
            operation_id: operation.operation_id.to_string(),
            kind: operation.request.kind(),
            collection: operation.request.collection().to_owned(),
            source: source(operation),
            backup_id: match &operation.request {
                Request::Maintain(_) => None,
                request => request.backups().last().copied().cloned(),
            },
            of_target: operation.request.of_target().cloned(),
            state: operation.state.name(),
            paused: operation.is_paused(),
            held: operation.is_held(),
            current_step: operation.current_step,
            steps_total: operation.steps.len() as u64,
            step: operation.step_label(),
            percent: progress.percent,
            rows_done: progress.rows_done,
            bytes_done: progress.bytes_done,
            bytes_total: progress.bytes_total,
            shards_done: progress.shards_done,
            shards_total: progress.shards_total,
            bytes_per_second: human::rate(progress.bytes_done, elapsed),
            eta_seconds: running.then_some(elapsed.as_secs_f64() * left),
            created_at: human::time(operation.created_at_ms),
            updated_at: human::time(operation.updated_at_ms),
            error: operation
                .error
                .clone()
                .or_else(|| operation.task_error.clone()),
            taken_over: TakenOver::all(operation),
            held_tables: Vec::new(),
            is_maintenance: matches!(operation.request, Request::Maintain(_)),
        }
    }

    /// One that the journal does not know.
    pub fn orphan(orphan: Orphan) -> Self {
        Self {
            operation_id: orphan.operation_id,
            kind: orphan.kind,
            collection: String::new(),
            source: None,
            backup_id: None,
            of_target: None,
            state: if orphan.is_only_kept {
                "kept"
            } else {
                "orphaned"
            },
            paused: false,
            held: false,
            current_step: 0,
            steps_total: 0,
            step: String::new(),
            percent: 0.0,
            rows_done: 0,
            bytes_done: 0,
            bytes_total: 0,
            shards_done: 0,
            shards_total: 0,
            bytes_per_second: 0,
            eta_seconds: None,
            created_at: String::new(),
            updated_at: String::new(),
            error: Some(format!(
                "not in the journal; holds {}",
                orphan.tables.join(", ")
            )),
            taken_over: Vec::new(),
            held_tables: orphan.tables,
            is_maintenance: false,
        }
    }

    /// How it ended, in a line.
    pub fn sentence(&self) -> String {
        let what = match (self.kind, &self.backup_id) {
            ("drill", Some(id)) => format!("drill of {} with {id}", self.collection),
            (kind @ ("restore" | "mend" | "undo"), Some(id)) => {
                format!("{kind} of {} to {id}", self.collection)
            }
            (_, Some(id)) => format!("backup {id} of {}", self.collection),
            (kind, None) => format!("{kind} of {}", self.subject()),
        };
        let state = if self.paused { "paused" } else { self.state };
        if self.is_maintenance {
            return format!("{what}: {state} in operation {}\n", self.operation_id);
        }
        let taken_over = self.taken_over.iter();
        let taken_over: String = taken_over
            .map(|taken_over| format!("; {}", taken_over.sentence()))
            .collect();
        format!(
            "{what}: {state}, {} and {} in operation {}{taken_over}\n",
            human::rows(self.rows_done),
            human::bytes(self.bytes_done),
            self.operation_id
        )
    }

    /// The collection, or what there is in its place.
    pub fn subject(&self) -> &str {
        self.source.as_deref().unwrap_or(&self.collection)
    }

    /// Where it stands, in a few words.
    pub fn standing(&self) -> String {
        if self.paused {
            format!("{} (paused)", self.state)
        } else {
            self.state.to_owned()
        }
    }
}

/// What an operation works on that is no collection.
fn source(operation: &OperationHead) -> Option<String> {
    match &operation.request {
        Request::Mend(request) => match &request.source {
            MendSource::Backup { .. } => None,
            MendSource::Undo { operation_id } => Some(operation_id.to_string()),
            MendSource::Imported { url, name } => Some(format!("{name} in {}", hide_in_url(url))),
        },
        Request::Cluster(request) => Some(format!(
            "{} on cluster {}",
            request.collection, request.cluster
        )),
        Request::Maintain(request) if request.collection.is_empty() => {
            Some(hide_in_url(&operation.repository_url))
        }
        _ => None,
    }
}

/// What the tasks of an operation's step are called: shards of a row store, tables or lists of parts of a
/// part store.
pub fn task_word(request: &Request) -> &'static str {
    match request {
        Request::Backup(_) | Request::Restore(_) | Request::MendRows(_) => "shards",
        Request::PartBackup(_) => "lists",
        Request::Mend(_) => "tables",
        Request::Maintain(_) => "tasks",
        Request::Cluster(_) => "shards",
    }
}

/// From the request to the last event.
pub fn elapsed(operation: &OperationHead) -> Duration {
    Duration::from_millis(
        operation
            .updated_at_ms
            .saturating_sub(operation.created_at_ms),
    )
}

/// One line of progress: step, and as far as they say something shards or tables, rows, rate and time left.
pub fn progress_line(operation: &OperationHead) -> String {
    let record = OperationRecord::new(operation);
    let mut line = record.step.clone();
    if record.shards_total > 1 {
        let tasks = task_word(&operation.request);
        line += &format!(": {}/{} {tasks}", record.shards_done, record.shards_total);
    }
    // What a repository alone is rid of is counted otherwise.
    let counts_rows = !record.is_maintenance || operation.step_kind() == StepKind::Fold;
    if counts_rows && record.rows_done > 0 {
        line += &format!(", {}", human::rows(record.rows_done));
    }
    if operation.state != State::Done {
        if record.bytes_per_second > 0 {
            line += &format!(", {}/s", human::bytes(record.bytes_per_second));
        }
        if let Some(eta) = record.eta_seconds.filter(|eta| *eta >= SOON_S) {
            let eta = human::duration(Duration::from_secs_f64(eta));
            line += &format!(", ETA {eta}");
        }
    }
    for taken_over in &record.taken_over {
        line += &format!(", {}", taken_over.sentence());
    }
    if let Some(error) = record.error {
        let going_on = !operation.state.is_terminal();
        let but = if going_on {
            "trying again after"
        } else {
            "failed"
        };
        line += &format!(", {but}: {error}");
    }
    line
}
