//! From the directory to the running store.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::catalogue;
use crate::commit::{Inner, Writer};
use crate::error::Result;
use crate::kernel::{Options, Store};
use crate::shard::rebuilt;
use crate::shard::view::{Commit, View};

/// Opens the store. What a crash left of shards that never were in the catalogue, or are not any more, is
/// removed.
pub(crate) fn open(dir: &Path, options: Options) -> Result<Inner> {
    let store = Arc::new(Store::open(dir, &options)?);
    let (reader, root) = store.read()?;
    let catalogue = catalogue::read(dir, &reader, &root)?;
    let last = Commit::of(&root, catalogue);
    let view = View {
        files: store.files().clone(),
        reader,
        commit: last.clone(),
        store: None,
        _staged: None,
    };
    let successors = rebuilt::all(&view)?;
    drop(view);
    store.erase_leftovers()?;
    for shard in store.files().shards()? {
        if last.catalogue.shard(shard).is_none() && !successors.contains(&shard) {
            tracing::info!(%shard, "remove what a crash left");
            store.files().remove(shard);
        }
    }
    let writer = Writer {
        root,
        stats: HashMap::new(),
        captures: HashMap::new(),
    };
    Ok(Inner::new(store, options, writer, last))
}
