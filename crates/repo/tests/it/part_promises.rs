//! What every store must keep of parts.

use std::fs;
use std::sync::Arc;

use mendb_model::part::{FilePlace, Inventory, ObjectRef, PartFile, PartRecord};
use mendb_repo::{DocumentKind, Error, KnownFiles, Repository, Uploaded};

use crate::parts_sample::{
    LARGE, SamplePart, backup, document, draft, expect_back, fetch, filled, inventory, objects_of,
    store, store_knowing,
};
use crate::promises::{Promise, promises};
use crate::sample::{COLLECTION, OPERATION, WRITER, full};

pub const ALL: &[Promise] = promises![
    a_part_comes_back_byte_for_byte,
    a_file_of_several_pieces_comes_back,
    storing_known_parts_again_uploads_nothing_and_reads_no_listed_file,
    storing_parts_again_of_which_nothing_is_known_uploads_nothing,
    what_an_earlier_backup_has_lost_is_taken_up_anew,
    one_changed_column_uploads_one_file,
    a_changed_file_that_no_list_names_is_noticed,
    equal_files_are_stored_once,
    small_files_that_lie_together_are_fetched_with_one_request,
    a_document_reads_back,
    a_manifest_is_refused_while_a_file_is_missing,
    documents_of_lost_attempts_are_swept_and_those_of_others_are_not,
    withdrawing_takes_back_documents,
    deleting_a_backup_removes_the_files_that_it_alone_needs,
    lists_of_a_backup_that_is_being_written_keep_its_files,
    all_files_of_a_backup_can_be_proved,
];

const NOTHING: Uploaded = Uploaded { files: 0, bytes: 0 };

async fn a_part_comes_back_byte_for_byte(repository: Repository) {
    let parts = [
        SamplePart::wide("202401_1_1_0", 0),
        SamplePart::wide("202402_2_2_0", 100),
    ];
    let (records, uploaded) = store(&repository, &[&parts[0], &parts[1]]).await.unwrap();
    let bytes: u64 = records.iter().map(PartRecord::bytes).sum();
    let shared = parts[0].read("columns.txt").len() as u64;
    assert_eq!(uploaded.bytes, bytes - shared);
    for (record, part) in records.iter().zip(&parts) {
        assert_eq!(record.part, part.part());
        expect_back(&repository, record, part).await;
    }
    let files = records.iter().flat_map(|record| &record.files);
    repository.check_files_present(files).await.unwrap();
}

async fn a_file_of_several_pieces_comes_back(repository: Repository) {
    // Neither the pieces that are sent nor those that are fetched end where it does.
    let files = [
        ("checksums.txt", filled(1, 50)),
        ("data.bin", filled(2, (17 << 20) + 4321)),
    ];
    let part = SamplePart::new("all_1_1_0", &files);
    let (records, _) = store(&repository, &[&part]).await.unwrap();
    expect_back(&repository, &records[0], &part).await;
    let (_, uploaded) = store(&repository, &[&part]).await.unwrap();
    assert_eq!(uploaded, NOTHING);
}

async fn storing_known_parts_again_uploads_nothing_and_reads_no_listed_file(
    repository: Repository,
) {
    let part = SamplePart::wide("all_1_1_0", 0);
    let (records, _) = store(&repository, &[&part]).await.unwrap();
    let files = part.files();
    for listed in files.iter().filter(|file| file.checksum.is_some()) {
        fs::remove_file(part.path().join(&listed.name)).unwrap();
    }
    let known = Arc::new(KnownFiles::new(records.clone()));
    let mut writer = repository.part_writer(known);
    let renamed = "all_7_7_0";
    let mut live = records[0].part.clone();
    live.name = renamed.to_owned();
    writer.add(live, part.path(), files).await.unwrap();
    let (again, uploaded) = writer.finish().await.unwrap();
    assert_eq!(uploaded, NOTHING);
    assert_eq!(again[0].part.name, renamed);
    assert_eq!(again[0].files, records[0].files);
}

async fn storing_parts_again_of_which_nothing_is_known_uploads_nothing(repository: Repository) {
    let part = SamplePart::wide("all_1_1_0", 0);
    let (records, uploaded) = store(&repository, &[&part]).await.unwrap();
    assert_ne!(uploaded, NOTHING);
    let (again, uploaded) = store(&repository, &[&part]).await.unwrap();
    assert_eq!(uploaded, NOTHING);
    assert_eq!(again, records);
}

async fn what_an_earlier_backup_has_lost_is_taken_up_anew(repository: Repository) {
    let part = SamplePart::wide("all_1_1_0", 0);
    let (_, records) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
    let known = repository.known_files(records.clone()).await.unwrap();
    let mut writer = repository.part_writer(Arc::new(known));
    writer
        .add(part.part(), part.path(), part.files())
        .await
        .unwrap();
    assert_eq!(writer.finish().await.unwrap(), (records.clone(), NOTHING));

    repository
        .delete_backup(COLLECTION, &full(0))
        .await
        .unwrap();
    let known = repository.known_files(records.clone()).await.unwrap();
    let mut writer = repository.part_writer(Arc::new(known));
    writer
        .add(part.part(), part.path(), part.files())
        .await
        .unwrap();
    let (again, uploaded) = writer.finish().await.unwrap();
    // The names of what was removed are not used again at once.
    assert!(objects_of(&again).is_disjoint(&objects_of(&records)));
    assert_eq!(uploaded.bytes, records[0].bytes());
    expect_back(&repository, &again[0], &part).await;
}

async fn one_changed_column_uploads_one_file(repository: Repository) {
    let part = SamplePart::wide("all_1_1_0", 0);
    let (records, _) = store(&repository, &[&part]).await.unwrap();
    let column = filled(9, 2 * LARGE);
    part.write("price.bin", &column);
    part.write("checksums.txt", &filled(10, 700));
    let (changed, uploaded) = store_knowing(&repository, &[&part], &records)
        .await
        .unwrap();
    let expected = Uploaded {
        files: 2,
        bytes: (column.len() + 700) as u64,
    };
    assert_eq!(uploaded, expected);
    expect_back(&repository, &changed[0], &part).await;
}

async fn a_changed_file_that_no_list_names_is_noticed(repository: Repository) {
    let part = SamplePart::wide("all_1_1_0", 0);
    let (records, _) = store(&repository, &[&part]).await.unwrap();
    part.write("columns.txt", b"two columnz");
    let (changed, uploaded) = store_knowing(&repository, &[&part], &records)
        .await
        .unwrap();
    assert_eq!(
        uploaded,
        Uploaded {
            files: 1,
            bytes: 11
        }
    );
    expect_back(&repository, &changed[0], &part).await;
}

async fn equal_files_are_stored_once(repository: Repository) {
    let parts = [
        SamplePart::wide("all_1_1_0", 0),
        SamplePart::wide("all_2_2_0", 0),
    ];
    let (records, uploaded) = store(&repository, &[&parts[0], &parts[1]]).await.unwrap();
    assert_eq!(uploaded.bytes, records[0].bytes());
    assert_eq!(records[0].files, records[1].files);
}

async fn small_files_that_lie_together_are_fetched_with_one_request(repository: Repository) {
    let small: Vec<_> = (0..40)
        .map(|n| (format!("{n:02}.bin"), filled(n, 1000)))
        .collect();
    let mut files: Vec<_> = small
        .iter()
        .map(|(name, bytes)| (&**name, bytes.clone()))
        .collect();
    files.push(("checksums.txt", filled(50, 700)));
    let part = SamplePart::new("all_1_1_0", &files);
    let (records, _) = store(&repository, &[&part]).await.unwrap();
    assert_eq!(objects_of(&records).len(), 1);
    let into = tempfile::tempdir().unwrap();
    let fetched = fetch(&repository, &records[0], into.path()).await.unwrap();
    assert_eq!((fetched.requests, fetched.bytes), (1, 40_700));
}

async fn a_document_reads_back(repository: Repository) {
    let live = inventory(vec![SamplePart::wide("all_1_1_0", 0).part()]);
    let name = document(DocumentKind::CurrentParts, WRITER, 3);
    let id = full(0);
    let put = repository.put_document(COLLECTION, &id, &name, &live);
    let at = put.await.unwrap();
    assert_eq!(
        at.object,
        "shop/visits.v2/current-3fa9c1-3.inventory.json.zst"
    );
    let read: Inventory = repository
        .document_at(COLLECTION, &full(0), &at)
        .await
        .unwrap();
    assert_eq!(read, live);
    let error = repository
        .document_at::<Inventory>(COLLECTION, &full(1), &at)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");

    let name = document(DocumentKind::CurrentParts, WRITER, 4);
    let (next, third) = (full(1), full(2));
    let again = document(DocumentKind::CurrentParts, WRITER, 5);
    let documents = [(&at, name.clone()), (&at, again)];
    let copy = repository.copy_documents(COLLECTION, (&id, &next), &documents);
    let copied = copy.await.unwrap();
    for copied in &copied {
        assert_eq!((copied.bytes, &copied.blake3), (at.bytes, &at.blake3));
        let read: Inventory = repository
            .document_at(COLLECTION, &next, copied)
            .await
            .unwrap();
        assert_eq!(read, live);
    }
    assert_eq!(copied.len(), 2);
    assert_ne!(copied[0].object, copied[1].object);
    let another = ObjectRef {
        blake3: "0".repeat(64),
        ..at
    };
    let documents = [(&another, name)];
    let copy = repository.copy_documents(COLLECTION, (&id, &third), &documents);
    let error = copy.await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

/// The one file that an object of its own holds.
fn large(records: &[PartRecord]) -> &PartFile {
    let mut files = records.iter().flat_map(|record| &record.files);
    files
        .find(|file| matches!(file.place, FilePlace::File { .. }))
        .unwrap()
}

async fn a_manifest_is_refused_while_a_file_is_missing(repository: Repository) {
    let part = SamplePart::wide("all_1_1_0", 0);
    let (_, mut records) = draft(&repository, &full(0), &[&part], &[]).await.unwrap();
    let missing = blake3::hash(b"never stored").to_hex().to_string();
    let files = &mut records[0].files;
    let at = files
        .iter()
        .position(|file| matches!(file.place, FilePlace::File { .. }))
        .unwrap();
    files[at].blake3.clone_from(&missing);
    let (manifest, _) = draft(&repository, &full(1), &[&part], &records)
        .await
        .unwrap();
    let error = repository
        .put_manifest(&manifest, WRITER)
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(
        matches!(error, Error::Incomplete { others: 0, .. }),
        "{error:?}"
    );
    let object = format!(
        "{}/files/{}/{missing} does not exist",
        repository.url(),
        &missing[..2]
    );
    assert!(message.starts_with(&object), "{message}");
    assert!(repository.list(COLLECTION).await.unwrap().is_empty());
}

async fn documents_of_lost_attempts_are_swept_and_those_of_others_are_not(repository: Repository) {
    let part = SamplePart::wide("all_1_1_0", 0);
    let (stored, _) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
    let mut other = Vec::new();
    for (writer, attempt) in [(WRITER, 1), ("b2", 0)] {
        let name = document(DocumentKind::Parts { chunk: 0 }, writer, attempt);
        let none: [PartRecord; 0] = [];
        let id = full(0);
        let put = repository.put_document(COLLECTION, &id, &name, &none);
        other.push(put.await.unwrap());
    }
    assert_eq!(repository.sweep(&stored.manifest, WRITER).await.unwrap(), 1);
    repository.check_present(&stored.manifest).await.unwrap();
    let read =
        |at| repository.document_at::<Vec<PartRecord>>(COLLECTION, &stored.manifest.backup_id, at);
    assert!(read(&other[0]).await.is_err());
    assert!(read(&other[1]).await.is_ok());
}

async fn withdrawing_takes_back_documents(repository: Repository) {
    let part = SamplePart::wide("all_1_1_0", 0);
    let (_, records) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
    let id = full(0);
    let withdraw = || repository.withdraw(COLLECTION, &id, OPERATION, WRITER);
    withdraw().await.unwrap();
    withdraw().await.unwrap();
    assert!(repository.unfinished(COLLECTION).await.unwrap().is_empty());
    let collected = repository.collect_garbage().await.unwrap();
    assert_eq!(collected.objects, objects_of(&records).len() as u64);
    let files = records.iter().flat_map(|record| &record.files);
    let error = repository.check_files_present(files).await.unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
}

async fn deleting_a_backup_removes_the_files_that_it_alone_needs(repository: Repository) {
    let shared = SamplePart::wide("all_1_1_0", 0);
    let gone = SamplePart::wide("all_2_2_0", 100);
    let (_, before) = backup(&repository, &full(0), &[&shared, &gone], &[])
        .await
        .unwrap();
    let (kept, after) = backup(&repository, &full(1), &[&shared], &before)
        .await
        .unwrap();
    repository
        .delete_backup(COLLECTION, &full(0))
        .await
        .unwrap();

    repository.check_present(&kept.manifest).await.unwrap();
    expect_back(&repository, &after[0], &shared).await;
    let own = repository.check_files_present([large(&before[1..])]).await;
    assert!(own.is_err(), "what only the deleted backup needed is gone");
    assert_eq!(repository.collect_garbage().await.unwrap().objects, 0);

    repository
        .delete_backup(COLLECTION, &full(1))
        .await
        .unwrap();
    assert!(
        repository
            .check_files_present([large(&after)])
            .await
            .is_err()
    );
    assert_eq!(repository.collect_garbage().await.unwrap().objects, 0);
}

async fn lists_of_a_backup_that_is_being_written_keep_its_files(repository: Repository) {
    let part = SamplePart::wide("all_1_1_0", 0);
    let (_, before) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
    let (manifest, _) = draft(&repository, &full(1), &[&part], &before)
        .await
        .unwrap();
    repository
        .delete_backup(COLLECTION, &full(0))
        .await
        .unwrap();
    repository.put_manifest(&manifest, WRITER).await.unwrap();
}

async fn all_files_of_a_backup_can_be_proved(repository: Repository) {
    let part = SamplePart::wide("all_1_1_0", 0);
    let (_, mut records) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
    let verified = repository.verify_files(&records).await.unwrap();
    assert!(verified.damaged.is_empty(), "{verified:?}");
    assert_eq!(verified.objects, objects_of(&records).len() as u64);
    assert_eq!(verified.bytes, records[0].bytes());

    let missing = blake3::hash(b"never stored").to_hex().to_string();
    let mut file = large(&records).clone();
    file.blake3.clone_from(&missing);
    records[0].files.push(file);
    let damaged = repository.verify_files(&records).await.unwrap().damaged;
    assert_eq!(damaged.len(), 1);
    assert!(damaged[0].to_string().contains(&missing), "{}", damaged[0]);
}
