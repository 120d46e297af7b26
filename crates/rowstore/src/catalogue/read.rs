//! The catalogue as it lies in the store.

use std::path::Path;
use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::{Digest, Malformed};

use crate::catalogue::{Catalogue, TableEntry, record};
use crate::error::{Error, Result};
use crate::kernel::{Cursor, Direction, Reader, Root, Section, Tree};

/// Reads the catalogue of a commit, which the digest in its root record proves.
pub(crate) fn read(dir: &Path, reader: &Arc<Reader>, root: &Root) -> Result<Catalogue> {
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
