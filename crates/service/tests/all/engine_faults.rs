//! Every call that an operation makes of its row store fails once in every way, or takes longer than a lease. The
//! operation ends in a state that it may end in, says why, and can be resumed or given up from there.
//!
//! ```text
//! MENDB_ENGINE_FAULTS=all cargo nextest run -p mendb-service engine_faults
//! ```
//!
//! Without it each call fails in one of the ways, in turn.

use std::path::Path;
use std::sync::Arc;

use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::name::OperationId;
use mendb_model::operation::{Limits, RestoreStrategy, State};
use mendb_model::part::OnConcurrentInsert;
use mendb_repo::Repository;
use mendb_rowstore::PathState;
use mendb_service::journal::command::Command;
use mendb_service::{RestoreOrder, RowMendOrder};

use crate::failing::{FailsOnce, LEASE_MS, MOST_TRIES, Plan, SAID, copy, faults};
use crate::meddled_engine::Meddled;
use crate::world::*;

/// An operation: how a world is made ready for it, how it is ordered, and what the tables hold when it is done.
struct Scenario {
    name: &'static str,
    prepare: fn(&World),
    order: fn(&World) -> mendb_service::Result<OperationId>,
    /// Which backup the tables are as then; `None`: as before.
    leaves: Option<&'static str>,
}

const SCENARIOS: [Scenario; 7] = [
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
        name: "drill",
        prepare: |_| {},
        order: |world| world.service.request_restore(&drill_order("increment")),
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
            world
                .service
                .request_undo(&mend, OnConcurrentInsert::Fail, false)
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
    let told = || plan.describe(scenario.name);
    let world = open(directory, plan);
    plan.set_on(true);
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
    // What is refused before anything was written ends by itself.
    let mut is_cancelled = operation.state == State::Cancelled;
    if is_cancelled {
        let error = operation.error.clone().unwrap_or_default();
        assert!(error.contains(SAID), "{}: {error}", told());
    }
    if operation.state == State::Failed {
        let error = operation.error.clone().unwrap_or_default();
        assert!(error.contains(SAID), "{}: {error}", told());
        let at = plan.fault.map_or(0, |(at, _)| at);
        is_cancelled =
            at.is_multiple_of(2) && world.service.command(&id, Command::Cancel(None)).is_ok();
        if !is_cancelled {
            world.service.command(&id, Command::Resume(None)).unwrap();
        }
        operation = drive();
    }
    plan.set_on(false);
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
    for (number, scenario) in SCENARIOS.iter().enumerate() {
        let (directory, known) = prepared(scenario);
        let plain = Arc::<Plan>::default();
        run(scenario, directory.path(), &known, &plain);
        let calls = plain.calls();
        assert!(calls > 5, "{} makes only {calls} calls", scenario.name);
        for plan in faults(number, calls) {
            run(scenario, directory.path(), &known, &plan);
        }
    }
}
