//! Backups that clickhouse-backup made, read where they are, so that tables can be mended from them.
//!
//! ```text
//! <backup>/metadata.json                                   what the backup is; written last
//! <backup>/metadata/<database>/<table>.json                a table: its statement, its parts
//! <backup>/shadow/<database>/<table>/<disk>/<part>/<file>  parts as files: local backups, and remote
//!                                                          ones without compression
//! <backup>/shadow/<database>/<table>/<disk>_<part>.<ext>   parts as archives
//! <backup>/shadow/<database>/<table>/<disk>_<N>.<ext>      parts in archives that were cut by size
//! ```
//!
//! Local backups keep the parts of other disks of the server below `<path of the disk>/backup`. Names are
//! encoded as [`path_name`] tells. Archives are tar, alone or compressed in one of the ways that
//! `archive::Compression` names. An increment has only new parts
//! and refers to its parent, and so on, for the others.
//!
//! **Trust.** A part is known by the hash of its files, which the document of its table tells or its own
//! `checksums.txt`. When it is fetched, every byte that `checksums.txt` lists is proved, and the hash of
//! the list. References by name alone are told ([`ImportedPart::ambiguous`]), and a name that leads to
//! another content is refused. Paths in archives lead nowhere but into the part.
//!
//! **What a backup does not tell.** It does not say which partitions or disks were left out when it was
//! made: a table of which only some partitions were backed up looks as if it had no others. A table of
//! which nothing but the schema was backed up is an error, not an empty table.
//!
//! **Consistency.** Nothing is ever written where the backups are. Parts are found before any is fetched;
//! one that vanishes in between is an error of its fetch.
//!
//! **Runtime.** Futures need a Tokio runtime with time and I/O enabled; unpacking runs on its threads for
//! blocking work.

mod archive;
mod backup;
mod chain;
mod crc64;
mod ddl;
mod error;
mod metadata;
mod order;
mod part_locations;
pub mod path_name;
mod reader;
mod received;
mod stored;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use mendb_model::part::TableName;
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use serde::de::DeserializeOwned;

pub use backup::{FetchedPart, ImportedBackup, ImportedContents, ImportedPart, ImportedTable};
pub use error::{ImportError, PartOf, Result};

use crate::location::Location;
use crate::objects::{Objects, REQUESTS_AT_ONCE, StoreKind};
use crate::options::RepositoryOptions;
use metadata::{BackupMetadata, TableMetadata};

/// What stands before the URL of a repository where clickhouse-backup keeps backups.
const SCHEME: &str = "clickhouse-backup+";

/// The URL of the place, of one that says that clickhouse-backup keeps backups there:
/// `clickhouse-backup+s3://bucket/prefix`.
pub fn strip_scheme(url: &str) -> Option<&str> {
    url.strip_prefix(SCHEME)
}

/// A place where clickhouse-backup keeps backups. Clones share the connection.
#[derive(Debug, Clone)]
pub struct ImportedBackups {
    objects: Objects,
}

/// A backup in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBackup {
    /// Its name.
    pub name: String,
    /// When it was made, as RFC 3339 writes it; empty where that is not known.
    pub created: String,
    /// Bytes that it takes, those of the backups that it requires not counted.
    pub bytes: u64,
    /// The backup that it requires.
    pub required_backup: Option<String>,
    /// What it has that is not read: users and rights, configuration files, named collections, functions.
    pub beside_tables: Vec<String>,
    /// Why it cannot be read, if it cannot.
    pub broken: Option<String>,
}

impl ImportedBackups {
    /// Opens the place at a URL, with or without `clickhouse-backup+` before it: what a repository's URL
    /// can be ([`crate::Repository::open`]). On the server itself that is the directory `backup` of its
    /// default disk, elsewhere what clickhouse-backup calls `path`. Nothing is read.
    ///
    /// # Errors
    /// The URL is none.
    pub fn open(url: &str, options: RepositoryOptions) -> Result<Self> {
        let location = Location::parse(strip_scheme(url).unwrap_or(url), &options)?;
        let Location {
            store,
            prefix,
            url,
            place,
        } = location;
        Ok(Self {
            objects: Objects::new(store, place, prefix, &url, options),
        })
    }

    /// The place below `prefix` of a store; `url` is what messages call it.
    pub fn with_store<S: ObjectStore + MultipartStore>(
        store: Arc<S>,
        prefix: Path,
        url: &str,
        options: RepositoryOptions,
    ) -> Self {
        let place = StoreKind::Remote(store.clone());
        Self {
            objects: Objects::new(store, place, prefix, url, options),
        }
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> &str {
        self.objects.url()
    }

    /// The backups that are there, broken ones too, in the order of their names.
    ///
    /// # Errors
    /// The place cannot be read. What is wrong with a single backup is told with it.
    pub async fn list(&self) -> Result<Vec<ListedBackup>> {
        let names = self.objects.directories("").await?;
        let listed = names.into_iter().map(|name| async {
            match self.metadata(&name).await {
                Ok(metadata) => Ok(ListedBackup::of(name, &metadata)),
                Err(error @ ImportError::Store(_)) if !error.is_damage() => Err(error),
                Err(error) => Ok(ListedBackup::broken(name, &error)),
            }
        });
        futures::stream::iter(listed)
            .buffered(REQUESTS_AT_ONCE)
            .try_collect()
            .await
    }

    /// The backup of a name.
    ///
    /// # Errors
    /// There is none, it is broken, or the server wrote its data itself.
    pub async fn backup(&self, name: &str) -> Result<ImportedBackup> {
        match self.metadata(name).await {
            Ok(metadata) => Ok(ImportedBackup::new(self.clone(), name.to_owned(), metadata)),
            Err(error @ ImportError::Broken { .. }) => {
                let there = self.objects.directories("").await?;
                if there.iter().any(|backup| backup == name) {
                    return Err(error);
                }
                Err(ImportError::NoSuchBackup {
                    url: self.url().to_owned(),
                    name: name.to_owned(),
                    there,
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn metadata(&self, backup: &str) -> Result<BackupMetadata> {
        let read = self.document(&format!("{backup}/metadata.json")).await;
        let metadata: BackupMetadata = match read {
            Err(ImportError::Store(crate::Error::NotFound { .. })) => {
                return Err(ImportError::Broken {
                    url: self.url().to_owned(),
                    backup: backup.to_owned(),
                });
            }
            read => read?,
        };
        if metadata.is_embedded() {
            return Err(ImportError::Embedded {
                backup: backup.to_owned(),
            });
        }
        Ok(metadata)
    }

    async fn table(&self, backup: &str, table: &TableName) -> Result<TableMetadata> {
        self.document(&backup::table_document(backup, table)).await
    }

    async fn document<D: DeserializeOwned + Send>(&self, name: &str) -> Result<D> {
        let read = self.objects.get(name, 0, |bytes| {
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())
        });
        Ok(read.await?)
    }
}

impl ListedBackup {
    fn of(name: String, metadata: &BackupMetadata) -> Self {
        let data = match metadata.compressed_size {
            0 => metadata.data_size,
            compressed => compressed,
        };
        let required = &metadata.required_backup;
        Self {
            name,
            created: metadata.creation_date.clone(),
            bytes: data.saturating_add(metadata.metadata_size),
            required_backup: (!required.is_empty()).then(|| required.clone()),
            beside_tables: metadata.beside_tables(),
            broken: None,
        }
    }

    fn broken(name: String, error: &ImportError) -> Self {
        Self {
            name,
            created: String::new(),
            bytes: 0,
            required_backup: None,
            beside_tables: Vec::new(),
            broken: Some(mendb_model::describe_error(error)),
        }
    }
}
