//! What every store must keep.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mendb_model::RowBlock;
use mendb_model::name::TablePath;
use mendb_repo::{Content, Error, Repository, SegmentTarget};

use crate::rows::unblock;
use crate::sample::{
    COLLECTION, OPERATION, WRITER, backup, backups, block, full, increment, manifest, read, schema,
    segments, segments_of, stored_segments, target, writer,
};
use crate::{compaction, garbage, ids, part_promises};

/// A promise, proved on an empty repository.
pub type Promise = (
    &'static str,
    fn(Repository) -> Pin<Box<dyn Future<Output = ()>>>,
);

macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), |repository| Box::pin($name(repository)))),*]
    };
}
pub(crate) use promises;

pub const ALL: &[Promise] = promises![
    an_empty_place_is_an_empty_repository,
    many_create_a_repository_once,
    a_backup_reads_back_with_every_row,
    a_backup_without_manifest_does_not_exist,
    a_manifest_is_refused_while_an_object_is_missing,
    of_two_operations_the_first_makes_the_backup,
    an_operation_finds_its_own_manifest_again,
    chains_go_from_full_to_the_last_increment,
    an_increment_on_a_missing_or_changed_parent_is_refused,
    backups_are_found_by_id_and_label,
    deleting_twice_equals_deleting_once,
    sweeping_keeps_what_the_manifest_names,
    sweeping_keeps_what_another_writes,
    two_targets_in_one_second_do_not_touch_each_others_objects,
    withdrawing_takes_back_ones_own_backup_and_can_be_repeated,
    discarding_removes_leftovers_and_never_a_backup,
    a_writer_goes_on_behind_the_last_stored_segment,
    indexes_with_any_name_are_stored,
];

/// The promises of all that a repository does.
pub fn every_promise() -> impl Iterator<Item = &'static Promise> {
    ALL.iter()
        .chain(part_promises::ALL)
        .chain(garbage::ALL)
        .chain(compaction::ALL)
        .chain(ids::ALL)
}

async fn an_empty_place_is_an_empty_repository(repository: Repository) {
    assert_eq!(repository.header().await.unwrap(), None);
    assert!(repository.collections().await.unwrap().is_empty());
    assert!(backups(&repository).await.is_empty());
    let error = repository.manifest(COLLECTION, &full(0)).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    let error = repository.find_id(COLLECTION, "gold").await.unwrap_err();
    assert!(error.to_string().ends_with("it has none"), "{error}");
}

async fn many_create_a_repository_once(repository: Repository) {
    let creators = (0..8).map(|_| repository.create_if_absent());
    let headers = futures::future::try_join_all(creators).await.unwrap();
    let header = repository.header().await.unwrap().unwrap();
    assert!(headers.iter().all(|created| *created == header));
}

async fn a_backup_reads_back_with_every_row(repository: Repository) {
    let stored = backup(&repository, &full(0), None).await.unwrap();
    let segments = stored_segments(&repository, &stored.manifest)
        .await
        .unwrap();
    assert!(segments.len() > 3);
    assert_eq!(stored.manifest.rows(), 100);
    repository.check_present(&stored.manifest).await.unwrap();
    let blocks = read(&repository, &stored.manifest).await.unwrap();
    assert_eq!(unblock(&blocks), unblock(&[block(0..100)]));
    let again = repository.manifest(COLLECTION, &full(0)).await.unwrap();
    assert_eq!(again, stored);
    assert_eq!(repository.collections().await.unwrap(), [COLLECTION]);
}

async fn a_backup_without_manifest_does_not_exist(repository: Repository) {
    segments(&repository, &full(0), 0).await.unwrap();
    backup(&repository, &full(1), None).await.unwrap();
    let backups = backups(&repository).await;
    assert_eq!(backups.len(), 1);
    assert_eq!(backups[0].manifest.backup_id, full(1));
    assert_eq!(repository.unfinished(COLLECTION).await.unwrap(), [full(0)]);
}

async fn a_manifest_is_refused_while_an_object_is_missing(repository: Repository) {
    let mut written = segments(&repository, &full(0), 0).await.unwrap();
    written[1].bytes += 1;
    written[2].object.push('x');
    let error = repository
        .put_manifest(&manifest(&full(0), None, written), WRITER)
        .await
        .unwrap_err();
    let message = error.to_string();
    let object = format!(
        "{}/collections/{COLLECTION}/{}/goods/0000-3fa9c1-0.0001.parquet has ",
        repository.url(),
        full(0)
    );
    assert!(message.starts_with(&object), "{message}");
    assert!(message.contains(", and 1 other object"), "{message}");
    assert!(backups(&repository).await.is_empty());
}

async fn of_two_operations_the_first_makes_the_backup(repository: Repository) {
    let race = (1..=8).map(|operation| {
        let repository = &repository;
        async move {
            let written = segments(repository, &full(0), operation).await.unwrap();
            let mut manifest = manifest(&full(0), None, written);
            manifest.operation_id = format!("backup-{operation}");
            repository.put_manifest(&manifest, WRITER).await
        }
    });
    let ends = futures::future::join_all(race).await;
    let there = repository.manifest(COLLECTION, &full(0)).await.unwrap();
    let (won, lost): (Vec<_>, Vec<_>) = ends.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert_eq!(won.into_iter().next().unwrap().unwrap(), there);
    for end in lost {
        match end.unwrap_err() {
            Error::Taken { operation_id, .. } => {
                assert_eq!(operation_id, there.manifest.operation_id);
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn an_operation_finds_its_own_manifest_again(repository: Repository) {
    let stored = backup(&repository, &full(0), None).await.unwrap();
    assert_eq!(
        repository
            .put_manifest(&stored.manifest, WRITER)
            .await
            .unwrap(),
        stored
    );
    let other_attempt = segments(&repository, &full(0), 1).await.unwrap();
    let again = manifest(&full(0), None, other_attempt);
    assert_eq!(
        repository.put_manifest(&again, WRITER).await.unwrap(),
        stored
    );
}

async fn chains_go_from_full_to_the_last_increment(repository: Repository) {
    let first = backup(&repository, &full(0), None).await.unwrap();
    let second = backup(&repository, &increment(1), Some(&first))
        .await
        .unwrap();
    let third = backup(&repository, &increment(2), Some(&second))
        .await
        .unwrap();
    let chain = repository.chain(COLLECTION, &increment(2)).await.unwrap();
    assert_eq!(chain, [first.clone(), second, third]);
    assert_eq!(
        repository.chain(COLLECTION, &full(0)).await.unwrap(),
        [first]
    );
}

async fn an_increment_on_a_missing_or_changed_parent_is_refused(repository: Repository) {
    let parent = backup(&repository, &full(0), None).await.unwrap();
    let mut changed = parent.clone();
    changed.blake3 = "0".repeat(64);
    let error = backup(&repository, &increment(1), Some(&changed))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("has the hash"), "{error}");

    let child = backup(&repository, &increment(2), Some(&parent))
        .await
        .unwrap();
    let delete = async |id| repository.delete_backup(COLLECTION, &id).await;
    let error = delete(full(0)).await.unwrap_err();
    assert!(
        matches!(&error, Error::StoodOn { by, .. } if *by == [child.manifest.backup_id]),
        "{error:?}"
    );
    delete(increment(2)).await.unwrap();
    delete(full(0)).await.unwrap();
    let message = backup(&repository, &increment(2), Some(&parent))
        .await
        .unwrap_err()
        .to_string();
    assert!(message.contains(increment(2).as_str()), "{message}");
    assert!(message.contains(full(0).as_str()), "{message}");
    assert!(message.contains("does not exist"), "{message}");

    let mut later = parent;
    later.manifest.backup_id = full(9);
    let error = backup(&repository, &increment(3), Some(&later))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is not older"), "{error}");
}

async fn backups_are_found_by_id_and_label(repository: Repository) {
    for (second, label) in [(0, "monday"), (1, "tuesday"), (2, "tuesday")] {
        let written = segments(&repository, &full(second), 0).await.unwrap();
        let mut manifest = manifest(&full(second), None, written);
        manifest.label = Some(label.into());
        repository.put_manifest(&manifest, WRITER).await.unwrap();
    }
    let by_id = repository.find_id(COLLECTION, full(1).as_str()).await;
    assert_eq!(by_id.unwrap(), full(1));
    let by_label = repository.find_id(COLLECTION, "monday").await;
    assert_eq!(by_label.unwrap(), full(0));
    match repository.find_id(COLLECTION, "tuesday").await.unwrap_err() {
        Error::AmbiguousLabel { ids, .. } => assert_eq!(ids, [full(1), full(2)]),
        other => panic!("{other:?}"),
    }
    let error = repository.find_id(COLLECTION, "sunday").await.unwrap_err();
    let expected = format!("{} (monday)", full(0));
    assert!(error.to_string().contains(&expected), "{error}");
}

async fn deleting_twice_equals_deleting_once(repository: Repository) {
    backup(&repository, &full(0), None).await.unwrap();
    backup(&repository, &full(1), None).await.unwrap();
    for _ in 0..2 {
        repository
            .delete_backup(COLLECTION, &full(0))
            .await
            .unwrap();
        let left = backups(&repository).await;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].manifest.backup_id, full(1));
        assert!(repository.unfinished(COLLECTION).await.unwrap().is_empty());
    }
    read(&repository, &backups(&repository).await[0].manifest)
        .await
        .unwrap();
}

async fn sweeping_keeps_what_the_manifest_names(repository: Repository) {
    let lost = segments(&repository, &full(0), 7).await.unwrap();
    let stored = backup(&repository, &full(0), None).await.unwrap();
    let other = manifest(&full(0), None, lost.clone());
    repository.check_present(&other).await.unwrap();
    let removed = repository.sweep(&stored.manifest, WRITER).await.unwrap();
    assert_eq!(removed, lost.len() as u64);
    assert_eq!(repository.sweep(&other, WRITER).await.unwrap(), 0);
    repository.check_present(&stored.manifest).await.unwrap();
    assert!(repository.check_present(&other).await.is_err());
    let error = repository
        .sweep(&manifest(&full(5), None, lost), WRITER)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

async fn sweeping_keeps_what_another_writes(repository: Repository) {
    let other = segments_of(&repository, &full(0), "b2").await.unwrap();
    let stored = backup(&repository, &full(0), None).await.unwrap();
    let swept = repository.sweep(&stored.manifest, WRITER).await.unwrap();
    assert_eq!(swept, 0);
    let other = manifest(&full(0), None, other);
    repository.check_present(&other).await.unwrap();
}

async fn two_targets_in_one_second_do_not_touch_each_others_objects(repository: Repository) {
    let loser = segments_of(&repository, &full(0), "b2").await.unwrap();
    let stored = backup(&repository, &full(0), None).await.unwrap();
    let mut late = manifest(&full(0), None, loser.clone());
    late.operation_id = "backup-b2".into();
    repository.check_present(&late).await.unwrap();
    let error = repository.put_manifest(&late, WRITER).await.unwrap_err();
    assert!(matches!(error, Error::Taken { .. }), "{error:?}");

    for _ in 0..2 {
        repository
            .withdraw(COLLECTION, &full(0), "backup-b2", "b2")
            .await
            .unwrap();
        assert!(repository.check_present(&late).await.is_err());
        repository.check_present(&stored.manifest).await.unwrap();
        let there = repository.manifest(COLLECTION, &full(0)).await.unwrap();
        assert_eq!(there, stored);
        let blocks = read(&repository, &there.manifest).await.unwrap();
        assert_eq!(unblock(&blocks), unblock(&[block(0..100)]));
    }
    let swept = repository.sweep(&stored.manifest, "b2").await.unwrap();
    assert_eq!(swept, 0, "nothing of the other is left");
}

async fn withdrawing_takes_back_ones_own_backup_and_can_be_repeated(repository: Repository) {
    let other = segments_of(&repository, &full(0), "b2").await.unwrap();
    segments(&repository, &full(0), 1).await.unwrap();
    backup(&repository, &full(0), None).await.unwrap();
    for _ in 0..2 {
        repository
            .withdraw(COLLECTION, &full(0), OPERATION, WRITER)
            .await
            .unwrap();
        assert!(backups(&repository).await.is_empty());
    }
    // Of what others wrote there nothing goes.
    repository
        .check_present(&manifest(&full(0), None, other))
        .await
        .unwrap();
    repository
        .withdraw(COLLECTION, &full(0), "backup-b2", "b2")
        .await
        .unwrap();
    assert!(repository.unfinished(COLLECTION).await.unwrap().is_empty());
}

async fn discarding_removes_leftovers_and_never_a_backup(repository: Repository) {
    segments(&repository, &full(0), 0).await.unwrap();
    let stored = backup(&repository, &full(1), None).await.unwrap();
    for _ in 0..2 {
        repository.discard(COLLECTION, &full(0)).await.unwrap();
        assert!(repository.unfinished(COLLECTION).await.unwrap().is_empty());
    }
    let error = repository.discard(COLLECTION, &full(1)).await.unwrap_err();
    assert!(matches!(error, Error::Complete { .. }), "{error:?}");
    read(&repository, &stored.manifest).await.unwrap();
}

async fn a_writer_goes_on_behind_the_last_stored_segment(repository: Repository) {
    let mut first = writer(&repository, &full(0), 0);
    let mut stored = Vec::new();
    for start in (0..60).step_by(10) {
        stored.extend(first.push(&block(start..start + 10)).await.unwrap());
    }
    assert!(!stored.is_empty(), "segments come while rows are pushed");
    drop(first);

    let last_key = stored.last().unwrap().last_key.clone();
    let all = block(0..100);
    let rest = (0..all.len()).filter(|row| all.key(*row) > last_key.as_slice());
    let mut builder = mendb_model::RowBlockBuilder::new();
    for row in rest {
        builder.push(all.key(row), all.value(row));
    }
    let again = SegmentTarget {
        attempt: 1,
        first_segment: u32::try_from(stored.len()).unwrap(),
        ..target(&full(0), 1)
    };
    let mut second = repository
        .segment_writer(again, &schema(), Content::Rows)
        .unwrap();
    stored.extend(second.push(&builder.finish()).await.unwrap());
    stored.extend(second.finish().await.unwrap());
    let manifest = manifest(&full(0), None, stored);
    let finished = repository.put_manifest(&manifest, WRITER).await.unwrap();
    repository.sweep(&manifest, WRITER).await.unwrap();
    let blocks: Vec<RowBlock> = read(&repository, &finished.manifest).await.unwrap();
    assert_eq!(unblock(&blocks), unblock(&[all]));
}

async fn indexes_with_any_name_are_stored(repository: Repository) {
    let paths = [
        TablePath::index("goods", "nach Größe .."),
        TablePath::index("goods", ".."),
        TablePath::index("goods", "0000-3fa9c1-0.0000.parquet"),
        TablePath::table("goods"),
        TablePath::table("manifest.json"),
    ];
    let repository = Arc::new(repository);
    let mut written = Vec::new();
    for path in paths {
        let target = SegmentTarget {
            path,
            ..target(&full(0), 0)
        };
        let mut writer = repository
            .segment_writer(target, &schema(), Content::Rows)
            .unwrap();
        writer.push(&block(0..1)).await.unwrap();
        written.extend(writer.finish().await.unwrap());
    }
    assert_eq!(written.len(), 5);
    let manifest = manifest(&full(0), None, written);
    let stored = repository.put_manifest(&manifest, WRITER).await.unwrap();
    let blocks = read(&repository, &stored.manifest).await.unwrap();
    assert_eq!(blocks.len(), 5);
    repository
        .delete_backup(COLLECTION, &full(0))
        .await
        .unwrap();
    assert!(repository.collections().await.unwrap().is_empty());
}
