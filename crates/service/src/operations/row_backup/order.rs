//! The order for a backup.

use mendb_model::name::{BackupId, BackupKind, OperationId, check};
use mendb_model::operation::{BackupRequest, OperationHead, Request, TargetTable};

use crate::env;
use crate::error::{Error, Result};
use crate::front::chosen::Listed;
use crate::front::follow::Followed;
use crate::front::stream::{StreamName, stream_of};
use crate::front::{Failed, Front, in_the_way};
use crate::journal::collection::Collection;

/// A backup as a user orders it.
#[derive(Debug, Clone)]
pub struct BackupOrder {
    /// The collection.
    pub collection: String,
    /// All rows, or the changes since the newest backup.
    pub kind: BackupKind,
    /// A name for it, unique in the collection.
    pub label: Option<String>,
    /// Make a repository where there is none, although the target was backed up into another.
    pub new_repository: bool,
    /// Of an increment of a target that keeps no changes: compare all rows with those of the parent, also where the
    /// versions of rows tell which changed.
    pub compare_rows: bool,
    /// Of a full backup of such a target: what tells the changes of the increments on it; as before without.
    pub changes: Option<ChangesBy>,
}

/// What tells the changes of increments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangesBy {
    /// A change stream that the target keeps from the full backup on.
    Stream,
    /// The rows, which are looked at.
    Rows,
}

impl Front {
    /// Checks an order for a backup and makes it an operation, which [`crate::Service::drive`] runs.
    ///
    /// # Errors
    /// [`Error::BackupFailed`]: an earlier backup of the collection failed; resume or cancel it. Else the
    /// collection or a table is missing or at work, the label is taken, or for an increment the
    /// chain cannot go on: no backup, a damaged one, a changed schema, a lost stream.
    pub fn request_backup(&self, order: &BackupOrder) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        let collection = self.collection(&order.collection)?;
        let name = &collection.collection;
        let failed = self.check_idle(&collection)?;
        let header_id = self.repository_id()?;
        let listed = self.runtime().block_on(self.tools.repository.list(name))?;
        if let Some(label) = &order.label {
            check_label(label, &listed)?;
        }
        let followed = match order.kind {
            BackupKind::Full => None,
            BackupKind::Incremental => {
                Some(self.follow(&collection, header_id.as_deref(), &listed)?)
            }
        };
        if header_id.is_none() {
            self.check_may_be_made(name, &listed, order.new_repository)?;
        }
        let label = order.label.clone();
        let id = header_id.as_deref();
        let mut request = self.planned_backup(&collection, label, followed, id, &listed)?;
        match &mut request.found {
            Some(found) => found.compare_rows = order.compare_rows,
            None if order.compare_rows => return Err(compares_nothing()),
            None => {}
        }
        request.keeps_changes = self.keeps_changes(order, &request)?;
        if let Some(operation_id) = failed {
            return Err(Error::BackupFailed {
                collection: collection.collection,
                operation_id,
            });
        }
        // Refused until here, it leaves nothing.
        let repository_id = self.make_if_absent(header_id)?;
        self.claim(&mut request, &repository_id)?;
        self.create(Request::Backup(request), repository_id, &[])
    }

    /// Whether a full backup has the target keep the changes for the increments on it: as is asked for, or as for the
    /// chain before in this repository.
    fn keeps_changes(&self, order: &BackupOrder, request: &BackupRequest) -> Result<bool> {
        let is_full = request.parent.is_none();
        let can_choose = self.tools.engine.rows()?.row_versions().is_some();
        match order.changes {
            Some(_) if !can_choose => Err(Error::refused(
                "--changes is for targets that keep no changes by themselves",
                "leave it out",
            )),
            Some(_) if !is_full => Err(Error::refused(
                "--changes is chosen with the full backup that a chain begins with",
                "leave it out, or take a full backup",
            )),
            Some(by) => Ok(by == ChangesBy::Stream),
            None => Ok(can_choose && is_full && !request.old_streams.is_empty()),
        }
    }

    /// The backup of a collection that goes on with what it follows, or begins a chain. Its id is not
    /// claimed yet.
    pub(crate) fn planned_backup(
        &self,
        collection: &Collection,
        label: Option<String>,
        followed: Option<Followed>,
        repository_id: Option<&str>,
        listed: &[Listed],
    ) -> Result<BackupRequest> {
        let kind = match &followed {
            Some(_) => BackupKind::Incremental,
            None => BackupKind::Full,
        };
        let newest = listed.last().map_or(0, |(id, _)| id.unix_seconds() + 1);
        let backup_id = BackupId::new(now_s().max(newest), kind)
            .ok_or_else(|| Error::refused("the clock is beyond the year 9999", "set the clock"))?;
        let repository_id = repository_id.unwrap_or_default();
        let name = &collection.collection;
        let (stream, parent, since_version, found) = match followed {
            Some(Followed {
                stream,
                parent,
                since_version,
                found,
                ..
            }) => (stream, Some(parent), Some(since_version), found),
            None => (stream_of(name, &backup_id, repository_id), None, None, None),
        };
        let mut old_streams = Vec::new();
        // The state before a mend beside writers goes on with none, and ends none.
        let has_stream = !stream.is_empty();
        for old in self.streams_of(collection)? {
            if has_stream && old != stream && self.is_of_repository(&old, repository_id, listed)? {
                old_streams.push(old);
            }
        }
        Ok(BackupRequest {
            collection: name.clone(),
            backup_id,
            label,
            tables: collection.tables.clone(),
            parent,
            stream,
            keeps_changes: false,
            since_version,
            old_streams,
            found,
        })
    }

    /// Gives a planned backup an id that no backup ever had.
    pub(crate) fn claim(&self, request: &mut BackupRequest, repository_id: &str) -> Result<()> {
        let kind = request.backup_id.kind();
        request.backup_id = self.claim_id(&request.collection, kind)?;
        if request.parent.is_none() {
            request.stream = stream_of(&request.collection, &request.backup_id, repository_id);
        }
        Ok(())
    }

    /// Whether a stream is of a chain in a repository. Of one whose name does not say, the chain is in the
    /// repository that has its full backup, or that the journal knows to have been asked for it.
    fn is_of_repository(
        &self,
        stream: &str,
        repository_id: &str,
        listed: &[Listed],
    ) -> Result<bool> {
        let Ok(name) = stream.parse::<StreamName>() else {
            return Ok(false);
        };
        if let Some(of) = &name.repository_id {
            return Ok(of == repository_id);
        }
        let holds = |(id, stored): &Listed| {
            let compacted = stored.as_ref().ok();
            let compacted = compacted.and_then(|stored| stored.manifest.compacted.as_ref());
            let mut folded = compacted.iter().flat_map(|compacted| &compacted.folded);
            id.as_str() == name.full || folded.any(|id| id.as_str() == name.full)
        };
        if listed.iter().any(holds) {
            return Ok(true);
        }
        let began = |operation: &OperationHead| {
            let request = operation.request.row_backup();
            operation.repository_id == repository_id
                && request.is_some_and(|request| request.stream == stream)
        };
        Ok(self.journal.operations()?.iter().any(began))
    }

    /// An id for a backup that was never given before.
    pub(crate) fn claim_id(&self, collection: &str, kind: BackupKind) -> Result<BackupId> {
        let repository = &self.tools.repository;
        let claim = repository.claim_id(collection, kind, now_s());
        Ok(self.runtime().block_on(claim)?)
    }

    /// Refuses when an operation works on the collection or its tables. Returns a failed backup of the
    /// collection, which a new one can replace.
    pub(crate) fn check_idle(&self, collection: &Collection) -> Result<Option<OperationId>> {
        let mut failed = None;
        for operation in self.journal.open_operations()? {
            let same = operation.request.collection() == collection.collection;
            let is_backup = operation.request.is_backup();
            match Failed::of(&operation).filter(|_| same) {
                Some(Failed::Abandoned) => continue,
                Some(Failed::Cancellable) => {
                    failed = Some(operation.operation_id);
                    continue;
                }
                None => {}
            }
            if same && is_backup {
                return Err(in_the_way(
                    &format!("collection {}", collection.collection),
                    &operation,
                ));
            }
            let touched = operation.request.target_tables();
            if let Some(table) = collection
                .tables
                .iter()
                .find(|table| touched.contains(&TargetTable::Rows(table)))
            {
                return Err(in_the_way(&format!("table {table}"), &operation));
            }
        }
        Ok(failed)
    }

    /// The streams that chains of this collection keep on its tables.
    pub(crate) fn streams_of(&self, collection: &Collection) -> Result<Vec<String>> {
        let prefix = format!("{}/", collection.collection);
        let mut streams = Vec::new();
        for table in &collection.tables {
            let live = self
                .tools
                .engine
                .rows()?
                .inspect(table)?
                .ok_or_else(|| missing_table(table, collection))?;
            streams.extend(
                live.streams
                    .into_iter()
                    .map(|stream| stream.name)
                    .filter(|s| s.starts_with(&prefix)),
            );
        }
        streams.sort();
        streams.dedup();
        Ok(streams)
    }
}

fn compares_nothing() -> Error {
    Error::refused(
        "--compare-rows is for increments of targets that keep no changes",
        "leave it out",
    )
}

fn missing_table(table: &str, collection: &Collection) -> Error {
    Error::refused(
        format!(
            "table {table} of collection {} does not exist",
            collection.collection
        ),
        format!(
            "restore it: mendb restore {} --tables {table}",
            collection.collection
        ),
    )
}

pub(crate) fn check_label(label: &str, backups: &[Listed]) -> Result<()> {
    check(label)?;
    let choose = |reason: String| Err(Error::refused(reason, "choose another label"));
    if label.parse::<BackupId>().is_ok() {
        return choose(format!("{label} looks like a backup id"));
    }
    let taken = backups.iter().find(|(_, stored)| {
        stored
            .as_ref()
            .is_ok_and(|stored| stored.manifest.label.as_deref() == Some(label))
    });
    match taken {
        Some((id, _)) => choose(format!("label {label} is taken by backup {id}")),
        None => Ok(()),
    }
}

fn now_s() -> i64 {
    i64::try_from(env::now_ms() / 1000).unwrap_or(i64::MAX)
}
