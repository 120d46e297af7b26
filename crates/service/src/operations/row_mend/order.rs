//! The order for a mend of live tables of a row store.

use std::collections::BTreeMap;

use mendb_model::key::KeyRange;
use mendb_model::key_text::describe_range;
use mendb_model::manifest::{Manifest, TableBackup};
use mendb_model::name::{BackupId, BackupKind, OperationId, matches};
use mendb_model::operation::{
    ChangedBy, ExpectedShard, FindBy, MendedRows, Request, RowMendRequest, RowScope, RowTableMend,
    UntoldTable, WrittenSince,
};
use mendb_model::schema::TableSchema;
use mendb_model::{TargetMark, Version};
use serde::{Deserialize, Serialize};

use super::before::link;
use super::preview::{self, ShardPreview};
use super::rewind_order::rewound;
use super::scope::{NewerRow, RewrittenRow, scoped};
use crate::error::{Error, Result};
use crate::front::Front;
use crate::front::chosen::{Purpose, check_whole, not_ours};
use crate::front::new_id;
use crate::front::selectors::check_tables;
use crate::row_conflict::Conflicts;

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
    /// Single keys that are mended beside the range of their table, ascending.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub also: BTreeMap<String, Vec<KeyRange>>,
    /// Mend tables that got columns since: these become NULL in the rows that are brought back.
    pub accept_schema: bool,
    /// What is done with live rows that stand in the way of rows of a range.
    #[serde(default)]
    pub conflicting: Conflicting,
    /// Writers wait no longer, of targets whose writers go on until the publish: it is given up then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_write_wait_ms: Option<u64>,
    /// Only keys of which the live row or the wanted one fulfils this, in the words of the target; of targets whose
    /// writers go on until the publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Rows that were written after this moment stay, in microseconds since 1970; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_newer_than_us: Option<i64>,
    /// Only rows that these transactions wrote, which go back to what they were before; later writes are looked for up to
    /// the backup that is named. Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_by: Option<ChangedBy>,
    /// Whether rows go back too that others wrote again since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub include_rewritten: bool,
    /// Whether all rows are read and compared with the backup, also where the versions of rows tell which were written
    /// since. Likewise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check_kept: bool,
    /// Tables of which only those keys go back that the wanted backup itself has changes of: it is the state before a
    /// mend, which is taken back. With what becomes of rows that others wrote again since that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub changed_only: BTreeMap<String, Option<WrittenSince>>,
}

/// What is done with live rows outside of a range that hold, where a unique index allows one row only, what
/// comes back with rows of the range. They refuse the mend, if nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflicting {
    /// They are mended too.
    pub include: bool,
    /// Also those are that the backup does not have: they are erased.
    pub erase_newer: bool,
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
    pub version: Version,
    /// The backup of the state before that would be taken, by which the mend could be undone.
    pub before: BackupKind,
    /// How the rows that differ are found.
    #[serde(rename = "road")]
    pub find_by: FindBy,
    /// The tables.
    pub tables: Vec<RowTableMend>,
    /// The keys that are mended of tables of which not all are, as people write them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranges: BTreeMap<String, String>,
    /// Live rows that stand in the way, with what becomes of them.
    #[serde(default)]
    pub conflicts: Conflicts,
    /// What would be done to each range.
    pub shards: Vec<ShardPreview>,
    /// Rows that differ and stay, as they were written after the moment that was named: the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newer: Vec<NewerRow>,
    /// Rows that chosen transactions wrote and that stay, as others wrote them again since: the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewritten: Vec<RewrittenRow>,
    /// Tables that the chosen transactions may have written to as well, where it is not known what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<UntoldTable>,
    /// Tables that others read as one with those that are mended, and that are not: a sentence for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relatives: Vec<String>,
    /// The bytes of rows a second that come from the target and go to it at most, where that is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_bytes_per_s: Option<u64>,
    /// The sums of all ranges.
    pub total: MendedRows,
    /// Bytes of the target's disk that it would need until it ends, about: a row lies in the layer of the
    /// mend, in the table and in the change log, where index rows come on top; of shards that are rebuilt their
    /// rows and index rows lie there a second time.
    pub disk_bytes: u64,
    /// The least and the most milliseconds that it would take, going by the mends of this target so far;
    /// `None` where there was none.
    pub milliseconds: Option<(u64, u64)>,
    /// The least and the most milliseconds that writers would wait, likewise, where they wait for the publish only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writers_wait_ms: Option<(u64, u64)>,
    /// They wait no longer: the mend is given up then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_write_wait_ms: Option<u64>,
}

/// A row that is mended is written so many times until the mend ends.
const COPIES: u64 = 3;

/// What is found out for an order before it becomes an operation.
pub(super) struct Ordered {
    pub(super) request: RowMendRequest,
    wanted: BackupId,
    /// As people write them.
    ranges: BTreeMap<String, String>,
}

impl Front {
    /// Checks an order for a mend of live tables and says what it would do, exactly; where it would be refused
    /// for rows that stand in the way, what it would do if they did not. Nothing is changed.
    ///
    /// # Errors
    /// As [`Self::request_row_mend`], and what looking at the tables fails with.
    pub fn plan_row_mend(&self, order: &RowMendOrder) -> Result<RowMendPreview> {
        let version = self.tools.engine.rows()?.version()?;
        let Ordered {
            mut request,
            wanted,
            ranges,
        } = self.ordered(order, "before-mend", None)?;
        let takes_along = order.conflicting.include;
        let preview::Preview {
            shards,
            rebuilt_bytes,
            conflicts,
            newer,
            rewritten,
        } = preview::preview(self, &mut request, takes_along)?;
        let mut total = MendedRows::default();
        let mut row_bytes = 0;
        for shard in &shards {
            total += shard.rows;
            if !shard.method.is_some_and(|chosen| chosen.is_rebuild()) {
                row_bytes += shard.rows.written_bytes;
            }
        }
        let rows = self.tools.engine.rows()?;
        let names = request.tables.iter().map(|mended| mended.table.clone());
        Ok(RowMendPreview {
            relatives: rows.relatives(&names.collect::<Vec<_>>())?,
            most_bytes_per_s: rows.most_bytes_per_s(),
            disk_bytes: COPIES * row_bytes + rebuilt_bytes,
            milliseconds: self.milliseconds_of(&total)?,
            writers_wait_ms: self.writers_wait_of(&request, &total)?,
            max_write_wait_ms: request.max_write_wait_ms,
            collection: request.before.collection.clone(),
            backup_id: wanted,
            of_target: request.of_target.clone(),
            planned_for: self.tools.target.clone(),
            version,
            before: request.before.backup_id.kind(),
            find_by: request.find_by,
            tables: request.tables,
            untold: request.untold,
            ranges,
            conflicts,
            shards,
            newer,
            rewritten,
            total,
        })
    }

    /// Checks an order for a mend of live tables and makes it an operation, which [`crate::Service::drive`]
    /// runs. From when it begins until it ends writers of the tables are refused.
    ///
    /// # Errors
    /// There is no such backup or table, a table or the collection is at work, a schema has changed, or rows
    /// stand in the way.
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
        if let Some(other) = other.filter(|other| !self.tools.is_of(other)) {
            return Err(Error::refused(
                format!("the mend was planned for another target, {other}"),
                "plan it for this one: mendb restore COLLECTION --in-place --plan FILE",
            ));
        }
        self.create_row_mend(&planned(order, plan), None, Some(plan))
    }

    pub(super) fn create_row_mend(
        &self,
        order: &RowMendOrder,
        undoes: Option<OperationId>,
        plan: Option<&RowMendPreview>,
    ) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        let id = new_id(if undoes.is_some() { "undo" } else { "mend" })?;
        let Ordered { mut request, .. } = self.ordered(order, &format!("before-{id}"), undoes)?;
        let mut takes_along = order.conflicting.include;
        if let Some(plan) = plan {
            request.planned = Some(plan.total);
            request.expected = plan.shards.iter().filter_map(expected).collect();
            take_along(&mut request, plan);
            // Those that were planned, and no others.
            takes_along = false;
        }
        let conflicts = preview::find_conflicts(self, &mut request, takes_along)?;
        if conflicts.refuse(order.conflicting.erase_newer) {
            return Err(Error::Conflicts(Box::new(conflicts)));
        }
        let repository_id = self.known_id()?;
        self.claim(&mut request.before, &repository_id)?;
        self.create_as(id, Request::MendRows(request), repository_id, &[])
    }

    pub(super) fn ordered(
        &self,
        order: &RowMendOrder,
        label: &str,
        undoes: Option<OperationId>,
    ) -> Result<Ordered> {
        self.check_writable()?;
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
        let mut tables = self.mended_tables(order, &wanted.manifest)?;
        let untold = match order.changed_by {
            Some(changed_by) => {
                let how = (changed_by, order.include_rewritten);
                rewound(&self.tools, how, chain, &mut tables)?
            }
            None => Vec::new(),
        };
        let ranges = tables.iter().filter_map(|table| {
            let schema = &wanted.manifest.table(&table.table)?.schema;
            let keys = describe_range(table.range.as_ref()?, &schema.key_types());
            Some((table.table.clone(), keys))
        });
        let ranges = ranges.collect();
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
        let beside_writers = self.tools.engine.rows()?.beside_writers().is_some();
        if order.max_write_wait_ms.is_some() && !beside_writers {
            return Err(Error::refused(
                "--max-write-wait is for targets whose writers go on while a mend is made ready, as of PostgreSQL",
                "leave it out",
            ));
        }
        if order.check_kept && !beside_writers {
            return Err(Error::refused(
                "--check-kept is for ClickHouse and PostgreSQL, and has no effect on row stores",
                "leave it out; mendb verify BACKUP --live compares all rows",
            ));
        }
        let without_effect = [
            ("--accept-schema", order.accept_schema),
            ("--include-conflicting", order.conflicting.include),
        ];
        let without_effect = without_effect.into_iter().find(|(_, given)| *given);
        if let Some((flag, _)) = without_effect.filter(|_| beside_writers) {
            return Err(Error::refused(
                format!("{flag} is for row stores, and has no effect on PostgreSQL"),
                "leave it out; --dry-run shows what would be done",
            ));
        }
        let (before, find_by) = match beside_writers {
            true => {
                let check_kept = order.check_kept;
                self.before_of_publish(&collection, &chosen, &tables, label, check_kept)?
            }
            false => self.before(&collection, chain, &tables, label)?,
        };
        let scope = RowScope {
            condition: order.condition.clone(),
            keep_newer_than_us: order.keep_newer_than_us,
            changed_only: false,
            written_since: None,
            rewind: None,
        };
        let only = &order.changed_only;
        scoped(&self.tools, &scope, only, wanted, &mut tables)?;
        Ok(Ordered {
            ranges,
            wanted: wanted.manifest.backup_id.clone(),
            request: RowMendRequest {
                before,
                chain: chain.iter().map(link).collect(),
                find_by,
                tables,
                undoes,
                expected: Vec::new(),
                planned: None,
                of_target: chosen.whose.clone().other(),
                beside_writers,
                max_write_wait_ms: order.max_write_wait_ms,
                untold,
            },
        })
    }

    /// What others read as one with some tables, and is none of these: a sentence for each.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn relatives(&self, tables: &[String]) -> Result<Vec<String>> {
        Ok(self.tools.engine.rows()?.relatives(tables)?)
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
            let rows = self.tools.engine.rows()?;
            let live = rows.inspect(&backup.table)?;
            let added_columns = match &live {
                Some(live) => added_columns(backup, &live.schema)?,
                None => Vec::new(),
            };
            if let Some(what) = rows.difference(backup)? {
                return Err(differs(backup, &what));
            }
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
            let is_within = |only: &KeyRange| {
                let chosen = range.clone().unwrap_or_else(KeyRange::all);
                chosen.intersect(only) == chosen
            };
            let goes_back = order.changed_only.contains_key(&backup.table);
            let only = backup.only.as_ref();
            if only.is_some_and(|only| (only.changed && !goes_back) || !is_within(&only.range)) {
                check_whole(manifest, std::iter::once(backup.table.as_str()))?;
            }
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
                also: order.also.get(&backup.table).cloned().unwrap_or_default(),
                added_columns,
                scope: RowScope::default(),
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
}

fn expected(shard: &ShardPreview) -> Option<ExpectedShard> {
    Some(ExpectedShard {
        table: shard.table.clone(),
        range: shard.range.clone(),
        digest: shard.digest?,
    })
}

/// The order of a plan: the newest backup may be another by now.
pub(super) fn planned(order: &RowMendOrder, plan: &RowMendPreview) -> RowMendOrder {
    RowMendOrder {
        to: Some(plan.backup_id.to_string()),
        ..order.clone()
    }
}

/// Puts the rows that were to be taken along when the mend was planned into its request.
pub(super) fn take_along(request: &mut RowMendRequest, plan: &RowMendPreview) {
    for table in &mut request.tables {
        let mut planned = plan.tables.iter();
        if let Some(planned) = planned.find(|planned| planned.table == table.table) {
            table.also.clone_from(&planned.also);
        }
    }
}

/// The columns that a live table has beyond those of a backup. Indexes that it got since are no
/// difference: they follow the rows, and unique ones are asked of them before anything is changed.
fn added_columns(backup: &TableBackup, live: &TableSchema) -> Result<Vec<String>> {
    let then = &backup.schema;
    let differs = |what: String| Err(differs(backup, &what));
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
    let added = &live.columns[then.columns.len()..];
    if let Some(column) = added.iter().find(|column| column.not_null) {
        return differs(format!(
            "its column {} is NOT NULL, and the rows of the backup have none",
            column.name
        ));
    }
    Ok(added.iter().map(|column| column.name.clone()).collect())
}

/// That a live table cannot be brought to what a backup holds, for what it is by now.
fn differs(backup: &TableBackup, what: &str) -> Error {
    Error::refused(
        format!(
            "table {} is another than the one that was backed up: {what}",
            backup.table
        ),
        format!(
            "leave it out with --tables, or restore it beside: mendb restore --rename {0}={0}_restored",
            backup.table
        ),
    )
}
