//! A mend that was planned and is to be carried out as it was: a JSON file.
//!
//! ```text
//! { "format_version": 1, "plan": { "order": …, "preview": … }, "blake3": "<of the plan>" }
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use mendb_service::{RowMendOrder, RowMendPreview};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;

/// The format this version writes and reads.
const FORMAT_VERSION: u32 = 1;

/// An order for a mend, and what it was found to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub order: RowMendOrder,
    pub preview: RowMendPreview,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format_version: u32,
    plan: Value,
    blake3: String,
}

/// The hash of a plan; of equal values it is the same, however the file is laid out.
fn hash_of(plan: &Value) -> String {
    blake3::hash(plan.to_string().as_bytes())
        .to_hex()
        .to_string()
}

/// A plan as it is in a file.
pub fn text(planned: &Planned) -> String {
    let plan = serde_json::to_value(planned).expect("a plan has only text keys");
    let document = Document {
        format_version: FORMAT_VERSION,
        blake3: hash_of(&plan),
        plan,
    };
    serde_json::to_string_pretty(&document).expect("a document has only text keys")
}

/// Writes a plan to a file that is not there yet. It appears whole or not at all.
///
/// # Errors
/// The file is there, or cannot be written: then nothing is left of it.
pub fn write(path: &Path, planned: &Planned) -> Result<(), Failure> {
    write_whole(path, text(planned).as_bytes())
        .map_err(|error| Failure::io(format!("cannot write the plan {}", path.display()), &error))
}

/// Writes a new file under a name of its own beside the one that it gets when it is on disk. What is
/// written is removed when that fails: half a file would be in the way of the next attempt.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    let mut new = tempfile::Builder::new();
    let new = new.prefix(".mendb-plan-");
    #[cfg(unix)]
    let new = {
        use std::os::unix::fs::PermissionsExt;
        // As of any new file: what the user's mask leaves of it.
        new.permissions(fs::Permissions::from_mode(0o666))
    };
    let mut new = new.tempfile_in(directory.unwrap_or(Path::new(".")))?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist_noclobber(path)?;
    Ok(())
}

/// Reads a plan.
///
/// # Errors
/// The file cannot be read, is no plan, is one of another version, or was changed.
pub fn read(path: &Path) -> Result<Planned, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::io(format!("cannot read the plan {}", path.display()), &error))?;
    parse(&text, path)
}

/// The plan in a text, which is of a file.
///
/// # Errors
/// It is no plan, is one of another version, or was changed.
pub fn parse(text: &str, path: &Path) -> Result<Planned, Failure> {
    let bad = |why: String| {
        Failure::input(format!("{} is no plan of a mend: {why}", path.display()))
            .hint("make one: mendb restore COLLECTION --in-place --plan FILE")
    };
    let document: Document = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    if document.format_version != FORMAT_VERSION {
        return Err(bad(format!(
            "its format is version {}, this mendb knows {FORMAT_VERSION}",
            document.format_version
        )));
    }
    if hash_of(&document.plan) != document.blake3 {
        return Err(bad("it was changed since it was made".to_owned()));
    }
    serde_json::from_value(document.plan).map_err(|error| bad(error.to_string()))
}
