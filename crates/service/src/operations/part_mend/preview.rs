//! What a mend of a part store would do.

use std::sync::{Mutex, PoisonError};

use mendb_model::TargetMark;
use mendb_model::operation::{
    DifferentTable, MendRequest, MendSource, Request, StoppedTable, TableUndo,
};
use mendb_model::part::{Action, TableName, TablePlan, Tally, Unmatched};
use serde::Serialize;

use super::assess;
use super::local::LocalFilesCache;
use super::prepare::decide_all;
use super::tables::tables_with_parts;
use crate::attempt::{Attempt, Counts};
use crate::error::Result;
use crate::front::Front;
use crate::journal_port::JournalPort;
use crate::wire::{Message, TaskRequest};

/// A table, view or dictionary that goes when a mend is undone.
#[derive(Debug, Clone, Serialize)]
pub struct UndoneTable {
    /// Its name.
    pub target: TableName,
    /// What becomes of it.
    #[serde(flatten)]
    pub undo: TableUndo,
}

/// What a mend would do.
#[derive(Debug, Clone, Serialize)]
pub struct MendPreview {
    /// The target that the backup was taken of, if that is known to be another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_target: Option<TargetMark>,
    /// Each table's plan, with actions decided.
    pub tables: Vec<TablePlan>,
    /// Tables that would not be mended, with the reason.
    pub stopped: Vec<StoppedTable>,
    /// Patterns that fit nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<Unmatched>,
    /// Tables, views and dictionaries whose definition is another one.
    pub different: Vec<DifferentTable>,
    /// Views and dictionaries that would be created.
    pub created: Vec<TableName>,
    /// Tables, views and dictionaries that would go because the mend that is undone had created them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<UndoneTable>,
    /// Whether the state before would be kept.
    pub keep_undo: bool,
    /// Whether mutations that the backup lacks would be applied.
    pub apply_mutations: bool,
    /// The sums of all tables.
    pub total: Tally,
    /// Whether anything would be changed.
    pub changes: bool,
}

/// What a mend would do: each table assessed and decided, nothing written.
/// `on_read` is told bytes that are read to prove what stays.
pub(crate) fn preview(
    front: &Front,
    request: MendRequest,
    on_read: &mut (dyn FnMut(u64) + Send),
) -> Result<MendPreview> {
    let task = TaskRequest::preview(Request::Mend(request.clone()))?;
    let read = Mutex::new((0, on_read));
    let listener = |message: Message| {
        if let Message::Reply { report, .. } = message {
            let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
            let (before, on_read) = &mut *read;
            if let more @ 1.. = report.bytes.saturating_sub(*before) {
                *before = report.bytes;
                on_read(more);
            }
        }
    };
    let journal = JournalPort::here(&front.journal, &task);
    let attempt = Attempt::watched(&front.tools, &task, journal, &listener);
    let mut counts = Counts::default();
    let mut plans = Vec::new();
    for (idx, _) in tables_with_parts(&request).filter(|_| request.data) {
        plans.push(assess::assessed(&attempt, &request, idx, &mut counts)?.plan);
    }
    let files = front.tools.kept.of::<LocalFilesCache>();
    files.forget(&task.operation_id);
    let keep_undo = decide_all(&front.tools, &request, &mut plans)?;
    let mut total = Tally::default();
    for plan in &plans {
        total += Tally::of(plan);
    }
    let mut partitions = plans.iter().flat_map(|plan| &plan.partitions);
    let changes = partitions.any(|partition| partition.action != Action::Nothing)
        || request.apply_mutations
        || request.tables.iter().any(|table| {
            table.create || table.replace || table.redefine.is_some() || table.undo.is_some()
        });
    Ok(MendPreview {
        changes,
        of_target: match &request.source {
            MendSource::Backup { of_target, .. } => of_target.clone(),
            MendSource::Undo { .. } | MendSource::Imported { .. } => None,
        },
        tables: plans,
        created: request
            .tables
            .iter()
            .filter(|table| table.create && !(table.has_parts && request.data))
            .map(|table| table.target.clone())
            .collect(),
        undone: request
            .tables
            .iter()
            .filter_map(|table| {
                Some(UndoneTable {
                    target: table.target.clone(),
                    undo: table.undo.clone()?,
                })
            })
            .collect(),
        stopped: request.stopped,
        unmatched: request.unmatched,
        different: request.different,
        apply_mutations: request.apply_mutations,
        keep_undo,
        total,
    })
}
