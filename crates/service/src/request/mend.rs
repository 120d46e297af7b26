//! The order for a mend: a restore of a part store, in place or into tables that are absent.

use std::collections::BTreeMap;

use mendb_model::name::OperationId;
use mendb_model::operation::{
    ChainLink, MendRequest, MendSource, Request, StoppedTable, TableMend,
};
use mendb_model::part::{
    OnConcurrentInsert, PartStoreBackup, PartTable, RestoreOrder, TableDefinition, TableName,
    TablePlan, Tally, inner,
};
use serde::Serialize;

use super::in_the_way;
use crate::error::{Error, Result};
use crate::journal::mend_plan::MendPlan;
use crate::service::Service;
use crate::worker::parts;

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
    /// Comma-separated patterns of partitions; all without.
    pub partitions: Option<String>,
    /// Bring data.
    pub data: bool,
    /// Bring schema: create what is missing, and put what differs aside and create it anew. Missing tables
    /// are also created when only data is asked for.
    pub schema: bool,
    /// New names by old ones, as [`TableName::parse`] reads them.
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
            let table = request.tables.iter().map(|table| table.target.to_string());
            if let Some(table) = table.into_iter().find(|table| touched.contains(table)) {
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
            databases: order.databases.clone(),
            partitions: order.partitions.clone(),
            data: order.data,
            order: order.order,
            on_concurrent_insert: order.on_concurrent_insert,
            keep_undo: order.keep_undo,
            check_table: order.check_table,
        };
        let engine = self.tools.engine.parts()?;
        let renamed = renamed(order, &store)?;
        for table in &store.tables {
            let definition = &table.definition;
            let source = &definition.name;
            let patterns = order.tables.as_deref();
            if patterns.is_some_and(|patterns| !selects(patterns, source)) {
                continue;
            }
            let target = target_of(order, &renamed, source);
            let live = engine.table(&target)?;
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
        if request.tables.is_empty() {
            return Err(nothing_to_mend(order, &request.stopped));
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

/// Whether patterns name a table, or the view that keeps its rows in it.
fn selects(patterns: &str, table: &TableName) -> bool {
    let view = inner::view_of_table(table);
    table.matches(patterns) || view.is_some_and(|view| view.matches(patterns))
}

/// New names of tables of a backup.
///
/// # Errors
/// A name is none, or that of no table of the backup, or of several.
fn renamed(order: &MendOrder, store: &PartStoreBackup) -> Result<BTreeMap<TableName, TableName>> {
    let no_name = |name: &str| {
        Error::refused(
            format!("--rename: {name:?} names no table"),
            "name it as database.table; backquotes tell where a database with dots ends: '`a.b`.c'",
        )
    };
    let mut renamed = BTreeMap::new();
    for (old, new) in &order.rename {
        let exact = TableName::parse(old).ok_or_else(|| no_name(old))?;
        let target = TableName::parse(new).ok_or_else(|| no_name(new))?;
        let tables = store.tables.iter().map(PartTable::name);
        let printed: Vec<&TableName> = tables
            .filter(|name| name.to_string() == *old || **name == exact)
            .collect();
        let source = match printed.as_slice() {
            [] => {
                return Err(Error::refused(
                    format!("--rename: the backup has no table {old}"),
                    "mendb show tells its tables",
                ));
            }
            [only] => (*only).clone(),
            _ if printed.contains(&&exact) => exact,
            several => {
                let names: Vec<String> = several.iter().map(|name| name.spelled()).collect();
                return Err(Error::refused(
                    format!("--rename: {old} is the name of several tables"),
                    format!("write which of them: {}", names.join(", ")),
                ));
            }
        };
        renamed.insert(source, target);
    }
    Ok(renamed)
}

/// The name on the target. The table of a view goes where its view goes.
fn target_of(
    order: &MendOrder,
    renamed: &BTreeMap<TableName, TableName>,
    source: &TableName,
) -> TableName {
    if let Some(target) = renamed.get(source) {
        return target.clone();
    }
    let view = inner::view_of_table(source);
    if let Some(view) = view.and_then(|view| renamed.get(&view)) {
        return TableName::new(&view.database, inner::of_view(&view.table));
    }
    let database = order.databases.get(&source.database);
    TableName::new(database.unwrap_or(&source.database), &source.table)
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
    let beside = TableName::new(&target.database, format!("{}_restored", target.table));
    let pair = format!("{}={}", target.spelled(), beside.spelled());
    let pair = match pair.contains('`') {
        true => format!("'{pair}'"),
        false => pair,
    };
    Error::refused(
        format!("table {target} already exists, and a restore overwrites nothing"),
        format!("mend it where it is: --in-place; or restore beside it: --rename {pair}"),
    )
}

fn nothing_to_mend(order: &MendOrder, stopped: &[StoppedTable]) -> Error {
    if stopped.is_empty() {
        let patterns = order.tables.as_deref().unwrap_or("*");
        return Error::refused(
            format!("no table of the backup matches {patterns}, or none has data"),
            "mendb show tells its tables",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn store(names: &[(&str, &str)]) -> PartStoreBackup {
        let table = |(database, table): &(&str, &str)| PartTable {
            definition: TableDefinition {
                name: TableName::new(*database, *table),
                engine: "MergeTree".to_owned(),
                create_query: String::new(),
                partition_key: String::new(),
                sorting_key: String::new(),
                primary_key: String::new(),
                columns: Vec::new(),
                storage_policy: String::new(),
                has_ttl: false,
            },
            current_parts: None,
            partitions: None,
            mutations: Vec::new(),
            lists: Vec::new(),
        };
        PartStoreBackup {
            server_version: String::new(),
            run: None,
            patterns: String::new(),
            databases: Vec::new(),
            tables: names.iter().map(table).collect(),
        }
    }

    fn target(names: &[(&str, &str)], old: &str, source: (&str, &str)) -> Result<String> {
        let mut order = MendOrder::new(MendFrom::Imported {
            url: String::new(),
            name: String::new(),
        });
        order.rename.insert(old.to_owned(), "x.y".to_owned());
        order.databases.insert("d".to_owned(), "e".to_owned());
        let renamed = renamed(&order, &store(names))?;
        let source = TableName::new(source.0, source.1);
        Ok(target_of(&order, &renamed, &source).spelled())
    }

    #[test]
    fn tables_that_are_printed_alike_are_told_apart_by_backquotes() {
        let alike = [("a.b", "t"), ("a", "b.t")];
        for (old, dotted, plain) in [
            ("`a.b`.t", "x.y", "a.b.t"),
            ("a.`b.t`", "`a.b`.t", "x.y"),
            ("a.b.t", "`a.b`.t", "x.y"),
        ] {
            assert_eq!(target(&alike, old, alike[0]).unwrap(), dotted, "{old}");
            assert_eq!(target(&alike, old, alike[1]).unwrap(), plain, "{old}");
        }
        let other = [("a.b", "c.t"), ("a.b.c", "t")];
        let refused = target(&other, "a.b.c.t", other[0]).unwrap_err();
        assert!(
            refused.hint().unwrap().contains("`a.b`.c.t, `a.b.c`.t"),
            "{refused}"
        );
        assert!(target(&other, "a.x", other[0]).is_err());
    }

    #[test]
    fn the_table_of_a_view_goes_where_its_view_goes() {
        let names = [("d", "v"), ("d", ".inner.v"), ("d", "w")];
        let inner = ("d", ".inner.v");
        assert_eq!(target(&names, "d.v", inner).unwrap(), "x..inner.y");
        assert_eq!(target(&names, "d.w", inner).unwrap(), "e..inner.v");
        assert_eq!(target(&names, "d..inner.v", inner).unwrap(), "x.y");
    }
}
