//! From the directory to the running store.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::{Digest, Malformed};

use crate::database::{Inner, Options};
use crate::error::{Error, Result};
use crate::kernel::{Cursor, Direction, Section, Store, Tree};
use crate::schemeshard::{Catalogue, TableEntry};
use crate::transaction::Writer;
use crate::view::Commit;

/// Opens the store. What a crash left of shards that never were in the catalogue, or are not any more, is
/// removed.
pub(crate) fn open(dir: &Path, options: Options) -> Result<Inner> {
    let store = Arc::new(Store::open(dir, &options)?);
    let (reader, root) = store.read()?;
    let mut catalogue = Catalogue::default();
    let mut found = Digest::default();
    let section = Section::whole(Tree::Catalogue);
    for record in Cursor::new(&reader, &section, &KeyRange::all(), Direction::Ascending) {
        let (name, value) = record?;
        found.add(&name, &value);
        catalogue.insert(TableEntry::decode(&name, &value)?);
    }
    drop(reader);
    if found != root.catalogue {
        return Err(Error::damaged(
            format!("the catalogue of the row store in {}", dir.display()),
            Malformed {
                what: "catalogue",
                detail: format!("its digest is {found}, recorded is {}", root.catalogue),
            },
        ));
    }
    store.erase_leftovers()?;
    for shard in store.files().shards()? {
        if catalogue.shard(shard).is_none() {
            tracing::info!(%shard, "remove what a crash left");
            store.files().remove(shard);
        }
    }
    let last = Commit {
        number: root.commit,
        version: root.version,
        catalogue: Arc::new(catalogue),
    };
    let writer = Writer {
        root,
        stats: HashMap::new(),
        captures: HashMap::new(),
    };
    Ok(Inner::new(store, options, writer, last))
}
