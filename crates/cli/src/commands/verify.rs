//! `mendb verify`: prove that backups can be read, and that tables are what they should be.

use std::collections::BTreeMap;

use clap::Args;
use mendb_model::{BackupId, describe_error};
use mendb_repo::{Repository, StoredManifest};
use mendb_service::Service;
use mendb_service::proof::{BackupProof, TableComparison};
use serde::Serialize;

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
    backups: Vec<BackupRecord>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    live: Vec<ComparisonRecord>,
}

#[derive(Serialize)]
struct BackupRecord {
    /// What was read; nothing counts when it is damaged.
    #[serde(flatten)]
    proof: BackupProof,
    /// What is wrong with it; null when it is whole.
    damage: Option<String>,
}

impl BackupRecord {
    fn damaged(backup_id: BackupId, error: &dyn std::error::Error) -> Self {
        Self {
            proof: BackupProof {
                backup_id,
                objects: 0,
                bytes: 0,
                rows: 0,
            },
            damage: Some(describe_error(error)),
        }
    }
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
        match backup_name::find(&repository, runtime.handle(), &self.what) {
            Ok(stored) => {
                let manifest = &stored.manifest;
                let chain = runtime
                    .block_on(repository.chain(&manifest.collection, &manifest.backup_id))?;
                let id = |stored: StoredManifest| (stored.manifest.backup_id.clone(), Ok(stored));
                self.prove(context, chain.into_iter().map(id).collect())
            }
            Err(_) if self.what.parse::<mendb_model::BackupId>().is_err() => {
                let database = context.open_rows()?;
                if !database.tables().contains(&self.what) {
                    return Err(self.unknown(&repository));
                }
                table::digest::verify_table(context, &database, &self.what)
            }
            Err(failure) => Err(failure),
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
        let mut records = Vec::new();
        let mut whole: Vec<StoredManifest> = Vec::new();
        for (id, stored) in backups {
            let stored = match stored {
                Ok(stored) => stored,
                Err(error) if is_damage(&error) => {
                    records.push(BackupRecord::damaged(id, &error));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let shown = id.to_string();
            let proved = service.prove_backup(&stored, &mut |bytes| {
                done += bytes;
                progress.update(done, &shown);
            });
            match proved {
                Ok(proof) => {
                    let damage = broken_parent(&stored, &whole);
                    if damage.is_none() {
                        whole.push(stored);
                    }
                    records.push(BackupRecord { proof, damage });
                }
                Err(error) if is_disproof(&error) => {
                    records.push(BackupRecord::damaged(id, &error));
                }
                Err(error) => return Err(error.into()),
            }
        }
        progress.finish();
        let live = match whole.last() {
            Some(newest) if self.live => self.compare(context, &service, newest)?,
            _ => Vec::new(),
        };
        let well = records.iter().all(|record| record.damage.is_none())
            && live.iter().all(|record| record.equal);
        context.output.record(
            &Proof {
                backups: records,
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

/// Whether an error of the repository says that something in it is not as it was written.
fn is_damage(error: &mendb_repo::Error) -> bool {
    use mendb_repo::Error as E;
    matches!(
        error,
        E::NotFound { .. }
            | E::Damaged { .. }
            | E::UnknownFormat { .. }
            | E::Incomplete { .. }
            | E::BrokenChain { .. }
    )
}

/// Whether a proof failed because of the backup, not because it could not be read at all.
fn is_disproof(error: &mendb_service::Error) -> bool {
    match error {
        mendb_service::Error::Repository(error) => is_damage(error),
        error => matches!(error, mendb_service::Error::Refused { .. }),
    }
}

/// Why a backup that was read well cannot be restored all the same: the one it stands on is not whole.
fn broken_parent(child: &StoredManifest, whole: &[StoredManifest]) -> Option<String> {
    let parent = child.manifest.parent.as_ref()?;
    let is_parent = |stored: &StoredManifest| {
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
            Field::left("backup", |r: &BackupRecord| r.proof.backup_id.to_string()),
            Field::right("objects", |r| r.proof.objects.to_string()),
            Field::right("rows", |r| human::count(r.proof.rows)),
            Field::right("bytes", |r| human::bytes(r.proof.bytes)),
            Field::left("result", |r| {
                r.damage.clone().unwrap_or_else(|| "whole".to_owned())
            }),
        ],
    );
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
