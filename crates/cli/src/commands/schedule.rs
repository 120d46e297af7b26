//! `mendb schedule`: what a server does by itself, and when.

use clap::{Args, FromArgMatches, Subcommand};
use mendb_model::name::{OperationId, check};
use mendb_model::operation::State;
use mendb_server::Store;
use mendb_server::cron::Cron;
use mendb_server::schedule::{Choice, MOST_JITTER_S, choose, zone};
use mendb_server::store::schedule::{Run, Schedule, Work};
use mendb_service::env;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cluster::command as cluster;
use crate::commands::backup::BackupCommand;
use crate::commands::drill::{self, DrillCommand, Sample};
use crate::commands::prune::{KeepArgs, PruneCommand};
use crate::commands::verify::VerifyCommand;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::human;
use crate::output::{Field, table};
use crate::settings::secret::hide_in_url;
use crate::target::Target;

/// How schedules are written, by example.
const EXAMPLES: &str = "\
By example:

  mendb schedule add sundays world full --cron '0 3 * * sun' --time-zone Europe/Paris
  mendb schedule add hourly world increment --cron '@hourly'
  mendb schedule add monthly world verify --cron '0 5 1 * *'
  mendb schedule add proof world drill --cron '0 4 * * sat' --sample 20%
  mendb schedule add keep world prune --cron '30 5 * * *' --keep-last 7 --keep-weekly 8";

/// What the server does by itself, and when.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    Add(AddArgs),
    /// List the schedules, when each is due, and how its last run ended
    List,
    /// Show a schedule and its last runs
    Show {
        /// The schedule
        name: String,
    },
    /// Pause a schedule until it is resumed; what runs goes on
    Pause {
        /// The schedule
        name: String,
    },
    /// Go on with a schedule that was paused; what was due meanwhile is not caught up
    Resume {
        /// The schedule
        name: String,
    },
    /// Remove a schedule; what it did stays
    Remove {
        /// The schedule
        name: String,
    },
    /// Do what a schedule does, now
    Run {
        /// The schedule
        name: String,
    },
}

/// Have the server do something at times that recur
///
/// The times are those of cron: minute, hour, day of the month, month, weekday, in a time zone. A time that a change
/// of the clock leaves out is due as much later as the clock was put on, one that comes twice is due once; where the
/// hour is * it goes on in each hour that there is. Times without a server are caught up by one run. A time that comes
/// while the run before is not over is skipped, and the list says so. Runs that change one collection run one after
/// another, and wait for operations in their way, which the list tells too.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct AddArgs {
    /// Its name
    name: String,
    /// The collection
    collection: String,
    /// What is done: a full backup; an increment, or a full backup where none can be taken; verify; prune; a restore
    /// drill of the newest backup
    #[arg(value_name = "full|increment|verify|prune|drill")]
    work: Work,
    /// When: minute hour day month weekday, or @hourly, @daily, @weekly, @monthly, @yearly
    #[arg(long, value_name = "CRON")]
    cron: String,
    /// In which time zone
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// Put each time off by less than so long, by another while each: at most 1h
    #[arg(long, value_name = "DURATION", value_parser = jitter)]
    jitter: Option<u32>,
    /// How much of each table a drill restores [default: 10%]
    #[arg(long, value_name = "PERCENT|all")]
    sample: Option<Sample>,
    #[command(flatten)]
    keep: KeepArgs,
}

/// The seconds of a duration such as 90s, 10m or 1h.
fn jitter(text: &str) -> Result<u32, String> {
    const UNITS: [(char, u32); 3] = [('s', 1), ('m', 60), ('h', 3600)];
    let seconds = |(unit, seconds): (char, u32)| {
        let number = text.strip_suffix(unit)?.parse::<u32>().ok()?;
        number.checked_mul(seconds)
    };
    match UNITS.into_iter().find_map(seconds) {
        Some(seconds) if seconds <= MOST_JITTER_S => Ok(seconds),
        Some(_) => Err("it is more than 1h".to_owned()),
        None => Err("it is no duration such as 90s, 10m or 1h".to_owned()),
    }
}

#[derive(Serialize)]
struct ScheduleRecord {
    #[serde(flatten)]
    schedule: Schedule,
    /// When it is due next.
    next_at: Option<String>,
    /// Why it is never due.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
    last_run: Option<RunRecord>,
}

#[derive(Serialize)]
struct RunRecord {
    due_at: String,
    begun_at: String,
    #[serde(flatten)]
    run: Run,
}

impl RunRecord {
    fn new(run: Run) -> Self {
        Self {
            due_at: human::time(run.due_ms),
            begun_at: human::time(run.begun_ms),
            run,
        }
    }

    fn outcome(&self) -> String {
        match (&self.run.outcome, &self.run.waits) {
            (Some(outcome), _) => outcome.clone(),
            (None, Some(why)) => format!("waits: {why}"),
            (None, None) => "running".to_owned(),
        }
    }
}

impl ScheduleRecord {
    fn new(schedule: Schedule, store: &Store) -> Result<Self, Failure> {
        let choice = choose(&schedule, env::now_ms());
        let (next_ms, broken) = match choice {
            Ok(Choice::Paused) => (None, None),
            Ok(Choice::Wait { until_ms }) => (until_ms, None),
            Ok(Choice::Run { due_ms, .. }) => (Some(due_ms), None),
            Err(why) => (None, Some(why)),
        };
        Ok(Self {
            last_run: store.last_run(&schedule.name)?.map(RunRecord::new),
            next_at: next_ms.map(human::time),
            broken,
            schedule,
        })
    }
}

impl ScheduleRecord {
    /// When it is due next, or why it is not.
    fn next(&self) -> String {
        match (self.schedule.paused_at_ms, &self.next_at, &self.broken) {
            (Some(since_ms), ..) => format!("paused since {}", human::time(since_ms)),
            (None, Some(at), _) => at.clone(),
            (None, None, Some(why)) => why.clone(),
            (None, None, None) => "no time".to_owned(),
        }
    }
}

#[derive(Serialize)]
struct ScheduleDetails {
    #[serde(flatten)]
    record: ScheduleRecord,
    runs: Vec<RunRecord>,
}

impl ScheduleCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let store = &*context.open_store()?;
        match self {
            Self::Add(args) => {
                let schedule = args.schedule()?;
                check_collection(context, schedule.work, &schedule.collection)?;
                if !store.add_schedule(&schedule)? {
                    let name = &schedule.name;
                    return Err(Failure::input(format!("there is a schedule {name} already")).hint(
                        format!("choose another name, or remove that one: mendb schedule remove {name}"),
                    ));
                }
                let record = ScheduleRecord::new(schedule, store)?;
                context.output.report(&record, |record| {
                    format!(
                        "schedule {}: {} of {}, next at {}\n",
                        record.schedule.name,
                        record.schedule.work.name(),
                        record.schedule.collection,
                        record.next()
                    )
                })?;
                if context.session.is_none() {
                    context.say("mendb serve of this target runs it");
                }
            }
            Self::List => list(context, store)?,
            Self::Show { name } => {
                let record = ScheduleRecord::new(find(store, &name)?, store)?;
                let runs = store.runs(&name)?.into_iter().map(RunRecord::new).collect();
                let details = ScheduleDetails { record, runs };
                context.output.record(&details, describe)?;
            }
            Self::Pause { name } => pause(context, store, &name, true)?,
            Self::Resume { name } => pause(context, store, &name, false)?,
            Self::Remove { name } => {
                find(store, &name)?;
                store.remove_schedule(&name)?;
                let record = serde_json::json!({ "removed": name });
                context
                    .output
                    .report(&record, |_| format!("schedule {name} removed\n"))?;
            }
            Self::Run { name } => return work(&find(store, &name)?, context),
        }
        Ok(Verdict::Done)
    }
}

fn find(store: &Store, name: &str) -> Result<Schedule, Failure> {
    let mut schedules = store.schedules()?.into_iter();
    schedules
        .find(|schedule| schedule.name == name)
        .ok_or_else(|| {
            Failure::input(format!("there is no schedule {name}"))
                .hint("mendb schedule list shows those there are")
                .absent()
        })
}

fn list(context: &Context, store: &Store) -> Result<(), Failure> {
    let schedules = store.schedules()?.into_iter();
    let records = schedules.map(|schedule| ScheduleRecord::new(schedule, store));
    let records = records.collect::<Result<Vec<_>, _>>()?;
    context.output.records(
        &records,
        &[
            Field::left("schedule", |r: &ScheduleRecord| r.schedule.name.clone()),
            Field::left("work", |r| r.schedule.work.name().to_owned()),
            Field::left("collection", |r| r.schedule.collection.clone()),
            Field::left("cron", |r| r.schedule.cron.clone()),
            Field::left("zone", |r| r.schedule.time_zone.clone()),
            Field::left("next", ScheduleRecord::next),
            Field::left("last run", |r| {
                let run = r.last_run.as_ref();
                run.map(|run| format!("{} {}", run.due_at, run.outcome()))
                    .unwrap_or_default()
            }),
        ],
    )
}

fn describe(details: &ScheduleDetails) -> String {
    let ScheduleDetails { record, runs } = details;
    let schedule = &record.schedule;
    let arguments = match schedule.arguments.is_empty() {
        true => String::new(),
        false => format!(
            "\narguments   {}",
            Value::Object(schedule.arguments.clone())
        ),
    };
    let jitter = match schedule.jitter_s {
        0 => String::new(),
        seconds => format!(", put off by up to {seconds} s"),
    };
    let head = format!(
        "schedule    {}\nwork        {} of {}\ncron        {} in {}{jitter}\nnext        {}{arguments}\n\n",
        schedule.name,
        schedule.work.name(),
        schedule.collection,
        schedule.cron,
        schedule.time_zone,
        record.next(),
    );
    let fields = [
        Field::left("due", |r: &RunRecord| r.due_at.clone()),
        Field::right("missed", |r| r.run.missed.to_string()),
        Field::left("outcome", RunRecord::outcome),
        Field::left("operation", |r| {
            r.run.operation_id.clone().unwrap_or_default()
        }),
    ];
    head + &table(runs, &fields)
}

impl AddArgs {
    fn schedule(self) -> Result<Schedule, Failure> {
        check(&self.name)?;
        check(&self.collection)?;
        Cron::parse(&self.cron).map_err(|why| Failure::misuse(format!("--cron: {why}")))?;
        zone(&self.time_zone).map_err(|why| Failure::misuse(format!("--time-zone: {why}")))?;
        let mut arguments = self.keep.fields();
        match (self.work, arguments.is_empty()) {
            (Work::Prune, true) => {
                return Err(Failure::misuse("no rule says which backups to keep")
                    .hint("say it, as with --keep-last 7 --keep-weekly 4"));
            }
            (Work::Full | Work::Increment | Work::Verify | Work::Drill, false) => {
                return Err(Failure::misuse("rules that keep backups are for prune"));
            }
            _ => {}
        }
        match (self.work, self.sample) {
            (_, None) => {}
            (Work::Drill, Some(sample)) => {
                arguments.insert("sample".to_owned(), sample.to_string().into());
            }
            (_, Some(_)) => return Err(Failure::misuse("--sample is for drill")),
        }
        let now_ms = env::now_ms();
        Ok(Schedule {
            name: self.name,
            work: self.work,
            collection: self.collection,
            cron: self.cron,
            time_zone: self.time_zone,
            arguments,
            created_at_ms: now_ms,
            decided_ms: now_ms,
            jitter_s: self.jitter.unwrap_or(0),
            paused_at_ms: None,
        })
    }
}

/// Refuses a collection that the work could not be done with.
fn check_collection(context: &Context, work: Work, name: &str) -> Result<(), Failure> {
    let is_there = match (work, context.target()?) {
        (Work::Drill, Target::Cluster(_)) => {
            return Err(
                Failure::misuse("drills are of one server, and the target is a cluster")
                    .hint("mendb drill beside one of its servers restores a sample there"),
            );
        }
        // Its agents know which tables there are.
        (Work::Full | Work::Increment, Target::Cluster(_)) => true,
        (Work::Full | Work::Increment, Target::ClickHouse(_)) => {
            context.look()?.has_part_collection(name)?
        }
        (Work::Full | Work::Increment, Target::Rows(_) | Target::Postgres(_)) => {
            is_defined(context, name)?
        }
        (Work::Verify | Work::Prune | Work::Drill, _) => {
            is_defined(context, name)? || {
                let runtime = context.runtime()?;
                let repository = context.open_repository(&runtime)?;
                let backed_up = runtime.block_on(repository.collections())?;
                backed_up.iter().any(|collection| collection == name)
            }
        }
    };
    if is_there {
        return Ok(());
    }
    Err(match (work, context.target()?) {
        (Work::Verify | Work::Prune | Work::Drill, _) => Failure::input(format!(
            "there is no collection {name} on this target, and no backup of it in {}",
            hide_in_url(&context.settings.repository)
        ))
        .hint("mendb collection list and mendb list show those there are")
        .absent(),
        (_, Target::ClickHouse(_)) => Failure::input(format!(
            "there is no backup of a collection {name}, and no database of that name with tables"
        ))
        .hint(format!(
            "a first backup says which tables it has: mendb backup {name} --tables PATTERNS"
        ))
        .absent(),
        _ => mendb_service::Error::UnknownCollection(name.to_owned()).into(),
    })
}

fn is_defined(context: &Context, name: &str) -> Result<bool, Failure> {
    Ok(match context.open_journal()? {
        Some(journal) => journal.collection(name)?.is_some(),
        None => false,
    })
}

/// Pauses a schedule or lets it go on.
fn pause(context: &Context, store: &Store, name: &str, is_paused: bool) -> Result<(), Failure> {
    find(store, name)?;
    store.pause_schedule(name, is_paused, env::now_ms())?;
    let record = ScheduleRecord::new(find(store, name)?, store)?;
    context.output.report(&record, |record| match is_paused {
        true => format!("schedule {name} is {}\n", record.next()),
        false => format!("schedule {name} goes on, next at {}\n", record.next()),
    })
}

/// Does what a schedule does, now.
///
/// # Errors
/// As the command that it stands for.
pub fn work(schedule: &Schedule, context: &Context) -> Result<Verdict, Failure> {
    let collection = &schedule.collection;
    if let (Work::Full | Work::Increment, Target::Cluster(list)) =
        (schedule.work, context.target()?)
    {
        let fields = Map::from_iter([("collection".to_owned(), Value::from(collection.as_str()))]);
        let list = list.to_string_lossy();
        return cluster::run(context, &["backup"], fields, (&list, None));
    }
    match schedule.work {
        Work::Full => words::<BackupCommand>(collection, &[])?.run(context),
        Work::Increment => {
            let increment = words::<BackupCommand>(collection, &["--incremental".to_owned()])?;
            match increment.run(context) {
                // There is nothing that it could stand on, or this target has no increments.
                Err(failure) if failure.needs_full => {
                    context.say(&format!("a full backup is taken: {}", failure.message));
                    words::<BackupCommand>(collection, &[])?.run(context)
                }
                ended => ended,
            }
        }
        Work::Verify => words::<VerifyCommand>(collection, &[])?.run(context),
        Work::Prune => words::<PruneCommand>(collection, &flags(schedule))?.run(context),
        Work::Drill => words::<DrillCommand>(collection, &flags(schedule))?.run(context),
    }
}

/// The arguments of a schedule as flags of its command.
fn flags(schedule: &Schedule) -> Vec<String> {
    let flag = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let flag = format!("--{}", name.replace('_', "-"));
        match value.as_str() {
            "true" => flag,
            value => format!("{flag}={value}"),
        }
    };
    schedule.arguments.iter().map(flag).collect()
}

/// Follows the operation that a schedule has made to its end, and reports it.
///
/// # Errors
/// It does not end as it should.
pub fn go_on(schedule: &Schedule, context: &Context, id: &OperationId) -> Result<Verdict, Failure> {
    if schedule.work == Work::Drill {
        return drill::see_through(context, id);
    }
    let known = context.journal_of(id)?;
    context.see_through(&known, id, State::Done)
}

/// The command of some words.
fn words<C: Args + FromArgMatches>(collection: &str, flags: &[String]) -> Result<C, Failure> {
    let line = std::iter::once("mendb").chain(flags.iter().map(String::as_str));
    let line = line.chain(["--", collection]);
    let command = C::augment_args(clap::Command::new("mendb"));
    let wrong = |error: clap::Error| {
        Failure::new(
            FailureKind::FixCommand,
            error.render().to_string().trim().to_owned(),
        )
    };
    let matches = command.try_get_matches_from(line).map_err(wrong)?;
    C::from_arg_matches(&matches).map_err(wrong)
}
