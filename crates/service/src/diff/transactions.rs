//! The transactions whose changes the increments of a chain keep one by one.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_model::BackupId;
use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::{TablePath, matches};
use mendb_model::operation::{ChangedBy, UntoldTable};
use mendb_model::unfolded::TransactionRows;

use super::RestorePoint;
use super::span::gaps;
use crate::attempt::Tools;
use crate::error::{Error, Result};
use crate::front::Front;
use crate::front::chosen::Purpose;
use crate::front::selectors::check_tables;
use crate::task_error::{TaskError, TaskResult};

/// Transactions that a user looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionsOrder {
    /// In the increments up to this one.
    pub of: RestorePoint,
    /// Which.
    pub changed_by: ChangedBy,
    /// Comma-separated patterns of table names: those that wrote to one of them; all without.
    pub tables: Option<String>,
    /// Whether patterns may fit nothing.
    pub if_exists: bool,
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its number, with the epoch.
    pub number: u64,
    /// When it committed, in microseconds since 1970.
    pub committed_us: i64,
    /// The increment that has its changes.
    pub backup_id: BackupId,
    /// What it did to each table.
    pub tables: Vec<TransactionRows>,
    /// Those of these tables to which it may have done more: the increment does not tell all of their changes.
    pub in_part: BTreeSet<String>,
}

/// What was looked at for transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionsReport {
    /// The last backup of the chain.
    pub backup_id: BackupId,
    /// How many were found.
    pub found: u64,
    /// Increments of the chain that do not keep their changes one by one.
    pub silent: Vec<BackupId>,
    /// What is not known of a span of time that was named.
    pub gaps: Vec<String>,
    /// Tables that transactions which were found may have written to as well, where it is not known what.
    pub untold: Vec<UntoldTable>,
}

/// Takes transactions in the order of their commits; it ends the search by breaking.
pub type TransactionSink<'a> = &'a mut dyn FnMut(Transaction) -> ControlFlow<()>;

impl Front {
    /// Finds transactions in the increments of a chain. Returns `None` when the sink has ended it.
    ///
    /// # Errors
    /// There is no such backup, or the repository cannot be read.
    pub fn transactions(
        &self,
        order: &TransactionsOrder,
        sink: TransactionSink<'_>,
    ) -> Result<Option<TransactionsReport>> {
        let of = &order.of;
        let chosen = self.chosen(&of.collection, of.backup.as_deref(), Purpose::Compare)?;
        let chain = chosen.chain.into_iter();
        let chain: Vec<_> = chain.map(|stored| Arc::new(stored.manifest)).collect();
        let Some(last) = chain.last() else {
            return Err(Error::refused(
                format!(
                    "collection {} has no backup in {}",
                    of.collection,
                    self.tools.repository.url()
                ),
                "mendb list shows what there is; --repository names another repository",
            ));
        };
        let fits = |pattern: &str| {
            let mut tables = last.tables.iter();
            tables.any(|table| matches(pattern, &table.table))
        };
        let patterns = order.tables.as_deref();
        check_tables(patterns.unwrap_or_default(), order.if_exists, fits)?;
        let silent = chain.iter().skip(1);
        let silent = silent.filter(|manifest| manifest.transactions.is_none());
        let mut report = TransactionsReport {
            backup_id: last.backup_id.clone(),
            found: 0,
            silent: silent.map(|manifest| manifest.backup_id.clone()).collect(),
            gaps: Vec::new(),
            untold: Vec::new(),
        };
        let mut within = BTreeSet::new();
        let is_asked_for = |rows: &TransactionRows| {
            order
                .changed_by
                .chooses(rows.transaction, rows.committed_us)
                && patterns.is_none_or(|patterns| matches(patterns, &rows.table))
        };
        let mut open: Option<Transaction> = None;
        let read = each_of(&self.tools, &chain, &mut |at, rows| {
            if !is_asked_for(&rows) {
                return Ok(());
            }
            within.insert(at);
            let backup_id = &chain[at].backup_id;
            let of_table = chain[at].table(&rows.table);
            let is_in_part = of_table.is_none_or(|table| table.unfolded.is_none());
            let in_part = is_in_part.then(|| rows.table.clone());
            let goes_on = |open: &&mut Transaction| {
                open.number == rows.transaction && open.backup_id == *backup_id
            };
            match open.as_mut().filter(goes_on) {
                Some(open) => {
                    open.tables.push(rows);
                    open.in_part.extend(in_part);
                }
                None => {
                    let next = Transaction {
                        number: rows.transaction,
                        committed_us: rows.committed_us,
                        backup_id: backup_id.clone(),
                        tables: vec![rows],
                        in_part: in_part.into_iter().collect(),
                    };
                    report.found += 1;
                    if let Some(before) = open.replace(next)
                        && sink(before).is_break()
                    {
                        return Err(TaskError::Stopped);
                    }
                }
            }
            Ok(())
        });
        match read {
            Ok(()) => {}
            Err(TaskError::Stopped) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Silent increments are told beside it.
        let of_span = gaps(order.changed_by, &chain).into_iter();
        let of_span = of_span.filter(|gap| !gap.is_silent);
        report.gaps = of_span.map(|gap| gap.what).collect();
        report.untold = within.iter().flat_map(|at| untold(&chain[*at])).collect();
        let ended = open.is_some_and(|last| sink(last).is_break());
        Ok((!ended).then_some(report))
    }
}

/// The tables of an increment that keeps its changes one by one, of which it does not tell them.
pub(crate) fn untold(increment: &Manifest) -> impl Iterator<Item = UntoldTable> {
    let tables = increment.tables.iter();
    let tables = tables.filter(|table| table.unfolded.is_none());
    tables.map(|table| UntoldTable {
        table: table.table.clone(),
        backup_id: increment.backup_id.clone(),
        why: match &table.untold {
            Some(why) => why.clone(),
            None => "the change stream did not tell them".to_owned(),
        },
    })
}

/// Hands over what each transaction did to each table, in the order of commits, with the place of its increment in the
/// chain.
///
/// # Errors
/// The repository cannot be read, or `each` fails.
pub(crate) fn each_of(
    tools: &Tools,
    chain: &[Arc<Manifest>],
    each: &mut dyn FnMut(usize, TransactionRows) -> TaskResult<()>,
) -> TaskResult<()> {
    let (path, all) = (TablePath::transactions(), KeyRange::all());
    for (at, manifest) in chain.iter().enumerate() {
        if manifest.transactions.is_none() {
            continue;
        }
        let one = std::slice::from_ref(manifest);
        let read = tools.repository.read_chain(one, &path, &all, None);
        let mut read = tools.runtime.block_on(read)?;
        while let Some(block) = tools.runtime.block_on(read.next())? {
            for (key, change) in block.iter() {
                let rows = TransactionRows::decode(key, change).map_err(|error| {
                    let id = &manifest.backup_id;
                    TaskError::Proof(format!("the transactions of backup {id}: {error}"))
                })?;
                each(at, rows)?;
            }
        }
    }
    Ok(())
}
