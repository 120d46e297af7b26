//! The source of the parts of a mend, opened: a backup, the freeze of an undone mend, or an imported backup.

use std::path::{Path, PathBuf};

use mendb_engines::FrozenPart;
use mendb_model::manifest::Manifest;
use mendb_model::name::OperationId;
use mendb_model::operation::{ChainLink, Drill, MendRequest, MendSource, TableMend};
use mendb_model::part::{
    Inventory, Mutation, ObjectRef, PartRecord, PartStoreBackup, PartTable, TableDefinition,
    TableName, Wanted,
};

use mendb_repo::clickhouse_backup::{ImportError, ImportedBackup, ImportedBackups, ImportedPart};

use super::drill::sample;
use super::kept_names::undo_freeze;
use crate::attempt::{Attempt, Tools};
use crate::error::{Error, Result};
use crate::manifests::changed;
use crate::task_error::{TaskError, TaskResult};

/// What a mend works towards.
pub(super) enum OpenedSource<'a> {
    /// A backup of the repository.
    Backup {
        attempt: &'a Attempt<'a>,
        collection: &'a str,
        link: &'a ChainLink,
        store: PartStoreBackup,
        drill: Option<&'a Drill>,
    },
    /// What another mend froze before it changed anything.
    Undo {
        attempt: &'a Attempt<'a>,
        mended: &'a OperationId,
    },
    /// A backup of clickhouse-backup.
    Imported {
        attempt: &'a Attempt<'a>,
        backup: ImportedBackup,
        store: PartStoreBackup,
    },
}

/// A part that has to come, with what is needed to bring it.
pub(super) enum Content {
    /// Its files, in the repository.
    Record(PartRecord),
    /// A directory of the server to link it from.
    Directory(PathBuf),
    /// To be unpacked from an imported backup.
    Imported(ImportedPart),
}

impl<'a> OpenedSource<'a> {
    pub(super) fn open(attempt: &'a Attempt<'a>, request: &'a MendRequest) -> TaskResult<Self> {
        match &request.source {
            MendSource::Backup {
                collection,
                link,
                shard,
                ..
            } => {
                let manifest = attempt.manifest(collection, link)?;
                let store = store_of(attempt.tools, &manifest, shard.as_deref())?;
                Ok(Self::Backup {
                    attempt,
                    collection,
                    link,
                    store,
                    drill: request.drill.as_ref(),
                })
            }
            MendSource::Undo { operation_id } => Ok(Self::Undo {
                attempt,
                mended: operation_id,
            }),
            MendSource::Imported { url, name } => {
                let backup = attempt.wait(imported(attempt.tools, url, name))?;
                let store = attempt.wait(backup.contents())?.part_store();
                Ok(Self::Imported {
                    attempt,
                    backup,
                    store,
                })
            }
        }
    }

    /// Whether what it brings is another copy than what is live: what was kept to undo by is linked.
    pub(super) fn can_replace_damaged(&self) -> bool {
        !matches!(self, Self::Undo { .. })
    }

    /// What a table was; `None` where the source does not tell.
    pub(super) fn definition(&self, table: &TableName) -> Option<&TableDefinition> {
        let store = match self {
            Self::Backup { store, .. } | Self::Imported { store, .. } => store,
            Self::Undo { .. } => return None,
        };
        store.table(table).map(|table| &table.definition)
    }

    /// The partitions of a table that the source was told to hold; `None` for all.
    pub(super) fn partitions(&self, table: &TableName) -> Option<&[String]> {
        let store = match self {
            Self::Backup { store, .. } | Self::Imported { store, .. } => store,
            Self::Undo { .. } => return None,
        };
        store.table(table)?.partitions.as_deref()
    }

    /// Mutations of a table that were not finished in the source.
    pub(super) fn mutations(&self, table: &TableName) -> &[Mutation] {
        let store = match self {
            Self::Backup { store, .. } | Self::Imported { store, .. } => store,
            Self::Undo { .. } => return &[],
        };
        store
            .table(table)
            .map_or(&[][..], |table| table.mutations.as_slice())
    }

    /// What lived in the table when the backup was made; `None` where the backup does not tell.
    pub(super) fn current_parts(&self, table: &TableName) -> TaskResult<Option<Inventory>> {
        let Self::Backup { store, .. } = self else {
            return Ok(None);
        };
        let at = store
            .table(table)
            .and_then(|table| table.current_parts.as_ref());
        at.map(|at| self.document(at)).transpose()
    }

    /// The parts that should be live, in the order of the backup's lists: none of a table that is to go.
    pub(super) fn wanted(&self, mend: &TableMend) -> TaskResult<Vec<Wanted>> {
        let mut wanted = Vec::new();
        let table = &mend.source;
        if mend.undo.is_some() {
            return Ok(wanted);
        }
        match self {
            Self::Backup { drill, .. } => {
                for (list, at) in (0u32..).zip(&self.table(table)?.lists) {
                    let records: Vec<PartRecord> = self.document(&at.at)?;
                    wanted.extend((0u32..).zip(records).map(|(position, record)| Wanted {
                        is_empty: record.part.has_no_rows(),
                        part: record.part,
                        list,
                        position,
                    }));
                }
                if let Some(drill) = drill {
                    wanted = sample(drill, table, wanted);
                }
            }
            Self::Undo { attempt, .. } => {
                let engine = attempt.tools.engine.parts()?;
                for (position, part) in (0u32..).zip(self.frozen(table)?) {
                    let part = engine
                        .read_part(&part.directory, &part.name, &part.disk)?
                        .part;
                    wanted.push(Wanted {
                        is_empty: part.has_no_rows(),
                        part,
                        list: 0,
                        position,
                    });
                }
            }
            Self::Imported {
                attempt, backup, ..
            } => {
                let parts = attempt.wait(backup.parts(table))?;
                wanted.extend((0u32..).zip(parts).map(|(position, part)| Wanted {
                    is_empty: part.rows_known && part.part.has_no_rows(),
                    part: part.part,
                    list: 0,
                    position,
                }));
            }
        }
        Ok(wanted)
    }

    /// Calls `each` with every part that is asked for, by its place in [`Self::wanted`]. Of a backup's
    /// lists, one is in memory at a time.
    pub(super) fn contents(
        &self,
        table: &TableName,
        wanted: &[Wanted],
        chosen: &[u32],
        mut each: impl FnMut(u32, Content) -> TaskResult<()>,
    ) -> TaskResult<()> {
        if chosen.is_empty() {
            return Ok(());
        }
        let place = |at: u32| {
            let wanted = wanted.get(at as usize);
            wanted
                .ok_or_else(|| TaskError::Proof(format!("{table} has no wanted part number {at}")))
        };
        let mut chosen = chosen.to_vec();
        chosen.sort_unstable();
        match self {
            Self::Backup { .. } => {
                let lists = &self.table(table)?.lists;
                let mut open: Option<(u32, Vec<PartRecord>)> = None;
                for at in chosen {
                    let Wanted {
                        list,
                        position,
                        part,
                        ..
                    } = place(at)?;
                    if open.as_ref().is_none_or(|(open, _)| open != list) {
                        let of = lists
                            .get(*list as usize)
                            .ok_or_else(|| gone(table, &part.name))?;
                        open = Some((*list, self.document(&of.at)?));
                    }
                    let records = open.as_ref().map(|(_, records)| records);
                    let record = records.and_then(|records| records.get(*position as usize));
                    let record = record.ok_or_else(|| gone(table, &part.name))?;
                    each(at, Content::Record(record.clone()))?;
                }
            }
            Self::Undo { .. } => {
                let frozen = self.frozen(table)?;
                for at in chosen {
                    let Wanted { position, part, .. } = place(at)?;
                    let found = frozen.get(*position as usize);
                    let found = found.ok_or_else(|| gone(table, &part.name))?;
                    each(at, Content::Directory(found.directory.clone()))?;
                }
            }
            Self::Imported {
                attempt, backup, ..
            } => {
                let parts = attempt.wait(backup.parts(table))?;
                for at in chosen {
                    let Wanted { position, part, .. } = place(at)?;
                    let found = parts.get(*position as usize);
                    let found = found.ok_or_else(|| gone(table, &part.name))?;
                    each(at, Content::Imported(found.clone()))?;
                }
            }
        }
        Ok(())
    }

    /// What is to be known of the wanted parts beside what they are.
    pub(super) fn notes(&self, table: &TableName, chosen: &[u32]) -> TaskResult<Vec<String>> {
        let Self::Imported {
            attempt, backup, ..
        } = self
        else {
            return Ok(Vec::new());
        };
        let parts = attempt.wait(backup.parts(table))?;
        let chosen = chosen.iter().filter_map(|at| parts.get(*at as usize));
        let note = |part: &ImportedPart| {
            format!(
                "part {} is in backup {} by its name only: its hash {} was read from its files and is checked again \
                 when it is fetched",
                part.part.name, part.backup, part.part.hash
            )
        };
        Ok(chosen.filter(|part| part.ambiguous).map(note).collect())
    }

    /// Unpacks a part of an imported backup. Returns the bytes that were read for it.
    pub(super) fn unpack(
        &self,
        table: &TableName,
        part: &ImportedPart,
        into: &Path,
    ) -> TaskResult<u64> {
        match self {
            Self::Imported {
                attempt, backup, ..
            } => Ok(attempt.wait(backup.fetch_part(table, part, into))?.bytes),
            Self::Backup { .. } | Self::Undo { .. } => Err(gone(table, &part.part.name)),
        }
    }

    fn table(&self, table: &TableName) -> TaskResult<&PartTable> {
        let found = match self {
            Self::Backup { store, .. } => store.table(table),
            Self::Undo { .. } | Self::Imported { .. } => None,
        };
        found.ok_or_else(|| TaskError::Proof(format!("the backup has no table {table}")))
    }

    fn frozen(&self, table: &TableName) -> TaskResult<Vec<FrozenPart>> {
        match self {
            Self::Undo { attempt, mended } => {
                let freeze = undo_freeze(mended, table);
                Ok(attempt.tools.engine.parts()?.frozen(&freeze, table)?)
            }
            Self::Backup { .. } | Self::Imported { .. } => Ok(Vec::new()),
        }
    }

    fn document<T: serde::de::DeserializeOwned + Send>(&self, at: &ObjectRef) -> TaskResult<T> {
        match self {
            Self::Backup {
                attempt,
                collection,
                link,
                ..
            } => {
                let repository = &attempt.tools.repository;
                attempt.wait(repository.document_at(collection, &link.backup_id, at))
            }
            Self::Undo { .. } | Self::Imported { .. } => Err(TaskError::Proof(format!(
                "the source has no document {}",
                at.object
            ))),
        }
    }
}

/// What a backup has for the target, or of the shard that is named.
fn store_of(
    tools: &Tools,
    manifest: &Manifest,
    shard: Option<&str>,
) -> TaskResult<PartStoreBackup> {
    let id = &manifest.backup_id;
    let refused = |why: String| Err(TaskError::Proof(format!("backup {id} {why}")));
    let Some(store) = &manifest.part_store else {
        return refused("is one of rows, not of parts".to_owned());
    };
    let shards: Vec<&str> = store.shards.iter().map(|it| it.shard.as_str()).collect();
    if let Some(named) = shard
        && !shards.contains(&named)
    {
        return refused(match shards.is_empty() {
            true => "is of one server, which is no shard: leave --shard out".to_owned(),
            false => format!("has no shard {named}: it has {}", shards.join(", ")),
        });
    }
    let mut own = store.shards.iter().filter(|it| tools.is_of(&it.target));
    if let (Some(named), Some(known)) = (shard, own.clone().next())
        && own.all(|it| it.shard != named)
    {
        return refused(format!(
            "knows this server as shard {}, and it is to become shard {named}, whose rows are others: give each server of \
             the list the name of its shard",
            known.shard
        ));
    }
    match tools.own_store(manifest, shard) {
        Some(own) => Ok(own.into_owned()),
        None => refused(format!(
            "is of a cluster, with the shards {}: --shard says which of them this server is to be",
            shards.join(", ")
        )),
    }
}

fn gone(table: &TableName, part: &str) -> TaskError {
    TaskError::Proof(format!(
        "part {part} of {table} is no longer where the plan found it"
    ))
}

async fn imported(
    tools: &Tools,
    url: &str,
    name: &str,
) -> std::result::Result<ImportedBackup, ImportError> {
    let options = tools.repository.options().clone();
    ImportedBackups::open(url, options)?.backup(name).await
}

/// What a source holds: databases and tables.
///
/// # Errors
/// It cannot be read, or is a backup of rows.
pub(crate) fn contents(tools: &Tools, source: &MendSource) -> Result<PartStoreBackup> {
    match source {
        MendSource::Backup {
            collection,
            link,
            shard,
            ..
        } => {
            let refused = |message| Error::Refused {
                message,
                hint: None,
            };
            let manifest = match tools.manifests.get(collection, link) {
                Some(known) => known,
                None => {
                    let work = tools.repository.manifest(collection, &link.backup_id);
                    let stored = tools.runtime.block_on(work)?;
                    let known = tools.manifests.insert(link, stored);
                    known.ok_or_else(|| refused(changed(link)))?
                }
            };
            Ok(store_of(tools, &manifest, shard.as_deref())?)
        }
        MendSource::Imported { url, name } => {
            let contents = tools
                .runtime
                .block_on(async { imported(tools, url, name).await?.contents().await });
            Ok(contents?.part_store())
        }
        MendSource::Undo { operation_id } => Err(Error::Refused {
            message: format!("operation {operation_id} holds no schema"),
            hint: None,
        }),
    }
}
