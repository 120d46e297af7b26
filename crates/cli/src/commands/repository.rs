//! `mendb repository`: places that hold backups.

use clap::Subcommand;
use mendb_model::operation::{MaintenanceRequest, MaintenanceWork};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;

/// Places that hold backups.
#[derive(Debug, Subcommand)]
pub enum RepositoryCommand {
    /// Make the place that --repository names a repository
    ///
    /// The first backup of a target makes its repository itself, and says so. This is for all others: a
    /// target that was backed up elsewhere before makes none by itself, as the place may be one whose disk is
    /// not mounted. One that is there stays as it is.
    Init,
    /// Remove files of ClickHouse parts that no backup needs
    ///
    /// Every deletion of a backup does it, too. What no backup needs is noted first, and goes with the first
    /// deletion, or the first run of this, a day later, if still no backup needs it: another target may be
    /// taking one. One process at a time removes things from a repository; backups are taken beside it.
    Tidy {
        /// Say how many objects wait for their day, and remove none
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Serialize)]
struct TidyRecord {
    dry_run: bool,
    /// Removed now.
    objects: u64,
    bytes: u64,
    /// What no backup needs and waits for its day.
    waiting_objects: u64,
}

#[derive(Serialize)]
struct InitRecord {
    repository_id: String,
    url: String,
    /// Whether it was made now; it was there before otherwise.
    made: bool,
}

impl RepositoryCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        match self {
            Self::Init => init(context),
            Self::Tidy { dry_run } => tidy(context, dry_run),
        }
    }
}

fn tidy(context: &Context, dry_run: bool) -> Result<Verdict, Failure> {
    let runtime = context.runtime()?;
    let repository = context.open_repository(&runtime)?;
    let header = runtime.block_on(repository.header())?;
    // Where no repository is none is made, and nothing is to be removed.
    let progress = match header.filter(|_| !dry_run) {
        Some(_) => {
            let request = MaintenanceRequest {
                work: MaintenanceWork::Tidy,
                collection: String::new(),
                folds: Vec::new(),
                removals: Vec::new(),
                keeps: Vec::new(),
                order: String::new(),
                tidies: true,
            };
            let (operation, _) = context.maintain(&repository, &runtime, request)?;
            Some(operation.progress())
        }
        None => None,
    };
    let record = TidyRecord {
        dry_run,
        objects: progress.map_or(0, |progress| progress.rows_done),
        bytes: progress.map_or(0, |progress| progress.bytes_done),
        waiting_objects: runtime.block_on(repository.waiting_garbage())?,
    };
    context.output.report(&record, |record| {
        let bytes = human::bytes(record.bytes);
        let mut said = String::new();
        if !record.dry_run {
            said += &format!("removed {} objects, {bytes}\n", record.objects);
        } else if record.waiting_objects == 0 {
            said += "no object waits to be removed; what else no backup needs is found when this runs\n";
        }
        if record.waiting_objects > 0 {
            said += &format!(
                "{} that no backup needs go when they have waited for a day\n",
                record.waiting_objects
            );
        }
        said
    })?;
    Ok(Verdict::Done)
}

fn init(context: &Context) -> Result<Verdict, Failure> {
    let runtime = context.runtime()?;
    let repository = context.open_repository(&runtime)?;
    let before = runtime.block_on(repository.header())?;
    let header = runtime.block_on(repository.create_if_absent())?;
    let record = InitRecord {
        repository_id: header.repository_id,
        url: repository.url().to_owned(),
        made: before.is_none(),
    };
    context.output.report(&record, |record| {
        let InitRecord {
            repository_id,
            url,
            made,
        } = record;
        match made {
            true => format!("made a new repository at {url} (id {repository_id})\n"),
            false => format!("{url} is a repository already (id {repository_id})\n"),
        }
    })?;
    Ok(Verdict::Done)
}
