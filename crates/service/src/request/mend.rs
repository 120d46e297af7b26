//! The order for a mend: a restore of a part store, in place or into tables that are absent.

use std::collections::{BTreeMap, BTreeSet};

use mendb_model::name::{OperationId, matches};
use mendb_model::operation::{
    ChainLink, MendRequest, MendSource, Request, StoppedTable, TableMend, TargetTable,
};
use mendb_model::part::{
    OnConcurrentInsert, PartStoreBackup, RestoreOrder, Selector, TableDefinition, TableName,
    TablePlan, Tally, Unmatched,
};
use serde::Serialize;

use super::in_the_way;
use super::selectors::{LeaveOut, check_fit};
use crate::error::{Error, Result};
use crate::journal::mend_plan::MendPlan;
use crate::service::Service;
use crate::worker::parts;

/// What the name of a table that belongs to a materialized view begins with, before that of the view.
const INNER: &str = ".inner.";

/// Where the parts come from, as a user says it.
#[derive(Debug, Clone)]
pub enum MendFrom {
    /// A backup of the repository.
    Collection {
        /// The collection.
        collection: String,
        /// The backup by id or label; the newest without.
        to: Option<String>,
    },
    /// A backup that clickhouse-backup made.
    Imported {
        /// Where such backups are: `clickhouse-backup+file:///dir`.
        url: String,
        /// Its name.
        name: String,
    },
}

/// A mend as a user orders it.
#[derive(Debug, Clone)]
pub struct MendOrder {
    /// Where the parts come from.
    pub from: MendFrom,
    /// Whether tables that exist are mended; else they must be absent.
    pub in_place: bool,
    /// Comma-separated patterns of `database.table`; all tables of the backup without.
    pub tables: Option<String>,
    /// Tables that are left out of them.
    pub exclude: LeaveOut,
    /// Whether patterns may fit nothing.
    pub if_exists: bool,
    /// Comma-separated patterns of partitions; all without.
    pub partitions: Option<String>,
    /// Bring data.
    pub data: bool,
    /// Bring schema: create what is missing, and put what differs aside and create it anew. Missing tables
    /// are also created when only data is asked for.
    pub schema: bool,
    /// New names (`database.table`) by old ones.
    pub rename: BTreeMap<String, String>,
    /// New databases by old ones.
    pub databases: BTreeMap<String, String>,
    /// The order of work.
    pub order: RestoreOrder,
    /// What to do with parts that come after planning.
    pub on_concurrent_insert: OnConcurrentInsert,
    /// Keep the state before, so that the mend can be undone; decided by free space when not said.
    pub keep_undo: Option<bool>,
    /// Have the server check the tables at the end.
    pub check_table: bool,
}

impl MendOrder {
    /// All of a backup, with everything else at its default.
    pub fn new(from: MendFrom) -> Self {
        Self {
            from,
            in_place: false,
            tables: None,
            exclude: LeaveOut::default(),
            if_exists: false,
            partitions: None,
            data: true,
            schema: false,
            rename: BTreeMap::new(),
            databases: BTreeMap::new(),
            order: RestoreOrder::Auto,
            on_concurrent_insert: OnConcurrentInsert::Fail,
            keep_undo: None,
            check_table: false,
        }
    }
}

/// What a mend would do.
#[derive(Debug, Clone, Serialize)]
pub struct MendPreview {
    /// Each table's plan, with actions decided.
    pub tables: Vec<TablePlan>,
    /// Tables that would not be mended, with the reason.
    pub stopped: Vec<StoppedTable>,
    /// Whether the state before would be kept.
    pub keep_undo: bool,
    /// The sums of all tables.
    pub total: Tally,
}

impl Service {
    /// Checks an order for a mend and says what it would do. Nothing is changed.
    ///
    /// # Errors
    /// As [`Self::request_mend`], and what assessing the tables fails with.
    pub fn plan_mend(&self, order: &MendOrder) -> Result<MendPreview> {
        let request = self.mend_request(order)?;
        parts::preview(&self.tools, request)
    }

    /// Checks an order for a mend and makes it an operation, which [`Service::drive`] runs.
    ///
    /// # Errors
    /// No such backup or table, a table that exists although the mend is not in place, a table at work, or
    /// no table whose schema agrees with the backup's.
    pub fn request_mend(&self, order: &MendOrder) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        let request = self.mend_request(order)?;
        self.check_free(&request)?;
        self.create_mend(request)
    }

    /// Makes an operation that brings the tables of a mend back to what they were before it.
    ///
    /// # Errors
    /// There is no such mend, it is not over, or it has kept nothing to be undone by.
    pub fn request_undo(&self, id: &OperationId) -> Result<OperationId> {
        let operation = self.journal.operation(id)?;
        if let Request::MendRows(mended) = &operation.request {
            return self.undo_row_mend(&operation, mended);
        }
        let _one_at_a_time = self.requests();
        let Request::Mend(mended) = &operation.request else {
            return Err(Error::refused(
                format!(
                    "operation {id} is a {}, and only mends are undone",
                    operation.request.kind()
                ),
                "mendb operation list shows the mends there are",
            ));
        };
        if !operation.state.is_terminal() {
            return Err(in_the_way("the target", &operation));
        }
        let request = MendRequest {
            source: MendSource::Undo {
                operation_id: id.clone(),
            },
            stopped: Vec::new(),
            databases: BTreeMap::new(),
            keep_undo: Some(true),
            tables: parts::undo_tables(&self.tools, id, mended)?,
            ..mended.clone()
        };
        self.check_free(&request)?;
        self.create_mend(request)
    }

    /// What was planned for each table of a mend, and what was done.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn mend_plans(&self, id: &OperationId) -> Result<Vec<MendPlan>> {
        self.journal.mend_plans(id)
    }

    fn create_mend(&self, request: MendRequest) -> Result<OperationId> {
        let header = self
            .runtime()
            .block_on(self.tools.repository.create_if_absent())?;
        self.create(Request::Mend(request), header.repository_id, &[])
    }

    fn check_free(&self, request: &MendRequest) -> Result<()> {
        for operation in self.journal.open_operations()? {
            let touched = operation.request.target_tables();
            let mut targets = request.tables.iter().map(|table| &table.target);
            if let Some(table) = targets.find(|table| touched.contains(&TargetTable::Parts(table)))
            {
                return Err(in_the_way(&format!("table {table}"), &operation));
            }
        }
        Ok(())
    }

    /// The request that an order comes to.
    fn mend_request(&self, order: &MendOrder) -> Result<MendRequest> {
        let source = self.mend_source(&order.from)?;
        let store = parts::contents(&self.tools, &source)?;
        let mut request = MendRequest {
            source,
            tables: Vec::new(),
            stopped: Vec::new(),
            unmatched: Vec::new(),
            databases: order.databases.clone(),
            partitions: order.partitions.clone(),
            data: order.data,
            order: order.order,
            on_concurrent_insert: order.on_concurrent_insert,
            keep_undo: order.keep_undo,
            check_table: order.check_table,
        };
        let engine = self.tools.engine.parts()?;
        request.unmatched = unmatched_tables(order, &store);
        check_fit(&request.unmatched, order.if_exists)?;
        let exclude = order.exclude.all();
        let mut disks = BTreeSet::new();
        let mut unknown: Vec<&String> = order.rename.keys().collect();
        for table in &store.tables {
            let definition = &table.definition;
            let source = &definition.name;
            unknown.retain(|name| **name != source.to_string());
            if !is_chosen(order, &store, definition) {
                continue;
            }
            let target = target_of(order, source)?;
            let live = engine.table(&target)?;
            if !exclude.disks.is_empty() && definition.has_parts() {
                let on = match live {
                    Some(_) => engine.disks_of(&target)?,
                    None => engine.disks_of_policy(&definition.storage_policy)?,
                };
                disks.extend(on.iter().cloned());
                if exclude.leaves_out_on(&on) {
                    continue;
                }
            }
            let mend = TableMend {
                source: source.clone(),
                target: target.clone(),
                create: live.is_none(),
                replace: false,
                has_parts: definition.has_parts(),
            };
            match live {
                None => request.tables.push(mend),
                Some(_) if !order.in_place => return Err(exists_already(&target)),
                // Views and dictionaries that are there have no data to mend.
                Some(_) if !mend.has_parts => {}
                Some(live) => match obstacle(definition, &live) {
                    None => request.tables.push(mend),
                    Some(_) if order.schema => {
                        request.tables.push(TableMend {
                            create: true,
                            replace: true,
                            ..mend
                        });
                    }
                    Some(reason) => request.stopped.push(StoppedTable { target, reason }),
                },
            }
        }
        if let Some(unknown) = unknown.first() {
            return Err(Error::refused(
                format!("--rename: the backup has no table {unknown}"),
                "mendb show tells its tables",
            ));
        }
        let a_disk = |pattern: &str| disks.iter().any(|disk| matches(pattern, disk));
        let unmatched = Selector::ExcludeDisks.unmatched(&order.exclude.said.disks, a_disk);
        check_fit(&unmatched, order.if_exists)?;
        request.unmatched.extend(unmatched);
        if request.tables.is_empty() {
            if request.stopped.is_empty() && !request.unmatched.is_empty() {
                let unmatched = request.unmatched;
                return Err(Error::NothingFits { unmatched });
            }
            return Err(nothing_to_mend(order, &request.stopped));
        }
        if request.data {
            let unmatched = parts::unmatched_partitions(&self.tools, &request)?;
            check_fit(&unmatched, order.if_exists)?;
            request.unmatched.extend(unmatched);
        }
        Ok(request)
    }

    fn mend_source(&self, from: &MendFrom) -> Result<MendSource> {
        match from {
            MendFrom::Imported { url, name } => Ok(MendSource::Imported {
                url: url.clone(),
                name: name.clone(),
            }),
            MendFrom::Collection { collection, to } => {
                let chain = self.chain(collection, to.as_deref())?;
                let Some(stored) = chain.last() else {
                    return Err(Error::refused(
                        format!(
                            "collection {collection} has no backup in {}",
                            self.tools.repository.url()
                        ),
                        "mendb list shows what there is; --repository names another repository",
                    ));
                };
                Ok(MendSource::Backup {
                    collection: collection.clone(),
                    link: ChainLink {
                        backup_id: stored.manifest.backup_id.clone(),
                        manifest_blake3: stored.blake3.clone(),
                    },
                })
            }
        }
    }
}

/// The patterns of an order that fit no table of the backup.
fn unmatched_tables(order: &MendOrder, store: &PartStoreBackup) -> Vec<Unmatched> {
    let exclude = &order.exclude.said;
    let a_table = |pattern: &str| (store.tables.iter()).any(|table| table.name().matches(pattern));
    let an_engine = |pattern: &str| {
        let mut tables = store.tables.iter();
        tables.any(|table| matches(pattern, &table.definition.engine))
    };
    let patterns = order.tables.as_deref().unwrap_or_default();
    let mut unmatched = Selector::Tables.unmatched(patterns, a_table);
    unmatched.extend(Selector::ExcludeTables.unmatched(&exclude.tables, a_table));
    unmatched.extend(Selector::ExcludeEngines.unmatched(&exclude.engines, an_engine));
    unmatched
}

/// Whether a table of the backup is asked for. The table of a materialized view goes with its view.
fn is_chosen(order: &MendOrder, store: &PartStoreBackup, table: &TableDefinition) -> bool {
    let name = &table.name;
    let view = name
        .table
        .strip_prefix(INNER)
        .and_then(|view| store.table(&TableName::new(&name.database, view)));
    let owner = view.map_or(table, |view| &view.definition);
    let is_named = (order.tables.as_deref())
        .is_none_or(|patterns| name.matches(patterns) || owner.name.matches(patterns));
    is_named && !order.exclude.all().leaves_out(&owner.name, &owner.engine)
}

/// The name on the target.
fn target_of(order: &MendOrder, source: &TableName) -> Result<TableName> {
    if let Some(renamed) = order.rename.get(&source.to_string()) {
        return match renamed.split_once('.') {
            Some((database, table)) if !database.is_empty() && !table.is_empty() => {
                Ok(TableName::new(database, table))
            }
            _ => Err(Error::refused(
                format!("--rename: {renamed:?} names no table"),
                "name it as database.table",
            )),
        };
    }
    let database = order.databases.get(&source.database);
    Ok(TableName::new(
        database.unwrap_or(&source.database),
        &source.table,
    ))
}

/// Why parts of the backup cannot be attached to the live table: what differs, or what it is.
fn obstacle(backup: &TableDefinition, live: &TableDefinition) -> Option<String> {
    if live.is_replicated() {
        return Some(
            "it is replicated, and mending replicas comes with clusters; restore it under another name".to_owned(),
        );
    }
    let differences = backup.differences(live);
    (!differences.is_empty()).then(|| format!("its schema differs: {}", differences.join("; ")))
}

fn exists_already(target: &TableName) -> Error {
    Error::refused(
        format!("table {target} already exists, and a restore overwrites nothing"),
        format!(
            "mend it where it is: --in-place; or restore beside it: --rename {target}={target}_restored"
        ),
    )
}

fn nothing_to_mend(order: &MendOrder, stopped: &[StoppedTable]) -> Error {
    if stopped.is_empty() {
        let patterns = order.tables.as_deref().unwrap_or("*");
        return Error::refused(
            format!(
                "no table of the backup matches {patterns}, or none has data, or all are left out"
            ),
            "mendb show tells its tables, mendb config show what settings leave out",
        );
    }
    let reasons: Vec<String> = (stopped.iter())
        .map(|table| format!("table {}: {}", table.target, table.reason))
        .collect();
    Error::refused(
        format!("none of the tables can be mended: {}", reasons.join("; ")),
        "--schema puts tables that differ aside and creates them as they were in the backup",
    )
}
