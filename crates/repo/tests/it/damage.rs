//! Damage done to the files of a repository in a directory.

use std::fs;
use std::path::{Path, PathBuf};

use mendb_repo::{Error, Repository, Result};

use crate::sample::{
    COLLECTION, OPERATION, WRITER, backup, full, increment, manifest, options, read, segments,
    segments_of,
};

const SEGMENT: &str = "goods/0000-3fa9c1-0.0001.parquet";

/// A full backup and an increment in a directory.
struct Chain {
    root: tempfile::TempDir,
}

impl Chain {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let chain = Self { root };
        let repository = chain.open().await.unwrap();
        let parent = backup(&repository, &full(0), None).await.unwrap();
        backup(&repository, &increment(1), Some(&parent))
            .await
            .unwrap();
        chain
    }

    async fn open(&self) -> Result<Repository> {
        Repository::open(self.root.path().to_str().unwrap(), options()).await
    }

    fn header(&self) -> PathBuf {
        self.root.path().join("mendb.json")
    }

    /// A file of the full backup.
    fn file(&self, name: &str) -> PathBuf {
        let backup = self.root.path().join("collections").join(COLLECTION);
        backup.join(full(0).as_str()).join(name)
    }

    /// Does what a restore of the increment does with the repository.
    async fn restore(&self) -> Result<()> {
        let repository = self.open().await?;
        for stored in repository.chain(COLLECTION, &increment(1)).await? {
            repository.check_present(&stored.manifest).await?;
            read(&repository, &stored.manifest).await?;
        }
        Ok(())
    }

    /// Checks that a restore fails and names the file.
    async fn expect_named(&self, file: &Path) -> Error {
        let error = self.restore().await.unwrap_err();
        let url = url::Url::from_file_path(file).unwrap();
        assert!(error.to_string().contains(url.as_str()), "{url}: {error}");
        error
    }
}

#[tokio::test]
async fn nothing_is_wrong_with_what_was_not_touched() {
    Chain::new().await.restore().await.unwrap();
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_any_file_is_found_and_named() {
    let chain = Chain::new().await;
    for file in [
        chain.header(),
        chain.file("manifest.json"),
        chain.file(SEGMENT),
    ] {
        let good = fs::read(&file).unwrap();
        for at in (0..good.len()).step_by(good.len() / 12) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&file, bad).unwrap();
            let error = chain.expect_named(&file).await;
            assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        }
        fs::write(&file, good).unwrap();
        chain.restore().await.unwrap();
    }
}

#[tokio::test]
async fn a_file_cut_short_is_found_and_named() {
    let chain = Chain::new().await;
    for file in [
        chain.header(),
        chain.file("manifest.json"),
        chain.file(SEGMENT),
    ] {
        let good = fs::read(&file).unwrap();
        for length in [0, 1, good.len() / 2, good.len() - 1] {
            fs::write(&file, &good[..length]).unwrap();
            chain.expect_named(&file).await;
        }
        fs::write(&file, good).unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_named() {
    for name in ["manifest.json", SEGMENT] {
        let chain = Chain::new().await;
        let file = chain.file(name);
        fs::remove_file(&file).unwrap();
        chain.expect_named(&file).await;
    }
}

#[tokio::test]
async fn a_segment_in_the_place_of_another_is_found() {
    let chain = Chain::new().await;
    let file = chain.file(SEGMENT);
    fs::copy(chain.file("goods/0000-3fa9c1-0.0002.parquet"), &file).unwrap();
    chain.expect_named(&file).await;
}

#[tokio::test]
async fn a_manifest_in_the_place_of_another_is_found() {
    let chain = Chain::new().await;
    let file = chain.file("manifest.json");
    let increment = chain.root.path().join("collections").join(COLLECTION);
    let increment = increment.join(increment_name()).join("manifest.json");
    fs::copy(increment, &file).unwrap();
    let error = chain.expect_named(&file).await;
    assert!(
        error.to_string().contains("it is the manifest of backup"),
        "{error}"
    );
}

fn increment_name() -> String {
    increment(1).to_string()
}

#[tokio::test]
async fn another_format_version_is_named_with_its_number() {
    let chain = Chain::new().await;
    for (file, version) in [(chain.file("manifest.json"), 2), (chain.header(), 2)] {
        let good = fs::read_to_string(&file).unwrap();
        let cut = good.find(",\n  \"seal\"").unwrap();
        let version = format!("\"format_version\": {version}");
        let newer = good[..cut].replace(&version, "\"format_version\": 9") + "\n}";
        fs::write(&file, newer).unwrap();
        let error = chain.expect_named(&file).await;
        assert!(
            matches!(error, Error::UnknownFormat { version: 9, .. }),
            "{error:?}"
        );
        fs::write(&file, good).unwrap();
    }
}

#[tokio::test]
async fn one_damaged_manifest_does_not_hide_the_other_backups() {
    let chain = Chain::new().await;
    let repository = chain.open().await.unwrap();
    fs::write(chain.file("manifest.json"), "{}").unwrap();
    let listed = repository.list(COLLECTION).await.unwrap();
    let shown: Vec<_> = listed
        .iter()
        .map(|(id, read)| (id.clone(), read.is_ok()))
        .collect();
    assert_eq!(shown, [(full(0), false), (increment(1), true)]);
}

#[tokio::test]
async fn a_manifest_that_was_read_before_is_read_as_it_is_now() {
    let chain = Chain::new().await;
    let repository = chain.open().await.unwrap();
    let good = repository.manifest(COLLECTION, &full(0)).await.unwrap();
    let again = repository.manifest(COLLECTION, &full(0)).await.unwrap();
    assert_eq!(again, good);
    let file = chain.file("manifest.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("goods", "foods", 1)).unwrap();
    let damaged = repository.manifest(COLLECTION, &full(0)).await;
    assert!(damaged.unwrap_err().is_damage());
    fs::write(&file, text).unwrap();
    let mended = repository.manifest(COLLECTION, &full(0)).await.unwrap();
    assert_eq!(mended, good);
}

#[tokio::test]
async fn backups_are_found_beside_one_with_a_damaged_manifest() {
    let chain = Chain::new().await;
    let repository = chain.open().await.unwrap();
    let written = segments(&repository, &full(5), 0).await.unwrap();
    let mut manifest = manifest(&full(5), None, written);
    manifest.label = Some("friday".into());
    repository.put_manifest(&manifest, WRITER).await.unwrap();
    fs::write(chain.file("manifest.json"), "{}").unwrap();

    let friday = repository.find_id(COLLECTION, "friday").await;
    assert_eq!(friday.unwrap(), full(5));
    let damaged = repository.find_id(COLLECTION, full(0).as_str()).await;
    assert_eq!(damaged.unwrap(), full(0));
    let error = repository.find_id(COLLECTION, "sunday").await.unwrap_err();
    let expected = format!("it has {} (unreadable), {}", full(0), increment(1));
    assert!(error.to_string().contains(&expected), "{error}");
}

#[tokio::test]
async fn the_newest_backup_is_the_newest_with_a_manifest_readable_or_not() {
    let chain = Chain::new().await;
    let repository = chain.open().await.unwrap();
    segments(&repository, &full(9), 0).await.unwrap();
    let newest = || repository.newest_id(COLLECTION);
    assert_eq!(newest().await.unwrap(), Some(increment(1)));
    let increment = chain.file("../").join(increment_name());
    fs::write(increment.join("manifest.json"), "{}").unwrap();
    assert_eq!(newest().await.unwrap(), Some(self::increment(1)));
    fs::remove_file(increment.join("manifest.json")).unwrap();
    assert_eq!(newest().await.unwrap(), Some(full(0)));
    assert_eq!(repository.newest_id("other").await.unwrap(), None);
}

#[tokio::test]
async fn a_damaged_backup_can_be_deleted_but_not_discarded() {
    let chain = Chain::new().await;
    let repository = chain.open().await.unwrap();
    fs::write(chain.file("manifest.json"), "{}").unwrap();
    let error = repository.discard(COLLECTION, &full(0)).await.unwrap_err();
    assert!(matches!(error, Error::Complete { .. }), "{error:?}");
    repository
        .delete_backups(COLLECTION, &[increment(1), full(0)])
        .await
        .unwrap();
    assert!(!chain.file("").exists());
}

#[tokio::test]
async fn withdrawing_beside_a_damaged_manifest_removes_what_the_writer_wrote_and_no_more() {
    let chain = Chain::new().await;
    let repository = chain.open().await.unwrap();
    let ours = segments_of(&repository, &full(0), "b2").await.unwrap();
    fs::write(chain.file("manifest.json"), "{}").unwrap();
    repository
        .withdraw(COLLECTION, &full(0), "backup-b2", "b2")
        .await
        .unwrap();
    assert!(chain.file("manifest.json").exists());
    assert!(chain.file(SEGMENT).exists());
    assert!(ours.iter().all(|ours| !chain.file(&ours.object).exists()));
}

#[tokio::test]
async fn withdrawing_leaves_a_mark_and_none_of_the_writes_that_a_crash_cut_off() {
    let chain = Chain::new().await;
    let repository = chain.open().await.unwrap();
    let id = full(0);
    let withdraw = |operation, writer| repository.withdraw(COLLECTION, &id, operation, writer);
    let half = |writer: &str| chain.file(&format!("goods/0000-{writer}-9.0000.parquet#1"));
    fs::write(half("b2"), "another is writing this").unwrap();
    fs::write(half(WRITER), "half a segment").unwrap();
    fs::write(chain.file("manifest.json#1"), "half a manifest").unwrap();
    withdraw(OPERATION, WRITER).await.unwrap();
    assert!(!half(WRITER).exists());
    assert!(half("b2").exists());
    withdraw("backup-b2", "b2").await.unwrap();
    // But the mark that it was withdrawn.
    let left = fs::read_dir(chain.file("")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["manifest.json"]);
}

#[tokio::test]
async fn writes_that_a_crash_cut_off_leave_with_the_backup() {
    let chain = Chain::new().await;
    let repository = chain.open().await.unwrap();
    fs::write(
        chain.file("goods/0000-3fa9c1-9.0000.parquet#1"),
        "half a segment",
    )
    .unwrap();
    fs::write(chain.file("manifest.json#1"), "half a manifest").unwrap();
    chain.restore().await.unwrap();
    repository
        .delete_backup(COLLECTION, &increment(1))
        .await
        .unwrap();
    assert!(chain.file("").exists());
    repository
        .delete_backup(COLLECTION, &full(0))
        .await
        .unwrap();
    assert!(repository.collections().await.unwrap().is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_where_a_file_should_be_is_named() {
    let chain = Chain::new().await;
    let file = chain.file("manifest.json");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    chain.expect_named(&file).await;
}
