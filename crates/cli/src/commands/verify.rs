//! `mendb verify`: prove that backups can be read, and that tables are what they should be.

use std::collections::BTreeMap;

use clap::Args;
use mendb_model::{BackupId, describe_error};
use mendb_repo::{Repository, StoredManifest};
use mendb_service::Service;
use mendb_service::proof::{BackupProof, TableComparison};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::backup_name;
use crate::commands::table;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::{Field, table as text_table};
use crate::progress::Progress;

/// Prove that backups can be read to the last byte, and that tables are what they should be.
///
/// Of a collection, every backup is read and checked; of a backup, its whole chain. With --live the
/// tables of the target are compared with the backup as well. Of a table, every row is read and
/// compared with the digests the target keeps. Exit code 3 when something differs.
#[derive(Debug, Args)]
pub struct VerifyCommand {
    /// A collection, a backup, or a table of the target
    #[arg(value_name = "COLLECTION|BACKUP|TABLE")]
    what: String,
    /// Also compare the tables of the target with the (newest) backup
    #[arg(long)]
    live: bool,
    /// Names of live tables that differ from those in the backup
    #[arg(long, value_name = "OLD=NEW", value_delimiter = ',', requires = "live")]
    rename: Vec<String>,
}

/// What was proved and what was found.
#[derive(Serialize)]
struct Proof {
    backups: Vec<BackupProof>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    live: Vec<ComparisonRecord>,
}

#[derive(Serialize)]
struct ComparisonRecord {
    equal: bool,
    #[serde(flatten)]
    comparison: TableComparison,
}

impl VerifyCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let runtime = context.runtime()?;
        let repository = context.open_repository(&runtime)?;
        let collections = runtime.block_on(repository.collections())?;
        if collections.contains(&self.what) {
            let backups = runtime.block_on(repository.list(&self.what))?;
            return self.prove(context, backups);
        }
        match backup_name::search(&repository, runtime.handle(), &self.what)? {
            Some((collection, id)) => {
                let backups = chain(&repository, runtime.handle(), &collection, id);
                self.prove(context, backups)
            }
            None => {
                let database = context.open_rows()?;
                if !database.tables().contains(&self.what) {
                    return Err(self.unknown(&repository));
                }
                table::digest::verify_table(context, &database, &self.what)
            }
        }
    }

    fn unknown(&self, repository: &Repository) -> Failure {
        let (what, url) = (&self.what, repository.url());
        Failure::input(format!(
            "{what} is no collection or backup in {url}, and no table of the target"
        ))
        .hint("mendb list and mendb table list show what there is")
    }

    /// Reads backups, oldest first, and says of each whether it is whole.
    fn prove(&self, context: &Context, backups: Vec<Listed>) -> Result<Verdict, Failure> {
        if backups.is_empty() {
            return Err(Failure::input(format!(
                "collection {} has no backup to verify",
                self.what
            ))
            .hint("mendb backup takes one"));
        }
        let backups: Vec<_> = backups
            .into_iter()
            .map(damage_apart)
            .collect::<Result<_, _>>()?;
        let service = context.open_service()?;
        let total = backups
            .iter()
            .filter_map(|(_, stored)| Some(stored.as_ref().ok()?.manifest.bytes()))
            .sum();
        let progress = Progress::start(
            format!("verifying {}", self.what),
            Some(total),
            context.output.quiet,
        );
        let mut done = 0;
        let mut proofs = Vec::new();
        let mut whole: Vec<&StoredManifest> = Vec::new();
        for (id, stored) in &backups {
            let stored = match stored {
                Ok(stored) => stored,
                Err(damage) => {
                    proofs.push(unreadable(id.clone(), damage.clone()));
                    continue;
                }
            };
            let shown = id.to_string();
            let mut proof = service.prove_backup(stored, &mut |bytes| {
                done += bytes;
                progress.update(done, &shown);
            })?;
            proof.damage.extend(broken_parent(stored, &whole));
            if proof.damage.is_empty() {
                whole.push(stored);
            }
            proofs.push(proof);
        }
        progress.finish();
        let live = match backups.last() {
            // Its digests are in the manifest: its objects do not matter here.
            Some((_, Ok(newest))) if self.live => self.compare(context, &service, newest)?,
            _ => Vec::new(),
        };
        let well = proofs.iter().all(|proof| proof.damage.is_empty())
            && live.iter().all(|record| record.equal);
        context.output.record(
            &Proof {
                backups: proofs,
                live,
            },
            describe,
        )?;
        Ok(if well { Verdict::Done } else { Verdict::Drift })
    }

    fn compare(
        &self,
        context: &Context,
        service: &Service,
        newest: &StoredManifest,
    ) -> Result<Vec<ComparisonRecord>, Failure> {
        let mut rename = BTreeMap::new();
        for pair in &self.rename {
            let (old, new) = pair
                .split_once('=')
                .ok_or_else(|| Failure::misuse(format!("--rename {pair:?} is not OLD=NEW")))?;
            rename.insert(old.to_owned(), new.to_owned());
        }
        let progress = Progress::start("reading tables", None, context.output.quiet);
        let mut done = 0;
        let comparisons = service.compare(&newest.manifest, &rename, &mut |rows| {
            done += rows;
            progress.update(0, &human::rows(done));
        })?;
        progress.finish();
        let record = |comparison: TableComparison| ComparisonRecord {
            equal: comparison.is_equal(),
            comparison,
        };
        Ok(comparisons.into_iter().map(record).collect())
    }
}

/// A backup with its manifest or what is wrong with that.
type Listed = (BackupId, mendb_repo::Result<StoredManifest>);

/// Makes damage something to tell of; that a manifest cannot be fetched stays an error.
fn damage_apart(
    (id, stored): Listed,
) -> Result<(BackupId, Result<StoredManifest, String>), Failure> {
    match stored {
        Ok(stored) => Ok((id, Ok(stored))),
        Err(error) if error.is_damage() => Ok((id, Err(describe_error(&error)))),
        Err(error) => Err(error.into()),
    }
}

/// The chain that a backup ends, as far as it can be followed, oldest first.
fn chain(repository: &Repository, runtime: &Handle, collection: &str, id: BackupId) -> Vec<Listed> {
    let mut chain = Vec::new();
    let mut next = Some(id);
    while let Some(id) = next {
        let stored = runtime.block_on(repository.manifest(collection, &id));
        let parent = stored
            .as_ref()
            .ok()
            .and_then(|stored| stored.manifest.parent.as_ref());
        // Ids ascend along a chain, so that following one ends.
        next = parent
            .map(|parent| parent.backup_id.clone())
            .filter(|parent| *parent < id);
        chain.push((id, stored));
    }
    chain.reverse();
    chain
}

/// What there is to say of a backup whose manifest is damaged.
fn unreadable(backup_id: BackupId, damage: String) -> BackupProof {
    BackupProof {
        backup_id,
        objects: 0,
        bytes: 0,
        rows: 0,
        damage: vec![damage],
    }
}

/// Why a backup that was read well cannot be restored all the same: the one it stands on is not whole.
fn broken_parent(child: &StoredManifest, whole: &[&StoredManifest]) -> Option<String> {
    let parent = child.manifest.parent.as_ref()?;
    let is_parent = |stored: &&StoredManifest| {
        stored.manifest.backup_id == parent.backup_id && stored.blake3 == parent.manifest_blake3
    };
    if whole.iter().any(is_parent) {
        return None;
    }
    Some(format!(
        "it stands on {}, which is damaged, missing or another one",
        parent.backup_id
    ))
}

fn describe(proof: &Proof) -> String {
    let mut text = text_table(
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
    );
    let damaged = proof.backups.iter().filter(|r| !r.damage.is_empty());
    for backup in damaged {
        text += &format!("\n{}\n", backup.backup_id);
        for damage in &backup.damage {
            text += &format!("  {damage}\n");
        }
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
                    if r.equal { "equal" } else { "different" }.to_owned()
                }),
            ],
        );
    }
    text
}
