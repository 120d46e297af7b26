//! Every call that an operation makes of its part store fails once in every way, is done without an answer, or takes
//! longer than a lease. The operation ends in a state that it may end in, says why, and can be resumed or given up
//! from there. Then its tables hold what they held before or what was wanted, and nothing of it is left.
//!
//! ```text
//! MENDB_ENGINE_FAULTS=all cargo nextest run -p mendb-service part_faults
//! ```
//!
//! Without it each call fails in one of the ways, in turn.

use std::path::Path;
use std::sync::Arc;

use mendb_engines::Engine;
use mendb_model::name::OperationId;
use mendb_model::operation::{Drill, Limits, Operation, State};
use mendb_model::part::{OnConcurrentInsert, PartitionMethod, TableName};
use mendb_repo::Repository;
use mendb_service::journal::command::Command;
use mendb_service::{MendFrom, MendOrder, PartBackupOrder, Service, Settings};

use crate::failing::{FailsOnce, LEASE_MS, MOST_TRIES, Plan, SAID, copy, faults};
use crate::folder_store::{Contents, FolderStore, definition};
use crate::meddled_parts::MeddledParts;
use crate::world::{options, quick_limits, runtime};

/// A part store with its repository and a service.
struct PartWorld {
    directory: tempfile::TempDir,
    plan: Arc<Plan>,
    store: Arc<FolderStore>,
    repository: Repository,
    runtime: Arc<tokio::runtime::Runtime>,
    service: Service,
}

impl PartWorld {
    fn open(directory: tempfile::TempDir, plan: &Arc<Plan>) -> Self {
        let runtime = runtime();
        let url = format!("file://{}", directory.path().join("repository").display());
        let repository = runtime.block_on(Repository::open(&url, options())).unwrap();
        let store = Arc::new(FolderStore::open(&directory.path().join("store")));
        let engine = MeddledParts::wrap(
            Arc::<FolderStore>::clone(&store),
            FailsOnce(Arc::clone(plan)),
        );
        let settings = Settings {
            limits: Limits {
                lease_ms: LEASE_MS,
                ..quick_limits()
            },
            target_url: "folder".to_owned(),
            host: None,
        };
        let service = Service::new(
            engine,
            repository.clone(),
            Arc::clone(&runtime),
            directory.path(),
            settings,
        );
        Self {
            directory,
            plan: Arc::clone(plan),
            store,
            repository,
            runtime,
            service: service.unwrap(),
        }
    }

    fn drive(&self, id: &OperationId) -> Operation {
        self.service.drive(&mut |_| {}).unwrap();
        self.service.journal().operation(id).unwrap()
    }

    fn done(&self, id: &OperationId) {
        let operation = self.drive(id);
        assert_eq!(operation.state, State::Done, "{:?}", operation.error);
    }

    fn order_backup(&self, label: &str) -> mendb_service::Result<OperationId> {
        self.service.request_part_backup(&PartBackupOrder {
            collection: "shop".to_owned(),
            tables: Some("shop.*".to_owned()),
            label: Some(label.to_owned()),
            ..PartBackupOrder::default()
        })
    }

    /// The last operation of a kind.
    fn last(&self, kind: &str) -> OperationId {
        let operations = self.service.journal().operations().unwrap();
        let mut of_kind = operations
            .into_iter()
            .filter(|it| it.request.kind() == kind);
        of_kind.next_back().unwrap().operation_id
    }

    /// What its tables hold, but for those that a mend has put aside.
    fn contents(&self) -> Contents {
        let mut contents = self.store.contents();
        contents.retain(|table, _| !table.contains("_before_"));
        contents
    }
}

fn table(name: &str) -> TableName {
    TableName::new("shop", name)
}

fn to_one() -> MendOrder {
    MendOrder {
        in_place: true,
        ..MendOrder::new(MendFrom::Collection {
            collection: "shop".to_owned(),
            to: Some("one".to_owned()),
            shard: None,
        })
    }
}

/// Three tables: orders with parts in three partitions, customers with some, and goods that nobody changes.
fn fill(store: &FolderStore) {
    for name in ["orders", "customers", "goods"] {
        store.create(definition(&table(name), "String", ""));
    }
    for partition in ["1", "2", "3"] {
        store.insert(&table("orders"), partition, &[(1, "one"), (2, "two")]);
        store.insert(&table("orders"), partition, &[(3, "three")]);
    }
    store.insert(&table("customers"), "1", &[(1, "Ada"), (2, "Grace")]);
    store.insert(&table("goods"), "1", &[(1, "tea")]);
}

/// Backs it up, as it was when the damage came.
fn back_up(world: &PartWorld) {
    world.done(&world.order_backup("one").unwrap());
}

/// What goes wrong after that.
fn back_up_then_damage(world: &PartWorld) {
    back_up(world);
    damage(world);
}

/// What goes wrong: a partition is dropped, another updated, wrong rows come into the third, and a table is dropped.
fn damage(world: &PartWorld) {
    let store = &world.store;
    store.drop_partition(&table("orders"), "1");
    store.update(&table("orders"), "2", "wrong");
    store.insert(&table("orders"), "3", &[(9, "wrong")]);
    mendb_engines::PartStore::drop_table(&**store, &table("customers")).unwrap();
}

/// An operation: how a world is made ready for it, how it is ordered, and what it leaves.
struct Scenario {
    name: &'static str,
    prepare: fn(&PartWorld),
    order: fn(&PartWorld) -> mendb_service::Result<OperationId>,
    /// What the tables hold when it is done.
    leaves: Leaves,
    /// Whether there may be nothing whole to take it back by.
    may_stay: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// What they held before it.
    Before,
    /// What they held when the backup was made.
    Backup,
    /// That, with a mutation applied that was not finished then.
    Mutated,
    /// What they held before the mend that is taken back.
    Damage,
}

/// Runs a scenario with a fault, and takes it to an end.
fn run(scenario: &Scenario, from: &Path, known: &Known, plan: &Arc<Plan>) {
    let directory = tempfile::tempdir().unwrap();
    copy(from, directory.path());
    let told = || plan.describe(scenario.name);
    let world = PartWorld::open(directory, plan);
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
    if operation.state == State::Failed {
        let error = operation.error.clone().unwrap_or_default();
        assert!(error.contains(SAID), "{}: {error}", told());
        let at = plan.fault.map_or(0, |(at, _)| at);
        let is_given_up =
            at.is_multiple_of(2) && world.service.command(&id, Command::Cancel(None)).is_ok();
        if !is_given_up {
            world.service.command(&id, Command::Resume(None)).unwrap();
        }
        operation = drive();
    }
    plan.set_on(false);
    let is_over = matches!(operation.state, State::Done | State::Cancelled);
    assert!(is_over, "{}: {:?}", told(), operation.error);
    let left = world.store.leftovers();
    assert!(left.is_empty(), "{}: {left:?} is left", told());
    if operation.state == State::Cancelled && scenario.may_stay {
        let plans = world.service.mend_plans(&id).unwrap().into_iter();
        let mut notes = plans.flat_map(|record| record.plan.notes);
        // Its table stays, and that is said.
        if notes.any(|note| note.contains("mended") || note.contains("is left incomplete")) {
            return;
        }
    }
    if operation.state == State::Cancelled {
        let kept = world.store.kept();
        let of_it = kept.iter().filter(|freeze| freeze.contains(id.as_str()));
        assert_eq!(of_it.count(), 0, "{}: {kept:?} is kept", told());
        let expected = match scenario.leaves {
            // To give it up is what was ordered.
            Leaves::Damage if scenario.name == GIVE_UP => &known.damaged,
            _ => &known.before,
        };
        assert!(world.contents() == *expected, "{}: other rows", told());
        return;
    }
    let expected = match scenario.leaves {
        Leaves::Before => &known.before,
        Leaves::Backup => &known.backup,
        Leaves::Mutated => &known.mutated,
        Leaves::Damage => &known.damaged,
    };
    assert!(world.contents() == *expected, "{}: other rows", told());
    if operation.request.is_backup() {
        check_backup(&world, &told());
    }
}

/// The newest backup has all tables, or says which it lacks and why.
fn check_backup(world: &PartWorld, told: &str) {
    let listed = world.runtime.block_on(world.repository.list("shop"));
    let backups = listed.unwrap();
    let (_, newest) = backups.last().unwrap();
    let store = newest
        .as_ref()
        .unwrap()
        .manifest
        .part_store
        .clone()
        .unwrap();
    let missing: Vec<String> = (store.missing.iter())
        .map(|missing| {
            assert!(missing.reason.contains(SAID), "{told}: {}", missing.reason);
            missing.name.to_string()
        })
        .collect();
    assert_eq!(store.complete, missing.is_empty(), "{told}");
    let mut expected = world.contents();
    expected.retain(|table, _| !missing.contains(table));
    for table in expected.keys() {
        let (database, name) = table.split_once('.').unwrap();
        let name = TableName::new(database, name);
        mendb_engines::PartStore::drop_table(&*world.store, &name).unwrap();
    }
    let order = MendOrder {
        from: MendFrom::Collection {
            collection: "shop".to_owned(),
            to: Some("new".to_owned()),
            shard: None,
        },
        ..to_one()
    };
    world.done(&world.service.request_mend(&order).unwrap());
    let mut restored = world.contents();
    restored.retain(|table, _| !missing.contains(table));
    assert!(restored == expected, "{told}: other rows were backed up");
}

/// What tables hold, at each moment.
struct Known {
    backup: Contents,
    mutated: Contents,
    damaged: Contents,
    before: Contents,
}

/// A shop that is ready for a scenario.
fn prepared(scenario: &Scenario) -> (tempfile::TempDir, Known) {
    let world = PartWorld::open(tempfile::tempdir().unwrap(), &Arc::default());
    fill(&world.store);
    if scenario.leaves == Leaves::Mutated {
        let command = "UPDATE text = 'mutated' WHERE 1";
        world.store.begin_mutation(&table("orders"), command);
    }
    let backup = world.contents();
    (scenario.prepare)(&world);
    let before = world.contents();
    let other = |change: &dyn Fn(&PartWorld)| {
        let other = PartWorld::open(tempfile::tempdir().unwrap(), &Arc::default());
        fill(&other.store);
        change(&other);
        other.contents()
    };
    let known = Known {
        backup,
        mutated: other(&|other| {
            for partition in ["1", "2", "3"] {
                other.store.update(&table("orders"), partition, "mutated");
            }
        }),
        damaged: other(&damage),
        before,
    };
    (world.directory, known)
}

fn every_call_may_fail(number: usize, scenario: &Scenario) {
    let (directory, known) = prepared(scenario);
    let plain = Arc::<Plan>::default();
    run(scenario, directory.path(), &known, &plain);
    let calls = plain.calls();
    assert!(calls > 5, "{} makes only {calls} calls", scenario.name);
    for plan in faults(number, calls) {
        run(scenario, directory.path(), &known, &plan);
    }
}

#[test]
fn a_first_backup_of_parts() {
    let scenario = Scenario {
        name: "first backup",
        prepare: |_| {},
        order: |world| world.order_backup("new"),
        leaves: Leaves::Before,
        may_stay: false,
    };
    every_call_may_fail(0, &scenario);
}

#[test]
fn a_backup_of_parts_that_changed() {
    let scenario = Scenario {
        name: "backup of changes",
        prepare: back_up_then_damage,
        order: |world| world.order_backup("new"),
        leaves: Leaves::Before,
        may_stay: false,
    };
    every_call_may_fail(1, &scenario);
}

#[test]
fn a_mend_of_parts() {
    let scenario = Scenario {
        name: "mend",
        prepare: back_up_then_damage,
        order: |world| world.service.request_mend(&to_one()),
        leaves: Leaves::Backup,
        may_stay: false,
    };
    every_call_may_fail(2, &scenario);
}

#[test]
fn a_mend_of_parts_that_removes_first() {
    let scenario = Scenario {
        name: "mend that removes first",
        prepare: back_up_then_damage,
        order: |world| {
            world.service.request_mend(&MendOrder {
                order: PartitionMethod::RemoveFirst,
                keep_undo: Some(false),
                ..to_one()
            })
        },
        leaves: Leaves::Backup,
        may_stay: true,
    };
    every_call_may_fail(3, &scenario);
}

#[test]
fn a_mend_of_parts_with_all_checks() {
    let scenario = Scenario {
        name: "mend with checks",
        prepare: |world| {
            back_up_then_damage(world);
            world.store.rot(&table("orders"), "3");
        },
        order: |world| {
            world.service.request_mend(&MendOrder {
                check_kept: true,
                check_table: true,
                ..to_one()
            })
        },
        leaves: Leaves::Backup,
        may_stay: true,
    };
    every_call_may_fail(4, &scenario);
}

#[test]
fn a_drill_of_parts() {
    let scenario = Scenario {
        name: "drill",
        prepare: back_up_then_damage,
        order: |world| {
            world.service.request_mend(&MendOrder {
                in_place: false,
                keep_undo: Some(false),
                check_table: true,
                drill: Some(Drill {
                    percent: 50,
                    seed: "a".to_owned(),
                }),
                ..to_one()
            })
        },
        leaves: Leaves::Before,
        may_stay: false,
    };
    every_call_may_fail(9, &scenario);
}

#[test]
fn a_mend_of_definitions_and_parts() {
    let scenario = Scenario {
        name: "mend of definitions",
        prepare: |world| {
            back_up(world);
            let store = &world.store;
            let redefined = definition(&table("orders"), "String", "changed");
            let moment = mendb_engines::Moment::After;
            let engine: &dyn Engine = &*world.store;
            let parts = engine.parts().unwrap();
            parts
                .redefine(&table("orders"), &redefined, moment)
                .unwrap();
            parts.drop_table(&table("customers")).unwrap();
            store.create(definition(&table("customers"), "FixedString(8)", ""));
            store.insert(&table("customers"), "1", &[(1, "other")]);
        },
        order: |world| {
            world.service.request_mend(&MendOrder {
                schema: true,
                ..to_one()
            })
        },
        leaves: Leaves::Backup,
        may_stay: false,
    };
    every_call_may_fail(5, &scenario);
}

#[test]
fn a_mend_of_parts_that_applies_mutations() {
    let scenario = Scenario {
        name: "mend with mutations",
        prepare: back_up_then_damage,
        order: |world| {
            world.service.request_mend(&MendOrder {
                apply_mutations: true,
                ..to_one()
            })
        },
        leaves: Leaves::Mutated,
        may_stay: false,
    };
    every_call_may_fail(6, &scenario);
}

#[test]
fn an_undo_of_a_mend_of_parts() {
    let scenario = Scenario {
        name: "undo",
        prepare: |world| {
            back_up_then_damage(world);
            world.done(&world.service.request_mend(&to_one()).unwrap());
        },
        order: |world| {
            let mend = world.last("mend");
            world
                .service
                .request_undo(&mend, OnConcurrentInsert::Fail, false)
        },
        leaves: Leaves::Damage,
        may_stay: false,
    };
    every_call_may_fail(7, &scenario);
}

const GIVE_UP: &str = "mend that is given up";

#[test]
fn a_mend_of_parts_that_is_given_up() {
    let scenario = Scenario {
        name: GIVE_UP,
        prepare: |world| {
            back_up_then_damage(world);
            let order = MendOrder {
                check_table: true,
                ..to_one()
            };
            let id = world.service.request_mend(&order).unwrap();
            // It fails when all is live.
            world.plan.set_broken(Some("check_table"));
            assert_eq!(world.drive(&id).state, State::Failed);
            world.plan.set_broken(None);
        },
        order: |world| {
            let mend = world.last("mend");
            world.service.command(&mend, Command::Cancel(None))?;
            Ok(mend)
        },
        leaves: Leaves::Damage,
        may_stay: false,
    };
    every_call_may_fail(8, &scenario);
}
