//! A mend of some keys and the rows outside of them that hold what would come back: nothing is mended that
//! would leave two rows where a unique index allows one.

use std::collections::{BTreeMap, BTreeSet};

use mendb_model::key::KeyRange;
use mendb_model::name::BackupKind::{Full, Incremental};
use mendb_model::name::OperationId;
use mendb_model::operation::{FindBy, Operation, Request, State};
use mendb_model::{ColumnType, IndexSchema, TableSchema, Value};
use mendb_rowstore::{Direction, WriteBatch};
use mendb_service::journal::command::Command;
use mendb_service::{Conflicting, Error, HolderFate, RowMendOrder};
use proptest::prelude::*;

use crate::world::*;

const TABLE: &str = "people";
const INCLUDE: Conflicting = Conflicting {
    include: true,
    erase_newer: false,
};
const ERASE: Conflicting = Conflicting {
    include: true,
    erase_newer: true,
};

/// What a row has beside its key: one column that is unique and may be NULL, two that are unique together.
type Row = (Option<u8>, u8, u8);
/// Rows by their ids, no two of which share what is unique.
type Rows = BTreeMap<i64, Row>;

fn people() -> TableSchema {
    let index = |name: &str, columns: &[&str]| IndexSchema {
        name: name.into(),
        columns: columns.iter().map(|c| (*c).into()).collect(),
        cover: Vec::new(),
        unique: true,
    };
    TableSchema {
        columns: vec![
            column("id", ColumnType::Int64),
            column("mail", ColumnType::Utf8),
            column("house", ColumnType::Uint8),
            column("flat", ColumnType::Uint8),
        ],
        key: vec!["id".into()],
        indexes: vec![
            index("by_mail", &["mail"]),
            index("by_home", &["house", "flat"]),
        ],
    }
}

fn values(id: i64, (mail, house, flat): Row) -> Vec<Value> {
    vec![
        Value::Int(id),
        mail.map_or(Value::Null, |mail| text(&format!("{mail}@example.org"))),
        Value::Uint(house.into()),
        Value::Uint(flat.into()),
    ]
}

/// Makes the table hold these rows, whatever it held, in one write.
fn write(world: &World, now: &Rows, rows: &Rows) {
    let table = world.table(TABLE);
    let mut batch = WriteBatch::new();
    for id in now.keys().filter(|id| !rows.contains_key(id)) {
        batch.erase(&table, vec![Value::Int(*id)]).unwrap();
    }
    for (id, row) in rows.iter().filter(|(id, row)| now.get(id) != Some(row)) {
        batch.replace(&table, values(*id, *row)).unwrap();
    }
    world.database.write(batch).unwrap();
}

fn read(world: &World) -> Rows {
    let snapshot = world.database.snapshot().unwrap();
    let table = snapshot.open_table(TABLE).unwrap();
    let rows = snapshot.scan(&table, KeyRange::all(), Direction::Ascending);
    let rows = rows.unwrap().map(|row| {
        let row = row.unwrap();
        let number = |at: usize| match row[at] {
            Value::Uint(v) => u8::try_from(v).unwrap(),
            ref other => panic!("{other:?}"),
        };
        let mail = match &row[1] {
            Value::Text(mail) => Some(mail.split('@').next().unwrap().parse().unwrap()),
            _ => None,
        };
        let Value::Int(id) = row[0] else {
            panic!("{row:?}")
        };
        (id, (mail, number(2), number(3)))
    });
    rows.collect()
}

/// Whether two rows share what is unique.
fn collide(one: &Row, other: &Row) -> bool {
    (one.0.is_some() && one.0 == other.0) || (one.1, one.2) == (other.1, other.2)
}

/// What a mend of a range brings back, and who is in its way, and theirs, if they are taken along.
fn taken_along(live: &Rows, backup: &Rows, range: &std::ops::Range<i64>) -> BTreeSet<i64> {
    let mut taken = BTreeSet::new();
    loop {
        let is_mended = |id: &i64| range.contains(id) || taken.contains(id);
        let comes_back = |(id, row): &(&i64, &Row)| is_mended(id) && live.get(*id) != Some(*row);
        let coming: Vec<&Row> = (backup.iter().filter(comes_back))
            .map(|(_, row)| row)
            .collect();
        let holds = |(id, row): &(&i64, &Row)| {
            !is_mended(id) && coming.iter().any(|coming| collide(coming, row))
        };
        let more: Vec<i64> = (live.iter().filter(holds)).map(|(id, _)| *id).collect();
        if more.is_empty() {
            return taken;
        }
        taken.extend(more);
    }
}

/// The rows when some keys are as in the backup.
fn mended(live: &Rows, backup: &Rows, is_mended: impl Fn(i64) -> bool) -> Rows {
    let stay = live.iter().filter(|(id, _)| !is_mended(**id));
    let come = backup.iter().filter(|(id, _)| is_mended(**id));
    stay.chain(come).map(|(id, row)| (*id, *row)).collect()
}

fn order(to: &str, range: &std::ops::Range<i64>, conflicting: Conflicting) -> RowMendOrder {
    let keys = KeyRange {
        start: order_key(range.start),
        end: Some(order_key(range.end)),
    };
    RowMendOrder {
        collection: "shop".into(),
        to: Some(to.into()),
        ranges: BTreeMap::from([(TABLE.to_owned(), keys)]),
        conflicting,
        ..RowMendOrder::default()
    }
}

fn world_with(backup: &Rows, by_digests: bool) -> World {
    let world = World::new();
    let splits = vec![order_key(4), order_key(9)];
    world
        .database
        .create_table(TABLE, people(), splits)
        .unwrap();
    let tables = [TABLE.to_owned()];
    world.service.create_collection("shop", &tables).unwrap();
    write(&world, &Rows::new(), backup);
    world.done(&world.backup(Full, "one"));
    if by_digests {
        // Another chain: changes since the first are not known any more.
        world.done(&world.backup(Full, "another"));
    }
    world
}

fn done(world: &World, id: &OperationId) -> Operation {
    let operation = world.drive(id);
    world.done(&operation);
    operation
}

fn operations(world: &World) -> usize {
    world.service.journal().operations().unwrap().len()
}

/// A state whose rows do not share what is unique.
fn state() -> impl Strategy<Value = Rows> {
    let row = (proptest::option::weighted(0.8, 0u8..6), 0u8..3, 0u8..4);
    proptest::collection::btree_map(0i64..14, row, 0..12).prop_map(|rows| {
        let mut apart = Rows::new();
        for (id, row) in rows {
            if !apart.values().any(|other| collide(other, &row)) {
                apart.insert(id, row);
            }
        }
        apart
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_mend_of_some_keys_never_leaves_two_rows_with_a_unique_value(
        backup in state(), between in state(), live in state(),
        since in state(), from in 0i64..14, keys in 1i64..8, by_digests: bool,
    ) {
        let world = world_with(&backup, by_digests);
        write(&world, &backup, &between);
        world.done(&world.backup(Incremental, "between"));
        write(&world, &between, &live);
        let range = from..from + keys;
        let expected = taken_along(&live, &backup, &range);
        let erased: BTreeSet<i64> = expected.iter().copied().filter(|id| !backup.contains_key(id)).collect();
        let before = contents(&world.database);
        let (service, begun) = (&world.service, operations(&world));

        // Who is in the way refuses the mend, and the plan names them.
        let alone = service.plan_row_mend(&order("one", &range, Conflicting::default())).unwrap();
        prop_assert_eq!(alone.conflicts.count > 0, !expected.is_empty());
        prop_assert_eq!(alone.conflicts.refuse(false), !expected.is_empty());
        if !expected.is_empty() {
            let refused = service.request_row_mend(&order("one", &range, Conflicting::default()));
            prop_assert!(matches!(refused, Err(Error::Conflicts(_))), "{:?}", refused);
        }
        if !erased.is_empty() {
            let refused = service.request_row_mend(&order("one", &range, INCLUDE));
            prop_assert!(matches!(refused, Err(Error::Conflicts(_))), "{:?}", refused);
        }
        prop_assert_eq!(&contents(&world.database), &before);
        prop_assert_eq!(operations(&world), begun);

        // Taken along, they and those in their way are mended.
        let plan = service.plan_row_mend(&order("one", &range, INCLUDE)).unwrap();
        let named = |fate| -> BTreeSet<i64> {
            plan.conflicts.of(fate).map(|row| row.holder.parse().unwrap()).collect()
        };
        prop_assert_eq!(named(HolderFate::Stays), BTreeSet::new());
        prop_assert_eq!(&named(HolderFate::Erased), &erased);
        prop_assert_eq!(&(&named(HolderFate::BroughtBack) | &erased), &expected);
        let policy = if erased.is_empty() { INCLUDE } else { ERASE };
        let id = service.request_row_mend(&order("one", &range, policy)).unwrap();
        let operation = done(&world, &id);
        let after = mended(&live, &backup, |id| range.contains(&id) || expected.contains(&id));
        prop_assert_eq!(&read(&world), &after);
        world.database.prove_people();
        let mut total = mendb_model::operation::MendedRows::default();
        for shard in &operation.mended {
            total += shard.rows;
        }
        prop_assert_eq!((total.upserted, total.erased), (plan.total.upserted, plan.total.erased));
        let Request::MendRows(request) = &operation.request else { panic!() };
        prop_assert_eq!(matches!(request.find_by, FindBy::Digests { .. }), by_digests);

        // The undo takes the same keys back, and has the same to ask of what was written since.
        let is_mended = |id: i64| range.contains(&id) || expected.contains(&id);
        let mut later = after.clone();
        for (id, row) in since {
            let apart = !later.values().any(|other| collide(other, &row));
            if !is_mended(id) && apart {
                later.insert(id, row);
            }
        }
        write(&world, &after, &later);
        let undone = mended(&later, &live, is_mended);
        let undo = service.request_row_undo(&id, Conflicting::default(), false);
        match undo {
            Ok(undo) => {
                prop_assert!(is_unique(&undone));
                done(&world, &undo);
                prop_assert_eq!(read(&world), undone);
            }
            Err(error) => {
                prop_assert!(matches!(error, Error::Conflicts(_)), "{}", error);
                prop_assert!(!is_unique(&undone));
                prop_assert_eq!(&read(&world), &later);
                let undo = service.request_row_undo(&id, ERASE, false).unwrap();
                done(&world, &undo);
                let now = read(&world);
                prop_assert!(is_unique(&now));
                for (id, row) in &live {
                    prop_assert!(!is_mended(*id) || now.get(id) == Some(row));
                }
            }
        }
        world.database.prove_people();
    }
}

/// Rows that nothing kept apart.
fn any_state() -> impl Strategy<Value = Rows> {
    let row = (proptest::option::weighted(0.8, 0u8..12), 0u8..4, 0u8..5);
    proptest::collection::btree_map(0i64..14, row, 0..9)
}

fn is_unique(rows: &Rows) -> bool {
    let rows: Vec<&Row> = rows.values().collect();
    (0..rows.len()).all(|at| !rows[..at].iter().any(|other| collide(other, rows[at])))
}

/// A table that was backed up without an index and has unique ones now.
fn world_with_new_indexes(backup: &Rows, live: &Rows) -> World {
    let world = World::new();
    let plain = TableSchema {
        indexes: Vec::new(),
        ..people()
    };
    world
        .database
        .create_table(TABLE, plain, vec![order_key(7)])
        .unwrap();
    let tables = [TABLE.to_owned()];
    world.service.create_collection("shop", &tables).unwrap();
    write(&world, &Rows::new(), backup);
    world.done(&world.backup(Full, "one"));
    world.database.drop_table(TABLE).unwrap();
    world
        .database
        .create_table(TABLE, people(), vec![order_key(5)])
        .unwrap();
    write(&world, &Rows::new(), live);
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_unique_index_that_came_since_the_backup_refuses_only_rows_that_break_it(
        backup in any_state(), live in state(), edits in any_state(), whole: bool, from in 0i64..14, keys in 1i64..8,
    ) {
        // Most rows are as they were, so that some stay beside those that come back.
        let mut then = live.clone();
        then.extend(edits);
        let backup = if keys % 2 == 0 { then } else { backup };
        let world = world_with_new_indexes(&backup, &live);
        let (service, before) = (&world.service, contents(&world.database));
        let range = if whole { 0..i64::MAX } else { from..from + keys };
        let order = |conflicting| RowMendOrder {
            ranges: if whole { BTreeMap::new() } else { order("one", &range, conflicting).ranges },
            ..order("one", &range, conflicting)
        };
        let expected = mended(&live, &backup, |id| range.contains(&id));
        let plan = service.plan_row_mend(&order(Conflicting::default())).unwrap();
        prop_assert_eq!(!plan.conflicts.refuse(true), is_unique(&expected), "{:?}", plan.conflicts);
        let begun = operations(&world);
        match service.request_row_mend(&order(Conflicting::default())) {
            Ok(id) => {
                done(&world, &id);
                prop_assert_eq!(&read(&world), &expected);
                world.database.prove_people();
                let undo = service.request_row_undo(&id, Conflicting::default(), false).unwrap();
                done(&world, &undo);
                prop_assert_eq!(&read(&world), &live);
            }
            Err(error) => {
                prop_assert!(matches!(error, Error::Conflicts(_)), "{}", error);
                prop_assert!(!is_unique(&expected));
                prop_assert_eq!(&contents(&world.database), &before);
                prop_assert_eq!(operations(&world), begun);
                // Live rows may be taken along, rows of the backup cannot be parted.
                match service.request_row_mend(&order(ERASE)) {
                    Ok(id) => {
                        done(&world, &id);
                        prop_assert!(is_unique(&read(&world)));
                    }
                    Err(_) => prop_assert_eq!(&contents(&world.database), &before),
                }
            }
        }
        world.database.prove_people();
    }
}

/// Compares what is kept of a table with each write with its rows.
trait Prove {
    fn prove_people(&self);
}

impl Prove for mendb_rowstore::Database {
    fn prove_people(&self) {
        let snapshot = self.snapshot().unwrap();
        let paths =
            ["by_mail", "by_home"].map(|index| mendb_model::name::TablePath::index(TABLE, index));
        let mut rows = Vec::new();
        for path in paths
            .iter()
            .chain([&mendb_model::name::TablePath::table(TABLE)])
        {
            let kept: mendb_model::Digest = snapshot
                .shards(path)
                .unwrap()
                .iter()
                .map(|shard| shard.digest)
                .sum();
            assert_eq!(
                kept,
                snapshot.read_digest(path, &KeyRange::all()).unwrap(),
                "{path}"
            );
            rows.push(kept.rows);
        }
        assert!(rows.iter().all(|count| *count == rows[0]), "{rows:?}");
    }
}

fn rows(rows: &[(i64, u8)]) -> Rows {
    let row = |(id, mail): &(i64, u8)| (*id, (Some(*mail), 0, u8::try_from(*id).unwrap()));
    rows.iter().map(row).collect()
}

#[test]
fn who_takes_a_value_between_plan_and_mend_is_a_drift_and_between_order_and_mend_fails_it() {
    let backup = rows(&[(1, 1), (2, 2)]);
    let world = world_with(&backup, false);
    let live = rows(&[(1, 9), (2, 2)]);
    write(&world, &backup, &live);
    let order = order("one", &(1..2), Conflicting::default());
    let plan = world.service.plan_row_mend(&order).unwrap();
    assert_eq!(plan.conflicts.count, 0);
    assert_eq!(world.service.drift_of(&order, &plan).unwrap(), []);

    let ordered = world.service.request_row_mend(&order).unwrap();
    // Nobody has been kept out yet.
    let taken = rows(&[(1, 9), (2, 2), (3, 1)]);
    write(&world, &live, &taken);
    let before = contents(&world.database);
    let failed = world.drive(&ordered);
    assert_eq!(failed.state, State::Failed);
    let error = failed.head.error.unwrap();
    assert!(
        error.contains("by_mail = 1@example.org, which row 3 holds"),
        "{error}"
    );
    assert_eq!(contents(&world.database), before);
    world
        .service
        .command(&ordered, Command::Cancel(None))
        .unwrap();
    assert_eq!(world.drive(&ordered).state, State::Cancelled);

    let drift = world.service.drift_of(&order, &plan).unwrap();
    assert_eq!(drift.len(), 1);
    assert_eq!((&*drift[0].table, &*drift[0].keys), (TABLE, "3"));
    let refused = world.service.request_planned_row_mend(&order, &plan);
    assert!(matches!(refused, Err(Error::Conflicts(_))), "{refused:?}");
    assert_eq!(contents(&world.database), before);
}

#[test]
fn a_planned_mend_takes_along_what_was_planned() {
    let backup = rows(&[(1, 1), (2, 2), (8, 8)]);
    let world = world_with(&backup, false);
    // 2 holds what 1 has in the backup, 8 what 2 has.
    let live = rows(&[(1, 9), (2, 1), (8, 2)]);
    write(&world, &backup, &live);
    let order = order("one", &(1..2), INCLUDE);
    let plan = world.service.plan_row_mend(&order).unwrap();
    let also: Vec<_> = plan.tables[0]
        .also
        .iter()
        .map(|one| one.start.clone())
        .collect();
    assert_eq!(also, [order_key(2), order_key(8)]);
    // Who is taken along must be what it was.
    let other = rows(&[(1, 9), (2, 1), (8, 2), (4, 4)]);
    write(&world, &live, &other);
    assert_eq!(world.service.drift_of(&order, &plan).unwrap(), []);
    let mut drifted = other.clone();
    drifted.insert(8, (Some(2), 2, 2));
    write(&world, &other, &drifted);
    let drift = world.service.drift_of(&order, &plan).unwrap();
    assert_eq!((drift.len(), &*drift[0].keys), (1, "8"));
    write(&world, &drifted, &other);

    let id = world
        .service
        .request_planned_row_mend(&order, &plan)
        .unwrap();
    done(&world, &id);
    assert_eq!(read(&world), rows(&[(1, 1), (2, 2), (8, 8), (4, 4)]));
}

#[test]
fn of_many_conflicts_the_first_are_named_and_all_are_counted() {
    let shifted = |by: i64| -> Rows {
        let row = |id: i64| {
            let mail = u8::try_from((id + by) % 250).unwrap();
            (id, (Some(mail), 0, u8::try_from(id).unwrap()))
        };
        (0..250).map(row).collect()
    };
    let world = world_with(&shifted(0), false);
    // Each row of the first half has what one of the second half had.
    write(&world, &shifted(0), &shifted(125));
    let halves = order("one", &(0..125), Conflicting::default());
    let plan = world.service.plan_row_mend(&halves).unwrap();
    assert_eq!(
        (plan.conflicts.count, plan.conflicts.rows.len()),
        (125, 100)
    );
    let id = world
        .service
        .request_row_mend(&order("one", &(0..1), INCLUDE))
        .unwrap();
    done(&world, &id);
    // 125 held the value of 0, and 0 that of 125.
    let expected = mended(&shifted(125), &shifted(0), |id| id == 0 || id == 125);
    assert_eq!(read(&world), expected);
}
