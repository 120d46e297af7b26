//! The state before a mend of rows: the backup that keeps it, and the way from it to the wanted one.
//!
//! The next increment of the chain keeps it. Where so much has changed that an increment costs more than a full backup
//! (it reads the change logs, writes the changes, reads them again and proves them), a full backup keeps it and begins
//! a new chain.

use mendb_model::Version;
use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::{
    BackupRequest, ChainLink, FindBy, OperationHead, RowMendRequest, RowTableMend,
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
    ) -> Result<(BackupRequest, FindBy)> {
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
            Err(error @ (Error::Refused { .. } | Error::FullNeeded { .. })) => {
                let reason = error.to_string();
                let full = self.planned_backup(&live, label, None, id, &listed)?;
                return Ok((full, FindBy::Digests { reason }));
            }
            Err(error) => return Err(error),
        };
        let are_whole = tables.iter().all(|table| table.range.is_none());
        if are_whole && self.kept_as(&live, followed.since_version)? == Kept::Full {
            let reason = "most of the rows have changed since the last backup".to_owned();
            let full = self.planned_backup(&live, label, None, id, &listed)?;
            return Ok((full, FindBy::Digests { reason }));
        }
        let wanted = chain.last().map(|stored| &stored.blake3);
        let whole = &followed.chain;
        let at = whole
            .iter()
            .position(|stored| Some(&stored.blake3) == wanted);
        let find_by = match at {
            Some(at) => FindBy::Changes {
                later: whole[at + 1..].iter().map(link).collect(),
            },
            None => FindBy::Digests {
                reason: "the backup is not of the chain that the change streams go on with"
                    .to_owned(),
            },
        };
        let increment = self.planned_backup(&live, label, Some(followed), id, &listed)?;
        Ok((increment, find_by))
    }

    /// As what the state of a collection costs less to keep that has changed since a commit.
    fn kept_as(&self, collection: &Collection, since_version: Version) -> Result<Kept> {
        let engine = self.tools.engine.rows()?;
        let (mut changed_bytes, mut row_bytes) = (0, 0);
        for table in &collection.tables {
            let Some(live) = engine.inspect(table)? else {
                continue;
            };
            let indexes = live.schema.indexes.iter();
            let indexes = indexes.map(|index| TablePath::index(table, &index.name));
            for path in std::iter::once(TablePath::table(table)).chain(indexes) {
                changed_bytes += engine.bytes_changed_since(&path, since_version)?;
                let shards = engine.shards(&path, &KeyRange::all())?;
                row_bytes += shards.iter().map(|shard| shard.bytes).sum::<u64>();
            }
        }
        Ok(Kept::choose(changed_bytes, row_bytes))
    }

    /// The backup of the state before a mend whose writers go on until the publish: an increment on the wanted
    /// backup, of the tables that are mended, taken of what the publish replaced. The id is not claimed yet. With how the
    /// rows that differ are found: by the versions of rows where the chain of the wanted backup goes on to the newest,
    /// unless all rows are to be compared.
    pub(super) fn before_of_publish(
        &self,
        collection: &Collection,
        wanted: &Chosen,
        tables: &[RowTableMend],
        label: &str,
        compares_rows: bool,
    ) -> Result<(BackupRequest, FindBy)> {
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
            if !table.also.is_empty() {
                return restore_beside(format!(
                    "single keys beside a range of table {name} cannot be mended on this kind of target"
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
            found: None,
        };
        let mended = Collection {
            tables: tables.iter().map(|table| table.table.clone()).collect(),
            ..collection.clone()
        };
        let (label, id) = (Some(label.to_owned()), header_id.as_deref());
        let before = self.planned_backup(&mended, label, Some(followed), id, &listed)?;
        let find_by = match compares_rows {
            true => FindBy::Digests {
                reason: "that was asked for".to_owned(),
            },
            false => match self.follow(collection, id, &listed) {
                Ok(followed) => by_versions(&followed, last),
                Err(error @ (Error::Refused { .. } | Error::FullNeeded { .. })) => {
                    FindBy::Digests {
                        reason: error.to_string(),
                    }
                }
                Err(error) => return Err(error),
            },
        };
        Ok((before, find_by))
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

/// By the versions of rows since the backup that an increment would stand on, where that is of the chain of the wanted one.
fn by_versions(followed: &Followed, wanted: &StoredManifest) -> FindBy {
    let mut chain = followed.chain.iter();
    match chain.position(|stored| stored.blake3 == wanted.blake3) {
        Some(at) => FindBy::Versions {
            later: followed.chain[at + 1..].iter().map(link).collect(),
            since: followed.since_version,
        },
        None => FindBy::Digests {
            reason: format!(
                "the newest backup, {}, does not stand on the wanted one",
                followed.parent.backup_id
            ),
        },
    }
}

/// As what the state before is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// The next of the chain.
    Increment,
    /// The first of a new chain.
    Full,
}

impl Kept {
    /// So many bytes of changes, which are read, written, read again and proved, cost as much …
    const CHANGED_BYTES: u64 = 2;
    /// … as so many bytes of rows.
    const ROW_BYTES: u64 = 5;
    /// With fewer bytes of rows a full backup spares too little to begin a new chain for it.
    const LEAST_BYTES: u64 = 8 << 20;

    /// What costs less, going by the bytes of the change logs and of all rows.
    fn choose(changed_bytes: u64, row_bytes: u64) -> Self {
        let is_dearer = changed_bytes.saturating_mul(Self::ROW_BYTES)
            > row_bytes.saturating_mul(Self::CHANGED_BYTES);
        match is_dearer && row_bytes >= Self::LEAST_BYTES {
            true => Self::Full,
            false => Self::Increment,
        }
    }
}

/// A backup named so that no other can take its place.
pub(super) fn link(stored: &StoredManifest) -> ChainLink {
    ChainLink {
        backup_id: stored.manifest.backup_id.clone(),
        manifest_blake3: stored.blake3.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_before_is_a_full_backup_where_much_of_many_rows_has_changed() {
        for (changed_bytes, row_bytes, expected) in [
            (0, 0, Kept::Increment),
            (7 << 20, 7 << 20, Kept::Increment),
            (40 << 20, 100 << 20, Kept::Increment),
            (41 << 20, 100 << 20, Kept::Full),
            (u64::MAX, 100 << 20, Kept::Full),
        ] {
            let chosen = Kept::choose(changed_bytes, row_bytes);
            assert_eq!(chosen, expected, "{changed_bytes} of {row_bytes}");
        }
    }
}
