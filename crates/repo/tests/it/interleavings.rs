//! Processes on one repository, in any order: each request of each waits until a scheduler lets it through.
//!
//! Three processes back up rows and parts, delete, fold, discard, tidy up and restore. The scheduler draws whose
//! request is next; now and then a process is stopped for longer than its lease, or killed, and another
//! begins in its place. After every few requests each backup that exists must have all that it needs. At the end
//! each is read to the last row, all are deleted, and nothing may be left.
//!
//! `MENDB_INTERLEAVINGS=1000 cargo nextest run -p mendb-repo -p mendb-engines interleavings` tries so many,
//! `MENDB_INTERLEAVINGS_FROM` is the first seed. What waits for a lease looks at real time, so that a seed tells
//! the choices and not each request.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use mendb_model::change::Change;
use mendb_model::key::KeyRange;
use mendb_model::manifest::{Manifest, Parent, ShardBackup, ShardedData};
use mendb_model::name::TablePath;
use mendb_model::{BackupId, Digest, RowBlockBuilder, Value, key, row};
use mendb_repo::{
    Content, Error, Repository, RepositoryOptions, Result, SegmentTarget, StoredManifest,
};
use object_store::ObjectStore;
use object_store::path::Path;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::chain_world::run;
use crate::faulty_store::{Clock, FaultyStore, Gate};
use crate::garbage::records_there;
use crate::parts_sample::{self, SamplePart};
use crate::sample::{self, COLLECTION, WRITER, full, increment, schema};

const PROCESSES: usize = 3;
const COMMANDS: usize = 24;
const HOUR_S: i64 = 3600;
/// By so much time passes at once, when each process has come so many requests further: none takes longer than
/// the time of grace to seal a backup whose objects it has seen.
const JUMP_S: i64 = HOUR_S / 3;
const REQUESTS_A_JUMP: usize = 20;
const LEASE_MS: u64 = 20;
/// Where rows are cut into shards.
const SPLITS: [u32; 2] = [7, 14];
const KEYS: u32 = 20;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// What all processes know.
struct World {
    faulty: FaultyStore,
    clock: Clock,
    parts: Vec<SamplePart>,
    next_id: AtomicI64,
    /// What each backup of rows holds.
    held: Mutex<HashMap<BackupId, Rows>>,
}

#[derive(Debug, Clone, Copy)]
enum Command {
    BackUpRows,
    BackUpChanges,
    BackUpParts,
    Delete,
    Fold,
    Discard,
    TidyUp,
    Restore,
}

impl Command {
    fn drawn(dice: &mut StdRng) -> Self {
        match dice.random_range(0..14) {
            0 | 1 => Self::BackUpRows,
            2..=4 => Self::BackUpChanges,
            5..=7 => Self::BackUpParts,
            8 | 9 => Self::Delete,
            10 => Self::Fold,
            11 => Self::Discard,
            12 => Self::TidyUp,
            _ => Self::Restore,
        }
    }
}

fn path() -> TablePath {
    TablePath::table("goods")
}

fn options() -> RepositoryOptions {
    RepositoryOptions {
        garbage_grace_ms: 1000 * HOUR_S.unsigned_abs(),
        lease_ms: LEASE_MS,
        manifest_shard_bytes: 0,
        ..parts_sample::options()
    }
}

fn open(faulty: FaultyStore) -> Repository {
    Repository::with_store(Arc::new(faulty), Path::from("p"), "ours:", options())
}

fn key_of(id: u32) -> Vec<u8> {
    key::encode(&schema().key_types(), [Value::Uint(id.into()).as_ref()])
}

fn row(number: u32) -> Vec<u8> {
    row::encode(
        &schema().value_types(),
        &[Value::Text(format!("row {number}"))],
    )
}

/// The rows at the end of a chain.
async fn rows_at(repository: &Repository, id: &BackupId) -> Result<Rows> {
    let chain = repository.chain(COLLECTION, id).await?.into_iter();
    let chain: Vec<_> = chain.map(|stored| Arc::new(stored.manifest)).collect();
    let (path, all) = (path(), KeyRange::all());
    let mut reader = repository.read_chain(&chain, &path, &all, None).await?;
    let mut rows = Rows::new();
    while let Some(block) = reader.next().await? {
        rows.extend(block.iter().map(|(key, row)| (key.to_vec(), row.to_vec())));
    }
    Ok(rows)
}

impl World {
    /// Of what kind, the backups that can be read.
    async fn there(&self, repository: &Repository, of_parts: bool) -> Result<Vec<StoredManifest>> {
        let listed = repository.list(COLLECTION).await?;
        let there = listed.into_iter().filter_map(|(_, stored)| stored.ok());
        let there = there.filter(|stored| stored.manifest.part_store.is_some() == of_parts);
        Ok(there.collect())
    }

    async fn carry_out(
        &self,
        repository: &Repository,
        command: Command,
        dice: &mut StdRng,
    ) -> Result<()> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut pick = |of: usize| dice.random_range(0..of.max(1));
        match command {
            Command::BackUpRows => self.back_up_rows(repository, id, None).await,
            Command::BackUpChanges => {
                let newest = self.there(repository, false).await?.pop();
                self.back_up_rows(repository, id, newest).await
            }
            Command::BackUpParts => {
                let known = match self.there(repository, true).await?.pop() {
                    Some(newest) => records_there(repository, &newest.manifest).await,
                    None => Vec::new(),
                };
                let parts = [pick(3), 2].map(|n| &self.parts[n]);
                let parts = if pick(2) == 0 {
                    &parts[..1]
                } else {
                    &parts[1..]
                };
                parts_sample::backup(repository, &full(id), parts, &known).await?;
                Ok(())
            }
            Command::Delete => {
                let mut there = repository.list(COLLECTION).await?;
                if there.is_empty() {
                    return Ok(());
                }
                let (id, _) = there.swap_remove(pick(there.len()));
                repository.delete_backup(COLLECTION, &id).await
            }
            Command::Fold => {
                let there = self.there(repository, false).await?;
                let Some(last) = there.get(pick(there.len())) else {
                    return Ok(());
                };
                let last = &last.manifest.backup_id;
                let chain = repository.chain(COLLECTION, last).await?;
                let first = &chain[pick(chain.len() - 1)].manifest.backup_id;
                let writer = format!("fold{id}");
                let folded = repository.compact(COLLECTION, first, last, &writer).await;
                folded.map(drop)
            }
            Command::Discard => {
                let unfinished = repository.unfinished(COLLECTION).await?;
                match unfinished.get(pick(unfinished.len())) {
                    Some(id) => repository.discard(COLLECTION, id).await,
                    None => Ok(()),
                }
            }
            Command::TidyUp => repository.collect_garbage().await.map(drop),
            Command::Restore => {
                let there = self.there(repository, false).await?;
                let Some(stored) = there.get(pick(there.len())) else {
                    return Ok(());
                };
                let id = &stored.manifest.backup_id;
                let rows = rows_at(repository, id).await?;
                assert_eq!(self.held.lock().unwrap().get(id), Some(&rows), "{id}");
                Ok(())
            }
        }
    }

    /// All rows, or the changes that lead from another backup to other rows.
    async fn back_up_rows(
        &self,
        repository: &Repository,
        number: i64,
        parent: Option<StoredManifest>,
    ) -> Result<()> {
        repository.create_if_absent().await?;
        let seed = u32::try_from(number).unwrap();
        let (id, content, values, held) = match &parent {
            None => {
                let rows = (0..KEYS).map(|key| (key_of(key), row(key + seed)));
                let rows: Rows = rows.collect();
                (full(number), Content::Rows, rows.clone(), rows)
            }
            Some(parent) => {
                let mut held = rows_at(repository, &parent.manifest.backup_id).await?;
                let mut changes = Rows::new();
                for key in (0..KEYS).filter(|key| (key + seed) % 5 < 2) {
                    let (key, row) = (key_of(key), row(key * seed));
                    let change = match seed % 3 {
                        0 => {
                            held.remove(&key);
                            Change::erase(1)
                        }
                        _ => {
                            held.insert(key.clone(), row.clone());
                            Change::reset(row, 1)
                        }
                    };
                    changes.insert(key, change.encode());
                }
                (increment(number), Content::Changes, changes, held)
            }
        };
        let mut shards = Vec::new();
        for (shard, range) in (0..).zip(KeyRange::split_at(SPLITS.map(key_of).to_vec())) {
            let target = SegmentTarget {
                shard,
                ..sample::target(&id, 0)
            };
            let mut writer = repository.segment_writer(target, &schema(), content)?;
            let mut block = RowBlockBuilder::new();
            for (key, value) in values.iter().filter(|(key, _)| range.contains(key)) {
                block.push(key, value);
            }
            let mut segments = writer.push(&block.finish()).await?;
            segments.extend(writer.finish().await?);
            let mut digest = Digest::default();
            for (key, row) in held.iter().filter(|(key, _)| range.contains(key)) {
                digest.add(key, row);
            }
            shards.push(ShardBackup {
                range,
                digest,
                segments,
            });
        }
        let mut draft: Manifest = sample::manifest(&id, None, Vec::new());
        draft.parent = parent.map(|parent| Parent {
            backup_id: parent.manifest.backup_id,
            manifest_blake3: parent.blake3,
        });
        draft.tables[0].rows = ShardedData::here(1, shards);
        self.held.lock().unwrap().insert(id, held);
        repository.put_manifest(&draft, WRITER).await?;
        Ok(())
    }

    /// Checks that each backup that exists now has all that it needs.
    async fn check(&self) {
        let repository = open(self.faulty.clone());
        for (id, stored) in repository.list(COLLECTION).await.unwrap() {
            let stored = stored.unwrap_or_else(|error| panic!("{id}: {error:?}"));
            let checked = repository.check_present(&stored.manifest).await;
            checked.unwrap_or_else(|error| panic!("{id}: {error:?}"));
            let chain = repository.chain(COLLECTION, &id).await;
            chain.unwrap_or_else(|error| panic!("{id}: {error:?}"));
        }
    }

    /// Reads all there is, deletes it, and sees that nothing stays.
    async fn end(&self) {
        let repository = open(self.faulty.clone());
        // What a process that was killed had begun to remove goes with the next lease.
        repository.lease("looks").await.unwrap().release().await;
        for stored in self.there(&repository, false).await.unwrap() {
            let id = &stored.manifest.backup_id;
            let rows = rows_at(&repository, id).await.unwrap();
            assert_eq!(self.held.lock().unwrap().get(id), Some(&rows), "{id}");
        }
        for stored in self.there(&repository, true).await.unwrap() {
            let records = records_there(&repository, &stored.manifest).await;
            let verified = repository.verify_files(&records).await.unwrap();
            assert!(verified.damaged.is_empty(), "{verified:?}");
        }
        // One that was killed still claims what it would have stood on.
        for id in repository.unfinished(COLLECTION).await.unwrap() {
            repository.discard(COLLECTION, &id).await.unwrap();
        }
        let there = repository.list(COLLECTION).await.unwrap().into_iter();
        let there: Vec<_> = there.rev().map(|(id, _)| id).collect();
        repository.delete_backups(COLLECTION, &there).await.unwrap();
        for hours in [2, 2, 31 * 24] {
            self.clock.advance(hours * HOUR_S);
            repository.collect_garbage().await.unwrap();
        }
        let left = self.faulty.below.list(None);
        let left: Vec<_> = left.try_collect().await.unwrap();
        let left = left.into_iter().map(|object| object.location.to_string());
        let kept = ["p/mendb.json", "p/lease.json", "p/ids/"];
        let left: Vec<_> = left
            .filter(|name| !kept.iter().any(|kept| name.starts_with(kept)))
            .collect();
        assert_eq!(left, [""; 0]);
    }
}

/// A process: its requests wait at a gate of its own.
struct Process {
    gate: Gate,
    repository: Repository,
    work: Option<(Command, JoinHandle<Result<()>>)>,
    is_stopped: bool,
    /// Since time passed, or it began.
    requests: usize,
}

impl Process {
    fn new(world: &World) -> Self {
        let gate = Gate::default();
        let mut faulty = world.faulty.clone();
        faulty.gate = Some(gate.clone());
        Self {
            gate,
            repository: open(faulty),
            work: None,
            is_stopped: false,
            requests: 0,
        }
    }

    fn begin(&mut self, world: &Arc<World>, dice: &mut StdRng) {
        let command = Command::drawn(dice);
        let (world, repository) = (Arc::clone(world), self.repository.clone());
        let mut dice = StdRng::seed_from_u64(dice.random());
        let work = async move { world.carry_out(&repository, command, &mut dice).await };
        self.work = Some((command, spawn_local(work)));
        self.requests = REQUESTS_A_JUMP;
    }
}

/// Whether a command may end so, whatever others do.
fn is_expected(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound { .. }
            | Error::Leased { .. }
            | Error::LeaseLost { .. }
            | Error::Leaving { .. }
            | Error::Claimed { .. }
            | Error::Deleted { .. }
            | Error::Incomplete { .. }
            | Error::FilesStay { .. }
            | Error::Complete { .. }
            | Error::StoodOn { .. }
            | Error::CannotCompact { .. }
            | Error::BrokenChain { .. }
    )
}

async fn interleave(seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let clock = Clock::begin();
    let mut faulty = FaultyStore::default();
    faulty.clock = Some(clock.clone());
    let parts = (0..3).map(|n| SamplePart::wide(&format!("all_{n}_{n}_0"), 100 * n));
    let world = Arc::new(World {
        faulty,
        clock,
        parts: parts.collect(),
        next_id: AtomicI64::new(1),
        held: Mutex::default(),
    });
    let mut processes: Vec<_> = (0..PROCESSES).map(|_| Process::new(&world)).collect();
    let mut commands = COMMANDS;
    let mut requests = 0;
    loop {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
        for process in &mut processes {
            if let Some((command, work)) = process.work.take_if(|(_, work)| work.is_finished()) {
                match work.await.unwrap() {
                    Err(error) if !is_expected(&error) => panic!("{command:?}: {error:?}"),
                    _ => {}
                }
            }
            if process.work.is_none() && commands > 0 {
                commands -= 1;
                process.begin(&world, &mut dice);
            }
        }
        if processes.iter().all(|process| process.work.is_none()) {
            break;
        }
        let one = dice.random_range(0..PROCESSES);
        match dice.random_range(0..400) {
            1 | 2 => processes[one].is_stopped = true,
            3 => {
                if let Some((_, work)) = processes[one].work.take() {
                    work.abort();
                    drop(work.await);
                    processes[one] = Process::new(&world);
                }
            }
            4..=9 => processes[one].is_stopped = false,
            _ => {}
        }
        let is_further =
            |process: &Process| process.work.is_none() || process.requests >= REQUESTS_A_JUMP;
        if processes.iter().all(is_further) && dice.random_range(0..20) == 0 {
            world.clock.advance(JUMP_S);
            processes.iter_mut().for_each(|it| it.requests = 0);
        }
        let mut ready: Vec<_> = (processes.iter_mut())
            .filter(|process| !process.is_stopped && process.gate.is_waited_at())
            .collect();
        if ready.is_empty() {
            // Somebody waits for time to pass, or all that could go on are stopped.
            pass_a_millisecond().await;
            let at_work = |process: &Process| !process.is_stopped && process.work.is_some();
            if !processes.iter().any(at_work) {
                processes.iter_mut().for_each(|it| it.is_stopped = false);
            }
            continue;
        }
        let next = dice.random_range(0..ready.len());
        ready[next].gate.let_through();
        ready[next].requests += 1;
        requests += 1;
        if requests % 7 == 0 {
            world.check().await;
        }
    }
    // Renewals of leases that nobody waits for end with their processes.
    drop(processes);
    world.check().await;
    world.end().await;
}

#[expect(
    clippy::disallowed_methods,
    reason = "processes that wait for each other look again when time has passed"
)]
async fn pass_a_millisecond() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn processes_in_any_order_stopped_revived_or_killed_leave_every_backup_whole_and_nothing_else() {
    let first = number("MENDB_INTERLEAVINGS_FROM").unwrap_or(1);
    let count = number("MENDB_INTERLEAVINGS").unwrap_or(30);
    for seed in first..first + count {
        let told = Told(seed);
        run(LocalSet::new().run_until(interleave(seed)));
        drop(told);
    }
}

/// Says which seed it was when a test fails.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("MENDB_INTERLEAVINGS_FROM={} MENDB_INTERLEAVINGS=1", self.0);
        }
    }
}
