//! The order for a restore.

use std::collections::BTreeMap;

use mendb_model::manifest::{Manifest, TableBackup};
use mendb_model::name::{OperationId, check, matches};
use mendb_model::operation::{
    ChainLink, Drill, OperationHead, Request, RestoreRequest, RestoreStrategy, TableMapping,
    TargetTable,
};
use mendb_repo::StoredManifest;

use crate::error::{Error, Result};
use crate::front::chosen::{Chosen, Purpose, check_whole};
use crate::front::selectors::check_tables;
use crate::front::{Front, in_the_way};

/// A restore as a user orders it.
#[derive(Debug, Clone, Default)]
pub struct RestoreOrder {
    /// The collection.
    pub collection: String,
    /// The backup by id or label; the newest without.
    pub to: Option<String>,
    /// Comma-separated patterns of table names; all tables without.
    pub tables: Option<String>,
    /// Whether patterns may fit nothing.
    pub if_exists: bool,
    /// New names by old ones.
    pub rename: BTreeMap<String, String>,
    /// How the backups of the chain become rows.
    pub strategy: RestoreStrategy,
    /// Restore only this, under names of its own, prove it and remove it again.
    pub drill: Option<Drill>,
}

impl Front {
    /// Refuses what would write to a target that takes no writes.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.tools.engine.rows()?.takes_no_writes() {
            None => Ok(()),
            Some(why) => Err(Error::refused(why, "backups, verify and diff work there")),
        }
    }

    /// Checks an order for a restore and makes it an operation, which [`crate::Service::drive`] runs.
    ///
    /// # Errors
    /// No such backup or table, a damaged chain, a table that exists already or is at work.
    pub fn request_restore(&self, order: &RestoreOrder) -> Result<OperationId> {
        let _one_at_a_time = self.requests();
        self.check_writable()?;
        let to = order.to.as_deref();
        let Chosen { chain, whose, .. } = self.chosen(&order.collection, to, Purpose::Create)?;
        let Some(last) = chain.last() else {
            return Err(nothing_to_restore(
                &order.collection,
                self.tools.repository.url(),
            ));
        };
        let tables = map_tables(order, &last.manifest)?;
        check_whole(
            &last.manifest,
            tables.iter().map(|table| table.source.as_str()),
        )?;
        self.check_absent(&tables, &order.collection)?;
        let percent = order.drill.as_ref().map_or(100, |drill| drill.percent);
        let bytes: Vec<u64> = chain
            .iter()
            .map(|stored| bytes_of(&stored.manifest, &tables) / 100 * u64::from(percent))
            .collect();
        let link = |stored: &StoredManifest| ChainLink {
            backup_id: stored.manifest.backup_id.clone(),
            manifest_blake3: stored.blake3.clone(),
        };
        let plain_tables = self.plain_tables(&last.manifest, &tables)?;
        let request = RestoreRequest {
            collection: order.collection.clone(),
            chain: chain.iter().map(link).collect(),
            tables,
            // The key ranges of a sample are those of the last backup.
            strategy: match order.drill {
                Some(_) => RestoreStrategy::Merged,
                None => order.strategy,
            },
            of_target: whose.other(),
            plain_tables,
            drill: order.drill.clone(),
        };
        let repository_id = self.known_id()?;
        self.create(Request::Restore(request), repository_id, &bytes)
    }

    /// Those of the tables whose definition of their own database the target does not keep.
    fn plain_tables(&self, manifest: &Manifest, tables: &[TableMapping]) -> Result<Vec<String>> {
        if self.tools.engine.rows()?.keeps_native() {
            return Ok(Vec::new());
        }
        let has_native = |table: &TableBackup| table.native.is_some();
        let names = tables.iter().map(|mapping| &mapping.source);
        Ok(names
            .filter(|name| manifest.table(name).is_some_and(has_native))
            .cloned()
            .collect())
    }

    /// The chain up to a backup, or to the one that is meant where none is named: see [`Self::chosen`].
    ///
    /// # Errors
    /// As [`Self::chosen`] of a backup that tables are made of.
    pub fn chain(&self, collection: &str, to: Option<&str>) -> Result<Vec<StoredManifest>> {
        Ok(self.chosen(collection, to, Purpose::Create)?.chain)
    }

    fn check_absent(&self, tables: &[TableMapping], collection: &str) -> Result<()> {
        let open = self.journal.open_operations()?;
        for mapping in tables {
            let name = &mapping.target;
            let works_on = |operation: &&OperationHead| {
                let touched = operation.request.target_tables();
                touched.contains(&TargetTable::Rows(name))
            };
            if let Some(operation) = open.iter().find(works_on) {
                return Err(in_the_way(&format!("table {name}"), operation));
            }
            if self.tools.engine.rows()?.inspect(name)?.is_some() {
                return Err(Error::refused(
                    format!("table {name} already exists, and a restore overwrites nothing"),
                    format!(
                        "mend it where it is: mendb restore {collection} --in-place; or restore beside it: \
                         mendb restore {collection} --rename {}={name}_restored",
                        mapping.source
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn nothing_to_restore(collection: &str, url: &str) -> Error {
    Error::refused(
        format!("collection {collection} has no backup in {url}"),
        "mendb list shows what there is; --repository names another repository",
    )
}

/// The chosen tables of a backup and their names on the target.
fn map_tables(order: &RestoreOrder, manifest: &Manifest) -> Result<Vec<TableMapping>> {
    let names = || manifest.tables.iter().map(|table| table.table.as_str());
    let all = || names().collect::<Vec<_>>().join(", ");
    if let Some(unknown) = order
        .rename
        .keys()
        .find(|old| names().all(|name| name != old.as_str()))
    {
        return Err(Error::refused(
            format!(
                "--rename: backup {} has no table {unknown}",
                manifest.backup_id
            ),
            format!("its tables are {}", all()),
        ));
    }
    let patterns = order.tables.as_deref().unwrap_or("*");
    let names_some = |pattern: &str| names().any(|name| matches(pattern, name));
    check_tables(patterns, order.if_exists, names_some)?;
    let chosen = |name: &str| matches(patterns, name);
    let mut tables = Vec::new();
    for (place, source) in names().enumerate().filter(|(_, name)| chosen(name)) {
        let target = match &order.drill {
            Some(drill) => beside(source, &drill.table(place)),
            None => order
                .rename
                .get(source)
                .map_or(source, String::as_str)
                .to_owned(),
        };
        check(&target)?;
        tables.push(TableMapping {
            source: source.to_owned(),
            target,
        });
    }
    if tables.is_empty() {
        return Err(Error::refused(
            format!(
                "no table of backup {} matches {patterns}",
                manifest.backup_id
            ),
            format!("its tables are {}", all()),
        ));
    }
    Ok(tables)
}

/// A table of a name beside another: in the same schema, where there are schemas.
fn beside(table: &str, name: &str) -> String {
    match table.split_once('.') {
        Some((schema, _)) => format!("{schema}.{name}"),
        None => name.to_owned(),
    }
}

fn bytes_of(manifest: &Manifest, tables: &[TableMapping]) -> u64 {
    let tables = tables
        .iter()
        .filter_map(|mapping| manifest.table(&mapping.source));
    let data = tables.flat_map(TableBackup::sharded_tables);
    data.map(|(_, data)| data.totals().bytes).sum()
}
