//! The chains of a collection: one in each repository that it was backed up into, each with a change stream
//! that keeps what its next increment needs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::front::Front;
use crate::front::stream::StreamName;
use crate::journal::used_repository::UsedRepository;

/// A repository that a collection was backed up into, and what its chain there holds back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainHold {
    /// The repository; `None` of a chain from before streams said which.
    pub repository_id: Option<String>,
    /// Where it was when it was used last, if the journal knows.
    pub url: Option<String>,
    /// The last backup that was asked for there, if the journal knows.
    pub backup_id: Option<String>,
    /// When that was, in milliseconds since 1970.
    pub used_at_ms: Option<u64>,
    /// The full backup that the chain begins with; `None` where no change stream goes on with one: the next
    /// backup there has to be a full one.
    pub full_backup: Option<String>,
    /// What is kept for its next increment.
    pub held: Held,
}

/// What the target keeps for a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Changes of rows; `None` where the target does not count them.
    pub changes: Option<u64>,
    /// Bytes of changes, those of indexes included.
    pub bytes: u64,
    /// The bytes of a change log that grew too large, so that the target dropped it: it keeps nothing for the chain any more.
    pub outgrew_bytes: Option<u64>,
}

/// Nothing.
impl Default for Held {
    fn default() -> Self {
        Self {
            changes: Some(0),
            bytes: 0,
            outgrew_bytes: None,
        }
    }
}

impl ChainHold {
    fn of(used: UsedRepository) -> Self {
        Self {
            repository_id: Some(used.repository_id),
            url: Some(used.url),
            backup_id: Some(used.backup_id),
            used_at_ms: Some(used.used_at_ms),
            full_backup: None,
            held: Held::default(),
        }
    }
}

impl Front {
    /// The repositories that a collection was backed up into, and what each holds back; change logs are read
    /// for it.
    ///
    /// # Errors
    /// There is no such collection, or target or journal cannot be read.
    pub fn chain_holds(&self, collection: &str) -> Result<Vec<ChainHold>> {
        let used = self.journal.used_repositories()?.into_iter();
        let of_collection = used.filter(|used| used.collection == collection);
        let mut holds: Vec<ChainHold> = of_collection.map(ChainHold::of).collect();
        for (stream, held) in self.held_by_stream(collection)? {
            let Some(name) = self.name_of(&stream)? else {
                continue;
            };
            let is_it = |hold: &&mut ChainHold| {
                name.repository_id.is_some() && hold.repository_id == name.repository_id
            };
            match holds.iter_mut().find(is_it) {
                Some(hold) => {
                    hold.full_backup = Some(name.full);
                    hold.held = held;
                }
                None => holds.push(ChainHold {
                    repository_id: name.repository_id,
                    url: None,
                    backup_id: None,
                    used_at_ms: None,
                    full_backup: Some(name.full),
                    held,
                }),
            }
        }
        Ok(holds)
    }

    /// Releases what a repository holds back, and forgets that the collection was backed up into it. The
    /// next backup there has to be a full one. The repository is named by its id, by where it was, or by the
    /// full backup that its chain begins with.
    ///
    /// # Errors
    /// There is no such collection or repository, or several; an operation takes a backup of the collection;
    /// target or journal cannot be written.
    pub fn forget_repository(&self, collection: &str, repository: &str) -> Result<ChainHold> {
        let _one_at_a_time = self.requests();
        let found = self.collection(collection)?;
        self.check_idle(&found)?;
        let holds = self.chain_holds(collection)?;
        let is_named = |hold: &&ChainHold| {
            let says = |text: &Option<String>| text.as_deref() == Some(repository);
            says(&hold.repository_id) || says(&hold.url) || says(&hold.full_backup)
        };
        let mut named = holds.iter().filter(is_named);
        let (Some(hold), None) = (named.next(), named.next()) else {
            return Err(Error::refused(
                format!(
                    "collection {collection} was backed up into no repository, or into several, with the name \
                     {repository:?}"
                ),
                format!("mendb collection show {collection} names each by its id"),
            ));
        };
        for (stream, _) in self.held_by_stream(collection)? {
            let Some(name) = self.name_of(&stream)? else {
                continue;
            };
            let is_it = name.repository_id == hold.repository_id
                && Some(&name.full) == hold.full_backup.as_ref();
            if is_it {
                self.tools.engine.rows()?.detach_stream(&stream)?;
            }
        }
        if let Some(id) = &hold.repository_id {
            self.journal.forget_repository(collection, id)?;
        }
        Ok(hold.clone())
    }

    /// What the name of a stream says, with the repository that the journal knows where it does not say.
    fn name_of(&self, stream: &str) -> Result<Option<StreamName>> {
        let Ok(mut name) = stream.parse::<StreamName>() else {
            return Ok(None);
        };
        if name.repository_id.is_none() {
            let operations = self.journal.operations()?;
            let began = operations.iter().find(|operation| {
                let request = operation.request.row_backup();
                request.is_some_and(|request| request.stream == stream)
            });
            name.repository_id = began.map(|operation| operation.repository_id.clone());
        }
        Ok(Some(name))
    }

    /// What each stream of a collection holds back, over its tables.
    fn held_by_stream(&self, collection: &str) -> Result<BTreeMap<String, Held>> {
        let live = self.tools.engine.live_rows()?;
        let mut held: BTreeMap<String, Held> = BTreeMap::new();
        for table in &self.collection(collection)?.tables {
            let Some(found) = live.inspect(table)? else {
                continue;
            };
            let is_ours = |stream: &str| {
                stream
                    .parse::<StreamName>()
                    .is_ok_and(|name| name.collection == collection)
            };
            for stream in found.streams.iter().filter(|stream| is_ours(&stream.name)) {
                let of_stream = held.entry(stream.name.clone()).or_default();
                of_stream.outgrew_bytes = of_stream.outgrew_bytes.max(stream.outgrew_bytes);
            }
            for of_table in live.held_back(table)? {
                if let Some(of_stream) = held.get_mut(&of_table.stream) {
                    let both = of_stream.changes.zip(of_table.changes);
                    of_stream.changes = both.map(|(one, other)| one + other);
                    of_stream.bytes += of_table.bytes;
                }
            }
        }
        Ok(held)
    }
}
