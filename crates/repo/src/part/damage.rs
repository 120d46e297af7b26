//! Objects that were found damaged.
//!
//! ```text
//! damaged/files/<name>, damaged/bundles/<name>    its content was not what it is named after
//! ```
//!
//! A read that brings an object back or proves it notes the damage that it finds. From then on no backup relies on the
//! object: a backup that needs the content writes it again, in the same place, which also makes the backups whole that
//! have it already. The note goes when the object was written again, or proved whole.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Blob, BlobKind};
use crate::error::{Error, Result};
use crate::layout;
use crate::objects::Objects;

impl Objects {
    /// The objects that were found damaged and not written again since.
    pub(crate) async fn damaged_blobs(&self) -> Result<HashSet<Blob>> {
        let mut damaged = HashSet::new();
        for listed in self.list(layout::DAMAGED).await? {
            let found = BlobKind::ALL.into_iter().find_map(|kind| {
                let file_name = listed.name.strip_prefix(kind.name())?.strip_prefix('/')?;
                Blob::from_file_name(kind, file_name)
            });
            damaged.extend(found);
        }
        Ok(damaged)
    }

    /// Notes what a reading of an object has found. Where it cannot be noted, as where the repository may
    /// only be read, others find it out themselves.
    pub(super) async fn note_if_damaged<T>(&self, blob: &Blob, read: &Result<T>) {
        if !matches!(read, Err(Error::Damaged { .. })) {
            return;
        }
        let note = Bytes::from_static(b"what was read of it was not what it is named after\n");
        if let Err(error) = self.put(&note_of(blob), note).await {
            tracing::debug!(%error, "damage that was found is not noted in the repository");
        }
    }

    /// Forgets that an object was damaged, after it was written again or proved whole, or
    /// has gone.
    pub(crate) async fn forget_damage(&self, blob: &Blob) -> Result<()> {
        self.delete(&note_of(blob)).await
    }
}

fn note_of(blob: &Blob) -> String {
    let (kind, file_name) = (blob.kind().name(), blob.file_name());
    format!("{}/{kind}/{file_name}", layout::DAMAGED)
}
