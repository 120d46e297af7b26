//! `mendb operation`: long operations, running, stopped or over.

use std::cmp::Ordering;
use std::time::Duration;

use clap::{Args, Subcommand};
use mendb_model::name::OperationId;
use mendb_model::operation::{OperationHead, PlannedStep, State, StepKind};
use mendb_model::part::OnConcurrentInsert;
use mendb_service::forget_through;
use mendb_service::journal::Journal;
use mendb_service::journal::command::Command;
use mendb_service::journal::operation_event::OperationEvent;
use mendb_service::journal::shard_progress::ShardProgress;
use serde::Serialize;

use crate::cluster::{ClusterArgs, command as cluster};
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::human;
use crate::operations::record::{OperationRecord, task_word};
use crate::orphan::way_out;
use crate::output::{Field, table};
use crate::owner::Owner;
use crate::parts::mend_report::MendTables;
use crate::service::lock_state;
use crate::settings::value::on_concurrent_insert;

/// Long operations: backups, restores and mends, running, stopped or over.
#[derive(Debug, Subcommand)]
pub enum OperationCommand {
    List(ListArgs),
    /// Show an operation: its plan, its shards, what happened
    Show {
        /// The operation
        operation: OperationId,
    },
    /// Drive an operation to its end, or follow it if another process does
    Watch {
        /// The operation
        operation: OperationId,
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Stop an operation until it is resumed
    Pause {
        /// The operation
        operation: OperationId,
    },
    /// Go on with an operation that was paused or has failed
    ///
    /// Of tables of a ClickHouse mend that stopped because parts came into them, what came goes with what else
    /// the backup does not have, unless it is to be kept. What came after that was told stops them again.
    Resume {
        /// The operation
        operation: OperationId,
        /// Of a cluster, have this replica do the part of a shard whose agent is lost; --cluster lists it. Until shards begin
        /// to be changed
        #[arg(long, value_name = "SHARD=REPLICA", value_parser = taken_over, help_heading = "Clusters")]
        replica: Option<(String, String)>,
        /// From now on, what to do with parts that were inserted after planning (ClickHouse)
        #[arg(long, value_name = "fail|remove|keep", value_parser = on_concurrent_insert, conflicts_with = "replica")]
        on_concurrent_insert: Option<OnConcurrentInsert>,
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Give an operation up and roll it back
    ///
    /// Rows that came into tables of a ClickHouse mend stay. Of a mend of a cluster, shards that are mended already are
    /// undone, and what becomes of such rows there can be said.
    Cancel {
        /// The operation
        operation: OperationId,
        /// Of a mend of a cluster, what to do with rows that came into shards that are mended [default: keep]
        #[arg(long, value_name = "fail|remove|keep", value_parser = on_concurrent_insert)]
        on_concurrent_insert: Option<OnConcurrentInsert>,
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// End an operation whose repository is gone for good, or that a lost journal does not know, on the target alone
    ///
    /// Its tables are as they were before it, or as it was about to leave them if readers may have seen that,
    /// and open to writers. What it wrote to the repository stays there. While the repository can be
    /// reached, cancel instead.
    ///
    /// Of an operation that is in no journal any more mendb operation list shows what the target holds for it.
    /// Of a row store, what readers do not see yet goes, and what they see is completed. On a ClickHouse server
    /// tables stay as they are, merges go on, and what was staged goes; mend them again to bring them to a
    /// backup. The state before a mend stays on the disks until the same command is given once more.
    Abandon {
        /// The operation
        operation: OperationId,
    },
    /// Remove the record of an operation that is over
    Forget {
        /// The operation
        operation: OperationId,
    },
}

/// List the operations of the target, and those of this machine on repositories alone
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those that are so
    #[arg(long, value_name = "running|paused|done|failed|cancelled", value_parser = parse_state)]
    in_state: Option<String>,
    /// Only those of this kind: full_backup, incremental_backup, restore, mend, undo, prune and so on
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only those of this collection
    #[arg(long, value_name = "COLLECTION")]
    collection: Option<String>,
    /// The newest first
    #[arg(long)]
    newest_first: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Those behind this one in the list
    #[arg(long, value_name = "OPERATION")]
    after: Option<String>,
}

fn taken_over(text: &str) -> Result<(String, String), String> {
    let named = text
        .split_once('=')
        .filter(|(shard, replica)| !shard.is_empty() && !replica.is_empty());
    let (shard, replica) = named.ok_or("it is not SHARD=REPLICA")?;
    Ok((shard.to_owned(), replica.to_owned()))
}

fn parse_state(text: &str) -> Result<String, String> {
    match text {
        "running" | "paused" | "done" | "failed" | "cancelled" => Ok(text.to_owned()),
        _ => Err("it is not running, paused, done, failed or cancelled".to_owned()),
    }
}

impl ListArgs {
    fn has(&self, record: &OperationRecord) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        let state = match record.state {
            over @ ("done" | "failed" | "cancelled") => over,
            _ if record.paused => "paused",
            _ => "running",
        };
        is(&self.in_state, state)
            && is(&self.kind, record.kind)
            && is(&self.collection, &record.collection)
    }

    /// Those that are wanted, in the order that is, and whether there are more.
    fn choose(
        &self,
        mut records: Vec<OperationRecord>,
    ) -> Result<(Vec<OperationRecord>, bool), Failure> {
        if self.newest_first {
            records.reverse();
        }
        if let Some(after) = &self.after {
            let at = records
                .iter()
                .position(|record| record.operation_id == *after);
            let at = at.ok_or_else(|| {
                Failure::input(format!(
                    "there is no operation {after} that others could be behind"
                ))
                .absent()
            })?;
            records.drain(..=at);
        }
        records.retain(|record| self.has(record));
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        let has_more = records.len() > limit;
        records.truncate(limit);
        Ok((records, has_more))
    }
}

impl OperationCommand {
    /// The cluster whose list is given anew.
    pub fn cluster(&self) -> Option<(&str, Option<u16>)> {
        match self {
            Self::Watch { cluster, .. }
            | Self::Resume { cluster, .. }
            | Self::Cancel { cluster, .. } => cluster.named(),
            _ => None,
        }
    }

    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        match self {
            Self::List(args) => list(context, &args),
            Self::Show { operation } => show(context, &operation),
            Self::Watch { operation, .. } => {
                let known = context.journal_of(&operation)?;
                let wanted = wanted(&known.1.operation_head(&operation)?);
                context.see_through(&known, &operation, wanted)
            }
            Self::Pause { operation } => pause(context, &operation),
            Self::Resume {
                operation,
                on_concurrent_insert,
                replica,
                cluster,
            } => {
                let known = context.journal_of(&operation)?;
                // Its rollback may be what failed.
                let wanted = wanted(&known.1.operation_head(&operation)?);
                let go_on = match replica {
                    Some((shard, replica)) => {
                        let named = cluster.named();
                        Command::TakeOver(cluster::agent_of(context, named, &shard, &replica)?)
                    }
                    None => Command::Resume(on_concurrent_insert),
                };
                context.deliver(&known, &operation, go_on)?;
                context.see_through(&known, &operation, wanted)
            }
            Self::Cancel {
                operation,
                on_concurrent_insert,
                ..
            } => {
                let known = context.journal_of(&operation)?;
                if on_concurrent_insert.is_some() {
                    check_takes_policy(&known.1.operation_head(&operation)?)?;
                }
                context.deliver(&known, &operation, Command::Cancel(on_concurrent_insert))?;
                context.see_through(&known, &operation, State::Cancelled)
            }
            Self::Abandon { operation } => {
                match context.repository_journal_of(&operation)? {
                    // It holds nothing elsewhere. Nobody may be driving it.
                    Some((Owner::Repository(directory), journal)) => {
                        let _alone = lock_state(&directory)?;
                        journal.delete_operation(&operation)?;
                    }
                    Some((Owner::Cluster(_), _)) => {
                        return Err(Failure::input(format!(
                            "operation {operation} is on a cluster, and its agents have begun operations for it"
                        ))
                        .hint(format!("mendb operation cancel {operation} has all of them taken back")));
                    }
                    _ => context.open_service()?.abandon(&operation)?,
                }
                let record = serde_json::json!({ "abandoned": operation });
                context
                    .output
                    .report(&record, |_| format!("operation {operation} abandoned\n"))?;
                Ok(Verdict::Done)
            }
            Self::Forget { operation } => {
                let (_, journal) = context.journal_of(&operation)?;
                match journal.operation_head(&operation)?.request.part_mend() {
                    // What it kept on the server to be undone by goes with it.
                    Some(_) => context.open_service()?.forget(&operation)?,
                    None => forget_through(&journal, &operation)?,
                }
                let record = serde_json::json!({ "forgotten": operation });
                context
                    .output
                    .report(&record, |_| format!("operation {operation} forgotten\n"))?;
                Ok(Verdict::Done)
            }
        }
    }
}

fn list(context: &Context, args: &ListArgs) -> Result<Verdict, Failure> {
    let journal = context.open_journal()?;
    let mut operations = match &journal {
        Some(journal) => journal.operations()?,
        None => Vec::new(),
    };
    for (_, journal) in context.repository_journals()? {
        operations.extend(journal.operations()?);
    }
    operations.sort_by_key(|operation| operation.created_at_ms);
    // What is known is told all the same.
    let orphans = context.orphans(journal.as_ref()).unwrap_or_else(|failure| {
        context.say(&format!(
            "note: what the target holds for operations that are in no journal cannot be told: {}",
            failure.message
        ));
        Vec::new()
    });
    if operations.is_empty() && journal.is_none() && orphans.is_empty() {
        let place = context.journal_directory()?;
        context.say(&format!(
            "no operation has begun: there is no journal in {}",
            place.display()
        ));
    }
    for orphan in &orphans {
        let id = &orphan.operation_id;
        context.say(&format!(
            "note: operation {id} is not in the journal, which was lost: {}",
            way_out(id)
        ));
    }
    let known = operations.iter().map(OperationRecord::new);
    let records: Vec<_> = known
        .chain(orphans.into_iter().map(OperationRecord::orphan))
        .collect();
    let (records, has_more) = args.choose(records)?;
    if let (true, Some(session), Some(last)) = (has_more, &context.session, records.last()) {
        session.tell_more(&last.operation_id);
    }
    context.output.records(
        &records,
        &[
            Field::left("operation", |r: &OperationRecord| r.operation_id.clone()),
            Field::left("kind", |r| r.kind.to_owned()),
            Field::left("collection", |r| r.subject().to_owned()),
            Field::left("state", OperationRecord::standing),
            Field::left("step", |r| r.step.clone()),
            Field::right("%", |r| format!("{:.0}", r.percent)),
            Field::right("rows", |r| human::count(r.rows_done)),
            Field::right("bytes", |r| human::bytes(r.bytes_done)),
            Field::left("error", |r| r.error.clone().unwrap_or_default()),
        ],
    )?;
    Ok(Verdict::Done)
}

/// An operation with all that is known about it.
#[derive(Serialize)]
struct OperationDetails {
    #[serde(flatten)]
    operation: OperationRecord,
    steps: Vec<StepRecord>,
    shards: Vec<ShardRecord>,
    /// What its steps are made of, as a word.
    #[serde(skip)]
    tasks: &'static str,
    /// The tables of a mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<MendTables>,
    events: Vec<OperationEvent>,
}

#[derive(Serialize)]
struct StepRecord {
    step: String,
    state: &'static str,
    shards_done: u64,
    shards_total: u64,
    rows: u64,
    bytes: u64,
    bytes_total: u64,
}

impl StepRecord {
    fn new(step: &PlannedStep, state: &'static str, shards: &[ShardProgress]) -> Self {
        let done = shards.iter().filter(|shard| is_done(shard));
        let bytes = shards.iter().map(|shard| shard.bytes).sum();
        Self {
            step: step.label(),
            state,
            shards_done: done.count() as u64,
            shards_total: shards.len() as u64,
            rows: shards.iter().map(|shard| shard.rows).sum(),
            bytes,
            bytes_total: step.bytes_total.max(bytes),
        }
    }
}

fn is_done(shard: &ShardProgress) -> bool {
    shard.status == "done"
}

#[derive(Serialize)]
struct ShardRecord {
    /// The step it works in.
    step: String,
    shard_idx: u32,
    /// The sharded table it works on; null where a step is one piece of work.
    table: Option<String>,
    status: String,
    /// How many there were of it in this step.
    attempt: u32,
    /// Hex digits.
    last_key: Option<String>,
    rows: u64,
    bytes: u64,
    bytes_total: u64,
    percent: f64,
    error: Option<String>,
}

impl ShardRecord {
    fn new(step: &PlannedStep, shard: ShardProgress) -> Self {
        let share = shard.bytes as f64 / shard.bytes_total.max(1) as f64;
        Self {
            step: step.label(),
            shard_idx: shard.shard_idx,
            percent: if is_done(&shard) {
                100.0
            } else {
                (share * 100.0).min(99.99)
            },
            table: shard.path,
            status: shard.status,
            attempt: shard.attempt,
            last_key: shard.last_key,
            rows: shard.rows,
            bytes: shard.bytes,
            bytes_total: shard.bytes_total,
            error: shard.error,
        }
    }
}

/// Where the step at a place of the plan stands.
fn standing(operation: &OperationHead, at: u32) -> &'static str {
    match (operation.current_step.cmp(&at), operation.state) {
        (Ordering::Greater, _) => "done",
        (Ordering::Equal, State::Done | State::Cancelled) => "done",
        (Ordering::Equal, State::Failed) => "failed",
        (Ordering::Equal, _) if operation.is_paused() => "paused",
        (Ordering::Equal, _) => "running",
        (Ordering::Less, _) => "planned",
    }
}

fn show(context: &Context, id: &OperationId) -> Result<Verdict, Failure> {
    let (_, journal) = context.journal_of(id)?;
    let operation = journal.operation(id)?;
    let progress = journal.shard_progress(id)?;
    let mut steps = Vec::with_capacity(operation.steps.len());
    let mut shards = Vec::with_capacity(progress.len());
    let mut left = progress.into_iter().peekable();
    // Attempts are counted on from step to step.
    let mut attempts_before = 0;
    for (at, step) in (0u32..).zip(&operation.steps) {
        let mut of_step: Vec<_> =
            std::iter::from_fn(|| left.next_if(|shard| shard.step <= at)).collect();
        let highest = of_step.iter().map(|shard| shard.attempt).max();
        for shard in &mut of_step {
            // Of a step that was left for an earlier one these are its own.
            if shard.attempt > attempts_before {
                shard.attempt -= attempts_before;
            }
        }
        attempts_before = attempts_before.max(highest.unwrap_or(0));
        let state = standing(&operation, at);
        steps.push(StepRecord::new(step, state, &of_step));
        let records = of_step.into_iter();
        shards.extend(records.map(|shard| ShardRecord::new(step, shard)));
    }
    let mend = match operation.request.part_mend() {
        Some(request) => Some(MendTables::new(
            &operation,
            request,
            &journal.mend_plans(id)?,
        )),
        None => None,
    };
    let details = OperationDetails {
        operation: OperationRecord::new(&operation),
        steps,
        shards,
        tasks: task_word(&operation.request),
        mend,
        events: journal.operation_events(id)?,
    };
    context.output.record(&details, describe)?;
    Ok(Verdict::Done)
}

fn describe(details: &OperationDetails) -> String {
    let record = &details.operation;
    let mut text = format!(
        "operation  {}\nkind       {} of {}{}\nstate      {}, {:.0} %, {} and {} done, {}/s\ncreated    {}\nupdated    {}\n",
        record.operation_id,
        record.kind,
        if record.source.is_some() {
            ""
        } else {
            "collection "
        },
        record.subject(),
        record.standing(),
        record.percent,
        human::rows(record.rows_done),
        human::bytes(record.bytes_done),
        human::bytes(record.bytes_per_second),
        record.created_at,
        record.updated_at,
    );
    if let Some(eta) = record.eta_seconds {
        text += &format!(
            "ETA        {}\n",
            human::duration(Duration::from_secs_f64(eta))
        );
    }
    for taken_over in &record.taken_over {
        text += &format!("taken over {}\n", taken_over.sentence());
    }
    if let Some(error) = &record.error {
        text += &format!("error      {error}\n");
    }
    text += "\n";
    text += &table(
        &details.steps,
        &[
            Field::left("step", |s: &StepRecord| s.step.clone()),
            Field::left("state", |s| s.state.to_owned()),
            Field::right(details.tasks, |s| {
                format!("{}/{}", s.shards_done, s.shards_total)
            }),
            Field::right("rows", |s| human::count(s.rows)),
            Field::right("bytes", |s| human::bytes(s.bytes)),
            Field::right("of", |s| human::bytes(s.bytes_total)),
        ],
    );
    text += "\n";
    text += &table(
        &details.shards,
        &[
            Field::left("step", |s: &ShardRecord| s.step.clone()),
            Field::right("#", |s| s.shard_idx.to_string()),
            Field::left("table", |s| s.table.clone().unwrap_or_default()),
            Field::left("status", |s| s.status.clone()),
            Field::right("attempt", |s| s.attempt.to_string()),
            Field::right("%", |s| format!("{:.0}", s.percent)),
            Field::right("rows", |s| human::count(s.rows)),
            Field::right("bytes", |s| human::bytes(s.bytes)),
            Field::left("error", |s| s.error.clone().unwrap_or_default()),
        ],
    );
    if let Some(mend) = &details.mend {
        text += &mend.describe();
        text += &mend.describe_stopped();
    }
    text += "\n";
    let lines = details
        .events
        .iter()
        .map(|event| format!("{}  {}\n", human::time(event.at_ms), event.event));
    text + &lines.collect::<String>()
}

/// Where an operation is to end: one that is being rolled back ends cancelled.
fn wanted(operation: &OperationHead) -> State {
    let is_back = operation.step_kind() == StepKind::Rollback;
    match operation.state {
        State::Done | State::Cancelled => State::Done,
        _ if is_back => State::Cancelled,
        _ => State::Done,
    }
}

/// Refuses to say what becomes of rows that came where a cancel leaves them.
fn check_takes_policy(operation: &OperationHead) -> Result<(), Failure> {
    let request = operation.request.cluster();
    if request.is_some_and(|request| !request.is_backup()) {
        return Ok(());
    }
    Err(Failure::misuse(format!(
        "--on-concurrent-insert is for a mend of a cluster, and operation {} is {} that is cancelled without: rows that \
         came stay",
        operation.operation_id,
        operation.request.a_kind()
    ))
    .hint("leave it out"))
}

/// Asks something of an operation, and sees that it is taken. Where that is refused, nothing is asked.
fn command(
    context: &Context,
    id: &OperationId,
    command: Command,
) -> Result<(Owner, Journal), Failure> {
    let known = context.journal_of(id)?;
    context.deliver(&known, id, command)?;
    Ok(known)
}

fn pause(context: &Context, id: &OperationId) -> Result<Verdict, Failure> {
    let (_, journal) = command(context, id, Command::Pause)?;
    let operation = journal.operation_head(id)?;
    if !operation.is_paused() && !operation.state.is_terminal() {
        return Err(Failure::new(
            FailureKind::Retry,
            format!(
                "operation {id} is not paused: it is {}",
                operation.state.name()
            ),
        ));
    }
    context
        .output
        .report(&OperationRecord::new(&operation), OperationRecord::sentence)?;
    Ok(Verdict::Done)
}
