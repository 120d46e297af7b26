//! The state before a mend of rows: the backup that keeps it, and the way from it to the wanted one.

use mendb_model::manifest::Manifest;
use mendb_model::operation::{
    BackupRequest, ChainLink, OperationHead, RowMendRequest, RowMendRoad, RowTableMend,
};
use mendb_repo::StoredManifest;

use crate::error::{Error, Result};
use crate::front::Front;
use crate::front::chosen::Chosen;
use crate::front::follow::Followed;
use crate::journal::collection::Collection;

impl Front {
    /// The backup of the state before, and how the rows that differ are found: by changes where the
    /// chain of the wanted backup goes on to that. The id of the backup is not claimed yet.
    pub(super) fn before(
        &self,
        collection: &Collection,
        chain: &[StoredManifest],
        tables: &[RowTableMend],
        label: &str,
    ) -> Result<(BackupRequest, RowMendRoad)> {
        let name = &collection.collection;
        let listed = self.runtime().block_on(self.tools.repository.list(name))?;
        let header_id = self.repository_id()?;
        let mut live = collection.clone();
        let mut gone = Vec::new();
        for table in &collection.tables {
            if self.tools.engine.rows()?.inspect(table)?.is_none() {
                live.tables.retain(|name| name != table);
                gone.push(table.as_str());
            }
        }
        if let Some(other) = tables
            .iter()
            .find(|table| !table.create && !live.tables.contains(&table.table))
        {
            return Err(Error::refused(
                format!(
                    "table {} is not in collection {name}, so its state before cannot be kept",
                    other.table
                ),
                "leave it out with --tables",
            ));
        }
        let followed = match gone.first() {
            None => self.follow(&live, header_id.as_deref(), &listed),
            Some(table) => Err(Error::Refused {
                message: format!("table {table} does not exist"),
                hint: None,
            }),
        };
        let label = Some(label.to_owned());
        let id = header_id.as_deref();
        let followed = match followed {
            Ok(followed) => followed,
            Err(error @ Error::Refused { .. }) => {
                let reason = error.to_string();
                let full = self.planned_backup(&live, label, None, id, &listed)?;
                return Ok((full, RowMendRoad::Digests { reason }));
            }
            Err(error) => return Err(error),
        };
        let wanted = chain.last().map(|stored| &stored.blake3);
        let whole = &followed.chain;
        let at = whole
            .iter()
            .position(|stored| Some(&stored.blake3) == wanted);
        let road = match at {
            Some(at) => RowMendRoad::Changes {
                later: whole[at + 1..].iter().map(link).collect(),
            },
            None => RowMendRoad::Digests {
                reason: "the backup is not of the chain that the change streams go on with"
                    .to_owned(),
            },
        };
        let increment = self.planned_backup(&live, label, Some(followed), id, &listed)?;
        Ok((increment, road))
    }

    /// The backup of the state before a mend whose writers go on until the publish: an increment on the wanted
    /// backup, of the tables that are mended, taken of what the publish replaced. The id is not claimed yet.
    pub(super) fn before_of_publish(
        &self,
        collection: &Collection,
        wanted: &Chosen,
        tables: &[RowTableMend],
        label: &str,
    ) -> Result<(BackupRequest, RowMendRoad)> {
        let restore_beside = |message: String| {
            let name = &collection.collection;
            let hint = format!("restore it beside: mendb restore {name} --rename OLD=NEW");
            Err(Error::refused(message, hint))
        };
        if let Some(other) = wanted.whose.clone().other() {
            return restore_beside(format!(
                "the backup is of another target, {other}, and tables of this kind of target are mended from their own \
                 backups only"
            ));
        }
        for table in tables {
            let name = &table.table;
            if table.create {
                return Err(Error::refused(
                    format!("table {name} does not exist, so it cannot be mended"),
                    format!(
                        "restore it first: mendb restore {} --tables {name}",
                        collection.collection
                    ),
                ));
            }
            if table.range.is_some() || !table.also.is_empty() {
                return restore_beside(format!(
                    "some keys of table {name} alone cannot be mended on this kind of target"
                ));
            }
            if !table.added_columns.is_empty() {
                return restore_beside(format!(
                    "table {name} got columns since the backup, and cannot be mended on this kind of target"
                ));
            }
        }
        let name = &collection.collection;
        let listed = self.runtime().block_on(self.tools.repository.list(name))?;
        let header_id = self.repository_id()?;
        let Some(last) = wanted.chain.last() else {
            return restore_beside("there is no backup".to_owned());
        };
        let followed = Followed {
            parent: link(last),
            since_version: last.manifest.snapshot_version,
            stream: String::new(),
            chain: wanted.chain.clone(),
        };
        let mended = Collection {
            tables: tables.iter().map(|table| table.table.clone()).collect(),
            ..collection.clone()
        };
        let (label, id) = (Some(label.to_owned()), header_id.as_deref());
        let before = self.planned_backup(&mended, label, Some(followed), id, &listed)?;
        let reason = "this target keeps no changes".to_owned();
        Ok((before, RowMendRoad::Digests { reason }))
    }

    /// Checks that the backup by which a mend is taken back is the one that it took.
    ///
    /// # Errors
    /// It is gone, or another has its id.
    pub(super) fn check_is_before_of(
        &self,
        operation: &OperationHead,
        mended: &RowMendRequest,
    ) -> Result<()> {
        let (collection, backup_id) = (&mended.before.collection, &mended.before.backup_id);
        let repository = &self.tools.repository;
        let read = repository.manifest(collection, backup_id);
        let Manifest { operation_id, .. } = self.runtime().block_on(read)?.manifest;
        if operation_id == operation.operation_id.as_str() {
            return Ok(());
        }
        Err(Error::refused(
            format!(
                "backup {backup_id} of collection {collection} in {} is not the one that operation {} took \
                 before it began, but of operation {operation_id}",
                repository.url(),
                operation.operation_id
            ),
            format!(
                "name the repository that it worked with: --repository {}",
                operation.repository_url
            ),
        ))
    }
}

/// A backup named so that no other can take its place.
pub(super) fn link(stored: &StoredManifest) -> ChainLink {
    ChainLink {
        backup_id: stored.manifest.backup_id.clone(),
        manifest_blake3: stored.blake3.clone(),
    }
}
