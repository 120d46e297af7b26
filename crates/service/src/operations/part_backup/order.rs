//! The order for a backup of a part store.

use mendb_model::name::{BackupId, BackupKind, OperationId, check};
use mendb_model::operation::{ChainLink, PartBackupRequest, Request, TargetTable};
use mendb_model::part::{Exclusion, PartitionPatterns, Selection, Selector, TableName, Unmatched};
use mendb_repo::StoredManifest;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::front::selectors::{LeaveOut, check_fit};
use crate::front::whose::Whose;
use crate::front::{Failed, Front, in_the_way};
use crate::operations::row_backup::order::check_label;

/// A backup of a part store as a user orders it.
#[derive(Debug, Clone, Default)]
pub struct PartBackupOrder {
    /// The collection.
    pub collection: String,
    /// Comma-separated patterns of `database.table`. Without: those of this target's newest backup of the
    /// collection, else all tables of the database that has the collection's name.
    pub tables: Option<String>,
    /// Comma-separated patterns of partitions, by id or value; all without.
    pub partitions: Option<String>,
    /// Tables that are left out of them. Without patterns of tables, so are those that were left out of
    /// the collection's newest backup.
    pub exclude: LeaveOut,
    /// Whether patterns may fit nothing.
    pub if_exists: bool,
    /// A name for it, unique in the collection.
    pub label: Option<String>,
    /// Make a repository where there is none, although the target was backed up into another.
    pub new_repository: bool,
    /// Leave credentials in definitions out: what has some is not created by a restore.
    pub without_secrets: bool,
    /// The backup of a cluster that it is a part of, if so, and the shard.
    pub part_of: Option<(BackupId, String)>,
    /// Whether it is to fail unless all tables are frozen at one moment.
    pub exact: bool,
    /// Whether it waits to be resumed when its tables are frozen, and looked at again.
    pub holds: bool,
}

/// What a server has for an order of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fit {
    /// The patterns that name tables.
    pub patterns: String,
    /// How many tables they name.
    pub tables: u64,
    /// Patterns that fit nothing.
    pub unmatched: Vec<Unmatched>,
}

/// The tables of an order.
struct Chosen {
    patterns: String,
    exclude: Exclusion,
    tables: Vec<TableName>,
    left_out: Vec<TableName>,
    /// Patterns of an earlier backup that fit nothing any more.
    gone: Vec<Unmatched>,
    /// Patterns of the order that fit nothing.
    wrong: Vec<Unmatched>,
    /// An earlier backup, whose files are known.
    known: Option<ChainLink>,
}

type Listed = (BackupId, mendb_repo::Result<StoredManifest>);

impl Front {
    /// Whether a backup of a collection of a part store would hold anything, as far as its name tells: one was taken
    /// before, or the server has tables in the database of that name.
    ///
    /// # Errors
    /// Server or repository cannot be reached, or the target is no part store.
    pub fn has_part_collection(&self, name: &str) -> Result<bool> {
        let repository = &self.tools.repository;
        let collections = self.runtime().block_on(repository.collections())?;
        if collections.iter().any(|collection| collection == name) {
            return Ok(true);
        }
        let listing = self.tools.engine.parts()?.listing(&Selection {
            tables: format!("{name}.*"),
            exclude: Exclusion::default(),
        })?;
        Ok(!listing.tables.is_empty() || !listing.refused.is_empty())
    }

    /// Checks an order for a backup of a part store and makes it an operation, which
    /// [`crate::Service::drive`] runs.
    ///
    /// # Errors
    /// [`Error::BackupFailed`]: an earlier backup of the collection failed; resume or cancel it.
    /// [`Error::NothingFits`]: a pattern fits nothing. Else no table matches, a table is at work, the label
    /// is taken, or server or repository cannot be reached.
    pub fn request_part_backup(&self, order: &PartBackupOrder) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        check(&order.collection)?;
        let collection = &order.collection;
        let repository = &self.tools.repository;
        let header_id = self.repository_id()?;
        let backups = self.runtime().block_on(repository.list(collection))?;
        if let Some(label) = &order.label {
            check_label(label, &backups)?;
        }
        let is_part = order.part_of.is_some();
        let Chosen {
            patterns,
            exclude,
            tables,
            left_out,
            gone,
            wrong,
            known,
        } = self.chosen_tables(order, &backups)?;
        // Another shard may have what this one lacks: who has all of them backed up sees to that.
        check_fit(&wrong, order.if_exists || is_part)?;
        check_fit(&gone, true)?;
        let unmatched: Vec<Unmatched> = wrong.into_iter().chain(gone).collect();
        if tables.is_empty() && !is_part {
            return Err(match unmatched.is_empty() {
                true => nothing_to_back_up(&patterns, &left_out),
                false => Error::NothingFits { unmatched },
            });
        }
        let mut failed = None;
        for operation in self.journal.open_operations()? {
            let same = operation.request.collection() == collection;
            match Failed::of(&operation).filter(|_| same) {
                Some(Failed::Abandoned) => continue,
                Some(Failed::Cancellable) => {
                    failed = Some(operation.operation_id);
                    continue;
                }
                None => {}
            }
            let touched = operation.request.target_tables();
            if let Some(table) = tables
                .iter()
                .find(|table| touched.contains(&TargetTable::Parts(table)))
                && self.holds_tables(&operation)?
            {
                return Err(in_the_way(&format!("table {table}"), &operation));
            }
            if same && operation.request.is_backup() {
                return Err(in_the_way(&format!("collection {collection}"), &operation));
            }
        }
        if let Some(operation_id) = failed {
            return Err(Error::BackupFailed {
                collection: collection.clone(),
                operation_id,
            });
        }
        if header_id.is_none() {
            self.check_may_be_made(collection, &backups, order.new_repository)?;
        }
        // Refused until here, it leaves nothing.
        let repository_id = self.make_if_absent(header_id)?;
        let request = PartBackupRequest {
            collection: collection.clone(),
            backup_id: match &order.part_of {
                // Who has all shards made has claimed it.
                Some((backup_id, _)) => backup_id.clone(),
                None => self.claim_id(collection, BackupKind::Full)?,
            },
            label: order.label.clone(),
            patterns,
            exclude,
            unmatched,
            tables,
            partitions: order.partitions.clone(),
            known,
            without_secrets: order.without_secrets,
            of_shard: order.part_of.as_ref().map(|(_, shard)| shard.clone()),
            exact: order.exact,
            holds: order.holds,
        };
        self.create(Request::PartBackup(request), repository_id, &[])
    }

    /// What there is on the server for an order: how many tables, and which patterns fit nothing.
    ///
    /// # Errors
    /// The server or the repository cannot be reached.
    pub fn part_backup_fits(&self, order: &PartBackupOrder) -> Result<Fit> {
        let listing = self.tools.repository.list(&order.collection);
        let backups = self.runtime().block_on(listing)?;
        let chosen = self.chosen_tables(order, &backups)?;
        Ok(Fit {
            patterns: chosen.patterns,
            tables: chosen.tables.len() as u64,
            unmatched: chosen.wrong,
        })
    }

    /// The tables that an order means, among backups of its collection.
    fn chosen_tables(&self, order: &PartBackupOrder, backups: &[Listed]) -> Result<Chosen> {
        let collection = &order.collection;
        let mut ours = Vec::new();
        let mut others = Vec::new();
        for (_, stored) in backups.iter().rev() {
            let Ok(stored) = stored else { continue };
            let Some(store) = &stored.manifest.part_store else {
                continue;
            };
            match self.whose_listed(backups, stored)? {
                Whose::Theirs(_) => others.push((stored, store)),
                Whose::Ours | Whose::Unknown => ours.push((stored, store)),
            }
        }
        // Files are known by their content, no matter which backup brought them.
        let known = ours.iter().chain(&others).find(|(_, store)| store.complete);
        let (patterns, exclude) = match (&order.tables, ours.first()) {
            (Some(patterns), _) => (patterns.clone(), order.exclude.said.clone()),
            (None, Some((_, before))) => {
                let exclude = order.exclude.said.and(&before.exclude);
                (before.patterns.clone(), exclude)
            }
            (None, None) => (format!("{collection}.*"), order.exclude.said.clone()),
        };
        let engine = self.tools.engine.parts()?;
        let listing = engine.listing(&Selection {
            tables: patterns.clone(),
            exclude: exclude.and(&order.exclude.always),
        })?;
        let mut unmatched = order.exclude.said_of(listing.unmatched);
        let named = listing.tables.iter().map(|table| &table.name);
        if let Some(patterns) = &order.partitions {
            let patterns = PartitionPatterns::new(patterns);
            let mut partitions = Vec::new();
            for table in listing.tables.iter().filter(|table| table.has_parts) {
                partitions.extend(engine.partitions(&table.name)?);
            }
            unmatched.extend(patterns.unmatched(&partitions));
        }
        // What was said for an earlier backup may have gone since.
        let may_be_gone = |unmatched: &Unmatched| {
            order.tables.is_none() && unmatched.selector == Selector::Tables
        };
        let (gone, wrong): (Vec<_>, Vec<_>) = unmatched.into_iter().partition(may_be_gone);
        // A table that cannot be backed up is one that the backup lacks.
        let refused = listing.refused.iter().map(|table| &table.name);
        let tables: Vec<_> = named.chain(refused).cloned().collect();
        Ok(Chosen {
            patterns,
            exclude,
            tables,
            left_out: listing.left_out,
            gone,
            wrong,
            known: known.map(|(stored, _)| ChainLink {
                backup_id: stored.manifest.backup_id.clone(),
                manifest_blake3: stored.blake3.clone(),
            }),
        })
    }
}

fn nothing_to_back_up(patterns: &str, left_out: &[TableName]) -> Error {
    if left_out.is_empty() {
        return Error::refused(
            format!("no table of the server matches {patterns}"),
            "name tables as database.table: --tables 'analytics.*'",
        );
    }
    let left_out: Vec<String> = left_out.iter().map(ToString::to_string).collect();
    Error::refused(
        format!(
            "every table that matches {patterns} is left out: {}",
            left_out.join(", ")
        ),
        "--tables with other patterns; mendb config show tells what settings leave out, and what was left \
         out of the newest backup counts where --tables is not given",
    )
}
