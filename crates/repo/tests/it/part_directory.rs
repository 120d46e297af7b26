//! Parts in a repository in a directory: what only files can show.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use mendb_model::part::{FilePlace, PartFile};
use mendb_repo::{Error, Repository, RepositoryOptions};

use crate::parts_sample::{
    SamplePart, backup, expect_back, fetch, objects_of, options, paths_below, store,
};
use crate::sample::full;

struct Directory {
    root: tempfile::TempDir,
    repository: Repository,
}

impl Directory {
    async fn new(options: RepositoryOptions) -> Self {
        let root = tempfile::tempdir().unwrap();
        let repository = Repository::open(root.path().to_str().unwrap(), options).await;
        Self {
            repository: repository.unwrap(),
            root,
        }
    }

    fn path(&self, object: &str) -> PathBuf {
        self.root.path().join(object)
    }
}

#[tokio::test]
async fn a_flipped_bit_in_any_object_is_found_and_named() {
    let place = Directory::new(options()).await;
    let part = SamplePart::wide("all_1_1_0", 0);
    let (records, _) = store(&place.repository, &[&part]).await.unwrap();
    for object in objects_of(&records) {
        let path = place.path(&object);
        let good = fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(good.len() / 5) {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&path, bad).unwrap();
            let into = tempfile::tempdir().unwrap();
            let error = fetch(&place.repository, &records[0], into.path())
                .await
                .unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
            assert!(error.to_string().contains(&object), "{error}");
        }
        fs::remove_file(&path).unwrap();
        let into = tempfile::tempdir().unwrap();
        let error = fetch(&place.repository, &records[0], into.path())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
        assert!(error.to_string().contains(&object), "{error}");
        fs::write(&path, &good).unwrap();
    }
    expect_back(&place.repository, &records[0], &part).await;
}

#[tokio::test]
async fn an_object_that_was_cut_short_is_written_again() {
    let place = Directory::new(options()).await;
    let part = SamplePart::wide("all_1_1_0", 0);
    let (records, uploaded) = store(&place.repository, &[&part]).await.unwrap();
    for object in objects_of(&records) {
        let file = File::options()
            .write(true)
            .open(place.path(&object))
            .unwrap();
        file.set_len(100).unwrap();
    }
    let (again, repeated) = store(&place.repository, &[&part]).await.unwrap();
    assert_eq!(repeated, uploaded);
    expect_back(&place.repository, &again[0], &part).await;
}

#[tokio::test]
async fn a_file_that_is_there_already_is_neither_replaced_nor_removed() {
    let place = Directory::new(options()).await;
    let part = SamplePart::wide("all_1_1_0", 0);
    let (records, _) = store(&place.repository, &[&part]).await.unwrap();
    for name in ["visits.bin", "visits.cmrk2", "empty.bin"] {
        let into = tempfile::tempdir().unwrap();
        let there = into.path().join(name);
        fs::write(&there, "someone's").unwrap();
        let error = fetch(&place.repository, &records[0], into.path())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(fs::read_to_string(&there).unwrap(), "someone's");
    }
}

#[tokio::test]
async fn nothing_but_content_is_left_when_parts_are_stored() {
    let place = Directory::new(options()).await;
    let part = SamplePart::wide("all_1_1_0", 0);
    for _ in 0..2 {
        let (records, _) = store(&place.repository, &[&part]).await.unwrap();
        let mut objects: Vec<_> = objects_of(&records).into_iter().collect();
        objects.sort();
        assert_eq!(paths_below(place.root.path()), objects);
    }
}

#[tokio::test]
async fn copies_that_a_crash_cut_off_are_removed_after_the_time_of_grace() {
    let grace = Duration::from_secs(3600);
    let place = Directory::new(RepositoryOptions {
        garbage_grace_ms: 3_600_000,
        ..options()
    })
    .await;
    let part = SamplePart::wide("all_1_1_0", 0);
    backup(&place.repository, &full(0), &[&part], &[])
        .await
        .unwrap();
    let [old, young] = ["files/incoming/a#1", "files/incoming/b#1"].map(|name| place.path(name));
    fs::write(&old, "half a file").unwrap();
    fs::write(&young, "half a file").unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "files are as old as the clock says"
    )]
    let long_ago = SystemTime::now() - 2 * grace;
    let file = File::options().write(true).open(&old).unwrap();
    file.set_modified(long_ago).unwrap();
    place.repository.collect_garbage().await.unwrap();
    assert!(!old.exists());
    assert!(young.exists());
}

#[tokio::test]
async fn many_objects_of_one_directory_are_found_by_listing_it() {
    let place = Directory::new(options()).await;
    let directory = place.path("files/ab");
    fs::create_dir_all(&directory).unwrap();
    let files: Vec<PartFile> = (0..40u64)
        .map(|n| {
            let blake3 = format!("ab{n:062x}");
            fs::write(directory.join(&blake3), "content").unwrap();
            PartFile {
                name: format!("{n}.bin"),
                bytes: 7,
                blake3,
                checksum: None,
                place: FilePlace::File { generation: 0 },
            }
        })
        .collect();
    place.repository.check_files_present(&files).await.unwrap();
    for n in [7, 31] {
        fs::remove_file(directory.join(&files[n].blake3)).unwrap();
    }
    fs::write(directory.join(&files[12].blake3), "conten").unwrap();
    let error = place
        .repository
        .check_files_present(&files)
        .await
        .unwrap_err();
    let Error::Incomplete {
        object,
        problem,
        others,
    } = error
    else {
        panic!("{error:?}");
    };
    assert!(object.ends_with(&files[7].blake3), "{object}");
    assert_eq!((&*problem, others), ("does not exist", 2));
}
