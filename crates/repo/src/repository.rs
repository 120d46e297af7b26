//! Opening a repository, and what it is.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mendb_model::name;
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::known_candidates::KnownCandidates;
use crate::layout;
use crate::location::Location;
use crate::objects::{Created, Objects, StoreKind};
use crate::options::RepositoryOptions;
use crate::random::random_id;
use crate::remembered::Remembered;
use crate::seal::{self, Unreadable};
use crate::shards::known::KnownLists;

/// The format that this version gives repositories. Version 1 knew no leases and no garbage that waits:
/// one of that version is raised when it gets its first lease, so that a mendb which heeds neither refuses
/// it from then on.
pub const REPOSITORY_FORMAT: u32 = 2;

/// A place on an object store that holds backups. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(crate) objects: Objects,
    pub(crate) remembered: Arc<Remembered>,
    pub(crate) lists: Arc<KnownLists>,
    pub(crate) keeps_conditions: Arc<AtomicBool>,
    pub(crate) candidates: Arc<KnownCandidates>,
}

/// `mendb.json`: tells that a directory is a repository, and which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// See [`REPOSITORY_FORMAT`].
    pub format_version: u32,
    /// Drawn at random when the repository was created, as 32 hex digits.
    pub repository_id: String,
}

impl Repository {
    /// Opens the repository at a URL: `file:///directory` or a plain path, `s3://bucket/prefix`
    /// (set up by the `AWS_…` environment variables and [`RepositoryOptions::s3`]), `memory:` for one
    /// that ends with its last clone or `memory:name` for one that ends with the process.
    ///
    /// Nothing is created: a place where nothing is opens as an empty repository.
    ///
    /// # Errors
    /// The URL is none, the store does not answer, or a `mendb.json` is there that is damaged or of
    /// another format version.
    pub async fn open(url: &str, options: RepositoryOptions) -> Result<Self> {
        let location = Location::parse(url, &options)?;
        let Location {
            store,
            place,
            prefix,
            url,
        } = location;
        let repository = Self {
            objects: Objects::new(store, place, prefix, &url, options),
            remembered: Arc::default(),
            lists: Arc::default(),
            keeps_conditions: Arc::default(),
            candidates: Arc::default(),
        };
        repository.header().await?;
        Ok(repository)
    }

    /// The repository below `prefix` of a store; `url` is what messages call it. Nothing is read.
    /// What the store says is written must last.
    pub fn with_store<S: ObjectStore + MultipartStore>(
        store: Arc<S>,
        prefix: Path,
        url: &str,
        options: RepositoryOptions,
    ) -> Self {
        let place = StoreKind::Remote(store.clone());
        Self {
            objects: Objects::new(store, place, prefix, url, options),
            remembered: Arc::default(),
            lists: Arc::default(),
            keeps_conditions: Arc::default(),
            candidates: Arc::default(),
        }
    }

    /// How it is used.
    pub fn options(&self) -> &RepositoryOptions {
        self.objects.options()
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> &str {
        self.objects.url()
    }

    /// What it says about itself; `None` when nothing was ever backed up into it.
    ///
    /// # Errors
    /// `mendb.json` cannot be read, is damaged or of another format version.
    pub async fn header(&self) -> Result<Option<Header>> {
        match self.read_header().await {
            Ok(header) => Ok(Some(header)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the place a repository if it is none yet. Must be called before the first backup is
    /// written. Of several at the same time, one creates it and the others find it.
    ///
    /// # Errors
    /// As [`Self::header`], or `mendb.json` cannot be written.
    pub async fn create_if_absent(&self) -> Result<Header> {
        if let Some(header) = self.header().await? {
            return Ok(header);
        }
        let header = Header {
            format_version: REPOSITORY_FORMAT,
            repository_id: random_id(),
        };
        let bytes = seal::seal(&header);
        match self.objects.create(layout::HEADER, bytes.into()).await? {
            Created::Yes => Ok(header),
            Created::AlreadyThere => self.read_header().await,
        }
    }

    /// From now on lets so many bytes a second go to the store and come from it, of this repository and of its clones;
    /// without a number, all.
    pub fn change_rates(&self, upload_bytes_per_s: Option<u64>, download_bytes_per_s: Option<u64>) {
        self.objects
            .change_rates(upload_bytes_per_s, download_bytes_per_s);
    }

    /// Finds out whether objects can be written, read and removed, with one of a few bytes that is gone afterwards.
    ///
    /// # Errors
    /// They cannot, with the first of these that fails.
    pub async fn check_writable(&self) -> Result<()> {
        const PROBE: &[u8] = b"mendb was here to see whether it can write";
        let name = format!("check-{}", random_id());
        self.objects.put(&name, PROBE.into()).await?;
        let read = self
            .objects
            .get(&name, PROBE.len() as u64, |bytes| match bytes == PROBE {
                true => Ok(()),
                false => Err("it is not what was just written".to_owned()),
            });
        let read = read.await;
        self.objects.delete(&name).await?;
        read
    }

    /// The collections that have a backup, or the beginning of one, ascending.
    ///
    /// # Errors
    /// The store fails.
    pub async fn collections(&self) -> Result<Vec<String>> {
        let mut names = self.objects.directories(layout::COLLECTIONS).await?;
        names.retain(|collection| name::check(collection).is_ok());
        Ok(names)
    }

    async fn read_header(&self) -> Result<Header> {
        let read = self.document(
            (layout::HEADER, REPOSITORY_FORMAT),
            |_| None,
            |_, header: Header| Ok(header),
        );
        read.await
    }

    /// Gives a repository of an older format this version's, so that an older mendb refuses it.
    pub(crate) async fn raise_format(&self) -> Result<()> {
        while let Some(seen) = self.objects.see(layout::HEADER).await? {
            let read = seal::open::<Header>(&seen.bytes, REPOSITORY_FORMAT);
            let mut header = read.map_err(|unreadable| {
                self.unreadable(layout::HEADER, unreadable, REPOSITORY_FORMAT)
            })?;
            if header.format_version == REPOSITORY_FORMAT {
                break;
            }
            header.format_version = REPOSITORY_FORMAT;
            let raised = seal::seal(&header).into();
            let replaced = self.objects.replace(layout::HEADER, &seen, raised);
            if replaced.await?.is_some() {
                tracing::info!(url = self.url(), "the repository has format 2 now");
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn unreadable(&self, name: &str, why: Unreadable, newest: u32) -> Error {
        match why {
            Unreadable::Damaged(detail) => self.objects.damaged(name, detail),
            Unreadable::UnknownFormat(version) => Error::UnknownFormat {
                object: self.objects.full_name(name),
                version,
                newest,
            },
        }
    }

    /// Reads a sealed document, given with the newest format that is known, and turns it, with its bytes,
    /// into what the caller keeps of it, unless that is `known` from the bytes; `check` may find it damaged.
    pub(crate) async fn document<D, T>(
        &self,
        (name, newest): (&str, u32),
        known: impl Fn(&[u8]) -> Option<T> + Sync,
        check: impl Fn(&[u8], D) -> Result<T, String> + Sync,
    ) -> Result<T>
    where
        D: serde::de::DeserializeOwned,
        T: Send,
    {
        let read = self.objects.get(name, 0, |bytes| {
            if let Some(known) = known(&bytes) {
                return Ok(Ok(known));
            }
            match seal::open::<D>(&bytes, newest) {
                Ok(document) => check(&bytes, document).map(Ok),
                Err(Unreadable::Damaged(detail)) => Err(detail),
                Err(Unreadable::UnknownFormat(version)) => Ok(Err(version)),
            }
        });
        read.await?
            .map_err(|version| self.unreadable(name, Unreadable::UnknownFormat(version), newest))
    }
}
