//! Which tables and keys are mended to take transactions back, and whether all is known that it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::{ChangedBy, Rewind, RowTableMend, UntoldTable};
use mendb_model::unfolded::TransactionRows;
use mendb_repo::StoredManifest;

use super::unit_keys::{MOST_CHANGED, count_changed_keys};
use crate::attempt::Tools;
use crate::diff::{each_of, gaps, take_another, untold};
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

/// Leaves of the tables those that the chosen transactions wrote to, each with the keys among which they did. Returns those
/// of which no increment tells whether they did.
///
/// # Errors
/// No increment of the chain knows such a transaction, or one does not keep its changes one by one that would have to
/// tell what it did; or the repository cannot be read.
pub(super) fn rewound(
    tools: &Tools,
    (changed_by, include_rewritten): (ChangedBy, bool),
    chain: &[StoredManifest],
    tables: &mut Vec<RowTableMend>,
) -> Result<Vec<UntoldTable>> {
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
        return Ok(Vec::new());
    };
    let (changed_by, wrote, within) = search(tools, changed_by, &chain)?;
    if let Some(gap) = gaps(changed_by, &chain).into_iter().next() {
        return Err(Error::refused(gap.what, gap.hint));
    }
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
    for table in &mut *tables {
        check_known(changed_by, &table.table, &wrote, &chain)?;
        let all = &wrote;
        let wrote = &all[&table.table];
        let from = wrote.increments.first().copied().unwrap_or(chain.len() - 1);
        let changed_keys = count_changed_keys(tools, &chain[from..], &table.table)?;
        if changed_keys > MOST_CHANGED {
            return Err(Error::refused(
                format!(
                    "{changed_keys} rows of table {} changed their keys since {changed_by} began to write, and no more \
                     than {MOST_CHANGED} can be followed",
                    table.table
                ),
                leave_out(&table.table, all, &chain),
            ));
        }
        table.scope.rewind = Some(Rewind {
            changed_by,
            include_rewritten,
            keys_changed: changed_keys > 0,
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
    let within = within.iter().map(|at| &*chain[*at]);
    let mut untold = within.flat_map(untold).collect::<Vec<_>>();
    untold.retain(|untold| tables.iter().all(|table| table.table != untold.table));
    Ok(untold)
}

/// Finds what the transactions wrote, by tables, and in which increments of the chain; one that was named by half of its
/// number is named by all of it then.
fn search(
    tools: &Tools,
    changed_by: ChangedBy,
    chain: &[Arc<Manifest>],
) -> Result<(ChangedBy, BTreeMap<String, Wrote>, BTreeSet<usize>)> {
    let mut within = BTreeSet::new();
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
        within.insert(at);
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
        [] => Ok((changed_by, wrote, within)),
        [only] => Ok((ChangedBy::Transaction(*only), wrote, within)),
        several => {
            let several: Vec<String> = several.iter().map(u64::to_string).collect();
            Err(Error::refused(
                format!("{changed_by} may be any of {}", several.join(", ")),
                "name one of these; mendb diff COLLECTION --changed-by shows when each committed",
            ))
        }
    }
}

/// Checks that all is known of a table that it takes.
fn check_known(
    changed_by: ChangedBy,
    table: &str,
    all: &BTreeMap<String, Wrote>,
    chain: &[Arc<Manifest>],
) -> Result<()> {
    let leave_out = || leave_out(table, all, chain);
    let wrote = &all[table];
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

/// What can be done without a table, and what brings it back with all that others wrote there since.
fn leave_out(table: &str, wrote: &BTreeMap<String, Wrote>, chain: &[Arc<Manifest>]) -> String {
    let others = wrote.keys().filter(|other| *other != table);
    let others: Vec<&str> = others.map(String::as_str).collect();
    let without = match others.is_empty() {
        true => String::new(),
        false => format!("leave it out with --tables '{}', or ", others.join(",")),
    };
    let first = wrote.get(table).and_then(|wrote| wrote.increments.first());
    let before = first.and_then(|at| chain.get(at.checked_sub(1)?));
    let Some(before) = before else {
        return "leave it out with --tables".to_owned();
    };
    format!(
        "{without}bring it back to the backup before, and with it what others wrote there since: mendb restore {} --in-place \
         --to {} --tables '{table}'",
        chain[0].collection, before.backup_id
    )
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
