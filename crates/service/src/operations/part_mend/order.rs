//! The order for a mend: a restore of a part store, in place or into tables that are absent.

use std::collections::{BTreeMap, BTreeSet};

use mendb_model::name::{OperationId, matches};
use mendb_model::operation::{Drill, MendRequest, MendSource, OperationHead, Request, TargetTable};
use mendb_model::part::{
    OnConcurrentInsert, PartStoreBackup, PartTable, PartitionMethod, Selector, TableDefinition,
    TableName, Unmatched, inner,
};

use super::assess::check_came;
use super::considered::Considered;
use super::opened_source::contents;
use super::partitions::unmatched as unmatched_partitions;
use super::preview::{MendPreview, preview};
use super::undo::undo_tables;
use super::wanted_backup::MendFrom;
use crate::error::{Error, Result};
use crate::front::chosen::not_ours;
use crate::front::selectors::{LeaveOut, check_fit};
use crate::front::{Front, in_the_way};
use crate::journal::mend_plan::MendPlan;
use crate::operations::row_mend::order::Conflicting;

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
    /// New names by old ones, as [`TableName::parse`] reads them.
    pub rename: BTreeMap<String, String>,
    /// New databases by old ones.
    pub databases: BTreeMap<String, String>,
    /// The order of work.
    pub order: PartitionMethod,
    /// What to do with parts that come after planning.
    pub on_concurrent_insert: OnConcurrentInsert,
    /// Keep the state before, so that the mend can be undone; decided by free space when not said.
    pub keep_undo: Option<bool>,
    /// Have the server check the tables at the end.
    pub check_table: bool,
    /// Read and prove every byte of the parts that stay, and bring those anew that are damaged.
    pub check_kept: bool,
    /// Where in their keeper replicated tables are created, with `{database}` and `{table}`; found by rule
    /// without.
    pub replica_path: Option<String>,
    /// Apply mutations that were not finished when the backup was made.
    pub apply_mutations: bool,
    /// Bring only this, into tables of its own, prove it and remove it again.
    pub drill: Option<Drill>,
    /// Mend also what was never tried on such a server.
    pub force_untried: bool,
    /// Whether it waits to be resumed when all is staged and nothing is live yet.
    pub holds: bool,
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
            order: PartitionMethod::Auto,
            on_concurrent_insert: OnConcurrentInsert::Fail,
            keep_undo: None,
            check_table: false,
            check_kept: false,
            replica_path: None,
            apply_mutations: false,
            drill: None,
            force_untried: false,
            holds: false,
        }
    }
}

impl Front {
    /// Checks an order for a mend and says what it would do. Nothing is changed. `on_read` is told bytes as
    /// they are read to prove the parts that stay, if that is part of the order.
    ///
    /// # Errors
    /// As [`Self::request_mend`], and what assessing the tables fails with.
    pub fn plan_mend(
        &self,
        order: &MendOrder,
        on_read: &mut (dyn FnMut(u64) + Send),
    ) -> Result<MendPreview> {
        let request = self.mend_request(order)?;
        let is_nothing = request.tables.is_empty() && request.different.is_empty();
        if is_nothing && !is_of_empty_shard(order, &request) {
            return Err(nothing_to_mend(order, &request));
        }
        preview(self, request, on_read)
    }

    /// Checks an order for a mend and makes it an operation, which [`crate::Service::drive`] runs.
    ///
    /// # Errors
    /// No such backup or table, a table that exists although the mend is not in place, a table at work, or
    /// no table whose schema agrees with the backup's.
    pub fn request_mend(&self, order: &MendOrder) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        let request = self.mend_request(order)?;
        if request.tables.is_empty() {
            return Err(nothing_to_mend(order, &request));
        }
        self.check_free(&request)?;
        self.create_mend(request)
    }

    /// Makes an operation that brings the tables of a mend back to what they were before it. On a part store,
    /// `on_concurrent_insert` says what becomes of rows that came since the mend, and while it is undone; with `holds` it
    /// waits to be resumed before anything is live.
    ///
    /// # Errors
    /// There is no such mend, it is not over, or it has kept nothing to be undone by; on a part store also rows
    /// that came since, where they are not to be kept or removed.
    pub fn request_undo(
        &self,
        id: &OperationId,
        on_concurrent_insert: OnConcurrentInsert,
        holds: bool,
    ) -> Result<OperationId> {
        let operation = self.journal.operation_head(id)?;
        if let Request::MendRows(_) = &operation.request {
            return self.request_row_undo(id, Conflicting::default(), false);
        }
        let _one_at_a_time = self.requests();
        let request = MendRequest {
            holds,
            ..self.undo_request(&operation, on_concurrent_insert)?
        };
        self.check_free(&request)?;
        let previewed = preview(self, request.clone(), &mut |_| {})?;
        for plan in &previewed.tables {
            check_came(on_concurrent_insert, plan)?;
        }
        self.create_mend(request)
    }

    /// What undoing a mend of a part store would do. Nothing is changed.
    ///
    /// # Errors
    /// As [`Self::request_undo`], but rows that came since are in the plans.
    pub fn plan_undo(
        &self,
        id: &OperationId,
        on_concurrent_insert: OnConcurrentInsert,
    ) -> Result<MendPreview> {
        let operation = self.journal.operation_head(id)?;
        let request = self.undo_request(&operation, on_concurrent_insert)?;
        preview(self, request, &mut |_| {})
    }

    fn undo_request(
        &self,
        operation: &OperationHead,
        on_concurrent_insert: OnConcurrentInsert,
    ) -> Result<MendRequest> {
        let id = &operation.operation_id;
        let Request::Mend(mended @ MendRequest { drill: None, .. }) = &operation.request else {
            return Err(Error::refused(
                format!(
                    "operation {id} is {}, and only mends of part stores are undone so",
                    operation.request.a_kind()
                ),
                "mendb operation list shows the mends there are",
            ));
        };
        if !operation.state.is_terminal() {
            return Err(in_the_way("the target", operation));
        }
        let tables = undo_tables(self, operation, mended)?;
        if tables.is_empty() {
            return Err(Error::refused(
                format!("operation {id} has changed nothing that could be undone"),
                "mendb operation show tells what it has done",
            ));
        }
        Ok(MendRequest {
            source: MendSource::Undo {
                operation_id: id.clone(),
            },
            stopped: Vec::new(),
            different: Vec::new(),
            databases: BTreeMap::new(),
            // There may be less room than the mend had: its state is kept and its order is right where it fits.
            keep_undo: None,
            order: PartitionMethod::Auto,
            check_kept: false,
            apply_mutations: false,
            holds: false,
            on_concurrent_insert,
            tables,
            ..mended.clone()
        })
    }

    /// What was planned for each table of a mend, and what was done.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn mend_plans(&self, id: &OperationId) -> Result<Vec<MendPlan>> {
        self.journal.mend_plans(id)
    }

    fn create_mend(&self, request: MendRequest) -> Result<OperationId> {
        let repository_id = match &request.source {
            MendSource::Backup { .. } => self.known_id()?,
            MendSource::Undo { .. } | MendSource::Imported { .. } => {
                self.repository_id()?.unwrap_or_default()
            }
        };
        self.create(Request::Mend(request), repository_id, &[])
    }

    fn check_free(&self, request: &MendRequest) -> Result<()> {
        for operation in self.journal.open_operations()? {
            let touched = operation.request.target_tables();
            let mut targets = request.tables.iter().map(|table| &table.target);
            if let Some(table) = targets.find(|table| touched.contains(&TargetTable::Parts(table)))
                && self.holds_tables(&operation)?
            {
                return Err(in_the_way(&format!("table {table}"), &operation));
            }
        }
        Ok(())
    }

    /// The request that an order comes to.
    fn mend_request(&self, order: &MendOrder) -> Result<MendRequest> {
        let (source, theirs) = self.mend_source(&order.from, order.in_place)?;
        let store = contents(&self.tools, &source)?;
        let mut request = MendRequest {
            source,
            tables: Vec::new(),
            stopped: Vec::new(),
            unmatched: Vec::new(),
            different: Vec::new(),
            databases: order.databases.clone(),
            partitions: order.partitions.clone(),
            data: order.data,
            order: order.order,
            on_concurrent_insert: order.on_concurrent_insert,
            keep_undo: order.keep_undo,
            check_table: order.check_table,
            check_kept: order.check_kept,
            apply_mutations: order.apply_mutations,
            holds: order.holds,
            drill: order.drill.clone(),
        };
        let engine = self.tools.engine.parts()?;
        request.unmatched = unmatched_tables(order, &store);
        check_fit(&request.unmatched, order.if_exists)?;
        let exclude = order.exclude.all();
        let mut disks = BTreeSet::new();
        let renamed = renamed(order, &store)?;
        for (place, table) in store.tables.iter().enumerate() {
            let definition = &table.definition;
            let source = &definition.name;
            let is_drilled = order.drill.is_none() || table.has_data();
            if !is_drilled || !is_chosen(order, &store, definition) {
                continue;
            }
            let mut target = target_of(order, &renamed, source);
            if let Some(drill) = &order.drill {
                target.table = drill.table(place);
            }
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
            if let (Some(_), Some(theirs), true) = (&live, &theirs, order.in_place) {
                return Err(not_ours(theirs, &target));
            }
            match live {
                Some(_) if !order.in_place => return Err(exists_already(&target)),
                live => Considered {
                    engine,
                    with_schema: order.schema,
                    force_untried: order.force_untried,
                    replica_path: order.replica_path.as_deref(),
                    definition,
                    target: &target,
                    has_data: table.has_data(),
                }
                .add(live, &mut request)?,
            }
        }
        let a_disk = |pattern: &str| disks.iter().any(|disk| matches(pattern, disk));
        let unmatched = Selector::ExcludeDisks.unmatched(&order.exclude.said.disks, a_disk);
        check_fit(&unmatched, order.if_exists)?;
        request.unmatched.extend(unmatched);
        let nothing_is_meant = request.tables.is_empty() && request.stopped.is_empty();
        if nothing_is_meant && request.different.is_empty() && !request.unmatched.is_empty() {
            let unmatched = request.unmatched;
            return Err(Error::NothingFits { unmatched });
        }
        if request.data && !request.tables.is_empty() {
            let unmatched = unmatched_partitions(self, &request)?;
            check_fit(&unmatched, order.if_exists)?;
            request.unmatched.extend(unmatched);
        }
        Ok(request)
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
    let view = inner::view_of_table(name).and_then(|view| store.table(&view));
    let owner = view.map_or(table, |view| &view.definition);
    let is_named = (order.tables.as_deref())
        .is_none_or(|patterns| name.matches(patterns) || owner.name.matches(patterns));
    is_named && !order.exclude.all().leaves_out(&owner.name, &owner.engine)
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

/// Whether there is nothing to do because a shard of a cluster has none of the tables.
fn is_of_empty_shard(order: &MendOrder, request: &MendRequest) -> bool {
    let of_shard = matches!(&order.from, MendFrom::Collection { shard: Some(_), .. });
    of_shard && request.stopped.is_empty()
}

fn nothing_to_mend(order: &MendOrder, request: &MendRequest) -> Error {
    let stopped = request.stopped.iter();
    let mut reasons: Vec<String> = stopped
        .map(|table| format!("table {}: {}", table.target, table.reason))
        .collect();
    for table in &request.different {
        let differences = table.differences.iter();
        reasons.extend(differences.map(|found| format!("{}: {found}", table.target)));
    }
    if reasons.is_empty() {
        let patterns = order.tables.as_deref().unwrap_or("*");
        return Error::refused(
            format!(
                "no table of the backup matches {patterns}, or none has data, or all are left out"
            ),
            "mendb show tells its tables, mendb config show what settings leave out",
        );
    }
    let mut advice: Vec<&str> = request
        .stopped
        .iter()
        .map(|table| table.advice.as_str())
        .collect();
    if !request.different.is_empty() {
        advice.push("--schema brings definitions back as they were in the backup");
    }
    advice.retain(|advice| !advice.is_empty());
    advice.sort_unstable();
    advice.dedup();
    Error::refused(
        format!("none of the tables can be mended: {}", reasons.join("; ")),
        advice.join("; "),
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
                whole_query: None,
                partition_key: String::new(),
                sorting_key: String::new(),
                primary_key: String::new(),
                columns: Vec::new(),
                storage_policy: String::new(),
                has_ttl: false,
                row_policies: None,
            },
            current_parts: None,
            partitions: None,
            mutations: Vec::new(),
            lists: Vec::new(),
        };
        PartStoreBackup {
            tables: names.iter().map(table).collect(),
            ..PartStoreBackup::new(String::new(), None)
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
        let store = store(&names);
        let chosen = |patterns: &str| {
            let mut order = MendOrder::new(MendFrom::Imported {
                url: String::new(),
                name: String::new(),
            });
            order.tables = Some(patterns.to_owned());
            is_chosen(&order, &store, &store.tables[1].definition)
        };
        assert!(chosen("d.v") && chosen("d.*") && !chosen("d.w"));
    }
}
