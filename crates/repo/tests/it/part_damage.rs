//! A damaged object is not relied on: what it should hold is written again where it is needed.

use std::sync::Arc;

use mendb_model::part::PartRecord;
use mendb_repo::{Error, Repository};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::faulty_store::FaultyStore;
use crate::parts_sample::{
    SamplePart, backup, draft, expect_back, fetch, objects_of, options, store,
};
use crate::sample::{COLLECTION, WRITER, full};
use crate::sharing::watched;

async fn spoil(faulty: &FaultyStore, object: &str) {
    let path = Path::from(format!("p/{object}"));
    let there = faulty.below.get(&path).await.unwrap();
    let mut bytes = there.bytes().await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let spoilt = PutPayload::from(bytes);
    faulty.below.put(&path, spoilt).await.unwrap();
}

fn world() -> (FaultyStore, Repository, SamplePart) {
    let faulty = FaultyStore::default();
    let repository = watched(&faulty, options());
    (faulty, repository, SamplePart::wide("all_1_1_0", 0))
}

/// Stores the part again, knowing what an earlier backup has; returns how many bytes were new.
async fn again(repository: &Repository, part: &SamplePart, before: &[PartRecord]) -> u64 {
    let known = repository.known_files(before.to_vec()).await.unwrap();
    let mut writer = repository.part_writer(Arc::new(known));
    let added = writer.add(part.part(), part.path(), part.files());
    added.await.unwrap();
    let (records, uploaded) = writer.finish().await.unwrap();
    expect_back(repository, &records[0], part).await;
    uploaded.bytes
}

#[tokio::test]
async fn what_was_found_damaged_is_written_again_by_the_next_backup_and_the_earlier_is_whole_too() {
    for by_proof in [true, false] {
        let (faulty, repository, part) = world();
        let (_, before) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
        for object in objects_of(&before) {
            spoil(&faulty, &object).await;
            let found = if by_proof {
                let mut damaged = repository.verify_files(&before).await.unwrap().damaged;
                assert_eq!(damaged.len(), 1);
                damaged.remove(0)
            } else {
                let into = tempfile::tempdir().unwrap();
                let fetched = fetch(&repository, &before[0], into.path());
                fetched.await.unwrap_err()
            };
            assert!(found.to_string().contains(&object), "{found}");
            assert!(again(&repository, &part, &before).await > 0, "{object}");
            let verified = repository.verify_files(&before).await.unwrap();
            assert!(verified.damaged.is_empty(), "{verified:?}");
            assert_eq!(again(&repository, &part, &before).await, 0);
        }
    }
}

#[tokio::test]
async fn a_backup_that_relies_on_what_was_found_damaged_meanwhile_is_not_sealed() {
    let (faulty, repository, part) = world();
    let (_, before) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
    let drafted = draft(&repository, &full(1), &[&part], &before).await;
    let object = objects_of(&before).into_iter().next().unwrap();
    spoil(&faulty, &object).await;
    repository.verify_files(&before).await.unwrap();
    let sealed = repository.put_manifest(&drafted.unwrap().0, WRITER).await;
    let error = sealed.unwrap_err();
    assert!(
        matches!(&error, Error::Damaged { object: named, .. } if named.ends_with(&object)),
        "{error:?}"
    );
    assert_eq!(repository.list(COLLECTION).await.unwrap().len(), 1);
}

#[tokio::test]
async fn damage_that_was_healed_from_a_copy_is_forgotten_when_that_is_proved() {
    let (faulty, repository, part) = world();
    let (_, before) = backup(&repository, &full(0), &[&part], &[]).await.unwrap();
    let object = objects_of(&before).into_iter().next().unwrap();
    let damaged = async || {
        repository
            .verify_files(&before)
            .await
            .unwrap()
            .damaged
            .len()
    };
    spoil(&faulty, &object).await;
    assert_eq!(damaged().await, 1);
    spoil(&faulty, &object).await;
    assert_eq!(damaged().await, 0);
    backup(&repository, &full(1), &[&part], &before)
        .await
        .unwrap();
}

#[tokio::test]
async fn content_that_is_found_in_its_place_is_read_before_it_is_relied_on() {
    let place = tempfile::tempdir().unwrap();
    let directory = Repository::open(place.path().to_str().unwrap(), options()).await;
    let (faulty, remote, part) = world();
    for (repository, is_remote) in [(directory.unwrap(), false), (remote, true)] {
        let (records, _) = store(&repository, &[&part]).await.unwrap();
        for object in objects_of(&records) {
            if is_remote {
                spoil(&faulty, &object).await;
            } else {
                let path = place.path().join(&object);
                let mut bytes = std::fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&path, bytes).unwrap();
            }
            let (again, uploaded) = store(&repository, &[&part]).await.unwrap();
            assert_eq!(again, records);
            assert!(uploaded.bytes > 0);
            expect_back(&repository, &records[0], &part).await;
        }
    }
}
