//! Replaces a document that several processes may want to replace, only where it still is what was read.
//!
//! On an object store the write carries the tag of what was read (`If-Match`), and the store refuses it
//! when the object has another one by then. A local directory has no such write: there the document is
//! compared and renamed over under the system's lock on `mendb.lock`. That lock ends with the process
//! that holds it, and removals of such documents take it too.
//!
//! *Retries*: an answer that got lost leaves the document written; the retry finds it by its bytes. So two processes
//! that replace a document never write the same bytes, or mean the same by them.

use std::time::Duration;

use bytes::Bytes;
use object_store::{Error as StoreError, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};

use crate::directory::{self, Exchanged};
use crate::error::{Error, Result};
use crate::layout;
use crate::objects::{Failure, Objects, StoreKind, pause};

/// Between two looks at a lock that another process has.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A document as it was read or written.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// What it says.
    pub(crate) bytes: Bytes,
    /// What the store calls this state of it.
    version: UpdateVersion,
    /// When it was written, in seconds since 1970, by the clock of the store.
    pub(crate) written_s: i64,
}

/// What a conditional write met.
enum Met {
    Written(UpdateVersion),
    /// Another document, or none.
    Other,
    /// A store that makes no such writes.
    Unable(String),
}

impl Objects {
    /// Reads a document that is to be replaced; `None` where there is none.
    pub(crate) async fn see(&self, name: &str) -> Result<Option<Seen>> {
        let path = self.path(name)?;
        let read = self.retry("read", name, 0, || async {
            let answer = self.store.get(&path).await?;
            let meta = answer.meta.clone();
            let bytes = answer.bytes().await?;
            Ok(Seen {
                bytes,
                version: UpdateVersion {
                    e_tag: meta.e_tag,
                    version: meta.version,
                },
                written_s: meta.last_modified.timestamp(),
            })
        });
        match read.await {
            Ok(seen) => Ok(Some(seen)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a document in the place of one that was seen. `None` when another one is there by now, or
    /// none: nothing was written.
    ///
    /// # Errors
    /// [`Error::NoConditions`] when the store makes no such writes; or it fails.
    pub(crate) async fn replace(
        &self,
        name: &str,
        seen: &Seen,
        bytes: Bytes,
    ) -> Result<Option<Seen>> {
        let met = match &self.place {
            StoreKind::Directory(_) => self.exchange(name, seen, &bytes).await?,
            StoreKind::Remote(_) => self.put_if_same(name, seen, &bytes).await?,
        };
        match met {
            Met::Written(version) => Ok(Some(Seen {
                bytes,
                version,
                written_s: seen.written_s,
            })),
            Met::Other => {
                let there = self.see(name).await?;
                Ok(there.filter(|there| there.bytes == bytes))
            }
            Met::Unable(detail) => Err(self.no_conditions(detail)),
        }
    }

    /// The error for a store that does not keep conditions of writes.
    pub(crate) fn no_conditions(&self, detail: impl Into<String>) -> Error {
        Error::NoConditions {
            repository: self.url().to_owned(),
            detail: detail.into(),
        }
    }

    async fn put_if_same(&self, name: &str, seen: &Seen, bytes: &Bytes) -> Result<Met> {
        if seen.version.e_tag.is_none() {
            return Ok(Met::Unable("it gives its objects no tags".to_owned()));
        }
        let path = self.path(name)?;
        let size = bytes.len() as u64;
        self.uploads().take(size).await;
        self.retry("write", name, size, || async {
            let options = PutOptions::from(PutMode::Update(seen.version.clone()));
            let put = self.store.put_opts(&path, bytes.clone().into(), options);
            match put.await {
                Ok(put) => Ok(Met::Written(put.into())),
                Err(StoreError::Precondition { .. } | StoreError::NotFound { .. }) => {
                    Ok(Met::Other)
                }
                Err(StoreError::NotImplemented { operation, .. }) => {
                    Ok(Met::Unable(format!("it does not do {operation}")))
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    async fn exchange(&self, name: &str, seen: &Seen, bytes: &Bytes) -> Result<Met> {
        let size = bytes.len() as u64;
        self.uploads().take(size).await;
        let exchanged = self.locked("write", name, size, {
            let (seen, bytes) = (seen.bytes.clone(), bytes.clone());
            move |path| directory::exchange(path, &seen, &bytes)
        });
        Ok(match exchanged.await? {
            Exchanged::Yes => Met::Written(seen.version.clone()),
            Exchanged::No => Met::Other,
        })
    }

    /// Removes a document that others may be about to replace, for good; one that is gone is removed.
    pub(crate) async fn delete_document(&self, name: &str) -> Result<()> {
        match &self.place {
            StoreKind::Remote(_) => self.delete(name).await,
            StoreKind::Directory(_) => {
                match self.locked("delete", name, 0, directory::remove).await {
                    // Without the directory of the repository.
                    Err(Error::NotFound { .. }) => Ok(()),
                    other => other,
                }
            }
        }
    }

    /// Does work on the file of an object in a local directory while no other process does. The store
    /// must be a directory; waits for another process as long as for any request.
    async fn locked<T: Send + 'static>(
        &self,
        action: &'static str,
        name: &str,
        bytes: u64,
        work: impl Fn(&std::path::Path) -> std::io::Result<T> + Clone + Send + Sync + 'static,
    ) -> Result<T> {
        let StoreKind::Directory(root) = &self.place else {
            unreachable!("only files of a directory are locked");
        };
        let (lock, path) = (root.join(layout::LOCK), root.join(name));
        self.retry(action, name, bytes, || async {
            let done = loop {
                let (lock, path, work) = (lock.clone(), path.clone(), work.clone());
                let done = tokio::task::spawn_blocking(move || {
                    let _lock = directory::lock(&lock)?;
                    work(&path)
                });
                match done.await.map_err(std::io::Error::from).flatten() {
                    // Another holds it, most often for the time of a write.
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        pause(LOCK_PAUSE).await;
                    }
                    done => break done,
                }
            };
            done.map_err(|source| {
                let is_absent = source.kind() == std::io::ErrorKind::NotFound;
                let source = source.into();
                Failure::Store(match is_absent {
                    true => StoreError::NotFound {
                        path: name.to_owned(),
                        source,
                    },
                    false => StoreError::Generic {
                        store: "local directory",
                        source,
                    },
                })
            })
        })
        .await
    }
}
