//! The promises of the `Engine` contract.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use mendb_engines::{Engine, FreezeRequest, Frozen, Remedy, Source, StagedTable};
use mendb_model::name::TablePath;
use mendb_model::{Digest, KeyRange, RowBlock, RowBlockBuilder};

/// A database with an engine on it. It has a table `t` with an index `i` and some rows.
pub trait Subject {
    fn engine(&self) -> &dyn Engine;
    /// Changes, adds and erases rows of `t`, differently for each round.
    fn edit(&self, round: i64);
    /// The rows of a table as its users see them; `None` when they see no table.
    fn visible_rows(&self, table: &str) -> Option<usize>;
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Promise = fn(&dyn Subject);

/// Every promise, by name.
pub const ALL: [(&str, Promise); 8] = [
    (
        "a snapshot stays as it was while writers go on",
        a_snapshot_stays,
    ),
    (
        "the changes between two snapshots lead from one to the other",
        changes_lead_on,
    ),
    ("reading goes on behind any key", reading_goes_on),
    (
        "a snapshot that is not there asks to be taken again",
        a_lost_snapshot,
    ),
    (
        "what is staged is seen by nobody until it is committed",
        staged_is_hidden,
    ),
    (
        "loading and applying again changes nothing",
        again_changes_nothing,
    ),
    (
        "undoing leaves nothing, and nothing is undone twice",
        undo_is_complete,
    ),
    (
        "a stream that does not reach back is refused",
        a_short_stream,
    ),
];

fn paths() -> [TablePath; 2] {
    [TablePath::table("t"), TablePath::index("t", "i")]
}

fn freeze(subject: &dyn Subject, operation: &str, since_version: Option<u64>) -> Frozen {
    let tables = ["t".to_owned()];
    let request = FreezeRequest {
        operation,
        tables: &tables,
        stream: "c/1",
        since_version,
    };
    subject.engine().freeze(&request).unwrap()
}

fn collect(rows: &mut Rows) -> impl FnMut(&RowBlock<&[u8]>) -> ControlFlow<()> {
    |block| {
        rows.extend(
            block
                .iter()
                .map(|(key, value)| (key.to_vec(), value.to_vec())),
        );
        ControlFlow::Continue(())
    }
}

fn rows(subject: &dyn Subject, operation: &str, path: &TablePath, after: Option<&[u8]>) -> Rows {
    let mut rows = Rows::new();
    let engine = subject.engine();
    engine
        .read_rows(
            operation,
            path,
            &KeyRange::all(),
            after,
            &mut collect(&mut rows),
        )
        .unwrap();
    rows
}

fn changes(subject: &dyn Subject, operation: &str, path: &TablePath, since: u64) -> Rows {
    let mut changes = Rows::new();
    let engine = subject.engine();
    let all = KeyRange::all();
    engine
        .read_changes(
            operation,
            path,
            &all,
            since,
            None,
            &mut collect(&mut changes),
        )
        .unwrap();
    changes
}

fn block(rows: &Rows) -> RowBlock {
    let mut builder = RowBlockBuilder::new();
    for (key, value) in rows {
        builder.push(key, value);
    }
    builder.finish()
}

fn digest(rows: &Rows) -> Digest {
    let mut digest = Digest::default();
    for (key, value) in rows {
        digest.add(key, value);
    }
    digest
}

fn captured(frozen: &Frozen, index: bool) -> Digest {
    let table = &frozen.tables[0];
    if index {
        table.indexes[0].rows.digest()
    } else {
        table.rows.digest()
    }
}

/// Stages the frozen table under the name `r`.
fn stage(subject: &dyn Subject, operation: &str, frozen: &Frozen) {
    let staged = StagedTable {
        name: "r".into(),
        backup: frozen.tables[0].clone(),
    };
    subject.engine().stage(operation, vec![staged]).unwrap();
}

fn restored(path: &TablePath) -> TablePath {
    TablePath {
        table: "r".into(),
        index: path.index.clone(),
    }
}

fn a_snapshot_stays(subject: &dyn Subject) {
    let frozen = freeze(subject, "b1", None);
    let before: Vec<_> = paths()
        .iter()
        .map(|path| rows(subject, "b1", path, None))
        .collect();
    subject.edit(1);
    for (path, before) in paths().iter().zip(&before) {
        assert_eq!(rows(subject, "b1", path, None), *before);
        assert_eq!(captured(&frozen, path.index.is_some()), digest(before));
    }
    subject.engine().thaw("b1").unwrap();
    subject.engine().thaw("b1").unwrap();
}

fn changes_lead_on(subject: &dyn Subject) {
    let first = freeze(subject, "b1", None);
    let before: Vec<_> = paths()
        .iter()
        .map(|path| rows(subject, "b1", path, None))
        .collect();
    subject.engine().thaw("b1").unwrap();
    subject.edit(1);
    subject.edit(2);
    let second = freeze(subject, "b2", Some(first.version));
    subject.edit(3);
    stage(subject, "r1", &second);
    for (index, (path, before)) in (0..).zip(paths().iter().zip(&before)) {
        let engine = subject.engine();
        let target = restored(path);
        let (load, apply) = (Source { step: 1, index }, Source { step: 2, index });
        engine
            .load("r1", &target, load, &block(before).view())
            .unwrap();
        let changed = changes(subject, "b2", path, first.version);
        engine
            .apply("r1", &target, apply, &block(&changed).view())
            .unwrap();
        let found = engine.digest(&target, &KeyRange::all()).unwrap();
        assert_eq!(found, captured(&second, path.index.is_some()), "{path}");
        assert_eq!(found, digest(&rows(subject, "b2", path, None)), "{path}");
    }
}

fn reading_goes_on(subject: &dyn Subject) {
    freeze(subject, "b1", None);
    for path in paths() {
        let all = rows(subject, "b1", &path, None);
        for (at, key) in all.keys().enumerate().step_by(7) {
            let rest = rows(subject, "b1", &path, Some(key));
            assert!(
                rest.iter().eq(all.iter().skip(at + 1)),
                "{path} behind row {at}"
            );
        }
    }
}

fn a_lost_snapshot(subject: &dyn Subject) {
    assert!(!subject.engine().is_frozen("b1"));
    let mut none = |_: &RowBlock<&[u8]>| ControlFlow::Continue(());
    let read = subject
        .engine()
        .read_rows("b1", &paths()[0], &KeyRange::all(), None, &mut none);
    assert_eq!(read.unwrap_err().remedy, Remedy::Refreeze);
    freeze(subject, "b1", None);
    assert!(subject.engine().is_frozen("b1"));
}

fn staged_is_hidden(subject: &dyn Subject) {
    let frozen = freeze(subject, "b1", None);
    stage(subject, "r1", &frozen);
    stage(subject, "r1", &frozen);
    let engine = subject.engine();
    for (index, path) in (0..).zip(&paths()) {
        let all = rows(subject, "b1", path, None);
        engine
            .load(
                "r1",
                &restored(path),
                Source { step: 1, index },
                &block(&all).view(),
            )
            .unwrap();
    }
    assert_eq!(subject.visible_rows("r"), None);
    let other = StagedTable {
        name: "r".into(),
        backup: frozen.tables[0].clone(),
    };
    assert_eq!(
        engine.stage("r2", vec![other]).unwrap_err().remedy,
        Remedy::Request
    );
    assert!(
        engine
            .locks()
            .iter()
            .any(|lock| lock.table == "r" && lock.operation == "r1")
    );
    engine.commit("r1").unwrap();
    engine.commit("r1").unwrap();
    assert_eq!(subject.visible_rows("r"), subject.visible_rows("t"));
    assert!(engine.locks().iter().all(|lock| lock.table != "r"));
}

fn again_changes_nothing(subject: &dyn Subject) {
    let first = freeze(subject, "b1", None);
    let path = &paths()[0];
    let before = rows(subject, "b1", path, None);
    subject.engine().thaw("b1").unwrap();
    subject.edit(1);
    let second = freeze(subject, "b2", Some(first.version));
    let changed = changes(subject, "b2", path, first.version);
    stage(subject, "r1", &second);
    let engine = subject.engine();
    let target = restored(path);
    let half: Rows = before
        .iter()
        .take(before.len() / 2)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    for rows in [&half, &before, &half, &before] {
        engine
            .load(
                "r1",
                &target,
                Source { step: 1, index: 0 },
                &block(rows).view(),
            )
            .unwrap();
    }
    assert_eq!(
        engine.digest(&target, &KeyRange::all()).unwrap(),
        digest(&before)
    );
    for _ in 0..2 {
        engine
            .apply(
                "r1",
                &target,
                Source { step: 2, index: 0 },
                &block(&changed).view(),
            )
            .unwrap();
        let found = engine.digest(&target, &KeyRange::all()).unwrap();
        assert_eq!(found, captured(&second, false));
    }
}

fn undo_is_complete(subject: &dyn Subject) {
    let frozen = freeze(subject, "b1", None);
    let engine = subject.engine();
    engine.undo("r1").unwrap();
    stage(subject, "r1", &frozen);
    let all = rows(subject, "b1", &paths()[0], None);
    let source = Source { step: 1, index: 0 };
    engine
        .load("r1", &restored(&paths()[0]), source, &block(&all).view())
        .unwrap();
    engine.undo("r1").unwrap();
    engine.undo("r1").unwrap();
    assert_eq!(engine.inspect("r").unwrap(), None);
    stage(subject, "r2", &frozen);
    let empty = engine
        .digest(&restored(&paths()[0]), &KeyRange::all())
        .unwrap();
    assert_eq!(empty, Digest::default(), "nothing of the first try is left");
}

fn a_short_stream(subject: &dyn Subject) {
    let first = freeze(subject, "b1", None);
    subject.engine().thaw("b1").unwrap();
    subject.edit(1);
    let second = freeze(subject, "b2", Some(first.version));
    subject.engine().thaw("b2").unwrap();
    subject
        .engine()
        .release_stream("c/1", second.version)
        .unwrap();
    let tables = ["t".to_owned()];
    let request = |since_version, stream| FreezeRequest {
        operation: "b3",
        tables: &tables,
        stream,
        since_version,
    };
    let too_far = subject
        .engine()
        .freeze(&request(Some(first.version), "c/1"))
        .unwrap_err();
    assert_eq!(too_far.remedy, Remedy::Request);
    let unknown = subject
        .engine()
        .freeze(&request(Some(second.version), "c/2"))
        .unwrap_err();
    assert!(
        unknown.to_string().contains("take a full backup"),
        "{unknown}"
    );
    subject
        .engine()
        .freeze(&request(Some(second.version), "c/1"))
        .unwrap();
}
