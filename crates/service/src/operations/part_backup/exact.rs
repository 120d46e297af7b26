//! Backups of which all is to be of one moment.
//!
//! Tables are frozen one after another. When the last one is, each is looked at again: where none has changed since its
//! own freeze, what was frozen is what was there at the moment of the last. Nothing keeps writers out here: who orders the
//! backup does, or has it taken when nobody writes.

use std::time::Duration;

use mendb_engines::PartStore;
use mendb_model::operation::PartBackupRequest;
use mendb_model::part::{
    Inventory, PartTable, PartitionPatterns, TableDefinition, TableName, changed_since,
};

use crate::attempt::Attempt;
use crate::task_error::{TaskError, TaskResult};

/// Between two looks at what is still to be sent.
const PAUSE: Duration = Duration::from_millis(200);
/// So often it is looked at, half a minute in all.
const LOOKS: u32 = 150;

/// Waits until what was inserted is where it is to be: with the replica here, and sent by tables that hand rows on.
pub(super) fn wait_for_inserts(
    attempt: &Attempt<'_>,
    tables: &[TableDefinition],
) -> TaskResult<()> {
    let engine = attempt.tools.engine.parts()?;
    let mut unsent = engine.unsent()?;
    for _ in 0..LOOKS {
        if unsent.is_empty() {
            break;
        }
        attempt.pause(PAUSE)?;
        unsent = engine.unsent()?;
    }
    if let Some(table) = unsent.first() {
        return Err(TaskError::Proof(format!(
            "table {table} has rows of inserts that it has not sent to their shards, which was waited for during half a \
             minute: look at system.distribution_queue or the log of the server, then take the backup again"
        )));
    }
    for table in tables.iter().filter(|table| table.is_replicated()) {
        engine.catch_up(&table.name)?;
    }
    Ok(())
}

/// Proves that each table has just the rows that were frozen.
pub(super) fn verify(attempt: &Attempt<'_>, request: &PartBackupRequest) -> TaskResult<()> {
    let engine = attempt.tools.engine.parts()?;
    let store = attempt.draft()?.part_store.as_ref();
    if let Some(table) = engine.unsent()?.first() {
        return Err(TaskError::Proof(format!(
            "rows came into {table}, which has not sent them to their shards yet, {REMEDY}"
        )));
    }
    for table in store.iter().flat_map(|store| &store.tables) {
        if let Some(why) = changed(attempt, request, engine, table)? {
            return Err(TaskError::Proof(format!(
                "table {} did not stay as it was frozen: {why}, {REMEDY}",
                table.name()
            )));
        }
        attempt.check_stopped()?;
    }
    Ok(())
}

/// Where it happened, and what to do.
const REMEDY: &str = "while tables were frozen one after another, so that they are not of one moment; take the backup again \
                      when nobody inserts, or without --exact";

fn changed(
    attempt: &Attempt<'_>,
    request: &PartBackupRequest,
    engine: &dyn PartStore,
    table: &PartTable,
) -> TaskResult<Option<String>> {
    let Some(frozen) = &table.current_parts else {
        return Ok(None);
    };
    let name = table.name();
    let repository = &attempt.tools.repository;
    let then = repository.document_at(&request.collection, &request.backup_id, frozen);
    let then: Inventory = attempt.wait(then)?;
    // What another replica was given before may come only now.
    if table.definition.is_replicated() {
        engine.catch_up(name)?;
    }
    let mut now = engine.inventory(name)?;
    if let Some(patterns) = &request.partitions {
        retain_chosen(&mut now, patterns, table, engine, name)?;
    }
    let log = engine.part_log(name, then.taken_at_ms)?;
    Ok(changed_since(&then, &now, &log, &table.definition))
}

/// Leaves what a backup of some partitions does not have out of what is there.
fn retain_chosen(
    now: &mut Inventory,
    patterns: &str,
    table: &PartTable,
    engine: &dyn PartStore,
    name: &TableName,
) -> TaskResult<()> {
    let patterns = PartitionPatterns::new(patterns);
    let partitions = engine.partitions(name)?.into_iter();
    let came: Vec<String> = partitions
        .filter(|partition| patterns.name(partition))
        .map(|partition| partition.id)
        .collect();
    let frozen = table.partitions.as_deref().unwrap_or_default();
    now.parts
        .retain(|part| came.contains(&part.partition_id) || frozen.contains(&part.partition_id));
    Ok(())
}
