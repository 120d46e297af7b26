//! Documents of a backup: JSON, compressed, that its manifest names by size and BLAKE3. They hold
//! what would make a manifest of a part store too large to be read whole.
//!
//! A document is one object, written before the manifest; like a segment it carries its writer and
//! attempt in its name, so that those of lost attempts are found and removed.

use std::io::Read;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use mendb_model::BackupId;
use mendb_model::part::{ObjectRef, TableName};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::layout;
use crate::objects::{REQUESTS_AT_ONCE, check};
use crate::repository::Repository;

/// What a damaged or forged document may unpack to at most. A list of 256 parts with a thousand files
/// each is a tenth of it.
const MOST_TEXT_BYTES: u64 = 1 << 30;

/// Part lists are read far more often than written, and hashes in them do not compress: more effort
/// gains little.
const ZSTD_LEVEL: i32 = 3;

/// Which document of a backup it is; gives it its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentName {
    /// The table that it describes.
    pub table: TableName,
    /// What it tells.
    pub kind: DocumentKind,
    /// Who writes, as in [`crate::SegmentTarget`].
    pub writer: String,
    /// The attempt: two attempts of a writer never write the same object, also when both are still alive.
    pub attempt: u32,
}

/// What a document has about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// The parts that were live: an [`mendb_model::part::Inventory`].
    CurrentParts,
    /// Some of its parts with their files: an array of [`mendb_model::part::PartRecord`].
    Parts {
        /// The number of the list in its table.
        chunk: u32,
    },
}

impl DocumentName {
    /// Its object, relative to the directory of the backup.
    fn object(&self) -> String {
        let (writer, attempt) = (&self.writer, self.attempt);
        match self.kind {
            DocumentKind::CurrentParts => layout::current_parts(&self.table, writer, attempt),
            DocumentKind::Parts { chunk } => layout::part_list(&self.table, chunk, writer, attempt),
        }
    }
}

impl Repository {
    /// Stores a document of a backup, and returns what the manifest says of it. Encodes where it is
    /// called. A document of the same name is replaced.
    ///
    /// # Errors
    /// The collection has a bad name, or the store fails.
    ///
    /// # Panics
    /// The value cannot be JSON: a map in it has keys that are no strings.
    pub async fn put_document<T: Serialize + Sync>(
        &self,
        collection: &str,
        id: &BackupId,
        name: &DocumentName,
        value: &T,
    ) -> Result<ObjectRef> {
        let object = |_: &str| name.object();
        self.put_named(collection, id, object, value).await
    }

    /// Stores a document under the name that `object` gives it by the BLAKE3 of its bytes.
    pub(crate) async fn put_named<T: Serialize + Sync + ?Sized>(
        &self,
        collection: &str,
        id: &BackupId,
        object: impl FnOnce(&str) -> String + Send,
        value: &T,
    ) -> Result<ObjectRef> {
        let bytes = pack(value);
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        let stored = ObjectRef {
            object: object(&blake3),
            bytes: bytes.len() as u64,
            blake3,
        };
        let full = format!("{}/{}", layout::backup(collection, id)?, stored.object);
        self.objects.put(&full, bytes).await?;
        Ok(stored)
    }

    /// Stores documents of one backup in another of the collection, each under a name of its own, byte for byte,
    /// after their sizes and BLAKE3 were checked: several at once, and in the order in which they are given. A document
    /// of the same name is replaced.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::Damaged`] when one is not the document that is
    /// meant; or the store fails. Those that were stored by then stay.
    pub async fn copy_documents(
        &self,
        collection: &str,
        (from, to): (&BackupId, &BackupId),
        documents: &[(&ObjectRef, DocumentName)],
    ) -> Result<Vec<ObjectRef>> {
        let (from, to) = (
            layout::backup(collection, from)?,
            layout::backup(collection, to)?,
        );
        let copies = documents.iter();
        let copies = copies.map(|(at, name)| self.copy_document((&from, at), (&to, name)));
        let copies: Vec<_> = copies.collect();
        let copies = stream::iter(copies).buffered(REQUESTS_AT_ONCE);
        copies.try_collect().await
    }

    /// Copies a document from one directory to another.
    async fn copy_document(
        &self,
        (from, at): (&str, &ObjectRef),
        (to, name): (&str, &DocumentName),
    ) -> Result<ObjectRef> {
        let stored = ObjectRef {
            object: name.object(),
            ..at.clone()
        };
        let full = format!("{from}/{}", at.object);
        let read = self.objects.get(&full, at.bytes, |bytes| {
            check(&bytes, at.bytes, &at.blake3)?;
            Ok(bytes)
        });
        let full = format!("{to}/{}", stored.object);
        self.objects.put(&full, read.await?).await?;
        Ok(stored)
    }

    /// Reads a document of a backup, after its size and BLAKE3 were checked. What arrives damaged is
    /// fetched again. Decodes where it is called; memory is that of the value, its text and the object.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::Damaged`] when it is not the document that is
    /// meant; or the store fails.
    pub async fn document_at<T: DeserializeOwned + Send>(
        &self,
        collection: &str,
        id: &BackupId,
        at: &ObjectRef,
    ) -> Result<T> {
        let name = format!("{}/{}", layout::backup(collection, id)?, at.object);
        let read = self.objects.get(&name, at.bytes, |bytes| {
            check(&bytes, at.bytes, &at.blake3)?;
            unpack(&bytes)
        });
        read.await
    }
}

fn pack(value: &(impl Serialize + ?Sized)) -> Bytes {
    let text = serde_json::to_vec(value).expect("memory takes what can be JSON");
    let packed = zstd::encode_all(text.as_slice(), ZSTD_LEVEL);
    packed.expect("memory takes what is written").into()
}

/// What a document says, whether or not its BLAKE3 is known.
pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    unpack_at_most(bytes, MOST_TEXT_BYTES)
}

fn unpack_at_most<T: DeserializeOwned>(bytes: &[u8], most_bytes: u64) -> Result<T, String> {
    let decoder = zstd::Decoder::new(bytes).map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    let read = decoder.take(most_bytes).read_to_end(&mut text);
    read.map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_document_is_unpacked_up_to_a_limit_and_no_further() {
        let packed = pack(&"x".repeat(1000));
        assert!(unpack_at_most::<String>(&packed, 1002).is_ok());
        assert!(unpack_at_most::<String>(&packed, 1001).is_err());
    }

    proptest! {
        #[test]
        fn a_packed_document_unpacks(value: Vec<String>) {
            prop_assert_eq!(unpack::<Vec<String>>(&pack(&value)), Ok(value));
        }

        #[test]
        fn bytes_that_are_no_document_are_an_error(bytes: Vec<u8>) {
            prop_assert!(unpack::<Vec<String>>(&bytes).is_err());
        }
    }
}
