//! Where a log can be, and what is there before one is used.

use std::sync::Arc;

use bytes::Bytes;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::identity::{self, IDENTITY, LogId};
use super::leading::LEADER;
use super::{ENTRIES, Log, SNAPSHOTS};
use crate::error::{Error, Result};
use crate::layout;
use crate::location::Location;
use crate::objects::{Created, Objects, StoreKind};
use crate::options::RepositoryOptions;
use crate::random::random_id;

/// What the objects are called that try out what a store does.
const PROBE: &str = "check-";

/// A place that holds a log, or can.
#[derive(Debug, Clone)]
pub struct LogPlace {
    objects: Objects,
}

/// What is in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogThere {
    /// Nothing.
    Nothing,
    /// A log.
    Log(LogId),
    /// Objects of a log without its identity: an older mendb made it, or the identity was removed.
    Unnamed,
}

impl LogPlace {
    /// The place at the URL of one that could be a repository. Nothing is read.
    ///
    /// `lease_ms` of the options is how long a leader may say nothing before others take over.
    ///
    /// # Errors
    /// The URL is none.
    pub fn open(url: &str, options: RepositoryOptions) -> Result<Self> {
        let Location {
            store,
            place,
            prefix,
            url,
        } = Location::parse(url, &options)?;
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

    /// The log with an id, whether or not it is here.
    pub fn log(&self, id: LogId) -> Log {
        Log {
            objects: self.objects.clone(),
            id,
        }
    }

    /// What is here.
    ///
    /// # Errors
    /// [`Error::NoLogPlace`] where something else is, or the place lies in a repository; [`Error::NoBucket`]; the
    /// identity is damaged or of another format; or the store fails.
    pub async fn look(&self) -> Result<LogThere> {
        let listed = self.objects.names().await;
        let names = listed.map_err(|error| {
            // S3 has a word for it, which its client passes on in its text.
            match mendb_model::describe_error(&error).contains("NoSuchBucket") {
                true => Error::NoBucket {
                    place: self.url().to_owned(),
                },
                false => error,
            }
        })?;
        let known = identity::read(&self.objects).await?;
        let holds = |name: &str| names.iter().any(|there| there == name);
        if holds(layout::HEADER) {
            return Err(self.no_place(format!(
                "it holds {}, as a repository does: name a place of its own for the journal",
                layout::HEADER
            )));
        }
        self.check_around().await?;
        if let Some(id) = known {
            return Ok(LogThere::Log(id));
        }
        if let Some(other) = names.iter().find(|name| !is_of_log(name)) {
            return Err(self.no_place(format!(
                "it holds {other}, which is nothing of a journal: name a place where nothing is"
            )));
        }
        Ok(match holds(ENTRIES) || holds(SNAPSHOTS) {
            true => LogThere::Unnamed,
            false => LogThere::Nothing,
        })
    }

    /// Makes the log where nothing is, or names one that an older mendb made, if that is whole. Of several at the same
    /// time one does, and the others find it.
    ///
    /// # Errors
    /// The log that is there is damaged, or the store fails.
    pub async fn create(&self) -> Result<LogId> {
        if let Some(id) = identity::read(&self.objects).await? {
            return Ok(id);
        }
        let id = LogId::draw();
        // Where objects are and the first are not, a log was removed, and this is none.
        self.log(id.clone()).read_all(&mut |_| Ok(())).await?;
        identity::create(&self.objects, &id).await
    }

    /// Refuses the place where it and a repository lie in each other. Nothing is read.
    ///
    /// # Errors
    /// [`Error::NoLogPlace`]; or the URL of the repository is none.
    pub fn check_apart_from(&self, repository: &str, options: &RepositoryOptions) -> Result<()> {
        let other = Location::parse(repository, options)?;
        let of_store = |url: &str, prefix: &Path| {
            let path = prefix.as_ref();
            let store = url.strip_suffix(path).unwrap_or(url);
            store.trim_end_matches('/').to_owned()
        };
        let is_same_store = match (&self.objects.place, &other.place) {
            (StoreKind::Directory(_), StoreKind::Directory(_)) => true,
            (StoreKind::Remote(_), StoreKind::Remote(_)) => {
                of_store(self.url(), self.objects.prefix()) == of_store(&other.url, &other.prefix)
            }
            _ => false,
        };
        let (ours, theirs) = (self.objects.prefix(), &other.prefix);
        if is_same_store && (ours.prefix_matches(theirs) || theirs.prefix_matches(ours)) {
            return Err(self.no_place(format!(
                "it and the repository {} lie in each other: name a place of its own for the journal",
                other.url
            )));
        }
        Ok(())
    }

    /// Refuses a place that lies in a repository.
    async fn check_around(&self) -> Result<()> {
        let parts: Vec<_> = self.objects.prefix().parts().collect();
        for depth in 0..parts.len() {
            let above = parts[..depth].iter().map(|part| part.as_ref().to_owned());
            let above: Vec<String> = above.collect();
            let header = above.iter().map(String::as_str).chain([layout::HEADER]);
            let header = header.collect::<Vec<_>>().join("/");
            let Ok(header) = Path::parse(&header) else {
                continue;
            };
            let look = self
                .objects
                .retry("look for", header.as_ref(), 0, || async {
                    Ok(self.objects.store.head(&header).await?)
                });
            match look.await {
                Ok(_) => {
                    return Err(self.no_place(format!(
                        "it lies in the repository that has /{header}: name a place of its own for the journal"
                    )));
                }
                Err(error) if error.is_retriable() => return Err(error),
                // Nothing is there; or who may not read that has no repository there.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn no_place(&self, detail: String) -> Error {
        Error::NoLogPlace {
            log: self.url().to_owned(),
            detail,
        }
    }

    /// Finds out whether several processes can share the place: it is outside of this one, and its store keeps the
    /// conditions of writes, which is tried out with an object that is gone afterwards.
    ///
    /// # Errors
    /// [`Error::NoSharedLog`] when they cannot; or the store fails.
    pub async fn check_conditions(&self) -> Result<()> {
        if self.url().starts_with("memory:") {
            return Err(Error::NoSharedLog {
                log: self.url().to_owned(),
                detail: "it is in the memory of one process".to_owned(),
            });
        }
        if matches!(self.objects.place, StoreKind::Directory(_)) {
            return Ok(());
        }
        let name = format!("{PROBE}{}", random_id());
        let checked = self.try_conditions(&name).await;
        let deleted = self.objects.delete(&name).await;
        checked.and(deleted).map_err(of_log)
    }

    async fn try_conditions(&self, name: &str) -> Result<()> {
        let objects = &self.objects;
        let texts = ["the first text", "another text", "a third text"];
        let [first, second, third] = texts.map(|text| Bytes::from_static(text.as_bytes()));
        let lacks = |detail: &str| Err(objects.no_conditions(detail));
        objects.create(name, first.clone()).await?;
        if objects.create(name, second.clone()).await? == Created::Yes {
            return lacks("its store writes over an object that is only to be created");
        }
        let Some(seen) = objects.see(name).await? else {
            return lacks("its store does not have what was just written");
        };
        if seen.bytes != first {
            return lacks("its store writes over an object that is only to be created");
        }
        if objects.replace(name, &seen, second).await?.is_none() {
            return lacks("its store does not replace an object that has not changed");
        }
        if objects.replace(name, &seen, third).await?.is_some() {
            return lacks("its store replaces an object that has changed meanwhile");
        }
        Ok(())
    }
}

/// Whether something of this name may be where a log is made.
fn is_of_log(name: &str) -> bool {
    // The last is in the root of a file system.
    let known = [
        IDENTITY,
        LEADER,
        ENTRIES,
        SNAPSHOTS,
        layout::LOCK,
        "lost+found",
    ];
    known.contains(&name) || name.starts_with(PROBE)
}

/// The same error as who keeps a log means it.
fn of_log(error: Error) -> Error {
    match error {
        Error::NoConditions { repository, detail } => Error::NoSharedLog {
            log: repository,
            detail,
        },
        error => error,
    }
}
