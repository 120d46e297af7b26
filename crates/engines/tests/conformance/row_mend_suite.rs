//! The promises of the mend half of `RowStore`: what is staged, published, or given up.

use mendb_engines::{LockKind, LookedDigests, RowSource, WantedTable};
use mendb_model::KeyRange;
use mendb_model::name::TablePath;

use crate::row_suite::{RowSubject, Rows, block, changes_between, collect, digest, paths};

/// The live rows of a table or index.
fn live_rows(subject: &dyn RowSubject, path: &TablePath) -> Rows {
    let mut rows = Rows::new();
    let scanned = (subject.store()).scan(path, &KeyRange::all(), None, &mut collect(&mut rows));
    scanned.unwrap();
    rows
}

/// Begins a mend of `t` back to some rows, and stages what differs, twice over.
fn stage_back(subject: &dyn RowSubject, operation: &str, wanted: &Rows) {
    let (store, table) = (subject.store(), subject.name("t"));
    let path = TablePath::table(&table);
    for _ in 0..2 {
        store
            .begin_mend(operation, std::slice::from_ref(&table))
            .unwrap();
    }
    let changed = changes_between(&live_rows(subject, &path), wanted);
    assert!(!changed.is_empty(), "the edit edits");
    let source = RowSource { step: 1, index: 0 };
    let stage = || {
        let staged = store.stage_mend(operation, &table, source, &block(&changed).view());
        let staged = staged.unwrap();
        staged.upserted + staged.erased
    };
    match store.beside_writers() {
        None => {
            assert_eq!(stage(), changed.len() as u64);
            assert_eq!(stage(), 0, "it is staged");
        }
        // Each look stages anew.
        Some(beside) => {
            for _ in 0..2 {
                let look = beside.begin_look(operation, &table, &KeyRange::all());
                let look = look.unwrap();
                let digests = LookedDigests {
                    found: digest(&live_rows(subject, &path)),
                    wanted: digest(wanted),
                };
                assert_eq!(stage(), changed.len() as u64);
                let all = KeyRange::all();
                let ended = beside.end_look(operation, &table, &all, &look, digests);
                ended.unwrap();
            }
        }
    }
}

/// Makes what was staged of `t` live.
fn publish(subject: &dyn RowSubject, operation: &str, wanted: &Rows) {
    let store = subject.store();
    let Some(beside) = store.beside_writers() else {
        return store.publish_mend(operation).unwrap();
    };
    let tables = [WantedTable {
        table: subject.name("t"),
        shards: vec![(KeyRange::all(), Some(digest(wanted)))],
    }];
    let mut locked = beside.lock_out(operation, &tables, None).unwrap();
    assert_eq!(locked.drifted().unwrap(), []);
    locked.publish().unwrap();
}

/// Locks of mends.
fn is_mended(subject: &dyn RowSubject) -> bool {
    let locks = subject.engine().locks().unwrap();
    locks.iter().any(|lock| lock.kind == LockKind::Mend)
}

pub(crate) fn a_mend_is_published_once(subject: &dyn RowSubject) {
    let path = &paths(subject)[0];
    let wanted = live_rows(subject, path);
    subject.edit(1);
    let damaged = live_rows(subject, path);
    stage_back(subject, "m1", &wanted);
    let store = subject.store();
    assert_eq!(live_rows(subject, path), damaged);
    assert!(is_mended(subject) && !store.is_published("m1").unwrap());
    if store.beside_writers().is_none() {
        let found = store.mended_digest("m1", path, &KeyRange::all()).unwrap();
        assert_eq!(found, digest(&wanted));
    }
    publish(subject, "m1", &wanted);
    assert_eq!(live_rows(subject, path), wanted);
    assert!(store.is_published("m1").unwrap());
    for _ in 0..2 {
        subject.engine().make_live("m1").unwrap();
        assert!(!is_mended(subject) && !store.is_published("m1").unwrap());
    }
    assert_eq!(live_rows(subject, path), wanted);
    subject.edit(2);
    assert_ne!(live_rows(subject, path), wanted, "writers go on");
}

pub(crate) fn a_mend_that_is_given_up(subject: &dyn RowSubject) {
    let path = &paths(subject)[0];
    let wanted = live_rows(subject, path);
    subject.edit(1);
    let damaged = live_rows(subject, path);
    subject.engine().drop_staged("m1").unwrap();
    stage_back(subject, "m1", &wanted);
    subject.engine().drop_staged("m2").unwrap();
    assert!(is_mended(subject));
    for _ in 0..2 {
        subject.engine().drop_staged("m1").unwrap();
        assert!(!is_mended(subject));
        assert_eq!(live_rows(subject, path), damaged);
    }
    // Another begins from nothing.
    stage_back(subject, "m2", &wanted);
    publish(subject, "m2", &wanted);
    subject.engine().make_live("m2").unwrap();
    assert_eq!(live_rows(subject, path), wanted);
}
