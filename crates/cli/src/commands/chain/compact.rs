//! `mendb chain compact`: fold a run of backups into its last one.

use std::collections::BTreeMap;

use clap::Args;
use mendb_model::manifest::Manifest;
use mendb_model::name::BackupKind;
use mendb_model::operation::{FoldedRun, MaintenanceRequest, MaintenanceWork};
use mendb_model::{BackupId, TargetMark};
use mendb_repo::{Repository, StoredManifest};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::{Field, table};

/// What is folded, by example.
const EXAMPLES: &str = "\
A chain of four:   full <- monday <- tuesday <- wednesday

  mendb chain compact shop                       full <- wednesday
  mendb chain compact shop --to tuesday          full <- tuesday <- wednesday
  mendb chain compact shop --from tuesday        full <- monday <- wednesday
  mendb chain compact shop --full                wednesday, a full backup
  mendb chain compact shop --full --to tuesday   tuesday, a full backup <- wednesday";

/// Fold a run of backups of a chain into its last one.
///
/// Without flags all increments after the full backup are folded into the newest. The last backup of the
/// run stays, with its id and its label, and with it all that are not of the run: they can be restored
/// and mended to as before, and the next increment goes on. THE OTHERS OF THE RUN ARE NO RESTORE POINTS
/// ANY MORE, nor can a restore in place be undone whose state before is one of them; --dry-run says which
/// they are. What single transactions did (backup --changes stream) is not kept of the run.
///
/// Only the repository is read and written, and it needs room for what is folded beside what is there.
/// The old backups go only when the new one is in place and was read again. A compaction that was
/// killed leaves the old chain or the new one, and the same command goes on.
///
/// Nobody may be restoring from the run: operations of this target are looked for, those of others
/// cannot be. Of processes that delete or compact in a repository, one works at a time; backups are taken
/// beside it.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct CompactCommand {
    /// The collection
    collection: String,
    /// The first backup of the run, by id or label; the increment after the full backup without
    #[arg(long, value_name = "BACKUP", conflicts_with = "full")]
    from: Option<String>,
    /// The last backup of the run, which stays, by id or label; the newest without
    #[arg(long, value_name = "BACKUP")]
    to: Option<String>,
    /// Begin with the full backup: the last becomes a full one
    #[arg(long)]
    full: bool,
    /// Say what would go and what would stay, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// A backup as users name it.
#[derive(Debug, Clone, Serialize)]
struct RestorePoint {
    backup_id: BackupId,
    label: Option<String>,
}

impl RestorePoint {
    fn of(backup_id: &BackupId, there: &BTreeMap<BackupId, Option<String>>) -> Self {
        Self {
            backup_id: backup_id.clone(),
            label: there.get(backup_id).cloned().flatten(),
        }
    }
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
struct CompactionRecord {
    collection: String,
    dry_run: bool,
    /// The first of the run; none where there is nothing to fold, and only what an earlier compaction
    /// has left is removed.
    first: Option<BackupId>,
    /// The last of the run, which the others were folded into.
    backup_id: BackupId,
    /// What it is afterwards.
    kind: &'static str,
    /// Restore points that are no more, and leftovers of such, oldest first.
    gone: Vec<RestorePoint>,
    /// All restore points of the collection that stay, oldest first.
    stays: Vec<RestorePoint>,
    /// Of the run.
    bytes_before: u64,
    /// Of what is left of the run; unknown before it was done.
    bytes_after: Option<u64>,
    /// Whether the run keeps changes one by one, which are gone then.
    forgets_transactions: bool,
}

impl CompactCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let runtime = context.runtime()?;
        let repository = context.open_repository(&runtime)?;
        let handle = runtime.handle();
        let chain = self.chain(&repository, handle)?;
        let listed = handle.block_on(repository.list(&self.collection))?;
        let label = |read: mendb_repo::Result<StoredManifest>| read.ok()?.manifest.label;
        let there = listed.into_iter().map(|(id, read)| (id, label(read)));
        let there: BTreeMap<_, _> = there.collect();
        let last = &chain[chain.len() - 1].manifest;
        let Some(first) = self.first(&repository, handle, &chain)? else {
            let mut record = CompactionRecord::of(last, &[], &there);
            record.dry_run = self.dry_run;
            if !self.dry_run {
                context.end_maintenance(&repository, &runtime, &self.order())?;
            }
            context.output.report(&record, CompactionRecord::describe)?;
            return Ok(Verdict::Done);
        };
        let plan = repository.plan_compaction(&self.collection, &first, &last.backup_id);
        let compaction = handle.block_on(plan)?;
        let mut record = CompactionRecord::of(&compaction.draft(), compaction.goes(), &there);
        record.first = (!compaction.shards().is_empty()).then(|| first.clone());
        record.bytes_before = compaction.bytes();
        record.forgets_transactions = compaction.forgets_unfolded();
        record.dry_run = self.dry_run;
        if self.dry_run {
            context.tell_maintenance(&repository, &runtime)?;
            context.output.record(&record, CompactionRecord::describe)?;
            return Ok(Verdict::Done);
        }
        let request = MaintenanceRequest {
            folds: vec![FoldedRun {
                first,
                last: last.backup_id.clone(),
                goes: compaction.goes().to_vec(),
                bytes: compaction.bytes(),
            }],
            ..self.order()
        };
        let (_, done) = context.maintain(&repository, &runtime, request)?;
        let gone: Vec<BackupId> = done.goes().iter().map(|(id, _)| (*id).clone()).collect();
        record.gone = gone.iter().map(|id| RestorePoint::of(id, &there)).collect();
        let stored = handle.block_on(repository.manifest(&self.collection, &last.backup_id))?;
        record.bytes_after = Some(stored.manifest.bytes());
        context.output.report(&record, CompactionRecord::describe)?;
        Ok(Verdict::Done)
    }

    /// The order, which decides nothing yet.
    fn order(&self) -> MaintenanceRequest {
        let flag = |name: &str, value: &Option<String>| match value {
            Some(value) => format!(" {name} {value}"),
            None => String::new(),
        };
        MaintenanceRequest {
            work: MaintenanceWork::Compact,
            collection: self.collection.clone(),
            folds: Vec::new(),
            removals: Vec::new(),
            keeps: Vec::new(),
            order: [
                flag("--from", &self.from),
                flag("--to", &self.to),
                if self.full { " --full" } else { "" }.to_owned(),
            ]
            .concat(),
            tidies: false,
        }
    }

    /// The chain of the backup that stays.
    fn chain(
        &self,
        repository: &Repository,
        runtime: &Handle,
    ) -> Result<Vec<StoredManifest>, Failure> {
        let collection = &self.collection;
        let last = match &self.to {
            Some(to) => Some(runtime.block_on(repository.find_id(collection, to))?),
            None => self.newest(repository, runtime)?,
        };
        let Some(last) = last else {
            let url = repository.url();
            return Err(
                Failure::input(format!("collection {collection} has no backup in {url}"))
                    .hint("mendb list shows what there is; --repository names another repository"),
            );
        };
        let chain = runtime.block_on(repository.chain(collection, &last))?;
        if chain
            .iter()
            .any(|stored| stored.manifest.part_store.is_some())
        {
            return Err(Failure::input(format!(
                "backups of {collection} are of a ClickHouse server: each is complete by itself"
            ))
            .hint("mendb delete removes those that are not needed any more"));
        }
        Ok(chain)
    }

    /// The newest backup of the collection, where all are of one target.
    fn newest(
        &self,
        repository: &Repository,
        runtime: &Handle,
    ) -> Result<Option<BackupId>, Failure> {
        let listed = runtime.block_on(repository.list(&self.collection))?;
        let mut targets: Vec<&TargetMark> = Vec::new();
        for (_, stored) in &listed {
            let Ok(stored) = stored else { continue };
            let target = stored.manifest.target.as_ref();
            targets.extend(target.filter(|target| targets.iter().all(|t| !t.is_same(target))));
        }
        if targets.len() > 1 {
            let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
            return Err(Failure::input(format!(
                "several targets have backups of {}: {}",
                self.collection,
                targets.join("; ")
            ))
            .hint("name the last backup of the run with --to"));
        }
        Ok(runtime.block_on(repository.newest_id(&self.collection))?)
    }

    /// The first backup of the run that ends with a chain, if there is anything to fold or to tidy up.
    fn first(
        &self,
        repository: &Repository,
        runtime: &Handle,
        chain: &[StoredManifest],
    ) -> Result<Option<BackupId>, Failure> {
        let (older, last) = chain.split_at(chain.len() - 1);
        let compacted = last
            .iter()
            .filter_map(|last| last.manifest.compacted.as_ref());
        let mut folded = compacted.flat_map(|before| &before.folded);
        let Some(from) = &self.from else {
            let first = older.get(usize::from(!self.full));
            let first = first.map(|stored| &stored.manifest.backup_id);
            return Ok(first.or_else(|| folded.next()).cloned());
        };
        // One that a compaction that was cut off has removed already is known by its id.
        Ok(Some(match folded.find(|id| id.as_str() == from) {
            Some(id) => id.clone(),
            None => runtime.block_on(repository.find_id(&self.collection, from))?,
        }))
    }
}

impl CompactionRecord {
    /// What there is when a backup stays and others go; `there` are all backups of the collection with
    /// their labels.
    fn of(stays: &Manifest, goes: &[BackupId], there: &BTreeMap<BackupId, Option<String>>) -> Self {
        let point = |backup_id| RestorePoint::of(backup_id, there);
        let stay = there.keys().filter(|id| !goes.contains(id));
        Self {
            collection: stays.collection.clone(),
            dry_run: false,
            first: None,
            backup_id: stays.backup_id.clone(),
            kind: stays.kind().name(),
            gone: goes.iter().map(point).collect(),
            stays: stay.map(point).collect(),
            bytes_before: stays.bytes(),
            bytes_after: None,
            forgets_transactions: false,
        }
    }

    fn describe(&self) -> String {
        let mut points: Vec<_> = (self.gone.iter().map(|point| (point, "gone")))
            .chain(self.stays.iter().map(|point| (point, "stays")))
            .collect();
        points.sort_by(|(a, _), (b, _)| a.backup_id.cmp(&b.backup_id));
        let fields = [
            Field::left("backup", |(point, _): &(&RestorePoint, &str)| {
                point.backup_id.to_string()
            }),
            Field::left("label", |(point, _)| {
                point.label.clone().unwrap_or_default()
            }),
            Field::left("restore point", |(_, fate)| (*fate).to_owned()),
        ];
        let forgets = match self.forgets_transactions {
            true => {
                "what single transactions did is not kept in the folded backup: --only-changed-by cannot take it back \
                 then\n"
            }
            false => "",
        };
        format!("{}\n{forgets}{}", self.headline(), table(&points, &fields))
    }

    fn headline(&self) -> String {
        let Self {
            collection,
            backup_id,
            ..
        } = self;
        let Some(first) = &self.first else {
            if self.gone.is_empty() {
                return format!("there is nothing to fold in {collection}");
            }
            let be = if self.dry_run { "would be" } else { "is" };
            return format!(
                "{collection}: what was folded into {backup_id} before and not removed yet {be} removed"
            );
        };
        let kind = if self.kind == BackupKind::Full.name() {
            "a full backup"
        } else {
            "an increment"
        };
        let before = human::bytes(self.bytes_before);
        match self.bytes_after {
            Some(after) => format!(
                "{collection}: folded {first} to {backup_id} into the last, {kind}: {before} before, {} after",
                human::bytes(after)
            ),
            None => format!(
                "{collection}: {first} to {backup_id}, {before}, would be folded into the last, {kind}"
            ),
        }
    }
}
