//! What every command gets: the settings and where to print.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mendb_server::Store;
use mendb_service::journal::Journal;

use crate::failure::Failure;
use crate::output::Output;
use crate::serve::session::Session;
use crate::settings::secret::hide_in_url;
use crate::settings::{Entry, Settings};
use crate::shared::Shared;

/// The surroundings of one run.
#[derive(Debug)]
pub struct Context {
    /// The settings that are in force.
    pub settings: Settings,
    /// Each setting with its origin.
    pub entries: Vec<Entry>,
    /// Where data is printed.
    pub output: Output,
    /// Of a command that a server runs, what that has open.
    pub session: Option<Arc<Session>>,
    /// Of a server that leads others, the journal that they share.
    pub shared: Option<Arc<Shared>>,
}

impl Context {
    /// Says something that is not data, on stderr; nothing when quiet.
    pub fn say(&self, text: &str) {
        self.output.say(text);
    }

    /// Opens the journal in a directory, which is made if it is absent.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_journal_in(&self, directory: &Path) -> Result<Journal, Failure> {
        Ok(match &self.shared {
            Some(shared) => shared.journal(directory)?,
            None => Journal::open(directory)?,
        })
    }

    /// Opens what a server keeps beside the journal of the target, which is made if it is absent.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_store(&self) -> Result<Arc<Store>, Failure> {
        Ok(match &self.shared {
            Some(shared) => Arc::clone(shared.store()),
            None => Arc::new(Store::open(&self.journal_directory()?)?),
        })
    }

    /// The directory of the journals of work on repositories alone.
    pub fn repository_state(&self) -> PathBuf {
        match &self.shared {
            Some(shared) => shared.repositories(),
            None => self.settings.repository_state.clone(),
        }
    }

    /// Where copies are of journals that servers share, a directory for each.
    pub fn journal_copies(&self) -> PathBuf {
        let named = self.settings.postgres_state.as_ref();
        let named = named.map(|directory| directory.join("shared"));
        named.unwrap_or_else(|| self.settings.journal_copies.clone())
    }

    /// Refuses to look for the journal of the target on this machine where servers share one.
    ///
    /// # Errors
    /// They do, and this process is none of them.
    pub fn check_journal_is_here(&self) -> Result<(), Failure> {
        match (&self.settings.journal, &self.shared) {
            (Some(url), None) => Err(Failure::misuse(format!(
                "the journal of this target is in {}, and the servers that share it alone work with it",
                hide_in_url(url)
            ))
            .hint(
                "have one of them do it: --server http://host:port, with a token in MENDB_TOKEN; mendb serve is one",
            )),
            _ => Ok(()),
        }
    }
}
