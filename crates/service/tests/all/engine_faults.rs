//! Every call that an operation makes of its engine fails once in every way, or takes longer than a lease. The
//! operation ends in a state that it may end in, says why, and can be resumed or given up from there.
//!
//! ```text
//! MENDB_ENGINE_FAULTS=all cargo nextest run -p mendb-service engine_faults
//! ```
//!
//! Without it each call fails in one of the ways, in turn.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mendb_engines::{EngineError, Remedy, Result};
use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::name::OperationId;
use mendb_model::operation::{Limits, RestoreStrategy, State};
use mendb_model::part::OnConcurrentInsert;
use mendb_repo::Repository;
use mendb_rowstore::PathState;
use mendb_service::journal::command::Command;
use mendb_service::{RestoreOrder, RowMendOrder};

use crate::meddled_engine::{Meddled, Meddler};
use crate::world::*;

const LEASE_MS: u64 = 150;
/// What an engine that fails says.
const SAID: &str = "the engine was told to fail here";
/// So often something is asked for again that failed before it was an operation.
const MOST_TRIES: u32 = 3;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It answers with an error.
    Error(Remedy),
    /// It takes three times as long as an attempt may be silent.
    Slow,
}

const FAULTS: [Fault; 6] = [
    Fault::Error(Remedy::Retry),
    Fault::Error(Remedy::Refreeze),
    Fault::Error(Remedy::Replan),
    Fault::Error(Remedy::Request),
    Fault::Error(Remedy::Repair),
    Fault::Slow,
];

/// What is to happen, and which calls there were.
#[derive(Default)]
struct Plan {
    fault: Option<(u64, Fault)>,
    calls: AtomicU64,
    /// Whether the operation is over: nothing happens to what looks at its result.
    is_over: AtomicBool,
    names: Mutex<Vec<&'static str>>,
}

struct FailsOnce(Arc<Plan>);

impl Meddler for FailsOnce {
    #[expect(clippy::disallowed_methods, reason = "a call that takes its time")]
    fn call(&self, method: &'static str) -> Result<()> {
        // The service is opened before there is an operation.
        if method == "identify" || self.0.is_over.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.names.lock().unwrap().push(method);
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst);
        match self.0.fault {
            Some((at, Fault::Error(remedy))) if at == number => Err(EngineError::new(remedy, SAID)),
            Some((at, Fault::Slow)) if at == number => {
                std::thread::sleep(Duration::from_millis(3 * LEASE_MS));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// An operation: how a world is made ready for it, how it is ordered, and what the tables hold when it is done.
struct Scenario {
    name: &'static str,
    prepare: fn(&World),
    order: fn(&World) -> mendb_service::Result<OperationId>,
    /// Which backup the tables are as then; `None`: as before.
    leaves: Option<&'static str>,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "full backup",
        prepare: |_| {},
        order: |world| world.order(Full, "new"),
        leaves: None,
    },
    Scenario {
        name: "increment",
        prepare: |world| edit(world, 2),
        order: |world| world.order(Incremental, "new"),
        leaves: None,
    },
    Scenario {
        name: "restore",
        prepare: World::drop_tables,
        order: |world| world.service.request_restore(&restore_order("increment")),
        leaves: Some("increment"),
    },
    Scenario {
        name: "merged restore",
        prepare: World::drop_tables,
        order: |world| {
            world.service.request_restore(&RestoreOrder {
                strategy: RestoreStrategy::Merged,
                ..restore_order("increment")
            })
        },
        leaves: Some("increment"),
    },
    Scenario {
        name: "mend",
        prepare: damage,
        order: |world| world.service.request_row_mend(&to_full()),
        leaves: Some("full"),
    },
    Scenario {
        name: "undo",
        prepare: |world| {
            damage(world);
            let id = world.service.request_row_mend(&to_full()).unwrap();
            let mended = world.drive(&id);
            world.done(&mended);
        },
        order: |world| {
            let operations = world.service.journal().operations().unwrap();
            let mut mends = operations
                .into_iter()
                .filter(|it| it.request.kind() == "mend");
            let mend = mends.next_back().unwrap().operation_id;
            world.service.request_undo(&mend, OnConcurrentInsert::Fail)
        },
        leaves: Some("damaged"),
    },
];

fn to_full() -> RowMendOrder {
    RowMendOrder {
        collection: "shop".into(),
        to: Some("full".into()),
        ..RowMendOrder::default()
    }
}

fn damage(world: &World) {
    write_orders(world, 10..20, "damage");
}

fn open(directory: tempfile::TempDir, plan: &Arc<Plan>) -> World {
    let runtime = runtime();
    let url = format!("file://{}", directory.path().join("repository").display());
    let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
    let limits = Limits {
        lease_ms: LEASE_MS,
        ..quick_limits()
    };
    let meddler = FailsOnce(Arc::clone(plan));
    let wrap = |engine| Meddled::wrap(engine, meddler);
    World::with_limits(directory, repository, wrap, runtime, limits)
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}

/// What tables hold, at each backup and in between.
struct Known {
    full: Contents,
    increment: Contents,
    damaged: Contents,
    before: Contents,
}

/// A shop that is ready for a scenario.
fn prepared(scenario: &Scenario) -> (tempfile::TempDir, Known) {
    let world = World::new();
    fill(&world, 60);
    world.done(&world.backup(Full, "full"));
    let full = contents(&world.database);
    edit(&world, 1);
    world.done(&world.backup(Incremental, "increment"));
    let increment = contents(&world.database);
    (scenario.prepare)(&world);
    let before = contents(&world.database);
    // What an undo brings back.
    let damaged = {
        let other = World::new();
        fill(&other, 60);
        edit(&other, 1);
        damage(&other);
        contents(&other.database)
    };
    let known = Known {
        full,
        increment,
        damaged,
        before,
    };
    (world.directory, known)
}

fn is_unlocked(world: &World) -> bool {
    let locks = world.database.locks();
    locks.iter().all(|(_, state)| *state == PathState::Ready)
}

/// Runs a scenario with a fault, and takes it to an end.
fn run(scenario: &Scenario, from: &Path, known: &Known, plan: &Arc<Plan>) {
    let directory = tempfile::tempdir().unwrap();
    copy(from, directory.path());
    let told = || {
        let names = plan.names.lock().unwrap();
        let at = plan.fault.map_or(0, |(at, _)| at as usize);
        format!("{}: {:?} at {:?}", scenario.name, plan.fault, names.get(at))
    };
    let world = open(directory, plan);
    let mut ordered = None;
    for _ in 0..MOST_TRIES {
        match (scenario.order)(&world) {
            Ok(id) => {
                ordered = Some(id);
                break;
            }
            Err(error) => {
                let error = mendb_model::describe_error(&error);
                assert!(error.contains(SAID), "{}: {error}", told());
            }
        }
    }
    let id = ordered.unwrap_or_else(|| panic!("{}: it was not taken", told()));
    let drive = || {
        for _ in 0..MOST_TRIES {
            match world.service.drive(&mut |_| {}) {
                Ok(()) => break,
                Err(error) => assert!(error.to_string().contains(SAID), "{}: {error}", told()),
            }
        }
        world.service.journal().operation(&id).unwrap()
    };
    let mut operation = drive();
    let mut is_cancelled = false;
    if operation.state == State::Failed {
        let error = operation.error.clone().unwrap_or_default();
        assert!(error.contains(SAID), "{}: {error}", told());
        let at = plan.fault.map_or(0, |(at, _)| at);
        is_cancelled = at.is_multiple_of(2) && world.service.command(&id, Command::Cancel).is_ok();
        if !is_cancelled {
            world.service.command(&id, Command::Resume(None)).unwrap();
        }
        operation = drive();
    }
    plan.is_over.store(true, Ordering::SeqCst);
    let wanted = if is_cancelled {
        State::Cancelled
    } else {
        State::Done
    };
    assert_eq!(operation.state, wanted, "{}: {:?}", told(), operation.error);
    assert!(is_unlocked(&world), "{}", told());
    let expected = match scenario.leaves.filter(|_| !is_cancelled) {
        Some("full") => &known.full,
        Some("increment") => &known.increment,
        Some(_) => &known.damaged,
        None => &known.before,
    };
    assert!(
        contents(&world.database) == *expected,
        "{}: other rows",
        told()
    );
    if scenario.leaves.is_none() && !is_cancelled {
        world.drop_tables();
        world.done(&world.restore("new"));
        assert!(
            contents(&world.database) == *expected,
            "{}: other rows",
            told()
        );
    }
}

#[test]
fn whatever_call_fails_however_an_operation_ends_as_it_may_and_says_why() {
    let is_all = std::env::var("MENDB_ENGINE_FAULTS").is_ok_and(|which| which == "all");
    for (number, scenario) in SCENARIOS.iter().enumerate() {
        let (directory, known) = prepared(scenario);
        let plain = Arc::<Plan>::default();
        run(scenario, directory.path(), &known, &plain);
        let calls = plain.calls.load(Ordering::SeqCst);
        assert!(calls > 5, "{} makes only {calls} calls", scenario.name);
        for call in 0..calls {
            for (way, fault) in FAULTS.into_iter().enumerate() {
                if is_all || (call as usize + number) % FAULTS.len() == way {
                    let plan = Plan {
                        fault: Some((call, fault)),
                        ..Plan::default()
                    };
                    run(scenario, directory.path(), &known, &Arc::new(plan));
                }
            }
        }
    }
}
