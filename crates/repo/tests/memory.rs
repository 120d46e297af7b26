//! Memory does not grow with files: in a process of its own, as what is measured is that of the process.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mendb_model::part::{Hash128, Part, PartFile};
use mendb_repo::{FileOnDisk, Repository, RepositoryOptions};

const FILE_BYTES: u64 = 200 << 20;
/// Far below one file.
const ALLOWED_BYTES: u64 = 64 << 20;

/// The most memory that the process has had.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A file of holes with a few bytes that make it different from others.
fn sparse(path: &Path, mark: &[u8]) -> FileOnDisk {
    let mut file = File::create(path).unwrap();
    file.write_all(mark).unwrap();
    file.set_len(FILE_BYTES).unwrap();
    FileOnDisk {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        bytes: FILE_BYTES,
        checksum: Some(Hash128([mark[0]; 16])),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn storing_proving_and_fetching_large_files_takes_little_memory() {
    let root = tempfile::tempdir().unwrap();
    let url = root.path().join("repository");
    let part = root.path().join("part");
    fs::create_dir(&part).unwrap();
    let files = [b"a", b"b"].map(|mark| sparse(&part.join(str::from_utf8(mark).unwrap()), mark));
    let options = RepositoryOptions::default();
    let repository = Repository::open(url.to_str().unwrap(), options)
        .await
        .unwrap();
    repository.create_if_absent().await.unwrap();
    let before = peak_bytes();

    let mut writer = repository.part_writer(Arc::default());
    let described = Part::new("all_1_1_0", 1, 2 * FILE_BYTES, Hash128([0; 16]), "default").unwrap();
    writer.add(described, &part, files.to_vec()).await.unwrap();
    let (records, uploaded) = writer.finish().await.unwrap();
    assert_eq!(uploaded.bytes, 2 * FILE_BYTES);
    assert!(
        repository
            .verify_files(&records)
            .await
            .unwrap()
            .damaged
            .is_empty()
    );
    let into = root.path().join("back");
    fs::create_dir(&into).unwrap();
    let wanted = records[0]
        .files
        .iter()
        .map(|file| (file, into.join(&file.name)));
    let wanted: Vec<(&PartFile, PathBuf)> = wanted.collect();
    repository.fetch_part_files(&wanted).await.unwrap();

    let grown = peak_bytes() - before;
    assert!(grown < ALLOWED_BYTES, "{grown} bytes");
}
