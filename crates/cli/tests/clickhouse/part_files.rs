//! What of a part has to travel, told from the files of parts alone: what bytes are asserted by.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::ErrorKind;
use std::path::Path;

use mendb_model::part::Checksums;

use crate::world::{World, files_below};

/// Belongs to the table rather than to the part: no freeze has it.
const NOT_FROZEN: &str = "metadata_version.txt";

/// What the server has counted of the values of all columns: written anew with any of them.
const STATISTICS: &str = "statistics.packed";

/// A file of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartFile {
    pub bytes: u64,
    /// Digest of its content.
    content: u64,
    /// Whether `checksums.txt` lists it, so that it can be found again elsewhere on the server. The
    /// others are small: `checksums.txt` itself and what describes the columns.
    pub listed: bool,
}

/// The files of parts, by `<part>/<file>`.
pub type Files = BTreeMap<String, PartFile>;

/// Files of the live parts of a table.
pub fn of_table(world: &World, database: &str, table: &str) -> Files {
    let mut files = Files::new();
    for part in world.parts(database, table) {
        let of_part = of_part(&part.directory).unwrap().into_iter();
        files.extend(of_part.map(|(name, file)| (format!("{}/{name}", part.name), file)));
    }
    files
}

/// Those of some partitions.
pub fn of_partition(files: &Files, partition_id: &str) -> Files {
    let prefix = format!("{partition_id}_");
    let of_it = files.iter().filter(|(name, _)| name.starts_with(&prefix));
    of_it.map(|(name, file)| (name.clone(), *file)).collect()
}

fn of_part(directory: &Path) -> std::io::Result<Files> {
    let checksums = fs::read(directory.join("checksums.txt"))?;
    let checksums = Checksums::parse(&checksums).unwrap();
    let mut files = Files::new();
    for path in files_below(directory) {
        let name = path
            .strip_prefix(directory)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        if name != NOT_FROZEN {
            let content = fs::read(&path)?;
            let file = PartFile {
                bytes: content.len() as u64,
                content: digest(&content),
                listed: checksums.get(&name).is_some(),
            };
            files.insert(name, file);
        }
    }
    Ok(files)
}

fn digest(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    hasher.finish()
}

/// What has to be downloaded for parts that are missing: all that the server has not in any part, live
/// or not, and what no `checksums.txt` lists.
pub fn to_download(world: &World, missing: &Files) -> Files {
    let mut there = HashSet::new();
    for path in files_below(world.server.data_path()) {
        if path.ends_with("checksums.txt") {
            match of_part(path.parent().unwrap()) {
                Ok(files) => there.extend(files.into_values().filter(|file| file.listed)),
                // The server merges parts of its own logs whenever it likes.
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
            }
        }
    }
    let lacking = missing.iter().filter(|(_, file)| !there.contains(file));
    lacking.map(|(name, file)| (name.clone(), *file)).collect()
}

/// What a backup has to upload of a table whose files an earlier one of these has: each content once.
pub fn to_upload(files: &Files, known: &Files) -> Files {
    let mut there: HashSet<(u64, u64)> = known
        .values()
        .map(|file| (file.bytes, file.content))
        .collect();
    let new = files
        .iter()
        .filter(|(_, file)| there.insert((file.bytes, file.content)));
    new.map(|(name, file)| (name.clone(), *file)).collect()
}

pub fn bytes(files: &Files) -> u64 {
    files.values().map(|file| file.bytes).sum()
}

/// Proves that listed files are those of a column, and what the server has counted of it.
pub fn belong_to_column(files: &Files, column: &str) {
    let names: HashSet<&str> = files
        .iter()
        .filter(|(_, file)| file.listed)
        .filter_map(|(name, _)| name.split_once('/').map(|(_, name)| name))
        .collect();
    assert!(
        names.contains(format!("{column}.bin").as_str()),
        "{names:?}"
    );
    let of_column = |name: &&str| name.starts_with(&format!("{column}.")) || *name == STATISTICS;
    assert!(names.iter().all(of_column), "{names:?}");
}
