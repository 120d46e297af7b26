//! Tables whose data is in files that are no parts: the Log family, and Join and Set on disk.
//!
//! Each is taken for a table of one part, which changes its name with its content. What is frozen of it is
//! put in the shape of a part, so that the code which copies, compares and proves parts treats it alike:
//!
//! ```text
//! shadow/<freeze>/<directory of the table>/files_<number>_<number>_0/
//!     the files        of the Log family as far as `sizes.json` names them
//!     checksums.txt    of these files; mendb's, version 2
//!     count.txt        rows; mendb's
//! ```
//!
//! *Consistency*: files of the Log family only grow, and `sizes.json` is written last, so the stretch of
//! each that it names is what readers saw; those of Join and Set are whole once they have their names.
//! Where they were taken away meanwhile, which their inodes tell, all is read again. *Cost*: every look at
//! such a table reads it. *Replacing*: new content comes in a staging table that takes the place of the
//! live one, so readers see before or after; where a server cannot exchange tables it renames both in one
//! statement. What came into the table in between is found there and has the tables changed back.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mendb_model::part::{
    Checksums, FILES_PARTITION, FileHasher, Hash128, Part, TableName, has_files,
};
use serde::Deserialize;

use super::ClickHouse;
use super::attach::check_hash;
use super::client::integer;
use super::disks::{is_table, missing};
use super::markers::{Marker, ignore_missing, sync, unusable};
use super::stage::staging_table;
use super::{links, rewrite};
use crate::contract::parts::Origin;
use crate::error::{EngineError, Remedy, Result};

/// How often a table that changes while it is read is read again.
const ATTEMPTS_MAX: u32 = 5;
/// Of the Log family: which stretch of each file counts.
const SIZES: &str = "sizes.json";
const CHECKSUMS: &str = "checksums.txt";
const COUNT: &str = "count.txt";
const BUFFER_BYTES: usize = 1 << 18;
/// The server has no such statement for this kind of table or database.
const NOT_IMPLEMENTED: u32 = 48;

/// A table whose data is in files.
pub(super) struct PlainTable {
    told: TableName,
    engine: String,
    disk: String,
    directory: PathBuf,
}

/// Its files at a moment: of each its inode, and the bytes that count.
#[derive(Debug, PartialEq, Eq)]
struct Sight {
    files: BTreeMap<String, (u64, u64)>,
    /// What `sizes.json` says.
    sizes: Option<Vec<u8>>,
}

/// What was read of it.
struct Taken {
    checksums: String,
    hash: Hash128,
    bytes: u64,
    rows: u64,
}

impl ClickHouse {
    /// A table, if its data is in files.
    pub(super) fn plain_table(&self, told: &TableName) -> Result<Option<PlainTable>> {
        #[derive(Deserialize)]
        struct Row {
            engine: String,
        }
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT engine FROM system.tables WHERE {}",
            is_table(told, "name")
        ))?;
        let Some(Row { engine }) = rows.into_iter().next().filter(|row| has_files(&row.engine))
        else {
            return Ok(None);
        };
        let directory = self.table_directories(told)?.into_iter().next();
        let (disk, directory) = directory.ok_or_else(|| missing(told))?;
        Ok(Some(PlainTable {
            told: told.clone(),
            engine,
            disk,
            directory,
        }))
    }

    /// What a table has, as a part; `None` for one that is empty.
    pub(super) fn plain_part(&self, table: &PlainTable) -> Result<Option<Part>> {
        self.take(table, None)?
            .map(|taken| part(table, &taken))
            .transpose()
    }

    /// Copies what a table has into a directory below this one, in the shape of a part.
    pub(super) fn copy_plain(&self, table: &PlainTable, into: &Path) -> Result<()> {
        let copy = into.join("copy");
        let Some(taken) = self.take(table, Some(&copy))? else {
            return Ok(());
        };
        let finish = || {
            fs::write(copy.join(CHECKSUMS), &taken.checksums)?;
            fs::write(copy.join(COUNT), taken.rows.to_string())
        };
        finish().map_err(|error| unusable(&copy, &error))?;
        let named = into.join(&part(table, &taken)?.name);
        fs::rename(&copy, &named).map_err(|error| unusable(&named, &error))
    }

    /// Reads a table, and writes what it reads to a directory.
    fn take(&self, table: &PlainTable, to: Option<&Path>) -> Result<Option<Taken>> {
        let unreadable = |error: io::Error| unusable(&table.directory, &error);
        for attempt in 1..=ATTEMPTS_MAX {
            let seen = table.look().map_err(unreadable)?;
            if seen.files.values().all(|(_, bytes)| *bytes == 0) {
                return Ok(None);
            }
            if let Some(to) = to {
                let made = links::remove(to).and_then(|()| fs::create_dir_all(to));
                made.map_err(|error| unusable(to, &error))?;
            }
            let hashes = match table.read(&seen, to) {
                Err(error) if is_gone(&error) => continue,
                hashes => hashes.map_err(unreadable)?,
            };
            let rows = self.rows_of(table)?;
            let now = table.look().map_err(unreadable)?;
            // Where rows come all the time, the number of those that were read is not known exactly.
            if now == seen || attempt == ATTEMPTS_MAX && now.has_grown_from(&seen) {
                let checksums = checksums(&seen, &hashes);
                let parsed = Checksums::parse(checksums.as_bytes());
                let parsed = parsed.expect("what was written just now can be read");
                return Ok(Some(Taken {
                    hash: parsed.part_hash(),
                    bytes: seen.files.values().map(|(_, bytes)| bytes).sum(),
                    checksums,
                    rows,
                }));
            }
        }
        let message = format!(
            "{} was emptied or rewritten {ATTEMPTS_MAX} times while it was read",
            table.told
        );
        Err(EngineError::new(Remedy::Retry, message))
    }

    /// Rows of a table; 0 where the server cannot read its own table, as it is with sets.
    fn rows_of(&self, table: &PlainTable) -> Result<u64> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(deserialize_with = "integer")]
            rows: u64,
        }
        let sql = format!("SELECT count() AS rows FROM {}", table.told.sql());
        let counted: std::result::Result<Row, _> = self.client.row(&sql);
        match counted {
            Ok(row) => Ok(row.rows),
            Err(error) if error.code() == Some(NOT_IMPLEMENTED) => Ok(0),
            Err(error) => Err(error.during(format_args!("count the rows of {}", table.told))),
        }
    }

    /// Makes a table have this content, or none, if it still has what `goes` names, or nothing where that
    /// names nothing.
    pub(super) fn replace_plain(
        &self,
        operation: &str,
        name: &TableName,
        parts: &[Origin],
        goes: &[String],
    ) -> Result<()> {
        let told = self.told_name(name)?;
        let live = self.plain_table(&told)?.ok_or_else(|| missing(&told))?;
        let before = self.plain_part(&live)?;
        let hash_before = before.as_ref().map(|part| part.hash);
        let staged = match parts {
            [] => None,
            [Origin::Staged(part)] => Some(part),
            [Origin::Live { hash, .. }] if hash_before == Some(*hash) => return Ok(()),
            _ => return Err(changed(&told)),
        };
        let wanted = staged.map(|part| part.hash);
        if hash_before == wanted {
            return Ok(());
        }
        if before.as_ref().map(|part| &part.name) != goes.first() {
            return Err(changed(&told));
        }
        let from = staged.map(|part| part.directory.as_path());
        if let (Some(directory), Some(wanted)) = (from, wanted) {
            check_hash(directory, wanted)?;
        }
        self.markers().set(operation, name, Marker::Stage)?;
        let staging = staging_table(operation, &told);
        self.fill_plain(&live, &staging, from)?;
        let filled = self
            .plain_table(&staging)?
            .ok_or_else(|| missing(&staging))?;
        let holds = self.plain_part(&filled)?.map(|part| part.hash);
        if holds != wanted {
            let message = format!(
                "{staging} was put together to be {wanted:?} and is {holds:?}: nothing was exchanged"
            );
            return Err(EngineError::new(Remedy::Repair, message));
        }
        let aside = self.change_places(&told, &staging)?;
        let old = self.plain_table(&aside)?.ok_or_else(|| missing(&aside))?;
        if self.plain_part(&old)?.map(|part| part.hash) != hash_before {
            self.change_places(&told, &aside)?;
            return Err(changed(&told));
        }
        self.drop_told_table(&aside)?;
        self.drop_staging(&staging)
    }

    /// Empties a table that still has what a name stands for.
    pub(super) fn empty_plain(&self, told: &TableName, part: &str) -> Result<()> {
        let live = self.plain_table(told)?.ok_or_else(|| missing(told))?;
        if self.plain_part(&live)?.is_none_or(|live| live.name != part) {
            return Err(changed(told));
        }
        let sql = format!("TRUNCATE TABLE {}", told.sql());
        let emptied = self.execute_unlimited(&sql)?;
        emptied.map_err(|error| error.during(format_args!("empty {told}")))
    }

    /// Makes a table like the live one that has the files of a staged part, or none.
    fn fill_plain(
        &self,
        live: &PlainTable,
        staging: &TableName,
        from: Option<&Path>,
    ) -> Result<()> {
        #[derive(Deserialize)]
        struct Row {
            create_table_query: String,
        }
        let row: Row = self.client.row(&format!(
            "SELECT create_table_query FROM system.tables WHERE {}",
            is_table(&live.told, "name")
        ))?;
        self.drop_staging(staging)?;
        let sql = rewrite::relocated(&row.create_table_query, staging, &Default::default())?;
        let run = |sql: &str| {
            let done = self.client.execute_with(sql, &super::create::AS_IT_WAS);
            done.map_err(|error| error.during(format_args!("fill the staging table {staging}")))
        };
        run(&sql)?;
        let Some(from) = from else {
            return Ok(());
        };
        let table = self.plain_table(staging)?.ok_or_else(|| missing(staging))?;
        let at_once = if self.abilities.uuids { " SYNC" } else { "" };
        run(&format!("DETACH TABLE {}{at_once}", staging.sql()))?;
        let put = put_files(from, &table.directory);
        put.map_err(|error| unusable(&table.directory, &error))?;
        run(&format!("ATTACH TABLE {}", staging.sql()))
    }

    /// Removes the table that was live before its staging table was, or makes it live again where a server
    /// died between the two renames.
    pub(super) fn drop_aside(&self, told: &TableName, staging: &TableName) -> Result<()> {
        let aside = aside(staging);
        if self.plain_table(&aside)?.is_none() {
            return Ok(());
        }
        if self.plain_table(told)?.is_none() {
            return self.rename_table(&aside, told);
        }
        self.drop_told_table(&aside)
    }

    /// Has two tables change places. Returns under which name the one is then that was live.
    fn change_places(&self, told: &TableName, other: &TableName) -> Result<TableName> {
        let failed = |error: super::client::ServerError| {
            error.during(format_args!("exchange {told} and {other}"))
        };
        if self.abilities.uuids {
            let sql = format!("EXCHANGE TABLES {} AND {}", told.sql(), other.sql());
            match self.client.execute(&sql) {
                Ok(()) => return Ok(other.clone()),
                Err(error) if error.code() == Some(NOT_IMPLEMENTED) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let aside = aside(other);
        let sql = format!(
            "RENAME TABLE {} TO {}, {} TO {}",
            told.sql(),
            aside.sql(),
            other.sql(),
            told.sql()
        );
        self.client.execute(&sql).map_err(failed)?;
        Ok(aside)
    }
}

impl PlainTable {
    fn is_log(&self) -> bool {
        self.engine.ends_with("Log")
    }

    /// What tells it from a table of its name before or after it where there are no UUIDs.
    pub(super) fn incarnation(&self) -> Result<String> {
        let directory = fs::metadata(&self.directory);
        let directory = directory.map_err(|error| unusable(&self.directory, &error))?;
        Ok(format!("{}-{}", directory.dev(), directory.ino()))
    }

    pub(super) fn disk(&self) -> &str {
        &self.disk
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its files as they are now.
    fn look(&self) -> io::Result<Sight> {
        let mut sight = Sight {
            files: BTreeMap::new(),
            sizes: None,
        };
        if self.is_log() {
            let sizes = match fs::read(self.directory.join(SIZES)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(sight),
                sizes => sizes?,
            };
            for (name, bytes) in parse_sizes(&sizes)? {
                // A file that is not there yet has no bytes.
                if bytes > 0 {
                    let inode = fs::metadata(self.directory.join(&name))?.ino();
                    sight.files.insert(name, (inode, bytes));
                }
            }
            sight.sizes = Some(sizes);
            return Ok(sight);
        }
        let entries = match fs::read_dir(&self.directory) {
            // What is only in memory has no directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(sight),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            let name = entry.file_name().into_string().unwrap_or_default();
            if metadata.is_file() && name.ends_with(".bin") {
                sight.files.insert(name, (metadata.ino(), metadata.len()));
            }
        }
        Ok(sight)
    }

    /// Hashes what was seen, and writes it to a directory.
    fn read(&self, seen: &Sight, to: Option<&Path>) -> io::Result<Vec<Hash128>> {
        let mut hashes = Vec::with_capacity(seen.files.len());
        let mut buffer = vec![0; BUFFER_BYTES];
        for (name, (_, bytes)) in &seen.files {
            let mut file = File::open(self.directory.join(name))?.take(*bytes);
            let mut copy = to.map(|to| File::create(to.join(name))).transpose()?;
            let mut hasher = FileHasher::new();
            let mut left = *bytes;
            loop {
                let length = file.read(&mut buffer)?;
                if length == 0 {
                    break;
                }
                hasher.update(&buffer[..length]);
                if let Some(copy) = &mut copy {
                    copy.write_all(&buffer[..length])?;
                }
                left -= length as u64;
            }
            if left > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hashes.push(hasher.finish());
        }
        if let (Some(to), Some(sizes)) = (to, &seen.sizes) {
            fs::write(to.join(SIZES), sizes)?;
        }
        Ok(hashes)
    }
}

impl Sight {
    /// Whether what was seen before is still there, with more after it.
    fn has_grown_from(&self, before: &Self) -> bool {
        before.files.iter().all(|(name, (inode, bytes))| {
            let now = self.files.get(name);
            now.is_some_and(|(now, more)| now == inode && more >= bytes)
        })
    }
}

fn changed(told: &TableName) -> EngineError {
    let message = format!("{told} changed while it was put together: plan it again");
    EngineError::new(Remedy::Replan, message)
}

/// The name of a table that was live, where it takes two renames to change places with its staging table.
fn aside(staging: &TableName) -> TableName {
    TableName::new(&staging.database, format!("{}aside", staging.table))
}

/// Whether something went away while it was read.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
    )
}

/// Its content as a part. Another content is another part: its number is of the content.
fn part(table: &PlainTable, taken: &Taken) -> Result<Part> {
    let mut number = [0; 8];
    number.copy_from_slice(&taken.hash.0[..8]);
    let number = u64::from_be_bytes(number) >> 2;
    let name = format!("{FILES_PARTITION}_{number}_{number}_0");
    let part = Part::new(&name, taken.rows, taken.bytes, taken.hash, &table.disk);
    part.map_err(|error| {
        EngineError::new(Remedy::Repair, format!("what {} has: {error}", table.told))
    })
}

/// A `checksums.txt` of version 2, in which names are lines: the server makes names of files without
/// control characters.
fn checksums(seen: &Sight, hashes: &[Hash128]) -> String {
    let mut text = format!("checksums format version: 2\n{} files:\n", seen.files.len());
    for ((name, (_, bytes)), hash) in seen.files.iter().zip(hashes) {
        let number = u128::from_be_bytes(hash.0);
        let low = number & u128::from(u64::MAX);
        let high = number >> 64;
        text += &format!("{name}\n\tsize: {bytes}\n\thash: {low} {high}\n\tcompressed: 0\n");
    }
    text
}

/// `{"clickhouse": {"a%2Ebin": {"size": "123"}}}`: names are written as servers make names of files.
fn parse_sizes(text: &[u8]) -> io::Result<Vec<(String, u64)>> {
    #[derive(Deserialize)]
    struct Size {
        size: String,
    }
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{SIZES}: {why}"));
    let sizes: BTreeMap<String, BTreeMap<String, Size>> =
        serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
    let mut files = Vec::new();
    for (name, Size { size }) in sizes.into_values().flatten() {
        let bytes = size
            .parse()
            .map_err(|_| bad(format!("{size:?} is no size")))?;
        let name = unescape(&name).ok_or_else(|| bad(format!("{name:?} is no name of a file")))?;
        files.push((name, bytes));
    }
    Ok(files)
}

/// A name from which `%2E` and the like are taken out; `None` where it leads elsewhere.
fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    let is_plain =
        !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0', '\n']);
    is_plain.then_some(name)
}

/// Copies the files of a staged part into the directory of a table that is detached, in place of its own.
/// They are copied, not linked: the server appends to them.
fn put_files(from: &Path, to: &Path) -> io::Result<()> {
    let table = fs::metadata(to)?;
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            ignore_missing(fs::remove_file(entry.path()))?;
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == CHECKSUMS || name == COUNT || !entry.file_type()?.is_file() {
            continue;
        }
        let copy = to.join(&name);
        fs::copy(entry.path(), &copy)?;
        links::give(&copy, &table)?;
        fs::set_permissions(&copy, Permissions::from_mode(table.mode() & 0o666))?;
        sync(&copy)?;
    }
    sync(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_servers_of_all_times_write_them() {
        let text = br#"{"yandex":{"a%2Ebin":{"size":"12"},"n%252Eb%2Ebin":{"size":"3"}}}"#;
        let files = parse_sizes(text).unwrap();
        let named: Vec<(&str, u64)> = files
            .iter()
            .map(|(name, size)| (name.as_str(), *size))
            .collect();
        assert_eq!(named, [("a.bin", 12), ("n%2Eb.bin", 3)]);
        for bad in [
            &br#"{"x":{"%2E%2E%2Fa":{"size":"1"}}}"#[..],
            br#"{"x":{"a%2":{"size":"1"}}}"#,
            br#"{"x":{"a":{"size":"-1"}}}"#,
            b"",
        ] {
            assert!(parse_sizes(bad).is_err());
        }
    }

    #[test]
    fn what_grows_is_told_from_what_is_written_anew() {
        let sight = |files: &[(&str, u64, u64)]| Sight {
            files: (files.iter())
                .map(|(name, inode, bytes)| ((*name).to_owned(), (*inode, *bytes)))
                .collect(),
            sizes: None,
        };
        let before = sight(&[("a.bin", 1, 10)]);
        assert!(sight(&[("a.bin", 1, 12), ("b.bin", 2, 1)]).has_grown_from(&before));
        assert!(!sight(&[("a.bin", 3, 12)]).has_grown_from(&before));
        assert!(!sight(&[("a.bin", 1, 9)]).has_grown_from(&before));
        assert!(!sight(&[]).has_grown_from(&before));
    }
}
