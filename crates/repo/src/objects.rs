//! Single objects: each request with its time limit and its retries, and errors that name the object
//! with the URL of its repository.

use std::fmt::{self, Display};
use std::future::Future;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    GetOptions, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
};
use rand::Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;

use crate::error::{Error, Result};
use crate::options::RepositoryOptions;
use crate::throttle::Throttle;

/// How often an object that arrived damaged is read again: damage on the way is rare, and most often
/// the object itself is damaged.
pub(crate) const REREADS: u32 = 2;

/// Requests at once where many objects are removed or many manifests read.
pub(crate) const REQUESTS_AT_ONCE: usize = 16;

/// So much of a file is read where it is asked for: handing that to another thread takes longer.
const LITTLE_BYTES: u64 = 64 << 10;

/// The objects below the place of a repository.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) place: StoreKind,
    prefix: Path,
    url: Arc<str>,
    options: Arc<RepositoryOptions>,
    uploads: Arc<Throttle>,
    downloads: Arc<Throttle>,
    transfers: Arc<Semaphore>,
}

/// Where a store is, which decides how large files come in and out.
#[derive(Clone)]
pub(crate) enum StoreKind {
    /// In this directory of this machine: files are copied.
    Directory(PathBuf),
    /// Elsewhere: files are sent in pieces.
    Remote(Arc<dyn MultipartStore>),
}

impl fmt::Debug for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => f.debug_tuple("Directory").field(directory).finish(),
            Self::Remote(_) => f.write_str("Remote"),
        }
    }
}

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name, relative to the directory that was listed.
    pub(crate) name: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// When it was written, in seconds since 1970, by the clock of the store.
    pub(crate) written_s: i64,
}

/// Whether a write came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    Yes,
    /// An object was there. It may be this one: an answer that got lost leaves it written.
    AlreadyThere,
}

/// What one attempt ended with instead of an answer.
pub(crate) enum Failure {
    Store(object_store::Error),
    /// The object arrived, but not as it should be.
    Damaged(String),
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

impl Objects {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        place: StoreKind,
        prefix: Path,
        url: &str,
        options: RepositoryOptions,
    ) -> Self {
        Self {
            store,
            place,
            prefix,
            url: url.into(),
            uploads: Arc::new(Throttle::new(options.upload_bytes_per_s)),
            downloads: Arc::new(Throttle::new(options.download_bytes_per_s)),
            transfers: Arc::new(Semaphore::new(options.transfers_at_once())),
            options: Arc::new(options),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where it is in its store.
    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    pub(crate) fn options(&self) -> &RepositoryOptions {
        &self.options
    }

    /// From now on lets so many bytes a second through.
    pub(crate) fn change_rates(&self, upload: Option<u64>, download: Option<u64>) {
        self.uploads.change(upload);
        self.downloads.change(download);
    }

    /// What slows down writes.
    pub(crate) fn uploads(&self) -> &Arc<Throttle> {
        &self.uploads
    }

    /// What slows down reads.
    pub(crate) fn downloads(&self) -> &Arc<Throttle> {
        &self.downloads
    }

    /// Waits until a file or bundle may be transferred; the transfer lasts until the permit is dropped.
    pub(crate) async fn transfer(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.transfers).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// An object as errors name it.
    pub(crate) fn full_name(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    pub(crate) fn damaged(&self, name: &str, detail: impl Display) -> Error {
        Error::Damaged {
            object: self.full_name(name),
            detail: detail.to_string(),
        }
    }

    /// The place of an object. Names come from manifests too: one that leads elsewhere is refused.
    pub(crate) fn path(&self, name: &str) -> Result<Path> {
        let relative = Path::parse(name).map_err(|error| self.damaged(name, error))?;
        let parts = self.prefix.parts().chain(relative.parts());
        Path::parse(join(parts)).map_err(|error| self.damaged(name, error))
    }

    /// Reads an object whole, and turns it into what it holds with `check`. When that finds damage,
    /// the object is read again: it may have happened on the way.
    pub(crate) async fn get<T>(
        &self,
        name: &str,
        expected_bytes: u64,
        check: impl Fn(Bytes) -> Result<T, String> + Sync,
    ) -> Result<T>
    where
        T: Send,
    {
        let path = self.path(name)?;
        self.downloads.take(expected_bytes).await;
        self.retry("read", name, expected_bytes, || async {
            let bytes = read(self.store.get(&path).await?).await?;
            check(bytes).map_err(Failure::Damaged)
        })
        .await
    }

    /// Reads a stretch of an object, of which nothing more is known.
    pub(crate) async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        self.get_stretch(name, range, Ok).await
    }

    /// Reads a stretch of an object, and turns it into what it holds with `check`, as [`Self::get`] does.
    /// An object that ends before the stretch does is damaged.
    pub(crate) async fn get_stretch<T>(
        &self,
        name: &str,
        range: Range<u64>,
        check: impl Fn(Bytes) -> Result<T, String> + Sync,
    ) -> Result<T>
    where
        T: Send,
    {
        let path = self.path(name)?;
        let bytes = range.end - range.start;
        self.downloads.take(bytes).await;
        let read = self.retry("read", name, bytes, || async {
            let options = GetOptions::new().with_range(Some(range.clone()));
            let read = read(self.store.get_opts(&path, options).await?).await?;
            if read.len() as u64 != bytes {
                let detail = format!(
                    "{} bytes instead of {bytes} from {}",
                    read.len(),
                    range.start
                );
                return Err(Failure::Damaged(detail));
            }
            check(read).map_err(Failure::Damaged)
        });
        match read.await {
            // Stores refuse a stretch that begins behind the end, each in its own words.
            Err(error @ Error::Store { .. }) => match self.size(name).await? {
                Some(size) if size < range.end => Err(self.damaged(
                    name,
                    format!("{size} bytes instead of at least {}", range.end),
                )),
                _ => Err(error),
            },
            other => other,
        }
    }

    /// Writes an object whole.
    pub(crate) async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        let path = self.path(name)?;
        let size = bytes.len() as u64;
        self.uploads.take(size).await;
        self.retry("write", name, size, || async {
            self.store.put(&path, bytes.clone().into()).await?;
            Ok(())
        })
        .await
    }

    /// Writes an object unless there is one.
    pub(crate) async fn create(&self, name: &str, bytes: Bytes) -> Result<Created> {
        let path = self.path(name)?;
        let size = bytes.len() as u64;
        self.retry("write", name, size, || async {
            let options = PutOptions::from(PutMode::Create);
            match self
                .store
                .put_opts(&path, bytes.clone().into(), options)
                .await
            {
                Ok(_) => Ok(Created::Yes),
                Err(
                    object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. },
                ) => Ok(Created::AlreadyThere),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// The size of an object; `None` when it is not there.
    pub(crate) async fn size(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path(name)?;
        let head = self.retry("look for", name, 0, || async {
            Ok(self.store.head(&path).await?)
        });
        match head.await {
            Ok(found) => Ok(Some(found.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes an object; one that is gone is removed.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        let delete = self.retry("delete", name, 0, || async {
            Ok(self.store.delete(&path).await?)
        });
        match delete.await {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// Removes many objects, some at once. The first failure ends it.
    pub(crate) async fn delete_all(&self, names: Vec<String>) -> Result<()> {
        let deletes = names.into_iter().map(|name| {
            let objects = self.clone();
            async move { objects.delete(&name).await }
        });
        futures::stream::iter(deletes)
            .buffer_unordered(REQUESTS_AT_ONCE)
            .try_collect()
            .await
    }

    /// Every object below a directory.
    pub(crate) async fn list(&self, directory: &str) -> Result<Vec<Listed>> {
        let path = self.path(directory)?;
        self.retry("list", directory, 0, || async {
            let mut found = Vec::new();
            let mut objects = self.store.list(Some(&path));
            while let Some(object) = objects.try_next().await? {
                if let Some(parts) = object.location.prefix_match(&path) {
                    found.push(Listed {
                        name: join(parts),
                        bytes: object.size,
                        written_s: object.last_modified.timestamp(),
                    });
                }
            }
            Ok(found)
        })
        .await
    }

    /// The names of the directories in a directory, ascending.
    pub(crate) async fn directories(&self, directory: &str) -> Result<Vec<String>> {
        let path = self.path(directory)?;
        let listing = self.retry("list", directory, 0, || async {
            Ok(self.store.list_with_delimiter(Some(&path)).await?)
        });
        let found = listing.await?.common_prefixes;
        let mut names: Vec<_> = found
            .iter()
            .filter_map(|prefix| Some(prefix.filename()?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// The names of the objects and directories right below the place, in no order.
    pub(crate) async fn names(&self) -> Result<Vec<String>> {
        let listing = self.retry("list", "", 0, || async {
            Ok(self.store.list_with_delimiter(Some(&self.prefix)).await?)
        });
        let listing = listing.await?;
        let objects = listing.objects.iter().map(|object| &object.location);
        let names = objects.chain(&listing.common_prefixes);
        Ok(names
            .filter_map(|path| Some(path.filename()?.to_owned()))
            .collect())
    }

    /// Does work on this machine that blocks.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(self.cut_off(error)))
    }

    /// The error for a task that ended without a result.
    ///
    /// # Panics
    /// With what the task panicked with.
    pub(crate) fn cut_off(&self, error: JoinError) -> Error {
        match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the end of the runtime cancels it.
            Err(error) => Error::Store {
                object: self.url.to_string(),
                action: "finish work on",
                retriable: true,
                source: error.into(),
            },
        }
    }

    /// Makes a request that carries `bytes` as often as the policy says.
    pub(crate) async fn retry<T, A>(
        &self,
        action: &'static str,
        name: &str,
        bytes: u64,
        attempt: impl Fn() -> A + Sync,
    ) -> Result<T>
    where
        A: Future<Output = Result<T, Failure>> + Send,
        T: Send,
    {
        let limit = self.options.time_limit(bytes);
        let mut failed = 0;
        loop {
            let (error, most_attempts) = match tokio::time::timeout(limit, attempt()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Failure::Damaged(detail))) => (self.damaged(name, detail), 1 + REREADS),
                Ok(Err(Failure::Store(error))) => {
                    let error = Error::from_store(action, self.full_name(name), bytes, error);
                    let again = error.is_retriable();
                    (error, if again { u32::MAX } else { 1 })
                }
                Err(_) => {
                    let error = Error::TimedOut {
                        object: self.full_name(name),
                        action,
                        limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                    };
                    (error, u32::MAX)
                }
            };
            failed += 1;
            if failed >= self.options.retry.attempts.min(most_attempts) {
                return Err(error);
            }
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                failed,
                "asking the repository again"
            );
            pause(self.options.retry.backoff(failed)).await;
        }
    }
}

/// Reads what a store has opened.
async fn read(opened: GetResult) -> object_store::Result<Bytes> {
    let length = opened.range.end.saturating_sub(opened.range.start);
    if let GetResultPayload::File(file, _) = &opened.payload
        && length <= LITTLE_BYTES
    {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        // Where that fails the store says why.
        if file.read_exact_at(&mut bytes, opened.range.start).is_ok() {
            return Ok(bytes.into());
        }
    }
    opened.bytes().await
}

/// Checks that these are the bytes of the object that someone who knows its size and BLAKE3 means.
pub(crate) fn check(
    bytes: &[u8],
    expected_bytes: u64,
    expected_blake3: &str,
) -> Result<(), String> {
    if bytes.len() as u64 != expected_bytes {
        return Err(format!("{} bytes instead of {expected_bytes}", bytes.len()));
    }
    let blake3 = blake3::hash(bytes).to_hex();
    if *blake3 != *expected_blake3 {
        return Err(format!(
            "its BLAKE3 is {blake3} instead of {expected_blake3}"
        ));
    }
    Ok(())
}

/// Waits for `longest`, shortened by up to a half.
#[expect(
    clippy::disallowed_methods,
    reason = "when a store answers cannot be repeated anyway, and nothing else depends on these pauses"
)]
pub(crate) async fn pause(longest: Duration) {
    let pause = longest.mul_f64(rand::rng().random_range(0.5..=1.0));
    tokio::time::sleep(pause).await;
}

/// Waits so long, no less.
#[expect(
    clippy::disallowed_methods,
    reason = "who counts its looks at another process must know how far apart they are at least"
)]
pub(crate) async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}

fn join<'a>(parts: impl Iterator<Item = object_store::path::PathPart<'a>>) -> String {
    let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
    parts.join("/")
}
