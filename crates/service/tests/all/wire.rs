//! Messages that are lost, come twice, or late; workers that die.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::operation::Limits;
use mendb_repo::Repository;
use mendb_service::Service;
use mendb_service::wire::Message;

use crate::meddled_engine::{Meddled, Meddler};
use crate::meddled_wire::{Between, To, meddled};
use crate::world::*;

/// Treats every n-th message badly: lost, delivered twice, or held back until others have passed.
#[derive(Default)]
pub struct Lossy {
    seen: AtomicU64,
    held: [Mutex<Vec<Message>>; 2],
}

impl Between for Lossy {
    fn carry(&self, to: To, message: Message, deliver: &mut dyn FnMut(Message)) {
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        let held = &self.held[to as usize];
        match seen % 7 {
            2 => {}
            4 => {
                deliver(message.clone());
                deliver(message);
            }
            5 => held.lock().unwrap().push(message),
            _ => deliver(message),
        }
        // Old messages come late: after their attempt was given up, often enough.
        if seen.is_multiple_of(11) {
            let held = std::mem::take(&mut *held.lock().unwrap());
            held.into_iter().for_each(deliver);
        }
    }
}

fn lossy(mut world: World) -> World {
    let service = Arc::into_inner(world.service).unwrap();
    world.service = Arc::new(Service::with_wire(service, meddled(Lossy::default())));
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

/// Workers that die now and then, before or after they did their work.
struct Mortal(AtomicU64);

impl Meddler for Mortal {
    fn before(&self) {
        let call = self.0.fetch_add(1, Ordering::SeqCst);
        assert!(call % 5 != 1, "a worker died before its batch");
    }

    fn after(&self) {
        let call = self.0.load(Ordering::SeqCst);
        assert!(call % 5 != 4, "a worker died after its batch");
    }
}

#[test]
fn workers_that_die_before_or_after_a_batch_are_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let url = format!("file://{}", directory.path().join("repository").display());
    let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
    let wrap = |engine| Meddled::wrap(engine, Mortal(AtomicU64::new(0)));
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
