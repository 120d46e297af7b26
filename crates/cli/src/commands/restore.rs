//! `mendb restore`: bring tables back from a chain of backups.

use std::collections::BTreeMap;

use clap::Args;
use mendb_model::BackupId;
use mendb_model::name::check;
use mendb_model::operation::State;
use mendb_service::RestoreOrder;

use crate::backup_name;
use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Bring tables back from a chain of backups: the full one, then each increment, then the proof.
///
/// Tables that exist are not touched: restore them under another name, or drop them first.
#[derive(Debug, Args)]
pub struct RestoreCommand {
    /// A collection, or a backup by its id or label
    #[arg(value_name = "COLLECTION|BACKUP")]
    what: String,
    /// The backup to restore to, by id or label; the newest without
    #[arg(long, value_name = "BACKUP")]
    to: Option<String>,
    /// Only tables that match these comma-separated patterns with * and ?
    #[arg(long, value_name = "PATTERNS")]
    tables: Option<String>,
    /// Restore a table under another name
    #[arg(long, value_name = "OLD=NEW", value_delimiter = ',', value_parser = parse_rename)]
    rename: Vec<(String, String)>,
}

impl RestoreCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let service = context.open_service()?;
        let runtime = service.runtime().clone();
        let collections = runtime.block_on(service.repository().collections())?;
        let (collection, to) = if collections.contains(&self.what) || self.to.is_some() {
            (self.what, self.to)
        } else {
            match backup_name::search(service.repository(), &runtime, &self.what)? {
                Some((collection, id)) => (collection, Some(id.to_string())),
                None if check(&self.what).is_ok() && self.what.parse::<BackupId>().is_err() => {
                    (self.what, None)
                }
                None => return Err(backup_name::unknown(service.repository(), &self.what)),
            }
        };
        let mut rename = BTreeMap::new();
        for (old, new) in self.rename {
            if rename.insert(old.clone(), new).is_some() {
                return Err(Failure::misuse(format!("--rename names table {old} twice")));
            }
        }
        let id = service.request_restore(&RestoreOrder {
            collection,
            to,
            tables: self.tables,
            rename,
        })?;
        context.say(&format!("operation {id}"));
        context.drive(&service, &id, State::Done)
    }
}

fn parse_rename(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => {
            Ok((old.to_owned(), new.to_owned()))
        }
        _ => Err(format!("{text:?} is not OLD=NEW")),
    }
}
