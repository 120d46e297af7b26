//! What passes heals by itself; what stays is named.

use std::sync::Arc;

use mendb_repo::{Error, Repository, RepositoryOptions};
use object_store::path::Path;

use crate::faulty_store::{Fault, FaultyStore, Request};
use crate::rows::unblock;
use crate::sample::{
    COLLECTION, OPERATION, WRITER, backup, backups, block, full, manifest, options, read, segments,
    writer,
};

const SEGMENT: &str = "goods/0000-3fa9c1-0.0001.parquet";
const MANIFEST: &str = "manifest.json";

/// So much that a fault outlasts all attempts.
const ALWAYS: u32 = 1000;

fn repository(options: RepositoryOptions) -> (FaultyStore, Repository) {
    let store = FaultyStore::default();
    let below = Arc::new(store.clone());
    let repository = Repository::with_store(below, Path::from("p"), "faulty:", options);
    (store, repository)
}

fn impatient() -> RepositoryOptions {
    RepositoryOptions {
        request_timeout_ms: 40,
        ..options()
    }
}

/// The object of an error that says so in its text too.
fn named(error: &Error) -> String {
    let object = match error {
        Error::NotFound { object }
        | Error::Damaged { object, .. }
        | Error::Store { object, .. }
        | Error::TimedOut { object, .. }
        | Error::DiskFull { object, .. } => object.clone(),
        other => panic!("{other:?}"),
    };
    assert!(error.to_string().contains(&object), "{error}");
    object
}

#[tokio::test]
async fn faults_that_pass_are_not_noticed() {
    let (store, repository) = repository(impatient());
    let faults = [
        (Request::Put, "", Fault::Unavailable),
        (Request::Put, "mendb.json", Fault::AnswerLost),
        (Request::Put, SEGMENT, Fault::Silence),
        (Request::Put, "0002.parquet", Fault::AnswerLost),
        (Request::Put, MANIFEST, Fault::AnswerLost),
        (Request::Get, SEGMENT, Fault::FlippedBit),
        (Request::Get, "0000.parquet", Fault::CutBody),
        (Request::Get, "0002.parquet", Fault::Silence),
        (Request::Get, MANIFEST, Fault::FlippedBit),
        (Request::Get, MANIFEST, Fault::Unavailable),
        (Request::List, "", Fault::Unavailable),
        (Request::List, "", Fault::Silence),
        (Request::Delete, MANIFEST, Fault::AnswerLost),
        (Request::Delete, SEGMENT, Fault::AnswerLost),
    ];
    for (request, object, fault) in faults {
        store.fail(request, object, fault, 1);
    }
    let stored = backup(&repository, &full(0), None).await.unwrap();
    let blocks = read(&repository, &stored.manifest).await.unwrap();
    assert_eq!(unblock(&blocks), unblock(&[block(0..100)]));
    assert_eq!(
        repository.manifest(COLLECTION, &full(0)).await.unwrap(),
        stored
    );
    assert_eq!(backups(&repository).await, [stored]);
    repository
        .delete_backup(COLLECTION, &full(0))
        .await
        .unwrap();
    assert!(repository.collections().await.unwrap().is_empty());
    assert_eq!(store.waiting(), 0, "every fault happened");
}

#[tokio::test]
async fn faults_that_stay_name_the_object_and_whether_to_come_back() {
    let cases = [
        (Request::Get, SEGMENT, Fault::Unavailable, true),
        (Request::Get, SEGMENT, Fault::Denied, false),
        (Request::Get, SEGMENT, Fault::Silence, true),
        (Request::Get, SEGMENT, Fault::FlippedBit, false),
        (Request::Get, SEGMENT, Fault::CutBody, false),
        (Request::Get, MANIFEST, Fault::FlippedBit, false),
        (Request::Get, MANIFEST, Fault::CutBody, false),
    ];
    for (request, object, fault, retriable) in cases {
        let (store, repository) = repository(impatient());
        let stored = backup(&repository, &full(0), None).await.unwrap();
        store.fail(request, object, fault, ALWAYS);
        let error = match repository.manifest(COLLECTION, &full(0)).await {
            Ok(_) => read(&repository, &stored.manifest).await.unwrap_err(),
            Err(error) => error,
        };
        let expected = format!("faulty:/collections/{COLLECTION}/{}/{object}", full(0));
        assert_eq!(named(&error), expected, "{fault:?}");
        assert_eq!(error.is_retriable(), retriable, "{fault:?}: {error:?}");
        let damaged = matches!(fault, Fault::FlippedBit | Fault::CutBody);
        assert_eq!(matches!(error, Error::Damaged { .. }), damaged, "{error:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_named_and_no_backup_comes_to_be() {
    let cases = [
        ("mendb.json", Fault::Denied, false),
        (SEGMENT, Fault::Unavailable, true),
        (SEGMENT, Fault::DiskFull, false),
        (MANIFEST, Fault::Silence, true),
    ];
    for (object, fault, retriable) in cases {
        let (store, repository) = repository(impatient());
        store.fail(Request::Put, object, fault, ALWAYS);
        let error = backup(&repository, &full(0), None).await.unwrap_err();
        assert!(named(&error).ends_with(object), "{error:?}");
        assert_eq!(error.is_retriable(), retriable, "{error:?}");
        let full_disk = matches!(error, Error::DiskFull { bytes, .. } if bytes > 0);
        assert_eq!(full_disk, fault == Fault::DiskFull);
        assert!(backups(&repository).await.is_empty());
    }
}

#[tokio::test]
async fn each_request_is_made_as_often_as_the_policy_says() {
    let attempts = options().retry.attempts;
    let (store, repository) = repository(options());
    store.fail(Request::Put, SEGMENT, Fault::Unavailable, attempts - 1);
    segments(&repository, &full(0), 0).await.unwrap();
    store.fail(Request::Put, SEGMENT, Fault::Unavailable, attempts);
    segments(&repository, &full(1), 0).await.unwrap_err();
    assert_eq!(store.waiting(), 0);
    store.fail(Request::Put, SEGMENT, Fault::Denied, 2);
    segments(&repository, &full(2), 0).await.unwrap_err();
    assert_eq!(store.waiting(), 1, "a refusal is not asked again");
}

#[tokio::test]
async fn a_failed_upload_fails_the_writer_before_it_ends() {
    let (store, repository) = repository(options());
    store.fail(Request::Put, "0000-3fa9c1-0.0000.parquet", Fault::Denied, 1);
    let mut writer = writer(&repository, &full(0), 0);
    let pushed = writer.push(&block(0..100)).await;
    let ended = match pushed {
        Ok(_) => writer.finish().await,
        Err(error) => Err(error),
    };
    assert!(named(&ended.unwrap_err()).ends_with("0000-3fa9c1-0.0000.parquet"));
}

#[tokio::test]
async fn a_withdrawal_cut_off_anywhere_leaves_no_backup_and_can_be_repeated() {
    for (request, object) in [
        (Request::Put, MANIFEST),
        (Request::Delete, "0000.parquet"),
        (Request::Delete, SEGMENT),
    ] {
        let (store, repository) = repository(options());
        backup(&repository, &full(0), None).await.unwrap();
        let id = full(0);
        let withdraw = || repository.withdraw(COLLECTION, &id, OPERATION, WRITER);
        store.fail(request, object, Fault::Denied, 1);
        assert!(named(&withdraw().await.unwrap_err()).ends_with(object));
        if let Ok(stored) = repository.manifest(COLLECTION, &full(0)).await {
            repository.check_present(&stored.manifest).await.unwrap();
        }
        withdraw().await.unwrap();
        assert!(repository.unfinished(COLLECTION).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_label_is_not_called_unknown_while_a_manifest_cannot_be_fetched() {
    let (store, repository) = repository(options());
    let written = segments(&repository, &full(0), 0).await.unwrap();
    let mut manifest = manifest(&full(0), None, written);
    manifest.label = Some("monday".into());
    repository.put_manifest(&manifest, WRITER).await.unwrap();
    let attempts = options().retry.attempts;
    store.fail(Request::Get, MANIFEST, Fault::Unavailable, attempts);
    let error = repository.find_id(COLLECTION, "monday").await.unwrap_err();
    assert!(error.is_retriable(), "{error:?}");
    repository.find_id(COLLECTION, "monday").await.unwrap();
}

#[tokio::test]
async fn a_delete_cut_off_anywhere_leaves_no_backup_and_can_be_repeated() {
    for (request, object) in [
        (Request::Put, MANIFEST),
        (Request::Delete, "0000.parquet"),
        (Request::Delete, SEGMENT),
        (Request::Delete, MANIFEST),
    ] {
        let (store, repository) = repository(options());
        backup(&repository, &full(0), None).await.unwrap();
        backup(&repository, &full(1), None).await.unwrap();
        store.fail(request, object, Fault::Denied, 1);
        let error = repository
            .delete_backup(COLLECTION, &full(0))
            .await
            .unwrap_err();
        assert!(named(&error).ends_with(object));
        match repository.manifest(COLLECTION, &full(0)).await {
            Ok(stored) => {
                assert_eq!(request, Request::Put);
                repository.check_present(&stored.manifest).await.unwrap();
            }
            Err(error) => assert!(matches!(error, Error::NotFound { .. }), "{error:?}"),
        }
        repository
            .delete_backup(COLLECTION, &full(0))
            .await
            .unwrap();
        assert!(repository.unfinished(COLLECTION).await.unwrap().is_empty());
        assert_eq!(backups(&repository).await.len(), 1);
    }
}
