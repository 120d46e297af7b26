//! Which backup an order means where it names none, and which backup it may use where it names one.
//!
//! Without a name, it is the newest backup of this target that has all the tables. The backup of another target is
//! used only where no rows can be lost by it, or where the order names it by its id.

use std::fmt::Display;

use mendb_model::key_text::describe_range;
use mendb_model::name::{BackupId, check};
use mendb_repo::StoredManifest;

use super::whose::{Whose, whose_chain};
use crate::error::{Error, Result};
use crate::front::Front;
use mendb_model::manifest::{Manifest, TableBackup};

/// A backup of a listing, with its manifest or what is wrong with that.
pub(crate) type Listed = (BackupId, mendb_repo::Result<StoredManifest>);

/// What a backup is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To bring tables that are there to it.
    Overwrite,
    /// To make tables of it that are not there.
    Create,
    /// To hold what is there against it.
    Compare,
}

/// A backup that was chosen.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The chain that it ends; empty where the collection has no backup.
    pub chain: Vec<StoredManifest>,
    /// Whose it is.
    pub whose: Whose,
    /// It was not named and is not this target's: it must not take the place of anything.
    pub only_into_absent: bool,
}

impl Front {
    /// The backup of a collection that is meant by a label or an id, or by neither.
    ///
    /// # Errors
    /// No such backup, or its chain is broken. Where none was named: every backup lacks tables, or none is
    /// this target's and there is no telling which other is meant. Where tables are to be overwritten: a
    /// label names a backup of another target.
    pub fn chosen(&self, collection: &str, to: Option<&str>, purpose: Purpose) -> Result<Chosen> {
        check(collection)?;
        match to {
            Some(to) => self.named(collection, to, purpose),
            None => self.newest(collection, purpose),
        }
    }

    /// Whose a backup is, by its chain.
    ///
    /// # Errors
    /// The chain is broken, or journal or target cannot be read.
    pub fn whose(&self, stored: &StoredManifest) -> Result<Whose> {
        match self.whose_chain([&stored.manifest])? {
            Whose::Unknown => {
                let (collection, id) = (&stored.manifest.collection, &stored.manifest.backup_id);
                Ok(self.chain_of(collection, id)?.whose)
            }
            known => Ok(known),
        }
    }

    /// Whose a backup of a listing is.
    pub(crate) fn whose_listed(&self, listed: &[Listed], stored: &StoredManifest) -> Result<Whose> {
        let parent_of = |child: &&StoredManifest| {
            let parent = &child.manifest.parent.as_ref()?.backup_id;
            let (_, parent) = listed.iter().find(|(id, _)| id == parent)?;
            // Ids ascend along a chain, so that following one ends.
            let parent = parent.as_ref().ok()?;
            (parent.manifest.backup_id < child.manifest.backup_id).then_some(parent)
        };
        let chain = std::iter::successors(Some(stored), parent_of);
        self.whose_chain(chain.map(|stored| &stored.manifest))
    }

    fn whose_chain<'a>(&self, chain: impl IntoIterator<Item = &'a Manifest>) -> Result<Whose> {
        whose_chain(&self.tools, &|id| self.journal.knows(&id), chain)
    }

    fn named(&self, collection: &str, to: &str, purpose: Purpose) -> Result<Chosen> {
        let repository = &self.tools.repository;
        let id = self
            .runtime()
            .block_on(repository.find_id(collection, to))?;
        let chosen = self.chain_of(collection, &id)?;
        let by_label = to.parse::<BackupId>().is_err();
        if let (Purpose::Overwrite, Whose::Theirs(_), true) = (purpose, &chosen.whose, by_label) {
            return Err(Error::refused(
                format!("backup {id} ({to}) is of {}", chosen.whose.describe()),
                format!(
                    "to bring the tables of this target to it all the same, name it by its id: --to {id}"
                ),
            ));
        }
        Ok(chosen)
    }

    fn newest(&self, collection: &str, purpose: Purpose) -> Result<Chosen> {
        let repository = &self.tools.repository;
        let listed = self.runtime().block_on(repository.list(collection))?;
        let mut ours_incomplete = None;
        let mut others: Vec<Other<'_>> = Vec::new();
        for (id, stored) in listed.iter().rev() {
            let stored = match stored {
                Ok(stored) => stored,
                // It may be ours, and asked alone it says what is wrong: who wants another names that.
                Err(_) => return self.chain_of(collection, id),
            };
            match self.whose_listed(&listed, stored)? {
                Whose::Ours if stored.manifest.is_complete() => {
                    return self.chain_of(collection, id);
                }
                Whose::Ours => ours_incomplete = ours_incomplete.or(Some(stored)),
                whose => Other::add(&mut others, whose, stored),
            }
        }
        if let Some(newest) = ours_incomplete {
            return Err(lacks_tables(collection, newest));
        }
        match others.as_slice() {
            [] => Ok(Chosen {
                chain: Vec::new(),
                whose: Whose::Ours,
                only_into_absent: false,
            }),
            [other] if purpose != Purpose::Compare => match &other.complete {
                Some(id) => Ok(Chosen {
                    only_into_absent: true,
                    ..self.chain_of(collection, id)?
                }),
                None => Err(lacks_tables(collection, other.newest)),
            },
            others => Err(self.none_of_ours(collection, others)),
        }
    }

    fn chain_of(&self, collection: &str, id: &BackupId) -> Result<Chosen> {
        let repository = &self.tools.repository;
        let chain = self.runtime().block_on(repository.chain(collection, id))?;
        let whose = self.whose_chain(chain.iter().map(|stored| &stored.manifest))?;
        Ok(Chosen {
            chain,
            whose,
            only_into_absent: false,
        })
    }

    fn none_of_ours(&self, collection: &str, others: &[Other<'_>]) -> Error {
        let newest: Vec<String> = others.iter().map(Other::describe).collect();
        Error::refused(
            format!(
                "collection {collection} has no backup of this target in {}, but of {}",
                self.tools.repository.url(),
                newest.join("; of ")
            ),
            format!(
                "name the one that is meant by its id ({}); mendb list {collection} shows them all",
                others[0].newest.manifest.backup_id
            ),
        )
    }
}

/// That a backup of another target, which nobody named, must not take the place of a table.
pub(crate) fn not_ours(chosen: &Chosen, table: &dyn Display) -> Error {
    let last = chosen.chain.last();
    let id = last.map_or_else(String::new, |last| last.manifest.backup_id.to_string());
    Error::refused(
        format!(
            "this target has no backup of its own there, and table {table} exists: the newest backup, {id}, \
             is of {}",
            chosen.whose.describe()
        ),
        format!(
            "to bring the tables of this target to it all the same, name it by its id: --to {id}"
        ),
    )
}

/// What a target that is not this one has written.
struct Other<'a> {
    whose: Whose,
    newest: &'a StoredManifest,
    /// The newest that lacks no table.
    complete: Option<BackupId>,
}

impl<'a> Other<'a> {
    /// Adds a backup that is older than those before.
    fn add(others: &mut Vec<Self>, whose: Whose, stored: &'a StoredManifest) {
        let is_same = |other: &&mut Self| match (&other.whose, &whose) {
            (Whose::Theirs(one), Whose::Theirs(two)) => one.is_same(two),
            (one, two) => one == two,
        };
        let is_complete = stored.manifest.is_complete();
        let complete = is_complete.then(|| stored.manifest.backup_id.clone());
        match others.iter_mut().find(is_same) {
            Some(other) => other.complete = other.complete.take().or(complete),
            None => others.push(Self {
                whose,
                newest: stored,
                complete,
            }),
        }
    }

    fn describe(&self) -> String {
        let id = &self.newest.manifest.backup_id;
        format!("{}, the newest {id}", self.whose.describe())
    }
}

/// That an incomplete backup has to be named to be used.
fn lacks_tables(collection: &str, newest: &StoredManifest) -> Error {
    let manifest = &newest.manifest;
    let id = &manifest.backup_id;
    let missing = manifest.part_store.iter().flat_map(|store| &store.missing);
    let missing = missing.map(|table| table.name.to_string());
    let partial = manifest.tables.iter().filter(|table| table.only.is_some());
    let partial = partial.map(|table| format!("most keys of {}", table.table));
    let mut missing: Vec<String> = missing.chain(partial).collect();
    // Shards of a cluster have tables of one name.
    missing.sort_unstable();
    missing.dedup();
    Error::refused(
        format!(
            "every backup of collection {collection} is incomplete: the newest, {id}, lacks {}",
            mendb_model::names(&missing)
        ),
        format!("name it to use what it has: {id}"),
    )
}

/// Refuses a backup where all keys of tables are needed: the state before a mend of some keys has these only.
///
/// # Errors
/// It is one, of one of the tables.
pub(crate) fn check_whole<'a>(
    manifest: &Manifest,
    mut tables: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let partial = tables.find_map(|name| {
        let table = manifest.table(name)?;
        Some((table, table.only.as_ref()?))
    });
    let Some((TableBackup { table, schema, .. }, only)) = partial else {
        return Ok(());
    };
    let (keys, way_on) = match only.changed {
        true => ("those that it mended".to_owned(), String::new()),
        false => (
            format!(
                "only those of {}",
                describe_range(&only.range, &schema.key_types())
            ),
            format!("; mendb restore --in-place --range {table}:FROM..TO mends keys of these"),
        ),
    };
    Err(Error::refused(
        format!(
            "backup {} is the state before a mend of some keys: of table {table} it holds {keys}",
            manifest.backup_id
        ),
        format!(
            "mendb undo {} takes that mend back{way_on}",
            manifest.operation_id
        ),
    ))
}
