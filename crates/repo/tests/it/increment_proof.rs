//! Increments are proved by what their changes say that they left and replaced, as their segments are stored.

use mendb_model::change::ChangeRef;
use mendb_model::manifest::Manifest;
use mendb_model::{Change, ChangeKind, Replaced, RowBlockBuilder};
use mendb_repo::{Content, Error, IncrementProof, Repository, SegmentTarget, StoredManifest};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::chain_world::{Store, World, path, run, world};
use crate::rows::Row;
use crate::sample::{self, COLLECTION};

/// What goes wrong with a change on its way into a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Lost,
    Doubled,
    /// It has the row of another.
    OtherRow,
    /// It erases.
    Erased,
    /// It says that there was another row before.
    OtherReplaced,
}

const PLANTED: [Planted; 5] = [
    Planted::Lost,
    Planted::Doubled,
    Planted::OtherRow,
    Planted::Erased,
    Planted::OtherReplaced,
];

/// The changes with something wrong with one of them; `None` where that is not to be told from what is right.
fn plant(changes: &[Row], at: usize, planted: Planted) -> Option<Vec<Row>> {
    let (key, bytes) = &changes[at];
    let change = Change::decode(bytes).unwrap();
    let mut wrong = changes.to_vec();
    let with = |change: Change| (key.clone(), change.encode());
    match planted {
        Planted::Lost => {
            let same = match change.kind {
                ChangeKind::Erase => Replaced::Nothing,
                _ => Replaced::of(key, Some(&change.row)),
            };
            if change.replaced == same {
                return None;
            }
            wrong.remove(at);
        }
        Planted::Doubled => wrong.insert(at, wrong[at].clone()),
        Planted::OtherRow => {
            let mut others = changes
                .iter()
                .map(|(_, other)| Change::decode(other).unwrap());
            let other = others.find(|other| {
                other.kind == ChangeKind::Reset
                    && (change.kind, &other.row) != (other.kind, &change.row)
            })?;
            wrong[at] = with(Change {
                kind: other.kind,
                row: other.row,
                ..change
            });
        }
        Planted::Erased if change.kind == ChangeKind::Erase => return None,
        Planted::Erased => {
            wrong[at] = with(Change {
                replaced: change.replaced,
                ..Change::erase(change.version)
            });
        }
        Planted::OtherReplaced => {
            let replaced = match change.replaced {
                Replaced::Row(_) => Replaced::Nothing,
                _ => Replaced::Row(7),
            };
            wrong[at] = with(Change { replaced, ..change });
        }
    }
    Some(wrong)
}

async fn prove(repository: &Repository, parent: &Manifest, increment: &Manifest) -> Option<bool> {
    match repository.prove_increment(parent, increment).await {
        Ok(IncrementProof { wrong, is_unknown }) => {
            (!is_unknown || !wrong.is_empty()).then_some(wrong.is_empty())
        }
        Err(Error::Damaged { .. }) => Some(false),
        Err(error) => panic!("{error:?}"),
    }
}

fn told_world() -> impl Strategy<Value = World> {
    world().prop_map(|world| World {
        is_told: true,
        grown_at: 9,
        ..world
    })
}

/// The changes of a backup as they are written.
fn changes(world: &World, backup: usize) -> Vec<Row> {
    world.folded(backup, backup + 1).into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn an_increment_whose_changes_say_what_they_replaced_is_proved_wherever_shards_were_split(
        world in world(),
    ) {
        run(async {
            let store = Store::new(world.options());
            let chain = world.put(&store.repository).await;
            for (backup, pair) in (1..).zip(chain.windows(2)) {
                let [parent, increment] = [&pair[0].manifest, &pair[1].manifest];
                let is_same = world.schema(backup - 1) == world.schema(backup);
                let is_told = world.is_told || changes(&world, backup).is_empty();
                let expected = (is_same && is_told).then_some(true);
                assert_eq!(prove(&store.repository, parent, increment).await, expected);
                let folded: Vec<_> = chain[..=backup].iter().map(manifest).collect();
                assert_eq!(store.repository.prove_by_folding(&folded).await.unwrap(), []);
            }
        });
    }

    #[test]
    fn a_change_that_is_lost_doubled_or_altered_on_its_way_into_a_segment_is_found(
        world in told_world(),
        backup in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        planted in prop::sample::select(PLANTED.to_vec()),
    ) {
        prop_assume!(world.backups.len() > 1);
        let backup = 1 + backup.index(world.backups.len() - 1);
        let right = changes(&world, backup);
        prop_assume!(!right.is_empty());
        let wrong = plant(&right, at.index(right.len()), planted);
        prop_assume!(wrong.is_some());
        run(async {
            let store = Store::new(world.options());
            let chain = world.put(&store.repository).await;
            let wrong = world.write_values(&store.repository, backup, wrong.unwrap()).await;
            let parent = &chain[backup - 1].manifest;
            assert_eq!(prove(&store.repository, parent, &wrong).await, Some(false));
        });
    }

    #[test]
    fn a_change_that_is_lost_doubled_or_altered_in_a_fold_is_found_and_the_chain_stays(
        world in told_world(),
        run_of in any::<(prop::sample::Index, prop::sample::Index)>(),
        at in any::<prop::sample::Index>(),
        planted in prop::sample::select(PLANTED.to_vec()),
    ) {
        prop_assume!(world.backups.len() > 2);
        let last = 2 + run_of.0.index(world.backups.len() - 2);
        let first = 1 + run_of.1.index(last - 1);
        let right: Vec<_> = world.folded(first, last + 1).into_iter().collect();
        prop_assume!(!right.is_empty());
        let wrong = plant(&right, at.index(right.len()), planted);
        prop_assume!(wrong.is_some());
        run(async {
            let store = Store::new(world.options());
            let before = world.put(&store.repository).await;
            fold_wrongly(&store, &world, first, last, Some(wrong.unwrap())).await.unwrap_err();
            let repository = &store.repository;
            let stays = repository.manifest(COLLECTION, &World::id(last)).await.unwrap();
            assert_eq!(stays, before[last]);
            fold_wrongly(&store, &world, first, last, None).await.unwrap();
        });
    }
}

fn manifest(stored: &StoredManifest) -> std::sync::Arc<Manifest> {
    std::sync::Arc::new(stored.manifest.clone())
}

/// Folds a run, and puts other changes in the place of what was folded, if there are any.
async fn fold_wrongly(
    store: &Store,
    world: &World,
    first: usize,
    last: usize,
    wrong: Option<Vec<Row>>,
) -> mendb_repo::Result<StoredManifest> {
    let repository = &store.repository;
    let (first, last) = (World::id(first), World::id(last));
    let planned = repository
        .plan_compaction(COLLECTION, &first, &last)
        .await
        .unwrap();
    let mut draft = planned.draft();
    let writer = if wrong.is_some() { "badf01d" } else { "c0ffee" };
    for (path, shard) in planned.shards() {
        let mut segments = repository
            .fold_shard(&planned, &path, shard, writer, 0, &mut |_| {})
            .await
            .unwrap();
        if let Some(wrong) = &wrong {
            let stays = &planned.stays().manifest;
            let known = repository.shard(stays, &path, shard).await.unwrap();
            let range = known.unwrap().range;
            let target = SegmentTarget {
                shard,
                writer: "decaf".to_owned(),
                ..sample::target(&last, 0)
            };
            let schema = world.schema(0);
            let mut writer = repository
                .segment_writer(target, &schema, Content::Changes)
                .unwrap();
            let mut block = RowBlockBuilder::new();
            for (key, value) in wrong.iter().filter(|(key, _)| range.contains(key)) {
                block.push(key, value);
            }
            segments = writer.push(&block.finish()).await.unwrap();
            segments.extend(writer.finish().await.unwrap());
        }
        draft.put_shard(&path, shard, segments);
    }
    let replaced = repository.replace_manifest(&planned, &draft, writer);
    replaced.await
}

#[test]
fn a_segment_that_was_altered_in_the_store_after_it_was_written_is_found() {
    run(async {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let world = told_world().prop_filter("an increment", |world| {
            world.backups.len() > 1 && !world.backups[1].edits.is_empty()
        });
        let world = world.new_tree(&mut runner).unwrap().current();
        let store = Store::new(world.options());
        let chain = world.put(&store.repository).await;
        let [parent, increment] = [&chain[0].manifest, &chain[1].manifest];
        let segments = sample::stored_segments(&store.repository, increment).await;
        let segment = &segments.unwrap()[0];
        let directory = format!("p/collections/{COLLECTION}/{}", increment.backup_id);
        let object = Path::from(format!("{directory}/{}", segment.object));
        let written = store
            .faulty
            .below
            .get(&object)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        for at in (0..written.len()).step_by(written.len() / 16 + 1) {
            let mut altered = written.to_vec();
            altered[at] ^= 1;
            store
                .faulty
                .below
                .put(&object, PutPayload::from(altered))
                .await
                .unwrap();
            assert_eq!(
                prove(&store.repository, parent, increment).await,
                Some(false)
            );
        }
        store
            .faulty
            .below
            .put(&object, PutPayload::from(written))
            .await
            .unwrap();
        assert_eq!(
            prove(&store.repository, parent, increment).await,
            Some(true)
        );
    });
}

#[test]
fn a_fold_of_what_says_what_it_replaced_says_it_too() {
    run(async {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let world = told_world().prop_filter("a run", |world| world.backups.len() > 3);
        let world = world.new_tree(&mut runner).unwrap().current();
        let store = Store::new(world.options());
        world.put(&store.repository).await;
        let folded = fold_wrongly(&store, &world, 1, 3, None).await.unwrap();
        let parent = store
            .repository
            .manifest(COLLECTION, &World::id(0))
            .await
            .unwrap();
        let (parent, folded) = (&parent.manifest, &folded.manifest);
        assert_eq!(prove(&store.repository, parent, folded).await, Some(true));
        let expected = world.folded(1, 4);
        let chain = [std::sync::Arc::new(folded.clone())];
        let range = mendb_model::KeyRange::all();
        let mut reader = store
            .repository
            .read_chain(&chain, &path(), &range, None)
            .await
            .unwrap();
        while let Some(block) = reader.next().await.unwrap() {
            for (key, change) in block.iter() {
                let expected = ChangeRef::decode(&expected[key]).unwrap().replaced;
                assert_eq!(ChangeRef::decode(change).unwrap().replaced, expected);
            }
        }
    });
}
