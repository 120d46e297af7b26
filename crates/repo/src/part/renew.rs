//! Stores again, within the repository, objects that a backup relies on and that may be removed.
//!
//! The seal of a backup does it: what is named as garbage by then was not when the backup found it.

use std::collections::HashSet;

use blake3::Hasher;
use bytes::Bytes;
use futures::{Stream, stream};
use mendb_model::manifest::Manifest;
use mendb_model::part::PartRecord;

use super::disk::FileToRead;
use super::fetch::LargeContent;
use super::store::piece_bytes;
use super::{Blob, PIECE_BYTES};
use crate::error::{Error, Result};
use crate::layout;
use crate::objects::{Objects, StoreKind};
use crate::repository::Repository;

impl Repository {
    /// The manifest with lists of parts that rely on nothing which may be removed, as of when this began;
    /// `None` where it has such lists. What is in danger is copied, and its content proved by that.
    ///
    /// # Errors
    /// [`Error::Incomplete`] or [`Error::Damaged`]: what is in danger is gone, or what the backup relies on is
    /// not what it should be. Or the store fails.
    pub(crate) async fn renewed(&self, manifest: &Manifest) -> Result<Option<Manifest>> {
        if manifest.part_store.is_none() {
            return Ok(None);
        }
        let candidates = self.candidates().await?;
        if candidates.is_empty() {
            return Ok(None);
        }
        let (collection, id) = (&manifest.collection, &manifest.backup_id);
        let mut renewed = manifest.clone();
        let mut copied = HashSet::new();
        let tables = renewed.part_store.iter_mut().flat_map(|it| &mut it.tables);
        for list in tables.flat_map(|table| &mut table.lists) {
            let mut records: Vec<PartRecord> = self.document_at(collection, id, &list.at).await?;
            let mut newest = 0;
            for file in records.iter_mut().flat_map(|record| &mut record.files) {
                let blob = Blob::of(file)?;
                if candidates.trust(&blob) {
                    continue;
                }
                if candidates.is_damaged(&blob) {
                    let detail = "it was found damaged, and the backup relies on it";
                    return Err(self.objects.damaged(&blob.name(), detail));
                }
                let fresh = candidates.place(blob.kind(), blob.blake3());
                if copied.insert(fresh) {
                    self.objects.copy_blob(blob, fresh).await?;
                }
                fresh.hold(file);
                newest = fresh.generation().max(newest);
            }
            if newest > 0 {
                let object = |_: &str| layout::renewed_list(&list.at.object, newest);
                list.at = self.put_named(collection, id, object, &records).await?;
            }
        }
        if copied.is_empty() {
            return Ok(None);
        }
        tracing::info!(
            objects = copied.len(),
            "copied files that the backup relies on and that may be removed"
        );
        self.objects.make_last(copied.into_iter()).await?;
        Ok(Some(renewed))
    }
}

impl Objects {
    /// Copies an object to another of the same content, unless that is there, and proves it.
    async fn copy_blob(&self, from: Blob, to: Blob) -> Result<()> {
        let (from_name, to_name) = (from.name(), to.name());
        let Some(bytes) = self.size(&from_name).await? else {
            return Err(Error::Incomplete {
                object: self.full_name(&from_name),
                problem: "does not exist".to_owned(),
                others: 0,
            });
        };
        if self.size(&to_name).await? == Some(bytes) {
            return Ok(());
        }
        let damaged = format!("its content is not {}", from.blake3().to_hex());
        match &self.place {
            StoreKind::Directory(root) => {
                let (objects, root) = (self.clone(), root.clone());
                self.blocking(move || {
                    let path = root.join(&from_name);
                    let source = FileToRead { path, bytes };
                    let copied =
                        objects.copy_in(&root, &source, |blake3| match blake3 == from.blake3() {
                            true => Ok(to),
                            false => Err(objects.damaged(&from_name, damaged)),
                        });
                    copied.map(drop)
                })
                .await
            }
            StoreKind::Remote(_) if bytes <= PIECE_BYTES => {
                let content = self.get(&from_name, bytes, |content| {
                    match blake3::hash(&content) == from.blake3() {
                        true => Ok(content),
                        false => Err(damaged.clone()),
                    }
                });
                self.put(&to_name, content.await?).await
            }
            StoreKind::Remote(store) => {
                let content = LargeContent {
                    name: from_name,
                    bytes,
                    blake3: from.blake3(),
                };
                let pieces = self.pieces_of(content);
                self.send(store, to, bytes, pieces).await.map(drop)
            }
        }
    }

    /// The pieces of an object with their numbers. Ends with an error unless they are its content.
    fn pieces_of(
        &self,
        content: LargeContent,
    ) -> impl Stream<Item = Result<(usize, Bytes)>> + Send {
        let objects = self.clone();
        let state = (objects, content, Hasher::new(), 0_usize);
        stream::try_unfold(state, |(objects, content, mut hasher, n)| async move {
            let start = hasher.count();
            if start == content.bytes {
                let checked = content.check(start, hasher.finalize());
                return match checked {
                    Ok(()) => Ok(None),
                    Err(detail) => Err(objects.damaged(&content.name, detail)),
                };
            }
            let end = content.bytes.min(start + piece_bytes(content.bytes));
            let piece = objects.get_range(&content.name, start..end).await?;
            hasher.update(&piece);
            Ok(Some(((n, piece), (objects, content, hasher, n + 1))))
        })
    }
}
