//! Inserts that the server has answered and not handed on: `Distributed` tables keep rows for other shards in files until
//! they have sent them, one for each block: `DIRECTORY/SHARD/NUMBER.bin`, with those that never can be sent in `broken`.

use std::fs;
use std::path::{Path, PathBuf};

use mendb_model::part::TableName;
use serde::Deserialize;

use super::ClickHouse;
use crate::error::{EngineError, Remedy, Result};

/// What the files of blocks end with.
const BLOCK: &str = "bin";
/// Where the server puts those that it has given up.
const BROKEN: &str = "broken";

impl ClickHouse {
    /// The tables that have rows to send.
    pub(super) fn find_unsent(&self) -> Result<Vec<TableName>> {
        #[derive(Deserialize)]
        struct Row {
            database: String,
            name: String,
        }
        let rows: Vec<Row> = self.client.rows(
            "SELECT database, name FROM system.tables WHERE engine = 'Distributed' ORDER BY database, name",
        )?;
        let mut unsent = Vec::new();
        for Row { database, name } in rows {
            let told = TableName::new(database, name);
            for (_, directory) in self.find_directories(&told)?.unwrap_or_default() {
                if has_blocks(&directory)? {
                    unsent.push(told.clone());
                    break;
                }
            }
        }
        Ok(unsent)
    }
}

fn has_blocks(directory: &Path) -> Result<bool> {
    for shard in entries(directory)? {
        if shard.file_name().is_some_and(|name| name == BROKEN) || !shard.is_dir() {
            continue;
        }
        let blocks = entries(&shard)?;
        if (blocks.iter()).any(|file| file.extension().is_some_and(|end| end == BLOCK)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is in a directory; nothing where there is none, since the server makes it with the first block.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(directory).and_then(|entries| {
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect()
    });
    match read {
        Ok(paths) => Ok(paths),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(EngineError::new(
            Remedy::Repair,
            format!(
                "{} cannot be read: {error}; run mendb as the server's user or as root",
                directory.display()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_wait_are_seen_and_those_given_up_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let table = directory.path();
        assert!(!has_blocks(&table.join("absent")).unwrap());
        for (below, file, is_unsent) in [
            ("broken", "1.bin", false),
            ("default@db2:9000#shop", "tmp", false),
            ("default@db2:9000#shop", "2.bin", true),
        ] {
            fs::create_dir_all(table.join(below)).unwrap();
            fs::write(table.join(below).join(file), "").unwrap();
            assert_eq!(has_blocks(table).unwrap(), is_unsent, "{below}/{file}");
        }
    }
}
