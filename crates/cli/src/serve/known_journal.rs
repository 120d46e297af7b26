//! Which journal this machine knows at a URL, for a target: a file for each. A server that was there once never makes
//! another in its place, whatever became of it.

use std::fs;
use std::path::PathBuf;

use mendb_repo::log::LogId;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::settings::secret::hide_in_url;
use crate::target::{is_absent, replace_file};

/// The note of one journal.
pub struct KnownJournal {
    directory: PathBuf,
    name: String,
    url: String,
}

#[derive(Serialize, Deserialize)]
struct Document {
    id: String,
    /// For people.
    url: String,
}

impl KnownJournal {
    /// The note of the journal at a URL of a target.
    pub fn of(context: &Context, url: &str, target: &str) -> Self {
        let hash = blake3::hash(format!("{url}\n{target}").as_bytes()).to_hex();
        Self {
            directory: context.journal_copies().join("known"),
            name: format!("{}.json", &hash[..16]),
            url: hide_in_url(url),
        }
    }

    /// Where it is.
    pub fn file(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// The id of the journal, if this machine knows it.
    ///
    /// # Errors
    /// The note cannot be read.
    pub fn read(&self) -> Result<Option<LogId>, Failure> {
        let file = self.file();
        let doing = || format!("cannot read {}", file.display());
        match fs::read(&file) {
            Ok(text) => {
                let document = serde_json::from_slice::<Document>(&text).map_err(|error| {
                    Failure::of(FailureKind::FixEnvironment, &error)
                        .context(doing())
                        .hint(format!(
                            "it notes which journal is at {}: remove it if that is the one",
                            self.url
                        ))
                });
                Ok(Some(LogId::noted(&document?.id)))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Failure::io(doing(), &error)),
        }
    }

    /// Notes the journal, durably.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note(&self, id: &LogId) -> Result<(), Failure> {
        let document = Document {
            id: id.to_string(),
            url: self.url.clone(),
        };
        let written = fs::create_dir_all(&self.directory)
            .and_then(|()| replace_file(&self.directory, &self.name, &document));
        written.map_err(|error| {
            let doing = format!("cannot note the journal in {}", self.file().display());
            Failure::io(doing, &error)
        })
    }
}
