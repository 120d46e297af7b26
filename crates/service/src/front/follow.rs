//! The increment that continues a chain, and why there can be none.

use mendb_model::manifest::Manifest;
use mendb_model::name::BackupId;
use mendb_model::operation::{ChainLink, FoundBy};
use mendb_model::{Version, describe_error};
use mendb_repo::StoredManifest;

use super::chosen::{Listed, check_whole};
use super::stream::streams_of_chain;
use super::whose::Whose;
use crate::error::{Error, Result};
use crate::front::Front;
use crate::journal::collection::Collection;

/// What an increment stands on.
pub(crate) struct Followed {
    /// The chain up to the newest backup of this target in the repository; not empty.
    pub(crate) chain: Vec<StoredManifest>,
    /// The change stream of the chain.
    pub(crate) stream: String,
    /// The newest backup.
    pub(crate) parent: ChainLink,
    /// The commit up to which that reaches.
    pub(crate) since_version: Version,
    /// What changes are found by, where the target keeps none.
    pub(crate) found: Option<FoundBy>,
}

impl Front {
    /// What an increment of a collection would stand on. `listed` are the backups of it that the repository
    /// has, which is the one with this id.
    ///
    /// # Errors
    /// The chain cannot go on: no backup, a damaged one, a changed schema, lost changes; with what works
    /// instead.
    pub(crate) fn follow(
        &self,
        collection: &Collection,
        repository_id: Option<&str>,
        listed: &[Listed],
    ) -> Result<Followed> {
        let name = &collection.collection;
        let Some(repository_id) = repository_id else {
            let reason = format!("{} is no repository", self.tools.repository.url());
            return Err(take_full(name, &reason));
        };
        let finds_changes = self.tools.engine.rows()?.row_versions().is_some();
        let newest = match finds_changes {
            true => self.newest_of_same_tables(collection, listed)?,
            false => None,
        };
        let newest = match newest {
            Some(newest) => newest,
            None => self.newest_to_follow(name, listed)?,
        };
        let repository = &self.tools.repository;
        let whole_chain = async {
            let chain = repository.chain(name, &newest).await?;
            for stored in &chain {
                repository.check_present(&stored.manifest).await?;
            }
            Ok(chain)
        };
        let chain = self.runtime().block_on(whole_chain);
        let chain = chain.map_err(|error: mendb_repo::Error| -> Error {
            if error.is_retriable() {
                return error.into();
            }
            let cause = describe_error(&error);
            let reason = format!("the chain of backup {newest} cannot be continued: {cause}");
            take_full(name, &reason)
        })?;
        let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
            let reason = format!("the chain of backup {newest} is empty");
            return Err(take_full(name, &reason));
        };
        let names = streams_of_chain(&first.manifest, repository_id);
        let stream = self.carried(collection, &names)?;
        self.check_members(collection, &last.manifest, &stream)?;
        let link = |stored: &StoredManifest| ChainLink {
            backup_id: stored.manifest.backup_id.clone(),
            manifest_blake3: stored.blake3.clone(),
        };
        Ok(Followed {
            parent: link(last),
            since_version: last.manifest.snapshot_version,
            stream,
            found: finds_changes.then(|| FoundBy {
                chain: chain.iter().map(link).collect(),
                compare_rows: false,
            }),
            chain,
        })
    }

    /// The newest backup of this target that has the tables of the collection. Where changes are found by comparing,
    /// an increment can stand on any, and the state before a mend may have fewer tables.
    fn newest_of_same_tables(
        &self,
        collection: &Collection,
        listed: &[Listed],
    ) -> Result<Option<BackupId>> {
        for (id, stored) in listed.iter().rev() {
            let Ok(stored) = stored else { continue };
            let tables = &stored.manifest.tables;
            let has_all = |name: &String| tables.iter().any(|table| table.table == *name);
            if stored.manifest.is_complete()
                && tables.len() == collection.tables.len()
                && collection.tables.iter().all(has_all)
                && self.whose_listed(listed, stored)? == Whose::Ours
            {
                return Ok(Some(id.clone()));
            }
        }
        Ok(None)
    }

    /// The newest backup of this target. One that does not say whose it is may be, where none does: the
    /// change streams then prove it or not. So may one that is damaged.
    fn newest_to_follow(&self, collection: &str, listed: &[Listed]) -> Result<BackupId> {
        let mut unknown = None;
        let mut theirs = None;
        for (id, stored) in listed.iter().rev() {
            let Ok(stored) = stored else {
                return Ok(id.clone());
            };
            match self.whose_listed(listed, stored)? {
                Whose::Ours => return Ok(id.clone()),
                Whose::Unknown => unknown = unknown.or(Some(id)),
                Whose::Theirs(mark) => theirs = theirs.or(Some((id, mark))),
            }
        }
        let url = self.tools.repository.url();
        let reason = match (unknown, theirs) {
            (Some(id), _) => return Ok(id.clone()),
            (None, Some((id, mark))) => format!(
                "collection {collection} has no backup of this target in {url}: the newest there, {id}, is of \
                 another, {mark}"
            ),
            (None, None) => format!("collection {collection} has no backup to stand on in {url}"),
        };
        Err(take_full(collection, &reason))
    }

    /// The first of some names of streams that a table of the collection carries; the first of all where
    /// none does.
    fn carried(&self, collection: &Collection, names: &[String]) -> Result<String> {
        let carried = self.streams_of(collection)?;
        let found = names.iter().find(|name| carried.contains(name));
        Ok(found.or(names.first()).cloned().unwrap_or_default())
    }

    /// Refuses when the tables are not those of the parent any more, or their changes are not known.
    fn check_members(
        &self,
        collection: &Collection,
        parent: &Manifest,
        stream: &str,
    ) -> Result<()> {
        let name = &collection.collection;
        let backed_up = || parent.tables.iter().map(|table| table.table.as_str());
        let mut members = collection.tables.iter();
        let other = members.find(|table| !backed_up().any(|backed_up| backed_up == *table));
        if other.is_some() || parent.tables.len() != collection.tables.len() {
            let members = backed_up().collect::<Vec<_>>().join(", ");
            let reason = format!(
                "backup {} holds the tables {members}, not those of the collection now",
                parent.backup_id
            );
            return Err(take_full(name, &reason));
        }
        check_whole(parent, collection.tables.iter().map(String::as_str))?;
        let engine = self.tools.engine.rows()?;
        for table in &parent.tables {
            let table_name = &table.table;
            let Some(live) = engine.inspect(table_name)? else {
                let reason = format!("table {table_name} does not exist");
                return Err(take_full(name, &reason));
            };
            if let Some(what) = engine.difference(table)? {
                let id = &parent.backup_id;
                let reason = format!("table {table_name} was altered since backup {id}: {what}");
                return Err(take_full(name, &reason));
            }
            if live.schema != table.schema {
                let reason = format!(
                    "the schema of table {table_name} has changed since backup {}",
                    parent.backup_id
                );
                return Err(take_full(name, &reason));
            }
            if engine.row_versions().is_some() {
                continue;
            }
            let version = parent.snapshot_version;
            if let Some(lost) = live.changes_lost(stream, version, engine.version()?) {
                let reason = format!(
                    "the changes of table {table_name} since backup {} are not known: {lost}",
                    parent.backup_id
                );
                return Err(take_full(name, &reason));
            }
        }
        Ok(())
    }
}

/// Why an increment is refused, and what works instead.
fn take_full(collection: &str, reason: &str) -> Error {
    Error::FullNeeded {
        collection: collection.to_owned(),
        reason: reason.to_owned(),
    }
}
