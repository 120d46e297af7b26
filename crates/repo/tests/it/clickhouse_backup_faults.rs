//! Backups of clickhouse-backup in stores that fail.

use std::sync::Arc;

use bytes::Bytes;
use mendb_repo::clickhouse_backup::ImportedBackups;
use object_store::ObjectStoreExt;

use crate::clickhouse_backup::{options, sample, table};
use crate::clickhouse_backup_fixture::{Held, Layout, Made, Packing, read};
use crate::faulty_store::{Fault, FaultyStore, Request};

/// The same objects in a store that fails as told.
async fn faulty(made: &Made) -> (FaultyStore, ImportedBackups) {
    let store = FaultyStore::default();
    for (path, content) in made.objects() {
        let path = object_store::path::Path::parse(format!("place/{path}")).unwrap();
        store.put(&path, Bytes::from(content).into()).await.unwrap();
    }
    let place = ImportedBackups::with_store(
        Arc::new(store.clone()),
        "place".into(),
        "faulty://place",
        options(),
    );
    (store, place)
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_that_pass_are_waited_out_and_damage_on_the_way_is_read_again() {
    let [large, ..] = sample();
    for layout in [
        Layout::Directory,
        Layout::ByPart(Packing::Gzip),
        Layout::ByPart(Packing::Tar),
    ] {
        for fault in [Fault::Unavailable, Fault::CutBody, Fault::FlippedBit] {
            let (store, place) = faulty(&Made::new("b", layout, vec![Held::new(&large)])).await;
            let backup = place.backup("b").await.unwrap();
            let part = &backup.parts(&table()).await.unwrap()[0];
            let object = if layout == Layout::Directory {
                "default/"
            } else {
                "default_"
            };
            store.fail(Request::Get, object, fault, 2);
            let into = tempfile::tempdir().unwrap();
            backup
                .fetch_part(&table(), part, into.path())
                .await
                .unwrap();
            assert_eq!(read(into.path()), large.files, "{layout:?} {fault:?}");
            assert_eq!(store.waiting(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_is_no_damage() {
    let [_, made, _] = sample();
    // Files are read side by side, and which of them fails first is chance.
    let files = [Layout::Directory; 50];
    let archives = [
        Layout::ByPart(Packing::Zstd),
        Layout::BySize(Packing::Zstd, 1),
    ];
    for layout in files.into_iter().chain(archives) {
        let (store, place) = faulty(&Made::new("b", layout, vec![Held::new(&made)])).await;
        let backup = place.backup("b").await.unwrap();
        let part = &backup.parts(&table()).await.unwrap()[0];
        store.fail(Request::Get, "shadow", Fault::Unavailable, 100);
        let into = tempfile::tempdir().unwrap();
        let error = backup
            .fetch_part(&table(), part, into.path())
            .await
            .unwrap_err();
        assert!(
            error.is_retriable() && !error.is_damage(),
            "{layout:?} {error}"
        );
    }
}
