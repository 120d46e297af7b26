//! The order for a mend of live tables of a row store.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use mendb_engines::LiveStream;
use mendb_model::TargetMark;
use mendb_model::key::KeyRange;
use mendb_model::manifest::{Manifest, TableBackup};
use mendb_model::name::{BackupId, BackupKind, OperationId, TablePath, matches};
use mendb_model::operation::{
    ExpectedShard, MendedRows, Operation, Request, RowMendRequest, RowMendRoad, RowTableMend, State,
};
use mendb_model::schema::TableSchema;
use mendb_model::value::ColumnType;
use serde::{Deserialize, Serialize};

use super::before::link;
use super::chosen::{Purpose, not_ours};
use super::new_id;
use super::selectors::check_tables;
use crate::error::{Error, Result};
use crate::service::Service;
use crate::ways_on::ways_on;
use crate::worker::mend::{self, ShardPreview};

/// A mend of live tables as a user orders it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowMendOrder {
    /// The collection.
    pub collection: String,
    /// The backup by id or label; the newest without.
    pub to: Option<String>,
    /// Comma-separated patterns of table names; all tables of the backup without.
    pub tables: Option<String>,
    /// Whether patterns may fit nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub if_exists: bool,
    /// Only these keys of some tables; without `tables` no other tables are mended then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranges: BTreeMap<String, KeyRange>,
    /// Mend tables that got columns since: these become NULL in the rows that are brought back.
    pub accept_schema: bool,
}

/// What a mend of live tables would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowMendPreview {
    /// The collection.
    pub collection: String,
    /// The wanted backup.
    pub backup_id: BackupId,
    /// The target that it was taken of, if that is known to be another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_target: Option<TargetMark>,
    /// The target that the mend was planned for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_for: Option<TargetMark>,
    /// The commit of the target that it was made at.
    pub version: u64,
    /// The backup of the state before that would be taken, by which the mend could be undone.
    pub before: BackupKind,
    /// How the rows that differ are found.
    pub road: RowMendRoad,
    /// The tables.
    pub tables: Vec<RowTableMend>,
    /// What would be done to each range.
    pub shards: Vec<ShardPreview>,
    /// The sums of all ranges.
    pub total: MendedRows,
    /// Bytes of the target's disk that it would need until it ends, about: a row lies in the layer of the
    /// mend, in the table and in the change log. Index rows come on top.
    pub disk_bytes: u64,
    /// The least and the most milliseconds that it would take, going by the mends of this target so far;
    /// `None` where there was none.
    pub milliseconds: Option<(u64, u64)>,
}

/// A row that is mended is written so many times until the mend ends.
const COPIES: u64 = 3;

/// What is found out for an order before it becomes an operation.
struct Ordered {
    request: RowMendRequest,
    wanted: BackupId,
}

impl Service {
    /// Checks an order for a mend of live tables and says what it would do, exactly. Nothing is changed.
    ///
    /// # Errors
    /// As [`Self::request_row_mend`], and what looking at the tables fails with.
    pub fn plan_row_mend(&self, order: &RowMendOrder) -> Result<RowMendPreview> {
        let version = self.tools.engine.rows()?.version();
        let Ordered { request, wanted } = self.ordered(order, "before-mend", None)?;
        let shards = mend::preview(&self.tools, &request)?;
        let mut total = MendedRows::default();
        for shard in &shards {
            total += shard.rows;
        }
        Ok(RowMendPreview {
            disk_bytes: COPIES * total.written_bytes,
            milliseconds: self.milliseconds_of(&total)?,
            collection: request.before.collection.clone(),
            backup_id: wanted,
            of_target: request.of_target.clone(),
            planned_for: Some(self.tools.target.clone()),
            version,
            before: request.before.backup_id.kind(),
            road: request.road,
            tables: request.tables,
            shards,
            total,
        })
    }

    /// How long mends of so many rows take, by those that are done: between the least and the most that a
    /// row took in any; the shortest of them is within.
    fn milliseconds_of(&self, rows: &MendedRows) -> Result<Option<(u64, u64)>> {
        let work = |rows: &MendedRows| (rows.read + rows.upserted + rows.erased) as f64;
        let mut interval: Option<(f64, f64)> = None;
        let mut shortest = f64::MAX;
        for operation in self.journal.operations()? {
            let is_mend = matches!(operation.request, Request::MendRows(_));
            if !is_mend || operation.state != State::Done {
                continue;
            }
            let took = operation
                .updated_at_ms
                .saturating_sub(operation.created_at_ms) as f64;
            let mut done = MendedRows::default();
            for shard in &operation.mended {
                done += shard.rows;
            }
            shortest = shortest.min(took);
            let rate = took / work(&done).max(1.0);
            let (least, most) = interval.unwrap_or((rate, rate));
            interval = Some((least.min(rate), most.max(rate)));
        }
        let work = work(rows);
        Ok(interval.map(|(least, most)| {
            let (least, most) = ((least * work).min(shortest), (most * work).max(shortest));
            (least as u64, most as u64)
        }))
    }

    /// Checks an order for a mend of live tables and makes it an operation, which [`Service::drive`]
    /// runs. From when it begins until it ends writers of the tables are refused.
    ///
    /// # Errors
    /// There is no such backup or table, a table or the collection is at work, or a schema has changed.
    pub fn request_row_mend(&self, order: &RowMendOrder) -> Result<OperationId> {
        self.create_row_mend(order, None, None)
    }

    /// As [`Self::request_row_mend`], of a mend that was planned: it begins only where the target is
    /// what it was then.
    ///
    /// # Errors
    /// As [`Self::request_row_mend`]. The drift is looked for when the operation begins, by
    /// [`Self::drift_of`] before.
    pub fn request_planned_row_mend(
        &self,
        order: &RowMendOrder,
        plan: &RowMendPreview,
    ) -> Result<OperationId> {
        let other = plan.planned_for.as_ref();
        if let Some(other) = other.filter(|other| !other.is_same(&self.tools.target)) {
            return Err(Error::refused(
                format!("the mend was planned for another target, {other}"),
                "plan it for this one: mendb restore COLLECTION --in-place --plan FILE",
            ));
        }
        // The newest backup may be another by now.
        let order = RowMendOrder {
            to: Some(plan.backup_id.to_string()),
            ..order.clone()
        };
        self.create_row_mend(&order, None, Some(plan))
    }

    /// Makes an operation that brings the tables of a mend back to what they were before it. Tables that
    /// it created stay.
    pub(super) fn undo_row_mend(
        &self,
        operation: &Operation,
        mended: &RowMendRequest,
    ) -> Result<OperationId> {
        let id = &operation.operation_id;
        if operation.state != State::Done {
            return Err(Error::refused(
                format!(
                    "operation {id} is {}: there is nothing to be undone",
                    operation.state.name()
                ),
                ways_on(operation),
            ));
        }
        let live = mended.tables.iter().filter(|table| !table.create);
        let names: Vec<&str> = live.map(|table| table.table.as_str()).collect();
        self.check_is_before_of(operation, mended)?;
        if names.is_empty() {
            return Err(Error::refused(
                format!("operation {id} only created tables: there is no state before"),
                "mendb table drop removes them",
            ));
        }
        let order = RowMendOrder {
            collection: mended.before.collection.clone(),
            to: Some(mended.before.backup_id.to_string()),
            tables: Some(names.join(",")),
            if_exists: false,
            // Of a mend of some keys, only these go back.
            ranges: (mended.tables.iter())
                .filter_map(|table| Some((table.table.clone(), table.range.clone()?)))
                .collect(),
            accept_schema: false,
        };
        self.create_row_mend(&order, Some(id.clone()), None)
    }

    fn create_row_mend(
        &self,
        order: &RowMendOrder,
        undoes: Option<OperationId>,
        plan: Option<&RowMendPreview>,
    ) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        let id = new_id(if undoes.is_some() { "undo" } else { "mend" })?;
        let Ordered { mut request, .. } = self.ordered(order, &format!("before-{id}"), undoes)?;
        if let Some(plan) = plan {
            request.planned = Some(plan.total);
            request.expected = plan.shards.iter().filter_map(expected).collect();
        }
        let repository_id = self.known_id()?;
        self.claim(&mut request.before, &repository_id)?;
        self.create_as(id, Request::MendRows(request), repository_id, &[])
    }

    fn ordered(
        &self,
        order: &RowMendOrder,
        label: &str,
        undoes: Option<OperationId>,
    ) -> Result<Ordered> {
        let collection = self.collection(&order.collection)?;
        if let Some(operation_id) = self.check_idle(&collection)? {
            return Err(Error::BackupFailed {
                collection: collection.collection,
                operation_id,
            });
        }
        let to = order.to.as_deref();
        let chosen = self.chosen(&order.collection, to, Purpose::Overwrite)?;
        let chain = &chosen.chain;
        let Some(wanted) = chain.last() else {
            return Err(Error::refused(
                format!(
                    "collection {} has no backup in {}",
                    order.collection,
                    self.tools.repository.url()
                ),
                "mendb list shows what there is; --repository names another repository",
            ));
        };
        let tables = self.mended_tables(order, &wanted.manifest)?;
        if tables.iter().all(|table| table.create) {
            return Err(Error::refused(
                "none of the tables exists, so there is nothing to mend",
                format!("restore them: mendb restore {}", order.collection),
            ));
        }
        let live = tables.iter().find(|table| !table.create);
        if let Some(table) = live.filter(|_| chosen.only_into_absent) {
            return Err(not_ours(&chosen, &table.table));
        }
        let (before, road) = self.before(&collection, chain, &tables, label)?;
        Ok(Ordered {
            wanted: wanted.manifest.backup_id.clone(),
            request: RowMendRequest {
                before,
                chain: chain.iter().map(link).collect(),
                road,
                tables,
                undoes,
                expected: Vec::new(),
                planned: None,
                of_target: chosen.whose.clone().other(),
            },
        })
    }

    /// The schema of a live table of rows; `None` where there is none.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn live_schema(&self, table: &str) -> Result<Option<TableSchema>> {
        let live = self.tools.engine.rows()?.inspect(table)?;
        Ok(live.map(|live| live.schema))
    }

    /// The chosen tables of the backup, if what lives of them can be mended.
    fn mended_tables(
        &self,
        order: &RowMendOrder,
        manifest: &Manifest,
    ) -> Result<Vec<RowTableMend>> {
        let of_ranges = || order.ranges.keys().cloned().collect::<Vec<_>>().join(",");
        let patterns = match &order.tables {
            Some(patterns) => patterns.clone(),
            None if order.ranges.is_empty() => "*".to_owned(),
            None => of_ranges(),
        };
        let chosen = manifest
            .tables
            .iter()
            .filter(|table| matches(&patterns, &table.table));
        let names_some = |pattern: &str| {
            let mut tables = manifest.tables.iter();
            tables.any(|table| matches(pattern, &table.table))
        };
        let written = order.tables.as_deref().unwrap_or_default();
        check_tables(written, order.if_exists, names_some)?;
        let mut tables = Vec::new();
        for backup in chosen {
            let live = self.tools.engine.rows()?.inspect(&backup.table)?;
            let added_columns = match &live {
                Some(live) => added_columns(backup, &live.schema)?,
                None => Vec::new(),
            };
            if !added_columns.is_empty() && !order.accept_schema {
                return Err(Error::refused(
                    format!(
                        "table {} got the columns {} since backup {}",
                        backup.table,
                        added_columns.join(", "),
                        manifest.backup_id
                    ),
                    format!(
                        "mendb restore {} --in-place --to {} --accept-schema mends it, with NULL there in \
                         the rows that are brought back",
                        order.collection, manifest.backup_id
                    ),
                ));
            }
            let range = order.ranges.get(&backup.table).cloned();
            if range.is_some() && live.is_none() {
                return Err(Error::refused(
                    format!(
                        "table {} does not exist, so it cannot be mended in part",
                        backup.table
                    ),
                    "leave --range out: it is created and loaded whole",
                ));
            }
            tables.push(RowTableMend {
                table: backup.table.clone(),
                create: live.is_none(),
                range,
                added_columns,
            });
        }
        let is_other = |name: &&String| tables.iter().all(|table| table.table != **name);
        if let Some(other) = order.ranges.keys().find(is_other) {
            return Err(Error::refused(
                format!(
                    "--range names table {other}, which is not among those to be mended of backup {}",
                    manifest.backup_id
                ),
                "mendb show BACKUP names its tables",
            ));
        }
        if tables.is_empty() {
            let all: Vec<&str> = (manifest.tables.iter())
                .map(|table| table.table.as_str())
                .collect();
            return Err(Error::refused(
                format!(
                    "no table of backup {} matches {patterns}",
                    manifest.backup_id
                ),
                format!("its tables are {}", all.join(", ")),
            ));
        }
        Ok(tables)
    }

    /// Where the target is not any more what it was when a mend was planned: each such range of a table,
    /// with the keys in it that changed since, as far as a change stream tells.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn drift_of(&self, plan: &RowMendPreview) -> Result<Vec<Drift>> {
        let engine = self.tools.engine.rows()?;
        let mut drifted = Vec::new();
        for planned in &plan.shards {
            let path = TablePath::table(&planned.table);
            let live = engine.inspect(&planned.table)?;
            let found = match live {
                None => None,
                Some(_) => Some(mend::live_digest(engine, &path, &planned.range)?.0),
            };
            if found == planned.digest {
                continue;
            }
            let mut range = planned.range.clone();
            if let Some(live) = &live {
                // A stream that was released since does not know all of them.
                let knows = |stream: &LiveStream| stream.since_version <= plan.version;
                if live.streams.iter().any(knows) {
                    range = self.changed_since(&path, range, plan.version)?;
                }
                let types = live.schema.key_types();
                drifted.push(Drift::new(&planned.table, &range, &types));
            } else {
                drifted.push(Drift::new(&planned.table, &range, &[]));
            }
        }
        Ok(drifted)
    }

    /// From the first to the last key of a range that changed since a commit, or the range where no
    /// stream tells of such.
    fn changed_since(&self, path: &TablePath, range: KeyRange, version: u64) -> Result<KeyRange> {
        let mut changed: Option<KeyRange> = None;
        let engine = self.tools.engine.rows()?;
        engine.changes_since(path, &range, version, &mut |block| {
            if let Some(last) = block.len().checked_sub(1) {
                let changed = changed.get_or_insert_with(|| KeyRange {
                    start: block.key(0).to_vec(),
                    end: None,
                });
                // The least key behind the last.
                changed.end = Some([block.key(last), &[0]].concat());
            }
            ControlFlow::Continue(())
        })?;
        Ok(changed.unwrap_or(range))
    }
}

/// Keys of a table that are not what they were when a mend was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The table.
    pub table: String,
    /// The keys.
    pub range: KeyRange,
    /// The same, as people write keys.
    pub keys: String,
}

impl Drift {
    fn new(table: &str, range: &KeyRange, types: &[ColumnType]) -> Self {
        Self {
            table: table.to_owned(),
            range: range.clone(),
            keys: mend::keys_text(range, types),
        }
    }
}

fn expected(shard: &ShardPreview) -> Option<ExpectedShard> {
    Some(ExpectedShard {
        table: shard.table.clone(),
        range: shard.range.clone(),
        digest: shard.digest?,
    })
}

/// The columns that a live table has beyond those of a backup. Indexes that it got since are no
/// difference, unless they are unique: they follow the rows.
fn added_columns(backup: &TableBackup, live: &TableSchema) -> Result<Vec<String>> {
    let then = &backup.schema;
    let differs = |what: String| {
        Err(Error::refused(
            format!(
                "table {} is another than the one that was backed up: {what}",
                backup.table
            ),
            format!(
                "leave it out with --tables, or restore it beside: mendb restore --rename {0}={0}_restored",
                backup.table
            ),
        ))
    };
    if then.key != live.key {
        return differs(format!(
            "its key is ({}), in the backup ({})",
            live.key.join(", "),
            then.key.join(", ")
        ));
    }
    if !live.columns.starts_with(&then.columns) {
        let names = |schema: &TableSchema| {
            let columns = schema.columns.iter();
            let columns = columns.map(|column| format!("{} {}", column.name, column.column_type));
            columns.collect::<Vec<_>>().join(", ")
        };
        return differs(format!(
            "its columns are {}, in the backup {}",
            names(live),
            names(then)
        ));
    }
    for index in &then.indexes {
        if live.index(&index.name) != Some(index) {
            return differs(format!("its index {} differs or is gone", index.name));
        }
    }
    // A mend checks neither: the backup's rows keep to what the backup's table asked for.
    let unique = live.indexes.iter().find(|index| index.unique);
    if let Some(index) = unique.filter(|index| then.index(&index.name).is_none()) {
        return differs(format!(
            "its unique index {} is not in the backup, whose rows may not keep to it",
            index.name
        ));
    }
    let added = &live.columns[then.columns.len()..];
    if let Some(column) = added.iter().find(|column| column.not_null) {
        return differs(format!(
            "its column {} is NOT NULL, and the rows of the backup have none",
            column.name
        ));
    }
    Ok(added.iter().map(|column| column.name.clone()).collect())
}
