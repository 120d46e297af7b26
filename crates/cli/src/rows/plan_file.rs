//! A mend that was planned and is to be carried out as it was: a JSON file.
//!
//! ```text
//! { "format_version": 1, "plan": { "order": …, "preview": … }, "blake3": "<of the plan>" }
//! ```

use std::fs;
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

/// Writes a plan to a file that is not there yet.
///
/// # Errors
/// The file is there, or cannot be written.
pub fn write(path: &Path, planned: &Planned) -> Result<(), Failure> {
    let plan = serde_json::to_value(planned).expect("a plan has only text keys");
    let document = Document {
        format_version: FORMAT_VERSION,
        blake3: hash_of(&plan),
        plan,
    };
    let bytes = serde_json::to_vec_pretty(&document).expect("a document has only text keys");
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)?;
        std::io::Write::write_all(&mut file, &bytes)
    };
    write()
        .map_err(|error| Failure::io(format!("cannot write the plan {}", path.display()), &error))
}

/// Reads a plan.
///
/// # Errors
/// The file cannot be read, is no plan, is one of another version, or was changed.
pub fn read(path: &Path) -> Result<Planned, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::io(format!("cannot read the plan {}", path.display()), &error))?;
    let bad = |why: String| {
        Failure::input(format!("{} is no plan of a mend: {why}", path.display()))
            .hint("make one: mendb restore COLLECTION --in-place --plan FILE")
    };
    let document: Document = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
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
