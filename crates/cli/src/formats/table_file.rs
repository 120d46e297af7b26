//! What a table is, beside its rows: `cities.csv.schema.json` beside `cities.csv`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mendb_model::TableSchema;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind};

/// The schema of the rows of a file, and how the file says NULL and what its fields are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    /// The schema.
    #[serde(flatten)]
    pub schema: TableSchema,
    /// The text that is NULL, where it is not an empty field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub null: String,
    /// Whether the rows are CSV without a header.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_header: bool,
}

impl TableFile {
    /// Of rows that say NULL in the usual way, and what their columns are.
    pub fn of(schema: TableSchema) -> Self {
        Self {
            schema,
            null: String::new(),
            no_header: false,
        }
    }

    /// Where it lies beside a file of rows.
    pub fn path_beside(rows: &Path) -> PathBuf {
        let mut name = OsString::from(rows);
        name.push(".schema.json");
        name.into()
    }

    /// What stands in the file.
    ///
    /// # Errors
    /// It cannot be put into JSON.
    pub fn to_json(&self) -> std::io::Result<String> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        Ok(json)
    }

    /// Reads a schema that a user wrote, or that lies beside rows: YAML or JSON.
    ///
    /// # Errors
    /// The file cannot be read or is no schema.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let yaml = std::fs::read_to_string(path)
            .map_err(|error| Failure::io(format!("cannot read the schema {name}"), &error))?;
        // YAML reads JSON too.
        serde_norway::from_str(&yaml).map_err(|error| {
            Failure::of(FailureKind::FixInput, &error)
                .context(format!("the schema {name} cannot be read"))
        })
    }

    /// Reads what lies beside a file of rows, if it does.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn beside(rows: &Path) -> Result<Option<Self>, Failure> {
        let path = Self::path_beside(rows);
        if path.try_exists().unwrap_or(false) {
            Self::read(&path).map(Some)
        } else {
            Ok(None)
        }
    }
}
