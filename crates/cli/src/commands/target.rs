//! `mendb target`: whether a database can be worked with, and taking mendb off it.

use clap::Subcommand;
use mendb_engines::postgres::{Missing, SlotCheck, StreamCheck, TableCheck, TargetCheck};

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::{Field, table};

/// Look after a PostgreSQL database that is backed up and mended.
#[derive(Debug, Subcommand)]
pub enum TargetCommand {
    /// Say what of the database can be backed up and mended, and what has to be granted for the rest
    ///
    /// Nothing is changed. Exit code 3 when something is missing without which nothing works.
    Check,
    /// Remove everything that mendb keeps in the database: its schema mendb, and the replication slots and publications of
    /// change streams
    ///
    /// Backups stay where they are, and can be restored; the collections of the database are forgotten. It is refused
    /// while an operation holds a table.
    Detach,
}

impl TargetCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        match self {
            Self::Check => check(context),
            Self::Detach => {
                let target = context.detach_postgres()?;
                let record = serde_json::json!({ "detached": target });
                context.output.report(&record, |_| {
                    format!("mendb has left {target}: nothing of it is there any more\n")
                })?;
                Ok(Verdict::Done)
            }
        }
    }
}

fn check(context: &Context) -> Result<Verdict, Failure> {
    let found = context.look_at_postgres()?.check()?;
    let is_needed = found.missing.iter().any(|missing| missing.is_needed);
    context.output.record(&found, describe)?;
    Ok(if is_needed {
        Verdict::Drift
    } else {
        Verdict::Done
    })
}

fn describe(found: &TargetCheck) -> String {
    let mut text = format!(
        "PostgreSQL {}, database {}, as {}; {}{}\n\n",
        found.server,
        found.database,
        found.role,
        match found.is_attached {
            true => "mendb works on it",
            false => "mendb has not worked on it yet",
        },
        match found.is_standby {
            true => "; it is a standby, which can be backed up, and mended on its primary alone",
            false => "",
        }
    );
    text += &table(
        &found.tables,
        &[
            Field::left("table", |t: &TableCheck| t.table.clone()),
            Field::left("backup", |t| yes(t.refused.is_none())),
            Field::left("mend", |t| yes(t.can_be_mended)),
            Field::left("why not", |t| t.refused.clone().unwrap_or_default()),
        ],
    );
    let notes = found.tables.iter().flat_map(|table| &table.relatives);
    for note in notes {
        text += &format!("\nnote: {note}\n");
    }
    for Missing {
        what,
        is_needed,
        sql,
    } in &found.missing
    {
        let how = if *is_needed { "missing" } else { "better" };
        text += &format!("\n{how}: {what}\n    {sql};\n");
    }
    text + &describe_streams(&found.changes)
}

fn describe_streams(changes: &StreamCheck) -> String {
    let mut text = match (&changes.refused, changes.most_bytes) {
        (Some(why), _) => format!("\nno change stream can be kept (backup --changes stream): {why}\n"),
        (None, Some(most)) => format!(
            "\nchange streams can be kept (backup --changes stream); a slot that holds back more than {} of the log is \
             given up by the server\n",
            human::bytes(most)
        ),
        (None, None) => "\nchange streams can be kept (backup --changes stream); nothing bounds what their slots hold back: \
                         max_slot_wal_keep_size does\n"
            .to_owned(),
    };
    if !changes.slots.is_empty() {
        text += "\n";
        text += &table(
            &changes.slots,
            &[
                Field::left("slot", |s: &SlotCheck| s.slot.clone()),
                Field::left("stream", |s| s.stream.clone()),
                Field::left("state", |s| {
                    s.status.clone().unwrap_or_else(|| "gone".to_owned())
                }),
                Field::right("log kept", |s| told(s.kept_bytes)),
                Field::right("safe for", |s| told(s.safe_bytes)),
            ],
        );
    }
    text
}

fn told(bytes: Option<u64>) -> String {
    bytes.map(human::bytes).unwrap_or_default()
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}
