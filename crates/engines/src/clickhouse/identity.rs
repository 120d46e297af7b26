//! Which server this is: a file in mendb's own directory.
//!
//! ```text
//! <state directory>/target.json      { "target_id": "…" }
//! ```
//!
//! It outlives the journal beside it, and goes with a copy of the directory. *Crash*: it is written whole
//! under another name, made durable and renamed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::markers::{sync, unusable};
use crate::error::{EngineError, Remedy, Result};

const FILE: &str = "target.json";

#[derive(Serialize, Deserialize)]
struct Identity {
    target_id: String,
}

/// The id that a directory keeps; `new_id` where it keeps none.
pub(super) fn identify(state_directory: &Path, new_id: &str) -> Result<String> {
    let path = state_directory.join(FILE);
    match fs::read(&path) {
        Ok(text) => {
            let identity: Identity = serde_json::from_slice(&text).map_err(|error| {
                let message = format!(
                    "{} does not name the target: {error}; bring it back from a copy, or remove it: mendb then \
                     takes the server for one that it has not seen",
                    path.display()
                );
                EngineError::new(Remedy::Repair, message)
            })?;
            Ok(identity.target_id)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            keep(state_directory, new_id).map_err(|error| unusable(&path, &error))?;
            Ok(new_id.to_owned())
        }
        Err(error) => Err(unusable(&path, &error)),
    }
}

fn keep(state_directory: &Path, new_id: &str) -> io::Result<()> {
    fs::create_dir_all(state_directory)?;
    let written = state_directory.join(format!("{FILE}.tmp"));
    let mut file = File::create(&written)?;
    let identity = Identity {
        target_id: new_id.to_owned(),
    };
    file.write_all(&serde_json::to_vec(&identity)?)?;
    file.sync_all()?;
    fs::rename(&written, state_directory.join(FILE))?;
    sync(state_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_the_first_id_and_says_when_it_is_damaged() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("mendb");
        assert_eq!(identify(&directory, "a").unwrap(), "a");
        assert_eq!(identify(&directory, "b").unwrap(), "a");
        fs::write(directory.join(FILE), "{").unwrap();
        let error = identify(&directory, "b").unwrap_err();
        assert_eq!(error.remedy, Remedy::Repair);
        assert!(error.to_string().contains("target.json"), "{error}");
    }
}
