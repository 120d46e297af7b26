//! The directories of the parts of a table.

use std::fs;
use std::path::Path;

/// What a table has beside parts.
pub const DETACHED: &str = "detached";

/// The directories of parts of a table, or of its copy, by name.
///
/// # Errors
/// It cannot be read.
pub fn parts(table: &Path) -> Result<Vec<String>, String> {
    let broken = |error| format!("cannot read {}: {error}", table.display());
    let mut parts = Vec::new();
    for entry in fs::read_dir(table).map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && name != DETACHED {
            parts.push(name);
        }
    }
    parts.sort();
    Ok(parts)
}
