//! Whose operations these are: those of a target are in its journal, those on a repository alone in one of this
//! machine, a directory for each repository.

use std::fs;
use std::path::PathBuf;

use mendb_model::name::OperationId;
use mendb_service::Error;
use mendb_service::journal::Journal;

use crate::context::Context;
use crate::failure::Failure;
use crate::target::is_absent;

/// What operations are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The target.
    Target,
    /// A repository alone: the directory of the journal of what this machine does there.
    Repository(PathBuf),
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

    /// The journals of what this machine did in repositories alone.
    ///
    /// One that cannot be read is said and left out.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn repository_journals(&self) -> Result<Vec<(Owner, Journal)>, Failure> {
        let state = &self.settings.repository_state;
        let cannot =
            |error: &std::io::Error| Failure::io(format!("cannot read {}", state.display()), error);
        let entries = match fs::read_dir(state) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            entries => entries.map_err(|error| cannot(&error))?,
        };
        let mut directories = Vec::new();
        for entry in entries {
            directories.push(entry.map_err(|error| cannot(&error))?.path());
        }
        directories.sort();
        let mut journals = Vec::new();
        for directory in directories.into_iter().filter(|it| Journal::exists(it)) {
            match Journal::open(&directory) {
                Ok(journal) => journals.push((Owner::Repository(directory), journal)),
                // The others, and those of the target, have nothing to do with it.
                Err(error) => self.say(&format!(
                    "note: what was done in the repository of {} is not known: {error}",
                    directory.display()
                )),
            }
        }
        Ok(journals)
    }
}
