//! When backups were last proved restorable, by drills of this target.

use mendb_model::name::BackupId;
use mendb_repo::Repository;
use mendb_service::journal::Journal;
use mendb_service::journal::proof::Proof;
use tokio::runtime::Handle;

use crate::context::Context;
use crate::failure::Failure;
use crate::human;

/// Proofs of backups, of one collection the newest first.
#[derive(Debug, Default)]
pub struct Proven(Vec<Proof>);

impl Proven {
    /// What the journal of the target knows. Where it cannot be asked, as of a server that is down, that is said, and
    /// nothing is known.
    pub fn read(context: &Context, repository: &Repository, runtime: &Handle) -> Self {
        let found = Self::ask(context, repository, runtime);
        found.unwrap_or_else(|failure| {
            context.say(&format!(
                "note: whether backups were proved restorable is not known: {}",
                failure.message
            ));
            Self::default()
        })
    }

    /// The last proof of each collection, in whichever repository.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn last(journal: &Journal) -> Result<Self, Failure> {
        Ok(Self(journal.last_proofs()?))
    }

    fn ask(context: &Context, repository: &Repository, runtime: &Handle) -> Result<Self, Failure> {
        let Some(header) = runtime.block_on(repository.header())? else {
            return Ok(Self::default());
        };
        let id = &header.repository_id;
        if let Some(session) = &context.session {
            return Ok(Self(session.house.target.journal().proofs(id)?));
        }
        match context.open_journal()? {
            Some(journal) => Ok(Self(journal.proofs(id)?)),
            None => Ok(Self::default()),
        }
    }

    /// The last proof of a backup.
    pub fn of(&self, collection: &str, id: &BackupId) -> Option<&Proof> {
        let mut proofs = self.0.iter();
        proofs.find(|proof| proof.collection == collection && proof.backup_id == *id)
    }

    /// When a backup was proved last.
    pub fn at(&self, collection: &str, id: &BackupId) -> Option<String> {
        self.of(collection, id)
            .map(|proof| human::time(proof.at_ms))
    }

    /// When any backup of a collection was proved last.
    pub fn last_of(&self, collection: &str) -> Option<String> {
        let mut proofs = self.0.iter();
        let last = proofs.find(|proof| proof.collection == collection);
        last.map(|proof| human::time(proof.at_ms))
    }
}

/// When a backup was proved, and how much of it, as a line of what is told of it.
pub fn describe(proof: Option<&Proof>) -> String {
    match proof {
        Some(proof) => format!(
            "proven      restorable at {}, by {} % of each table\n",
            human::time(proof.at_ms),
            proof.percent
        ),
        None => String::new(),
    }
}
