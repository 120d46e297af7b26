//! The transactions whose changes increments keep one by one.

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;

use mendb_model::name::BackupId;
use mendb_model::unfolded::TransactionRows;
use mendb_service::{Service, Transaction, TransactionsOrder};
use serde::Serialize;

use super::mend_preview::moment;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::human;
use crate::output::OutputFormat;

/// A transaction, as JSON has it.
#[derive(Serialize)]
struct TransactionRecord<'a> {
    transaction: u64,
    committed: String,
    backup: &'a BackupId,
    tables: Vec<TableRecord<'a>>,
}

/// What it did to a table.
#[derive(Serialize)]
struct TableRecord<'a> {
    table: &'a str,
    inserted: u64,
    updated: u64,
    deleted: u64,
    truncated: bool,
    /// It may have done more there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    in_part: bool,
}

impl<'a> TableRecord<'a> {
    fn new(rows: &'a TransactionRows, in_part: bool) -> Self {
        Self {
            table: &rows.table,
            inserted: rows.inserted,
            updated: rows.updated,
            deleted: rows.deleted,
            truncated: rows.truncated,
            in_part,
        }
    }
}

/// Prints those that are asked for, as they are found.
pub fn show(
    context: &Context,
    service: &Service,
    order: &TransactionsOrder,
) -> Result<Verdict, Failure> {
    let mut out = BufWriter::new(context.output.writer());
    let mut failed = Ok(());
    let report = service.transactions(order, &mut |transaction| {
        let text = match context.output.format {
            OutputFormat::Text => Ok(describe(&transaction)),
            OutputFormat::Json => as_json(&transaction),
        };
        failed = text.and_then(|text| {
            let written = out.write_all(text.as_bytes());
            written.map_err(|error| Failure::io("cannot write to stdout", &error))
        });
        match failed {
            Ok(()) => context.while_heard(),
            Err(_) => ControlFlow::Break(()),
        }
    });
    failed?;
    context.check_heard()?;
    let flushed = out.flush();
    flushed.map_err(|error| Failure::io("cannot write to stdout", &error))?;
    let report = report?;
    let report =
        report.ok_or_else(|| Failure::new(FailureKind::BrokenPipe, "the search was ended"))?;
    if let [first, more @ ..] = report.silent.as_slice() {
        let more = match more.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        context.say(&format!(
            "increment {first}{more} up to backup {} keep no changes one by one: transactions in them are not shown",
            report.backup_id
        ));
    }
    for gap in &report.gaps {
        context.say(gap);
    }
    for untold in &report.untold {
        context.say(&format!("not known is what they did to {untold}"));
    }
    if report.found > 0 {
        context.say(&format!(
            "not looked at is what they did to tables outside of collection {}",
            order.of.collection
        ));
    }
    if report.found == 0 {
        context.say(&format!(
            "no increment up to backup {} has a change of {}",
            report.backup_id, order.changed_by
        ));
    }
    Ok(Verdict::Done)
}

fn describe(transaction: &Transaction) -> String {
    let mut text = format!(
        "transaction {} committed {}, in {}\n",
        transaction.number,
        moment(transaction.committed_us),
        transaction.backup_id
    );
    for rows in &transaction.tables {
        let counts = [
            (rows.inserted, "inserted"),
            (rows.updated, "updated"),
            (rows.deleted, "deleted"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let mut did: Vec<String> = counts
            .map(|(count, what)| format!("{} {what}", human::count(count)))
            .collect();
        if rows.truncated {
            did.push("emptied by TRUNCATE".to_owned());
        }
        if transaction.in_part.contains(&rows.table) {
            did.push("and maybe more".to_owned());
        }
        text += &format!("  {}: {}\n", rows.table, did.join(", "));
    }
    text
}

fn as_json(transaction: &Transaction) -> Result<String, Failure> {
    let record = TransactionRecord {
        transaction: transaction.number,
        committed: moment(transaction.committed_us),
        backup: &transaction.backup_id,
        tables: (transaction.tables.iter())
            .map(|rows| TableRecord::new(rows, transaction.in_part.contains(&rows.table)))
            .collect(),
    };
    let text = serde_json::to_string(&record);
    let text = text.map_err(|error| Failure::io("cannot write JSON", &error.into()))?;
    Ok(text + "\n")
}
