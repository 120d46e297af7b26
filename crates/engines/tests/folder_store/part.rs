//! A part of a [`super::FolderStore`]: a directory of two columns, their number of rows, and `checksums.txt`.

use std::fs;
use std::io;
use std::path::Path;

use mendb_engines::{DamagedFile, EngineError, FoundFile, PartContent, Remedy, Result};
use mendb_model::part::{Checksums, FileHasher, Hash128, Part};

/// The rows of a part: a number and a text each.
pub type Rows = Vec<(i64, String)>;

const NUMBERS: &str = "numbers.txt";
const TEXTS: &str = "texts.txt";
const COUNT: &str = "count.txt";
const CHECKSUMS: &str = "checksums.txt";

/// That a file of the store cannot be used.
pub fn unusable(path: &Path, error: &io::Error) -> EngineError {
    EngineError::new(Remedy::Repair, format!("{}: {error}", path.display()))
}

/// Writes a part into a directory, which it makes.
pub fn write(directory: &Path, rows: &Rows) -> io::Result<()> {
    let lines = |texts: Vec<String>| texts.concat();
    let numbers = lines(
        rows.iter()
            .map(|(number, _)| format!("{number}\n"))
            .collect(),
    );
    let texts = lines(rows.iter().map(|(_, text)| format!("{text}\n")).collect());
    let files = [
        (COUNT, rows.len().to_string()),
        (NUMBERS, numbers),
        (TEXTS, texts),
    ];
    fs::create_dir_all(directory)?;
    // Version 3: the number of files, then name, size, hash and "not compressed" of each.
    let mut list = b"checksums format version: 3\n".to_vec();
    push_number(&mut list, files.len());
    for (name, content) in &files {
        push_number(&mut list, name.len());
        list.extend_from_slice(name.as_bytes());
        push_number(&mut list, content.len());
        list.extend_from_slice(&hash(content.as_bytes()).to_stored());
        list.push(0);
        fs::write(directory.join(name), content)?;
    }
    fs::write(directory.join(CHECKSUMS), list)
}

fn push_number(list: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        list.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    list.push(number as u8);
}

fn hash(bytes: &[u8]) -> Hash128 {
    let mut hasher = FileHasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// The rows of a part.
pub fn rows(directory: &Path) -> io::Result<Rows> {
    let read = |name: &str| fs::read_to_string(directory.join(name));
    let (numbers, texts) = (read(NUMBERS)?, read(TEXTS)?);
    let numbers = numbers.lines().map(|line| line.parse().unwrap());
    Ok(numbers.zip(texts.lines().map(str::to_owned)).collect())
}

fn checksums(directory: &Path) -> Result<Checksums> {
    let path = directory.join(CHECKSUMS);
    let bytes = fs::read(&path).map_err(|error| unusable(&path, &error))?;
    Checksums::parse(&bytes)
        .map_err(|error| EngineError::new(Remedy::Repair, format!("{}: {error}", path.display())))
}

/// What the files of a part say about it.
pub fn read(directory: &Path, name: &str, disk: &str) -> Result<PartContent> {
    let checksums = checksums(directory)?;
    let path = directory.join(COUNT);
    let count = fs::read_to_string(&path).map_err(|error| unusable(&path, &error))?;
    let rows = count.parse().unwrap();
    let mut files = Vec::new();
    for (name, entry) in checksums.files() {
        let path = directory.join(name);
        let found = fs::metadata(&path).map_err(|error| unusable(&path, &error))?;
        if found.len() != entry.bytes {
            let message = format!("{}: it has another size than its list says", path.display());
            return Err(EngineError::new(Remedy::Repair, message));
        }
        files.push(FoundFile {
            name: name.to_owned(),
            bytes: entry.bytes,
            checksum: Some(entry.hash),
        });
    }
    let path = directory.join(CHECKSUMS);
    let list = fs::metadata(&path).map_err(|error| unusable(&path, &error))?;
    files.push(FoundFile {
        name: CHECKSUMS.to_owned(),
        bytes: list.len(),
        checksum: None,
    });
    files.sort_by(|one, other| one.name.cmp(&other.name));
    let bytes = files.iter().map(|file| file.bytes).sum();
    let part = Part::new(name, rows, bytes, checksums.part_hash(), disk);
    let part = part.map_err(|error| EngineError::new(Remedy::Request, error.to_string()))?;
    Ok(PartContent { part, files })
}

/// The files of a part that have other bytes than its `checksums.txt` says, all or some of them.
pub fn damage(directory: &Path, only: &[String]) -> Result<Vec<DamagedFile>> {
    let checksums = checksums(directory)?;
    let chosen = |name: &str| only.is_empty() || only.iter().any(|file| file == name);
    let mut damaged = Vec::new();
    for (name, entry) in checksums.files().filter(|(name, _)| chosen(name)) {
        let bytes = fs::read(directory.join(name)).unwrap_or_default();
        if (bytes.len() as u64, hash(&bytes)) != (entry.bytes, entry.hash) {
            damaged.push(DamagedFile {
                name: name.to_owned(),
                why: "does not have the checksum that checksums.txt says".to_owned(),
            });
        }
    }
    Ok(damaged)
}

/// Shares the files of a part with another directory, which it makes anew.
pub fn link(from: &Path, to: &Path) -> Result<u64> {
    let linked = || -> io::Result<u64> {
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        fs::create_dir_all(to)?;
        let mut bytes = 0;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            bytes += entry.metadata()?.len();
            fs::hard_link(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(bytes)
    };
    linked().map_err(|error| unusable(from, &error))
}
