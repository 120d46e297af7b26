//! How a [`FolderStore`] puts parts together and changes what is live.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use mendb_engines::{
    Bringing, Brought, EngineError, Exchange, Origin, PartFrom, PartToBring, Remedy, Result,
    StagedPart, Supplier,
};
use mendb_model::part::{Hash128, OnConcurrentInsert, Part, PartName, TableName};

use super::part::{self, unusable};
use super::state::Table;
use super::{DISK, FolderStore};

impl FolderStore {
    /// Puts one part together where it is not yet, unless the supplier ends it.
    pub(super) fn bring_one(
        &self,
        part: &PartToBring<'_>,
        supplier: &mut dyn Supplier,
        brought: &mut Brought,
    ) -> Result<ControlFlow<Bringing>> {
        let sealed = &part.staged.directory;
        if sealed.exists() {
            return Ok(ControlFlow::Continue(()));
        }
        let written = sealed.with_extension("tmp");
        self.remove(&written)?;
        fs::create_dir_all(&written).map_err(|error| unusable(&written, &error))?;
        match part.from {
            PartFrom::Files(files) => {
                let mut elsewhere = Vec::new();
                for file in files {
                    if supplier.go_on().is_break() {
                        return Ok(ControlFlow::Break(Bringing::Stopped));
                    }
                    let to = written.join(&file.name);
                    let place = match file.identity() {
                        None => None,
                        Some(identity) => match supplier.place_of(&identity) {
                            ControlFlow::Continue(place) => place,
                            ControlFlow::Break(()) => {
                                return Ok(ControlFlow::Break(Bringing::Stopped));
                            }
                        },
                    };
                    if place.is_some_and(|from| fs::hard_link(from, &to).is_ok()) {
                        brought.linked_bytes += file.bytes;
                    } else {
                        brought.fetched_bytes += file.bytes;
                        brought.fetched_files += 1;
                        elsewhere.push((file, to));
                    }
                }
                if supplier.fetch(&elsewhere).is_break() {
                    return Ok(ControlFlow::Break(Bringing::Stopped));
                }
            }
            PartFrom::Directory(from) => brought.linked_bytes += part::link(from, &written)?,
            PartFrom::Elsewhere(at) => match supplier.fetch_part(at, &written) {
                ControlFlow::Continue(bytes) => {
                    brought.fetched_bytes += bytes;
                    brought.fetched_files += 1;
                }
                ControlFlow::Break(()) => return Ok(ControlFlow::Break(Bringing::Stopped)),
            },
        }
        let files = part::damage(&written, &[])?;
        if !files.is_empty() {
            let part = part.staged.name.clone();
            return Ok(ControlFlow::Break(Bringing::Damaged { part, files }));
        }
        check_hash(&written, &part.staged)?;
        fs::rename(&written, sealed).map_err(|error| unusable(sealed, &error))?;
        Ok(ControlFlow::Continue(()))
    }

    /// The live and staged parts that a partition is put together of, behind them what came.
    fn origins(&self, table: &Table, exchange: &Exchange<'_>) -> Result<Vec<Origin>> {
        let live = self.live_parts(table, exchange.partition_id)?;
        let came = live.iter();
        let came = came.filter(|part| part.rows > 0 && !exchange.seen.contains(&part.name));
        let came: Vec<Origin> = came
            .map(|part| Origin::Live {
                name: part.name.clone(),
                hash: part.hash,
            })
            .collect();
        let mut origins = exchange.parts.to_vec();
        match exchange.on_concurrent_insert {
            OnConcurrentInsert::Fail if !came.is_empty() => {
                let message = format!("partition {} has changed", exchange.partition_id);
                return Err(EngineError::new(Remedy::Replan, message));
            }
            OnConcurrentInsert::Keep => origins.extend(came),
            OnConcurrentInsert::Fail | OnConcurrentInsert::Remove => {}
        }
        Ok(origins)
    }

    pub(super) fn mutate_parts(
        &self,
        name: &TableName,
        command: &str,
        partitions: Option<&[String]>,
        known: &[String],
    ) -> Result<()> {
        let update = command.strip_prefix("UPDATE text = '");
        let text = update.and_then(|rest| rest.strip_suffix("' WHERE 1"));
        let text = text.ok_or_else(|| {
            EngineError::new(Remedy::Request, format!("{command:?} is no update"))
        })?;
        self.change(|state| {
            let table = state.table_mut(name)?;
            if table.mutation_ids.iter().any(|id| !known.contains(id)) {
                return Ok(());
            }
            let number = table.next_number();
            table.mutation_ids.push(format!("mutation_{number}.txt"));
            let directory = table.directory(&self.root);
            let is_chosen = |part: &&String| {
                partitions.is_none_or(|chosen| chosen.contains(&partition_of(part)))
            };
            let chosen: Vec<String> = table.parts.iter().filter(is_chosen).cloned().collect();
            for part in chosen {
                let mut changed: PartName = part.parse().unwrap();
                changed.mutation = number;
                let from = directory.join(&part);
                let mut rows = part::rows(&from).map_err(|error| unusable(&from, &error))?;
                for (_, old) in &mut rows {
                    text.clone_into(old);
                }
                let to = directory.join(changed.to_string());
                part::write(&to, &rows).map_err(|error| unusable(&to, &error))?;
                table.parts.remove(&part);
                table.parts.insert(changed.to_string());
            }
            Ok(())
        })
    }

    pub(super) fn attach_parts(&self, name: &TableName, parts: &[StagedPart]) -> Result<()> {
        for staged in parts {
            self.change(|state| {
                let table = state.table_mut(name)?;
                let id = partition_of(&staged.name);
                if !staged.directory.exists() {
                    let live = self.live_parts(table, &id)?;
                    if live.iter().any(|part| part.hash == staged.hash) {
                        return Ok(());
                    }
                    let message = format!("part {} is gone: stage it again", staged.name);
                    return Err(EngineError::new(Remedy::Retry, message));
                }
                check_hash(&staged.directory, staged)?;
                let part = table.new_name(&id);
                let to = table.directory(&self.root).join(&part);
                part::link(&staged.directory, &to)?;
                self.remove(&staged.directory)?;
                table.parts.insert(part);
                Ok(())
            })?;
        }
        Ok(())
    }

    pub(super) fn exchange_parts(
        &self,
        operation: &str,
        name: &TableName,
        exchange: &Exchange<'_>,
    ) -> Result<()> {
        self.change(|state| {
            let table = state.table_mut(name)?;
            let live = self.live_parts(table, exchange.partition_id)?;
            let hashes: Vec<Hash128> = live.iter().map(|part| part.hash).collect();
            let wanted: Vec<Hash128> = exchange.parts.iter().map(hash_of).collect();
            let is_damaged = |part: &&Part| exchange.damaged.contains(&part.name);
            if hashes == wanted && !live.iter().any(|part| is_damaged(&part)) {
                return Ok(());
            }
            let origins = self.origins(table, exchange)?;
            let directory = table.directory(&self.root);
            let mut parts = BTreeSet::new();
            for origin in &origins {
                let from = match origin {
                    Origin::Live { name, hash } => {
                        let whole = live.iter().filter(|part| !is_damaged(part));
                        let same: Vec<&Part> = whole.filter(|part| part.hash == *hash).collect();
                        let named = same.iter().find(|part| part.name == *name);
                        let found = named.or(same.first()).ok_or_else(|| gone(name))?;
                        directory.join(&found.name)
                    }
                    Origin::Staged(staged) => {
                        if !staged.directory.exists() {
                            return Err(gone(&staged.name));
                        }
                        check_hash(&staged.directory, staged)?;
                        staged.directory.clone()
                    }
                };
                let part = table.new_name(exchange.partition_id);
                part::link(&from, &directory.join(&part))?;
                parts.insert(part);
            }
            for part in &live {
                table.parts.remove(&part.name);
            }
            table.parts.extend(parts);
            let tables = state.staged.entry(operation.to_owned()).or_default();
            tables.insert(name.clone());
            Ok(())
        })
    }
}

fn check_hash(directory: &Path, staged: &StagedPart) -> Result<()> {
    let found = part::read(directory, &staged.name, DISK)?.part.hash;
    if found == staged.hash {
        return Ok(());
    }
    let message = format!("part {} is {found} instead of {}", staged.name, staged.hash);
    Err(EngineError::new(Remedy::Request, message))
}

pub(super) fn partition_of(part: &str) -> String {
    part.parse::<PartName>().unwrap().partition_id
}

fn hash_of(origin: &Origin) -> Hash128 {
    match origin {
        Origin::Live { hash, .. } => *hash,
        Origin::Staged(part) => part.hash,
    }
}

pub(super) fn gone(part: &str) -> EngineError {
    EngineError::new(Remedy::Replan, format!("part {part} is gone"))
}
