//! Which tables and keys are mended to take transactions back, and whether all is known that it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::{ChangedBy, Rewind, RowTableMend};
use mendb_model::unfolded::TransactionRows;
use mendb_repo::StoredManifest;

use crate::attempt::Tools;
use crate::diff::each_of;
use crate::error::{Error, Result};

/// What chosen transactions did to a table.
struct Wrote {
    /// The increments that have it, by their places in the chain.
    increments: BTreeSet<usize>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    /// One that emptied it.
    truncated_by: Option<u64>,
}

/// Leaves of the tables those that the chosen transactions wrote to, each with the keys among which they did.
///
/// # Errors
/// No increment of the chain knows such a transaction, or one does not keep its changes one by one that would have to
/// tell what it did; or the repository cannot be read.
pub(super) fn rewound(
    tools: &Tools,
    (changed_by, include_rewritten): (ChangedBy, bool),
    chain: &[StoredManifest],
    tables: &mut Vec<RowTableMend>,
) -> Result<()> {
    if tools.engine.rows()?.beside_writers().is_none() {
        return Err(Error::refused(
            "--only-changed-by is for PostgreSQL, and this target is a row store",
            "mendb restore --in-place brings its tables back to a backup; --range some of their keys",
        ));
    }
    let chain: Vec<_> = chain
        .iter()
        .map(|stored| Arc::new(stored.manifest.clone()))
        .collect();
    let Some(last) = chain.last() else {
        return Ok(());
    };
    let (changed_by, wrote) = search(tools, changed_by, &chain)?;
    check_span(changed_by, &chain)?;
    if wrote.is_empty() {
        return Err(nothing_found(changed_by, &chain));
    }
    tables.retain(|table| wrote.contains_key(&table.table));
    if tables.is_empty() {
        let names: Vec<&str> = wrote.keys().map(String::as_str).collect();
        return Err(Error::refused(
            format!("{changed_by} wrote to none of the tables that are mended"),
            format!("wrote to: {}", names.join(", ")),
        ));
    }
    for table in tables {
        let wrote = &wrote[&table.table];
        check_known(changed_by, &table.table, wrote, &chain)?;
        let from = wrote.increments.first().copied().unwrap_or(chain.len() - 1);
        table.scope.rewind = Some(Rewind {
            changed_by,
            include_rewritten,
            from: chain[from].backup_id.clone(),
        });
        let path = TablePath::table(&table.table);
        let shards = tools.repository.shards(last, &path);
        let shards = tools.runtime.block_on(shards)?.into_iter();
        // Whole shards, so that it can be told cheaply whether they were written to meanwhile.
        let shards = shards
            .map(|shard| shard.range)
            .filter(|range| range.ends_behind(&wrote.first_key) && range.start <= wrote.last_key);
        let shards: Vec<KeyRange> = shards.collect();
        let (Some(first), Some(end)) = (shards.first(), shards.last()) else {
            continue;
        };
        let keys = KeyRange {
            start: first.start.clone(),
            end: end.end.clone(),
        };
        table.range = match &table.range {
            Some(range) => Some(range.intersect(&keys)),
            None => (keys != KeyRange::all()).then_some(keys),
        };
    }
    Ok(())
}

/// Finds what the transactions wrote, by tables; one that was named by half of its number is named by all of it then.
fn search(
    tools: &Tools,
    changed_by: ChangedBy,
    chain: &[Arc<Manifest>],
) -> Result<(ChangedBy, BTreeMap<String, Wrote>)> {
    let mut wrote: BTreeMap<String, Wrote> = BTreeMap::new();
    let mut numbers = BTreeSet::new();
    each_of(tools, chain, &mut |at, rows| {
        let TransactionRows {
            table,
            transaction,
            committed_us,
            truncated,
            first_key,
            last_key,
            ..
        } = rows;
        if !changed_by.chooses(transaction, committed_us) {
            return Ok(());
        }
        if matches!(changed_by, ChangedBy::Transaction(_)) {
            numbers.insert(transaction);
        }
        let so_far = wrote.entry(table).or_insert_with(|| Wrote {
            increments: BTreeSet::new(),
            first_key: first_key.clone(),
            last_key: last_key.clone(),
            truncated_by: None,
        });
        so_far.increments.insert(at);
        if truncated {
            so_far.truncated_by = Some(transaction);
        }
        if !first_key.is_empty() && (so_far.first_key.is_empty() || first_key < so_far.first_key) {
            so_far.first_key = first_key;
        }
        if last_key > so_far.last_key {
            so_far.last_key = last_key;
        }
        Ok(())
    })?;
    let numbers: Vec<u64> = numbers.into_iter().collect();
    match numbers.as_slice() {
        [] => Ok((changed_by, wrote)),
        [only] => Ok((ChangedBy::Transaction(*only), wrote)),
        several => {
            let several: Vec<String> = several.iter().map(u64::to_string).collect();
            Err(Error::refused(
                format!("{changed_by} may be any of {}", several.join(", ")),
                "name one of these; mendb diff COLLECTION --changed-by shows when each committed",
            ))
        }
    }
}

/// Checks that increments tell of all of a span of time that is named.
fn check_span(changed_by: ChangedBy, chain: &[Arc<Manifest>]) -> Result<()> {
    let ChangedBy::Span { from_us, before_us } = changed_by else {
        return Ok(());
    };
    // The id of a backup has the second in which it was ordered.
    let second_us = |at: usize, more: i64| {
        let second = chain.get(at)?.backup_id.unix_seconds().saturating_add(more);
        Some(second.saturating_mul(1_000_000))
    };
    let (taken_us, over_us) = (|at| second_us(at, 0), |at| second_us(at, 1));
    let (full, newest) = (&chain[0].backup_id, &chain[chain.len() - 1].backup_id);
    if from_us
        .zip(taken_us(0))
        .is_some_and(|(from, full)| from < full)
    {
        return Err(Error::refused(
            format!(
                "{changed_by} may have changes that are in the full backup {full}, and of these it is not known who made them"
            ),
            "begin later, or name a backup of an earlier chain with --to",
        ));
    }
    if before_us
        .zip(over_us(chain.len() - 1))
        .is_some_and(|(before, newest)| before > newest)
    {
        return Err(Error::refused(
            format!("{changed_by} reaches beyond the newest backup {newest}"),
            take_another(&chain[0].collection),
        ));
    }
    // What an increment holds was committed after the one before it was ordered, and before the next one was taken.
    let overlaps = |at: usize| {
        let begins_after = before_us
            .zip(taken_us(at - 1))
            .is_some_and(|(before, taken)| before <= taken);
        let ends_before = from_us
            .zip(over_us(at + 1))
            .is_some_and(|(from, next)| from > next);
        !begins_after && !ends_before
    };
    let silent = (1..chain.len()).find(|at| chain[*at].transactions.is_none() && overlaps(*at));
    match silent {
        None => Ok(()),
        Some(at) => Err(Error::refused(
            format!(
                "increment {} may hold changes of {changed_by}, and does not keep them one by one",
                chain[at].backup_id
            ),
            "name one transaction, or a span of time outside of it; mendb diff COLLECTION --changed-by shows what is known",
        )),
    }
}

/// Checks that all is known of a table that it takes.
fn check_known(
    changed_by: ChangedBy,
    table: &str,
    wrote: &Wrote,
    chain: &[Arc<Manifest>],
) -> Result<()> {
    let leave_out = || {
        format!(
            "leave it out with --tables, or bring rows of it back to the backup before: mendb restore {} --in-place --to BACKUP",
            chain[0].collection
        )
    };
    if let Some(transaction) = wrote.truncated_by {
        return Err(Error::refused(
            format!(
                "transaction {transaction} emptied table {table} (TRUNCATE), and the rows that went are not told one by one"
            ),
            leave_out(),
        ));
    }
    let is_untold = |at: &&usize| {
        let table = chain[**at].table(table);
        table.is_none_or(|table| table.unfolded.is_none())
    };
    if let Some(at) = wrote.increments.iter().find(is_untold) {
        let increment = &chain[*at];
        let why = increment
            .table(table)
            .and_then(|table| table.untold.as_deref());
        return Err(Error::refused(
            format!(
                "increment {} does not keep the changes of table {table} one by one, so that what {changed_by} did there is \
                 not known: {}",
                increment.backup_id,
                why.unwrap_or("the change stream did not tell them")
            ),
            leave_out(),
        ));
    }
    if let Some(lacking) = chain
        .iter()
        .find(|manifest| manifest.table(table).is_none())
    {
        return Err(Error::refused(
            format!("backup {} does not have table {table}", lacking.backup_id),
            leave_out(),
        ));
    }
    Ok(())
}

/// That no increment has a change of such a transaction.
fn nothing_found(changed_by: ChangedBy, chain: &[Arc<Manifest>]) -> Error {
    let newest = &chain[chain.len() - 1].backup_id;
    let mut silent = chain
        .iter()
        .skip(1)
        .filter(|increment| increment.transactions.is_none());
    let not_kept = match (silent.next(), chain.len()) {
        (_, 1) => "; the chain is a full backup alone".to_owned(),
        (Some(first), _) => match silent.count() {
            0 => format!(
                "; increment {} does not keep its changes one by one",
                first.backup_id
            ),
            more => format!(
                "; increment {} and {more} more do not keep their changes one by one",
                first.backup_id
            ),
        },
        (None, _) => String::new(),
    };
    Error::refused(
        format!("no increment up to backup {newest} has a change of {changed_by}{not_kept}"),
        format!(
            "where it committed later, {}",
            take_another(&chain[0].collection)
        ),
    )
}

fn take_another(collection: &str) -> String {
    format!(
        "take an increment first: mendb backup {collection} --incremental. Increments keep changes one by one where the full \
         backup before them was taken with --changes stream"
    )
}
