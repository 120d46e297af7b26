//! Manifests of many shards: what their lists say, and what becomes of them.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use mendb_model::key::KeyRange;
use mendb_model::manifest::{FORMAT_VERSION, Manifest, ShardBackup, ShardedData, Shards};
use mendb_model::name::TablePath;
use mendb_model::{BackupId, Digest};
use mendb_repo::{Error, RepositoryOptions, StoredManifest};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use proptest::prelude::*;

use crate::chain_world::{Store, run};
use crate::faulty_store::{Fault, Request};
use crate::sample::{self, COLLECTION, WRITER, full, stored_segments};

fn path() -> TablePath {
    TablePath::table("goods")
}

fn key(shard: u32) -> Vec<u8> {
    shard.to_be_bytes()[2..].to_vec()
}

/// Shards that begin at every third key, each with a digest of its own.
fn shards(count: u32) -> Vec<ShardBackup> {
    let ranges = KeyRange::split_at((1..count).map(|shard| key(3 * shard)).collect());
    let shards = ranges
        .into_iter()
        .zip(1..)
        .map(|(range, rows)| ShardBackup {
            range,
            digest: Digest {
                rows,
                sum: rows.into(),
            },
            segments: Vec::new(),
        });
    shards.collect()
}

fn options(manifest_shard_bytes: usize) -> RepositoryOptions {
    RepositoryOptions {
        manifest_shard_bytes,
        ..sample::options()
    }
}

/// A draft of so many shards, the first with the segments of a backup.
async fn draft(store: &Store, id: &BackupId, count: u32) -> Manifest {
    store.repository.create_if_absent().await.unwrap();
    let mut shards = shards(count);
    if let Some(first) = shards.first_mut() {
        first.segments = sample::segments(&store.repository, id, 0).await.unwrap();
    }
    let mut draft = sample::manifest(id, None, Vec::new());
    draft.tables[0].rows = ShardedData::here(1, shards);
    draft
}

async fn put(store: &Store, count: u32) -> (Manifest, StoredManifest) {
    let draft = draft(store, &full(0), count).await;
    let stored = store.repository.put_manifest(&draft, WRITER).await.unwrap();
    (draft, stored)
}

fn told(manifest: &Manifest) -> &[ShardBackup] {
    manifest.tables[0].rows.shards_here().unwrap()
}

async fn objects(store: &Store) -> BTreeSet<String> {
    let objects = store.faulty.below.list(None);
    let objects: Vec<_> = objects.try_collect().await.unwrap();
    let names = objects
        .into_iter()
        .map(|object| object.location.to_string());
    names
        .filter(|name| name.contains("/collections/"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn lists_say_what_the_draft_said_whole_and_of_any_keys(
        count in 1u32..600,
        ranges in proptest::collection::vec((0u32..2000, proptest::option::of(0u32..2000)), 12),
        numbers in proptest::collection::vec(0u32..700, 12),
    ) {
        run(async {
            let store = Store::new(options(0));
            let (draft, stored) = put(&store, count).await;
            let (repository, manifest) = (&store.repository, &stored.manifest);
            let drafted = told(&draft);
            prop_assert!(matches!(manifest.tables[0].rows.shards, Shards::Listed(_)));
            prop_assert_eq!(manifest.format_version, FORMAT_VERSION);
            prop_assert_eq!(manifest.tables[0].rows.totals(), draft.tables[0].rows.totals());
            prop_assert_eq!(&repository.shards(manifest, &path()).await.unwrap(), drafted);
            let whole = repository.whole_table(manifest, "goods").await.unwrap();
            prop_assert_eq!(&whole, &draft.tables[0]);
            for (start, end) in ranges {
                let range = KeyRange { start: key(start), end: end.map(key) };
                let there = drafted.iter();
                let there = there.filter(|shard| !shard.range.intersect(&range).is_empty());
                let there: Vec<_> = there.cloned().collect();
                let found = repository.shards_within(manifest, &path(), &range).await.unwrap();
                if range.is_empty() {
                    prop_assert!(found.len() <= 1);
                } else {
                    prop_assert_eq!(found, there);
                }
            }
            for number in numbers {
                let found = repository.shard(manifest, &path(), number).await.unwrap();
                prop_assert_eq!(found.as_ref(), drafted.get(number as usize));
            }
            Ok(())
        })?;
    }
}

#[test]
fn few_shards_are_told_by_the_manifest_and_many_are_not() {
    run(async {
        for (count, listed) in [(4, false), (2000, true)] {
            let store = Store::new(sample::options());
            let (draft, stored) = put(&store, count).await;
            let documents = stored.manifest.documents().count();
            assert_eq!(documents > 0, listed, "{count} shards");
            assert!(stored.bytes < 48 << 10, "{} bytes", stored.bytes);
            let again = store.repository.put_manifest(&draft, WRITER).await.unwrap();
            assert_eq!(again, stored);
        }
    });
}

#[test]
fn backups_are_listed_without_reading_what_their_lists_say() {
    run(async {
        let store = Store::new(options(0));
        let (_, stored) = put(&store, 700).await;
        let store = store.healed();
        let listed = store.repository.list(COLLECTION).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].1.as_ref().unwrap(), &stored);
        let fetched = store.fetched();
        assert!(
            fetched
                .iter()
                .all(|object| object.ends_with("manifest.json")),
            "{fetched:?}"
        );
        // Some keys take one list, and no other.
        let range = KeyRange::only(&key(1000));
        let (repository, manifest) = (&store.repository, &stored.manifest);
        let found = repository.shards_within(manifest, &path(), &range).await;
        assert_eq!(found.unwrap().len(), 1);
        assert_eq!(store.fetched().len(), 1);
        let found = repository.shards_within(manifest, &path(), &range).await;
        assert_eq!(found.unwrap().len(), 1);
        assert_eq!(store.fetched().len(), 0, "it is known");
    });
}

#[test]
fn a_list_that_is_missing_damaged_or_of_another_stretch_is_named_and_no_shard_is_lost() {
    run(async {
        for harm in 0..3 {
            let store = Store::new(options(0));
            let (_, stored) = put(&store, 300).await;
            let below = &store.faulty.below;
            let lists: Vec<_> = stored.manifest.documents().cloned().collect();
            assert_eq!(lists.len(), 3);
            let directory = format!("p/collections/{COLLECTION}/{}", full(0));
            let at = |list: usize| Path::from(format!("{directory}/{}", lists[list].object));
            let other = below.get(&at(2)).await.unwrap().bytes().await.unwrap();
            match harm {
                0 => below.delete(&at(1)).await.unwrap(),
                1 => drop(below.put(&at(1), PutPayload::from("{}")).await.unwrap()),
                _ => drop(below.put(&at(1), other.into()).await.unwrap()),
            }
            // What was read when it was written is forgotten.
            let store = store.healed();
            let named = |error: Error| {
                assert!(error.is_damage(), "{error:?}");
                assert!(error.to_string().contains(&lists[1].object), "{error}");
            };
            let manifest = &stored.manifest;
            named(
                store
                    .repository
                    .shards(manifest, &path())
                    .await
                    .unwrap_err(),
            );
            named(store.repository.check_present(manifest).await.unwrap_err());
            named(store.repository.sweep(manifest, WRITER).await.unwrap_err());
            let all = KeyRange::all();
            let chain = [manifest.clone().into()];
            let read = store
                .repository
                .read_chain(&chain, &path(), &all, None)
                .await;
            named(read.unwrap_err());
            // What is in the other lists can still be read.
            let found = store.repository.shard(manifest, &path(), 0).await.unwrap();
            assert_eq!(found.unwrap().range.start, Vec::<u8>::new());
        }
    });
}

#[test]
fn a_list_that_is_missing_is_named_where_another_backup_has_one_that_says_the_same() {
    run(async {
        let store = Store::new(options(0));
        let (_, first) = put(&store, 300).await;
        let draft = draft(&store, &full(1), 300).await;
        let second = store.repository.put_manifest(&draft, WRITER).await.unwrap();
        let list = |stored: &StoredManifest| stored.manifest.documents().nth(1).cloned().unwrap();
        assert_eq!(list(&first).blake3, list(&second).blake3);
        let object = list(&second).object;
        let lost = Path::from(format!("p/collections/{COLLECTION}/{}/{object}", full(1)));
        store.faulty.below.delete(&lost).await.unwrap();

        let repository = store.healed().repository;
        repository.shards(&first.manifest, &path()).await.unwrap();
        let read = repository.shards(&second.manifest, &path()).await;
        let error = read.unwrap_err();
        assert!(error.is_damage(), "{error:?}");
        assert!(error.to_string().contains(&object), "{error}");
    });
}

#[test]
fn lists_of_lost_attempts_are_swept_and_those_of_a_backup_go_with_it() {
    run(async {
        let store = Store::new(options(0));
        let (draft, stored) = put(&store, 300).await;
        let sealed = objects(&store).await;
        // Another attempt of the same operation had other segments in its first shard.
        let mut lost = draft.clone();
        let segments = sample::segments(&store.repository, &full(0), 7)
            .await
            .unwrap();
        lost.put_shard(&path(), 0, segments);
        lost.collection = "aside".to_owned();
        let aside = store.repository.put_manifest(&lost, WRITER).await;
        assert!(matches!(aside, Err(Error::Incomplete { .. })), "{aside:?}");
        let left = objects(&store).await;
        let left = left.iter().filter(|name| name.contains("/aside/"));
        let list = left.clone().next().unwrap();
        assert!(left.clone().all(|name| name.ends_with(".shards.json.zst")));
        let moved = list.replace("/aside/", &format!("/{COLLECTION}/"));
        let below = &store.faulty.below;
        let (from, to) = (Path::from(list.as_str()), Path::from(moved));
        below.copy(&from, &to).await.unwrap();
        let (id, operation) = (full(0), sample::OPERATION);
        let withdrawn = (store.repository).withdraw("aside", &id, operation, WRITER);
        withdrawn.await.unwrap();

        let swept = store.repository.sweep(&stored.manifest, WRITER).await;
        assert!(swept.unwrap() > 0);
        let mut there = objects(&store).await;
        there.retain(|name| !name.contains("/aside/"));
        assert_eq!(there, sealed);
        let kept = stored_segments(&store.repository, &stored.manifest).await;
        assert!(!kept.unwrap().is_empty());

        let withdrawn = store
            .repository
            .withdraw(COLLECTION, &id, operation, WRITER);
        withdrawn.await.unwrap();
        // But the marks that they were withdrawn.
        let mut left = objects(&store).await;
        left.retain(|name| !name.ends_with("/manifest.json"));
        assert_eq!(left, BTreeSet::new());
    });
}

#[test]
fn a_list_that_cannot_be_written_seals_nothing() {
    run(async {
        let store = Store::new(options(0));
        let draft = draft(&store, &full(0), 300).await;
        store.faulty.fail(
            Request::Put,
            ".shards.json.zst",
            Fault::Unavailable,
            u32::MAX,
        );
        let sealed = store.repository.put_manifest(&draft, WRITER).await;
        assert!(sealed.is_err());
        let store = store.healed();
        let read = store.repository.manifest(COLLECTION, &full(0)).await;
        assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
        store.repository.put_manifest(&draft, WRITER).await.unwrap();
    });
}

#[test]
fn shards_that_are_no_chain_are_damage() {
    run(async {
        for most in [0, usize::MAX] {
            let store = Store::new(options(most));
            let mut draft = draft(&store, &full(0), 300).await;
            draft.tables[0].rows.drafted_shard(140).unwrap().range.end = Some(key(9));
            // It is found out when it is sealed, or when it is read.
            let sealed = store.repository.put_manifest(&draft, WRITER).await;
            let read = store
                .healed()
                .repository
                .manifest(COLLECTION, &full(0))
                .await;
            let error = sealed.and(read).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        }
    });
}
