//! Messages that are lost, come twice, or late; workers that die.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::world::*;
use mendb_engines::{
    BlockSink, Engine, FreezeRequest, Frozen, LiveTable, Lock, Result, Source, StagedTable,
};
use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::name::TablePath;
use mendb_model::operation::Limits;
use mendb_model::{Digest, KeyRange, RowBlock};
use mendb_repo::Repository;
use mendb_service::Service;
use mendb_service::wire::{Message, Wire};

/// Treats every n-th message badly: lost, delivered twice, or held back until others have passed.
struct Lossy {
    seen: AtomicU64,
    held: Mutex<Vec<Message>>,
}

impl Wire for Lossy {
    fn carry(&self, message: Message, deliver: &mut dyn FnMut(Message)) {
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        match seen % 7 {
            2 => {}
            4 => {
                deliver(message.clone());
                deliver(message);
            }
            5 => self.held.lock().unwrap().push(message),
            _ => deliver(message),
        }
        // Old messages come late: after their attempt was given up, often enough.
        if seen.is_multiple_of(11) {
            let held = std::mem::take(&mut *self.held.lock().unwrap());
            held.into_iter().for_each(deliver);
        }
    }
}

fn lossy(mut world: World) -> World {
    let wire = Arc::new(Lossy {
        seen: AtomicU64::new(0),
        held: Mutex::default(),
    });
    let service = Arc::into_inner(world.service).unwrap();
    world.service = Arc::new(Service::with_wire(service, wire));
    world
}

#[test]
fn lost_doubled_and_late_messages_change_no_result() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let url = format!("file://{}", directory.path().join("repository").display());
    let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
    let limits = Limits {
        lease_ms: 150,
        ..quick_limits()
    };
    let world = lossy(World::with_limits(
        directory,
        repository,
        |engine| engine,
        runtime,
        limits,
    ));
    fill(&world, 300);
    world.done(&world.backup(Full, "full"));
    edit(&world, 1);
    let before = contents(&world.database);
    world.done(&world.backup(Incremental, "increment"));
    world.drop_tables();
    world.done(&world.restore("increment"));
    assert_eq!(contents(&world.database), before);
}

/// An engine whose calls that change rows die now and then, before or after they did their work.
struct Mortal {
    engine: Arc<dyn Engine>,
    calls: AtomicU64,
}

impl Mortal {
    fn around<T>(&self, work: impl FnOnce() -> T) -> T {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        assert!(call % 5 != 1, "a worker died before its batch");
        let value = work();
        assert!(call % 5 != 3, "a worker died after its batch");
        value
    }
}

impl Engine for Mortal {
    fn inspect(&self, table: &str) -> Result<Option<LiveTable>> {
        self.engine.inspect(table)
    }
    fn locks(&self) -> Vec<Lock> {
        self.engine.locks()
    }
    fn freeze(&self, request: &FreezeRequest<'_>) -> Result<Frozen> {
        self.around(|| self.engine.freeze(request))
    }
    fn is_frozen(&self, operation: &str) -> bool {
        self.engine.is_frozen(operation)
    }
    fn thaw(&self, operation: &str) -> Result<()> {
        self.around(|| self.engine.thaw(operation))
    }
    fn estimate_bytes(&self, operation: &str, path: &TablePath, range: &KeyRange) -> Result<u64> {
        self.engine.estimate_bytes(operation, path, range)
    }
    fn read_rows(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        let mut sink = |block: &RowBlock<&[u8]>| -> ControlFlow<()> { self.around(|| sink(block)) };
        self.engine
            .read_rows(operation, path, range, after, &mut sink)
    }
    fn read_changes(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        since_version: u64,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        self.engine
            .read_changes(operation, path, range, since_version, after, sink)
    }
    fn release_stream(&self, stream: &str, up_to: u64) -> Result<()> {
        self.around(|| self.engine.release_stream(stream, up_to))
    }
    fn detach_stream(&self, stream: &str) -> Result<()> {
        self.around(|| self.engine.detach_stream(stream))
    }
    fn stage(&self, operation: &str, tables: Vec<StagedTable>) -> Result<()> {
        self.around(|| self.engine.stage(operation, tables))
    }
    fn load(
        &self,
        operation: &str,
        path: &TablePath,
        source: Source,
        rows: &RowBlock<&[u8]>,
    ) -> Result<()> {
        self.around(|| self.engine.load(operation, path, source, rows))
    }
    fn apply(
        &self,
        operation: &str,
        path: &TablePath,
        source: Source,
        changes: &RowBlock<&[u8]>,
    ) -> Result<()> {
        self.around(|| self.engine.apply(operation, path, source, changes))
    }
    fn digest(&self, path: &TablePath, range: &KeyRange) -> Result<Digest> {
        self.around(|| self.engine.digest(path, range))
    }
    fn commit(&self, operation: &str) -> Result<()> {
        self.around(|| self.engine.commit(operation))
    }
    fn undo(&self, operation: &str) -> Result<()> {
        self.around(|| self.engine.undo(operation))
    }
}

#[test]
fn workers_that_die_before_or_after_a_batch_are_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let url = format!("file://{}", directory.path().join("repository").display());
    let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
    let wrap = |engine| {
        Arc::new(Mortal {
            engine,
            calls: AtomicU64::new(0),
        }) as Arc<dyn Engine>
    };
    let world = World::with(directory, repository, wrap, runtime);
    fill(&world, 300);
    world.done(&world.backup(Full, "full"));
    edit(&world, 1);
    let before = contents(&world.database);
    world.done(&world.backup(Incremental, "increment"));
    world.drop_tables();
    world.done(&world.restore("increment"));
    assert_eq!(contents(&world.database), before);
}
