//! A chain read at once holds what its backups hold one after another.

use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::manifest::{Manifest, Segment, SegmentGroups, ShardBackup};
use mendb_model::name::TablePath;
use mendb_model::{ColumnType, RowBlock, Value};
use mendb_repo::{ChainReader, Content, Error, ReadCounts, ReadEstimate, Result};
use object_store::ObjectStoreExt;
use proptest::prelude::*;

use crate::chain_world::{Backup, Edit, KEYS, Store, World, key_of, path, run, world};
use crate::faulty_store::{Fault, Request};
use crate::rows::{Rows, unblock};
use crate::sample::{COLLECTION, full, stored_segments};

async fn read_to_end(reader: &mut ChainReader) -> Result<Rows> {
    let mut blocks: Vec<RowBlock> = Vec::new();
    while let Some(block) = reader.next().await? {
        blocks.push(block);
    }
    let rows = unblock(&blocks);
    assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "in key order");
    Ok(rows.into_iter().collect())
}

fn within(rows: &Rows, range: &KeyRange, after: Option<&[u8]>) -> Rows {
    let rows = rows.iter();
    rows.filter(|(key, _)| range.contains(key) && after < Some(key.as_slice()))
        .map(|(key, row)| (key.clone(), row.clone()))
        .collect()
}

fn range() -> impl Strategy<Value = (KeyRange, Option<Vec<u8>>)> {
    let key = || proptest::option::of((0..KEYS).prop_map(key_of));
    (key(), key(), key()).prop_map(|(start, end, after)| {
        let start = start.unwrap_or_default();
        (KeyRange { start, end }, after)
    })
}

/// The segments of all manifests.
async fn segments(store: &Store, chain: &[Arc<Manifest>]) -> Vec<Segment> {
    let mut segments = Vec::new();
    for manifest in chain {
        segments.extend(stored_segments(&store.repository, manifest).await.unwrap());
    }
    segments
}

fn total<'a>(counts: impl Iterator<Item = &'a ReadCounts>) -> ReadCounts {
    let zero = ReadCounts {
        backup_id: full(0),
        requests: 0,
        bytes: 0,
        groups: 0,
        rows: 0,
    };
    counts.fold(zero, |mut total, more| {
        total.requests += more.requests;
        total.bytes += more.bytes;
        total.groups += more.groups;
        total.rows += more.rows;
        total
    })
}

fn figures(counts: &ReadCounts) -> ReadEstimate {
    ReadEstimate {
        requests: counts.requests,
        bytes: counts.bytes,
        groups: counts.groups,
        rows: counts.rows,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_chain_read_at_once_is_its_backups_applied_one_after_the_other(
        world in world(),
        (range, after) in range(),
    ) {
        run(async {
            let store = Store::new(world.options());
            let chain = world.write(&store.repository).await;
            store.fetched();
            let open = async |after: Option<&[u8]>| {
                store.repository.read_chain(&chain, &path(), &range, after).await.unwrap()
            };
            let mut reader = open(after.as_deref()).await;
            prop_assert_eq!(store.fetched().len(), 0, "nothing is fetched before it is asked for");
            prop_assert_eq!(reader.content(), Content::Rows);
            prop_assert_eq!(reader.schema(), &world.schema(chain.len() - 1));
            let expected = within(&world.rows(chain.len()), &range, after.as_deref());
            let estimate = reader.estimate();
            prop_assert_eq!(read_to_end(&mut reader).await.unwrap(), expected);
            let counted = total(reader.counts());
            prop_assert_eq!(counted.requests, store.fetched().len() as u64);
            let all = segments(&store, &chain).await.iter().map(|segment| segment.digest.rows).sum();
            prop_assert!(counted.rows <= all);
            prop_assert_eq!(figures(&counted), estimate);
            Ok(())
        })?;
    }

    #[test]
    fn increments_alone_read_as_their_changes_joined(
        world in world(),
        (range, after) in range(),
        cut: (prop::sample::Index, prop::sample::Index),
    ) {
        prop_assume!(world.backups.len() > 1);
        run(async {
            let store = Store::new(world.options());
            let chain = world.write(&store.repository).await;
            let a = 1 + cut.0.index(chain.len() - 1);
            let b = 1 + cut.1.index(chain.len() - 1);
            let (first, last) = (a.min(b), a.max(b));
            let run = &chain[first..=last];
            let goods = path();
            let reader = store.repository.read_chain(run, &goods, &range, after.as_deref());
            let reader = reader.await;
            let mut reader = reader.unwrap();
            prop_assert_eq!(reader.content(), Content::Changes);
            let expected = within(&world.folded(first, last + 1), &range, after.as_deref());
            prop_assert_eq!(read_to_end(&mut reader).await.unwrap(), expected);
            Ok(())
        })?;
    }

    #[test]
    fn keys_looked_up_have_the_rows_of_the_chain_and_no_group_is_fetched_twice(
        world in world(),
        ids in proptest::collection::btree_set(0..KEYS + 9, 0..40),
        batch in 1usize..20,
    ) {
        run(async {
            let store = Store::new(world.options());
            let chain = world.write(&store.repository).await;
            store.fetched();
            let keys: Vec<_> = ids.iter().map(|id| key_of(*id)).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let mut lookup = store.repository.look_up_chain(&chain, &path(), &KeyRange::all()).await.unwrap();
            let estimate = lookup.estimate(keys.iter().copied(), batch);
            prop_assert_eq!(store.fetched().len(), 0, "an estimate reads nothing");
            let rows = world.rows(chain.len());
            for keys in keys.chunks(batch) {
                let found = lookup.look_up(keys).await.unwrap();
                let expected: Vec<_> = keys.iter().map(|key| rows.get(*key).cloned()).collect();
                prop_assert_eq!(found, expected);
            }
            let counted = total(lookup.counts());
            prop_assert_eq!(counted.requests, store.fetched().len() as u64);
            prop_assert!(counted.bytes <= segments(&store, &chain).await.iter().map(|segment| segment.bytes).sum());
            if chain.len() == 1 {
                prop_assert_eq!(figures(&counted), estimate);
            }
            prop_assert!(counted.groups <= estimate.groups && counted.rows <= estimate.rows);
            Ok(())
        })?;
    }

    #[test]
    fn groups_read_alone_are_those_of_the_whole_segment(
        world in world(),
        chosen in proptest::collection::vec(any::<bool>(), 64),
    ) {
        run(async {
            let store = Store::new(world.options());
            let manifest = world.write_backup(&store.repository, 0).await;
            for segment in &stored_segments(&store.repository, &manifest).await.unwrap() {
                let (schema, content) = (world.schema(0), Content::Rows);
                let whole = store.repository
                    .read_segment(COLLECTION, &full(0), segment, &schema, content).await.unwrap();
                let whole = unblock(&whole.collect::<Result<Vec<_>>>().unwrap());
                let sizes: Vec<_> = match &segment.groups {
                    None => vec![segment.digest.rows],
                    Some(groups) => groups.list.iter().map(|group| group.rows).collect(),
                };
                let groups: Vec<_> = (0..sizes.len()).filter(|group| chosen[group % 64]).collect();
                let mut expected = Vec::new();
                let mut at = 0;
                for (group, rows) in sizes.iter().enumerate() {
                    let end = at + usize::try_from(*rows).unwrap();
                    if groups.contains(&group) {
                        expected.extend_from_slice(&whole[at..end]);
                    }
                    at = end;
                }
                if groups.is_empty() && segment.groups.is_none() {
                    continue;
                }
                let read = store.repository
                    .read_groups(COLLECTION, &full(0), segment, &schema, content, &groups)
                    .await
                    .unwrap();
                prop_assert_eq!(unblock(&read.collect::<Result<Vec<_>>>().unwrap()), expected);
            }
            Ok(())
        })?;
    }
}

/// A full backup of 60 rows in groups of 10, and an increment that resets one of them and changes
/// another.
fn small() -> World {
    let values = || vec![Some(Value::Int(1)), Some(Value::Text("one".into())), None];
    let upsert = vec![Some(Value::Int(2)), None, None];
    World {
        backups: vec![
            Backup {
                edits: (0..KEYS).map(|id| (id, Edit::Reset(values()))).collect(),
                splits: vec![],
                groups: true,
            },
            Backup {
                edits: [(15, Edit::Reset(values())), (35, Edit::Upsert(upsert))].into(),
                splits: vec![],
                groups: true,
            },
        ],
        grown_at: 9,
        segment_bytes: 1 << 20,
        group_rows: 10,
        listed: false,
    }
}

async fn look_up(store: &Store, chain: &[Arc<Manifest>], ids: &[u32]) -> Result<usize> {
    let keys: Vec<_> = ids.iter().map(|id| key_of(*id)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut lookup = store
        .repository
        .look_up_chain(chain, &path(), &KeyRange::all())
        .await?;
    let rows = lookup.look_up(&keys).await?;
    assert_eq!(rows.len(), ids.len());
    Ok(rows.iter().flatten().count())
}

#[test]
fn a_key_that_an_increment_settles_is_not_looked_for_in_older_backups() {
    run(async {
        let (store, world) = (Store::new(small().options()), small());
        let chain = world.write(&store.repository).await;
        let first = async |backup: usize| {
            let segments = stored_segments(&store.repository, &chain[backup]).await;
            segments.unwrap()[0].object.clone()
        };
        let increment = format!("{}/{}", World::id(1), first(1).await);
        let full = format!("{}/{}", World::id(0), first(0).await);
        store.fetched();
        let ends_with = |fetched: Vec<String>, objects: &[&String]| {
            assert_eq!(fetched.len(), objects.len(), "{fetched:?}");
            let pairs = fetched.iter().zip(objects);
            pairs.for_each(|(fetched, object)| assert!(fetched.ends_with(object.as_str())));
        };
        assert_eq!(look_up(&store, &chain, &[15]).await.unwrap(), 1);
        ends_with(store.fetched(), &[&increment]);
        assert_eq!(look_up(&store, &chain, &[35]).await.unwrap(), 1);
        ends_with(store.fetched(), &[&increment, &full, &full]);
        assert_eq!(look_up(&store, &chain, &[KEYS, KEYS + 1]).await.unwrap(), 0);
        ends_with(store.fetched(), &[]);
    });
}

#[test]
fn an_estimate_is_what_is_read_when_no_increment_settles_a_key() {
    run(async {
        let (store, world) = (Store::new(small().options()), small());
        let chain = world.write(&store.repository).await;
        let keys = [key_of(3), key_of(16), key_of(35), key_of(36)];
        for batch in 1..=4 {
            let mut lookup = store
                .repository
                .look_up_chain(&chain, &path(), &KeyRange::all())
                .await
                .unwrap();
            let estimate = lookup.estimate(keys.iter().map(Vec::as_slice), batch);
            for keys in keys.chunks(batch) {
                let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                lookup.look_up(&keys).await.unwrap();
            }
            let read = total(lookup.counts());
            let read = (read.requests, read.bytes, read.groups, read.rows);
            let estimated = (
                estimate.requests,
                estimate.bytes,
                estimate.groups,
                estimate.rows,
            );
            assert_eq!(read, estimated);
            assert_eq!(
                read.2, 4,
                "three groups of the full backup, one of the increment"
            );
        }
    });
}

#[test]
fn a_damaged_group_is_an_error_that_names_its_segment_and_the_others_still_read() {
    run(async {
        let (store, world) = (Store::new(small().options()), small());
        let chain = world.write(&store.repository).await;
        let segment = &stored_segments(&store.repository, &chain[0]).await.unwrap()[0];
        let groups = segment.groups.as_ref().unwrap();
        let object = format!("p/collections/{COLLECTION}/{}/{}", full(0), segment.object);
        let object = object_store::path::Path::from(object);
        let whole = store
            .faulty
            .below
            .get(&object)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        let flipped = |at: u64| {
            let mut bytes = whole.to_vec();
            bytes[usize::try_from(at).unwrap()] ^= 4;
            bytes
        };
        let put = async |bytes: Vec<u8>| {
            store.faulty.below.put(&object, bytes.into()).await.unwrap();
        };
        let damage = async |ids: &[u32]| match look_up(&store, &chain, ids).await.unwrap_err() {
            Error::Damaged { object, detail } => {
                assert!(object.ends_with(&segment.object), "{object}");
                detail
            }
            other => panic!("{other:?}"),
        };

        put(flipped(groups.list[3].at.offset + 7)).await;
        assert!(
            damage(&[35])
                .await
                .starts_with("row group 3: its BLAKE3 is")
        );
        assert_eq!(look_up(&store, &chain, &[5, 25, 45]).await.unwrap(), 3);
        let mut reader = store
            .repository
            .read_chain(&chain, &path(), &KeyRange::all(), None)
            .await
            .unwrap();
        assert!(matches!(
            read_to_end(&mut reader).await,
            Err(Error::Damaged { .. })
        ));
        let range = KeyRange {
            start: key_of(40),
            end: None,
        };
        let mut reader = store
            .repository
            .read_chain(&chain, &path(), &range, None)
            .await
            .unwrap();
        assert_eq!(read_to_end(&mut reader).await.unwrap().len(), 20);

        put(flipped(groups.footer.offset)).await;
        assert!(damage(&[5]).await.starts_with("footer: its BLAKE3 is"));

        let short = usize::try_from(groups.footer.offset).unwrap();
        put(whole[..short].to_vec()).await;
        assert!(damage(&[5]).await.contains("bytes instead of"));
        let short = usize::try_from(groups.list[5].at.offset).unwrap() + 3;
        put(whole[..short].to_vec()).await;
        damage(&[55]).await;

        store.faulty.below.delete(&object).await.unwrap();
        let error = look_up(&store, &chain, &[5]).await.unwrap_err();
        assert!(matches!(&error, Error::NotFound { object } if object.ends_with(&segment.object)));
    });
}

#[test]
fn a_group_that_could_not_be_read_alone_is_found_when_the_whole_is_read() {
    run(async {
        let (store, world) = (Store::new(small().options()), small());
        let manifest = world.write_backup(&store.repository, 0).await;
        let mut segment = stored_segments(&store.repository, &manifest).await.unwrap()[0].clone();
        let groups = segment.groups.as_mut().unwrap();
        groups.list[4].at.blake3 = groups.list[3].at.blake3.clone();
        let (id, schema, content) = (full(0), world.schema(0), Content::Rows);
        let read = store
            .repository
            .read_segment(COLLECTION, &id, &segment, &schema, content);
        let error = read.await.unwrap_err();
        assert!(error.to_string().contains("row group 4"), "{error}");
    });
}

#[test]
fn faults_that_pass_are_not_noticed_by_those_who_read_groups() {
    run(async {
        let (store, world) = (Store::new(small().options()), small());
        let chain = world.write(&store.repository).await;
        let full = World::id(0).to_string();
        for fault in [Fault::FlippedBit, Fault::CutBody, Fault::Unavailable] {
            store.faulty.fail(Request::Get, &full, fault, 1);
        }
        assert_eq!(look_up(&store, &chain, &[5, 25, 59]).await.unwrap(), 3);
        assert_eq!(store.faulty.waiting(), 0, "every fault happened");
    });
}

#[test]
fn a_manifest_that_contradicts_its_segments_is_damage_not_a_wrong_answer() {
    type Change = fn(&mut Manifest);
    fn shard(manifest: &mut Manifest) -> &mut ShardBackup {
        manifest.tables[0].rows.drafted_shard(0).unwrap()
    }
    fn segment(manifest: &mut Manifest) -> &mut Segment {
        &mut shard(manifest).segments[0]
    }
    fn groups(manifest: &mut Manifest) -> &mut SegmentGroups {
        segment(manifest).groups.as_mut().unwrap()
    }
    let changes: [Change; 7] = [
        |manifest| groups(manifest).list.swap(1, 2),
        |manifest| groups(manifest).list[0].rows += 1,
        |manifest| groups(manifest).list[2].first_key = key_of(21),
        |manifest| {
            let list = &mut groups(manifest).list;
            (list[1].rows, list[2].rows) = (9, 11);
        },
        |manifest| {
            let merged = groups(manifest).list.remove(1);
            groups(manifest).list[0].rows += merged.rows;
        },
        |manifest| segment(manifest).first_key = key_of(1),
        |manifest| {
            let twice = segment(manifest).clone();
            shard(manifest).segments.push(twice);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        run(async {
            let (store, world) = (Store::new(small().options()), small());
            let mut chain = world.write(&store.repository).await;
            change(Arc::make_mut(&mut chain[0]));
            let read = async {
                let range = KeyRange::all();
                let goods = path();
                let reader = store.repository.read_chain(&chain, &goods, &range, None);
                let mut reader = reader.await?;
                read_to_end(&mut reader).await
            };
            let error = read.await.unwrap_err();
            assert!(
                matches!(error, Error::Damaged { .. }),
                "{number}: {error:?}"
            );
        });
    }
}

#[test]
fn a_table_that_the_last_backup_does_not_have_is_named() {
    run(async {
        let (store, world) = (Store::new(small().options()), small());
        let chain = world.write(&store.repository).await;
        let index = TablePath::index("goods", "by_price");
        let range = KeyRange::all();
        let error = store
            .repository
            .read_chain(&chain, &index, &range, None)
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("backup {} has no table goods/by_price", World::id(1))
        );
        // What a later backup has instead of a column is no column more.
        let mut other = chain.clone();
        Arc::make_mut(&mut other[1]).tables[0].schema.columns[1].column_type = ColumnType::Double;
        let error = store
            .repository
            .read_chain(&other, &path(), &range, None)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    });
}
