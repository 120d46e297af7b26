//! What a mend does with one table, view or dictionary of a backup: its definition there beside the live one.

use mendb_engines::PartStore;
use mendb_model::operation::{DifferentTable, MendRequest, Redefinition, StoppedTable, TableMend};
use mendb_model::part::{Difference, Redefining, TableDefinition, TableName, redefining};

use super::definitions::view_of_inner;
use crate::error::Result;

/// What helps where definitions differ.
const USE_SCHEMA: &str = "--schema puts tables that differ aside and creates them as they were in the \
                          backup; --rename restores them under another name";

/// A table of a backup, with what was asked for.
pub(super) struct Considered<'a> {
    pub engine: &'a dyn PartStore,
    /// Whether definitions are brought back too.
    pub with_schema: bool,
    /// Whether tables are mended although that was never tried on such a server.
    pub force_untried: bool,
    /// Where in their keeper replicated tables are created.
    pub replica_path: Option<&'a str>,
    /// What it is in the backup.
    pub definition: &'a TableDefinition,
    /// Its name on the target.
    pub target: &'a TableName,
    /// Whether the backup has rows of it.
    pub has_data: bool,
}

impl Considered<'_> {
    /// Adds it to a request: to what is mended, to what is stopped, or to neither.
    pub(super) fn add(
        &self,
        live: Option<TableDefinition>,
        request: &mut MendRequest,
    ) -> Result<()> {
        let Some(live) = live else {
            self.create(false, request);
            return Ok(());
        };
        let lost = match self.has_data && live.is_replicated() {
            true => self.engine.lost_place(self.target)?,
            false => None,
        };
        let Some(lost) = lost else {
            return self.add_live(&live, request);
        };
        if !(lost.can_be_restored && self.force_untried) {
            self.stop(lost.to_string(), &lost.advice(), request);
            return Ok(());
        }
        self.add_live(&live, request)?;
        let mut tables = request.tables.iter_mut();
        if let Some(table) = tables.find(|table| table.target == *self.target) {
            table.restore_place = true;
        }
        Ok(())
    }

    fn add_live(&self, live: &TableDefinition, request: &mut MendRequest) -> Result<()> {
        let has_parts = self.has_data;
        let untried = self
            .engine
            .untried(live)
            .filter(|_| has_parts && !self.force_untried);
        if let Some(untried) = untried {
            self.stop(
                format!("{untried} was never tried"),
                "--force-untried mends it all the same; --rename restores it under another name",
                request,
            );
            return Ok(());
        }
        let obstacles = if has_parts {
            self.definition.obstacles(live)
        } else {
            Vec::new()
        };
        if self.definition.row_policies.is_some() {
            match self.engine.row_policies(self.target)? {
                Some(policies) => {
                    self.differ(self.definition.policy_differences(&policies), None, request);
                }
                None => {
                    tracing::warn!(table = %self.target, "its row policies cannot be compared: the server does not tell them");
                }
            }
        }
        let (wanted, differences) = self.compare(live, request)?;
        if !self.with_schema {
            if !obstacles.is_empty() {
                let reason = format!("its schema differs: {}", obstacles.join("; "));
                self.stop(reason, USE_SCHEMA, request);
                return Ok(());
            }
            self.differ(differences, None, request);
            if has_parts {
                request.tables.push(self.mend());
            }
            return Ok(());
        }
        let view_is_replaced = view_of_inner(self.target).is_some_and(|view| {
            let mut tables = request.tables.iter();
            tables.any(|table| table.target == view && table.replace)
        });
        if view_is_replaced {
            // It comes with its view.
            self.create(false, request);
            return Ok(());
        }
        let way = if obstacles.is_empty() {
            redefining(live, &differences, |found| self.engine.can_alter(found))
        } else {
            Redefining::Aside
        };
        let is_same = differences.is_empty() && obstacles.is_empty();
        if !is_same && way != Redefining::Alter && self.definition.statement().is_none() {
            self.stop_hidden(request);
            return Ok(());
        }
        if way == Redefining::Aside && !is_same && live.is_replicated() {
            self.stop(
                "its definition differs in what no ALTER changes, and a replica that is put aside keeps its place in \
                 the keeper"
                    .to_owned(),
                "--rename restores a replicated table under another name, at a path of its own in the keeper",
                request,
            );
            return Ok(());
        }
        if way == Redefining::Aside && !is_same {
            return self.put_aside(live, differences, request);
        }
        let mut mend = self.mend();
        if !is_same {
            self.differ(differences, Some(way), request);
            mend.redefine = Some(Redefinition {
                to: wanted,
                before: live.clone(),
            });
        } else if !has_parts {
            return Ok(());
        }
        request.tables.push(mend);
        Ok(())
    }

    /// In what the live definition differs from what the backup's would be here.
    fn compare(
        &self,
        live: &TableDefinition,
        request: &MendRequest,
    ) -> Result<(TableDefinition, Vec<Difference>)> {
        let databases = request.databases.clone().into_iter().collect();
        let engine = self.engine;
        let mut wanted = engine.relocated(self.definition, self.target, &databases)?;
        let mut differences = wanted.differences(live);
        if !differences.is_empty() {
            // A server of another age may only have used other words.
            let printed = engine.as_printed(&wanted)?;
            let of_printed = printed.differences(live);
            if of_printed.len() < differences.len() {
                (wanted, differences) = (printed, of_printed);
            }
        }
        Ok((wanted, differences))
    }

    /// Renames what is there and creates it anew. The table of a view goes with its view.
    fn put_aside(
        &self,
        live: &TableDefinition,
        differences: Vec<Difference>,
        request: &mut MendRequest,
    ) -> Result<()> {
        let view = view_of_inner(self.target);
        let renamed = match &view {
            Some(view) => self.engine.table(view)?,
            None => Some(live.clone()),
        };
        if renamed.is_some_and(|renamed| !self.engine.can_rename(&renamed)) {
            self.stop(
                "its definition differs, and this server cannot rename a materialized view to keep what is \
                 there"
                    .to_owned(),
                "drop the view, then restore it",
                request,
            );
            return Ok(());
        }
        self.differ(differences, Some(Redefining::Aside), request);
        let Some(view) = view else {
            self.create(true, request);
            return Ok(());
        };
        let at = request.tables.iter().position(|table| table.target == view);
        let replaced = TableMend {
            source: view_of_inner(&self.definition.name).unwrap_or_else(|| view.clone()),
            target: view,
            create: true,
            replace: true,
            has_parts: false,
            replica_path: None,
            restore_place: false,
            redefine: None,
            undo: None,
        };
        match at {
            Some(at) => request.tables[at] = replaced,
            None => request.tables.push(replaced),
        }
        self.create(false, request);
        Ok(())
    }

    fn mend(&self) -> TableMend {
        TableMend {
            source: self.definition.name.clone(),
            target: self.target.clone(),
            create: false,
            replace: false,
            has_parts: self.has_data,
            replica_path: None,
            restore_place: false,
            redefine: None,
            undo: None,
        }
    }

    fn create(&self, replace: bool, request: &mut MendRequest) {
        if self.definition.statement().is_none() {
            self.stop_hidden(request);
            return;
        }
        request.tables.push(TableMend {
            create: true,
            replace,
            replica_path: self.definition.replica_path(self.target, self.replica_path),
            ..self.mend()
        });
    }

    fn differ(
        &self,
        differences: Vec<Difference>,
        mended_by: Option<Redefining>,
        request: &mut MendRequest,
    ) {
        if !differences.is_empty() {
            request.different.push(DifferentTable {
                target: self.target.clone(),
                differences,
                mended_by,
            });
        }
    }

    fn stop_hidden(&self, request: &mut MendRequest) {
        self.stop(
            "its definition is not whole: the server hid its credentials ([HIDDEN]) when the backup was made, \
             or they were left out"
                .to_owned(),
            "create what has lost its credentials yourself: mendb show --output json tells the statement",
            request,
        );
    }

    fn stop(&self, reason: String, advice: &str, request: &mut MendRequest) {
        request.stopped.push(StoppedTable {
            target: self.target.clone(),
            reason,
            advice: advice.to_owned(),
        });
    }
}
