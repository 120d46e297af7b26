//! `mendb verify`: prove that backups can be read, and that tables are what they should be.

use std::collections::BTreeMap;

use clap::Args;
use mendb_repo::StoredManifest;
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

/// What was proved.
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
            let backups = runtime.block_on(repository.backups(&self.what))?;
            return self.prove(context, &backups);
        }
        match backup_name::find(&repository, runtime.handle(), &self.what) {
            Ok(stored) => {
                let manifest = &stored.manifest;
                let chain = runtime
                    .block_on(repository.chain(&manifest.collection, &manifest.backup_id))?;
                self.prove(context, &chain)
            }
            Err(_) if self.what.parse::<mendb_model::BackupId>().is_err() => {
                table::digest::verify_table(context, &self.what)
            }
            Err(failure) => Err(failure),
        }
    }

    fn prove(&self, context: &Context, backups: &[StoredManifest]) -> Result<Verdict, Failure> {
        let service = context.open_service()?;
        let total = backups.iter().map(|stored| stored.manifest.bytes()).sum();
        let progress = Progress::start(
            format!("verifying {}", self.what),
            Some(total),
            context.output.quiet,
        );
        let mut done = 0;
        let mut proofs = Vec::new();
        for stored in backups {
            let id = stored.manifest.backup_id.to_string();
            proofs.push(service.prove_backup(stored, &mut |bytes| {
                done += bytes;
                progress.update(done, &id);
            })?);
        }
        progress.finish();
        let live = match backups.last() {
            Some(newest) if self.live => self.compare(context, &service, newest)?,
            _ => Vec::new(),
        };
        let equal = live.iter().all(|record| record.equal);
        context.output.record(
            &Proof {
                backups: proofs,
                live,
            },
            describe,
        )?;
        Ok(if equal { Verdict::Done } else { Verdict::Drift })
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

fn describe(proof: &Proof) -> String {
    let mut text = text_table(
        &proof.backups,
        &[
            Field::left("backup", |r: &BackupProof| r.backup_id.to_string()),
            Field::right("objects", |r| r.objects.to_string()),
            Field::right("rows", |r| human::count(r.rows)),
            Field::right("bytes", |r| human::bytes(r.bytes)),
            Field::left("result", |_| "whole".to_owned()),
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
