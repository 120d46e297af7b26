//! A run of backups folded into one keeps every restore point that stays, wherever it is cut off.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use mendb_model::key::KeyRange;
use mendb_model::manifest::Parent;
use mendb_model::name::BackupKind;
use mendb_model::{BackupId, Digest, RowBlock};
use mendb_repo::{Error, Repository, Result};
use object_store::ObjectStore;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::chain_world::{KEYS, Store, World, key_of, path, run, world};
use crate::faulty_store::{Fault, Moment, Request};
use crate::promises::{Promise, promises};
use crate::rows::{Rows, unblock};
use crate::sample::{COLLECTION, WRITER, backups, full, increment, stored_segments};
use crate::sharing::{impatient, stop_before};

const COMPACTOR: &str = "c0ffee";

pub const ALL: &[Promise] = promises![a_chain_is_read_and_folded_on_every_store];

async fn a_chain_is_read_and_folded_on_every_store(repository: Repository) {
    let world = five();
    world.put(&repository).await;
    check_kept(&world, &repository, &(0..=0)).await;
    look_up_all(&world, &repository).await;
    let (first, last) = (increment(1), increment(3));
    let compacted = repository
        .compact(COLLECTION, &first, &last, COMPACTOR)
        .await;
    assert_eq!(compacted.unwrap().1, [increment(1), increment(2)]);
    check_kept(&world, &repository, &(1..=3)).await;
    let compacted = repository
        .compact(COLLECTION, &full(0), &last, "decaf")
        .await;
    assert_eq!(compacted.unwrap().0.manifest.kind(), BackupKind::Full);
    check_kept(&world, &repository, &(0..=3)).await;
    look_up_all(&world, &repository).await;
    let ids = backups(&repository)
        .await
        .into_iter()
        .map(|stored| stored.manifest.backup_id);
    assert_eq!(ids.collect::<Vec<_>>(), [increment(3), increment(4)]);
    assert!(repository.unfinished(COLLECTION).await.unwrap().is_empty());
}

/// That each key of the newest backup is found, and no other.
async fn look_up_all(world: &World, repository: &Repository) {
    let newest = World::id(world.backups.len() - 1);
    let chain = repository.chain(COLLECTION, &newest).await.unwrap();
    let chain: Vec<_> = chain
        .into_iter()
        .map(|stored| Arc::new(stored.manifest))
        .collect();
    let keys: Vec<_> = (0..KEYS).map(key_of).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut lookup = repository
        .look_up_chain(&chain, &path(), &KeyRange::all())
        .await
        .unwrap();
    let found = lookup.look_up(&keys).await.unwrap();
    let expected = world.rows(world.backups.len());
    let expected = keys.iter().map(|key| expected.get(*key).cloned());
    assert_eq!(found, expected.collect::<Vec<_>>());
}

/// The rows of a restore point.
async fn rows(repository: &Repository, id: &BackupId) -> Result<Rows> {
    let chain = repository.chain(COLLECTION, id).await?;
    let chain: Vec<_> = chain
        .into_iter()
        .map(|stored| Arc::new(stored.manifest))
        .collect();
    for manifest in &chain {
        repository.check_present(manifest).await?;
    }
    let (goods, all) = (path(), KeyRange::all());
    let reader = repository.read_chain(&chain, &goods, &all, None);
    let mut reader = reader.await?;
    let mut blocks: Vec<RowBlock> = Vec::new();
    while let Some(block) = reader.next().await? {
        blocks.push(block);
    }
    let mut digest = Digest::default();
    for (key, value) in blocks.iter().flat_map(RowBlock::iter) {
        digest.add(key, value);
    }
    let last = chain.last().unwrap();
    assert_eq!(
        digest,
        last.sharded_table(&path()).unwrap().digest(),
        "as its manifest says"
    );
    Ok(unblock(&blocks).into_iter().collect())
}

/// That each backup outside of a run, and its last, is the restore point it was.
async fn check_kept(world: &World, repository: &Repository, run: &std::ops::RangeInclusive<usize>) {
    for backup in 0..world.backups.len() {
        if run.contains(&backup) && backup != *run.end() {
            continue;
        }
        let restored = rows(repository, &World::id(backup)).await.unwrap();
        assert_eq!(restored, world.rows(backup + 1), "backup {backup}");
        let label = format!("day {backup}");
        let found = repository.find_id(COLLECTION, &label).await.unwrap();
        assert_eq!(found, World::id(backup));
    }
}

/// That the collection holds the backups that stay, and no object that none of them names.
async fn check_only(store: &Store, expected: &[BackupId]) {
    let there = backups(&store.repository).await;
    let ids: Vec<_> = there
        .iter()
        .map(|stored| stored.manifest.backup_id.clone())
        .collect();
    assert_eq!(ids, expected);
    let mut named = BTreeSet::from(["p/mendb.json", "p/lease.json"].map(str::to_owned));
    for stored in &there {
        let directory = format!("p/collections/{COLLECTION}/{}", stored.manifest.backup_id);
        named.insert(format!("{directory}/manifest.json"));
        let segments = stored_segments(&store.repository, &stored.manifest).await;
        let segments = segments.unwrap().into_iter().map(|segment| segment.object);
        let documents = stored.manifest.documents();
        let objects = segments.chain(documents.map(|document| document.object.clone()));
        named.extend(objects.map(|object| format!("{directory}/{object}")));
    }
    let objects: Vec<_> = store.faulty.below.list(None).collect().await;
    let objects = objects
        .into_iter()
        .map(|object| object.unwrap().location.to_string())
        .filter(|object| !object.starts_with("p/ids/"));
    assert_eq!(objects.collect::<BTreeSet<_>>(), named);
}

/// A world of at least two backups, and a run of them.
fn world_and_run() -> impl Strategy<Value = (World, std::ops::RangeInclusive<usize>)> {
    let worlds = world().prop_filter("a run is of two", |world| world.backups.len() > 1);
    worlds.prop_flat_map(|world| {
        let last = 1..world.backups.len();
        (
            Just(world),
            last.prop_flat_map(|last| (0..last, Just(last))),
        )
            .prop_map(|(world, (first, last))| (world, first..=last))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn restore_points_that_stay_are_the_same_before_and_after((world, folded) in world_and_run()) {
        run(async {
            let store = Store::new(world.options());
            let repository = &store.repository;
            let chain = world.put(repository).await;
            check_kept(&world, repository, &folded).await;
            let (first, last) = (World::id(*folded.start()), World::id(*folded.end()));
            let planned = repository.plan_compaction(COLLECTION, &first, &last).await.unwrap();
            let gone: Vec<_> = (*folded.start()..*folded.end()).map(World::id).collect();
            assert_eq!(planned.goes(), gone);
            let compacted = repository.compact(COLLECTION, &first, &last, COMPACTOR).await;
            let (stored, goes) = compacted.unwrap();
            assert_eq!(goes, gone);
            let manifest = &stored.manifest;
            let before = &chain[*folded.end()].manifest;
            let full = *folded.start() == 0;
            assert_eq!(manifest.kind() == BackupKind::Full, full);
            assert_eq!(&manifest.parent, &chain[*folded.start()].manifest.parent);
            assert_eq!(manifest.snapshot_version, before.snapshot_version);
            assert_eq!(manifest.tables[0].schema, before.tables[0].schema);
            check_kept(&world, repository, &folded).await;
            let kept = (0..world.backups.len()).map(World::id).filter(|id| !gone.contains(id));
            let kept: Vec<_> = kept.collect();
            check_only(&store, &kept).await;

            // Again changes nothing, and what is left can be folded further.
            let again = repository.compact(COLLECTION, &first, &last, COMPACTOR).await.unwrap();
            assert_eq!(again, (stored, Vec::new()));
            if kept.len() > 1 {
                let newest = &kept[kept.len() - 1];
                let all = repository.compact(COLLECTION, &kept[0], newest, "decaf").await;
                assert_eq!(all.unwrap().0.manifest.kind(), BackupKind::Full);
                let newest = world.backups.len() - 1;
                check_kept(&world, repository, &(0..=newest)).await;
                check_only(&store, &[World::id(newest)]).await;
            }
        });
    }
}

/// A chain of five backups with several shards and segments.
fn five() -> World {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut world = loop {
        let world = world().new_tree(&mut runner).unwrap().current();
        if world.backups.len() == 5 {
            break world;
        }
    };
    (world.segment_bytes, world.group_rows) = (300, 4);
    world
}

/// The `nth` change of the store from now on, and all after it, are refused.
fn cut_off_at(store: &Store, nth: usize) {
    let seen = AtomicUsize::new(0);
    let faulty = store.faulty.clone();
    let watch = move |request, _: &str, moment| {
        if moment == Moment::Before
            && matches!(request, Request::Put | Request::Delete)
            && seen.fetch_add(1, Ordering::Relaxed) == nth
        {
            faulty.fail(Request::Put, "", Fault::Denied, u32::MAX);
            faulty.fail(Request::Delete, "", Fault::Denied, u32::MAX);
        }
    };
    *store.faulty.witness.0.lock().unwrap() = Some(Arc::new(watch));
}

#[test]
fn cut_off_anywhere_the_old_chain_or_the_new_one_restores_and_the_same_command_goes_on() {
    let world = five();
    for folded in [0..=4, 0..=2, 1..=3] {
        let (first, last) = (World::id(*folded.start()), World::id(*folded.end()));
        let mut cut_off = 0;
        for nth in 0.. {
            let done = run(async {
                let store = Store::new(world.options());
                world.put(&store.repository).await;
                cut_off_at(&store, nth);
                let compacted = store
                    .repository
                    .compact(COLLECTION, &first, &last, COMPACTOR)
                    .await;
                let store = store.healed();
                check_kept(&world, &store.repository, &folded).await;
                for stored in backups(&store.repository).await {
                    // What is still listed restores.
                    rows(&store.repository, &stored.manifest.backup_id)
                        .await
                        .unwrap();
                }
                let again = store
                    .repository
                    .compact(COLLECTION, &first, &last, COMPACTOR)
                    .await;
                again.unwrap();
                check_kept(&world, &store.repository, &folded).await;
                let kept =
                    (0..5).filter(|backup| !folded.contains(backup) || backup == folded.end());
                check_only(&store, &kept.map(World::id).collect::<Vec<_>>()).await;
                compacted.is_ok()
            });
            if done {
                break;
            }
            cut_off += 1;
        }
        assert!(cut_off > 10, "it changes the store {cut_off} times");
    }
}

#[test]
fn a_compaction_that_was_cut_off_can_be_widened() {
    let world = five();
    for nth in 0..40 {
        run(async {
            let store = Store::new(world.options());
            world.put(&store.repository).await;
            cut_off_at(&store, nth);
            let (first, last) = (increment(1), increment(3));
            let _ = store
                .repository
                .compact(COLLECTION, &first, &last, COMPACTOR)
                .await;
            let store = store.healed();
            let compacted = store
                .repository
                .compact(COLLECTION, &full(0), &last, "decaf")
                .await;
            compacted.unwrap();
            check_kept(&world, &store.repository, &(0..=3)).await;
            check_only(&store, &[increment(3), increment(4)]).await;
        });
    }
}

#[test]
fn what_is_no_run_of_a_chain_is_refused_with_the_reason() {
    run(async {
        let (store, world) = (Store::new(five().options()), five());
        let chain = world.put(&store.repository).await;
        let refused = async |first: BackupId, last: BackupId| {
            let error = store
                .repository
                .compact(COLLECTION, &first, &last, COMPACTOR)
                .await;
            match error.unwrap_err() {
                Error::CannotCompact { detail, .. } => detail,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            refused(increment(2), increment(2)).await,
            "one backup is no run"
        );
        let expected = format!("{} does not stand on {}", increment(1), increment(2));
        assert_eq!(refused(increment(2), increment(1)).await, expected);

        let mut aside = world.write_backup(&store.repository, 4).await;
        aside.backup_id = increment(9);
        for shard in 0..aside.tables[0].rows.totals().count {
            aside.put_shard(&path(), shard.try_into().unwrap(), Vec::new());
        }
        aside.parent = chain[3].manifest.parent.clone();
        store.repository.put_manifest(&aside, WRITER).await.unwrap();
        let expected = format!(
            "{} stands on {}, which would go",
            increment(9),
            increment(2)
        );
        assert_eq!(refused(increment(1), increment(3)).await, expected);
        check_kept(&world, &store.repository, &(0..=0)).await;
    });
}

#[test]
fn an_increment_that_names_another_parent_than_those_folded_is_still_refused() {
    run(async {
        let (store, world) = (Store::new(five().options()), five());
        let chain = world.put(&store.repository).await;
        let (first, last) = (increment(2), increment(3));
        let compacted = store
            .repository
            .compact(COLLECTION, &first, &last, COMPACTOR)
            .await;
        let folded = compacted.unwrap().0;
        let parent = |manifest_blake3: &str| Parent {
            backup_id: increment(3),
            manifest_blake3: manifest_blake3.to_owned(),
        };
        assert!(folded.is_parent(&parent(&folded.blake3)));
        assert!(folded.is_parent(&parent(&chain[3].blake3)));
        let mut child = world.write_backup(&store.repository, 4).await;
        child.backup_id = increment(9);
        child.parent = Some(parent(&chain[2].blake3));
        let error = store
            .repository
            .put_manifest(&child, WRITER)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::BrokenChain { .. }), "{error:?}");
    });
}

#[test]
fn a_run_that_another_has_folded_meanwhile_is_not_folded_over() {
    run(async {
        let (store, world) = (Store::new(five().options()), five());
        let repository = &store.repository;
        world.put(repository).await;
        let fold = async |first: usize, writer: &str| {
            let (first, last) = (World::id(first), increment(3));
            let planned = repository
                .plan_compaction(COLLECTION, &first, &last)
                .await
                .unwrap();
            let mut draft = planned.draft();
            for (path, shard) in planned.shards() {
                let segments = repository
                    .fold_shard(&planned, &path, shard, writer, 0, &mut |_| {})
                    .await;
                draft.put_shard(&path, shard, segments.unwrap());
            }
            (planned, draft)
        };
        let (ours, our_draft) = fold(2, COMPACTOR).await;
        let (theirs, their_draft) = fold(1, "decaf").await;
        let stored = repository
            .replace_manifest(&theirs, &their_draft, "decaf")
            .await
            .unwrap();
        let error = repository
            .replace_manifest(&ours, &our_draft, COMPACTOR)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::CannotCompact { .. }), "{error:?}");
        assert_eq!(
            repository
                .manifest(COLLECTION, &increment(3))
                .await
                .unwrap(),
            stored
        );
        check_kept(&world, repository, &(1..=3)).await;
    });
}

#[test]
fn a_segment_that_is_not_what_was_written_keeps_the_old_chain() {
    run(async {
        let (store, world) = (Store::new(five().options()), five());
        world.put(&store.repository).await;
        store
            .faulty
            .fail(Request::Get, COMPACTOR, Fault::FlippedBit, u32::MAX);
        let (first, last) = (full(0), increment(4));
        let compacted = store
            .repository
            .compact(COLLECTION, &first, &last, COMPACTOR);
        let error = compacted.await.unwrap_err();
        assert!(matches!(&error, Error::Damaged { object, .. } if object.contains(COMPACTOR)));
        let store = store.healed();
        check_kept(&world, &store.repository, &(0..=0)).await;
    });
}

#[test]
fn rows_that_are_not_those_of_the_digest_are_not_folded() {
    run(async {
        let (store, world) = (Store::new(five().options()), five());
        let repository = &store.repository;
        repository.create_if_absent().await.unwrap();
        let mut parent = None;
        for backup in 0..2 {
            let mut manifest = world.write_backup(repository, backup).await;
            manifest.parent = parent.take();
            let first = manifest.tables[0].rows.drafted_shard(0).unwrap();
            first.digest.sum ^= 1;
            let stored = repository.put_manifest(&manifest, WRITER).await.unwrap();
            parent = Some(Parent {
                backup_id: stored.manifest.backup_id,
                manifest_blake3: stored.blake3,
            });
        }
        let compacted = repository
            .compact(COLLECTION, &full(0), &increment(1), COMPACTOR)
            .await;
        assert!(matches!(compacted.unwrap_err(), Error::Damaged { .. }));
        assert_eq!(backups(repository).await.len(), 2);
    });
}

#[test]
fn a_chain_deleted_between_any_two_requests_of_a_compaction_does_not_come_back_without_its_segments()
 {
    let world = five();
    let (first, last) = (full(0), increment(4));
    let mut let_in_before = 0;
    for nth in 0.. {
        let was_let_in = run(async {
            let store = Store::new(world.options());
            world.put(&store.repository).await;
            let all: Vec<_> = (0..5).rev().map(World::id).collect();
            let theirs = impatient(&store.faulty, world.options());
            let doomed = all.clone();
            let let_in = stop_before(&store.faulty, nth, async move || {
                theirs.delete_backups(COLLECTION, &doomed).await.unwrap();
            });
            let compacted = store
                .repository
                .compact(COLLECTION, &first, &last, COMPACTOR)
                .await;
            let store = store.healed();
            if let_in.was() {
                assert!(backups(&store.repository).await.is_empty(), "request {nth}");
                let _ = compacted;
            } else {
                compacted.unwrap();
                check_kept(&world, &store.repository, &(0..=4)).await;
            }
            let theirs = impatient(&store.faulty, world.options());
            theirs.delete_backups(COLLECTION, &all).await.unwrap();
            check_only(&store, &[]).await;
            let_in.was()
        });
        if !was_let_in {
            break;
        }
        let_in_before += 1;
    }
    assert!(let_in_before > 50, "{let_in_before}");
}

#[test]
fn a_compaction_given_up_between_any_two_requests_of_it_leaves_every_backup_whole() {
    let world = five();
    let (first, last) = (full(0), increment(4));
    let (mut folded, mut given_up) = (0, 0);
    for nth in 0.. {
        let was_let_in = run(async {
            let store = Store::new(world.options());
            world.put(&store.repository).await;
            let theirs = impatient(&store.faulty, world.options());
            let there = theirs.manifest(COLLECTION, &last).await.unwrap();
            let (id, draft) = (last.clone(), there.manifest);
            let let_in = stop_before(&store.faulty, nth, async move || {
                theirs.keep_late_writers_out(COLLECTION, &id).await.unwrap();
                theirs.sweep(&draft, COMPACTOR).await.unwrap();
            });
            let compacted = (store.repository)
                .compact(COLLECTION, &first, &last, COMPACTOR)
                .await;
            let store = store.healed();
            let mut there = Vec::new();
            for stored in backups(&store.repository).await {
                let id = stored.manifest.backup_id;
                let backup = (0..5).find(|backup| World::id(*backup) == id).unwrap();
                let restored = rows(&store.repository, &id).await.unwrap();
                assert_eq!(restored, world.rows(backup + 1), "request {nth}: {id}");
                there.push(id);
            }
            assert!(there.contains(&last), "request {nth}: {compacted:?}");
            match compacted {
                Ok(_) => folded += 1,
                Err(_) => given_up += 1,
            }
            let_in.was()
        });
        if !was_let_in {
            break;
        }
    }
    assert!(
        folded > 0 && given_up > 20,
        "{folded} folded, {given_up} given up"
    );
}
