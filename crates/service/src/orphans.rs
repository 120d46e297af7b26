//! Operations that the journal does not know although the target still holds something for them: the journal was lost
//! while they were open. Nobody can continue them without it, but mendb can release what they hold.

use std::collections::BTreeMap;

use mendb_engines::{Data, Hold, HoldKind};
use mendb_model::name::OperationId;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::front::Front;
use crate::journal::Journal;

/// An operation that the journal does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Its id.
    pub operation_id: String,
    /// What it did, as far as the target tells: `backup`, `restore` or `mend`.
    pub kind: &'static str,
    /// The tables that the target holds for it.
    pub tables: Vec<String>,
    /// Whether nothing waits for it any more: only the state before it is kept.
    pub is_only_kept: bool,
}

/// The operations that a target holds something for and a journal does not know, by their ids.
///
/// # Errors
/// The journal cannot be read.
pub fn orphans_among(journal: Option<&Journal>, holds: Vec<Hold>) -> Result<Vec<Orphan>> {
    let mut orphans: BTreeMap<String, Orphan> = BTreeMap::new();
    for hold in holds {
        if is_known(journal, &hold.operation)? {
            continue;
        }
        let of_operation = orphans.entry(hold.operation.clone());
        let orphan = of_operation.or_insert_with(|| Orphan {
            operation_id: hold.operation,
            kind: "",
            tables: Vec::new(),
            is_only_kept: true,
        });
        let kind = match hold.kind {
            HoldKind::Backup => "backup",
            HoldKind::Restore => "restore",
            HoldKind::Mend | HoldKind::Kept => "mend",
        };
        // A mend creates tables too.
        if orphan.kind != "mend" {
            orphan.kind = kind;
        }
        orphan.is_only_kept &= hold.kind == HoldKind::Kept;
        orphan.tables.push(hold.table);
    }
    let mut orphans: Vec<Orphan> = orphans.into_values().collect();
    for orphan in &mut orphans {
        orphan.tables.sort();
        orphan.tables.dedup();
    }
    Ok(orphans)
}

fn is_known(journal: Option<&Journal>, operation: &str) -> Result<bool> {
    let Some(journal) = journal else {
        return Ok(false);
    };
    let id = operation.parse::<OperationId>().map_err(Error::from);
    match id.and_then(|id| journal.operation_head(&id)) {
        Ok(_) => Ok(true),
        Err(Error::UnknownOperation(_) | Error::BadName(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Front {
    /// Releases what the target holds for an operation that the journal does not know. Of rows, what readers
    /// do not see yet is given up, and what they see is completed. Of parts, tables stay as they are: merges
    /// go on, and what came in the middle of an exchange is brought back; the state before a mend stays until
    /// this is asked for again. After a crash, the same again.
    pub(crate) fn abandon_orphan(&self, id: &OperationId) -> Result<()> {
        let engine = &self.tools.engine;
        let orphans = orphans_among(Some(&self.journal), engine.holds()?)?;
        let orphan = orphans
            .iter()
            .find(|orphan| orphan.operation_id == id.as_str());
        let Some(orphan) = orphan else {
            return Err(Error::unknown_operation(id));
        };
        match engine.data() {
            Data::Rows(rows) if rows.is_published(id.as_str())? => engine.make_live(id.as_str())?,
            Data::Parts(_) if orphan.is_only_kept => engine.drop_kept(id.as_str())?,
            Data::Rows(_) | Data::Parts(_) | Data::Look(_) | Data::Shards(_) | Data::None => {
                engine.drop_staged(id.as_str())?;
            }
        }
        Ok(engine.thaw(id.as_str())?)
    }
}
