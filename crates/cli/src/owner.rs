//! Whose operations these are: those of a target are in its journal, those on a repository alone, and on a cluster, in
//! one of this machine, a directory for each.

use std::path::PathBuf;

use mendb_model::name::OperationId;
use mendb_service::Error;
use mendb_service::journal::Journal;

use crate::context::Context;
use crate::failure::Failure;
use crate::journals::directories_in;

/// What operations are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The target.
    Target,
    /// A repository alone: the directory of the journal of what this machine does there.
    Repository(PathBuf),
    /// A cluster: the directory of the journal of its coordinator, which has its name.
    Cluster(PathBuf),
}

impl Context {
    /// The journal that knows an operation, and whose it is.
    ///
    /// # Errors
    /// None does, or one cannot be read.
    pub fn journal_of(&self, id: &OperationId) -> Result<(Owner, Journal), Failure> {
        if let Some(known) = self.repository_journal_of(id)? {
            return Ok(known);
        }
        let Some(journal) = self.open_journal()? else {
            return Err(self.unknown_operation(None, id));
        };
        match journal.operation_head(id) {
            Err(Error::UnknownOperation(_)) => Err(self.unknown_operation(Some(&journal), id)),
            _ => Ok((Owner::Target, journal)),
        }
    }

    /// The journal of a repository that knows an operation, if one does.
    ///
    /// # Errors
    /// The directory of these journals cannot be read.
    pub fn repository_journal_of(
        &self,
        id: &OperationId,
    ) -> Result<Option<(Owner, Journal)>, Failure> {
        let mut journals = self.repository_journals()?.into_iter();
        // What else is wrong with the operation is for the command to tell.
        Ok(journals.find(|(_, journal)| {
            !matches!(journal.operation_head(id), Err(Error::UnknownOperation(_)))
        }))
    }

    /// The journals of what this machine did in repositories alone, and to clusters.
    ///
    /// One that cannot be read is said and left out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn repository_journals(&self) -> Result<Vec<(Owner, Journal)>, Failure> {
        let of_repositories = directories_in(&self.repository_state())?;
        let mut of_clusters = directories_in(&self.settings.cluster_state)?;
        // That of the target is none beside it.
        if let Some(cluster) = self.target_cluster()? {
            let own = self.cluster_directory(&cluster);
            of_clusters.retain(|directory| *directory != own);
        }
        let owners = (of_repositories.into_iter().map(Owner::Repository))
            .chain(of_clusters.into_iter().map(Owner::Cluster));
        let mut journals = Vec::new();
        for owner in owners {
            let (Owner::Repository(directory) | Owner::Cluster(directory)) = &owner else {
                continue;
            };
            if !Journal::exists(directory) {
                continue;
            }
            let opened = match &owner {
                Owner::Cluster(_) => Journal::open(directory).map_err(Failure::from),
                _ => self.open_journal_in(directory),
            };
            match opened {
                Ok(journal) => journals.push((owner, journal)),
                // The others, and those of the target, have nothing to do with it.
                Err(error) => self.say(&format!(
                    "note: what is in the journal in {} is not known: {error}",
                    directory.display()
                )),
            }
        }
        Ok(journals)
    }
}
