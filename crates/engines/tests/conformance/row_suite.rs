//! The promises of the `RowStore` contract, beside those of every engine.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use mendb_engines::{
    FreezeRequest, Frozen, HiddenTable, LiveRows, RebuildRequest, Remedy, Result, RowSource,
    RowStore,
};
use mendb_model::change::{Change, ChangeRef};
use mendb_model::name::TablePath;
use mendb_model::{
    Balance, ChangeKind, Digest, KeyRange, Replaced, RowBlock, RowBlockBuilder, Version,
};

use crate::row_mend_suite;
use crate::suite::Subject;

/// A row store: its table `t` has an index `i`, where indexes are read as tables.
pub trait RowSubject: Subject {
    fn store(&self) -> &dyn RowStore {
        self.engine().rows().unwrap()
    }

    /// What it calls a table.
    fn name(&self, short: &str) -> String {
        short.to_owned()
    }

    fn has_indexes(&self) -> bool {
        true
    }

    /// Whether it keeps changes, for increments.
    fn keeps_changes(&self) -> bool {
        true
    }
}

pub(crate) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Promise = fn(&dyn RowSubject);

/// Every promise, by name.
pub const ALL: [(&str, Promise); 10] = [
    (
        "a snapshot has the digests that were told, also of indexes",
        a_snapshot_stays,
    ),
    (
        "who looks at one commit goes on seeing that, and locks nothing",
        a_look_stays,
    ),
    (
        "the changes between two snapshots lead from one to the other",
        changes_lead_on,
    ),
    ("reading goes on behind any key", reading_goes_on),
    (
        "what one operation has staged no other can",
        a_staged_name_is_taken,
    ),
    (
        "loading and applying again changes nothing",
        again_changes_nothing,
    ),
    (
        "a mended shard that was rebuilt holds what was wanted, and its changes say what they replaced",
        a_rebuilt_shard,
    ),
    (
        "a stream that does not reach back is refused",
        a_short_stream,
    ),
    (
        "a mend row by row is seen by nobody before its publish, and done again does nothing",
        row_mend_suite::a_mend_is_published_once,
    ),
    (
        "a mend that is given up leaves the rows as they were and the tables free",
        row_mend_suite::a_mend_that_is_given_up,
    ),
];

pub(crate) fn paths(subject: &dyn RowSubject) -> Vec<TablePath> {
    let mut paths = vec![TablePath::table(subject.name("t"))];
    if subject.has_indexes() {
        paths.push(TablePath::index(subject.name("t"), "i"));
    }
    paths
}

fn freeze(subject: &dyn RowSubject, operation: &str, since_version: Option<Version>) -> Frozen {
    try_freeze(subject, operation, since_version).unwrap()
}

fn try_freeze(
    subject: &dyn RowSubject,
    operation: &str,
    since_version: Option<Version>,
) -> Result<Frozen> {
    let tables = [subject.name("t")];
    subject.store().freeze(&FreezeRequest {
        operation,
        tables: &tables,
        stream: "c/1",
        keeps_changes: false,
        since_version,
    })
}

pub(crate) fn collect(rows: &mut Rows) -> impl FnMut(&RowBlock<&[u8]>) -> ControlFlow<()> {
    |block| {
        rows.extend(
            block
                .iter()
                .map(|(key, value)| (key.to_vec(), value.to_vec())),
        );
        ControlFlow::Continue(())
    }
}

fn rows(subject: &dyn RowSubject, operation: &str, path: &TablePath, after: Option<&[u8]>) -> Rows {
    let mut rows = Rows::new();
    let engine = subject.store();
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

fn changes(subject: &dyn RowSubject, operation: &str, path: &TablePath, since: Version) -> Rows {
    let mut changes = Rows::new();
    let engine = subject.store();
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

pub(crate) fn block(rows: &Rows) -> RowBlock {
    let mut builder = RowBlockBuilder::new();
    for (key, value) in rows {
        builder.push(key, value);
    }
    builder.finish()
}

pub(crate) fn digest(rows: &Rows) -> Digest {
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

/// The changes that lead from some rows to others.
pub(crate) fn changes_between(before: &Rows, after: &Rows) -> Rows {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), Change::erase(0).encode()));
    let new = after
        .iter()
        .filter(|(key, row)| before.get(*key) != Some(row));
    let new = new.map(|(key, row)| (key.clone(), Change::reset(row.clone(), 0).encode()));
    gone.chain(new).collect()
}

/// Stages the frozen table under the name `r`.
fn stage(subject: &dyn RowSubject, operation: &str, frozen: &Frozen) {
    let staged = HiddenTable {
        name: subject.name("r"),
        backup: frozen.tables[0].clone(),
    };
    subject
        .store()
        .create_hidden(operation, vec![staged])
        .unwrap();
}

fn restored(subject: &dyn RowSubject, path: &TablePath) -> TablePath {
    TablePath {
        table: subject.name("r"),
        index: path.index.clone(),
    }
}

fn a_snapshot_stays(subject: &dyn RowSubject) {
    let frozen = freeze(subject, "b1", None);
    let paths = paths(subject);
    let before: Vec<_> = paths
        .iter()
        .map(|path| rows(subject, "b1", path, None))
        .collect();
    subject.edit(1);
    for (path, before) in paths.iter().zip(&before) {
        assert_eq!(rows(subject, "b1", path, None), *before);
        let told = match subject.store().keeps_digests() {
            true => digest(before),
            false => Digest::default(),
        };
        assert_eq!(captured(&frozen, path.index.is_some()), told);
    }
    subject.engine().thaw("b1").unwrap();
    subject.engine().thaw("b1").unwrap();
}

fn a_look_stays(subject: &dyn RowSubject) {
    subject.edit(0);
    let cut = freeze(subject, "op", None).version;
    subject.edit(1);
    let store = subject.store();
    let (look, locks) = (store.snapshot().unwrap(), subject.engine().locks().unwrap());
    let seen = |look: &dyn LiveRows, path: &TablePath| {
        let (mut rows, mut changes) = (Rows::new(), Rows::new());
        let all = KeyRange::all();
        look.scan(path, &all, None, &mut collect(&mut rows))
            .unwrap();
        if subject.keeps_changes() {
            look.changes_since(path, &all, cut, &mut collect(&mut changes))
                .unwrap();
        }
        let keys: Vec<&[u8]> = rows.keys().map(Vec::as_slice).collect();
        let of_keys = look.rows_of(path, &keys).unwrap();
        assert!(of_keys.iter().flatten().eq(rows.values()));
        let digests = look.shards(path, &KeyRange::all()).unwrap().into_iter();
        let digest: Digest = digests.map(|shard| shard.digest).sum();
        (look.version().unwrap(), rows, changes, digest)
    };
    for (round, path) in (2..).zip(paths(subject)) {
        let before = seen(&*look, &path);
        assert_eq!(before.2.is_empty(), !subject.keeps_changes());
        subject.edit(round);
        assert_eq!(seen(&*look, &path), before);
        assert_ne!(seen(&*store.snapshot().unwrap(), &path), before);
    }
    assert_eq!(subject.engine().locks().unwrap(), locks);
    subject.engine().thaw("op").unwrap();
}

fn changes_lead_on(subject: &dyn RowSubject) {
    let first = freeze(subject, "b1", None);
    if !subject.keeps_changes() {
        let next = try_freeze(subject, "b2", Some(first.version));
        // Changes that are not kept are found in another way, or not at all.
        if let Some(versions) = subject.store().row_versions() {
            let found = versions.found_by("b2", &paths(subject)[0]).unwrap();
            let next = next.unwrap();
            assert_eq!(next.tables[0].changes_by, Some(found.0));
        } else {
            let refused = next.unwrap_err();
            assert_eq!(refused.remedy, Remedy::Request);
            let refused = refused.to_string();
            assert!(refused.contains("take a full backup"), "{refused}");
        }
        return;
    }
    let before: Vec<_> = paths(subject)
        .iter()
        .map(|path| rows(subject, "b1", path, None))
        .collect();
    subject.engine().thaw("b1").unwrap();
    subject.edit(1);
    subject.edit(2);
    let second = freeze(subject, "b2", Some(first.version));
    subject.edit(3);
    stage(subject, "r1", &second);
    for (index, (path, before)) in (0..).zip(paths(subject).iter().zip(&before)) {
        let engine = subject.store();
        let target = restored(subject, path);
        let (load, apply) = (RowSource { step: 1, index }, RowSource { step: 2, index });
        engine
            .load("r1", &target, load, &block(before).view())
            .unwrap();
        let changed = changes(subject, "b2", path, first.version);
        engine
            .apply("r1", &target, apply, &block(&changed).view())
            .unwrap();
        let mut balance = Balance::from(digest(before));
        for (key, change) in &changed {
            let change = ChangeRef::decode(change).unwrap();
            assert!(
                balance.count(key, &change),
                "{path}: it says what it replaced"
            );
            let before = before.get(key).map(Vec::as_slice);
            assert_eq!(change.replaced, Replaced::of(key, before), "{path}");
        }
        let found = engine.digest(&target, &KeyRange::all()).unwrap();
        assert_eq!(balance, found.into(), "{path}: changes add up");
        assert_eq!(found, captured(&second, path.index.is_some()), "{path}");
        assert_eq!(found, digest(&rows(subject, "b2", path, None)), "{path}");
    }
}

fn reading_goes_on(subject: &dyn RowSubject) {
    freeze(subject, "b1", None);
    for path in paths(subject) {
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

fn a_staged_name_is_taken(subject: &dyn RowSubject) {
    let frozen = freeze(subject, "b1", None);
    stage(subject, "r1", &frozen);
    let other = HiddenTable {
        name: subject.name("r"),
        backup: frozen.tables[0].clone(),
    };
    let taken = subject
        .store()
        .create_hidden("r2", vec![other])
        .unwrap_err();
    assert_eq!(taken.remedy, Remedy::Request);
}

fn again_changes_nothing(subject: &dyn RowSubject) {
    let first = freeze(subject, "b1", None);
    let path = &paths(subject)[0];
    let before = rows(subject, "b1", path, None);
    subject.engine().thaw("b1").unwrap();
    subject.edit(1);
    let since = subject.keeps_changes().then_some(first.version);
    let second = freeze(subject, "b2", since);
    let after = rows(subject, "b2", path, None);
    let changed = match since {
        Some(since) => changes(subject, "b2", path, since),
        None => changes_between(&before, &after),
    };
    stage(subject, "r1", &second);
    let engine = subject.store();
    let target = restored(subject, path);
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
                RowSource { step: 1, index: 0 },
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
                RowSource { step: 2, index: 0 },
                &block(&changed).view(),
            )
            .unwrap();
        let found = engine.digest(&target, &KeyRange::all()).unwrap();
        assert_eq!(found, digest(&after));
    }
}

fn a_rebuilt_shard(subject: &dyn RowSubject) {
    if !subject.keeps_changes() {
        return;
    }
    let all = |operation: &str| -> Vec<Rows> {
        let paths = paths(subject);
        let of_path = |path| rows(subject, operation, path, None);
        paths.iter().map(of_path).collect()
    };
    let first = freeze(subject, "b1", None);
    let wanted = all("b1");
    subject.engine().thaw("b1").unwrap();
    subject.edit(1);
    subject.edit(2);
    let second = freeze(subject, "b2", Some(first.version));
    let damaged = all("b2");
    subject.engine().thaw("b2").unwrap();
    let store = subject.store();
    let live = || -> Vec<Rows> {
        let of_path = |path: TablePath| {
            let mut rows = Rows::new();
            let all = KeyRange::all();
            store
                .scan(&path, &all, None, &mut collect(&mut rows))
                .unwrap();
            rows
        };
        paths(subject).into_iter().map(of_path).collect()
    };
    store.begin_mend("m1", &[subject.name("t")]).unwrap();
    // The second time it is known.
    for is_known in [false, true] {
        for (path, wanted) in paths(subject).iter().zip(&wanted) {
            for shard in store.shards(path, &KeyRange::all()).unwrap() {
                let of_shard = wanted.iter().filter(|(key, _)| shard.range.contains(key));
                let of_shard: Vec<_> = of_shard.collect();
                let half = of_shard.len() / 2;
                let calls = [(&of_shard[..half], false), (&of_shard[half..], true)];
                for (rows, is_last) in calls {
                    let rows = rows
                        .iter()
                        .map(|(key, row)| ((*key).clone(), (*row).clone()));
                    let rows = block(&rows.collect());
                    let request = RebuildRequest {
                        operation: "m1",
                        path,
                        range: &shard.range,
                        ended_streams: &[],
                    };
                    let staged = store.rebuild_mend(&request, &rows.view(), is_last);
                    let staged = staged.unwrap();
                    let rows = staged.upserted + staged.erased + staged.kept;
                    assert!(!is_known || rows == 0, "{path}: {staged:?}");
                }
            }
        }
    }
    assert_eq!(live(), damaged);
    for (path, wanted) in paths(subject).iter().zip(&wanted) {
        let shards = store.mended_shards("m1", path).unwrap().into_iter();
        let found: Digest = shards.map(|shard| shard.digest).sum();
        assert_eq!(found, digest(wanted), "{path}");
    }
    store.publish_mend("m1").unwrap();
    assert_eq!(live(), wanted);
    let settled = store.settle_mend("m1", &mut |_| ControlFlow::Continue(()));
    assert!(settled.unwrap().is_continue());
    freeze(subject, "b3", Some(second.version));
    for ((path, wanted), damaged) in paths(subject).iter().zip(wanted).zip(damaged) {
        let mut reached = damaged;
        for (key, change) in changes(subject, "b3", path, second.version) {
            let change = ChangeRef::decode(&change).unwrap();
            let before = reached.remove(&key);
            let replaced = Replaced::of(&key, before.as_deref());
            assert_eq!(change.replaced, replaced, "{path}");
            if change.kind != ChangeKind::Erase {
                reached.insert(key, change.row.to_vec());
            }
        }
        assert_eq!(reached, wanted, "{path}");
    }
}

fn a_short_stream(subject: &dyn RowSubject) {
    if !subject.keeps_changes() {
        return;
    }
    let first = freeze(subject, "b1", None);
    subject.engine().thaw("b1").unwrap();
    subject.edit(1);
    let second = freeze(subject, "b2", Some(first.version));
    subject.engine().thaw("b2").unwrap();
    subject
        .store()
        .release_stream("c/1", second.version)
        .unwrap();
    let tables = [subject.name("t")];
    let request = |since_version, stream| FreezeRequest {
        operation: "b3",
        tables: &tables,
        stream,
        keeps_changes: false,
        since_version,
    };
    let too_far = subject
        .store()
        .freeze(&request(Some(first.version), "c/1"))
        .unwrap_err();
    assert_eq!(too_far.remedy, Remedy::Request);
    let unknown = subject
        .store()
        .freeze(&request(Some(second.version), "c/2"))
        .unwrap_err();
    assert!(
        unknown.to_string().contains("take a full backup"),
        "{unknown}"
    );
    subject
        .store()
        .freeze(&request(Some(second.version), "c/1"))
        .unwrap();
}
