//! The repository that a backup goes into, and when mendb creates one.
//!
//! A directory without `mendb.json` may be a mount point whose disk is not mounted, or a mistyped address. A
//! repository created there silently would hide the backups from those who look for them elsewhere. So mendb creates
//! one only by `mendb repository init`, for the first backup of a target that knows of no repository, or where the
//! order asks for it.

use std::collections::BTreeSet;

use super::chosen::Listed;
use super::stream::StreamName;
use crate::error::{Error, Result};
use crate::front::Front;

impl Front {
    /// Checks that a repository may be made where there is none.
    ///
    /// # Errors
    /// The place has backups, so that its `mendb.json` is lost; or the target knows that it was backed up into
    /// another repository.
    pub(crate) fn check_may_be_made(
        &self,
        collection: &str,
        listed: &[Listed],
        new_repository: bool,
    ) -> Result<()> {
        if new_repository {
            return Ok(());
        }
        let url = self.tools.repository.url();
        let make = format!(
            "to make a new repository there all the same: mendb repository init, or mendb backup {collection} \
             --new-repository"
        );
        if !listed.is_empty() {
            return Err(Error::refused(
                format!(
                    "{url} has backups of {collection} and no mendb.json, by which repositories are known"
                ),
                format!("bring mendb.json back from a copy of the repository; {make}"),
            ));
        }
        let used = self.used_repositories()?;
        if used.is_empty() {
            return Ok(());
        }
        let used = Vec::from_iter(used).join(", ");
        Err(Error::refused(
            format!(
                "{url} is no repository, and this target was backed up into another one: {used}"
            ),
            format!(
                "see that it is mounted, or name the one that is meant with --repository; {make}"
            ),
        ))
    }

    /// The repositories that this target knows it was backed up into, in words.
    fn used_repositories(&self) -> Result<BTreeSet<String>> {
        let known = self.journal.used_repositories()?;
        let mut used: BTreeSet<String> = known
            .iter()
            .map(|used| format!("{} ({})", used.url, used.repository_id))
            .collect();
        // The journal may have been lost, but not what the tables carry.
        let Ok(rows) = self.tools.engine.rows() else {
            return Ok(used);
        };
        for collection in self.journal.collections()? {
            for table in &collection.tables {
                let live = rows.inspect(table)?;
                for stream in live.into_iter().flat_map(|live| live.streams) {
                    let Ok(StreamName {
                        repository_id: Some(id),
                        ..
                    }) = stream.name.parse()
                    else {
                        continue;
                    };
                    if known.iter().all(|used| used.repository_id != id) {
                        used.insert(format!("the one with the id {id}"));
                    }
                }
            }
        }
        Ok(used)
    }

    /// The id of the repository, which is made where there is none: it was checked that it may be.
    pub(crate) fn make_if_absent(&self, header_id: Option<String>) -> Result<String> {
        if let Some(id) = header_id {
            return Ok(id);
        }
        let repository = &self.tools.repository;
        let header = self.runtime().block_on(repository.create_if_absent())?;
        tracing::info!(
            url = repository.url(),
            id = header.repository_id,
            "made a new repository"
        );
        Ok(header.repository_id)
    }

    /// The id of a repository that has what an operation works with.
    ///
    /// # Errors
    /// The place has no `mendb.json`.
    pub(crate) fn known_id(&self) -> Result<String> {
        self.repository_id()?.ok_or_else(|| {
            Error::refused(
                format!(
                    "{} has no mendb.json, by which operations know their repository",
                    self.tools.repository.url()
                ),
                "bring mendb.json back from a copy of the repository; if there is none, mendb repository init \
                 makes another",
            )
        })
    }
}
