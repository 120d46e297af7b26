//! Parts on a store that fails: what passes heals by itself, what stays is named.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use mendb_model::part::{FilePlace, Inventory, PartRecord};
use mendb_repo::{DocumentKind, Error, Repository, RepositoryOptions};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::faulty_store::{Fault, FaultyStore, Moment, Request};
use crate::parts_sample::{
    LARGE, SamplePart, backup, document, draft, expect_back, fetch, filled, inventory, objects_of,
    options, paths_below, store,
};
use crate::sample::{COLLECTION, WRITER, full};

/// More often than any request is repeated.
const ALWAYS: u32 = 1000;
/// A file that is sent in pieces.
const SEVERAL_PIECES: usize = (9 << 20) + 1;

fn repository(options: RepositoryOptions) -> (FaultyStore, Repository) {
    let faulty = FaultyStore::default();
    let below = Arc::new(faulty.clone());
    let repository = Repository::with_store(below, Path::from("p"), "faulty:", options);
    (faulty, repository)
}

fn watch(faulty: &FaultyStore, watch: impl Fn(Request, &str, Moment) + Send + Sync + 'static) {
    *faulty.witness.0.lock().unwrap() = Some(Arc::new(watch));
}

fn sent_in_pieces() -> SamplePart {
    let files = [
        ("checksums.txt", filled(1, 50)),
        ("data.bin", filled(2, SEVERAL_PIECES)),
    ];
    SamplePart::new("all_1_1_0", &files)
}

/// The name of the object of the one large file.
fn large_object(records: &[PartRecord]) -> String {
    let objects = objects_of(records).into_iter();
    let mut large = objects.filter(|object| !object.contains("bundles"));
    large.next().unwrap()
}

#[tokio::test]
async fn faults_that_pass_are_not_noticed() {
    let (faulty, repository) = repository(RepositoryOptions {
        request_timeout_ms: 200,
        ..options()
    });
    let part = sent_in_pieces();
    // Creation, two pieces and completion, in an order that is not fixed: each meets some.
    for fault in [Fault::Unavailable, Fault::Silence, Fault::Unavailable] {
        faulty.fail(Request::Put, "files/", fault, 1);
    }
    faulty.fail(Request::Get, "files/", Fault::Unavailable, 2);
    let (records, uploaded) = store(&repository, &[&part]).await.unwrap();
    assert_eq!(uploaded.bytes, records[0].bytes());
    for fault in [Fault::FlippedBit, Fault::CutBody, Fault::Unavailable] {
        faulty.fail(Request::Get, "files/", fault, 1);
    }
    expect_back(&repository, &records[0], &part).await;
    assert_eq!(faulty.waiting(), 0);
}

#[tokio::test]
async fn a_completion_whose_answer_got_lost_is_one() {
    let (faulty, repository) = repository(options());
    let part = sent_in_pieces();
    let (records, _) = store(&repository, &[&part]).await.unwrap();
    let object = Path::from(format!("p/{}", large_object(&records)));
    faulty.below.delete(&object).await.unwrap();
    // Its fourth request to write is the completion.
    let writes = Arc::new(AtomicUsize::new(0));
    let (counted, faults) = (Arc::clone(&writes), faulty.clone());
    let name = object.to_string();
    watch(&faulty, move |request, object, moment| {
        let ours = request == Request::Put && object == name && moment == Moment::Before;
        if ours && counted.fetch_add(1, Ordering::Relaxed) == 3 {
            faults.fail(Request::Put, object, Fault::AnswerLost, 1);
        }
    });
    let (again, uploaded) = store(&repository, &[&part]).await.unwrap();
    assert_eq!(again, records);
    assert_eq!(uploaded.bytes, SEVERAL_PIECES as u64);
    assert_eq!(faulty.waiting(), 0);
    assert_eq!(
        writes.load(Ordering::Relaxed),
        4,
        "it was asked to complete once"
    );
}

#[tokio::test]
async fn what_cannot_be_written_is_named_and_nothing_is_left_of_it() {
    for (fault, retriable) in [(Fault::Denied, false), (Fault::Unavailable, true)] {
        let (faulty, repository) = repository(options());
        let part = sent_in_pieces();
        faulty.fail(Request::Put, "files/", fault, ALWAYS);
        let error = store(&repository, &[&part]).await.unwrap_err();
        assert!(
            matches!(&error, Error::Store { object, .. } if object.contains("files/")),
            "{error:?}"
        );
        assert_eq!(error.is_retriable(), retriable);
        assert!(faulty.below.head(&Path::from("p/files")).await.is_err());
        let left = repository.collect_garbage().await.unwrap();
        assert_eq!(left.objects, 0);
    }
}

#[tokio::test]
async fn a_file_that_changes_between_its_two_readings_is_noticed_and_not_stored() {
    let (faulty, repository) = repository(options());
    let part = sent_in_pieces();
    let path = part.path().join("data.bin");
    let changed = filled(3, SEVERAL_PIECES);
    watch(&faulty, move |request, object, _| {
        // The question whether the store has it comes after the first reading.
        if request == Request::Get && object.starts_with("p/files/") && !object.contains("bundles")
        {
            fs::write(&path, &changed).unwrap();
        }
    });
    let error = store(&repository, &[&part]).await.unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error:?}");
    assert!(error.to_string().contains("data.bin"), "{error}");
    let stored = faulty.below.list(Some(&Path::from("p/files")));
    let stored: Vec<_> = stored.try_collect().await.unwrap();
    let large = stored
        .iter()
        .filter(|object| object.size == SEVERAL_PIECES as u64);
    assert_eq!(large.count(), 0);
}

#[tokio::test]
async fn a_file_of_another_size_than_its_part_said_is_refused() {
    let (_, repository) = repository(options());
    for name in ["price.bin", "price.cmrk2"] {
        let part = SamplePart::wide("all_1_1_0", 0);
        let files = part.files();
        let mut longer = part.read(name);
        longer.push(0);
        part.write(name, &longer);
        let mut writer = repository.part_writer(Arc::default());
        let added = writer.add(part.part(), part.path(), files).await;
        let ended = match added {
            Ok(()) => writer.finish().await.map(drop),
            Err(error) => Err(error),
        };
        let error = ended.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(matches!(error, Error::Changed { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let (_, repository) = repository(options());
    let part = SamplePart::wide("all_1_1_0", 0);
    let files = part.files();
    fs::remove_file(part.path().join("visits.cmrk2")).unwrap();
    let mut writer = repository.part_writer(Arc::default());
    let error = writer
        .add(part.part(), part.path(), files)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error:?}");
    assert!(error.to_string().contains("visits.cmrk2"), "{error}");
}

/// Changes what an object holds.
async fn spoil(faulty: &FaultyStore, object: &str, change: impl Fn(&mut Vec<u8>)) {
    let path = Path::from(format!("p/{object}"));
    let good = faulty
        .below
        .get(&path)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let mut bad = good.to_vec();
    change(&mut bad);
    faulty
        .below
        .put(&path, PutPayload::from(bad))
        .await
        .unwrap();
}

#[tokio::test]
async fn damage_in_any_object_is_found_and_named_and_no_file_is_left_half() {
    let changes: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes[100] ^= 1,
        |bytes| bytes.truncate(200),
        Vec::clear,
    ];
    for change in changes {
        for several_pieces in [false, true] {
            let part = match several_pieces {
                true => sent_in_pieces(),
                false => SamplePart::wide("all_1_1_0", 0),
            };
            let (faulty, repository) = repository(options());
            let (records, _) = store(&repository, &[&part]).await.unwrap();
            let object = large_object(&records);
            spoil(&faulty, &object, change).await;
            let into = tempfile::tempdir().unwrap();
            let error = fetch(&repository, &records[0], into.path())
                .await
                .unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
            assert!(error.to_string().contains(&object), "{error}");
            for name in paths_below(into.path()) {
                assert!(
                    fs::read(into.path().join(&name)).unwrap() == part.read(&name),
                    "{name}"
                );
            }
        }
    }
}

#[tokio::test]
async fn damage_in_a_bundle_is_found_and_named_with_the_file() {
    let (faulty, repository) = repository(options());
    let part = SamplePart::wide("all_1_1_0", 0);
    let (records, _) = store(&repository, &[&part]).await.unwrap();
    let file = records[0]
        .files
        .iter()
        .find(|file| file.name == "p.proj/data.bin")
        .unwrap();
    let FilePlace::Bundle { bundle, offset, .. } = &file.place else {
        panic!("it is small");
    };
    let object = format!("files/bundles/{}/{bundle}", &bundle[..2]);
    let at = usize::try_from(*offset).unwrap();
    spoil(&faulty, &object, |bytes| bytes[at + 7] ^= 1).await;
    let into = tempfile::tempdir().unwrap();
    let error = fetch(&repository, &records[0], into.path())
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert!(
        message.contains(&object) && message.contains("p.proj/data.bin"),
        "{message}"
    );
}

#[tokio::test]
async fn what_is_wrong_with_objects_is_named_by_those_that_look_and_those_that_prove() {
    let (faulty, repository) = repository(options());
    let part = SamplePart::wide("all_1_1_0", 0);
    let (stored, records) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
    for object in objects_of(&records) {
        let path = Path::from(format!("p/{object}"));
        let good = faulty
            .below
            .get(&path)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        spoil(&faulty, &object, |bytes| bytes[50] ^= 1).await;
        let verified = repository.verify_files(&records).await.unwrap();
        assert_eq!(verified.damaged.len(), 1);
        assert!(verified.damaged[0].to_string().contains(&object));
        spoil(&faulty, &object, |bytes| bytes.truncate(100)).await;
        let error = repository
            .check_present(&stored.manifest)
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("{object} has 100 bytes")),
            "{error}"
        );
        assert_eq!(
            repository
                .verify_files(&records)
                .await
                .unwrap()
                .damaged
                .len(),
            1
        );
        faulty.below.put(&path, good.into()).await.unwrap();
    }
    repository.check_present(&stored.manifest).await.unwrap();
}

#[tokio::test]
async fn a_damaged_document_is_found_and_named() {
    let (faulty, repository) = repository(options());
    let part = SamplePart::wide("all_1_1_0", 0);
    let (stored, _) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
    let tables = &stored.manifest.part_store.as_ref().unwrap().tables;
    let object = &tables[0].lists[0].at.object;
    let path = format!("collections/{COLLECTION}/{}/{object}", full(0));
    spoil(&faulty, &path, |bytes| bytes[9] ^= 1).await;
    let error = repository
        .check_present(&stored.manifest)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains(object), "{error}");
    spoil(&faulty, &path, |bytes| bytes.truncate(9)).await;
    let error = repository
        .check_present(&stored.manifest)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
    assert!(error.to_string().contains(object), "{error}");
}

#[tokio::test]
async fn nothing_is_removed_while_a_backup_cannot_be_read() {
    let (faulty, repository) = repository(options());
    let part = SamplePart::wide("all_1_1_0", 0);
    let (_, records) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
    let other = SamplePart::wide("all_2_2_0", 100);
    let (stored, _) = backup(&repository, &full(1), &[&other], &[]).await.unwrap();
    let tables = &stored.manifest.part_store.as_ref().unwrap().tables;
    let list = format!(
        "collections/{COLLECTION}/{}/{}",
        full(1),
        tables[0].lists[0].at.object
    );
    let whole = faulty
        .below
        .get(&Path::from(format!("p/{list}")))
        .await
        .unwrap();
    let whole = whole.bytes().await.unwrap();
    spoil(&faulty, &list, |bytes| bytes[9] ^= 1).await;

    let error = repository
        .delete_backup(COLLECTION, &full(0))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::FilesStay { .. }), "{error:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(&list), "{cause}");
    let files = records.iter().flat_map(|record| &record.files);
    repository.check_files_present(files).await.unwrap();

    let path = Path::from(format!("p/{list}"));
    faulty.below.put(&path, whole.into()).await.unwrap();
    let collected = repository.collect_garbage().await.unwrap();
    assert_eq!(collected.objects, objects_of(&records).len() as u64);
    repository.check_present(&stored.manifest).await.unwrap();
}

#[tokio::test]
async fn content_that_no_list_names_stays_for_the_time_of_grace() {
    let (_, repository) = repository(RepositoryOptions {
        garbage_grace_ms: 60 * 60 * 1000,
        ..options()
    });
    let part = SamplePart::wide("all_1_1_0", 0);
    repository.create_if_absent().await.unwrap();
    let (records, _) = store(&repository, &[&part]).await.unwrap();
    assert_eq!(repository.collect_garbage().await.unwrap().objects, 0);
    let files = records.iter().flat_map(|record| &record.files);
    repository.check_files_present(files).await.unwrap();
}

#[tokio::test]
async fn a_running_backup_whose_old_files_were_removed_fails_by_their_names() {
    let (_, repository) = repository(options());
    let part = SamplePart::wide("all_1_1_0", 0);
    let (_, before) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
    // What it knows was decided upon before the other goes, its lists are written after.
    repository
        .delete_backup(COLLECTION, &full(0))
        .await
        .unwrap();
    let (manifest, _) = draft(&repository, &full(1), &[&part], &before)
        .await
        .unwrap();
    let error = repository
        .put_manifest(&manifest, WRITER)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
    assert!(repository.list(COLLECTION).await.unwrap().is_empty());
}

#[tokio::test]
async fn no_more_files_are_under_way_than_allowed_and_more_than_one() {
    let (faulty, repository) = repository(RepositoryOptions {
        transfers: 3,
        ..options()
    });
    let parts = ["all_1_1_0", "all_2_2_0"].map(|name| {
        let names: Vec<String> = (0..6).map(|n| format!("{name}.{n}.bin")).collect();
        let files = names
            .iter()
            .map(|name| (&**name, name.repeat(LARGE / 8).into_bytes()));
        let mut files: Vec<_> = files.collect();
        files.push(("checksums.txt", name.as_bytes().to_vec()));
        SamplePart::new(name, &files)
    });
    let under_way: Arc<Mutex<HashSet<String>>> = Arc::default();
    let most = Arc::new(AtomicUsize::new(0));
    let (now, peak) = (Arc::clone(&under_way), Arc::clone(&most));
    watch(&faulty, move |_, object, moment| {
        if object.starts_with("p/files/") {
            let mut now = now.lock().unwrap();
            match moment {
                Moment::Before => now.insert(object.to_owned()),
                Moment::After => now.remove(object),
            };
            peak.fetch_max(now.len(), Ordering::Relaxed);
        }
    });
    // Two writers share what is allowed.
    let (one, other) = ([&parts[0]], [&parts[1]]);
    let both = futures::future::join(store(&repository, &one), store(&repository, &other));
    let (records, _) = both.await.0.unwrap();
    // How many meet is the scheduler's affair.
    let as_allowed = |most: usize| (2..=3).contains(&most);
    assert!(as_allowed(most.swap(0, Ordering::Relaxed)));
    expect_back(&repository, &records[0], &parts[0]).await;
    assert!(as_allowed(most.swap(0, Ordering::Relaxed)));
    repository.verify_files(&records).await.unwrap();
    assert!(as_allowed(most.load(Ordering::Relaxed)));
    assert!(under_way.lock().unwrap().is_empty());
}

#[tokio::test]
async fn limits_hold_back_what_comes_after_what_they_let_through() {
    let (_, repository) = repository(RepositoryOptions {
        upload_bytes_per_s: Some(1),
        download_bytes_per_s: Some(1),
        ..options()
    });
    let (id, live) = (full(0), inventory(Vec::new()));
    let name = document(DocumentKind::CurrentParts, WRITER, 0);
    let put = || repository.put_document(COLLECTION, &id, &name, &live);
    let read = |at| repository.document_at::<Inventory>(COLLECTION, &id, at);
    // What is let through takes no time in memory; what is held back, a minute or more.
    let moment = Duration::from_millis(100);
    let at = put().await.unwrap();
    assert!(at.bytes > 60);
    assert!(tokio::time::timeout(moment, put()).await.is_err());
    assert_eq!(read(&at).await.unwrap(), live);
    assert!(tokio::time::timeout(moment, read(&at)).await.is_err());
}
