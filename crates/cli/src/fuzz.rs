//! What reads files of others, each as a function of bytes, for fuzzers: whatever the bytes are, it must end
//! without a panic. `cargo xtask fuzz` calls them with bytes of its own, the tests with what was found.

use std::io::Write as _;
use std::path::Path;

use mendb_model::TableSchema;

use crate::formats::{Format, Reading, input::Input};
use crate::rows::plan_file;
use crate::settings;

/// A reader of files, by its name.
pub struct Target {
    /// What the fuzzer and the directory of its corpus call it.
    pub name: &'static str,
    /// Reads a file.
    read: fn(&Path),
}

/// All of them.
pub const TARGETS: [Target; 5] = [
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

impl Target {
    /// Reads a file of these bytes, as a command would.
    ///
    /// # Panics
    /// There is no room for temporary files, or the reader is at fault.
    pub fn run(&self, bytes: &[u8]) {
        let mut file = tempfile::NamedTempFile::new().expect("there is room for temporary files");
        file.write_all(bytes)
            .expect("there is room for temporary files");
        (self.read)(file.path());
    }
}

/// Imports a table that the file describes, but for the writing.
fn table(path: &Path, format: Format) {
    let Ok(input) = Input::open(path, format, true) else {
        return;
    };
    let Ok(columns) = input.columns("") else {
        return;
    };
    let schema = TableSchema {
        columns,
        key: Vec::new(),
        indexes: Vec::new(),
    };
    let reading = Reading {
        schema: &schema,
        only: None,
        null: "",
    };
    let Ok(mut records) = input.records(reading) else {
        return;
    };
    while let Ok(Some(_)) = records.next() {}
}
