//! Proofs of part stores: that every object of a backup can be read, and what differs on the server.

use std::collections::HashSet;

use mendb_model::describe_error;
use mendb_model::key::from_hex;
use mendb_model::manifest::Manifest;
use mendb_model::name::BackupId;
use mendb_model::operation::{DifferentTable, StoppedTable};
use mendb_model::part::{
    Action, FilePlace, Inventory, ObjectRef, PartFile, PartList, PartRecord, PartStoreBackup,
    TableName, TablePlan, Tally,
};
use mendb_repo::Repository;
use mendb_service::proof::{BackupProof, TellDone};
use mendb_service::{MendFrom, MendOrder, MendPreview};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::output::{Field, table};

/// Reads the objects of backups of part stores. What several backups share is read once.
pub struct Prover<'a> {
    context: &'a Context,
    repository: &'a Repository,
    runtime: &'a Handle,
    /// BLAKE3 of objects that were read and are whole: 32 bytes for each 256 KiB or more of data.
    whole: HashSet<Vec<u8>>,
}

impl<'a> Prover<'a> {
    pub fn new(context: &'a Context, repository: &'a Repository, runtime: &'a Handle) -> Self {
        Self {
            context,
            repository,
            runtime,
            whole: HashSet::new(),
        }
    }

    /// Reads every document and every object of a backup. `progress` is told bytes of data, those that
    /// need not be read again too. Of the part lists one is in memory at a time.
    ///
    /// # Errors
    /// The repository does not answer, so that nothing can be said. Damage is no error.
    pub fn prove(
        &mut self,
        manifest: &Manifest,
        store: &PartStoreBackup,
        progress: TellDone<'_>,
    ) -> Result<BackupProof, Failure> {
        let mut proof = BackupProof::new(manifest.backup_id.clone());
        for table in &store.tables {
            if let Some(at) = &table.current_parts {
                self.document::<Inventory>(manifest, at, &mut proof)?;
            }
            for list in &table.lists {
                let records = self.document::<Vec<PartRecord>>(manifest, &list.at, &mut proof)?;
                if let Some(records) = records {
                    proof.damage.extend(miscounted(list, &records));
                    self.prove_files(&records, &mut proof)?;
                }
                if progress(list.data_bytes).is_break() {
                    self.context.check_heard()?;
                }
            }
        }
        Ok(proof)
    }

    fn document<T: DeserializeOwned + Send>(
        &self,
        manifest: &Manifest,
        at: &ObjectRef,
        proof: &mut BackupProof,
    ) -> Result<Option<T>, Failure> {
        let read = self
            .repository
            .document_at(&manifest.collection, &manifest.backup_id, at);
        match self.runtime.block_on(read) {
            Ok(document) => {
                proof.objects += 1;
                proof.bytes += at.bytes;
                Ok(Some(document))
            }
            Err(error) if error.is_damage() => {
                proof.damage.push(describe_error(&error));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn prove_files(
        &mut self,
        records: &[PartRecord],
        proof: &mut BackupProof,
    ) -> Result<(), Failure> {
        let is_whole = |record: &&PartRecord| {
            let mut files = record.files.iter();
            files.all(|file| object(file).is_some_and(|object| self.whole.contains(&object)))
        };
        let (read, unread): (Vec<_>, Vec<_>) = records.iter().partition(is_whole);
        let objects: HashSet<_> = files_of(&read).filter_map(object).collect();
        proof.objects += objects.len() as u64;
        proof.bytes += read.iter().map(|record| record.bytes()).sum::<u64>();
        let verifying = self.repository.verify_files(unread.iter().copied());
        let verified = self.context.until_left(self.runtime, verifying)??;
        proof.objects += verified.objects;
        proof.bytes += verified.bytes;
        proof.rows += records.iter().map(|record| record.part.rows).sum::<u64>();
        if verified.damaged.is_empty() {
            self.whole.extend(files_of(&unread).filter_map(object));
        }
        let damaged = verified.damaged.iter();
        proof
            .damage
            .extend(damaged.map(|error| describe_error(error)));
        Ok(())
    }
}

fn files_of<'a>(records: &'a [&PartRecord]) -> impl Iterator<Item = &'a PartFile> {
    records.iter().flat_map(|record| &record.files)
}

/// BLAKE3 of the object that has a file, and which of that it is; `None` where the list names nothing that can be one.
fn object(file: &PartFile) -> Option<Vec<u8>> {
    let (digits, generation) = match &file.place {
        FilePlace::File { generation } => (&file.blake3, *generation),
        FilePlace::Bundle {
            bundle, generation, ..
        } => (bundle, *generation),
    };
    let mut object = from_hex(digits).ok()?;
    if generation > 0 {
        object.extend(generation.to_be_bytes());
    }
    Some(object)
}

/// How a list is not what the manifest says of it.
fn miscounted(list: &PartList, records: &[PartRecord]) -> Option<String> {
    let found = (
        records.len() as u64,
        records.iter().map(|record| record.part.rows).sum::<u64>(),
        records.iter().map(PartRecord::bytes).sum::<u64>(),
    );
    let said = (list.parts, list.rows, list.data_bytes);
    (found != said).then(|| {
        format!(
            "{} lists {} with {} and {}, and the manifest says {}, {} and {}",
            list.at.object,
            human::parts(found.0),
            human::rows(found.1),
            human::bytes(found.2),
            human::parts(said.0),
            human::rows(said.1),
            human::bytes(said.2),
        )
    })
}

/// A table of the server beside what a backup has of it, by metadata.
#[derive(Debug, Serialize)]
pub struct LiveTable {
    pub equal: bool,
    table: String,
    /// Parts that are as in the backup, or nothing but merges of its parts.
    kept: u64,
    /// Parts that the backup does not have.
    surplus: u64,
    /// Parts of the backup that are not there.
    missing: u64,
    /// Of the surplus ones, those that would be as in the backup and are damaged; known only where bytes
    /// were read.
    damaged: u64,
    /// What keeps it from being compared part by part.
    note: Option<String>,
}

impl LiveTable {
    fn planned(plan: &TablePlan) -> Self {
        let tally = Tally::of(plan);
        let same = plan
            .partitions
            .iter()
            .all(|partition| partition.action == Action::Nothing);
        Self {
            equal: same && !plan.create,
            table: plan.target.to_string(),
            kept: tally.kept.parts,
            surplus: tally.removed.parts,
            missing: tally.fetched.parts,
            damaged: plan.damaged.len() as u64,
            note: if plan.create {
                Some("it does not exist".to_owned())
            } else {
                (!plan.notes.is_empty()).then(|| plan.notes.join("; "))
            },
        }
    }

    fn stopped(table: &StoppedTable) -> Self {
        Self {
            equal: false,
            table: table.target.to_string(),
            kept: 0,
            surplus: 0,
            missing: 0,
            damaged: 0,
            note: Some(table.reason.clone()),
        }
    }

    fn without_parts(table: &TableName, note: Option<String>) -> Self {
        Self {
            equal: note.is_none(),
            table: table.to_string(),
            kept: 0,
            surplus: 0,
            missing: 0,
            damaged: 0,
            note,
        }
    }

    /// Takes in how the definition differs.
    fn differ(&mut self, table: &DifferentTable) {
        self.equal &= !table.leaves_other_answers();
        let differences = table.differences.iter();
        let told = differences.map(|found| format!("{found} ({})", found.grade.describe()));
        let notes: Vec<String> = self.note.take().into_iter().chain(told).collect();
        self.note = Some(notes.join("; "));
    }

    /// The tables of a mend that would bring back a backup.
    pub fn all(preview: &MendPreview) -> Vec<Self> {
        let planned = preview.tables.iter().map(Self::planned);
        let stopped = preview.stopped.iter().map(Self::stopped);
        let mut all: Vec<Self> = planned.chain(stopped).collect();
        for table in &preview.created {
            all.push(Self::without_parts(
                table,
                Some("it does not exist".to_owned()),
            ));
        }
        for table in &preview.different {
            let name = table.target.to_string();
            let known = all.iter().position(|known| known.table == name);
            let at = known.unwrap_or_else(|| {
                all.push(Self::without_parts(&table.target, None));
                all.len() - 1
            });
            all[at].differ(table);
        }
        all
    }

    /// Records as lines.
    pub fn describe(records: &[Self]) -> String {
        table(
            records,
            &[
                Field::left("table", |r: &Self| r.table.clone()),
                Field::left("result", |r| {
                    if r.equal { "equal" } else { "different" }.to_owned()
                }),
                Field::right("same parts", |r| human::count(r.kept)),
                Field::right("surplus", |r| human::count(r.surplus)),
                Field::right("missing", |r| human::count(r.missing)),
                Field::right("damaged", |r| human::count(r.damaged)),
                Field::left("note", |r| r.note.clone().unwrap_or_default()),
            ],
        )
    }
}

/// The order of the mend that would bring live tables to a backup: it is only planned.
pub fn comparison(
    (collection, id): (&str, &BackupId),
    shard: Option<String>,
    rename: impl IntoIterator<Item = (String, String)>,
) -> MendOrder {
    MendOrder {
        in_place: true,
        rename: rename.into_iter().collect(),
        keep_undo: Some(false),
        // It only looks.
        force_untried: true,
        ..MendOrder::new(MendFrom::Collection {
            collection: collection.to_owned(),
            to: Some(id.to_string()),
            shard,
        })
    }
}
