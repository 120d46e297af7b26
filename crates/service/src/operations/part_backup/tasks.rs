//! The tasks of a backup of parts.

use mendb_model::operation::{NewTask, PartAt, PartBackupRequest, TaskSpec};
use mendb_model::part::TableName;

use crate::attempt::Tools;
use crate::error::Result;
use crate::wire::StepRequest;

/// A list of parts holds at most so many: a table's record of files is in memory list by list.
const PARTS_A_LIST: usize = 256;

/// A list of parts ends when its parts have so many bytes: the work of one task.
const BYTES_A_LIST: u64 = 1 << 30;

/// The frozen parts of each table, in chunks.
pub(super) fn tasks(
    step: &StepRequest,
    request: &PartBackupRequest,
    tools: &Tools,
) -> Result<Vec<NewTask>> {
    let engine = tools.engine.parts()?;
    let store = step
        .draft
        .as_deref()
        .and_then(|draft| draft.part_store.as_ref());
    let mut tasks = Vec::new();
    for (table_idx, table) in (0u32..).zip(store.into_iter().flat_map(|store| &store.tables)) {
        // What was listed when it was drafted has no freeze.
        let is_done = !table.has_data() || !table.lists.is_empty();
        if is_done || !request.tables.contains(table.name()) {
            continue;
        }
        let mut chunks = Chunks::new(table.name(), table_idx);
        for part in engine.frozen(step.operation_id.as_str(), table.name())? {
            let at = PartAt {
                disk: part.disk,
                name: part.name,
            };
            tasks.extend(chunks.push(at, part.bytes));
        }
        tasks.extend(chunks.finish());
    }
    Ok(tasks)
}

/// Gathers the parts of one table.
struct Chunks<'a> {
    table: &'a TableName,
    table_idx: u32,
    chunk: u32,
    parts: Vec<PartAt>,
    bytes: u64,
}

impl<'a> Chunks<'a> {
    fn new(table: &'a TableName, table_idx: u32) -> Self {
        Self {
            table,
            table_idx,
            chunk: 0,
            parts: Vec::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, at: PartAt, bytes: u64) -> Option<NewTask> {
        let full = self.parts.len() >= PARTS_A_LIST || self.bytes >= BYTES_A_LIST;
        let done = if full { self.finish() } else { None };
        self.parts.push(at);
        self.bytes += bytes;
        done
    }

    fn finish(&mut self) -> Option<NewTask> {
        if self.parts.is_empty() {
            return None;
        }
        let chunk = self.chunk;
        self.chunk += 1;
        Some(NewTask {
            bytes_total: std::mem::take(&mut self.bytes),
            spec: TaskSpec::CopyParts {
                table: self.table.clone(),
                table_idx: self.table_idx,
                chunk,
                parts: std::mem::take(&mut self.parts),
            },
        })
    }
}
