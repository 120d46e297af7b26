//! From the directory to the running store.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::{Digest, Malformed};

use crate::database::{Inner, Options};
use crate::error::{Error, Result};
use crate::kernel::{self, Cursor, Direction, Reader, Root, Section, Store, Tree};
use crate::schemeshard::{Catalogue, TableEntry, record};
use crate::transaction::Writer;
use crate::view::{Commit, View};

/// Opens the store. What a crash left of shards that never were in the catalogue, or are not any more, is
/// removed.
pub(crate) fn open(dir: &Path, options: Options) -> Result<Inner> {
    let store = Arc::new(Store::open(dir, &options)?);
    let (reader, root) = store.read()?;
    let catalogue = read_catalogue(dir, &reader, &root)?;
    drop(reader);
    store.erase_leftovers()?;
    for shard in store.files().shards()? {
        if catalogue.shard(shard).is_none() {
            tracing::info!(%shard, "remove what a crash left");
            store.files().remove(shard);
        }
    }
    let last = Commit::of(&root, catalogue);
    let writer = Writer {
        root,
        stats: HashMap::new(),
        captures: HashMap::new(),
    };
    Ok(Inner::new(store, options, writer, last))
}

/// The last commit of a store that another process may have open; `None` where there is no store.
pub(crate) fn look(dir: &Path) -> Result<Option<View>> {
    let Some(look) = kernel::look(dir)? else {
        return Ok(None);
    };
    let catalogue = read_catalogue(dir, &look.reader, &look.root)?;
    let commit = Commit::of(&look.root, catalogue);
    Ok(Some(View {
        files: look.files,
        reader: look.reader,
        commit,
        store: None,
    }))
}

fn read_catalogue(dir: &Path, reader: &Arc<Reader>, root: &Root) -> Result<Catalogue> {
    let mut catalogue = Catalogue::default();
    let mut found = Digest::default();
    let section = Section::whole(Tree::Catalogue);
    let mut records = Cursor::new(reader, &section, &KeyRange::all(), Direction::Ascending);
    let mut next = records.next().transpose()?;
    while let Some(table) = next {
        found.add(&table.0, &table.1);
        let mut shards = Vec::new();
        next = records.next().transpose()?;
        while let Some(shard) = next.take_if(|(key, _)| !record::is_of_table(key)) {
            found.add(&shard.0, &shard.1);
            shards.push(shard);
            next = records.next().transpose()?;
        }
        catalogue.insert(TableEntry::decode(&table, &shards)?);
    }
    if found == root.catalogue {
        return Ok(catalogue);
    }
    Err(Error::damaged(
        format!("the catalogue of the row store in {}", dir.display()),
        Malformed {
            what: "catalogue",
            detail: format!("its digest is {found}, recorded is {}", root.catalogue),
        },
    ))
}
