//! What keeping some backups of a collection, by rules, does to the others.

use mendb_model::BackupId;
use mendb_model::name::BackupKind;
use mendb_model::operation::{FoldedRun, MaintenanceRequest, MaintenanceWork, Removal};
use mendb_model::retention::{Fate, Point, Retention, plan};
use mendb_repo::{Repository, StoredManifest};
use tokio::runtime::Handle;

use crate::error::{Error, Result};

/// What becomes of the backups of a collection.
#[derive(Debug, Clone)]
pub struct PrunePlan {
    /// The backups, oldest first.
    pub backups: Vec<PlannedBackup>,
    /// What has to be done; nothing where all stay.
    pub request: MaintenanceRequest,
}

/// A backup and what becomes of it.
#[derive(Debug, Clone)]
pub struct PlannedBackup {
    /// The backup.
    pub backup_id: BackupId,
    /// Its label.
    pub label: Option<String>,
    /// Whether it is full or an increment.
    pub kind: BackupKind,
    /// What it has in the repository, in bytes, without its manifest; files of parts that it shares count in
    /// each.
    pub bytes: u64,
    /// What becomes of it.
    pub fate: Fate,
}

impl PlannedBackup {
    /// Takes over what became of it by a request that was decided before: it may do otherwise.
    pub fn went(&mut self, request: &MaintenanceRequest) {
        let goes = request.goes();
        let own = goes.iter().find(|(id, _)| **id == self.backup_id);
        match own {
            Some((_, Some(into))) => {
                self.fate = Fate::Folded {
                    into: (*into).clone(),
                };
            }
            Some((_, None)) => self.fate = Fate::Removed,
            None if matches!(self.fate, Fate::Stays(_)) => {}
            // It goes with the next prune.
            None => self.fate = Fate::Stays(Vec::new()),
        }
    }
}

/// Plans what a collection is pruned of. Reads all its manifests; changes nothing. With `folds`, backups that are
/// not wanted and that others stand on become part of those; without, they stay.
///
/// # Errors
/// The rules want nothing; there is no backup; or one cannot be read, so that it cannot be told what stands on
/// what.
pub fn plan_prune(
    repository: &Repository,
    runtime: &Handle,
    collection: &str,
    rules: &Retention,
    folds: bool,
) -> Result<PrunePlan> {
    if rules.is_empty() {
        return Err(Error::refused(
            "no rule says which backups to keep",
            "say it, as with --keep-last 7 --keep-weekly 4",
        ));
    }
    let mut stored: Vec<StoredManifest> = Vec::new();
    for (id, read) in runtime.block_on(repository.list(collection))? {
        match read {
            Ok(manifest) => stored.push(manifest),
            Err(error) if error.is_damage() => {
                return Err(Error::refused(
                    format!(
                        "backup {id} cannot be read, so it cannot be told what it stands on: {error}"
                    ),
                    format!(
                        "bring its manifest back from a copy of the repository; or, if it is not needed: mendb \
                         delete {collection}/{id} --cascade"
                    ),
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if stored.is_empty() {
        return Err(Error::refused(
            format!(
                "collection {collection} has no backup in {}",
                repository.url()
            ),
            "mendb list shows what there is; --repository names another repository",
        ));
    }
    let points: Vec<Point> = stored.iter().map(point).collect();
    for point in &points {
        let is_there = |id: &BackupId| points.iter().any(|other| other.backup_id == *id);
        if let Some(parent) = point.parent.as_ref().filter(|id| !is_there(id)) {
            return Err(Error::refused(
                format!(
                    "backup {} stands on {parent}, which has no manifest: what that stands on cannot be told",
                    point.backup_id
                ),
                format!(
                    "bring collections/{collection}/{parent}/manifest.json back from a copy of the repository; or, if \
                     what stands on it is not needed: mendb delete {collection}/{} --cascade",
                    point.backup_id
                ),
            ));
        }
    }
    let planned = plan(&points, rules.wanted(&points), folds);
    let bytes_of = |id: &BackupId| {
        let manifest = stored
            .iter()
            .find(|stored| stored.manifest.backup_id == *id);
        manifest.map_or(0, |stored| stored.manifest.bytes())
    };
    let runs = planned.folds.iter().filter_map(|kept| {
        Some(FoldedRun {
            first: kept.run.first()?.clone(),
            last: kept.backup_id.clone(),
            goes: kept.run.clone(),
            bytes: kept.run.iter().chain([&kept.backup_id]).map(bytes_of).sum(),
        })
    });
    let removals = planned.removals.iter().map(|id| Removal {
        backup_id: id.clone(),
        is_leftover: false,
    });
    let request = MaintenanceRequest {
        work: MaintenanceWork::Prune,
        collection: collection.to_owned(),
        removals: removals.collect(),
        folds: runs.collect(),
        keeps: (points.iter().zip(&planned.fates))
            .filter(|(_, fate)| matches!(fate, Fate::Stays(_)))
            .map(|(point, _)| point.backup_id.clone())
            .collect(),
        order: format!("{rules}{}", if folds { "" } else { " --no-fold" }),
        tidies: true,
    };
    let backups = points.into_iter().zip(&stored).zip(planned.fates);
    let backups = backups.map(|((point, stored), fate)| PlannedBackup {
        backup_id: point.backup_id,
        label: point.label,
        kind: stored.manifest.kind(),
        bytes: stored.manifest.bytes(),
        fate,
    });
    Ok(PrunePlan {
        backups: backups.collect(),
        request,
    })
}

fn point(stored: &StoredManifest) -> Point {
    let manifest = &stored.manifest;
    Point {
        backup_id: manifest.backup_id.clone(),
        label: manifest.label.clone(),
        target: manifest.target.clone(),
        parent: (manifest.parent.as_ref()).map(|parent| parent.backup_id.clone()),
        is_complete: manifest.is_complete(),
    }
}
