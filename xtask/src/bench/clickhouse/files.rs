//! The table's files moved by hand: copied away with `cp`, and brought back by attaching every part
//! anew, as tools do that restore by dropping what is there.

use std::path::Path;
use std::process::Command;

use super::dataset::{self, TABLE};
use super::measured::Measured;
use super::part_directories::{DETACHED, parts};
use super::servers::Server;
use crate::bench::measure::{self, Cost};
use crate::bench::scratch::{remove, size_bytes};

/// Where the copy is, in the directory of the benchmark.
pub const COPY: &str = "copy";

/// Whether a copy is on the disk when its time ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    No,
    Yes,
}

/// How files come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As from another machine or disk.
    Copy,
    /// As hard links, which a backup on the same disk allows.
    Link,
}

/// Copies a table's directory, in place of an earlier copy.
///
/// # Errors
/// It failed.
pub fn copy(table: &Path, to: &Path, flush: Flush) -> Result<Measured, String> {
    remove(to)?;
    let script = match flush {
        Flush::No => "cp -r \"$0\" \"$1\"",
        Flush::Yes => "cp -r \"$0\" \"$1\" && sync -f \"$1\"",
    };
    let cost = measure::run_alone(Command::new("sh").args(["-c", script]).args([table, to]))?.0;
    Ok(Measured {
        cost,
        bytes: size_bytes(to)?,
    })
}

/// Empties the table, brings the files of all parts of the copy back and attaches each.
///
/// # Errors
/// It failed.
pub fn attach_all(server: &Server, copy: &Path, way: Way) -> Result<Cost, String> {
    let detached = dataset::directory(server)?.join(DETACHED);
    let parts = parts(copy)?;
    let mut bring = Command::new("cp");
    bring.arg(match way {
        Way::Copy => "-r",
        Way::Link => "-rl",
    });
    bring.args(parts.iter().map(|part| copy.join(part)));
    bring.arg(&detached);
    measure::action(|| {
        server.try_query(&format!("TRUNCATE TABLE {TABLE}"))?;
        measure::output(&mut bring)?;
        for part in &parts {
            server.try_query(&format!("ALTER TABLE {TABLE} ATTACH PART '{part}'"))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::bench::scratch::Scratch;

    #[test]
    fn a_copy_has_the_parts_of_the_table_and_nothing_else_is_attached() {
        let scratch = Scratch::new().unwrap();
        let table = scratch.path("table");
        for part in ["202402_2_2_0", "202401_1_1_0", DETACHED] {
            fs::create_dir_all(table.join(part)).unwrap();
        }
        fs::write(table.join("format_version.txt"), "1").unwrap();
        let to = scratch.path(COPY);
        for flush in [Flush::No, Flush::Yes] {
            assert_eq!(copy(&table, &to, flush).unwrap().bytes, 1);
        }
        assert_eq!(parts(&to).unwrap(), ["202401_1_1_0", "202402_2_2_0"]);
    }
}
