//! Shards that a mend has rebuilt, and those whose place they take.

use std::collections::HashSet;
use std::sync::Arc;

use crate::catalogue::{PathState, Shard, TableEntry};
use crate::error::{Error, Result};
use crate::kernel::ShardId;
use crate::shard::view::View;

/// A shard that was rebuilt, and the live one.
pub(crate) struct Rebuilt {
    pub(crate) live: Arc<Shard>,
    pub(crate) successor: Arc<Shard>,
}

/// The shards of a table that were rebuilt.
///
/// # Errors
/// One is not whole, or of an index only some are.
pub(crate) fn of_table(view: &View, entry: &TableEntry) -> Result<Vec<Rebuilt>> {
    let mut rebuilt = of_shards(view, &entry.rows)?;
    for (index, shards) in &entry.indexes {
        let of_index = of_shards(view, shards)?;
        // What follows from the rows of the table is written to all shards of an index, or to none.
        if !of_index.is_empty() && of_index.len() < shards.len() {
            return Err(Error::RebuiltInPart {
                path: format!("{}/{index}", entry.name),
            });
        }
        rebuilt.extend(of_index);
    }
    Ok(rebuilt)
}

fn of_shards(view: &View, shards: &[Arc<Shard>]) -> Result<Vec<Rebuilt>> {
    let mut rebuilt = Vec::new();
    for live in shards {
        let Some(successor) = view.stats(live.id)?.successor else {
            continue;
        };
        if !successor.is_whole {
            return Err(Error::RebuiltInPart { path: live.label() });
        }
        rebuilt.push(Rebuilt {
            live: live.clone(),
            successor: successor.shard(live),
        });
    }
    Ok(rebuilt)
}

/// Of each index of a table, in the order of the schema, whether it is rebuilt.
pub(crate) fn indexes(view: &View, entry: &TableEntry) -> Result<Vec<bool>> {
    let indexes = entry.layout.indexes.iter();
    let is_rebuilt = |name: &str| -> Result<bool> {
        let shards = entry.shards(Some(name))?.iter().take(1);
        let mut successors = shards.map(|shard| Ok(view.stats(shard.id)?.successor.is_some()));
        successors.next().unwrap_or(Ok(false))
    };
    indexes.map(|index| is_rebuilt(&index.name)).collect()
}

/// Puts what was rebuilt of a table in the place of what lives.
pub(crate) fn put(entry: &mut TableEntry, rebuilt: &[Rebuilt]) {
    for Rebuilt { live, successor } in rebuilt {
        let shards = entry.shards_mut(live.path.index.as_deref());
        let shards = shards.expect("the table has the index of its shards");
        let places = shards.iter_mut().filter(|shard| shard.id == live.id);
        places.for_each(|place| *place = successor.clone());
    }
}

/// All successors of a commit, whole or not: nothing else in it names their files.
pub(crate) fn all(view: &View) -> Result<HashSet<ShardId>> {
    let mut all = HashSet::new();
    for entry in view.catalogue().tables() {
        if matches!(entry.state, PathState::Mending { .. }) {
            for shard in entry.all_shards() {
                let successor = view.stats(shard.id)?.successor;
                all.extend(successor.map(|successor| successor.id));
            }
        }
    }
    Ok(all)
}
