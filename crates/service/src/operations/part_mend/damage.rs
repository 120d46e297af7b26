//! Which live parts are damaged: the engine reads their bytes and compares them with their `checksums.txt`.
//!
//! A damaged part still has the hash of the part it should be, for the hash is computed from that file. So the mend
//! remembers damage as a suspicion, by hash and files, and has the files read again whenever it compares the table: a
//! part that a mutation renamed is still damaged, and a part that replaced it is whole.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use mendb_engines::{DamagedFile, LivePartDamage, PartToProve, RefusedPart};
use mendb_model::part::{DamagedPart, Hash128, Inventory, TableName, TablePlan};

use crate::attempt::{Attempt, Counts};
use crate::task_error::{TaskError, TaskResult};

/// Progress is told after so many bytes: often enough that nobody takes the attempt for lost.
const BYTES_PER_SIGN_OF_LIFE: u64 = 64 << 20;

/// How many damaged parts are told one by one.
const TOLD_MAX: usize = 10;

/// Reads every byte of the parts that a plan keeps, but those in `proved`, to which they are added.
/// Returns what is damaged.
pub(super) fn of_kept(
    attempt: &Attempt<'_>,
    plan: &TablePlan,
    proved: &mut HashSet<String>,
    counts: &mut Counts,
) -> TaskResult<Vec<LivePartDamage>> {
    let kept = plan.partitions.iter().flat_map(|partition| &partition.keep);
    let parts: Vec<PartToProve> = kept
        .filter(|part| proved.insert(part.name.clone()))
        .map(|part| PartToProve {
            name: part.name.clone(),
            hash: part.hash,
            files: Vec::new(),
        })
        .collect();
    prove_live(attempt, &plan.target, &parts, counts)
}

/// Which live parts are what was found damaged.
pub(super) fn still_damaged(
    attempt: &Attempt<'_>,
    table: &TableName,
    live: &Inventory,
    suspects: &[DamagedPart],
) -> TaskResult<Vec<DamagedPart>> {
    let mut damaged = Vec::new();
    let mut parts = Vec::new();
    for part in &live.parts {
        let same = || suspects.iter().filter(|suspect| suspect.hash == part.hash);
        // What only the server has said is true of the part that it has said it of.
        let by_name = same().find(|suspect| suspect.files.is_empty() && suspect.name == part.name);
        let files: BTreeSet<&String> = same().flat_map(|suspect| &suspect.files).collect();
        if let Some(refused) = by_name {
            damaged.push(refused.clone());
        } else if !files.is_empty() {
            parts.push(PartToProve {
                name: part.name.clone(),
                hash: part.hash,
                files: files.into_iter().cloned().collect(),
            });
        }
    }
    if !parts.is_empty() {
        let found = prove_live(attempt, table, &parts, &mut Counts::default())?;
        damaged.extend(as_suspects(&found, live));
    }
    Ok(damaged)
}

/// The parts that the server's own check has refused, with their damaged files as far as the bytes tell.
pub(super) fn of_refused(
    attempt: &Attempt<'_>,
    table: &TableName,
    live: &Inventory,
    refused: &[RefusedPart],
    counts: &mut Counts,
) -> TaskResult<Vec<DamagedPart>> {
    let refused: HashSet<&str> = refused.iter().map(|part| part.name.as_str()).collect();
    let of_live = || (live.parts.iter()).filter(|part| refused.contains(part.name.as_str()));
    let parts: Vec<PartToProve> = of_live()
        .map(|part| PartToProve {
            name: part.name.clone(),
            hash: part.hash,
            files: Vec::new(),
        })
        .collect();
    let mut damaged = as_suspects(&prove_live(attempt, table, &parts, counts)?, live);
    for part in of_live() {
        if damaged.iter().all(|found| found.name != part.name) {
            damaged.push(DamagedPart {
                name: part.name.clone(),
                hash: part.hash,
                files: Vec::new(),
            });
        }
    }
    Ok(damaged)
}

/// What a plan remembers of damage.
pub(super) fn as_suspects(damage: &[LivePartDamage], live: &Inventory) -> Vec<DamagedPart> {
    let hash_of = |name: &str| -> Option<Hash128> {
        let part = live.parts.iter().find(|part| part.name == name);
        part.map(|part| part.hash)
    };
    let suspect = |found: &LivePartDamage| {
        Some(DamagedPart {
            name: found.name.clone(),
            hash: hash_of(&found.name)?,
            files: found.files.iter().map(|file| file.name.clone()).collect(),
        })
    };
    damage.iter().filter_map(suspect).collect()
}

/// Damage for people, a line for each part.
pub(super) fn notes(damage: &[LivePartDamage]) -> Vec<String> {
    let note = |part: &LivePartDamage| {
        format!(
            "live part {} is damaged and comes anew: {}",
            part.name,
            describe(&part.files)
        )
    };
    let mut notes: Vec<String> = damage.iter().take(TOLD_MAX).map(note).collect();
    if let more @ 1.. = damage.len().saturating_sub(TOLD_MAX) {
        notes.push(format!("{more} more live parts are damaged"));
    }
    notes
}

/// Why a part that was kept is not brought back.
pub(super) fn refused(part: &str, files: &[DamagedFile]) -> TaskError {
    TaskError::DamagedKept(format!(
        "part {part}, which was kept to undo the mend by, is damaged and is not brought back: {}",
        describe(files)
    ))
}

fn describe(files: &[DamagedFile]) -> String {
    let mut told: Vec<String> = (files.iter().take(TOLD_MAX))
        .map(|file| format!("{} {}", file.name, file.why))
        .collect();
    if let more @ 1.. = files.len().saturating_sub(TOLD_MAX) {
        told.push(format!("and {more} files more"));
    }
    told.join(", ")
}

fn prove_live(
    attempt: &Attempt<'_>,
    table: &TableName,
    parts: &[PartToProve],
    counts: &mut Counts,
) -> TaskResult<Vec<LivePartDamage>> {
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    watched(attempt, counts, |on_read| {
        let engine = attempt.tools.engine.parts()?;
        Ok(engine.prove_live(table, parts, on_read)?)
    })
}

/// Tells progress while bytes are read, and ends the reading when the attempt is told to stop.
fn watched<T>(
    attempt: &Attempt<'_>,
    counts: &mut Counts,
    read: impl FnOnce(&mut dyn FnMut(u64) -> ControlFlow<()>) -> TaskResult<T>,
) -> TaskResult<T> {
    let mut stopped = Ok(());
    let mut untold = 0;
    let mut on_read = |bytes: u64| {
        counts.bytes += bytes;
        untold += bytes;
        if untold >= BYTES_PER_SIGN_OF_LIFE && stopped.is_ok() {
            untold = 0;
            stopped = attempt.in_progress(counts);
        } else if stopped.is_ok() {
            stopped = attempt.check_stopped();
        }
        match stopped {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    let found = read(&mut on_read)?;
    stopped?;
    Ok(found)
}
