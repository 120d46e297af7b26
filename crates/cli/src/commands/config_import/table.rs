//! Every setting of clickhouse-backup, and what becomes of it: a table for people and programs.

use serde::Serialize;

use super::fate::{self, Fate, UNKNOWN};
use super::keys;
use crate::output::{Field, table};

/// What becomes of a setting.
#[derive(Debug, Serialize)]
pub(super) struct KeyRecord {
    key: String,
    variable: String,
    /// `None` where it is not known; a test sees that there is none such.
    fate: Option<Fate>,
    /// Into what it is translated, or why it is not.
    how: &'static str,
}

impl KeyRecord {
    /// All there are, by group.
    pub(super) fn all() -> Vec<Self> {
        let record = |key: String| {
            let known = fate::of(&key);
            Self {
                variable: keys::variable(&key),
                fate: known.map(|(fate, _)| fate),
                how: known.map_or(UNKNOWN, |(_, how)| how),
                key,
            }
        };
        keys::all().map(record).collect()
    }

    fn fate_name(&self) -> &'static str {
        self.fate.map_or("unknown", Fate::name)
    }

    /// As lines.
    pub(super) fn describe(records: &[Self]) -> String {
        table(
            records,
            &[
                Field::left("setting", |r: &Self| r.key.clone()),
                Field::left("variable", |r| r.variable.clone()),
                Field::left("becomes", |r| r.fate_name().to_owned()),
                Field::left("how", |r| r.how.to_owned()),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn page(records: &[KeyRecord]) -> String {
        let mut page = String::from(
            "# Settings of clickhouse-backup\n\n\
             What `mendb config import` makes of each setting that clickhouse-backup documents (2.8, and \
             older ones that configurations still have), from its file or, with `--env`, from the \
             environment. *Translated*: it becomes a setting, a flag or a variable. *Not needed*: there is \
             nothing to set. *Missing*: what it is for is absent from mendb. What is set and not translated \
             is named in the output with its reason.\n\n\
             | setting | variable | becomes | how |\n|---|---|---|---|\n",
        );
        for record in records {
            // Writing to a String does not fail.
            let _ = writeln!(
                page,
                "| `{}` | `{}` | {} | {} |",
                record.key,
                record.variable,
                record.fate_name(),
                record.how
            );
        }
        page
    }

    /// The page is written by this test when `MENDB_WRITE_PAGES` is set.
    #[test]
    fn the_page_of_the_documentation_tells_every_setting() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/clickhouse-backup-settings.md"
        );
        let page = page(&KeyRecord::all());
        if std::env::var_os("MENDB_WRITE_PAGES").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(
            written == page,
            "write it again: MENDB_WRITE_PAGES=1 cargo test -p mendb page_of"
        );
    }
}
