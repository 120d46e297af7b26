//! One backup of clickhouse-backup: what is in it, and its parts.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt};
use mendb_model::part::{
    DatabaseBackup, Mutation, Part, PartStoreBackup, PartTable, TableDefinition, TableName, inner,
};

use super::chain::{Located, Search, listed_twice};
use super::error::{ImportError, PartOf, Result};
use super::metadata::{BackupMetadata, TableMetadata};
use super::order::in_creation_order;
use super::part_locations::PartLocations;
use super::path_name::encode;
use super::received::Promise;
use super::stored::Stored;
use super::{ImportedBackups, ddl};
use crate::objects::{REQUESTS_AT_ONCE, REREADS};

/// Parts that are looked into at once to learn what they are: some have to be unpacked for it.
const LOOKS_AT_ONCE: usize = 8;

/// A backup of clickhouse-backup.
#[derive(Debug, Clone)]
pub struct ImportedBackup {
    place: ImportedBackups,
    name: String,
    metadata: Arc<BackupMetadata>,
    /// The parts that were asked for last: finding them can cost a lot.
    last: Arc<Mutex<Option<PartsOfTable>>>,
}

type PartsOfTable = (TableName, Vec<ImportedPart>);

/// What a backup has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedContents {
    /// The version of the server, as clickhouse-backup wrote it.
    pub server_version: String,
    /// The backup that this one needs for parts that it does not have itself.
    pub required_backup: Option<String>,
    /// Databases of its tables.
    pub databases: Vec<DatabaseBackup>,
    /// Its tables, views and dictionaries, in an order in which they can be created.
    pub tables: Vec<ImportedTable>,
}

/// A table of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedTable {
    /// What it was, as the statement tells that creates it. Its storage policy is empty where the
    /// statement names none.
    pub definition: TableDefinition,
    /// Parts, those included that are in other backups.
    pub parts: u64,
    /// Of these, parts that are in other backups.
    pub required_parts: u64,
    /// Bytes of its parts, as the server told.
    pub bytes: u64,
    /// Only its schema was backed up.
    pub schema_only: bool,
    /// Mutations that were not finished. How many parts each still had to do is not known (0), and
    /// downloaded backups have lost theirs.
    pub mutations: Vec<Mutation>,
}

/// A part of a backup.
#[derive(Debug, Clone)]
pub struct ImportedPart {
    /// The part as it was. Its rows are 0 where [`Self::rows_known`] is false.
    pub part: Part,
    /// Whether its rows were read. They are not where that would mean to unpack it.
    pub rows_known: bool,
    /// The backup that has it: the one that was asked for, or one that it requires.
    pub backup: String,
    /// Whether it was found by its name only: the backup that was asked for does not tell its content, so
    /// it is taken on trust that the part of this name in [`Self::backup`] is the one it means.
    pub ambiguous: bool,
    crc64: Option<u64>,
    stored: Stored,
}

/// What fetching a part moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchedPart {
    /// Bytes that were read from the place of the backup, packed as they are there.
    pub bytes: u64,
    /// Requests that it took, repeats not counted.
    pub requests: u64,
    /// Bytes of the files that were written.
    pub file_bytes: u64,
    /// Rows of the part, where its files tell.
    pub rows: Option<u64>,
}

impl ImportedContents {
    /// The contents as those of a backup of a part store. Parts are not in it: the tables have no lists and
    /// no `current_parts`, so a mend compares two states.
    pub fn part_store(&self) -> PartStoreBackup {
        let tables = self.tables.iter().map(|table| PartTable {
            definition: table.definition.clone(),
            current_parts: None,
            partitions: None,
            mutations: table.mutations.clone(),
            lists: Vec::new(),
        });
        PartStoreBackup {
            databases: self.databases.clone(),
            tables: tables.collect(),
            ..PartStoreBackup::new(self.server_version.clone(), None)
        }
    }
}

impl ImportedBackup {
    pub(super) fn new(place: ImportedBackups, name: String, metadata: BackupMetadata) -> Self {
        Self {
            place,
            name,
            metadata: Arc::new(metadata),
            last: Arc::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has that is not read: users and rights, configuration files, named collections, functions.
    pub fn beside_tables(&self) -> Vec<String> {
        self.metadata.beside_tables()
    }

    /// What is in it. Reads the document of every table.
    ///
    /// # Errors
    /// A document is missing or damaged, or the statement of a table with parts cannot be read.
    pub async fn contents(&self) -> Result<ImportedContents> {
        let read = self.metadata.tables.iter().map(|title| {
            let stored = TableName::new(&title.database, &title.table);
            async move {
                let metadata = self.place.table(&self.name, &stored).await?;
                Ok::<_, ImportError>((stored, metadata))
            }
        });
        let read: Vec<(TableName, TableMetadata)> = futures::stream::iter(read)
            .buffered(REQUESTS_AT_ONCE)
            .try_collect()
            .await?;
        let views = ViewsByUuid::of(&read);
        let tables: Vec<ImportedTable> = read
            .iter()
            .map(|(stored, metadata)| self.describe(stored, metadata, &views))
            .collect::<Result<_>>()?;
        let definitions = tables.iter().map(|table| table.definition.clone());
        let order = in_creation_order(definitions.collect());
        let mut by_name: HashMap<TableName, ImportedTable> = tables
            .into_iter()
            .map(|table| (table.definition.name.clone(), table))
            .collect();
        let tables = order.iter().filter_map(|table| by_name.remove(&table.name));
        let required = &self.metadata.required_backup;
        let databases = self.metadata.databases.iter();
        Ok(ImportedContents {
            server_version: self.metadata.clickhouse_version.clone(),
            required_backup: (!required.is_empty()).then(|| required.clone()),
            databases: databases
                .map(|database| DatabaseBackup {
                    name: database.name.clone(),
                    engine: database.engine.clone(),
                    create_query: database.query.clone(),
                })
                .collect(),
            tables: tables.collect(),
        })
    }

    fn describe(
        &self,
        stored: &TableName,
        metadata: &TableMetadata,
        views: &ViewsByUuid,
    ) -> Result<ImportedTable> {
        let (name, query) = views.named(stored, &metadata.query);
        let definition =
            ddl::definition(&name, &query).map_err(|detail| ImportError::Statement {
                backup: self.name.clone(),
                table: stored.clone(),
                detail,
            })?;
        let parts = || metadata.parts.values().flatten();
        Ok(ImportedTable {
            definition,
            parts: parts().count() as u64,
            required_parts: parts().filter(|part| part.required).count() as u64,
            bytes: metadata.total_bytes,
            schema_only: metadata.metadata_only,
            mutations: metadata
                .mutations
                .iter()
                .map(|mutation| Mutation {
                    mutation_id: mutation.mutation_id.clone(),
                    command: mutation.command.clone(),
                    parts_to_do: 0,
                })
                .collect(),
        })
    }

    /// The parts of a table, in the order of their partitions and blocks. Each was found where it is
    /// stored, in this backup or in one that it requires.
    ///
    /// Costs a listing of the table's directory in each of these backups and, for parts that are files, a
    /// small request each for their rows. A part whose hash no document tells is looked into, which reads
    /// up to its whole archive: backups of servers before 19.11 cost as much as fetching them. Asking for
    /// the parts of the same table again costs nothing.
    ///
    /// # Errors
    /// The table is not in the backup or only its schema is; a part, or a backup that it is in, is missing;
    /// a part is referred to by name, and the part of that name has other content; parts are on disks or in
    /// archives that are not read.
    pub async fn parts(&self, table: &TableName) -> Result<Vec<ImportedPart>> {
        if let Some((last, parts)) = &*self.last()
            && last == table
        {
            return Ok(parts.clone());
        }
        let parts = self.find_parts(table).await?;
        *self.last() = Some((table.clone(), parts.clone()));
        Ok(parts)
    }

    fn last(&self) -> MutexGuard<'_, Option<PartsOfTable>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find_parts(&self, table: &TableName) -> Result<Vec<ImportedPart>> {
        let stored = self.stored_name(table).await?;
        let table = &stored;
        let (links, located) = self.locate(table).await?;
        let mut locations = Vec::with_capacity(links.len());
        for (place, (backup, metadata)) in links.iter().enumerate() {
            let is_needed = located.iter().any(|part| part.link == place);
            locations.push(match is_needed {
                true => {
                    let objects = &self.place.objects;
                    Some(PartLocations::look(objects, backup, metadata, table).await?)
                }
                false => None,
            });
        }
        let mut found = Vec::with_capacity(located.len());
        for part in located {
            let (backup, metadata) = &links[part.link];
            let of = PartOf {
                backup: backup.clone(),
                table: table.clone(),
                part: part.name.clone(),
            };
            check_disk(metadata, &of, &part)?;
            let location = locations[part.link].as_mut().expect("it has parts");
            found.push((location.find(&part, &of)?, part, of));
        }
        let looked_into = found
            .into_iter()
            .map(|(stored, part, of)| look_into(stored, part, of));
        let mut parts: Vec<ImportedPart> = futures::stream::iter(looked_into)
            .buffered(LOOKS_AT_ONCE)
            .try_collect()
            .await?;
        parts.sort_by(|a, b| {
            let key = |part: &ImportedPart| (part.part.partition_id.clone(), part.part.order());
            key(a).cmp(&key(b))
        });
        Ok(parts)
    }

    /// What the backup calls a table: that of a view may be stored by the UUID of the view.
    async fn stored_name(&self, table: &TableName) -> Result<TableName> {
        let view = inner::view_of_table(table).filter(|view| self.lists(view));
        let Some(view) = view.filter(|_| !self.lists(table)) else {
            return Ok(table.clone());
        };
        let metadata = self.place.table(&self.name, &view).await?;
        let by_uuid = uuid_of(&metadata)
            .map(|uuid| TableName::new(&table.database, inner::by_uuid(&uuid)))
            .filter(|stored| self.lists(stored));
        Ok(by_uuid.unwrap_or_else(|| table.clone()))
    }

    /// Whether the backup lists a table by this name.
    fn lists(&self, stored: &TableName) -> bool {
        let mut titles = self.metadata.tables.iter();
        titles.any(|title| title.database == stored.database && title.table == stored.table)
    }

    /// Finds out which backup of the chain has which part. The chain is read as far as it is needed.
    async fn locate(
        &self,
        table: &TableName,
    ) -> Result<(Vec<(String, Arc<BackupMetadata>)>, Vec<Located>)> {
        if !self.lists(table) {
            return Err(ImportError::NoSuchTable {
                backup: self.name.clone(),
                table: table.clone(),
            });
        }
        let metadata = self.place.table(&self.name, table).await?;
        if metadata.metadata_only {
            return Err(ImportError::SchemaOnly {
                backup: self.name.clone(),
                table: table.clone(),
            });
        }
        let mut search = Search::begin(table, &self.name, &metadata);
        let mut links = vec![(self.name.clone(), Arc::clone(&self.metadata))];
        while search.needs().is_some() {
            let parent = links[links.len() - 1].1.required_backup.clone();
            search.check(&parent)?;
            let metadata = match self.place.metadata(&parent).await {
                Err(ImportError::Broken { .. }) => {
                    let problem = format!("{parent} does not exist or has no metadata.json");
                    return Err(search.missing(problem));
                }
                metadata => metadata?,
            };
            let there = match self.place.table(&parent, table).await {
                Err(ImportError::Store(crate::Error::NotFound { .. })) => {
                    return Err(search.missing(format!("{parent} has no table {table}")));
                }
                there => there?,
            };
            search.descend(&parent, &there)?;
            links.push((parent, Arc::new(metadata)));
        }
        let located = search.finish();
        match listed_twice(&located) {
            Some(part) => {
                let of = PartOf {
                    backup: self.name.clone(),
                    table: table.clone(),
                    part: part.name.clone(),
                };
                Err(of.damaged("the backup lists it twice"))
            }
            None => Ok((links, located)),
        }
    }

    /// Writes the files of a part into a directory, which is created if it is absent, and proves that they
    /// are what the part's `checksums.txt` says and what [`ImportedPart::part`] promises. Memory: some
    /// megabytes, whatever the size of the part.
    ///
    /// What arrives damaged is read again, whole. Nothing is synced. When it fails, the directory holds
    /// whatever was written so far: remove it, or fetch into it again, which begins anew. When the future
    /// is dropped, threads may write to it until their next read. A file of the directory that the part
    /// does not have is an error.
    ///
    /// # Errors
    /// The part is damaged, or another one of the same name; it cannot be read or written.
    pub async fn fetch_part(
        &self,
        table: &TableName,
        part: &ImportedPart,
        into: &Path,
    ) -> Result<FetchedPart> {
        let of = PartOf {
            backup: part.backup.clone(),
            table: table.clone(),
            part: part.part.name.clone(),
        };
        let promise = Promise {
            hash: part.part.hash,
            crc64: part.crc64,
        };
        let traffic = Arc::default();
        let mut attempts = 1 + REREADS;
        let written = loop {
            attempts -= 1;
            match part.stored.fetch(&of, into, promise, &traffic).await {
                Err(ImportError::Archive { .. } | ImportError::DamagedPart { .. })
                    if attempts > 0 => {}
                fetched => break fetched?,
            }
        };
        Ok(FetchedPart {
            bytes: traffic.bytes(),
            requests: traffic.requests(),
            file_bytes: written.bytes,
            rows: written.rows,
        })
    }
}

/// Names of materialized views that keep their rows in a table beside them, by database and UUID.
struct ViewsByUuid(HashMap<(String, String), String>);

impl ViewsByUuid {
    /// Those among the tables of a backup.
    fn of(tables: &[(TableName, TableMetadata)]) -> Self {
        let names: HashSet<&TableName> = tables.iter().map(|(stored, _)| stored).collect();
        let views = tables.iter().filter_map(|(stored, metadata)| {
            let own = TableName::new(&stored.database, inner::of_view(&stored.table));
            let uuid = uuid_of(metadata)?;
            // A view that came from an `Ordinary` database has kept the old name of its table.
            (!names.contains(&own)).then(|| ((stored.database.clone(), uuid), stored.table.clone()))
        });
        Self(views.collect())
    }

    /// The name of a table here, and its statement with that name: see [`inner`].
    fn named(&self, stored: &TableName, query: &str) -> (TableName, String) {
        let view = inner::uuid_of_view(&stored.table).and_then(|uuid| {
            let key = (stored.database.clone(), uuid.to_owned());
            Some((uuid, self.0.get(&key)?))
        });
        match view {
            Some((uuid, view)) => (
                TableName::new(&stored.database, inner::of_view(view)),
                inner::renamed(query, uuid, view),
            ),
            None => (stored.clone(), query.to_owned()),
        }
    }
}

/// The UUID of a table, as a backup has it.
fn uuid_of(metadata: &TableMetadata) -> Option<String> {
    let told = Some(&metadata.uuid).filter(|uuid| !uuid.is_empty());
    told.cloned().or_else(|| ddl::uuid(&metadata.query))
}

/// Refuses parts on disks whose files in a backup are not those of the part.
fn check_disk(metadata: &BackupMetadata, of: &PartOf, part: &Located) -> Result<()> {
    let disk_type = metadata.disk_types.get(&part.stored_disk);
    match disk_type {
        Some(disk_type) if !disk_type.is_empty() && !disk_type.eq_ignore_ascii_case("local") => {
            Err(ImportError::Disk {
                of: Box::new(of.clone()),
                disk: part.stored_disk.clone(),
                disk_type: disk_type.clone(),
            })
        }
        _ => Ok(()),
    }
}

/// Learns of a part what no document tells.
async fn look_into(stored: Stored, part: Located, of: PartOf) -> Result<ImportedPart> {
    let (hash, rows) = match part.hash {
        Some(hash) => (hash, stored.rows(&of).await?),
        None => {
            let identity = stored.identify(&of).await?;
            let hash = identity.hash;
            (
                hash.ok_or_else(|| of.missing("its checksums.txt is in no archive"))?,
                identity.rows,
            )
        }
    };
    let bytes = stored.bytes().unwrap_or(part.bytes);
    let described = Part::new(&part.name, rows.unwrap_or(0), bytes, hash, &part.disk);
    Ok(ImportedPart {
        part: described.map_err(|source| ImportError::PartName {
            of: Box::new(of.clone()),
            source,
        })?,
        rows_known: rows.is_some(),
        backup: of.backup,
        ambiguous: part.ambiguous,
        crc64: part.crc64,
        stored,
    })
}

/// The document of a table, below the directory of all backups.
pub(super) fn table_document(backup: &str, table: &TableName) -> String {
    let (database, table) = (encode(&table.database), encode(&table.table));
    format!("{backup}/metadata/{database}/{table}.json")
}
