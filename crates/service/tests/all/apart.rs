//! Coordinator and workers in two processes, with a pipe between them.
//!
//! `MENDB_APART=1 cargo nextest run -p mendb-service` drives the operations of all tests so that drive them by
//! [`World::drive`].

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::operation::{Limits, RestoreStrategy};
use mendb_repo::Repository;
use mendb_service::RowMendOrder;
use mendb_service::coordinator::Coordinator;
use mendb_service::env::CRASH_AT;
use mendb_service::journal::Journal;
use mendb_service::wire::{End, pair, pipe};

use crate::meddled_wire::meddle;
use crate::wire::Lossy;
use crate::world::*;

/// Has each test drive its operations so.
pub const EACH: &str = "MENDB_APART";
/// The socket of the workers; only the process of a coordinator has it.
const SOCKET: &str = "MENDB_TEST_COORDINATOR_SOCKET";
/// The directory of its journal, and the repository.
const JOURNAL: &str = "MENDB_TEST_COORDINATOR_JOURNAL";
const REPOSITORY: &str = "MENDB_TEST_COORDINATOR_REPOSITORY";

/// Runs only in the process of a coordinator.
#[test]
fn the_coordinator_process_drives() {
    let Some(socket) = std::env::var_os(SOCKET) else {
        return;
    };
    let stream = UnixStream::connect(socket).unwrap();
    let journal = std::env::var_os(JOURNAL).unwrap();
    let journal = Journal::open(journal.as_ref()).unwrap();
    let end = pipe::connect(stream.try_clone().unwrap(), stream).unwrap();
    let repository_id = std::env::var(REPOSITORY).ok();
    let coordinator = Coordinator::new(&journal, end, repository_id, None);
    coordinator.run(&mut |_| {}).unwrap();
}

/// Works for a coordinator in a process of its own, until that ends. `between` gets the end of the wire
/// to it, and gives that which the workers have.
fn work(
    world: &World,
    crash_at: Option<u64>,
    between: impl FnOnce(End) -> End,
) -> (mendb_service::Result<()>, ExitStatus) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let socket = std::env::temp_dir().join(format!("mendb-{}-{number}", std::process::id()));
    let listener = UnixListener::bind(&socket).unwrap();
    let mut coordinator: Option<Child> = None;
    let worked = world.service.work_for(|repository_id| {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--exact", "apart::the_coordinator_process_drives"])
            .env(SOCKET, &socket)
            .env(JOURNAL, world.directory.path())
            .stdout(std::process::Stdio::null());
        if let Some(id) = repository_id {
            command.env(REPOSITORY, id);
        }
        if let Some(at) = crash_at {
            command.env(CRASH_AT, at.to_string());
            command.stderr(std::process::Stdio::null());
        }
        coordinator = Some(command.spawn()?);
        let (stream, _) = listener.accept()?;
        Ok(between(pipe::connect(stream.try_clone()?, stream)?))
    });
    std::fs::remove_file(&socket).unwrap();
    let status = coordinator.map(|mut coordinator| coordinator.wait());
    (
        worked,
        status
            .unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
            .unwrap(),
    )
}

/// Drives all operations of a world.
pub fn drive(world: &World) {
    let (worked, status) = work(world, None, |end| end);
    worked.unwrap();
    assert!(status.success(), "{status}");
}

fn mend_order() -> RowMendOrder {
    RowMendOrder {
        collection: "shop".into(),
        to: Some("increment".into()),
        ..RowMendOrder::default()
    }
}

/// Takes two backups, damages the tables, mends them, drops and restores them, with proofs of all of it.
fn story(world: &World, mut drive: impl FnMut(&World)) {
    fill(world, 300);
    let id = world.order(Full, "full").unwrap();
    drive(world);
    world.done(&world.service.journal().operation(&id).unwrap());
    edit(world, 1);
    let before = contents(&world.database);
    let id = world.order(Incremental, "increment").unwrap();
    drive(world);
    world.done(&world.service.journal().operation(&id).unwrap());
    edit(world, 2);
    let id = world.service.request_row_mend(&mend_order()).unwrap();
    drive(world);
    world.done(&world.service.journal().operation(&id).unwrap());
    assert_eq!(contents(&world.database), before);
    for strategy in [RestoreStrategy::Sequential, RestoreStrategy::Merged] {
        world.drop_tables();
        let order = mendb_service::RestoreOrder {
            strategy,
            ..restore_order("increment")
        };
        let id = world.service.request_restore(&order).unwrap();
        drive(world);
        world.done(&world.service.journal().operation(&id).unwrap());
        assert_eq!(contents(&world.database), before);
    }
}

#[test]
fn a_coordinator_in_another_process_brings_operations_to_their_end() {
    story(&World::new(), drive);
}

#[test]
fn messages_between_processes_may_be_lost_doubled_and_late() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let url = format!("file://{}", directory.path().join("repository").display());
    let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
    let limits = Limits {
        lease_ms: 150,
        ..quick_limits()
    };
    let world = World::with_limits(directory, repository, |engine| engine, runtime, limits);
    let lossy = Arc::new(Lossy::default());
    story(&world, |world| {
        let (worked, status) = work(world, None, |end| {
            let (workers, other) = pair();
            meddle(&lossy, end, other);
            workers
        });
        worked.unwrap();
        assert!(status.success(), "{status}");
    });
}

#[test]
fn a_coordinator_that_dies_at_any_commit_is_replaced_by_the_next() {
    let mut died = 0;
    story(&World::new(), |world| {
        // The next dies two commits later, until one has nothing left to do.
        for at in 1.. {
            let (worked, status) = work(world, Some(2 + at % 3), |end| end);
            worked.unwrap();
            if status.success() {
                return;
            }
            died += 1;
        }
    });
    assert!(died > 20, "{died}");
}
