//! Attempts whose calls take long: they are not lost, and nothing works beside them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use mendb_model::name::BackupKind::Full;
use mendb_model::operation::{Limits, ReportStatus, State};
use mendb_repo::Repository;
use mendb_service::Service;
use mendb_service::journal::command::Command;
use mendb_service::wire::Message;

use crate::meddled_engine::{Meddled, Meddler};
use crate::meddled_wire::{Between, To, meddled};
use crate::world::*;

const LEASE_MS: u64 = 300;

/// The first call of the engine ends when a test lets it, or after a time.
struct Slow {
    release: Mutex<mpsc::Receiver<()>>,
    at_most: Duration,
    calls: Arc<AtomicU64>,
    has_ended: AtomicBool,
    /// Whether another call began before the first had ended.
    overlapped: Arc<AtomicBool>,
}

impl Meddler for Slow {
    fn before(&self) {
        if self.calls.fetch_add(1, Ordering::SeqCst) == 0 {
            let _ = self.release.lock().unwrap().recv_timeout(self.at_most);
            self.has_ended.store(true, Ordering::SeqCst);
        } else if !self.has_ended.load(Ordering::SeqCst) {
            self.overlapped.store(true, Ordering::SeqCst);
        }
    }
}

/// A world with such an engine; what lets it go on, and what was seen.
struct SlowWorld {
    world: World,
    release: mpsc::Sender<()>,
    calls: Arc<AtomicU64>,
    overlapped: Arc<AtomicBool>,
}

impl SlowWorld {
    fn new(at_most: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let url = format!("file://{}", directory.path().join("repository").display());
        let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
        let limits = Limits {
            lease_ms: LEASE_MS,
            ..quick_limits()
        };
        let (release, released) = mpsc::channel();
        let (calls, overlapped) = (Arc::default(), Arc::default());
        let slow = Slow {
            release: Mutex::new(released),
            at_most,
            calls: Arc::clone(&calls),
            has_ended: AtomicBool::new(false),
            overlapped: Arc::clone(&overlapped),
        };
        let wrap = |engine| Meddled::wrap(engine, slow);
        let world = World::with_limits(directory, repository, wrap, runtime, limits);
        fill(&world, 50);
        Self {
            world,
            release,
            calls,
            overlapped,
        }
    }
}

#[test]
fn a_call_that_outlives_its_lease_is_no_lost_attempt() {
    let calls = |at_most| {
        let slow = SlowWorld::new(at_most);
        slow.world.done(&slow.world.backup(Full, "full"));
        slow.calls.load(Ordering::SeqCst)
    };
    let without_waiting = calls(Duration::ZERO);
    let over_five_leases = calls(Duration::from_millis(5 * LEASE_MS));
    assert_eq!(over_five_leases, without_waiting, "nothing was done twice");
}

/// Loses what attempts say of themselves on their way.
struct Deaf;

impl Between for Deaf {
    fn carry(&self, _: To, message: Message, deliver: &mut dyn FnMut(Message)) {
        match &message {
            Message::Reply { report, .. } if report.status == ReportStatus::InProgress => {}
            _ => deliver(message),
        }
    }
}

#[test]
fn a_rollback_waits_for_an_attempt_that_was_declared_lost_and_lives() {
    let mut slow = SlowWorld::new(Duration::from_secs(60));
    let service = Arc::into_inner(slow.world.service).unwrap();
    slow.world.service = Arc::new(Service::with_wire(service, meddled(Deaf)));
    let id = slow.world.order(Full, "full").unwrap();
    let service = &slow.world.service;
    let until = |is_so: &dyn Fn(&mendb_model::operation::Operation) -> bool| {
        let (_never, later) = mpsc::channel::<()>();
        for _ in 0..1000 {
            if is_so(&service.journal().operation(&id).unwrap()) {
                return;
            }
            let _ = later.recv_timeout(Duration::from_millis(10));
        }
        panic!("it does not come to be");
    };
    std::thread::scope(|scope| {
        let driving = scope.spawn(|| service.drive(&mut |_| {}).unwrap());
        until(&|operation| {
            let mut tasks = operation.tasks.iter();
            tasks.any(|task| task.error.is_some())
        });
        service.command(&id, Command::Cancel(None)).unwrap();
        // The attempts of the rollback are given up as well, as long as they wait.
        until(&|operation| {
            let is_tried = operation.tasks.iter().any(|task| task.error.is_some());
            operation.step_label() == "rollback" && is_tried
        });
        assert_eq!(
            slow.calls.load(Ordering::SeqCst),
            1,
            "nothing works beside it"
        );
        slow.release.send(()).unwrap();
        driving.join().unwrap();
    });
    let operation = service.journal().operation(&id).unwrap();
    assert_eq!(operation.state, State::Cancelled, "{:?}", operation.error);
    assert!(!slow.overlapped.load(Ordering::SeqCst));
}
