//! `mendb verify`: prove that backups can be read, and that tables are what they should be.

mod listed;
mod parts;
mod proving;
mod replicas;
#[cfg(test)]
mod tests;

use clap::Args;
use mendb_model::manifest::Manifest;
use mendb_model::part::PartTable;
use mendb_model::{BackupId, TargetMark};
use mendb_repo::{Repository, StoredManifest};
use mendb_service::proof::{BackupProof, TableComparison};
use mendb_service::{MendOrder, MendPreview, Service, Whose};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::backup_name;
use crate::cluster::ClusterArgs;
use crate::commands::restore::parse_rename;
use crate::commands::table;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::{Field, table as text_table};
use crate::parts::mend_preview;
use crate::progress::Progress;
use crate::target::Target;
use listed::{Listed, Readable, chain, damage_apart};
use parts::{LiveTable, Prover};
use proving::Proving;
use replicas::OtherReplica;

/// Prove that backups can be read to the last byte, and that tables are what they should be.
///
/// Of a collection, every backup is read and checked; of a backup, its whole chain. Of an increment it is proved
/// that its changes lead from the backup before to the rows there were. With --live the
/// tables of the target are compared with the backup as well: row by row in a row store, by metadata on
/// a ClickHouse server (mendb restore --in-place --dry-run tells more), with --bytes by every byte of
/// the parts that are alike, and with --replicas beside the other replicas of each table. Of a table of a row store,
/// every row is read and compared with the digests the target keeps. Exit code 3 when something
/// differs.
#[derive(Debug, Args)]
pub struct VerifyCommand {
    /// A collection, a backup, or a table of the target
    #[arg(value_name = "COLLECTION|BACKUP|TABLE")]
    what: String,
    /// Also compare the tables of the target with the (newest) backup
    #[arg(long)]
    live: bool,
    /// Also read every byte of live parts that are as in the backup, and compare it with their checksums
    /// (ClickHouse)
    #[arg(long, requires = "live")]
    bytes: bool,
    /// Also compare the parts of each replicated table with those that its other replicas have registered in
    /// ZooKeeper or Keeper (ClickHouse)
    #[arg(long, requires = "live")]
    replicas: bool,
    /// Also fold the chains of increments of an older mendb, whose changes do not say what they replaced: that
    /// reads each chain once more
    #[arg(long)]
    fold: bool,
    /// Names of live tables that differ from those in the backup
    #[arg(long, value_name = "OLD=NEW", value_delimiter = ',', requires = "live", value_parser = parse_rename)]
    rename: Vec<(String, String)>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Of the backup of a cluster, the shard that the server is compared with, unless the one that it was then
    /// (ClickHouse)
    #[arg(long, value_name = "NAME", requires = "live")]
    shard: Option<String>,
    /// What an agent is told by the coordinator of its cluster, which proves the backup: only to compare
    #[arg(long, requires = "shard", hide = true)]
    live_only: bool,
}

/// What was proved and what was found.
#[derive(Default, Serialize)]
pub struct Proof {
    /// What is wrong with the repository itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damage: Vec<String>,
    backups: Vec<BackupProof>,
    /// Backups that somebody removed while they were read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<BackupId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    live: Vec<ComparisonRecord>,
    /// Tables of a ClickHouse server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    live_parts: Vec<LiveTable>,
    /// Other replicas of these tables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<OtherReplica>,
}

#[derive(Serialize)]
struct ComparisonRecord {
    equal: bool,
    #[serde(flatten)]
    comparison: TableComparison,
}

impl VerifyCommand {
    /// The command that proves a backup and compares nothing with it.
    pub fn of_backup(name: String, fold: bool) -> Self {
        Self {
            what: name,
            live: false,
            bytes: false,
            replicas: false,
            fold,
            rename: Vec::new(),
            cluster: ClusterArgs::default(),
            shard: None,
            live_only: false,
        }
    }

    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let Some(proof) = self.proof(context)? else {
            let snapshot = context.look_at_rows()?;
            return table::digest::verify_table(context, &snapshot, &self.what);
        };
        context.output.record(&proof, Proof::describe)?;
        Ok(proof.verdict())
    }

    /// Proves the backups that it names, and compares live tables with one where that is asked for. `None` where it names
    /// a table of a row store.
    ///
    /// # Errors
    /// There is nothing of the name, or it cannot be read.
    pub fn proof(&self, context: &Context) -> Result<Option<Proof>, Failure> {
        let runtime = context.runtime()?;
        let repository = context.open_repository(&runtime)?;
        let collections = runtime.block_on(repository.collections())?;
        if collections.contains(&self.what) {
            let listing = repository.list(&self.what);
            let backups = context.until_left(runtime.handle(), listing)??;
            let named = (self.what.as_str(), backups, Named::Collection);
            return (self.prove(context, &repository, runtime.handle(), named)).map(Some);
        }
        match backup_name::search(&repository, runtime.handle(), &self.what)? {
            Some((collection, id)) => {
                let backups = chain(&repository, runtime.handle(), &collection, id);
                let named = (collection.as_str(), backups, Named::Backup);
                (self.prove(context, &repository, runtime.handle(), named)).map(Some)
            }
            None => {
                let Target::Rows(_) = context.target()? else {
                    return Err(self.unknown(&repository));
                };
                let snapshot = context.look_at_rows()?;
                if !snapshot.tables().contains(&self.what) {
                    return Err(self.not_a_table(context, &repository)?);
                }
                Ok(None)
            }
        }
    }

    /// What there is to say of a name that is of no backup and no table.
    fn not_a_table(&self, context: &Context, repository: &Repository) -> Result<Failure, Failure> {
        let collection = match context.open_journal()? {
            Some(journal) => journal.collection(&self.what)?,
            None => None,
        };
        Ok(match collection {
            Some(collection) => no_backup(&collection.collection, repository),
            None => self.unknown(repository),
        })
    }

    fn unknown(&self, repository: &Repository) -> Failure {
        let (what, url) = (&self.what, repository.url());
        Failure::input(format!(
            "{what} is no collection or backup in {url}, and no table of a row store"
        ))
        .hint("mendb list shows the backups there are, and mendb table list the tables of a row store")
    }

    /// Reads backups, oldest first, and says of each whether it is whole.
    fn prove(
        &self,
        context: &Context,
        repository: &Repository,
        runtime: &Handle,
        (collection, backups, named): (&str, Vec<Listed>, Named),
    ) -> Result<Proof, Failure> {
        if backups.is_empty() {
            return Err(no_backup(&self.what, repository));
        }
        let mut backups: Vec<_> = backups
            .into_iter()
            .map(damage_apart)
            .collect::<Result<_, _>>()?;
        let has_rows = |(_, stored): &Readable| {
            let stored = stored.as_ref();
            stored.is_ok_and(|stored| stored.manifest.part_store.is_none())
        };
        let service = if self.live || backups.iter().any(has_rows) {
            Some(context.look()?)
        } else {
            None
        };
        let readable = || {
            backups
                .iter()
                .filter_map(|(_, stored)| stored.as_ref().ok())
        };
        let total = readable().map(|stored| data_bytes(&stored.manifest)).sum();
        let progress = Progress::start(
            format!("verifying {}", self.what),
            Some(total),
            context.output.hides_progress(),
        );
        let mut proving = Proving {
            context,
            repository,
            runtime,
            collection,
            service: service.as_deref(),
            prover: Prover::new(context, repository, runtime),
            progress: &progress,
            folds: self.fold,
            done: 0,
        };
        let mut proofs = Vec::new();
        let mut removed = Vec::new();
        let mut whole: Vec<usize> = Vec::new();
        let proved = match self.live_only {
            true => 0,
            false => backups.len(),
        };
        for at in 0..proved {
            match proving.prove(&mut backups, at, &whole)? {
                Some(proof) => {
                    if proof.damage.is_empty() {
                        whole.push(at);
                    }
                    proofs.push(proof);
                }
                None => removed.push(backups[at].0.clone()),
            }
        }
        if let (Named::Backup, Some(id)) = (named, removed.last())
            && backups.last().is_some_and(|(last, _)| last == id)
        {
            return Err(
                Failure::input(format!("backup {id} was removed while it was read"))
                    .hint("mendb list shows the backups there are")
                    .absent(),
            );
        }
        backups.retain(|(id, _)| !removed.contains(id));
        progress.finish();
        let mut proof = Proof {
            damage: lacks_header(repository, runtime)?.into_iter().collect(),
            backups: proofs,
            removed,
            ..Proof::default()
        };
        // What live tables are compared with is in the manifest and its documents: that an object is
        // damaged does not matter here.
        let complete = |(_, stored): &&Readable| {
            let stored = stored.as_ref();
            stored.is_ok_and(|stored| stored.manifest.is_complete())
        };
        let newest = match (&service, self.live, named) {
            (Some(service), true, Named::Collection) => self.newest_of_ours(service, &backups)?,
            (_, _, Named::Backup) => backups.last(),
            _ => backups.iter().rfind(complete).or(backups.last()),
        };
        if self.live_only
            && let Some((id, Err(_))) = newest
        {
            return Err(Failure::input(format!(
                "backup {id} cannot be read, so that nothing can be compared with it"
            ))
            .hint(format!("mendb verify {id} tells why")));
        }
        if let (true, Some(service), Some((_, Ok(newest)))) = (self.live, &service, newest) {
            if let Whose::Theirs(target) = service.whose(newest)? {
                let id = &newest.manifest.backup_id;
                context.say(&format!("note: backup {id} is of another target, {target}"));
            }
            if newest.manifest.part_store.is_some() {
                let preview = self.compare_parts(context, service, &newest.manifest)?;
                if self.replicas {
                    proof.replicas = OtherReplica::all(service, &preview)?;
                }
                proof.live_parts = LiveTable::all(&preview);
            } else {
                proof.live = self.compare(context, service, newest)?;
            }
        }
        Ok(proof)
    }

    /// The newest backup that is this target's, of those that lack no table where there are such; it may be
    /// one that cannot be read. Where none is, the newest of the one target that wrote: comparing changes
    /// nothing, and whose it is is said.
    ///
    /// # Errors
    /// None is this target's, and several others wrote.
    fn newest_of_ours<'a>(
        &self,
        service: &Service,
        backups: &'a [Readable],
    ) -> Result<Option<&'a Readable>, Failure> {
        let mut newest = None;
        let mut theirs: Vec<(&Readable, TargetMark)> = Vec::new();
        for backup in backups.iter().rev() {
            let (_, Ok(stored)) = backup else {
                newest = newest.or(Some(backup));
                continue;
            };
            let is_complete = stored.manifest.is_complete();
            match service.whose(stored) {
                Ok(Whose::Theirs(target)) if is_complete => theirs.push((backup, target)),
                Ok(Whose::Theirs(_)) => {}
                Ok(_) if is_complete => return Ok(Some(backup)),
                // What is wrong with its chain is told where it is proved.
                Ok(_) | Err(_) => newest = newest.or(Some(backup)),
            }
        }
        let Some((first, target)) = theirs.first().filter(|_| newest.is_none()) else {
            return Ok(newest);
        };
        match theirs.iter().find(|(_, other)| !other.is_same(target)) {
            None => Ok(Some(*first)),
            Some((_, other)) => Err(Failure::input(format!(
                "collection {} has no backup of this target to compare its tables with, but of {target} and of \
                 {other}",
                self.what
            ))
            .hint("name the backup that is meant: mendb verify BACKUP --live")),
        }
    }

    /// Compares the tables of a server with a backup, by planning what would bring them to it.
    fn compare_parts(
        &self,
        context: &Context,
        service: &Service,
        newest: &Manifest,
    ) -> Result<MendPreview, Failure> {
        let order = MendOrder {
            check_kept: self.bytes,
            ..parts::comparison(
                (&newest.collection, &newest.backup_id),
                self.shard.clone(),
                self.rename.clone(),
            )
        };
        mend_preview::plan(service, &order, context.output.hides_progress())
    }

    fn compare(
        &self,
        context: &Context,
        service: &Service,
        newest: &StoredManifest,
    ) -> Result<Vec<ComparisonRecord>, Failure> {
        let rename = self.rename.iter().cloned().collect();
        let progress = Progress::start("reading tables", None, context.output.hides_progress());
        let mut done = 0;
        let comparisons = service.compare(&newest.manifest, &rename, &mut |rows| {
            done += rows;
            progress.update(0, &human::rows(done));
            context.while_heard()
        })?;
        progress.finish();
        context.check_heard()?;
        let record = |comparison: TableComparison| ComparisonRecord {
            equal: comparison.is_equal(),
            comparison,
        };
        Ok(comparisons.into_iter().flatten().map(record).collect())
    }
}

impl Proof {
    /// Whether all is as it should be.
    pub fn verdict(&self) -> Verdict {
        let is_well = self.damage.is_empty()
            && self.backups.iter().all(|proof| proof.damage.is_empty())
            && self.live.iter().all(|record| record.equal)
            && self.live_parts.iter().all(|table| table.equal)
            && self.replicas.iter().all(|replica| replica.equal);
        if is_well {
            Verdict::Done
        } else {
            Verdict::Drift
        }
    }

    /// The proof for people.
    pub fn describe(&self) -> String {
        describe(self)
    }
}

/// What the user has named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// All backups of a collection: live tables are compared with the newest that is theirs.
    Collection,
    /// One backup.
    Backup,
}

fn no_backup(collection: &str, repository: &Repository) -> Failure {
    Failure::input(format!(
        "collection {collection} has no backup in {}, so there is nothing to verify",
        repository.url()
    ))
    .hint(format!(
        "mendb backup {collection} takes one; --repository names another repository"
    ))
}

/// What is wrong with a repository that has backups and does not say which it is.
fn lacks_header(repository: &Repository, runtime: &Handle) -> Result<Option<String>, Failure> {
    let header = runtime.block_on(repository.header())?;
    Ok(header.is_none().then(|| {
        format!(
            "{}/mendb.json is missing: backups can be read, but operations that are not over know the \
             repository by the id in it; bring it back from a copy of the repository, or make another with mendb \
             repository init",
            repository.url()
        )
    }))
}

/// Bytes of data that are read to prove a backup.
fn data_bytes(manifest: &Manifest) -> u64 {
    match &manifest.part_store {
        Some(store) => store.tables.iter().map(PartTable::data_bytes).sum(),
        None => manifest.bytes(),
    }
}

/// What a check of the indexes of a table found.
fn describe_indexes(comparison: &TableComparison) -> String {
    let Some(indexes) = &comparison.indexes else {
        return String::new();
    };
    let mut text = String::new();
    if let Some(why) = &indexes.not_checked {
        text += &format!(
            "\nthe indexes of {} were not checked: {why}\n",
            comparison.table
        );
    }
    for damage in &indexes.damage {
        text += &format!("\n{}: {damage}\n", comparison.table);
    }
    text
}

fn describe_backups(proof: &Proof) -> String {
    if proof.backups.is_empty() {
        return String::new();
    }
    text_table(
        &proof.backups,
        &[
            Field::left("backup", |r: &BackupProof| r.backup_id.to_string()),
            Field::right("objects", |r| r.objects.to_string()),
            Field::right("rows", |r| human::count(r.rows)),
            Field::right("bytes", |r| human::bytes(r.bytes)),
            Field::left("result", |r| match r.damage.len() {
                0 => "whole".to_owned(),
                1 => "damaged".to_owned(),
                found => format!("damaged in {found} places"),
            }),
        ],
    )
}

fn describe(proof: &Proof) -> String {
    let mut text = describe_backups(proof);
    let whole = proof.backups.iter().filter(|r| r.damage.is_empty());
    for backup in whole {
        if let Some(reason) = &backup.unproved {
            text += &format!(
                "\n{} is whole; that it leads to the rows there were is not proved: {reason}. mendb verify --fold \
                 proves it by folding its chain.\n",
                backup.backup_id
            );
        }
    }
    let damaged = proof.backups.iter().filter(|r| !r.damage.is_empty());
    for backup in damaged {
        text += &format!("\n{}\n", backup.backup_id);
        for damage in &backup.damage {
            text += &format!("  {damage}\n");
        }
    }
    for damage in &proof.damage {
        text += &format!("\n{damage}\n");
    }
    for id in &proof.removed {
        text += &format!("\n{id} was removed while it was read\n");
    }
    if !proof.live_parts.is_empty() {
        text += "\n";
        text += &LiveTable::describe(&proof.live_parts);
    }
    if !proof.replicas.is_empty() {
        text += "\n";
        text += &OtherReplica::describe(&proof.replicas);
    }
    if !proof.live.is_empty() {
        text += "\n";
        text += &text_table(
            &proof.live,
            &[
                Field::left("table", |r: &ComparisonRecord| {
                    r.comparison.table.to_string()
                }),
                Field::right("rows", |r| match r.comparison.found {
                    Some(found) => human::count(found.rows),
                    None => "missing".to_owned(),
                }),
                Field::right("rows in backup", |r| {
                    human::count(r.comparison.expected.rows)
                }),
                Field::left("result", |r| {
                    let what = match r.comparison.has_same_rows() {
                        true if r.equal => "equal",
                        true => "equal, with damaged indexes",
                        false => "different",
                    };
                    what.to_owned()
                }),
            ],
        );
        for record in &proof.live {
            text += &describe_indexes(&record.comparison);
        }
    }
    if text.is_empty() {
        text += "the backup has no table of it: there is nothing to compare\n";
    }
    text
}
