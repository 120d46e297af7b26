//! Which target a backup belongs to: several targets may write a collection of one name into one repository.
//!
//! A backup names its target. A backup from before mendb noted that belongs to this target if the journal knows the
//! operation that made it, or if a change stream of the target has its name. A chain belongs to one target.

use mendb_engines::Data;
use mendb_model::TargetMark;
use mendb_model::manifest::Manifest;
use mendb_model::name::OperationId;

use super::stream::stream_of_before;

use crate::attempt::Tools;
use crate::error::Result;

/// Whose a backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// This target's.
    Ours,
    /// Another target's.
    Theirs(TargetMark),
    /// It does not say, and nothing here knows it.
    Unknown,
}

impl Whose {
    /// The other target, if it is one's that is known.
    pub fn other(self) -> Option<TargetMark> {
        match self {
            Self::Theirs(mark) => Some(mark),
            Self::Ours | Self::Unknown => None,
        }
    }

    /// Whose it is in words, of one that is not ours.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Ours => "this target".to_owned(),
            Self::Theirs(mark) => format!("another target, {mark}"),
            Self::Unknown => {
                "a target that it does not name (mendb did not note it then)".to_owned()
            }
        }
    }
}

/// Tells whether the journal of the target has an operation.
type Knows<'a> = &'a dyn Fn(OperationId) -> Result<bool>;

/// Whose a backup is.
///
/// # Errors
/// The journal cannot be read.
pub(crate) fn whose(tools: &Tools, knows: Knows<'_>, manifest: &Manifest) -> Result<Whose> {
    let mut shards = manifest.part_store.iter().flat_map(|store| &store.shards);
    match &manifest.target {
        Some(mark) if tools.is_of(mark) => Ok(Whose::Ours),
        // It is of a cluster, and has what this server had then.
        Some(_) if shards.any(|shard| tools.is_of(&shard.target)) => Ok(Whose::Ours),
        Some(mark) => Ok(Whose::Theirs(mark.clone())),
        None => {
            let is_known = match manifest.operation_id.parse() {
                Ok(id) => knows(id)?,
                Err(_) => false,
            };
            Ok(match is_known || has_stream_of(tools, manifest)? {
                true => Whose::Ours,
                false => Whose::Unknown,
            })
        }
    }
}

/// Whose the backups of a chain are, or of a part of one.
///
/// # Errors
/// As [`whose`].
pub(crate) fn whose_chain<'a>(
    tools: &Tools,
    knows: Knows<'_>,
    chain: impl IntoIterator<Item = &'a Manifest>,
) -> Result<Whose> {
    for manifest in chain {
        match whose(tools, knows, manifest)? {
            Whose::Unknown => {}
            known => return Ok(known),
        }
    }
    Ok(Whose::Unknown)
}

/// Whether a table of the target carries the change stream that began with this backup.
fn has_stream_of(tools: &Tools, manifest: &Manifest) -> Result<bool> {
    if let Data::Parts(_) = tools.engine.data() {
        return Ok(false);
    }
    let rows = tools.engine.live_rows()?;
    let stream = stream_of_before(&manifest.collection, &manifest.backup_id);
    for table in &manifest.tables {
        let live = rows.inspect(&table.table)?;
        let mut streams = live.iter().flat_map(|live| &live.streams);
        if streams.any(|live| live.name == stream) {
            return Ok(true);
        }
    }
    Ok(false)
}
