//! The server's own check of parts.

use mendb_model::part::TableName;
use serde::Deserialize;

use super::ClickHouse;
use crate::contract::parts::RefusedPart;
use crate::error::{EngineError, Remedy, Result};

/// The server has no such check for this kind of table.
const NOT_IMPLEMENTED: u32 = 48;

/// What the check says of a part.
#[derive(Deserialize)]
struct Checked {
    part_path: String,
    is_passed: u8,
    message: String,
}

impl ClickHouse {
    /// Has the server read every part of a table, and compare it with its checksums. Returns those that
    /// it refuses.
    pub(super) fn check_table(&self, name: &TableName) -> Result<Vec<RefusedPart>> {
        let told = self.told_name(name)?;
        // What is no part was read whole when it was compared.
        if self.plain_table(&told)?.is_some() {
            return Ok(Vec::new());
        }
        let sql = format!("CHECK TABLE {}", told.sql());
        let settings = [("check_query_single_value_result", "0")];
        let parts: Vec<Checked> = self.client.rows_of_statement(&sql, &settings).map_err(|error| {
            if error.code() == Some(NOT_IMPLEMENTED) {
                let message = format!(
                    "this server cannot check {name}: it has no CHECK TABLE for tables of parts; \
                     mend without the check"
                );
                return EngineError::new(Remedy::Request, message);
            }
            error.during(format_args!("check {name}"))
        })?;
        let refused = parts.into_iter().filter(|part| part.is_passed == 0);
        Ok(refused
            .map(|part| RefusedPart {
                name: part.part_path,
                why: part.message,
            })
            .collect())
    }
}
