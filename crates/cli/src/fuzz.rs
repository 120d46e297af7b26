//! What reads files of others, each as a function of bytes, for fuzzers: whatever the bytes are, it must end
//! without a panic. `cargo xtask fuzz` calls them with bytes of its own, the tests with what was found.

use std::io::Write as _;
use std::path::Path;

use mendb_model::TableSchema;

use crate::formats::csv::Header;
use crate::formats::input::Input;
use crate::formats::{FileOptions, Format, Reading};
use crate::rows::plan_file;
use crate::settings;

/// A reader of files, by its name.
struct Target {
    /// What the fuzzer and the directory of its corpus call it.
    name: &'static str,
    /// Reads a file.
    read: fn(&Path),
}

/// All of them.
const TARGETS: [Target; 5] = [
    Target {
        name: "csv",
        read: |path| table(path, Format::Csv),
    },
    Target {
        name: "jsonl",
        read: |path| table(path, Format::Jsonl),
    },
    Target {
        name: "parquet",
        read: |path| table(path, Format::Parquet),
    },
    Target {
        name: "plan",
        read: |path| drop(plan_file::read(path)),
    },
    Target {
        name: "settings",
        read: |path| drop(settings::file::read(Path::new("."), Some(path))),
    },
];

/// Reads a file of these bytes as a command would, with the reader of that name.
///
/// # Panics
/// There is none, there is no room for temporary files, or the reader is at fault.
pub fn run(name: &str, bytes: &[u8]) {
    let mut targets = TARGETS.iter();
    let target = targets.find(|target| target.name == name);
    let target = target.expect("there is such a target");
    let mut file = tempfile::NamedTempFile::new().expect("there is room for temporary files");
    file.write_all(bytes)
        .expect("there is room for temporary files");
    (target.read)(file.path());
}

/// Imports a table that the file describes, but for the writing.
fn table(path: &Path, format: Format) {
    table_as(path, format, FileOptions::default());
    if format == Format::Csv {
        let options = FileOptions {
            header: Header::Absent,
            ..FileOptions::default()
        };
        table_as(path, format, options);
    }
}

fn table_as(path: &Path, format: Format, options: FileOptions) {
    let Ok(mut input) = Input::open(path, format, options, true) else {
        return;
    };
    let Ok(learned) = input.columns() else {
        return;
    };
    let schema = TableSchema {
        columns: learned.into_iter().map(|learned| learned.column).collect(),
        key: Vec::new(),
        indexes: Vec::new(),
    };
    let reading = Reading {
        schema: &schema,
        only: None,
    };
    let Ok(mut records) = input.records(reading) else {
        return;
    };
    while let Ok(Some(_)) = records.next() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fuzzers_found_is_read_without_a_panic() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        let mut replayed = 0;
        for target in TARGETS {
            let files = std::fs::read_dir(fuzz.join("corpus").join(target.name)).unwrap();
            for file in files {
                (target.read)(&file.unwrap().path());
                replayed += 1;
            }
        }
        assert!(replayed >= TARGETS.len(), "{replayed} files were replayed");
    }
}
